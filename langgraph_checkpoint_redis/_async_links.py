"""What the requests of an asynchronous saver go over, in one event loop: as in `_links.py`.

The connections that are ours are shared by calls, see `_lines.py`.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from asyncio import Semaphore
from collections.abc import Awaitable, Coroutine, Sequence
from typing import Any, TypeVar

from redis import asyncio as redis_py
from redis.exceptions import ConnectionError as RedisConnectionError

from ._clients import (
    CONNECTIONS,
    RAW,
    connection_limit,
    is_cluster,
    is_error,
    is_unknown_script,
    sentinels,
    socket_timeout,
)
from ._lines import SECONDS_TO_FINISH, Lines
from ._links import ASKING, REDIRECTIONS, key_of, known
from ._resp import Command, packed
from ._scripts import AtNode, Primaries, Request
from ._urls import Url

SHARED = 4  # lines that calls share
LARGE = 256 * 1024  # bytes: a larger request has a line for itself

T = TypeVar("T")


class AsyncLink(ABC):
    """A way to the server, for any number of tasks at a time."""

    async def reply(self, request: Request) -> Any:
        """What the server answers; errors are raised as the client library raises them."""
        ask = self._ask_and_wait if request.confirm else self._ask
        replies = await ask(request.commands())
        if is_unknown_script(replies[0]):
            replies = await ask(request.teaching_commands())
        return request.result(replies)

    @abstractmethod
    def _ask(self, commands: Sequence[Command]) -> Awaitable[Sequence[Any]]:
        """The reply to each command; one that the server refuses has an error for its reply."""

    @abstractmethod
    def _ask_and_wait(self, commands: Sequence[Command]) -> Awaitable[Sequence[Any]]:
        """The same, certainly over one connection, for the commands that wait for the first.

        While they wait, the server does nothing else for this connection.
        """

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
        self._limit = Semaphore(connection_limit(redis))
        self._is_ours = isinstance(redis, Url)
        self._client = redis.client(redis_py) if self._is_ours else redis

    @property
    def client(self) -> Any:
        """The client."""
        return self._client

    async def _ask(self, commands: Sequence[Command]) -> Sequence[Any]:
        try:
            async with self._limit:
                if len(commands) > 1:
                    return await _finished(self._ask_together(commands))
                return [await _finished(self._client.execute_command(*commands[0], **RAW))]
        except AttributeError as error:
            # redis-py's client of a cluster closes connections that other calls are using.
            if error.name != "writelines":
                raise
            raise RedisConnectionError("the connection was closed while in use") from error
        except Exception as error:
            if len(commands) == 1 and is_error(error, "ResponseError"):
                return [error]
            raise

    async def _ask_and_wait(self, commands: Sequence[Command]) -> Sequence[Any]:
        return await self._ask(commands)

    async def _ask_together(self, commands: Sequence[Command]) -> Sequence[Any]:
        async with self._client.pipeline(transaction=False) as pipeline:
            for command in commands:
                pipeline.execute_command(*command, **RAW)
            replies: list[Any] = await pipeline.execute(raise_on_error=False)
            return replies

    async def aclose(self) -> None:
        """Close the client, if it was made here."""
        if self._is_ours:
            await self._client.aclose()


async def _finished(sending: Coroutine[Any, Any, T]) -> T:
    """What was sent is not taken back: who cancels waits for it, as in `_lines.py`."""
    task = asyncio.ensure_future(sending)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task], timeout=SECONDS_TO_FINISH)
        task.cancel()
        raise


class AsyncClusterLink(AsyncClientLink):
    """The client of a cluster. It cannot wait for a write, which therefore goes to the node."""

    def __init__(self, redis: Any) -> None:
        super().__init__(redis)
        self._seconds = socket_timeout(redis)
        self._nodes: dict[str, Lines] = {}

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
        client, key = self._client, key_of(commands)
        node, asking = client.get_node_from_key(key), False
        for _ in range(REDIRECTIONS):
            replies = await self._ask_node(node, commands, asking=asking)
            asking = is_error(replies[0], "AskError") and not is_error(replies[0], "MovedError")
            if asking:
                node = known(client.get_node(replies[0].host, replies[0].port))
            elif is_error(replies[0], "MovedError"):
                await client.nodes_manager.initialize()
                node = client.get_node_from_key(key)
            else:
                break
        return replies

    async def _ask_node(
        self, node: Any, commands: Sequence[Command], *, asking: bool
    ) -> Sequence[Any]:
        before = [ASKING] if asking else []
        data = packed([*before, *commands])
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
        limit, seconds = connection_limit(url), url.socket_timeout
        shared = min(SHARED, limit)
        pool = self._client.connection_pool
        self._shared = self._lone = Lines(pool, shared, seconds=seconds, shared=True)
        if limit > shared:
            self._lone = Lines(pool, limit - shared, seconds=seconds, shared=False)

    @property
    def client(self) -> Any:
        """A client, whose pool has the settings of our connections."""
        return self._client

    def _ask(self, commands: Sequence[Command]) -> Awaitable[Sequence[Any]]:
        data = packed(commands)
        lines = self._lone if len(data) > LARGE else self._shared
        return lines.ask(data, len(commands))

    def _ask_and_wait(self, commands: Sequence[Command]) -> Awaitable[Sequence[Any]]:
        return self._lone.ask(packed(commands), len(commands))

    async def aclose(self) -> None:
        """Close the connections."""
        await self._shared.close()
        await self._lone.close()
        for client in (self._client, *sentinels(self._client)):
            await client.aclose()


def async_link(redis: Any) -> AsyncLink:
    """The link of a saver that was made from a client or a URL, in the running event loop."""
    if is_cluster(redis):
        return AsyncClusterLink(redis)
    return AsyncOwnLink(redis) if isinstance(redis, Url) else AsyncClientLink(redis)
