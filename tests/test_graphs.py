"""Real graphs, run on both savers and compared with the same on `InMemorySaver`."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
from asyncio import AbstractEventLoop
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from hashlib import sha256
from itertools import count
from threading import Barrier, Event, Thread, active_count
from time import monotonic
from typing import Any, cast
from uuid import uuid4

import pytest
import redis
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.func import entrypoint, task
from langgraph.pregel import Pregel
from langgraph.types import (
    Command,
    Durability,
    Overwrite,
    RetryPolicy,
    StateSnapshot,
    StateUpdate,
    interrupt,
)

from langgraph_checkpoint_redis import (
    AsyncRedisSaver,
    EventLoopError,
    RedisSaver,
    ThreadExistsError,
)

from .driving import AwaitedSaver, DirectDriver, Driver, Graph, Saver
from .graphs import (
    TYPED,
    Builder,
    Flaky,
    Point,
    Session,
    alike,
    asks,
    chat,
    in_context,
    map_reduce,
    says,
    sequence,
    shape,
    side_by_side,
    thread,
    typed,
    with_saver,
)

Open = Callable[..., Any]
Restart = Callable[[Driver], Driver]


@pytest.fixture(params=["sync", "async", "exit"])
def durability(request: pytest.FixtureRequest) -> Durability:
    """When a graph stores its checkpoints."""
    durability: Durability = request.param
    return durability


@pytest.fixture
def savers(
    kind: str, prefix: str, serde: SerializerProtocol | None, loop: AbstractEventLoop
) -> Iterator[Open]:
    """Opens more savers of the same kind, for a URL or a client; they are closed at the end."""
    opened: list[RedisSaver | AsyncRedisSaver] = []

    def opened_for(redis: Any, **options: Any) -> RedisSaver | AsyncRedisSaver:
        saver_class = RedisSaver if kind == "sync" else AsyncRedisSaver
        opened.append(saver_class(redis, prefix=prefix, serde=serde, **options))
        return opened[-1]

    yield opened_for
    for saver in opened:
        _close(saver, loop)


def _close(saver: RedisSaver | AsyncRedisSaver, loop: AbstractEventLoop) -> None:
    if isinstance(saver, RedisSaver):
        saver.close()
    else:
        loop.run_until_complete(saver.aclose())


@pytest.fixture
def restart(savers: Open, server: str) -> Restart:
    """Gives a driver whose saver is new, as in another process; `InMemorySaver` stays."""
    return lambda drive: (
        drive if isinstance(drive.saver, InMemorySaver) else with_saver(drive, savers(server))
    )


@pytest.fixture
def connect(kind: str, server: str, loop: AbstractEventLoop) -> Iterator[Open]:
    """Makes clients as a program has them for its own use; they are closed at the end."""
    clients: list[Any] = []

    def connected(**options: Any) -> Any:
        from_url = redis.Redis.from_url if kind == "sync" else redis.asyncio.Redis.from_url
        clients.append(from_url(server, **options))
        return clients[-1]

    yield connected
    for client in clients:
        if kind == "sync":
            client.close()
        else:
            loop.run_until_complete(client.aclose())


# Conversations


def test_a_thread_remembers_and_another_knows_nothing(
    drive: Driver, durability: Durability
) -> None:
    """A chat would forget, or tell one user what another said."""

    def story(drive: Driver) -> list[StateSnapshot]:
        here, there = (Session(drive, chat(), name, durability=durability) for name in "ab")
        here.say("hi")
        there.say("hello")
        here.say("again")
        return [here.state(), there.state(), *here.history(), *there.history()]

    here, there, *_ = alike(drive, story)
    assert _texts(here) == ["hi", "I know 1", "again", "I know 3"]
    assert _texts(there) == ["hello", "I know 1"]


def _texts(state: StateSnapshot) -> list[str]:
    return [message.text for message in state.values["messages"]]


def test_a_conversation_goes_on_in_another_process(drive: Driver, restart: Restart) -> None:
    """A deployment or a second worker would begin every chat anew."""

    def story(drive: Driver) -> list[Any]:
        first = Session(drive, chat())
        first.say("hi")
        second = first.go_on(restart(drive))
        second.say("again")
        return [first.say("and again"), second.state(), second.history()]

    alike(drive, story)


def test_a_history_is_complete_and_newest_first(drive: Driver) -> None:
    """Time travel would miss stops, or show them in the wrong order."""

    def story(drive: Driver) -> list[StateSnapshot]:
        session = Session(drive, sequence(a=says("a"), b=says("b"), c=says("c")))
        session.run({"log": ["one"]})
        session.run({"log": ["two"]})
        return session.history()

    history = alike(drive, story)
    assert [state.metadata and state.metadata["step"] for state in history] == [*range(8, -2, -1)]
    assert history[0].values == {"log": ["one", "a", "b", "c", "two", "a", "b", "c"]}


@pytest.mark.parametrize(
    "options",
    [
        {"limit": 0},
        {"limit": 3},
        {"limit": 99},
        {"filter": {"source": "input"}},
        {"filter": {"source": "loop", "step": 2}},
        {"filter": {"user": "bob"}, "limit": 3},
        {"filter": {"user": "nobody"}},
    ],
    ids=str,
)
def test_a_history_can_be_limited_bounded_and_filtered(
    drive: Driver, options: dict[str, Any]
) -> None:
    """A page of a long history, or the turns of one user, could not be found."""

    def story(drive: Driver) -> list[Any]:
        session = Session(drive, sequence(a=says("a"), b=says("b")))
        session.run({"log": ["one"]})
        session.run({"log": ["two"]}, {**session.config, "metadata": {"user": "bob"}})
        before = session.history()[2].config
        return [session.history(**options), session.history(before=before, **options)]

    alike(drive, story)


def test_a_thread_id_may_be_a_number(drive: Driver) -> None:
    """Programs that number their threads would fail, or not find them again as text."""

    def story(drive: Driver) -> list[Any]:
        Session(drive, chat(), 7).say("hi")
        return [Session(drive, chat(), 7).state(), Session(drive, chat(), "7").history()]

    alike(drive, story)


def test_streams_show_the_same_checkpoints_and_tasks(drive: Driver) -> None:
    """A user interface that follows a run would show something else."""

    def story(drive: Driver) -> list[Any]:
        session = Session(drive, sequence(a=says("a"), b=asks("b?"), c=says("c")))
        modes = ["checkpoints", "tasks", "values"]
        inputs: list[object] = [{"log": ["in"]}, Command(resume="yes")]
        return [
            drive.stream(session.graph, given, session.config, stream_mode=modes)
            for given in inputs
        ]

    alike(drive, story)


def test_a_history_of_large_states_is_complete(drive: Driver, restart: Restart) -> None:
    """A thread of many megabytes could be written, but not read again."""
    session = Session(drive, sequence(a=says("a")))
    log = []
    for turn in range(8):
        log += [f"{turn}" * 700_000, "a"]
        session.run({"log": [log[-2]]})
    session = session.go_on(restart(drive))
    begun = session.history(filter={"source": "input"})
    read = [*session.history()[::3], *begun]
    lengths = [*range(16, 0, -2), *range(14, -1, -2)]
    assert [_digests(state.values["log"]) for state in read] == [
        _digests(log[:length]) for length in lengths
    ]


def _digests(texts: list[str]) -> list[str]:
    return [sha256(text.encode()).hexdigest() for text in texts]


# Interrupts


def test_an_interrupt_waits_for_its_answer_in_another_process(
    drive: Driver, restart: Restart, durability: Durability
) -> None:
    """An approval could not be given after the process that asked for it is gone."""

    def story(drive: Driver) -> list[Any]:
        asking = Session(drive, sequence(a=says("a"), b=asks("b?")), durability=durability)
        asked = asking.run({"log": ["in"]})
        answering = asking.go_on(restart(drive))
        waiting = answering.state()
        done = answering.run(Command(resume="yes"))
        return [done["log"], asked, waiting, answering.state(), answering.history()]

    log, *_ = alike(drive, story)
    assert log == ["in", "a", "b? yes"]


def test_several_interrupts_of_a_node_are_answered_one_by_one(
    drive: Driver, restart: Restart, durability: Durability
) -> None:
    """A form of several questions would ask again what was answered, or mix the answers up."""

    def story(drive: Driver) -> list[Any]:
        asking = Session(drive, sequence(a=asks("one?", "two?", "three?")), durability=durability)
        seen = [asking.run({"log": ["in"]})]
        for answer in ("1", "2", "3"):
            asking = asking.go_on(restart(drive))
            seen += [asking.state(), asking.run(Command(resume=answer))]
        return [*seen, asking.history()]

    *_, done, _ = alike(drive, story)
    assert done["log"] == ["in", "one? 1", "two? 2", "three? 3"]


def test_an_answer_may_come_with_an_update_and_a_goto(
    drive: Driver, durability: Durability
) -> None:
    """What a person changes while answering would be lost, or applied twice."""

    def story(drive: Driver) -> list[Any]:
        builder = sequence(a=asks("one?", "two?"), b=says("b")).add_node("aside", says("aside"))
        session = Session(drive, builder, durability=durability)
        session.run({"log": ["in"]})
        session.run(Command(resume="1", update={"log": ["changed"]}))
        done = session.run(Command(resume="2", update={"log": ["too"]}, goto="aside"))
        return [done["log"], session.state(), session.history()]

    alike(drive, story)


@pytest.mark.parametrize("when", ["interrupt_before", "interrupt_after"])
def test_a_run_stops_at_a_breakpoint_and_goes_on(
    drive: Driver, restart: Restart, when: str, durability: Durability
) -> None:
    """A graph could not be stopped for a look, or would do a step twice or never."""

    def story(drive: Driver) -> list[Any]:
        builder = sequence(a=says("a"), b=says("b"), c=says("c"))
        stopping = Session(drive, builder, durability=durability)
        stops: dict[str, Any] = {when: ["b"]}
        stopped = stopping.run({"log": ["in"]}, **stops)
        going_on = stopping.go_on(restart(drive))
        return [going_on.state().next, stopped, going_on.run(), going_on.history()]

    alike(drive, story)


def test_parallel_interrupts_are_answered_by_id(
    drive: Driver, restart: Restart, durability: Durability
) -> None:
    """Two people who are asked at once would get each other's answers."""

    def story(drive: Driver) -> list[Any]:
        builder = side_by_side(a=asks("a?"), b=asks("b?"), c=says("c"))
        session = Session(drive, builder, durability=durability)
        session.run({"log": ["in"]})
        seen: list[object] = []
        for asked in reversed(session.state().interrupts):
            session = session.go_on(restart(drive))
            seen += [session.state(), session.run(Command(resume={asked.id: f"to {asked.value}"}))]
        return [session.state().values["log"], seen, session.history()]

    log, *_ = alike(drive, story)
    assert log == ["in", "a? to a?", "b? to b?", "c", "last"]


