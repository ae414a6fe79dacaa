"""How the links of tasks take turns, and hold a client of a library: in one event loop.

`_transport/threads.py` has the same for threads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, ClassVar, TypeVar

from redis import asyncio as redis_py
from redis.exceptions import ConnectionError as RedisConnectionError

from langgraph_checkpoint_redis._protocol.resp import Command, pack_commands

from ._async.link import AsyncLink
from .clients import CONNECTIONS, connection_limit, socket_timeout
from .permits import AsyncPermits, async_permits_of
from .shared_lines import Lines, finish
from .urls import Url

T = TypeVar("T")


class AsyncHeldClient(AsyncLink):
    """A client, of which a limited number of calls use a connection at a time."""

    _may_have_cache: ClassVar[bool] = False

    def __init__(self, redis: Any) -> None:
        limit = connection_limit(redis)
        self._is_ours = isinstance(redis, Url)
        self._permits = AsyncPermits(limit) if self._is_ours else async_permits_of(redis, limit)
        self._client = redis.client(redis_py) if self._is_ours else redis

    @property
    def client(self) -> Any:
        """The client."""
        return self._client

    async def _finished(self, sending: Coroutine[Any, Any, T]) -> T:
        """Return the result of sending commands, which a cancelled caller waits for.

        What was sent is not taken back, as in `shared_lines.py`. The permit belongs to what is
        sent, which ends with the connection, and not to the caller that waits for it.
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
        except AttributeError as error:
            # redis-py's client of a cluster closes connections that other calls are using.
            if error.name != "writelines":
                raise
            raise RedisConnectionError("the connection was closed while in use") from error

    async def aclose(self) -> None:
        """Close the client, if it was made here."""
        if self._is_ours:
            await self._client.aclose()


class AsyncHeldCluster(AsyncHeldClient):
    """The client of a cluster, and our own connections to its nodes."""

    def __init__(self, redis: Any) -> None:
        super().__init__(redis)
        self._seconds = socket_timeout(redis)
        self._nodes: dict[str, Lines] = {}

    @property
    def was_reached(self) -> bool:
        """Whether the client has learned where the slots are."""
        return bool(self._client.nodes_manager.slots_cache)

    async def _initialized(self) -> Any:
        """Return the client, once it has learned of the slots."""
        await self._client.initialize()
        return self._client

    async def _send_to(self, node: Any, commands: Sequence[Command]) -> Sequence[Any]:
        """Send commands to a node."""
        if node.name not in self._nodes:
            self._nodes[node.name] = Lines(node, CONNECTIONS, seconds=self._seconds, shared=False)
        return await self._nodes[node.name].ask(pack_commands(commands), len(commands))

    async def aclose(self) -> None:
        """Close the connections to nodes, and the client if it was made here."""
        for lines in self._nodes.values():
            await lines.close()
        await super().aclose()
