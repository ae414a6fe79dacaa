"""Threads of graphs that are pruned, copied and deleted, and graphs that go on afterwards."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from threading import Event
from typing import Any

import pytest
import redis
from langgraph.types import Command, Durability, Overwrite, StateSnapshot

from langgraph_checkpoint_redis import RedisSaver, ThreadExistsError

from .driving import Driver, Open, Restart, Saver
from .graphs import (
    Builder,
    Session,
    alike,
    asks,
    chat,
    namespaces_of,
    nested,
    nested_beside_others,
    nested_twice,
    says,
    sequence,
    shape,
    thread,
    with_saver,
)
from .stored import parts_of


def test_a_pruned_thread_goes_on_where_it_was(
    drive: Driver, saver: Saver, restart: Restart, durability: Durability
) -> None:
    """Making room would cost the state, or an answer that is still awaited."""
    session = Session(drive, nested_twice(), durability=durability)
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


@pytest.mark.parametrize("build", [nested_twice, nested_beside_others])
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
    assert len(namespaces_of(saver)) == 5
    remembered = session.state(thread(checkpoint_ns="own")).values
    saver.prune(["a"])
    assert namespaces_of(saver) == {"", "own"}
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
    return sum(len(parts_of(client, key)) for key in client.scan_iter(f"{prefix}:*"))


def test_a_copied_thread_goes_on_by_itself(drive: Driver, saver: Saver, restart: Restart) -> None:
    """What is tried out on a copy would change the original, or the copy be incomplete."""
    original = Session(drive, nested())
    original.run({"log": ["in"]})
    saver.copy_thread("a", "b")
    copied = Session(restart(drive), nested(), "b")
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
    session = Session(drive, nested())
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
    one, other = (Session(drive, nested(), name) for name in "ab")
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
    assert len(namespaces_of(saver)) == 2
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
        session = Session(drive, nested_twice())
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
