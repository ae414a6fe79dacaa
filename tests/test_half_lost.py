"""Threads that have lost a key: a server evicted it, or somebody deleted it.

Each key of a thread says of the others whether they must be there. So such a thread raises an
error that names the key, when it is read and when it is written to, and never reads as less.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from itertools import combinations

import pytest
import redis
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointTuple

from langgraph_checkpoint_redis import CorruptThreadError, RedisSaver
from langgraph_checkpoint_redis._keys import Keyspace

from .driving import Saver
from .test_sharing import put

HERE: RunnableConfig = {"configurable": {"thread_id": "a", "checkpoint_ns": ""}}
SAID = [f"{number:03}" * 200 for number in range(30)]

READS: dict[str, Callable[[Saver, RunnableConfig], object]] = {
    "the latest": lambda saver, _: saver.get_tuple(HERE),
    "by id": lambda saver, at: saver.get_tuple(at),
    "a list": lambda saver, _: [*saver.list(HERE)],
    "the history of a channel": lambda saver, at: saver.get_delta_channel_history(
        config=at, channels=["said"]
    ),
}


@pytest.fixture
def at(saver: Saver) -> RunnableConfig:
    """A thread of two checkpoints with writes, of which this is the newest."""
    first, before = put(saver, HERE, said=SAID[:20])
    saver.put_writes(first, [("said", "one")], "task")
    newest, _ = put(saver, first, before, said=SAID)
    saver.put_writes(newest, [("said", "two")], "task")
    return newest


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("part", ["timeline", "writes"])
def test_a_thread_that_has_lost_a_key_does_not_read_as_less(
    saver: Saver, client: redis.Redis, prefix: str, at: RunnableConfig, part: str, read: str
) -> None:
    """A conversation would seem never to have been; a payment that was made would be made again."""
    key = getattr(Keyspace(prefix).thread("a"), part)
    client.unlink(key)
    with pytest.raises(CorruptThreadError) as raised:
        READS[read](saver, at)
    assert raised.value.thread_id == "a"
    assert raised.value.key == key.decode()


@pytest.mark.parametrize("part", ["timeline", "writes"])
def test_a_thread_that_has_lost_a_key_is_not_written_to(
    saver: Saver, client: redis.Redis, prefix: str, at: RunnableConfig, part: str
) -> None:
    """What was lost would be covered up by what comes after it."""
    key = getattr(Keyspace(prefix).thread("a"), part)
    client.unlink(key)
    with pytest.raises(CorruptThreadError, match="gone"):
        put(saver, at, said=SAID)
    with pytest.raises(CorruptThreadError, match="gone"):
        saver.put_writes(at, [("said", "three")], "task")
    assert not client.exists(key)
    saver.delete_thread("a")
    put(saver, HERE, said=SAID)
    assert saver.get_tuple(HERE)


def test_what_is_acknowledged_after_the_chunks_were_lost_is_readable(
    saver: Saver, client: redis.Redis, prefix: str, at: RunnableConfig
) -> None:
    """Each turn of a run under way would be acknowledged, and none could be read."""
    client.unlink(Keyspace(prefix).thread("a").chunks)
    with pytest.raises(CorruptThreadError):
        RedisSaver(client, prefix=prefix).get_tuple(at)
    parent, checkpoint = at, None
    for number in range(10):
        said = [*SAID[number:], f"turn {number}"]
        # As other processes do, which know other parts of the thread: some fill it up again.
        saver.put_writes(parent, [("said", said[-3:])], f"task {number}")
        parent, checkpoint = put(saver, parent, checkpoint, said=said)
        found = RedisSaver(client, prefix=prefix).get_tuple(parent)
        assert found
        assert found.checkpoint == checkpoint


def test_a_checkpoint_keeps_nothing_of_a_parent_that_has_lost_its_chunks(
    saver: Saver, client: redis.Redis, prefix: str
) -> None:
    """A value that did not change would be kept by name only, and gone."""
    first, before = put(saver, HERE, said=SAID, large="x" * 5000)
    saver.put_writes(first, [("small", 1)], "task")
    client.unlink(Keyspace(prefix).thread("a").chunks)
    other, _ = put(RedisSaver(client, prefix=prefix), HERE, said=SAID[-3:], large="x" * 600)
    assert other
    config, checkpoint = put(saver, first, before, small="s")
    found = RedisSaver(client, prefix=prefix).get_tuple(config)
    assert found
    assert found.checkpoint == checkpoint


@pytest.mark.parametrize("part", ["timeline", "writes", "chunks"])
def test_an_empty_thread_is_not_taken_for_one_that_has_lost_a_key(
    saver: Saver, client: redis.Redis, prefix: str, at: RunnableConfig, part: str
) -> None:
    """A thread whose runs were all deleted could not be used again."""
    saver.prune(["a"])
    saver.prune(["a"], strategy="delete")
    assert saver.get_tuple(HERE) is None
    assert not client.exists(*Keyspace(prefix).thread("a"))
    config, checkpoint = put(saver, HERE, said=SAID)
    client.unlink(getattr(Keyspace(prefix).thread("b"), part))
    found = saver.get_tuple(config)
    assert found
    assert found.checkpoint == checkpoint
    with suppress(CorruptThreadError):
        saver.get_tuple(at)


@pytest.mark.parametrize("part", ["timeline", "writes"])
def test_a_second_key_that_is_lost_after_the_chunks_is_noticed_as_well(
    saver: Saver, client: redis.Redis, prefix: str, at: RunnableConfig, part: str
) -> None:
    """A server that evicts does not stop at one key: the next one would be missed."""
    keys = Keyspace(prefix).thread("a")
    client.unlink(keys.chunks)
    put(saver, at, said=SAID)
    client.unlink(getattr(keys, part))
    with pytest.raises(CorruptThreadError, match="gone"):
        RedisSaver(client, prefix=prefix).get_tuple(HERE)


# Several keys at once

PARTS = ("timeline", "writes", "chunks")
SOME_LOST = [*combinations(PARTS, 1), *combinations(PARTS, 2)]


def described(saver: Saver, at: RunnableConfig) -> list[object]:
    """All that can be read, each part of it equal or an error."""
    return [_read_or_none(read, saver, at) for read in READS.values()]


def _read_or_none(
    read: Callable[[Saver, RunnableConfig], object], saver: Saver, at: RunnableConfig
) -> object:
    try:
        return read(saver, at)
    except CorruptThreadError:
        return None


@pytest.mark.parametrize("said", [["short"], SAID], ids=["small", "large"])
@pytest.mark.parametrize("use", ["read", "write"])
@pytest.mark.parametrize("lost", SOME_LOST, ids="+".join)
def test_a_thread_of_which_something_is_left_never_reads_as_less(
    saver: Saver,
    client: redis.Redis,
    prefix: str,
    lost: tuple[str, ...],
    use: str,
    said: list[str],
) -> None:
    """An agent would go on from a state that is older than what was acknowledged, or from none."""
    at, checkpoint = put(saver, HERE, said=said)
    saver.put_writes(at, [("said", "written")], "task")
    before = described(saver, at)
    client.unlink(*[getattr(Keyspace(prefix).thread("a"), part) for part in lost])
    if use == "write":
        with suppress(CorruptThreadError):
            saver.put_writes(at, [("said", "more")], "another task")
        with suppress(CorruptThreadError):
            put(saver, HERE, said=["a new beginning"])
        with suppress(CorruptThreadError):
            put(saver, at, checkpoint, said=said)
    fresh = RedisSaver(client, prefix=prefix)
    with suppress(CorruptThreadError):
        assert fresh.get_tuple(HERE), "nothing was there"
    _assert_as_much(fresh, at, before)


def _assert_as_much(saver: RedisSaver, at: RunnableConfig, before: list[object]) -> None:
    now = described(saver, at)
    if now[1] is not None:
        old, new = before[1], now[1]
        assert isinstance(old, CheckpointTuple)
        assert isinstance(new, CheckpointTuple)
        assert new.checkpoint == old.checkpoint
        assert set(map(str, old.pending_writes or ())) <= set(map(str, new.pending_writes or ()))
    if now[2] is not None:
        assert isinstance(now[2], list)
        assert at in [found.config for found in now[2]]


@pytest.mark.parametrize("lost", SOME_LOST, ids="+".join)
def test_what_is_left_of_a_thread_can_be_repaired(
    saver: Saver, client: redis.Redis, prefix: str, lost: tuple[str, ...]
) -> None:
    """A thread that a server has evicted in part could only be deleted."""
    at, checkpoint = put(saver, HERE, said=SAID)
    saver.put_writes(at, [("said", "written")], "task")
    client.unlink(*[getattr(Keyspace(prefix).thread("a"), part) for part in lost])
    assert saver.verify("a")
    assert saver.repair("a")
    saver.repair("a")  # what the first one shows: writes to a checkpoint that had to go
    assert not saver.verify("a")
    at, checkpoint = put(saver, HERE, checkpoint, said=SAID)
    found = saver.get_tuple(HERE)
    assert found
    assert found.checkpoint == checkpoint
