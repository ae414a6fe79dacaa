"""What can go wrong, in our own words.

Every error that this package raises itself is defined here and derives from `RedisSaverError`.
Errors of the server and of the connection are not wrapped: they pass through as the client
library raised them.
"""

from __future__ import annotations

from collections.abc import Mapping


class RedisSaverError(Exception):
    """Base of all errors of this package.

    All of them can be pickled and copied, and keep their message and their attributes.
    """

    def __reduce__(self) -> tuple[object, ...]:
        """Return how to make an equal error without the arguments of its constructor."""
        return _restored, (type(self), self.args), self.__dict__


def _restored(kind: type[RedisSaverError], args: tuple[object, ...]) -> RedisSaverError:
    """Make an error of its message. Its attributes follow, as `pickle` and `copy` set them."""
    error = kind.__new__(kind, *args)
    super(RedisSaverError, error).__init__(*args)  # some built-in bases keep more than `args`
    return error


class ConfigError(RedisSaverError, ValueError):
    """An argument or a part of a config is missing or malformed; nothing was written.

    The message names the argument, what was expected and what was given.
    """


class ConfigTypeError(ConfigError, TypeError):
    """What was passed as `redis` is neither a URL nor a client: `None`, say."""


class CorruptThreadError(RedisSaverError):
    """Something that a stored checkpoint or write is made of is missing or altered in Redis.

    This is damage from outside of the saver (an evicted or deleted key, a failover that lost
    writes, an edited value): a checkpoint that never existed reads as `None` instead. Or it is as
    it was stored, but the serializer cannot read it, for want of a key, say; then its own error is
    the cause of this one.

    Attributes:
        advice: The end of the message: what to do about it, if that can be said.
    """

    def __init__(
        self,
        thread_id: str,
        namespace: str,
        checkpoint_id: str,
        key: str,
        reason: str,
        *,
        advice: str = "",
    ) -> None:
        """Name what was being read, the key that is damaged, and how."""
        self.thread_id = thread_id
        self.namespace = namespace
        self.checkpoint_id = checkpoint_id
        self.key = key
        self.reason = reason
        self.advice = f". {advice}" if advice else ""
        place = f", namespace {namespace!r}, checkpoint {checkpoint_id!r}"
        is_of_thread = not (namespace or checkpoint_id)  # and of no checkpoint alone
        super().__init__(
            f"thread {thread_id!r}{'' if is_of_thread else place}: {reason} (in {key!r})"
            f"{self.advice}"
        )


class MissingAncestorError(CorruptThreadError):
    """A checkpoint cannot be rebuilt, since a checkpoint that it was derived from is gone.

    A delta channel is stored as what was written to it since its last whole value, in the
    ancestors of a checkpoint. Deleting, trimming (`keep_last`), expiry or a failover may have
    removed one of them while a run went on.

    Attributes:
        ancestor_id: The id of the checkpoint that is gone.
    """

    def __init__(
        self,
        thread_id: str,
        namespace: str,
        checkpoint_id: str,
        key: str,
        ancestor_id: str,
        *,
        is_written: bool = True,
    ) -> None:
        """Name the checkpoint and the ancestor; `is_written` is False for a refused `put`."""
        self.ancestor_id = ancestor_id
        reason = f"its delta channels need checkpoint {ancestor_id!r}, which is gone"
        advice = "Go on from a checkpoint that can be read"
        if not is_written:
            reason += ": nothing was written"
            advice = "Run again from the newest state"
        advice += (
            "; `repair` (langgraph-redis repair) cannot bring the other one back, and "
            "`delete_thread` removes the thread"
        )
        super().__init__(thread_id, namespace, checkpoint_id, key, reason, advice=advice)


class EncryptedThreadError(CorruptThreadError):
    """Something is encrypted, and the saver's serializer cannot decrypt it.

    Nothing is damaged. Give the saver the serializer and the key that wrote the thread. The error
    of the serializer or of the cipher is the cause of this one.
    """


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


