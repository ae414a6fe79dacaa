"""Graphs in programs with clients, event loops and worker threads of their own."""

from __future__ import annotations

import asyncio
import gc
from asyncio import AbstractEventLoop
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier, Thread, active_count
from time import monotonic
from typing import Any, cast
from uuid import uuid4

import pytest
import redis
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.types import Command

from langgraph_checkpoint_redis import AsyncRedisSaver, EventLoopError, RedisSaver

from .driving import AwaitedSaver, DirectDriver, Driver, Graph, Open, close
from .graphs import (
    Session,
    alike,
    chat,
    nested,
    says,
    sequence,
    shape,
    texts_of,
    thread,
    with_saver,
)
from .servers import connections_of


def _lasting(find: Callable[[], Any]) -> Any:
    """What is still found when it had some time to go."""
    deadline = monotonic() + 2
    while (found := find()) and monotonic() < deadline:
        pass
    return found


# Clients


@pytest.fixture
def connect(kind: str, server: str, loop: AbstractEventLoop) -> Iterator[Open]:
    """Makes clients as a program has them for its own use; they are closed at the end."""
    clients: list[Any] = []

    def connected(**options: Any) -> Any:
        from_url = redis.Redis.from_url if kind == "sync" else redis.asyncio.Redis.from_url
        clients.append(from_url(server, **options))
        return clients[-1]

    yield connected
    for client in clients:
        if kind == "sync":
            client.close()
        else:
            loop.run_until_complete(client.aclose())


@pytest.mark.parametrize(
    "options",
    [{"decode_responses": True}, {"protocol": 3}, {"protocol": 3, "decode_responses": True}],
    ids=str,
)
def test_a_client_of_the_program_works_and_stays_open(
    drive: Driver,
    connect: Open,
    savers: Open,
    *,
    loop: AbstractEventLoop,
    client: redis.Redis,
    options: dict[str, Any],
) -> None:
    """A client that a program has already could not be used, or would be closed under it."""
    name = f"mine-{uuid4()}"
    opened = savers(connect(client_name=name, **options))
    saver = opened if isinstance(opened, RedisSaver) else AwaitedSaver(opened, loop)

    def story(drive: Driver) -> list[Any]:
        session = Session(drive, nested())
        waiting = session.run({"log": ["in"]}, thread(run_id="run 1")), session.state()
        return [*waiting, session.run(Command(resume="yes")), session.history()]

    alike(with_saver(drive, opened), story)
    saver.setup()
    saver.copy_thread("a", "b")
    saver.prune(["b"])
    assert {found.config["configurable"]["thread_id"] for found in saver.list(None)} == {"a", "b"}
    saver.delete_for_runs(["run 1"])
    saver.delete_thread("a")
    connections = connections_of(client, name)
    close(opened, loop)
    assert connections_of(client, name) == connections != set()


def test_a_closed_saver_leaves_no_connections_and_can_be_used_again(
    drive: Driver, savers: Open, loop: AbstractEventLoop, server: str, client: redis.Redis
) -> None:
    """Each saver that a program is done with would cost the server its connections."""
    name = f"mine-{uuid4()}"
    saver = savers(f"{server}?client_name={name}")
    session = Session(with_saver(drive, saver), chat())
    for expected in (2, 4):
        assert len(session.say(f"{expected}")["messages"]) == expected
        assert connections_of(client, name)
        close(saver, loop)
        assert not _lasting(lambda: connections_of(client, name))


# Event loops and threads


@pytest.fixture
async def awaited(server: str, prefix: str) -> AsyncIterator[AsyncRedisSaver]:
    """A saver for tests that run in an event loop."""
    async with AsyncRedisSaver.from_conn_string(server, prefix=prefix) as saver:
        yield saver


def test_an_async_saver_serves_one_event_loop_after_another(server: str, prefix: str) -> None:
    """A script or worker that calls `asyncio.run` twice would fail the second time."""
    awaited = AsyncRedisSaver(server, prefix=prefix)
    graph = chat().compile(checkpointer=awaited)

    async def turn() -> int:
        state = await graph.ainvoke({"messages": [("user", "hi")]}, thread())
        await awaited.aclose()
        return len(state["messages"])

    assert [asyncio.run(turn()) for _ in range(3)] == [2, 4, 6]


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_event_loops_that_have_ended_keep_no_connections(
    server: str, prefix: str, client: redis.Redis
) -> None:
    """A worker that runs each job with `asyncio.run` would use up the server's connections."""
    name = f"mine-{uuid4()}"
    saver = AsyncRedisSaver(f"{server}?client_name={name}", prefix=prefix)
    for _ in range(5):
        asyncio.run(saver.aget_tuple(thread()))
        gc.collect()
    open_at_work = len(connections_of(client, name))
    asyncio.run(saver.aclose())
    del saver
    gc.collect()
    assert open_at_work <= 1
    assert not _lasting(lambda: connections_of(client, name))


