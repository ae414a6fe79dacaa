"""What can go wrong, in our own words.

Every error that this package raises itself is defined here and derives from `RedisSaverError`.
Errors of the server and of the connection are not wrapped: they pass through as the client
library raised them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class RedisSaverError(Exception):
    """Base of all errors of this package."""


class ConfigError(RedisSaverError, ValueError):
    """An argument or a part of a config is missing or malformed; nothing was written.

    The message names the argument, what was expected and what was given.
    """


class CorruptThreadError(RedisSaverError):
    """Something that a stored checkpoint or write is made of is missing or altered in Redis.

    This is damage from outside of the saver (an evicted or deleted key, a failover that lost
    writes, an edited value): a checkpoint that never existed reads as `None` instead. Or it is as
    it was stored, but the serializer cannot read it, for want of a key, say; then its own error is
    the cause of this one.
    """

    def __init__(
        self, thread_id: str, namespace: str, checkpoint_id: str, key: str, reason: str
    ) -> None:
        """Name what was being read, the key that is damaged, and how."""
        self.thread_id = thread_id
        self.namespace = namespace
        self.checkpoint_id = checkpoint_id
        self.key = key
        self.reason = reason
        super().__init__(
            f"thread {thread_id!r}, namespace {namespace!r}, checkpoint {checkpoint_id!r}: "
            f"{reason} (in {key!r})"
        )


class UnencryptedError(CorruptThreadError):
    """Something is stored as it is, though the saver's serializer encrypts.

    It was stored without encryption, before there was one, say; then a saver with
    `allow_plaintext=True` reads it. Or somebody without a key has put it there.
    """


class UnknownFormatError(RedisSaverError):
    """Something was stored in a format that this version of the package does not know.

    It was written by a newer version, or is not ours. Nothing was changed.
    """

    def __init__(self, format_: object) -> None:
        """Name the format."""
        super().__init__(
            f"stored in format {format_}, which this version of langgraph-checkpoint-redis-core "
            "does not know: a newer one wrote it"
        )


class UnconfirmedError(RedisSaverError):
    """A write was stored, but not as safely as it was asked for within the time that it was given.

    It may become so later. To try again is safe, and waits again.

    Attributes:
        key: What was written to: a key of the thread, or of the index of runs.
        on_disk: Whether the write was seen to be on disk, if that was asked for.
        replicas: How many replicas were seen to have it, if that was asked for.
    """

    def __init__(self, key: str, reached: str, *, on_disk: bool = False, replicas: int = 0) -> None:
        """Say what was reached."""
        self.key = key
        self.on_disk = on_disk
        self.replicas = replicas
        super().__init__(f"{key!r} was written, but not confirmed: {reached}")


class ThreadExistsError(RedisSaverError):
    """The target of a copy already has checkpoints or writes; nothing was copied."""

    def __init__(self, thread_id: str) -> None:
        """Name the target thread."""
        self.thread_id = thread_id
        super().__init__(
            f"cannot copy to thread {thread_id!r}: it has checkpoints already. "
            "Delete it first, or copy to another thread_id."
        )


class UnsupportedServerError(RedisSaverError):
    """The server cannot hold checkpoints: it is too old, or its scripts are disabled."""


class MissingLibraryError(RedisSaverError, ImportError):
    """A library that an option needs, or that something was stored with, is not installed."""


class EmbeddedServerError(RedisSaverError, RuntimeError):
    """An embedded server did not start, or cannot run on this system."""


class EventLoopError(RedisSaverError, RuntimeError):
    """A synchronous method of `AsyncRedisSaver` cannot work here, or its event loop has ended."""


class EvictionWarning(UserWarning):
    """The server may evict checkpoints when its memory is full."""


class DurabilityWarning(UserWarning):
    """The server cannot keep what `confirm` asks for."""


class ThreadNotFoundError(RedisSaverError):
    """There is no such thread."""

    def __init__(self, thread_id: str) -> None:
        super().__init__(f"there is no thread {thread_id!r}")


class ThreadDeletedError(RedisSaverError):
    """A run that began before its thread was deleted has written to it."""

    def __init__(self, thread_id: str) -> None:
        super().__init__(
            f"thread {thread_id!r} was deleted since this run began: nothing was written"
        )


class ThreadLeasedError(RedisSaverError):
    """Another has the lease of a thread."""

    def __init__(self, thread_id: str) -> None:
        super().__init__(f"another has the lease of thread {thread_id!r}: nothing was written")


class LeaseLostError(RedisSaverError):
    """A lease has ended before its holder was done."""

    def __init__(self, thread_id: str) -> None:
        super().__init__(
            f"the lease of thread {thread_id!r} has ended, and another may have written since: "
            "nothing was written"
        )


class ConflictError(RedisSaverError):
    """A thread has moved on past the checkpoint that a run went on from."""

    def __init__(self, thread_id: str, parent: str, latest: str) -> None:
        self.parent, self.latest = parent, latest
        super().__init__(
            f"thread {thread_id!r} has moved on from {parent or 'its beginning'} to {latest} "
            "since this run read it: nothing was written"
        )


class ThreadsError(RedisSaverError):
    """A walk over all threads failed in some of them; with all others it is done.

    Attributes:
        failures: Each of those threads, by id, with its error.
        result: The result of the method for the other threads, if it returns one.
    """

    NAMED = 5  # threads in the message

    def __init__(self, failures: Mapping[str, Exception], result: object = None) -> None:
        """Name the first of the threads."""
        self.failures = dict(failures)
        self.result = result
        named = [f"{id_!r}: {error}" for id_, error in self.failures.items()][: self.NAMED]
        more = len(self.failures) - len(named)
        super().__init__(
            f"{len(self.failures)} of the threads failed, all others are done: "
            + "; ".join([*named, *([f"and {more} more"] if more else [])])
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.failures, self.result)


class DifferentThreadError(RedisSaverError):
    """The target of a move reads a thread otherwise than its source."""

    def __init__(self, thread_id: str, difference: str, *, copied: bool = False) -> None:
        self.thread_id = thread_id
        if copied:
            message = (
                f"thread {thread_id!r} was copied, but reads differently: {difference}. "
                "Is it in use? Then move it again; if not, the target cannot hold it as it is."
            )
        else:
            message = (
                f"thread {thread_id!r} is on the target with other content: {difference}. "
                "Nothing was written; delete it there, or leave it out."
            )
        super().__init__(message)


class DamagedFileError(RedisSaverError, ValueError):
    """A file of threads is cut off, altered, or no such file."""
