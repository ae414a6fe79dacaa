"""Requests and replies as they go over the wire, in the protocol of Redis, RESP2.

hiredis parses replies and packs commands. Errors become the exceptions of redis-py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import hiredis
from redis import cluster
from redis.connection import DefaultParser
from redis.exceptions import InvalidResponse, RedisError

LARGE = 100_000  # bytes in a command: for more, hiredis takes longer and longer

Argument: TypeAlias = "bytes | str | int"
Command: TypeAlias = "tuple[Argument, ...]"


# In the first releases of redis-py 5, only this one knows the errors of a cluster.
_Parser: Any = getattr(cluster, "ClusterParser", DefaultParser)


def _error(text: str) -> RedisError:
    """An error of the server as redis-py knows it."""
    error: RedisError = _Parser.parse_error(text)
    return error


def pack_commands(commands: Sequence[Command]) -> bytes:
    """Commands as they are sent."""
    if len(commands) == 1:
        return _pack(commands[0])
    return b"".join([_pack(command) for command in commands])


def _pack(command: Command) -> bytes:
    # Only bytes: of numbers and text hiredis makes objects, and while it does, a signal handler
    # that raises makes it crash.
    parts = [part if type(part) is bytes else _bytes(part) for part in command]
    if sum(map(len, parts)) < LARGE:
        untyped: Any = hiredis  # which says that it packs tuples of one
        packed: bytes = untyped.pack_command(tuple(parts))
        return packed
    return _pack_large(parts)


def _pack_large(parts: Sequence[bytes]) -> bytes:
    packed = [b"*%d\r\n" % len(parts)]
    for part in parts:
        packed += b"$%d\r\n" % len(part), part, b"\r\n"
    return b"".join(packed)


def _bytes(argument: Argument) -> bytes:
    if isinstance(argument, str):
        return argument.encode()
    return b"%d" % argument if isinstance(argument, int) else bytes(argument)


def encode_command(command: Command) -> Command:
    """Return a command for a client library, which knows it by its name; all else is bytes."""
    return command[0], *[part if type(part) is bytes else _bytes(part) for part in command[1:]]


class Replies:
    """Makes replies of what is received, piece by piece; the server's errors are replies, too."""

    def __init__(self) -> None:
        self._reader = hiredis.Reader(protocolError=InvalidResponse, replyError=_error)

    def feed(self, data: bytes) -> list[Any]:
        """Return the replies that are complete now; raise `InvalidResponse` for what is not one."""
        self._reader.feed(data)
        found, reply = [], self._reader.gets()
        while reply is not False:
            found.append(reply)
            reply = self._reader.gets()
        return found


def force_resp2(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings of a connection that speaks RESP2, whatever a URL or redis-py prefers.

    In RESP3, a server may send what is no reply: from redis-py 8 on, it is asked to.
    """
    kept = {name: settings[name] for name in settings if not name.startswith("maint_notifications")}
    return {**kept, "protocol": 2}
