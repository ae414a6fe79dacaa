"""A cluster of three primaries, as real processes: the same savers, with the cluster's clients."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import count

import pytest
import redis
import redis.asyncio
from langgraph.checkpoint.base import Checkpoint, CheckpointMetadata, empty_checkpoint
from langgraph.checkpoint.base.id import uuid6
from redis.cluster import ClusterNode
from redis.crc import key_slot

from examples.local_server import available_servers, running_server
from langgraph_checkpoint_redis import AsyncRedisSaver, RedisSaver, ThreadExistsError

from .driving import AwaitedSaver, Saver

SLOTS = 16384
SECONDS_TO_FORM = 30
Address = tuple[str, int]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Address]:
    """The address of a node of a cluster that is up."""
    binary = next(iter(available_servers().values()))
    settings = ("--cluster-enabled", "yes", "--cluster-node-timeout", "2000")
    with ExitStack() as stack:
        urls = [stack.enter_context(running_server(binary, *settings)) for _ in range(3)]
        nodes = [stack.enter_context(redis.Redis.from_url(url)) for url in urls]
        _join(nodes)
        _wait_until_formed(nodes)
        yield _address(nodes[0])


def _address(node: redis.Redis) -> Address:
    arguments = node.connection_pool.connection_kwargs
    return arguments["host"], arguments["port"]


def _join(nodes: list[redis.Redis]) -> None:
    share = -(-SLOTS // len(nodes))
    for first, node in zip(count(0, share), nodes, strict=False):
        node.execute_command("CLUSTER ADDSLOTSRANGE", first, min(first + share, SLOTS) - 1)
        node.execute_command("CLUSTER MEET", *_address(nodes[0]))


def _wait_until_formed(nodes: list[redis.Redis]) -> None:
    deadline = time.monotonic() + SECONDS_TO_FORM
    while not all(_is_formed(node, len(nodes)) for node in nodes):
        assert time.monotonic() < deadline, "the cluster does not form"
        time.sleep(0.05)


def _is_formed(node: redis.Redis, size: int) -> bool:
    info = node.execute_command("CLUSTER INFO")
    return bool(info["cluster_state"] == "ok" and info["cluster_known_nodes"] == str(size))


@pytest.fixture
def saver(cluster: Address, kind: str, loop: asyncio.AbstractEventLoop) -> Iterator[Saver]:
    """A saver of either kind on an empty cluster."""
    with redis.RedisCluster(startup_nodes=[ClusterNode(*cluster)]) as client:
        client.flushall(target_nodes=redis.RedisCluster.PRIMARIES)
        if kind == "sync":
            yield RedisSaver(client)
        else:
            asynchronous = redis.asyncio.RedisCluster(
                startup_nodes=[redis.asyncio.cluster.ClusterNode(*cluster)]
            )
            yield AwaitedSaver(AsyncRedisSaver(asynchronous), loop)
            loop.run_until_complete(asynchronous.aclose())


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
