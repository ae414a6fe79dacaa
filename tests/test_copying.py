"""Copies of threads: at once or in parts, whatever the target had and whatever happens meanwhile.

A copy in parts is driven here request by request, with parts so small that a short thread takes
many. How it goes at full size is shown at the end.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import count, islice
from typing import Any

import pytest
import redis
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import ChannelVersions
from langgraph.checkpoint.conformance.test_utils import (
    generate_checkpoint,
    generate_config,
    generate_metadata,
)
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.types import INTERRUPT

from langgraph_checkpoint_redis import (
    AsyncRedisSaver,
    CorruptThreadError,
    RedisSaver,
    ThreadChangedError,
    ThreadDeletedError,
    ThreadExistsError,
    ThreadLeasedError,
)
from langgraph_checkpoint_redis._core import copying, removing
from langgraph_checkpoint_redis._protocol.requests import Call, Request
from langgraph_checkpoint_redis._scripts import load
from langgraph_checkpoint_redis._storage.keys import Keyspace

from .driving import Saver
from .run_index import threads_of
from .servers import address, running_cluster
from .stepping import requests_of
from .stored import chunks_at

ON_ONE_SERVER = True  # `make test-servers` has all of them

SaverOn = Callable[..., Saver]
Step = Callable[[], object]

options = pytest.mark.parametrize


@pytest.fixture(params=["at once", "in parts"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How a thread is copied."""
    if request.param == "in parts":
        make_parts_small(monkeypatch)
    return str(request.param)