# Time travel


def test_branches_of_a_thread_keep_their_own_values(drive: Driver) -> None:
    """A second attempt from an old state would overwrite the first."""

    def story(drive: Driver) -> list[StateSnapshot]:
        session = Session(drive, sequence(a=says("a"), b=says("b")))
        session.run({"log": ["one"]})
        old = session.history()
        branch = session.update({"log": ["branch"]}, old[1].config)
        session.run(None, branch)
        session.run({"log": ["two"]}, old[2].config)
        again = [session.state(state.config) for state in old]
        assert [state.values for state in again] == [state.values for state in old]
        return [*again, *session.history()]

    alike(drive, story)


def test_a_replayed_checkpoint_runs_what_follows_it_again(drive: Driver) -> None:
    """A run could not be repeated from one of its steps."""

    def story(drive: Driver) -> list[Any]:
        session = Session(drive, sequence(a=says("a"), b=asks("b?"), c=says("c")))
        session.run({"log": ["in"]})
        session.run(Command(resume="yes"))
        asked = next(state for state in session.history() if state.next == ("b",))
        again = session.run(None, asked.config)
        return [again, session.run(Command(resume="no")), session.history()]

    alike(drive, story)


def test_a_state_can_be_updated_as_if_a_node_had_done_it(drive: Driver) -> None:
    """A person could not correct a step and let the graph go on from there."""

    def story(drive: Driver) -> list[Any]:
        session = Session(drive, sequence(a=says("a"), b=says("b"), c=says("c")))
        session.run({"log": ["in"]}, interrupt_before=["b"])
        session.update({"log": ["not b"]}, as_node="b")
        corrected = session.state()
        return [corrected, session.run(), session.history()]

    alike(drive, story)


