"""Leases that outlive a context: generators of web frameworks, tasks, and other processes."""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from contextvars import Context, copy_context
from functools import partial
from typing import Any

import anyio
import pytest
import redis
from langchain_core.runnables import RunnableConfig
from langgraph.func import entrypoint, task
from langgraph.graph import START, StateGraph
from langgraph.types import Command
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from langgraph_checkpoint_redis import (
    AsyncRedisSaver,
    ConfigError,
    Lease,
    LeaseLostError,
    RedisSaver,
    ThreadLeasedError,
)
from tests.local_server import available_servers, running_server

from .graphs import Builder, Log, asks, chat, map_reduce, says, sequence, thread

ON_ONE_SERVER = True  # `make test-servers` has all of them

HI = {"messages": [("user", "hi")]}
A = thread("a")

options = pytest.mark.parametrize


@pytest.fixture
def mine(server: str, prefix: str) -> Iterator[RedisSaver]:
    """The saver that takes leases."""
    with RedisSaver.from_conn_string(server, prefix=prefix) as saver:
        yield saver


@pytest.fixture
def other(client: redis.Redis, prefix: str) -> RedisSaver:
    """A saver of another process."""
    return RedisSaver(client, prefix=prefix)


def is_free(other: RedisSaver, thread_id: str = "a") -> bool:
    try:
        with other.lease(thread_id):
            return True
    except ThreadLeasedError:
        return False


def eventually(holds: Callable[[], bool], seconds: float = 5) -> bool:
    end = time.monotonic() + seconds
    while not (held := holds()) and time.monotonic() < end:
        time.sleep(0.02)
    return held


def step_as_web_frameworks_do(generator: Iterator[Any]) -> list[Any]:
    """Take each item in a worker thread, in a copy of this context."""
    found: list[Any] = []
    with ThreadPoolExecutor(2) as pool:
        while item := pool.submit(copy_context().run, lambda: next(generator, None)).result():
            found.append(item)
    return found


# Whatever runs, in whatever context


def subgraph() -> Builder:
    """A graph whose subgraph remembers, and one that does not."""
    inner = sequence(one=says("one"), two=says("two"))
    return sequence(
        first=says("first"),
        stateful=inner.compile(checkpointer=True),
        stateless=inner.compile(),
    )


def functional() -> Any:
    """A workflow of tasks."""

    @task
    def square(number: int) -> int:
        return number * number

    def workflow(numbers: list[int]) -> list[int]:
        return [running.result() for running in [square(number) for number in numbers]]

    return workflow


LOG = {"log": ["in"]}
GRAPHS: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "chat": (lambda saver: chat().compile(checkpointer=saver), HI),
    "subgraphs": (lambda saver: subgraph().compile(checkpointer=saver), LOG),
    "tasks at the same time": (lambda saver: map_reduce(5).compile(checkpointer=saver), LOG),
    "interrupt": (lambda saver: sequence(ask=asks("?")).compile(checkpointer=saver), LOG),
    "functional": (lambda saver: entrypoint(checkpointer=saver)(functional()), [1, 2, 3]),
}


@options("durability", ["async", "exit"])
@options("name", GRAPHS)
def test_a_lease_covers_a_stream_that_is_stepped_through_in_other_contexts(
    mine: RedisSaver, other: RedisSaver, name: str, durability: Any
) -> None:
    """A streaming endpoint would refuse its own run, or hold the lease after it."""
    compiled, given = GRAPHS[name]
    graph = compiled(mine)

    def stream() -> Iterator[Any]:
        with mine.lease("a", ttl=30) as lease:
            yield "begin"
            yield from graph.stream(given, lease.config(A), durability=durability)
            assert not is_free(other)
        yield "end"

    assert step_as_web_frameworks_do(stream())[-1] == "end"
    assert is_free(other)
    expected = RedisSaver(other._redis, prefix=f"{mine._shared.keyspace.prefix}-free")
    compiled(expected).invoke(given, A, durability=durability)
    assert len([*mine.list(A)]) == len([*expected.list(A)])


