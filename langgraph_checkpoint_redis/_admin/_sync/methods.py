# Derived from _admin/_async/methods.py by tools/derive_sync.py.
# Change the source and run `make derive`.

"""The methods for operators, most of which go from thread to thread.

Threads come in no order, as `SCAN` finds them. `_admin/threads.py` says what is read of each
thread, `_admin/prune.py` what is removed.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from langgraph_checkpoint_redis._admin.prune import Choice, Idle, Limits, is_chosen, prune_thread
from langgraph_checkpoint_redis._admin.reencrypt import reencrypt_thread
from langgraph_checkpoint_redis._admin.threads import (
    Progress,
    Stats,
    Tally,
    ThreadInfo,
    check_progress,
    read_info,
)
from langgraph_checkpoint_redis._admin.verify import Problem, repair_thread, verify_thread
from langgraph_checkpoint_redis._core._sync.driver import OpenDriver
from langgraph_checkpoint_redis._core.batches import Failures


class AdminMethods(OpenDriver):
    """The methods of a saver for operators."""

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
        ask = partial(is_chosen, self._context, choice=choice)
        for page in self._thread_pages():
            for thread_id, found in self._run_each(page, ask):
                if isinstance(found, Exception):
                    failures.add(thread_id, found)
                elif found:
                    yield thread_id
        failures.check()

    def thread_info(self, thread_id: str) -> ThreadInfo | None:
        """Return what is stored of a thread; `None` if there is no such thread."""
        return self._run(read_info(self._context, thread_id))

    def stats(self, *, progress: Progress = None) -> Stats:
        """Return what is stored of all threads under this saver's prefix.

        Args:
            progress: Is called after each thread with the number of threads so far.

        Returns:
            The sums, with the threads that cannot be read in `damaged`.
        """
        report, tally, number = check_progress(progress), Tally(), 0
        read = partial(read_info, self._context)
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
        limits, report = Limits.parse(prefix, idle, keep_last), check_progress(progress)
        failures, pruned, number = Failures(), 0, 0
        prune = partial(prune_thread, self._context, limits=limits)
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

    def verify(self, thread_id: str) -> list[Problem]:
        """Return everything that is wrong with a thread; empty if all is well.

        The whole thread is read, in calls that each look at a bounded part of it. So `verify` may
        run next to the traffic. The serializer is not called.

        Raises:
            UnknownFormatError: A newer version of this package wrote a part of the thread.
        """
        return self._run(verify_thread(self._context, thread_id))

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
        return self._run(repair_thread(self._context, thread_id))

    def reencrypt(self, thread_id: str) -> None:
        """Encrypt all of a thread with the key that is used now.

        With `allow_plaintext=True`, data that was stored without encryption is encrypted, too.
        Nothing is deserialized, so all values stay the same. A call may be interrupted and
        repeated.

        Raises:
            ConfigError: The saver's `serde` is not an `EncryptedSerializer`.
            CorruptThreadError: A part is damaged, or encrypted with a key that is not here.
            UnencryptedError: A part is not encrypted.
            ThreadLeasedError: Another has the lease of the thread.
        """
        self._run(reencrypt_thread(self._context, thread_id))
