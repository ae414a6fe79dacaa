"""Which messages can be made of their fields as they stand, without validating them again.

To read a message, `JsonPlusSerializer` calls its class with the fields that were written, and most
of the time goes into validating what was valid when it was written. What comes of that is nearly
always a message of these very fields: whatever the text, the numbers, or the arguments of a call.
So messages are told by their shape, which is all but those; and where the serializer has made one
of the very fields of a message, it would do so for all others of the same shape.

That holds for the classes of LangChain that are named here, as long as nobody but their known
validators looks at their fields.
"""

from __future__ import annotations

import marshal
import operator
from typing import Any, NamedTuple

import msgpack
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from langgraph_checkpoint_redis._runtime.interruptions import raise_interruption

# Each with a number that tells it from the others.
MESSAGES: dict[type, int] = {AIMessage: 0, HumanMessage: 1, SystemMessage: 2, ToolMessage: 3}

# Marshal, in this version, writes equal bytes only for what is equal to the last type and bit, if
# it is of these types.
MARSHAL = 2
PLAIN = frozenset((str, int, float, bool, type(None)))

# Where Pydantic keeps the validators of a class, and those that let pass what shapes leave out.
DECORATORS = "field_validators", "model_validators", "root_validators", "validators"
VALIDATORS = {"_backwards_compat_tool_calls", "coerce_args"}

TEXTS = ("content", "id", "name", "tool_call_id")  # fields in which any text is valid
BLOCKS = frozenset((str, dict))  # what content may be a list of
CALL = ["name", "args", "id", "type"]  # what there is in the call of a tool, in order
ANY_CALL = ...  # stands for one; no serializer writes it

# All that a model of Pydantic consists of.
STATE = {"__dict__", "__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__"}


def is_plain(value: Any) -> bool:
    """Return whether a value consists of lists, dictionaries, text, numbers and the like alone.

    It must not contain itself. Nothing recurses here: a user's data may be nested deeper than the
    stack of Python is high.
    """
    containers: list[Any] = [value]
    for container in containers:  # which grows meanwhile
        kind = type(container)
        if kind is dict:
            if not {*map(type, container)} <= PLAIN:
                return False
            items = container.values()
        elif kind is list:
            items = container
        else:
            return kind in PLAIN
        containers += [item for item in items if type(item) not in PLAIN]
    return True


def key_of(value: Any) -> bytes:
    """Return bytes that are equal for equal plain values only; empty, where there are objects.

    The value is read in one step, in which no other thread can change it.
    """
    try:
        return marshal.dumps(value, MARSHAL)
    except ValueError:  # an object, or nested too deeply
        return b""


def beginnings() -> tuple[bytes, ...]:
    """What messages begin with, as they are written, that may be made of their fields."""
    known = [kind for kind in MESSAGES if _validators(kind) <= VALIDATORS]
    # Fields and a method follow, here of a byte each.
    return tuple(msgpack.packb([kind.__module__, kind.__name__, 0, 0])[:-2] for kind in known)


def _validators(kind: Any) -> set[str]:
    """The names of what looks at the fields of a class, beside Pydantic itself.

    Pydantic may come to keep them elsewhere: then there are some that are not known.
    """
    found = getattr(kind, "__pydantic_decorators__", None)
    return set[str]().union(*[getattr(found, name, {"unknown"}) for name in DECORATORS])


BEGINNINGS = beginnings()
# Makes no objects: a number and bytes cannot be added. It is no function of Python, since in one of
# those the handler of a signal could raise, and the decoder replaces what its hook raises.
PLAIN_READER = JsonPlusSerializer(__unpack_ext_hook__=operator.add)


def fields_of(data: bytes) -> tuple[str, dict[str, Any]] | None:
    """The class and the fields of a message as it was written, if no objects are in them."""
    if not data.startswith(BEGINNINGS):
        return None
    try:
        _, name, fields, _ = PLAIN_READER.loads_typed(("msgpack", data))
    except ValueError as error:
        raise_interruption(error)
        return None
    return (name, fields) if type(fields) is dict else None


