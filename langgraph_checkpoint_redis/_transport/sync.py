"""What the requests of a synchronous saver go over: a link to the server, of one of two kinds.

A client that was passed in is used as its owner configured it, by its own methods (`ClientLink`);
so is the client of a cluster, which knows where each key lives. Where we were given the URL of a
server, the connections are ours (`OwnLink`): they are kept open, and a request costs one write and
one read, while a client takes a connection from its pool each time and looks whether it is still
good. redis-py makes those connections, too, since it knows TLS, logins and sentinels.

`_transport/async_.py` has the same for asynchronous savers.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import groupby
from socket import SHUT_RDWR, socket
from threading import Lock, Thread
from typing import Any
from weakref import ref

import redis as redis_py
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, RedisError, TryAgainError
from redis.exceptions import TimeoutError as RedisTimeoutError

from langgraph_checkpoint_redis._protocol.requests import AtNode, Call, Primaries, Request
from langgraph_checkpoint_redis._protocol.resp import (
    Argument,
    Command,
    encode_command,
    force_resp2,
    pack_commands,
)
from langgraph_checkpoint_redis._protocol.resp import make_parser as new_replies
from langgraph_checkpoint_redis._runtime.forks import reset_in_children
from langgraph_checkpoint_redis._runtime.log import report_failover, report_lost, report_reconnect
from langgraph_checkpoint_redis._scripts.transactions import (
    PROBE,
    build_transaction,
    read_transaction,
)
from langgraph_checkpoint_redis.errors import ConfigError

from .clients import (
    RAW,
    SECONDS_TO_NOTICE,
    check_role,
    client_of_node,
    connection_limit,
    is_cluster,
    is_error,
    is_last_word,
    is_unknown_script,
    named_primary,
    reads_from_replicas,
    sentinels,
)
from .inherited import start_afresh
from .permits import Permits, permits_of
from .retry import must_leave
from .urls import Url

SOME, MORE = 2**16, 2**18  # bytes to take from a connection: at first, and where that is not all

# In a cluster
REDIRECTIONS = 16  # at most, as redis-py has it
ASKING: Command = ("ASKING",)
READWRITE: Command = ("READWRITE",)  # a node that has become a replica then refuses to answer
SCRIPTS = ("EVALSHA", "EVAL")

Ask = Callable[[Sequence[Command]], Sequence[Any]]


def key_of(command: Command) -> Argument:
    """Return the first key of a script or a plain command; empty for a script without keys."""
    if command[0] in SCRIPTS:
        return command[3] if command[2] else b""
    return command[1]


def check_node_known(node: Any) -> Any:
    """A node that a slot is moving to; one that is new is known once it has a slot."""
    if node is None:
        raise TryAgainError("a slot is moving to a node that is not known yet")
    return node


class Link(ABC):
    """A way to the server, for any number of threads, of which so many use it at a time."""

    def __init__(self, permits: Permits) -> None:
        self._permits = permits

    def reply(self, request: Request) -> Any:
        """What the server answers; errors are raised as the client library raises them."""
        ask = self._ask_and_wait if request.confirm else self._ask
        permits, turn = self._permits, object()
        queue, limit = permits.queue, permits.limit
        try:
            queue[turn] = None
            if len(queue) > limit:
                permits.wait(queue, turn)
            replies: Sequence[Any] = []
            if isinstance(request, Call) and request.first_chunk:
                replies = self._ask_ahead(request, request.first_chunk, ask)
            if not replies:
                replies = ask(request.commands())
                if is_unknown_script(replies[0]):
                    replies = ask(request.eval_commands())
        finally:
            queue.pop(turn, None)  # first, and in one step: see `Permits`
            if len(queue) >= limit:
                permits.wake(queue)
        return request.result(replies)

    def _ask_ahead(self, call: Call[Any], first: int, ask: Ask) -> Sequence[Any]:
        """Ask with the chunks of a call ahead of it; return no replies if that cannot be done."""
        return []

    @abstractmethod
    def _ask(self, commands: Sequence[Command]) -> Sequence[Any]:
        """The reply to each command; one that the server refuses has an error for its reply."""

    def _ask_and_wait(self, commands: Sequence[Command]) -> Sequence[Any]:
        """The same, certainly over one connection, for the commands that wait for the first."""
        return self._ask(commands)

    @property
    def was_reached(self) -> bool:
        """Whether there was a connection to the server; yes, as far as a client does not tell."""
        return True

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
        limit = connection_limit(redis)
        self._url = redis if isinstance(redis, Url) else None
        super().__init__(Permits(limit) if self._url else permits_of(redis, limit))
        self._client = None if self._url else redis
        self._making = Lock()  # one that is left over would close what others are still using
        reset_in_children(self)

    def after_fork(self) -> None:
        """Leave a client that was made here to the parent process."""
        self._making = Lock()
        if self._url:
            self._client = None
        else:
            start_afresh(self._client, asynchronous=False)

    @property
    def client(self) -> Any:
        """The client."""
        if self._client is None and self._url:
            with self._making:
                self._client = self._client or self._url.client(redis_py)
        return self._client

    @property
    def was_reached(self) -> bool:
        """Whether the client is there: that of a cluster connects when it is made."""
        return self._client is not None

    def _ask(self, commands: Sequence[Command]) -> Sequence[Any]:
        # A client with a cache looks for plain commands there, but not for those of a pipeline.
        if len(commands) > 1 or commands[0][0] not in SCRIPTS:
            return self._ask_together(commands)
        return [self._ask_one(commands[0])]

    def _ask_one(self, command: Command) -> Any:
        try:
            return self.client.execute_command(*encode_command(command), **RAW)
        except Exception as error:
            if is_error(error, "ResponseError"):
                return error
            raise

    def _ask_together(self, commands: Sequence[Command]) -> Sequence[Any]:
        return _pipelined(self.client, commands)

    def close(self) -> None:
        """Close the client, if it was made here."""
        if self._url and self._client is not None:
            self._client.close()


class ServersLink(ClientLink):
    """A client that chooses one of several servers, redis-py's `MultiDBClient`.

    Its pipelines are transactions, in which nothing waits, so each command goes by itself.
    """

    def _ask_together(self, commands: Sequence[Command]) -> Sequence[Any]:
        return [self._ask_one(command) for command in commands]

    def _ask_and_wait(self, commands: Sequence[Command]) -> Sequence[Any]:
        raise cannot_confirm(self.client)


def cannot_confirm(client: Any) -> ConfigError:
    """Return the error for `confirm` with a client that may use any of several connections."""
    return ConfigError(
        f"confirm needs a client of one server, a cluster or sentinels: {type(client).__name__} "
        "cannot wait on the connection that has written"
    )


def _pipelined(client: Any, commands: Sequence[Command]) -> Sequence[Any]:
    with client.pipeline(transaction=False) as pipeline:
        for command in commands:
            pipeline.execute_command(*encode_command(command), **RAW)
        replies: list[Any] = pipeline.execute(raise_on_error=False)
        return replies


class ClusterLink(ClientLink):
    """The client of a cluster.

    It cannot wait for a write, and some read from replicas. Such requests go to the node itself.
    """

    def _ask(self, commands: Sequence[Command]) -> Sequence[Any]:
        if not reads_from_replicas(self.client) or not key_of(commands[0]):
            is_one = len(commands) == 1
            return [self._ask_one(commands[0])] if is_one else self._ask_together(commands)
        groups = [[*group] for _, group in groupby(commands, key_of)]
        return [reply for group in groups for reply in self._ask_and_wait(group)]

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
        client, key = self.client, key_of(commands[0])
        node, asking = client.get_node_from_key(key), False
        for _ in range(REDIRECTIONS):
            replies = self._ask_node(node, commands, asking=asking)
            asking = is_error(replies[0], "AskError") and not is_error(replies[0], "MovedError")
            if asking:
                node = check_node_known(client.get_node(replies[0].host, replies[0].port))
            elif is_error(replies[0], "MovedError"):
                client.nodes_manager.initialize()
                node = client.get_node_from_key(key)
            else:
                break
        return replies

    def _ask_node(self, node: Any, commands: Sequence[Command], *, asking: bool) -> Sequence[Any]:
        before = [*([READWRITE] if reads_from_replicas(self.client) else [])]
        before += [ASKING] if asking else []
        replies = _pipelined(client_of_node(self.client, node), [*before, *commands])
        return replies[len(before) :]


class OwnLink(Link):
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
        self._has_transactions: bool | None = None  # until it was asked for

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

    def _ask_ahead(self, call: Call[Any], first: int, ask: Ask) -> Sequence[Any]:
        if self._has_transactions is None:
            self._has_transactions = not any(isinstance(each, Exception) for each in ask(PROBE))
        return (
            read_transaction(ask(build_transaction(call, first))) if self._has_transactions else []
        )

    def _wire(self, idle: deque[_Wire]) -> _Wire:
        try:
            return idle.pop()
        except IndexError:
            return self._connected()

    def _connected(self) -> _Wire:
        """A new connection."""
        wire = _Wire(self.client.connection_pool)
        self._check(wire)
        self._was_reached = True
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


class SentinelLink(OwnLink):
    """Connections to the primary that sentinels name.

    While calls are made, a worker thread asks the sentinels from time to time. When they name
    another primary, connections to the old one are left, and what it answers no longer counts: it
    may still accept writes that will be lost.
    """

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
                with suppress(RedisError, OSError):  # no sentinel answers
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

    def _close_sentinels(self) -> None:
        """Close the idle connections to sentinels; another thread may use some meanwhile."""
        for sentinel in sentinels(self._client):
            sentinel.connection_pool.disconnect(inuse_connections=False)

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

    def _learn(self, primary: tuple[str, int]) -> None:
        old, self._primary = self._primary, primary
        if old and old != primary:
            report_failover(self._url.service, "{}:{}".format(*old), "{}:{}".format(*primary))
            self._leave()
            for wire in [found() for found in [*self._open]]:
                if wire and wire.address != primary:
                    wire.hang_up()


class _Wire:
    """A connection that is open, and what is received over it."""

    def __init__(self, pool: Any) -> None:
        """Connect, with the settings of a pool."""
        self._connection = pool.connection_class(**force_resp2(pool.connection_kwargs))
        self._connection.connect()
        self._replies = new_replies()
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
