"""Threads that have lost a key: a server evicted it, or somebody deleted it.

Each key of a thread says of the others whether they must be there. So such a thread raises an
error that names the key, when it is read and when it is written to, and never reads as less.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from itertools import combinations
from pathlib import Path
from time import sleep
from typing import Any

import pytest
import redis
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointTuple
from langgraph.checkpoint.conformance.test_utils import generate_checkpoint, generate_metadata
from langgraph.checkpoint.memory import InMemorySaver

from langgraph_checkpoint_redis import (
    CorruptThreadError,
    LeaseLostError,
    RedisSaver,
    ThreadsError,
)
from langgraph_checkpoint_redis._admin.verify.operations import repair_thread
from langgraph_checkpoint_redis._storage.keys import Keyspace
from langgraph_checkpoint_redis.moving import export_threads, migrate

from .commanding import Run
from .driving import Saver
from .putting import put

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


def assert_says_what_to_do(error: CorruptThreadError) -> None:
    for method in ("`repair` (langgraph-redis repair)", "`delete_thread`"):
        assert method in str(error)


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
    assert str(raised.value).startswith("thread 'a': the key is gone")
    assert_says_what_to_do(raised.value)


@pytest.mark.parametrize("part", ["timeline", "writes"])
def test_a_thread_that_has_lost_a_key_is_not_written_to(
    saver: Saver, client: redis.Redis, prefix: str, at: RunnableConfig, part: str
) -> None:
    """What was lost would be covered up by what comes after it."""
    key = getattr(Keyspace(prefix).thread("a"), part)
    client.unlink(key)
    with pytest.raises(CorruptThreadError, match="gone") as raised:
        put(saver, at, said=SAID)
    assert_says_what_to_do(raised.value)
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
    with pytest.raises(CorruptThreadError) as raised:
        RedisSaver(client, prefix=prefix).get_tuple(at)
    assert_says_what_to_do(raised.value)
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


@pytest.mark.parametrize("saver_options", [{"keep_last": 1}], ids=str)
def test_repair_leaves_nothing_of_a_thread_without_rows(
    saver: Saver, client: redis.Redis, prefix: str
) -> None:
    """Threads that nobody finds would take memory for ever."""
    at = HERE
    for _ in range(3):
        at, _ = put(saver, at, said=SAID)
    saver.put_writes(at, [("said", "written")], "task")
    keys = Keyspace(prefix).thread("a")
    client.unlink(keys.timeline, keys.writes)
    assert saver.repair("a")
    assert not client.exists(*keys)


# Walks over all threads


@pytest.fixture
def some(saver: Saver, client: redis.Redis, prefix: str) -> bytes:
    """Three threads, of which one has lost its timeline, whose key this is."""
    for thread_id in ("a", "b", "c"):
        config: RunnableConfig = {"configurable": {"thread_id": thread_id, "checkpoint_ns": ""}}
        at, _ = put(saver, config, said=SAID)
        saver.put_writes(at, [("said", "one")], "task")
    key = Keyspace(prefix).thread("b").timeline
    client.unlink(key)
    return key


WALKS: dict[str, Callable[[Saver], object]] = {
    "list": lambda saver: [*saver.list(None)],
    "list_threads": lambda saver: [*saver.list_threads(idle=1)],
    "prune_threads": lambda saver: saver.prune_threads(keep_last=1),
    "prune_threads, idle": lambda saver: saver.prune_threads(idle=1e6),
}


@pytest.mark.parametrize("walk", WALKS)
@pytest.mark.parametrize("parts", [["timeline"], ["timeline", "writes"]])
def test_a_walk_reports_a_thread_that_has_lost_its_timeline(
    saver: Saver, client: redis.Redis, prefix: str, some: bytes, walk: str, parts: list[str]
) -> None:
    """A conversation that a server evicted would be missing everywhere, without a word."""
    client.unlink(*[getattr(Keyspace(prefix).thread("b"), part) for part in parts])
    with pytest.raises(ThreadsError) as raised:
        WALKS[walk](saver)
    failures = raised.value.failures
    assert [*failures] == ["b"]
    error = failures["b"]
    assert isinstance(error, CorruptThreadError)
    assert error.key == some.decode()


def test_stats_count_a_thread_that_has_lost_its_timeline_as_damaged(
    saver: Saver, some: bytes
) -> None:
    """Who watches a server would see that all is well."""
    stats = saver.stats()
    assert stats.threads == 3
    assert [*stats.damaged] == ["b"]
    assert stats.checkpoints == 2
    with pytest.raises(CorruptThreadError, match="gone"):
        saver.thread_info("b")


def test_a_thread_that_has_lost_its_timeline_is_listed_and_can_be_deleted(
    saver: Saver, client: redis.Redis, prefix: str, some: bytes
) -> None:
    """What a user said would stay although all of the user's threads were deleted."""
    assert sorted(saver.list_threads()) == ["a", "b", "c"]
    assert [*saver.list_threads(prefix="b")] == ["b"]
    for thread_id in saver.list_threads():
        saver.delete_thread(thread_id)
    assert [*saver.list_threads()] == []
    assert [*client.scan_iter(f"{prefix}:{{*}}*")] == []


