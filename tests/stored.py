"""What is stored of a thread, as tests look at it with a plain client."""

from __future__ import annotations

from typing import Any

import redis


def chunks_at(client: redis.Redis, key: bytes) -> dict[bytes, bytes]:
    """The chunks of a thread, without the fields beside them that say whether it is whole."""
    fields: Any = client.hgetall(key)
    return {name: chunk for name, chunk in fields.items() if len(name) == 16}
