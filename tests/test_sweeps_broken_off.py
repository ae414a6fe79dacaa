"""Sweeps that are broken off, and what is acknowledged afterwards.

A process that made a checkpoint long ago knows all of its chunks, and names them when it makes a
similar one. A sweep of another process has taken some away meanwhile, and was broken off: killed,
its marks expired or were evicted, the server restarted. Whatever is acknowledged must be readable.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import pytest
import redis
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.conformance.test_utils import generate_checkpoint, generate_metadata

from langgraph_checkpoint_redis import CorruptThreadError, RedisSaver
from langgraph_checkpoint_redis._core import removing
from langgraph_checkpoint_redis._protocol.requests import Script
from langgraph_checkpoint_redis._scripts import load
from langgraph_checkpoint_redis._scripts.load import DELETE_RUNS, PRUNE
from langgraph_checkpoint_redis._storage.chunking import cut_msgpack
from langgraph_checkpoint_redis._storage.keys import Keyspace, ThreadKeys
from tests.local_server import available_servers, running_server

from .servers import chosen
from .stepping import Step, in_small_steps, steps

HERE: RunnableConfig = {"configurable": {"thread_id": "a", "checkpoint_ns": ""}}
OLD = [f"{number:03}" * 200 for number in range(40)]  # pieces of their own, and nodes of two levels


class Thread:
    """Thread `a` as two processes see it: one made a checkpoint, another one went on and prunes."""

    def __init__(self, client: redis.Redis, prefix: str) -> None:
        self.client, self.prefix = client, prefix
        self.keys: ThreadKeys = Keyspace(prefix).thread("a")
        self.writer = self.saver()
        self.begin = self.put(self.writer, HERE, OLD)
        other = self.saver()
        self.newest = self.put(other, self.begin, ["summary"])

    def saver(self) -> RedisSaver:
        return RedisSaver(self.client, prefix=self.prefix)

    def put(self, saver: RedisSaver, at: RunnableConfig, value: object) -> RunnableConfig:
        version = saver.get_next_version(None, None)
        checkpoint = generate_checkpoint(
            channel_values={"said": value}, channel_versions={"said": version}
        )
        return saver.put(at, checkpoint, generate_metadata(), {"said": version})

    def prune_until(self, calls: int) -> bool:
        """Prune for so many calls; whether it came to its end before."""
        return all(step.number < calls for step in self.pruning())

    def pruning(self) -> Iterator[Step]:
        saver = self.saver()
        return steps(saver, removing.prune(saver._context, "a", "keep_latest"))

    def sweeping(self) -> Iterator[Step]:
        """Frees what nothing refers to, and removes no checkpoint."""
        saver = self.saver()
        return steps(saver, removing.delete_runs(saver._context, "a", ["no such run"]))

    def assert_readable(self, config: RunnableConfig, value: object) -> None:
        found = self.saver().get_tuple(config)
        assert found
        assert found.checkpoint["channel_values"]["said"] == value
        assert not [one for one in self.saver().verify("a") if one.kind != "garbage"]


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rows or chunks at a time, so that a sweep of few chunks takes many calls."""
    for script in (PRUNE, DELETE_RUNS):
        monkeypatch.setattr(load, script.name.upper(), in_small_steps(script))


BREAKS: dict[str, Callable[[Thread], object]] = {
    "killed": lambda _: None,
    "its marks expired": lambda thread: thread.client.unlink(thread.keys.live),
    "its marks were evicted, and a sweep began": lambda thread: (
        thread.client.unlink(thread.keys.live),
        thread.prune_until(2),
    ),
}


