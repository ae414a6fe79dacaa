"""What the requests of a synchronous saver go over, and connections of our own for them.

A client that was passed in is used as its owner configured it, by its own methods (see
`_sync/client_links.py`); so is the client of a cluster, which knows where each key lives. Where we
were given the URL of a server, the connections are ours (`OwnLink`): they are kept open, and a
request costs one write and one read, while a client takes a connection from its pool each time and
looks whether it is still good. redis-py makes those connections, too, since it knows TLS, logins
and sentinels.

`_transport/async_own_links.py` and `_transport/loops.py` have the same for asynchronous savers.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from socket import SHUT_RDWR, socket
from threading import Thread
from typing import Any
from weakref import ref

import redis as redis_py
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from langgraph_checkpoint_redis._protocol.resp import (
    Command,
    Replies,
    force_resp2,
    pack_commands,
)
from langgraph_checkpoint_redis._runtime.forks import reset_in_children
from langgraph_checkpoint_redis._runtime.log import report_lost, report_reconnect
from langgraph_checkpoint_redis._scripts.transactions import Transactions
from langgraph_checkpoint_redis.errors import ConfigError

from ._sync.client_links import ClientLink, ClusterLink, ServersLink
from ._sync.link import Link
from ._sync.sentinels import Sentinels
from .clients import (
    SECONDS_TO_NOTICE,
    check_role,
    connection_limit,
    is_cluster,
    is_last_word,
    left_in_transaction,
    named_primary,
    was_queued,
)
from .permits import Permits
from .retry import Server, must_leave
from .threads import TurnLink
from .tls import hurried
from .urls import Url

SOME, MORE = 2**16, 2**18  # bytes to take from a connection: at first, and where that is not all


class OwnLink(TurnLink):
    """Connections to one server, or to the primary that sentinels name."""

    def __init__(self, url: Url) -> None:
        super().__init__(Permits(connection_limit(url)))
        self._url = url
        self._was_reached = False
        self.after_fork()
        reset_in_children(self)

    def after_fork(self) -> None:
        """Leave connections to the parent process."""
        self._idle: deque[_Wire] = deque()
        self._client: Any = None
        self._has_lost = False
        self._transactions = Transactions()

    @property
    def was_reached(self) -> bool:
        """Whether there was a connection to the server."""
        return self._was_reached

    @property
    def client(self) -> Any:
        """A client, whose pool has the settings of our connections."""
        if self._client is None:
            self._client = self._url.client(redis_py)  # sends nothing: a second one does no harm
        return self._client

    def _ask(self, commands: Sequence[Command]) -> Sequence[Any]:
        idle = self._idle  # a connection made before others were left does not join later ones
        wire = self._wire(idle)
        try:
            replies = wire.ask(pack_commands(commands), len(commands))
        except BaseException as error:
            wire.close()  # what it may still receive belongs to nobody,
            self._close_idle()  # and those that are as old may have had the same fate
            if isinstance(error, RedisError):
                self._has_lost = True
                report_lost(1, error)
            raise
        idle.append(wire)
        return replies

    def _wire(self, idle: deque[_Wire]) -> _Wire:
        with suppress(IndexError):  # apart from connecting, whose errors would show it
            return idle.pop()
        return self._connected()

    def _connected(self) -> _Wire:
        """A new connection."""
        server = Server(self._url)
        wire = _Wire(self.client.connection_pool, is_first=server.is_unknown)
        self._check(wire)
        if not self._was_reached:
            self._was_reached = True
            server.note_reached()
        if self._has_lost:
            self._has_lost = False
            report_reconnect()
        return wire

    def _check(self, wire: _Wire) -> None:
        """Refuse a new connection that leads to a wrong server."""

    def _close_idle(self) -> None:
        with suppress(IndexError):  # other threads take from it, too
            while True:
                self._idle.pop().close()

    def _leave(self) -> None:
        """Close the connections that are idle; those in use end when they are done."""
        idle, self._idle = self._idle, deque()
        with suppress(IndexError):
            while True:
                idle.pop().close()

    def close(self) -> None:
        """Close the connections that are idle; those in use end when they are done."""
        self._leave()
        if self._client is not None:
            self._client.close()


class SentinelLink(Sentinels, OwnLink):
    """Connections to the primary that sentinels name.

    While calls are made, a worker thread asks the sentinels from time to time. When they name
    another primary, connections to the old one are left, and what it answers no longer counts: it
    may still accept writes that will be lost.
    """

    def __init__(self, url: Url) -> None:
        self._service = url.service
        super().__init__(url)

    def after_fork(self) -> None:
        """Leave connections to the parent process."""
        super().after_fork()
        self._open: set[ref[_Wire]] = set()
        self._primary: tuple[str, int] | None = None
        self._next_look = 0.0
        self._is_looking = False

    def _ask(self, commands: Sequence[Command]) -> Sequence[Any]:
        if self._primary and not self._is_looking and time.monotonic() >= self._next_look:
            self._start_looking()
        idle = self._idle
        replies = super()._ask(commands)
        if idle is not self._idle:
            raise RedisConnectionError("the primary was replaced, or the saver closed, meanwhile")
        return replies

    def _start_looking(self) -> None:
        self._next_look = time.monotonic() + SECONDS_TO_NOTICE
        with suppress(RuntimeError):  # the interpreter is about to end
            Thread(target=self._look, args=[self._idle], daemon=True).start()

    def _look(self, idle: deque[_Wire]) -> None:
        """Ask the sentinels, and again as long as there are calls: all may wait for a server."""
        self._is_looking = True
        try:
            while idle is self._idle:
                with suppress(RedisError, OSError, ConfigError):  # no sentinel answers
                    primary = named_primary(self.client)
                    if idle is self._idle:
                        self._learn(primary)
                if idle is not self._idle:
                    self._close_sentinels()  # the saver was closed while one was asked
                    return
                time.sleep(SECONDS_TO_NOTICE)
                if not self._permits.queue:
                    return
        finally:
            self._is_looking = False

    def close(self) -> None:
        """Close the connections that are idle; those in use end when they are done."""
        super().close()
        self._close_sentinels()

    def _check(self, wire: _Wire) -> None:
        try:
            check_role(wire.ask(pack_commands([("ROLE",)]), 1)[0])
        except BaseException:
            wire.close()
            raise
        self._open.add(ref(wire, self._open.discard))
        self._learn(wire.address)

    def _leave_all_but(self, primary: tuple[str, int]) -> None:
        self._leave()
        for wire in [found() for found in [*self._open]]:
            if wire and wire.address != primary:
                wire.hang_up()


class _Wire:
    """A connection that is open, and what is received over it."""

    def __init__(self, pool: Any, *, is_first: bool = False) -> None:
        """Connect, with the settings of a pool; `is_first` if its server is unknown."""
        self._connection = pool.connection_class(**force_resp2(pool.connection_kwargs))
        with hurried(self._connection) if is_first else nullcontext():
            self._connection.connect()
        self._replies = Replies()
        reset_in_children(self)

    def after_fork(self) -> None:
        """Close it here only: also a call that a fork interrupts must not read on."""
        if self._connection._sock is not None:  # noqa: SLF001 - to disconnect would end it for all
            self._connection._sock.close()  # noqa: SLF001 - as above

    @property
    def address(self) -> tuple[str, int]:
        """Where it leads."""
        return self._connection.host, self._connection.port

    def ask(self, data: bytes, expected: int) -> list[Any]:
        """The replies to commands; errors of the server are among them."""
        if self._connection.health_check_interval:
            self._connection.check_health()
        self._send(data)
        found = self._received(SOME)
        while len(found) < expected:
            if said := next(filter(is_last_word, found), None):
                raise said
            found += self._received(MORE)
        if was_queued(found[0]):
            raise left_in_transaction()
        return found

    def _send(self, data: bytes) -> None:
        try:
            self._connection._sock.sendall(data)  # noqa: SLF001 - redis-py's own reads no last words
        except TimeoutError as error:
            raise RedisTimeoutError("timeout while writing to the server") from error
        except OSError as error:
            lost = RedisConnectionError(f"{error} while writing to the server")
            raise self._last_words() or lost from error

    def _last_words(self) -> Exception | None:
        """What a server says that has hung up, having refused a request half way."""
        with suppress(RedisConnectionError, RedisTimeoutError):
            return next(
                (said for said in self._received(SOME) if isinstance(said, Exception)), None
            )
        return None

    def _received(self, size: int) -> list[Any]:
        """The replies that are complete with what comes next, so many bytes at most."""
        found = self._parsed(self._data(size))
        for reply in found:
            if isinstance(reply, Exception) and must_leave(reply):
                raise reply  # another connection may lead to the new primary
        return found

    def _data(self, size: int) -> bytes:
        try:
            data: bytes = self._connection._sock.recv(size)  # noqa: SLF001 - as above
        except TimeoutError as error:
            raise RedisTimeoutError("timeout while reading from the server") from error
        except OSError as error:
            raise RedisConnectionError(f"{error} while reading from the server") from error
        if not data:
            raise RedisConnectionError("the server closed the connection")
        return data

    def _parsed(self, data: bytes) -> list[Any]:
        try:
            return self._replies.feed(data)
        except (InvalidResponse, ValueError) as error:
            raise RedisConnectionError(f"the server sent what is no reply: {error}") from error

    def hang_up(self) -> None:
        """End the connection from another thread, so that a call that waits for it fails now."""
        sock = self._connection._sock  # noqa: SLF001 - as above
        if sock is not None:
            with suppress(OSError):  # it has just been closed
                # Not by the method of a socket with TLS: another thread reads from that.
                socket.shutdown(sock, SHUT_RDWR)

    def close(self) -> None:
        """Close the connection."""
        self._connection.disconnect()


def make_link(redis: Any) -> Link:
    """The link of a saver that was made from a client or a URL."""
    if is_cluster(redis):
        return ClusterLink(redis)
    if isinstance(redis, Url):
        return SentinelLink(redis) if redis.kind == "sentinel" else OwnLink(redis)
    return ClientLink(redis) if hasattr(redis, "connection_pool") else ServersLink(redis)


class Connections:
    """The link of a saver, which all threads share; that of `_transport/loops.py` for threads."""

    def __init__(self, redis: Any) -> None:
        self.link = make_link(redis)

    def here(self) -> Link:
        """Return the link."""
        return self.link

    def were_reached_by(self, _: Link | None) -> bool:
        """Return whether there was a connection to the server."""
        return self.link.was_reached

    def close(self) -> None:
        """Close what was opened here; a request may open it again."""
        self.link.close()
