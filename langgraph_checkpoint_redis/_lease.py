"""Leases: one writer of a thread at a time, for those who ask for it.

A lease is known by a random token, which every write of its holder shows and every write script
checks. Who holds it is a matter of the context (see `contextvars`): the block of the `with`
statement and the tasks and threads that it starts, not whoever shares the saver.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from secrets import token_bytes
from types import MappingProxyType

Held = Mapping[tuple[int, str], bytes]

_held: ContextVar[Held] = ContextVar("held", default=MappingProxyType({}))


def token(saver: object, thread_id: str) -> bytes:
    """The token of the lease that this context has of a thread; empty for none.

    `saver` is what all copies of a saver share.
    """
    return _held.get().get((id(saver), thread_id), b"")


@contextmanager
def held(saver: object, thread_id: str) -> Iterator[bytes]:
    """Have a new token in this context."""
    new = token_bytes(16)
    before = _held.set({**_held.get(), (id(saver), thread_id): new})
    try:
        yield new
    finally:
        _held.reset(before)
