# Derived from _admin/_async/methods.py by tools/derive_sync.py.
# Change the source and run `make derive`.

"""The methods for operators, which go from thread to thread.

The threads come as `SCAN` finds them, in no order. `_admin/threads.py`, `_admin/verify.py` and
`_admin/reencrypt.py` decide what each thread is asked for, and what callers get.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from langgraph_checkpoint_redis._admin.reencrypt import ReencryptionOperations
from langgraph_checkpoint_redis._admin.threads import (
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
from langgraph_checkpoint_redis._admin.verify import IntegrityOperations, Problem
from langgraph_checkpoint_redis._core._sync.driver import Driver
from langgraph_checkpoint_redis._core.driving import Failures


class AdminMethods(Driver):
    """The methods of a saver for operators."""

    @property
    def _of_threads(self) -> ThreadOperations:
        return ThreadOperations(self.serde, self._shared)

    @property
    def _checking(self) -> IntegrityOperations:
        return IntegrityOperations(self.serde, self._shared)

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

    def verify(self, thread_id: str) -> list[Problem]:
        """Everything that is wrong with what is stored of a thread; empty if all is well.

        The whole thread is read, in calls that each look at a bounded part of it; so it may run
        beside the traffic. The serializer is not called.

        Raises:
            UnknownFormatError: A part of it was written by a newer version of this package.
        """
        return self._run(self._checking.verify(thread_id))

    def repair(self, thread_id: str) -> list[Problem]:
        """Remove what is lost or garbage, as `verify` tells it, index runs that are unindexed.

        A checkpoint that lacks something goes with its writes; of damaged writes, all that the task
        wrote on top of the checkpoint, so that it runs again. May be repeated, and be interrupted.

        Returns:
            What was removed or mended.

        Raises:
            ThreadLeasedError: Another has the lease of the thread.
            UnknownFormatError: As `verify`.
        """
        return self._run(self._checking.repair(thread_id))

    def reencrypt(self, thread_id: str) -> None:
        """Encrypt all of a thread with the key that is used now.

        With `allow_plaintext=True`, what was stored without encryption as well. Nothing is
        deserialized, and all stays as it is; it may be interrupted, and be repeated.

        Raises:
            ConfigError: The saver's `serde` is not an `EncryptedSerializer`.
            CorruptThreadError: Something is damaged, or encrypted with a key that is not here.
            UnencryptedError: Something is not encrypted.
            ThreadLeasedError: Another has the lease of the thread.
        """
        self._run(ReencryptionOperations(self.serde, self._shared).reencrypt(thread_id))
