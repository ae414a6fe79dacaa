"""What the server runs in tests: short graphs, one for each thing that a run can come to."""

import asyncio
from operator import add
from typing import Annotated, TypedDict

from langgraph.graph import START, StateGraph
from langgraph.types import interrupt


class State(TypedDict, total=False):
    """What nodes have noted, and what a subgraph has."""

    trail: Annotated[list[str], add]
    note: str


class Note(TypedDict):
    """What the subgraph tells."""

    note: str


async def first(state: State) -> State:
    """Note that a run has begun."""
    return {"trail": ["first"]}


def second(state: State) -> State:
    """Note the same without `async`, which the server runs in a thread."""
    return {"trail": ["second"]}


async def ask(state: State) -> State:
    """Wait for a person."""
    return {"trail": [interrupt("May I?")]}


async def wait(state: State) -> State:
    """Wait for nobody, until the run is cancelled."""
    await asyncio.sleep(600)
    return {"trail": ["never"]}


async def note(state: State) -> State:
    """Do something in a subgraph."""
    return {"note": "inner"}


inner = StateGraph(State, output_schema=Note).add_node(note).add_edge(START, "note").compile()
steps = (
    StateGraph(State)
    .add_node(first)
    .add_node("inner", inner)
    .add_node(second)
    .add_edge(START, "first")
    .add_edge("first", "inner")
    .add_edge("inner", "second")
    .compile()
)
approval = StateGraph(State).add_sequence([first, ask]).add_edge(START, "first").compile()
endless = StateGraph(State).add_sequence([first, wait]).add_edge(START, "first").compile()
