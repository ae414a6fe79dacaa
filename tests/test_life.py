"""The life of a thread: expiry, deletion that stays, leases and conflicts, on a real clock."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from datetime import timedelta
from multiprocessing import get_context
from typing import Any

import pytest
import redis
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver, Checkpoint
from langgraph.checkpoint.conformance.test_utils import (
    generate_checkpoint,
    generate_config,
    generate_metadata,
)
from langgraph.graph import START, MessagesState, StateGraph

from langgraph_checkpoint_redis import (
    AsyncRedisSaver,
    ConfigError,
    ConflictError,
    LeaseLostError,
    RedisSaver,
    ThreadDeletedError,
    ThreadLeasedError,
    ThreadNotFoundError,
)
from langgraph_checkpoint_redis._storage.keys import Keyspace, ThreadKeys

from .driving import Driver, Graph, Saver

A: RunnableConfig = {"configurable": {"thread_id": "a"}}
LARGE = [f"{number:600}" for number in range(8)]
LONG = {"ttl": 100}

options = pytest.mark.parametrize


def checkpoint_of(saver: Saver, value: object = LARGE) -> Checkpoint:
    version = saver.get_next_version(None, None)
    return generate_checkpoint(channel_values={"c": value}, channel_versions={"c": version})


def put(
    saver: Saver, at: RunnableConfig = A, value: object = LARGE, **metadata: Any
) -> RunnableConfig:
    checkpoint = checkpoint_of(saver, value)
    at = {"configurable": {"checkpoint_ns": "", **at["configurable"]}}
    metadata_ = generate_metadata(**metadata)
    return saver.put(at, checkpoint, metadata_, checkpoint["channel_versions"])


def write(saver: Saver, at: RunnableConfig) -> None:
    saver.put_writes(at, [("c", [*LARGE, "more" * 300])], "task")


def graph(saver: BaseCheckpointSaver[str]) -> Graph:
    """A chat of one node."""
    chat = StateGraph(MessagesState).add_node("chat", lambda _: {"messages": [("ai", "hello")]})
    return chat.add_edge(START, "chat").compile(checkpointer=saver)


@pytest.fixture
def other(client: redis.Redis, prefix: str) -> RedisSaver:
    """A saver of another process, without options."""
    return RedisSaver(client, prefix=prefix)


@pytest.fixture
def keys(prefix: str) -> ThreadKeys:
    """The keys of thread `a`."""
    return Keyspace(prefix).thread("a")


@pytest.fixture
def lives(client: redis.Redis, keys: ThreadKeys) -> Callable[[], set[int]]:
    """The seconds that the keys of thread `a` live on: one number, or -1 for ever."""

    def seconds() -> set[int]:
        with client.pipeline() as pipeline:  # at one moment, as MULTI stops the clock
            for key in keys:
                pipeline.pttl(key)
            left = [milliseconds for milliseconds in pipeline.execute() if milliseconds != -2]
        assert max(left) - min(left) <= 1, "a part of the thread would go before the rest"
        return {round(milliseconds / 1000) if milliseconds >= 0 else -1 for milliseconds in left}

    return seconds


def expire(client: redis.Redis, keys: ThreadKeys) -> None:
    """Let a thread live for 50 seconds, as if it had been used some time ago."""
    deadline = int(time.time() * 1000) + 50_000
    client.hset(keys.control, "deadline", deadline)
    for key in keys:
        client.pexpireat(key, deadline)


def left_over(client: redis.Redis, prefix: str) -> list[bytes]:
    return [*client.scan_iter(f"{prefix}:*")]


def eventually(holds: Callable[[], bool], seconds: float = 5) -> bool:
    end = time.monotonic() + seconds
    while not (held := holds()) and time.monotonic() < end:
        time.sleep(0.02)
    return held


# Expiry


@options("saver_options", [{"ttl": 0.2}], ids=str)
def test_a_thread_expires_with_all_that_it_has(
    saver: Saver, client: redis.Redis, prefix: str
) -> None:
    """The server would fill up with what nobody asks for any more."""
    write(saver, put(saver, run_id="run"))
    put(saver, generate_config("b", checkpoint_ns="child:1"))
    assert eventually(lambda: not left_over(client, prefix))
    assert saver.get_tuple(A) is None


@options("act", ["put", "put_writes"])
def test_a_thread_that_is_used_as_it_expires_does_so_as_a_whole(
    saver: Saver, other: RedisSaver, client: redis.Redis, prefix: str, keys: ThreadKeys, act: str
) -> None:
    """A key that is new would be left alone: nobody could use the thread's id ever again."""
    at = put(RedisSaver(client, prefix=prefix, ttl=100), run_id="run")
    # As in the millisecond when the deadline has come, but keys are not gone yet.
    client.hset(keys.control, "deadline", int(time.time() * 1000) - 1)
    if act == "put":
        put(other, at, "more", run_id="another run")
    else:
        write(other, at)
    assert eventually(lambda: not client.exists(*keys), seconds=1)
    put(saver)
    assert saver.verify("a") == []


