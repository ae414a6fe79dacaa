"""Delta channels: state that is stored as what was written, and now and then as a whole.

A thread of this kind is read by walking back to the last snapshot, so here lies most of what can go
wrong unseen: each test compares with `InMemorySaver` what every checkpoint of a thread reads as.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver, DeltaChannelHistory
from langgraph.types import Command, Durability, Overwrite, StateSnapshot, StateUpdate

from langgraph_checkpoint_redis import AsyncRedisSaver, RedisSaver

from .deltas import Both, Often, Seldom
from .driving import AwaitedDriver, Driver, Saver
from .graphs import (
    Log,
    Session,
    alike,
    asks,
    map_reduce,
    says,
    sequence,
    shape,
    side_by_side,
    thread,
)


@pytest.fixture(params=["async", "exit"])
def durability(request: pytest.FixtureRequest) -> Durability:
    """When a graph stores its checkpoints."""
    durability: Durability = request.param
    return durability


@pytest.fixture(params=[Often, Seldom])
def state(request: pytest.FixtureRequest) -> type:
    """A schema with delta channels."""
    schema: type = request.param
    return schema


def _told(session: Session) -> list[object]:
    """What every checkpoint of a thread reads as, one by one and in the history."""
    history = session.history()
    return [session.state(), history, [session.state(found.config) for found in history]]


def _talk(session: Session, turns: int) -> list[str]:
    """The log after some turns."""
    for turn in range(turns):
        session.run({"log": [f"turn {turn}"]})
    log: list[str] = session.state().values["log"]
    return log


def test_every_checkpoint_of_many_turns_reads_as_it_was(
    drive: Driver, durability: Durability, state: type
) -> None:
    """A conversation would lose or repeat messages, now or when looking back."""

    def story(drive: Driver) -> list[Any]:
        session = Session(drive, sequence(state, a=says("a"), b=says("b")), durability=durability)
        return [_talk(session, 6), _told(session)]

    log, _ = alike(drive, story)
    assert log == [text for turn in range(6) for text in (f"turn {turn}", "a", "b")]


def test_parallel_writes_are_replayed_in_their_order(
    drive: Driver, durability: Durability, state: type
) -> None:
    """What tasks wrote at the same time would be read back in another order."""

    def story(drive: Driver) -> list[Any]:
        session = Session(drive, map_reduce(12, state), durability=durability)
        return [_talk(session, 2), _told(session)]

    log, _ = alike(drive, story)
    assert log[1:13] == log[14:26] == [f"{item} squared is {item * item}" for item in range(12)]


def test_answers_to_parallel_interrupts_are_replayed(
    drive: Driver, durability: Durability, state: type
) -> None:
    """What was written before and after an interrupt would be lost or doubled."""

    def story(drive: Driver) -> list[Any]:
        builder = side_by_side(state, a=says("a"), b=asks("b?"), c=asks("c?"))
        session = Session(drive, builder, durability=durability)
        for turn in ("one", "two"):
            session.run({"log": [turn]})
            for asked in reversed(session.state().interrupts):
                session.run(Command(resume={asked.id: turn}, update={"log": [f"{turn}, changed"]}))
        return _told(session)

    alike(drive, story)


def test_branches_replay_their_own_writes(
    drive: Driver, durability: Durability, state: type
) -> None:
    """A branch of a thread would read what another branch wrote."""

    def story(drive: Driver) -> list[Any]:
        session = Session(drive, sequence(state, a=says("a"), b=says("b")), durability=durability)
        _talk(session, 1)
        for number, found in enumerate(session.history()):
            branch = session.update({"log": [f"branch {number}"]}, found.config, as_node="a")
            session.run(None, branch)
            session.run({"log": [f"other {number}"]}, found.config)
            session.update({"log": Overwrite([f"new {number}"])}, found.config, as_node="b")
        return _told(session)

    alike(drive, story)


def test_updates_by_hand_are_replayed(drive: Driver, state: type) -> None:
    """What a person added to a conversation would be missing from it."""

    def story(drive: Driver) -> list[Any]:
        session = Session(drive, sequence(state, a=says("a"), b=says("b")))
        session.update({"log": ["first"]})
        session.bulk_update([[StateUpdate({"log": [f"{n}"]}, "a")] for n in range(5)])
        session.run()
        session.update({"log": Overwrite(["instead"])}, as_node="b")
        session.update(None, session.history()[2].config, as_node="__copy__")
        session.run({"log": ["on"]})
        return _told(session)

    alike(drive, story)


def test_subgraphs_replay_their_own_writes(
    drive: Driver, durability: Durability, state: type
) -> None:
    """An inner graph would read the writes of the outer one, or lose its own."""

    def story(drive: Driver) -> list[Any]:
        inner = sequence(state, x=says("x"), y=asks("y?"))
        nodes = {"once": inner.compile(), "own": inner.compile(checkpointer=True)}
        session = Session(drive, sequence(state, **nodes), durability=durability)
        seen = []
        for turn in ("one", "two"):
            given: list[object] = [{"log": [turn]}, Command(resume=turn), Command(resume=turn)]
            for each in given:
                session.run(each)
                seen.append(session.state(subgraphs=True))
        return [seen, session.history(thread(checkpoint_ns="own")), _told(session)]

    alike(drive, story)


def test_a_channel_may_become_a_delta_channel_and_back(
    drive: Driver, durability: Durability
) -> None:
    """A new version of a program would not find the conversations of the old one."""

    def story(drive: Driver) -> list[Any]:
        seen = []
        for schema in (Log, Seldom, Log, Often, Seldom, Log):
            session = Session(drive, sequence(schema, a=says("a")), durability=durability)
            seen.append(session.run({"log": [schema.__name__]}))
            seen.append(session.state())
        return seen

    alike(drive, story)


# The history of a channel


def test_a_channels_history_is_what_langgraph_would_find_itself(
    drive: Driver, saver: Saver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A delta channel would be rebuilt from other writes than it was made of."""
    monkeypatch.setattr("langgraph_checkpoint_redis._core.reading.ANCESTORS", 4)  # in many calls
    session = Session(drive, sequence(Both, a=says("a"), b=says("b")))
    _talk(session, 5)
    session.run({"log": ["branch"]}, session.history()[7].config)
    channels = ["log", "notes", "plain", "unknown"]
    for found in [*session.history(), session.state()]:
        history = saver.get_delta_channel_history(config=found.config, channels=channels)
        assert shape(history) == shape(_walked(drive, found.config, channels))
    assert list(history) == channels
    assert history["log"]["writes"]


