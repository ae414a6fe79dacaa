"""Connections of our own: what goes over them, and what happens when they fail."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from threading import Thread
from types import SimpleNamespace
from typing import Any

import hiredis
import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableConfig
from redis.exceptions import (
    InvalidResponse,
    MasterDownError,
    NoScriptError,
    ReadOnlyError,
    ResponseError,
)

from langgraph_checkpoint_redis import (
    AsyncRedisSaver,
    EventLoopError,
    RedisSaver,
    ThreadLeasedError,
)
from langgraph_checkpoint_redis._protocol import resp
from langgraph_checkpoint_redis._protocol.resp import Replies, encode_command, pack_commands
from langgraph_checkpoint_redis._transport.retry import RetryPolicy, must_leave
from langgraph_checkpoint_redis._transport.shared_lines import SECONDS_TO_FINISH
from langgraph_checkpoint_redis._transport.sync_own_links import _Wire
from langgraph_checkpoint_redis._transport.urls import read_url

from .counting import cost
from .driving import Saver
from .servers import running_node, wait_until
from .story import chat, thread, use

SaverOn = Callable[..., Saver]

# The protocol

STRINGS = st.binary(max_size=40) | st.sampled_from([b"", b"\r\n", b"$3\r\n", b"x" * 5000])
REPLIES = st.recursive(
    st.none() | STRINGS | st.integers(-(2**63), 2**63 - 1),
    lambda replies: st.lists(replies, max_size=12),
    max_leaves=30,
)


def encoded(reply: Any) -> bytes:
    """A reply as servers send it."""
    if reply is None:
        return b"$-1\r\n"
    if isinstance(reply, int):
        return b":%d\r\n" % reply
    if isinstance(reply, bytes):
        return b"$%d\r\n%b\r\n" % (len(reply), reply)
    return b"*%d\r\n" % len(reply) + b"".join(map(encoded, reply))


@settings(deadline=None)
@given(replies=st.lists(REPLIES, max_size=5), cuts=st.lists(st.integers(1, 60), min_size=1))
def test_replies_are_read_whatever_pieces_they_come_in(replies: list[Any], cuts: list[int]) -> None:
    """Values would be mixed up, or waited for in vain."""
    data, reader = b"".join(map(encoded, replies)), Replies()
    found: list[Any] = []
    while data:
        piece, data = data[: cuts[0]], data[cuts[0] :]
        cuts = [*cuts[1:], cuts[0]]
        found += reader.feed(piece)
    assert found == replies


def test_errors_are_those_of_redis_py() -> None:
    """Programs catch errors by the classes that they know."""
    data = b"-NOSCRIPT no\r\n*2\r\n-READONLY no\r\n:1\r\n+OK\r\n-ERR \xff\r\n"
    unknown, (read_only, one), ok, other = Replies().feed(data)
    assert (type(unknown), type(read_only), one, ok) == (NoScriptError, ReadOnlyError, 1, b"OK")
    assert isinstance(other, ResponseError)


def test_what_is_no_reply_is_an_error() -> None:
    """A port of another program would be waited for without an end."""
    with pytest.raises((InvalidResponse, ValueError)):
        list(Replies().feed(b"HTTP/1.1 400 Bad Request\r\n\r\n"))


@settings(deadline=None)
@given(
    command=st.lists(st.text(max_size=20) | STRINGS | st.integers(-(2**63), 2**63 - 1), min_size=1)
)
def test_requests_are_alike_however_large_they_are(command: list[Any]) -> None:
    """What works for short values would fail for long ones."""
    packed = pack_commands([tuple(command)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resp, "LARGE", 0)
        assert pack_commands([tuple(command)]) == packed


def test_a_library_in_c_is_given_nothing_but_bytes(
    saver: Saver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of other things it makes objects, and crashes if a signal handler raises meanwhile."""
    packed: list[tuple[Any, ...]] = []
    pack: Callable[..., bytes] = hiredis.pack_command

    def watched(command: tuple[Any, ...]) -> bytes:
        packed.append(command)
        return pack(command)

    ours = SimpleNamespace(pack_command=watched, Reader=hiredis.Reader)  # redis-py packs by itself
    monkeypatch.setattr(resp, "hiredis", ours)
    use(saver)
    assert packed
    assert {type(part) for command in packed for part in command} == {bytes}
    assert {type(part) for part in encode_command(("EVAL", "return 1", 0, b"x"))[1:]} == {bytes}


