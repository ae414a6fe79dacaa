"""msgpack as Redis can read it, and reading it from bytes that may be damaged or hostile."""

from __future__ import annotations

from typing import Any

import msgpack

from langgraph_checkpoint_redis.errors import ConfigError


def pack(data: object) -> bytes:
    """`data` as msgpack that Redis can read."""
    try:
        return msgpack.packb(data, use_bin_type=False)
    except UnicodeEncodeError as error:
        raise ConfigError(f"names must be valid Unicode: {error.object!r:.200}") from error


def unpack_all(data: bytes) -> list[Any]:
    """The msgpack values that follow one another."""
    return [*_unpacker(data)]


def _unpacker(data: bytes) -> Any:
    """Return an iterator over the values that follow one another, without maps and extensions.

    They are skipped once before they are read. A list takes memory for as many items as it says to
    have, and a list within a list again; skipping takes none, and finds those that are not there.
    """
    whole = msgpack.Unpacker(raw=True, max_buffer_size=len(data))
    whole.feed(data)
    while whole.tell() < len(data):
        whole.skip()
    unpacker = msgpack.Unpacker(raw=True, max_buffer_size=len(data), max_map_len=0, max_ext_len=0)
    unpacker.feed(data)
    return unpacker


def unpack(data: bytes) -> Any:
    (found,) = _unpacker(data)
    return found