def test_a_thread_that_has_lost_its_timeline_stops_no_move(
    client: redis.Redis, prefix: str, some: bytes, tmp_path: Path
) -> None:
    """All other threads could not be saved, or this one would be forgotten without a word."""
    source, target = RedisSaver(client, prefix=prefix), InMemorySaver()
    for report in (migrate(source, target), export_threads(source, tmp_path / "threads")):
        assert sorted(report.copied) == ["a", "c"]
        assert [*report.failed] == ["b"]
        assert "gone" in report.failed["b"]
    assert {*target.storage} == {"a", "c"}


def test_commands_find_a_thread_that_has_lost_its_timeline(run: Run, some: bytes) -> None:
    """An operator would be told that there is no such thread, and could not remove it."""
    for words in (["verify"], ["verify", "b"]):
        done = run(*words)
        assert done.code == 1
        assert "the key is gone" in done.out
    assert "damaged" in run("delete", "b", "--yes").out
    assert run("verify").code == 0


def test_what_is_left_of_no_thread_is_no_thread(
    saver: Saver, client: redis.Redis, prefix: str
) -> None:
    """Threads would be found that were never there, or that a repair has ended."""
    keys = Keyspace(prefix).thread("left")
    client.hset(keys.chunks, b"d" * 16, b"\0chunk")
    client.hset(keys.chunks, "trimmed", " 0123456789ab")
    client.hset(keys.control, "deleted", 1)
    at: RunnableConfig = {
        "configurable": {"thread_id": "w", "checkpoint_ns": "", "checkpoint_id": "1"}
    }
    saver.put_writes(at, [("said", "one")], "task")  # those of a checkpoint that never came
    client.zadd(f"{prefix}:{{copied}}:copy:00:timeline", {b"x": 0})
    client.hset(f"{prefix}:{{copied}}:copy:00:chunks", "timeline", 1)
    assert [*saver.list_threads()] == []
    assert saver.stats().threads == 0
    assert [*saver.list(None)] == []
    assert saver.prune_threads(keep_last=1) == 0


# The mark that chunks were lost


def is_marked(client: redis.Redis, prefix: str) -> bool:
    return bool(client.hexists(Keyspace(prefix).thread("a").chunks, "lost"))


def lose_chunks_and_send_them_again(saver: Saver, client: redis.Redis, prefix: str) -> None:
    """All values come back, from a process that knows them."""
    first, before = put(saver, HERE, said=SAID[:20])
    saver.put_writes(first, [("said", "short")], "task")  # so that only the chunks may be lost
    newest, checkpoint = put(saver, first, before, said=SAID)
    client.unlink(Keyspace(prefix).thread("a").chunks)
    for at, said in ((HERE, SAID[:20]), (newest, SAID)):
        put(saver, at, checkpoint, said=said)
    for row in [*saver.list(HERE)]:
        assert row.checkpoint["channel_values"]["said"]