@pytest.mark.parametrize("as_node", ["a", "__input__", None])
def test_a_new_thread_may_begin_with_an_update(drive: Driver, as_node: str | None) -> None:
    """A thread could not be prepared before its first run."""

    def story(drive: Driver) -> list[Any]:
        session = Session(drive, sequence(a=says("a"), b=says("b")))
        session.update({"log": ["prepared"]}, as_node=as_node)
        return [session.state(), session.run(), session.history()]

    alike(drive, story)


def test_a_checkpoint_can_be_copied_and_a_thread_be_ended(drive: Driver) -> None:
    """Forks without a change, and stopping a waiting graph for good, would not work."""

    def story(drive: Driver) -> list[Any]:
        session = Session(drive, sequence(a=says("a"), b=asks("b?"), c=says("c")))
        session.run({"log": ["in"]})
        copied = session.update(None, session.history()[1].config, as_node="__copy__")
        state = session.state(copied)
        session.update(None, as_node="__end__")
        return [state, session.state(), session.history()]

    alike(drive, story)


def test_many_updates_can_be_made_at_once(drive: Driver) -> None:
    """A conversation could not be imported from elsewhere."""

    def story(drive: Driver) -> list[Any]:
        session = Session(drive, sequence(a=says("a"), b=says("b")))
        session.bulk_update(
            [
                [StateUpdate({"log": ["in"]}, "__input__")],
                [StateUpdate({"log": ["not a"]}, "a")],
                [StateUpdate({"log": ["b"]}, "b"), StateUpdate({"log": ["b too"]}, "b")],
            ]
        )
        return [session.state(), session.run({"log": ["two"]}), session.history()]

    alike(drive, story)


# Parallel branches


def test_fifty_parallel_tasks_are_reduced_in_their_order(
    drive: Driver, durability: Durability
) -> None:
    """The results of a map-reduce would come in any order."""

    def story(drive: Driver) -> list[Any]:
        session = Session(drive, map_reduce(50), durability=durability)
        session.run({"log": ["one"]})
        return [session.run({"log": ["two"]})["log"], session.history()]

    log, _ = alike(drive, story)
    assert log[1:51] == [f"{item} squared is {item * item}" for item in range(50)]


def test_what_finished_beside_a_failure_is_not_run_again(
    drive: Driver, restart: Restart, durability: Durability
) -> None:
    """After a failure, mails would be sent and cards be charged a second time."""

    def story(drive: Driver) -> list[Any]:
        nodes: dict[str, Any] = {"a": Flaky(), "b": Flaky(failures=2), "c": Flaky()}
        builder = side_by_side(a=nodes["a"], c=nodes["c"])
        # A second attempt gives the others time to finish.
        twice = RetryPolicy(max_attempts=2, initial_interval=0.05, jitter=False)
        builder.add_node("b", nodes["b"], retry_policy=twice).add_edge("__start__", "b")
        session = Session(drive, builder, durability=durability)
        with pytest.raises(ConnectionError, match="failure 2"):
            session.run({"log": ["in"]})
        session = session.go_on(restart(drive))
        failed = session.state()
        done = session.run()
        calls = {name: node.calls for name, node in nodes.items()}
        return [calls, failed.tasks, done, session.history()]

    calls, *_ = alike(drive, story)
    assert calls == {"a": 1, "b": 3, "c": 1}


# Subgraphs


def _nested(**options: Any) -> Builder:
    inner = sequence(ask=asks("deep?"), after=says("inner done"))
    return sequence(a=says("a"), inner=inner.compile(**options), z=says("z"))


def _nested_twice() -> Builder:
    return sequence(a=says("a"), middle=_nested().compile(), z=says("z"))


def _nested_beside_others() -> Builder:
    inner = sequence(ask=asks("deep?"), after=says("inner done"))
    own = sequence(b=says("b")).compile(checkpointer=True)
    return side_by_side(a=asks("a?"), own=own, inner=inner.compile(), c=says("c"))


@pytest.mark.parametrize("build", [_nested, _nested_twice])
def test_an_interrupt_inside_a_subgraph_waits_for_its_answer(
    drive: Driver, restart: Restart, build: Callable[[], Builder], durability: Durability
) -> None:
    """A graph made of graphs could not ask, or would begin its inner graphs anew."""

    def story(drive: Driver) -> list[Any]:
        asking = Session(drive, build(), durability=durability)
        asked = asking.run({"log": ["in"]})
        answering = asking.go_on(restart(drive))
        waiting = answering.state(subgraphs=True)
        done = answering.run(Command(resume="yes"))
        return [done, asked, waiting, answering.state(subgraphs=True), answering.history()]

    done, *_ = alike(drive, story)
    assert "deep? yes" in done["log"]


def test_a_subgraph_has_a_history_to_travel_and_to_update(drive: Driver) -> None:
    """What an inner graph did could not be seen or corrected."""

    def story(drive: Driver) -> list[Any]:
        session = Session(drive, _nested())
        session.run({"log": ["in"]})
        inner = _inner(session)
        session.update({"log": ["not asked"]}, inner, as_node="ask")
        updated = session.state(subgraphs=True), session.history(inner)
        return [session.run(), updated, session.history()]

    done, *_ = alike(drive, story)
    assert "deep? " not in " ".join(done["log"])


def _inner(session: Session) -> RunnableConfig:
    """The config of the subgraph that a thread waits in."""
    state = session.state(subgraphs=True).tasks[0].state
    assert isinstance(state, StateSnapshot)
    return state.config


def test_a_run_can_be_repeated_from_inside_a_subgraph(drive: Driver) -> None:
    """Time travel would only reach the outermost graph."""

    def story(drive: Driver) -> list[Any]:
        session = Session(drive, _nested())
        session.run({"log": ["in"]})
        inner = _inner(session)
        session.run(Command(resume="yes"))
        before = session.history(inner)
        repeated = session.run(None, before[-1].config)
        return [repeated, before, session.state(subgraphs=True), session.history()]

    alike(drive, story)


