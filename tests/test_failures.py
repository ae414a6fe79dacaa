"""Servers that refuse, stand still or run full: a clear error, nothing half done, and then on.

Each condition is brought about for real, on servers that the tests start. Where a call fails, the
thread is what it was before; when the condition is over, the same call works.
"""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import redis
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.conformance.test_utils import generate_checkpoint, generate_metadata

from langgraph_checkpoint_redis import RedisSaver, ThreadsError
from langgraph_checkpoint_redis._storage.keys import Keyspace
from tests.local_server import available_servers, running_server

from .driving import Saver
from .servers import any_binary, chosen, wait_until
from .stored import contents
from .story import thread

SaverOn = Callable[..., Saver]

CHECKPOINTS = [generate_checkpoint() for _ in range(6)]  # ids that sort by number
LARGE = [f"{number:600}" for number in range(8)]
MEGABYTE = 2**20


HERE = [name for name in chosen if name in available_servers()] or [*available_servers()][:1]


@pytest.fixture(scope="module", params=HERE)
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    """A server of each chosen kind, to be treated badly; it is well between tests."""
    settings = ("--proto-max-bulk-len", "1mb")
    with running_server(available_servers()[request.param], *settings) as url:
        yield url


@pytest.fixture
def admin(url: str) -> Iterator[redis.Redis]:
    """Another client of that server, which is empty now."""
    with redis.Redis.from_url(url) as admin:
        admin.flushall()
        yield admin


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Savers that do not wait for better times."""
    monkeypatch.setattr("langgraph_checkpoint_redis._transport.retry.SECONDS_TO_RECOVER", 0.1)


def put(saver: Saver, number: int, *, run: str = "run") -> RunnableConfig:
    at = CHECKPOINTS[number - 1]["id"] if number else None
    values = {"c": [*LARGE, f"{number:600}"], "same": LARGE}
    versions: Any = {"c": str(number), "same": "1"}
    checkpoint: Any = {
        **CHECKPOINTS[number],
        "channel_values": values,
        "channel_versions": versions,
    }
    metadata = generate_metadata(step=number, run_id=run)
    return saver.put(
        thread("a", checkpoint_ns="", checkpoint_id=at), checkpoint, metadata, versions
    )


def write(saver: Saver, number: int) -> None:
    at = thread("a", checkpoint_ns="", checkpoint_id=CHECKPOINTS[number]["id"])
    saver.put_writes(at, [("c", f"w{number}"), ("same", LARGE)], "task")


def conversation(saver: Saver) -> None:
    for number in range(3):
        put(saver, number, run="old" if number < 2 else "run")
    write(saver, 2)


def stored(client: Any) -> dict[bytes, object]:
    """All that a server has of threads, but for times; the index of runs is not a part of them."""
    return {
        key: {*content.items()} - {(b"", b"")} if isinstance(content, dict) else content
        for key, content in contents(client, client.scan_iter(match="lg:{*")).items()
    }


WRITING: dict[str, Callable[[Saver], object]] = {
    "put": lambda saver: put(saver, 3),
    "put a checkpoint again": lambda saver: put(saver, 2, run="other"),
    "put_writes": lambda saver: write(saver, 1),
    "put_writes again": lambda saver: write(saver, 2),
    "copy_thread": lambda saver: saver.copy_thread("a", "b"),
    "set_ttl": lambda saver: saver.set_ttl("a", 500),
}
READING: dict[str, Callable[[Saver], object]] = {
    "get_tuple": lambda saver: saver.get_tuple(thread("a")),
    "list": lambda saver: [*saver.list(thread("a"))],
    "list of all": lambda saver: [*saver.list(None)],
    "thread_info": lambda saver: saver.thread_info("a"),
}
FREEING: dict[str, Callable[[Saver], object]] = {
    "delete_for_runs": lambda saver: saver.delete_for_runs(["old"]),
    "prune": lambda saver: saver.prune(["a"]),
    "prune_threads": lambda saver: saver.prune_threads(keep_last=1),
    "prune_threads, idle": lambda saver: saver.prune_threads(idle=1e-6),
    "delete_thread": lambda saver: saver.delete_thread("a"),
}
EVERYTHING = WRITING | READING | FREEING


def assert_whole(saver: Saver, checkpoints: int) -> None:
    found = [*saver.list(thread("a"))]
    assert len(found) == checkpoints
    for one in found:
        number = one.metadata["step"]
        assert one.checkpoint["channel_values"]["c"] == [*LARGE, f"{number:600}"]


# Memory


@pytest.mark.parametrize("options", [{}, {"ttl": 900, "refresh_on_read": True, "tombstone": 60}])
def test_a_full_server_refuses_to_store_and_goes_on_to_read_and_to_make_room(
    url: str, admin: redis.Redis, saver_on: SaverOn, options: dict[str, Any]
) -> None:
    """Nobody could get a server out of that state without deleting keys of threads by hand."""
    saver = saver_on(url, **options)
    conversation(saver)
    _ = [*saver.list(thread("a"))], saver.get_tuple(thread("a"))
    for name in ("put", "put_writes", "copy_thread"):
        before = stored(admin)
        with full(admin), pytest.raises(redis.ResponseError, match="maxmemory"):
            WRITING[name](saver)
        assert stored(admin) == before
    with full(admin):  # what takes no more than there is already
        WRITING["put_writes again"](saver)
    with full(admin):
        for act in READING.values():
            assert act(saver)
        for act in FREEING.values():
            act(saver)
        assert not saver.get_tuple(thread("a"))
    put(saver, 0)
    assert_whole(saver, 1)


@contextmanager
def full(admin: redis.Redis) -> Iterator[None]:
    """The server has no memory left."""
    admin.config_set("maxmemory", 1)
    try:
        yield
    finally:
        admin.config_set("maxmemory", 0)


def test_a_leased_thread_can_be_deleted_from_a_full_server(
    url: str, admin: redis.Redis, saver_on: SaverOn
) -> None:
    """The one who may change a thread could not make it smaller."""
    saver = saver_on(url)
    if not isinstance(saver, RedisSaver):
        saver = RedisSaver(url)
    with saver.lease("a", ttl=60) as renew:
        conversation(saver)
        with full(admin):
            saver.prune(["a"])
            renew()
            saver.delete_thread("a")
        assert not saver.get_tuple(thread("a"))
    saver.close()


# Disk


def test_a_server_that_cannot_save_says_so(
    tmp_path: Path, saver_on: SaverOn, impatient: None
) -> None:
    """Steps of a graph would seem to be stored that the next restart of the server forgets."""
    settings = ("--dir", str(tmp_path), "--save", "3600", "1000000", "--dbfilename", "taken")
    with running_server(any_binary(), *settings) as url, redis.Redis.from_url(url) as admin:
        saver = saver_on(url)
        conversation(saver)
        before = stored(admin)
        with no_more_files(admin, tmp_path):
            for act in (WRITING | FREEING).values():
                with pytest.raises(redis.ResponseError, match="MISCONF"):
                    act(saver)
                assert stored(admin) == before
            for act in READING.values():
                assert act(saver)
        put(saver, 3)
        assert_whole(saver, 4)


@contextmanager
def no_more_files(admin: Any, directory: Path) -> Iterator[None]:
    """Saving fails: where the file should be is a directory, which not even root can replace."""
    (directory / "taken").mkdir()
    (directory / "taken" / "by another").touch()
    admin.bgsave()
    wait_until(lambda: _saved(admin) == "err", "the server can save")
    yield
    shutil.rmtree(directory / "taken")
    admin.bgsave()
    wait_until(lambda: _saved(admin) == "ok", "the server cannot save")


def _saved(admin: Any) -> object:
    return admin.info("persistence")["rdb_last_bgsave_status"]


# Replicas


@pytest.mark.parametrize("operation", WRITING | FREEING)
def test_a_replica_lets_nobody_write(
    url: str, admin: redis.Redis, saver_on: SaverOn, impatient: None, operation: str
) -> None:
    """Whoever is connected to the wrong server would lose all that it stores."""
    saver = saver_on(url)
    conversation(saver)
    before = stored(admin)
    admin.replicaof("127.0.0.1", "1")
    try:
        for act in READING.values():
            assert act(saver)
        with pytest.raises(redis.exceptions.ReadOnlyError):
            EVERYTHING[operation](saver)
        assert stored(admin) == before
    finally:
        admin.replicaof("NO", "ONE")
    EVERYTHING[operation](saver)


def test_a_primary_that_has_lost_its_replicas_is_waited_for(
    url: str, admin: redis.Redis, saver_on: SaverOn
) -> None:
    """Runs would fail whenever a replica restarts, where the primary is not to write alone."""
    saver = saver_on(url)
    conversation(saver)
    admin.config_set("min-replicas-to-write", 1)
    with later(0.3, lambda: admin.config_set("min-replicas-to-write", 0)):
        put(saver, 3)
    assert_whole(saver, 4)


@contextmanager
def later(seconds: float, act: Callable[[], object]) -> Iterator[None]:
    """Do something while the block goes on, or at its end."""
    timer = threading.Timer(seconds, act)
    timer.start()
    yield
    timer.join()


# Values


@pytest.mark.parametrize("megabytes", [3, 12])
def test_a_value_that_is_too_large_for_the_server_is_an_error(
    url: str, admin: redis.Redis, saver_on: SaverOn, impatient: None, megabytes: int
) -> None:
    """A run would wait for the network to get better, or store a checkpoint without the value."""
    saver = saver_on(url)
    conversation(saver)
    before = stored(admin)
    at = thread("a", checkpoint_ns="", checkpoint_id=CHECKPOINTS[2]["id"])
    # One piece: texts of messages are not cut.
    large = HumanMessage(os.urandom(megabytes * MEGABYTE // 2).hex(), id="large")
    with pytest.raises(redis.ResponseError, match="Protocol error: invalid bulk length"):
        saver.put_writes(at, [("c", large)], "other task")
    assert stored(admin) == before
    put(saver, 3)
    assert_whole(saver, 4)


# Time


@contextmanager
def busy(admin: redis.Redis, url: str, seconds: float) -> Iterator[None]:
    """Somebody's script runs, until it is killed."""
    admin.config_set("lua-time-limit", 1)

    def run() -> None:
        with redis.Redis.from_url(url) as client, suppress(redis.ResponseError):
            client.eval("while true do end", 0)

    runner = threading.Thread(target=run)
    runner.start()
    wait_until(lambda: _is_busy(admin), "no script runs")
    try:
        with later(seconds, admin.script_kill):
            yield
    finally:
        runner.join()
        admin.config_set("lua-time-limit", 5000)


