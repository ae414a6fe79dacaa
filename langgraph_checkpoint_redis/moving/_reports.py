"""Reports of moves, and the pool of workers that moves threads.

A thread that cannot be moved does not stop the others. The report has its error.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from inspect import iscoroutinefunction
from itertools import islice
from traceback import clear_frames
from typing import Any, Literal

from langgraph_checkpoint_redis._admin import check_id
from langgraph_checkpoint_redis.errors import ConfigError

Outcome = Literal["copied", "present", "failed"]


@dataclass(frozen=True)
class Moved:
    """The result for one thread.

    Attributes:
        thread_id: Its id.
        outcome: `"copied"`, `"present"` (it was complete on the target already) or `"failed"`.
        checkpoints: How many checkpoints it has; 0 if it failed.
        reason: Why it failed; empty if it did not.
        number: How many threads are done, with this one.
        total: How many there are.
        error: The error that it failed with. `None` if there was none, or if the thread is not in
            the file of an import. Pickle leaves it out, since some errors cannot be pickled.
    """

    thread_id: str
    outcome: Outcome
    checkpoints: int
    reason: str
    number: int
    total: int
    error: Exception | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "error": None}


@dataclass(frozen=True)
class Report:
    """The results for all threads.

    Attributes:
        copied: The ids of the threads that were copied and then compared.
        present: The ids of the threads that were on the target already, complete and the same.
        failed: Why each of the others was not moved, by id.
        checkpoints: How many checkpoints the copied and the present threads have.
        errors: The errors of failed threads, by id. A thread that is not in the file of an import
            failed without one. Pickle leaves them out, since some errors cannot be pickled.
    """

    copied: Sequence[str]
    present: Sequence[str]
    failed: dict[str, str]
    checkpoints: int
    errors: dict[str, Exception] = field(default_factory=dict)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "errors": {}}

    @property
    def ok(self) -> bool:
        """Whether no thread failed."""
        return not self.failed


Progress = Callable[[Moved], object] | None
# Moves a thread; returns whether anything had to be copied, and how many checkpoints it has.
Job = Callable[[str], tuple[Outcome, int]]


class Tally:
    """Counts threads, calls `progress` after each, and makes the report."""

    def __init__(self, total: int, progress: Progress) -> None:
        self._total, self._progress = total, progress
        self._moved: list[Moved] = []
        self._handled = sys.exc_info()[1]  # an error that the caller handles meanwhile

    def add(self, thread_id: str, outcome: Outcome, checkpoints: int) -> None:
        """Count a thread that was moved."""
        self._add(thread_id, outcome, checkpoints)

    def add_failed(self, thread_id: str, why: Exception | str) -> None:
        """Count a thread that was not moved."""
        if isinstance(why, Exception):
            _release_values(why, self._handled)
            self._add(thread_id, "failed", 0, describe_failure(why), why)
        else:
            self._add(thread_id, "failed", 0, why)

    def add_result(self, thread_id: str, result: Callable[[], tuple[Outcome, int]]) -> None:
        """Count a thread by the result of moving it, or by its error."""
        try:
            outcome, checkpoints = result()
        except Exception as error:  # noqa: BLE001 - any saver's any error; the report has it
            self.add_failed(thread_id, error)
        else:
            self.add(thread_id, outcome, checkpoints)

    def _add(
        self,
        thread_id: str,
        outcome: Outcome,
        checkpoints: int,
        reason: str = "",
        error: Exception | None = None,
    ) -> None:
        number = len(self._moved) + 1
        moved = Moved(thread_id, outcome, checkpoints, reason, number, self._total, error)
        self._moved.append(moved)
        if self._progress:
            self._progress(moved)

    def report(self) -> Report:
        """Return the report of all threads so far."""
        return Report(
            copied=self._ids("copied"),
            present=self._ids("present"),
            failed={moved.thread_id: moved.reason for moved in self._moved if moved.reason},
            checkpoints=sum(moved.checkpoints for moved in self._moved),
            errors={
                moved.thread_id: moved.error for moved in self._moved if moved.error is not None
            },
        )

    def _ids(self, outcome: Outcome) -> Sequence[str]:
        return tuple(moved.thread_id for moved in self._moved if moved.outcome == outcome)


def describe_failure(error: Exception) -> str:
    """Return the reason that reports and files have for an error."""
    return f"{type(error).__name__}: {error}"


def _release_values(error: BaseException, handled: BaseException | None) -> None:
    """Free the local variables of the frames in an error and its causes.

    A report of many failed threads would keep a checkpoint of each in memory. The error that the
    caller handles is also the context of errors here, and keeps its variables.
    """
    seen, left = {id(handled)}, [error]
    while left:
        one = left.pop()
        if id(one) not in seen:
            seen.add(id(one))
            clear_frames(one.__traceback__)
            left += [behind for behind in (one.__cause__, one.__context__) if behind is not None]


def move_all(thread_ids: Sequence[str], job: Job, workers: int, tally: Tally) -> None:
    """Do a job for each thread, several at a time."""
    waiting = iter(thread_ids)
    running: dict[Future[tuple[Outcome, int]], str] = {}
    with ThreadPoolExecutor(workers) as pool:
        try:
            while started := _start(pool, job, islice(waiting, workers - len(running)), running):
                done, _ = wait(started, return_when=FIRST_COMPLETED)
                for future in done:
                    tally.add_result(running.pop(future), future.result)
        finally:
            for future in running:
                future.cancel()


def _start(
    pool: ThreadPoolExecutor,
    job: Job,
    thread_ids: Iterator[str],
    running: dict[Future[tuple[Outcome, int]], str],
) -> Sequence[Future[tuple[Outcome, int]]]:
    """Start these, and return everything that runs."""
    running.update({pool.submit(job, thread_id): thread_id for thread_id in thread_ids})
    return [*running]


def check_workers(workers: object) -> int:
    """Return `workers`, if it is a number of workers."""
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
        raise ConfigError(f"workers must be an int of at least 1, not {workers!r:.200}")
    return workers


def check_progress(progress: Progress) -> Progress:
    """Return `progress`, if it can be called."""
    if progress is not None and not callable(progress):
        raise ConfigError(f"progress must be callable with a Moved, or None, not {progress!r:.200}")
    called = getattr(progress, "__call__", None)  # noqa: B004 - that of an object may be a coroutine
    if iscoroutinefunction(progress) or iscoroutinefunction(called):
        raise ConfigError(
            "progress must be a plain function: nothing would await a coroutine. To reach an event "
            "loop, call asyncio.run_coroutine_threadsafe or loop.call_soon_threadsafe in it"
        )
    return progress


def check_thread_ids(thread_ids: object) -> Sequence[str]:
    """Return thread ids, each once, if they are a collection and no bare string."""
    if isinstance(thread_ids, str | bytes) or not hasattr(thread_ids, "__iter__"):
        raise ConfigError(f"thread_ids must be several str, or None, not {thread_ids!r:.200}")
    return [*dict.fromkeys(check_id("each of thread_ids", thread_id) for thread_id in thread_ids)]