def shape_of(name: str, fields: dict[str, Any]) -> bytes:
    """A class, and fields but for what they say."""
    found = {**fields}
    for field in TEXTS:
        if type(found.get(field)) is str:
            found[field] = ""
    if type(found.get("content")) is list and {*map(type, found["content"])} <= BLOCKS:
        found["content"] = []
    if type(found.get("response_metadata")) is dict:
        found["response_metadata"] = {}
    if type(found.get("usage_metadata")) is dict:
        usage = found["usage_metadata"].items()
        found["usage_metadata"] = {kind: _without_numbers(count) for kind, count in usage}
    if type(found.get("tool_calls")) is list:
        found["tool_calls"] = [ANY_CALL if _is_call(call) else call for call in found["tool_calls"]]
    return key_of((name, found))


def _without_numbers(count: Any) -> Any:
    if type(count) is dict:
        return {kind: 0 if type(number) is int else number for kind, number in count.items()}
    return 0 if type(count) is int else count


def _is_call(call: Any) -> bool:
    """Whether this is the call of a tool, with arguments that have names."""
    if type(call) is not dict or [*call] != CALL:
        return False
    name, args, id_, type_ = call.values()
    is_named = type(args) is dict and {*map(type, (name, id_, *args))} == {str}
    return is_named and type_ == "tool_call"


def is_made_of(message: Any, fields: dict[str, Any]) -> bool:
    """Whether this is what `made` makes of these fields, to the last type and bit."""
    key = key_of(fields)
    if type(message) not in MESSAGES or not (key and is_plain(fields)):
        return False
    state = message.__getstate__()  # all that there is, as Pydantic tells whoever pickles it
    return (
        state.keys() == STATE
        and key_of(state["__dict__"]) == key
        and state["__pydantic_fields_set__"] == fields.keys()
        and state["__pydantic_extra__"] == {}
        and state["__pydantic_private__"] is None
    )


_new = object.__new__
_set = object.__setattr__  # Pydantic's own refuses most names


def build_message(kind: type[BaseMessage], fields: dict[str, Any]) -> BaseMessage:
    """A message that consists of these very fields, all of which were given."""
    message = _new(kind)
    _set(message, "__dict__", fields)
    _set(message, "__pydantic_fields_set__", {*fields})
    _set(message, "__pydantic_extra__", {})
    _set(message, "__pydantic_private__", None)
    return message


_KINDS = [*MESSAGES]


def copy_message(key: bytes) -> BaseMessage | None:
    """Return a message of the class and the fields that a key says, if all of them are plain.

    The key is that of the class's number, its fields and its extra fields.
    """
    number, fields, extra = marshal.loads(key)  # noqa: S302 - it was made here
    if not (is_plain(fields) and is_plain(extra)):
        return None  # bytes, say, which other objects have the same key as
    message = build_message(_KINDS[number], fields)
    _set(message, "__pydantic_extra__", extra)
    return message


class Template(NamedTuple):
    """What to make more messages of, each like the first one: their class and their fields.

    Those of the fields that can be changed within are `mutable`, marshalled, and `None` in
    `fields`. So the garbage collector, which looks at all that is kept, has little to look at.
    `mutable` is empty if they are nested too deeply: then no message can be made.
    """

    kind: type[BaseMessage]
    fields: dict[str, Any]
    mutable: bytes

    @classmethod
    def of(cls, kind: type[BaseMessage], fields: dict[str, Any]) -> Template:
        """A template that shares nothing with these fields that can be changed."""
        mutable = {name: value for name, value in fields.items() if type(value) not in PLAIN}
        return cls(kind, fields | dict.fromkeys(mutable), key_of(mutable))

    def made(self) -> BaseMessage:
        """A message that shares nothing with others that can be changed."""
        return build_message(self.kind, {**self.fields, **marshal.loads(self.mutable)})  # noqa: S302 - it was made here