@options("durability", ["async", "exit"])
@options("name", GRAPHS)
def test_a_lease_covers_an_awaited_stream_that_other_tasks_go_on_with(
    server: str, prefix: str, other: RedisSaver, name: str, durability: Any
) -> None:
    """A streaming endpoint would refuse its own run, or hold the lease after it."""
    compiled, given = GRAPHS[name]

    async def step() -> int:
        async with AsyncRedisSaver.from_conn_string(server, prefix=prefix) as saver:
            graph = compiled(saver)

            async def stream() -> AsyncIterator[Any]:
                async with saver.alease("a", ttl=30) as lease:
                    yield "begin"
                    config = lease.config(A)
                    async for item in graph.astream(given, config, durability=durability):
                        yield item
                yield "end"

            stepping, found = stream(), []
            while (item := await _in_a_context_of_its_own(anext(stepping, None))) is not None:
                found.append(item)
            assert found[-1] == "end"
            return len([one async for one in saver.alist(A)])

    assert asyncio.run(step()) > 0
    assert is_free(other)


async def _in_a_context_of_its_own(item: Any) -> Any:
    async def wait() -> Any:
        return await item

    loop = asyncio.get_running_loop()
    return await Context().run(loop.create_task, wait())


def test_a_streaming_response_holds_its_lease_until_it_has_ended(
    mine: RedisSaver, other: RedisSaver
) -> None:
    """Two requests for one thread would both be answered."""
    graph = chat().compile(checkpointer=mine)

    def stream(lease: Lease) -> Iterator[str]:
        with lease:
            for update in graph.stream(HI, lease.config(A), stream_mode="updates"):
                yield f"{json.dumps(update, default=str)}\n"
            with pytest.raises(ThreadLeasedError):
                chat().compile(checkpointer=other).invoke(HI, A)

    def endpoint(request: Request) -> StreamingResponse:
        return StreamingResponse(stream(mine.lease("a", ttl=30)))

    with TestClient(Starlette(routes=[Route("/", endpoint)])) as browser:
        assert "I know 1" in browser.get("/").text
        assert "I know 3" in browser.get("/").text
    assert is_free(other)


def test_a_dependency_may_take_a_lease_that_the_endpoint_shows(
    mine: RedisSaver, other: RedisSaver
) -> None:
    """A framework that enters and leaves a block in two worker threads would end in an error."""
    graph = chat().compile(checkpointer=mine)
    with ThreadPoolExecutor(1) as pool:

        def run(function: Callable[..., Any], *args: Any) -> Any:
            return pool.submit(copy_context().run, function, *args).result()

        for error in (None, ZeroDivisionError("in the endpoint")):
            lease = run(mine.lease("a", ttl=30).__enter__)
            with pytest.raises(ThreadLeasedError, match=r"lease\.config"):
                run(graph.invoke, HI, A)
            run(graph.invoke, HI, lease.config(A))
            assert not run(lease.__exit__, error and type(error), error, None)
            assert is_free(other)
            run(graph.invoke, HI, A)


# Left, closed, cancelled


def test_a_generator_that_is_left_gives_its_lease_back(mine: RedisSaver, other: RedisSaver) -> None:
    """A client that goes away would lock a thread until the lease expires."""
    graph = chat().compile(checkpointer=mine)

    def stream() -> Iterator[Any]:
        with mine.lease("a", ttl=30) as lease:
            yield from graph.stream(HI, lease.config(A))

    for leave in (lambda one: copy_context().run(one.close), lambda _: None):
        left: Any = stream()
        next(left)
        leave(left)
        del left
        gc.collect()
        assert is_free(other)
        graph.invoke(HI, A)  # the context that it began in does not show a lease that has ended


def test_an_awaited_generator_that_is_left_gives_its_lease_back(
    server: str, prefix: str, other: RedisSaver
) -> None:
    """A client that goes away would lock a thread, or the loop would report a strange error."""
    said: list[Any] = []

    async def leave() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, what: said.append(what))
        async with AsyncRedisSaver.from_conn_string(server, prefix=prefix) as saver:
            graph = chat().compile(checkpointer=saver)

            async def stream() -> AsyncIterator[Any]:
                async with saver.alease("a", ttl=30) as lease:
                    async for item in graph.astream(HI, lease.config(A)):
                        yield item

            closed: Any = stream()
            await anext(closed)
            await asyncio.create_task(closed.aclose())
            assert is_free(other)
            await graph.ainvoke(HI, A)

            async def forget() -> None:
                async for _ in stream():
                    break

            await asyncio.create_task(forget())
            gc.collect()
            assert await asyncio.to_thread(eventually, lambda: is_free(other))
            await graph.ainvoke(HI, A)

    asyncio.run(asyncio.wait_for(leave(), 20))
    assert said == []


