"""What a forked process does with a client that was passed in, before it uses it.

The client libraries expect forks, but not at every moment. A lock that another thread of the parent
holds while it forks stays locked in the child, and the first call that needs it never returns. Some
connections stay shared, so that each process gets replies to requests of the other.

Which locks there are differs from version to version, and between clients of one server, of
clusters and of sentinels. So this looks at a client and all objects of its library that it consists
of, instead of naming attributes.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from threading import Lock, RLock
from types import MemberDescriptorType
from typing import Any

LIBRARIES = ("redis", "valkey", "pybreaker")  # the last one is a part of `MultiDBClient`
_NODES_BY_SLOT = "slots_cache"  # 16384 lists of the nodes that `nodes_cache` has as well
_COLLECTIONS = (list, tuple, set, frozenset, deque)
_NEW_LOCKS: dict[type, Callable[[], Any]] = {
    type(Lock()): Lock,
    type(RLock()): RLock,
    asyncio.Lock: asyncio.Lock,
    asyncio.Condition: asyncio.Condition,
}
# Where pools of asynchronous clients, and nodes of clusters, have their connections.
_CONNECTIONS = ("_available_connections", "_in_use_connections", "_connections", "_free")


def start_afresh(client: Any, *, asynchronous: bool) -> list[Any]:
    """Give a client new locks, and take away the connections that belong to the parent process.

    Returns these connections. Collecting those of an asynchronous client would disturb the event
    loop of the parent, so its saver keeps them. Synchronous pools notice by themselves, when they
    are used, that they are in another process.
    """
    parts = _parts(client)
    _renew_locks(parts)
    taken = _take_single_connections(parts)
    return [*taken, *_take_pooled_connections(parts)] if asynchronous else taken


def _renew_locks(parts: list[Any]) -> None:
    """Replace each lock, by the same new one wherever it is shared."""
    renewed: dict[int, Any] = {}
    for part in parts:
        for name, lock in _attributes(part).items():
            make = _NEW_LOCKS.get(type(lock))
            if make and not _is_ours(lock):
                new, _ = renewed.setdefault(id(lock), (make(), lock))  # the old one keeps its id
                object.__setattr__(part, name, new)


def _is_ours(lock: Any) -> bool:
    """Whether this thread holds a lock, as the fork interrupted its call: it will release it."""
    is_owned = getattr(lock, "_is_owned", None)
    return bool(is_owned and is_owned())


def _take_single_connections(parts: list[Any]) -> list[Any]:
    """Take the connection of each client that has just one, `single_connection_client`."""
    taken: list[Any] = []
    for part in parts:
        attributes = _attributes(part)
        if {"connection", "connection_pool"} <= attributes.keys():
            taken.append(attributes["connection"])
            part.connection = None
    return taken


def _take_pooled_connections(parts: list[Any]) -> list[Any]:
    taken: list[Any] = []
    for part in parts:
        attributes = _attributes(part)
        for connections in [attributes[name] for name in _CONNECTIONS if attributes.get(name)]:
            taken += connections
            connections.clear()
    return taken


def _parts(client: Any) -> list[Any]:
    """Return a client, and all objects of its library that it refers to."""
    parts: list[Any] = []
    seen: set[int] = set()
    left = [client]
    while left:
        one = left.pop()
        kind = type(one)  # not `isinstance`, which a proxy answers for its target, if that is left
        if id(one) in seen:
            continue
        seen.add(id(one))
        if issubclass(kind, dict):
            left += one.values()
        elif issubclass(kind, _COLLECTIONS):
            left += one
        elif one is client or _is_of_library(kind):
            parts.append(one)
            attributes = _attributes(one)
            attributes.pop(_NODES_BY_SLOT, None)
            left += attributes.values()
    return parts


def _is_of_library(kind: type) -> bool:
    return any(base.__module__.partition(".")[0] in LIBRARIES for base in kind.__mro__)


def _attributes(part: Any) -> dict[str, Any]:
    """Return what an object refers to, without running code of its class."""
    found = dict(getattr(part, "__dict__", {}))
    for name, slot in _slots(type(part).__mro__):
        with suppress(AttributeError):  # it has no value yet
            found[name] = slot.__get__(part)
    return found


@lru_cache(maxsize=1000)
def _slots(bases: tuple[type, ...]) -> list[tuple[str, MemberDescriptorType]]:
    members = [member for base in bases for member in vars(base).items()]
    return [(name, slot) for name, slot in members if isinstance(slot, MemberDescriptorType)]
