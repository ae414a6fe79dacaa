"""A cluster as real processes: the same savers, by URL and with the cluster's clients."""

from __future__ import annotations

import time
from asyncio import AbstractEventLoop
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from threading import Thread, Timer
from typing import Any

import pytest
import redis
import redis.asyncio
import valkey
import valkey.asyncio
from hypothesis import given
from hypothesis import strategies as st
from langgraph.checkpoint.base import Checkpoint, CheckpointMetadata, empty_checkpoint
from langgraph.checkpoint.base.id import uuid6
from redis.cluster import ClusterNode
from redis.crc import key_slot
from redis.exceptions import RedisClusterException

from langgraph_checkpoint_redis import (
    AsyncRedisSaver,
    ConfigError,
    Confirm,
    RedisSaver,
    ThreadExistsError,
    UnconfirmedError,
)
from langgraph_checkpoint_redis._storage.keys import Keyspace
from langgraph_checkpoint_redis._storage.keys import thread_id_of as found_thread_id
from langgraph_checkpoint_redis._transport.urls import Url

from .documented import COMMANDS, COMMANDS_OF_CLUSTERS, WAIT
from .driving import AwaitedSaver, Saver
from .forking import ran_with_locks_held
from .servers import SLOTS, Address, Cluster, address, node_id, running_cluster
from .story import chat, kill_soon, store, thread, use

SaverOn = Callable[..., Saver]


@pytest.fixture(scope="module")
def started() -> Iterator[Cluster]:
    """Three primaries, with a replica each."""
    with running_cluster(replicas=3) as cluster:
        yield cluster


@pytest.fixture
def running(started: Cluster) -> Cluster:
    """The cluster, empty."""
    for node in started.primaries:
        node.flushall()
    return started


@pytest.fixture
def cluster(running: Cluster) -> Address:
    """The address of a node."""
    return address(running.nodes[0])


@pytest.fixture
def saver_options() -> dict[str, Any]:
    """Further options of the saver; a test may be parametrized with others."""
    return {}


@pytest.fixture(params=["url", "redis-py", "valkey-py"])
def saver(
    request: pytest.FixtureRequest,
    running: Cluster,
    kind: str,
    loop: AbstractEventLoop,
    saver_on: SaverOn,
    saver_options: dict[str, Any],
) -> Iterator[Saver]:
    """A saver of either kind, made in either way, on an empty cluster."""
    with ExitStack() as stack:
        if request.param == "url":
            yield saver_on(running.url(), **saver_options)
        else:
            client = _client(request.param, running, kind, loop, stack)
            yield saver_on(client, **saver_options)


def _client(
    library: str, running: Cluster, kind: str, loop: AbstractEventLoop, stack: ExitStack
) -> Any:
    of: Any = {"redis-py": redis, "valkey-py": valkey}[library]
    of = of if kind == "sync" else of.asyncio
    client_class = of.RedisCluster if library == "redis-py" else of.ValkeyCluster
    client = client_class(startup_nodes=[of.cluster.ClusterNode(*address(running.nodes[0]))])
    if kind == "sync":
        stack.callback(client.close)
    else:
        stack.callback(lambda: loop.run_until_complete(client.aclose()))
    return client


def _put(saver: Saver, thread_id: str, run_id: str = "run", text: str = "hi") -> None:
    checkpoint: Checkpoint = empty_checkpoint()
    version = saver.get_next_version(None, None)
    checkpoint["id"] = str(uuid6())
    checkpoint["channel_values"] = {"messages": [text * 300, text * 400]}
    checkpoint["channel_versions"] = {"messages": version}
    metadata: CheckpointMetadata = {"source": "loop", "step": 1, "parents": {}, "run_id": run_id}
    config = saver.put(
        {"configurable": {"thread_id": thread_id, "checkpoint_ns": ""}},
        checkpoint,
        metadata,
        {"messages": version},
    )
    saver.put_writes(config, [("messages", text)], "task")