@pytest.mark.usefixtures("small_steps")
@pytest.mark.parametrize("broken", BREAKS)
def test_what_is_acknowledged_after_a_sweep_was_broken_off_anywhere_is_readable(
    client: redis.Redis, prefix: str, broken: str
) -> None:
    """A whole conversation would be acknowledged, and unreadable from then on."""
    calls, is_over = 0, False
    while not is_over:
        client.unlink(*Keyspace(prefix).thread("a"))
        thread = Thread(client, prefix)
        is_over = thread.prune_until(calls)
        BREAKS[broken](thread)
        value = [*OLD, f"answer {calls}"]
        config = thread.put(thread.writer, thread.newest, value)
        thread.assert_readable(config, value)
        thread.writer.put_writes(config, [("said", value)], "task")
        found = thread.saver().get_tuple(config)
        assert found
        assert found.pending_writes == [("task", "said", value)]
        calls += 3
    assert calls > 10


@pytest.mark.usefixtures("small_steps")
@pytest.mark.parametrize("event", ["nothing", "marks expire", "another process"])
def test_a_sweep_that_goes_on_after_an_event_frees_nothing_that_is_in_use(
    client: redis.Redis, prefix: str, event: str
) -> None:
    """A removal that was merely slow would destroy what others have stored meanwhile."""
    thread = Thread(client, prefix)
    values: list[tuple[RunnableConfig, object]] = []
    for step in islice(thread.pruning(), 500):  # in the last case, it never comes to its end
        reply = step.reply
        if reply and reply[0] == b"chunks" and step.number % 3 == 0:
            if event == "marks expire":
                client.unlink(thread.keys.live)
            elif event == "another process" and reply[1].count(b" ") > 3:
                *before, run, cursor = reply[1].split(b" ")
                reply[1] = b" ".join([*before, run[::-1], cursor])
        if step.number % 5 == 0 and len(values) < 12:
            value = [*OLD[step.number % 7 :], f"answer {step.number}"]
            values.append((thread.put(thread.writer, thread.newest, value), value))
    for config, stored in values:
        thread.assert_readable(config, stored)


@pytest.mark.usefixtures("small_steps")
def test_a_sweep_that_goes_on_after_a_restart_leaves_the_thread_sound(tmp_path: Path) -> None:
    """A cursor of a process that is gone would let pieces go whose nodes stay."""
    servers = available_servers()
    path = servers.get(chosen[0]) or next(iter(servers.values()))
    options = ("--dir", str(tmp_path), "--appendonly", "yes", "--appendfsync", "always")
    with running_server(path, *options) as url, redis.Redis.from_url(url) as client:
        thread = Thread(client, "lg")
        saver = thread.saver()
        operation = removing.prune(saver._context, "a", "keep_latest")
        position = next(
            step.reply
            for step in steps(saver, operation)
            if step.reply and step.reply[0] == b"chunks"
        )
        before = client.info("server")["run_id"]
    with running_server(path, *options) as url, redis.Redis.from_url(url) as client:
        assert client.info("server")["run_id"] != before
        thread.client = client
        for _ in steps(thread.saver(), operation, position):
            pass
        writer = thread.saver()
        writer._shared = writer._shared._replace(caches=thread.writer._shared.caches)
        value = [*OLD, "answer"]
        thread.assert_readable(thread.put(writer, thread.newest, value), value)


def test_bytes_that_equal_a_node_do_not_keep_its_name(client: redis.Redis, prefix: str) -> None:
    """A value that somebody chose would make the next similar checkpoint unreadable."""
    thread = Thread(client, prefix)
    data = thread.writer.serde.dumps_typed(OLD)[1]
    for node in cut_msgpack(data, None, {}).nodes.values():
        thread.newest = thread.put(thread.saver(), thread.newest, node)
        thread.saver().prune(["a"])
        thread.assert_readable(thread.put(thread.writer, thread.newest, OLD), OLD)


def test_a_sweep_frees_large_values_in_calls_of_bounded_size(
    client: redis.Redis, prefix: str
) -> None:
    """Everybody else would wait while a thread of many images is pruned."""
    thread = Thread(client, prefix)
    for number in range(60):
        image = HumanMessage(f"{number:02}" * 500_000, id="image")  # one piece
        thread.newest = thread.put(thread.saver(), thread.newest, image)
    left = [client.hlen(thread.keys.chunks) for _ in thread.pruning()]
    assert max(before - after for before, after in pairwise(left)) <= 150
    thread.assert_readable(thread.newest, image)


