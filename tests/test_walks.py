"""Walks over all threads are complete, and one thread does not stop them."""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from copy import copy
from itertools import islice
from pathlib import Path
from typing import Any, cast

import pytest
import redis
import redis.asyncio
from langgraph.checkpoint.conformance.test_utils import generate_checkpoint
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ConstantBackoff
from redis.crc import key_slot
from redis.exceptions import ClusterDownError
from redis.retry import Retry

from langgraph_checkpoint_redis import (
    ConfigError,
    CorruptThreadError,
    RedisSaver,
    ThreadLeasedError,
    ThreadsError,
)
from langgraph_checkpoint_redis._admin.walks import NodeState, list_settled, node_state
from langgraph_checkpoint_redis._storage.keys import Keyspace
from tests.local_server import running_server

from .commanding import Run
from .driving import Saver
from .servers import (
    SLOTS,
    Cluster,
    Restarting,
    address,
    any_binary,
    is_formed,
    kill,
    node_id,
    running_cluster,
    running_node,
    running_sentinels,
    wait_until,
)
from .story import thread

ON_ONE_SERVER = True  # what the tests start is of the first server

SaverOn = Callable[..., Saver]
LASTING = ("--appendonly", "yes", "--appendfsync", "always")
THREADS = 8000


def fill(client: Any, count: int = THREADS) -> set[str]:
    """Store so many threads, as far as a walk over their ids can see."""
    ids = {str(number) for number in range(count)}
    with client.pipeline() as pipeline:
        for thread_id in ids:
            pipeline.zadd(Keyspace("lg").thread(thread_id).timeline.decode(), {b"\0id\0x": 0})
        pipeline.execute()
    return ids


def walk_while(saver: Saver, happens: Callable[[], object], after: int = 1500) -> set[str]:
    """Walk over all threads; something happens in the middle."""
    walk = iter(saver.list_threads())
    found = [*islice(walk, after)]
    happens()
    found += walk
    assert len(found) == len({*found})
    return {*found}


@pytest.fixture(params=["url", "client"])
def made_on(
    request: pytest.FixtureRequest, kind: str, saver_on: SaverOn, loop: AbstractEventLoop
) -> Iterator[SaverOn]:
    """Makes savers by URL, and with a client, which connects again by itself."""
    if request.param == "url":
        yield saver_on
        return
    of: Any = redis if kind == "sync" else redis.asyncio
    retry: Any = Retry if kind == "sync" else AsyncRetry
    made: list[Any] = []

    def on_client(url: str) -> Saver:
        made.append(of.Redis.from_url(url, retry=retry(ConstantBackoff(0.1), 50)))
        return saver_on(made[-1])

    yield on_client
    for client in made:
        if kind == "sync":
            client.close()
        else:
            loop.run_until_complete(client.aclose())


def test_a_walk_begins_again_when_its_server_was_restarted(
    made_on: SaverOn, tmp_path: Path
) -> None:
    """Migrations, exports and prunings would miss a fifth of the threads after a restart."""
    with (
        closing(Restarting("--dir", str(tmp_path), *LASTING)) as server,
        redis.Redis.from_url(server.url) as client,
    ):
        expected = fill(client)
        saver = made_on(server.url)

        def restart() -> None:
            server.restart_in(0).join()
            saver.get_tuple(thread("another call"))  # it may meet the failure before the walk

        assert walk_while(saver, restart) == expected


@pytest.mark.slow
def test_a_walk_begins_again_after_a_failover(saver_on: SaverOn) -> None:
    """A replica that takes over would be asked with the cursor of the lost primary."""
    with running_sentinels() as watched:
        expected = fill(watched.servers[0])
        watched.servers[0].wait(2, 5000)
        saver = saver_on(watched.url)

        def fail_over() -> None:
            sentinel = redis.Redis(*watched.sentinels[0])
            with closing(sentinel):
                sentinel.execute_command("SENTINEL FAILOVER", "chats")
            primary = watched.servers[0]
            wait_until(lambda: primary.info("replication")["role"] == "slave", "no failover")

        assert walk_while(saver, fail_over) == expected


