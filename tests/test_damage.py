"""What was altered in Redis is noticed by whoever reads it, and never read as something else."""

from __future__ import annotations

import asyncio
import gc
import random
import signal
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from types import FrameType
from typing import Any

import msgpack
import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointTuple
from langgraph.checkpoint.conformance.test_utils import generate_checkpoint, generate_metadata
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from langgraph_checkpoint_redis import (
    ConfigError,
    CorruptThreadError,
    RedisSaver,
    UnknownFormatError,
)
from langgraph_checkpoint_redis._core import reading
from langgraph_checkpoint_redis._storage import compression as compression_module
from langgraph_checkpoint_redis._storage.checksums import checksum_of, strip_checksum
from langgraph_checkpoint_redis._storage.chunking import cut_msgpack
from langgraph_checkpoint_redis._storage.compression import compress_chunk as stored_chunk
from langgraph_checkpoint_redis._storage.compression import decompress_chunk
from langgraph_checkpoint_redis._storage.corruption import CorruptionContext
from langgraph_checkpoint_redis._storage.keys import Keyspace
from langgraph_checkpoint_redis._storage.packing import pack
from langgraph_checkpoint_redis._storage.records import parse_checkpoint_row, parse_writes_row
from langgraph_checkpoint_redis._storage.tree import digest_of, join_tree
from langgraph_checkpoint_redis._storage.values import (
    Entry,
    list_pieces,
    load_entry,
    parse_chunks,
    unpack_entry,
)

from .damaged import Stored, flipped, read, thread
from .driving import Saver
from .stored import chunks_at