def test_a_removal_whose_marks_are_always_gone_comes_to_an_end(
    client: redis.Redis, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`prune` would never return on a server that evicts what a sweep needs."""
    monkeypatch.setattr(load, "PRUNE", in_small_steps(PRUNE))
    thread = Thread(client, prefix)
    for step in thread.pruning():
        client.unlink(thread.keys.live)
        assert step.number < 1000
    thread.assert_readable(thread.newest, ["summary"])


def test_scripts_of_removals_are_what_the_tests_change() -> None:
    """The tests above would look at sweeps of one call only."""
    assert isinstance(in_small_steps(PRUNE), Script)


def rows_of(thread: Thread) -> dict[bytes, Any]:
    """All keys of the thread, to fall back to."""
    return {key: thread.client.dump(key) for key in thread.keys}


@pytest.mark.usefixtures("small_steps")
def test_a_sweep_that_goes_on_after_a_failover_took_back_a_call_frees_nothing_that_is_in_use(
    client: redis.Redis, prefix: str
) -> None:
    """What was stored long ago would be destroyed by a replica that lags a little."""
    calls, is_over = 1, False
    while not is_over:
        client.unlink(*Keyspace(prefix).thread("a"))
        thread = Thread(client, prefix)
        for number in range(6):
            thread.newest = thread.put(thread.saver(), thread.newest, OLD[number : number + 9])
        before = rows_of(thread)
        for step in thread.sweeping():
            if step.number == calls:
                client.unlink(*thread.keys)
                for key, dump in before.items():
                    if dump is not None:
                        client.restore(key, 0, dump)
            before = rows_of(thread)
        is_over = step.number < calls
        assert [one.kind for one in thread.saver().verify("a") if one.kind != "garbage"] == []
        assert len([*thread.saver().list(HERE)]) == 8
        calls += 4
    assert calls > 10


@pytest.mark.usefixtures("small_steps")
def test_what_comes_back_while_a_sweep_is_under_way_is_not_freed(
    client: redis.Redis, prefix: str
) -> None:
    """A checkpoint that was stored again after its chunks were evicted would lose its pieces."""
    calls, is_over = 1, False
    while not is_over:
        client.unlink(*Keyspace(prefix).thread("a"))
        thread = Thread(client, prefix)
        # So that only the chunks are lost.
        thread.saver().put_writes(thread.newest, [("said", "x")], "task")
        config = None
        for step in thread.sweeping():
            if step.number == calls - 1:
                client.unlink(thread.keys.chunks)
            elif step.number == calls:
                config = thread.put(thread.writer, thread.newest, OLD)
        is_over = step.number < calls
        if config:
            found = thread.saver().get_tuple(config)
            assert found
            assert found.checkpoint["channel_values"]["said"] == OLD
        calls += 2
    assert calls > 5


def test_a_removal_that_meets_a_damaged_row_leaves_the_others_readable(
    client: redis.Redis, prefix: str
) -> None:
    """One damaged checkpoint of long ago would make the whole thread seem to have lost a key."""
    thread = Thread(client, prefix)
    thread.saver().put_writes(thread.begin, [("said", "x")], "task")
    rows: Any = client.zrange(thread.keys.timeline, 0, 0)
    row = rows[0]
    for number in range(1200):  # too many to look at them all before anything is removed
        thread.newest = thread.put(thread.writer, thread.newest, f"{number}")
    client.zrem(thread.keys.timeline, row)
    client.zadd(thread.keys.timeline, {row[:-1] + bytes([row[-1] ^ 1]): 0})
    with pytest.raises(CorruptThreadError, match="the row is damaged"):
        thread.saver().prune(["a"])
    found = thread.saver().get_tuple(thread.newest)
    assert found
    assert found.checkpoint["channel_values"]["said"] == "1199"