def _walked(
    drive: Driver, config: RunnableConfig, channels: Sequence[str]
) -> Mapping[str, DeltaChannelHistory]:
    """The same by LangGraph's own walk, checkpoint by checkpoint."""
    if isinstance(drive, AwaitedDriver):
        return drive.loop.run_until_complete(
            BaseCheckpointSaver.aget_delta_channel_history(
                drive.saver, config=config, channels=channels
            )
        )
    return BaseCheckpointSaver.get_delta_channel_history(
        drive.saver, config=config, channels=channels
    )


def test_a_channels_history_is_that_of_memory(drive: Driver) -> None:
    """Graphs would behave otherwise than they did in their tests."""

    def story(drive: Driver) -> list[Any]:
        session = Session(drive, map_reduce(3, Both))
        _talk(session, 3)
        return [
            _history(drive, config=found.config, channels=["log", "notes", "unknown"])
            for found in session.history()
        ]

    alike(drive, story)


def _history(drive: Driver, **options: Any) -> Mapping[str, DeltaChannelHistory]:
    if isinstance(drive, AwaitedDriver):
        return drive.loop.run_until_complete(drive.saver.aget_delta_channel_history(**options))
    return drive.saver.get_delta_channel_history(**options)


# Pruned and copied threads


def test_a_pruned_thread_reads_right_and_goes_on(
    drive: Driver, saver: Saver, durability: Durability, state: type
) -> None:
    """Making room would cost the conversation."""

    def story(drive: Driver) -> list[Any]:
        builder = sequence(state, a=says("a"), b=asks("b?"))
        session = Session(drive, builder, durability=durability)
        seen = []
        for turn in range(4):
            session.run({"log": [f"turn {turn}"]})
            seen.append(_pruned(session, saver).values)
            session.run(Command(resume=f"answer {turn}"))
            seen.append(_pruned(session, saver).values)
        return seen

    alike(drive, story)


def _pruned(session: Session, saver: Saver) -> StateSnapshot:
    """The state of a thread after making room, if it is in Redis."""
    if isinstance(session.drive.saver, AsyncRedisSaver | RedisSaver):
        saver.prune(["a"])
    return session.state()


def test_pruning_keeps_no_more_than_the_last_snapshot_and_what_follows(
    drive: Driver, saver: Saver
) -> None:
    """A thread would grow for ever, however often it is pruned."""
    for schema in (Often, Both):  # of both, one channel is never written, and needs nothing
        session = Session(drive, sequence(schema, a=says("a"), b=says("b")))
        _talk(session, 8)
        saver.prune(["a"])
        assert len(session.history()) <= 6
        saver.delete_thread("a")


def test_a_copied_thread_reads_right_and_goes_on(
    drive: Driver, saver: Saver, durability: Durability, state: type
) -> None:
    """A copy would lack what it was copied for."""
    builder = sequence(state, a=says("a"), b=says("b"))
    original = Session(drive, builder, durability=durability)
    log = _talk(original, 4)
    saver.copy_thread("a", "b")
    saver.delete_thread("a")
    copied = Session(drive, builder, "b", durability=durability)
    assert copied.state().values["log"] == log
    saver.prune(["b"])
    assert _talk(copied, 2) == [*log, "turn 0", "a", "b", "turn 1", "a", "b"]