# Sharing


@pytest.fixture
def url(server: str) -> str:
    return server


async def _all_at_once(saver: AsyncRedisSaver, threads: list[RunnableConfig]) -> None:
    await asyncio.gather(*(saver.aget_tuple(thread) for thread in threads))


def test_calls_of_one_moment_are_sent_together(
    loop: asyncio.AbstractEventLoop, client: redis.Redis, url: str, prefix: str
) -> None:
    """A process with many conversations would spend its time on system calls."""
    saver = AsyncRedisSaver(url, prefix=prefix)
    threads = [thread(f"t{number}") for number in range(100)]
    loop.run_until_complete(_all_at_once(saver, threads[:1]))
    found = [
        cost(client, lambda: loop.run_until_complete(_all_at_once(saver, threads)))
        for _ in range(5)
    ]
    loop.run_until_complete(saver.aclose())
    assert {one.commands["evalsha"] for one in found} == {100}
    # Not 100; but the server reads in pieces what is long, and what is short if it is busy.
    assert min(one.round_trips for one in found) <= 50


def test_many_calls_take_few_connections(
    loop: asyncio.AbstractEventLoop, client: redis.Redis, url: str, prefix: str
) -> None:
    """A server with many processes would run out of connections."""
    saver = AsyncRedisSaver(url, prefix=prefix)
    before = client.info("clients")["connected_clients"]

    async def runs() -> int:
        threads = [thread(f"t{number}") for number in range(300)]
        for _ in range(3):
            await _all_at_once(saver, threads)
        return int(client.info("clients")["connected_clients"]) - int(before)

    assert loop.run_until_complete(runs()) <= 4
    loop.run_until_complete(saver.aclose())


def test_a_large_reply_does_not_hold_up_small_ones(
    loop: asyncio.AbstractEventLoop, url: str, prefix: str
) -> None:
    """One conversation with a large file would make all others of the process wait."""
    saver = AsyncRedisSaver(url, prefix=prefix)
    checkpoint, *rest = chat(1)
    checkpoint["channel_values"]["c"] = HumanMessage("x" * 30_000_000, id="large")

    async def first() -> str:
        other, ended = AsyncRedisSaver(url, prefix=prefix), list[str]()
        await asyncio.gather(*(other.aget_tuple(thread("small")) for _ in range(9)))

        async def read(thread_id: str) -> None:
            await other.aget_tuple(thread(thread_id))
            ended.append(thread_id)

        large = asyncio.ensure_future(read("large"))
        await asyncio.sleep(0.01)
        await asyncio.gather(*(read("small") for _ in range(5)))
        await large
        await other.aclose()
        return ended[0]

    async def at_least_once() -> bool:  # a busy machine may sleep until all is over
        await saver.aput(thread("large"), checkpoint, *rest)
        await saver.aput(thread("small"), *chat(1))
        return any([await first() == "small" for _ in range(5)])

    assert loop.run_until_complete(at_least_once())
    loop.run_until_complete(saver.aclose())


def test_who_gives_up_disturbs_no_others(
    loop: asyncio.AbstractEventLoop, url: str, prefix: str
) -> None:
    """A person who closes the window would break the turns of others."""
    saver = AsyncRedisSaver(url, prefix=prefix)

    async def work() -> None:
        for number in range(30):
            at = await saver.aput(thread(f"t{number}"), *chat(number))
            tasks = [asyncio.ensure_future(saver.aget_tuple(at)) for _ in range(10)]
            await asyncio.sleep(0)
            for task in tasks[::2]:
                task.cancel()
            found = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(isinstance(result, asyncio.CancelledError) for result in found[::2])
            for result in found[1::2]:
                assert not isinstance(result, BaseException)
                assert result
                assert result.metadata["run_id"] == f"run {number}"

    loop.run_until_complete(work())
    loop.run_until_complete(saver.aclose())


