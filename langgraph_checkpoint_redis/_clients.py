"""What we ask of client libraries, and what they are asked with, for both front ends."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from redis.client import NEVER_DECODE
from redis.exceptions import ResponseError

from ._keys import thread_id
from ._scripts import Argument, Call
from .errors import (
    ConflictError,
    LeaseLostError,
    RedisSaverError,
    ThreadDeletedError,
    ThreadLeasedError,
    UnknownFormatError,
)

CONNECTIONS = 64  # that one saver uses at a time; a client's pool refuses more than 100 by default

RAW: dict[str, Any] = {NEVER_DECODE: True}  # replies are bytes, whatever `decode_responses` says

_UNKNOWN_FORMAT = re.compile(r"UNKNOWNFORMAT (\w+)")
_REFUSED = re.compile(r"\b(THREADLEASED|LEASELOST|THREADDELETED|THREADMOVEDON) (\S+) ?(\S*) ?(\S*)")
_REFUSALS: dict[str, type[RedisSaverError]] = {
    "THREADLEASED": ThreadLeasedError,
    "LEASELOST": LeaseLostError,
    "THREADDELETED": ThreadDeletedError,
}


def connection_limit(client: Any) -> int:
    """How many connections to use at a time, so that further calls wait instead of failing."""
    if is_cluster(client):
        return CONNECTIONS
    return min(CONNECTIONS, int(client.connection_pool.max_connections))


def is_cluster(client: Any) -> bool:
    """Whether a client talks to a cluster."""
    return hasattr(client, "nodes_manager")


def evalsha(call: Call) -> tuple[Argument, ...]:
    """The command that runs a script which the server knows."""
    return ("EVALSHA", call.script.sha, len(call.keys), *call.keys, *call.args)


def eval_(call: Call) -> tuple[Argument, ...]:
    """The command that runs a script which the server may not know, and teaches it."""
    return ("EVAL", call.script.source, len(call.keys), *call.keys, *call.args)


@contextmanager
def explained_errors() -> Iterator[None]:
    """Raise what our scripts complain about as our error; the server's own errors pass through."""
    try:
        yield
    except ResponseError as error:
        if found := _UNKNOWN_FORMAT.search(str(error)):
            raise UnknownFormatError(found[1]) from error
        if found := _REFUSED.search(str(error)):
            raise _refusal(*found.groups()) from error
        raise


def _refusal(code: str, key: str, parent: str, latest: str) -> RedisSaverError:
    if code == "THREADMOVEDON":
        return ConflictError(thread_id(key), parent, latest)
    return _REFUSALS[code](thread_id(key))
