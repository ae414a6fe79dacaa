"""Real graphs, whose checkpointer is a saver of the simulation.

LangGraph runs tasks and stores checkpoints in threads of its own. Here they run at once, one after
the other, in the worker thread of a client, so that the order of requests is the seed's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import copy_context
from operator import add
from random import Random
from typing import Annotated, Any
from unittest.mock import patch

from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.channels.delta import DeltaChannel
from langgraph.errors import GraphBubbleUp
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.pregel import _loop
from langgraph.types import Command, Send, interrupt
from typing_extensions import TypedDict

from .oracle import Failure
from .savers import Simulated

Builder = StateGraph[Any, Any, Any, Any]


class AtOnce:
    """Stands for LangGraph's `BackgroundExecutor`, and runs what it is given at once."""

    def __init__(self, config: RunnableConfig) -> None:
        self._failed: list[Future[Any]] = []

    def __enter__(self) -> Callable[..., Future[Any]]:
        return self.submit

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            for future in self._failed:
                future.result()

    def submit(
        self,
        function: Callable[..., Any],
        *args: Any,
        __name__: str | None = None,
        __cancel_on_exit__: bool = False,
        __reraise_on_exit__: bool = True,
        __next_tick__: bool = False,
        **kwargs: Any,
    ) -> Future[Any]:
        """Run a function; what it returned or raised is in the future."""
        future: Future[Any] = Future()
        try:
            future.set_result(copy_context().run(function, *args, **kwargs))
        except Exception as error:  # noqa: BLE001 - raised by whoever asks
            future.set_exception(error)
            if __reraise_on_exit__ and not isinstance(error, GraphBubbleUp):
                self._failed.append(future)
        return future


@contextmanager
def at_once() -> Iterator[None]:
    """Let graphs run in one thread each."""
    with patch.object(_loop, "BackgroundExecutor", AtOnce):
        yield


def _extended(state: list[str], writes: Sequence[list[str]]) -> list[str]:
    return [*state, *(text for write in writes for text in write)]


class Log(TypedDict):
    """Two delta channels that seldom have their snapshots together, and a channel that is none."""

    log: Annotated[list[str], DeltaChannel(_extended, snapshot_frequency=3)]
    notes: Annotated[list[str], DeltaChannel(_extended, snapshot_frequency=4)]
    plain: Annotated[list[str], add]


class Plain(TypedDict):
    """What happened."""

    plain: Annotated[list[str], add]


def _chat() -> Builder:
    def answer(state: MessagesState) -> dict[str, Any]:
        said = state["messages"][-1]
        return {"messages": [AIMessage(f"about {said.content}", id=f"answer {said.id}")]}

    return StateGraph(MessagesState).add_node(answer).add_edge(START, "answer")


def _delta() -> Builder:
    def one(state: Log) -> dict[str, Any]:
        said = state["log"][-1]
        return {"log": [f"one {said}"], "plain": [f"one {said}"]}

    def two(state: Log) -> dict[str, Any]:
        said = state["plain"][-1]
        noted = [f"noted {len(state['notes'])}"]
        return {"log": [f"two {said}"], "notes": noted, "plain": [f"two {said}"]}

    builder = StateGraph(Log).add_node(one).add_node(two)
    return builder.add_edge(START, "one").add_edge("one", "two")


def _fan_out() -> Builder:
    def fork(state: Plain) -> list[Send]:
        return [Send("work", {"item": item, "plain": state["plain"]}) for item in range(3)]

    def work(state: Any) -> dict[str, Any]:
        item = state["item"]
        if item == 1:
            return {"plain": [f"{interrupt(f'item {item}')} {item}"]}
        return {"plain": [f"worked {item} of {len(state['plain'])}"]}

    builder = StateGraph(Plain).add_node(work).add_node("join", lambda state: {"plain": ["joined"]})
    return builder.add_conditional_edges(START, fork, ["work"]).add_edge("work", "join")


def _nested() -> Builder:
    def step(state: Plain) -> dict[str, Any]:
        return {"plain": [f"inside, after {len(state['plain'])}"]}

    def ask(state: Plain) -> dict[str, Any]:
        return {"plain": [f"told {interrupt('go on?')}"]}

    inner = StateGraph(Plain).add_node(step).add_node(ask)
    inner = inner.add_edge(START, "step").add_edge("step", "ask")
    return StateGraph(Plain).add_node("inner", inner.compile()).add_edge(START, "inner")


GRAPHS: Mapping[str, Callable[[], Builder]] = {
    "chat": _chat,
    "delta": _delta,
    "fan out": _fan_out,
    "nested": _nested,
}


def play(name: str, saver: Simulated, thread_id: str, run: str, rng: Random) -> None:
    """Run a graph once, or go on with what it asked; what it returns must be what is stored."""
    graph: Any = GRAPHS[name]().compile(checkpointer=saver)
    config: RunnableConfig = {"configurable": {"thread_id": thread_id}, "metadata": {"run_id": run}}
    text = f"{run} says {rng.choice(['little', 'much ' * 30])}"
    asked = name in {"fan out", "nested"} and graph.get_state(config).next
    given: Any = Command(resume=text) if asked else _input(name, text)
    try:
        with saver.gate.graph():
            graph.invoke(given, config, durability=rng.choice(["sync", "async", "exit"]))
    except (KeyError, IndexError) as error:  # a node found less than it was given
        raise Failure(
            "delta", f"the graph {name!r} in {thread_id!r} read less: {error!r}"
        ) from error


def _input(name: str, text: str) -> dict[str, Any]:
    if name == "chat":
        return {"messages": [HumanMessage(text, id=text[:20])]}
    return {"log": [text], "plain": [text]} if name == "delta" else {"plain": [text]}
