"""What a run of all scenarios shows, as a table."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from .checking import Findings
from .scenarios import Scenario

HEAD = (
    "| set-up | seconds | operations | faults | calls that failed, and were repeated "
    "| acknowledged and lost | half or wrong |\n"
    "| --- | --- | --- | --- | --- | --- | --- |"
)


class Result(NamedTuple):
    """What one scenario came to."""

    scenario: Scenario
    seconds: float
    faults: Counter[str]
    findings: Findings

    @property
    def unexcused(self) -> list[str]:
        """What must not have happened."""
        late = [line for line in self.findings.lost if not self._may_be_lost(line.time)]
        return [*self.findings.wrong, *(f"lost: {line}" for line in late)]

    def _may_be_lost(self, time: float) -> bool:
        back = self.scenario.seconds_lost
        return back > 0 and any(
            start - back <= time <= end + back for start, end in self.scenario.losses
        )

    def row(self) -> str:
        found = self.findings
        return (
            f"| {self.scenario.name} | {self.seconds:.0f} | {found.operations:,} "
            f"| {self.faults.total():,} | {found.failed:,} | {len(found.lost):,} "
            f"| {len(found.wrong):,} |"
        )


def table(results: list[Result]) -> str:
    """All results, and what was done to the servers."""
    kinds = sum((result.faults for result in results), Counter[str]())
    operations = sum(result.findings.operations for result in results)
    checkpoints = sum(result.findings.checkpoints for result in results)
    lines = [HEAD, *(result.row() for result in results), ""]
    lines += [
        f"{operations:,} operations, {kinds.total():,} faults, {checkpoints:,} checkpoints read"
    ]
    lines += [f"  {number:6,} {kind}" for kind, number in kinds.most_common()]
    return "\n".join(lines)
