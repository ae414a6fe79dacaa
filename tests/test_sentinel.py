"""A primary that sentinels watch: finding it, and finding the next one after it has failed."""

from __future__ import annotations

import asyncio
import threading
import time
from asyncio import AbstractEventLoop
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
import redis
import redis.asyncio
from redis.backoff import NoBackoff

from langgraph_checkpoint_redis import AsyncRedisSaver, RedisSaver, UnconfirmedError
from langgraph_checkpoint_redis._transport import sentinels

from .driving import Saver
from .forking import ran_with_locks_held
from .servers import SERVICE, Address, Watched, address, running_sentinels, wait_until
from .story import chat, kill_soon, store, thread, use

BEFORE, MEANWHILE, AFTER = range(10), range(10, 40), range(40, 70)

SaverOn = Callable[..., Saver]
Client = tuple[Address, str]  # a sentinel, and the id that a client has there


@pytest.fixture(scope="module")
def watched() -> Iterator[Watched]:
    """Servers that stay as they are."""
    with running_sentinels(replicas=1) as watched:
        yield watched


@pytest.mark.parametrize("end", ["", "/3", "?protocol=2", "?socket_timeout=2"])
def test_sentinels_lead_to_the_primary(watched: Watched, saver_on: SaverOn, end: str) -> None:
    """A set-up that survives the loss of a machine could not be used."""
    saver = saver_on(watched.url + end)
    use(saver)
    saver.put(thread("a"), *chat(1))
    assert watched.servers[0].info("keyspace")[f"db{3 if end == '/3' else 0}"]
    saver.delete_thread("a")


def test_sentinels_that_are_away_hold_nobody_up(watched: Watched, saver_on: SaverOn) -> None:
    """When a machine fails, the sentinel on it does, too: the failover would take much longer."""
    away = watched.url.replace("//", "//127.0.0.1:1,127.0.0.1:2,")
    start = time.monotonic()
    assert saver_on(away).get_tuple(thread("a")) is None
    assert time.monotonic() - start < 2


@pytest.mark.parametrize(
    ("login", "end"), [("nobody:wrong@", ""), ("", "?sentinel_username=x&sentinel_password=wrong")]
)
def test_wrong_credentials_are_named(
    watched: Watched, saver_on: SaverOn, monkeypatch: pytest.MonkeyPatch, login: str, end: str
) -> None:
    """A typing error in a password would look like servers that are away."""
    monkeypatch.setattr("langgraph_checkpoint_redis._transport.retry.SECONDS_TO_RECOVER", 0.1)
    url = watched.url.replace("//", f"//{login}") + end
    refusal = r"(?i)invalid username-password|AuthenticationError"
    with pytest.raises(redis.ConnectionError, match=refusal):
        saver_on(url).get_tuple(thread("a"))


def test_a_server_among_sentinels_holds_nobody_up(
    watched: Watched, saver_on: SaverOn, own_url: str
) -> None:
    """One wrong port of three would keep a program from its threads."""
    assert saver_on(watched.url.replace("//", f"//{own_url},")).get_tuple(thread("a")) is None


@pytest.fixture
def own_url(watched: Watched) -> str:
    """Where a server is that is no sentinel."""
    return "{}:{}".format(*address(watched.servers[0]))


