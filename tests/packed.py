"""Values as LangGraph's serializer packs them: the bytes that are cut into chunks.

Programs of other processes import this module, too, and must get the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgpack
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from .strategies import message

SERDE = JsonPlusSerializer()


def packed(value: Any) -> bytes:
    """The bytes of a value."""
    return SERDE.dumps_typed(value)[1]


def packed_list(items: Sequence[bytes]) -> bytes:
    """The list of some packed items."""
    return msgpack.Packer().pack_array_header(len(items)) + b"".join(items)


def a_conversation() -> bytes:
    """The bytes of a hundred messages, the same ones each time."""
    return packed({"messages": [message(number) for number in range(100)], "tags": ["a", "b"]})
