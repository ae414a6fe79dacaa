"""Real graphs, run on both savers and compared with the same on `InMemorySaver`.

Here are conversations, parallel tasks and workflows written as functions.
`test_graphs_interrupts.py` has graphs that stop for a person or go back in time,
`test_graphs_nested.py` subgraphs, `test_graphs_cleared.py` threads that are pruned, copied or
deleted, `test_graphs_serialized.py` types and encryption, and `test_graphs_loops.py` clients, event
loops and worker threads.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.func import entrypoint, task
from langgraph.pregel import Pregel
from langgraph.types import Command, Durability, RetryPolicy, StateSnapshot, interrupt

from .driving import Driver, Open, Restart
from .graphs import (
    Flaky,
    Session,
    alike,
    asks,
    chat,
    in_context,
    map_reduce,
    says,
    sequence,
    side_by_side,
    texts_of,
    thread,
    with_saver,
)

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
    assert texts_of(here) == ["hi", "I know 1", "again", "I know 3"]
    assert texts_of(there) == ["hello", "I know 1"]


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
