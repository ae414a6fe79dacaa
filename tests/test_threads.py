"""What operators see of threads, and what they remove from many of them."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st
from langgraph.checkpoint.base import CheckpointTuple
from langgraph.checkpoint.conformance.test_utils import generate_checkpoint, generate_metadata
from langgraph.checkpoint.serde.types import INTERRUPT

from langgraph_checkpoint_redis import AsyncRedisSaver, ConfigError, RedisSaver, Stats, ThreadInfo
from langgraph_checkpoint_redis._admin import threads
from langgraph_checkpoint_redis._admin.prune import Limits, prune_thread
from langgraph_checkpoint_redis._protocol.requests import Call, Request, Script, Together
from langgraph_checkpoint_redis._scripts import load
from langgraph_checkpoint_redis._scripts.load import DELETE_UNUSED, INFO, NAMESPACES
from langgraph_checkpoint_redis._storage.keys import Keyspace

from .dated import ago, id_at, put
from .driving import AwaitedSaver, Saver
from .run_index import threads_of
from .stored import contents
from .strategies import RepeatingSaver, config, effort, names, several

DAY = 86_400
ODD_IDS = ["a", "a*", "{a}", "%7B", "é\r\n", "x" * 3000, "a:timeline", "\U0001f600"]


def chat(saver: Saver, thread_id: str, turns: int) -> None:
    """A thread whose versions share nearly all, with a large value that does not change."""
    at, messages, notes = config(thread_id, ""), list[str](), "note " * 400
    for turn in range(turns):
        messages.append(f"{turn} " * 300)
        values = {"messages": messages, "notes": notes}
        versions: dict[str, str | int | float] = {"messages": turn, "notes": 0}
        checkpoint = generate_checkpoint(channel_values=values, channel_versions=versions)
        at = saver.put(
            at, checkpoint, generate_metadata(), versions if not turn else {"messages": turn}
        )


def info_of(saver: Saver, thread_id: str) -> ThreadInfo:
    found = saver.thread_info(thread_id)
    assert found
    return found


def control(client: redis.Redis, prefix: str, thread_id: str, **fields: Any) -> None:
    for name, value in fields.items():
        client.hset(Keyspace(prefix).thread(thread_id).control, name, value)


def memory(client: redis.Redis, prefix: str, pattern: str = "{*}*") -> int:
    """What all keys of threads take, asked of the server key by key."""
    keys = client.scan_iter(f"{prefix}:{pattern}")
    return sum(client.memory_usage(key, samples=0) or 0 for key in keys)


# What a thread is


runs = st.sampled_from([None, "run 1", "run 2"])


@effort(15)
@given(
    thread_ids=several(names, 3),
    acts=st.lists(
        st.tuples(
            st.integers(0, 2), st.sampled_from(["", "a:1", "a\x01", "b"]), runs, st.integers(0, 3)
        ),
        max_size=12,
    ),
)
def test_counts_are_of_what_was_put(
    saver: Saver, thread_ids: list[str], acts: list[tuple[int, str, str | None, int]]
) -> None:
    """Operators would look for what fills their server in the wrong place."""
    for which, namespace, run, writes in acts:
        metadata = {"run_id": run} if run else {}
        at = put(saver, thread_ids[which % len(thread_ids)], namespace=namespace, **metadata)
        for number in range(writes):
            saver.put_writes(at, [("c", number), ("d", "w" * 100)], f"task {number}")
    used = {thread_ids[which % len(thread_ids)] for which, *_ in acts}
    assert {*saver.list_threads()} == used
    for thread_id in thread_ids:
        expected = seen([*saver.list(config(thread_id))])
        found = saver.thread_info(thread_id)
        assert (found and counted(found)) == expected
    infos = [info_of(saver, thread_id) for thread_id in used]
    check_sums(saver.stats(), infos)
    for thread_id in thread_ids:
        saver.delete_thread(thread_id)
    assert saver.stats().threads == 0


def seen(tuples: list[CheckpointTuple]) -> tuple[Any, ...] | None:
    """What there is to count in checkpoints, by reading them all."""
    namespaces: dict[str, int] = {}
    for found in tuples:
        namespace = found.config["configurable"]["checkpoint_ns"]
        namespaces[namespace] = namespaces.get(namespace, 0) + 1
    writes = sum(len(found.pending_writes or ()) for found in tuples)
    run_ids = {found.metadata["run_id"] for found in tuples if "run_id" in found.metadata}
    return (namespaces, len(tuples), writes, len(run_ids)) if tuples else None


def counted(info: ThreadInfo) -> tuple[Any, ...]:
    return ({**info.namespaces}, info.checkpoints, info.pending_writes, info.runs)


def check_sums(stats: Stats, infos: list[ThreadInfo]) -> None:
    assert stats.threads == len(infos)
    assert stats.checkpoints == sum(info.checkpoints for info in infos)
    assert stats.pending_writes == sum(info.pending_writes for info in infos)
    assert stats.bytes == sum(info.bytes or 0 for info in infos)
    assert stats.shared_bytes == sum(info.shared_bytes or 0 for info in infos)
    assert {info.thread_id for info in stats.biggest} == {info.thread_id for info in infos}
    sizes = [info.bytes or 0 for info in stats.biggest]
    assert sizes == sorted(sizes, reverse=True)


def test_times_are_those_of_the_first_and_the_last_checkpoint(saver: Saver) -> None:
    """Nobody could tell a conversation that goes on from one that was left years ago."""
    first, middle, last = (ago(days * DAY) for days in (9, 5, 2))
    for made, namespace in ((middle, ""), (first, "a:1"), (last, "a:1")):
        put(saver, "a", id_at(made), namespace)
    found = info_of(saver, "a")
    assert (found.first, found.last) == (first, last)
    now = put(saver, "a")
    assert (info_of(saver, "a").last or last) > ago(60), now


@pytest.mark.parametrize(
    "other", ["1", "f47ac10b-58cc-4372-a567-0e02b2c3d479", "f47ac10b-58cc-1372-8567-0e02b2c3d479"]
)
def test_a_time_that_no_id_tells_is_not_known(saver: Saver, other: str) -> None:
    """A thread with ids of its own would pass for old, and be deleted."""
    put(saver, "a", id_at(ago(9 * DAY)))
    put(saver, "a", other, "child")
    found = info_of(saver, "a")
    assert (found.first, found.last) == (None, None)
    assert not [*saver.list_threads(idle=1)]
    assert saver.prune_threads(idle=1) == 0


def test_bytes_are_those_that_the_server_counts(
    saver: Saver, client: redis.Redis, prefix: str
) -> None:
    """The sum would not explain what the server takes."""
    chat(saver, "a", 20)
    put(saver, "b", run_id="run")
    control(client, prefix, "b", deadline=2**50)
    for thread_id in ("a", "b"):
        info = info_of(saver, thread_id)
        assert info.bytes == memory(client, prefix, f"{{{thread_id}}}*")
        assert info.bytes_by_key
        assert info.bytes_by_key["live"] == 0
    stats = saver.stats()
    assert stats.bytes == memory(client, prefix)
    assert stats.bytes_by_key
    assert stats.bytes_by_key["control"] > 0


def test_shared_bytes_are_what_whole_values_would_take_more(saver: Saver) -> None:
    """Nobody would see what sharing is good for, or that something keeps it from working."""
    turns, message = 40, len("10 " * 300)
    chat(saver, "a", turns)
    whole = sum(range(1, turns + 1)) * message
    info = info_of(saver, "a")
    assert info.bytes_by_key
    assert info.shared_bytes == pytest.approx(whole - info.bytes_by_key["chunks"], rel=0.2)
    put(saver, "b")
    assert info_of(saver, "b").shared_bytes == 0


def test_what_the_server_does_not_tell_is_none(
    server: str, client: redis.Redis, prefix: str
) -> None:
    """On a server with access rules, looking at threads would fail altogether."""
    user = f"user-{uuid4().hex}"
    client.acl_setuser(user, enabled=True, nopass=True, commands=["+@all", "-memory"], keys=["*"])
    with redis.Redis.from_url(server, username=user, password=user) as limited:
        saver = RedisSaver(limited, prefix=prefix)
        put(saver, "a")
        info, stats = info_of(saver, "a"), saver.stats()
    client.acl_deluser(user)
    assert (info.bytes, info.bytes_by_key, info.shared_bytes) == (None, None, None)
    assert (stats.bytes, stats.bytes_by_key, stats.shared_bytes) == (None, None, None)
    assert (info.checkpoints, stats.checkpoints, stats.biggest) == (1, 1, (info,))


def test_what_the_control_of_a_thread_says_is_told(
    saver: Saver, client: redis.Redis, prefix: str
) -> None:
    """Operators could not see why a thread stays, or when it goes."""
    now = int(time.time() * 1000)
    for thread_id in ("plain", "expiring", "pinned", "leased", "over"):
        put(saver, thread_id)
    control(client, prefix, "expiring", ttl=60_000, deadline=now + 60_000)
    control(client, prefix, "pinned", ttl=0)
    control(client, prefix, "leased", lease="token", until=now + 60_000)
    control(client, prefix, "over", lease="token", until=now - 1, deadline=now - 1)
    infos = {thread_id: info_of(saver, thread_id) for thread_id in saver.list_threads()}
    assert {id_ for id_, info in infos.items() if info.pinned} == {"pinned"}
    assert {id_: info.ttl for id_, info in infos.items() if info.ttl is not None} == {
        "expiring": pytest.approx(60, abs=5),
    }
    assert {id_: info.lease for id_, info in infos.items() if info.lease} == {
        "leased": pytest.approx(60, abs=5)
    }
    stats = saver.stats()
    assert (stats.pinned, stats.expiring) == (1, 1)


def test_a_thread_that_has_only_writes_is_there(saver: Saver) -> None:
    """What a run has left before its first checkpoint could not be found."""
    saver.put_writes(config("a", "", "1"), [("c", 1), ("d", 2)], "task")
    info = info_of(saver, "a")
    assert (info.checkpoints, info.pending_writes, info.last) == (0, 2, None)


# Which threads there are


def test_threads_are_found_by_how_their_ids_begin(saver: Saver, server: str, prefix: str) -> None:
    """The threads of one customer could not be told from those of another."""
    for thread_id in ODD_IDS:
        put(saver, thread_id)
    for begin in ("", "a", "a*", "{", "%", "é", "nobody"):
        found = [*saver.list_threads(prefix=begin)]
        assert sorted(found) == sorted(id_ for id_ in ODD_IDS if id_.startswith(begin))
    for other in (f"{prefix}:a", prefix[:-1], f"{prefix[:-1]}?"):
        with RedisSaver.from_conn_string(server, prefix=other) as stranger:
            assert not [*stranger.list_threads()]
            assert stranger.thread_info("a") is None
            assert stranger.prune_threads(idle=1e-6) == 0
            assert stranger.stats().threads == 0
    assert saver.stats().threads == len(ODD_IDS)


@pytest.mark.parametrize("idle", [3 * DAY, timedelta(days=3)])
def test_idle_threads_are_those_without_a_new_checkpoint(saver: Saver, idle: Any) -> None:
    """Conversations that go on would be taken for old ones."""
    for days in (1, 2, 4, 5):
        put(saver, f"{days} days", id_at(ago(days * DAY)))
    put(saver, "in a child", id_at(ago(9 * DAY)))
    put(saver, "in a child", id_at(ago(1 * DAY)), "child:1")
    assert {*saver.list_threads(idle=idle)} == {"4 days", "5 days"}
    assert {*saver.list_threads(idle=idle, prefix="5")} == {"5 days"}


def test_a_thread_that_was_never_there_is_none(saver: Saver) -> None:
    """A thread that is gone could not be told from an empty one."""
    assert saver.thread_info("nobody") is None


# Removing from many threads


def test_old_checkpoints_of_many_threads_are_removed(saver: Saver) -> None:
    """A server that keeps everything could not be made emptier."""
    for length in range(1, 5):
        for number in range(length):
            put(saver, f"{length}", id_at(ago(9 * DAY), number))
            put(saver, f"{length}", id_at(ago(9 * DAY), number), "child")
    seen: list[int] = []
    assert saver.prune_threads(keep_last=2, progress=seen.append) == 2
    assert seen == [1, 2, 3, 4]
    assert {id_: info_of(saver, id_).namespaces for id_ in saver.list_threads()} == {
        f"{length}": {"": min(length, 2), "child": min(length, 2)} for length in range(1, 5)
    }
    left = [found.checkpoint["id"] for found in saver.list(config("4", ""))]
    assert [int(id_[-1]) for id_ in left] == [3, 2]
    assert saver.prune_threads(keep_last=2) == 0


def test_idle_threads_are_deleted_and_others_made_shorter(
    saver: Saver, client: redis.Redis, prefix: str
) -> None:
    """Old conversations would pile up, or new ones be lost with them."""
    for thread_id, days in (("old", 9), ("new", 1), ("other", 9)):
        for number in range(3):
            put(saver, thread_id, id_at(ago(days * DAY), number), run_id="run")
    options: dict[str, Any] = {"keep_last": 2, "idle": timedelta(days=3)}
    assert saver.prune_threads(**options, prefix="o") == 2
    assert {*saver.list_threads()} == {"new"}
    assert threads_of(client, prefix, "run") == {"new"}
    assert saver.prune_threads(**options) == 1
    assert info_of(saver, "new").checkpoints == 2


def test_an_idle_thread_stays_if_it_is_pinned_or_leased(
    saver: Saver, client: redis.Redis, prefix: str
) -> None:
    """A thread that somebody wants to keep would go, or one in which a run has just begun."""
    for thread_id in ("pinned", "leased", "was leased"):
        put(saver, thread_id, id_at(ago(9 * DAY)))
    now = int(time.time() * 1000)
    control(client, prefix, "pinned", ttl=0)
    control(client, prefix, "leased", until=now + 60_000)
    control(client, prefix, "was leased", until=now - 1)
    assert saver.prune_threads(idle=DAY) == 1
    assert {*saver.list_threads()} == {"pinned", "leased"}
    saver.delete_thread("pinned")


# While threads change


FIRST, SECOND = (id_at(ago(9 * DAY), number) for number in range(2))


def idle_thread(saver: Saver) -> None:
    """Thread `a`, of two checkpoints of long ago, with a question that waits for an answer."""
    for checkpoint_id in (FIRST, SECOND):
        at = put(saver, "a", checkpoint_id, run_id="run")
        saver.put_writes(at, [(INTERRUPT, "sure?")], "asks")


USES: dict[str, Callable[[RedisSaver], object]] = {
    "a checkpoint": lambda saver: put(saver, "a"),
    "a checkpoint of a subgraph": lambda saver: put(saver, "a", namespace="child:1"),
    "the same checkpoint again": lambda saver: put(saver, "a", SECOND, run_id="run"),
    "an older checkpoint again": lambda saver: put(saver, "a", FIRST, run_id="run"),
    "writes": lambda saver: saver.put_writes(config("a", "", SECOND), [("c", 1)], "another task"),
    "further writes of a task": lambda saver: saver.put_writes(
        config("a", "", SECOND), [("c", 1)], "asks"
    ),
    "writes in the place of others": lambda saver: saver.put_writes(
        config("a", "", SECOND), [(INTERRUPT, "really?")], "asks"
    ),
    "the same writes again": lambda saver: saver.put_writes(
        config("a", "", SECOND), [(INTERRUPT, "sure?")], "asks"
    ),
    "writes in the place of older ones": lambda saver: saver.put_writes(
        config("a", "", FIRST), [(INTERRUPT, "really?")], "asks"
    ),
    "a short thread": lambda saver: put(
        RedisSaver(
            saver._connections.link.client, prefix=saver._shared.keyspace.prefix, keep_last=1
        ),
        "a",
    ),
    "one for another": lambda saver: [
        *map(saver.delete_for_runs, [["run"]]),
        put(saver, "a", SECOND),
    ],
}


class Meanwhile(RedisSaver):
    """Lets something happen before each call of one script."""

    script: Script | None = None
    happens: Callable[[], object]

    def _reply(self, request: Request) -> Any:
        calls = request.calls if isinstance(request, Together) else (request,)
        if any(isinstance(call, Call) and call.script == self.script for call in calls):
            self.happens()
        return super()._reply(request)


@pytest.fixture
def meanwhile(server: str, prefix: str) -> Iterator[Meanwhile]:
    with Meanwhile.from_conn_string(server, prefix=prefix) as saver:
        assert isinstance(saver, Meanwhile)
        yield saver


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_a_thread_that_is_used_again_this_very_moment_stays(
    meanwhile: Meanwhile, saver: Saver, client: redis.Redis, use: Callable[[RedisSaver], object]
) -> None:
    """A user who comes back after a long time would lose what was just said."""
    other = RedisSaver(client, prefix=meanwhile._shared.keyspace.prefix)
    idle_thread(meanwhile)
    meanwhile.script = DELETE_UNUSED
    meanwhile.happens = lambda: use(other)
    assert meanwhile.prune_threads(idle=DAY) == 0
    expected = [*other.list(config("a"))]
    assert expected
    assert [*saver.list(config("a"))] == expected
    meanwhile.happens = lambda: None  # the thread is as idle as before, but for new checkpoints
    last = info_of(saver, "a").last
    assert meanwhile.prune_threads(idle=DAY) == int(last is not None and last < ago(DAY))


USES_OF_LONG: dict[str, Callable[[RedisSaver], object]] = {
    "nothing": lambda _: None,
    "the same checkpoint again": lambda saver: put(saver, "a", FIRST, "child:3"),
    "writes": lambda saver: saver.put_writes(
        config("a", "child:3", FIRST), [(INTERRUPT, "really?")], "asks"
    ),
}


@pytest.mark.parametrize("use", USES_OF_LONG)
def test_a_thread_of_many_calls_is_used_again_between_any_two_of_them(
    meanwhile: Meanwhile,
    saver: Saver,
    client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
    use: str,
) -> None:
    """A user who comes back would lose what was said, as the thread is so long."""
    source, times = re.subn("NAMESPACES, BYTES = 200", "NAMESPACES, BYTES = 2", NAMESPACES.source)
    assert times == 1
    monkeypatch.setattr(load, "NAMESPACES", replace(NAMESPACES, source=source))
    other = RedisSaver(client, prefix=meanwhile._shared.keyspace.prefix)
    for before in (2, 3, 4):  # the first call begins to watch, the last one deletes
        for number in range(5):
            put(other, "a", FIRST, f"child:{number}")
        calls = 0

        def reply(request: Request, before: int = before) -> Any:
            nonlocal calls
            calls += 1
            if calls == before:
                USES_OF_LONG[use](other)
            return meanwhile._reply(request)

        operation = prune_thread(meanwhile._context, "a", Limits.parse("", DAY, None))
        assert meanwhile._run(operation, reply) is (use == "nothing")
        assert calls == 4
        assert (saver.get_tuple(config("a", "child:3")) is None) is (use == "nothing")
        saver.delete_thread("a")


LOSSES: dict[str, Callable[[redis.Redis, bytes], object]] = {
    "expired": lambda client, control: client.pexpireat(control, 1),
    "evicted": lambda client, control: client.unlink(control),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_a_thread_whose_watch_is_gone_stays(
    meanwhile: Meanwhile, saver: Saver, client: redis.Redis, prefix: str, loss: str
) -> None:
    """A slow prune, or a server that evicts, would delete what was said meanwhile."""
    idle_thread(meanwhile)
    other = RedisSaver(client, prefix=prefix)

    def happens() -> None:
        LOSSES[loss](client, Keyspace(prefix).thread("a").control)
        other.put_writes(config("a", "", SECOND), [(INTERRUPT, "really?")], "asks")

    meanwhile.script, meanwhile.happens = DELETE_UNUSED, happens
    assert meanwhile.prune_threads(idle=DAY) == 0
    found = saver.get_tuple(config("a"))
    assert found
    assert found.pending_writes == [("asks", INTERRUPT, "really?")]


def test_a_late_look_does_not_hide_that_a_thread_was_used(
    meanwhile: Meanwhile, saver: Saver, client: redis.Redis, prefix: str
) -> None:
    """A request that something on the way kept would make a used thread seem idle."""
    idle_thread(meanwhile)
    other = RedisSaver(client, prefix=prefix)
    operation = prune_thread(meanwhile._context, "a", Limits.parse("", DAY, None))
    look = next(operation)
    delete = operation.send(meanwhile._reply(look))
    assert delete.name == "delete_unused"
    other.put_writes(config("a", "", SECOND), [(INTERRUPT, "really?")], "asks")
    meanwhile._reply(look)
    with suppress(StopIteration):
        operation.send(meanwhile._reply(delete))
    assert saver.get_tuple(config("a"))


def test_a_look_alone_writes_nothing(saver: Saver, client: redis.Redis, prefix: str) -> None:
    """Walks could not be done by readers, and each would make all threads change."""
    idle_thread(saver)
    put(saver, "b")
    before = contents(client, client.scan_iter(f"{prefix}:*"))
    assert [*saver.list_threads(idle=DAY)] == ["a"]
    assert saver.prune_threads(keep_last=9) == 0
    assert saver.prune_threads(idle=30 * DAY) == 0
    assert contents(client, client.scan_iter(f"{prefix}:*")) == before


@pytest.mark.parametrize(
    "spell", [str.upper, lambda id_: id_.replace("-", ""), lambda id_: f"{{{id_}}}"]
)
def test_idle_threads_with_ids_of_other_spellings_are_deleted(
    saver: Saver, spell: Callable[[str], str]
) -> None:
    """Threads of another program would stay for ever."""
    put(saver, "a", spell(FIRST))
    put(saver, "b", spell(id_at(ago(1))))
    assert saver.prune_threads(idle=DAY) == 1
    assert [*saver.list_threads()] == ["b"]


def test_a_thread_that_goes_while_it_is_looked_at_is_none(
    meanwhile: Meanwhile, client: redis.Redis, prefix: str
) -> None:
    """Looking around would fail whenever something is deleted or expires, or count what is gone."""
    meanwhile.script = INFO
    meanwhile.happens = lambda: client.delete(*client.scan_iter(f"{prefix}:{{*}}:*"), "none")
    put(meanwhile, "a", id_at(ago(9 * DAY)))
    assert meanwhile.thread_info("a") is None
    put(meanwhile, "a", id_at(ago(9 * DAY)))
    stats = meanwhile.stats()
    assert (stats.threads, stats.checkpoints, stats.bytes, stats.biggest) == (0, 0, 0, ())


def test_a_thread_that_goes_before_its_turn_is_passed_over(
    meanwhile: Meanwhile, saver: Saver, client: redis.Redis, prefix: str
) -> None:
    """One thread that ends would break off what is done with a million others."""
    meanwhile.script = NAMESPACES
    meanwhile.happens = lambda: saver.delete_thread("gone")
    for thread_id in ("gone", "stays"):
        put(saver, thread_id, id_at(ago(9 * DAY)))
    assert [*meanwhile.list_threads(idle=DAY)] == ["stays"]
    put(saver, "gone", id_at(ago(9 * DAY)))
    assert meanwhile.prune_threads(idle=DAY, keep_last=1) == 1
    assert not [*client.scan_iter(f"{prefix}:*")]


def test_a_deletion_whose_reply_was_lost_leaves_nothing(
    server: str, client: redis.Redis, prefix: str
) -> None:
    """The index of runs would keep threads that are gone, forever."""
    with RepeatingSaver.from_conn_string(server, prefix=prefix) as saver:
        put(saver, "a", id_at(ago(9 * DAY)), run_id="run")
        assert saver.prune_threads(idle=DAY) == 1
    assert not [*client.scan_iter(f"{prefix}:*")]


# Long threads


def test_a_long_thread_is_looked_at_in_several_calls(meanwhile: Meanwhile, saver: Saver) -> None:
    """The server would stand still for everybody while somebody looks at one long thread."""
    for number in range(700):
        at = put(meanwhile, "a", id_at(ago(9 * DAY), number), f"child:{number}" * (number % 2))
        put(meanwhile, "a", id_at(ago(9 * DAY), number), "", run_id=f"{number % 7}")
        meanwhile.put_writes(at, [("c", "text " * 100), ("d", 1)], "task")
    calls: list[int] = []
    meanwhile.happens = lambda: calls.append(1)
    meanwhile.script = INFO
    found = meanwhile.thread_info("a")
    assert found
    assert counted(found) == seen([*meanwhile.list(config("a"))])
    assert len(calls) >= 3
    assert counted(info_of(saver, "a")) == counted(found)
    meanwhile.script = NAMESPACES
    calls.clear()
    assert meanwhile.prune_threads(idle=DAY) == 1
    assert len(calls) >= 2


def test_a_value_counts_once_for_each_version_in_however_many_calls(
    saver: Saver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How much is shared would depend on how long a thread is."""
    chat(saver, "a", 12)
    while (at_once := info_of(saver, "a")) != info_of(saver, "a"):
        pass  # each look lets a server that is making the table of a hash larger go on with that
    monkeypatch.setattr(threads, "FEW_ROWS", 1)
    monkeypatch.setattr(threads, "ROWS", 1)
    assert info_of(saver, "a") == at_once


