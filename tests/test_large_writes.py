"""Large writes: their chunks go ahead in parts, and the row comes last.

Parts are so small here that a short list takes many. Between any two calls anything may happen; a
write is stored as it was meant, or refused, and costs no other write.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from itertools import count, islice
from random import Random
from typing import Any

import pytest
import redis
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import ChannelVersions
from langgraph.checkpoint.conformance.test_utils import generate_checkpoint, generate_metadata

from langgraph_checkpoint_redis import RedisSaver, ThreadDeletedError, ThreadLeasedError
from langgraph_checkpoint_redis._core import new_chunks, removing, writing
from langgraph_checkpoint_redis._protocol.requests import Call, Operation
from langgraph_checkpoint_redis._scripts import load
from langgraph_checkpoint_redis._scripts.load import PRUNE, PUT_CHUNKS
from langgraph_checkpoint_redis._storage.keys import Keyspace

from .driving import Saver
from .stepping import requests_of
from .stored import chunks_at
from .story import thread

ON_ONE_SERVER = True  # `make test-servers` has all of them

SaverOn = Callable[..., Saver]

RANDOM = Random(0)
VALUE = [RANDOM.randbytes(600) for _ in range(60)]
OLD = [*VALUE[:20], *[RANDOM.randbytes(600) for _ in range(20)]]
NEW = thread("a", checkpoint_ns="")

options = pytest.mark.parametrize


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a list of some messages take many parts, and a removal take many calls."""
    for name, number in (("MANY", 10), ("PART", 7), ("PART_NODES", 2)):
        monkeypatch.setattr(new_chunks, name, number)
    steps = PRUNE.source.replace("local STEPS = 1000", "local STEPS = 5")
    assert steps != PRUNE.source
    monkeypatch.setattr(load, "PRUNE", replace(PRUNE, source=steps))


@pytest.fixture
def other(client: redis.Redis, prefix: str) -> RedisSaver:
    """A saver of another process."""
    return RedisSaver(client, prefix=prefix)


def put_arguments(value: object, version: str = "2") -> tuple[Any, ...]:
    versions: ChannelVersions = {"c": version}
    checkpoint = generate_checkpoint(channel_values={"c": value}, channel_versions=versions)
    return checkpoint, generate_metadata(), versions


def old_thread(saver: Saver | RedisSaver) -> RunnableConfig:
    """A thread with a checkpoint that has part of the value."""
    return saver.put(NEW, *put_arguments(OLD, "1"))


WRITES: dict[str, Callable[[RedisSaver, RunnableConfig], Operation[Any]]] = {
    "put": lambda saver, at: writing.put(saver._context, at, *put_arguments(VALUE)),
    "put_writes": lambda saver, at: writing.put_writes(
        saver._context, at, [("c", VALUE)], "task", ""
    ),
}


def found_in(saver: Saver | RedisSaver, write: str) -> object:
    """What a write has stored, if it has."""
    found = saver.get_tuple(thread("a"))
    if write == "put":
        return found and found.checkpoint["channel_values"]["c"]
    return found and next((value for _, _, value in found.pending_writes or ()), None)


@options("write", WRITES)
def test_a_script_takes_a_bounded_number_and_size_of_chunks(
    client: redis.Redis, prefix: str, other: RedisSaver, write: str
) -> None:
    """A conversation of 60 MB would stop the server for half a second."""
    value = [RANDOM.randbytes(600) for _ in range(9000)]
    writer = RedisSaver(client, prefix=prefix, compression="zlib")
    at = writer.put(NEW, *put_arguments(["small"], "1"))
    operation = (
        writing.put(writer._context, at, *put_arguments(value))
        if write == "put"
        else writing.put_writes(writer._context, at, [("c", value)], "task", "")
    )
    calls = [one for one in requests_of(writer, operation) if isinstance(one, Call)]
    assert len(calls) > 10
    assert max(len(call.args) for call in calls) < 2100
    assert max(sum(len(str(arg)) for arg in call.args) for call in calls) < 5_000_000
    assert found_in(other, write) == value
    assert other.verify("a") == []


def test_one_large_piece_takes_one_call(client: redis.Redis, prefix: str) -> None:
    """A file would take more round trips, and nothing be gained."""
    writer = RedisSaver(client, prefix=prefix)
    value = RANDOM.randbytes(5_000_000)
    requests = [*requests_of(writer, writing.put(writer._context, NEW, *put_arguments(value)))]
    assert len(requests) == 1


