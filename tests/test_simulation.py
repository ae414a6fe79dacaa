"""The simulator, for some seconds: no fault takes back what was acknowledged.

The seeds stay, so that a change that breaks a promise is noticed at once, and nothing else.
`make simulate` runs others, new ones each time, and shrinks what fails.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

import pytest
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.types import Command

from .servers import any_binary
from .simulation.comparing import items_of, with_lists
from .simulation.moves import KINDS, Move, kinds_of, mixed, moves
from .simulation.mutations import MUTATIONS, PACKAGE, Mutation, mutated
from .simulation.oracle import Failure, Row, State, Thread, Write, history
from .simulation.report import story
from .simulation.scheduler import Simulation
from .simulation.simulating import Simulator, simulator

ON_ONE_SERVER = True
STEPS = 250
MILD = "lost_request,lost_reply,repeat"


@pytest.fixture
def wild() -> Iterator[Simulator]:
    """A simulator of all faults."""
    with simulator(any_binary(), KINDS, STEPS) as simulating:
        yield simulating


def _check(simulating: Simulator, seed: int, faults: str) -> None:
    print(f"seed {seed}")  # noqa: T201 - pytest shows it if the test fails
    result = simulating.run(seed)
    if result.failure:
        shorter = simulating.shrink(result, seconds=20)
        command = f"make simulate SEED={seed} STEPS={STEPS} ARGS='--faults {faults}'"
        pytest.fail(story(shorter, command), pytrace=False)
    assert result.checks
    assert result.requests > STEPS


@pytest.mark.parametrize("seed", [1, 2, 3, 4, 5])
def test_no_fault_takes_back_what_was_acknowledged(wild: Simulator, seed: int) -> None:
    """A conversation would lose a turn, or never be readable again, after a bad day."""
    _check(wild, seed, "all")


@pytest.mark.parametrize("seed", range(20, 30))
def test_no_few_faults_together_take_back_what_was_acknowledged(seed: int) -> None:
    """What two keys that are evicted cost, no test would see: among all faults, others hide it."""
    with simulator(any_binary(), KINDS, STEPS, mixes=True) as simulating:
        _check(simulating, seed, "mixed")


@pytest.mark.parametrize(
    ("faults", "seed"),
    [
        ("clock", 20),
        ("cut_deltas,clock,abandon", 16),
        ("evict_key,evict_fields,lost_reply", 55),
        ("evict_key,evict_fields,restart,clock,delay", 3049),
    ],
)
def test_what_failed_before_does_not_fail_again(faults: str, seed: int) -> None:
    """What was mended with effort would break again with the next change."""
    with simulator(any_binary(), kinds_of(faults), STEPS) as simulating:
        _check(simulating, seed, faults)


@pytest.mark.parametrize("faults", ["none", MILD])
def test_clients_that_share_threads_lose_nothing(faults: str) -> None:
    """Two runs of a thread at the same time would spoil each other, with no fault at all."""
    with simulator(any_binary(), kinds_of(faults), STEPS) as simulating:
        for seed in (11, 12, 13):
            _check(simulating, seed, faults)


def test_a_seed_does_the_same_each_time(wild: Simulator) -> None:
    """A failure that was seen once could not be looked into."""
    first, second = wild.run(7), wild.run(7)
    assert first.trace == second.trace
    assert first.requests == second.requests


def test_a_loss_is_noticed_and_shrunk(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of this would mean nothing."""
    make = Simulation.make

    def losing(simulation: Simulation, move: Move) -> None:
        make(simulation, move)
        if simulation.server.requests > 60:
            names = simulation.server.keys()
            simulation.server.delete([name for name in names if name.endswith(b":timeline")])

    monkeypatch.setattr(Simulation, "make", losing)
    with simulator(any_binary(), kinds_of("none"), STEPS) as simulating:
        result = simulating.run(1)
        assert isinstance(result.failure, Failure)
        shorter = simulating.shrink(result, seconds=10)
    assert shorter.failure
    assert shorter.failure.kind == result.failure.kind
    assert len(shorter.moves) < len(result.moves)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=[each.name for each in MUTATIONS])
def test_each_mending_that_the_simulator_watches_can_be_taken_out(mutation: Mutation) -> None:
    """`make simulate-mutations` would show nothing of code that has changed."""
    source = (PACKAGE / mutation.path).read_text("utf-8")
    assert mutated(mutation, source) != source


def test_kinds_of_faults_are_chosen_by_name() -> None:
    """Somebody who looks for one fault would be shown all others."""
    assert kinds_of("none") == frozenset()
    assert kinds_of("all", ["clock"]) == KINDS - {"clock"}
    assert mixed(1, KINDS) == mixed(1, KINDS) < KINDS
    assert {kind for seed in range(50) for kind in mixed(seed, KINDS)} == KINDS
    with pytest.raises(ValueError, match="no such kinds"):
        kinds_of("earthquake")
    assert {move.kind for move in moves(1, 500, ["clock"])} == {"step", "check", "clock"}


def test_a_command_is_compared_by_what_it_says() -> None:
    """A graph that goes on after an interrupt would look like a loss."""
    serde = JsonPlusSerializer()
    said: Command[Any] = Command(resume="yes", goto=())
    read = serde.loads_typed(serde.dumps_typed(said))
    assert with_lists(read) == with_lists(said)
    assert with_lists(read) != with_lists(Command(resume="no"))


def test_damage_in_writes_of_another_branch_may_stop_a_read() -> None:
    """An error of a thread that was evicted in part would look like a loss."""
    thread = Thread()
    versions: list[dict[str, Any]] = [{}, {}, {"log": 1}]
    for number, channel_versions in enumerate(versions):
        parent = str(number - 1) if number else ""
        checkpoint = {**empty_checkpoint(), "id": str(number), "channel_versions": channel_versions}
        row = Row(State.PRESENT, parent_id=parent, checkpoint=cast("Any", checkpoint))
        thread.rows[row.place] = row
    write = Write(State.PRESENT, channel="log", values=[["a"]])
    for place in [("", "0"), ("", "1")]:
        thread.writes[place] = {("task", 0): replace(write)}
    newest, other = thread.rows["", "2"], thread.writes["", "0"]["task", 0]
    assert history(thread, newest, "log", items_of).is_whole
    other.is_damaged = True
    assert not history(thread, newest, "log", items_of).is_whole
