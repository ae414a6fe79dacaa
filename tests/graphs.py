"""Graphs to run, and what it means that two runs went alike.

What belongs here: functions that each build a graph anew, so that no two runs share state;
sessions, which run them, and what is read of a run; and the comparison of a run on Redis with the
same run on LangGraph's own `InMemorySaver`. Stored state is full of random ids and times; runs that
differ in nothing else are alike.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from datetime import date
from difflib import unified_diff
from operator import add
from pprint import pformat
from typing import Annotated, Any, TypeVar

from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import set_config_context
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Durability, Send, StateSnapshot, interrupt
from pydantic import BaseModel
from typing_extensions import TypedDict

from .driving import AwaitedDriver, Driver, Graph, Saver

T = TypeVar("T")
Builder = StateGraph[Any, Any, Any, Any]
Node = Any  # a function, a graph and more; LangGraph has no name for it
DURABILITIES: list[Durability] = ["sync", "async", "exit"]  # when a graph stores its checkpoints

_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|\b[0-9a-f]{32}\b")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+\+00:00")


# Comparing


def shape(found: object) -> list[str]:
    """Something as text, its ids numbered as they appear and its times left out."""
    numbers: dict[str, str] = {}
    text = _TIME.sub("(time)", pformat(found, width=200))
    return _ID.sub(lambda id_: numbers.setdefault(id_[0], f"(id {len(numbers)})"), text).split(", ")


def alike(drive: Driver, story: Callable[[Driver], T]) -> T:
    """What a story ends with, after making sure that `InMemorySaver` ends it alike."""
    expected = shape(story(with_saver(drive, InMemorySaver())))
    found = story(drive)
    assert shape(found) == expected, "\n".join(unified_diff(expected, shape(found), lineterm=""))
    return found


def with_saver(drive: Driver, saver: BaseCheckpointSaver[str]) -> Driver:
    """The same way to drive, with another saver."""
    other = copy(drive)
    other.saver = saver
    return other


# Running


def thread(thread_id: object = "a", **configurable: Any) -> RunnableConfig:
    """The config of a thread."""
    return {"configurable": {"thread_id": thread_id, **configurable}}


class Session:
    """A graph on a thread, and what a program does with it, in few words.

    `options` go along with every run.
    """

    def __init__(
        self, drive: Driver, builder: Builder, thread_id: object = "a", **options: Any
    ) -> None:
        self.drive, self.builder, self.options = drive, builder, options
        self.config = thread(thread_id)
        self.graph: Graph = builder.compile(checkpointer=drive.saver)

    def go_on(self, drive: Driver) -> Session:
        """The same in another process, say."""
        thread_id = self.config["configurable"]["thread_id"]
        return Session(drive, self.builder, thread_id, **self.options)

    def run(self, input: object = None, at: RunnableConfig | None = None, **options: Any) -> Any:
        return self.drive.invoke(self.graph, input, at or self.config, **self.options, **options)

    def say(self, text: str) -> Any:
        """A turn of a chat. Messages without an id get one at a time that is up to chance."""
        return self.run({"messages": [HumanMessage(text, id=f"said {text}")]})

    def state(self, at: RunnableConfig | None = None, **options: Any) -> StateSnapshot:
        return self.drive.state(self.graph, at or self.config, **options)

    def history(self, at: RunnableConfig | None = None, **options: Any) -> list[StateSnapshot]:
        return self.drive.history(self.graph, at or self.config, **options)

    def update(
        self, values: object, at: RunnableConfig | None = None, **options: Any
    ) -> RunnableConfig:
        return self.drive.update(self.graph, at or self.config, values, **options)

    def bulk_update(self, supersteps: Sequence[Sequence[Any]]) -> RunnableConfig:
        if isinstance(self.drive, AwaitedDriver):
            updating = self.graph.abulk_update_state(self.config, supersteps)
            return self.drive.loop.run_until_complete(updating)
        return self.graph.bulk_update_state(self.config, supersteps)


def texts_of(state: StateSnapshot) -> list[str]:
    """The texts of a chat, in order."""
    return [message.text for message in state.values["messages"]]


def namespaces_of(saver: Saver, thread_id: str = "a") -> set[str]:
    """The namespaces that a thread has checkpoints in."""
    found = saver.list(thread(thread_id))
    return {tuple_.config["configurable"]["checkpoint_ns"] for tuple_ in found}


# Building


class Log(TypedDict):
    """What happened, in order."""

    log: Annotated[list[str], add]


@dataclass
class Point:
    """A type of a program's own."""

    x: int
    y: int


