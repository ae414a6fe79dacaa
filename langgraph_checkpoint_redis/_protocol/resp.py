"""Requests and replies as they go over the wire, in the protocol of Redis, RESP2.

hiredis parses replies where it is installed, and this module where it is not. Errors become the
exceptions of redis-py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from redis import cluster
from redis.connection import DefaultParser
from redis.exceptions import InvalidResponse, RedisError

try:
    import hiredis
except ImportError:  # it is an extra
    hiredis = None  # type: ignore[assignment]

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
        return _pack_with_hiredis(commands[0])
    return b"".join([_pack_with_hiredis(command) for command in commands])


def _pack_with_hiredis(command: Command) -> bytes:
    # Only bytes: of numbers and text hiredis makes objects, and while it does, a signal handler
    # that raises makes it crash.
    parts = [part if type(part) is bytes else _bytes(part) for part in command]
    if _pack and sum(map(len, parts)) < LARGE:
        return _pack(tuple(parts))
    return _pack_here(parts)


def _pack_here(parts: Sequence[bytes]) -> bytes:
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


_pack: Callable[..., bytes] | None = getattr(hiredis, "pack_command", None)  # from 2.1 on


class Replies:
    """Makes replies of what is received, piece by piece; the server's errors are replies, too."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._start = 0
        self._open: list[tuple[list[Any], int]] = []  # arrays that are not complete, and their size

    def feed(self, data: bytes) -> list[Any]:
        """The replies that are complete now; raises `InvalidResponse` for what is not one."""
        self._data += data
        found = [*iter(self._next, _INCOMPLETE)]
        del self._data[: self._start]
        self._start = 0
        return found

    def _next(self) -> Any:
        """The next complete reply."""
        while (value := self._value()) is not _INCOMPLETE:
            while self._open and value is not _OPENED:
                items, size = self._open[-1]
                items.append(value)
                value = self._open.pop()[0] if len(items) == size else _OPENED
            if value is not _OPENED:
                return value
        return _INCOMPLETE

    def _value(self) -> Any:
        """What stands at the beginning of the data: a value, or the opening of an array."""
        end = self._data.find(b"\r\n", self._start)
        if end < 0:
            return _INCOMPLETE
        kind, text = self._data[self._start], bytes(self._data[self._start + 1 : end])
        if kind == _BULK:
            return self._bulk(end + 2, int(text))
        self._start = end + 2
        if kind == _ARRAY:
            return self._array(int(text))
        if kind not in _SIMPLE:
            raise InvalidResponse(f"a reply begins with {bytes([kind])!r}")
        return _SIMPLE[kind](text)

    def _bulk(self, start: int, size: int) -> Any:
        if size < 0:
            self._start = start
            return None
        if len(self._data) < start + size + 2:
            return _INCOMPLETE
        self._start = start + size + 2
        return bytes(self._data[start : start + size])

    def _array(self, size: int) -> Any:
        if size <= 0:
            return None if size < 0 else []
        self._open.append(([], size))
        return _OPENED


_INCOMPLETE, _OPENED = object(), object()
_BULK, _ARRAY = b"$*"
_SIMPLE: dict[int, Callable[[bytes], Any]] = {
    b":"[0]: int,
    b"+"[0]: bytes,
    b"-"[0]: lambda text: _error(text.decode(errors="replace")),
}


class _HiredisReplies:
    """The same by hiredis."""

    def __init__(self) -> None:
        self._reader = hiredis.Reader(protocolError=InvalidResponse, replyError=_error)

    def feed(self, data: bytes) -> list[Any]:
        self._reader.feed(data)
        found, reply = [], self._reader.gets()
        while reply is not False:
            found.append(reply)
            reply = self._reader.gets()
        return found


def make_parser() -> Replies | _HiredisReplies:
    """For a connection that begins."""
    return _HiredisReplies() if hiredis else Replies()


def force_resp2(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings of a connection that speaks RESP2, whatever a URL or redis-py prefers.

    In RESP3, a server may send what is no reply: from redis-py 8 on, it is asked to.
    """
    kept = {name: settings[name] for name in settings if not name.startswith("maint_notifications")}
    return {**kept, "protocol": 2}
