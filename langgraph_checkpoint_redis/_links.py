"""What requests go over: a link to the server, of the kind that a saver needs.

A client that was passed in is used as its owner configured it, by its own methods (`ClientLink`);
so is the client of a cluster, which knows where each key lives. Where we were given the URL of a
server, the connections are ours (`OwnLink`): they are kept open, and a request costs one write and
one read, while a client takes a connection from its pool each time and looks whether it is still
good. redis-py makes those connections, too, since it knows TLS, logins and sentinels.
"""

from __future__ import annotations

import asyncio
import os
from abc import ABC, abstractmethod
from asyncio import Semaphore
from collections import deque
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from threading import BoundedSemaphore, Lock
from typing import Any, TypeVar

import redis as redis_py
import redis.asyncio as redis_py_asyncio
from redis.exceptions import ResponseError

from ._clients import RAW, connection_limit, is_read_only, is_unknown_script, sentinels
from ._lines import SECONDS_TO_FINISH, Lines
from ._resp import Command, packed
from ._scripts import Request
from ._urls import Url

SHARED = 4  # lines that awaited calls share
LARGE = 256 * 1024  # bytes: a larger request has a line for itself

T = TypeVar("T")


# For synchronous savers


class Link(ABC):
    """A way to the server, for any number of threads, of which so many use it at a time."""

    def __init__(self, limit: int) -> None:
        self._limit = BoundedSemaphore(limit)

    def reply(self, request: Request) -> Any:
        """What the server answers; errors are raised as the client library raises them."""
        with self._limit:
            replies = self._ask(request.commands())
            if is_unknown_script(replies[0]):
                replies = self._ask(request.teaching_commands())
        return request.result(replies)

    @abstractmethod
    def _ask(self, commands: Sequence[Command]) -> Sequence[Any]:
        """The reply to each command; one that the server refuses has an error for its reply."""

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
            if is_unknown_script(error):
                return [error]
            raise

    def _ask_together(self, commands: Sequence[Command]) -> Sequence[Any]:
        with self.client.pipeline(transaction=False) as pipeline:
            for command in commands:
                pipeline.execute_command(*command, **RAW)
            replies: list[Any] = pipeline.execute(raise_on_error=False)
            return replies

    def close(self) -> None:
        """Close the client, if it was made here."""
        if self._url and self._client is not None:
            self._client.close()


class OwnLink(Link):
    """Connections to one server, or to the primary that sentinels name."""

    def __init__(self, url: Url) -> None:
        super().__init__(connection_limit(url))
        self._client = url.client(redis_py)
        self._start()

    def _start(self) -> None:
        self._idle: deque[Any] = deque()
        self._process = os.getpid()

    @property
    def client(self) -> Any:
        """A client, whose pool has the settings of our connections."""
        return self._client

    def _ask(self, commands: Sequence[Command]) -> Sequence[Any]:
        connection = self._connection()
        try:
            connection.send_packed_command([packed(commands)])
            replies = [_reply(connection) for _ in commands]
        except BaseException:
            connection.disconnect()  # what it may still receive belongs to nobody,
            self._close_idle()  # and those that are as old may have had the same fate
            raise
        self._idle.append(connection)
        return replies

    def _connection(self) -> Any:
        if self._process != os.getpid():  # what a forked process inherits is its parent's
            self._start()
        try:
            return self._idle.pop()
        except IndexError:
            pool = self._client.connection_pool
            connection = pool.connection_class(**pool.connection_kwargs)
            connection.connect()
            return connection

    def _close_idle(self) -> None:
        with suppress(IndexError):  # other threads take from it, too
            while True:
                self._idle.pop().disconnect()

    def close(self) -> None:
        """Close the connections that are idle."""
        self._close_idle()
        for client in (self._client, *sentinels(self._client)):
            client.close()


def _reply(connection: Any) -> Any:
    try:
        return connection.read_response(disable_decoding=True, disconnect_on_error=True)
    except ResponseError as error:
        if is_read_only(error):  # another connection may lead to the new primary
            raise
        return error


def link(redis: Any) -> Link:
    """The link of a saver that was made from a client or a URL."""
    if isinstance(redis, Url) and redis.kind != "cluster":
        return OwnLink(redis)
    return ClientLink(redis)


# For asynchronous savers, in one event loop


class AsyncLink(ABC):
    """A way to the server, for any number of tasks at a time."""

    async def reply(self, request: Request) -> Any:
        """What the server answers; errors are raised as the client library raises them."""
        alone = request.confirm is not None
        replies = await self._ask(request.commands(), alone=alone)
        if is_unknown_script(replies[0]):
            replies = await self._ask(request.teaching_commands(), alone=alone)
        return request.result(replies)

    @abstractmethod
    async def _ask(self, commands: Sequence[Command], *, alone: bool) -> Sequence[Any]:
        """The reply to each command; one that the server refuses has an error for its reply.

        `alone` is for commands that keep the server from answering others on their connection.
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
        self._client = redis.client(redis_py_asyncio) if self._is_ours else redis

    @property
    def client(self) -> Any:
        """The client."""
        return self._client

    async def _ask(self, commands: Sequence[Command], *, alone: bool) -> Sequence[Any]:
        async with self._limit:
            if len(commands) > 1:
                return await _finished(self._ask_together(commands))
            try:
                return [await _finished(self._client.execute_command(*commands[0], **RAW))]
            except Exception as error:
                if is_unknown_script(error):
                    return [error]
                raise

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


class AsyncOwnLink(AsyncLink):
    """Connections to one server, or to the primary that sentinels name.

    Most calls share a few; those that would hold up others have one for themselves.
    """

    def __init__(self, url: Url) -> None:
        self._client = url.client(redis_py_asyncio)
        limit, seconds = connection_limit(url), url.socket_timeout
        shared = min(SHARED, limit)
        self._shared = Lines(self._client, shared, seconds=seconds, shared=True)
        self._lone = Lines(self._client, limit - shared, seconds=seconds, shared=False)

    @property
    def client(self) -> Any:
        """A client, whose pool has the settings of our connections."""
        return self._client

    async def _ask(self, commands: Sequence[Command], *, alone: bool) -> Sequence[Any]:
        data = packed(commands)
        lines = self._lone if alone or len(data) > LARGE else self._shared
        return await lines.ask(data, len(commands))

    async def aclose(self) -> None:
        """Close the connections."""
        await self._shared.close()
        await self._lone.close()
        for client in (self._client, *sentinels(self._client)):
            await client.aclose()


def async_link(redis: Any) -> AsyncLink:
    """The link of a saver that was made from a client or a URL, in the running event loop."""
    if isinstance(redis, Url) and redis.kind != "cluster":
        return AsyncOwnLink(redis)
    return AsyncClientLink(redis)
