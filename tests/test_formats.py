"""Rows in a format of the future: a saver neither misreads nor changes them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import redis
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.conformance.test_utils import generate_config

from langgraph_checkpoint_redis import UnknownFormatError
from langgraph_checkpoint_redis._storage.checksums import checksum_of, strip_checksum
from langgraph_checkpoint_redis._storage.keys import Keyspace

from .driving import Saver
from .stored import contents_below
from .story import thread
from .watching import put

OPERATIONS: dict[str, Callable[[Saver, RunnableConfig], object]] = {
    "get_tuple of the latest": lambda saver, at: saver.get_tuple(thread("a")),
    "get_tuple by id": lambda saver, at: saver.get_tuple(at),
    "list": lambda saver, at: [*saver.list(thread("a"))],
    "filtered list": lambda saver, at: [*saver.list(thread("a"), filter={"run_id": "?"})],
    "delta history": lambda saver, at: saver.get_delta_channel_history(
        config=thread("a"), channels=["unknown"]
    ),
    "put": put,
    "thread_info": lambda saver, at: saver.thread_info("a"),
    "prune": lambda saver, at: saver.prune(["a"]),
    "delete_for_runs": lambda saver, at: saver.delete_for_runs(["run-1"]),
}


def make_unknown(client: redis.Redis, key: bytes, nuls: int) -> None:
    """Let the last row of a sorted set be of format 99; its data begin behind so many NULs."""
    (row,) = client.zrange(key, -1, -1)
    assert isinstance(row, bytes)
    *names, data = strip_checksum(row).split(b"\0", nuls)
    content = b"\0".join([*names, data[:1] + b"\x63" + data[2:]])
    client.zrem(key, row)
    client.zadd(key, {content + checksum_of(content): 0})


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_checkpoint_of_an_unknown_format_is_neither_misread_nor_changed(
    saver: Saver, client: redis.Redis, prefix: str, operation: str
) -> None:
    """While versions of this package change, an old process would spoil what a new one wrote."""
    at = put(saver, put(saver, generate_config("a"), run_id="run-1"), run_id="run-2")
    make_unknown(client, Keyspace(prefix).thread("a").timeline, 2)
    before = contents_below(client, prefix)
    with pytest.raises(UnknownFormatError, match="99"):
        OPERATIONS[operation](saver, at)
    assert contents_below(client, prefix) == before


@pytest.mark.parametrize(
    "operation", ["get_tuple of the latest", "list", "thread_info", "prune", "delete_for_runs"]
)
def test_writes_of_an_unknown_format_are_neither_misread_nor_changed(
    saver: Saver, client: redis.Redis, prefix: str, operation: str
) -> None:
    """While versions of this package change, an old process would spoil what a new one wrote."""
    at = put(saver, put(saver, generate_config("a"), run_id="run-1"), run_id="run-2")
    saver.put_writes(at, [("small", "w")], "task")
    make_unknown(client, Keyspace(prefix).thread("a").writes, 3)
    before = contents_below(client, prefix)
    with pytest.raises(UnknownFormatError, match="99"):
        OPERATIONS[operation](saver, at)
    assert contents_below(client, prefix) == before
