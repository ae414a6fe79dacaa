"""What `keep_last` keeps, and that graphs go on with it as if all were kept."""

from __future__ import annotations

from random import choices
from typing import Annotated, Any

import pytest
import redis
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.channels.delta import DeltaChannel
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command
from typing_extensions import TypedDict

from langgraph_checkpoint_redis import AsyncRedisSaver, RedisSaver

from .driving import Driver, Saver
from .graphs import (
    Node,
    Session,
    alike,
    asks,
    chat,
    map_reduce,
    says,
    sequence,
    side_by_side,
    thread,
)
from .test_removal import Raw

ONE, THREE = {"keep_last": 1}, {"keep_last": 3}


def joined(before: list[str], writes: list[list[str]]) -> list[str]:
    """What a delta channel holds, in the order of writing."""
    return [*before, *(item for write in writes for item in write)]


class Rare(TypedDict):
    """A log that is hardly ever stored as a whole."""

    log: Annotated[list[str], DeltaChannel(joined, snapshot_frequency=1000)]


class Often(TypedDict):
    """A log that is stored as a whole at every other write."""

    log: Annotated[list[str], DeltaChannel(joined, snapshot_frequency=2)]


@pytest.fixture
def raw(client: redis.Redis, prefix: str) -> Raw:
    """What is stored."""
    return Raw(client, prefix)


def assert_nothing_is_left_over(raw: Raw) -> None:
    """Every chunk of the thread is in use."""
    assert raw.referenced("a") == raw.chunks("a").keys()


@pytest.mark.parametrize("saver_options", [ONE, THREE])
def test_only_the_newest_checkpoints_remain(
    drive: Driver, saver_options: dict[str, int], raw: Raw
) -> None:
    """Memory would grow, whatever the user asked for."""
    session = Session(drive, chat(), durability="sync")
    for turn in range(8):
        state = session.say(f"turn {turn}")
        assert len(state["messages"]) == 2 * turn + 2
        assert len(session.history()) == saver_options["keep_last"]
    assert_nothing_is_left_over(raw)


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
@pytest.mark.parametrize("saver_options", [ONE])
def test_graphs_go_on_as_if_all_were_kept(drive: Driver, durability: str) -> None:
    """Saving memory would cost an answer, an interrupt or a result."""

    def story(drive: Driver) -> list[Any]:
        asking = Session(drive, sequence(a=asks("a?", "b?"), b=says("b")), durability=durability)
        seen = [asking.run({"log": ["begin"]})]
        seen += [asking.run(Command(resume=answer)) for answer in ("yes", "no")]
        asking.update({"log": ["updated"]}, as_node="a")
        seen.append(asking.run())
        many = Session(drive, map_reduce(20), "b", durability=durability)
        seen.append(many.run({"log": []}))
        parallel = side_by_side(x=asks("x?"), y=says("y"))
        both = Session(drive, parallel, "c", durability=durability)
        seen += [both.run({"log": []}), both.run(Command(resume="x!"))]
        return [*seen, asking.state().values, many.state().values, both.state().values]

    alike(drive, story)


@pytest.mark.parametrize("state", [Rare, Often])
@pytest.mark.parametrize("durability", ["sync", "exit"])
@pytest.mark.parametrize("saver_options", [ONE])
def test_delta_channels_read_right_at_every_turn(
    drive: Driver, durability: str, state: type
) -> None:
    """A conversation in a delta channel would lose its beginning."""

    def story(drive: Driver) -> list[Any]:
        session = Session(drive, sequence(state, a=says("a"), b=says("b")), durability=durability)
        seen = []
        for turn in range(6):
            seen.append(session.run({"log": [f"turn {turn}"]}))
            seen.append(session.state().values)
        return seen

    alike(drive, story)


@pytest.mark.parametrize("saver_options", [ONE])
def test_subgraphs_are_kept_as_long_as_their_call_lasts(
    drive: Driver, saver: Saver, raw: Raw
) -> None:
    """An interrupt inside of a subgraph would be lost, or past calls would pile up."""
    inner = sequence(ask=asks("inside?")).compile()
    outer = sequence(call=inner, after=says("after"))
    session = Session(drive, outer, durability="sync")
    for turn in range(3):
        session.run({"log": [f"turn {turn}"]})
        assert session.state(subgraphs=True).tasks[0].state
        assert session.run(Command(resume="yes"))["log"][-1] == "after"
    namespaces = {found.config["configurable"]["checkpoint_ns"] for found in saver.list(thread())}
    assert namespaces == {""}
    assert_nothing_is_left_over(raw)


@pytest.mark.parametrize("saver_options", [ONE])
def test_a_late_write_to_a_checkpoint_that_is_gone_leaves_nothing(
    drive: Driver, saver: Saver, raw: Raw
) -> None:
    """What a task wrote too late would stay in Redis for ever."""
    session = Session(drive, chat(), durability="sync")
    session.say("one")
    old = session.state().config
    session.say("two")
    before = raw.keys(), raw.chunks("a")
    saver.put_writes(old, [("messages", "late" * 100)], "task")
    assert (raw.keys(), raw.chunks("a")) == before


@pytest.mark.parametrize("saver_options", [ONE])
def test_runs_that_have_nothing_left_are_not_in_the_index(drive: Driver, raw: Raw) -> None:
    """The index of runs would grow with every run of a thread."""
    for run in ("first", "second"):
        session = Session(drive, chat(), durability="sync")
        session.run({"messages": [("user", run)]}, thread("a", run_id=run))
    assert (raw.threads_of("first"), raw.threads_of("second")) == (set(), {"a"})


def test_a_long_thread_becomes_short_as_it_goes_on(
    drive: Driver, raw_saver: RedisSaver | AsyncRedisSaver, raw: Raw
) -> None:
    """The option would not help those who need it most."""
    session = Session(drive, chat(), durability="sync")
    for turn in range(10):
        session.say(f"turn {turn}")
    raw_saver._shared = raw_saver._shared._replace(keep_last=1)
    for turn in range(10, 14):
        session.say(f"turn {turn}")
    assert len(session.history()) == 1
    assert len(session.state().values["messages"]) == 28
    assert_nothing_is_left_over(raw)


@pytest.mark.parametrize("saver_options", [ONE])
def test_a_chat_takes_little_more_than_its_state(
    drive: Driver, saver: Saver, client: redis.Redis, raw: Raw
) -> None:
    """Keeping only the latest would not be worth it."""

    def answer(_: Any) -> dict[str, Any]:
        return {"messages": [AIMessage(_text())]}

    node: Node = answer
    builder = StateGraph(MessagesState).add_node("answer", node).add_edge(START, "answer")
    session = Session(drive, builder, durability="sync")
    for _ in range(100):
        session.run({"messages": [HumanMessage(_text())]})
    values = session.state().values
    size = len(drive.saver.serde.dumps_typed(values)[1])
    keys = raw.keys()
    used = sum(client.memory_usage(key, samples=0) or 0 for key in keys)
    assert used <= 1.6 * size


def _text() -> str:
    return "".join(choices("abcdefgh ijklmnop", k=500))
