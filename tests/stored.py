"""What is stored of a thread, as tests look at it with a plain client."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import redis


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