class ThreadChangedError(RedisSaverError):
    """A large thread changed each time that a copy, or a removal of checkpoints, began again.

    Nothing was copied. What a removal has removed stays removed; call it again.

    Attributes:
        thread_id: The thread, the source of a copy.
    """

    def __init__(self, thread_id: str, *, is_removal: bool = False) -> None:
        self.thread_id = thread_id
        super().__init__(
            f"cannot remove all checkpoints of thread {thread_id!r} that were to go: the server "
            "lost what was removed, or further branches came, each time that the removal began "
            "again. Call it once more"
            if is_removal
            else f"cannot copy thread {thread_id!r}: it is large, and was written to each time "
            "that it was read. Copy it when no run is under way."
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
    """The server may evict parts of checkpoints when its memory is full."""


class ClockWarning(UserWarning):
    """A checkpoint sorts before its parent: a clock is wrong, see `ClockError`."""


class DurabilityWarning(UserWarning):
    """The server keeps nothing over a restart, or cannot keep what `confirm` asks for."""


class ThreadNotFoundError(RedisSaverError):
    """There is no such thread."""

    def __init__(self, thread_id: str) -> None:
        """Name the thread."""
        self.thread_id = thread_id
        super().__init__(f"there is no thread {thread_id!r}")


class ThreadDeletedError(RedisSaverError):
    """A run that began before its thread was deleted has written to it."""

    def __init__(self, thread_id: str) -> None:
        """Name the thread."""
        self.thread_id = thread_id
        super().__init__(
            f"thread {thread_id!r} was deleted since this run began: nothing was written"
        )


class ThreadLeasedError(RedisSaverError):
    """Another has the lease of a thread."""

    def __init__(self, thread_id: str) -> None:
        """Name the thread."""
        self.thread_id = thread_id
        super().__init__(
            f"another has the lease of thread {thread_id!r}: nothing was written. If your own "
            "lease is held in another context, as by a generator that a web framework steps "
            "through, show it: graph.stream(input, lease.config(config))"
        )


class LeaseLostError(RedisSaverError):
    """A lease has ended before its holder was done."""

    def __init__(self, thread_id: str) -> None:
        """Name the thread."""
        self.thread_id = thread_id
        super().__init__(
            f"the lease of thread {thread_id!r} has ended, and another may have written since: "
            "nothing was written"
        )


class RunNeededError(RedisSaverError):
    """A run cannot be deleted alone, since checkpoints of other runs are rebuilt from its own.

    Delete the later runs together with it, or the whole thread. Nothing was removed, unless the
    other run went on from it during the removal.

    Attributes:
        thread_id: The thread.
        run_id: The run that is needed.
        checkpoint_id: A checkpoint of another run that needs it.
    """

    def __init__(
        self, thread_id: str, run_id: str, checkpoint_id: str, *, is_begun: bool = False
    ) -> None:
        self.thread_id, self.run_id, self.checkpoint_id = thread_id, run_id, checkpoint_id
        removed = "some checkpoints that it does not need were" if is_begun else "nothing was"
        super().__init__(
            f"run {run_id!r} of thread {thread_id!r} cannot be deleted alone: checkpoint "
            f"{checkpoint_id!r} of another run rebuilds delta channels from it. "
            f"Delete the later runs as well, or the thread; {removed} removed"
        )


class ClockError(RedisSaverError):
    """A checkpoint sorts before the one it was derived from, so readers would never see it.

    Checkpoint ids contain the time. The clock of this machine is far behind the clock that made the
    parent's id. Nothing was written.

    Attributes:
        thread_id: The thread.
        checkpoint_id: The id that was refused.
        parent_id: The id of its parent.
    """

    def __init__(self, thread_id: str, checkpoint_id: str, parent_id: str) -> None:
        self.thread_id, self.checkpoint_id, self.parent_id = thread_id, checkpoint_id, parent_id
        super().__init__(
            f"checkpoint {checkpoint_id!r} of thread {thread_id!r} sorts before its parent "
            f"{parent_id!r}: the clock of this machine, or of the one that wrote the parent, is "
            "wrong. Nothing was written. Synchronize the clocks"
        )


class ConflictError(RedisSaverError):
    """A thread has moved on past the checkpoint that a run went on from."""

    def __init__(self, thread_id: str, parent: str, latest: str) -> None:
        """Name the thread, the checkpoint that the run read, and the newest one."""
        self.thread_id = thread_id
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
        named = [f"{id_!r}: {brief(error)}" for id_, error in self.failures.items()][: self.NAMED]
        more = len(self.failures) - len(named)
        super().__init__(
            f"{len(self.failures)} of the threads failed, all others are done: "
            + "; ".join([*named, *([f"and {more} more"] if more else [])])
        )


def brief(error: Exception) -> str:
    """Return the message of an error among those of other threads, without what to do about it."""
    return str(error).removesuffix(getattr(error, "advice", ""))


class DifferentThreadError(RedisSaverError):
    """The target of a move reads a thread otherwise than its source."""

    def __init__(self, thread_id: str, difference: str, *, copied: bool = False) -> None:
        """Name the thread, and say how the two differ."""
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


def describe(value: object) -> str:
    """Return a value and its class, as errors show it. An int may be too long for Python."""
    try:
        return f"{type(value).__name__}: {value!r:.200}"
    except ValueError:
        return type(value).__name__
