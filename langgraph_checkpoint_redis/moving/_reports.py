"""What became of threads that were to be moved, and the pool of workers that moves them.

A thread that cannot be moved costs no other: why it failed is reported, beside what was moved.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from inspect import iscoroutinefunction
from itertools import islice
from typing import Literal

from langgraph_checkpoint_redis._admin import check_id
from langgraph_checkpoint_redis.errors import ConfigError

Outcome = Literal["copied", "present", "failed"]


@dataclass(frozen=True)
class Moved:
    """What became of one thread.

    Attributes:
        thread_id: Its id.
        outcome: `"copied"`, `"present"` (it was complete on the target already) or `"failed"`.
        checkpoints: How many checkpoints it has; 0 if it failed.
        reason: Why it failed; empty if it did not.
        number: How many threads are done, with this one.
        total: How many there are.
    """

    thread_id: str
    outcome: Outcome
    checkpoints: int
    reason: str
    number: int
    total: int


@dataclass(frozen=True)
class Report:
    """What became of all threads.

    Attributes:
        copied: The ids of those that were copied, and compared after that.
        present: The ids of those that were on the target already, complete and the same.
        failed: Why each of the others was not moved, by id.
        checkpoints: How many checkpoints those that were copied or present have.
    """

    copied: Sequence[str]
    present: Sequence[str]
    failed: dict[str, str]
    checkpoints: int

    @property
    def ok(self) -> bool:
        """Whether no thread failed."""
        return not self.failed


Progress = Callable[[Moved], object] | None
# Moves a thread, and says whether anything had to be copied, and how many checkpoints it has.
Job = Callable[[str], tuple[Outcome, int]]


class Tally:
    """Counts threads, tells who wants to know, and makes the report."""

    def __init__(self, total: int, progress: Progress) -> None:
        self._total, self._progress = total, progress
        self._moved: list[Moved] = []

    def add(self, thread_id: str, outcome: Outcome, checkpoints: int, reason: str = "") -> None:
        """Count a thread."""
        number = len(self._moved) + 1
        moved = Moved(thread_id, outcome, checkpoints, reason, number, self._total)
        self._moved.append(moved)
        if self._progress:
            self._progress(moved)

    def add_result(self, thread_id: str, result: Callable[[], tuple[Outcome, int]]) -> None:
        """Count a thread by what moving it comes to."""
        try:
            outcome, checkpoints = result()
        except Exception as error:  # noqa: BLE001 - any saver's any error; the report has it
            self.add(thread_id, "failed", 0, f"{type(error).__name__}: {error}")
        else:
            self.add(thread_id, outcome, checkpoints)

    def report(self) -> Report:
        """All that was counted."""
        return Report(
            copied=self._ids("copied"),
            present=self._ids("present"),
            failed={moved.thread_id: moved.reason for moved in self._moved if moved.reason},
            checkpoints=sum(moved.checkpoints for moved in self._moved),
        )

    def _ids(self, outcome: Outcome) -> Sequence[str]:
        return tuple(moved.thread_id for moved in self._moved if moved.outcome == outcome)


def move_all(thread_ids: Sequence[str], job: Job, workers: int, tally: Tally) -> None:
    """Do a job for each thread, several at a time."""
    waiting = iter(thread_ids)
    running: dict[Future[tuple[Outcome, int]], str] = {}
    with ThreadPoolExecutor(workers) as pool:
        try:
            while started := _started(pool, job, islice(waiting, workers - len(running)), running):
                done, _ = wait(started, return_when=FIRST_COMPLETED)
                for future in done:
                    tally.add_result(running.pop(future), future.result)
        finally:
            for future in running:
                future.cancel()


def _started(
    pool: ThreadPoolExecutor,
    job: Job,
    thread_ids: Iterator[str],
    running: dict[Future[tuple[Outcome, int]], str],
) -> Sequence[Future[tuple[Outcome, int]]]:
    """All that runs, when these have begun as well."""
    running.update({pool.submit(job, thread_id): thread_id for thread_id in thread_ids})
    return [*running]


def checked_workers(workers: object) -> int:
    """`workers`, if there can be so many."""
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
        raise ConfigError(f"workers must be an int of at least 1, not {workers!r:.200}")
    return workers


def checked_progress(progress: Progress) -> Progress:
    """`progress`, if it can be called."""
    if progress is not None and not callable(progress):
        raise ConfigError(f"progress must be callable with a Moved, or None, not {progress!r:.200}")
    called = getattr(progress, "__call__", None)  # noqa: B004 - that of an object may be a coroutine
    if iscoroutinefunction(progress) or iscoroutinefunction(called):
        raise ConfigError(
            "progress must be a plain function: nothing would await a coroutine. To reach an event "
            "loop, call asyncio.run_coroutine_threadsafe or loop.call_soon_threadsafe in it"
        )
    return progress


def checked_ids(thread_ids: object) -> Sequence[str]:
    """Thread ids, each once, if they are a collection of them and no bare string."""
    if isinstance(thread_ids, str | bytes) or not hasattr(thread_ids, "__iter__"):
        raise ConfigError(f"thread_ids must be several str, or None, not {thread_ids!r:.200}")
    return [*dict.fromkeys(check_id("each of thread_ids", thread_id) for thread_id in thread_ids)]
