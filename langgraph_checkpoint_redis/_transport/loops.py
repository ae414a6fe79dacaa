"""The links of an asynchronous saver: one for each event loop, closed when the loop ends.

A connection belongs to the event loop that made it. A saver therefore has a link in each loop that
uses it, and takes care that nothing is left of what it opened: not when the loop ends, which closes
asynchronous generators (so each link is kept by one), not when the saver or a loop that was never
closed is collected, not in a forked process.
"""

from __future__ import annotations

import asyncio
import os
import time
from asyncio import AbstractEventLoop
from collections.abc import AsyncGenerator, Coroutine, MutableMapping
from concurrent.futures import CancelledError as FutureCancelledError
from concurrent.futures import TimeoutError as FutureTimeoutError
from threading import Lock, Thread
from typing import Any, NamedTuple, TypeVar
from weakref import WeakKeyDictionary, WeakSet, finalize

from langgraph_checkpoint_redis._runtime.forks import reset_in_children
from langgraph_checkpoint_redis.errors import EventLoopError

from ._async.link import AsyncLink
from .async_own_links import make_async_link
from .inherited import start_afresh
from .retry import SECONDS_TO_RECOVER, Server
from .urls import Url

T = TypeVar("T")

LOOK_AGAIN = 1.0  # seconds after which a waiting thread looks whether the event loop still runs
_LINKS = "_langgraph_checkpoint_redis_links"  # the attribute of an event loop


class Kept(NamedTuple):
    """A link in one event loop, and what closes it."""

    link: AsyncLink
    keeper: AsyncGenerator[None, None]


class Reached:
    """Whether a link of a saver has reached the server, in a loop that may have ended since."""

    def __init__(self) -> None:
        self.was_reached = False


async def _keep(link: AsyncLink, reached: Reached, redis: Any) -> AsyncGenerator[None, None]:
    """Close a link when this generator is closed, by whomever."""
    try:
        yield
    finally:
        reached.was_reached = reached.was_reached or link.was_reached
        if link.was_reached and isinstance(redis, Url):
            Server(redis).note_reached()
        await link.aclose()


class Connections:
    """The links of a saver, and the loop that synchronous calls go to."""

    def __init__(self, redis: Any) -> None:
        self.redis = redis
        self._inherited: list[Any] = []
        self._reached = Reached()  # apart, as a reference to this would keep it in memory
        self._start()
        reset_in_children(self)

    def _start(self) -> None:
        self._lock = Lock()
        self._loops: WeakSet[AbstractEventLoop] = WeakSet()
        self._own_loop: AbstractEventLoop | None = None

    def after_fork(self) -> None:
        """Leave alone what belongs to loops that run in the parent process."""
        for loop in [*self._loops]:
            if (kept := _links_in(loop).get(self)) and kept.link.was_reached:
                self._reached.was_reached = True
        # To collect it would wake the parent.
        self._inherited += [(loop, self._forgotten(loop)) for loop in [*self._loops]]
        if not isinstance(self.redis, Url):
            self._inherited += start_afresh(self.redis, asynchronous=True)
        self._start()

    async def here(self) -> AsyncLink:
        """The link of the running loop."""
        loop = asyncio.get_running_loop()
        links = _links_in(loop)
        kept = links.get(self)
        if kept is None:
            link = make_async_link(self.redis)
            kept = Kept(link, _keep(link, self._reached, self.redis))
            with self._lock:
                self._forget_closed_loops()
                self._loops.add(loop)
                links[self] = kept
            await anext(kept.keeper)  # from now on, the loop knows it
        return kept.link

    def were_reached_by(self, link: AsyncLink | None) -> bool:
        """Return whether there was a connection to the server, of this link or an earlier one."""
        return link is None or link.was_reached or self._reached.was_reached

    def _forget_closed_loops(self) -> None:
        for loop in [loop for loop in self._loops if loop.is_closed()]:
            self._loops.discard(loop)
            self._forgotten(loop)

    def _forgotten(self, loop: AbstractEventLoop) -> Kept | None:
        return _links_in(loop).pop(self, None)

    def loop_for_waiting(self) -> AbstractEventLoop:
        """A running loop for a thread that has none: one that uses the saver, or one of its own."""
        if asyncio._get_running_loop():  # noqa: SLF001 - the public one raises an error for none
            raise EventLoopError(
                "a synchronous method of AsyncRedisSaver would block the event loop that runs in "
                "this thread: await its twin instead (aget_tuple, aput, ...; of a graph: ainvoke, "
                "...)"
            )
        with self._lock:
            running = [loop for loop in [*self._loops] if loop.is_running()]
            return running[0] if running else self._start_own_loop()

    def wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """The result of a coroutine, waited for from a thread without a running event loop."""
        try:
            loop = self.loop_for_waiting()
        except EventLoopError:
            coroutine.close()
            raise
        future = asyncio.run_coroutine_threadsafe(coroutine, loop)
        seen_running = time.monotonic()
        while True:
            try:
                future.exception(LOOK_AGAIN)  # raises none of the coroutine's own errors
            except FutureCancelledError as error:  # noqa: PERF203 - it waits a second each time
                raise EventLoopError("the event loop ended before the call did") from error
            except FutureTimeoutError:
                if loop.is_running():
                    seen_running = time.monotonic()
                elif loop.is_closed() or time.monotonic() - seen_running > SECONDS_TO_RECOVER:
                    future.cancel()
            except BaseException:
                future.cancel()  # an exception of a signal handler: nobody waits any more
                raise
            else:
                return future.result()

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
            finalize(self, _stop, self._own_loop, thread, os.getpid())
        return self._own_loop

    async def close(self) -> None:
        """Close what was opened here, each client in its own loop."""
        with self._lock:
            found = {loop: self._forgotten(loop) for loop in [*self._loops]}
            self._loops.clear()
            own_loop, self._own_loop = self._own_loop, None
        for loop, kept in found.items():
            if kept is None:
                continue
            if loop is asyncio.get_running_loop():
                await kept.keeper.aclose()
            elif loop.is_running():
                closing = asyncio.run_coroutine_threadsafe(_close(kept.keeper), loop)
                await asyncio.wrap_future(closing)
        if own_loop is not None:
            own_loop.call_soon_threadsafe(own_loop.stop)


def _links_in(loop: AbstractEventLoop) -> MutableMapping[Connections, Kept]:
    """The links of savers in a loop, which owns them: if nobody closes it, they go with it."""
    links: MutableMapping[Connections, Kept] | None = getattr(loop, _LINKS, None)
    if links is None:
        links = WeakKeyDictionary()
        setattr(loop, _LINKS, links)
    return links


async def _close(keeper: AsyncGenerator[None, None]) -> None:
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


def _stop(loop: AbstractEventLoop, thread: Thread, process: int) -> None:
    if process == os.getpid() and not loop.is_closed():
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
