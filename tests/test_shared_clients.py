"""Clients as applications have them: shared by savers, with caches, replicas or many servers."""

from __future__ import annotations

import asyncio
import gc
import time
import warnings
from asyncio import AbstractEventLoop
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from typing import Any

import pytest
import redis
import redis.asyncio
from redis.cache import CacheConfig

from langgraph_checkpoint_redis import AsyncRedisSaver, ConfigError, RedisSaver

from .counting import cost
from .driving import Saver
from .servers import Cluster, has_link, running_cluster, running_node, wait_until
from .story import chat, thread, use

SaverOn = Callable[..., Saver]

CONNECTIONS, CALLS = 4, 40


# Sharing


def test_savers_on_one_client_share_its_connections(server: str, prefix: str) -> None:
    """With a saver for each tenant, calls would fail under load: too many connections."""
    with redis.Redis.from_url(server, max_connections=CONNECTIONS) as client:
        savers = [RedisSaver(client, prefix=f"{prefix}:{number}") for number in range(3)]
        savers.append(copy(savers[0]))
        with redis.Redis.from_url(server) as admin, ThreadPoolExecutor(CALLS) as threads:
            admin.execute_command("CLIENT", "PAUSE", "200", "ALL")
            calls = [savers[number % 4].get_tuple for number in range(CALLS)]
            found = [*threads.map(lambda call: call(thread("a")), calls)]
    assert found == [None] * CALLS


async def test_savers_on_one_client_share_its_connections_awaited(server: str, prefix: str) -> None:
    """The same for tasks."""
    async with (
        redis.asyncio.Redis.from_url(server, max_connections=CONNECTIONS) as client,
        redis.asyncio.Redis.from_url(server) as admin,
    ):
        savers = [AsyncRedisSaver(client, prefix=f"{prefix}:{number}") for number in range(3)]
        savers.append(copy(savers[0]))
        await admin.execute_command("CLIENT", "PAUSE", "200", "ALL")
        calls = [savers[number % 4].aget_tuple(thread("a")) for number in range(CALLS)]
        assert await asyncio.gather(*calls) == [None] * CALLS


class ManyServers:
    """The interface of redis-py's `MultiDBClient`, with one server: neither pool nor pipelines."""

    def __init__(self, url: str) -> None:
        self._client = redis.Redis.from_url(url)
        self.scan_iter = self._client.scan_iter
        self.close = self._client.close

    def execute_command(self, *args: Any, **options: Any) -> Any:
        return self._client.execute_command(*args, **options)


class AsyncManyServers:
    """The same, awaited."""

    def __init__(self, url: str) -> None:
        self._client = redis.asyncio.Redis.from_url(url)
        self.scan_iter = self._client.scan_iter
        self.close = self._client.aclose

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        return await self._client.execute_command(*args, **options)


@pytest.fixture
def many_servers(kind: str, server: str, loop: AbstractEventLoop) -> Iterator[Any]:
    client: Any = (ManyServers if kind == "sync" else AsyncManyServers)(server)
    yield client
    closing = client.close()
    if closing is not None:
        loop.run_until_complete(closing)


def test_a_client_that_has_no_pool_will_do(
    saver_on: SaverOn, many_servers: Any, prefix: str
) -> None:
    """Who has databases in several regions could not use a saver."""
    use(saver_on(many_servers, prefix=prefix))


def test_a_client_that_cannot_wait_refuses_to_confirm(
    saver_on: SaverOn, many_servers: Any, prefix: str
) -> None:
    """Another server than the one that has written would be asked whether it is safe."""
    saver = saver_on(many_servers, prefix=prefix, confirm={"replicas": 1})
    with pytest.raises(ConfigError, match="confirm needs a client of one server"):
        saver.put(thread("a"), *chat(1))
    assert saver.get_tuple(thread("a")) is None


def test_a_client_of_replicas_is_refused(saver_on: SaverOn, kind: str) -> None:
    """Reads would miss what was just written, and writes would fail."""
    of: Any = redis if kind == "sync" else redis.asyncio
    client = of.Sentinel([("127.0.0.1", 1)]).slave_for("chats")
    with pytest.raises(ConfigError, match="master_for"):
        saver_on(client)