def test_every_thread_may_have_an_event_loop_of_its_own(server: str, prefix: str) -> None:
    """A program with several event loops would need a saver for each."""
    awaited = AsyncRedisSaver(server, prefix=prefix)
    graph = chat().compile(checkpointer=awaited)

    async def talk(name: str) -> int:
        states = [await graph.ainvoke({"messages": [("user", "hi")]}, thread(name)) for _ in "123"]
        return len(states[-1]["messages"])

    with _running_loops(4) as loops:
        talks = [
            asyncio.run_coroutine_threadsafe(talk(f"{number}"), loop)
            for number, loop in enumerate([*loops, *loops])
        ]
        assert [talk.result() for talk in talks] == [6] * 8
        asyncio.run(awaited.aclose())


@contextmanager
def _running_loops(count: int) -> Iterator[list[AbstractEventLoop]]:
    """Event loops that each run in a thread."""
    loops = [asyncio.new_event_loop() for _ in range(count)]
    threads = [Thread(target=loop.run_forever) for loop in loops]
    for running in threads:
        running.start()
    yield loops
    for loop, running in zip(loops, threads, strict=True):
        loop.call_soon_threadsafe(loop.stop)
        running.join()
        loop.close()


async def test_nodes_without_async_can_look_at_the_state_of_their_graph(
    awaited: AsyncRedisSaver,
) -> None:
    """A tool that reads what was said would hang or fail in a graph that is awaited."""
    graphs: list[Graph] = []

    def look(_: object) -> dict[str, list[str]]:
        graph = graphs[0]
        graph.update_state(thread("b"), {"log": ["from a node"]}, as_node="a")
        seen = graph.get_state(thread()), *graph.get_state_history(thread("b"))
        return {"log": [f"saw {state.values['log']}" for state in seen]}

    graphs.append(sequence(a=says("a"), look=look).compile(checkpointer=awaited))
    state = await graphs[0].ainvoke({"log": ["in"]}, thread(), durability="sync")
    assert state["log"] == ["in", "a", "saw ['in', 'a']", "saw ['from a node']"]


async def test_worker_threads_may_run_graphs_without_await(awaited: AsyncRedisSaver) -> None:
    """A synchronous library could not run the graphs of an asynchronous program."""
    graph = nested().compile(checkpointer=awaited)

    def run(name: str) -> Any:
        graph.invoke({"log": [name]}, thread(name))
        list(graph.stream(Command(resume="yes"), thread(name)))
        return graph.get_state(thread(name)).values["log"]

    logs = await asyncio.gather(*(asyncio.to_thread(run, f"{number}") for number in range(8)))
    assert [(log[0], log[-1]) for log in logs] == [(f"{number}", "z") for number in range(8)]


def test_a_program_without_an_event_loop_may_use_an_async_saver(server: str, prefix: str) -> None:
    """A script could not read the threads of a program that awaits, or would not end cleanly."""
    before = active_count()
    awaited = AsyncRedisSaver(server, prefix=prefix)
    session = Session(DirectDriver(cast("RedisSaver", awaited)), chat())
    session.say("hi")
    session.say("again")
    assert len(session.history()) == 6
    awaited.close()
    assert not _lasting(lambda: active_count() > before)
    del awaited, session
    gc.collect()  # complains of what was left open


@pytest.mark.parametrize(
    "call",
    [
        lambda saver: saver.setup(),
        lambda saver: saver.get_tuple(thread()),
        lambda saver: list(saver.list(thread())),
        lambda saver: saver.put(thread(), empty_checkpoint(), {}, {}),
        lambda saver: saver.put_writes(thread(checkpoint_id="1"), [("a", 1)], "task"),
        lambda saver: saver.prune(["a"]),
        lambda saver: saver.copy_thread("a", "b"),
        lambda saver: saver.delete_thread("a"),
        lambda saver: saver.delete_for_runs(["run"]),
        lambda saver: saver.get_delta_channel_history(config=thread(), channels=["log"]),
        lambda saver: chat().compile(checkpointer=saver).invoke({"messages": []}, thread()),
        lambda saver: saver.close(),
    ],
)
async def test_a_call_that_would_block_the_event_loop_says_so(
    awaited: AsyncRedisSaver, call: Callable[[AsyncRedisSaver], object]
) -> None:
    """A forgotten `await` would hang a whole program."""
    with pytest.raises(EventLoopError, match="await its twin"):
        call(awaited)


async def test_five_hundred_runs_at_once_wait_for_connections(awaited: AsyncRedisSaver) -> None:
    """A busy server would lose runs to errors of the connection pool."""
    graph = chat().compile(checkpointer=awaited)
    states = await asyncio.gather(
        *(graph.ainvoke({"messages": [("user", "hi")]}, thread(f"{run}")) for run in range(500))
    )
    assert [len(state["messages"]) for state in states] == [2] * 500