# However they are called


BAD: dict[str, tuple[str, Callable[[Saver], object]]] = {
    "idle of none": ("idle", lambda saver: next(saver.list_threads(idle=0))),
    "idle in the past": ("idle", lambda saver: saver.prune_threads(idle=timedelta(-1))),
    "idle of text": ("idle", lambda saver: saver.prune_threads(idle="1")),  # type: ignore[arg-type]
    "idle that is no number": ("idle", lambda saver: saver.prune_threads(idle=float("nan"))),
    "idle of a truth": ("idle", lambda saver: saver.prune_threads(idle=True)),
    "prefix": ("prefix", lambda saver: next(saver.list_threads(prefix=7))),  # type: ignore[arg-type]
    "keep_last": ("keep_last", lambda saver: saver.prune_threads(keep_last=0)),
    "nothing to keep": ("keep_last, idle", lambda saver: saver.prune_threads(prefix="a")),
    "thread": ("thread_id", lambda saver: saver.thread_info("")),
    "progress of stats": ("progress", lambda saver: saver.stats(progress=7)),  # type: ignore[arg-type]
    "progress": (
        "progress",
        lambda saver: saver.prune_threads(idle=1, progress="p"),  # type: ignore[arg-type]
    ),
}


@pytest.mark.parametrize(("named", "call"), BAD.values(), ids=BAD)
def test_a_bad_argument_is_named_before_anything_is_done(
    saver: Saver, named: str, call: Callable[[Saver], object]
) -> None:
    """A slip in a script of an operator would delete threads that were to stay."""
    put(saver, "a", id_at(ago(9 * DAY)))
    with pytest.raises(ConfigError, match=named):
        call(saver)
    assert saver.get_tuple(config("a"))


