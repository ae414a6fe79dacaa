"""Graphs made of graphs: subgraphs stop, remember and travel in time, too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.types import Command, Durability, StateSnapshot

from .driving import Driver, Restart, Saver
from .graphs import (
    Builder,
    Session,
    alike,
    namespaces_of,
    nested,
    nested_twice,
    says,
    sequence,
    thread,
)


@pytest.mark.parametrize("build", [nested, nested_twice])
def test_an_interrupt_inside_a_subgraph_waits_for_its_answer(
    drive: Driver, restart: Restart, build: Callable[[], Builder], durability: Durability
) -> None:
    """A graph made of graphs could not ask, or would begin its inner graphs anew."""

    def story(drive: Driver) -> list[Any]:
        asking = Session(drive, build(), durability=durability)
        asked = asking.run({"log": ["in"]})
        answering = asking.go_on(restart(drive))
        waiting = answering.state(subgraphs=True)
        done = answering.run(Command(resume="yes"))
        return [done, asked, waiting, answering.state(subgraphs=True), answering.history()]

    done, *_ = alike(drive, story)
    assert "deep? yes" in done["log"]


def test_a_subgraph_has_a_history_to_travel_and_to_update(drive: Driver) -> None:
    """What an inner graph did could not be seen or corrected."""

    def story(drive: Driver) -> list[Any]:
        session = Session(drive, nested())
        session.run({"log": ["in"]})
        inner = _inner(session)
        session.update({"log": ["not asked"]}, inner, as_node="ask")
        updated = session.state(subgraphs=True), session.history(inner)
        return [session.run(), updated, session.history()]

    done, *_ = alike(drive, story)
    assert "deep? " not in " ".join(done["log"])


def _inner(session: Session) -> RunnableConfig:
    """The config of the subgraph that a thread waits in."""
    state = session.state(subgraphs=True).tasks[0].state
    assert isinstance(state, StateSnapshot)
    return state.config


def test_a_run_can_be_repeated_from_inside_a_subgraph(drive: Driver) -> None:
    """Time travel would only reach the outermost graph."""

    def story(drive: Driver) -> list[Any]:
        session = Session(drive, nested())
        session.run({"log": ["in"]})
        inner = _inner(session)
        session.run(Command(resume="yes"))
        before = session.history(inner)
        repeated = session.run(None, before[-1].config)
        return [repeated, before, session.state(subgraphs=True), session.history()]

    alike(drive, story)


def test_a_stateful_subgraph_remembers_between_runs(
    drive: Driver, restart: Restart, durability: Durability
) -> None:
    """An inner agent with a memory of its own would forget."""

    def story(drive: Driver) -> list[Any]:
        session = Session(drive, nested(checkpointer=True), durability=durability)
        seen: list[object] = []
        for answer in ("1", "2"):
            session.run({"log": ["in"]})
            session = session.go_on(restart(drive))
            seen += [session.run(Command(resume=answer)), session.state(subgraphs=True)]
        return [session.history(thread(checkpoint_ns="inner")), *seen, session.history()]

    inner, *_ = alike(drive, story)
    assert "deep? 1" in inner[0].values["log"]
    assert "deep? 2" in inner[0].values["log"]


def test_a_subgraph_without_a_checkpointer_stores_nothing(drive: Driver, saver: Saver) -> None:
    """Steps that are not worth keeping would fill the server."""
    inner = sequence(b=says("b")).compile(checkpointer=False)
    Session(drive, sequence(a=says("a"), inner=inner)).run({"log": ["in"]})
    assert namespaces_of(saver) == {""}
