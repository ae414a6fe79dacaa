"""What is stored of a thread, as tests look at it with a plain client.

What belongs here: readers of keys, and of all that a thread has stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import redis
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from langgraph_checkpoint_redis._storage.keys import Keyspace
from langgraph_checkpoint_redis._storage.records import (
    CheckpointRow,
    parse_checkpoint_row,
    parse_writes_row,
)
from langgraph_checkpoint_redis._storage.values import Entry


def chunks_at(client: redis.Redis, key: bytes) -> dict[bytes, bytes]:
    """The chunks of a thread, without the fields beside them that say whether it is whole."""
    fields: Any = client.hgetall(key)
    return {name: chunk for name, chunk in fields.items() if len(name) == 16}


def contents(client: redis.Redis, keys: Iterable[bytes]) -> dict[bytes, object]:
    """What is in some keys that are there.

    Not as `DUMP` has it: a large hash changes its order by itself, while the server rehashes it.
    """
    found = {key: content_of(client, key) for key in keys}
    return {key: content for key, content in found.items() if content is not None}


def contents_below(client: redis.Redis, prefix: str) -> dict[bytes, object]:
    """All that is stored under a prefix, but for what goes by itself in a minute."""
    read: dict[bytes | str, Callable[[Any], object]] = {
        b"zset": lambda key: client.zrange(key, 0, -1, withscores=True),
        b"hash": client.hgetall,
        b"set": lambda key: set(client.smembers(key)),  # a list, in redis-py 5
    }
    keys = [key for key in client.scan_iter(f"{prefix}:*") if client.ttl(key) < 0]
    return {key: read[client.type(key)](key) for key in keys}


def content_of(client: redis.Redis, key: bytes) -> Any:
    """What is in a key; None if it is not there."""
    kind: Any = client.type(key)
    if kind == b"hash":
        return client.hgetall(key)
    if kind == b"zset":
        return client.zrange(key, 0, -1, withscores=True)
    if kind == b"set":
        return client.smembers(key)
    return client.dump(key)


def parts_of(client: Any, key: bytes) -> list[bytes]:
    """All bytes that a key holds, in parts."""
    match client.type(key):
        case b"hash":
            return [part for item in client.hgetall(key).items() for part in item]
        case b"zset":
            return list(client.zrange(key, 0, -1))
        case b"set":
            return list(client.smembers(key))
        case _:
            return [client.get(key)]


class Stored(NamedTuple):
    """What a thread holds, as it is in Redis."""

    timeline: list[bytes]
    writes: list[bytes]
    chunks: dict[bytes, bytes]
    runs: dict[bytes, bytes]
    live: set[bytes]

    @property
    def records(self) -> list[CheckpointRow]:
        """The checkpoints, each namespace from the oldest to the newest."""
        return [parse_checkpoint_row(row) for row in self.timeline]

    def garbage(self) -> set[bytes]:
        """What is there though no checkpoint leads to it."""
        places = {b"\0".join(row.split(b"\0", 2)[:2]) for row in self.timeline}
        entries = [entry for record in self.records for _, entry in record.entries()]
        entries += [write.entry for row in self.writes for write in parse_writes_row(row)]
        used = {digest for entry in entries for digest in self.digests(entry)}
        return (
            (self.chunks.keys() - used)
            | {row for row in self.writes if b"\0".join(row.split(b"\0", 2)[:2]) not in places}
            | (self.runs.keys() - {run.encode() for run in self.runs_of_checkpoints()})
            | self.live
        )

    def digests(self, entry: Entry) -> Iterator[bytes]:
        """Those of all chunks that a value is made of."""
        for height, level in enumerate(entry.levels):
            digests = _split(level)
            for _ in range(height):
                yield from digests
                digests = [child for node in digests for child in _split(self.chunks[node][1:])]
            yield from digests

    def runs_of_checkpoints(self) -> set[str]:
        metadata = [record.metadata(JsonPlusSerializer(), "a") for record in self.records]
        return {one["run_id"] for one in metadata if "run_id" in one}


def _split(digests: bytes) -> list[bytes]:
    return [digests[start : start + 16] for start in range(0, len(digests), 16)]


def stored(client: Any, prefix: str, thread_id: str = "a") -> Stored:
    """What there is of a thread now."""
    keys = Keyspace(prefix).thread(thread_id)
    return Stored(
        client.zrange(keys.timeline, 0, -1),
        client.zrange(keys.writes, 0, -1),
        chunks_at(client, keys.chunks),
        client.hgetall(keys.runs),
        set(client.smembers(keys.live)),  # a list, in redis-py 5
    )