many = settings(
    deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
pure = settings(deadline=None, max_examples=60)


class SoftTimeLimitExceededError(Exception):
    """As libraries for workers define it; it has nothing to do with any decoder."""


@pytest.fixture
def stored(client: redis.Redis, prefix: str) -> Stored:
    return Stored(client, prefix)


@many
@given(data=st.data())
def test_a_row_with_a_flipped_byte_is_never_read_as_another(
    saver: Saver, stored: Stored, data: st.DataObject
) -> None:
    """A small value, a version or metadata would change, and nobody would know."""
    expected = [saver.get_tuple(place) for place in stored.places]
    row = data.draw(st.sampled_from(stored.timeline + stored.writes))
    position = data.draw(st.integers(0, len(row) - 1))
    stored.replace_row(row, flipped(row, position, data.draw(st.integers(1, 255))))
    try:
        found = [read(saver, place) for place in stored.places]
    finally:
        stored.repair()
    # What has a damaged name is that of another checkpoint, or of none: whoever looks for it by its
    # own name does not find it, as if it were gone.
    in_name = position <= row.index(b"\0", row.index(b"\0") + 1)
    of_writes = row in stored.writes
    for one, other in zip(found, expected, strict=True):
        assert other
        gone = [other._replace(pending_writes=[])] if of_writes else [other, _alone(other)]
        assert one in [None, other, *(gone if in_name else [])]
    assert None in found or (in_name and of_writes)


def _alone(found: CheckpointTuple) -> CheckpointTuple:
    return found._replace(parent_config=None)


@many
@given(data=st.data())
def test_a_chunk_with_a_flipped_byte_is_never_read_as_another(
    client: redis.Redis, prefix: str, stored: Stored, data: st.DataObject
) -> None:
    """A message would say something else than it did."""
    saver = RedisSaver(client, prefix=prefix)
    expected = [saver.get_tuple(place) for place in stored.places]
    digest = data.draw(st.sampled_from([*stored.chunks]))
    chunk = stored.chunks[digest]
    position = data.draw(st.integers(0, len(chunk) - 1))
    altered = flipped(chunk, position, data.draw(st.integers(1, 255)))
    client.hset(stored.keys.chunks, digest, altered)
    try:
        found = [read(RedisSaver(client, prefix=prefix), place) for place in stored.places]
    finally:
        stored.repair()
    assert None in found
    assert all(one is None or one == other for one, other in zip(found, expected, strict=True))


CALLS: dict[str, Callable[[Saver, RunnableConfig], object]] = {
    "get_tuple": lambda saver, at: saver.get_tuple(at),
    "get_tuple of the latest": lambda saver, at: saver.get_tuple(thread(checkpoint_ns="child:1")),
    "list": lambda saver, at: [*saver.list(thread())],
    "list with a filter": lambda saver, at: [*saver.list(thread(), filter={"step": 0})],
    "put": lambda saver, at: saver.put(
        at,
        generate_checkpoint(channel_values={"small": 1}, channel_versions={"small": "2"}),
        generate_metadata(),
        {},
    ),
    "delta history": lambda saver, at: saver.get_delta_channel_history(
        config=at, channels=["unknown"]
    ),
    "thread_info": lambda saver, at: saver.thread_info("a b"),
    "prune": lambda saver, at: saver.prune(["a b"]),
    "delete_for_runs": lambda saver, at: saver.delete_for_runs(["run"]),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_damaged_checkpoint_is_named_and_not_passed_on(
    saver: Saver, stored: Stored, call: str
) -> None:
    """A script would build on it, or free what only it referred to."""
    row, at = stored.timeline[-1], stored.places[-1]
    stored.replace_row(row, flipped(row, row.index(b"small") + 2, 1))
    before = stored.client.zrange(stored.keys.timeline, 0, -1)
    with pytest.raises(CorruptThreadError) as raised:
        CALLS[call](saver, at)
    error, id_ = raised.value, at["configurable"]["checkpoint_id"]
    named = (error.thread_id, error.namespace, error.checkpoint_id, error.key)
    assert named == ("a b", "child:1", id_, stored.keys.timeline.decode())
    assert stored.client.zrange(stored.keys.timeline, 0, -1) == before


@pytest.mark.parametrize("call", ["get_tuple", "list", "put_writes", "thread_info", "prune"])
def test_damaged_writes_are_named_and_not_passed_on(
    saver: Saver, stored: Stored, call: str
) -> None:
    """A run would go on from what its tasks had not written."""
    row, at = stored.writes[-1], stored.places[-1]
    stored.replace_row(row, flipped(row, row.index(b"small") + 2, 1))
    calls = CALLS | {"put_writes": lambda saver, at: saver.put_writes(at, [("d", 1)], "task")}
    with pytest.raises(CorruptThreadError, match="damaged") as raised:
        calls[call](saver, at)
    error, id_ = raised.value, at["configurable"]["checkpoint_id"]
    named = (error.namespace, error.checkpoint_id, error.key)
    assert named == ("child:1", id_, stored.keys.writes.decode())


@pytest.mark.parametrize(
    "row", [b"", b"no name", b"\0", b"\0\0", b"a\0b\0c", b"\0id\0" + b"\x91" * 9]
)
@pytest.mark.parametrize("sealed", [1, 0])
def test_what_is_no_row_is_an_error_of_ours(
    saver: Saver, client: redis.Redis, prefix: str, row: bytes, sealed: int
) -> None:
    """A program would have to expect whatever parsers raise."""
    keys = Keyspace(prefix).thread("a b")
    client.zadd(keys.timeline, {row + checksum_of(row) if sealed else row: 0})
    for call in (lambda: [*saver.list(thread())], lambda: saver.prune(["a b"])):
        with pytest.raises((CorruptThreadError, UnknownFormatError)):
            call()


def test_a_damaged_chunk_is_mended_by_the_next_to_put_it(
    saver: Saver, stored: Stored, client: redis.Redis
) -> None:
    """A thread would stay damaged though its writer has all that it needs."""
    large = [f"{number:600}" for number in range(2, 9)]
    digests = [*stored.chunks]
    client.hset(stored.keys.chunks, mapping=dict.fromkeys(digests, b"\0damaged"))
    assert read(saver, stored.places[-1]) is None
    checkpoint = generate_checkpoint(channel_values={"c": large}, channel_versions={"c": "9"})
    at = saver.put(thread(), checkpoint, generate_metadata(), {"c": "9"})
    assert read(saver, at)


# Decoders, fed with anything

SERDE = JsonPlusSerializer()
KEY = b"lg:{a}:timeline"


def decoded(row: bytes, read: Callable[[bytes], object]) -> object:
    """What a decoder makes of bytes, or `None` for an error of ours."""
    try:
        with CorruptionContext("a", KEY, row):
            return read(row)
    except (CorruptThreadError, UnknownFormatError):
        return None


def read_record(row: bytes) -> object:
    record = parse_checkpoint_row(row)
    for _, entry in record.entries():
        load_entry(entry, {})
    return record.checkpoint(SERDE, {}), record.metadata(SERDE, "a")


def read_writes(row: bytes) -> object:
    writes = sorted(parse_writes_row(row))
    return [SERDE.loads_typed(load_entry(write.entry, {})[0]) for write in writes]


def read_entry(row: bytes) -> object:
    return SERDE.loads_typed(load_entry(unpack_entry(row), {})[0])


# What msgpack can say, most of it where something else is expected.
anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**31), 2**40) | st.binary(max_size=40) | st.floats(),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.binary(), inner, max_size=2),
    max_leaves=8,
)
looking_right = st.one_of(
    st.tuples(st.just(1), *[anything] * 5), st.tuples(st.just(1), st.lists(anything)), anything
)


