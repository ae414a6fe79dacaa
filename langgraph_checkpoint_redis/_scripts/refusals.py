"""Refusals of scripts, and the errors they become.

A script refuses by raising `LGR:CODE:DETAIL:...` (see `_scripts/lib/refuse.lua`). Details are
hexadecimal, so no thread id, checkpoint id or node name can look like a code or end a detail. The
text is looked for only where the server puts the message of a script, never further back.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from langgraph_checkpoint_redis._storage.checksums import ADVICE
from langgraph_checkpoint_redis._storage.corruption import parse_row_name
from langgraph_checkpoint_redis._storage.keys import thread_id_of
from langgraph_checkpoint_redis.errors import (
    ConfigError,
    ConflictError,
    CorruptThreadError,
    EventLoopError,
    LeaseLostError,
    MissingAncestorError,
    MissingLibraryError,
    RedisSaverError,
    RunNeededError,
    ThreadDeletedError,
    ThreadLeasedError,
    UnconfirmedError,
    UnknownFormatError,
    UnsupportedServerError,
)

# Before version 7, a server puts where the script is in front of the message. redis-py drops "ERR".
_REFUSAL = re.compile(
    r"(?:ERR )?(?:Error running script \(call to f_[0-9a-f]{40}\): )?(?:@?user_script:\s?\d+: )*"
    r"LGR:([A-Z]+)((?::[0-9a-f]*)*)(?![^ ,])"
)


def parse_refusal(text: str) -> RedisSaverError | None:
    """Return the error that a script has refused with, or None if the text is no refusal."""
    found = _REFUSAL.match(text)
    if not found:
        return None
    details = [bytes.fromhex(detail) for detail in found[2].split(":")[1:]]
    return _ERRORS[found[1]](*details)


def _corruption_error(key: bytes, row: bytes) -> RedisSaverError:
    place = _thread(key), *parse_row_name(row), key.decode()
    return CorruptThreadError(*place, "the row is damaged", advice=ADVICE)


def lost_key_error(key: bytes) -> RedisSaverError:
    """Return the error for a key of a thread that is gone."""
    reason = "the key is gone, though the thread has data in it: it was evicted or deleted"
    return CorruptThreadError(_thread(key), "", "", key.decode(), reason, advice=ADVICE)


def _missing_ancestor_error(
    key: bytes, namespace: bytes, checkpoint_id: bytes, ancestor: bytes
) -> RedisSaverError:
    place = _text(namespace), _text(checkpoint_id)
    return MissingAncestorError(
        _thread(key), *place, key.decode(), _text(ancestor), is_written=False
    )


def _needed_error(key: bytes, run: bytes, checkpoint_id: bytes, begun: bytes) -> RedisSaverError:
    place = _thread(key), _text(run), _text(checkpoint_id)
    return RunNeededError(*place, is_begun=bool(begun))


def _conflict_error(key: bytes, parent: bytes, latest: bytes) -> RedisSaverError:
    return ConflictError(_thread(key), _text(parent), _text(latest))


def _text(name: bytes) -> str:
    """A name as a row has it, which may be damaged."""
    return name.decode(errors="replace")


def _thread(key: bytes) -> str:
    return thread_id_of(key.decode())


_ERRORS: dict[str, Callable[..., RedisSaverError]] = {
    "FORMAT": lambda found: UnknownFormatError(_text(found)),
    "CORRUPT": _corruption_error,
    "LOST": lost_key_error,
    "ANCESTOR": _missing_ancestor_error,
    "NEEDED": _needed_error,
    "CONFLICT": _conflict_error,
    "LEASED": lambda key: ThreadLeasedError(_thread(key)),
    "LEASELOST": lambda key: LeaseLostError(_thread(key)),
    "DELETED": lambda key: ThreadDeletedError(_thread(key)),
}


# A script met something that it cannot read: a key of another type, or a row that was forged.
_OF_SCRIPT = re.compile(r"user_script|WRONGTYPE")
_OF_SERVER = re.compile(
    r"\b(MISCONF|OOM|NOPERM|READONLY|LOADING|BUSY|NOREPLICAS|CLUSTERDOWN|MASTERDOWN|TRYAGAIN) "
    r"|\bACL failure\b|can't run this command|[Ss]cript killed"
)
_NOT_OF_THREAD = (
    ConfigError,
    EventLoopError,
    MissingLibraryError,
    UnconfirmedError,
    UnsupportedServerError,
)


def is_of_thread(error: Exception) -> bool:
    """Whether an error is of one thread, so that other threads may do well.

    All other errors are of the server, the connection or the caller.
    """
    if isinstance(error, RedisSaverError):
        return not isinstance(error, _NOT_OF_THREAD)
    words = str(error)
    return type(error).__name__ == "ResponseError" and bool(
        _OF_SCRIPT.search(words) and not _OF_SERVER.search(words)
    )
