"""What is measured: single operations, conversations, interrupts, histories, crowds.

Each workload is written once, for both kinds of savers (see `Session`), and checks what it reads.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from secrets import token_bytes, token_hex
from typing import Annotated, Any, NamedTuple
from uuid import uuid4

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.channels.delta import DeltaChannel
from langgraph.checkpoint.base import (
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    empty_checkpoint,
)
from langgraph.checkpoint.base.id import uuid6
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command, interrupt
from typing_extensions import TypedDict

from .columns import Column, Session
from .measuring import Bench, Cell, Recorder, Step, expect
from .servers import Server

CHARACTERS = 500
MEGABYTE = 1_000_000
CONNECTIONS_OF_A_RUN = 4  # it stores a checkpoint and writes of tasks at the same time


def message(number: int) -> AnyMessage:
    """A message as no other; people and models take turns."""
    kind = AIMessage if number % 2 else HumanMessage
    return kind(token_hex(CHARACTERS // 2), id=str(uuid4()))


def conversation(length: int) -> list[AnyMessage]:
    """So many messages."""
    return [message(number) for number in range(length)]


def new_thread() -> RunnableConfig:
    """The latest checkpoint of a thread that does not exist yet."""
    return {"configurable": {"thread_id": str(uuid4()), "checkpoint_ns": ""}}


def checkpoint_of(values: dict[str, Any], version: Any) -> Checkpoint:
    """A checkpoint as the chat graph makes it, in which these channels are new."""
    checkpoint = empty_checkpoint()
    checkpoint["id"] = str(uuid6())
    checkpoint["channel_values"] = values
    checkpoint["channel_versions"] = dict.fromkeys(values, version)
    checkpoint["versions_seen"] = {"__input__": {}, "chat": {"messages": version}}
    return checkpoint


# Single operations


class Thread:
    """What is put into a thread of a session, as the chat graph would, and must be found there."""

    def __init__(self, session: Session) -> None:
        """Nothing is in it yet."""
        self.session = session
        self.latest = self.at = self.before = new_thread()
        self.step = -1
        self.version: Any = None
        self.checkpoint, self.last = empty_checkpoint(), empty_checkpoint()

    @property
    def id(self) -> str:
        """The thread's id."""
        return str(self.latest["configurable"]["thread_id"])

    def advance(self, **values: object) -> None:
        """Make the next checkpoint, in which these channels are new."""
        self.step += 1
        self.version = self.session.saver.get_next_version(self.version, None)
        self.last, self.checkpoint = self.checkpoint, checkpoint_of(values, self.version)
        self.before = self.at

    async def put(self) -> None:
        """Put the checkpoint that is next."""
        metadata: CheckpointMetadata = {"source": "loop", "step": self.step, "parents": {}}
        versions = self.checkpoint["channel_versions"]
        self.at = await self.session.call("put", self.at, self.checkpoint, metadata, versions)


async def operations(bench: Bench, *, rounds: int, steps: int) -> None:
    """Every method of a saver; the first of the rounds is for warming up."""
    messages = conversation(bench.size)
    for number in range(rounds + 1):
        bench.recording = number > 0
        await _round(bench, messages, steps)


async def _round(bench: Bench, messages: list[AnyMessage], steps: int) -> None:
    threads = {session: Thread(session) for session in bench.sessions}
    for step in range(steps + 1):
        if messages and step:
            messages = [*messages, message(len(messages))]
        for thread in threads.values():
            thread.advance(messages=messages)
        if step:
            await bench.in_turns(_calls_of_a_turn(threads))
        else:
            quiet = Bench(bench.recorder, bench.sessions, bench.workload, bench.size)
            quiet.recording = False
            await quiet.in_turns(_calls_of_a_turn(threads)[1:3])  # there is nothing to read yet
            bench.sessions = quiet.sessions
    await _lists(bench, threads, steps + 1)
    await _first_reads(bench, threads)
    await _removals(bench, threads)


def _calls_of_a_turn(threads: dict[Session, Thread]) -> list[Step]:
    """What a graph does: it reads where it is to go on, and puts what becomes of it."""
    writes = [("messages", [message(1)]), ("branch:to:chat", None)]
    task = str(uuid4())

    def is_latest(session: Session, found: CheckpointTuple | None) -> None:
        expect_checkpoint(found, threads[session].last)
        expect(
            "writes",
            [write[1] for write in (found and found.pending_writes) or ()],
            [channel for channel, _ in writes],
        )

    return [
        Step(
            "get_tuple, latest",
            lambda session: session.call("get_tuple", threads[session].latest),
            is_latest,
        ),
        Step("put", lambda session: threads[session].put(), essential=True),
        Step(
            "put_writes",
            lambda session: session.call("put_writes", threads[session].at, writes, task),
        ),
        Step(
            "get_tuple, by id",
            lambda session: session.call("get_tuple", threads[session].before),
            lambda session, found: expect_checkpoint(found, threads[session].last),
        ),
    ]


