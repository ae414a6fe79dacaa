"""How a thread waits for a coroutine of an asynchronous saver."""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine
from typing import Any, TypeVar

from langgraph_checkpoint_redis._transport.loops import Connections

T = TypeVar("T")


class Waiting:
    """A saver whose coroutines other threads wait for."""

    _connections: Connections

    def _wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Return the result of a coroutine to a thread without a running event loop."""
        return self._connections.wait(coroutine)


async def next_of(items: AsyncIterator[T]) -> T | None:
    """Return the next item, or None at the end."""
    return await anext(items, None)
