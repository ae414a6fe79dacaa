"""The ways to reach a server, and to share a saver between threads, tasks, loops and processes."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from asyncio import AbstractEventLoop
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from textwrap import dedent
from threading import Barrier
from typing import Any
from uuid import uuid4

import pytest
import redis

from langgraph_checkpoint_redis import AsyncRedisSaver, ConfigError, RedisSaver
from tests.local_server import running_server

from .driving import AwaitedSaver, Saver
from .servers import any_binary
from .story import chat, thread, use

THREADS, TASKS = 120, 300  # more than the 100 connections that a client's pool has by default


Make = Callable[..., Saver]


@pytest.fixture
def make(kind: str, loop: AbstractEventLoop, prefix: str) -> Iterator[Make]:
    """Makes a saver of either kind, of a URL or of a client with options."""
    with ExitStack() as stack:

        def client(url: str, *, blocking: bool = False, **options: Any) -> Any:
            of: Any = redis if kind == "sync" else redis.asyncio
            if options.pop("without_hiredis", False):
                parser = redis._parsers
                options["parser_class"] = (
                    parser._RESP2Parser if kind == "sync" else parser._AsyncRESP2Parser
                )
            if blocking:
                pool = of.BlockingConnectionPool.from_url(url, **options)
                made = of.Redis.from_pool(pool)
            else:
                made = of.Redis.from_url(url, **options)
            stack.callback(lambda: _closed(made, loop))
            return made

        def make(url: str, **options: Any) -> Saver:
            of = client(url, **options) if options else url
            if kind == "sync":
                saver = RedisSaver(of, prefix=prefix)
                stack.callback(saver.close)
                return saver
            asynchronous = AsyncRedisSaver(of, prefix=prefix)
            stack.callback(lambda: loop.run_until_complete(asynchronous.aclose()))
            return AwaitedSaver(asynchronous, loop)

        yield make


def _closed(client: Any, loop: AbstractEventLoop) -> None:
    if isinstance(client, redis.Redis):
        client.close()
    else:
        loop.run_until_complete(client.aclose())


# Servers and clients


@pytest.mark.parametrize(
    "options",
    [
        {"decode_responses": True},
        {"decode_responses": True, "protocol": 3},
        {"decode_responses": True, "protocol": 2},
        {"protocol": 3},
        {"protocol": 2},
        {"db": 5},
        {"blocking": True, "max_connections": 2},
        {"max_connections": 1},
        {"single_connection_client": True},
        {"health_check_interval": 1, "socket_timeout": 5},
        {"encoding": "latin-1"},
        {"without_hiredis": True, "protocol": 2},
        {"without_hiredis": True, "protocol": 3},
        {"without_hiredis": True, "decode_responses": True},
    ],
    ids=str,
)
def test_any_client_will_do(make: Make, server: str, options: dict[str, Any]) -> None:
    """A client that a program has already, with options of its own, could not be used."""
    use(make(server, **options))


@pytest.mark.parametrize("end", ["", "/", "/5", "?db=5", "?protocol=3", "?protocol=2"])
def test_any_url_will_do(make: Make, server: str, end: str) -> None:
    """A server could not be reached in the way that its documentation says."""
    use(make(server + end))


def test_a_pipeline_is_no_client(kind: str, server: str) -> None:
    """A call would queue commands for ever, and take all memory."""
    of: Any = redis if kind == "sync" else redis.asyncio
    made: Any = RedisSaver if kind == "sync" else AsyncRedisSaver
    with pytest.raises(ConfigError, match="not a pipeline"):
        made(of.Redis.from_url(server).pipeline())


CALLS: dict[str, Callable[[RedisSaver], object]] = {
    "put": lambda saver: saver.put(thread("a"), *chat(1)),
    "put_writes": lambda saver: saver.put_writes(
        thread("a", checkpoint_id="1"), [("c", 1)], "task"
    ),
    "get_tuple": lambda saver: saver.get_tuple(thread("a")),
    "list": lambda saver: [*saver.list(thread("a"))],
    "delete_thread": lambda saver: saver.delete_thread("a"),
    "delete_for_runs": lambda saver: saver.delete_for_runs(["run"]),
    "prune": lambda saver: saver.prune(["a"]),
    "copy_thread": lambda saver: saver.copy_thread("a", "b"),
    "lease": lambda saver: _enter(saver.lease("a")),
    "pin": lambda saver: saver.pin("a"),
    "verify": lambda saver: saver.verify("a"),
}


def _enter(block: Any) -> None:
    with block:
        pass


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("decodes", [True, False])
def test_a_client_that_is_left_in_a_transaction_is_an_error(
    server: str, prefix: str, call: str, *, decodes: bool
) -> None:
    """What is only queued would pass for done: two would hold one lease."""
    with redis.Redis.from_url(server, decode_responses=decodes) as client:
        client.execute_command("MULTI")
        saver = RedisSaver(client, prefix=prefix)
        with pytest.raises(ConfigError, match="left in a transaction"):
            CALLS[call](saver)
        client.execute_command("DISCARD")


def test_databases_of_a_server_are_apart(make: Make, server: str) -> None:
    """What a URL says of the database would be ignored, and programs would mix."""
    make(f"{server}/5").put(thread("a"), *chat(1))
    assert make(f"{server}/6").get_tuple(thread("a")) is None
    assert make(f"{server}/5").get_tuple(thread("a"))
    make(f"{server}/5").delete_thread("a")


@pytest.fixture(scope="module")
def guarded_server() -> Iterator[tuple[str, Path]]:
    """A server with a password, and its socket."""
    with tempfile.TemporaryDirectory() as directory:
        socket = Path(directory, "socket")
        options = ("--unixsocket", str(socket), "--requirepass", "secret")
        with running_server(any_binary(), *options) as url:
            yield url, socket


@pytest.mark.parametrize("user", ["", "default"])
def test_a_url_may_have_a_password(make: Make, guarded_server: tuple[str, Path], user: str) -> None:
    """A guarded server could not be used, or not from a URL."""
    url, _ = guarded_server
    use(make(url.replace("//", f"//{user}:secret@")))


def test_a_server_may_be_at_a_socket(make: Make, guarded_server: tuple[str, Path]) -> None:
    """A server on the same machine could not be used without opening a port."""
    _, socket = guarded_server
    use(make(f"unix://:secret@{socket}"))


# Closing


def connections(client: redis.Redis, name: str) -> int:
    return sum(found["name"] == name for found in client.client_list())


def test_a_saver_closes_what_it_opened(
    kind: str, server: str, client: redis.Redis, loop: AbstractEventLoop
) -> None:
    """Programs that make many savers would run out of connections."""
    name = uuid4().hex
    url = f"{server}?client_name={name}"
    if kind == "sync":
        with RedisSaver.from_conn_string(url) as saver:
            saver.get_tuple(thread("a"))
            assert connections(client, name) == 1
        saver.close()
    else:

        async def use_and_close() -> None:
            async with AsyncRedisSaver.from_conn_string(url) as saver:
                await saver.aget_tuple(thread("a"))
                assert connections(client, name) == 1
            await saver.aclose()

        loop.run_until_complete(use_and_close())
    deadline = time.monotonic() + 5  # a server notices in its own time
    while connections(client, name) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert connections(client, name) == 0


def test_a_saver_leaves_a_client_open_that_it_was_given(
    kind: str, server: str, client: redis.Redis, loop: AbstractEventLoop
) -> None:
    """A program's other uses of its client would fail once a saver is done."""
    name = uuid4().hex
    if kind == "sync":
        with redis.Redis.from_url(server, client_name=name) as given:
            saver = RedisSaver(given)
            saver.get_tuple(thread("a"))
            saver.close()
            assert connections(client, name) == 1
    else:

        async def use_and_close() -> None:
            async with redis.asyncio.Redis.from_url(server, client_name=name) as given:
                saver = AsyncRedisSaver(given)
                await saver.aget_tuple(thread("a"))
                await saver.aclose()
                assert connections(client, name) == 1

        loop.run_until_complete(use_and_close())


