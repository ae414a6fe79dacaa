"""Reading what is large: a script gives the row, and commands the pieces, in two round trips.

In between the thread may change; what is read must be as it was at some moment, or not be there.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest
import redis
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import ChannelVersions, CheckpointTuple
from langgraph.checkpoint.conformance.test_utils import generate_checkpoint, generate_metadata

from langgraph_checkpoint_redis import CorruptThreadError, RedisSaver
from langgraph_checkpoint_redis._core import reading
from langgraph_checkpoint_redis._protocol.requests import Call, Commands
from langgraph_checkpoint_redis._storage.records import CheckpointRow, parse_checkpoint_row

from .driving import Saver
from .stored import chunks_at
from .story import thread

SaverOn = Callable[..., Saver]

RANDOM = Random(0)
MANY, OTHERS = ([RANDOM.randbytes(600) for _ in range(300)] for _ in range(2))  # pieces
LARGE = HumanMessage(RANDOM.randbytes(150_000).hex(), id="large")  # one piece
LONG = [RANDOM.randbytes(520) for _ in range(9000)]  # and nodes
SMALL = [RANDOM.randbytes(600) for _ in range(100)]
VALUES: dict[str, dict[str, Any]] = {
    "many": {"c": MANY},
    "large": {"c": LARGE},
    "long": {"c": LONG},
    "both, and others": {"a": MANY, "b": LARGE, "c": "x", "d": SMALL},
}


def put(saver: Any, at: RunnableConfig, values: dict[str, Any], version: str) -> RunnableConfig:
    versions: ChannelVersions = dict.fromkeys(values, version)
    checkpoint = generate_checkpoint(channel_values=values, channel_versions=versions)
    at = saver.put(at, checkpoint, generate_metadata(), versions)
    saver.put_writes(at, [(f"written to {channel}", values[channel]) for channel in values], "task")
    return at


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_large_values_are_read_by_who_has_not_seen_them(
    saver: Saver, saver_on: SaverOn, server: str, prefix: str, values: dict[str, Any]
) -> None:
    """A long conversation could not go on in another process."""
    at = put(saver, thread("a"), values, "1")
    put(saver, at, {**values, "e": "y"}, "2")
    for config in (at, thread("a")):
        expected = saver.get_tuple(config)
        for options in ({}, {"ttl": 60, "refresh_on_read": True}):
            assert saver_on(server, prefix=prefix, **options).get_tuple(config) == expected
    assert [*saver_on(server, prefix=prefix).list(thread("a"))] == [*saver.list(thread("a"))]


def read(saver: RedisSaver, config: RunnableConfig, meanwhile: Callable[[], Any]) -> Any:
    """What `get_tuple` gives if something happens between the script and the commands behind it."""
    operation = reading.get_tuple(saver._context, config)
    request = next(operation)
    assert isinstance(request, Call)
    request = operation.send(saver._connections.link.reply(request))
    assert isinstance(request, Commands)
    meanwhile()
    try:
        while True:
            request = operation.send(saver._connections.link.reply(request))
    except StopIteration as done:
        return done.value


def test_a_script_reads_a_bounded_number_of_chunks(client: redis.Redis, prefix: str) -> None:
    """A list of 100,000 messages would stop the server for half a second in each new process."""
    writer, reader = (RedisSaver(client, prefix=prefix) for _ in range(2))
    put(writer, thread("a"), VALUES["long"], "1")
    assert client.hlen(f"{prefix}:{{a}}:chunks") > 9000
    context = reader._context
    cache, records = context.caches.of("a"), [record_of(client, prefix)]
    for operation in (
        reading.get_tuple(context, thread("a")),
        reading._read_whole(context, "a", cache, records, allow_truncation=True),
    ):
        request = next(operation)
        assert isinstance(request, Call)
        _, _, truncated, digests, _ = reader._connections.link.reply(request)
        assert truncated
        assert sum(map(len, digests)) <= 2000 * 16


def record_of(client: redis.Redis, prefix: str) -> CheckpointRow:
    """The last row of the timeline."""
    row: Any = client.zrange(f"{prefix}:{{a}}:timeline", -1, -1)[0]
    return parse_checkpoint_row(row)


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
@pytest.mark.parametrize("by_id", [True, False])
def test_what_is_removed_while_it_is_read_is_gone(
    client: redis.Redis, prefix: str, values: dict[str, Any], *, by_id: bool
) -> None:
    """A run would fail with a damaged thread, where another has only been quicker."""
    writer, reader = (RedisSaver(client, prefix=prefix) for _ in range(2))
    at = put(writer, thread("a"), values, "1")
    found = read(reader, at if by_id else thread("a"), lambda: writer.delete_thread("a"))
    assert found is None


def test_a_thread_that_goes_on_while_it_is_read_is_read_as_it_is(
    client: redis.Redis, prefix: str
) -> None:
    """A conversation would be given back with messages of two moments."""
    writer, reader = (RedisSaver(client, prefix=prefix) for _ in range(2))
    at = put(writer, thread("a"), VALUES["many"], "1")

    def go_on() -> None:
        put(writer, at, {"c": OTHERS}, "2")
        writer.prune(["a"], strategy="keep_latest")

    found: CheckpointTuple = read(reader, thread("a"), go_on)
    assert found.checkpoint["channel_values"] == {"c": OTHERS}
    assert found == writer.get_tuple(thread("a"))


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_a_piece_that_is_missing_is_told(
    saver: Saver,
    saver_on: SaverOn,
    server: str,
    client: redis.Redis,
    prefix: str,
    values: dict[str, Any],
) -> None:
    """A message would be left out, and nobody know."""
    at = put(saver, thread("a"), values, "1")
    key = f"{prefix}:{{a}}:chunks"
    for digest in RANDOM.sample(
        sorted(chunks_at(client, key.encode())), 5 if values["c"] in (MANY, "x") else 1
    ):
        chunk = client.hget(key, digest)
        client.hdel(key, digest)
        other = saver_on(server, prefix=prefix)
        for _ in range(2):
            with pytest.raises(CorruptThreadError, match="missing"):
                other.get_tuple(at)
        client.hset(key, digest, chunk)
        assert other.get_tuple(at) == saver.get_tuple(at)
