"""The fault driver of `make test-faults`, for some seconds: what was acknowledged is there.

All scenarios at full length are in `python -m tests.faults`; this is to notice at once when one of
its parts, or a promise of the savers, breaks.
"""

from __future__ import annotations

import pytest

from .faults.driver import run
from .faults.report import table
from .faults.scenarios import SCENARIOS, Faults, Scenario, Single

SHORT, LONGER = 6.0, 30.0  # seconds


def test_what_was_acknowledged_survives_kills_and_broken_connections() -> None:
    """Whatever fails in production, users would find out what is lost before we do."""
    result = run(Single, ["plain", "async", "graph"], seconds=SHORT, seed=7)
    print(table([result]))  # noqa: T201 - pytest shows it if the test fails
    assert not result.unexcused
    assert result.faults
    assert result.findings.checkpoints > 0


@pytest.mark.slow
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_what_a_set_up_promises_holds(scenario: type[Scenario]) -> None:
    """A failover, a full memory or a moved slot would leave a thread that is half there."""
    workers = ["plain", "async", "graph", "async-graph", "reader"]
    result = run(scenario, workers, seconds=LONGER, seed=7)
    print(table([result]))  # noqa: T201 - as above
    assert not result.unexcused
    assert result.faults
    assert result.findings.checkpoints > 0


class Forgetful(Single):
    """A server that keeps nothing when it is killed."""

    name = "in memory"
    settings = ("--appendonly", "no")
    rate = 0.0

    def faults(self) -> Faults:
        return {self.kill: 1}


@pytest.mark.slow
def test_the_driver_notices_what_is_lost() -> None:
    """All of the above would mean nothing."""
    result = run(Forgetful, ["plain", "async"], seconds=SHORT, seed=7)
    assert any(what.startswith("lost") for what in result.unexcused)