def test_a_stateful_subgraph_remembers_between_runs(
    drive: Driver, restart: Restart, durability: Durability
) -> None:
    """An inner agent with a memory of its own would forget."""

    def story(drive: Driver) -> list[Any]:
        session = Session(drive, _nested(checkpointer=True), durability=durability)
        seen: list[object] = []
        for answer in ("1", "2"):
            session.run({"log": ["in"]})
            session = session.go_on(restart(drive))
            seen += [session.run(Command(resume=answer)), session.state(subgraphs=True)]
        return [session.history(thread(checkpoint_ns="inner")), *seen, session.history()]

    inner, *_ = alike(drive, story)
    assert "deep? 1" in inner[0].values["log"]
    assert "deep? 2" in inner[0].values["log"]


def test_a_subgraph_without_a_checkpointer_stores_nothing(drive: Driver, saver: Saver) -> None:
    """Steps that are not worth keeping would fill the server."""
    inner = sequence(b=says("b")).compile(checkpointer=False)
    Session(drive, sequence(a=says("a"), inner=inner)).run({"log": ["in"]})
    assert _namespaces(saver) == {""}


def _namespaces(saver: Saver, thread_id: str = "a") -> set[str]:
    """Those that a thread has checkpoints in."""
    found = saver.list(thread(thread_id))
    return {tuple_.config["configurable"]["checkpoint_ns"] for tuple_ in found}


# The functional API


def test_an_entrypoint_keeps_what_it_returned_and_what_its_tasks_did(
    drive: Driver, restart: Restart, durability: Durability
) -> None:
    """Workflows written as functions would forget, or repeat finished tasks after an interrupt."""

    def story(drive: Driver) -> list[Any]:
        calls: list[str] = []
        diary: Any = _diary(drive, calls)
        options = {"durability": durability}
        seen = []
        for word in ("one", "two"):
            seen.append(drive.invoke(diary, word, thread(), **options))
            diary = _diary(restart(drive), calls)
            seen.append(drive.state(diary, thread()))
            seen.append(drive.invoke(diary, Command(resume="yes"), thread(), **options))
        return [calls, *seen, drive.history(diary, thread())]

    calls, *_, done, _ = alike(drive, story)
    assert calls == ["one", "two"]
    assert done == ["ONE yes", "TWO yes"]


def _diary(drive: Driver, calls: list[str]) -> Pregel[Any, Any, Any, Any]:
    @task
    def louder(word: str) -> str:
        calls.append(word)
        return word.upper()

    @entrypoint(checkpointer=drive.saver)
    def diary(word: str, *, previous: list[str] | None = None, config: RunnableConfig) -> list[str]:
        with in_context(config) as run:
            loud = run(louder, word).result()
            return [*(previous or []), f"{loud} {run(interrupt, loud)}"]

    return diary


def test_compressed_threads_read_the_same(
    drive: Driver, savers: Open, restart: Restart, server: str
) -> None:
    """Turning compression on, or off again, would cost the conversations so far."""
    compressing = with_saver(drive, savers(server, compression="zlib"))

    def story(drive: Driver) -> list[Any]:
        long = "so to speak " * 200
        session = Session(drive, sequence(a=says(f"a {long}"), b=asks(f"b {long}")))
        session.run({"log": [long]})
        session = session.go_on(restart(drive))
        return [session.run(Command(resume=long)), session.history()]

    alike(compressing, story)


# Keeping, copying and deleting threads


def test_a_pruned_thread_goes_on_where_it_was(
    drive: Driver, saver: Saver, restart: Restart, durability: Durability
) -> None:
    """Making room would cost the state, or an answer that is still awaited."""
    session = Session(drive, _nested_twice(), durability=durability)
    session.run({"log": ["in"]})
    waiting = session.state(subgraphs=True)
    saver.prune(["a"])
    session = session.go_on(restart(drive))
    assert _unparented(session.state(subgraphs=True)) == _unparented(waiting)
    assert len(session.history()) == 1
    assert session.run(Command(resume="yes"))["log"][-1] == "z"


def _unparented(state: StateSnapshot) -> list[str]:
    return shape(_without_parents(state))


def _without_parents(state: StateSnapshot) -> StateSnapshot:
    tasks = tuple(
        task._replace(state=_without_parents(task.state))
        if isinstance(task.state, StateSnapshot)
        else task
        for task in state.tasks
    )
    return state._replace(parent_config=None, tasks=tasks)


@pytest.mark.parametrize("build", [_nested_twice, _nested_beside_others])
def test_a_saver_that_keeps_one_checkpoint_goes_on_all_the_same(
    drive: Driver,
    savers: Open,
    server: str,
    *,
    build: Callable[[], Builder],
    durability: Durability,
) -> None:
    """Keeping threads short would cost the state, or answers that are still awaited."""

    def story(drive: Driver) -> list[Any]:
        session = Session(drive, build(), durability=durability)
        seen = []
        for answer in ("1", "2"):
            session.run({"log": ["in"]})
            for asked in session.state().interrupts:
                seen.append(_unparented(session.state(subgraphs=True)))
                session.run(Command(resume={asked.id: answer}))
            seen.append(_unparented(session.state(subgraphs=True)))
        return [*seen, session.update({"log": ["by hand"]}), _unparented(session.state())]

    keeping = with_saver(drive, savers(server, keep_last=1))
    alike(keeping, story)
    assert len(Session(keeping, build()).history()) == 1


def test_pruning_removes_past_calls_of_subgraphs_and_keeps_their_memory(
    drive: Driver, saver: Saver
) -> None:
    """A pruned thread would still grow with every call of a subgraph, or one would forget."""
    inner = sequence(b=says("b")).compile
    builder = sequence(once=inner(), own=inner(checkpointer=True))
    session = Session(drive, builder)
    for _ in range(3):
        session.run({"log": ["in"]})
    assert len(_namespaces(saver)) == 5
    remembered = session.state(thread(checkpoint_ns="own")).values
    saver.prune(["a"])
    assert _namespaces(saver) == {"", "own"}
    assert session.state(thread(checkpoint_ns="own")).values == remembered
    assert len(list(saver.list(thread()))) == 2