def test_walks_leave_no_more_than_one_script_on_a_server(saver_on: SaverOn) -> None:
    """A server that is walked over each minute would fill with scripts."""
    with running_server(any_binary()) as url, redis.Redis.from_url(url) as client:
        fill(client, 10)
        saver = saver_on(url)
        assert len([*saver.list_threads()]) == 10
        known = client.info("memory")["number_of_cached_scripts"]
        for _ in range(5):
            assert len([*saver.list_threads()]) == 10
        assert client.info("memory")["number_of_cached_scripts"] <= known + 1


# One thread of many


def store(saver: Saver, ids: Iterable[str], turns: int = 2) -> None:
    for thread_id in ids:
        for _ in range(turns):
            saver.put(thread(thread_id, checkpoint_ns=""), generate_checkpoint(), {}, {})


def damage(client: redis.Redis, prefix: str, thread_id: str) -> None:
    """Alter the row of the latest checkpoint."""
    key = Keyspace(prefix).thread(thread_id).timeline
    (row,) = cast("list[bytes]", client.zrange(key, -1, -1))
    client.zrem(key, row)
    client.zadd(key, {row[:-9] + b"?" + row[-8:]: 0})


IDS = [f"t{number:03}" for number in range(250)]  # more than go together


def test_a_leased_thread_does_not_stop_the_pruning_of_others(
    saver: Saver, client: redis.Redis, prefix: str
) -> None:
    """One run that goes on at night would keep all threads from being pruned."""
    store(saver, IDS)
    seen: list[int] = []
    with (
        RedisSaver(client, prefix=prefix).lease("t100"),
        pytest.raises(ThreadsError, match="'t100'") as failed,
    ):
        saver.prune_threads(keep_last=1, progress=seen.append)
    assert [*failed.value.failures] == ["t100"]
    assert isinstance(failed.value.failures["t100"], ThreadLeasedError)
    assert failed.value.result == len(IDS) - 1
    assert seen == [*range(1, len(IDS) + 1)]
    copied = copy(failed.value)
    assert (copied.failures, copied.result) == (failed.value.failures, failed.value.result)
    assert saver.stats().checkpoints == len(IDS) + 1
    assert saver.prune_threads(keep_last=1) == 1


def test_a_damaged_thread_does_not_stop_what_is_done_with_others(
    saver: Saver, client: redis.Redis, prefix: str
) -> None:
    """One lost bit would end every listing, every sum and every night's pruning."""
    store(saver, IDS)
    damage(client, prefix, "t100")
    client.zadd(Keyspace(prefix).thread("t200").timeline, {b"no row": 0})
    assert {*saver.list_threads()} == {*IDS}
    stats = saver.stats()
    assert (stats.threads, {*stats.damaged}) == (len(IDS), {"t100", "t200"})
    assert stats.checkpoints == 2 * (len(IDS) - 2)
    assert all(isinstance(each, CorruptThreadError) for each in stats.damaged.values())
    listed: list[str] = []
    found = (each.config["configurable"]["thread_id"] for each in saver.list(None))
    with pytest.raises(ThreadsError) as failed:
        listed.extend(found)
    assert {*failed.value.failures} == {"t100", "t200"}
    assert "langgraph-redis repair" in str(failed.value.failures["t100"])
    assert "langgraph-redis repair" not in str(failed.value)  # it would be there once for each
    assert {*IDS} >= {*listed} >= {*IDS} - {"t100", "t200"}
    with pytest.raises(ThreadsError) as failed:
        saver.prune_threads(keep_last=1)
    assert failed.value.result == len(IDS) - 2
    with pytest.raises(ThreadsError) as failed:
        [*saver.list_threads(idle=3e8)]
    assert {*failed.value.failures} == {"t200"}


