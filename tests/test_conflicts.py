"""`on_conflict="error"`: of two runs at a time one is refused, and a run that is alone never is.

A story is one run after the other, each in a process of its own, and ends as with `InMemorySaver`.
LangGraph drops some errors of a checkpointer, so those that there were are counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base.id import uuid6
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint, task
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command, Durability, Send, StateSnapshot, interrupt

from langgraph_checkpoint_redis import ConflictError, RedisSaver

from .driving import DirectDriver, Driver, Saver
from .graphs import (
    Builder,
    Log,
    Node,
    Session,
    alike,
    asks,
    chat,
    in_context,
    says,
    sequence,
    side_by_side,
    thread,
    with_saver,
)

ON_ONE_SERVER = True  # the scripts are tried on all of them elsewhere

Restart = Callable[[Driver], Driver]
Memory = bool | None  # as LangGraph compiles a subgraph: one of its own, its graph's, or none
SaverOn = Callable[..., Saver]
IN = {"log": ["in"]}

options = pytest.mark.parametrize


@pytest.fixture
def saver_options() -> dict[str, Any]:
    """What this file is about."""
    return {"on_conflict": "error"}


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> list[ConflictError]:
    """The errors that there were, also those that LangGraph drops."""
    errors: list[ConflictError] = []
    init = ConflictError.__init__

    def count(self: ConflictError, *args: Any, **options: Any) -> None:
        init(self, *args, **options)
        errors.append(self)

    monkeypatch.setattr(ConflictError, "__init__", count)
    return errors


@pytest.fixture
def restart(saver_on: SaverOn, server: str, prefix: str, saver_options: dict[str, Any]) -> Restart:
    """Gives a driver whose saver is new, as in another process; `InMemorySaver` stays."""

    def restarted(drive: Driver) -> Driver:
        if isinstance(drive.saver, InMemorySaver):
            return drive
        saver: Any = saver_on(server, prefix=prefix, **saver_options)
        return with_saver(drive, getattr(saver, "saver", saver))

    return restarted


# Stories of one run at a time


def nested(checkpointer: Memory) -> Builder:
    """A graph with a subgraph that asks twice, and has a memory of its own or not."""
    inner = sequence(one=asks("one?"), two=asks("two?")).compile(checkpointer=checkpointer)
    return sequence(before=says("before"), inner=inner, after=says("after"))


def nested_twice(checkpointer: Memory) -> Builder:
    """The same, in a subgraph."""
    inner = nested(checkpointer).compile(checkpointer=checkpointer)
    return sequence(first=says("first"), outer=inner, last=says("last"))


def at_once(checkpointer: Memory) -> Builder:
    """Subgraphs that ask at the same time, next to a node that does."""
    inner = sequence(one=asks("one?"), two=says("two"))
    x, y = (inner.compile(checkpointer=checkpointer) for _ in range(2))
    return side_by_side(a=asks("a?"), x=x, y=y)


BUILDERS = {"nested": nested, "nested twice": nested_twice, "at once": at_once}
Go = Callable[[], Session]


def answer_all(go: Go, answer: str) -> Any:
    """Answer one question after the other, each by its id."""
    found: Any = None
    while waiting := go().state().interrupts:
        found = go().run(Command(resume={waiting[0].id: answer}))
    return found


def replay_from_everywhere(go: Go) -> list[Any]:
    go().run(IN)
    first = [answer_all(go, "old"), *go().history()]
    again = [
        [go().run(None, state.config), answer_all(go, f"new {number}")]
        for number, state in enumerate(first[1:])
    ]
    return [first, again, go().run(IN), answer_all(go, "last"), len(go().history())]


def answer_at_an_old_checkpoint(go: Go) -> list[Any]:
    go().run(IN)
    asked = go().state()
    done = answer_all(go, "old")
    again = go().run(Command(resume={asked.interrupts[0].id: "new"}), asked.config)
    return [done, again, answer_all(go, "newer"), go().run(IN, asked.config), go().state()]


def go_back_in_a_subgraph(go: Go) -> list[Any]:
    go().run(IN)
    inner = [one.state for one in go().state(subgraphs=True).tasks]
    at = next(one.config for one in inner if isinstance(one, StateSnapshot))
    done = answer_all(go, "old")
    places = [state.config for state in go().history(at)]
    again = [[go().run(None, place), answer_all(go, "new")] for place in places]
    return [done, again, go().state()]


def update_and_copy(go: Go) -> list[Any]:
    go().run(IN)
    done = answer_all(go, "old")
    history = go().history()
    for at in (None, *[state.config for state in history]):
        go().update(None, at, as_node="__copy__")
        go().update({"log": ["updated"]}, at, as_node="__start__")
    go().update({"log": ["once more"]}, as_node="after" if "after" in go().graph.nodes else "last")
    go().update(None, as_node="__end__")
    return [done, go().run(IN), answer_all(go, "new"), len(go().history())]


def update_a_subgraph(go: Go) -> list[Any]:
    go().run(IN)
    inner = [one.state for one in go().state(subgraphs=True).tasks]
    configs = [one.config for one in inner if isinstance(one, StateSnapshot)]
    latest = [thread(checkpoint_ns=one["configurable"]["checkpoint_ns"]) for one in configs]
    for at in (*configs, *latest, *configs):
        go().update({"log": ["inside"]}, at)
    done = answer_all(go, "old")
    for at in (*latest, *configs):  # those of a call that is over
        go().update({"log": ["inside"]}, at)
    return [done, go().run(IN), answer_all(go, "new")]


STORIES = {
    story.__name__.replace("_", " "): story
    for story in (
        replay_from_everywhere,
        answer_at_an_old_checkpoint,
        go_back_in_a_subgraph,
        update_and_copy,
        update_a_subgraph,
    )
}


@options(
    ("build", "checkpointer", "durability"),
    [
        ("nested", True, "sync"),
        ("nested", True, "exit"),
        ("nested", None, "sync"),
        ("nested twice", True, "async"),
        ("at once", True, "async"),
    ],
)
@options("story", STORIES)
def test_a_run_that_is_alone_is_never_refused(
    drive: Driver,
    restart: Restart,
    refused: list[ConflictError],
    story: str,
    build: str,
    checkpointer: Memory,
    durability: Durability,
) -> None:
    """Who goes back in time would get an error, or an old answer without one."""
    session = Session(drive, BUILDERS[build](checkpointer), durability=durability)
    STORIES[story](lambda: session.go_on(restart(drive)))
    assert refused == []


@options("durability", ["sync", "async", "exit"])
def test_a_replayed_subgraph_with_a_memory_gets_the_new_answer(
    drive: Driver, refused: list[ConflictError], durability: Durability
) -> None:
    """The old answer would stay, without an error that says so."""

    def story(drive: Driver) -> list[Any]:
        session = Session(drive, nested(checkpointer=True), durability=durability)
        session.run(IN)
        answer_all(lambda: session, "old")
        first = [state for state in session.history() if state.next == ("inner",)][-1]
        session.run(None, first.config)
        return [answer_all(lambda: session, "new"), session.state().values]

    done, *_ = alike(drive, story)
    assert "one? new" in done["log"]
    assert refused == []


def test_a_step_may_call_a_subgraph_with_a_memory_several_times(
    drive: Driver, refused: list[ConflictError]
) -> None:
    """Tasks of one run would refuse each other."""
    inner = sequence(one=says("one"), two=says("two")).compile(checkpointer=True)
    builder: Builder = StateGraph(Log)
    builder.add_node("inner", inner).add_conditional_edges(
        START, lambda _: [Send("inner", {"log": [f"{number}"]}) for number in range(8)], ["inner"]
    )
    session = Session(drive, builder)
    for _ in range(3):
        session.run(IN)
    assert refused == []


def test_a_workflow_of_functions_is_not_refused_alone(
    drive: Driver, restart: Restart, refused: list[ConflictError]
) -> None:
    """Workflows written as functions could not be answered or repeated."""

    @task
    def louder(word: str) -> str:
        return word.upper()

    def workflow(drive: Driver) -> Any:
        @entrypoint(checkpointer=restart(drive).saver)
        def ask(word: str, *, previous: Any = None, config: RunnableConfig) -> list[str]:
            with in_context(config) as run:
                loud = run(louder, word).result()
                return [*(previous or []), f"{loud} {run(interrupt, loud)}"]

        return ask

    for turn in range(2):
        drive.invoke(workflow(drive), f"turn {turn}", thread())
        drive.invoke(workflow(drive), Command(resume="yes"), thread())
    for state in drive.history(workflow(drive), thread()):
        drive.invoke(workflow(drive), None, state.config)
        drive.invoke(workflow(drive), Command(resume="again"), thread())
    assert refused == []


def test_a_clock_that_is_behind_refuses_no_run(
    drive: Driver, saver: Saver, refused: list[ConflictError]
) -> None:
    """After a run on a machine whose clock is ahead, no other machine could go on with a thread."""
    session = Session(drive, sequence(**{f"step {number}": says("on") for number in range(20)}))
    session.run(IN)
    ahead = saver.get_tuple(thread())
    assert ahead
    ahead.checkpoint["id"] = _id_in(timedelta(hours=1))
    saver.put(ahead.config, ahead.checkpoint, ahead.metadata, {})
    session.run(IN)
    assert refused == []
    assert len([*saver.list(thread())]) == 22 + 1 + 22


def _id_in(time: timedelta) -> str:
    """An id as a machine makes it whose clock is ahead by some time."""
    fields = uuid6()
    begin = datetime(1582, 10, 15, tzinfo=timezone.utc)
    ticks = (datetime.now(timezone.utc) + time - begin) // timedelta(microseconds=1) * 10
    return str(
        UUID(int=(ticks >> 12) << 80 | 6 << 76 | (ticks & 0xFFF) << 64 | fields.int & (1 << 64) - 1)
    )


# Two at a time


@pytest.fixture
def second(server: str, prefix: str, saver_options: dict[str, Any]) -> Iterator[Driver]:
    """Drives runs of another process, which nodes may start."""
    with RedisSaver.from_conn_string(server, prefix=prefix, **saver_options) as saver:
        yield DirectDriver(saver)


def starting(drive: Driver) -> Node:
    """A node that takes its time, while another run is done."""

    def start(_: Any) -> Any:
        Session(drive, nested(checkpointer=True)).run(IN)
        return {"log": ["late"]}

    return start


def answering(drive: Driver, session: Callable[[], Session]) -> Node:
    """A node that asks, and takes its time over the answer, while another person answers, too."""

    def answer(_: Any, config: RunnableConfig) -> Any:
        with in_context(config) as run:
            said = run(interrupt, "?")
        if said == "late":
            session().go_on(drive).run(Command(resume="first"))
        return {"log": [said]}

    return answer


@options("durability", ["sync", "async", "exit"])
def test_of_two_runs_at_a_time_one_is_refused(
    drive: Driver, second: Driver, durability: Durability
) -> None:
    """Of two answers to one message, the later would hide the earlier."""
    session = Session(drive, nested(checkpointer=True), durability=durability)
    for _ in range(2):
        session.run(IN)
        answer_all(lambda: session, "yes")
        before = len(session.history())
        late = Session(drive, sequence(wait=starting(second), last=says("last")))
        with pytest.raises(ConflictError):
            late.run(IN, durability=durability)
        assert "late" not in session.state().values["log"]
        assert len(session.history()) > before
        answer_all(lambda: session, "yes")


@options("durability", ["sync", "async", "exit"])
@options("checkpointer", [False, None, True], ids=["a node", "a subgraph", "one with a memory"])
def test_of_two_answers_at_a_time_one_is_refused(
    drive: Driver, second: Driver, durability: Durability, checkpointer: Memory
) -> None:
    """Two people who press a button would both see that it was done."""
    session: Session
    ask = answering(second, lambda: session)
    node = ask if checkpointer is False else sequence(ask=ask).compile(checkpointer=checkpointer)
    session = Session(drive, sequence(node=node, last=says("last")), durability=durability)
    session.run(IN)
    with pytest.raises(ConflictError):
        session.run(Command(resume="late"))
    assert session.state().values["log"].count("first") == 1
    assert "late" not in session.state().values["log"]
    assert session.state().next == ()


def test_looking_at_a_history_makes_no_run_a_fork(drive: Driver, second: Driver) -> None:
    """A look at a thread would let two runs through."""
    session = Session(drive, chat(), durability="sync")
    session.say("one")

    def look(_: Any) -> Any:
        Session(second, chat()).say("meanwhile")
        assert len(Session(DirectDriver(drive.saver), chat()).history()) == 8
        return {}

    slow = sequence(MessagesState, look=look)
    with pytest.raises(ConflictError):
        Session(drive, slow, durability="sync").say("two")