@pure
@given(
    name=st.binary(max_size=20),
    parts=st.lists(st.binary(max_size=60) | looking_right.map(pack), max_size=3),
)
@pytest.mark.parametrize("read", [read_record, read_writes, read_entry])
def test_only_errors_of_ours_come_out_of_rows(
    read: Callable[[bytes], object], name: bytes, parts: list[bytes]
) -> None:
    """A program that is ready for damaged threads would crash of another error."""
    content = b"\0".join(
        [name, b"id", *([b"task"] if read is read_writes else []), b"".join(parts)]
    )
    decoded(content + checksum_of(content) if read is not read_entry else b"".join(parts), read)


def mutated(data: st.DataObject, row: bytes) -> bytes:
    """A row with some bytes changed behind its name, and a seal that is right."""
    start = row.index(b"\0", row.index(b"\0") + 1) + 1
    content = bytearray(strip_checksum(row))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(start, len(content)))
        length = data.draw(st.integers(0, 8))
        content[at : at + length] = data.draw(
            st.binary(max_size=8) | st.sampled_from([bytes(content[start : start + length])])
        )
    return bytes(content) + checksum_of(bytes(content))


def fuzz(stored: Stored, saver: RedisSaver, data: st.DataObject) -> None:
    row = data.draw(st.sampled_from(stored.timeline + stored.writes))
    altered = mutated(data, row)
    decoded(altered, read_record if row in stored.timeline else read_writes)
    stored.replace_row(row, altered)
    try:
        for name, call in CALLS.items():
            if name != "delete_for_runs":  # runs are not looked at before their index is
                with suppress(CorruptThreadError, UnknownFormatError, redis.ResponseError):
                    call(saver, stored.places[-1])
        saver.verify("a b")
        saver.repair("a b")
        assert saver.verify("a b") == []
    except UnknownFormatError:
        pass
    finally:
        stored.repair()
        saver._shared.caches.forget("a b")


@many
@given(data=st.data())
def test_a_forged_row_is_refused_by_us_or_by_a_script_and_can_be_removed(
    client: redis.Redis, prefix: str, stored: Stored, data: st.DataObject
) -> None:
    """Who can write to the server could make a program crash where nobody expects it."""
    fuzz(stored, RedisSaver(client, prefix=prefix), data)


@pytest.mark.slow
@settings(many, max_examples=300)
@given(data=st.data())
def test_many_forged_rows_are_refused_and_can_be_removed(
    client: redis.Redis, prefix: str, stored: Stored, data: st.DataObject
) -> None:
    """The same, for those who have changed a decoder."""
    fuzz(stored, RedisSaver(client, prefix=prefix), data)


def bombs() -> Iterator[tuple[str, bytes]]:
    yield "zstd, by its header", b"\2(\xb5/\xfd\xe0" + (2**40).to_bytes(8, "little") + b"x" * 50
    yield (
        "zstd, in blocks",
        b"\2(\xb5/\xfd\xa0" + (2**31).to_bytes(4, "little") + b"\x02\0\x10a" * 9,
    )
    yield "zlib", b"\1" + zlib.compress(b"0" * 10_000)[:30]


@pytest.mark.parametrize("bomb", [pytest.param(chunk, id=name) for name, chunk in bombs()])
def test_a_chunk_that_asks_for_much_memory_is_refused(bomb: bytes) -> None:
    """One damaged byte, or somebody's bad will, would end the process."""
    with pytest.raises(ValueError):  # noqa: PT011 - of whichever library
        decompress_chunk(bomb)


