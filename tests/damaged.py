"""A conversation that can be damaged, and what reading it may come to."""

from __future__ import annotations

from typing import Any

import redis
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointTuple
from langgraph.checkpoint.conformance.test_utils import generate_checkpoint, generate_metadata
from langgraph.checkpoint.serde.types import ERROR

from langgraph_checkpoint_redis import CorruptThreadError, RedisSaver, UnknownFormatError
from langgraph_checkpoint_redis._storage.keys import Keyspace

from .driving import Saver
from .stored import chunks_at


def thread(**configurable: Any) -> RunnableConfig:
    return {"configurable": {"thread_id": "a b", **configurable}}


def conversation(saver: Saver) -> list[RunnableConfig]:
    """Checkpoints in two namespaces, with writes; small values, and one with nodes."""
    made: list[RunnableConfig] = []
    for namespace in ("", "child:1"):
        at = thread(checkpoint_ns=namespace)
        for number in range(3):
            values = {
                "small": f"{namespace} {number}",
                "c": [f"{i:600}" for i in range(number, 20)],
            }
            versions: Any = {"small": str(number), "c": str(number)}
            checkpoint = generate_checkpoint(channel_values=values, channel_versions=versions)
            at = saver.put(at, checkpoint, generate_metadata(run_id="run", step=number), versions)
            saver.put_writes(at, [("small", f"w {number}"), (ERROR, "e"), ("c", "w" * 900)], "task")
            made.append(at)
    return made


class Stored:
    """A conversation in Redis that can be damaged, and be as it was."""

    def __init__(self, client: redis.Redis, prefix: str) -> None:
        self.client, self.keys = client, Keyspace(prefix).thread("a b")
        self.places = conversation(RedisSaver(client, prefix=prefix))
        self.dumps = {key: client.dump(key) for key in self.keys if client.exists(key)}
        self.timeline: list[bytes] = client.zrange(self.keys.timeline, 0, -1)  # type: ignore[assignment]
        self.writes: list[bytes] = client.zrange(self.keys.writes, 0, -1)  # type: ignore[assignment]
        self.chunks = chunks_at(client, self.keys.chunks)

    def repair(self) -> None:
        self.client.delete(*self.keys)
        for key, dump in self.dumps.items():
            self.client.restore(key, 0, dump)  # type: ignore[arg-type]

    def replace_row(self, row: bytes, altered: bytes) -> None:
        key = self.keys.timeline if row in self.timeline else self.keys.writes
        self.client.zrem(key, row)
        self.client.zadd(key, {altered: 0})


def read(saver: Saver, place: RunnableConfig) -> CheckpointTuple | None:
    """A checkpoint; `None` if it is not found, or an error of ours is raised that names it."""
    try:
        return saver.get_tuple(place)
    except CorruptThreadError as error:
        if (error.thread_id, error.key in str(error)) != ("a b", True):
            raise AssertionError("the damage is not named") from error
        return None
    except UnknownFormatError as error:
        raise AssertionError("damage was taken for a format of the future") from error


def flipped(data: bytes, position: int, mask: int) -> bytes:
    return data[:position] + bytes([data[position] ^ mask]) + data[position + 1 :]


def damage_last_row(client: redis.Redis, key: bytes) -> None:
    """Alter the last row of a sorted set, as a bit that flipped would."""
    rows: Any = client.zrange(key, -1, -1)
    (row,) = rows
    client.zrem(key, row)
    client.zadd(key, {row[:-9] + b"?" + row[-8:]: 0})