class Person(BaseModel):
    """Another one."""

    name: str
    born: date


class Typed(TypedDict):
    """A state of objects."""

    points: Annotated[list[Point], add]
    person: Person


TYPED: Typed = {"points": [Point(1, 2)], "person": Person(name="Ada", born=date(1815, 12, 10))}


def typed() -> Builder:
    """A graph whose state has types of its own."""
    return StateGraph(Typed).add_node("a", lambda _: {"points": [Point(3, 4)]}).add_edge(START, "a")


def chat() -> Builder:
    """A chat whose answers show how much it remembers."""

    def answer(state: MessagesState) -> dict[str, object]:
        known = len(state["messages"])
        return {"messages": [AIMessage(f"I know {known}", id=f"answer {known}")]}

    return StateGraph(MessagesState).add_node(answer).add_edge(START, "answer")


def sequence(state: type = Log, **nodes: Node) -> Builder:
    """Nodes one after the other."""
    return StateGraph(state).add_sequence(list(nodes.items())).add_edge(START, next(iter(nodes)))


def side_by_side(state: type = Log, **nodes: Node) -> Builder:
    """Nodes at the same time, and one that follows when all of them are done."""
    builder: Builder = StateGraph(state)
    for name, node in nodes.items():
        builder.add_node(name, node).add_edge(START, name)
    return builder.add_node("last", says("last")).add_edge(list(nodes), "last")


def map_reduce(tasks: int, state: type = Log) -> Builder:
    """A task for each of many items, all at the same time."""

    def fan_out(_: Any) -> list[Send]:
        return [Send("work", item) for item in range(tasks)]

    def work(item: int) -> Any:
        return {"log": [f"{item} squared is {item * item}"]}

    builder: Builder = StateGraph(state)
    node: Node = work
    return builder.add_node("work", node).add_conditional_edges(START, fan_out, ["work"])


def nested(**options: Any) -> Builder:
    """A subgraph that asks, between two nodes; `options` are those of its compilation."""
    inner = sequence(ask=asks("deep?"), after=says("inner done"))
    return sequence(a=says("a"), inner=inner.compile(**options), z=says("z"))


def nested_twice() -> Builder:
    """The same one level deeper."""
    return sequence(a=says("a"), middle=nested().compile(), z=says("z"))


def nested_beside_others() -> Builder:
    """Subgraphs with and without a memory, at the same time as nodes that ask."""
    inner = sequence(ask=asks("deep?"), after=says("inner done"))
    own = sequence(b=says("b")).compile(checkpointer=True)
    return side_by_side(a=asks("a?"), own=own, inner=inner.compile(), c=says("c"))


# Nodes


def says(text: str) -> Node:
    """A node that logs a text."""
    return lambda _: {"log": [text]}


def asks(*questions: str) -> Node:
    """A node that asks questions, and logs the answers."""

    def ask(_: Any, config: RunnableConfig) -> Any:
        with in_context(config) as run:
            return {"log": [f"{question} {run(interrupt, question)}" for question in questions]}

    return ask


@contextmanager
def in_context(config: RunnableConfig) -> Iterator[Callable[..., Any]]:
    """Runs functions that want to know the config, which Python 3.10 hides from awaited graphs."""
    with set_config_context(config) as context:
        yield context.run


class Flaky:
    """A node that fails at first; it counts its calls."""

    def __init__(self, failures: int = 0) -> None:
        self.failures, self.calls = failures, 0

    def __call__(self, state: Any) -> Any:
        self.calls += 1
        if self.calls <= self.failures:
            raise ConnectionError(f"failure {self.calls}")
        return {"log": [f"call {self.calls}"]}
