"""Links of our own in one event loop: to a server, or to the primary that sentinels name.

Calls share the connections, see `shared_lines.py`. `sync_own_links.py` has the same for threads,
and says when a client is used instead.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from typing import Any

from redis import asyncio as redis_py
from redis.exceptions import RedisError, ResponseError

from langgraph_checkpoint_redis._protocol.resp import Command, pack_commands
from langgraph_checkpoint_redis._scripts.transactions import Transactions
from langgraph_checkpoint_redis.errors import ConfigError

from ._async.client_links import AsyncClientLink, AsyncClusterLink, AsyncServersLink
from ._async.link import AsyncLink
from ._async.sentinels import AsyncSentinels
from .clients import (
    SECONDS_TO_NOTICE,
    check_role,
    connection_limit,
    is_cluster,
    named_primary,
)
from .retry import Server
from .shared_lines import Lines
from .urls import Url

SHARED = 4  # lines that calls share
LARGE = 256 * 1024  # bytes: a larger request has a line for itself


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
        self._transactions = Transactions()

    def _lines(self, url: Url, limit: int, *, shared: bool) -> Lines:
        pool, seconds = self._client.connection_pool, url.socket_timeout
        return Lines(pool, limit, seconds=seconds, shared=shared, server=Server(url))

    @property
    def client(self) -> Any:
        """A client, whose pool has the settings of our connections."""
        return self._client

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


class AsyncSentinelLink(AsyncSentinels, AsyncOwnLink):
    """Connections to the primary that sentinels name, looked after as those of threads are."""

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
            server=Server(url),
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
        # While no sentinel answers, there is no other primary.
        with suppress(RedisError, OSError, ConfigError):
            await self._learn(await named_primary(self._client))

    async def _check(self, connection: Any) -> None:
        """Refuse a new connection to a server that is no primary."""
        await connection.send_command("ROLE")
        with suppress(ResponseError):  # the user may not ask for it
            check_role(await connection.read_response(disable_decoding=True))
        await self._learn((connection.host, connection.port))

    async def _leave_all_but(self, primary: tuple[str, int]) -> None:
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


def make_async_link(redis: Any) -> AsyncLink:
    """The link of a saver that was made from a client or a URL, in the running event loop."""
    if is_cluster(redis):
        return AsyncClusterLink(redis)
    if isinstance(redis, Url):
        return AsyncSentinelLink(redis) if redis.kind == "sentinel" else AsyncOwnLink(redis)
    return AsyncClientLink(redis) if hasattr(redis, "connection_pool") else AsyncServersLink(redis)
