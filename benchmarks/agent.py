"""A coding agent as people have them: long conversations, large tool results, files in the state.

A turn is a request, three calls of tools and an answer: the agent reads 12 KB, edits a file of
18 KB, runs a command that prints 3 KB, and says what it did. That makes 8 messages, 9 checkpoints,
and about 60 KB that are new. It runs over plain reducers, and over delta channels.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from random import Random
from typing import Annotated, Any

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage
from langgraph.channels.delta import DeltaChannel
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import _messages_delta_reducer, add_messages
from typing_extensions import TypedDict

from .columns import Session
from .measuring import Bench, expect
from .workloads import fact, new_thread, on_savers

READ, PRINTED, SAID = 12_000, 3_000, 800  # characters of what tools and the agent say
FILE, CHANGED, FILES = 18_000, 500, 40
MESSAGES = 8  # of a turn
TIMED = 10  # the last turns, of which times are taken
SNAPSHOTS = 50  # updates of a delta channel from one snapshot to the next

TOOLS = ("read_file", "edit_file", "run")
Files = dict[str, dict[str, str]]


def _merged(files: Files | None, writes: Sequence[Files]) -> Files:
    return {name: file for part in (files or {}, *writes) for name, file in part.items()}


def _merged_one(files: Files | None, write: Files) -> Files:
    return _merged(files, [write])


class Plain(TypedDict):
    """The state as most programs declare it."""

    messages: Annotated[list[AnyMessage], add_messages]
    files: Annotated[Files, _merged_one]


class Delta(TypedDict):
    """The same state in delta channels."""

    messages: Annotated[
        list[AnyMessage], DeltaChannel(_messages_delta_reducer, snapshot_frequency=SNAPSHOTS)
    ]
    files: Annotated[Files, DeltaChannel(_merged, dict, snapshot_frequency=SNAPSHOTS)]


STATES = {"agent": Plain, "agent-delta": Delta}


# What is said and done in a turn is the same for all columns.


def text(length: int, *seed: object) -> str:
    """Lines of text as no others, the same for the same seed."""
    letters = Random(repr(seed)).randbytes(length // 2).hex()
    return "\n".join(letters[start : start + 79] for start in range(0, length, 80))


def edited(files: Files, turn: int) -> Files:
    """Return the file that a turn changes, after it."""
    path = f"/src/module_{turn % FILES}.py"
    before = files[path]["content"] if path in files else text(FILE, "file", path)
    at = Random(turn).randrange(len(before) - CHANGED)
    after = before[:at] + text(CHANGED, "edit", turn) + before[at + CHANGED :]
    return {path: {"content": after, "encoding": "utf-8", "modified_at": str(turn)}}


def request(turn: int) -> dict[str, Any]:
    """What a person asks for."""
    return {"messages": [HumanMessage(text(300, "request", turn), id=f"request {turn}")]}


def _turn_of(state: Any) -> int:
    return sum(message.type == "human" for message in state["messages"])


def _think(state: Any) -> dict[str, Any]:
    """Call the next tool, or answer when all have been called."""
    turn, calls = _turn_of(state), 0
    for message in reversed(state["messages"]):
        if message.type == "human":
            break
        calls += message.type == "tool"
    name = f"answer {turn} {calls}"
    if calls == len(TOOLS):
        return {"messages": [AIMessage(text(SAID, name), id=name)]}
    arguments = {"path": f"/src/module_{turn % FILES}.py", "new": text(600, name)}
    call = {"name": TOOLS[calls], "args": arguments, "id": f"call {turn} {calls}"}
    return {"messages": [AIMessage(text(200, name, "why"), tool_calls=[call], id=name)]}


def _use_tool(state: Any) -> dict[str, Any]:
    turn, call = _turn_of(state), state["messages"][-1].tool_calls[0]
    say = partial(ToolMessage, tool_call_id=call["id"], id=f"result of {call['id']}")
    if call["name"] == "edit_file":
        return {"messages": [say("edited")], "files": edited(state.get("files") or {}, turn)}
    length = READ if call["name"] == "read_file" else PRINTED
    return {"messages": [say(text(length, call["id"]))]}


def _next(state: Any) -> str:
    return "tools" if state["messages"][-1].tool_calls else END


def agent(saver: Any, state: Any) -> Any:
    """A model that calls tools until it has an answer."""
    builder = StateGraph(state).add_node("model", _think).add_node("tools", _use_tool)
    builder.add_edge(START, "model").add_edge("tools", "model")
    builder.add_conditional_edges("model", _next, ["tools", END])
    return builder.compile(checkpointer=saver)


async def agents(bench: Bench) -> None:
    """A conversation of `size` turns: time and CPU of the last turns, and what all of it took."""
    bench.sessions = on_savers(bench, bench.sessions).sessions
    state = STATES[bench.workload]
    graphs = {session: agent(session.saver, state) for session in bench.sessions}
    thread = new_thread()
    stored = {session: session.server.stored_bytes() for session in bench.sessions}
    counts = {session: session.server.counts() for session in bench.sessions}
    files: Files = {}
    for turn in range(1, bench.size + 1):
        files |= edited(files, turn)
        bench.recording = turn > bench.size - TIMED
        await _turn(bench, graphs, thread, turn, files)
    for session in bench.sessions:
        now, before = session.server.counts(), counts[session]
        if now.received is not None and now.sent is not None:
            fact(bench, session, "sent", now.received - (before.received or 0), "MB")
            fact(bench, session, "received", now.sent - (before.sent or 0), "MB")
        if (size := session.server.stored_bytes()) is not None:
            fact(bench, session, "stored", size - (stored[session] or 0), "MB")
        await session.call("delete_thread", thread["configurable"]["thread_id"])


async def _turn(
    bench: Bench, graphs: dict[Session, Any], thread: Any, turn: int, files: Files
) -> None:
    cpu: dict[Session, float] = {}

    async def run(session: Session) -> Any:
        start = time.process_time()
        found = await session.invoke(graphs[session], request(turn), thread)
        cpu[session] = time.process_time() - start
        return found

    def check(_: Session, found: Any) -> None:
        expect("messages", len(found["messages"]), MESSAGES * turn)
        expect("files", found["files"], files)

    await bench.each("turn", run, check, essential=True)
    for session in bench.sessions if bench.recording else ():
        fact(bench, session, "CPU of the client", cpu[session], "s")