# Where answers come from


def test_a_client_with_a_cache_is_asked_past_it(server: str, prefix: str) -> None:
    """Calls would fail, or be answered with what was there before."""
    with redis.Redis.from_url(server) as plain:
        info = plain.info("server")
    version = [int(part) for part in str(info["redis_version"]).split(".")[:2]]
    client = redis.Redis.from_url(server, protocol=3, cache_config=CacheConfig())
    if "valkey_version" in info or version < [7, 4]:
        with pytest.raises(redis.ConnectionError):  # redis-py has no cache for these
            client.ping()
        client.close()
        return
    saver = RedisSaver(client, prefix=prefix)
    use(saver)
    checkpoint, metadata, versions = chat(1)
    checkpoint["channel_values"]["c"] = [f"{number:600}" for number in range(700)]
    saver.put(thread("a"), checkpoint, metadata, versions)
    assert RedisSaver(client, prefix=prefix).get_tuple(thread("a")) == saver.get_tuple(thread("a"))
    saver.copy_thread("a", "b")
    saver.delete_for_runs(["run 1"])
    assert saver.get_tuple(thread("a")) is None
    client.close()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A cluster whose replicas have lost their primaries, and stay as they were: empty."""
    with running_cluster(primaries=3, replicas=3) as cluster:
        for replica in cluster.replicas:
            replica.config_set("masteruser", "nobody")
            replica.config_set("masterauth", "wrong")
        for primary in cluster.primaries:
            primary.execute_command("CLIENT", "KILL", "TYPE", "replica")
        wait_until(lambda: not any(map(has_link, cluster.replicas)), "the replicas stay")
        yield cluster


@pytest.mark.filterwarnings("ignore:.*read_from_replicas")  # has another name from 5.3 on
def test_what_decides_is_never_read_from_a_replica(
    cluster: Cluster, kind: str, loop: AbstractEventLoop, saver_on: SaverOn
) -> None:
    """Runs would be reported as deleted that are still there."""
    of: Any = redis if kind == "sync" else redis.asyncio
    port = cluster.url().split(",")[0].rsplit(":", 1)[1]
    client = of.RedisCluster(host="127.0.0.1", port=int(port), read_from_replicas=True)
    saver, other = saver_on(client), saver_on(cluster.url())
    for number in range(12):
        saver.put(thread(str(number)), *chat(number))
        saver.delete_for_runs([f"run {number}"])
        assert other.get_tuple(thread(str(number))) is None
    saver.put(thread("a"), *chat(1))
    assert len([*saver.list_threads()]) == 1
    saver.copy_thread("a", "b")
    assert saver.get_tuple(thread("b"))
    if kind == "sync":
        client.close()
    else:
        loop.run_until_complete(client.aclose())


# Connections that are idle, and loops that nobody closes


def test_an_idle_connection_is_tried_before_it_is_used(saver_on: SaverOn) -> None:
    """Behind a firewall that forgets, the first turn after a pause would wait for its time-out."""
    with running_node() as url, redis.Redis.from_url(url) as client:
        saver = saver_on(f"{url}?health_check_interval=1")
        saver.get_tuple(thread("a"))
        time.sleep(1.2)
        pings = [
            cost(client, lambda: saver.get_tuple(thread("a"))).commands.get("ping", 0)
            for _ in range(2)
        ]
        assert pings == [1, 0]


def test_event_loops_that_nobody_closes_keep_no_connections(
    server: str, client: redis.Redis, prefix: str
) -> None:
    """A worker that makes a loop for each task would run out of connections and files."""
    saver = AsyncRedisSaver(server, prefix=prefix)

    def connections() -> int:
        return int(client.info("clients")["connected_clients"])

    before = connections()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # asyncio's, of such loops
        for _ in range(20):
            loop = asyncio.new_event_loop()
            loop.run_until_complete(saver.aget_tuple(thread("a")))
            del loop
        gc.collect()
        wait_until(lambda: connections() <= before + 2, "connections stay open")
    saver.close()