def test_a_closed_saver_may_be_used_again(saver: Saver, raw_saver: Any) -> None:
    """Whoever closes too early would get errors where a new connection is enough."""
    saver.put(thread("a"), *chat(1))
    if isinstance(saver, AwaitedSaver):
        saver.loop.run_until_complete(raw_saver.aclose())
    else:
        raw_saver.close()
    assert saver.get_tuple(thread("a"))


# Programs of their own


def ran(guarded_server: tuple[str, Path], *programs: str) -> subprocess.CompletedProcess[str]:
    """A program that ran, with every warning an error, and was not waited for forever."""
    url = guarded_server[0].replace("//", "//:secret@")
    start = f"""
        import asyncio, multiprocessing, signal, threading
        from langgraph_checkpoint_redis import AsyncRedisSaver, RedisSaver

        signal.alarm(10)
        url, config = {url!r}, {{"configurable": {{"thread_id": "a"}}}}
        """
    program = "\n".join(map(dedent, (start, *programs)))
    command = (sys.executable, "-W", "error", "-c", program)
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)


NEVER_CLOSED = {
    "sync": """
        saver = RedisSaver(url)
        saver.get_tuple(config)
        """,
    "sync, awaited": """
        saver = RedisSaver(url)
        asyncio.run(saver.aget_tuple(config))
        asyncio.run(saver.aget_tuple(config))
        """,
    "async": """
        saver = AsyncRedisSaver(url)
        asyncio.run(saver.aget_tuple(config))
        """,
    "async, in two loops": """
        saver = AsyncRedisSaver(url)
        asyncio.run(saver.aget_tuple(config))
        asyncio.run(saver.aget_tuple(config))
        """,
    "async, without a loop": """
        saver = AsyncRedisSaver(url)
        saver.get_tuple(config)
        """,
    "async, from a thread": """
        saver = AsyncRedisSaver(url)

        async def main():
            await saver.aget_tuple(config)
            await asyncio.to_thread(saver.get_tuple, config)

        asyncio.run(main())
        """,
    "async, in threads with loops of their own": """
        saver = AsyncRedisSaver(url)

        def work():
            asyncio.run(saver.aget_tuple(config))

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        """,
}


