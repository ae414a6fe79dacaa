"""What we ask of client libraries, and what they are asked with, for both front ends.

The libraries are redis-py and valkey-py, which began as the same. They share an interface, but no
classes: clients are known here by their methods, and errors that both have by their names.
"""

from __future__ import annotations

from inspect import iscoroutinefunction
from typing import Any

from redis.client import NEVER_DECODE
from redis.exceptions import ConnectionError as RedisConnectionError

from langgraph_checkpoint_redis.errors import (
    ConfigError,
    ConfigTypeError,
)

from .urls import Url, read_url

CONNECTIONS = 64  # that one saver uses at a time; a client's pool refuses more than 100 by default

SECONDS_TO_NOTICE = 1.0  # after which sentinels are asked again which server is the primary

SCRIPTS = ("EVALSHA", "EVAL")
RAW: dict[str, Any] = {NEVER_DECODE: True}  # replies are bytes, whatever `decode_responses` says


def check_client(redis: Any, *, asynchronous: bool) -> Any:
    """A `Url` for a URL, or the client that was passed in."""
    if isinstance(redis, str):
        return read_url(redis)
    send = getattr(redis, "execute_command", None)
    if isinstance(redis, type) or not (send and hasattr(redis, "scan_iter")):
        made = "AsyncRedisSaver" if asynchronous else "RedisSaver"
        raise ConfigTypeError(
            "redis must be a URL, as in "
            f"{made}.from_conn_string(url), or a client of redis-py or valkey-py, not "
            + ("None: is the variable set that it comes from?" if redis is None else _named(redis))
        )
    if hasattr(redis, "command_stack"):
        raise ConfigError("redis must be a client, not a pipeline, which answers nothing by itself")
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


def _named(thing: object) -> str:
    """Return the name of a class, or of the class of another thing."""
    return f"the class {thing.__name__}" if isinstance(thing, type) else type(thing).__name__


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


def cannot_confirm(client: Any) -> ConfigError:
    """Return the error for `confirm` with a client that may use any of several connections."""
    return ConfigError(
        f"confirm needs a client of one server, a cluster or sentinels: {type(client).__name__} "
        "cannot wait on the connection that has written"
    )


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


def was_queued(reply: object) -> bool:
    """Return whether a reply says that its command waits for the end of a transaction."""
    return reply == b"QUEUED"


def left_in_transaction() -> RedisConnectionError:
    """Return the error that makes a call leave a connection whose transaction did not end."""
    return RedisConnectionError("the connection was left in a transaction")


def client_in_transaction() -> ConfigError:
    """Return the error for a client whose connection its program has left in a transaction."""
    return ConfigError(
        "redis has a connection that was left in a transaction, after MULTI without EXEC or "
        "DISCARD; the saver needs a client for itself, or one that nobody does this with"
    )
