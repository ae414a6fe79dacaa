"""Connections of our own in one event loop, each used by many calls at a time.

redis-py makes the connections, as it knows TLS, logins and sentinels; from then on they are ours.
What is asked for in one step of the event loop goes out in one write, and replies come in the order
of the requests: nobody waits for a connection, and a call that is given up holds up no other.

A saver has a few `Line`s, so that a large reply does not hold up others for long; and requests that
are large themselves, or wait for more than a script, have lines of their own.
"""

from __future__ import annotations

import asyncio
from asyncio import Future, Transport
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import nullcontext, suppress
from typing import Any

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse
from redis.exceptions import TimeoutError as RedisTimeoutError

from langgraph_checkpoint_redis._protocol.resp import Replies, force_resp2, pack_commands
from langgraph_checkpoint_redis._runtime.log import report_lost, report_reconnect

from .clients import is_last_word, left_in_transaction, was_queued
from .retry import Server, must_leave
from .tls import hurried

PATIENCE = 0.005  # seconds that a shared line may take for an answer before another is opened
IDLE = -1.0  # instead of such seconds: the clock of some event loops stands still within a step
PING = pack_commands([("PING",)])
SECONDS_TO_FINISH = 1.0  # that a cancelled call waits for what it has sent


class Answer:
    """The replies to some commands, which somebody waits for."""

    __slots__ = ("expected", "future", "is_over", "replies")

    def __init__(self, future: Future[list[Any]], expected: int) -> None:
        self.future = future
        self.expected = expected
        self.replies: list[Any] = []
        self.is_over = False

    def add(self, reply: Any) -> bool:
        """Take a reply, and tell whether it was the last."""
        self.replies.append(reply)
        self.is_over = len(self.replies) == self.expected
        if self.is_over and not self.future.done():
            self.future.set_result(self.replies)
        return self.is_over

    def fail(self, error: Exception) -> None:
        """Tell who waits that there will be none."""
        self.is_over = True
        if not self.future.done():
            self.future.set_exception(error)

    async def passed(self) -> None:
        """Wait some time for replies that nobody wants any more, unless they have just come."""
        if not self.is_over:
            self.future = asyncio.get_running_loop().create_future()
        try:
            await finish(self.future)
        finally:
            if not (self.future.cancel() or self.future.cancelled()):
                self.future.exception()  # nobody wants that either


