"""One server for many processes: they share it, fork and are killed; it ends with the last."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import ExitStack
from pathlib import Path

import pytest

from langgraph_checkpoint_redis import AsyncRedisSaver, RedisSaver

from .embedding import (
    SECONDS,
    Open,
    answers,
    ended,
    finish,
    keeper_of,
    kill,
    open_embedded,
    ps,
    put,
    running,
    said,
    server_of,
    threads,
    within,
)

opened = open_embedded  # a saver of either kind, in a directory


def test_processes_that_start_at_once_share_one_server(tmp_path: Path) -> None:
    """Workers of a web server would each have a server, write over each other, or fail."""
    with ExitStack() as stack:
        users = [stack.enter_context(running(tmp_path, f"{number}")) for number in range(8)]
        assert [said(user) for user in users] == ["ready"] * 8
        server = server_of(tmp_path)
        keeper = keeper_of(server)
        assert [finish(user) for user in users] == ["8"] * 8
    assert ended(server, keeper)


def test_the_server_ends_with_its_last_user_and_not_before(tmp_path: Path) -> None:
    """Whoever ends first would end it for all, or it would stay for ever."""
    with running(tmp_path, "first") as first:
        assert said(first) == "ready"
        server = server_of(tmp_path)
        with RedisSaver.embedded(tmp_path) as saver:
            finish(first)
            put(saver, "x")
            assert server_of(tmp_path) == server
            keeper = keeper_of(server)
        assert ps("stat=", server) in ("", "Z")  # closing waits for it
    assert ended(keeper)


def test_a_directory_may_be_removed_once_its_last_saver_is_closed(tmp_path: Path) -> None:
    """Tests with temporary directories would now and then fail, or leave a server."""
    for number in range(5):
        directory = tmp_path / f"{number}"
        with RedisSaver.embedded(directory) as saver:
            put(saver, "x")
        for path in sorted(directory.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        directory.rmdir()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_user_may_be_killed(tmp_path: Path, how: signal.Signals) -> None:
    """The server would go with the program that happened to start it, or stay without any."""
    with running(tmp_path, "starter") as starter, running(tmp_path, "other") as other:
        assert said(starter) == said(other) == "ready"
        server = server_of(tmp_path)
        keeper = keeper_of(server)
        starter.send_signal(how)
        starter.wait(SECONDS)
        with RedisSaver.embedded(tmp_path) as saver:
            put(saver, "x")
        assert server_of(tmp_path) == server
        other.send_signal(how)
    assert ended(server, keeper)
    with RedisSaver.embedded(tmp_path) as saver:
        assert threads(saver) == {"starter", "other", "x"}


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_the_server_may_be_killed(opened: Open, tmp_path: Path, how: signal.Signals) -> None:
    """Users that are there would have to start anew, or what was acknowledged be lost."""
    with opened(tmp_path) as saver:
        for number in range(20):
            put(saver, f"{number}")
        killed = server_of(tmp_path)
        os.kill(killed, how)
        assert ended(killed)
        assert within(lambda: answers(tmp_path))
        put(saver, "x")
        assert threads(saver) == {"x", *(f"{number}" for number in range(20))}
        server = server_of(tmp_path)
        assert server != killed
    assert ended(server)


def test_the_keeper_may_be_killed(tmp_path: Path) -> None:
    """Its server would stay for ever, or a second one write to the same files."""
    with RedisSaver.embedded(tmp_path) as saver:
        put(saver, "x")
        server = server_of(tmp_path)
        kill(keeper_of(server))
        put(saver, "y")
        assert server_of(tmp_path) == server
        with RedisSaver.embedded(tmp_path) as another:
            assert ended(server)
            server = server_of(tmp_path)
            put(another, "z")
        assert threads(saver) == {"x", "y", "z"}
        kill(keeper_of(server))
    assert ended(server)


def test_a_forked_process_is_a_user_of_its_own(tmp_path: Path) -> None:
    """Web servers that load a program once and then fork would lose the server with the parent."""
    program = """
        with RedisSaver.embedded(directory) as saver:
            if os.fork() == 0:
                sys.stdin.readline()
                saver.put(config, empty_checkpoint(), {}, {})
                print("child", flush=True)
        print("left", flush=True)
        """
    with running(tmp_path, "x", program) as parent:
        assert said(parent) == "left"
        parent.wait(SECONDS)
        server = server_of(tmp_path)
        assert parent.stdin
        parent.stdin.write("\n")
        parent.stdin.flush()
        assert [said(parent), said(parent)] == ["child", "left"]
    assert ended(server)


def test_a_long_path_is_reached_by_forked_processes_as_well(tmp_path: Path) -> None:
    """A child that ends would take the way to the server away from its parent."""
    program = """
        with RedisSaver.embedded(directory) as saver:
            if os.fork() == 0:
                sys.exit()
            os.wait()
            saver.close()
            saver.put(config, empty_checkpoint(), {}, {})
        print("stored", flush=True)
        """
    with running(tmp_path / ("d" * 150), "x", program) as parent:
        assert said(parent) == "stored"


def test_a_start_that_is_cancelled_leaves_nothing(tmp_path: Path) -> None:
    """A server would run without anybody who uses it, as long as the program does."""

    async def cancelled() -> None:
        async def use() -> None:
            async with AsyncRedisSaver.embedded(tmp_path):
                raise AssertionError("cancelled too late")

        task = asyncio.create_task(use())
        while not (tmp_path / "keeper.lock").exists():  # noqa: ASYNC110 - another thread makes it
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    assert not answers(tmp_path)
