"""A primary that sentinels watch: finding it, and finding the next one after it has failed."""

from __future__ import annotations

import time
from asyncio import AbstractEventLoop
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import redis
import redis.asyncio
from redis.backoff import NoBackoff

from langgraph_checkpoint_redis import AsyncRedisSaver, RedisSaver

from .driving import Saver
from .servers import SERVICE, Watched, running_sentinels, wait_until
from .story import chat, kill_soon, store, thread, use

BEFORE, MEANWHILE, AFTER = range(10), range(10, 40), range(40, 70)

SaverOn = Callable[..., Saver]


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
    monkeypatch.setattr("langgraph_checkpoint_redis._clients.SECONDS_TO_RECOVER", 0.1)
    url = watched.url.replace("//", f"//{login}") + end
    refusal = r"(?i)invalid username-password|AuthenticationError"
    with pytest.raises(redis.ConnectionError, match=refusal):
        saver_on(url).get_tuple(thread("a"))


def test_a_service_that_sentinels_do_not_know_is_an_error(
    watched: Watched, saver_on: SaverOn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A typing error would look like a failover that never ends."""
    monkeypatch.setattr("langgraph_checkpoint_redis._clients.SECONDS_TO_RECOVER", 0.1)
    with pytest.raises(redis.ConnectionError, match="No master found for 'other'"):
        saver_on(watched.url.replace(SERVICE, "other")).get_tuple(thread("a"))


def test_nothing_is_left_open(watched: Watched, kind: str, loop: AbstractEventLoop) -> None:
    """Programs that make many savers would run out of connections, to sentinels first."""
    before = _clients_of_sentinels(watched)
    if kind == "sync":
        with RedisSaver.from_conn_string(watched.url) as saver:
            saver.get_tuple(thread("a"))
    else:
        loop.run_until_complete(_use_and_close(watched.url))
    wait_until(lambda: _clients_of_sentinels(watched) <= before, "a connection stays open")


async def _use_and_close(url: str) -> None:
    async with AsyncRedisSaver.from_conn_string(url) as saver:
        await saver.aget_tuple(thread("a"))


def _clients_of_sentinels(watched: Watched) -> int:
    total = 0
    for sentinel in watched.sentinels:
        with redis.Redis(*sentinel) as client:
            total += client.info("clients")["connected_clients"]
    return total


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
