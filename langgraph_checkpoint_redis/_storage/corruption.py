"""Errors for stored bytes that cannot be read, naming the thread and the checkpoint."""

from __future__ import annotations

from types import TracebackType

from langgraph_checkpoint_redis._runtime.interruptions import is_of_decoding, raise_interruption
from langgraph_checkpoint_redis.errors import (
    CorruptThreadError,
    EncryptedThreadError,
    UnencryptedError,
)

from .checksums import ADVICE
from .encryption import CiphertextFound, PlaintextFound

# Errors whose messages say it all; those of their subclasses do not.
_OURS = (ValueError, LookupError, PlaintextFound, CiphertextFound)


def parse_row_name(row: bytes) -> tuple[str, str]:
    """The namespace and the checkpoint id that a row seems to be of, damaged or not."""
    namespace, checkpoint_id, *_ = *row.split(b"\0", 2)[:2], b"", b""
    return namespace.decode(errors="replace"), checkpoint_id.decode(errors="replace")


def raise_corruption(
    error: BaseException | None, thread_id: str, key: bytes, at: bytes | tuple[str, str]
) -> None:
    """Raise an error of ours for one that reading raised, unless it says nothing of the thread.

    What a signal handler raised passes. `at` is the row that was read, or the namespace and the
    checkpoint id.
    """
    if error is None or not is_of_decoding(error):
        return
    raise_interruption(error)
    place = parse_row_name(at) if isinstance(at, bytes) else at
    reason = str(error) if type(error) in _OURS else f"{type(error).__name__}: {error}"
    kind = _kind_of(error)
    is_damage = kind is CorruptThreadError and type(error) in _OURS
    advice = ADVICE if is_damage else ""
    raise kind(thread_id, *place, key.decode(), reason, advice=advice) from error


def _kind_of(error: BaseException) -> type[CorruptThreadError]:
    if isinstance(error, CiphertextFound):
        return EncryptedThreadError
    return UnencryptedError if isinstance(error, PlaintextFound) else CorruptThreadError


class CorruptionContext:
    """A block in which errors of decoding become errors of ours, which name what was being read."""

    __slots__ = ("key", "place", "thread_id")

    def __init__(self, thread_id: str, key: bytes, row: bytes | tuple[str, str]) -> None:
        self.thread_id, self.key, self.place = thread_id, key, row

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None
    ) -> None:
        raise_corruption(error, self.thread_id, self.key, self.place)
