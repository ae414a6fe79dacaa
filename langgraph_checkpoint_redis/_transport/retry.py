"""When to ask a server again after an error, and what to say if no server is there."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterator
from functools import partial
from socket import EAI_NONAME, gaierror
from ssl import SSLCertVerificationError
from typing import Any, ClassVar

from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ClusterDownError,
    ClusterError,
    MasterDownError,
    ReadOnlyError,
    RedisClusterException,
    ResponseError,
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
from .sentinels import UnknownServiceError, in_words
from .tls import tls_mistake
from .urls import Url, place

SECONDS_TO_RECOVER = 10.0  # that a server may take to restart, to fail over or to move a slot
# That a server which this process has never reached may be unknown by name, or refuse connections.
SECONDS_TO_BE_THERE = 2.0
FIRST_PAUSE, LONGEST_PAUSE = 0.02, 0.5  # seconds between one try and the next
PAUSE_FOR_ABSENT = 0.25  # seconds at least from the second try on: name servers drop many questions
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
    """Convert a refusal of a script to an error of this package; return other errors unchanged."""
    return parse_refusal(str(error)) or _recognize(error)


def _recognize(error: Exception) -> Exception:
    """An error of the server with the class that redis-py has for it."""
    known = _UNRECOGNIZED.get(_code(error))
    return known(str(error)) if known and not isinstance(error, known) else error


def _code(error: BaseException) -> str:
    """Return the code of an error of the server, unless redis-py has made a class of it; or ""."""
    found = _CODE.match(str(error)) if is_error(error, "ResponseError") else None
    return found[1] if found else ""


_EMBEDDED = (
    "let the saver run its own: RedisSaver.embedded(directory), after "
    '`pip install "langgraph-checkpoint-redis-core[embedded]"`'
)


class Server:
    """What this process knows of the server of a URL, whichever saver has learned it."""

    _reached: ClassVar[set[object]] = set()
    _asked: ClassVar[set[object]] = set()  # what they speak, without finding a mistake in the URL

    def __init__(self, url: Url) -> None:
        scheme = url.plain.partition(":")[0]  # its port may speak TLS, or not
        place = url.hosts or url.options["path"]
        self._key = (scheme, url.kind, place, url.service)  # logins say nothing about the server

    @property
    def was_reached(self) -> bool:
        """Whether there was a connection to it."""
        return self._key in self._reached

    @property
    def is_unknown(self) -> bool:
        """Whether nothing is known: it may speak something else than the URL says."""
        return not (self.was_reached or self._key in self._asked)

    def note_reached(self) -> None:
        """Remember that it was there."""
        self._reached.add(self._key)

    def note_asked(self) -> None:
        """Remember that it was asked what it speaks, and that the URL may be right."""
        self._asked.add(self._key)


class RetryPolicy:
    """How long to go on asking a server, with growing pauses, from a first error on.

    Clients that are passed in keep the policy that they were given.
    """

    def __init__(
        self,
        redis: Any,
        what: str,
        *,
        was_reached: bool,
        handled: BaseException | None = None,
        seconds: float | None = None,
        instead: str = _EMBEDDED,
    ) -> None:
        """`what` is the name of the script or command, for the log.

        Where the server `was_reached` before, by this saver or another of the process, it may be
        away for a while, as a container that restarts. A server that nobody has reached yet is
        probably not there at all, or comes in a moment, where containers start together.

        `handled` is the error that the caller was handling: Python shows it as the context of ours,
        but it says nothing about the server. `seconds` is how long to ask, if not as usual;
        `instead` is what to do if no server should be started where none is.
        """
        self._instead = instead
        self._url = redis if isinstance(redis, Url) else None
        self._was_reached = was_reached or (self._url and Server(self._url).was_reached)
        self._handled = handled
        self._is_cluster = is_cluster(redis)
        self._what, self._attempt = what, 1
        began = time.monotonic()
        self._deadline = began + (SECONDS_TO_RECOVER if seconds is None else seconds)
        self._there_by = began + SECONDS_TO_BE_THERE
        self._pause = 0.0  # at first none: a connection may have been closed while it was idle
        self._mistake: str | None = None  # in the URL; unknown until it was looked for

    def look_for_tls(self, error: Exception) -> Callable[[], str] | None:
        """Return what to ask the server before a pause; `note_mistake` takes the answer.

        That is whether the URL is wrong about TLS, where the first connection has failed. It waits
        for the server, so an event loop asks in a worker thread.
        """
        fits = isinstance(error, (RedisConnectionError, RedisTimeoutError, RedisClusterException))
        if not self._url or self._was_reached or self._mistake is not None or not fits:
            return None
        if self._absence(error) or self._will_last(error) or self._has_spoken(error):
            return None
        return partial(tls_mistake, self._url)

    def _has_spoken(self, error: Exception) -> bool:
        """Return whether the server has answered, so that the URL is right about TLS.

        One with TLS hangs up when it is addressed without; it does not keep silent.
        """
        words: list[type[Exception]] = [BusyLoadingError, ResponseError]
        if self._url and not self._url.has_tls:
            words.append(RedisTimeoutError)
        return any(isinstance(each, tuple(words)) for each in self._causes(error))

    def note_mistake(self, mistake: str) -> None:
        """Take note of what is wrong with the URL, if it is not empty."""
        self._mistake = mistake
        if self._url and not mistake:
            Server(self._url).note_asked()

    def seconds_until_retry(self, error: Exception) -> float:
        """Return the seconds to wait before asking again; raise an error that will not pass."""
        explanation = explain(error)
        if mistake := self._mistake_shown_by(error):
            raise ConfigError(mistake) from error
        if explanation is not error and self._will_last(explanation):
            if isinstance(explanation, RedisSaverError):
                thread_id = getattr(explanation, "thread_id", "")
                report_refusal(self._what, thread_id, type(explanation).__name__)
            raise explanation from error
        if not self._url or self._will_last(explanation):
            raise explanation
        absence = self._absence(error)
        if absence and not self._was_reached:
            self._deadline = min(self._deadline, self._there_by)
            if self._is_over():
                raise _not_there(self._url, explanation, absence, self._instead) from None
            if self._pause:
                self._pause = max(self._pause, PAUSE_FOR_ABSENT)
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

    def _mistake_shown_by(self, error: Exception) -> str | None:
        """Return what is wrong with the URL, or the client that was passed in, if that is known."""
        if is_error(error, "MovedError") and not self._is_cluster:
            return OF_A_CLUSTER
        if self._url and _is_no_cluster(error):
            return _NOT_A_CLUSTER
        return self._mistake

    def _absence(self, error: BaseException) -> BaseException | None:
        """Return what says that nothing is where the URL leads: no host of this name, no server."""
        for each in self._causes(error):
            if isinstance(each, gaierror):
                is_absent = each.errno == EAI_NONAME
            elif isinstance(each, FileNotFoundError):  # a socket; else the file of a certificate
                is_absent = bool(self._url and not self._url.hosts)
            else:
                is_absent = isinstance(each, (ConnectionRefusedError, UnknownServiceError))
            if is_absent:
                return each
        return None

    def _causes(self, error: BaseException | None) -> Iterator[BaseException]:
        """Return an error and what led to it."""
        while error is not None and error is not self._handled:
            yield error
            error = error.__cause__ or error.__context__


OF_A_CLUSTER = (
    "the server is one node of a cluster, and other nodes have some of the threads: use a URL with "
    "redis+cluster:// (rediss+cluster:// for TLS), or pass a RedisCluster client"
)
_NOT_A_CLUSTER = (
    "the server is not part of a cluster, though the URL has redis+cluster://: use redis:// "
    "(rediss:// for TLS)"
)


def _is_no_cluster(error: BaseException) -> bool:
    """Whether redis-py says that it asked a server outside of any cluster for its nodes."""
    return is_error(error, "RedisClusterException") and "mode is not enabled" in str(error)


def _not_there(url: Url, error: Exception, cause: BaseException, instead: str) -> Exception:
    """Return an error of the same class that says where there is no server, and what to do."""
    if url.kind == "sentinel":
        return error  # it names sentinels and service
    places = ", ".join(place(*host) for host in url.hosts) or url.options["path"]
    name = "node of a cluster" if url.kind else "Redis"
    return type(error)(f"no {name} at {places}: {in_words(cause)}. {_what_to_start(url, instead)}")


LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")


def _what_to_start(url: Url, instead: str) -> str:
    """Return what to do where no server is."""
    if url.kind or any(host not in LOCAL_HOSTS for host, _ in url.hosts):
        return "Check the host and the port in the URL, and whether the server runs"
    if not url.hosts:
        return "Check the path in the URL, and whether the server runs"
    ((_, port),) = url.hosts
    return (
        f"Start one (`redis-server --port {port}`, or `docker run -p {port}:6379 redis`), "
        f"or {instead}"
    )