def _is_busy(admin: Any) -> bool:
    try:
        admin.ping()
    except redis.ResponseError:
        return True
    return False


def test_a_server_that_is_busy_is_waited_for(
    url: str, admin: redis.Redis, saver_on: SaverOn
) -> None:
    """Every slow script of others would fail the runs that are on their way."""
    saver = saver_on(url)
    conversation(saver)
    with busy(admin, url, 0.3):
        put(saver, 3)
    assert_whole(saver, 4)


def test_a_server_that_stays_busy_is_an_error(
    url: str, admin: redis.Redis, saver_on: SaverOn, impatient: None
) -> None:
    """Runs would wait for ever, and nobody would know why."""
    saver = saver_on(url)
    conversation(saver)
    with busy(admin, url, 0.6), pytest.raises(redis.ResponseError, match="BUSY"):
        put(saver, 3)
    assert_whole(saver, 3)
    put(saver, 3)


def test_a_script_that_is_killed_has_stored_nothing(
    url: str, admin: redis.Redis, saver_on: SaverOn
) -> None:
    """Operators who end what holds up everybody would leave half a checkpoint behind."""
    saver = saver_on(url)
    at = put_wide(saver, thread("wide", checkpoint_ns=""), WIDE)
    done = [at]
    admin.config_set("lua-time-limit", 1)
    try:
        with killing(url), pytest.raises(redis.ResponseError, match="killed"):
            done.extend(put_wide(saver, at) for _ in range(TRIES))
    finally:
        admin.config_set("lua-time-limit", 5000)
    timeline, _, chunks, *_ = Keyspace("lg").thread("wide")
    assert stored(admin).keys() == {timeline, chunks}  # that the timeline has rows is noted there
    assert admin.zcard(timeline) == len(done)
    found = saver.get_tuple(put_wide(saver, at))
    assert found
    assert found.checkpoint["channel_values"] == WIDE


