"""What we ask of client libraries, and what they are asked with, for both front ends.

The libraries are redis-py and valkey-py, which began as the same. They share an interface, but no
classes: clients are known here by their methods, and errors that both have by their names.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Iterator
from inspect import iscoroutinefunction
from socket import EAI_NONAME, gaierror
from ssl import SSLCertVerificationError
from typing import Any

from redis.client import NEVER_DECODE
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
from langgraph_checkpoint_redis._scripts.refusals import refusal
from langgraph_checkpoint_redis.errors import (
    ConfigError,
    EventLoopError,
    MissingLibraryError,
    RedisSaverError,
    UnconfirmedError,
    UnsupportedServerError,
)

from .urls import Url, parsed

CONNECTIONS = 64  # that one saver uses at a time; a client's pool refuses more than 100 by default
SECONDS_TO_RECOVER = 10.0  # that a server may take to restart, to fail over or to move a slot
SECONDS_TO_BE_KNOWN = 2.0  # that the name of a server may be unknown which nobody has reached yet
FIRST_PAUSE, LONGEST_PAUSE = 0.02, 0.5  # seconds between one try and the next

SECONDS_TO_NOTICE = 1.0  # after which sentinels are asked again which server is the primary

RAW: dict[str, Any] = {NEVER_DECODE: True}  # replies are bytes, whatever `decode_responses` says

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


def checked(redis: Any, *, asynchronous: bool) -> Any:
    """A `Url` for a URL, or the client that was passed in."""
    if isinstance(redis, str):
        return parsed(redis)
    send = getattr(redis, "execute_command", None)
    if isinstance(redis, type) or not (send and hasattr(redis, "scan_iter")):
        raise ConfigError(
            f"redis must be a URL, or a client of redis-py or valkey-py, not {type(redis).__name__}"
        )
    if iscoroutinefunction(send) != asynchronous:
        raise ConfigError(
            "redis must be an asynchronous client (redis.asyncio) for AsyncRedisSaver, and a "
            f"synchronous one for RedisSaver, not {type(redis).__module__}.{type(redis).__name__}"
        )
    if getattr(getattr(redis, "connection_pool", None), "is_master", True) is False:
        raise ConfigError(
            "redis must be a client of the primary (Sentinel.master_for), not of its replicas "
            "(slave_for): a replica refuses writes and may lack the newest checkpoints"
        )
    return redis


def connection_limit(redis: Any) -> int:
    """How many connections to use at a time, so that further calls wait instead of failing."""
    if isinstance(redis, Url):
        return min(CONNECTIONS, int(redis.options.get("max_connections", CONNECTIONS)))
    # The client of a cluster, or of several servers, has no pool of its own.
    pool = getattr(redis, "connection_pool", None)
    return min(CONNECTIONS, int(getattr(pool, "max_connections", CONNECTIONS)))


def reads_from_replicas(cluster: Any) -> bool:
    """Whether the client of a cluster answers plain reads from replicas, or from a cache."""
    names = ("read_from_replicas", "load_balancing_strategy")
    has_cache = getattr(cluster.nodes_manager, "_cache", None) is not None
    return has_cache or any(getattr(cluster, name, None) for name in names)


def is_cluster(redis: Any) -> bool:
    """Whether a client talks to a cluster, or one that is made from a URL will."""
    return redis.kind == "cluster" if isinstance(redis, Url) else hasattr(redis, "nodes_manager")


def client_of_node(cluster: Any, node: Any) -> Any:
    """The client that the synchronous client of a cluster has for one of its nodes."""
    of_redis_py = getattr(cluster, "get_redis_connection", None)
    return of_redis_py(node) if of_redis_py else cluster.get_valkey_connection(node)


def socket_timeout(redis: Any) -> float | None:
    """How many seconds a client waits for an answer; `None` for ever, or if it does not tell."""
    if isinstance(redis, Url):
        return redis.socket_timeout
    holder = getattr(redis, "nodes_manager" if is_cluster(redis) else "connection_pool", None)
    options = getattr(holder, "connection_kwargs", None)
    seconds: float | None = options.get("socket_timeout") if isinstance(options, dict) else None
    return seconds


def sentinels(client: Any) -> list[Any]:
    """The clients that a client has beside itself, to ask where its server is."""
    manager = getattr(getattr(client, "connection_pool", None), "sentinel_manager", None)
    return manager.sentinels if manager else []


def named_primary(client: Any) -> Any:
    """Ask the sentinels of a client for the address of the primary; awaitable if the client is."""
    pool = client.connection_pool
    return pool.sentinel_manager.discover_master(pool.service_name)


def check_role(role: Any) -> None:
    """Raise an error that passes if a server that sentinels named says it is no primary."""
    name = role[0] if isinstance(role, (list, tuple)) and role else b"master"
    if name not in (b"master", "master"):
        raise RedisConnectionError("the server that the sentinels name is not a primary")


def is_error(reply: object, name: str) -> bool:
    """Whether a reply is an error of this name, in either of the libraries.

    A `ResponseError` is what the server says of a command; other errors are of the connection.
    """
    return isinstance(reply, Exception) and any(
        kind.__name__ == name for kind in type(reply).__mro__
    )


def is_unknown_script(reply: object) -> bool:
    """Whether a reply says that the server does not know a script yet."""
    return isinstance(reply, Exception) and is_error(reply, "NoScriptError")


def is_last_word(reply: object) -> bool:
    """Return whether a server hangs up after a reply: what it was sent is too large, say."""
    return isinstance(reply, Exception) and "Protocol error" in str(reply)


def must_leave(error: Exception) -> bool:
    """Whether a server is a replica, or has lost its own: another one may be the primary now."""
    kinds = (ReadOnlyError, MasterDownError)
    return isinstance(_recognized(error), kinds) or _code(error) == "NOREPLICAS"


def explained(error: Exception) -> Exception:
    """What our scripts complain about as our own error; others are as the client raised them."""
    return refusal(str(error)) or _recognized(error)


def _recognized(error: Exception) -> Exception:
    """An error of the server with the class that redis-py has for it."""
    known = _UNRECOGNIZED.get(_code(error))
    return known(str(error)) if known and not isinstance(error, known) else error


def _code(error: BaseException) -> str:
    """Return the code of an error of the server, unless redis-py has made a class of it; or ""."""
    found = _CODE.match(str(error)) if is_error(error, "ResponseError") else None
    return found[1] if found else ""


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


class Patience:
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
        explanation = explained(error)
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