def expect_checkpoint(found: CheckpointTuple | None, expected: Checkpoint) -> None:
    """Raise `WrongState` if a checkpoint is not what was put."""
    expect("checkpoint", found and found.checkpoint["id"], expected["id"])
    values = found.checkpoint["channel_values"] if found else {}
    for channel, value in expected["channel_values"].items():
        expect(channel, values.get(channel), value)


def on_savers(bench: Bench, sessions: Sequence[Session]) -> Bench:
    """The same workload without the floors: they have no more than the simplest operations."""
    savers = [session for session in sessions if not session.column.is_floor]
    found = Bench(bench.recorder, savers, bench.workload, bench.size)
    found.recording = bench.recording
    return found


async def _lists(bench: Bench, threads: dict[Session, Thread], length: int) -> None:
    savers = on_savers(bench, bench.sessions)

    def so_many(expected: int) -> Any:
        def check(session: Session, found: list[CheckpointTuple]) -> None:
            expect("listed", len(found), expected)
            if expected > 1:
                expect_checkpoint(found[0], threads[session].checkpoint)

        return check

    await savers.each(
        "list, 10",
        lambda session: session.listed(threads[session].latest, limit=10),
        so_many(min(10, length)),
    )
    await savers.each(
        "list, all", lambda session: session.listed(threads[session].latest), so_many(length)
    )
    await savers.each(
        "list, filtered",
        lambda session: session.listed(threads[session].latest, filter={"step": 1}),
        so_many(1),
    )


async def _first_reads(bench: Bench, threads: dict[Session, Thread]) -> None:
    """Read in another saver, as another process would, which has not seen the thread."""
    async with AsyncExitStack() as stack:
        others: dict[Session, Thread] = {}
        for session in bench.sessions:
            if session.url and not session.column.is_floor:
                opening = Session.opened(
                    session.column, session.server, awaited=session.awaited, url=session.url
                )
                other = await stack.enter_async_context(opening)
                others[other] = threads[session]
                await other.call("get_tuple", new_thread())  # connected, and its scripts are known
        await on_savers(bench, [*others]).each(
            "get_tuple, first of a process",
            lambda session: session.call("get_tuple", others[session].latest),
            lambda session, found: expect_checkpoint(found, others[session].checkpoint),
        )


async def _removals(bench: Bench, threads: dict[Session, Thread]) -> None:
    savers = on_savers(bench, bench.sessions)
    copy = str(uuid4())
    await savers.each(
        "copy_thread", lambda session: session.call("copy_thread", threads[session].id, copy)
    )
    await savers.each(
        "delete_thread", lambda session: session.call("delete_thread", threads[session].id)
    )
    for session in savers.sessions:  # not measured: the next round begins with empty servers
        if savers.cell(session, "copy_thread") not in bench.recorder.problems:
            await session.call("delete_thread", copy)
        if savers.cell(session, "delete_thread") not in bench.recorder.problems:
            with bench.recorder.problems_of(savers.cell(session, "delete_thread")):
                expect("deleted", await session.call("get_tuple", threads[session].latest), None)


async def cpu(bench: Bench, *, samples: int) -> None:
    """What an operation takes of the CPU of this process, and of the server's, by its own count."""
    messages = conversation(bench.size)
    for session in list(bench.sessions):
        cell = bench.cell(session, "put, client")
        with bench.recorder.problems_of(cell):
            await _cpu_of(bench, session, messages, samples)


async def _cpu_of(bench: Bench, session: Session, messages: list[AnyMessage], samples: int) -> None:
    thread = Thread(session)
    writes = [("messages", [message(1)]), ("branch:to:chat", None)]

    async def put() -> None:
        last = [message(1)] if messages else []
        thread.advance(messages=[*messages[:-1], *last])
        await thread.put()

    await put()
    acts: dict[str, Callable[[], Awaitable[Any]]] = {
        "put": put,
        "get_tuple, latest": lambda: session.call("get_tuple", thread.latest),
        "put_writes": lambda: session.call("put_writes", thread.at, writes, str(uuid4())),
    }
    for operation, act in acts.items():
        before = session.server.counts().cpu_seconds
        for _ in range(samples):
            start = time.process_time()
            await act()
            seconds = time.process_time() - start
            bench.recorder.add(bench.cell(session, f"{operation}, client"), seconds)
        after = session.server.counts().cpu_seconds
        if before is not None and after is not None:
            cell = bench.cell(session, f"{operation}, server")
            bench.recorder.add(cell, (after - before) / samples)
    if not session.column.is_floor:
        await session.call("delete_thread", thread.id)