def test_a_cancelled_request_gives_its_lease_back(
    server: str, prefix: str, other: RedisSaver
) -> None:
    """A framework that cancels each `await` of a request would leave the thread locked."""

    async def disconnect() -> None:
        async with AsyncRedisSaver.from_conn_string(server, prefix=prefix) as saver:
            with anyio.CancelScope() as scope:
                async with saver.alease("a", ttl=30):
                    scope.cancel()
                    await anyio.sleep(30)
            assert scope.cancelled_caught
            assert await asyncio.to_thread(eventually, lambda: is_free(other))

    asyncio.run(asyncio.wait_for(disconnect(), 10))


def test_a_lease_that_is_cancelled_while_it_is_taken_is_given_back(
    server: str, prefix: str, client: redis.Redis, other: RedisSaver
) -> None:
    """The server would have given the lease to a request that has gone."""

    async def give_up() -> None:
        async with AsyncRedisSaver.from_conn_string(server, prefix=prefix) as saver:
            async with saver.alease("warm up"):
                pass
            client.client_pause(300)
            taking = asyncio.create_task(saver.alease("a", ttl=30).__aenter__())
            await asyncio.sleep(0.1)
            taking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await taking

    asyncio.run(give_up())
    assert eventually(lambda: is_free(other))


def test_the_error_of_a_block_is_told_although_the_lease_cannot_be_given_back() -> None:
    """The reason of a failure would be hidden behind what followed from it."""
    binary = min(available_servers().items())[1]

    def fail() -> None:
        with (
            ExitStack() as stack,
            redis.Redis.from_url(stack.enter_context(running_server(binary))) as one,
            RedisSaver(one).lease("a"),
        ):
            stack.close()
            raise ZeroDivisionError

    async def afail() -> None:
        with ExitStack() as stack:
            url = stack.enter_context(running_server(binary))
            async with redis.asyncio.Redis.from_url(url) as one, AsyncRedisSaver(one).alease("a"):
                stack.close()
                raise ZeroDivisionError

    for act in (fail, lambda: asyncio.run(afail())):
        with pytest.raises(ZeroDivisionError) as raised:
            act()
        if sys.version_info >= (3, 11):  # the first with notes
            assert "not given back" in raised.value.__notes__[0]


def test_leases_of_one_context_may_end_in_any_order(mine: RedisSaver, other: RedisSaver) -> None:
    """Of two streams that one loop steps through, one would lose its lease to the other's end."""
    graph = chat().compile(checkpointer=mine)

    def stream(thread_id: str) -> Iterator[Any]:
        with mine.lease(thread_id, ttl=30):
            yield from graph.stream(HI, thread(thread_id), durability="sync")
            yield "last"

    first, second = stream("a"), stream("b")
    next(first)
    next(second)
    assert len([*first]) == 1
    assert is_free(other)
    assert len([*second]) == 1
    assert is_free(other, "b")
    graph.invoke(HI, A)
    graph.invoke(HI, thread("b"))


# Shown explicitly


def test_a_saver_of_a_lease_shows_it_in_every_call(mine: RedisSaver, other: RedisSaver) -> None:
    """Code without a config could not change the thread that it has the lease of."""
    chat().compile(checkpointer=mine).invoke(HI, A)

    def change(saver: RedisSaver) -> None:
        chat().compile(checkpointer=saver).invoke(HI, A)
        saver.prune(["a"])
        saver.set_ttl("a", 60)
        saver.repair("a")
        saver.delete_for_runs(["none"])
        saver.delete_thread("a")

    with mine.lease("a", ttl=30) as lease:
        with pytest.raises(ThreadLeasedError):
            Context().run(change, mine)
        Context().run(change, lease.saver)
        with mine.lease("b", ttl=30) as further:
            Context().run(further.saver.delete_thread, "b")
    with pytest.raises(LeaseLostError):
        lease.saver.delete_thread("a")
    assert is_free(other)


