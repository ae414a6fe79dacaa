"""What URLs mean, and the clients that are made from them: all that we open ourselves.

redis-py knows `redis://`, `rediss://` and `unix://`, and the options in their queries. Clusters and
sentinels have several hosts; such a URL is read here, and what is left of it, with one host, is
handed to redis-py.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property
from socket import timeout as socket_timeout
from types import ModuleType
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.connection import Connection, parse_url
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from . import __version__
from ._sockets import class_for
from .errors import ConfigError

NAME = "langgraph-checkpoint-redis-core"
SECONDS_TO_ANSWER = 5.0  # for each connecting, sending and receiving, unless the URL says otherwise
# Made once: to look up its own version, redis-py reads files, for which no event loop should wait.
_NAMED: dict[str, Any] = (
    {"driver_info": redis.DriverInfo().add_upstream_driver(NAME, __version__)}
    if hasattr(redis, "DriverInfo")  # not in older ones
    else {"lib_name": f"redis-py({NAME}_v{__version__})"}
)
# What all clients have that are made here: patience, and a name to tell the server.
_OPENED: dict[str, Any] = {"socket_timeout": SECONDS_TO_ANSWER, **_NAMED}
# What is worth a new connection at once; whether to wait and ask again is the saver's business.
RECONNECT = (RedisConnectionError, RedisTimeoutError, socket_timeout, ReadOnlyError)

_PORTS = {"": 6379, "cluster": 6379, "sentinel": 26379}
_POOL_OPTIONS = ("max_connections",)
_SENTINEL_OPTIONS = ("sentinel_username", "sentinel_password")
_URL = re.compile(
    r"(?P<scheme>rediss?|unix)(?:\+(?P<kind>cluster|sentinel))?://"
    r"(?P<login>(?:[^/?#]*@)?)(?P<hosts>[^/?#@]*)(?P<path>[^?#]*)(?P<query>(?:\?[^#]*)?)"
)
_HOST = re.compile(r"(\[[^\[\]]+\]|[^\[\]:\s]+)(?::(\d{1,5}))?")
_DATABASE = re.compile(r"(?:/\d*)?")
_SERVICE = re.compile(r"/([^/]+)(/\d*)?")
_FORMS = """redis must be a client, or a URL of one of these forms:
    redis://[[user]:password@]host[:port][/db]
    rediss://...                                      (the same with TLS)
    unix://[[user]:password@]/path/to/socket
    redis+cluster://[...@]host[:port][,host[:port]...]
    redis+sentinel://[...@]host[:port][,host[:port]...]/service[/db]
    rediss+cluster://..., rediss+sentinel://...
What is special in a user name or a password must be percent-encoded. """


@dataclass(frozen=True)
class Url:
    """A URL that was understood.

    `kind` is empty for a single server; `plain` is what redis-py is told, with the first host.
    """

    kind: str
    plain: str = field(repr=False)  # there may be a password in it
    hosts: tuple[tuple[str, int], ...]
    service: str

    @cached_property
    def options(self) -> dict[str, Any]:
        """What redis-py makes of the URL: where to connect, and how."""
        options: dict[str, Any] = parse_url(self.plain)
        return options

    @property
    def socket_timeout(self) -> float | None:
        """How many seconds to wait for the server to say something; `None` for ever."""
        seconds: float | None = self.options.get("socket_timeout", SECONDS_TO_ANSWER)
        return seconds

    def client(self, of: ModuleType) -> Any:
        """A new client of `redis` or of `redis.asyncio`; that of a cluster may connect already."""
        if self.kind == "cluster":
            nodes = [of.cluster.ClusterNode(*host) for host in self.hosts[1:]]
            return of.RedisCluster.from_url(self.plain, startup_nodes=nodes, **_OPENED)
        retry = of.retry.Retry(NoBackoff(), 1, supported_errors=RECONNECT)
        if self.kind == "sentinel":
            return self._sentinel(of, retry).master_for(self.service)
        client = of.Redis.from_url(self.plain, retry=retry, **_OPENED)
        if self.plain.startswith("unix"):
            client.connection_pool.connection_class = class_for(of)
        return client

    def _sentinel(self, of: ModuleType, retry: Any) -> Any:
        options = {**_OPENED, **self.options, "ssl": self.plain.startswith("rediss")}
        for name in ("host", "port", "connection_class"):
            options.pop(name, None)
        for_both = ("socket_", "ssl")
        for_sentinels = {name: options[name] for name in options if name.startswith(for_both)}
        for_sentinels["retry"] = retry  # there are other sentinels to ask
        for_sentinels |= _NAMED
        for name in _SENTINEL_OPTIONS:
            if name in options:
                for_sentinels[name.removeprefix("sentinel_")] = options.pop(name)
        return of.Sentinel(self.hosts, sentinel_kwargs=for_sentinels, retry=retry, **options)


def parsed(text: str) -> Url:
    """What a URL says, all of it checked; errors show no part that could be of a password."""
    match = _URL.fullmatch(text)
    if not match:
        raise ConfigError(_FORMS + "This one has another form.")
    kind, scheme = match["kind"] or "", match["scheme"]
    if scheme == "unix":
        return _checked_options(_socket(text, match))
    hosts = _hosts(match["hosts"], kind)
    service, path = _service(match["path"]) if kind == "sentinel" else ("", match["path"])
    if not _DATABASE.fullmatch(path):
        raise ConfigError(_FORMS + "After the hosts of this one there is no database number.")
    first, port = hosts[0]
    place = f"[{first}]:{port}" if ":" in first else f"{first}:{port}"
    plain = f"{scheme}://{match['login']}{place}{path}{match['query']}"
    url = _checked_options(Url(kind, plain, hosts, service))
    if kind == "cluster" and url.options.get("db"):
        raise ConfigError(_FORMS + "A cluster has no database but 0.")
    return url


def _socket(text: str, match: re.Match[str]) -> Url:
    if match["kind"] or match["hosts"] or not match["path"].strip("/"):
        raise ConfigError(_FORMS + "A URL with unix: names the path of a socket.")
    return Url("", text, (), "")


def _hosts(text: str, kind: str) -> tuple[tuple[str, int], ...]:
    if not (text or kind):
        return (("localhost", _PORTS[kind]),)
    matches = [_HOST.fullmatch(host) for host in text.split(",")]
    hosts = [(m[1].strip("[]"), int(m[2] or _PORTS[kind])) for m in matches if m]
    if len(hosts) < len(matches) or any(port >= 2**16 for _, port in hosts):
        raise ConfigError(_FORMS + "The host or the port of this one cannot be read.")
    if len(hosts) > 1 and not kind:
        raise ConfigError(_FORMS + "This one has several hosts.")
    return tuple(hosts)


def _service(path: str) -> tuple[str, str]:
    match = _SERVICE.fullmatch(path)
    if not match:
        raise ConfigError(_FORMS + "This one does not say which service the sentinels watch.")
    return match[1], match[2] or ""


def _checked_options(url: Url) -> Url:
    """Refuse what redis-py would refuse when it makes its first connection."""
    try:
        options = dict(url.options)
        connection = options.pop("connection_class", Connection)
        for name in (*_POOL_OPTIONS, *(_SENTINEL_OPTIONS if url.kind == "sentinel" else ())):
            options.pop(name, None)
        connection(**{**_NAMED, **options})
    except (TypeError, ValueError, RedisError) as error:
        raise ConfigError(f"redis: the URL has an option that cannot be used: {error}") from None
    return url
