"""Writes that count as done only when they are on disk, or on other servers too."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import pytest
import redis

from langgraph_checkpoint_redis import (
    AsyncRedisSaver,
    ConfigError,
    Confirm,
    DurabilityWarning,
    RedisSaver,
    UnconfirmedError,
)
from tests.local_server import running_server

from .counting import cost
from .documented import COMMANDS, WAIT, WAITAOF
from .driving import Saver
from .servers import address, any_binary, has_link, running_node, wait_until
from .story import chat, thread

SaverOn = Callable[..., Saver]

SOON = 0.2  # seconds: for what is not to be reached
ALWAYS = ("--appendonly", "yes", "--appendfsync", "always")


class Pair:
    """A primary with one replica."""

    def __init__(self, primary: redis.Redis, replica: redis.Redis) -> None:
        self.primary, self.replica = primary, replica
        self.url = "redis://{}:{}".format(*address(primary))


@pytest.fixture(scope="module")
def started() -> Iterator[Pair]:
    with running_node(*ALWAYS) as url, redis.Redis.from_url(url) as primary:
        host, port = address(primary)
        with (
            running_node("--replicaof", host, str(port)) as replica_url,
            redis.Redis.from_url(replica_url) as replica,
        ):
            wait_until(lambda: has_link(replica), "the replica does not follow")
            yield Pair(primary, replica)


@pytest.fixture
def pair(started: Pair) -> Pair:
    """The primary, empty, and its replica."""
    started.primary.flushall()
    return started


@pytest.fixture
def in_memory() -> Iterator[str]:
    """A server that writes nothing to its disk."""
    with running_node() as url:
        yield url


def knows_waitaof(client: redis.Redis) -> bool:
    """Whether a server is new enough to tell of its disk."""
    major, minor, *_ = map(int, client.info("server")["redis_version"].split("."))
    return (major, minor) >= (7, 2)


def stored(client: redis.Redis) -> int:
    """How many checkpoints of thread `a` a server has."""
    return int(client.zcard("lg:{a}:timeline"))


WITHIN_SECONDS = 3.0


def put(saver: Saver, **configurable: Any) -> None:
    """Add a checkpoint and writes to thread `a`."""
    at = saver.put(thread("a", **configurable), *chat(1))
    at["configurable"] |= configurable
    saver.put_writes(at, [("messages", "hi")], "task")


@pytest.mark.parametrize("passed", ["url", "client"])
def test_a_confirmed_write_is_on_the_replica_when_the_call_returns(
    pair: Pair, saver_on: SaverOn, passed: str, client_of: Callable[..., Any]
) -> None:
    """A failover right after an answer would take back what a person has been told."""
    saver = saver_on(client_of(pair.url) if passed == "client" else pair.url, **_to(1))
    for _ in range(20):
        put(saver)
        assert stored(pair.replica) == 1
        saver.delete_thread("a")
        assert stored(pair.replica) == 0


def _to(replicas: int, timeout: float = WITHIN_SECONDS) -> dict[str, Any]:
    return {"confirm": Confirm(replicas=replicas, timeout=timeout)}


@pytest.fixture
def client_of(kind: str, loop: asyncio.AbstractEventLoop) -> Iterator[Callable[..., Any]]:
    """Makes clients of the kind that a saver takes; all are closed at the end of the test."""
    with ExitStack() as stack:

        def made(url: str, **options: Any) -> Any:
            of: Any = redis if kind == "sync" else redis.asyncio
            client = of.Redis.from_url(url, **options)
            if kind == "sync":
                stack.callback(client.close)
            else:
                stack.callback(lambda: loop.run_until_complete(client.aclose()))
            return client

        yield made


def test_what_was_not_reached_in_time_is_told(pair: Pair, saver_on: SaverOn) -> None:
    """A write that may be lost would look like one that is safe."""
    saver = saver_on(pair.url, **_to(2, SOON))
    with pytest.raises(
        UnconfirmedError, match=r"\{a\}.*within 0.2 s.* on 1 of 2 replicas"
    ) as error:
        saver.put(thread("a"), *chat(1))
    assert (error.value.key, error.value.replicas) == ("lg:{a}:timeline", 1)
    found = saver.get_tuple(thread("a"))
    assert found is not None  # stored all the same, as the error says


@pytest.mark.parametrize("method", ["delete_thread", "delete_for_runs", "prune"])
def test_what_was_done_already_is_confirmed_as_well(
    pair: Pair, saver_on: SaverOn, method: str
) -> None:
    """Who asks again, as the answer was lost, would be told that it is safe when it is not."""
    put(saver_on(pair.url))
    saver = saver_on(pair.url, **_to(1, SOON))
    pid = pair.replica.info("server")["process_id"]
    argument = {"delete_thread": "a", "delete_for_runs": ["run 1"], "prune": ["a"]}[method]
    index: Any = pair.primary.zrange("lg:run:{run 1}", 0, -1, withscores=True)
    os.kill(pid, signal.SIGSTOP)
    try:
        getattr(saver_on(pair.url), method)(argument)
        if index:
            # As if it had been cut off in between.
            pair.primary.zadd("lg:run:{run 1}", dict(index))
        pair.primary.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        with pytest.raises(UnconfirmedError):
            getattr(saver, method)(argument)
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_until(lambda: has_link(pair.replica), "the replica does not come back")


@pytest.mark.parametrize(
    "write",
    [
        lambda saver: saver.set_ttl("a", 1000),
        lambda saver: saver.pin("a"),
        lambda saver: saver.unpin("a"),
        lambda saver: saver.copy_thread("a", f"copy {time.time()}"),
        lambda saver: saver.prune_threads(idle=1e-6),
    ],
)
def test_calls_of_operators_are_confirmed_as_well(
    pair: Pair, saver_on: SaverOn, write: Callable[[Saver], object]
) -> None:
    """A failover would take back what an operator was told."""
    put(saver_on(pair.url))
    write(saver_on(pair.url, **_to(1)))
    put(saver_on(pair.url))
    with pytest.raises(UnconfirmedError):
        write(saver_on(pair.url, **_to(2, SOON)))


def test_a_lease_is_confirmed_and_one_that_is_not_is_given_back(
    pair: Pair, kind: str, loop: asyncio.AbstractEventLoop
) -> None:
    """After a failover, two runs would have the lease of a thread; or none could have it."""
    careless, careful = RedisSaver(pair.url), _to(2, SOON)
    if kind == "sync":
        with (
            RedisSaver.from_conn_string(pair.url, **careful) as saver,
            pytest.raises(UnconfirmedError),
            saver.lease("a"),
        ):
            pass
    else:

        async def take() -> None:
            async with AsyncRedisSaver.from_conn_string(pair.url, **careful) as saver:
                with pytest.raises(UnconfirmedError):
                    async with saver.alease("a"):
                        pass

        loop.run_until_complete(take())
    with careless.lease("a"):
        put(careless)
    careless.close()


def test_repairs_are_confirmed(pair: Pair, saver_on: SaverOn) -> None:
    """A failover would bring back damage that was removed."""
    saver = saver_on(pair.url)
    put(saver)
    pair.primary.delete("lg:{a}:chunks")
    careful = saver_on(pair.url, **_to(2, SOON))
    assert careful.verify("a")  # to look is not to write
    with pytest.raises(UnconfirmedError):
        careful.repair("a")


def test_a_confirmed_write_is_on_the_disk(pair: Pair, saver_on: SaverOn) -> None:
    """Power that fails right after an answer would take back what a person has been told."""
    saver = saver_on(pair.url, confirm={"disk": True})
    if knows_waitaof(pair.primary):
        put(saver)
        calls = pair.primary.info("commandstats")["cmdstat_waitaof"]["calls"]
        assert calls >= 2  # the server was asked each time
    else:
        with pytest.raises(UnconfirmedError, match="unknown command"):
            put(saver)


def test_the_documented_user_may_wait(pair: Pair, saver_on: SaverOn) -> None:
    """Whoever sets up a user by our documentation would hear of each write that it is not safe."""
    rules = ["~lg:*", "-@all", *(f"+{command}" for command in COMMANDS), WAIT]
    confirm = Confirm(replicas=1, timeout=WITHIN_SECONDS)
    if knows_waitaof(pair.primary):
        rules.append(WAITAOF)
        confirm = Confirm(replicas=1, disk=True, timeout=WITHIN_SECONDS)
    pair.primary.execute_command("ACL SETUSER", "careful", "on", ">secret", *rules)
    put(saver_on(pair.url.replace("//", "//careful:secret@"), confirm=confirm))
    assert stored(pair.replica) == 1


def test_a_server_without_a_disk_does_not_confirm(in_memory: str, saver_on: SaverOn) -> None:
    """A wrong setting of the server would go unnoticed until the first crash."""
    with pytest.raises(UnconfirmedError, match="the server says: ") as error:
        put(saver_on(in_memory, confirm=Confirm(disk=True)))
    assert not error.value.on_disk


def test_confirming_takes_no_further_round_trip(pair: Pair, saver_on: SaverOn) -> None:
    """Safety would cost each turn a journey more to a server that is far away."""
    saver = saver_on(pair.url, **_to(1))
    put(saver)
    found = cost(pair.primary, lambda: put(saver))
    assert found.commands["evalsha"] == found.commands["wait"] == 2
    replies_of_replica = found.commands.get("replconf", 0)
    assert found.round_trips - replies_of_replica <= 2


def test_a_run_may_say_it_for_itself(pair: Pair, saver_on: SaverOn) -> None:
    """A payment could not be safer than small talk."""
    saver = saver_on(pair.url, **_to(2, SOON))
    put(saver, confirm=False)
    put(saver, confirm={"replicas": 1})
    with pytest.raises(UnconfirmedError):
        put(saver)
    plain = saver_on(pair.url)
    put(plain)
    with pytest.raises(UnconfirmedError):
        put(plain, confirm=Confirm(replicas=2, timeout=timedelta(seconds=SOON)))


WRONG: dict[str, tuple[Any, str]] = {
    "nothing": ({}, "disk=True"),
    "no disk": ({"disk": False}, "disk=True"),
    "text": ({"disk": "yes"}, "disk must be a bool"),
    "half a replica": ({"replicas": 0.5}, "replicas must be an int"),
    "true replicas": ({"replicas": True}, "replicas must be an int"),
    "less than none": ({"replicas": -1}, "disk=True"),
    "no time": ({"disk": True, "timeout": 0}, "timeout must be"),
    "another word": ({"fsync": True}, "must be a Confirm"),
    "a word": ("always", "must be a Confirm"),
    "too long": ({"disk": True, "timeout": 5}, "less than the socket_timeout .* 5 seconds"),
}


@pytest.mark.parametrize(("value", "words"), WRONG.values(), ids=WRONG)
def test_a_wrong_setting_is_refused_before_anything_is_written(
    pair: Pair, saver_on: SaverOn, value: Any, words: str
) -> None:
    """A typing error would be believed to be safety."""
    with pytest.raises(ConfigError, match=f"confirm.*{words}"):
        saver_on(pair.url, confirm=value)
    with pytest.raises(ConfigError, match=f"confirm.*{words}"):
        put(saver_on(pair.url), confirm=value)
    assert stored(pair.primary) == 0


def test_clients_tell_how_long_they_wait(
    pair: Pair, client_of: Callable[..., Any], saver_on: SaverOn
) -> None:
    """A confirmation would come too late to be heard."""
    client = client_of(pair.url, socket_timeout=2)
    with pytest.raises(ConfigError, match=r"socket_timeout .* 2 seconds"):
        saver_on(client, confirm=Confirm(disk=True, timeout=2))


@pytest.mark.parametrize(
    ("settings", "confirm", "words"),
    [
        ((), Confirm(disk=True), "appendonly no"),
        (("--appendonly", "yes", "--appendfsync", "no"), Confirm(disk=True), "appendfsync no"),
        (ALWAYS, Confirm(disk=True, replicas=1), "0 replicas, not 1"),
        (ALWAYS, Confirm(disk=True), None),
        ((), None, "keeps nothing over a restart"),
        (("--save", "3600 1"), None, None),
    ],
)
def test_setup_warns_of_a_server_that_cannot_confirm(
    saver_on: SaverOn, settings: tuple[str, ...], confirm: Confirm | None, words: str | None
) -> None:
    """The first to notice would be the first person whose turn fails."""
    with running_server(any_binary(), *settings) as url:
        saver = saver_on(url, confirm=confirm)
        if words:
            with pytest.warns(DurabilityWarning, match=words):
                saver.setup()
        else:
            saver.setup()  # a warning would be an error


def test_who_waits_for_a_confirmation_holds_up_no_others(
    pair: Pair, loop: asyncio.AbstractEventLoop
) -> None:
    """One careful run would make all others of the process as slow as the slowest disk."""
    saver = AsyncRedisSaver(pair.url)
    careful = thread("a", confirm=Confirm(replicas=2, timeout=1))

    async def other_runs_meanwhile() -> None:
        waiting = asyncio.ensure_future(saver.aput(careful, *chat(1)))
        while not (stored(pair.primary) or waiting.done()):  # noqa: ASYNC110 - none tells
            await asyncio.sleep(0)
        for _ in range(10):
            await saver.aput(thread("b"), *chat(1))
            await saver.aget_tuple(thread("b"))
        assert not waiting.done()
        with pytest.raises(UnconfirmedError):
            await waiting

    loop.run_until_complete(other_runs_meanwhile())
    loop.run_until_complete(saver.aclose())


def test_writes_of_one_moment_do_not_wait_for_one_another(
    pair: Pair, loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On uvloop, whose clock stands still within a step, each would wait for the one before."""
    saver, seconds = AsyncRedisSaver(pair.url), loop.time()

    async def careful_runs() -> None:
        careful = thread("a", confirm=Confirm(replicas=2, timeout=1))
        monkeypatch.setattr(loop, "time", lambda: seconds)
        runs = [asyncio.ensure_future(saver.aput(careful, *chat(1))) for _ in range(5)]
        while stored(pair.primary) < len(runs) and not runs[0].done():  # noqa: ASYNC110 - none tells
            await asyncio.sleep(0)
        assert not runs[0].done()
        monkeypatch.undo()
        await asyncio.gather(*runs, return_exceptions=True)

    loop.run_until_complete(careful_runs())
    loop.run_until_complete(saver.aclose())