def test_an_awaited_saver_of_a_lease_shows_it_in_every_call(
    server: str, prefix: str, other: RedisSaver
) -> None:
    """Code without a config could not change the thread that it has the lease of."""

    async def change(saver: AsyncRedisSaver) -> None:
        await chat().compile(checkpointer=saver).ainvoke(HI, A)
        await saver.aprune(["a"])
        await saver.adelete_thread("a")

    async def lease_and_change() -> None:
        async with (
            AsyncRedisSaver.from_conn_string(server, prefix=prefix) as saver,
            saver.alease("a", ttl=30) as lease,
        ):
            with pytest.raises(ThreadLeasedError):
                await _in_a_context_of_its_own(change(saver))
            await _in_a_context_of_its_own(change(lease.saver))
            await _in_a_context_of_its_own(lease())

    asyncio.run(lease_and_change())
    assert is_free(other)


def test_another_process_may_run_what_a_lease_is_shown_for(
    mine: RedisSaver, other: RedisSaver
) -> None:
    """A request that hands its run to a queue could not hold the thread for it."""
    with mine.lease("a", ttl=30) as lease:
        config: RunnableConfig = json.loads(json.dumps(lease.config(A)))
        chat().compile(checkpointer=other).invoke(HI, config)
    with pytest.raises(LeaseLostError):
        chat().compile(checkpointer=other).invoke(HI, config)


def test_a_config_may_show_several_leases(mine: RedisSaver) -> None:
    """A run that works on two threads could hold only one of them."""
    with mine.lease("a", ttl=30) as one, mine.lease("b", ttl=30) as two:
        config = two.config(one.config(A))
        graph = chat().compile(checkpointer=mine)
        for thread_id in "abc":
            at = thread(**{**config["configurable"], "thread_id": thread_id})
            Context().run(partial(graph.invoke, HI, at))


def test_what_a_lease_is_shown_by_is_not_stored(mine: RedisSaver) -> None:
    """A token would be read in metadata, and keep pieces of threads from being shared."""
    graph = sequence(ask=asks("?"), last=says("last")).compile(checkpointer=mine)
    with mine.lease("a", ttl=30) as lease:
        graph.invoke(LOG, lease.config(A))
        graph.invoke(Command(resume="!"), lease.config(A))
        token = lease.holding.token.hex()
    snapshots = [*graph.get_state_history(A)]
    assert len(snapshots) == 4
    assert token not in repr(snapshots)
    assert token not in repr([*mine.list(A)])


@options("tokens", ["", "x", 1, ["x"], {"{name}": 1}, {"{name}": "no hex"}], ids=repr)
def test_a_config_that_shows_no_lease_is_refused(mine: RedisSaver, tokens: Any) -> None:
    """A mistake would look as if another had the lease."""
    if isinstance(tokens, dict):
        tokens = {mine._shared.lease_name("a"): value for value in tokens.values()}
    builder: Builder = StateGraph(Log).add_node("a", says("a")).add_edge(START, "a")
    graph = builder.compile(checkpointer=mine)
    with pytest.raises(ConfigError, match=r"lease\.config"):
        graph.invoke(LOG, thread("a", __redis_leases=tokens), durability="sync")
    assert mine.get_tuple(A) is None


# Leases that were never taken


def test_a_lease_without_a_block_says_that_it_was_never_taken(mine: RedisSaver) -> None:
    """A run would be told that another has taken its lease, or pass for one that is alone."""
    lease = mine.lease("a")
    for use in (lease, lambda: lease.config(A), lambda: lease.saver):
        with pytest.raises(
            ConfigError, match=r"never taken.*with saver.lease\(thread_id\) as lease"
        ):
            use()
    with lease:
        lease()
    with pytest.raises(LeaseLostError):
        lease()


async def test_an_awaited_lease_without_a_block_says_so(server: str, prefix: str) -> None:
    """The same for the asynchronous saver."""
    async with AsyncRedisSaver.from_conn_string(server, prefix=prefix) as saver:
        lease = saver.alease("a")
        with pytest.raises(ConfigError, match=r"async with saver\.alease"):
            await lease()
        async with lease:
            await lease()


def test_a_lease_that_is_dropped_without_a_block_warns(mine: RedisSaver, other: RedisSaver) -> None:
    """`lease = saver.lease(...)` looks as if it kept others out."""
    with pytest.warns(RuntimeWarning, match="'a' was never taken"):
        mine.lease("a")
    with other.lease("a"), pytest.raises(ThreadLeasedError), mine.lease("a"):
        pass