@pytest.mark.parametrize("compression", ["zlib", "zstd"])
def test_what_packs_tightly_is_stored_so_that_it_can_be_read(
    client: redis.Redis, prefix: str, compression: Any
) -> None:
    """A message of zeros would be refused as one that asks for much memory."""
    zeros = HumanMessage("0" * 10_000_000, id="m")  # in one chunk, as texts in messages are not cut
    versions: Any = {"c": "1"}
    checkpoint = generate_checkpoint(channel_values={"c": zeros}, channel_versions=versions)
    saver = RedisSaver(client, prefix=prefix, compression=compression)
    at = saver.put(thread(), checkpoint, generate_metadata(), versions)
    chunks = chunks_at(client, Keyspace(prefix).thread("a b").chunks).values()
    assert max(map(len, chunks)) < 20_000
    assert max(len(decompress_chunk(chunk)) for chunk in chunks) > 10_000_000
    found = RedisSaver(client, prefix=prefix).get_tuple(at)
    assert found
    assert found.checkpoint["channel_values"] == {"c": zeros}


@pure
@given(chunk=st.binary(max_size=200), way=st.sampled_from([b"\0", b"\1", b"\2", b""]))
def test_only_the_named_content_comes_out_of_chunks(chunk: bytes, way: bytes) -> None:
    """Some bytes would be taken for a message."""
    assert parse_chunks([b"n" * 16], [[way + chunk]]) == {}


