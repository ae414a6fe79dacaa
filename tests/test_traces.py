"""Turns of agents as they are in production: each sends what is new in it, and nothing is refused.

The faults that these tests would find are invisible otherwise: a saver that sends a conversation
again with each turn stores and reads the right thing.
"""

from __future__ import annotations

import asyncio
import base64
import threading
from collections.abc import Callable, Iterator
from operator import add, or_
from random import Random
from typing import Annotated, Any, NamedTuple

import pytest
import redis
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage
from langgraph.checkpoint.conformance.test_utils import generate_checkpoint, generate_metadata
from langgraph.graph import END, START, MessagesState, StateGraph
from typing_extensions import TypedDict

from benchmarks.changes import words
from langgraph_checkpoint_redis import AsyncRedisSaver, RedisSaver

from .counting import moved_bytes
from .deltas import editing
from .driving import Driver, Saver
from .graphs import Builder, Session, thread
from .servers import own_server

server = own_server  # its counts are of nobody else

ON_ONE_SERVER = True  # what is sent depends on this side alone

TURNS = 5
PER_TURN = 12_000  # bytes for the rows of a turn of one node: three checkpoints, two tasks
PER_STEP = 4000  # bytes for the rows of each step more


class Turn(NamedTuple):
    """What a turn begins with, the bytes that are new in it, and its steps beside the first."""

    input: Any
    new: int
    more_steps: int = 0


class Trace(NamedTuple):
    """A graph, and the turns of a thread; the first one is not counted."""

    builder: Builder
    turns: Iterator[Turn]