def _values(saver: Saver, thread_id: str) -> object:
    found = saver.get_tuple({"configurable": {"thread_id": thread_id}})
    return found and found.checkpoint["channel_values"]


def _in_two_slots() -> tuple[str, str]:
    ids = [f"thread {number}" for number in range(2)]
    slots = {key_slot(thread_id.encode()) for thread_id in ids}
    assert len(slots) == 2
    return ids[0], ids[1]


def test_threads_of_all_nodes_are_written_read_and_listed(saver: Saver) -> None:
    """A user who outgrows one server could not move to a cluster."""
    ids = [f"thread-{number}" for number in range(30)]
    for thread_id in ids:
        _put(saver, thread_id)
    assert all(_values(saver, thread_id) for thread_id in ids)
    listed = [found.config["configurable"]["thread_id"] for found in saver.list(None)]
    assert sorted(listed) == sorted(ids)
    saver.setup()


def test_a_thread_is_copied_to_another_slot_complete_or_not_at_all(saver: Saver) -> None:
    """Copies would fail, or lose a part, wherever the target is on another node."""
    source, target = _in_two_slots()
    _put(saver, source)
    saver.copy_thread(source, target)
    assert _values(saver, target) == _values(saver, source)
    with pytest.raises(ThreadExistsError):
        saver.copy_thread(source, target)


def test_a_large_thread_is_copied_to_another_node_in_parts(saver: Saver) -> None:
    """A copy would stop two nodes, or fail where a thread does not fit into one reply."""
    source, target = _in_two_slots()
    for number in range(3):
        _put(saver, source, f"run {number}", text=f"{number} {'large' * 500}")
    saver.copy_thread(source, target)
    assert [one.checkpoint for one in saver.list(thread(target))] == [
        one.checkpoint for one in saver.list(thread(source))
    ]
    assert saver.verify(target) == []
    saver.delete_for_runs([f"run {number}" for number in range(3)])
    assert [*saver.list(None)] == []


def test_runs_are_deleted_on_all_nodes(saver: Saver) -> None:
    """What a run left would stay on the nodes that the index of runs is not on."""
    ids = [f"thread-{number}" for number in range(10)]
    for thread_id in ids:
        _put(saver, thread_id, "gone")
        _put(saver, thread_id, "kept")
    saver.delete_for_runs(["gone"])
    left = [found.metadata["run_id"] for found in saver.list(None)]
    assert left == ["kept"] * 10


def test_threads_of_all_nodes_are_seen_and_pruned(saver: Saver) -> None:
    """Operators would see a part of what is stored, and not know it."""
    ids = [f"thread-{number}" for number in range(30)]
    for thread_id in ids:
        _put(saver, thread_id)
        _put(saver, thread_id)
    assert sorted(saver.list_threads()) == sorted(ids)
    infos = [saver.thread_info(thread_id) for thread_id in ids]
    stats = saver.stats()
    assert (stats.threads, stats.checkpoints, stats.pending_writes) == (30, 60, 60)
    assert stats.bytes == sum(info.bytes or 0 for info in infos if info)
    assert saver.verify(ids[0]) == saver.repair(ids[0]) == []
    assert saver.prune_threads(keep_last=1) == 30
    assert saver.prune_threads(idle=1e-6, prefix="thread-1") == 11
    assert saver.stats().checkpoints == 19


def test_pruning_and_deleting_leave_nothing_behind(saver: Saver, cluster: Address) -> None:
    """Keys would pile up on some node."""
    ids = [f"thread-{number}" for number in range(10)]
    for thread_id in ids:
        _put(saver, thread_id, text="one")
        _put(saver, thread_id, text="two")
    saver.prune(ids)
    assert len(list(saver.list(None))) == 10
    for thread_id in ids:
        saver.delete_thread(thread_id)
    with redis.RedisCluster(startup_nodes=[ClusterNode(*cluster)]) as client:
        assert not list(client.scan_iter(match="*"))