@contextmanager
def little_memory(most: int) -> Iterator[None]:
    """A block that takes so many bytes at most."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < most
    finally:
        tracemalloc.stop()


def repeating(piece: bytes, times: int, levels: int) -> tuple[dict[bytes, bytes], bytes]:
    """Chunks of nodes, each of which has the one below several times, and the digest of the top."""
    digest = digest_of(piece)
    chunks = {digest: piece}
    for _ in range(levels):
        node = digest * times
        digest = digest_of(node)
        chunks[digest] = node
    return chunks, digest


@pytest.mark.parametrize("size", [3, 10**6, -1, 2**50, 12**12])
@pytest.mark.parametrize(("times", "levels"), [(12, 12), (2, 30), (1, 33), (2, 32)])
def test_nodes_of_nodes_do_not_grow_without_end(
    monkeypatch: pytest.MonkeyPatch, size: int, times: int, levels: int
) -> None:
    """A few hundred bytes would fill the memory of whoever reads them."""
    monkeypatch.setattr(
        "langgraph_checkpoint_redis._storage.tree.FEW", 2**12
    )  # so that it is soon tried
    chunks, digest = repeating(b"x", times, levels)
    tree = [b""] * levels + [digest]
    with little_memory(5_000_000), pytest.raises(LookupError):
        join_tree(size, b"", tree, chunks)
    with little_memory(5_000_000), pytest.raises(LookupError):
        list_pieces(Entry("msgpack", b"", size, tree), chunks)


def test_a_long_value_is_not_made_of_few_pieces() -> None:
    """A chunk of some kilobytes that is repeated would fill the memory of whoever reads it."""
    piece = random.Random(1).randbytes(65_536)
    chunks, digest = repeating(piece, 12, 4)
    size = 65_536 * 12**4
    with little_memory(100_000_000), pytest.raises(LookupError, match="too few pieces"):
        join_tree(size, b"", [b""] * 4 + [digest], chunks)


@pytest.mark.parametrize(("constant", "most"), [("SMALL", 10_000), ("FEW", 10)])
def test_a_value_that_repeats_itself_is_stored_so_that_it_can_be_read(
    client: redis.Redis, prefix: str, monkeypatch: pytest.MonkeyPatch, constant: str, most: int
) -> None:
    """A state of many equal rows would be refused as one that asks for much memory."""
    monkeypatch.setattr(f"langgraph_checkpoint_redis._storage.tree.{constant}", most)
    monkeypatch.setattr("langgraph_checkpoint_redis._storage.values.FEW", 10)
    value = ["a" * 600] * 1000
    versions: Any = {"c": "1"}
    checkpoint = generate_checkpoint(channel_values={"c": value}, channel_versions=versions)
    at = RedisSaver(client, prefix=prefix).put(thread(), checkpoint, generate_metadata(), versions)
    found = RedisSaver(client, prefix=prefix).get_tuple(at)
    assert found
    assert found.checkpoint["channel_values"] == {"c": value}


@pytest.mark.parametrize(
    "item", [b"\xdd\0\x0f\xff\xff", b"\xdc\xff\xff", b"\xdf\0\x0f\xff\xff", b"\xde\xff\xff"]
)
def test_lists_in_a_row_have_no_more_items_than_the_row(item: bytes) -> None:
    """A row of a few kilobytes, lists within lists, would fill the memory of whoever reads it."""
    row = b"\0id\0" + item * 400 + b"\xc0" * 2**20
    for read_row in (read_record, read_writes):
        with little_memory(50_000_000):
            assert decoded(row + checksum_of(row), read_row) is None


@pytest.mark.parametrize("compression", ["zlib", "zstd"])
def test_a_compressed_chunk_does_not_stand_for_any_number_of_bytes(
    monkeypatch: pytest.MonkeyPatch, compression: Any
) -> None:
    """Some megabytes of zeros that somebody packed would fill the memory of whoever reads them."""
    packed = stored_chunk(bytes(100_000), compression)
    monkeypatch.setattr(compression_module, "LARGEST", 99_999)
    with pytest.raises(ValueError, match="too tightly"):
        decompress_chunk(packed)
    assert decompress_chunk(stored_chunk(bytes(100_000), compression)) == bytes(100_000)


@pure
@given(data=st.data())
def test_a_rope_reads_as_itself_or_not_at_all(data: st.DataObject) -> None:
    """A damaged node would lead to other messages."""
    count = data.draw(st.integers(1, 40))
    value = msgpack.packb([b"%0600d" % number for number in range(count)])
    made = cut_msgpack(value, None, {})
    chunks = {**made.nodes, **made.pieces}
    lost = data.draw(st.sampled_from([*chunks]))
    chunks[lost] = data.draw(st.sampled_from([b"", b"x", *chunks.values()]))
    try:
        read = join_tree(len(value), made.tree.inline, made.tree.levels, chunks)
    except LookupError:
        return
    assert len(read.data) == len(value)  # what it says, the digests tell


def test_an_error_of_the_serializer_is_named_and_its_cause_is_kept(
    client: redis.Redis, prefix: str, stored: Stored
) -> None:
    """With a wrong key, nobody would know what could not be read."""

    class Locked(JsonPlusSerializer):
        def loads_typed(self, data: tuple[str, bytes]) -> Any:
            raise AssertionError("no key")

    with pytest.raises(CorruptThreadError, match="AssertionError: no key") as raised:
        RedisSaver(client, prefix=prefix, serde=Locked()).get_tuple(stored.places[0])
    assert isinstance(raised.value.__cause__, AssertionError)


@pytest.mark.parametrize(
    "error",
    [
        *(ConnectionError("key service"), TimeoutError(), MemoryError(), RecursionError()),
        *(
            SoftTimeLimitExceededError(),
            asyncio.CancelledError(),
            KeyboardInterrupt(),
            ConfigError(),
        ),
    ],
    ids=repr,
)
def test_an_error_that_may_pass_is_not_called_damage(
    client: redis.Redis, prefix: str, stored: Stored, error: BaseException
) -> None:
    """A key service that does not answer for a while would look like a lost thread."""

    class Failing(JsonPlusSerializer):
        def loads_typed(self, data: tuple[str, bytes]) -> Any:
            raise error

    with pytest.raises(type(error)) as raised:
        RedisSaver(client, prefix=prefix, serde=Failing()).get_tuple(stored.places[0])
    assert raised.value is error


# Signals: their handlers raise whatever they like, wherever the program is


class Interrupting(JsonPlusSerializer):
    """Gets a signal while it reads."""

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        signal.raise_signal(signal.SIGUSR1)
        return super().loads_typed(data)


class Wrapping(Interrupting):
    """Has an error of its own for whatever it meets."""

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        try:
            return super().loads_typed(data)
        except Exception:  # noqa: BLE001 - as careless serializers do
            raise ValueError("cannot be read")  # noqa: B904 - as above


class Limit:
    """A time limit, whose handler may have many forms."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def strike(self, number: int, frame: FrameType | None) -> None:
        raise self.error

    def strike_at_any(self, *_: object) -> None:
        raise self.error

    def strike_and_end(self, *_: object) -> None:
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)
        raise self.error

    __call__ = strike


