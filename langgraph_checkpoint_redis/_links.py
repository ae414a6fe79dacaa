"""What the requests of a synchronous saver go over: a link to the server, of one of two kinds.

A client that was passed in is used as its owner configured it, by its own methods (`ClientLink`);
so is the client of a cluster, which knows where each key lives. Where we were given the URL of a
server, the connections are ours (`OwnLink`): they are kept open, and a request costs one write and
one read, while a client takes a connection from its pool each time and looks whether it is still
good. redis-py makes those connections, too, since it knows TLS, logins and sentinels.

`_async_links.py` has the same for asynchronous savers.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from queue import SimpleQueue
from threading import Lock
from typing import Any

import redis as redis_py
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, TryAgainError
from redis.exceptions import TimeoutError as RedisTimeoutError

from ._clients import (
    RAW,
    client_of_node,
    connection_limit,
    is_cluster,
    is_error,
    is_unknown_script,
    must_leave,
    sentinels,
)
from ._resp import Argument, Command, in_resp2, packed
from ._resp import replies as new_replies
from ._scripts import AtNode, Primaries, Request
from ._urls import Url

SOME, MORE = 2**16, 2**18  # bytes to take from a connection: at first, and where that is not all

# In a cluster
REDIRECTIONS = 16  # at most, as redis-py has it
ASKING: Command = ("ASKING",)


def key_of(commands: Sequence[Command]) -> Argument:
    """The first key of the script that is called first."""
    return commands[0][3]


def known(node: Any) -> Any:
    """A node that a slot is moving to; one that is new is known once it has a slot."""
    if node is None:
        raise TryAgainError("a slot is moving to a node that is not known yet")
    return node


class Link(ABC):
    """A way to the server, for any number of threads, of which so many use it at a time."""

    def __init__(self, limit: int) -> None:
        self._permits: SimpleQueue[None] = SimpleQueue()  # as a semaphore, but in C
        for _ in range(limit):
            self._permits.put(None)

    def reply(self, request: Request) -> Any:
        """What the server answers; errors are raised as the client library raises them."""
        ask = self._ask_and_wait if request.confirm else self._ask
        permit = self._permits.get()
        try:
            replies = ask(request.commands())
            if is_unknown_script(replies[0]):
                replies = ask(request.teaching_commands())
        finally:
            self._permits.put(permit)
        return request.result(replies)

    @abstractmethod
    def _ask(self, commands: Sequence[Command]) -> Sequence[Any]:
        """The reply to each command; one that the server refuses has an error for its reply."""

    def _ask_and_wait(self, commands: Sequence[Command]) -> Sequence[Any]:
        """The same, certainly over one connection, for the commands that wait for the first."""
        return self._ask(commands)

    @property
    @abstractmethod
    def client(self) -> Any:
        """A client of the client library for the same server."""

    @abstractmethod
    def close(self) -> None:
        """Close what was opened here; a request may open it again."""


class ClientLink(Link):
    """A client: one that was passed in, or that of a cluster, made from a URL when first used."""

    def __init__(self, redis: Any) -> None:
        super().__init__(connection_limit(redis))
        self._url = redis if isinstance(redis, Url) else None
        self._client = None if self._url else redis
        self._making = Lock()  # one that is left over would close what others are still using

    @property
    def client(self) -> Any:
        """The client."""
        if self._client is None and self._url:
            with self._making:
                self._client = self._client or self._url.client(redis_py)
        return self._client

    def _ask(self, commands: Sequence[Command]) -> Sequence[Any]:
        if len(commands) > 1:
            return self._ask_together(commands)
        try:
            return [self.client.execute_command(*commands[0], **RAW)]
        except Exception as error:
            if is_error(error, "ResponseError"):
                return [error]
            raise

    def _ask_together(self, commands: Sequence[Command]) -> Sequence[Any]:
        return _pipelined(self.client, commands)

    def close(self) -> None:
        """Close the client, if it was made here."""
        if self._url and self._client is not None:
            self._client.close()


def _pipelined(client: Any, commands: Sequence[Command]) -> Sequence[Any]:
    with client.pipeline(transaction=False) as pipeline:
        for command in commands:
            pipeline.execute_command(*command, **RAW)
        replies: list[Any] = pipeline.execute(raise_on_error=False)
        return replies


class ClusterLink(ClientLink):
    """The client of a cluster. It cannot wait for a write, which therefore goes to the node."""

    def reply(self, request: Request) -> Any:
        """As of any link; some requests are for certain nodes."""
        if isinstance(request, Primaries):
            return self._primaries(fresh=request.fresh)
        if isinstance(request, AtNode):
            return request.result(self._ask_node(request.node, request.each, asking=False))
        return super().reply(request)

    def _primaries(self, *, fresh: bool) -> list[Any]:
        """The primaries that the client knows, or those that there are now."""
        if fresh:
            self.client.nodes_manager.initialize()
        return [*self.client.get_primaries()]

    def _ask_and_wait(self, commands: Sequence[Command]) -> Sequence[Any]:
        try:
            return self._ask_node_of(commands)
        except Exception:
            self.client.nodes_manager.initialize()  # another node may have taken over
            raise

    def _ask_node_of(self, commands: Sequence[Command]) -> Sequence[Any]:
        """Ask the node that has the keys, or that it leads to."""
        client, key = self.client, key_of(commands)
        node, asking = client.get_node_from_key(key), False
        for _ in range(REDIRECTIONS):
            replies = self._ask_node(node, commands, asking=asking)
            asking = is_error(replies[0], "AskError") and not is_error(replies[0], "MovedError")
            if asking:
                node = known(client.get_node(replies[0].host, replies[0].port))
            elif is_error(replies[0], "MovedError"):
                client.nodes_manager.initialize()
                node = client.get_node_from_key(key)
            else:
                break
        return replies

    def _ask_node(self, node: Any, commands: Sequence[Command], *, asking: bool) -> Sequence[Any]:
        before = [ASKING] if asking else []
        replies = _pipelined(client_of_node(self.client, node), [*before, *commands])
        return replies[len(before) :]


class OwnLink(Link):
    """Connections to one server, or to the primary that sentinels name."""

    def __init__(self, url: Url) -> None:
        super().__init__(connection_limit(url))
        self._client = url.client(redis_py)
        self._start()

    def _start(self) -> None:
        self._idle: deque[_Wire] = deque()
        self._process = os.getpid()

    @property
    def client(self) -> Any:
        """A client, whose pool has the settings of our connections."""
        return self._client

    def _ask(self, commands: Sequence[Command]) -> Sequence[Any]:
        wire, idle = self._wire(), self._idle
        try:
            replies = wire.ask(packed(commands), len(commands))
        except BaseException:
            wire.close()  # what it may still receive belongs to nobody,
            self._close_idle()  # and those that are as old may have had the same fate
            raise
        idle.append(wire)
        return replies

    def _wire(self) -> _Wire:
        if self._process != os.getpid():  # what a forked process inherits is its parent's
            self._start()
        try:
            return self._idle.pop()
        except IndexError:
            return _Wire(self._client.connection_pool)

    def _close_idle(self) -> None:
        with suppress(IndexError):  # other threads take from it, too
            while True:
                self._idle.pop().close()

    def close(self) -> None:
        """Close the connections that are idle; those in use end when they are done."""
        self._close_idle()
        self._idle = deque()
        for client in (self._client, *sentinels(self._client)):
            client.close()


class _Wire:
    """A connection that is open, and what is received over it."""

    def __init__(self, pool: Any) -> None:
        """Connect, with the settings of a pool."""
        self._connection = pool.connection_class(**in_resp2(pool.connection_kwargs))
        self._connection.connect()
        self._replies = new_replies()

    def ask(self, data: bytes, expected: int) -> list[Any]:
        """The replies to commands; errors of the server are among them."""
        if self._connection.health_check_interval:
            self._connection.check_health()
        self._send(data)
        found = self._received(SOME)
        while len(found) < expected:
            found += self._received(MORE)
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

    def close(self) -> None:
        """Close the connection."""
        self._connection.disconnect()


def link(redis: Any) -> Link:
    """The link of a saver that was made from a client or a URL."""
    if is_cluster(redis):
        return ClusterLink(redis)
    return OwnLink(redis) if isinstance(redis, Url) else ClientLink(redis)