def test_a_thread_whose_chunks_came_back_is_trusted_again_after_a_repair(
    saver: Saver, client: redis.Redis, prefix: str
) -> None:
    """Each write would look at all chunks of a conversation for ever, as they were lost once."""
    lose_chunks_and_send_them_again(saver, client, prefix)
    assert is_marked(client, prefix)
    assert saver.verify("a") == []
    assert is_marked(client, prefix)  # who only looks changes nothing
    assert saver.repair("a") == []
    assert not is_marked(client, prefix)
    assert saver.verify("a") == []


def test_a_thread_that_lacks_chunks_is_trusted_once_they_are_repaired(
    saver: Saver, client: redis.Redis, prefix: str, at: RunnableConfig
) -> None:
    """A repaired thread would stay slow, or one that still lacks something be trusted."""
    client.unlink(Keyspace(prefix).thread("a").chunks)
    newest, _ = put(saver, at, said=SAID[25:])
    assert is_marked(client, prefix)
    assert {problem.kind for problem in saver.repair("a")} == {"lost"}
    assert not is_marked(client, prefix)
    assert saver.verify("a") == []
    assert RedisSaver(client, prefix=prefix).get_tuple(newest)


def test_a_thread_with_a_channel_that_cannot_be_rebuilt_is_not_trusted(
    saver: Saver, client: redis.Redis, prefix: str
) -> None:
    """A checkpoint would be acknowledged that nobody can rebuild."""
    lose_chunks_and_send_them_again(saver, client, prefix)
    newest = saver.get_tuple(HERE)
    assert newest
    checkpoint = generate_checkpoint(channel_values={"n": 1}, channel_versions={"n": 1, "log": 1})
    metadata = generate_metadata(counters_since_delta_snapshot={"log": (1, 1)})
    saver.put(newest.config, checkpoint, metadata, {"n": 1, "log": 1})
    timeline = Keyspace(prefix).thread("a").timeline
    rows: Any = client.zrange(timeline, 0, -1)
    needed = newest.config["configurable"]["checkpoint_id"].encode()
    client.zrem(timeline, *[row for row in rows if row.split(b"\0")[1] == needed])
    kinds = [problem.kind for problem in saver.verify("a")]
    assert "incomplete" in kinds
    saver.repair("a")
    assert is_marked(client, prefix)


MEANWHILE: dict[str, Callable[[RedisSaver, redis.Redis, str], object]] = {
    "a write": lambda saver, _, __: put(saver, HERE, said=SAID[3:]),
    "chunks are lost": lambda saver, client, prefix: [
        client.unlink(Keyspace(prefix).thread("a").chunks),
        put(saver, HERE, said=SAID[-3:]),
    ],
    "a sweep begins": lambda saver, client, prefix: [
        client.sadd(Keyspace(prefix).thread("a").live, "of:another"),
    ],
}


@pytest.mark.parametrize("meanwhile", MEANWHILE)
def test_a_thread_is_trusted_only_if_nothing_happens_while_it_is_looked_at(
    client: redis.Redis, prefix: str, meanwhile: str
) -> None:
    """What was lost in the middle of a repair would be taken for there by the next write."""
    writer, after, is_over = RedisSaver(client, prefix=prefix), 1, False
    while not is_over:
        lose_chunks_and_send_them_again(writer, client, prefix)
        saver = RedisSaver(client, prefix=prefix)
        operation = repair_thread(saver._context, "a")
        request, sent, was_marked = next(operation), 0, True
        with suppress(StopIteration):
            while True:
                reply, sent = saver._reply(request), sent + 1
                if sent == after:
                    was_marked = is_marked(client, prefix)
                    MEANWHILE[meanwhile](RedisSaver(client, prefix=prefix), client, prefix)
                request = operation.send(reply)
        is_over = sent < after
        problems = [one for one in saver.verify("a") if one.kind == "lost"]
        assert is_marked(client, prefix) or not problems
        if was_marked and not is_over and meanwhile != "chunks are lost":  # which is mended at once
            assert is_marked(client, prefix)
        config, checkpoint = put(writer, HERE, said=[*SAID, f"turn {after}"])
        found = RedisSaver(client, prefix=prefix).get_tuple(config)
        assert found
        assert found.checkpoint == checkpoint
        writer.delete_thread("a")
        client.unlink(*Keyspace(prefix).thread("a"))
        after += 1
    assert after > 5


