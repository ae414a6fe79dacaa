"""Clocks that disagree: checkpoint ids are times, and a thread goes on from its newest."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import id as generator
from langgraph.checkpoint.conformance.test_utils import generate_checkpoint, generate_metadata
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command, interrupt

from langgraph_checkpoint_redis import ClockError, ClockWarning, RedisSaver
from langgraph_checkpoint_redis._core import clock
from langgraph_checkpoint_redis._core.clock import is_backwards, see, time_of

from .driving import AwaitedSaver, Driver, Saver
from .graphs import Session

HERE: RunnableConfig = {"configurable": {"thread_id": "a", "checkpoint_ns": ""}}


class _Clock:
    """A clock that goes wrong by so many seconds, in place of `time` where ids are made."""

    def __init__(self, wrong: float) -> None:
        self.wrong = int(wrong * 1e9)

    def time_ns(self) -> int:
        return time.time_ns() + self.wrong


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[float], None]]:
    """Goes over to another machine, whose clock goes wrong, and which has made no id so far."""

    def enter(wrong: float) -> None:
        for module in (generator, clock):
            monkeypatch.setattr(module, "time", _Clock(wrong))
        monkeypatch.setattr(generator, "_last_v6_timestamp", None)

    yield enter
    monkeypatch.undo()


def _answer(state: MessagesState) -> dict[str, Any]:
    return {"messages": [("ai", f"answer {len(state['messages'])}")]}


@pytest.mark.parametrize("saver_options", [{}, {"keep_last": 1}, {"on_conflict": "error"}], ids=str)
@pytest.mark.parametrize("behind", [0.01, 5, 50_000])
def test_machines_whose_clocks_differ_take_turns_and_lose_none(
    drive: Driver, machine: Callable[[float], None], behind: float
) -> None:
    """Every second turn would be acknowledged, and not be in the conversation."""
    builder = StateGraph(MessagesState).add_node(_answer).add_edge(START, "_answer")
    session = Session(drive, builder)
    for turn in range(10):
        machine(-behind if turn % 2 else 0)
        session.run({"messages": [("user", f"turn {turn}")]})
    said = [message.content for message in session.state().values["messages"]]
    assert said == [
        text for turn in range(10) for text in (f"turn {turn}", f"answer {2 * turn + 1}")
    ]


def test_an_answer_on_a_slower_machine_is_taken_once(
    drive: Driver, machine: Callable[[float], None]
) -> None:
    """What a person has approved would be paid twice."""
    paid = []

    def pay(state: MessagesState) -> dict[str, Any]:
        assert state
        paid.append(interrupt("pay?"))
        return {"messages": [("ai", "paid")]}

    session = Session(drive, StateGraph(MessagesState).add_node(pay).add_edge(START, "pay"))
    machine(0)
    session.run({"messages": [("user", "buy")]})
    machine(-30)
    session.run(Command(resume="yes"))
    machine(0)
    assert not session.state().next
    assert not session.state().interrupts
    assert paid == ["yes"]


def put(saver: Saver, at: RunnableConfig, checkpoint_id: str) -> RunnableConfig:
    version = saver.get_next_version(None, None)
    checkpoint = generate_checkpoint(
        checkpoint_id=checkpoint_id,
        channel_values={"m": checkpoint_id},
        channel_versions={"m": version},
    )
    return saver.put(at, checkpoint, generate_metadata(), {"m": version})


LATE, EARLY = "1f1ea990-0000-6000-8000-000000000000", "1f1ea980-0000-6000-8000-000000000000"


@pytest.mark.parametrize("saver_options", [{}, {"keep_last": 1}], ids=str)
def test_what_sorts_before_its_parent_is_stored_with_a_warning_and_not_trimmed_by_its_own_put(
    saver: Saver,
) -> None:
    """A checkpoint and its writes would be acknowledged, and removed by the same call."""
    first = put(saver, HERE, LATE)
    with pytest.warns(ClockWarning, match=EARLY):
        second = put(saver, first, EARLY)
    saver.put_writes(second, [("m", "written")], "task")
    found = saver.get_tuple(second)
    assert found
    assert found.checkpoint["channel_values"] == {"m": EARLY}
    assert found.pending_writes == [("task", "m", "written")]


@pytest.mark.parametrize("saver_options", [{"on_clock_skew": "error"}], ids=str)
def test_what_sorts_before_its_parent_is_refused_on_request(saver: Saver) -> None:
    """A turn that no reader will see would be acknowledged."""
    first = put(saver, HERE, LATE)
    with pytest.raises(ClockError) as raised:
        put(saver, first, EARLY)
    assert (raised.value.checkpoint_id, raised.value.parent_id) == (EARLY, LATE)
    assert [found.checkpoint["id"] for found in saver.list(HERE)] == [LATE]


@pytest.mark.parametrize("saver_options", [{"keep_last": 1}], ids=str)
def test_writes_that_come_before_their_late_checkpoint_wait_for_it(
    saver: Saver, client: redis.Redis, prefix: str
) -> None:
    """A machine that is behind would lose what its tasks did."""
    put(RedisSaver(client, prefix=prefix, keep_last=1), HERE, LATE)
    at: RunnableConfig = {"configurable": {**HERE["configurable"], "checkpoint_id": EARLY}}
    saver.put_writes(at, [("m", "written")], "task")
    put(saver, HERE, EARLY)
    found = saver.get_tuple(at)
    assert found
    assert found.pending_writes == [("task", "m", "written")]


def test_ids_that_are_read_set_the_generator_forward_within_bounds(
    machine: Callable[[float], None],
) -> None:
    """One wrong clock, or one made-up id, would set all processes that read it forward for good."""
    machine(0)
    for ahead, follows in ((60, True), (80_000, True), (90_000, False), (10**9, False)):
        machine(ahead)
        seen = str(generator.uuid6())
        machine(0)
        see(seen)
        assert (str(generator.uuid6()) > seen) == follows
    for other in ("", "not a time", "1f1ea990-0000-4000-8000-000000000000", "ffffffff"):
        see(other)
        assert time_of(other) is None
        assert not is_backwards(other, LATE)
    assert is_backwards(EARLY, LATE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not is_backwards(LATE, EARLY)


def test_an_unknown_answer_to_clock_skew_is_refused(kind: str) -> None:
    """A misspelt option would let turns be lost."""
    made = AwaitedSaver if kind == "async" else RedisSaver
    assert made
    with pytest.raises(ValueError, match="on_clock_skew must be"):
        RedisSaver("redis://localhost", on_clock_skew="raise")  # type: ignore[arg-type]
