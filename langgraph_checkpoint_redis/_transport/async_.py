"""What the requests of an asynchronous saver go over, in one event loop: as in `sync.py`.

The connections that are ours are shared by calls, see `_transport/shared.py`.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from itertools import groupby
from typing import Any, TypeVar

from redis import asyncio as redis_py
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError

from langgraph_checkpoint_redis._protocol.requests import AtNode, Call, Primaries, Request
from langgraph_checkpoint_redis._protocol.resp import Command, encode_command, pack_commands
from langgraph_checkpoint_redis._runtime.log import report_failover
from langgraph_checkpoint_redis._scripts.transactions import (
    PROBE,
    build_transaction,
    read_transaction,
)

from .clients import (
    CONNECTIONS,
    RAW,
    SECONDS_TO_NOTICE,
    check_role,
    connection_limit,
    is_cluster,
    is_error,
    is_unknown_script,
    named_primary,
    reads_from_replicas,
    sentinels,
    socket_timeout,
)
from .permits import AsyncPermits, async_permits_of
from .shared import Lines, finish
from .sync import ASKING, READWRITE, REDIRECTIONS, cannot_confirm, check_node_known, key_of
from .urls import Url

SHARED = 4  # lines that calls share
LARGE = 256 * 1024  # bytes: a larger request has a line for itself

T = TypeVar("T")
Ask = Callable[[Sequence[Command]], Awaitable[Sequence[Any]]]


class AsyncLink(ABC):
    """A way to the server, for any number of tasks at a time."""

    async def reply(self, request: Request) -> Any:
        """What the server answers; errors are raised as the client library raises them."""
        ask = self._ask_and_wait if request.confirm else self._ask
        replies: Sequence[Any] = []
        if isinstance(request, Call) and request.first_chunk:
            replies = await self._ask_ahead(request, request.first_chunk, ask)
        if not replies:
            replies = await ask(request.commands())
            if is_unknown_script(replies[0]):
                replies = await ask(request.eval_commands())
        return request.result(replies)

    async def _ask_ahead(self, call: Call[Any], first: int, ask: Ask) -> Sequence[Any]:
        """Ask with the chunks of a call ahead of it; return no replies if that cannot be done."""
        return []

    @abstractmethod
    def _ask(self, commands: Sequence[Command]) -> Awaitable[Sequence[Any]]:
        """The reply to each command; one that the server refuses has an error for its reply."""

    @abstractmethod
    def _ask_and_wait(self, commands: Sequence[Command]) -> Awaitable[Sequence[Any]]:
        """The same, certainly over one connection, for the commands that wait for the first.

        While they wait, the server does nothing else for this connection.
        """

    @property
    def was_reached(self) -> bool:
        """Whether there was a connection to the server; yes, as far as a client does not tell."""
        return True

    @property
    @abstractmethod
    def client(self) -> Any:
        """A client of the client library for the same server."""

    @abstractmethod
    async def aclose(self) -> None:
        """Close what was opened here."""


class AsyncClientLink(AsyncLink):
    """A client, of which so many calls use a connection at a time."""

    def __init__(self, redis: Any) -> None:
        limit = connection_limit(redis)
        self._is_ours = isinstance(redis, Url)
        self._permits = AsyncPermits(limit) if self._is_ours else async_permits_of(redis, limit)
        self._client = redis.client(redis_py) if self._is_ours else redis

    @property
    def client(self) -> Any:
        """The client."""
        return self._client

    async def _ask(self, commands: Sequence[Command]) -> Sequence[Any]:
        try:
            if len(commands) > 1:
                return await self._finished(self._ask_together(commands))
            return [await self._finished(self._ask_one(commands[0]))]
        except AttributeError as error:
            # redis-py's client of a cluster closes connections that other calls are using.
            if error.name != "writelines":
                raise
            raise RedisConnectionError("the connection was closed while in use") from error

    async def _ask_one(self, command: Command) -> Any:
        try:
            return await self._client.execute_command(*encode_command(command), **RAW)
        except Exception as error:
            if is_error(error, "ResponseError"):
                return error
            raise

    async def _ask_and_wait(self, commands: Sequence[Command]) -> Sequence[Any]:
        return await self._ask(commands)

    async def _ask_together(self, commands: Sequence[Command]) -> Sequence[Any]:
        async with self._client.pipeline(transaction=False) as pipeline:
            for command in commands:
                pipeline.execute_command(*encode_command(command), **RAW)
            replies: list[Any] = await pipeline.execute(raise_on_error=False)
            return replies

    async def _finished(self, sending: Coroutine[Any, Any, T]) -> T:
        """What was sent is not taken back: who cancels waits for it, as in `_transport/shared.py`.

        The permit belongs to what is sent, which ends with the connection, not to who waits for it.
        """
        turn = object()
        try:
            await self._permits.take(turn)
            task = asyncio.ensure_future(sending)
            task.add_done_callback(lambda _: self._permits.give_back(turn))
        except BaseException:
            sending.close()
            self._permits.give_back(turn)
            raise
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            await finish(task)
            task.cancel()
            raise

    async def aclose(self) -> None:
        """Close the client, if it was made here."""
        if self._is_ours:
            await self._client.aclose()


class AsyncServersLink(AsyncClientLink):
    """A client that chooses one of several servers, as in `_transport/sync.py`."""

    async def _ask_together(self, commands: Sequence[Command]) -> Sequence[Any]:
        return [await self._ask_one(command) for command in commands]

    async def _ask_and_wait(self, commands: Sequence[Command]) -> Sequence[Any]:
        raise cannot_confirm(self._client)


class AsyncClusterLink(AsyncClientLink):
    """The client of a cluster.

    It cannot wait for a write, and some read from replicas. Such requests go to the node itself.
    """

    def __init__(self, redis: Any) -> None:
        super().__init__(redis)
        self._seconds = socket_timeout(redis)
        self._nodes: dict[str, Lines] = {}

    @property
    def was_reached(self) -> bool:
        """Whether the client has learned where the slots are."""
        return bool(self._client.nodes_manager.slots_cache)

    async def _ask(self, commands: Sequence[Command]) -> Sequence[Any]:
        if not reads_from_replicas(self._client) or not key_of(commands[0]):
            return await super()._ask(commands)
        groups = [[*group] for _, group in groupby(commands, key_of)]
        return [reply for group in groups for reply in await self._ask_and_wait(group)]

    async def reply(self, request: Request) -> Any:
        """As of any link; some requests are for certain nodes."""
        if isinstance(request, Primaries):
            return await self._primaries(fresh=request.fresh)
        if isinstance(request, AtNode):
            return request.result(await self._ask_node(request.node, request.each, asking=False))
        return await super().reply(request)

    async def _primaries(self, *, fresh: bool) -> list[Any]:
        """The primaries that the client knows, or those that there are now."""
        await self._client.initialize()
        if fresh:
            await self._client.nodes_manager.initialize()
        return [*self._client.get_primaries()]

    async def _ask_and_wait(self, commands: Sequence[Command]) -> Sequence[Any]:
        await self._client.initialize()
        try:
            return await self._ask_node_of(commands)
        except Exception:
            await self._client.nodes_manager.initialize()  # another node may have taken over
            raise

    async def _ask_node_of(self, commands: Sequence[Command]) -> Sequence[Any]:
        """Ask the node that has the keys, or that it leads to."""
        client, key = self._client, key_of(commands[0])
        node, asking = client.get_node_from_key(key), False
        for _ in range(REDIRECTIONS):
            replies = await self._ask_node(node, commands, asking=asking)
            asking = is_error(replies[0], "AskError") and not is_error(replies[0], "MovedError")
            if asking:
                node = check_node_known(client.get_node(replies[0].host, replies[0].port))
            elif is_error(replies[0], "MovedError"):
                await client.nodes_manager.initialize()
                node = client.get_node_from_key(key)
            else:
                break
        return replies

    async def _ask_node(
        self, node: Any, commands: Sequence[Command], *, asking: bool
    ) -> Sequence[Any]:
        before = [*([READWRITE] if reads_from_replicas(self._client) else [])]
        before += [ASKING] if asking else []
        data = pack_commands([*before, *commands])
        replies = await self._lines_to(node).ask(data, len(before) + len(commands))
        return replies[len(before) :]

    def _lines_to(self, node: Any) -> Lines:
        if node.name not in self._nodes:
            self._nodes[node.name] = Lines(node, CONNECTIONS, seconds=self._seconds, shared=False)
        return self._nodes[node.name]

    async def aclose(self) -> None:
        """Close the connections to nodes, and the client if it was made here."""
        for lines in self._nodes.values():
            await lines.close()
        await super().aclose()


class AsyncOwnLink(AsyncLink):
    """Connections to one server, or to the primary that sentinels name.

    Most calls share a few; those that would hold up others have one for themselves.
    """

    def __init__(self, url: Url) -> None:
        self._client = url.client(redis_py)
        limit, shared = connection_limit(url), min(SHARED, connection_limit(url))
        self._shared = self._lone = self._lines(url, shared, shared=True)
        if limit > shared:
            self._lone = self._lines(url, limit - shared, shared=False)
        self._has_transactions: bool | None = None  # until it was asked for

    def _lines(self, url: Url, limit: int, *, shared: bool) -> Lines:
        pool, seconds = self._client.connection_pool, url.socket_timeout
        return Lines(pool, limit, seconds=seconds, shared=shared)

    @property
    def client(self) -> Any:
        """A client, whose pool has the settings of our connections."""
        return self._client

    async def _ask_ahead(self, call: Call[Any], first: int, ask: Ask) -> Sequence[Any]:
        if self._has_transactions is None:
            replies = await ask(PROBE)
            self._has_transactions = not any(isinstance(each, Exception) for each in replies)
        if not self._has_transactions:
            return []
        return read_transaction(await ask(build_transaction(call, first)))

    @property
    def was_reached(self) -> bool:
        """Whether there was a connection to the server."""
        return self._shared.was_reached or self._lone.was_reached

    def _ask(self, commands: Sequence[Command]) -> Awaitable[Sequence[Any]]:
        data = pack_commands(commands)
        lines = self._lone if len(data) > LARGE else self._shared
        return lines.ask(data, len(commands))

    def _ask_and_wait(self, commands: Sequence[Command]) -> Awaitable[Sequence[Any]]:
        return self._lone.ask(pack_commands(commands), len(commands))

    async def aclose(self) -> None:
        """Close the connections."""
        await self._shared.close()
        await self._lone.close()
        await self._client.aclose()


class AsyncSentinelLink(AsyncOwnLink):
    """Connections to the primary that sentinels name; it is looked after as in `sync.py`."""

    def __init__(self, url: Url) -> None:
        super().__init__(url)
        self._service = url.service
        self._primary: tuple[str, int] | None = None
        self._next_look = 0.0
        self._looking: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def _lines(self, url: Url, limit: int, *, shared: bool) -> Lines:
        pool, seconds = self._client.connection_pool, url.socket_timeout
        return Lines(
            pool,
            limit,
            seconds=seconds,
            shared=shared,
            check=self._check,
            clean_up=self._close_sentinels,
        )

    def _ask(self, commands: Sequence[Command]) -> Awaitable[Sequence[Any]]:
        self._look_if_due()
        return super()._ask(commands)

    def _ask_and_wait(self, commands: Sequence[Command]) -> Awaitable[Sequence[Any]]:
        self._look_if_due()
        return super()._ask_and_wait(commands)

    def _look_if_due(self) -> None:
        if self._primary and time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + SECONDS_TO_NOTICE
            if not self._looking or self._looking.done():
                self._looking = asyncio.ensure_future(self._compare())
            if self._timer:
                self._timer.cancel()
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(SECONDS_TO_NOTICE, self._look_again)

    def _look_again(self) -> None:
        """Look again as long as there are calls: all of them may wait for a server."""
        if self._shared.are_busy or self._lone.are_busy:
            self._look_if_due()

    async def _compare(self) -> None:
        with suppress(RedisError, OSError):  # while no sentinel answers, there is no other primary
            await self._learn(await named_primary(self._client))

    async def _check(self, connection: Any) -> None:
        """Refuse a new connection to a server that is no primary."""
        await connection.send_command("ROLE")
        with suppress(ResponseError):  # the user may not ask for it
            check_role(await connection.read_response(disable_decoding=True))
        await self._learn((connection.host, connection.port))

    async def _learn(self, primary: tuple[str, int]) -> None:
        old, self._primary = self._primary, primary
        if old and old != primary:
            report_failover(self._service, "{}:{}".format(*old), "{}:{}".format(*primary))
            await self._shared.leave()
            await self._lone.leave()

    async def aclose(self) -> None:
        """Close the connections."""
        if self._timer:
            self._timer.cancel()
        if self._looking and self._looking.cancel():
            await asyncio.wait([self._looking])
        await super().aclose()
        await self._close_sentinels()

    async def _close_sentinels(self) -> None:
        """Close the idle connections to sentinels; a call may be using some to connect."""
        for sentinel in sentinels(self._client):
            await sentinel.connection_pool.disconnect(inuse_connections=False)


def make_async_link(redis: Any) -> AsyncLink:
    """The link of a saver that was made from a client or a URL, in the running event loop."""
    if is_cluster(redis):
        return AsyncClusterLink(redis)
    if isinstance(redis, Url):
        return AsyncSentinelLink(redis) if redis.kind == "sentinel" else AsyncOwnLink(redis)
    return AsyncClientLink(redis) if hasattr(redis, "connection_pool") else AsyncServersLink(redis)