def test_every_operation_works(saver: Saver) -> None:
    """Something would fail on a cluster that works on a single server."""
    use(saver)


def test_a_url_needs_one_node_that_answers(
    running: Cluster, saver_on: Callable[..., Saver]
) -> None:
    """A node that is away would keep programs from starting."""
    here = running.url().removeprefix("redis+cluster://")
    use(saver_on(f"redis+cluster://127.0.0.1:1,{here}?socket_timeout=2"))


def test_threads_that_begin_at_once_share_a_client(
    running: Cluster, saver_on: SaverOn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client too many would be closed under those who use it, as soon as it is collected."""
    made: list[Any] = []

    def slow(*args: Any) -> Any:
        time.sleep(0.05)  # so that all are here
        made.append(client(*args))
        return made[-1]

    client = Url.client
    monkeypatch.setattr(Url, "client", slow)
    store(saver_on(running.url()), range(16))
    assert len(made) == 1


def test_a_process_may_fork_while_another_thread_holds_the_locks_of_a_client(
    cluster: Address, kind: str
) -> None:
    """The client of a cluster has locks for itself and each node, and they stay locked."""
    host, port = cluster
    client = f"of.RedisCluster(host={host!r}, port={port})"
    valkey = (
        f"valkey{'' if kind == 'sync' else '.asyncio'}.ValkeyCluster(host={host!r}, port={port})"
    )
    replicas = f"of.RedisCluster(host={host!r}, port={port}, read_from_replicas=True)"
    assert ran_with_locks_held("", "fork", kind, client, valkey, replicas) == "done"


def test_nothing_is_sent_when_a_saver_is_made(saver_on: SaverOn) -> None:
    """Programs could not be imported while a cluster is away."""
    saver_on("redis+cluster://127.0.0.1:1")


def test_a_user_with_the_documented_commands_may_do_all_that_savers_do(
    running: Cluster, saver_on: SaverOn
) -> None:
    """Who sets up a user by our documentation could not use a cluster."""
    use(saver_on(_limited_url(running)))


def test_wrong_credentials_are_an_error_at_once(running: Cluster, saver_on: SaverOn) -> None:
    """A typing error in a password would look like a cluster that is away."""
    start = time.monotonic()
    with pytest.raises(RedisClusterException, match=r"(?i)invalid username-password"):
        saver_on(running.url().replace("//", "//nobody:wrong@")).get_tuple(thread("a"))
    assert time.monotonic() - start < 2


def test_connections_say_who_they_are(running: Cluster, saver_on: SaverOn) -> None:
    """Whoever looks for what keeps a cluster busy could not tell our connections from others."""
    saver_on(running.url()).get_tuple(thread("a"))
    found = [client.get("lib-name", "") for node in running.nodes for client in node.client_list()]
    assert not any(found) or any("langgraph-checkpoint-redis-core_v" in name for name in found)


def _limited_url(cluster: Cluster) -> str:
    """For a user who may do what is documented, and no more."""
    rules = [*(f"+{command}" for command in COMMANDS), *COMMANDS_OF_CLUSTERS, WAIT]
    for node in cluster.nodes:
        node.execute_command("ACL SETUSER", "chats", "on", ">secret", "~lg:*", "-@all", *rules)
    return cluster.url().replace("//", "//chats:secret@")


# Slots, without a server


@given(st.text(min_size=1).filter(lambda text: text.isprintable()))
def test_all_keys_of_a_thread_are_in_one_slot(thread_id: str) -> None:
    """Some threads, by their names, could not be stored on a cluster at all."""
    keyspace = Keyspace("lg")
    keys = (*keyspace.thread(thread_id), keyspace.copy_mark(thread_id))
    assert len({key_slot(key) for key in keys}) == 1
    assert found_thread_id(keys[0].decode()) == thread_id


def test_threads_are_spread_evenly() -> None:
    """Some node would be full, and busy, long before the others."""
    keys = [Keyspace("lg").thread(str(uuid6())).timeline for _ in range(10_000)]
    nodes = Counter(key_slot(key) * 3 // SLOTS for key in keys)
    assert all(3_100 < count < 3_600 for count in nodes.values())  # 5 deviations from a third


# Failures


@pytest.mark.slow
def test_runs_go_on_when_a_primary_is_killed(saver_on: SaverOn) -> None:
    """The loss of a machine would fail the runs on it, or lose what they had stored."""
    with running_cluster(replicas=3) as cluster:
        saver = saver_on(cluster.url())
        before, after = range(30), range(30, 90)
        store(saver, before)
        for node, slot_key in zip(cluster.primaries, _a_key_of_each_third(), strict=True):
            node.set(slot_key, 1)
            assert node.wait(1, 5000) == 1  # what came before it is on the replica, too
        is_alive = kill_soon(cluster.primaries[0])
        while is_alive():
            store(saver, range(100, 130))
        store(saver, after)
        _assert_all_there(saver, [*before, *after])
        assert {*saver.list_threads()} >= {str(number) for number in (*before, *after)}
        saver.delete_for_runs([f"run {number}" for number in before])
        left = {found.metadata["run_id"] for found in saver.list(None)}
        assert left >= {f"run {number}" for number in after}
        assert not left & {f"run {number}" for number in before}


def _a_key_of_each_third() -> list[str]:
    found: dict[int, str] = {}
    for number in range(1000):
        found.setdefault(key_slot(str(number).encode()) // -(-SLOTS // 3), str(number))
    return [found[third] for third in range(3)]


def _assert_all_there(saver: Saver, numbers: list[int]) -> None:
    for number in numbers:
        found = saver.get_tuple(thread(str(number)))
        assert found
        assert found.checkpoint["channel_values"]["c"][4] == f"{number} {4:600}"


@pytest.mark.parametrize("saver_options", [{"confirm": Confirm(replicas=1, timeout=3)}])
def test_a_confirmed_write_is_on_the_replica(saver: Saver, running: Cluster) -> None:
    """A cluster that loses a machine would take back what a person has been told."""
    for number in range(20):
        _put(saver, f"t{number}", run_id=f"run {number}")
    stored = [key for node in running.replicas for key in node.keys("lg:*:timeline")]
    assert len(stored) == 20  # as replicas tell it, right away
    indexed = [key for node in running.replicas for key in node.keys("lg:run:*")]
    assert len(indexed) == 20


@pytest.mark.parametrize("saver_options", [{"confirm": Confirm(replicas=2, timeout=0.2)}])
def test_what_a_cluster_cannot_confirm_is_told(saver: Saver) -> None:
    """A write that may be lost would look like one that is safe."""
    with pytest.raises(UnconfirmedError, match="on 1 of 2 replicas"):
        _put(saver, "a")


def test_a_confirmed_write_waits_for_a_node_that_is_new(
    running: Cluster, saver_on: SaverOn
) -> None:
    """While a cluster grows, careful runs whose threads move to the new node would fail."""
    key = Keyspace("lg").thread("a")[0]
    slot = key_slot(key)
    source = _owner(running, slot)
    target = next(node for node in running.primaries if address(node) != address(source))
    saver = saver_on(running.url(), confirm=Confirm(replicas=1))
    saver.get_tuple(thread("a"))
    gone = _client_of(saver).nodes_manager.nodes_cache.pop("{}:{}".format(*address(target)))
    if isinstance(saver, AwaitedSaver):
        saver.loop.run_until_complete(gone.disconnect())
    target.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", node_id(source))
    source.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", node_id(target))

    def end() -> None:
        for node in (source, target):
            node.execute_command("CLUSTER SETSLOT", slot, "STABLE")

    ending = Timer(0.3, end)
    ending.start()
    try:
        saver.put(thread("a"), *chat(1))
    finally:
        ending.join()


def _client_of(saver: Any) -> Any:
    if isinstance(saver, RedisSaver):
        return saver._connections.link.client
    return saver.loop.run_until_complete(saver.saver._connections.here()).client


def test_closing_ends_the_connections_of_confirmed_writes(
    running: Cluster, loop: AbstractEventLoop
) -> None:
    """A worker that was given a client would leave connections behind with each saver."""
    host, port = address(running.nodes[0])

    async def put_and_close() -> Any:
        client = redis.asyncio.RedisCluster(host=host, port=port)
        saver = AsyncRedisSaver(client, confirm=Confirm(replicas=1))
        await saver.aput(thread("a"), *chat(1))
        link: Any = await saver._connections.here()
        await saver.aclose()
        await client.aclose()
        return link

    link = loop.run_until_complete(put_and_close())
    assert link._nodes
    assert not any(lines._lines for lines in link._nodes.values())


@pytest.mark.slow
@pytest.mark.parametrize("confirm", [None, Confirm(replicas=1, timeout=3)])
def test_a_slot_moves_while_its_thread_is_in_use(
    saver_on: SaverOn, confirm: Confirm | None
) -> None:
    """Adding a node to a cluster would fail the runs whose threads move there, or lose a part."""
    with running_cluster(replicas=3 if confirm else 0) as cluster:
        saver = saver_on(_limited_url(cluster), confirm=confirm)
        saver.put(thread("a"), *chat(0))
        mover = Thread(target=_move_there_and_back, args=[cluster, Keyspace("lg").thread("a")[0]])
        mover.start()
        stored = 1
        while mover.is_alive():
            saver.put(thread("a"), *chat(stored))
            assert saver.get_tuple(thread("a"))
            stored += 1
        mover.join()
        listed = {found.metadata["run_id"] for found in saver.list(thread("a"))}
        assert listed == {f"run {number}" for number in range(stored)}
        assert stored > 6
        assert _refusals(cluster) >= {"MOVED", "ASK", "TRYAGAIN"}  # so all that can happen has


def _refusals(cluster: Cluster) -> set[str]:
    """What the nodes have ever answered instead of doing what they were asked for."""
    answers = [name for node in cluster.nodes for name in node.info("errorstats")]
    return {name.removeprefix("errorstat_") for name in answers}


def _move_there_and_back(cluster: Cluster, key: bytes) -> None:
    slot = key_slot(key)
    home, other = _owner(cluster, slot), cluster.nodes[0]
    if home is other:
        other = cluster.nodes[1]
    for _ in range(3):
        _move(slot, home, other, cluster)
        time.sleep(0.3)
        _move(slot, other, home, cluster)
        time.sleep(0.3)


def _owner(cluster: Cluster, slot: int) -> redis.Redis:
    return cluster.nodes[slot // -(-SLOTS // 3)]


def _move(slot: int, source: redis.Redis, target: redis.Redis, cluster: Cluster) -> None:
    target.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", node_id(source))
    source.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", node_id(target))
    while keys := source.execute_command("CLUSTER GETKEYSINSLOT", slot, 1):
        source.migrate(*address(target), keys, 0, 1000)
        time.sleep(0.1)  # one at a time, so that some are here and some are there
    for node in (target, source, *cluster.primaries):
        node.execute_command("CLUSTER SETSLOT", slot, "NODE", node_id(target))


def test_a_url_for_one_server_says_that_it_leads_to_a_cluster(
    saver_on: Callable[..., Saver], running: Cluster
) -> None:
    """Some threads would work and others not, with a number and an address for an explanation."""
    host, port = address(running.nodes[0])
    saver = saver_on(f"redis://{host}:{port}")
    began = time.monotonic()
    ids = map(str, range(100))
    elsewhere = next(name for name in ids if key_slot(f"{{{name}}}".encode()) >= 2 * SLOTS // 3)
    with pytest.raises(ConfigError, match=r"redis\+cluster://"):
        saver.get_tuple(thread(elsewhere))
    assert time.monotonic() - began < 5