def test_a_service_that_sentinels_do_not_know_is_an_error(
    watched: Watched, saver_on: SaverOn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A typing error would look like a failover that never ends."""
    monkeypatch.setattr("langgraph_checkpoint_redis._transport.retry.SECONDS_TO_RECOVER", 0.1)
    with pytest.raises(
        redis.ConnectionError, match=r"do not watch the service .other., only .chats."
    ):
        saver_on(watched.url.replace(SERVICE, "other")).get_tuple(thread("a"))


def test_nothing_is_left_open(watched: Watched, kind: str, loop: AbstractEventLoop) -> None:
    """Programs that make many savers would run out of connections, to sentinels first."""
    before = _clients_of_sentinels(watched)
    if kind == "sync":
        with RedisSaver.from_conn_string(watched.url) as saver:
            saver.get_tuple(thread("a"))
            assert _clients_of_sentinels(watched) - before
    else:
        loop.run_until_complete(_use_and_close(watched, before))
    wait_until(lambda: _clients_of_sentinels(watched) <= before, "a connection stays open")


async def _use_and_close(watched: Watched, before: set[Client]) -> None:
    async with AsyncRedisSaver.from_conn_string(watched.url) as saver:
        await saver.aget_tuple(thread("a"))
        assert _clients_of_sentinels(watched) - before


def _clients_of_sentinels(watched: Watched) -> set[Client]:
    """Return who is connected to sentinels, except other sentinels, which come and go."""
    found = set()
    for sentinel in watched.sentinels:
        with redis.Redis(*sentinel) as client:
            own = client.client_id()
            for one in client.client_list():
                if int(one["id"]) != own and not one["name"].startswith("sentinel-"):
                    found.add((sentinel, one["id"]))
    return found


@pytest.mark.parametrize("asks", ["a call", "a look"])
def test_a_close_that_overtakes_a_question_to_sentinels_leaves_nothing_open(
    watched: Watched,
    kind: str,
    loop: AbstractEventLoop,
    monkeypatch: pytest.MonkeyPatch,
    asks: str,
) -> None:
    """A program that closes savers while they work would run out of connections one day."""
    before = _clients_of_sentinels(watched)
    saver: Any = (RedisSaver if kind == "sync" else AsyncRedisSaver)(watched.url)
    if kind == "sync":
        _close_too_early(saver, monkeypatch, asks)
    else:
        loop.run_until_complete(_close_too_early_awaited(saver, monkeypatch, asks))
    wait_until(lambda: _clients_of_sentinels(watched) <= before, "a connection stays open")


def _close_too_early(saver: RedisSaver, monkeypatch: pytest.MonkeyPatch, asks: str) -> None:
    asked, answered, closed = threading.Event(), threading.Event(), threading.Event()
    discover: Any = sentinels.Sentinel.discover_master

    def late(*of: Any) -> Any:
        asked.set()
        assert closed.wait(10)
        try:
            return discover(*of)
        finally:
            answered.set()

    if asks == "a look":
        saver.get_tuple(thread("a"))
    monkeypatch.setattr(sentinels.Sentinel, "discover_master", late)
    with ThreadPoolExecutor() as threads:
        if asks == "a look":
            wait_until(
                lambda: saver.get_tuple(thread("a")) is None and asked.is_set(), "nobody looks"
            )
        else:
            call = threads.submit(saver.get_tuple, thread("a"))
            assert asked.wait(10)
        saver.close()
        closed.set()
        assert answered.wait(10)
    if asks == "a call":
        assert call.result() is None
        saver.close()  # the call has opened it again


async def _close_too_early_awaited(
    saver: AsyncRedisSaver, monkeypatch: pytest.MonkeyPatch, asks: str
) -> None:
    asked, closed = asyncio.Event(), asyncio.Event()
    discover: Any = sentinels.AsyncSentinel.discover_master

    async def late(*of: Any) -> Any:
        asked.set()
        await closed.wait()
        return await discover(*of)

    if asks == "a look":
        await saver.aget_tuple(thread("a"))
    monkeypatch.setattr(sentinels.AsyncSentinel, "discover_master", late)
    if asks == "a look":
        while not asked.is_set():
            assert await saver.aget_tuple(thread("a")) is None
            await asyncio.sleep(0.05)
    else:
        call = asyncio.ensure_future(saver.aget_tuple(thread("a")))
        await asyncio.wait_for(asked.wait(), 10)
    await saver.aclose()
    closed.set()
    if asks == "a call":
        assert await call is None
        await saver.aclose()  # the call has opened it again


def test_a_process_may_fork_while_another_thread_asks_sentinels(
    watched: Watched, kind: str
) -> None:
    """The connections to sentinels have locks, too, and stay locked in the child."""
    client = f"of.Sentinel({watched.sentinels}).master_for({SERVICE!r})"
    assert ran_with_locks_held(watched.url, "fork", kind, client) == "done"


@pytest.mark.parametrize("all_wait", [False, True])
def test_a_primary_that_sentinels_no_longer_name_is_left(
    saver_on: SaverOn, *, all_wait: bool
) -> None:
    """After a failover, a saver would go on writing to a server whose writes will be lost."""
    with running_sentinels(replicas=1) as watched:
        saver = saver_on(watched.url)
        saver.put(thread("a"), *chat(1))
        old, new = watched.servers
        new.execute_command("REPLICAOF", "NO", "ONE")
        for sentinel in watched.sentinels:
            with redis.Redis(*sentinel) as client:
                client.execute_command("SENTINEL", "REMOVE", SERVICE)
                client.execute_command("SENTINEL", "MONITOR", SERVICE, *address(new), "2")
        began = time.monotonic()
        if all_wait:  # nothing happens but that calls wait for the old primary
            old.execute_command("CLIENT", "PAUSE", "10000", "ALL")
            saver.put(thread("b"), *chat(2))
        else:
            while not new.exists("lg:{b}:timeline"):
                saver.put(thread("b"), *chat(2))
                assert time.monotonic() - began < 4
        assert time.monotonic() - began < 4  # less than the time-out of a call
        assert new.exists("lg:{b}:timeline")


def test_a_server_that_is_no_primary_is_not_written_to(
    watched: Watched, saver_on: SaverOn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a sentinel with old news says would be believed."""
    monkeypatch.setattr("langgraph_checkpoint_redis._transport.retry.SECONDS_TO_RECOVER", 0.1)
    replica = watched.servers[1]

    async def named_async(*_: object) -> tuple[str, int]:
        return address(replica)

    monkeypatch.setattr(sentinels.Sentinel, "discover_master", lambda *_: address(replica))
    monkeypatch.setattr(sentinels.AsyncSentinel, "discover_master", named_async)
    with pytest.raises(redis.ConnectionError, match="not a primary"):
        saver_on(watched.url).get_tuple(thread("a"))


@pytest.mark.slow
@pytest.mark.parametrize("confirmed", [True, False], ids=["confirmed", "paused"])
def test_a_failover_as_documented_loses_no_acknowledged_write(
    saver_on: SaverOn, kind: str, *, confirmed: bool
) -> None:
    """Whoever follows the documentation would lose the turns of some seconds."""
    with running_sentinels() as watched:
        confirm = {"replicas": 2, "timeout": 1} if confirmed else None
        of = RedisSaver if kind == "sync" else AsyncRedisSaver
        savers = [of(watched.url, confirm=confirm) for _ in range(4)]
        acknowledged: list[str] = []
        ends = time.monotonic() + 9

        def work(saver: RedisSaver | AsyncRedisSaver) -> None:
            number = 0
            while time.monotonic() < ends:
                number += 1
                name = f"{id(saver)}-{number}"
                with suppress(UnconfirmedError):
                    saver.put(thread(name), *chat(number))
                    acknowledged.append(name)

        with ThreadPoolExecutor(4) as threads:
            works = [threads.submit(work, saver) for saver in savers]
            time.sleep(1)
            if not confirmed:
                _pause_until_replicas_have_all(watched)
            with redis.Redis(*watched.sentinels[0]) as sentinel:
                sentinel.execute_command("SENTINEL", "FAILOVER", SERVICE)
            for one in works:
                one.result()
        new = saver_on(watched.url)
        lost = [name for name in acknowledged if new.get_tuple(thread(name)) is None]
        for saver in savers:
            saver.close()
    assert len(acknowledged) > 100
    assert not lost


def _pause_until_replicas_have_all(watched: Watched) -> None:
    primary, *replicas = watched.servers
    primary.execute_command("CLIENT", "PAUSE", "10000", "WRITE")
    offset = primary.info("replication")["master_repl_offset"]
    wait_until(
        lambda: all(one.info("replication")["slave_repl_offset"] >= offset for one in replicas),
        "the replicas do not catch up",
    )


@pytest.fixture(params=["url", "client"])
def failing_over(
    request: pytest.FixtureRequest, kind: str, loop: AbstractEventLoop, saver_on: SaverOn
) -> Iterator[tuple[str, Saver, Watched]]:
    """A saver that was made in one of the two ways, and servers that may be killed."""
    with running_sentinels() as watched:
        if request.param == "url":
            yield request.param, saver_on(watched.url), watched
        else:
            client = _client(watched, kind)
            yield request.param, saver_on(client), watched
            _close(client, loop)


def _client(watched: Watched, kind: str) -> Any:
    of: Any = redis if kind == "sync" else redis.asyncio
    # Without retries of its own: they would go to the address of the primary that has failed.
    retry = of.retry.Retry(NoBackoff(), 0)
    return of.Sentinel(watched.sentinels, socket_timeout=2).master_for(SERVICE, retry=retry)


def _close(client: Any, loop: AbstractEventLoop) -> None:
    for opened in (client, *client.connection_pool.sentinel_manager.sentinels):
        if isinstance(opened, redis.Redis):
            opened.close()
        else:
            loop.run_until_complete(opened.aclose())


def _once(call: Callable[[], object]) -> None:
    call()


def _insist(call: Callable[[], object]) -> None:
    """Do what a program must do itself that passes in a client."""

    def is_done() -> bool:
        try:
            call()
        except (redis.ConnectionError, redis.TimeoutError):
            return False
        return True

    wait_until(is_done, "no other primary comes")


@pytest.mark.slow
def test_runs_go_on_when_the_primary_is_killed(failing_over: tuple[str, Saver, Watched]) -> None:
    """The loss of a machine would fail the runs that are on their way, or lose what they stored."""
    made_of, saver, watched = failing_over
    store(saver, BEFORE)
    primary = watched.servers[0]
    primary.set("last", 1)
    assert primary.wait(2, 5000) == 2  # what came before it is on the replicas, too
    ask = _insist if made_of == "client" else _once
    is_alive = kill_soon(primary)
    while is_alive():
        ask(partial(store, saver, MEANWHILE))
    ask(partial(store, saver, AFTER))
    for number in (*BEFORE, *AFTER):
        found = saver.get_tuple(thread(str(number)))
        assert found
        assert found.checkpoint["channel_values"]["c"][4] == f"{number} {4:600}"