def test_who_gives_up_as_the_reply_comes_does_not_wait(
    loop: asyncio.AbstractEventLoop, url: str, prefix: str
) -> None:
    """Where one branch of a graph fails, each cancelled one would hold up its turn by a second."""
    saver = AsyncRedisSaver(url, prefix=prefix)

    async def seconds() -> float:
        await saver.aget_tuple(thread("a"))
        others: list[asyncio.Task[Any]] = []

        async def fail() -> None:
            await saver.aget_tuple(thread("a"))
            for task in others:
                task.cancel()

        failing = asyncio.ensure_future(fail())
        others += [asyncio.ensure_future(saver.aget_tuple(thread("a"))) for _ in range(5)]
        began = loop.time()
        results = await asyncio.gather(failing, *others, return_exceptions=True)
        assert any(isinstance(result, asyncio.CancelledError) for result in results)
        return loop.time() - began

    assert loop.run_until_complete(seconds()) < SECONDS_TO_FINISH
    loop.run_until_complete(saver.aclose())


# Closing


@pytest.mark.parametrize("is_open", [True, False])
def test_closing_leaves_nothing_of_calls_that_go_on(
    loop: asyncio.AbstractEventLoop, client: redis.Redis, url: str, prefix: str, *, is_open: bool
) -> None:
    """A program that opens and closes savers would run out of connections."""
    saver = AsyncRedisSaver(url, prefix=prefix)

    async def close_meanwhile() -> None:
        if is_open:
            await saver.aget_tuple(thread("a"))
        before = await saver._connections.here()
        call = asyncio.ensure_future(saver.aget_tuple(thread("a")))
        await asyncio.sleep(0)
        await saver.aclose()
        assert await call is None  # over other connections, which the saver knows of
        left: Any = before
        assert not left._shared._lines
        await saver.aclose()

    found = client.info("clients")["connected_clients"]
    loop.run_until_complete(close_meanwhile())
    wait_until(lambda: client.info("clients")["connected_clients"] <= found, "some are left")


def test_a_thread_does_not_wait_for_ever_for_a_saver_that_is_closed(prefix: str) -> None:
    """A worker would never end."""
    with running_node() as url, redis.Redis.from_url(url) as client:
        saver, errors = AsyncRedisSaver(url, prefix=prefix), list[Exception]()
        saver.get_tuple(thread("a"))

        def read() -> None:
            try:
                saver.get_tuple(thread("a"))
            except EventLoopError as error:
                errors.append(error)

        client.execute_command("CLIENT", "PAUSE", "10000", "ALL")
        reading = Thread(target=read, daemon=True)
        reading.start()
        loop = saver._connections.loop_for_waiting()
        wait_until(lambda: bool(asyncio.all_tasks(loop)), "nothing was asked")
        saver.close()
        reading.join(5)
        assert errors


# Failing


def test_a_replica_that_waits_for_its_primary_is_left_for_another_server() -> None:
    """After a failover, calls would insist on a server that has lost its primary."""
    assert must_leave(MasterDownError("Link with MASTER is down"))
    assert must_leave(ResponseError("NOREPLICAS Not enough good replicas to write."))
    assert not must_leave(ResponseError("ERR other"))


IN_A_SCRIPT = f"Error running script (call to f_{'0' * 40}): @user_script:1: "


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("BUSY Redis is busy running a script.", True),
        ("NOREPLICAS Not enough good replicas to write.", True),
        (IN_A_SCRIPT + "@user_script: 1: -NOREPLICAS Not enough good replicas to write.", True),
        (IN_A_SCRIPT + "@user_script: 1: -READONLY You can't write", True),
        (IN_A_SCRIPT + "-READONLY You can't write", True),
        ("ERR " + IN_A_SCRIPT + "-NOREPLICAS Not enough", True),
        ("MASTERDOWN Link with MASTER is down", True),
        ("ERR in thread x NOREPLICAS y", False),
        ("THREADLEASED lg:{BUSY }:timeline", False),
        ("WRONGTYPE -READONLY MASTERDOWN BUSY NOREPLICAS ", False),
        (IN_A_SCRIPT + "x -READONLY y", False),
        ("BUSYKEY Target key name already exists.", False),
    ],
)
def test_only_the_code_of_an_error_decides_what_is_asked_again(text: str, *, passes: bool) -> None:
    """A name with such a word in it would make a refusal last ten seconds for everybody."""
    error = ResponseError(text)
    patience = RetryPolicy(read_url("redis://h"), "put", was_reached=True)
    if passes:
        patience.seconds_until_retry(error)
    else:
        assert not must_leave(error)
        with pytest.raises(Exception):  # noqa: B017, PT011 - whatever it is explained as
            patience.seconds_until_retry(error)


