"""Large chunks that go ahead of their script: stored as by the script, or not at all.

A client that was passed in sends all by the script, connections of our own send large chunks ahead.
So most tests do the same with both, in all kinds of threads, and compare what is in Redis.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import closing
from random import Random
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.conformance.test_utils import generate_checkpoint, generate_metadata

from langgraph_checkpoint_redis import (
    AsyncRedisSaver,
    Confirm,
    RedisSaver,
    RedisSaverError,
    UnconfirmedError,
)
from langgraph_checkpoint_redis._core import writing
from langgraph_checkpoint_redis._protocol.requests import Call
from langgraph_checkpoint_redis._protocol.resp import pack_commands
from langgraph_checkpoint_redis._scripts import transactions
from langgraph_checkpoint_redis._scripts.transactions import (
    LARGE,
    SECONDS_WITHOUT,
    build_transaction,
)
from langgraph_checkpoint_redis._storage.keys import Keyspace
from tests.local_server import running_server

from .documented import COMMANDS
from .driving import Saver
from .faults.proxy import Fault, running_proxy
from .servers import any_binary
from .stepping import requests_of
from .stored import content_of
from .story import thread
from .users import url_of, user

HERE: RunnableConfig = {"configurable": {"thread_id": "a", "checkpoint_ns": ""}}
BYTES = Random(1).randbytes(LARGE + 1000)
FILE = [*(BYTES[start : start + 1000] for start in range(0, 20_000, 1000)), BYTES]  # with nodes
OTHER = [BYTES[::-1], "b" * 1000]

ON_ONE_SERVER = True  # all that differs is how a server gets the same bytes

SaverOn = Callable[..., Saver]


def checkpoint_at(step: int, **values: object) -> Any:
    """A checkpoint with an id of its step, so that two threads have the same ones."""
    versions: dict[str, Any] = dict.fromkeys(values, step)
    made = generate_checkpoint(channel_values=dict(values), channel_versions=versions)
    return {**made, "id": f"1f000000-0000-6000-8000-{step:012}", "ts": "2026-01-01T00:00:00+00:00"}


def put(saver: Saver, step: int, at: RunnableConfig = HERE, **values: object) -> RunnableConfig:
    checkpoint = checkpoint_at(step, **values)
    return saver.put(at, checkpoint, generate_metadata(), checkpoint["channel_versions"])


def stored(client: redis.Redis, prefix: str) -> dict[str, Any]:
    """All that is in Redis below a prefix, and which keys expire."""
    found: dict[str, Any] = {}
    for key in sorted(client.scan_iter(match=f"{prefix}:*", count=1000)):
        content = content_of(client, key)
        name = key.decode().removeprefix(prefix)
        if ":control" in name:  # of times
            content = sorted(content)
        found[name] = (content, client.ttl(key) >= 0)
    return found


# Threads of all kinds, and what is done in them: each is done twice, and has the same outcome


def _nothing(saver: RedisSaver, client: redis.Redis, key: Keyspace) -> None:
    """A thread that does not exist yet."""


def _has_checkpoints(saver: RedisSaver, client: redis.Redis, key: Keyspace) -> None:
    put(saver, 2, put(saver, 1, c="c" * 1000, d="d" * 1000), c="d" * 1000)


def _has_the_file(saver: RedisSaver, client: redis.Redis, key: Keyspace) -> None:
    put(saver, 1, file=FILE, c="c" * 1000)


def _is_leased(saver: RedisSaver, client: redis.Redis, key: Keyspace) -> None:
    _has_checkpoints(saver, client, key)
    lease: Any = {"lease": "of another", "until": 4_000_000_000_000, "span": 60_000}
    client.hset(key.thread("a").control, mapping=lease)


def _was_deleted(saver: RedisSaver, client: redis.Redis, key: Keyspace) -> None:
    _has_checkpoints(saver, client, key)
    RedisSaver(client, prefix=key.prefix, tombstone=60).delete_thread("a")


def _has_lost_its_chunks(saver: RedisSaver, client: redis.Redis, key: Keyspace) -> None:
    _has_checkpoints(saver, client, key)
    saver.put_writes(put(saver, 3), [("c", "w" * 1000)], "task")
    client.delete(key.thread("a").chunks)


def _has_lost_its_timeline(saver: RedisSaver, client: redis.Redis, key: Keyspace) -> None:
    _has_checkpoints(saver, client, key)
    client.delete(key.thread("a").timeline)


def _is_of_an_old_version(saver: RedisSaver, client: redis.Redis, key: Keyspace) -> None:
    _has_checkpoints(saver, client, key)
    client.hdel(key.thread("a").chunks, "timeline")


def _is_being_swept(saver: RedisSaver, client: redis.Redis, key: Keyspace) -> None:
    _has_checkpoints(saver, client, key)
    client.sadd(key.thread("a").live, "of:another")
    client.hset(key.thread("a").chunks, "swept", "1")


def _expires(saver: RedisSaver, client: redis.Redis, key: Keyspace) -> None:
    _has_checkpoints(saver, client, key)
    saver.set_ttl("a", 1000)


def _was_trimmed(saver: RedisSaver, client: redis.Redis, key: Keyspace) -> None:
    short = RedisSaver(client, prefix=key.prefix, keep_last=1)
    put(short, 3, put(short, 2, put(short, 1, c="c" * 1000)))


def _has_chunks_only(saver: RedisSaver, client: redis.Redis, key: Keyspace) -> None:
    """Parts of a large write are there, and its row is not."""
    chunks: Any = {b"a" * 16: b"\0a part", b"b" * 16: b"\0another"}
    client.hset(key.thread("a").chunks, mapping=chunks)
    client.pexpire(key.thread("a").chunks, 60_000)


def _has_another_type(saver: RedisSaver, client: redis.Redis, key: Keyspace) -> None:
    client.set(key.thread("a").chunks, "of another program")


THREADS = [
    _nothing,
    _has_checkpoints,
    _has_the_file,
    _is_leased,
    _was_deleted,
    _has_lost_its_chunks,
    _has_lost_its_timeline,
    _is_of_an_old_version,
    _is_being_swept,
    _expires,
    _was_trimmed,
    _has_chunks_only,
    _has_another_type,
]


def _config(step: int) -> RunnableConfig:
    place = {**HERE["configurable"], "checkpoint_id": checkpoint_at(step)["id"]}
    return {"configurable": place}


ACTS: dict[str, Callable[[Saver], object]] = {
    "put at the beginning": lambda saver: put(saver, 5, file=FILE),
    "put": lambda saver: put(saver, 5, _config(2), file=FILE, d="new"),
    "put with values of its parent": lambda saver: saver.put(
        _config(2),
        checkpoint_at(5, file=FILE, c="d" * 1000),
        generate_metadata(),
        {"file": 5},
    ),
    "put of other values": lambda saver: put(saver, 1, file=OTHER),
    "put_writes": lambda saver: saver.put_writes(_config(1), [("file", FILE), ("x", 1)], "task"),
}


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("thread", THREADS, ids=lambda thread: thread.__name__)
def test_what_goes_ahead_is_stored_as_by_the_script_or_not_at_all(
    server: str, client: redis.Redis, prefix: str, thread: Callable[..., None], act: str
) -> None:
    """A refused write would leave megabytes that nobody finds, or bring back a deleted thread."""
    for number, options in enumerate(OPTIONS):
        outcomes = []
        for own in (False, True):
            key = Keyspace(f"{prefix}:{number}:{own}")
            thread(RedisSaver(client, prefix=key.prefix), client, key)
            before = stored(client, key.prefix)
            opened = RedisSaver(server if own else client, prefix=key.prefix, **options)
            with closing(opened) as saver:
                errors = [_error_of(saver, act) for _ in range(2)]  # as if a reply was lost
            after = stored(client, key.prefix)
            if all(errors) and thread is not _was_deleted:  # which notes what it has refused
                assert after == before
            outcomes.append((errors, after))
        assert outcomes[0] == outcomes[1]


OPTIONS: list[dict[str, Any]] = [{}, {"keep_last": 1, "ttl": 500}]


def _error_of(saver: Saver, act: str) -> str:
    try:
        ACTS[act](saver)
    except (RedisSaverError, redis.ResponseError) as error:
        return type(error).__name__
    return ""


@pytest.mark.parametrize("act", ["put", "put_writes"])
def test_large_chunks_do_not_go_through_a_script(
    saver: Saver, client: redis.Redis, prefix: str, act: str
) -> None:
    """To store a file would hold up all other clients for several times as long."""
    client.config_resetstat()
    ACTS[act](saver)
    ACTS[act](saver)  # which has nothing new
    counts = {name: stat["calls"] for name, stat in client.info("commandstats").items()}
    assert counts["cmdstat_exec"] == 2  # one only asks whether there are transactions
    chunks = stored(client, prefix)[":{a}:chunks"][0]
    assert b"ahead" not in chunks
    assert sum(map(len, chunks.values())) > LARGE


def test_a_transaction_that_is_broken_off_leaves_nothing(
    server: str, client: redis.Redis, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that is killed while it writes would leave megabytes that nobody finds."""
    saver = RedisSaver(client, prefix=prefix)
    calls = list[Any]()
    reply = saver._connections.link.reply

    def noted(request: Any) -> Any:
        calls.append(request)
        return reply(request)

    monkeypatch.setattr(saver._connections.link, "reply", noted)
    ACTS["put"](saver)
    saver.delete_thread("a")
    call = next(call for call in calls if call.first_chunk)
    data = pack_commands(build_transaction(call, call.first_chunk or 0))
    exec_ = data.rindex(b"EXEC")
    for end in (20, len(data) // 2, exec_ - 200, exec_ - 10, exec_ + 5):
        with socket.create_connection((urlsplit(server).hostname, urlsplit(server).port)) as link:
            link.sendall(data[:end])
            link.shutdown(socket.SHUT_WR)
            while link.recv(1000):
                pass
        assert stored(client, prefix) == {}
    with socket.create_connection((urlsplit(server).hostname, urlsplit(server).port)) as link:
        link.sendall(data)
        link.shutdown(socket.SHUT_WR)
        while link.recv(1000):
            pass
    found = RedisSaver(client, prefix=prefix).get_tuple(HERE)
    assert found
    assert found.checkpoint["channel_values"]["file"] == FILE


@pytest.mark.parametrize("seconds", [0.0, 0.005, 0.01, 0.02, 0.04])
def test_a_large_write_that_is_cancelled_is_whole_or_not_there(
    server: str, client: redis.Redis, prefix: str, seconds: float
) -> None:
    """What comes next on its connection would wait for the end of a transaction."""
    checkpoint = checkpoint_at(1, file=Random(0).randbytes(8_000_000))
    small = checkpoint_at(2, c="small")

    async def cancelled() -> None:
        async with AsyncRedisSaver.from_conn_string(
            f"{server}?max_connections=1", prefix=prefix
        ) as saver:
            large = asyncio.ensure_future(
                saver.aput(HERE, checkpoint, generate_metadata(), checkpoint["channel_versions"])
            )
            await asyncio.sleep(seconds)
            large.cancel()
            at = thread("b", checkpoint_ns="")
            await saver.aput(at, small, generate_metadata(), small["channel_versions"])
            found = await saver.aget_tuple(at)
            assert found
            assert found.checkpoint["channel_values"] == {"c": "small"}
            await asyncio.wait([large])

    asyncio.run(cancelled())
    reader = RedisSaver(client, prefix=prefix)
    if found := reader.get_tuple(HERE):
        assert found.checkpoint["channel_values"] == checkpoint["channel_values"]
    else:
        assert not [name for name in stored(client, prefix) if name.startswith(":{a}")]


@pytest.mark.parametrize("allowed", [[], ["multi"], ["multi", "discard"], ["exec"]], ids=str)
def test_a_user_without_transactions_stores_large_values_by_scripts(
    server: str, client: redis.Redis, prefix: str, saver_on: SaverOn, allowed: list[str]
) -> None:
    """A server or a user that allows no transactions could not store a file."""
    with user(client, prefix, [*COMMANDS, *allowed]) as name:
        store_a_file(saver_on(url_of(server, name), prefix=prefix), client, prefix)


def store_a_file(saver: Saver, client: redis.Redis, prefix: str) -> None:
    """Store large values by each method, read them, and delete the thread."""
    at = put(saver, 1, file=FILE)
    saver.put_writes(at, [("file", OTHER)], "task")
    found = saver.get_tuple(HERE)
    assert found
    assert found.checkpoint["channel_values"]["file"] == FILE
    assert found.pending_writes == [("task", "file", OTHER)]
    assert b"ahead" not in stored(client, prefix)[":{a}:chunks"][0]
    saver.delete_thread("a")
    assert stored(client, prefix) == {}


@pytest.mark.parametrize("missing", ["MULTI", "EXEC"])
def test_a_server_without_transactions_stores_large_values_by_scripts(
    prefix: str, saver_on: SaverOn, missing: str
) -> None:
    """Later calls on a connection left in a transaction would do nothing, without an error."""
    settings = "--rename-command", missing, ""
    with running_server(any_binary(), *settings) as url, redis.Redis.from_url(url) as client:
        store_a_file(saver_on(url, prefix=prefix), client, prefix)


def test_a_refused_transaction_is_tried_again_some_time_later(
    server: str,
    client: redis.Redis,
    prefix: str,
    saver_on: SaverOn,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A moment's failure of a proxy would make each large write slower until the process ends."""
    with user(client, prefix, COMMANDS) as name:
        saver = saver_on(url_of(server, name), prefix=prefix)
        put(saver, 1, file=FILE)
        client.execute_command("ACL SETUSER", name, "+multi", "+exec")
        client.config_resetstat()
        put(saver, 2, file=new_file(2))
        assert "cmdstat_multi" not in client.info("commandstats")
        monkeypatch.setattr(transactions, "monotonic", lambda: monotonic() + SECONDS_WITHOUT)
        put(saver, 3, file=new_file(3))
        assert client.info("commandstats")["cmdstat_exec"]["calls"] == 2  # one only asks for it
        client.execute_command("ACL SETUSER", name, "-multi")  # later on
        put(saver, 4, file=new_file(4))
        assert found_values(saver)["file"] == new_file(4)


def new_file(number: int) -> bytes:
    """Return bytes that the server does not have yet."""
    return Random(number).randbytes(LARGE + 1000)


def test_a_proxy_that_hangs_up_at_a_transaction_costs_one_connection(
    server: str, client: redis.Redis, prefix: str, saver_on: SaverOn
) -> None:
    """No file could be stored through a proxy that knows no transactions."""
    faults = [Fault.LOST_REQUEST]
    target = str(urlsplit(server).hostname), urlsplit(server).port or 0
    client.config_resetstat()
    with running_proxy(target, lambda: faults.pop() if faults else None) as proxy:
        saver = saver_on(proxy.url, prefix=prefix)
        put(saver, 1, file=FILE)
        assert proxy.met == {Fault.LOST_REQUEST: 1}
        assert found_values(saver)["file"] == FILE
    assert "cmdstat_exec" not in client.info("commandstats")


def found_values(saver: Saver) -> dict[str, Any]:
    found = saver.get_tuple(HERE)
    assert found
    return found.checkpoint["channel_values"]


def test_chunks_without_a_note_do_not_stay_in_a_thread_without_rows(
    client: redis.Redis, prefix: str
) -> None:
    """Megabytes would stay that no command finds, where both scripts of a transaction failed."""
    call = large_call(RedisSaver(client, prefix=prefix))
    _, _, chunks, _, settle, _ = build_transaction(call, call.first_chunk or 0)
    with client.pipeline() as pipeline:  # Redis 6.2, full for a moment, answers like this
        for command in (("EVAL", "error('full')", 0), chunks, ("EVAL", "error('full')", 0), settle):
            pipeline.execute_command(*command)
        pipeline.execute(raise_on_error=False)
    assert 50 < client.ttl(Keyspace(prefix).thread("a").chunks) <= 60
    RedisSaver(client, prefix=prefix).put_writes(_config(1), [("c", "c")], "task")
    assert client.ttl(Keyspace(prefix).thread("a").chunks) == -1


def large_call(saver: RedisSaver) -> Call[Any]:
    """Return the call of a `put` whose chunks go ahead."""
    checkpoint = checkpoint_at(1, file=FILE)
    what = HERE, checkpoint, generate_metadata(), checkpoint["channel_versions"]
    calls = requests_of(saver, writing.put(saver._context, *what))
    return next(call for call in calls if isinstance(call, Call) and call.first_chunk)


def test_a_full_server_says_so_and_keeps_nothing(prefix: str, saver_on: SaverOn) -> None:
    """A full server would raise something that is not known as that, or fill up further."""
    with running_server(any_binary()) as url, redis.Redis.from_url(url) as client:
        saver = saver_on(url, prefix=prefix)
        put(saver, 1, c="c")
        before = stored(client, prefix)
        client.config_set("maxmemory", 1)
        with pytest.raises(redis.ResponseError, match="maxmemory"):
            put(saver, 2, _config(1), file=FILE)
        client.config_set("maxmemory", 0)
        assert stored(client, prefix) == before
        put(saver, 2, _config(1), file=FILE)


def test_a_large_write_waits_for_replicas_as_others_do(
    server: str, client: redis.Redis, prefix: str, saver_on: SaverOn
) -> None:
    """A file would count as confirmed while only one server has it."""
    saver = saver_on(server, prefix=prefix, confirm=Confirm(replicas=1, timeout=0.01))
    with pytest.raises(UnconfirmedError):
        put(saver, 1, file=FILE)
    found = RedisSaver(client, prefix=prefix).get_tuple(HERE)
    assert found
    assert found.checkpoint["channel_values"]["file"] == FILE