# The control


def life_of(client: redis.Redis, prefix: str, thread_id: str = "a") -> list[int]:
    """In how many seconds each key of a thread expires; -1 for never."""
    keys = [key for key in Keyspace(prefix).thread(thread_id)[:3] if client.exists(key)]
    return [client.ttl(key) for key in keys]


USES: dict[str, Callable[[RedisSaver, RunnableConfig], object]] = {
    "a checkpoint": lambda saver, at: put(saver, at, said=SAID),
    "writes": lambda saver, at: saver.put_writes(at, [("said", "three")], "task"),
    "a read": lambda saver, at: saver.get_tuple(at),
    "a copy": lambda saver, _: saver.copy_thread("a", "b"),
}


@pytest.mark.parametrize("use", USES)
def test_a_pinned_thread_that_has_lost_its_control_stays_for_ever(
    saver: Saver, client: redis.Redis, prefix: str, at: RunnableConfig, use: str
) -> None:
    """A conversation that somebody meant to keep would expire as all others do."""
    saver.pin("a")
    keys = Keyspace(prefix).thread("a")
    client.unlink(keys.control)
    passing = RedisSaver(client, prefix=prefix, ttl=100, refresh_on_read=True)
    USES[use](passing, at)
    for thread_id in ("b",) if use == "a copy" else ("a",):
        assert {*life_of(client, prefix, thread_id)} == {-1}
        info = saver.thread_info(thread_id)
        assert info
        assert info.pinned
    client.unlink(keys.control)
    assert saver.prune_threads(idle=1e-6, prefix="a") == 0
    saver.unpin("a")
    saver.delete_thread("b")
    USES[use](passing, at)
    if use != "a copy":
        assert all(0 < seconds <= 100 for seconds in life_of(client, prefix))
    else:
        info = saver.thread_info("a")
        assert info
        assert not info.pinned


@pytest.mark.parametrize("use", ["a checkpoint", "writes"])
def test_a_thread_that_has_lost_its_control_lives_for_its_own_time(
    saver: Saver, client: redis.Redis, prefix: str, at: RunnableConfig, use: str
) -> None:
    """It would expire in the middle of its use, or much earlier than it was told."""
    saver.set_ttl("a", 1000)
    keys = Keyspace(prefix).thread("a")
    for passing in (RedisSaver(client, prefix=prefix), RedisSaver(client, prefix=prefix, ttl=10)):
        client.unlink(keys.control)
        for key in keys[:4]:
            client.expire(key, 20)
        USES[use](passing, at)
        assert all(900 < seconds <= 1000 for seconds in life_of(client, prefix))


@pytest.mark.parametrize("first", ["a checkpoint", "writes"])
def test_a_thread_that_has_lost_its_control_expires_as_a_whole(
    saver: Saver, client: redis.Redis, prefix: str, first: str
) -> None:
    """What was new after the loss would be left alone, as a damaged thread or a wrong number."""
    expiring, keys = RedisSaver(client, prefix=prefix, ttl=100), Keyspace(prefix).thread("a")
    at: RunnableConfig = {"configurable": {**HERE["configurable"], "checkpoint_id": "0"}}
    if first == "a checkpoint":
        at, _ = put(expiring, HERE, said=SAID)
    else:
        expiring.put_writes(at, [("said", "early")], "task")
    client.unlink(keys.control)
    checkpoint = generate_checkpoint()
    at = saver.put(at, checkpoint, generate_metadata(run_id="run"), {})
    saver.put_writes(at, [("said", "late")], "task")
    assert all(98 <= client.ttl(key) <= 100 for key in keys[:4])