def test_a_server_that_refuses_all_is_no_fault_of_threads(
    saver: Saver, client: redis.Redis, prefix: str
) -> None:
    """A server without memory would be asked for each of a million threads."""
    store(saver, IDS)
    client.config_set("maxmemory", 1)
    try:
        with pytest.raises(redis.ResponseError):
            saver.put(thread("other", checkpoint_ns=""), generate_checkpoint(), {}, {})
        assert saver.prune_threads(keep_last=1) == len(IDS)
    finally:
        client.config_set("maxmemory", 0)
    user = f"user-{prefix}"
    client.execute_command(
        "ACL SETUSER", user, "on", ">secret", f"~{prefix}:*", "+@all", "-zrange", "-zrangebylex"
    )
    try:
        with RedisSaver.from_conn_string(_as_user(client, user), prefix=prefix) as denied:
            with pytest.raises(redis.ResponseError) as refused:
                denied.prune_threads(keep_last=1)
            with pytest.raises(redis.ResponseError):
                denied.stats()
        assert not isinstance(refused.value, ThreadsError)
    finally:
        client.execute_command("ACL DELUSER", user)


def _as_user(client: redis.Redis, user: str) -> str:
    host, port = address(client)
    return f"redis://{user}:secret@{host}:{port}"


def test_a_listing_of_a_few_does_not_walk_over_all(saver: Saver, client: redis.Redis) -> None:
    """A look at ten checkpoints would take as long as a million threads do."""
    store(saver, IDS[:30], 1)
    ids = fill(client)
    try:
        before = client.info("commandstats")["cmdstat_scan"]["calls"]
        assert len([*saver.list(None, limit=10)]) == 10
        assert [*saver.list(None, limit=0)] == []
        calls = client.info("commandstats")["cmdstat_scan"]["calls"] - before
        assert calls <= client.dbsize() // 1000 + 1
    finally:
        client.unlink(*[Keyspace("lg").thread(thread_id).timeline for thread_id in ids])


def test_commands_tell_of_threads_that_failed_and_go_on(
    run: Run, client: redis.Redis, prefix: str
) -> None:
    """A job at night would succeed for ever, or do nothing, because of one thread."""
    saver = RedisSaver(client, prefix=prefix)
    store(saver, IDS)
    damage(client, prefix, "t100")
    with saver.lease("t050"):
        done = run("prune", "--keep-last", "1", "--yes")
    assert done.code == 1
    assert f"{len(IDS) - 2} shortened" in done.out
    assert {word.strip("':,") for word in done.err.split()} >= {"t050", "t100"}
    for words in (["stats"], ["threads", "--limit", "0"]):
        told = run(*words)
        assert told.code == 1
        assert "t100" in told.err
        assert told.out
    head = Keyspace(prefix).thread("t010").timeline
    client.unlink(head)
    client.lpush(head, "of another program")
    client.zadd(Keyspace(prefix).thread("t010").writes, {b"x": 0})
    looked = run("verify")
    assert looked.code == 1
    assert "t010" in looked.err
    assert "1 lost" in looked.out


# Clusters


