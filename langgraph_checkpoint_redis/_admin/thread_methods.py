"""The methods for operators: a base class for each saver, which goes from thread to thread.

The threads come as `SCAN` finds them, in no order. What is asked of each, and what callers are
told, is in `_admin/threads.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import TypeVar

from langgraph_checkpoint_redis._core.driving import AsyncDriver, Driver, Failures

from .threads import (
    Choice,
    Idle,
    Limits,
    Progress,
    Stats,
    Tally,
    ThreadInfo,
    ThreadOperations,
    make_reporter,
)

T = TypeVar("T")


class ThreadMethods(Driver):
    """The methods for operators of the synchronous saver, and their awaited names."""

    @property
    def _of_threads(self) -> ThreadOperations:
        return ThreadOperations(self.serde, self._shared)

    def list_threads(self, *, prefix: str = "", idle: Idle = None) -> Iterator[str]:
        """The ids of threads, in no order, as the server is searched for them.

        Args:
            prefix: What they must begin with.
            idle: For how long they must have had no new checkpoint, in seconds or as a timedelta.
                A thread whose last time is not known (see `ThreadInfo`) is never idle.

        Raises:
            ThreadsError: At the end, with `idle`, where some threads cannot be read; all others
                were given. Without `idle`, no thread is read.
        """
        choice, failures = Choice.checked(prefix, idle), Failures()
        for page in self._thread_pages():
            chosen = partial(self._of_threads.is_chosen, choice=choice)
            for thread_id, found in self._run_each(page, chosen):
                if isinstance(found, Exception):
                    failures.add(thread_id, found)
                elif found:
                    yield thread_id
        failures.check()

    def thread_info(self, thread_id: str) -> ThreadInfo | None:
        """What is stored of a thread; `None` if there is no such thread."""
        return self._run(self._of_threads.info(thread_id))

    def stats(self, *, progress: Progress = None) -> Stats:
        """What is stored of all threads of this saver's prefix.

        Args:
            progress: Is called after each thread with how many there were so far.

        Returns:
            The sums, with the threads that cannot be read in `damaged`.
        """
        report, tally, number = make_reporter(progress), Tally(), 0
        for page in self._thread_pages():
            for thread_id, info in self._run_each(page, self._of_threads.info):
                if isinstance(info, Exception):
                    tally.add_damaged(thread_id, info)
                else:
                    tally.add(info)
                number += 1
                report(number)
        return tally.stats()

    def prune_threads(
        self,
        *,
        keep_last: int | None = None,
        idle: Idle = None,
        prefix: str = "",
        progress: Progress = None,
    ) -> int:
        """Delete what is old in many threads, and say of how many it deleted something.

        Args:
            keep_last: How many checkpoints of each namespace to keep, the newest, with the
                ancestors that their delta channels are rebuilt from.
            idle: Threads that had no new checkpoint for so long are deleted, in seconds or as a
                timedelta; but not those that are pinned, leased, or used again this very moment.
            prefix: What the ids of the threads must begin with.
            progress: Is called after each thread that was looked at with how many there were.

        Raises:
            ThreadsError: At the end, where some threads could not be pruned, as they are leased or
                damaged. `failures` has these, and `result` of how many others something was
                deleted.
        """
        limits, report = Limits.checked(prefix, idle, keep_last), make_reporter(progress)
        failures, pruned, number = Failures(), 0, 0
        for page in self._thread_pages():
            prune_to = partial(self._of_threads.prune_to, limits=limits)
            for thread_id, is_pruned in self._run_each(page, prune_to):
                if isinstance(is_pruned, Exception):
                    failures.add(thread_id, is_pruned)
                else:
                    pruned += is_pruned
                number += 1
                report(number)
        failures.check(pruned)
        return pruned

    async def alist_threads(self, *, prefix: str = "", idle: Idle = None) -> AsyncIterator[str]:
        """`list_threads` in a thread."""
        thread_ids = self.list_threads(prefix=prefix, idle=idle)
        while (thread_id := await asyncio.to_thread(next, thread_ids, None)) is not None:
            yield thread_id

    async def athread_info(self, thread_id: str) -> ThreadInfo | None:
        """`thread_info` in a thread."""
        return await asyncio.to_thread(self.thread_info, thread_id)

    async def astats(self, *, progress: Progress = None) -> Stats:
        """`stats` in a thread."""
        return await asyncio.to_thread(self.stats, progress=progress)

    async def aprune_threads(
        self,
        *,
        keep_last: int | None = None,
        idle: Idle = None,
        prefix: str = "",
        progress: Progress = None,
    ) -> int:
        """`prune_threads` in a thread."""
        return await asyncio.to_thread(
            self.prune_threads, keep_last=keep_last, idle=idle, prefix=prefix, progress=progress
        )


class AsyncThreadMethods(AsyncDriver):
    """The methods for operators of the asynchronous saver, and their synchronous names."""

    @property
    def _of_threads(self) -> ThreadOperations:
        return ThreadOperations(self.serde, self._shared)

    async def alist_threads(self, *, prefix: str = "", idle: Idle = None) -> AsyncIterator[str]:
        """The ids of threads, in no order, as the server is searched for them.

        Args:
            prefix: What they must begin with.
            idle: For how long they must have had no new checkpoint, in seconds or as a timedelta.
                A thread whose last time is not known (see `ThreadInfo`) is never idle.

        Raises:
            ThreadsError: At the end, with `idle`, where some threads cannot be read; all others
                were given. Without `idle`, no thread is read.
        """
        choice, failures = Choice.checked(prefix, idle), Failures()
        async for page in self._thread_pages():
            chosen = partial(self._of_threads.is_chosen, choice=choice)
            async for thread_id, found in self._run_each(page, chosen):
                if isinstance(found, Exception):
                    failures.add(thread_id, found)
                elif found:
                    yield thread_id
        failures.check()

    async def athread_info(self, thread_id: str) -> ThreadInfo | None:
        """What is stored of a thread; `None` if there is no such thread."""
        return await self._run(self._of_threads.info(thread_id))

    async def astats(self, *, progress: Progress = None) -> Stats:
        """What is stored of all threads of this saver's prefix.

        Args:
            progress: Is called after each thread with how many there were so far.

        Returns:
            The sums, with the threads that cannot be read in `damaged`.
        """
        report, tally, number = make_reporter(progress), Tally(), 0
        async for page in self._thread_pages():
            async for thread_id, info in self._run_each(page, self._of_threads.info):
                if isinstance(info, Exception):
                    tally.add_damaged(thread_id, info)
                else:
                    tally.add(info)
                number += 1
                report(number)
        return tally.stats()

    async def aprune_threads(
        self,
        *,
        keep_last: int | None = None,
        idle: Idle = None,
        prefix: str = "",
        progress: Progress = None,
    ) -> int:
        """Delete what is old in many threads, and say of how many it deleted something.

        Args:
            keep_last: How many checkpoints of each namespace to keep, the newest, with the
                ancestors that their delta channels are rebuilt from.
            idle: Threads that had no new checkpoint for so long are deleted, in seconds or as a
                timedelta; but not those that are pinned, leased, or used again this very moment.
            prefix: What the ids of the threads must begin with.
            progress: Is called after each thread that was looked at with how many there were.

        Raises:
            ThreadsError: At the end, where some threads could not be pruned, as they are leased or
                damaged. `failures` has these, and `result` of how many others something was
                deleted.
        """
        limits, report = Limits.checked(prefix, idle, keep_last), make_reporter(progress)
        failures, pruned, number = Failures(), 0, 0
        async for page in self._thread_pages():
            prune_to = partial(self._of_threads.prune_to, limits=limits)
            async for thread_id, is_pruned in self._run_each(page, prune_to):
                if isinstance(is_pruned, Exception):
                    failures.add(thread_id, is_pruned)
                else:
                    pruned += is_pruned
                number += 1
                report(number)
        failures.check(pruned)
        return pruned

    def list_threads(self, *, prefix: str = "", idle: Idle = None) -> Iterator[str]:
        """`alist_threads` from another thread than the event loop's."""
        thread_ids = self.alist_threads(prefix=prefix, idle=idle)
        while (thread_id := self._wait(_next(thread_ids))) is not None:
            yield thread_id

    def thread_info(self, thread_id: str) -> ThreadInfo | None:
        """`athread_info` from another thread than the event loop's."""
        return self._wait(self.athread_info(thread_id))

    def stats(self, *, progress: Progress = None) -> Stats:
        """`astats` from another thread than the event loop's, which is where `progress` runs."""
        return self._wait(self.astats(progress=progress))

    def prune_threads(
        self,
        *,
        keep_last: int | None = None,
        idle: Idle = None,
        prefix: str = "",
        progress: Progress = None,
    ) -> int:
        """`aprune_threads` from another thread than the event loop's, as `stats`."""
        return self._wait(
            self.aprune_threads(keep_last=keep_last, idle=idle, prefix=prefix, progress=progress)
        )


async def _next(items: AsyncIterator[T]) -> T | None:
    return await anext(items, None)