async def finish(future: Future[Any]) -> None:
    """Wait some time for what was sent by a call that is cancelled, and perhaps cancelled again.

    Some libraries repeat a cancellation in each step until the task has ended: that must not keep
    it from waiting.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + SECONDS_TO_FINISH
    while not future.done() and (left := deadline - loop.time()) > 0:
        with suppress(asyncio.CancelledError):
            await asyncio.wait([future], timeout=left)


class Line(asyncio.Protocol):
    """An open connection and what was asked on it; `seconds` is how long the server may be silent.

    Once it fails it stays closed, and all who wait on it are told.
    """

    def __init__(self, connection: Any, seconds: float | None) -> None:
        self._connection = connection
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._replies = Replies()
        self._answers: deque[Answer] = deque()
        self._unsent: list[bytes] = []
        self._heard, self._unheard_bytes = self._loop.time(), 0
        self._turn_began = 0.0
        self._is_watched = False
        self.is_open = True  # until it fails, or is closed
        self._transport: Transport = connection._writer.transport  # noqa: SLF001 - no other way
        self._stream = self._transport.get_protocol()
        self._transport.set_protocol(self)

    @property
    def is_gathering(self) -> bool:
        """Whether something is about to be sent, and more can go with it."""
        return self.is_open and bool(self._unsent)

    @property
    def busy(self) -> float:
        """For how many seconds it has been at the answer that is next; `IDLE` if there is none."""
        return self._loop.time() - self._turn_began if self._answers else IDLE

    def is_due(self, interval: float) -> bool:
        """Whether it has been idle for so many seconds that it may be dead without a sign."""
        return not self._answers and self._loop.time() - self._heard > interval

    def ask(self, data: bytes, expected: int) -> Answer:
        """Send commands that have so many replies: at once if nothing else is on the way."""
        answer = Answer(self._loop.create_future(), expected)
        if not self.is_open:
            answer.fail(RedisConnectionError("the connection was closed"))
            return answer
        self._answers.append(answer)
        self._unsent.append(data)
        if len(self._answers) == 1:
            self._heard = self._turn_began = self._loop.time()
            self._send()
        elif len(self._unsent) == 1:
            self._loop.call_soon(self._send)
        if self._seconds and not self._is_watched:
            self._is_watched = True
            self._loop.call_later(self._seconds, self._watch, self._seconds)
        return answer

    def _send(self) -> None:
        if self.is_open:
            self._transport.write(b"".join(self._unsent))
        self._unsent.clear()

    def data_received(self, data: bytes) -> None:
        """Hand out replies."""
        self._heard = self._loop.time()
        try:
            for reply in self._replies.feed(data):
                answer = self._answers[0]
                if not answer.replies and was_queued(reply):
                    self._fail(left_in_transaction())
                    return
                if not answer.add(reply) and is_last_word(reply):
                    answer.fail(reply)
                if answer.is_over:
                    self._answers.popleft()
                    self._turn_began = self._heard
                if isinstance(reply, Exception) and must_leave(reply):
                    self._fail(reply)
        except (InvalidResponse, ValueError, IndexError) as error:
            self._fail(RedisConnectionError(f"the server sent what is no reply: {error}"))

    def connection_lost(self, error: Exception | None) -> None:
        """Tell all who wait, and redis-py."""
        self._fail(RedisConnectionError(f"the connection to the server was lost: {error or 'end'}"))
        self._stream.connection_lost(error)
        self._connection._close()  # noqa: SLF001 - or it complains of being left open

    def _watch(self, seconds: float) -> None:
        """See whether the server has been silent for too long, though it is not still receiving."""
        if not self.is_open:
            return
        unsent = self._transport.get_write_buffer_size()
        if unsent < self._unheard_bytes:
            self._heard = self._loop.time()
        self._unheard_bytes = unsent
        left = self._heard + seconds - self._loop.time()
        if self._answers and left <= 0:
            self._fail(RedisTimeoutError(f"the server has not answered for {seconds:g} seconds"))
        self._is_watched = bool(self._answers)
        if self._is_watched:
            self._loop.call_later(max(left, 0), self._watch, seconds)

    def _fail(self, error: Exception) -> None:
        if self.is_open:
            self.is_open = False
            self._transport.abort()
            if self._answers:
                report_lost(len(self._answers), error)
        while self._answers:
            self._answers.popleft().fail(type(error)(*error.args))

    async def close(self) -> None:
        """Close the connection."""
        self._fail(RedisConnectionError("the connection was closed"))
        await self._connection.disconnect(nowait=True)


class Lines:
    """Lines to one server, or to the primary that sentinels name: so many at most.

    Either they are shared by all, or each call is to have one for itself, as long as there are
    enough.
    """

    def __init__(
        self,
        source: Any,
        limit: int,
        *,
        seconds: float | None,
        shared: bool,
        check: Callable[[Any], Awaitable[None]] | None = None,
        clean_up: Callable[[], Coroutine[Any, Any, None]] | None = None,
        server: Server | None = None,
    ) -> None:
        """`source` is a pool of redis-py, or a node of a cluster; `seconds` are as of `Line`.

        `check` refuses a new connection of redis-py that leads to a wrong server. `clean_up` closes
        what was opened to find the server, when a line that was being opened comes too late.
        `server` is what the process knows of the server, if the lines lead to the one of a URL.
        """
        self._check = check
        self._clean_up = clean_up
        self._server = server
        self._source = source
        self._limit = limit
        self._seconds = seconds
        self._are_shared = shared
        self._patience = PATIENCE if shared else IDLE
        self._checks_after: float = source.connection_kwargs.get("health_check_interval") or 0
        self._lines: list[Line] = []
        self._opening = asyncio.Lock()
        self._is_closed = False
        self.was_reached = False

    @property
    def are_busy(self) -> bool:
        """Whether an answer is waited for."""
        return any(line.busy != IDLE for line in self._lines if line.is_open)

    async def ask(self, data: bytes, expected: int) -> list[Any]:
        """The replies to commands; errors of the server are among them.

        What was sent is not taken back: who cancels waits for it, so that nothing is carried out
        behind the back of what comes next.
        """
        line = self._line() or await self._another()
        if self._checks_after and line.is_due(self._checks_after):
            await line.ask(PING, 1).future
        answer = line.ask(data, expected)
        try:
            return await answer.future
        except asyncio.CancelledError:
            await answer.passed()
            raise

    def _line(self) -> Line | None:
        """The line to take, unless there should be another one."""
        for line in self._lines:
            if line.is_gathering and self._are_shared:
                return line
        best = self._least_busy()
        return best if best and (best.busy <= self._patience or self._is_full()) else None

    def _least_busy(self) -> Line | None:
        usable = [line for line in self._lines if line.is_open]
        return min(usable, key=lambda line: line.busy, default=None)

    def _is_full(self) -> bool:
        self._lines = [line for line in self._lines if line.is_open]
        return len(self._lines) >= self._limit

    async def _another(self) -> Line:
        async with self._opening:
            if line := self._line():
                return line
            try:
                return await self._opened()
            except RedisConnectionError:  # the server may have no room for more
                if busy := self._least_busy():
                    return busy
                raise

    async def _opened(self) -> Line:
        self._refuse_if_closed()
        connection = self._source.connection_class(**force_resp2(self._source.connection_kwargs))
        is_first = self._server and self._server.is_unknown
        try:
            with hurried(connection) if is_first else nullcontext():
                await connection.connect()
            if self._check:
                await self._check(connection)
            self._refuse_if_closed()  # nobody would close this one
        except BaseException:
            await connection.disconnect(nowait=True)
            if self._is_closed and self._clean_up:
                await finish(asyncio.ensure_future(self._clean_up()))
            raise
        line = Line(connection, self._seconds)
        if self._server and not self.was_reached:
            self._server.note_reached()
        self.was_reached = True
        if self._is_closed:  # nobody would close this one
            await line.close()
            raise RedisConnectionError("the connections were closed")
        if not all(line.is_open for line in self._lines):
            self._lines = [line for line in self._lines if line.is_open]
            report_reconnect()
        self._lines.append(line)
        return line

    def _refuse_if_closed(self) -> None:
        if self._is_closed:
            raise RedisConnectionError("the connections were closed")

    async def close(self) -> None:
        """Close all lines, for good."""
        self._is_closed = True
        await self.leave()

    async def leave(self) -> None:
        """Close the lines that there are; the requests on them fail."""
        while self._lines:
            await self._lines.pop().close()