def test_runs_that_were_counted_again_expire_with_their_thread(
    saver: Saver, client: redis.Redis, prefix: str
) -> None:
    """A thread that has expired would count checkpoints, and be reported as damaged."""
    expiring, keys = RedisSaver(client, prefix=prefix, ttl=100), Keyspace(prefix).thread("a")
    expiring.put(HERE, generate_checkpoint(), generate_metadata(run_id="run"), {})
    client.unlink(keys.runs)
    assert saver.repair("a")
    assert 98 <= client.ttl(keys.runs) <= 100


def test_a_control_and_chunks_may_be_lost_one_after_the_other(
    saver: Saver, client: redis.Redis, prefix: str, at: RunnableConfig
) -> None:
    """What is noted in two places would be gone from both, although nobody lost both at once."""
    saver.pin("a")
    keys = Keyspace(prefix).thread("a")
    passing = RedisSaver(client, prefix=prefix, ttl=100)
    for _ in range(2):
        for key in (keys.control, keys.chunks):
            client.unlink(key)
            at, _ = put(passing, at, said=SAID)
            assert {*life_of(client, prefix)} == {-1}


def test_a_copy_of_a_time_to_live_does_not_hide_that_chunks_were_lost(
    saver: Saver, client: redis.Redis, prefix: str, at: RunnableConfig
) -> None:
    """A thread without its chunks would seem to be one that never had any."""
    keys = Keyspace(prefix).thread("a")
    client.unlink(keys.chunks)
    saver.pin("a")
    assert not client.exists(keys.chunks)
    put(saver, at, said=SAID)
    assert is_marked(client, prefix)


def test_a_lease_whose_control_is_lost_ends(
    saver: Saver, client: redis.Redis, prefix: str, at: RunnableConfig
) -> None:
    """Two runs would both believe that they alone write to the thread."""
    other, keys = RedisSaver(client, prefix=prefix), Keyspace(prefix).thread("a")
    with other.lease("a"):
        put(other, at, said=SAID)
        client.unlink(keys.control)
        with pytest.raises(LeaseLostError):
            put(other, at, said=SAID)
    put(saver, at, said=SAID)


def test_a_thread_that_expires_does_so_after_its_chunks_were_lost(
    saver: Saver, client: redis.Redis, prefix: str
) -> None:
    """A thread could never be used again once it has expired."""
    keys = Keyspace(prefix).thread("a")
    expiring = RedisSaver(client, prefix=prefix, ttl=0.5)
    at, before = put(expiring, HERE, said="one")
    put(expiring, at, before, said="two")
    client.unlink(keys.chunks)
    assert saver.repair("a")
    assert client.exists(keys.chunks)
    assert saver.get_tuple(HERE)
    sleep(0.6)
    assert saver.get_tuple(HERE) is None
    assert not client.exists(keys.chunks)
    put(saver, HERE, said="three")


def test_pruning_a_thread_without_chunks_leaves_what_could_be_read(
    saver: Saver, client: redis.Redis, prefix: str
) -> None:
    """A thread could not be used any more, since somebody made room."""
    at, before = put(saver, HERE, said="one")
    saver.put_writes(at, [("said", "more")], "task")
    put(saver, at, before, said="two")
    client.unlink(Keyspace(prefix).thread("a").chunks)
    fresh = RedisSaver(client, prefix=prefix)
    for _ in range(2):
        found = fresh.get_tuple(HERE)
        assert found
        assert found.checkpoint["channel_values"] == {"said": "two"}
        saver.prune(["a"])
    assert found
    put(saver, found.config, found.checkpoint, said="three")