WIDE = {f"c{number}": number for number in range(10_000)}
TRIES = 50  # until a script is met before it writes


def put_wide(
    saver: Saver, at: RunnableConfig, new: Mapping[str, int] = MappingProxyType({})
) -> RunnableConfig:
    """A checkpoint that a script is busy with before it writes: it has many channels."""
    versions: Any = dict.fromkeys(WIDE, 1)
    checkpoint = generate_checkpoint(channel_values=WIDE, channel_versions=versions)
    new_versions: Any = dict.fromkeys(new, 1)
    return saver.put(at, checkpoint, generate_metadata(), new_versions)


@contextmanager
def killing(url: str) -> Iterator[None]:
    """Scripts are killed as soon as that is possible, until one was."""
    over = threading.Event()

    def kill() -> None:
        with redis.Redis.from_url(url) as client:
            while not over.is_set():
                with suppress(redis.ResponseError):
                    client.script_kill()
                    return

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        yield
    finally:
        over.set()
        killer.join()


@pytest.mark.parametrize("seconds", [0.2, 0.8])
def test_a_server_that_stands_still_is_waited_for(
    url: str, admin: redis.Redis, saver_on: SaverOn, seconds: float
) -> None:
    """Each hiccup of a machine would fail the runs on it, or store their steps twice."""
    saver = saver_on(url + "?socket_timeout=0.5")
    conversation(saver)
    process = int(admin.info("server")["process_id"])
    os.kill(process, signal.SIGSTOP)
    with later(seconds, lambda: os.kill(process, signal.SIGCONT)):
        put(saver, 3)
        write(saver, 3)
    assert_whole(saver, 4)


