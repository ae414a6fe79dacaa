"""Who takes part, and how each is opened: as its documentation says, with its default settings.

A peer is imported where it is opened, so that one that is not installed costs its own column only.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import redis
import redis.asyncio
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from redis.asyncio.cluster import ClusterNode as AsyncClusterNode
from redis.cluster import ClusterNode

from langgraph_checkpoint_redis import AsyncRedisSaver, RedisSaver

from . import servers
from .floors import Floor
from .servers import Server, Unavailable

AnySaver = BaseCheckpointSaver[Any]
# Gives a saver for a URL: the one for awaiting, or the other; with so many connections, or as many
# as it has by default.
Opener = Callable[[str, bool, int | None], AbstractAsyncContextManager[AnySaver]]


@dataclass(frozen=True)
class Column:
    """One of those that are compared."""

    name: str
    about: str
    package: str
    server: Callable[[], AbstractContextManager[Server]]
    opened: Opener
    is_ours: bool = False
    is_floor: bool = False  # only serves single operations, not graphs
    is_checked: bool = True  # what it reads must be what was written


class Session:
    """A saver of a column that is open: its methods and graphs on it, whether awaited or not."""

    def __init__(
        self, column: Column, server: Server, saver: AnySaver, *, awaited: bool, url: str
    ) -> None:
        """With the saver of the kind that `awaited` says, and the URL that it was opened with."""
        self.column, self.server, self.saver = column, server, saver
        self.awaited, self.url = awaited, url

    @classmethod
    @asynccontextmanager
    async def opened(
        cls, column: Column, server: Server, *, awaited: bool, url: str
    ) -> AsyncIterator[Session]:
        """A session with a saver of its own."""
        async with column.opened(url, awaited, None) as saver:
            yield cls(column, server, saver, awaited=awaited, url=url)

    @property
    def mode(self) -> str:
        """Which of the two kinds it is."""
        return "async" if self.awaited else "sync"

    async def call(self, method: str, *args: Any, **options: Any) -> Any:
        """A method of the saver. Nothing is awaited, and no thread started, for the sync one."""
        return await self._result(self.saver, method, args, options)

    async def listed(self, *args: Any, **options: Any) -> list[Any]:
        """All that `list` gives."""
        if self.awaited:
            return [found async for found in self.saver.alist(*args, **options)]
        return list(self.saver.list(*args, **options))

    async def invoke(self, graph: Any, *args: Any, **options: Any) -> Any:
        """Run a graph that is compiled with the saver."""
        return await self._result(graph, "invoke", args, options)

    async def history(self, graph: Any, *args: Any, **options: Any) -> list[Any]:
        """All states of a thread."""
        name = "aget_state_history" if self.awaited else "get_state_history"
        found = getattr(graph, name)(*args, **options)
        return [state async for state in found] if self.awaited else list(found)

    async def _result(
        self, target: Any, method: str, args: tuple[Any, ...], options: dict[str, Any]
    ) -> Any:
        if not self.awaited:
            return getattr(target, method)(*args, **options)
        awaitable: Awaitable[Any] = getattr(target, f"a{method}")(*args, **options)
        return await awaitable


# Ours


@asynccontextmanager
async def _core(url: str, awaited: bool, connections: int | None) -> AsyncIterator[AnySaver]:
    if awaited:
        async with AsyncRedisSaver.from_conn_string(url) as asynchronous:
            yield asynchronous
    else:
        with RedisSaver.from_conn_string(url) as saver:
            yield saver


@asynccontextmanager
async def _core_cluster(
    url: str, awaited: bool, connections: int | None
) -> AsyncIterator[AnySaver]:
    host, port = url.removeprefix("redis://").split(":")
    if awaited:
        nodes = [AsyncClusterNode(host, int(port))]
        async with redis.asyncio.RedisCluster(startup_nodes=nodes) as asynchronous:
            yield AsyncRedisSaver(asynchronous)
    else:
        with redis.RedisCluster(startup_nodes=[ClusterNode(host, int(port))]) as client:
            yield RedisSaver(client)


@asynccontextmanager
async def _core_embedded(
    url: str, awaited: bool, connections: int | None
) -> AsyncIterator[AnySaver]:
    kind: Any = AsyncRedisSaver if awaited else RedisSaver
    if not hasattr(kind, "embedded"):
        raise Unavailable("this version has no `embedded`")
    if awaited:
        async with kind.embedded(url) as asynchronous:
            yield asynchronous
    else:
        with kind.embedded(url) as saver:
            yield saver


# LangGraph's own


@asynccontextmanager
async def _memory(url: str, awaited: bool, connections: int | None) -> AsyncIterator[AnySaver]:
    yield InMemorySaver()


@asynccontextmanager
async def _sqlite(url: str, awaited: bool, connections: int | None) -> AsyncIterator[AnySaver]:
    file = f"{url}/checkpoints.sqlite"
    if awaited:
        asynchronous = import_module("langgraph.checkpoint.sqlite.aio").AsyncSqliteSaver
        async with asynchronous.from_conn_string(file) as opened:
            yield opened
    else:
        with import_module("langgraph.checkpoint.sqlite").SqliteSaver.from_conn_string(
            file
        ) as opened:
            opened.setup()
            yield opened


@asynccontextmanager
async def _postgres(url: str, awaited: bool, connections: int | None) -> AsyncIterator[AnySaver]:
    """With a pool, as for production; one connection would make concurrent runs wait in turn."""
    pools, rows = import_module("psycopg_pool"), import_module("psycopg.rows")
    settings = {"autocommit": True, "prepare_threshold": 0, "row_factory": rows.dict_row}
    size = {"min_size": 1, "max_size": 20}
    if awaited:
        asynchronous = import_module("langgraph.checkpoint.postgres.aio").AsyncPostgresSaver
        async with pools.AsyncConnectionPool(url, open=False, kwargs=settings, **size) as pool:
            saver = asynchronous(pool)
            await saver.setup()
            yield saver
    else:
        synchronous = import_module("langgraph.checkpoint.postgres").PostgresSaver
        with pools.ConnectionPool(url, open=False, kwargs=settings, **size) as pool:
            saver = synchronous(pool)
            saver.setup()
            yield saver


# Others on Redis


def _vendor(shallow: bool) -> Opener:
    @asynccontextmanager
    async def opened(url: str, awaited: bool, connections: int | None) -> AsyncIterator[AnySaver]:
        kind = "ShallowRedisSaver" if shallow else "RedisSaver"
        arguments = {"connection_args": {"max_connections": connections}}
        options = arguments if connections else {}
        module = import_module("langgraph.checkpoint.redis")
        if awaited:
            awaited_kind = getattr(module, f"Async{kind}")
            async with awaited_kind.from_conn_string(url, **options) as asynchronous:
                await asynchronous.asetup()
                yield asynchronous
        else:
            with getattr(module, kind).from_conn_string(url, **options) as saver:
                saver.setup()
                yield saver

    return opened


@asynccontextmanager
async def _plainredis(url: str, awaited: bool, connections: int | None) -> AsyncIterator[AnySaver]:
    module = import_module("langgraph_checkpoint_plainredis")
    if awaited:
        if connections:
            client = redis.asyncio.Redis.from_url(url, protocol=2, max_connections=connections)
            saver = module.AsyncRedisSaver(client=client)
        else:
            saver = module.AsyncRedisSaver(url=url)
        yield saver
        await saver.aclose()
    else:
        saver = module.RedisSaver(url=url)
        yield saver
        saver.close()


@asynccontextmanager
async def _hotkv(url: str, awaited: bool, connections: int | None) -> AsyncIterator[AnySaver]:
    module = import_module("langgraph.checkpoint.hotkv")
    options = {"max_connections": connections} if connections else {}
    if awaited:
        async with module.AsyncHotKVSaver.from_conn_string(url, **options) as asynchronous:
            yield asynchronous
    else:
        with module.HotKVSaver.from_conn_string(url, **options) as saver:
            yield saver


@asynccontextmanager
async def _swarmstate(url: str, awaited: bool, connections: int | None) -> AsyncIterator[AnySaver]:
    """With one class for both kinds, on its store for Redis."""
    stores = import_module("swarmstate.backends.redis")
    savers = import_module("swarmstate.integrations.langgraph")
    yield savers.SwarmStateSaver(stores.RedisStore(url))


@asynccontextmanager
async def _valkey(url: str, awaited: bool, connections: int | None) -> AsyncIterator[AnySaver]:
    module = import_module("langgraph_checkpoint_aws")
    url = url.replace("redis://", "valkey://")
    options = {"pool_size": connections} if connections else {}
    if awaited:
        async with module.AsyncValkeySaver.from_conn_string(url, **options) as asynchronous:
            yield asynchronous
    else:
        with module.ValkeySaver.from_conn_string(url, **options) as saver:
            yield saver


def _floor(serializes: bool) -> Opener:
    @asynccontextmanager
    async def opened(url: str, awaited: bool, connections: int | None) -> AsyncIterator[AnySaver]:
        if awaited:
            async with redis.asyncio.Redis.from_url(url) as asynchronous:
                yield Floor(asynchronous, serializes=serializes)
        else:
            with redis.Redis.from_url(url) as client:
                yield Floor(client, serializes=serializes)

    return opened


_OURS, _BASE = "langgraph-checkpoint-redis-core", "langgraph-checkpoint"

COLUMNS = (
    Column("core", "this package", _OURS, servers.plain_redis, _core, is_ours=True),
    Column(
        "core-cluster-1",
        "this package on a cluster of one primary",
        _OURS,
        servers.cluster(1),
        _core_cluster,
        is_ours=True,
    ),
    Column(
        "core-cluster-3",
        "this package on a cluster of three primaries",
        _OURS,
        servers.cluster(3),
        _core_cluster,
        is_ours=True,
    ),
    Column(
        "core-embedded",
        "this package with a server of its own, on disk",
        _OURS,
        servers.directory,
        _core_embedded,
        is_ours=True,
    ),
    Column("memory", "`InMemorySaver`", _BASE, servers.no_server, _memory),
    Column(
        "redis",
        "Redis' own saver, which needs modules",
        "langgraph-checkpoint-redis",
        servers.redis_stack,
        _vendor(shallow=False),
    ),
    Column(
        "redis-shallow",
        "its shallow one, which keeps the latest checkpoint",
        "langgraph-checkpoint-redis",
        servers.redis_stack,
        _vendor(shallow=True),
    ),
    Column(
        "plainredis",
        "another saver on plain Redis",
        "langgraph-checkpoint-plainredis",
        servers.plain_redis,
        _plainredis,
    ),
    Column(
        "valkey",
        "the Valkey saver of AWS",
        "langgraph-checkpoint-aws",
        servers.valkey,
        _valkey,
    ),
    Column(
        "hotkv",
        "HotKV's saver, here on Redis, whose protocol it speaks",
        "langgraph-checkpoint-hotkv",
        servers.plain_redis,
        _hotkv,
    ),
    Column(
        "swarmstate",
        "SwarmState's saver, on its store for Redis",
        "swarmstate",
        servers.plain_redis,
        _swarmstate,
    ),
    Column(
        "postgres",
        "LangGraph's Postgres saver, over a Unix socket, on disk",
        "langgraph-checkpoint-postgres",
        servers.postgres,
        _postgres,
    ),
    Column(
        "sqlite",
        "LangGraph's SQLite saver, on disk",
        "langgraph-checkpoint-sqlite",
        servers.sqlite,
        _sqlite,
    ),
    Column(
        "floor",
        "one SET or MGET of whole values, with LangGraph's serializer",
        _BASE,
        servers.plain_redis,
        _floor(serializes=True),
        is_floor=True,
    ),
    Column(
        "bare",
        "the same bytes without a serializer",
        "redis",
        servers.plain_redis,
        _floor(serializes=False),
        is_floor=True,
        is_checked=False,
    ),
)