async def test_many_listings_of_all_threads_wait_for_connections(
    awaited: AsyncRedisSaver,
) -> None:
    """A dashboard that several people look at would fail while the server is busy."""
    await chat().compile(checkpointer=awaited).ainvoke({"messages": [("user", "hi")]}, thread())

    async def listed() -> int:
        return len([found async for found in awaited.alist(None)])

    counts = await asyncio.gather(*(listed() for _ in range(300)))
    assert counts == [3] * 300


def test_threads_that_list_all_threads_wait_for_connections(server: str, prefix: str) -> None:
    """The same, with a client that was told to keep to a few connections."""
    with (
        redis.Redis.from_url(server, max_connections=2) as client,
        ThreadPoolExecutor(16) as threads,
    ):
        saver = RedisSaver(client, prefix=prefix)
        chat().compile(checkpointer=saver).invoke({"messages": [("user", "hi")]}, thread())
        listings = [threads.submit(lambda: len(list(saver.list(None)))) for _ in range(200)]
        assert [listing.result() for listing in listings] == [3] * 200


def test_an_async_saver_without_a_loop_to_work_in_says_so(
    loop: AbstractEventLoop, server: str, prefix: str
) -> None:
    """A synchronous call that can never be answered would hang."""
    client = redis.asyncio.Redis.from_url(server)
    saver = AsyncRedisSaver(client, prefix=prefix)
    loop.run_until_complete(saver.aget_tuple(thread()))
    loop.run_until_complete(client.aclose())
    with pytest.raises(EventLoopError, match="from a URL"):
        saver.get_tuple(thread())
    gc.collect()  # complains of what was never awaited


async def test_cancelled_runs_do_not_disturb_others(awaited: AsyncRedisSaver) -> None:
    """A user who closes the page would break the conversations of others, or their own."""
    graph = chat().compile(checkpointer=awaited)
    turn: Any = {"messages": [("user", "hi")]}
    others = [asyncio.create_task(graph.ainvoke(turn, thread(f"{run}"))) for run in range(20)]
    for moment in range(0, 120, 3):
        run = asyncio.create_task(graph.ainvoke(turn, thread()))
        for _ in range(moment):
            await asyncio.sleep(0)
        run.cancel()
        await asyncio.wait([run])
    while unfinished := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(unfinished)  # what cancelled runs were storing in the background
    assert [len(other.result()["messages"]) for other in others] == [2] * 20
    before = (await graph.aget_state(thread())).values.get("messages", [])
    said = (await graph.ainvoke(turn, thread()))["messages"]
    assert said[:-2] == before
    history = [found async for found in graph.aget_state_history(thread())]
    assert history[0].values["messages"] == said


async def test_graphs_with_a_sync_saver_can_be_awaited(server: str, prefix: str) -> None:
    """A program that awaits here and there would need two savers."""
    with RedisSaver.from_conn_string(server, prefix=prefix) as saver:
        graph = nested().compile(checkpointer=saver)
        names = [f"{number}" for number in range(20)]
        await asyncio.gather(*(graph.ainvoke({"log": [name]}, thread(name)) for name in names))
        for name in names:
            streamed = [step async for step in graph.astream(Command(resume="yes"), thread(name))]
            assert [*streamed[-1]] == ["z"]
            awaited = [found async for found in graph.aget_state_history(thread(name))]
            assert shape(awaited) == shape(list(graph.get_state_history(thread(name))))
        assert awaited[0].values["log"][0] == "19"
        await saver.aprune(names)
        await saver.acopy_thread("0", "copy")
        await saver.adelete_for_runs(["none"])
        await saver.adelete_thread("0")
        assert (await graph.aget_state(thread("copy"))).values["log"][0] == "0"
        assert await saver.aget_tuple(thread("0")) is None


def test_fifty_threads_may_share_a_sync_saver(server: str, prefix: str) -> None:
    """A web server with a pool of threads would need a saver for each, or mix users up."""
    start = Barrier(50)

    with RedisSaver.from_conn_string(server, prefix=prefix) as saver:
        graph = chat().compile(checkpointer=saver)

        def talk(name: str) -> list[str]:
            start.wait()
            for said in ("hi", "again"):
                graph.invoke({"messages": [("user", f"{said} from {name}")]}, thread(name))
            return texts_of(graph.get_state(thread(name)))

        names = [f"{number}" for number in range(50)]
        with ThreadPoolExecutor(50) as threads:
            said = list(threads.map(talk, names))
    assert said == [[f"hi from {i}", "I know 1", f"again from {i}", "I know 3"] for i in names]