def test_a_server_that_pauses_its_clients_is_waited_for(
    url: str, admin: redis.Redis, saver_on: SaverOn
) -> None:
    """An operator who pauses clients to fail over by hand would fail the runs that are on."""
    saver = saver_on(url)
    conversation(saver)
    admin.client_pause(300)
    put(saver, 3)
    assert_whole(saver, 4)


# What a script may meet


@pytest.mark.parametrize("key", ["timeline", "writes", "chunks", "runs", "live", "control"])
@pytest.mark.parametrize("options", [{}, {"keep_last": 2, "tombstone": 60, "ttl": 900}])
def test_a_script_that_fails_has_changed_nothing(
    client: redis.Redis,
    prefix: str,
    saver_on: SaverOn,
    server: str,
    key: str,
    options: dict[str, Any],
) -> None:
    """Damage to one key of a thread would spread to the others with each try."""
    for name, act in (WRITING | FREEING).items():
        saver = saver_on(server, prefix=prefix, **options)
        conversation(saver)
        damaged = getattr(Keyspace(prefix).thread("a"), key)
        client.delete(damaged)
        client.lpush(damaged, "something else")
        before = contents(client, client.scan_iter(match=f"{prefix}:{{*"))
        if failure(act, saver):
            assert contents(client, client.scan_iter(match=f"{prefix}:{{*")) == before, name
        client.unlink("-", *client.scan_iter(match=f"{prefix}:*"))


def failure(act: Callable[[Saver], object], saver: Saver) -> str:
    """What the server said, if it refused something."""
    try:
        act(saver)
    except (redis.ResponseError, ThreadsError) as error:
        return str(error)
    return ""
