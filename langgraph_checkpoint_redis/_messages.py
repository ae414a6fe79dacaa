"""What is remembered of messages, so that neither their writing nor their reading is done anew.

LangGraph puts a conversation whole into each checkpoint and gets it whole in each turn, while all
of its messages but the last were there before. `JsonPlusSerializer` takes most of a call's time for
them. So a message is remembered as it was written, by its fields, and as it was read, by its bytes:
writing one again is looking it up, and reading one again is copying it.

Nobody can tell, but for the time. What is written is what the serializer wrote for a message of the
same class with the same fields; what is read is a message of the caller's own, of which nothing
that can be changed is shared. Both hold for the messages of LangChain with plain fields, and the
serializer of LangGraph as it comes; all else goes through the serializer.
"""

from __future__ import annotations

import marshal
from collections.abc import Callable, Iterable
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

import msgpack
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

MESSAGES = frozenset((AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage))
PYDANTIC = 5  # the extension of msgpack that the serializer writes them as

# Marshal, in this version, writes equal bytes only for what is equal to the last type and bit, if
# it is of these types.
MARSHAL = 2
PLAIN = frozenset((str, int, float, bool, type(None)))

LARGE = 2**16  # bytes: what looking a larger message up takes is better spent on its serializer
WRITTEN, READ = 300, 2_000  # bytes that a message takes beside its content, twice, roughly
MET = 100_000  # messages that were met once, of which nothing but that is known
SERIALIZERS = 100  # a graph that is compiled may have one of its own

Hook: TypeAlias = Callable[[int, bytes], Any]
Item = TypeVar("Item")


class Recent(Generic[Item]):
    """What was asked for lately, by bytes, in about `capacity` bytes at most.

    There are two generations: when the younger one is full, it takes the place of the older one.
    Each item takes about twice what its key does, and some bytes `beside`.
    """

    def __init__(self, capacity: int, beside: int) -> None:
        self._limit, self._beside = capacity // 2, beside
        self._young: dict[bytes, Item] = {}
        self._old: dict[bytes, Item] = {}
        self._met: set[int] = set()
        self._size = 0

    def get(self, key: bytes) -> Item | None:
        """What is kept under a key."""
        found = self._young.get(key)
        if found is None and (found := self._old.get(key)) is not None:
            self.keep(key, found)
        return found

    def is_met_again(self, key: bytes) -> bool:
        """Whether a key was met before, which it is now."""
        met, name = self._met, hash(key)
        if name in met:
            return True
        if len(met) >= MET:
            met.clear()
        met.add(name)
        return False

    def keep(self, key: bytes, item: Item) -> None:
        """Keep an item until others push it out."""
        self._young[key] = item
        self._size += self._beside + 2 * len(key)
        if self._size > self._limit:
            self._old, self._young, self._size = self._young, {}, 0


class Template(NamedTuple):
    """A message to make copies of, which itself is never given away.

    `mutable` are those of its fields that can be changed within, marshalled.
    """

    message: BaseMessage
    mutable: bytes

    def copy(self) -> BaseMessage:
        """A message that shares nothing with this one that can be changed."""
        copied = self.message.__copy__()
        copied.__dict__.update(marshal.loads(self.mutable))  # noqa: S302 - it was made here
        return copied


def template(message: Any) -> Template | None:
    """A template of a message, unless it has what cannot be copied here."""
    if type(message) not in MESSAGES or message.model_extra or not is_plain(message.__dict__):
        return None
    fields = message.__dict__.items()
    mutable = {name: value for name, value in fields if type(value) not in PLAIN}
    return Template(message.__copy__(), marshal.dumps(mutable, MARSHAL))


def is_plain(value: Any) -> bool:
    """Whether a value consists of lists, dictionaries, text, numbers and the like alone."""
    kind = type(value)
    if kind is dict:
        return _are_plain(value) and _are_plain(value.values())
    return _are_plain(value) if kind is list else kind in PLAIN


def _are_plain(values: Iterable[Any]) -> bool:
    return all(is_plain(value) for value in values if type(value) not in PLAIN)


class Written(NamedTuple):
    """What the serializer wrote for a message of a class."""

    kind: type
    data: bytes


class Messages:
    """What is remembered of messages, for all copies of a saver, in about `capacity` bytes."""

    def __init__(self, capacity: int) -> None:
        self.written: Recent[Written] = Recent(capacity // 2, WRITTEN)  # by fields
        self.read: Recent[Template] = Recent(capacity // 2, READ)  # by bytes
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
            found = RememberingSerializer(serde, hook, self) if hook else serde
            self._serializers[serde] = found
        return found


def _reading_hook(serde: JsonPlusSerializer) -> Hook | None:
    """How a serializer reads extensions, unless in a way of the user's. Nothing public tells."""
    is_own = getattr(serde, "_custom_unpack_ext_hook", True)
    return None if is_own else getattr(serde, "_unpack_ext_hook", None)


class RememberingSerializer(SerializerProtocol):
    """Writes and reads what LangGraph's serializer does, and remembers messages."""

    def __init__(self, serde: JsonPlusSerializer, hook: Hook, messages: Messages) -> None:
        self._serde, self._original = serde, hook
        self._written, self._read = messages.written, messages.read
        self._reader = JsonPlusSerializer(__unpack_ext_hook__=self._extension)

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        """What the serializer writes."""
        if type(obj) is list and obj and MESSAGES.issuperset(map(type, obj)):
            parts = [self._message(message) for message in obj]
            if all(parts):
                return "msgpack", _array_header(len(obj)) + b"".join(parts)
        return self._serde.dumps_typed(obj)

    def _message(self, message: BaseMessage) -> bytes:
        """A message as it stands in a list; empty, if it cannot stand in one of msgpack."""
        fields = _marshalled(message)
        written = self._written.get(fields) if fields else None
        if written and written.kind is type(message) and not message.model_extra:
            return written.data
        type_, data = self._serde.dumps_typed(message)
        if type_ != "msgpack":
            return b""
        if fields and _is_known_by(message, fields):
            self._written.keep(fields, Written(type(message), data))
        return data

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        """What the serializer reads."""
        return (self._reader if data[0] == "msgpack" else self._serde).loads_typed(data)

    def _extension(self, code: int, data: bytes) -> Any:
        """What an extension of msgpack stands for, of which most are messages."""
        if code != PYDANTIC or len(data) > LARGE:
            return self._original(code, data)
        found = self._read.get(data)
        if found:
            return found.copy()
        message = self._original(code, data)
        # Whoever reads many threads once leaves those that are being talked in where they are.
        if self._read.is_met_again(data) and (made := template(message)):
            self._read.keep(data, made)
        return message


def _array_header(length: int) -> bytes:
    return msgpack.Packer().pack_array_header(length)


def _marshalled(message: BaseMessage) -> bytes | None:
    """The fields of a message, which it can be looked up by; not if they are large."""
    try:
        fields = marshal.dumps(message.__dict__, MARSHAL)
    except ValueError:  # there are objects in them
        return None
    return fields if len(fields) <= LARGE else None


def _is_known_by(message: BaseMessage, fields: bytes) -> bool:
    """Whether these fields are all of a message, still: another thread may be changing it."""
    is_whole = not message.model_extra and is_plain(message.__dict__)
    return is_whole and marshal.dumps(message.__dict__, MARSHAL) == fields
