"""When to ask a server again after an error, and which errors say something of one thread only."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Iterator
from socket import EAI_NONAME, gaierror
from ssl import SSLCertVerificationError
from typing import Any

from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    ClusterDownError,
    ClusterError,
    MasterDownError,
    ReadOnlyError,
    RedisClusterException,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from langgraph_checkpoint_redis._runtime.log import report_refusal, report_retry
from langgraph_checkpoint_redis._scripts.refusals import parse_refusal
from langgraph_checkpoint_redis.errors import (
    ConfigError,
    RedisSaverError,
)

from .clients import is_cluster, is_error
from .urls import Url

SECONDS_TO_RECOVER = 10.0  # that a server may take to restart, to fail over or to move a slot
SECONDS_TO_BE_KNOWN = 2.0  # that the name of a server may be unknown which nobody has reached yet
FIRST_PAUSE, LONGEST_PAUSE = 0.02, 0.5  # seconds between one try and the next
# What may pass by itself. Every script may run twice, so it is safe to ask again.
PASSING = (
    RedisConnectionError,  # LOADING as well
    RedisTimeoutError,
    ReadOnlyError,
    MasterDownError,
    ClusterDownError,
    TryAgainError,
    ClusterError,  # a slot that took longer to move than redis-py waits
    RedisClusterException,  # no node can be reached
)
# The same by its code: a script runs for long, a primary waits for its replicas.
_PASSING_CODES = ("BUSY", "NOREPLICAS")
_LASTING = (AuthenticationError, AuthorizationError, SSLCertVerificationError)
# What passes, but comes as an error like any other.
_UNRECOGNIZED: dict[str, type[Exception]] = {
    "READONLY": ReadOnlyError,  # in a script, before Redis 7: not where redis-py looks for it
    "MASTERDOWN": MasterDownError,  # redis-py 5 looks for it in clusters only
}
# Where a server puts the code of an error: first, and before Redis 7 behind the place in a script.
# Anywhere else, it may echo words of a caller.
_CODE = re.compile(
    r"(?:(?:ERR )?Error running script \(call to f_[0-9a-f]{40}\): "
    r"@user_script:\d+: (?:@user_script: ?\d+: )?-)?([A-Z]+)(?: |$)"
)


def must_leave(error: Exception) -> bool:
    """Whether a server is a replica, or has lost its own: another one may be the primary now."""
    kinds = (ReadOnlyError, MasterDownError)
    return isinstance(_recognize(error), kinds) or _code(error) == "NOREPLICAS"


def explain(error: Exception) -> Exception:
    """What our scripts complain about as our own error; others are as the client raised them."""
    return parse_refusal(str(error)) or _recognize(error)


def _recognize(error: Exception) -> Exception:
    """An error of the server with the class that redis-py has for it."""
    known = _UNRECOGNIZED.get(_code(error))
    return known(str(error)) if known and not isinstance(error, known) else error


def _code(error: BaseException) -> str:
    """Return the code of an error of the server, unless redis-py has made a class of it; or ""."""
    found = _CODE.match(str(error)) if is_error(error, "ResponseError") else None
    return found[1] if found else ""


class RetryPolicy:
    """How long to go on asking a server, with longer and longer pauses, from a first error on.

    Only for clients that we made: others have the patience that they were given.
    """

    def __init__(
        self, redis: Any, what: str, *, was_reached: bool, handled: BaseException | None = None
    ) -> None:
        """`what` is the name of the script or command, for the log.

        Where the server `was_reached` before, its name may be unknown for a while, as that of a
        container that restarts. The name of a server that nobody has reached yet is probably wrong,
        or comes in a moment, where containers start together.

        `handled` is the error that the caller was handling: Python shows it as the context of ours,
        but it says nothing about the server.
        """
        self._is_ours = isinstance(redis, Url)
        self._was_reached = was_reached
        self._handled = handled
        self._is_cluster = is_cluster(redis)
        self._what, self._attempt = what, 1
        began = time.monotonic()
        self._deadline, self._known_by = began + SECONDS_TO_RECOVER, began + SECONDS_TO_BE_KNOWN
        self._pause = 0.0  # at first none: a connection may have been closed while it was idle

    def pause(self, error: Exception) -> float:
        """How many seconds to wait before asking again; raises an error that will not pass."""
        explanation = explain(error)
        if is_error(error, "MovedError") and not self._is_cluster:
            raise ConfigError(_OF_A_CLUSTER) from error
        if self._is_ours and _is_no_cluster(error):
            raise ConfigError(_NOT_A_CLUSTER) from error
        if explanation is not error and self._will_last(explanation):
            if isinstance(explanation, RedisSaverError):
                thread_id = getattr(explanation, "thread_id", "")
                report_refusal(self._what, thread_id, type(explanation).__name__)
            raise explanation from error
        if not self._is_ours or self._will_last(explanation) or self._is_over():
            raise explanation
        if not self._was_reached and any(map(_is_unknown_host, self._causes(error))):
            self._deadline = min(self._deadline, self._known_by)
            if self._is_over():
                raise explanation
        pause, self._pause = self._pause, min(max(self._pause * 2, FIRST_PAUSE), LONGEST_PAUSE)
        pause *= random.uniform(0.5, 1)  # noqa: S311 - not all clients at once, no secret
        self._attempt += 1
        report_retry(self._what, self._attempt, pause, error)
        return pause

    def _is_over(self) -> bool:
        return time.monotonic() + self._pause > self._deadline

    def _will_last(self, error: BaseException) -> bool:
        passes = isinstance(error, PASSING) or _code(error) in _PASSING_CODES
        return not passes or any(isinstance(each, _LASTING) for each in self._causes(error))

    def _causes(self, error: BaseException | None) -> Iterator[BaseException]:
        """Return an error and what led to it."""
        while error is not None and error is not self._handled:
            yield error
            error = error.__cause__ or error.__context__


_OF_A_CLUSTER = (
    "the server is one node of a cluster, and other nodes have some of the threads: use a URL with "
    "redis+cluster:// (rediss+cluster:// for TLS), or a client for clusters"
)
_NOT_A_CLUSTER = (
    "the server is not part of a cluster, though the URL has redis+cluster://: use redis:// "
    "(rediss:// for TLS)"
)


def _is_no_cluster(error: BaseException) -> bool:
    """Whether redis-py says that it asked a server outside of any cluster for its nodes."""
    return is_error(error, "RedisClusterException") and "mode is not enabled" in str(error)


def _is_unknown_host(error: BaseException) -> bool:
    return isinstance(error, gaierror) and error.errno == EAI_NONAME