def test_a_thread_pruned_after_every_turn_does_not_grow(
    drive: Driver, saver: Saver, client: redis.Redis, prefix: str
) -> None:
    """Making room would not make it."""
    session = Session(drive, sequence(inner=sequence(b=says("b")).compile()))
    counts = []
    for _ in range(4):
        session.run({"log": Overwrite(["in"])})
        saver.prune(["a"])
        counts.append(_stored_items(client, prefix))
    assert len(set(counts[1:])) == 1


def _stored_items(client: redis.Redis, prefix: str) -> int:
    return sum(len(_content(client, key)) for key in client.scan_iter(f"{prefix}:*"))


def _content(client: Any, key: bytes) -> list[bytes]:
    """All bytes that a key holds, in parts."""
    match client.type(key):
        case b"hash":
            return [part for item in client.hgetall(key).items() for part in item]
        case b"zset":
            return list(client.zrange(key, 0, -1))
        case b"set":
            return list(client.smembers(key))
        case _:
            return [client.get(key)]


def test_a_copied_thread_goes_on_by_itself(drive: Driver, saver: Saver, restart: Restart) -> None:
    """What is tried out on a copy would change the original, or the copy be incomplete."""
    original = Session(drive, _nested())
    original.run({"log": ["in"]})
    saver.copy_thread("a", "b")
    copied = Session(restart(drive), _nested(), "b")
    before = original.history()
    assert _renamed(copied.history()) == shape(before)
    assert copied.run(Command(resume="copy"))["log"][-3] == "deep? copy"
    assert shape(original.history()) == shape(before)
    saver.delete_thread("b")
    assert original.run(Command(resume="original"))["log"][-3] == "deep? original"


def _renamed(history: list[StateSnapshot]) -> list[str]:
    return [text.replace("'thread_id': 'b'", "'thread_id': 'a'") for text in shape(history)]


def test_a_copied_thread_does_not_name_the_original(drive: Driver, saver: Saver) -> None:
    """Configs found in a copy would lead back to the thread that it was copied from."""
    session = Session(drive, _nested())
    session.run({"log": ["in"]})
    latest = saver.get_tuple(thread())
    assert latest is not None
    metadata: Any = {**latest.metadata, "thread_id": "a"}  # as older versions of LangGraph do
    saver.put(latest.config, latest.checkpoint, metadata, {})
    saver.copy_thread("a", "b")
    copied = session.history(thread("b"))
    assert copied[0].metadata
    assert copied[0].metadata.get("thread_id") == "b"
    assert "'thread_id': 'b'" in str(copied)
    assert "'thread_id': 'a'" not in str(copied)


def test_a_refused_copy_leaves_no_trace(
    drive: Driver, saver: Saver, client: redis.Redis, prefix: str
) -> None:
    """Every copy that was refused would cost some memory, for ever."""
    session = Session(drive, chat())
    session.run({"messages": [("user", "hi")]}, thread("a", run_id="run 1"))
    session.run({"messages": [("user", "hello")]}, thread("b"))
    kept = shape(session.history(thread("b")))
    with pytest.raises(ThreadExistsError):
        saver.copy_thread("a", "b")
    assert shape(session.history(thread("b"))) == kept
    saver.delete_thread("b")
    saver.delete_thread("a")
    assert list(client.scan_iter(f"{prefix}:*")) == []


def test_a_deleted_thread_leaves_nothing(
    drive: Driver, saver: Saver, client: redis.Redis, prefix: str
) -> None:
    """What a user asked to forget would stay on the server."""
    one, other = (Session(drive, _nested(), name) for name in "ab")
    for session in (one, other):
        session.run({"log": ["in"]}, thread(**session.config["configurable"], run_id="run 1"))
        session.run(Command(resume="yes"))
    kept = shape(other.history())
    saver.delete_thread("a")
    assert one.history() == []
    assert one.state().values == {}
    assert shape(other.history()) == kept
    saver.delete_thread("b")
    assert list(client.scan_iter(f"{prefix}:*")) == []


def test_deleting_a_run_takes_a_conversation_back_to_before_it(
    drive: Driver, saver: Saver, restart: Restart
) -> None:
    """A run that went wrong could not be undone."""
    session = Session(drive, sequence(inner=sequence(b=says("b")).compile()))
    session.run({"log": ["one"]}, thread(run_id="run 1"))
    before = session.history()
    undone = session.run({"log": ["two"]}, thread(run_id="run 2"))
    session.run({"log": ["other"]}, thread("b", run_id="run 2"))
    saver.delete_for_runs(["run 2"])
    session = session.go_on(restart(drive))
    assert shape(session.history()) == shape(before)
    assert session.history(thread("b")) == []
    assert len(_namespaces(saver)) == 2
    assert session.run({"log": ["two"]}) == undone


def test_a_run_can_still_be_undone_when_its_long_thread_was_pruned(
    drive: Driver, saver: Saver
) -> None:
    """Making room in a long thread would keep what its runs did from being deleted."""
    session = Session(drive, sequence(a=says("a")))
    log = [f"{number} " * 150 for number in range(1_500)]
    session.run({"log": log}, thread(run_id="run 1"))
    saver.prune(["a"])
    assert session.state().values == {"log": [*log, "a"]}
    saver.delete_for_runs(["run 1"])
    assert session.history() == []


def test_a_thread_may_be_pruned_while_it_runs(drive: Driver, server: str, prefix: str) -> None:
    """A job that makes room would break the conversations of those who are talking."""
    done = Event()

    def prune() -> int:
        with RedisSaver.from_conn_string(server, prefix=prefix) as pruning:
            for times in count():
                if done.is_set():
                    return times
                pruning.prune(["a"])
        return 0

    def story(drive: Driver) -> list[Any]:
        session = Session(drive, _nested_twice())
        seen = []
        for turn in range(6):
            session.run({"log": Overwrite([f"turn {turn} " * 100])})
            seen.append(session.run(Command(resume="yes " * 200)))
        return seen

    with ThreadPoolExecutor(1) as threads:
        pruned = threads.submit(prune)
        try:
            alike(drive, story)
        finally:
            done.set()
        assert pruned.result()


