"""The methods `verify` and `repair` of both savers."""

from __future__ import annotations

import asyncio

from langgraph_checkpoint_redis._core.context import context_of
from langgraph_checkpoint_redis._core.driving import AsyncDriver, Driver

from .operations import repair_thread, verify_thread
from .problems import Problem


class Integrity(Driver):
    """The methods of the synchronous saver, and their awaited names."""

    def verify(self, thread_id: str) -> list[Problem]:
        """Return everything that is wrong with a thread; empty if all is well.

        The whole thread is read, in calls that each look at a bounded part of it. So `verify` may
        run next to the traffic. The serializer is not called.

        Raises:
            UnknownFormatError: A newer version of this package wrote a part of the thread.
        """
        return self._run(verify_thread(context_of(self), thread_id))

    def repair(self, thread_id: str) -> list[Problem]:
        """Remove lost data and garbage, as `verify` finds them, and index unindexed runs.

        A checkpoint that lacks something is removed with its writes. If writes are damaged, all
        writes of the task on top of the checkpoint are removed, so that the task runs again.
        `repair` may be interrupted and repeated.

        Returns:
            What was removed or mended.

        Raises:
            ThreadLeasedError: Another has the lease of the thread.
            UnknownFormatError: As `verify`.
        """
        return self._run(repair_thread(context_of(self), thread_id))

    async def averify(self, thread_id: str) -> list[Problem]:
        """Run `verify` in a worker thread."""
        return await asyncio.to_thread(self.verify, thread_id)

    async def arepair(self, thread_id: str) -> list[Problem]:
        """Run `repair` in a worker thread."""
        return await asyncio.to_thread(self.repair, thread_id)


class AsyncIntegrity(AsyncDriver):
    """The methods of the asynchronous saver, and their synchronous names."""

    async def averify(self, thread_id: str) -> list[Problem]:
        """Return everything that is wrong with a thread; empty if all is well.

        The whole thread is read, in calls that each look at a bounded part of it. So `averify` may
        run next to the traffic. The serializer is not called.

        Raises:
            UnknownFormatError: A newer version of this package wrote a part of the thread.
        """
        return await self._run(verify_thread(context_of(self), thread_id))

    async def arepair(self, thread_id: str) -> list[Problem]:
        """Remove lost data and garbage, as `averify` finds them, and index unindexed runs.

        A checkpoint that lacks something is removed with its writes. If writes are damaged, all
        writes of the task on top of the checkpoint are removed, so that the task runs again.
        `arepair` may be interrupted and repeated.

        Returns:
            What was removed or mended.

        Raises:
            ThreadLeasedError: Another has the lease of the thread.
            UnknownFormatError: As `averify`.
        """
        return await self._run(repair_thread(context_of(self), thread_id))

    def verify(self, thread_id: str) -> list[Problem]:
        """Run `averify` from a worker thread, not from the event loop's."""
        return self._wait(self.averify(thread_id))

    def repair(self, thread_id: str) -> list[Problem]:
        """Run `arepair` from a worker thread, not from the event loop's."""
        return self._wait(self.arepair(thread_id))
