"""Delta channels whose ancestors are gone: an error that says so, never a value that is less.

A delta channel is stored as what was written to it since its last whole value, along the ancestors
of a checkpoint. So whatever takes an ancestor away may take a part of the channel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Annotated, Any, TypedDict

import pytest
import redis
from langgraph.channels.delta import DeltaChannel
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph

from langgraph_checkpoint_redis import MissingAncestorError, RedisSaver, RunNeededError
from langgraph_checkpoint_redis._storage.keys import Keyspace

from .deltas import HERE, Log
from .driving import Driver, Saver


def lose_second_checkpoint(client: redis.Redis, prefix: str) -> None:
    """Take the second row from the timeline of thread `a`, as no removal of ours would."""
    timeline = Keyspace(prefix).thread("a").timeline
    rows: Any = client.zrange(timeline, 0, -1)
    client.zrem(timeline, rows[1])


@pytest.fixture
def log(saver: Saver) -> Log:
    log = Log(saver)
    for _ in range(5):
        log.add()
    return log


def _prune_behind_a_whole_value(saver: RedisSaver) -> None:
    Log(saver, whole_at=1).add(at=HERE)
    saver.prune(["a"])


REMOVALS: dict[str, Callable[[RedisSaver, Any, bytes], object]] = {
    "pruned by another process": lambda saver, _, __: _prune_behind_a_whole_value(saver),
    "deleted": lambda saver, _, __: saver.delete_thread("a"),
    "expired": lambda _, client, key: client.delete(
        *(key.replace(b"timeline", part) for part in (b"timeline", b"writes", b"chunks", b"runs"))
    ),
}


def assert_says_what_to_do(error: MissingAncestorError, first: str) -> None:
    for words in (first, "`repair` (langgraph-redis repair)", "`delete_thread`"):
        assert words in str(error)


@pytest.mark.parametrize("removal", REMOVALS)
def test_a_run_whose_beginning_is_gone_is_refused(
    log: Log, saver: Saver, client: redis.Redis, prefix: str, removal: str
) -> None:
    """A run that ends late would leave a channel that has lost all that was said before."""
    fresh = RedisSaver(client, prefix=prefix)
    at = log.configs[2]
    REMOVALS[removal](fresh, client, Keyspace(prefix).thread("a").timeline)
    with pytest.raises(MissingAncestorError) as raised:
        log.add(at=at)
    assert raised.value.thread_id == "a"
    assert raised.value.ancestor_id == at["configurable"]["checkpoint_id"]
    assert_says_what_to_do(raised.value, "Run again from the newest state")


@pytest.mark.parametrize("saver_options", [{"keep_last": 1}], ids=str)
def test_a_run_that_ends_late_where_old_checkpoints_are_trimmed_is_refused(saver: Saver) -> None:
    """Of two runs at a time, the one that ends last would lose what was said before both."""
    log = Log(saver, whole_at=4)
    for _ in range(6):
        log.add()
    with pytest.raises(MissingAncestorError):
        log.add(at=log.configs[2])
    assert log.read() == ["whole", "line 5", "line 6"]


def test_a_run_that_goes_on_from_an_old_checkpoint_needs_all_of_its_ancestors(
    log: Log, saver: Saver, client: redis.Redis, prefix: str
) -> None:
    """A fork would be acknowledged whose beginning is gone."""
    lose_second_checkpoint(client, prefix)
    with pytest.raises(MissingAncestorError):
        log.add(at=log.configs[3])


def test_a_history_that_ends_too_early_is_an_error(
    log: Log, saver: Saver, client: redis.Redis, prefix: str
) -> None:
    """A conversation would read as its last part, and go on so."""
    assert log.read() == [f"line {number}" for number in range(2, 6)]
    lose_second_checkpoint(client, prefix)
    with pytest.raises(MissingAncestorError) as raised:
        log.read()
    assert raised.value.ancestor_id == log.configs[2]["configurable"]["checkpoint_id"]
    assert_says_what_to_do(raised.value, "Go on from a checkpoint that can be read")
    assert "incomplete" in {problem.kind for problem in saver.verify("a")}


def test_a_checkpoint_that_vanishes_between_two_reads_is_an_error(log: Log, saver: Saver) -> None:
    """A conversation that expires while it is read would read as empty."""
    found = saver.get_tuple(HERE)
    assert found
    saver.delete_thread("a")
    with pytest.raises(MissingAncestorError):
        log.read(found.config)
    assert saver.get_delta_channel_history(config=HERE, channels=["log"])["log"] == {"writes": []}


def test_a_channel_that_was_never_written_needs_no_ancestors(
    log: Log, saver: Saver, client: redis.Redis, prefix: str
) -> None:
    """A thread that was pruned could not be read, for a channel that it does not use."""
    lose_second_checkpoint(client, prefix)
    history = saver.get_delta_channel_history(config=log.configs[-1], channels=["other"])
    assert history["other"] == {"writes": []}


def test_a_run_that_others_are_rebuilt_from_cannot_be_deleted_alone(saver: Saver) -> None:
    """Rolling back a run in the middle would take a part of all later ones."""
    log = Log(saver, whole_at=5)
    for run in ("one", "two", "two", "three", "four"):
        log.add(run=run)
    with pytest.raises(RunNeededError) as raised:
        saver.delete_for_runs(["two"])
    assert (raised.value.thread_id, raised.value.run_id) == ("a", "two")
    assert len([*saver.list(HERE)]) == 5
    saver.delete_for_runs(["two", "three"])  # the fourth has a value of its own
    assert [found.metadata["run_id"] for found in saver.list(HERE)] == ["four", "one"]
    saver.delete_for_runs(["four"])
    assert [found.metadata["run_id"] for found in saver.list(HERE)] == ["one"]


def test_a_thread_that_becomes_short_can_be_read_at_every_checkpoint_that_is_left(
    saver: Saver, client: redis.Redis, prefix: str
) -> None:
    """While old checkpoints are trimmed, a look at the history of a conversation would fail."""
    log = Log(saver, whole_at=27)
    for _ in range(26):
        log.add()
    for _ in range(3):
        log.add(saver=RedisSaver(client, prefix=prefix, keep_last=2))
        left = [found.config for found in saver.list(HERE)]
        assert len(left) < 29
        for config in left:
            log.read(config)


def test_a_checkpoint_behind_one_that_repair_removed_is_refused(
    log: Log, saver: Saver, client: redis.Redis, prefix: str
) -> None:
    """A turn would be acknowledged that nobody can read."""
    timeline = Keyspace(prefix).thread("a").timeline
    rows: Any = client.zrange(timeline, 0, -1)
    client.zrem(timeline, rows[1])
    client.zadd(timeline, {rows[1][:-1] + bytes([rows[1][-1] ^ 1]): 0})
    assert saver.repair("a")
    with pytest.raises(MissingAncestorError):
        log.add()


# Channels that begin late


def joined(state: list[Any] | None, writes: Sequence[list[Any]]) -> list[Any]:
    """The lines of a state, and those that were written since."""
    return [*(state or ()), *chain.from_iterable(writes)]


class Files(TypedDict, total=False):
    """A state with two delta channels, of which one is written for the first time late."""

    said: Annotated[list[Any], DeltaChannel(joined, snapshot_frequency=10)]
    edits: Annotated[list[Any], DeltaChannel(joined, snapshot_frequency=10)]
    turn: int


def edit(state: Files) -> Files:
    turn = state.get("turn", 0) + 1
    if turn < 9:
        return {"turn": turn, "said": [turn]}
    return {"turn": turn, "said": [turn], "edits": [turn]}


@pytest.mark.parametrize("saver_options", [{"keep_last": 1}, {"keep_last": 3}, {}], ids=str)
def test_a_delta_channel_may_be_written_first_after_older_checkpoints_were_removed(
    saver: Saver, drive: Driver
) -> None:
    """An agent would end for good when it edits its first file in a long conversation."""
    graph = StateGraph(Files).add_node("edit", edit).add_edge(START, "edit")
    ours, theirs = graph.compile(drive.saver), graph.compile(InMemorySaver())
    for turn in range(24):
        value: Files = {"said": [f"turn {turn}"]} if turn % 3 else {"turn": turn}
        assert drive.invoke(ours, value, HERE) == theirs.invoke(value, HERE)
        assert drive.state(ours, HERE).values == theirs.get_state(HERE).values
        if turn == 6:
            saver.prune(["a"])
    assert saver.verify("a") == []
