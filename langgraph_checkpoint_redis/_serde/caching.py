"""`CachingSerializer`: LangGraph's serializer, which remembers messages.

LangGraph puts a conversation whole into each checkpoint and gets it whole in each turn, while all
of its messages but the last were there before. `JsonPlusSerializer` takes most of a call's time for
them. So a message is remembered as it was written, by its fields, and as it was read, by its bytes:
to write one again is to look it up, and to read one again is to make it of its fields. One that is
read for the first time is made so, too, if others of its shape were (see `shapes.py`).

Only the time differs. It writes what `JsonPlusSerializer` writes for a message of the same class
with the same fields. It returns messages of the caller's own, which share nothing that can be
changed. Other values go through `JsonPlusSerializer`.

It relies on three things that LangGraph and LangChain do not promise. Where one of them changes,
it remembers nothing and does what `JsonPlusSerializer` does:

* msgpack's extension type 5 is a Pydantic object, `[module, class, fields, ...]`;
* `_unpack_ext_hook` reads extensions, unless `_custom_unpack_ext_hook` says that a user's own does;
* only the validators that `shapes.py` names look at the fields of LangChain's four message classes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias, TypeVar, cast

import msgpack
from langchain_core.messages import BaseMessage
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
CAPACITY = 32 * 2**20  # bytes
MET = 100_000  # messages that were met once, of which nothing but that is known

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
    """The messages that a serializer remembers, in about `capacity` bytes."""

    def __init__(self, capacity: int) -> None:
        share = capacity // 8
        self.written: Recent[bytes] = Recent(4 * share, WRITTEN)  # by their keys
        self.read: Recent[Template] = Recent(3 * share, READ)  # by bytes
        self.shapes: Recent[type[BaseMessage]] = Recent(share, SHAPE)  # and their classes


class CachingSerializer(JsonPlusSerializer):
    """LangGraph's `JsonPlusSerializer`, which remembers messages: the savers' default `serde`.

    It writes the same bytes and reads the same values, in less time. Copies with another allowlist
    share its memory.

    Args:
        capacity: The memory for messages, in bytes, about.
        **options: As of `JsonPlusSerializer`, such as `allowed_msgpack_modules`.
    """

    def __init__(self, *, capacity: int = CAPACITY, **options: Any) -> None:
        super().__init__(**options)
        self.capacity = capacity
        self.messages = MessageCache(capacity)
        self._prepare()

    def _prepare(self) -> None:
        """Make what reads messages, for the way in which this serializer reads extensions."""
        is_own = not getattr(self, "_custom_unpack_ext_hook", True)
        self._original: Hook | None = getattr(self, "_unpack_ext_hook", None) if is_own else None
        self._written, self._read = self.messages.written, self.messages.read
        self._shapes = self.messages.shapes
        self._reader = JsonPlusSerializer(__unpack_ext_hook__=self._extension)
        self._opener = JsonPlusSerializer(__unpack_ext_hook__=slice)

    def with_msgpack_allowlist(
        self, extra_allowlist: Iterable[tuple[str, ...] | type]
    ) -> JsonPlusSerializer:
        """Return a serializer that may read further classes, as `JsonPlusSerializer` does."""
        clone = super().with_msgpack_allowlist(extra_allowlist)
        if isinstance(clone, CachingSerializer) and clone is not self:
            clone._prepare()  # noqa: SLF001 - another one of this class
        return clone

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        """Return the type and the bytes of a value. A list of one is mostly new: not looked up.

        A list of messages is written as it is at one moment: the graph may go on with it meanwhile,
        in another thread.
        """
        if type(obj) is list and self._original and {*map(type, obj[:1])} <= MESSAGES.keys():
            obj = obj[:]
            if len(obj) > 1 and {*map(type, obj)} <= MESSAGES.keys():
                first = _keys(obj[:1])
                parts = self._parts(obj, first) if self._written.is_met_again(*first) else ()
                if parts and all(parts):
                    return "msgpack", _array_header(len(obj)) + b"".join(parts)
        return super().dumps_typed(obj)

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
        type_, data = super().dumps_typed(copy or message)
        if type_ != "msgpack":
            return b""
        if copy:
            self._written.keep(key, data)
        return data

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        """Return the value of a type and bytes."""
        if data[0] != "msgpack" or not self._original:
            return super().loads_typed(data)
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
        original = cast("Hook", self._original)
        if code != PYDANTIC:
            return original(code, data)
        found = self._read.get(data)
        return found.made() if found else self._new_read(data, original)

    def _new_read(self, data: bytes, original: Hook) -> Any:
        """Make a message that is not remembered of its fields, if others of its shape were."""
        found = fields_of(data)
        if not found:
            return original(PYDANTIC, data)
        key, fields = shape_of(*found), found[1]
        kind = self._shapes.get(key)
        if not kind:
            return self._of_new_shape(original(PYDANTIC, data), key, fields)
        if len(data) <= LARGE and self._read.is_met_again(data):
            template = Template.of(kind, fields)
            if template.mutable:
                self._read.keep(data, template)
        return build_message(kind, fields)

    def _of_new_shape(self, message: Any, key: bytes, fields: dict[str, Any]) -> Any:
        """Return a message, and remember its shape if it was made of these very fields."""
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
