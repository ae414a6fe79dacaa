"""The links of an asynchronous saver: one for each event loop, closed when the loop ends.

A connection belongs to the event loop that made it. A saver therefore has a link in each loop that
uses it, and takes care that nothing is left of what it opened: not when the loop ends, which closes
asynchronous generators (so each link is kept by one), not when the saver is collected, not in a
forked process.
"""

from __future__ import annotations

import asyncio
import os
from asyncio import AbstractEventLoop
from collections.abc import AsyncGenerator
from threading import Lock, Thread
from typing import Any, NamedTuple
from weakref import finalize

from ._async_links import AsyncLink, async_link
from ._urls import Url
from .errors import EventLoopError


class Kept(NamedTuple):
    """A link in one event loop, and what closes it."""

    link: AsyncLink
    keeper: AsyncGenerator[None, None]


async def _keep(link: AsyncLink) -> AsyncGenerator[None, None]:
    """Close a link when this generator is closed, by whomever."""
    try:
        yield
    finally:
        await link.aclose()


class Connections:
    """The links of a saver, and the loop that synchronous calls go to."""

    def __init__(self, redis: Any) -> None:
        self.redis = redis
        self._lock = Lock()
        self._start()

    def _start(self) -> None:
        self._by_loop: dict[AbstractEventLoop, Kept] = {}
        self._own_loop: AbstractEventLoop | None = None
        self._process = os.getpid()

    async def here(self) -> AsyncLink:
        """The link of the running loop."""
        self._leave_parent_process()
        loop = asyncio.get_running_loop()
        kept = self._by_loop.get(loop)
        if kept is None:
            link = async_link(self.redis)
            kept = Kept(link, _keep(link))
            with self._lock:
                self._forget_closed_loops()
                self._by_loop[loop] = kept
            await anext(kept.keeper)  # from now on, the loop knows it
        return kept.link

    def _forget_closed_loops(self) -> None:
        for loop in [loop for loop in self._by_loop if loop.is_closed()]:
            del self._by_loop[loop]

    def _leave_parent_process(self) -> None:
        """In a forked process, leave alone what belongs to loops that run in its parent."""
        if self._process != os.getpid():
            self._inherited = self._by_loop  # to collect it would wake the parent
            self._lock = Lock()
            self._start()

    def loop_for_waiting(self) -> AbstractEventLoop:
        """A running loop for a thread that has none: one that uses the saver, or one of its own."""
        if asyncio._get_running_loop():  # noqa: SLF001 - the public one raises an error for none
            raise EventLoopError(
                "a synchronous method of AsyncRedisSaver would block the event loop that runs in "
                "this thread: await its twin instead (aget_tuple, aput, ...; of a graph: ainvoke, "
                "...)"
            )
        self._leave_parent_process()
        with self._lock:
            running = [loop for loop in self._by_loop if loop.is_running()]
            return running[0] if running else self._start_own_loop()

    def _start_own_loop(self) -> AbstractEventLoop:
        if not isinstance(self.redis, Url):
            raise EventLoopError(
                "no event loop that uses this AsyncRedisSaver is running, and its client works in "
                "none but its own: make the saver from a URL, or use RedisSaver"
            )
        if self._own_loop is None:
            self._own_loop = asyncio.new_event_loop()
            thread = Thread(target=_run_until_stopped, args=[self._own_loop], daemon=True)
            thread.start()
            finalize(self, _stop, self._own_loop, thread)
        return self._own_loop

    async def close(self) -> None:
        """Close what was opened here, each client in its own loop."""
        with self._lock:
            by_loop, self._by_loop = self._by_loop, {}
            own_loop, self._own_loop = self._own_loop, None
        for loop, kept in by_loop.items():
            if loop is asyncio.get_running_loop():
                await kept.keeper.aclose()
            elif loop.is_running():
                closing = asyncio.run_coroutine_threadsafe(_closed(kept.keeper), loop)
                await asyncio.wrap_future(closing)
        if own_loop is not None:
            own_loop.call_soon_threadsafe(own_loop.stop)


async def _closed(keeper: AsyncGenerator[None, None]) -> None:
    await keeper.aclose()


def _run_until_stopped(loop: AbstractEventLoop) -> None:
    loop.run_forever()
    loop.run_until_complete(_cancel_others())
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


async def _cancel_others() -> None:
    """Cancel what has not ended, as `asyncio.run` does: threads wait for it."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


def _stop(loop: AbstractEventLoop, thread: Thread) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
