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
from collections.abc import Iterable
from typing import Any, NamedTuple

import msgpack
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

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
    """Whether a value consists of lists, dictionaries, text, numbers and the like alone."""
    kind = type(value)
    if kind is dict:
        return not value or (_are_plain(value) and _are_plain(value.values()))
    return _are_plain(value) if kind is list else kind in PLAIN


def _are_plain(values: Iterable[Any]) -> bool:
    return all(is_plain(value) for value in values if type(value) not in PLAIN)


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


def _refuse(*_: object) -> None:
    raise ValueError("objects are not made here")


BEGINNINGS = beginnings()
PLAIN_READER = JsonPlusSerializer(__unpack_ext_hook__=_refuse)


def fields_of(data: bytes) -> tuple[str, dict[str, Any]] | None:
    """The class and the fields of a message as it was written, if no objects are in them."""
    if not data.startswith(BEGINNINGS):
        return None
    try:
        _, name, fields, _ = PLAIN_READER.loads_typed(("msgpack", data))
    except ValueError:
        return None
    return (name, fields) if type(fields) is dict else None


def shape(name: str, fields: dict[str, Any]) -> bytes:
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
    return marshal.dumps((name, found), MARSHAL)


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
    if type(message) not in MESSAGES:
        return False
    state = message.__getstate__()  # all that there is, as Pydantic tells whoever pickles it
    return (
        state.keys() == STATE
        and is_plain(state["__dict__"])
        and marshal.dumps(state["__dict__"], MARSHAL) == marshal.dumps(fields, MARSHAL)
        and state["__pydantic_fields_set__"] == fields.keys()
        and state["__pydantic_extra__"] == {}
        and state["__pydantic_private__"] is None
    )


_new = object.__new__
_set = object.__setattr__  # Pydantic's own refuses most names


def made(kind: type[BaseMessage], fields: dict[str, Any]) -> BaseMessage:
    """A message that consists of these very fields, all of which were given."""
    message = _new(kind)
    _set(message, "__dict__", fields)
    _set(message, "__pydantic_fields_set__", {*fields})
    _set(message, "__pydantic_extra__", {})
    _set(message, "__pydantic_private__", None)
    return message


class Template(NamedTuple):
    """What to make more messages of, each like the first one: their class and their fields.

    Those of the fields that can be changed within are `mutable`, marshalled, and `None` in
    `fields`. So the garbage collector, which looks at all that is kept, has little to look at.
    """

    kind: type[BaseMessage]
    fields: dict[str, Any]
    mutable: bytes

    @classmethod
    def of(cls, kind: type[BaseMessage], fields: dict[str, Any]) -> Template:
        """A template that shares nothing with these fields that can be changed."""
        mutable = {name: value for name, value in fields.items() if type(value) not in PLAIN}
        return cls(kind, fields | dict.fromkeys(mutable), marshal.dumps(mutable, MARSHAL))

    def made(self) -> BaseMessage:
        """A message that shares nothing with others that can be changed."""
        return made(self.kind, {**self.fields, **marshal.loads(self.mutable)})  # noqa: S302 - it was made here