def chat(size: int, *, ids: bool = True, image: bool = False) -> Trace:
    """A model that answers; messages of a size, with ids or without."""
    random = Random(0)

    def content() -> Any:
        if image:
            data = base64.b64encode(random.randbytes(size * 3 // 4)).decode()
            return [{"type": "text", "text": "look"}, {"type": "image", "base64": data}]
        return words(random, size)

    def answer(state: MessagesState) -> dict[str, Any]:
        return {"messages": [AIMessage(words(random, 500))]}

    def turns() -> Iterator[Turn]:
        for number in range(TURNS):
            message = HumanMessage(content(), id=str(number) if ids else None)
            yield Turn({"messages": [message]}, size + 500)

    builder = StateGraph(MessagesState).add_node(answer).add_edge(START, "answer")
    return Trace(builder, turns())


class Documents(TypedDict):
    """What a retriever found, and a count of steps."""

    documents: Annotated[list[str], add]
    step: int


def documents(count: int, *, grow: bool) -> Trace:
    """Documents of 4 KB that stay as they are, or one more with each turn."""
    random = Random(count)

    def work(state: Documents) -> dict[str, Any]:
        return {"step": state["step"] + 1}

    def turns() -> Iterator[Turn]:
        found = [words(random, 4000) for _ in range(count)]
        yield Turn({"documents": found, "step": 0}, 4000 * count)
        for number in range(1, TURNS):
            new = [words(random, 4000)] if grow else []
            yield Turn({"documents": new, "step": number}, 4000 * len(new))

    builder = StateGraph(Documents).add_node(work).add_edge(START, "work")
    return Trace(builder, turns())


class Files(TypedDict):
    """Files by name, as lists of lines."""

    files: Annotated[dict[str, list[str]], or_]
    edit: int


def lines(change: Callable[[Random, int, list[str]], list[str]]) -> Trace:
    """A node that changes the lines of one of 20 files in each turn."""
    random = Random(0)
    first = {
        f"file {number}.py": [words(random, random.randrange(70)) for _ in range(100)]
        for number in range(20)
    }

    def work(state: Files) -> dict[str, Any]:
        name = f"file {state['edit'] % 20}.py"
        return {"files": {name: change(random, state["edit"], [*state["files"][name]])}}

    def turns() -> Iterator[Turn]:
        size = sum(len(line) + 1 for text in first.values() for line in text)
        yield Turn({"files": first, "edit": 0}, size)
        for number in range(1, TURNS):
            # What a task writes is a file, of which only some pieces are those of the channel.
            yield Turn({"files": {}, "edit": number}, 4000)

    return Trace(StateGraph(Files).add_node("work", work).add_edge(START, "work"), turns())


def _in_the_middle(random: Random, number: int, text: list[str]) -> list[str]:
    return [*text[:50], words(random, 50), words(random, 50), *text[51:]]


def _anywhere(random: Random, number: int, text: list[str]) -> list[str]:
    at = random.randrange(len(text))
    return [*text[:at], words(random, 50), words(random, 50), *text[at + 1 :]]


def taken_back(seed: int) -> Trace:
    """A node that changes a file, and changes it back in the next turn."""
    random = Random(seed)
    first = {
        f"file {number}.py": [words(random, random.randrange(70)) for _ in range(100)]
        for number in range(20)
    }
    before = first["file 3.py"]
    after = [*before[:50], "changed line", "another", *before[51:]]

    def work(state: Files) -> dict[str, Any]:
        return {"files": {"file 3.py": after if state["edit"] % 2 else before}}

    def turns() -> Iterator[Turn]:
        yield Turn({"files": first, "edit": 0}, 100_000)
        for number in range(1, 2 * TURNS):
            yield Turn({"files": {}, "edit": number}, 4000)

    return Trace(StateGraph(Files).add_node("work", work).add_edge(START, "work"), turns())


class Text(TypedDict):
    """A text, and a count of steps."""

    text: str
    step: int


def by_turns(size: int) -> Trace:
    """A node that stores one of two texts, by turns."""
    random = Random(0)
    one, other = words(random, size), words(random, size)

    def work(state: Text) -> dict[str, Any]:
        return {"text": other if state["text"] == one else one}

    def turns() -> Iterator[Turn]:
        yield Turn({"text": one, "step": 0}, 2 * size)
        for number in range(1, 2 * TURNS):
            yield Turn({"step": number}, size)

    return Trace(StateGraph(Text).add_node("work", work).add_edge(START, "work"), turns())


def nested(*, remembers: bool) -> Trace:
    """A model in a subgraph; it has the conversation from its caller, or remembers it as well."""
    random = Random(0)

    def answer(state: MessagesState) -> dict[str, Any]:
        return {"messages": [AIMessage(words(random, 10_000))]}

    def close(state: MessagesState) -> dict[str, Any]:
        return {"messages": [AIMessage("done")]}

    def turns() -> Iterator[Turn]:
        for number in range(TURNS):
            message = HumanMessage(words(random, 10_000), id=str(number))
            yield Turn({"messages": [message]}, 20_000, more_steps=2)

    inner = StateGraph(MessagesState).add_node(answer).add_node(close).add_edge(START, "answer")
    compiled = inner.add_edge("answer", "close").compile(checkpointer=remembers or None)
    outer = StateGraph(MessagesState).add_node("inner", compiled).add_edge(START, "inner")
    return Trace(outer, turns())


def edits() -> Trace:
    """A node that changes a few characters of a file of 100 KB, which a delta channel has."""

    def turns() -> Iterator[Turn]:
        yield Turn({"files": {}}, 100_000)
        yield Turn({"files": {}}, 20_000)  # the text in it is cut for the first time
        for _ in range(6 * TURNS):
            yield Turn({"files": {}}, 4000)

    return Trace(editing(), turns())


class Agent(TypedDict):
    """What deep agents keep."""

    messages: Annotated[list[AnyMessage], add]
    files: Annotated[dict[str, dict[str, str]], or_]
    todos: list[dict[str, str]]


def deep_agent() -> Trace:
    """A model that reads a file of 60 KB and edits it, with todos that change."""
    random = Random(0)

    def model(state: Agent) -> dict[str, Any]:
        is_done = isinstance(state["messages"][-1], ToolMessage)
        call = {"name": "edit", "args": {"new": words(random, 300)}, "id": "call"}
        return {
            "messages": [AIMessage(words(random, 500), tool_calls=[] if is_done else [call])],
            "todos": [{"content": words(random, 40), "status": "pending"} for _ in range(5)],
        }

    def tools(state: Agent) -> dict[str, Any]:
        text = state["files"]["report.md"]["content"] if state["files"] else words(random, 60_000)
        at = random.randrange(len(text))
        edited = f"{text[:at]}{words(random, 300)}{text[at + 100 :]}"
        read = ToolMessage(words(random, 12_000), tool_call_id="call")
        return {"messages": [read], "files": {"report.md": {"content": edited}}}

    def turns() -> Iterator[Turn]:
        for number in range(TURNS):
            message = HumanMessage(words(random, 300), id=str(number))
            yield Turn({"messages": [message]}, 12_000 + 2500 + 6000, more_steps=2)

    builder = StateGraph(Agent).add_node(model).add_node(tools).add_edge(START, "model")
    builder.add_edge("tools", "model").add_conditional_edges(
        "model", lambda state: "tools" if state["messages"][-1].tool_calls else END
    )
    return Trace(builder, turns())


@pytest.fixture
def one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let writes of a graph not overlap, which LangGraph has run side by side."""
    lock, async_lock = threading.Lock(), asyncio.Lock()
    for name in ("put", "put_writes"):
        write, async_write = getattr(RedisSaver, name), getattr(AsyncRedisSaver, f"a{name}")
        monkeypatch.setattr(RedisSaver, name, _locked(lock, write))
        monkeypatch.setattr(AsyncRedisSaver, f"a{name}", _async_locked(async_lock, async_write))


def _locked(lock: threading.Lock, write: Callable[..., Any]) -> Callable[..., Any]:
    def locked(*args: Any, **options: Any) -> Any:
        with lock:
            return write(*args, **options)

    return locked


def _async_locked(lock: asyncio.Lock, write: Callable[..., Any]) -> Callable[..., Any]:
    async def locked(*args: Any, **options: Any) -> Any:
        async with lock:
            return await write(*args, **options)

    return locked


TRACES: dict[str, Callable[[], Trace]] = {
    "a chat of 0.5 KB": lambda: chat(500),
    "a chat of 0.5 KB without ids": lambda: chat(500, ids=False),
    "a chat of 10 KB": lambda: chat(10_000),
    "a chat of 170 KB without ids": lambda: chat(170_000, ids=False),
    "images": lambda: chat(170_000, image=True),
    "4 documents": lambda: documents(4, grow=False),
    "300 documents": lambda: documents(300, grow=False),
    "documents that grow": lambda: documents(10, grow=True),
    "files as lists of lines": lambda: lines(_in_the_middle),
    "files that are changed anywhere": lambda: lines(_anywhere),
    "files that are changed back": lambda: taken_back(0),
    "other files that are changed back": lambda: taken_back(1),
    "two short texts by turns": lambda: by_turns(3000),
    "two texts by turns": lambda: by_turns(20_000),
    "a subgraph": lambda: nested(remembers=False),
    "a subgraph that remembers": lambda: nested(remembers=True),
    "edits in a delta channel": edits,
    "a deep agent": deep_agent,
}


OPTIONS = [
    pytest.param(name, {"keep_last": kept}, id=f"{name}, {kept}")
    for name in TRACES
    for kept in (None, 1, 2, 5)
]


@pytest.mark.parametrize(("name", "saver_options"), OPTIONS)
@pytest.mark.usefixtures("one_after_the_other")
def test_a_turn_sends_what_is_new_in_it(
    drive: Driver,
    raw_saver: RedisSaver | AsyncRedisSaver,
    client: redis.Redis,
    saver_options: dict[str, Any],
    name: str,
) -> None:
    """A conversation would be sent again and again, though nothing shows it but the bill."""
    for sent, turn in run(drive, client, TRACES[name]()):
        assert sent <= 1.5 * turn.new + PER_TURN + PER_STEP * turn.more_steps
    assert refusals(raw_saver) == (0, 0)


@pytest.mark.parametrize("saver_options", [{}, {"keep_last": 1}], ids=str)
@pytest.mark.parametrize("name", ["a chat of 170 KB without ids", "images", "a deep agent"])
def test_a_turn_whose_writes_overlap_sends_each_message_twice_at_most(
    drive: Driver,
    raw_saver: RedisSaver | AsyncRedisSaver,
    client: redis.Redis,
    saver_options: dict[str, Any],
    name: str,
) -> None:
    """As an input and as a task's write at once; but never the whole conversation."""
    for sent, turn in run(drive, client, TRACES[name]()):
        assert sent <= 2.1 * turn.new + PER_TURN + PER_STEP * turn.more_steps
    assert refusals(raw_saver) == (0, 0)


def run(drive: Driver, client: redis.Redis, trace: Trace) -> Iterator[tuple[int, Turn]]:
    """Run a trace: the bytes that each turn sends but the first, which sends the scripts, too."""
    session = Session(drive, trace.builder, durability="sync")
    session.run(next(trace.turns).input)
    for turn in trace.turns:
        before, _ = moved_bytes(client)
        session.run(turn.input)
        now, _ = moved_bytes(client)
        yield now - before, turn


def refusals(saver: RedisSaver | AsyncRedisSaver) -> tuple[int, int]:
    """How many writes were refused, and how many of them were sent again as a whole."""
    threads = saver._shared.caches
    return threads.refused, threads.sent_whole


@pytest.mark.parametrize(("fields", "sent_whole"), [(1, 0), (100, 1)])
def test_a_refused_write_is_counted(
    saver: Saver,
    raw_saver: RedisSaver | AsyncRedisSaver,
    client: redis.Redis,
    prefix: str,
    fields: int,
    sent_whole: int,
) -> None:
    """Nobody could tell a saver that sends everything twice from one that does not."""
    random, at = Random(0), thread("a", checkpoint_ns="")
    said = [words(random, 3000) for _ in range(20)]
    checkpoint = generate_checkpoint(channel_values={"c": said}, channel_versions={"c": "1"})
    at = saver.put(at, checkpoint, generate_metadata(), {"c": "1"})
    chunks = client.hgetall(f"{prefix}:{{a}}:chunks")
    names = [name for name, chunk in sorted(chunks.items()) if len(chunk) > 1000][:fields]
    client.hdel(f"{prefix}:{{a}}:chunks", *names)
    assert refusals(raw_saver) == (0, 0)
    saver.put_writes(at, [("c", said[::-1])], "task")
    assert refusals(raw_saver) == (1, sent_whole)
