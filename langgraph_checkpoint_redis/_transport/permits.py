"""Permits: how many calls use connections of a client at a time, so that others wait, not fail.

All savers on one client share them, since they share its pool.

The calls stand in a queue, a dictionary, and the first `limit` of them have a permit. A call enters
and leaves by one step of the interpreter each. So a signal handler that raises, wherever it
strikes, neither loses a permit nor returns one twice.
"""

from __future__ import annotations

import asyncio
from asyncio import AbstractEventLoop, Future
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

from langgraph_checkpoint_redis._runtime.forks import reset_in_children

# Seconds after which a waiting thread looks by itself. A thread that an exception stops between
# leaving the queue and waking the next one costs others no more than that.
LOOK_AGAIN = 0.25

Turn: TypeAlias = object
Waiting: TypeAlias = "dict[Turn, SimpleQueue[None] | None]"


class Permits:
    """The permits of a client that threads use.

    A caller adds a turn of its own to the `queue`, calls `wait` if the queue is longer than the
    `limit`, and removes the turn in a `finally` clause, in this order and without a helper: the
    call of a function would give a signal handler the time to raise in between.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.queue: Waiting = {}
        reset_in_children(self)

    def after_fork(self) -> None:
        """Begin with an empty queue: the threads that stood in it are gone."""
        self.queue = {}

    def wait(self, queue: Waiting, turn: Turn) -> None:
        """Return when a turn is among the first."""
        ready: SimpleQueue[None] = SimpleQueue()
        queue[turn] = ready
        while turn not in [*queue][: self.limit]:
            with suppress(Empty):
                ready.get(timeout=LOOK_AGAIN)
        queue[turn] = None

    def wake(self, queue: Waiting) -> None:
        """Tell the first that their turn has come."""
        for ready in [*queue.values()][: self.limit]:
            if ready is not None:
                ready.put(None)


class AsyncPermits:
    """The permits of a client that the tasks of one event loop use."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._queue: dict[Turn, Future[None] | None] = {}

    async def take(self, turn: Turn) -> None:
        """Return when a turn is among the first. The caller gives it back, also after an error."""
        self._queue[turn] = None
        if len(self._queue) > self._limit:
            ready: Future[None] = asyncio.get_running_loop().create_future()
            self._queue[turn] = ready
            await ready
            self._queue[turn] = None

    def give_back(self, turn: Turn) -> None:
        """Leave the queue, once or more often, and let the next one go on."""
        self._queue.pop(turn, None)
        if len(self._queue) >= self._limit:
            for ready in [*self._queue.values()][: self._limit]:
                if ready is not None and not ready.done():
                    ready.set_result(None)


_of_pools: WeakKeyDictionary[Any, Permits] = WeakKeyDictionary()
_of_loops: WeakKeyDictionary[Any, WeakKeyDictionary[AbstractEventLoop, AsyncPermits]] = (
    WeakKeyDictionary()
)


def permits_of(client: Any, limit: int) -> Permits:
    """Return the permits that all savers on a client share."""
    return _of_pools.setdefault(_pool(client), Permits(limit))


def async_permits_of(client: Any, limit: int) -> AsyncPermits:
    """Return the same for the running event loop."""
    by_loop = _of_loops.setdefault(_pool(client), WeakKeyDictionary())
    return by_loop.setdefault(asyncio.get_running_loop(), AsyncPermits(limit))


def _pool(client: Any) -> Any:
    """Return what has the connections: a pool, which several clients may share, or the client."""
    return getattr(client, "connection_pool", None) or client