@options("saver_options", [{"ttl": timedelta(seconds=100)}], ids=str)
@options("writer_says", ["a time", "nothing"])
def test_whoever_writes_a_thread_stays_in_one_piece(
    saver: Saver,
    other: RedisSaver,
    client: redis.Redis,
    keys: ThreadKeys,
    lives: Callable[[], set[int]],
    writer_says: str,
) -> None:
    """One channel of a thread would be gone while the rest goes on."""
    first = put(saver)
    assert lives() == {100}
    expire(client, keys)
    writer: Saver = saver if writer_says == "a time" else other
    last = put(writer, first, "new", run_id="run")  # a key more
    write(writer, last)  # and one more
    assert lives() == {100 if writer is saver else 50}
    saver.prune(["a"])
    assert len(lives()) == 1


@options("saver_options", [{"ttl": 100, "refresh_on_read": True}, LONG], ids=str)
def test_reading_counts_as_use_on_request(
    saver: Saver,
    saver_options: dict[str, Any],
    client: redis.Redis,
    keys: ThreadKeys,
    lives: Callable[[], set[int]],
) -> None:
    """A thread that is looked at every day would vanish, or one that a crawler reads never."""
    put(saver)
    expire(client, keys)
    assert saver.get_tuple(A)
    assert lives() == {100 if "refresh_on_read" in saver_options else 50}
    assert saver.get_tuple(generate_config("nobody")) is None


@options(
    "saver_options",
    [{"ttl": {"default_ttl": 1.5, "refresh_on_read": True, "sweep_interval_minutes": 5}}],
    ids=str,
)
def test_langgraphs_own_setting_is_understood(
    saver: Saver, lives: Callable[[], set[int]], client: redis.Redis, keys: ThreadKeys
) -> None:
    """A configuration that moves here would be read as seconds, or not at all."""
    put(saver)
    assert lives() == {90}
    expire(client, keys)
    saver.get_tuple(A)
    assert lives() == {90}


@options("saver_options", [{}, LONG], ids=str)
def test_a_thread_may_have_its_own_time(
    saver: Saver,
    saver_options: dict[str, Any],
    other: RedisSaver,
    lives: Callable[[], set[int]],
) -> None:
    """A guest's conversation would stay as long as a customer's."""
    default = {saver_options.get("ttl", -1)}
    at = put(saver, {"configurable": {"thread_id": "a", "ttl": timedelta(seconds=7)}})
    assert lives() == {7}
    at = put(other, at)
    assert lives() == {7}
    saver.set_ttl("a", 30)
    assert lives() == {30}
    at["configurable"]["ttl"] = 20
    write(saver, at)
    assert lives() == {20}
    saver.set_ttl("a", None)
    assert lives() == default
    saver.pin("a")
    put(saver, at)
    assert lives() == {-1}
    saver.unpin("a")
    assert lives() == default