@pytest.mark.parametrize(
    "forget",
    [
        lambda saver: saver.prune(["a"]),
        lambda saver: saver.delete_thread("a"),
        lambda saver: saver.delete_for_runs(["run 2"]),
    ],
    ids=["prune", "delete_thread", "delete_for_runs"],
)
def test_what_one_process_deletes_another_does_not_count_on(
    drive: Driver, saver: Saver, restart: Restart, forget: Callable[[Saver], None]
) -> None:
    """A process that read a thread before another one pruned it would store half of what it has."""
    long = " ".join(map(str, range(500)))
    session = Session(restart(drive), sequence(a=asks(f"answer {long}"), b=says(f"b {long}")))
    for run in ("run 1", "run 2"):
        session.run({"log": [f"{run} {long}"]}, thread(run_id=run))
        session.run(Command(resume=long), thread(run_id=run))
    forget(saver)
    known = session.state().values.get("log", [])
    session.run({"log": [f"run 2 {long}"]})
    done = session.run(Command(resume=long))["log"]
    assert done == [*known, f"run 2 {long}", f"answer {long} {long}", f"b {long}"]
    assert Session(restart(drive), session.builder).state().values["log"] == done


# Serializers


_STRICT = JsonPlusSerializer(allowed_msgpack_modules=None)


@pytest.mark.parametrize("serde", [_STRICT], ids=[""])
def test_an_allowlist_lets_its_types_through_and_no_others(
    drive: Driver, raw_saver: RedisSaver | AsyncRedisSaver
) -> None:
    """State would come back as plain data, or types that nobody allowed would be made."""
    drive.invoke(typed().compile(checkpointer=raw_saver), TYPED, thread())
    allowed = raw_saver.with_allowlist([(Point.__module__, "Point")])
    values = [
        drive.state(typed().compile(checkpointer=saver), thread()).values
        for saver in (allowed, raw_saver)
    ]
    assert values[0]["points"] == [Point(1, 2), Point(3, 4)]
    assert values[0]["person"] != TYPED["person"]
    assert not any(isinstance(point, Point) for point in values[1]["points"])


_STRICT_PROGRAM = """
import asyncio, sys
from langgraph_checkpoint_redis import AsyncRedisSaver, RedisSaver
from tests.graphs import TYPED, thread, typed

url, prefix = sys.argv[1:]

async def awaited():
    async with AsyncRedisSaver.from_conn_string(url, prefix=prefix) as saver:
        graph = typed().compile(checkpointer=saver)
        await graph.ainvoke(TYPED, thread("async"))
        print((await graph.aget_state(thread("async"))).values)

with RedisSaver.from_conn_string(url, prefix=prefix) as saver:
    graph = typed().compile(checkpointer=saver)
    graph.invoke(TYPED, thread("sync"))
    print(graph.get_state(thread("sync")).values)
asyncio.run(awaited())
"""


def test_strict_msgpack_knows_the_types_of_the_schema(server: str, prefix: str) -> None:
    """Whoever turns on LangGraph's strict mode would get dictionaries for their objects."""
    command = [sys.executable, "-W", "error", "-c", _STRICT_PROGRAM, server, prefix]
    strict = {**os.environ, "LANGGRAPH_STRICT_MSGPACK": "true"}
    run = subprocess.run(command, env=strict, capture_output=True, text=True, check=False)
    assert run.stderr == ""
    point, person = TYPED["points"][0], TYPED["person"]
    values = f"{{'points': [{point}, {Point(3, 4)}], 'person': {person!r}}}"
    assert run.stdout.splitlines() == [values, values]


@pytest.mark.parametrize("serde", [_STRICT], ids=[""])
def test_copies_for_an_allowlist_share_the_connections(
    drive: Driver, savers: Open, server: str, client: redis.Redis
) -> None:
    """Every graph would open connections of its own, or close those of the others when it goes."""
    name = f"mine-{uuid4()}"
    saver = savers(f"{server}?client_name={name}")
    Session(with_saver(drive, saver), chat()).say("hi")
    connections = _connections(client, name)
    for _ in range(3):
        copied = saver.with_allowlist([("no", "matter")])
        assert copied is not saver
        Session(with_saver(drive, copied), chat()).state()
        del copied
        gc.collect()
    assert _connections(client, name) == connections != set()


def _connections(client: redis.Redis, name: str) -> set[str]:
    """The connections that the server has under a name."""
    return {found["id"] for found in client.client_list() if found["name"] == name}


def _lasting(find: Callable[[], Any]) -> Any:
    """What is still found when it had some time to go."""
    deadline = monotonic() + 2
    while (found := find()) and monotonic() < deadline:
        pass
    return found


_ENCRYPTED = EncryptedSerializer.from_pycryptodome_aes(key=bytes(range(32)))


@pytest.mark.parametrize("serde", [None, _ENCRYPTED], ids=["plain", "encrypted"])
def test_an_encrypting_serializer_covers_all_that_was_said(
    drive: Driver,
    restart: Restart,
    serde: SerializerProtocol | None,
    client: redis.Redis,
    prefix: str,
) -> None:
    """Secrets could be read by whoever reads the server, its backups or its replicas."""
    secrets = ["told", "noted", "asked", "answered", "updated", "tagged", "failed"]

    def story(drive: Driver) -> list[Any]:
        builder = sequence(
            a=says("SECRET noted"), b=asks("SECRET asked"), c=_fails("SECRET failed")
        )
        session = Session(drive, builder)
        tagged: RunnableConfig = {**session.config, "metadata": {"tag": "SECRET tagged"}}
        session.run({"log": ["SECRET told"]}, tagged)
        session.update({"log": ["SECRET updated"]}, as_node="a")
        session = session.go_on(restart(drive))
        session.run(None)
        with pytest.raises(ValueError, match="SECRET failed"):
            session.run(Command(resume="SECRET answered"))
        return [
            session.state(),
            session.history(filter={"tag": "SECRET tagged"}),
            session.history(),
        ]

    alike(drive, story)
    stored = b"\n".join(
        part for key in client.scan_iter(f"{prefix}:*") for part in [key, *_content(client, key)]
    )
    found = [secret for secret in secrets if f"SECRET {secret}".encode() in stored]
    assert found == ([] if serde else secrets)


def _fails(message: str) -> Callable[[object], None]:
    def fail(_: object) -> None:
        raise ValueError(message)

    return fail


# Clients


