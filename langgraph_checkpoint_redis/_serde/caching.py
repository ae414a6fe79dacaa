"""What is remembered of messages, so that neither their writing nor their reading is done anew.

LangGraph puts a conversation whole into each checkpoint and gets it whole in each turn, while all
of its messages but the last were there before. `JsonPlusSerializer` takes most of a call's time for
them. So a message is remembered as it was written, by its fields, and as it was read, by its bytes:
writing one again is looking it up, and reading one again is making it of its fields. One that is
read for the first time is made so, too, if others of its shape were (see `_serde/shapes.py`).

Nobody can tell, but for the time. What is written is what the serializer wrote for a message of the
same class with the same fields; what is read is a message of the caller's own, of which nothing
that can be changed is shared. Both hold for the messages of LangChain with plain fields, and the
serializer of LangGraph as it comes; all else goes through the serializer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias, TypeVar, cast

import msgpack
from langchain_core.messages import BaseMessage
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from langgraph_checkpoint_redis._runtime.interruptions import raise_interruption

from .shapes import (
    MESSAGES,
    Template,
    build_message,
    copy_message,
    fields_of,
    is_made_of,
    key_of,
    shape_of,
)

PYDANTIC = 5  # the extension of msgpack that the serializer writes messages as

LARGE = 2**16  # bytes: what looking a larger message up takes is better spent on its serializer
WRITTEN, READ = 150, 500  # bytes that a message takes beside its content, twice, roughly
SHAPE = 200  # bytes that a shape takes, likewise
MET = 100_000  # messages that were met once, of which nothing but that is known
SERIALIZERS = 100  # a graph that is compiled may have one of its own

# What the list of messages of most states begins with: an array, then an extension. Such a list is
# taken apart first, and its messages are made behind the decoder, which replaces what its hook
# raises by an error of its own: also what the handler of a signal raised, a time limit, say.
_EXTENSIONS = re.compile(rb"(?s)(?:[\x91-\x9f]|\xdc..|\xdd....)[\xc7-\xc9]")
_MISSING = object()  # has no key

Hook: TypeAlias = Callable[[int, bytes], Any]
Item = TypeVar("Item")


class Recent(dict[bytes, Item]):
    """Items by bytes, in about `capacity` bytes at most: beyond them, all is forgotten.

    Each takes about twice what its key does, and some bytes `beside`. What is in use is soon here
    again, while keeping an order of use would cost each look as much as the look.

    Only what is met for the second time is worth an item: much is written once, or read once, as
    by those who go through all threads, and should take no time and push nothing out.
    """

    def __init__(self, capacity: int, beside: int) -> None:
        super().__init__()
        self._capacity, self._beside, self._size = capacity, beside, 0
        self._met: set[int] = set()

    def keep(self, key: bytes, item: Item) -> None:
        """Remember an item."""
        size = self._beside + 2 * len(key)
        if self._size + size > self._capacity:
            self._size = 0
            self.clear()
        self._size += size
        self[key] = item

    def is_met_again(self, key: bytes) -> bool:
        """Whether a key was met before, which it is now."""
        met, name = self._met, hash(key)
        if name in met:
            return True
        if len(met) >= MET:
            met.clear()
        met.add(name)
        return False


class MessageCache:
    """What is remembered of messages, for all copies of a saver, in about `capacity` bytes."""

    def __init__(self, capacity: int) -> None:
        share = capacity // 8
        self.written: Recent[bytes] = Recent(4 * share, WRITTEN)  # by their keys
        self.read: Recent[Template] = Recent(3 * share, READ)  # by bytes
        self.shapes: Recent[type[BaseMessage]] = Recent(share, SHAPE)  # and their classes
        self._serializers: dict[JsonPlusSerializer, SerializerProtocol] = {}

    def remembered_by(self, serde: SerializerProtocol) -> SerializerProtocol:
        """The same serializer, remembering messages if it is one that this can be done for."""
        if type(serde) is not JsonPlusSerializer:
            return serde
        found = self._serializers.get(serde)
        if found is None:
            if len(self._serializers) >= SERIALIZERS:
                self._serializers.clear()
            hook = _reading_hook(serde)
            found = CachingSerializer(serde, hook, self) if hook else serde
            self._serializers[serde] = found
        return found


def _reading_hook(serde: JsonPlusSerializer) -> Hook | None:
    """How a serializer reads extensions, unless in a way of the user's. Nothing public tells."""
    is_own = getattr(serde, "_custom_unpack_ext_hook", True)
    return None if is_own else getattr(serde, "_unpack_ext_hook", None)