def test_only_a_thread_that_there_is_can_be_given_a_time(
    saver: Saver, client: redis.Redis, prefix: str
) -> None:
    """A typing mistake in a thread id would look like success."""
    calls: list[Callable[[], None]] = [
        lambda: saver.set_ttl("no", 1),
        lambda: saver.pin("no"),
        lambda: saver.unpin("no"),
    ]
    for call in calls:
        with pytest.raises(ThreadNotFoundError, match="'no'"):
            call()
    assert left_over(client, prefix) == []


@options("saver_options", [{"ttl": 0.4}], ids=str)
def test_runs_are_found_as_long_as_their_thread_lives(
    saver: Saver, client: redis.Redis, prefix: str
) -> None:
    """Rolling back a run would leave its checkpoints, in a thread that was used all the time."""
    first = put(saver, run_id="first")
    at = first
    end = time.monotonic() + 4 * 0.4
    while time.monotonic() < end:
        at = put(saver, at, run_id="later")
        time.sleep(0.05)
    saver.delete_for_runs(["first"])
    assert saver.get_tuple(first) is None
    assert saver.get_tuple(at)
    assert eventually(lambda: not left_over(client, prefix))


@options("saver_options", [LONG], ids=str)
def test_a_copy_lives_as_long_as_its_source(
    saver: Saver, other: RedisSaver, client: redis.Redis, prefix: str
) -> None:
    """Copies would stay for ever, or what is added to them would."""
    put(saver)
    other.copy_thread("a", "b")
    write(other, put(other, generate_config("b")))
    left = [client.ttl(key) for key in Keyspace(prefix).thread("b") if client.exists(key)]
    assert min(left) >= 95
    saver.pin("a")
    saver.copy_thread("a", "c")
    put(saver, generate_config("c"))
    assert client.ttl(Keyspace(prefix).thread("c").timeline) == -1


@options("saver_options", [LONG], ids=str)
def test_a_time_that_was_set_for_a_thread_outlasts_the_next_write(
    saver: Saver, other: RedisSaver, lives: Callable[[], set[int]]
) -> None:
    """A thread that was given a longer life would go when the savers say, after its next turn."""
    put(saver)
    saver.set_ttl("a", 500)
    for writer in (saver, other):
        put(writer)
        assert lives() == {500}


@options("saver_options", [{"ttl": 0.15}], ids=str)
def test_a_thread_that_begins_anew_owes_nothing_to_the_expired_one(
    saver: Saver, other: RedisSaver, client: redis.Redis, keys: ThreadKeys
) -> None:
    """A new conversation would vanish at once, or keep the time of the one before."""
    with other.lease("a"):  # so that the control of the thread outlives it
        put(other, {"configurable": {"thread_id": "a", "ttl": 0.1}})
        assert eventually(lambda: not client.exists(keys.timeline))
    put(other)
    assert client.ttl(keys.timeline) == -1


@options("ttl", [0, -1, True, "1", {"ttl": 1}, {"default_ttl": "1"}, timedelta(0), 1e12], ids=str)
@options("saver_class", [RedisSaver, AsyncRedisSaver])
def test_a_wrong_time_is_refused(saver_class: type, ttl: Any) -> None:
    """Threads would vanish at once, or never."""
    with pytest.raises(ConfigError, match="ttl"):
        saver_class("redis://nowhere.invalid", ttl=ttl)


@options("option", ["tombstone", "on_conflict", "refresh_on_read"])
@options("saver_class", [RedisSaver, AsyncRedisSaver])
def test_a_wrong_option_is_refused_by_its_name(saver_class: type, option: str) -> None:
    """What was meant to protect threads would be off, and nobody would know."""
    with pytest.raises(ConfigError, match=option):
        saver_class("redis://nowhere.invalid", **{option: "no"})


