"""How many checkpoints each run has in a thread: as the server stores it, and as the rows say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, NamedTuple

from langgraph_checkpoint_redis._storage.records import CheckpointRow

from .problems import Problem


class _Facts(NamedTuple):
    """The state of a thread, and how many checkpoints its runs have as the server counts them."""

    state: bytes
    runs: Mapping[bytes, int]


class RunCounts:
    """Counts the checkpoints of runs in the rows, and compares the numbers with the stored ones.

    Attributes:
        time: The time of the server, once it has said it.
    """

    def __init__(self) -> None:
        self._counted = Counter[bytes]()
        self._is_known = True
        self._seen: list[_Facts] = []
        self.time = datetime.now(timezone.utc)

    def add(self, record: CheckpointRow | None) -> None:
        """Count a checkpoint; None is one that cannot be read."""
        if record is None:
            self._is_known = False
        elif isinstance(record.run, bytes):
            self._counted[record.run] += 1

    def see(self, facts: Sequence[Any]) -> None:
        """Note what scan.lua says at the beginning of the timeline and at its end."""
        if facts:
            state, runs, seconds = facts
            stored = dict(zip(runs[::2], map(int, runs[1::2]), strict=True))
            self._seen.append(_Facts(state, stored))
            self.time = datetime.fromtimestamp(int(seconds), timezone.utc)

    @property
    def wrong(self) -> dict[bytes, tuple[int | None, int]] | None:
        """The runs whose stored number is not the counted one, with both; None if unknown."""
        if not self._is_known:
            return None
        stored = self._seen[-1].runs
        wrong = {
            run: (stored.get(run), self._counted[run])
            for run in {*stored, *self._counted}
            if stored.get(run, 0) != self._counted[run]
        }
        if wrong and self._seen[0] != self._seen[-1]:
            return None  # the thread changed while it was counted
        return wrong

    @property
    def state(self) -> bytes:
        """The state of the thread when it was last seen."""
        return self._seen[-1].state

    def list_problems(self, key: bytes) -> list[Problem]:
        """Return each wrong number as a problem of the key that it is stored in."""
        return [
            Problem(
                "lost",
                "",
                "",
                key.decode(),
                f"run {run.decode(errors='replace')!r} has {counted} checkpoints, but is stored "
                f"with {'none' if stored is None else stored}",
            )
            for run, (stored, counted) in sorted((self.wrong or {}).items())
        ]
