"""Values that pass through as their stored bytes, so that no object is built.

LangGraph's serializer imports the classes that a value names, and calls them. A file may come from
a stranger. So if both sides use LangGraph's serializer, an import uses the serializer here instead.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import msgpack
import ormsgpack
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from langgraph_checkpoint_redis import CachingSerializer

from ._stores import AnySaver

# What a value may hold, in items; a container counts for some of them, as it takes more memory.
MOST_ITEMS, WEIGHT = 20_000_000, 8
_DATA = ("null", "bytes", "bytearray", "msgpack")  # types that build no objects but by extensions


class PassingSerializer(JsonPlusSerializer):
    """LangGraph's serializer, with each object inside a value left as its msgpack extension."""

    def __init__(self) -> None:
        super().__init__(allowed_msgpack_modules=None, __unpack_ext_hook__=ormsgpack.Ext)

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        """Return plain data with extensions in it; refuse types that only build objects."""
        if data[0] not in _DATA:
            raise ValueError(
                f"a value of type {data[0]!r:.50} builds objects; if you trust the file, "
                "say with `serde` how to read it"
            )
        if data[0] == "msgpack":
            check_items(data[1])
        return super().loads_typed(data)


def check_items(data: bytes) -> None:
    """Raise `ValueError` if msgpack would become too many objects; a byte can become a list."""
    if len(data) * WEIGHT <= MOST_ITEMS:
        return
    left = MOST_ITEMS

    def see(items: Sequence[object]) -> None:
        nonlocal left
        left -= len(items) + WEIGHT
        if left < 0:
            raise ValueError(f"a value has more than {MOST_ITEMS} items")

    unpacker = msgpack.Unpacker(
        raw=True,
        list_hook=see,
        object_pairs_hook=see,
        ext_hook=lambda *_: None,
        max_buffer_size=len(data),
        max_array_len=MOST_ITEMS,
        max_map_len=MOST_ITEMS,
    )
    unpacker.feed(data)
    unpacker.unpack()


def passing(serde: SerializerProtocol, *, asked: bool = False) -> SerializerProtocol | None:
    """Return a serializer for the same bytes that builds no objects; None if none is known.

    A pickle cannot pass; `asked` is whether a serializer that reads pickles is to do so.
    """
    if type(serde) is EncryptedSerializer:
        inner = passing(serde.serde, asked=asked)
        return inner and EncryptedSerializer(serde.cipher, inner)
    is_known = type(serde) in (JsonPlusSerializer, CachingSerializer)
    if not isinstance(serde, JsonPlusSerializer) or not is_known:
        return None
    if asked and serde.pickle_fallback:
        return None
    return PassingSerializer()


def with_serializer(saver: AnySaver, serde: SerializerProtocol) -> AnySaver:
    """Return the same saver with another serializer, as LangGraph itself makes them."""
    clone = copy.copy(saver)
    clone.serde = serde
    return clone
