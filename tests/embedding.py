"""Savers with a server of their own, in this process and in others, and the processes they start.

What belongs here: ways to open a saver in a directory, the programs that use one, and questions to
the system about processes.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from asyncio import AbstractEventLoop
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import redis
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.conformance.test_utils import generate_checkpoint, generate_metadata

from langgraph_checkpoint_redis import AsyncRedisSaver, RedisSaver

from .driving import AwaitedSaver, Saver

ROOT = Path(__file__).parents[1]
SECONDS = 20


# Savers


def thread(thread_id: str) -> RunnableConfig:
    return {"configurable": {"thread_id": thread_id, "checkpoint_ns": ""}}


def put(saver: Saver, thread_id: str) -> None:
    values = {"c": [f"{item:600}" for item in range(3)]}
    checkpoint = generate_checkpoint(channel_values=values, channel_versions={"c": 1})
    saver.put(thread(thread_id), checkpoint, generate_metadata(), {"c": 1})


def threads(saver: Saver) -> set[str]:
    return {found.config["configurable"]["thread_id"] for found in saver.list(None)}


Open = Callable[..., AbstractContextManager[Saver]]


@pytest.fixture
def open_embedded(kind: str, loop: AbstractEventLoop) -> Open:
    """Opens a saver of either kind in a directory."""

    @contextmanager
    def opened(path: str | Path, **options: Any) -> Iterator[Saver]:
        if kind == "sync":
            with RedisSaver.embedded(path, **options) as saver:
                yield saver
            return
        manager = AsyncRedisSaver.embedded(path, **options)
        yield AwaitedSaver(loop.run_until_complete(manager.__aenter__()), loop)
        loop.run_until_complete(manager.__aexit__(None, None, None))

    return opened


# Processes


@contextmanager
def client_of(directory: Path) -> Iterator[redis.Redis]:
    """A client of the server that runs in a directory."""
    with redis.Redis.from_url(f"unix://{directory}/socket") as client:
        yield client


def server_of(directory: Path) -> int:
    """The process that serves a directory."""
    with client_of(directory) as client:
        return int(client.info("server")["process_id"])


def keeper_of(server: int) -> int:
    """The process that started a server."""
    parent = int(ps("ppid=", server))
    if "supervisor.py" not in ps("args=", parent):  # but whoever adopts orphans
        raise ProcessLookupError(f"the keeper of {server} is gone")
    return parent


def processes_in(directory: Path) -> list[int]:
    """The keeper and the server of a directory."""
    server = server_of(directory)
    return [keeper_of(server), server]


def answers(directory: Path) -> bool:
    """Whether a server runs in a directory."""
    try:
        return bool(server_of(directory))
    except redis.exceptions.RedisError:
        return False


def ps(what: str, process: int) -> str:
    command = ("ps", "-ww", "-o", what, "-p", str(process))
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def ended(*processes: int) -> bool:
    """Whether processes end, in time; one that nobody has asked after yet has ended as well."""
    return within(lambda: all(ps("stat=", process)[:1] in ("", "Z") for process in processes))


def kill(process: int) -> None:
    """Kill a process, and wait until the system has taken back its locks."""
    os.kill(process, signal.SIGKILL)
    assert ended(process)


def within(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + SECONDS
    while not (met := condition()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return met


# Programs


PROGRAM = """
    import asyncio, os, sys
    from langgraph.checkpoint.base import empty_checkpoint
    from langgraph_checkpoint_redis import AsyncRedisSaver, RedisSaver

    directory, name = sys.argv[1:]
    config = {"configurable": {"thread_id": name, "checkpoint_ns": ""}}
    """


# Says that it has begun, and ends when it is told to.
USER = """
    with RedisSaver.embedded(directory) as saver:
        saver.put(config, empty_checkpoint(), {}, {})
        print("ready", flush=True)
        sys.stdin.readline()
        print(len({found.config["configurable"]["thread_id"] for found in saver.list(None)}))
    """


@contextmanager
def running(directory: Path, name: str, program: str = USER) -> Iterator[subprocess.Popen[str]]:
    """A program that uses a server, in a process of its own."""
    source = dedent(PROGRAM) + dedent(program)
    command = (sys.executable, "-W", "error", "-c", source, str(directory), name)
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline().strip()


def finish(process: subprocess.Popen[str]) -> str:
    """Tell a user to end; what it says."""
    answer, _ = process.communicate("\n", timeout=SECONDS)
    assert process.returncode == 0
    return answer.strip()