@pytest.mark.parametrize("protocol", [2, 3])
def test_a_client_that_decodes_answers_will_do(
    kind: str, server: str, prefix: str, loop: asyncio.AbstractEventLoop, protocol: int
) -> None:
    """Operators could not use the client that the rest of their program uses."""
    of: Any = redis if kind == "sync" else redis.asyncio
    client = of.Redis.from_url(server, decode_responses=True, protocol=protocol)
    saver: Saver = (
        RedisSaver(client, prefix=prefix)
        if kind == "sync"
        else AwaitedSaver(AsyncRedisSaver(client, prefix=prefix), loop)
    )
    put(saver, "größe", id_at(ago(9 * DAY)), run_id="run")
    assert [*saver.list_threads(idle=DAY)] == ["größe"]
    assert info_of(saver, "größe").bytes == saver.stats().bytes
    assert saver.prune_threads(idle=DAY) == 1
    if kind == "sync":
        client.close()
    else:
        loop.run_until_complete(client.aclose())


def test_each_saver_answers_the_names_of_the_other(
    raw_saver: RedisSaver | AsyncRedisSaver, saver: Saver, loop: asyncio.AbstractEventLoop
) -> None:
    """A program would need both savers, to do the same thing in two places."""
    put(saver, "a", id_at(ago(9 * DAY)))
    expected = saver.thread_info("a")
    numbers: list[int] = []

    async def awaited() -> list[Any]:
        return [
            [thread_id async for thread_id in raw_saver.alist_threads(idle=DAY)],
            await raw_saver.athread_info("a"),
            (await raw_saver.astats(progress=numbers.append)).biggest,
            await raw_saver.aprune_threads(idle=DAY, progress=numbers.append),
        ]

    def called() -> list[Any]:
        return [
            [*raw_saver.list_threads(idle=DAY)],
            raw_saver.thread_info("a"),
            raw_saver.stats(progress=numbers.append).biggest,
            raw_saver.prune_threads(idle=DAY, progress=numbers.append),
        ]

    found = loop.run_until_complete(awaited()) if isinstance(raw_saver, RedisSaver) else called()
    assert found == [["a"], expected, (expected,), 1]
    assert numbers == [1, 1]