async def large_values(bench: Bench, *, samples: int) -> None:
    """One value of so many megabytes beside a small one; `size` is in megabytes."""
    threads = {session: Thread(session) for session in bench.sessions}
    for number in range(samples + 1):
        bench.recording = number > 0
        file = token_bytes(bench.size * MEGABYTE)
        for thread in threads.values():
            thread.advance(messages=[], file=file)
        await bench.in_turns(
            [
                Step("put", lambda session: threads[session].put(), essential=True),
                Step(
                    "get_tuple, latest",
                    lambda session: session.call("get_tuple", threads[session].latest),
                    lambda session, found: expect_checkpoint(found, threads[session].checkpoint),
                ),
            ]
        )
    for session in on_savers(bench, bench.sessions).sessions:
        await session.call("delete_thread", threads[session].id)


# Graphs


def chat(session_is_awaited: bool, saver: Any, state: Any = MessagesState) -> Any:
    """The chat of LangGraph's guide: one node, which answers at once."""

    def answer(state: Any) -> dict[str, Any]:
        return {"messages": [AIMessage(token_hex(CHARACTERS // 2))]}

    async def answer_awaited(state: Any) -> dict[str, Any]:
        return answer(state)

    builder = StateGraph(state)
    builder.add_node("chat", answer_awaited if session_is_awaited else answer)
    return builder.add_edge(START, "chat").compile(checkpointer=saver)


def said() -> dict[str, Any]:
    """What a person says."""
    return {"messages": [HumanMessage(token_hex(CHARACTERS // 2))]}


async def chats(bench: Bench, *, turns: int, counted: int) -> None:
    """A conversation, its history, and what some further turns cost in other measures than time."""
    bench.sessions = on_savers(bench, bench.sessions).sessions
    graphs = {session: chat(session.awaited, session.saver) for session in bench.sessions}
    warm, thread = new_thread(), new_thread()
    await _talk(bench, graphs, warm, 1, recording=False)
    for session in bench.sessions:
        await session.call("delete_thread", warm["configurable"]["thread_id"])
    before = {session: session.server.stored_bytes() for session in bench.sessions}
    await _talk(bench, graphs, thread, turns, recording=True)
    for session in bench.sessions:
        if (stored := session.server.stored_bytes()) is not None:
            fact(bench, session, "stored", stored - (before[session] or 0), "bytes")
    await bench.each(
        "history",
        lambda session: session.history(graphs[session], thread),
        lambda _, found: expect("states", len(found), 3 * turns),
    )
    for session in bench.sessions:
        await _count(bench, session, graphs[session], thread, counted)
        await session.call("delete_thread", thread["configurable"]["thread_id"])


async def _talk(
    bench: Bench, graphs: dict[Session, Any], thread: RunnableConfig, turns: int, *, recording: bool
) -> None:
    bench.recording = recording
    for turn in range(turns):
        await _turn(bench, graphs, thread, 2 * turn + 2)


async def _turn(
    bench: Bench, graphs: dict[Session, Any], thread: RunnableConfig, length: int
) -> None:
    await bench.each(
        "turn",
        lambda session: session.invoke(graphs[session], said(), thread),
        lambda _, state: expect("messages", len(state["messages"]), length),
        essential=True,
    )


async def _count(
    bench: Bench, session: Session, graph: Any, thread: RunnableConfig, turns: int
) -> None:
    """What the process and the server count in some turns, without what counting costs."""

    async def go_on(turns: int) -> list[float]:
        start, cpu = session.server.counts(), time.process_time()
        for _ in range(turns):
            await session.invoke(graph, said(), thread)
        cpu = time.process_time() - cpu
        counts = zip(start, session.server.counts(), strict=True)
        return [cpu, *(now - then for then, now in counts if then is not None and now is not None)]

    idle, busy = await go_on(0), await go_on(turns)
    names = ("CPU of the client", "sent", "received", "CPU of the server")
    units = ("s", "bytes", "bytes", "s")
    for name, unit, less, more in zip(names, units, idle, busy, strict=False):
        fact(bench, session, name, (more - less) / turns, unit)


def fact(bench: Bench, session: Session, name: str, value: float, unit: str) -> None:
    """Record what is counted rather than timed."""
    bench.recorder.add(bench.cell(session, name), value, unit)


async def interrupts(bench: Bench, *, samples: int) -> None:
    """Stop for a person in a conversation of `size` messages, and go on with what they say."""
    bench.sessions = on_savers(bench, bench.sessions).sessions

    def ask(state: MessagesState) -> dict[str, Any]:
        return {"messages": [AIMessage(interrupt("Go on?"))]}

    def asking(session: Session) -> Any:
        builder = StateGraph(MessagesState).add_node("ask", ask).add_edge(START, "ask")
        return builder.compile(checkpointer=session.saver)

    graphs = {session: asking(session) for session in bench.sessions}
    for number in range(samples + 1):
        bench.recording = number > 0
        await _interrupt(bench, graphs)


async def _interrupt(bench: Bench, graphs: dict[Session, Any]) -> None:
    thread, before = new_thread(), {"messages": conversation(bench.size)}
    await bench.each(
        "interrupt",
        lambda session: session.invoke(graphs[session], before, thread),
        lambda _, state: expect("interrupts", len(state.get("__interrupt__", ())), 1),
        essential=True,
    )
    await bench.each(
        "resume",
        lambda session: session.invoke(graphs[session], Command(resume="yes"), thread),
        lambda _, state: expect("answer", state["messages"][-1].content, "yes"),
        essential=True,
    )
    for session in bench.sessions:
        await session.call("delete_thread", thread["configurable"]["thread_id"])


def _extended(messages: list[Any], writes: Sequence[list[Any]]) -> list[Any]:
    return [*messages, *(message for write in writes for message in write)]


class DeltaState(TypedDict):
    """A conversation that is stored as what was added, and seldom as a whole."""

    messages: Annotated[list[Any], DeltaChannel(_extended)]


async def deltas(bench: Bench, *, turns: int) -> None:
    """A conversation in a delta channel."""
    bench.sessions = on_savers(bench, bench.sessions).sessions
    graphs = {
        session: chat(session.awaited, session.saver, DeltaState) for session in bench.sessions
    }
    thread = new_thread()
    before = {session: session.server.stored_bytes() for session in bench.sessions}
    await _talk(bench, graphs, thread, turns, recording=True)
    for session in bench.sessions:
        if (stored := session.server.stored_bytes()) is not None:
            fact(bench, session, "stored", stored - (before[session] or 0), "bytes")
        await session.call("delete_thread", thread["configurable"]["thread_id"])


# Crowds


class Crowd(NamedTuple):
    """How many conversations went on at once."""

    turns_per_second: float
    cpu_seconds: float  # of this process, for a turn


async def crowd(saver: Any, *, runs: int, turns: int) -> Crowd:
    """So many conversations at once."""
    graph = chat(True, saver)  # noqa: FBT003 - awaited

    async def talk() -> int:
        thread = new_thread()
        for _ in range(turns):
            state = await graph.ainvoke(said(), thread)
        return len(state["messages"])

    start, cpu = time.perf_counter(), time.process_time()
    lengths = await asyncio.gather(*(talk() for _ in range(runs)), return_exceptions=True)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    for length in lengths:
        if isinstance(length, BaseException):
            raise length
    expect("messages", set(lengths), {2 * turns})
    return Crowd(runs * turns / seconds, cpu / (runs * turns))


async def crowds(
    recorder: Recorder, running: Sequence[tuple[Column, Server]], *, runs: int, turns: int
) -> None:
    """One process with many conversations at once."""
    for column, server in running:
        cell = Cell("crowd", "turns in a second", runs, "async", column.name)
        if not column.is_floor and cell not in recorder.problems:
            with recorder.problems_of(cell):
                found = await _crowd_of(recorder, column, server, runs, turns)
                recorder.add(cell, found.turns_per_second, "/s")
                recorder.add(cell._replace(operation="CPU of the client"), found.cpu_seconds)


async def _crowd_of(
    recorder: Recorder, column: Column, server: Server, runs: int, turns: int
) -> Crowd:
    """With the settings that savers have by default, and if that fails, with enough connections."""
    try:
        return await warm_crowd(column, server.url, None, runs=runs, turns=turns)
    except Exception as error:  # noqa: BLE001 - the second attempt reports what it raises
        connections = CONNECTIONS_OF_A_RUN * runs
        recorder.note(
            f"`{column.name}` fails with {runs} runs at once and its default settings "
            f"({type(error).__name__}); measured with {connections} connections."
        )
        return await warm_crowd(column, server.url, connections, runs=runs, turns=turns)


async def warm_crowd(
    column: Column, url: str, connections: int | None, *, runs: int, turns: int
) -> Crowd:
    """A crowd on a saver of its own, when its connections are open.

    Garbage is collected meanwhile, as in any program, but not that of workloads before.
    """
    gc.collect()
    gc.freeze()
    async with column.opened(url, True, connections) as saver:  # noqa: FBT003 - awaited
        await crowd(saver, runs=runs, turns=1)
        return await crowd(saver, runs=runs, turns=turns)
