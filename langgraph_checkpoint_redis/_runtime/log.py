"""The logger of this package: what went wrong on the way to the server, and was repaired.

Records never show content, thread ids, URLs or credentials, except a thread id where an operator
needs it to act. Each kind of message appears at most once a second; the next one
says how many were left out. A function returns at once if its level is off.
"""

from __future__ import annotations

import logging
import time

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

logger = logging.getLogger("langgraph_checkpoint_redis")

EVERY = 1.0  # seconds between two records of a kind
LONGEST_CAUSE = 200  # characters

_last: dict[str, float] = {}  # when a kind was logged, by its text
_left_out: dict[str, int] = {}  # how many were not since


def report_retry(what: str, attempt: int, wait: float, cause: BaseException) -> None:
    """Warn that a script or a command is asked for again after a pause."""
    _log(
        logging.WARNING,
        "%s failed (%s); attempt %d follows in %.3f s",
        what,
        lambda: _described(cause),
        attempt,
        wait,
    )


def report_refusal(what: str, thread_id: str, reason: str) -> None:
    """Warn that a script refused what was asked for; LangGraph drops some of these errors."""
    _log(logging.WARNING, "%s was refused for thread %r: %s", what, thread_id, reason)


def report_lost(requests: int, cause: BaseException) -> None:
    """Warn that a connection broke while requests waited for their replies."""
    _log(
        logging.WARNING,
        "lost a connection with %d requests on it (%s)",
        requests,
        lambda: _described(cause),
    )


def report_reconnect() -> None:
    """Say that there is a connection again after one was lost."""
    _log(logging.INFO, "connected again")


def report_failover(service: str, old: str, new: str) -> None:
    """Say that the sentinels name another primary, which the saver uses from now on."""
    _log(logging.INFO, "the primary of service %s was %s and is %s now", service, old, new)


def report_resend(thread_id: str, what: str) -> None:
    """Warn that a thread lacked what this process had stored there, and gets it again."""
    _log(logging.WARNING, "thread %r lacks %s on the server; sending it again", thread_id, what)


def report_skipped(what: str, reason: str) -> None:
    """Warn that an operation over many threads left one out."""
    _log(logging.WARNING, "skipped %s: %s", what, reason)


def report_clock(thread_id: str, seconds: float) -> None:
    """Warn that a checkpoint is older than the one it was derived from."""
    _log(
        logging.WARNING,
        "a checkpoint of thread %r is %.3f s older than its parent: a clock is wrong",
        thread_id,
        seconds,
    )


def _log(level: int, text: str, *details: object) -> None:
    """Log a message unless its kind was logged a moment ago; details may be callables."""
    if not logger.isEnabledFor(level):
        return
    now = time.monotonic()
    if now - _last.get(text, -EVERY) < EVERY:
        _left_out[text] = _left_out.get(text, 0) + 1
        return
    _last[text] = now
    left_out = _left_out.pop(text, 0)
    found = [detail() if callable(detail) else detail for detail in details]
    if left_out:
        text, found = f"{text} (%d more like this since the last one)", [*found, left_out]
    logger.log(level, text, *found, stacklevel=3)


def _described(cause: BaseException) -> str:
    """Describe an error by its class, and by its words if no server could have echoed content."""
    name = type(cause).__name__
    if isinstance(cause, (RedisConnectionError, RedisTimeoutError, OSError)):
        return f"{name}: {str(cause)[:LONGEST_CAUSE]}"
    return name