@pytest.mark.usefixtures("small_parts")
@options("write", WRITES)
@options("saver_options", [{}, {"ttl": 3600}, {"keep_last": 1}, {"compression": "zlib"}], ids=str)
def test_a_large_write_is_read_as_it_was_written(
    saver: Saver, other: RedisSaver, client: redis.Redis, prefix: str, write: str
) -> None:
    """A large state would be stored with a part missing, or expire in a minute."""
    at = NEW
    for number, value in enumerate((VALUE, OLD, VALUE[::-1], [*VALUE, *OLD])):
        if write == "put":
            at = saver.put(at, *put_arguments(value, str(number)))
        else:
            at = saver.put(at, *put_arguments(["small"], str(number)))
            saver.put_writes(at, [("c", value)], "task")
        assert found_in(saver, write) == found_in(other, write) == value
    assert [one for one in other.verify("a") if one.kind != "garbage"] == []
    ttls = {client.ttl(key) for key in Keyspace(prefix).thread("a")[:3] if client.exists(key)}
    assert max(ttls) - min(ttls) <= 1
    assert ttls == {-1} or min(ttls) > 3000


@pytest.mark.usefixtures("small_parts")
@options("write", ["put", "put_writes"])
def test_chunks_that_come_ahead_of_a_thread_expire_until_its_first_row_is_there(
    client: redis.Redis, prefix: str, other: RedisSaver, write: str
) -> None:
    """A process that is killed would leave chunks that no command finds; or all would expire."""
    chunks = Keyspace(prefix).thread("a").chunks
    at = thread("a", checkpoint_ns="", checkpoint_id="1")
    requests = requests_of(other, WRITES[write](other, at if write == "put_writes" else NEW))
    begun = [*islice(requests, 5)]
    assert {request.name for request in begun} == {"put_chunks"}
    assert 50 < client.ttl(chunks) <= 60
    assert [*other.list_threads()] == []
    another = RedisSaver(client, prefix=prefix)  # whoever comes first makes them stay
    another.put(NEW, *put_arguments(["small"], "1"))
    assert client.ttl(chunks) == -1
    assert [*requests]
    assert client.ttl(chunks) == -1


@pytest.mark.usefixtures("small_parts")
def test_whoever_reads_a_thread_before_its_first_row_changes_nothing(
    client: redis.Redis, prefix: str, other: RedisSaver
) -> None:
    """What a killed process has left would stay, and the thread expire that comes to be."""
    keys = Keyspace(prefix).thread("a")
    requests = requests_of(other, WRITES["put"](other, NEW))
    assert [*islice(requests, 3)]
    reader = RedisSaver(client, prefix=prefix, ttl=1000, refresh_on_read=True)
    assert reader.get_tuple(NEW) is None
    assert 50 < client.ttl(keys.chunks) <= 60
    assert not client.exists(keys.control)
    assert [*requests]
    assert client.ttl(keys.chunks) == client.ttl(keys.timeline) == -1


@pytest.mark.usefixtures("small_parts")
@options("write", WRITES)
def test_a_large_write_that_stops_anywhere_changes_nothing(
    client: redis.Redis, prefix: str, other: RedisSaver, write: str
) -> None:
    """A killed process would leave a checkpoint without its messages."""
    for after in count(1):
        at = old_thread(other)
        before = other.get_tuple(thread("a"))
        writer = RedisSaver(client, prefix=prefix)
        reached = [*islice(requests_of(writer, WRITES[write](writer, at)), after)]
        if reached[-1].name != "put_chunks":
            assert after > 8
            break
        assert other.get_tuple(thread("a")) == before
        assert {one.kind for one in other.verify("a")} <= {"garbage"}
        other.prune(["a"])
        assert other.verify("a") == []
        other.delete_thread("a")
        assert [*client.scan_iter(f"{prefix}:*")] == []


def prune_halfway(other: RedisSaver, _: RunnableConfig) -> None:
    """Begin a removal of many calls, and break it off while it frees."""
    for request in requests_of(other, removing.prune(other._context, "a", "keep_latest")):
        assert isinstance(request, Call)
        if request.args[1] == b"chunks":
            return


def marking(other: RedisSaver, _: RunnableConfig) -> None:
    """Begin a removal of many calls, and break it off while it marks."""
    [*islice(requests_of(other, removing.prune(other._context, "a", "keep_latest")), 2)]


def _client_of(saver: RedisSaver) -> Any:
    return saver._redis