@pytest.mark.parametrize("word", ["x NOREPLICAS y", "BUSY ", "-READONLY ", "MASTERDOWN x"])
def test_names_with_such_words_in_them_are_refused_at_once(
    saver: Saver, server: str, prefix: str, client: redis.Redis, word: str
) -> None:
    """A refusal would take ten seconds, and break the connections of all other calls."""
    before = client.info("stats")["total_connections_received"]
    with (
        RedisSaver.from_conn_string(server, prefix=prefix) as other,
        other.lease(word),
    ):
        saver.get_tuple(thread(word))
        connected = client.info("stats")["total_connections_received"]
        with pytest.raises(ThreadLeasedError):
            saver.put(thread(word), *chat(1))
    assert connected > before
    assert client.info("stats")["total_connections_received"] == connected


def test_a_server_that_says_nothing_is_an_error(saver_on: SaverOn) -> None:
    """A turn would hang for ever behind a server, or a network, that is stuck."""
    with running_node() as url, redis.Redis.from_url(url) as client:
        saver = saver_on(f"{url}?socket_timeout=0.3")
        saver.put(thread("a"), *chat(1))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("langgraph_checkpoint_redis._transport.retry.SECONDS_TO_RECOVER", 0.1)
            client.execute_command("CLIENT", "PAUSE", "1000", "ALL")
            with pytest.raises(redis.TimeoutError):
                saver.get_tuple(thread("a"))
        assert saver.get_tuple(thread("a"))  # when it is back


def test_idle_connections_may_be_closed_by_the_server(
    saver_on: SaverOn, client: redis.Redis, url: str, prefix: str
) -> None:
    """The first turn after a quiet night would fail."""
    saver = saver_on(url, prefix=prefix)
    saver.put(thread("a"), *chat(1))
    for _ in range(5):
        client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        assert saver.get_tuple(thread("a"))


def test_many_idle_connections_that_are_gone_cost_one_failure(
    client: redis.Redis, url: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a failover, each thread of a pool would fail in its turn."""
    monkeypatch.setattr("langgraph_checkpoint_redis._transport.retry.SECONDS_TO_RECOVER", 0.0)
    with RedisSaver.from_conn_string(url, prefix=prefix) as saver:
        saver.put(thread("a"), *chat(1))
        link: Any = saver._connections.link
        link._idle.extend([_Wire(link.client.connection_pool) for _ in range(9)])
        client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        with pytest.raises(redis.ConnectionError):
            saver.get_tuple(thread("a"))
        assert saver.get_tuple(thread("a"))


def test_a_server_with_no_room_for_connections_is_used_with_those_that_there_are(
    loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs would fail, though their process is connected."""
    monkeypatch.setattr("langgraph_checkpoint_redis._transport.retry.SECONDS_TO_RECOVER", 0.0)
    with running_node() as url, redis.Redis.from_url(url) as client:
        saver = AsyncRedisSaver(url)

        async def work() -> None:
            await saver.aput(thread("a"), *chat(1))
            client.config_set("maxclients", client.info("clients")["connected_clients"])
            client.execute_command("CLIENT", "PAUSE", "100", "ALL")  # long enough for another line
            first = asyncio.ensure_future(saver.aget_tuple(thread("a")))
            await asyncio.sleep(0.02)
            found = await asyncio.gather(first, *(saver.aget_tuple(thread("a")) for _ in range(5)))
            assert all(found)

        loop.run_until_complete(work())
        loop.run_until_complete(saver.aclose())