@pytest.mark.parametrize(
    "options",
    [{"decode_responses": True}, {"protocol": 3}, {"protocol": 3, "decode_responses": True}],
    ids=str,
)
def test_a_client_of_the_program_works_and_stays_open(
    drive: Driver,
    connect: Open,
    savers: Open,
    *,
    loop: AbstractEventLoop,
    client: redis.Redis,
    options: dict[str, Any],
) -> None:
    """A client that a program has already could not be used, or would be closed under it."""
    name = f"mine-{uuid4()}"
    opened = savers(connect(client_name=name, **options))
    saver = opened if isinstance(opened, RedisSaver) else AwaitedSaver(opened, loop)

    def story(drive: Driver) -> list[Any]:
        session = Session(drive, _nested())
        waiting = session.run({"log": ["in"]}, thread(run_id="run 1")), session.state()
        return [*waiting, session.run(Command(resume="yes")), session.history()]

    alike(with_saver(drive, opened), story)
    saver.setup()
    saver.copy_thread("a", "b")
    saver.prune(["b"])
    assert {found.config["configurable"]["thread_id"] for found in saver.list(None)} == {"a", "b"}
    saver.delete_for_runs(["run 1"])
    saver.delete_thread("a")
    connections = _connections(client, name)
    _close(opened, loop)
    assert _connections(client, name) == connections != set()


def test_a_closed_saver_leaves_no_connections_and_can_be_used_again(
    drive: Driver, savers: Open, loop: AbstractEventLoop, server: str, client: redis.Redis
) -> None:
    """Each saver that a program is done with would cost the server its connections."""
    name = f"mine-{uuid4()}"
    saver = savers(f"{server}?client_name={name}")
    session = Session(with_saver(drive, saver), chat())
    for expected in (2, 4):
        assert len(session.say(f"{expected}")["messages"]) == expected
        assert _connections(client, name)
        _close(saver, loop)
        assert not _lasting(lambda: _connections(client, name))


# Event loops and threads


@pytest.fixture
async def awaited(server: str, prefix: str) -> AsyncIterator[AsyncRedisSaver]:
    """A saver for tests that run in an event loop."""
    async with AsyncRedisSaver.from_conn_string(server, prefix=prefix) as saver:
        yield saver


def test_an_async_saver_serves_one_event_loop_after_another(server: str, prefix: str) -> None:
    """A script or worker that calls `asyncio.run` twice would fail the second time."""
    awaited = AsyncRedisSaver(server, prefix=prefix)
    graph = chat().compile(checkpointer=awaited)

    async def turn() -> int:
        state = await graph.ainvoke({"messages": [("user", "hi")]}, thread())
        await awaited.aclose()
        return len(state["messages"])

    assert [asyncio.run(turn()) for _ in range(3)] == [2, 4, 6]


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_event_loops_that_have_ended_keep_no_connections(
    server: str, prefix: str, client: redis.Redis
) -> None:
    """A worker that runs each job with `asyncio.run` would use up the server's connections."""
    name = f"mine-{uuid4()}"
    saver = AsyncRedisSaver(f"{server}?client_name={name}", prefix=prefix)
    for _ in range(5):
        asyncio.run(saver.aget_tuple(thread()))
        gc.collect()
    open_at_work = len(_connections(client, name))
    asyncio.run(saver.aclose())
    del saver
    gc.collect()
    assert open_at_work <= 1
    assert not _lasting(lambda: _connections(client, name))


def test_every_thread_may_have_an_event_loop_of_its_own(server: str, prefix: str) -> None:
    """A program with several event loops would need a saver for each."""
    awaited = AsyncRedisSaver(server, prefix=prefix)
    graph = chat().compile(checkpointer=awaited)

    async def talk(name: str) -> int:
        states = [await graph.ainvoke({"messages": [("user", "hi")]}, thread(name)) for _ in "123"]
        return len(states[-1]["messages"])

    with _running_loops(4) as loops:
        talks = [
            asyncio.run_coroutine_threadsafe(talk(f"{number}"), loop)
            for number, loop in enumerate([*loops, *loops])
        ]
        assert [talk.result() for talk in talks] == [6] * 8
        asyncio.run(awaited.aclose())


@contextmanager
def _running_loops(count: int) -> Iterator[list[AbstractEventLoop]]:
    """Event loops that each run in a thread."""
    loops = [asyncio.new_event_loop() for _ in range(count)]
    threads = [Thread(target=loop.run_forever) for loop in loops]
    for running in threads:
        running.start()
    yield loops
    for loop, running in zip(loops, threads, strict=True):
        loop.call_soon_threadsafe(loop.stop)
        running.join()
        loop.close()


async def test_nodes_without_async_can_look_at_the_state_of_their_graph(
    awaited: AsyncRedisSaver,
) -> None:
    """A tool that reads what was said would hang or fail in a graph that is awaited."""
    graphs: list[Graph] = []

    def look(_: object) -> dict[str, list[str]]:
        graph = graphs[0]
        graph.update_state(thread("b"), {"log": ["from a node"]}, as_node="a")
        seen = graph.get_state(thread()), *graph.get_state_history(thread("b"))
        return {"log": [f"saw {state.values['log']}" for state in seen]}

    graphs.append(sequence(a=says("a"), look=look).compile(checkpointer=awaited))
    state = await graphs[0].ainvoke({"log": ["in"]}, thread(), durability="sync")
    assert state["log"] == ["in", "a", "saw ['in', 'a']", "saw ['from a node']"]


async def test_worker_threads_may_run_graphs_without_await(awaited: AsyncRedisSaver) -> None:
    """A synchronous library could not run the graphs of an asynchronous program."""
    graph = _nested().compile(checkpointer=awaited)

    def run(name: str) -> Any:
        graph.invoke({"log": [name]}, thread(name))
        list(graph.stream(Command(resume="yes"), thread(name)))
        return graph.get_state(thread(name)).values["log"]

    logs = await asyncio.gather(*(asyncio.to_thread(run, f"{number}") for number in range(8)))
    assert [(log[0], log[-1]) for log in logs] == [(f"{number}", "z") for number in range(8)]


def test_a_program_without_an_event_loop_may_use_an_async_saver(server: str, prefix: str) -> None:
    """A script could not read the threads of a program that awaits, or would not end cleanly."""
    before = active_count()
    awaited = AsyncRedisSaver(server, prefix=prefix)
    session = Session(DirectDriver(cast("RedisSaver", awaited)), chat())
    session.say("hi")
    session.say("again")
    assert len(session.history()) == 6
    awaited.close()
    assert not _lasting(lambda: active_count() > before)
    del awaited, session
    gc.collect()  # complains of what was left open