def _lose_chunks(other: RedisSaver, at: RunnableConfig) -> None:
    """Lose the chunks of a thread that has both checkpoints and writes, so nothing else."""
    other.put_writes(at, [("x", 1)], "other")
    _client_of(other).unlink(other._shared.keyspace.thread("a").chunks)


MEANWHILE: dict[str, Callable[[RedisSaver, RunnableConfig], object]] = {
    "prune": lambda other, _: other.prune(["a"]),
    "prune that is broken off": prune_halfway,
    "prune that marks": marking,
    "put": lambda other, at: other.put(at, *put_arguments(OLD[::-1], "3")),
    "delete": lambda other, _: other.delete_thread("a"),
    "chunks are lost": _lose_chunks,
    "repair": lambda other, _: other.repair("a"),
}


@pytest.mark.usefixtures("small_parts")
@options("write", WRITES)
@options("event", MEANWHILE)
def test_a_large_write_is_whole_whatever_happens_meanwhile(
    client: redis.Redis, prefix: str, other: RedisSaver, write: str, event: str
) -> None:
    """A write would be acknowledged, and nobody could read it."""
    for after in count(1, 3):
        at = old_thread(other)
        for number in range(3):  # what a removal has to do
            other.put(at, *put_arguments([*OLD, f"{number}" * 600], str(number)))
        writer = RedisSaver(client, prefix=prefix)
        at = other.get_tuple(thread("a")).config  # type: ignore[union-attr] # it is there
        requests = requests_of(writer, WRITES[write](writer, at))
        reached = [*islice(requests, after)]
        if reached[-1].name != "put_chunks":
            break
        MEANWHILE[event](other, at)
        assert [*requests]
        reader = RedisSaver(client, prefix=prefix)
        if event == "put":  # its checkpoint may be the newer one
            listed = [*reader.list(thread("a"))]
            states = [one.checkpoint["channel_values"]["c"] for one in listed]
            writes = [value for one in listed for _, _, value in one.pending_writes or ()]
            assert VALUE in (states if write == "put" else writes)
        elif write == "put":
            assert found_in(reader, write) == VALUE
        elif event == "delete":  # the writes came after their checkpoint went
            assert reader.get_tuple(thread("a")) is None
        elif event != "chunks are lost":
            assert found_in(reader, write) == VALUE
        if event != "chunks are lost":
            assert {one.kind for one in reader.verify("a")} <= {"garbage", "incomplete"}
        other.delete_thread("a")
    assert after > 4


@pytest.mark.usefixtures("small_parts")
@options("write", WRITES)
def test_a_large_write_is_refused_by_a_lease_before_it_stores_anything(
    client: redis.Redis, prefix: str, other: RedisSaver, write: str
) -> None:
    """Whoever is not to write would fill the server nevertheless."""
    at = old_thread(other)
    chunks = Keyspace(prefix).thread("a").chunks
    before = chunks_at(client, chunks)
    writer = RedisSaver(client, prefix=prefix)
    with other.lease("a") as lease:
        with pytest.raises(ThreadLeasedError):
            [*requests_of(writer, WRITES[write](writer, at))]
        assert chunks_at(client, chunks) == before
        lease.saver.put(lease.config(at), *put_arguments(VALUE, "3"))
    assert found_in(other, "put") == VALUE


@pytest.mark.usefixtures("small_parts")
@options("write", WRITES)
def test_a_large_write_of_a_late_run_leaves_nothing_of_a_deleted_thread(
    client: redis.Redis, prefix: str, write: str
) -> None:
    """The messages of a thread would come back that its user had deleted."""
    other, writer = (RedisSaver(client, prefix=prefix, tombstone=60) for _ in range(2))
    at = old_thread(other)
    other.delete_thread("a")
    with suppress(ThreadDeletedError):
        [*requests_of(writer, WRITES[write](writer, at))]
    assert not client.exists(Keyspace(prefix).thread("a").chunks)


def test_the_script_is_the_last_word_where_parts_are_refused(
    client: redis.Redis, prefix: str, other: RedisSaver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write would never end while a removal goes on."""
    monkeypatch.setattr(new_chunks, "MANY", 10)
    at = old_thread(other)
    chunks = Keyspace(prefix).thread("a").chunks
    client.hset(chunks.decode(), "swept", "1")
    writer = RedisSaver(client, prefix=prefix)
    names = [
        one.name
        for one in requests_of(writer, writing.put(writer._context, at, *put_arguments(VALUE)))
    ]
    assert names == [PUT_CHUNKS.name, "put"]
    assert found_in(other, "put") == VALUE