@options("wrong", [0, "1", [1]])
def test_a_wrong_time_in_a_config_is_refused(
    saver: Saver, client: redis.Redis, prefix: str, wrong: Any
) -> None:
    """A thread would be stored with a time that nobody meant."""
    at: RunnableConfig = {"configurable": {"thread_id": "a", "checkpoint_id": "1", "ttl": wrong}}
    with pytest.raises(ConfigError, match="ttl"):
        put(saver, at)
    with pytest.raises(ConfigError, match="ttl"):
        write(saver, at)
    with pytest.raises(ConfigError, match="ttl"):
        saver.set_ttl("a", wrong)
    assert left_over(client, prefix) == []


# Deletion


def test_deletion_takes_writes_whose_checkpoint_never_came(
    saver: Saver, client: redis.Redis, prefix: str
) -> None:
    """What users want to have deleted would stay."""
    write(saver, generate_config("a", checkpoint_id="never"))
    saver.delete_thread("a")
    assert left_over(client, prefix) == []


@options("saver_options", [{"tombstone": 0.5}], ids=str)
def test_a_run_that_began_before_the_deletion_brings_nothing_back(
    saver: Saver, other: RedisSaver, client: redis.Redis, prefix: str, keys: ThreadKeys
) -> None:
    """Half a thread would be there again after its user had it deleted."""
    root = put(saver)
    child = put(saver, generate_config("a", checkpoint_ns="child:1"))
    saver.delete_thread("a")
    early = generate_config("a", checkpoint_id=checkpoint_of(saver)["id"])
    for writer in (saver, other):
        for late in (root, child):
            with pytest.raises(ThreadDeletedError, match="'a'"):
                put(writer, late)
            with pytest.raises(ThreadDeletedError, match="'a'"):
                write(writer, late)
    called = {"parents": {"": root["configurable"]["checkpoint_id"]}}
    with pytest.raises(ThreadDeletedError):
        put(saver, generate_config("a", checkpoint_ns="child:2"), **called)
    checkpoint = checkpoint_of(saver)
    refused = generate_config("a", checkpoint_id=checkpoint["id"])
    write(saver, refused)  # before its checkpoint, as tasks may
    with pytest.raises(ThreadDeletedError):
        saver.put(root, checkpoint, generate_metadata(), checkpoint["channel_versions"])
    with pytest.raises(ThreadDeletedError):
        write(saver, refused)
    assert not client.exists(keys.timeline, keys.writes)
    assert early != refused
    saver.delete_thread("a")  # frees the chunks of those early writes
    assert eventually(lambda: not left_over(client, prefix))
    put(saver, root)  # nobody is expected to be that late


@options("saver_options", [{"tombstone": 60}], ids=str)
def test_a_thread_can_begin_anew_right_after_its_deletion(saver: Saver, drive: Driver) -> None:
    """A user who clears a conversation could not go on talking."""
    for _ in range(3):
        for turn in range(1, 3):
            said = drive.invoke(graph(drive.saver), {"messages": [("user", "hello")]}, A)
            assert len(said["messages"]) == 2 * turn
        saver.delete_thread("a")
        assert saver.get_tuple(A) is None


# One writer at a time

CHANGES: dict[str, Callable[[Saver, RunnableConfig], object]] = {
    "put": put,
    "put_writes": write,
    "delete_thread": lambda saver, _: saver.delete_thread("a"),
    "prune": lambda saver, _: saver.prune(["a"]),
    "delete_for_runs": lambda saver, _: saver.delete_for_runs(["run"]),
    "set_ttl": lambda saver, _: saver.set_ttl("a", 60),
    "pin": lambda saver, _: saver.pin("a"),
}