@pytest.fixture
def in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each copy take many parts."""
    make_parts_small(monkeypatch)


def make_parts_small(monkeypatch: pytest.MonkeyPatch) -> None:
    def smaller(name: str, pattern: str, numbers: str) -> None:
        script = getattr(load, name)
        source, times = re.subn(pattern, numbers, script.source)
        assert times == 1
        monkeypatch.setattr(load, name, replace(script, source=source))

    smaller("COPY", r"MEMBERS, BYTES, FEW = .*", "MEMBERS, BYTES, FEW = 0, 0, 0")
    smaller("DUMP", r"BYTES, MEMBERS = .*", "BYTES, MEMBERS = 5000, 3")


@pytest.fixture
def other(client: redis.Redis, prefix: str) -> RedisSaver:
    """A saver of another process."""
    return RedisSaver(client, prefix=prefix)


def thread(thread_id: str, **configurable: Any) -> RunnableConfig:
    return {"configurable": {"thread_id": thread_id, **configurable}}


def put(
    saver: Saver, at: RunnableConfig, text: str = "text", size: int = 8, **metadata: Any
) -> RunnableConfig:
    version = saver.get_next_version(None, None)
    values = {"c": [f"{text} {number:600}" for number in range(size)], "small": text}
    versions: ChannelVersions = {"c": version, "small": version}
    checkpoint = generate_checkpoint(channel_values=values, channel_versions=versions)
    at = {"configurable": {"checkpoint_ns": "", **at["configurable"]}}
    return saver.put(at, checkpoint, generate_metadata(**metadata), versions)


def conversation(saver: Saver, thread_id: str = "a") -> RunnableConfig:
    """A thread of two runs, with a subgraph and writes."""
    at = put(saver, thread(thread_id), "one", run_id="run 1")
    put(saver, generate_config(thread_id, checkpoint_ns="sub:1"), "sub", run_id="run 1")
    for number in range(6):
        at = put(saver, at, f"{number}", run_id="run 2")
        saver.put_writes(at, [("c", f"{number} {'w' * 700}")], "task")
    return at


def stored(client: Any, prefix: str, thread_id: str) -> tuple[object, ...]:
    """What a thread holds, as it is in Redis."""
    keys = Keyspace(prefix).thread(thread_id)
    return (
        client.zrange(keys.timeline, 0, -1, withscores=True),
        client.zrange(keys.writes, 0, -1, withscores=True),
        client.hgetall(keys.chunks),
        # Each thread has tokens of its own for its entries in the index of runs.
        {run: value.split()[0] for run, value in client.hgetall(keys.runs).items()},
    )


def left_over(client: redis.Redis, prefix: str, thread_id: str = "b") -> list[bytes]:
    """What there is of a thread, but for what goes by itself in a minute."""
    keys = client.scan_iter(f"{prefix}:{{{thread_id}}}:*")
    return [key for key in keys if not 0 < client.ttl(key) <= 60]


def steps(saver: RedisSaver, source: str = "a", target: str = "b") -> Iterator[Request]:
    """Copy a thread, one request at each step."""
    return requests_of(saver, copying.copy_thread(saver._context, source, target))


# What the target had


def test_a_copy_has_all_that_its_source_has(
    way: str, saver: Saver, client: redis.Redis, prefix: str
) -> None:
    """A copy would lack a part, or have something twice."""
    conversation(saver)
    saver.copy_thread("a", "b")
    assert stored(client, prefix, "b") == stored(client, prefix, "a")
    assert saver.verify("b") == []
    with pytest.raises(ThreadExistsError):
        saver.copy_thread("a", "b")
    saver.delete_for_runs(["run 1", "run 2"])  # the index of runs leads to both
    assert [*saver.list(None)] == []
    for thread_id in "ab":
        saver.delete_thread(thread_id)
        assert left_over(client, prefix, thread_id) == []


@options("is_cluster", [False, True], ids=["single", "cluster"])
def test_a_thread_that_does_not_exist_is_copied_as_nothing(
    raw_saver: RedisSaver | AsyncRedisSaver,
    saver: Saver,
    client: redis.Redis,
    prefix: str,
    is_cluster: bool,  # noqa: FBT001 - a fixture
) -> None:
    """A thread that nobody has talked to yet could not be copied, as the Agent Server does."""
    raw_saver._shared = raw_saver._shared._replace(is_cluster=is_cluster)  # slots then differ
    saver.copy_thread("a", "b")
    conversation(saver)
    saver.delete_thread("a")
    saver.copy_thread("a", "b")
    assert [*client.scan_iter(f"{prefix}:*")] == []
    client.hset(Keyspace(prefix).thread("a").chunks, b"a" * 16, b"\0ahead of the first row")
    saver.copy_thread("a", "b")
    assert not client.exists(Keyspace(prefix).thread("b").chunks)


def test_nothing_is_copied_onto_a_thread_that_another_has_leased(
    way: str, saver: Saver, other: RedisSaver, client: redis.Redis, prefix: str
) -> None:
    """The holder of a lease would find the thread of another, and its lease gone."""
    conversation(saver)
    with other.lease("b", ttl=30) as lease:
        index = threads_of(client, prefix, "run 1")
        with pytest.raises(ThreadLeasedError, match="'b'"):
            saver.copy_thread("a", "b")
        assert saver.get_tuple(thread("b")) is None
        assert threads_of(client, prefix, "run 1") == index
        other.copy_thread("a", "b")
        lease()
        put(other, thread("b"))
        with pytest.raises(ThreadLeasedError):
            put(saver, thread("b"))
    put(saver, thread("b"))


@options("saver_options", [{"tombstone": 60}], ids=str)
def test_a_late_run_of_the_thread_that_was_there_is_refused_by_the_copy(
    way: str, saver: Saver, other: RedisSaver
) -> None:
    """A run that began before the deletion would write into another conversation."""
    conversation(other)
    late = conversation(saver, "b")
    saver.delete_thread("b")
    other.copy_thread("a", "b")
    before = [*saver.list(thread("b"))]
    for late_saver in (saver, other):
        with pytest.raises(ThreadDeletedError):
            put(late_saver, late)
        with pytest.raises(ThreadDeletedError):
            late_saver.put_writes(late, [("c", "late")], "task")
    assert [*saver.list(thread("b"))] == before
    put(saver, before[-1].config)


def test_a_sweep_of_what_was_there_frees_nothing_of_the_copy(
    way: str, saver: Saver, other: RedisSaver
) -> None:
    """A copy would be acknowledged, and lose its values afterwards."""
    conversation(saver)
    put(other, thread("b"), "swept", size=3000, run_id="swept")
    sweeping = removing.delete_runs(other._context, "b", ["swept"])
    request = sweeping.send(None)
    reply = other._reply(request)
    assert other.get_tuple(thread("b")) is None
    saver.copy_thread("a", "b")
    other._reply(request)  # a duplicate that was on its way
    with suppress(StopIteration):
        while True:
            reply = other._reply(sweeping.send(reply))
    assert saver.verify("b") == []
    assert len([*other.list(thread("b"))]) == 8


@options("saver_options", [{"ttl": 1000}], ids=str)
def test_a_copy_expires_as_its_source_does(
    way: str, saver: Saver, client: redis.Redis, prefix: str
) -> None:
    """A copy would go too early, or never expire."""
    conversation(saver)
    saver.copy_thread("a", "b")
    saver.set_ttl("a", 2000)
    saver.copy_thread("a", "c")
    saver.pin("a")
    saver.copy_thread("a", "d")
    for thread_id, ttl in {"b": 1000, "c": 2000, "d": -1}.items():
        keys = Keyspace(prefix).thread(thread_id)[:4]
        left = [client.ttl(key) for key in keys]
        assert max(left) - min(left) <= 1
        assert left[0] == pytest.approx(ttl, abs=30)
        put(saver, thread(thread_id))
        assert client.ttl(keys[0]) == pytest.approx(ttl, abs=30)


# What happens meanwhile

CHANGES: dict[str, Callable[[RedisSaver, RunnableConfig], object]] = {
    "put": lambda saver, at: put(saver, at, "new"),
    "put in a new namespace": lambda saver, _: put(saver, thread("a", checkpoint_ns="new"), "new"),
    "put_writes": lambda saver, at: saver.put_writes(at, [("c", "v" * 900)], "other task"),
    "put_writes, replaced": lambda saver, at: saver.put_writes(at, [(INTERRUPT, "new")], "asks"),
    "delete_for_runs": lambda saver, _: saver.delete_for_runs(["run 2"]),
    "prune": lambda saver, _: saver.prune(["a"]),
    "delete_thread": lambda saver, _: saver.delete_thread("a"),
    "prune_threads, idle": lambda saver, _: saver.prune_threads(idle=1e-6),
    "reencrypt": lambda saver, _: encrypting(saver).reencrypt("a"),
}


def encrypting(saver: RedisSaver) -> RedisSaver:
    serde = EncryptedSerializer.from_pycryptodome_aes(key=b"k" * 32)
    prefix = saver._shared.keyspace.prefix
    return RedisSaver(saver._redis, prefix=prefix, serde=serde, allow_plaintext=True)


@options("change", CHANGES)
def test_a_copy_is_of_one_moment_whatever_changes_meanwhile(
    in_parts: None, change: str, other: RedisSaver, client: redis.Redis, prefix: str
) -> None:
    """A copy would have half of what another run did, or values that are gone."""
    for after in count(1, 3):
        last = conversation(other)
        other.put_writes(last, [(INTERRUPT, "old")], "asks")
        before = stored(client, prefix, "a")
        requests = steps(other)
        reached = [*islice(requests, after)]
        CHANGES[change](other, last)
        exhaust(requests)
        copied = stored(client, prefix, "b")
        assert copied in (before, stored(client, prefix, "a"))
        for thread_id in "ab":
            other.delete_thread(thread_id)
        if len(reached) < after:
            assert after > 12
            break


def exhaust(requests: Iterator[Request]) -> None:
    for _ in requests:
        pass


def test_a_source_that_never_rests_is_not_copied(
    in_parts: None, saver: Saver, other: RedisSaver, client: redis.Redis, prefix: str
) -> None:
    """A copy would never end, or have what never was at one moment."""
    conversation(other)

    def copy_and_write() -> None:
        for number, _ in enumerate(steps(other)):
            if number % 5 == 0:
                put(other, thread("a"), f"{number}")

    with pytest.raises(ThreadChangedError, match="'a'"):
        copy_and_write()
    assert [*client.scan_iter(f"{prefix}:{{b}}:*")] == []  # what ten tries left would take memory
    for run in ("run 1", "run 2"):
        assert threads_of(client, prefix, run) == {"a"}
    saver.copy_thread("a", "b")
    assert saver.verify("b") == []


def test_a_copy_that_is_given_up_leaves_nothing_that_is_read(
    in_parts: None, other: RedisSaver, client: redis.Redis, prefix: str
) -> None:
    """A crash would leave half a thread, or fill the server."""
    conversation(other)
    requests = len([*steps(other, "a", "all of it")])
    for after in range(1, requests, 2):
        assert len([*islice(steps(other), after)]) == after
        assert sorted(other.list_threads()) == ["a", "all of it"]
        assert other.get_tuple(thread("b")) is None
        assert [*other.list(thread("b"))] == []
        assert left_over(client, prefix) == []
    other.copy_thread("a", "b")
    assert stored(client, prefix, "b") == stored(client, prefix, "a")


def test_what_is_lost_of_a_copy_on_its_way_is_copied_again(
    in_parts: None, other: RedisSaver, client: redis.Redis, prefix: str
) -> None:
    """A server that evicts keys, or restarts, would make a copy that cannot be read."""
    conversation(other)
    is_lost = False
    for request in steps(other):
        del request
        if not is_lost and (keys := [*client.scan_iter(f"{prefix}:*:copy:*:chunks")]):
            is_lost = bool(client.unlink(*keys))
    assert is_lost
    assert stored(client, prefix, "b") == stored(client, prefix, "a")


def test_each_request_of_a_copy_may_come_twice(
    in_parts: None, other: RedisSaver, client: redis.Redis, prefix: str
) -> None:
    """When a reply is lost, a copy would be refused by itself, or have something twice."""
    conversation(other)
    for request in steps(other):
        other._reply(request)
    assert stored(client, prefix, "b") == stored(client, prefix, "a")


def test_copies_of_one_thread_do_not_disturb_each_other(
    in_parts: None, other: RedisSaver, client: redis.Redis, prefix: str
) -> None:
    """An application that begins each thread with a copy of one would see some fail."""
    conversation(other)
    copies = [steps(other, "a", f"copy {number}") for number in range(4)]
    while copies:
        copies = [copy for copy in copies if next(copy, None)]
    for number in range(4):
        assert stored(client, prefix, f"copy {number}") == stored(client, prefix, "a")


def test_of_two_copies_to_one_thread_one_is_refused(
    in_parts: None, other: RedisSaver, client: redis.Redis, prefix: str
) -> None:
    """Two threads would be mixed."""
    conversation(other)
    conversation(other, "z")
    first, second = steps(other, "a"), steps(other, "z")
    assert len([*islice(zip(first, second, strict=False), 10)]) == 10
    exhaust(first)
    with pytest.raises(ThreadExistsError):
        exhaust(second)
    assert stored(client, prefix, "b") == stored(client, prefix, "a")


# What was lost


PARTS = ("timeline", "writes", "chunks")


@options("part", PARTS)
def test_a_thread_that_has_lost_a_key_is_not_copied(
    way: str, part: str, saver: Saver, client: redis.Redis, prefix: str
) -> None:
    """A copy would have less than there was, and nothing in it would tell."""
    conversation(saver)
    key = getattr(Keyspace(prefix).thread("a"), part)
    client.unlink(key)
    with pytest.raises(CorruptThreadError) as raised:
        saver.copy_thread("a", "b")
    assert (raised.value.thread_id, raised.value.key) == ("a", key.decode())
    assert [*client.scan_iter(f"{prefix}:{{b}}:*")] == []
    for run in ("run 1", "run 2"):
        assert threads_of(client, prefix, run) == {"a"}


@options("part", ["timeline", "writes"])
def test_a_thread_that_has_lost_a_key_is_not_copied_onto(
    way: str, part: str, saver: Saver, client: redis.Redis, prefix: str
) -> None:
    """The copy would cover up that another conversation was lost."""
    conversation(saver)
    at = put(saver, thread("b"), "what was there")
    saver.put_writes(at, [("c", 1)], "task")
    keys = Keyspace(prefix).thread("b")
    client.unlink(keys.timeline, getattr(keys, part))
    expected = CorruptThreadError if part == "writes" else ThreadExistsError
    with pytest.raises(expected, match="'b'"):
        saver.copy_thread("a", "b")
    with pytest.raises(CorruptThreadError):
        saver.get_tuple(thread("b"))
    saver.delete_thread("b")
    saver.copy_thread("a", "b")
    assert stored(client, prefix, "b") == stored(client, prefix, "a")


@options("part", PARTS)
def test_a_key_that_is_lost_while_it_is_copied_is_noticed(
    in_parts: None, part: str, other: RedisSaver, client: redis.Redis, prefix: str
) -> None:
    """A server that evicts in the middle of a copy would make it a smaller thread."""
    for after in count(1, 2):
        conversation(other)
        before = stored(client, prefix, "a")
        requests = steps(other)
        reached = len([*islice(requests, after)])
        client.unlink(getattr(Keyspace(prefix).thread("a"), part))
        with suppress(CorruptThreadError):
            exhaust(requests)
        if copied := other.get_tuple(thread("b")):
            assert copied
            assert stored(client, prefix, "b") == before
        for thread_id in "ab":
            other.delete_thread(thread_id)
        if reached < after:
            assert after > 12
            break


def test_a_late_request_does_not_make_a_copy_of_two_moments(
    in_parts: None, other: RedisSaver, client: redis.Redis, prefix: str
) -> None:
    """A request that something on the way kept would make a copy seem to be of one moment."""
    last = conversation(other)
    requests, late = steps(other), None
    for number, request in enumerate(requests):
        if late is None and getattr(request, "name", "") == "dump":
            late = request
        elif late is not None and number > 8:
            other.put_writes(last, [(INTERRUPT, "in between")], "task")
            other._reply(late)
            break
    exhaust(requests)
    assert stored(client, prefix, "b") == stored(client, prefix, "a")


# At full size


def large_message(number: int, size: int) -> HumanMessage:
    """Return a message, which is one chunk, as texts in messages are not cut."""
    return HumanMessage(random.Random(number).randbytes(size // 2).hex(), id=f"m{number}")


def test_a_large_thread_is_copied_in_parts_of_bounded_size(
    saver: Saver, other: RedisSaver, client: redis.Redis, prefix: str
) -> None:
    """A copy would stop the server for seconds, and all of its clients."""
    at = put(other, thread("a"), "long", size=12_000)
    other.put_writes(at, [("c", [large_message(number, 300_000) for number in range(2)])], "task")
    chunks = chunks_at(client, Keyspace(prefix).thread("a").chunks)
    assert max(map(len, chunks.values())) > 300_000
    client.config_resetstat()
    saver.copy_thread("a", "b")
    calls: Any = client.info("commandstats")
    assert "cmdstat_copy" not in calls
    assert calls["cmdstat_rename"]["calls"] == 4 - 1  # it has no runs
    assert stored(client, prefix, "b") == stored(client, prefix, "a")
    assert saver.verify("b") == []
    largest = max(_sizes(other))
    assert largest < 1024 * 1024


def _sizes(saver: RedisSaver) -> Iterator[int]:
    """How many bytes there are in each request of a copy."""
    for request in steps(saver, "a", "c"):
        (command, *_) = request.commands()
        yield sum(len(part) for part in command if isinstance(part, bytes))


def test_the_only_node_of_a_cluster_needs_no_client_for_clusters(saver_on: SaverOn) -> None:
    """A copy would fail with CROSSSLOT where a service is a cluster of one node."""
    with running_cluster(primaries=1) as cluster:
        (node,) = cluster.nodes
        host, port = address(node)
        saver = saver_on(f"redis://{host}:{port}")
        conversation(saver)
        saver.copy_thread("a", "b")
        assert stored(node, "lg", "b") == stored(node, "lg", "a")
        with pytest.raises(ThreadExistsError):
            saver.copy_thread("a", "b")


def test_large_chunks_are_copied_in_several_parts(
    other: RedisSaver, client: redis.Redis, prefix: str
) -> None:
    """A thread of files would stop the server for a second, as one call read twenty of them."""
    files = {f"file {number}": large_message(number, 3_000_000) for number in range(6)}
    versions: ChannelVersions = dict.fromkeys(files, "1")
    checkpoint = generate_checkpoint(channel_values=files, channel_versions=versions)
    other.put(generate_config("a"), checkpoint, generate_metadata(), versions)
    parts = [
        sum(len(arg) for arg in one.args if isinstance(arg, bytes))
        for one in steps(other)
        if isinstance(one, Call)
    ]
    assert max(parts) > 3_000_000  # that of one chunk
    assert max(parts) < 6 * 3_000_000  # few share a place in the hash
    reader = RedisSaver(client, prefix=prefix)
    assert [one.checkpoint for one in reader.list(thread("b"))] == [checkpoint]