class CachingSerializer(SerializerProtocol):
    """Writes and reads what LangGraph's serializer does, and remembers messages."""

    def __init__(self, serde: JsonPlusSerializer, hook: Hook, messages: MessageCache) -> None:
        self._serde, self._original = serde, hook
        self._written, self._read, self._shapes = messages.written, messages.read, messages.shapes
        self._reader = JsonPlusSerializer(__unpack_ext_hook__=self._extension)
        self._opener = JsonPlusSerializer(__unpack_ext_hook__=slice)

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        """Return what the serializer writes. A list of one is mostly new, and not looked up.

        A list of messages is written as it is at one moment: the graph may go on with it meanwhile,
        in another thread.
        """
        if type(obj) is list and {*map(type, obj[:1])} <= MESSAGES.keys():
            obj = obj[:]
            if len(obj) > 1 and {*map(type, obj)} <= MESSAGES.keys():
                first = _keys(obj[:1])
                parts = self._parts(obj, first) if self._written.is_met_again(*first) else ()
                if parts and all(parts):
                    return "msgpack", _array_header(len(obj)) + b"".join(parts)
        return self._serde.dumps_typed(obj)

    def _parts(self, messages: Sequence[Any], first: list[bytes]) -> list[bytes]:
        """Messages as they stand in a list; empty is one that cannot stand in one of msgpack.

        Of the first, this is the key.
        """
        keys, known = [*first, *_keys(messages[1:])], self._written.get
        return [known(key) or self._new(messages[at], key) for at, key in enumerate(keys)]

    def _new(self, message: BaseMessage, key: bytes) -> bytes:
        """Return a message as it stands in a list, and remember one that was met before.

        What is remembered is what the serializer writes for a copy, which is what the key says and
        stays so, whatever another thread does to the message.
        """
        copy = copy_message(key) if key and self._written.is_met_again(key) else None
        type_, data = self._serde.dumps_typed(copy or message)
        if type_ != "msgpack":
            return b""
        if copy:
            self._written.keep(key, data)
        return data

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        """Return what the serializer reads."""
        if data[0] != "msgpack":
            return self._serde.loads_typed(data)
        if _EXTENSIONS.match(data[1]):
            items = self._opened(data)
            if {*map(type, items)} == {slice}:
                return [self._extension(item.start, item.stop) for item in items]
        return self._reader.loads_typed(data)

    def _opened(self, data: tuple[str, bytes]) -> Sequence[Any]:
        """Return the items of a list, with slices for objects; empty where these cannot stand."""
        try:
            return cast("list[Any]", self._opener.loads_typed(data))
        except ValueError as error:  # the keys of a dictionary, say
            raise_interruption(error)
            return ()

    def _extension(self, code: int, data: bytes) -> Any:
        """What an extension of msgpack stands for, of which most are messages."""
        if code != PYDANTIC:
            return self._original(code, data)
        found = self._read.get(data)
        return found.made() if found else self._new_read(data)

    def _new_read(self, data: bytes) -> Any:
        """A message that is not remembered, made of its fields if others of its shape were."""
        found = fields_of(data)
        if not found:
            return self._original(PYDANTIC, data)
        key, fields = shape_of(*found), found[1]
        kind = self._shapes.get(key)
        if not kind:
            return self._of_new_shape(data, key, fields)
        if len(data) <= LARGE and self._read.is_met_again(data):
            template = Template.of(kind, fields)
            if template.mutable:
                self._read.keep(data, template)
        return build_message(kind, fields)

    def _of_new_shape(self, data: bytes, key: bytes, fields: dict[str, Any]) -> Any:
        message = self._original(PYDANTIC, data)
        is_known = 0 < len(key) <= LARGE and self._shapes.is_met_again(key)
        if is_known and is_made_of(message, fields):
            self._shapes.keep(key, type(message))
        return message


def _array_header(length: int) -> bytes:
    return msgpack.Packer().pack_array_header(length)


def _keys(messages: Iterable[Any]) -> list[bytes]:
    """Return what messages are looked up by: class and fields; empty, where there is much."""
    keys = []
    for message in messages:
        extra = getattr(message, "__pydantic_extra__", _MISSING)
        key = key_of((MESSAGES[type(message)], message.__dict__, extra))
        keys.append(key if len(key) <= LARGE else b"")
    return keys
