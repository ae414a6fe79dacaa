"""The methods for operators of both savers, which go from thread to thread.

Threads come in no order, as `SCAN` finds them. `threads.py` says what is read of each thread,
`prune.py` what is removed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import TypeVar

from langgraph_checkpoint_redis._core.context import context_of
from langgraph_checkpoint_redis._core.driving import AsyncDriver, Driver, Failures
from langgraph_checkpoint_redis.errors import ConfigError

from .prune import Choice, Idle, Limits, is_chosen, prune_thread
from .threads import Stats, Tally, ThreadInfo, read_info

Progress = Callable[[int], object] | None  # is called with how many threads were looked at so far

T = TypeVar("T")


class ThreadMethods(Driver):
    """The methods for operators of the synchronous saver, and their awaited names."""

    def list_threads(self, *, prefix: str = "", idle: Idle = None) -> Iterator[str]:
        """Yield the ids of threads in no order, while the server is searched for them.

        Args:
            prefix: The beginning of the ids.
            idle: Yield only threads without a new checkpoint for that long, in seconds or as a
                timedelta. A thread whose last time is not known (see `ThreadInfo`) is never idle.

        Raises:
            ThreadsError: With `idle`, some threads cannot be read. It is raised at the end, after
                all others. Without `idle`, no thread is read.
        """
        choice, failures = Choice.parse(prefix, idle), Failures()
        ask = partial(is_chosen, context_of(self), choice=choice)
        for page in self._thread_pages():
            for thread_id, found in self._run_each(page, ask):
                if isinstance(found, Exception):
                    failures.add(thread_id, found)
                elif found:
                    yield thread_id
        failures.check()

    def thread_info(self, thread_id: str) -> ThreadInfo | None:
        """Return what is stored of a thread; `None` if there is no such thread."""
        return self._run(read_info(context_of(self), thread_id))

    def stats(self, *, progress: Progress = None) -> Stats:
        """Return what is stored of all threads under this saver's prefix.

        Args:
            progress: Is called after each thread with the number of threads so far.

        Returns:
            The sums, with the threads that cannot be read in `damaged`.
        """
        report, tally, number = _check_progress(progress), Tally(), 0
        read = partial(read_info, context_of(self))
        for page in self._thread_pages():
            for thread_id, info in self._run_each(page, read):
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
        """Delete old data of many threads, and return the number of threads that had any.

        Args:
            keep_last: How many of the newest checkpoints of each namespace to keep, with the
                ancestors that their delta channels are rebuilt from.
            idle: Delete threads without a new checkpoint for that long, in seconds or as a
                timedelta. Threads that are pinned, leased, or just used again are not deleted.
            prefix: The beginning of the ids.
            progress: Is called after each thread with the number of threads so far.

        Raises:
            ThreadsError: Some threads are leased or damaged and were not pruned. It is raised at
                the end; `failures` has these threads, and `result` is the return value for all
                others.
        """
        limits, report = Limits.parse(prefix, idle, keep_last), _check_progress(progress)
        failures, pruned, number = Failures(), 0, 0
        prune = partial(prune_thread, context_of(self), limits=limits)
        for page in self._thread_pages():
            for thread_id, is_pruned in self._run_each(page, prune):
                if isinstance(is_pruned, Exception):
                    failures.add(thread_id, is_pruned)
                else:
                    pruned += is_pruned
                number += 1
                report(number)
        failures.check(pruned)
        return pruned

    async def alist_threads(self, *, prefix: str = "", idle: Idle = None) -> AsyncIterator[str]:
        """Run `list_threads` in a worker thread."""
        thread_ids = self.list_threads(prefix=prefix, idle=idle)
        while (thread_id := await asyncio.to_thread(next, thread_ids, None)) is not None:
            yield thread_id

    async def athread_info(self, thread_id: str) -> ThreadInfo | None:
        """Run `thread_info` in a worker thread."""
        return await asyncio.to_thread(self.thread_info, thread_id)

    async def astats(self, *, progress: Progress = None) -> Stats:
        """Run `stats` in a worker thread."""
        return await asyncio.to_thread(self.stats, progress=progress)

    async def aprune_threads(
        self,
        *,
        keep_last: int | None = None,
        idle: Idle = None,
        prefix: str = "",
        progress: Progress = None,
    ) -> int:
        """Run `prune_threads` in a worker thread."""
        return await asyncio.to_thread(
            self.prune_threads, keep_last=keep_last, idle=idle, prefix=prefix, progress=progress
        )


class AsyncThreadMethods(AsyncDriver):
    """The methods for operators of the asynchronous saver, and their synchronous names."""

    async def alist_threads(self, *, prefix: str = "", idle: Idle = None) -> AsyncIterator[str]:
        """Yield the ids of threads in no order, while the server is searched for them.

        Args:
            prefix: The beginning of the ids.
            idle: Yield only threads without a new checkpoint for that long, in seconds or as a
                timedelta. A thread whose last time is not known (see `ThreadInfo`) is never idle.

        Raises:
            ThreadsError: With `idle`, some threads cannot be read. It is raised at the end, after
                all others. Without `idle`, no thread is read.
        """
        choice, failures = Choice.parse(prefix, idle), Failures()
        ask = partial(is_chosen, context_of(self), choice=choice)
        async for page in self._thread_pages():
            async for thread_id, found in self._run_each(page, ask):
                if isinstance(found, Exception):
                    failures.add(thread_id, found)
                elif found:
                    yield thread_id
        failures.check()

    async def athread_info(self, thread_id: str) -> ThreadInfo | None:
        """Return what is stored of a thread; `None` if there is no such thread."""
        return await self._run(read_info(context_of(self), thread_id))

    async def astats(self, *, progress: Progress = None) -> Stats:
        """Return what is stored of all threads under this saver's prefix.

        Args:
            progress: Is called after each thread with the number of threads so far.

        Returns:
            The sums, with the threads that cannot be read in `damaged`.
        """
        report, tally, number = _check_progress(progress), Tally(), 0
        read = partial(read_info, context_of(self))
        async for page in self._thread_pages():
            async for thread_id, info in self._run_each(page, read):
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
        """Delete old data of many threads, and return the number of threads that had any.

        Args:
            keep_last: How many of the newest checkpoints of each namespace to keep, with the
                ancestors that their delta channels are rebuilt from.
            idle: Delete threads without a new checkpoint for that long, in seconds or as a
                timedelta. Threads that are pinned, leased, or just used again are not deleted.
            prefix: The beginning of the ids.
            progress: Is called after each thread with the number of threads so far.

        Raises:
            ThreadsError: Some threads are leased or damaged and were not pruned. It is raised at
                the end; `failures` has these threads, and `result` is the return value for all
                others.
        """
        limits, report = Limits.parse(prefix, idle, keep_last), _check_progress(progress)
        failures, pruned, number = Failures(), 0, 0
        prune = partial(prune_thread, context_of(self), limits=limits)
        async for page in self._thread_pages():
            async for thread_id, is_pruned in self._run_each(page, prune):
                if isinstance(is_pruned, Exception):
                    failures.add(thread_id, is_pruned)
                else:
                    pruned += is_pruned
                number += 1
                report(number)
        failures.check(pruned)
        return pruned

    def list_threads(self, *, prefix: str = "", idle: Idle = None) -> Iterator[str]:
        """Run `alist_threads` from a worker thread, not from the event loop's."""
        thread_ids = self.alist_threads(prefix=prefix, idle=idle)
        while (thread_id := self._wait(_next(thread_ids))) is not None:
            yield thread_id

    def thread_info(self, thread_id: str) -> ThreadInfo | None:
        """Run `athread_info` from a worker thread, not from the event loop's."""
        return self._wait(self.athread_info(thread_id))

    def stats(self, *, progress: Progress = None) -> Stats:
        """Run `astats` from a worker thread. `progress` runs in the event loop's thread."""
        return self._wait(self.astats(progress=progress))

    def prune_threads(
        self,
        *,
        keep_last: int | None = None,
        idle: Idle = None,
        prefix: str = "",
        progress: Progress = None,
    ) -> int:
        """Run `aprune_threads` from a worker thread, as `stats`."""
        return self._wait(
            self.aprune_threads(keep_last=keep_last, idle=idle, prefix=prefix, progress=progress)
        )


async def _next(items: AsyncIterator[T]) -> T | None:
    return await anext(items, None)


def _check_progress(progress: Progress) -> Callable[[int], object]:
    """Return the function to call after each thread."""
    if progress is None:
        return lambda _: None
    if not callable(progress):
        raise ConfigError(f"progress must be callable with an int, or None, not {progress!r:.200}")
    return progress
