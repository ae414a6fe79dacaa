"""Work that an event loop finishes, even if the task that waits for it is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_tasks: set[asyncio.Task[Any]] = set()  # event loops keep weak references only


async def shielded(work: Coroutine[Any, Any, T]) -> T:
    """Await work in a task of its own, which goes on if this one is cancelled.

    A web framework cancels a request whose client has gone in every `await` until it ends.
    """
    task = asyncio.create_task(work)
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)
    return await asyncio.shield(task)