@options("change", CHANGES)
def test_only_who_has_the_lease_changes_a_thread(
    saver: Saver, other: RedisSaver, change: str
) -> None:
    """Two runs would write over each other in spite of the lease."""
    at = put(saver, run_id="run")
    with other.lease("a"):
        before = saver.get_tuple(A)
        with pytest.raises(ThreadLeasedError, match="'a'"):
            CHANGES[change](saver, at)
        assert saver.get_tuple(A) == before
        put(saver, generate_config("b"))
        CHANGES[change](other, at)
    put(saver)


def test_a_lease_is_had_by_one_at_a_time_and_given_back(
    client: redis.Redis, prefix: str, other: RedisSaver
) -> None:
    """Nobody could write any more, or everybody could."""
    mine = RedisSaver(client, prefix=prefix)
    with mine.lease("a"):
        with pytest.raises(ThreadLeasedError), other.lease("a"):
            pass
        put(mine)
    with suppress(ZeroDivisionError), other.lease("a"):
        put(other)
        raise ZeroDivisionError
    put(mine)
    mine.delete_thread("a")
    assert left_over(client, prefix) == []


def test_who_lost_the_lease_cannot_write(
    client: redis.Redis, prefix: str, other: RedisSaver
) -> None:
    """A process that was paused would write over what others did meanwhile."""
    mine = RedisSaver(client, prefix=prefix)
    with mine.lease("a", ttl=0.15) as renew:
        at = put(mine)
        for _ in range(5):
            time.sleep(0.08)
            renew()
        for _ in range(5):
            time.sleep(0.08)
            at = put(mine, at)
        time.sleep(0.2)
        with pytest.raises(LeaseLostError, match="'a'"):
            put(mine, at)
        with pytest.raises(LeaseLostError):
            renew()
        with other.lease("a"):
            put(other, at)
            with pytest.raises(LeaseLostError):
                write(mine, at)
    put(other, at)


def test_a_lease_belongs_to_its_block_and_not_to_the_saver(server: str, prefix: str) -> None:
    """Another request in the same process would write as if it had the lease."""

    async def one(saver: AsyncRedisSaver, got: asyncio.Event, done: asyncio.Event) -> None:
        async with saver.alease("a") as renew:
            got.set()
            await done.wait()
            await renew()
            said = await graph(saver).ainvoke({"messages": [("user", "hello")]}, A)
            assert len(said["messages"]) == 2

    async def both() -> None:
        got, done = asyncio.Event(), asyncio.Event()
        async with AsyncRedisSaver.from_conn_string(server, prefix=prefix) as saver:
            task = asyncio.create_task(one(saver, got, done))
            await got.wait()
            checkpoint = generate_checkpoint()
            with pytest.raises(ThreadLeasedError):
                await saver.aput(generate_config("a"), checkpoint, generate_metadata(), {})
            with pytest.raises(ThreadLeasedError):
                async with saver.alease("a"):
                    pass
            done.set()
            await task

    asyncio.run(both())


@options("saver_options", [{"on_conflict": "error"}, {}], ids=str)
def test_a_thread_that_moved_on_is_not_forked_by_accident(
    saver: Saver, saver_options: dict[str, Any], other: RedisSaver
) -> None:
    """Of two answers to one message, the later would hide the earlier."""
    put(other)
    read = saver.get_tuple(A)
    assert read
    parent = generate_config("a", checkpoint_id=read.config["configurable"]["checkpoint_id"])
    latest = put(other, parent)
    if not saver_options:
        put(saver, parent)
        return
    with pytest.raises(ConflictError) as raised:
        put(saver, parent)
    assert raised.value.parent == parent["configurable"]["checkpoint_id"]
    assert raised.value.latest == latest["configurable"]["checkpoint_id"]
    found = saver.get_tuple(A)
    assert found
    assert found.config == latest
    put(saver, latest)
    assert saver.get_tuple(parent)  # by its id: a fork is meant
    put(saver, parent)


