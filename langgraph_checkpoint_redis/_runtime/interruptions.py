"""Which errors come from what is stored, and which only came in between.

A read may end in an error for two reasons: the stored bytes make no sense to their decoder, or
something interrupted it, such as a time limit, a key service that does not answer, or an end of
memory. Only the first says something about the thread.

The rule: an error comes from what is stored if its class is one that decoders raise, and if no
signal handler raised it.
"""

from __future__ import annotations

import signal
import struct
import zlib
from collections.abc import Iterator
from pickle import PickleError
from traceback import walk_tb
from types import CodeType, FrameType
from typing import Any

from msgpack.exceptions import UnpackException

from langgraph_checkpoint_redis.errors import RedisSaverError

# What decoders raise. Errors of the system, of memory and of the stack are not among them.
DECODING = (
    *(ValueError, TypeError, LookupError, AttributeError, AssertionError, ImportError),
    *(NotImplementedError, ArithmeticError, EOFError),
    *(UnpackException, PickleError, struct.error, zlib.error),
)
# Libraries of ciphers have errors of their own for a wrong key.
CIPHERS = frozenset(("Crypto", "Cryptodome", "cryptography", "nacl"))


def is_of_decoding(error: BaseException) -> bool:
    """Return whether decoders raise errors of this class."""
    return isinstance(error, DECODING) and not isinstance(error, RedisSaverError)


def is_of_decryption(error: BaseException) -> bool:
    """Return whether ciphers raise errors of this class."""
    packages = {kind.__module__.partition(".")[0] for kind in type(error).__mro__}
    return is_of_decoding(error) or not packages.isdisjoint(CIPHERS)


def interruption_in(error: BaseException) -> BaseException | None:
    """Return what a signal handler raised while something was decoded, if that led to this error.

    Decoders catch errors and raise their own instead. So all errors are looked at that were being
    handled when this one was raised, but for those that the caller was handling already.
    """
    handlers = {*_handlers()}
    inner: BaseException | None = error
    inside = set[FrameType]()
    while inner is not None:
        frames = [frame for frame, _ in walk_tb(inner.__traceback__)]
        if not frames or (inside and frames[0] not in inside):
            return None
        for caller, frame in zip([None, *frames], frames, strict=False):
            if frame.f_code in handlers or (caller and _is_given(frame, caller)):
                return inner
        inside.update(frames)
        inner = inner.__context__
    return None


def raise_interruption(error: BaseException) -> None:
    """Raise what a signal handler raised, if that led to an error."""
    if found := interruption_in(error):
        raise found


def _handlers() -> Iterator[CodeType]:
    """The code of all signal handlers that are written in Python."""
    for number in signal.valid_signals():
        handler: Any = signal.getsignal(number)
        handler = getattr(handler, "func", handler)  # of a partial
        function = handler if hasattr(handler, "__code__") else getattr(handler, "__call__", None)  # noqa: B004 - to look into it
        code = getattr(function, "__code__", None)
        if isinstance(code, CodeType):
            yield code


def _is_given(frame: FrameType, caller: FrameType) -> bool:
    """Return whether a function was given the frame that it interrupted, as handlers are.

    This also finds handlers that are not registered any more.
    """
    code = frame.f_code
    named = code.co_varnames[: code.co_argcount + bool(code.co_flags & _VARARGS)]
    given = [frame.f_locals.get(name) for name in named]
    rest = given[-1] if code.co_flags & _VARARGS else ()
    return any(one is caller for one in (*given, *(rest or ())))


_VARARGS = 0x04  # the function takes any number of arguments
