"""Connections to sockets of this machine, and reviving the server behind one.

An embedded server may end while a process still uses it. The next connection then finds nothing at
the socket, so it first asks the embedded server of this process, if there is one, to start again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import ModuleType
from typing import Any

from redis.asyncio.connection import UnixDomainSocketConnection as AsyncUnixDomainSocketConnection
from redis.connection import UnixDomainSocketConnection
from redis.exceptions import ConnectionError as RedisConnectionError

from langgraph_checkpoint_redis.errors import EmbeddedServerError

Revive = Callable[[], None]

# No socket, or one that nothing listens on.
_ABSENT = (FileNotFoundError, NotADirectoryError, ConnectionRefusedError)
_revivers: dict[str, list[Revive]] = {}


def add_reviver(path: str, revive: Revive) -> None:
    """Call `revive` before a connection to the socket at `path` fails."""
    _revivers.setdefault(path, []).append(revive)


def remove_reviver(path: str, revive: Revive) -> None:
    """Undo `add_reviver`."""
    left = [one for one in _revivers.get(path, ()) if one != revive]
    if left:
        _revivers[path] = left
    else:
        _revivers.pop(path, None)


def _revive(path: str) -> bool:
    """Revive the server at a socket; return whether something here can do that."""
    revivers = _revivers.get(path)
    if not revivers:
        return False
    revivers[0]()
    return True


class SocketConnection(UnixDomainSocketConnection):
    """A connection of redis-py that revives its server."""

    def _connect(self) -> Any:
        try:
            return super()._connect()  # type: ignore[no-untyped-call]
        except _ABSENT:
            if not _revive(self.path):
                raise
            return super()._connect()  # type: ignore[no-untyped-call]


class AsyncSocketConnection(AsyncUnixDomainSocketConnection):
    """The same for `redis.asyncio`; the event loop goes on meanwhile."""

    async def connect(self) -> None:
        """Connect; redis-py would hide why the server does not start."""
        try:
            await super().connect()  # type: ignore[no-untyped-call]  # as all of theirs
        except RedisConnectionError as error:
            if isinstance(error.__cause__, EmbeddedServerError):
                raise error.__cause__ from None
            raise

    async def _connect(self) -> None:
        try:
            await super()._connect()  # type: ignore[no-untyped-call]
        except _ABSENT:
            if not await asyncio.to_thread(_revive, self.path):
                raise
            await super()._connect()  # type: ignore[no-untyped-call]


def connection_class(of: ModuleType) -> type:
    """Return the class of connections for `redis` or for `redis.asyncio`."""
    return AsyncSocketConnection if of.__name__.endswith("asyncio") else SocketConnection