def test_a_fork_is_meant_whatever_else_the_process_does(
    client: redis.Redis, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Among many long threads, who goes back to an earlier answer would be refused now and then."""
    monkeypatch.setattr("langgraph_checkpoint_redis._core.state.KNOWN_BYTES", 0)
    saver = RedisSaver(client, prefix=prefix, on_conflict="error")
    first = put(saver)
    put(saver, first)
    with pytest.raises(ConflictError):
        put(saver, first)
    assert saver.get_tuple(first)
    put(saver, first)


# Many at a time, in several processes


def _count_up(url: str, prefix: str, times: int) -> None:
    saver = RedisSaver(url, prefix=prefix)
    for _ in range(times):
        while True:
            with suppress(ThreadLeasedError), saver.lease("a"):
                found = saver.get_tuple(A)
                before = found.checkpoint["channel_values"]["c"] if found else 0
                put(saver, found.config if found else A, before + 1)
                break
            time.sleep(0.001)
    saver.close()


def _write_until_deleted(url: str, prefix: str, name: str) -> int:
    saver = RedisSaver(url, prefix=prefix)
    at, written = put(saver, run_id=name), 0
    with suppress(ThreadDeletedError):
        while True:
            at = put(saver, at, [f"{name} {written:600}"] * 3, run_id=name)
            write(saver, at)
            written += 1
    saver.close()
    return written


@pytest.fixture
def processes() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(3, mp_context=get_context("spawn")) as pool:
        yield pool


def test_writers_with_a_lease_lose_nothing_of_each_other(
    processes: ProcessPoolExecutor, server: str, prefix: str, other: RedisSaver
) -> None:
    """Messages would be missing from a conversation with two clients."""
    for running in [processes.submit(_count_up, server, prefix, 30) for _ in range(3)]:
        running.result(timeout=60)
    found = other.get_tuple(A)
    assert found
    assert found.checkpoint["channel_values"]["c"] == 90


def test_no_late_writer_brings_a_thread_back(
    processes: ProcessPoolExecutor, server: str, prefix: str, client: redis.Redis, keys: ThreadKeys
) -> None:
    """Deleted data would come back, whenever a run was busy at that moment."""
    saver = RedisSaver(client, prefix=prefix, tombstone=60)
    for turn in range(5):
        running = [
            processes.submit(_write_until_deleted, server, prefix, f"{turn} {number}")
            for number in range(3)
        ]
        assert eventually(lambda: client.zcard(keys.timeline) > 20, 30)
        saver.delete_thread("a")
        while not all(writer.done() for writer in running):
            time.sleep(0.1)
            saver.delete_thread("a")  # those that had not begun yet may begin anew
        assert sum(writer.result() for writer in running) > 0
        assert not client.exists(keys.timeline, keys.writes, keys.chunks)


@pytest.mark.parametrize("saver_options", [{"tombstone": 60}], ids=str)
def test_a_new_run_whose_subgraph_is_stored_first_is_not_taken_for_a_late_one(
    saver: Saver,
) -> None:
    """A user could not begin anew after a deletion, as checkpoints are stored in no order."""

    def store(namespace: str, checkpoint_id: str, parent: str = "", **metadata: Any) -> None:
        at = generate_config("a", checkpoint_ns=namespace, checkpoint_id=parent or None)
        checkpoint = generate_checkpoint(
            checkpoint_id=checkpoint_id, channel_values={"c": 1}, channel_versions={"c": "1"}
        )
        saver.put(at, checkpoint, generate_metadata(**metadata), {"c": "1"})

    store("", "1")
    saver.delete_thread("a")
    store("sub:1", "3", parents={"": "2"})
    store("", "2")
    store("", "5", parent="4")  # as a parent may have been pruned
    with pytest.raises(ThreadDeletedError):
        store("", "6", parent="1")
    with pytest.raises(ThreadDeletedError):
        store("", "7", parent="6")  # what was refused is not gone on from either
