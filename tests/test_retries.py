"""Lost replies and broken connections: each operation survives them, and is done exactly once.

Each operation is done twice: undisturbed in one key prefix, and in another through a proxy that
strikes one of its requests, the first, then the second, until it has no more. Then both must hold
the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import count, product
from pathlib import Path
from ssl import SSLCertVerificationError
from typing import Any, NamedTuple
from uuid import uuid4

import pytest
import redis
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import ChannelVersions
from langgraph.checkpoint.conformance.test_utils import generate_checkpoint, generate_metadata

from langgraph_checkpoint_redis import RedisSaver
from langgraph_checkpoint_redis._storage.keys import Keyspace

from .driving import Saver
from .faults.proxy import Fault, Proxy, running_proxy
from .run_index import threads_of
from .servers import Restarting
from .story import thread

SaverOn = Callable[..., Saver]

CHECKPOINTS = [generate_checkpoint() for _ in range(6)]  # ids that sort by number
TTL = 1000  # seconds
LARGE = [f"{number:600}" for number in range(8)]


class Striking(NamedTuple):
    """A proxy, and what it does to which request from now on."""

    proxy: Proxy
    plan: list[Callable[[], Fault | None]]

    def strike(self, fault: Fault, after: int, then: Callable[[], None] = lambda: None) -> None:
        """Let a fault meet the request after so many; do something when the next one comes."""
        self.proxy.met.clear()
        self.plan[:] = [*[lambda: None] * after, lambda: fault, then]

    @property
    def has_struck(self) -> bool:
        return bool(self.proxy.met)


@pytest.fixture
def striking(server: str) -> Iterator[Striking]:
    """A proxy before the server."""
    plan: list[Callable[[], Fault | None]] = []
    options = redis.connection.parse_url(server)
    target = str(options["host"]), int(options["port"])
    with running_proxy(target, lambda: plan.pop(0)() if plan else None) as proxy:
        yield Striking(proxy, plan)


# What is done


def put(
    saver: Saver, number: int, *, run: str = "run", thread_id: str = "a", parent: int | None = None
) -> RunnableConfig:
    parent = number - 1 if parent is None else parent
    at = CHECKPOINTS[parent]["id"] if parent >= 0 else None
    values = {"c": [*LARGE, f"{number:600}"], "same": LARGE, "count": number}
    versions: ChannelVersions = {"c": str(number), "same": "1", "count": str(number)}
    checkpoint = {
        **CHECKPOINTS[number],
        "channel_values": values,
        "channel_versions": versions,
    }
    return saver.put(
        thread(thread_id, checkpoint_ns="", checkpoint_id=at),
        checkpoint,  # type: ignore[arg-type] # a TypedDict that was added to
        generate_metadata(step=number, run_id=run),
        versions,
    )


def conversation(saver: Saver) -> None:
    """A thread of two runs, with a write on its latest checkpoint."""
    for number in range(3):
        put(saver, number, run="old" if number < 2 else "run")
    write(saver, 2)


def write(saver: Saver, number: int) -> None:
    at = thread("a", checkpoint_ns="", checkpoint_id=CHECKPOINTS[number]["id"])
    saver.put_writes(at, [("c", f"w{number}"), ("same", LARGE)], "task", "~path")


def lease(saver: Saver) -> None:
    if isinstance(saver, RedisSaver):
        with saver.lease("a", ttl=TTL) as renew:
            put(saver, 3)
            renew()
        return

    async def leased() -> None:
        async with saver.saver.alease("a", ttl=TTL) as renew:
            await renew()

    saver.loop.run_until_complete(leased())


def at(number: int) -> RunnableConfig:
    return thread("a", checkpoint_ns="", checkpoint_id=CHECKPOINTS[number]["id"])


def history(saver: Saver) -> object:
    return saver.get_delta_channel_history(config=at(2), channels=["c", "log"])


OPERATIONS: dict[str, Callable[[Saver], object]] = {
    "put": lambda saver: put(saver, 3, run="new"),
    "put a checkpoint again": lambda saver: put(saver, 2),
    "put_writes": lambda saver: write(saver, 1),
    "get_tuple": lambda saver: saver.get_tuple(thread("a")),
    "list": lambda saver: [*saver.list(thread("a"))],
    "list, filtered": lambda saver: [*saver.list(thread("a"), filter={"run_id": "old"})],
    "list of all threads": lambda saver: [*saver.list(None)],
    "list_threads": lambda saver: [*saver.list_threads()],
    "stats": lambda saver: saver.stats().checkpoints,
    "thread_info": lambda saver: (info := saver.thread_info("a")) and info.checkpoints,
    "history of delta channels": history,
    "delete_thread": lambda saver: saver.delete_thread("a"),
    "delete_for_runs": lambda saver: saver.delete_for_runs(["old"]),
    "copy_thread": lambda saver: saver.copy_thread("a", "b"),
    "prune": lambda saver: saver.prune(["a"]),
    "prune_threads": lambda saver: saver.prune_threads(keep_last=1),
    "prune_threads, idle": lambda saver: saver.prune_threads(idle=1e-6),
    "set_ttl": lambda saver: saver.set_ttl("a", 500),
    "pin": lambda saver: saver.pin("a"),
    "unpin": lambda saver: saver.unpin("a"),
    "lease": lease,
}
LIFE = {"ttl": TTL, "refresh_on_read": True, "tombstone": 60, "keep_last": 2}
CASES: list[tuple[str, dict[str, Any]]] = [(operation, {}) for operation in OPERATIONS] + [
    (operation, LIFE)
    for operation in ("put", "put a checkpoint again", "put_writes", "get_tuple", "delete_thread")
]


# What is stored


def stored(client: redis.Redis, prefix: str) -> dict[str, tuple[object, float]]:
    """What each key holds, but for what is random or a time, and for how long."""
    found: dict[str, tuple[object, float]] = {}
    for key in client.scan_iter(match=f"{prefix}:*", count=1000):
        name = key.decode().removeprefix(prefix)
        found[name] = _content(client, key), client.pttl(key) / 1000
    return found


def _content(client: Any, key: bytes) -> object:
    kind = client.type(key)
    if kind == b"hash":
        return _items(client.hgetall(key), key)
    if kind == b"zset":
        entries = client.zrange(key, 0, -1)
        # Entries of the index of runs have random tokens.
        return {one.partition(b"\0")[0] for one in entries} if b":run:" in key else entries
    return None if kind == b"string" else client.smembers(key)  # a string is the token of a copy


def _items(content: Any, key: bytes) -> object:
    if key.endswith(b":runs"):
        return {run: value.split()[0] for run, value in content.items()}
    if key.endswith(b":control"):
        return {field for field, value in content.items() if value != b"0"}
    return content


def assert_same(one: dict[str, tuple[object, float]], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    for name, (content, seconds) in one.items():
        assert other[name][0] == content, name
        assert abs(other[name][1] - seconds) < 60, name


@pytest.mark.parametrize(("operation", "options"), CASES)
def test_an_operation_whose_reply_is_lost_is_done_exactly_once(
    striking: Striking,
    server: str,
    client: redis.Redis,
    saver_on: SaverOn,
    operation: str,
    options: dict[str, Any],
) -> None:
    """When a connection breaks, a step of a graph would be lost, done twice or be half there."""
    act, twin = OPERATIONS[operation], f"twin-{uuid4().hex}"
    undisturbed = saver_on(server, prefix=twin, **options)
    conversation(undisturbed)
    result = act(undisturbed)
    expected = stored(client, twin)
    for after in count():
        prefix = f"struck-{uuid4().hex}"
        saver = saver_on(striking.proxy.url, prefix=prefix, **options)
        conversation(saver)
        striking.strike(Fault.LOST_REPLY, after)
        assert act(saver) == result
        assert_same(expected, stored(client, prefix))
        if not striking.has_struck:
            assert after > 0  # each operation asks for something
            break


@pytest.mark.parametrize("fault", [*Fault])
def test_a_connection_may_break_at_any_point_of_a_request(
    striking: Striking, saver_on: SaverOn, prefix: str, fault: Fault
) -> None:
    """Half a request could store half a checkpoint; half a reply would read as a damaged one."""
    saver = saver_on(striking.proxy.url, prefix=prefix)
    conversation(saver)
    for after, act in product(range(2), (lambda: put(saver, 3), lambda: write(saver, 3))):
        striking.strike(fault, after)
        act()
    striking.strike(fault, 0)
    found = saver.get_tuple(thread("a"))
    assert striking.has_struck
    assert found
    assert found.checkpoint["channel_values"]["count"] == 3
    assert found.pending_writes == [("task", "c", "w3"), ("task", "same", LARGE)]
    striking.strike(fault, 0)
    assert len([*saver.list(thread("a"))]) == 4


@pytest.mark.parametrize("act", [put, write, lambda saver, _: saver.get_tuple(thread("a"))])
def test_the_index_of_runs_is_renewed_although_a_reply_is_lost(
    striking: Striking,
    saver_on: SaverOn,
    client: redis.Redis,
    prefix: str,
    act: Callable[[Saver, int], object],
) -> None:
    """A thread that is used for long could not be found any more by its oldest runs."""
    for after in range(2):
        saver = saver_on(striking.proxy.url, prefix=prefix, ttl=TTL, refresh_on_read=True)
        conversation(saver)
        half_gone = TTL * 3 // 2
        index, control = Keyspace(prefix).run("old"), Keyspace(prefix).thread("a").control
        client.expire(index, half_gone)
        client.hset(control, "indexed", int((time.time() + half_gone) * 1000))
        striking.strike(Fault.LOST_REPLY, after)
        act(saver, 2)
        assert client.ttl(index) > 2 * TTL
        saver.delete_thread("a")


def test_a_run_that_was_deleted_meanwhile_is_indexed_although_a_reply_is_lost(
    striking: Striking, server: str, saver_on: SaverOn, client: redis.Redis, prefix: str
) -> None:
    """What a run stores after it was deleted could never be deleted by that run again."""
    saver, other = saver_on(striking.proxy.url, prefix=prefix), saver_on(server, prefix=prefix)
    for after in range(3):
        name = f"{after}"
        put(saver, 0, run=name, thread_id=name)
        other.delete_for_runs([name])
        striking.strike(Fault.LOST_REPLY, after)
        put(saver, 1, run=name, thread_id=name)
        assert threads_of(client, prefix, name) == {name}


def test_a_copy_whose_reply_is_lost_does_not_undo_what_came_after_it(
    striking: Striking, server: str, saver_on: SaverOn, prefix: str
) -> None:
    """What somebody stored in the copy already, and was told so, would be lost."""
    conversation(saver_on(server, prefix=prefix))
    saver = saver_on(striking.proxy.url, prefix=prefix)
    with RedisSaver.from_conn_string(server, prefix=prefix) as other:

        def go_on_with_the_copy() -> None:
            if other.get_tuple(thread("b")):
                put(other, 3, thread_id="b")

        for after in count():
            striking.strike(Fault.LOST_REPLY, after, go_on_with_the_copy)
            saver.copy_thread("a", "b")
            is_copied = len([*other.list(thread("b"))])
            if is_copied == 4:  # somebody went on, and it is there
                break
            assert striking.has_struck  # else it was lost
            other.delete_thread("b")


def test_a_walk_over_all_threads_goes_on_when_the_server_is_back(
    saver_on: SaverOn, tmp_path: Path
) -> None:
    """A listing, or the pruning at night, would end at the first restart of a server."""
    lasting = ("--dir", str(tmp_path), "--appendonly", "yes", "--appendfsync", "always")
    with closing(Restarting(*lasting)) as server, redis.Redis.from_url(server.url) as client:
        saver = saver_on(server.url)
        ids = _many_threads(saver, client)
        walk = saver.list_threads()
        found = [next(walk)]
        starting = server.restart_in(0.5)
        found += walk
        starting.join()
        assert sorted(found) == ids


def _many_threads(saver: Saver, client: redis.Redis) -> list[str]:
    """More than one call of SCAN looks at."""
    saver.put(thread("0"), generate_checkpoint(), {}, {})
    key = Keyspace("lg").thread
    with client.pipeline(transaction=False) as pipeline:
        for number in range(1, 3000):
            pipeline.copy(key("0").timeline.decode(), key(str(number)).timeline.decode())
        pipeline.execute()
    return sorted(map(str, range(3000)))


def test_a_server_that_restarts_is_waited_for_while_an_error_is_handled(saver_on: SaverOn) -> None:
    """What follows the failure of an API would fail as well, at the first restart of the server."""
    with closing(Restarting()) as server:
        saver = saver_on(server.url)
        saver.get_tuple(thread("a"))
        starting = server.restart_in(0.5)
        try:
            _ask_an_api()
        except SSLCertVerificationError:
            assert saver.get_tuple(thread("a")) is None
            starting.join()
            starting = server.restart_in(0.5)
            assert [*saver.list_threads()] == []
        starting.join()


def _ask_an_api() -> None:
    raise SSLCertVerificationError("the certificate of an API has expired")