HANDLERS: dict[str, Callable[[Limit], Any]] = {
    "a method": lambda limit: limit.strike,
    "one for all signals": lambda limit: limit.strike_at_any,
    "a partial": lambda limit: partial(Limit.strike, limit),
    "an object": lambda limit: limit,
    "one that is called once": lambda limit: limit.strike_and_end,
}


@pytest.fixture
def signals() -> Iterator[None]:
    """Puts the handlers of signals back that a test sets. None strikes in a finalizer."""
    gc.disable()
    before = {each: signal.getsignal(each) for each in (signal.SIGUSR1, signal.SIGALRM)}
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    for number, handler in before.items():
        signal.signal(number, handler)
    gc.enable()


@pytest.mark.usefixtures("signals")
@pytest.mark.parametrize("handler", HANDLERS)
@pytest.mark.parametrize("serde_class", [Interrupting, Wrapping])
@pytest.mark.parametrize(
    "error", [SoftTimeLimitExceededError(), ValueError("time"), KeyError("time")], ids=repr
)
def test_what_a_signal_raises_while_a_thread_is_read_passes(
    saver_on: Callable[..., Saver],
    server: str,
    prefix: str,
    stored: Stored,
    error: Exception,
    serde_class: type[Interrupting],
    handler: str,
) -> None:
    """A worker's time limit would look like a lost thread, which operators are told to repair."""
    reading = saver_on(server, prefix=prefix, serde=serde_class())
    for _ in range(2):
        signal.signal(signal.SIGUSR1, HANDLERS[handler](Limit(error)))
        with pytest.raises(type(error)) as raised:
            reading.get_tuple(stored.places[0])
        assert raised.value is error


@pytest.mark.usefixtures("signals")
def test_an_error_of_decoding_in_the_handler_of_another_error_is_damage(
    client: redis.Redis, prefix: str, stored: Stored
) -> None:
    """Who looks at a thread because a time limit struck would not be told that it is damaged."""
    client.hset(stored.keys.chunks, mapping=dict.fromkeys(stored.chunks, b"\0damaged"))
    signal.signal(signal.SIGUSR1, Limit(ValueError("time")).strike)
    try:
        signal.raise_signal(signal.SIGUSR1)
    except ValueError:
        with pytest.raises(CorruptThreadError):
            RedisSaver(client, prefix=prefix).get_tuple(stored.places[0])


@pytest.mark.usefixtures("signals")
@pytest.mark.parametrize(
    "kind", [SoftTimeLimitExceededError, ValueError, LookupError, TimeoutError]
)
def test_a_time_limit_is_not_called_damage_wherever_it_strikes(
    client: redis.Redis, prefix: str, kind: type[Exception]
) -> None:
    """A worker's time limit would now and then look like a lost thread."""
    messages = [HumanMessage(f"{number} " * 50) for number in range(400)]
    versions: Any = {"messages": "1"}
    checkpoint = generate_checkpoint(
        channel_values={"messages": messages}, channel_versions=versions
    )
    at = RedisSaver(client, prefix=prefix).put(thread(), checkpoint, generate_metadata(), versions)
    replies: list[Any] = []

    def ask(request: Any) -> Any:
        replies.append(first._reply(request))
        return replies[-1]

    first = RedisSaver(client, prefix=prefix)
    first._run(reading.get_tuple(first._context, at), ask)
    is_running, struck = False, 0

    def strike(*_: object) -> None:
        if is_running:
            raise kind("time")

    signal.signal(signal.SIGALRM, strike)
    for number in range(150):
        fresh, answers = RedisSaver(client, prefix=prefix), iter(replies)
        is_running = True
        with suppress(kind):
            signal.setitimer(signal.ITIMER_REAL, 0.0002 + number * 0.00005)
            fresh._run(reading.get_tuple(fresh._context, at), lambda _: next(answers))  # noqa: B023 - called here
            is_running = False
        struck += is_running
        is_running = False
        signal.setitimer(signal.ITIMER_REAL, 0)
    assert struck
