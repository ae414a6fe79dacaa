"""Values that pass through as the bytes that they are stored as, so that no object is built.

LangGraph's serializer imports the classes that a value names, and calls them. A file may be a
stranger's, so an import reads and writes with the serializer here wherever both sides use
LangGraph's.
"""

from __future__ import annotations

import copy
from typing import Any

import ormsgpack
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from ._stores import AnySaver

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
        return super().loads_typed(data)


def passing(serde: SerializerProtocol, *, asked: bool = False) -> SerializerProtocol | None:
    """Return a serializer for the same bytes that builds no objects; None if none is known.

    A pickle cannot pass; `asked` is whether a serializer that reads pickles is to do so.
    """
    if type(serde) is EncryptedSerializer:
        inner = passing(serde.serde, asked=asked)
        return inner and EncryptedSerializer(serde.cipher, inner)
    if type(serde) is not JsonPlusSerializer or (asked and serde.pickle_fallback):
        return None
    return PassingSerializer()


def with_serializer(saver: AnySaver, serde: SerializerProtocol) -> AnySaver:
    """Return the same saver with another serializer, as LangGraph itself makes them."""
    clone = copy.copy(saver)
    clone.serde = serde
    return clone
