"""Copies of a saver: in the same process, and in others by pickle."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple, TypeVar

from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from ._core.options import SaverState, make_state
from ._transport.urls import Url

SaverType = TypeVar("SaverType")

# What copies in a process share, and what another process makes for itself.
_SHARED = ("_redis", "_link", "_connections", "_shared", "serde")
_CONNECTED = ("_link", "_connections")


def copy_saver(saver: SaverType, memo: dict[int, Any], *, deeply: bool = False) -> SaverType:
    """Return a copy that shares the connections, the memory and the serializer of a saver.

    Only what a subclass has added is copied deeply.
    """
    clone = object.__new__(type(saver))
    memo[id(saver)] = clone
    for name, value in vars(saver).items():
        is_shared = name in _SHARED or not deeply
        vars(clone)[name] = value if is_shared else copy.deepcopy(value, memo)
    return clone


def pickle_state(saver: Any) -> dict[str, Any]:
    """Return what pickle takes of a saver: the URL, its password too, the options and the rest."""
    if not isinstance(saver._redis, Url):  # noqa: SLF001 - the savers' own
        raise TypeError(
            f"cannot pickle a {type(saver).__name__} that was made from a client, as the client's "
            "connections belong to this process: make the saver from a URL, or make another one "
            "in the other process"
        )
    state = {name: value for name, value in vars(saver).items() if name not in _CONNECTED}
    known: SaverState = state["_shared"]
    state["_shared"] = make_state(known.keyspace.prefix, known.options, is_cluster=known.is_cluster)
    state["serde"] = _pack_serde(state["serde"])
    return state


def restore_state(state: dict[str, Any]) -> dict[str, Any]:
    """Return the attributes of a saver in another process, all but its connections."""
    return {**state, "serde": _unpack_serde(state["serde"])}


class _JsonPlus(NamedTuple):
    """A serializer of LangGraph, which pickle cannot take: the arguments that make it."""

    pickle_fallback: bool
    allowed_json_modules: Any
    allowed_msgpack_modules: Any


class _Encrypted(NamedTuple):
    """The same for an encrypting one."""

    cipher: Any
    serde: Any


def _pack_serde(serde: Any) -> Any:
    if type(serde) is EncryptedSerializer:
        return _Encrypted(serde.cipher, _pack_serde(serde.serde))
    # One with a hook of the user's goes as it is: nothing else would read the same.
    if type(serde) is JsonPlusSerializer and not getattr(serde, "_custom_unpack_ext_hook", True):
        found = vars(serde)
        names = ("pickle_fallback", "_allowed_json_modules", "_allowed_msgpack_modules")
        return _JsonPlus(*[found[name] for name in names])
    return serde


def _unpack_serde(packed: Any) -> Any:
    if isinstance(packed, _Encrypted):
        return EncryptedSerializer(packed.cipher, _unpack_serde(packed.serde))
    if isinstance(packed, _JsonPlus):
        return JsonPlusSerializer(**packed._asdict())
    return packed