@pytest.mark.parametrize(
    "call",
    [
        lambda saver: saver.setup(),
        lambda saver: saver.get_tuple(thread()),
        lambda saver: list(saver.list(thread())),
        lambda saver: saver.put(thread(), empty_checkpoint(), {}, {}),
        lambda saver: saver.put_writes(thread(checkpoint_id="1"), [("a", 1)], "task"),
        lambda saver: saver.prune(["a"]),
        lambda saver: saver.copy_thread("a", "b"),
        lambda saver: saver.delete_thread("a"),
        lambda saver: saver.delete_for_runs(["run"]),
        lambda saver: saver.get_delta_channel_history(config=thread(), channels=["log"]),
        lambda saver: chat().compile(checkpointer=saver).invoke({"messages": []}, thread()),
        lambda saver: saver.close(),
    ],
)
async def test_a_call_that_would_block_the_event_loop_says_so(
    awaited: AsyncRedisSaver, call: Callable[[AsyncRedisSaver], object]
) -> None:
    """A forgotten `await` would hang a whole program."""
    with pytest.raises(EventLoopError, match="await its twin"):
        call(awaited)


async def test_five_hundred_runs_at_once_wait_for_connections(awaited: AsyncRedisSaver) -> None:
    """A busy server would lose runs to errors of the connection pool."""
    graph = chat().compile(checkpointer=awaited)
    states = await asyncio.gather(
        *(graph.ainvoke({"messages": [("user", "hi")]}, thread(f"{run}")) for run in range(500))
    )
    assert [len(state["messages"]) for state in states] == [2] * 500


async def test_many_listings_of_all_threads_wait_for_connections(
    awaited: AsyncRedisSaver,
) -> None:
    """A dashboard that several people look at would fail while the server is busy."""
    await chat().compile(checkpointer=awaited).ainvoke({"messages": [("user", "hi")]}, thread())

    async def listed() -> int:
        return len([found async for found in awaited.alist(None)])

    counts = await asyncio.gather(*(listed() for _ in range(300)))
    assert counts == [3] * 300


def test_threads_that_list_all_threads_wait_for_connections(server: str, prefix: str) -> None:
    """The same, with a client that was told to keep to a few connections."""
    with (
        redis.Redis.from_url(server, max_connections=2) as client,
        ThreadPoolExecutor(16) as threads,
    ):
        saver = RedisSaver(client, prefix=prefix)
        chat().compile(checkpointer=saver).invoke({"messages": [("user", "hi")]}, thread())
        listings = [threads.submit(lambda: len(list(saver.list(None)))) for _ in range(200)]
        assert [listing.result() for listing in listings] == [3] * 200


def test_an_async_saver_without_a_loop_to_work_in_says_so(
    loop: AbstractEventLoop, server: str, prefix: str
) -> None:
    """A synchronous call that can never be answered would hang."""
    client = redis.asyncio.Redis.from_url(server)
    saver = AsyncRedisSaver(client, prefix=prefix)
    loop.run_until_complete(saver.aget_tuple(thread()))
    loop.run_until_complete(client.aclose())
    with pytest.raises(EventLoopError, match="from a URL"):
        saver.get_tuple(thread())
    gc.collect()  # complains of what was never awaited


async def test_cancelled_runs_do_not_disturb_others(awaited: AsyncRedisSaver) -> None:
    """A user who closes the page would break the conversations of others, or their own."""
    graph = chat().compile(checkpointer=awaited)
    turn: Any = {"messages": [("user", "hi")]}
    others = [asyncio.create_task(graph.ainvoke(turn, thread(f"{run}"))) for run in range(20)]
    for moment in range(0, 120, 3):
        run = asyncio.create_task(graph.ainvoke(turn, thread()))
        for _ in range(moment):
            await asyncio.sleep(0)
        run.cancel()
        await asyncio.wait([run])
    while unfinished := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(unfinished)  # what cancelled runs were storing in the background
    assert [len(other.result()["messages"]) for other in others] == [2] * 20
    before = (await graph.aget_state(thread())).values.get("messages", [])
    said = (await graph.ainvoke(turn, thread()))["messages"]
    assert said[:-2] == before
    history = [found async for found in graph.aget_state_history(thread())]
    assert history[0].values["messages"] == said


async def test_graphs_with_a_sync_saver_can_be_awaited(server: str, prefix: str) -> None:
    """A program that awaits here and there would need two savers."""
    with RedisSaver.from_conn_string(server, prefix=prefix) as saver:
        graph = _nested().compile(checkpointer=saver)
        names = [f"{number}" for number in range(20)]
        await asyncio.gather(*(graph.ainvoke({"log": [name]}, thread(name)) for name in names))
        for name in names:
            streamed = [step async for step in graph.astream(Command(resume="yes"), thread(name))]
            assert [*streamed[-1]] == ["z"]
            awaited = [found async for found in graph.aget_state_history(thread(name))]
            assert shape(awaited) == shape(list(graph.get_state_history(thread(name))))
        assert awaited[0].values["log"][0] == "19"
        await saver.aprune(names)
        await saver.acopy_thread("0", "copy")
        await saver.adelete_for_runs(["none"])
        await saver.adelete_thread("0")
        assert (await graph.aget_state(thread("copy"))).values["log"][0] == "0"
        assert await saver.aget_tuple(thread("0")) is None


def test_fifty_threads_may_share_a_sync_saver(server: str, prefix: str) -> None:
    """A web server with a pool of threads would need a saver for each, or mix users up."""
    start = Barrier(50)

    with RedisSaver.from_conn_string(server, prefix=prefix) as saver:
        graph = chat().compile(checkpointer=saver)

        def talk(name: str) -> list[str]:
            start.wait()
            for said in ("hi", "again"):
                graph.invoke({"messages": [("user", f"{said} from {name}")]}, thread(name))
            return _texts(graph.get_state(thread(name)))

        names = [f"{number}" for number in range(50)]
        with ThreadPoolExecutor(50) as threads:
            said = list(threads.map(talk, names))
    assert said == [[f"hi from {i}", "I know 1", f"again from {i}", "I know 3"] for i in names]
