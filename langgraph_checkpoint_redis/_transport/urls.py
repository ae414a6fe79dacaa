"""What URLs mean, and the clients that are made from them: all that we open ourselves.

redis-py knows `redis://`, `rediss://` and `unix://`, and the options in their queries. Clusters and
sentinels have several hosts; such a URL is read here, and what is left of it, with one host, is
handed to redis-py.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from socket import timeout as socket_timeout
from types import ModuleType
from typing import Any
from urllib.parse import parse_qs, urlparse

import redis
from redis.backoff import NoBackoff
from redis.connection import URL_QUERY_ARGUMENT_PARSERS, Connection, parse_url
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from langgraph_checkpoint_redis._version import __version__
from langgraph_checkpoint_redis.errors import ConfigError

from .sentinels import sentinel_class_for
from .sockets import connection_class

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
# Options that a URL may have, next to `ssl_*`. All others are Python objects, or not ours.
_TEXTS = (
    "username",
    "password",
    "client_name",
    "lib_name",
    "lib_version",
    "encoding",
    "encoding_errors",
    "decode_responses",
)
_OPTIONS = {*URL_QUERY_ARGUMENT_PARSERS, *_TEXTS, *_POOL_OPTIONS} - {"retry_on_error", "timeout"}
SHORTEST, LONGEST = 0.01, 86_400  # seconds: less is over before a server can answer
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
    options: dict[str, Any] = field(init=False, repr=False, compare=False)  # as redis-py reads it

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", parse_url(self.plain))

    @property
    def has_tls(self) -> bool:
        """Whether the server is to speak TLS."""
        return self.plain.startswith("rediss:")

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
            client.connection_pool.connection_class = connection_class(of)
        return client

    def _sentinel(self, of: ModuleType, retry: Any) -> Any:
        options = {**_OPENED, **self.options, "ssl": self.has_tls}
        for name in ("host", "port", "connection_class"):
            options.pop(name, None)
        for_both = ("socket_", "ssl")
        for_sentinels = {name: options[name] for name in options if name.startswith(for_both)}
        for_sentinels["retry"] = retry  # there are other sentinels to ask
        for_sentinels |= _NAMED
        for name in _SENTINEL_OPTIONS:
            if name in options:
                for_sentinels[name.removeprefix("sentinel_")] = options.pop(name)
        sentinels = sentinel_class_for(of)
        return sentinels(self.hosts, sentinel_kwargs=for_sentinels, retry=retry, **options)


def place(host: str, port: int) -> str:
    """Return where a server is, as URLs have it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def read_url(text: str) -> Url:
    """What a URL says, all of it checked; errors show no part that could be of a password."""
    match = _URL.fullmatch(text)
    if not match:
        raise ConfigError(_FORMS + "This one has another form.")
    kind, scheme = match["kind"] or "", match["scheme"]
    if scheme == "unix":
        return _socket(text, match)
    hosts = _hosts(match["hosts"], kind)
    service, path = _service(match["path"]) if kind == "sentinel" else ("", match["path"])
    if not _DATABASE.fullmatch(path):
        raise ConfigError(_FORMS + "After the hosts of this one there is no database number.")
    plain = f"{scheme}://{match['login']}{place(*hosts[0])}{path}{match['query']}"
    url = _checked(kind, plain, hosts, service)
    if kind == "cluster" and url.options.get("db"):
        raise ConfigError(_FORMS + "A cluster has no database but 0.")
    return url


def _socket(text: str, match: re.Match[str]) -> Url:
    if match["kind"] or match["hosts"] or not match["path"].strip("/"):
        raise ConfigError(_FORMS + "A URL with unix: names the path of a socket.")
    return _checked("", text, (), "")


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


def _checked(kind: str, plain: str, hosts: tuple[tuple[str, int], ...], service: str) -> Url:
    """Refuse what redis-py would refuse when it makes its first connection, or would hang by."""
    for name in {*parse_qs(urlparse(plain).query)} - {*_OPTIONS, *_options_of(kind)}:
        if not name.startswith("ssl_"):
            raise ConfigError(f"redis: the URL has an option that cannot be used: {name!r:.50}")
    try:
        url = Url(kind, plain, hosts, service)
        options = dict(url.options)
        connection = options.pop("connection_class", Connection)
        for name in (*_POOL_OPTIONS, *_options_of(kind)):
            options.pop(name, None)
        connection(**{**_NAMED, **options})
    except (TypeError, ValueError, RedisError) as error:
        raise ConfigError(f"redis: the URL has an option that cannot be used: {error}") from None
    for name, (is_fit, expected) in _FIT.items():
        if name in url.options and not is_fit(url.options[name]):
            raise ConfigError(
                f"redis: {name} in the URL must be {expected}, not {url.options[name]!r:.50}"
            )
    return url


def _options_of(kind: str) -> tuple[str, ...]:
    return _SENTINEL_OPTIONS if kind == "sentinel" else ()


def _is_time(seconds: float) -> bool:
    return SHORTEST <= seconds <= LONGEST


def _keeps_ascii(encoding: str) -> bool:
    try:
        return "AUTH".encode(encoding) == b"AUTH"
    except (LookupError, UnicodeError):
        return False


_TIME = f"seconds from {SHORTEST} to {LONGEST}"
# With other values, calls would never return, or be tried in vain for as long as a server may take
# to come back.
_FIT: dict[str, tuple[Callable[[Any], bool], str]] = {
    "max_connections": (lambda number: number >= 1, "at least 1"),
    "socket_timeout": (_is_time, _TIME),
    "socket_connect_timeout": (_is_time, _TIME),
    "health_check_interval": (lambda seconds: 0 <= seconds <= LONGEST, f"from 0 to {LONGEST}"),
    "socket_read_size": (lambda size: size >= 1, "at least 1"),
    "db": (lambda number: number >= 0, "at least 0"),
    "client_name": (
        lambda name: name.isascii() and name.isprintable() and " " not in name,
        "printable ASCII without spaces",
    ),
    "encoding": (_keeps_ascii, "one that keeps ASCII, such as utf-8"),
}


def expand_home(name: str, path: str) -> Path:
    """Return a path, with the home directory for `~`: settings and URLs never saw a shell."""
    try:
        return Path(path).expanduser() if path.startswith("~") else Path(path)
    except RuntimeError as error:
        raise ConfigError(
            f"{name} {path!r:.200} names a home directory that is not known"
        ) from error
