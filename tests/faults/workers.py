"""Processes that use savers, and keep a ledger of what they were told.

A worker has some lanes, each with a ledger `NAME.NUMBER.KIND` in the directory; a worker that was
killed is started again, and its lanes go on where their ledgers end. They end when there is a file
`stop` there. An operation that fails is tried again until it is done; what no fault can excuse ends
the worker.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import redis
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.base import CheckpointTuple
from langgraph.checkpoint.base.id import uuid6
from langgraph.graph import START, MessagesState, StateGraph

from langgraph_checkpoint_redis import AsyncRedisSaver, RedisSaver, ThreadExistsError
from langgraph_checkpoint_redis.errors import UnconfirmedError

from .content import LENGTH, TASK, checkpoint, config, text, values, writes
from .ledger import DONE, FAILED, MISSING, TRIED, WRONG, Entry, Ledger, entries, last_done

T = TypeVar("T")

LANES = {"plain": 6, "async": 16, "graph": 2, "async-graph": 4, "reader": 2}
SECONDS_BETWEEN_TRIES = 0.05
SECONDS_AT_MOST = 1800  # that a worker goes on for, whatever happens to its driver
EXCUSED = (redis.RedisError, OSError, UnconfirmedError)  # all others are bugs


class Lane:
    """Something that goes on by itself: its ledger, and how it calls the saver."""

    def __init__(self, directory: Path, name: str) -> None:
        self.directory, self.name = directory, name
        self.path = directory / name
        self._end = time.monotonic() + SECONDS_AT_MOST
        self._before = list(entries(self.path))
        self.ledger = Ledger(self.path)
        self.ids = {
            (entry.thread_id, entry.number): entry.detail
            for entry in self._before
            if (entry.state, entry.operation) == (TRIED, "put")
        }
        self._done = {
            (entry.operation, entry.thread_id, entry.number)
            for entry in self._before
            if entry.state == DONE
        }

    @property
    def is_over(self) -> bool:
        return (self.directory / "stop").exists() or time.monotonic() > self._end

    @property
    def first_thread(self) -> int:
        """The number of the thread that was the last to be begun."""
        numbers = [int(entry.thread_id.split("-")[1]) for entry in self._before if entry.thread_id]
        return max(numbers, default=0)

    def is_done(self, operation: str, thread_id: str, number: int = 0) -> bool:
        return (operation, thread_id, number) in self._done

    def checkpoint_id(self, thread_id: str, number: int) -> str:
        """The id that a checkpoint has, or is to have."""
        return self.ids.setdefault((thread_id, number), str(uuid6()))


def steps(lane: Lane, thread: int) -> Any:
    """What is done with a thread: each step with its name, number, detail, and a call by name."""
    thread_id = f"{lane.name}-{thread}"
    for number in range(LENGTH):
        checkpoint_id = lane.checkpoint_id(thread_id, number)
        parent = lane.checkpoint_id(thread_id, number - 1) if number else None
        stored = checkpoint(thread_id, number, checkpoint_id)
        yield "put", number, checkpoint_id, ("put", config(thread_id, parent), *stored)
        at, written = config(thread_id, checkpoint_id), writes(thread_id, number)
        yield "put_writes", number, "", ("put_writes", at, written, TASK)
        yield "get_tuple", number, "", ("get_tuple", at)
    copy = f"{thread_id}-copy"
    if thread % 4 == 1:
        yield "copy_thread", 0, copy, ("copy_thread", thread_id, copy)
    elif thread % 4 == 2:
        yield "delete_thread", 0, "", ("delete_thread", thread_id)
    elif thread % 4 == 3:
        yield "prune", 0, "", ("prune", [thread_id])


def check(lane: Lane, thread_id: str, number: int, found: CheckpointTuple | None) -> None:
    """Note if a checkpoint is not what was stored; one that is not there may have been lost."""
    if found is None:
        lane.ledger.write(MISSING, "get_tuple", thread_id, number)
    elif found.checkpoint["channel_values"] != values(thread_id, number):
        lane.ledger.write(WRONG, "get_tuple", thread_id, number, repr(found)[:1000])


async def run_plain(lane: Lane, call: Callable[..., Any]) -> None:
    """Put, write and read without a graph, thread after thread."""
    thread = lane.first_thread
    while True:
        thread_id = f"{lane.name}-{thread}"
        for operation, number, detail, (method, *args) in steps(lane, thread):
            if lane.is_done(operation, thread_id, number):
                continue
            lane.ledger.write(TRIED, operation, thread_id, number, detail)
            found = await until_done(lane, operation, thread_id, partial(call, method, *args))
            if found is OVER:
                return
            if operation == "get_tuple":
                check(lane, thread_id, number, found)
            lane.ledger.write(DONE, operation, thread_id, number, detail)
        thread += 1


OVER = object()


async def until_done(lane: Lane, operation: str, thread_id: str, call: Callable[[], Any]) -> Any:
    """What a call returns in the end; `OVER` if the end of all comes before."""
    while not lane.is_over:
        error, result = await _tried(call)
        if error is None:
            return result
        detail = f"{type(error).__name__}: {error}"[:200]
        lane.ledger.write(FAILED, operation, thread_id, 0, detail)
        await asyncio.sleep(SECONDS_BETWEEN_TRIES)
    return OVER


async def _tried(call: Callable[[], Any]) -> tuple[Exception | None, Any]:
    try:
        return None, await call()
    except ThreadExistsError:  # a copy that was acknowledged to a worker which was killed
        return None, None
    except EXCUSED as error:
        return error, None


# Graphs


def graph(saver: Any, lane: Lane) -> Any:
    """A chat whose answers follow from the questions."""

    def answer(state: MessagesState) -> dict[str, Any]:
        asked = [message.id for message in state["messages"] if isinstance(message, HumanMessage)]
        number = int(str(asked[-1]).removeprefix("h"))
        return {"messages": [AIMessage(text(f"{lane.name} answer", number), id=f"a{number}")]}

    def note(state: MessagesState) -> None:
        """Run beside it, so that there are writes of two tasks."""

    builder = StateGraph(MessagesState).add_node(answer).add_node(note)
    builder.add_edge(START, "answer").add_edge(START, "note")
    return builder.compile(checkpointer=saver)


async def run_graph(lane: Lane, call: Callable[..., Any]) -> None:
    """Have conversations, one after the other."""
    thread = lane.first_thread
    while True:
        thread_id = f"{lane.name}-{thread}"
        for number in range(LENGTH):
            if lane.is_done("turn", thread_id, number):
                continue
            question = HumanMessage(text(f"{lane.name} question", number), id=f"h{number}")
            lane.ledger.write(TRIED, "turn", thread_id, number)
            asked = {"messages": [question]}, {"configurable": {"thread_id": thread_id}}
            done = await until_done(lane, "turn", thread_id, partial(call, *asked))
            if done is OVER:
                return
            lane.ledger.write(DONE, "turn", thread_id, number, str(done))
        thread += 1


# Readers


async def run_reader(lane: Lane, call: Callable[..., Any]) -> None:
    """Read what others were told to be stored, at once."""
    while True:
        ledgers = [path for path in lane.directory.glob("*.*.*") if "plain" in path.name]
        entry = last_done(random.choice(ledgers), "put") if ledgers else None
        if not entry:
            await asyncio.sleep(0.1)
            if lane.is_over:
                return
            continue
        at = config(entry.thread_id, entry.detail)
        found = await until_done(lane, "read", "", partial(call, "get_tuple", at))
        if found is OVER:
            return
        if found is None and _may_be_gone(lane.directory, entry):
            continue
        check(lane, entry.thread_id, entry.number, found)
        lane.ledger.write(DONE, "read", "")


def _may_be_gone(directory: Path, entry: Entry) -> bool:
    """Whether its worker has begun to delete the thread meanwhile, or to prune it."""
    path = directory / entry.thread_id.split("-")[0]
    return any(
        later.thread_id == entry.thread_id and later.operation in ("delete_thread", "prune")
        for later in entries(path)
    )


# Processes


CALLS = ("get_tuple", "put", "put_writes", "aget_tuple", "aput", "aput_writes")


def counting(saver_class: Any, calls: list[int]) -> Any:
    """A class of savers that counts what graphs call."""

    def counted(name: str) -> Callable[..., Any]:
        def call(self: Any, *args: Any, **more: Any) -> Any:
            calls[0] += 1
            return getattr(saver_class, name)(self, *args, **more)

        return call

    methods = {name: counted(name) for name in CALLS}
    return type(saver_class.__name__, (saver_class,), methods)


async def run_lane(lane: Lane, kind: str, saver: Any) -> None:
    """Do what a kind of lane does, with a saver of either kind."""
    calls = [0]
    prefix = "a" if isinstance(saver, AsyncRedisSaver) else ""

    async def call(method: str, *args: Any) -> Any:
        result = getattr(saver, prefix + method)(*args)
        return await result if prefix else result

    async def turn(*args: Any) -> int:
        calls[0] = 0
        invoked = getattr(compiled, prefix + "invoke")(*args, durability="sync")
        if prefix:
            await invoked
        return calls[0]

    if kind.endswith("graph"):
        saver.__class__ = counting(type(saver), calls)
        compiled = graph(saver, lane)
        await run_graph(lane, turn)
    elif kind == "reader":
        await run_reader(lane, call)
    else:
        await run_plain(lane, call)


def work(kind: str, name: str, url: str, directory: Path, options: dict[str, Any]) -> None:
    """Run the lanes of a worker until they are over."""
    names = [f"{name}.{number}.{kind.replace('-', '_')}" for number in range(LANES[kind])]
    lanes = [Lane(directory, name) for name in names]
    if kind.startswith("async"):
        asyncio.run(_all_awaited(kind, lanes, url, options))
        return
    with ThreadPoolExecutor() as threads:
        lasting = [threads.submit(_in_thread, kind, lane, url, options) for lane in lanes]
        for lane in lasting:
            lane.result()


def _in_thread(kind: str, lane: Lane, url: str, options: dict[str, Any]) -> None:
    with RedisSaver.from_conn_string(url, **options) as saver:
        asyncio.run(run_lane(lane, kind, saver))


async def _all_awaited(kind: str, lanes: list[Lane], url: str, options: dict[str, Any]) -> None:
    if kind == "async-graph":  # each counts the calls of its own saver
        await asyncio.gather(*(_awaited(kind, [lane], url, options) for lane in lanes))
    else:
        await _awaited(kind, lanes, url, options)


async def _awaited(kind: str, lanes: list[Lane], url: str, options: dict[str, Any]) -> None:
    async with AsyncRedisSaver.from_conn_string(url, **options) as saver:
        await asyncio.gather(*(run_lane(lane, kind, saver) for lane in lanes))