class Slots:
    """The slots of a cluster's primaries, and where they are now."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._away: dict[int, int] = {}

    def place(self, slot: int) -> int:
        """The number of the primary that has a slot."""
        return self._away.get(slot, slot // -(-SLOTS // 3))

    def open(self, slot: int, target: int) -> None:
        """Begin to move a slot."""
        one, other = self.cluster.primaries[self.place(slot)], self.cluster.primaries[target]
        other.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", node_id(one))
        one.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", node_id(other))

    def move_keys(self, slot: int, target: int) -> None:
        """Move all keys of an open slot."""
        one, other = self.cluster.primaries[self.place(slot)], self.cluster.primaries[target]
        while keys := one.execute_command("CLUSTER GETKEYSINSLOT", slot, 1000):
            one.migrate(*address(other), keys, 0, 5000)

    def close(self, slot: int, target: int) -> None:
        """Give a slot to a primary, as all are told."""
        one, other = self.cluster.primaries[self.place(slot)], self.cluster.primaries[target]
        for node in (other, one, *self.cluster.primaries):
            node.execute_command("CLUSTER SETSLOT", slot, "NODE", node_id(other))
        self._away[slot] = target

    def move(self, slot: int, target: int) -> None:
        """Move a slot as redis-cli does."""
        if self.place(slot) != target:
            self.open(slot, target)
            self.move_keys(slot, target)
            self.close(slot, target)

    def restore(self) -> None:
        """Move all back."""
        for slot in [*self._away]:
            self.move(slot, slot // -(-SLOTS // 3))


@pytest.fixture(scope="module")
def started() -> Iterator[Cluster]:
    """Three primaries."""
    with running_cluster() as cluster:
        yield cluster


@pytest.fixture
def slots(started: Cluster) -> Iterator[Slots]:
    """The slots of a cluster that is empty; they are where they were when it started."""
    slots = Slots(started)
    yield slots
    slots.restore()
    for node in started.primaries:
        node.flushall()


@pytest.fixture
def threads(slots: Slots) -> set[str]:
    """Many threads on all nodes."""
    address_ = address(slots.cluster.primaries[0])
    with closing(redis.RedisCluster(*address_)) as client:
        return fill(client, THREADS)


def used_slots(threads: set[str], count: int) -> list[int]:
    """Slots of threads, on all nodes."""
    return sorted({key_slot(thread_id.encode()) for thread_id in threads})[:: THREADS // count]


@pytest.mark.parametrize("comes_back", [False, True])
def test_a_walk_misses_nothing_when_slots_move(
    slots: Slots, threads: set[str], saver_on: SaverOn, *, comes_back: bool
) -> None:
    """Threads that move while a cluster grows would be neither migrated nor pruned."""
    moved = used_slots(threads, 100)

    def happens() -> None:
        homes = {slot: slots.place(slot) for slot in moved}
        for slot in moved:
            slots.move(slot, (homes[slot] + 1) % 3)
        for slot in moved if comes_back else ():
            slots.move(slot, homes[slot])

    assert walk_while(saver_on(slots.cluster.url()), happens) == threads


@pytest.mark.parametrize("done", ["before", "meanwhile"])
def test_a_slot_that_stays_open_does_not_hide_its_threads(
    slots: Slots, threads: set[str], saver_on: SaverOn, done: str
) -> None:
    """A move that was given up half way would hide threads, or keep walks from ending."""
    moved = used_slots(threads, 20)
    targets = {slot: (slots.place(slot) + 1) % 3 for slot in moved}
    for slot in moved:
        slots.open(slot, targets[slot])

    def move_keys() -> None:
        for slot in moved:
            slots.move_keys(slot, targets[slot])

    if done == "before":
        move_keys()
    found = walk_while(saver_on(slots.cluster.url()), move_keys)
    for slot in moved:
        slots.close(slot, targets[slot])
    assert found == threads


def url_of(node: redis.Redis) -> str:
    """The URL of one server, be it a node of a cluster."""
    return "redis://{}:{}".format(*address(node))


WALKS: dict[str, Callable[[Saver], object]] = {
    "list": lambda saver: next(saver.list(None, limit=1), None),
    "list_threads": lambda saver: next(saver.list_threads(), None),
    "stats": lambda saver: saver.stats(),
    "prune_threads": lambda saver: saver.prune_threads(keep_last=1),
}


@pytest.mark.parametrize("walk", WALKS.values(), ids=WALKS)
def test_a_walk_over_one_node_of_a_larger_cluster_is_an_error(
    made_on: SaverOn, slots: Slots, walk: Callable[[Saver], object]
) -> None:
    """An export, or a sum, would lack the threads of all other nodes without a word."""
    saver = made_on(url_of(slots.cluster.primaries[1]))
    with pytest.raises(ConfigError, match=r"redis\+cluster://.* or pass a RedisCluster client"):
        walk(saver)


@pytest.mark.parametrize(
    "words",
    [
        ["threads"],
        ["stats"],
        ["verify"],
        ["prune", "--keep-last", "1", "--yes"],
        ["export", "-"],
        ["migrate", "URL", "URL"],
    ],
    ids=lambda words: words[0],
)
def test_a_command_on_one_node_of_a_larger_cluster_is_an_error(
    run: Run, slots: Slots, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    """Whoever looks after threads would see, move or prune a part of them."""
    url = url_of(slots.cluster.primaries[2])
    monkeypatch.setenv("REDIS_URL", url)
    done = run(*[url if word == "URL" else word for word in words])
    assert done.code == 2
    assert done.err.startswith("langgraph-redis: the server is one node of a cluster")
    assert done.err.count("\n") == 1


@contextmanager
def running_only_node() -> Iterator[redis.Redis]:
    """A cluster of one node, with a few threads."""
    with running_cluster(primaries=1) as cluster:
        (node,) = cluster.primaries
        with closing(redis.RedisCluster(*address(node))) as client:
            fill(client, len(FEW))
        yield node


FEW = {str(number) for number in range(3000)}


@pytest.fixture(scope="module")
def only_node() -> Iterator[redis.Redis]:
    """The same; it stays alone."""
    with running_only_node() as node:
        yield node


@pytest.fixture(scope="module")
def two_nodes() -> Iterator[tuple[redis.Redis, redis.Redis]]:
    """The same, and a primary without slots."""
    settings = ("--cluster-enabled", "yes", "--cluster-allow-replica-migration", "no")
    with (
        running_only_node() as node,
        running_node(*settings) as url,
        redis.Redis.from_url(url) as empty,
    ):
        node.execute_command("CLUSTER MEET", *address(empty))
        wait_until(lambda: is_formed(node, 2) and is_formed(empty, 2), "they do not meet")
        yield node, empty


def move_slot(slot: int, source: redis.Redis, target: redis.Redis) -> None:
    """Move a slot between the only two nodes of a cluster."""
    target.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", node_id(source))
    source.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", node_id(target))
    while keys := source.execute_command("CLUSTER GETKEYSINSLOT", slot, 1000):
        source.migrate(*address(target), keys, 0, 5000)
    for node in (target, source):
        node.execute_command("CLUSTER SETSLOT", slot, "NODE", node_id(target))
    wait_until(lambda: epoch_of(source) == epoch_of(target), "a node has not heard of the move")


def epoch_of(node: redis.Redis) -> str:
    """The greatest epoch that a node of a cluster has heard of."""
    info: Any = node.execute_command("CLUSTER INFO")
    return str(info["cluster_current_epoch"])


def test_a_walk_over_the_only_node_of_a_cluster_is_complete(
    made_on: SaverOn, only_node: redis.Redis
) -> None:
    """Services that are a cluster of one node could not be used without a client for clusters."""
    saver = made_on(url_of(only_node))
    before = calls_of(only_node, "cluster|nodes", "cluster")
    assert {*saver.list_threads()} == FEW
    assert calls_of(only_node, "cluster|nodes", "cluster") - before == 2


def test_a_walk_over_the_only_node_with_slots_is_complete(
    made_on: SaverOn, two_nodes: tuple[redis.Redis, redis.Redis]
) -> None:
    """All nightly jobs would fail as soon as a second node has joined, and has no slots yet."""
    node, empty = two_nodes
    assert {*made_on(url_of(node)).list_threads()} == FEW
    with pytest.raises(ConfigError, match="other nodes"):
        [*made_on(url_of(empty)).list_threads()]


def calls_of(server: redis.Redis, *names: str) -> int:
    """How often a server was sent a command, whose name depends on the version."""
    stats = server.info("commandstats")
    found = (stats[f"cmdstat_{name}"]["calls"] for name in names if f"cmdstat_{name}" in stats)
    return next(found, 0)


@pytest.mark.parametrize("comes_back", [False, True])
def test_a_walk_notices_that_its_node_gives_away_a_slot(
    made_on: SaverOn, two_nodes: tuple[redis.Redis, redis.Redis], *, comes_back: bool
) -> None:
    """A walk that began before a cluster grew would miss the threads that have moved meanwhile."""
    node, empty = two_nodes
    slot, saver = key_slot(b"1"), made_on(url_of(node))

    def happens() -> None:
        move_slot(slot, node, empty)
        if comes_back:
            move_slot(slot, empty, node)

    if comes_back:
        assert walk_while(saver, happens) == FEW
    else:
        with pytest.raises(ConfigError, match="other nodes"):
            walk_while(saver, happens)
        move_slot(slot, empty, node)


def test_a_walk_notices_that_its_server_is_a_node_of_a_cluster_now(
    made_on: SaverOn, tmp_path: Path
) -> None:
    """A walk that began before a service was moved would miss what is on other nodes."""
    with (
        closing(Restarting("--dir", str(tmp_path), *LASTING)) as server,
        redis.Redis.from_url(server.url) as client,
    ):
        threads, saver = fill(client, 3000), made_on(server.url)

        def join_cluster() -> None:
            server._settings += ("--cluster-enabled", "yes")
            server.restart_in(0).join()
            if key_slot(b"a") not in {key_slot(each.encode()) for each in threads}:
                client.execute_command("CLUSTER ADDSLOTS", key_slot(b"a"))

        with pytest.raises(ConfigError, match="other nodes"):
            walk_while(saver, join_cluster)


def test_a_walk_over_a_server_costs_one_command_more_for_that(
    made_on: SaverOn, tmp_path: Path
) -> None:
    """Each page, or each thread, would cost a question about clusters."""
    with (
        closing(Restarting("--dir", str(tmp_path), *LASTING)) as server,
        redis.Redis.from_url(server.url) as client,
    ):
        expected = fill(client, 5000)
        saver = made_on(server.url)
        assert {*saver.list_threads()} == expected
        assert calls_of(client, "scan") >= 5
        assert calls_of(client, "exists") == 1
        assert calls_of(client, "cluster|nodes", "cluster") == 0
        server.restart_in(0).join()
        assert {*saver.list_threads()} == expected
        assert calls_of(client, "exists") == 1


@pytest.mark.slow
def test_a_walk_over_a_cluster_that_lacks_a_node_is_an_error(saver_on: SaverOn) -> None:
    """A cluster that is half away would look like one with fewer threads."""
    with running_cluster() as cluster:
        for node in cluster.primaries:
            node.config_set("cluster-require-full-coverage", "no")
        saver = saver_on(cluster.url())
        assert [*saver.list_threads()] == []
        kill(cluster.primaries[1])
        with pytest.raises((redis.ConnectionError, ClusterDownError)):
            next(saver.list_threads())


# What a node says, without a server


A, B = "a" * 40, "b" * 40


def state(
    node: str, slots: set[int], *, epoch: int = 1, is_same: bool = True, **open_: str
) -> NodeState:
    ways = {int(slot[1:]): way for slot, way in open_.items()}
    return NodeState(node, is_same, str(epoch), frozenset(slots), ways)


def look(*states: NodeState) -> dict[str, NodeState]:
    return {one.node_id: one for one in states}


def test_what_a_node_says_of_itself_is_read() -> None:
    """A slot that moves would not be noticed, as nodes of other versions say it in other words."""
    text = (
        f"{B} 127.0.0.1:7001@17001,,shard-id=x master - 0 1 2 connected 6-9\n"
        f"{A} 127.0.0.1:7000@17000,,shard-id=x myself,master - 0 1 7 connected 0-2 5 "
        f"[5->-{B}] [6-<-{B}]\n"
    )
    expected = NodeState(A, True, "7", frozenset({0, 1, 2, 5}), {5: f">-{B}", 6: f"<-{B}"})  # noqa: FBT003 - fields
    assert node_state(text.encode(), is_same=True) == expected


both = look(state(A, {1, 2}), state(B, {3}))


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (both, {1, 2, 3}),
        (look(state(A, {1}), state(B, {2, 3}, epoch=2)), {1}),
        (look(state(A, {1, 2}, epoch=2), state(B, {3})), {3}),
        (look(state(A, {1, 2}, is_same=False), state(B, {3})), {3}),
        (look(state(A, {1, 2}), state(B, {2, 3})), {1, 3}),
        (look(state(A, {1, 2}, s2=f">-{B}"), state(B, {3}, s2=f"<-{A}")), {1, 3}),
        (look(state(A, {1, 2})), {1, 2}),
    ],
)
def test_a_slot_is_done_if_nothing_happened_to_its_node(
    after: dict[str, NodeState], expected: set[int]
) -> None:
    """Keys that moved between two pages would be missed."""
    assert list_settled(both, after, [A, B]) == expected
    assert list_settled(both, after, [A]) == expected - {3}


def test_an_open_slot_is_done_if_both_nodes_were_scanned() -> None:
    """Keys that are on their way would be missed."""
    opened = look(state(A, {1}, s1=f">-{B}"), state(B, {3}, s1=f"<-{A}"))
    assert list_settled(opened, opened, [A, B]) == {1, 3}
    assert list_settled(opened, opened, [A]) == set()