@pytest.mark.parametrize("program", NEVER_CLOSED)
def test_a_saver_that_is_never_closed_does_no_harm(
    guarded_server: tuple[str, Path], program: str
) -> None:
    """Programs that forget about a saver would not end, or end with a complaint."""
    done = ran(guarded_server, NEVER_CLOSED[program])
    assert (done.returncode, done.stderr) == (0, "")


FORKED = {
    "sync": """
        saver = RedisSaver(url)
        saver.get_tuple(config)

        def work():
            assert saver.get_tuple(config) is None
        """,
    "async": """
        saver = AsyncRedisSaver(url)
        asyncio.run(saver.aget_tuple(config))

        def work():
            assert asyncio.run(saver.aget_tuple(config)) is None
        """,
    "async, without a loop": """
        saver = AsyncRedisSaver(url)
        saver.get_tuple(config)

        def work():
            assert saver.get_tuple(config) is None
        """,
}


FORK = """
    def work_in_time():
        signal.alarm(5)
        work()

    fork = multiprocessing.get_context("fork")
    children = [fork.Process(target=work_in_time) for _ in range(4)]
    for child in children:
        child.start()
    work()
    for child in children:
        child.join()
    print([child.exitcode for child in children])
    """


@pytest.mark.parametrize("program", FORKED)
def test_a_saver_works_in_a_forked_process_as_well(
    guarded_server: tuple[str, Path], program: str
) -> None:
    """Web servers that load a program once and then fork would mix up replies, or hang."""
    assert ran(guarded_server, FORKED[program], FORK).stdout == "[0, 0, 0, 0]\n"


# Sharing


def test_more_threads_than_connections_share_a_saver(server: str, prefix: str) -> None:
    """Under load, runs would fail with errors of the connection pool instead of waiting."""
    start = Barrier(THREADS)

    def work(number: int) -> object:
        start.wait()
        saver.put(thread(str(number)), *chat(number))
        found = saver.get_tuple(thread(str(number)))
        return found and found.metadata["run_id"]

    with (
        RedisSaver.from_conn_string(server, prefix=prefix) as saver,
        ThreadPoolExecutor(THREADS) as threads,
    ):
        found = [*threads.map(work, range(THREADS))]
    assert found == [f"run {number}" for number in range(THREADS)]


async def test_more_tasks_than_connections_share_a_saver(server: str, prefix: str) -> None:
    """Under load, runs would fail with errors of the connection pool instead of waiting."""

    async def work(number: int) -> object:
        await saver.aput(thread(str(number)), *chat(number))
        found = await saver.aget_tuple(thread(str(number)))
        return found and found.metadata["run_id"]

    async with AsyncRedisSaver.from_conn_string(server, prefix=prefix) as saver:
        found = await asyncio.gather(*map(work, range(TASKS)))
    assert found == [f"run {number}" for number in range(TASKS)]


def test_threads_may_have_a_saver_and_a_loop_each(server: str, prefix: str) -> None:
    """Web servers that run each request in a loop of its own would mix loops up, or hang."""

    async def work(number: int) -> object:
        async with AsyncRedisSaver.from_conn_string(server, prefix=prefix) as saver:
            await saver.aput(thread(str(number)), *chat(number))
            found = await saver.aget_tuple(thread(str(number)))
            return found and found.metadata["run_id"]

    with ThreadPoolExecutor(8) as threads:
        found = [*threads.map(lambda number: asyncio.run(work(number)), range(24))]
    assert found == [f"run {number}" for number in range(24)]
