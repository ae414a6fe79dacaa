"""Graphs that stop for a person, and graphs that go on from an earlier state."""

from __future__ import annotations

from typing import Any

import pytest
from langgraph.types import Command, Durability, StateSnapshot, StateUpdate

from .driving import Driver, Restart
from .graphs import Session, alike, asks, says, sequence, side_by_side

# Interrupts


def test_an_interrupt_waits_for_its_answer_in_another_process(
    drive: Driver, restart: Restart, durability: Durability
) -> None:
    """An approval could not be given after the process that asked for it is gone."""

    def story(drive: Driver) -> list[Any]:
        asking = Session(drive, sequence(a=says("a"), b=asks("b?")), durability=durability)
        asked = asking.run({"log": ["in"]})
        answering = asking.go_on(restart(drive))
        waiting = answering.state()
        done = answering.run(Command(resume="yes"))
        return [done["log"], asked, waiting, answering.state(), answering.history()]

    log, *_ = alike(drive, story)
    assert log == ["in", "a", "b? yes"]


def test_several_interrupts_of_a_node_are_answered_one_by_one(
    drive: Driver, restart: Restart, durability: Durability
) -> None:
    """A form of several questions would ask again what was answered, or mix the answers up."""

    def story(drive: Driver) -> list[Any]:
        asking = Session(drive, sequence(a=asks("one?", "two?", "three?")), durability=durability)
        seen = [asking.run({"log": ["in"]})]
        for answer in ("1", "2", "3"):
            asking = asking.go_on(restart(drive))
            seen += [asking.state(), asking.run(Command(resume=answer))]
        return [*seen, asking.history()]

    *_, done, _ = alike(drive, story)
    assert done["log"] == ["in", "one? 1", "two? 2", "three? 3"]


def test_an_answer_may_come_with_an_update_and_a_goto(
    drive: Driver, durability: Durability
) -> None:
    """What a person changes while answering would be lost, or applied twice."""

    def story(drive: Driver) -> list[Any]:
        builder = sequence(a=asks("one?", "two?"), b=says("b")).add_node("aside", says("aside"))
        session = Session(drive, builder, durability=durability)
        session.run({"log": ["in"]})
        session.run(Command(resume="1", update={"log": ["changed"]}))
        done = session.run(Command(resume="2", update={"log": ["too"]}, goto="aside"))
        return [done["log"], session.state(), session.history()]

    alike(drive, story)


@pytest.mark.parametrize("when", ["interrupt_before", "interrupt_after"])
def test_a_run_stops_at_a_breakpoint_and_goes_on(
    drive: Driver, restart: Restart, when: str, durability: Durability
) -> None:
    """A graph could not be stopped for a look, or would do a step twice or never."""

    def story(drive: Driver) -> list[Any]:
        builder = sequence(a=says("a"), b=says("b"), c=says("c"))
        stopping = Session(drive, builder, durability=durability)
        stops: dict[str, Any] = {when: ["b"]}
        stopped = stopping.run({"log": ["in"]}, **stops)
        going_on = stopping.go_on(restart(drive))
        return [going_on.state().next, stopped, going_on.run(), going_on.history()]

    alike(drive, story)


def test_parallel_interrupts_are_answered_by_id(
    drive: Driver, restart: Restart, durability: Durability
) -> None:
    """Two people who are asked at once would get each other's answers."""

    def story(drive: Driver) -> list[Any]:
        builder = side_by_side(a=asks("a?"), b=asks("b?"), c=says("c"))
        session = Session(drive, builder, durability=durability)
        session.run({"log": ["in"]})
        seen: list[object] = []
        for asked in reversed(session.state().interrupts):
            session = session.go_on(restart(drive))
            seen += [session.state(), session.run(Command(resume={asked.id: f"to {asked.value}"}))]
        return [session.state().values["log"], seen, session.history()]

    log, *_ = alike(drive, story)
    assert log == ["in", "a? to a?", "b? to b?", "c", "last"]


# Time travel


def test_branches_of_a_thread_keep_their_own_values(drive: Driver) -> None:
    """A second attempt from an old state would overwrite the first."""

    def story(drive: Driver) -> list[StateSnapshot]:
        session = Session(drive, sequence(a=says("a"), b=says("b")))
        session.run({"log": ["one"]})
        old = session.history()
        branch = session.update({"log": ["branch"]}, old[1].config)
        session.run(None, branch)
        session.run({"log": ["two"]}, old[2].config)
        again = [session.state(state.config) for state in old]
        assert [state.values for state in again] == [state.values for state in old]
        return [*again, *session.history()]

    alike(drive, story)


def test_a_replayed_checkpoint_runs_what_follows_it_again(drive: Driver) -> None:
    """A run could not be repeated from one of its steps."""

    def story(drive: Driver) -> list[Any]:
        session = Session(drive, sequence(a=says("a"), b=asks("b?"), c=says("c")))
        session.run({"log": ["in"]})
        session.run(Command(resume="yes"))
        asked = next(state for state in session.history() if state.next == ("b",))
        again = session.run(None, asked.config)
        return [again, session.run(Command(resume="no")), session.history()]

    alike(drive, story)


def test_a_state_can_be_updated_as_if_a_node_had_done_it(drive: Driver) -> None:
    """A person could not correct a step and let the graph go on from there."""

    def story(drive: Driver) -> list[Any]:
        session = Session(drive, sequence(a=says("a"), b=says("b"), c=says("c")))
        session.run({"log": ["in"]}, interrupt_before=["b"])
        session.update({"log": ["not b"]}, as_node="b")
        corrected = session.state()
        return [corrected, session.run(), session.history()]

    alike(drive, story)


@pytest.mark.parametrize("as_node", ["a", "__input__", None])
def test_a_new_thread_may_begin_with_an_update(drive: Driver, as_node: str | None) -> None:
    """A thread could not be prepared before its first run."""

    def story(drive: Driver) -> list[Any]:
        session = Session(drive, sequence(a=says("a"), b=says("b")))
        session.update({"log": ["prepared"]}, as_node=as_node)
        return [session.state(), session.run(), session.history()]

    alike(drive, story)


def test_a_checkpoint_can_be_copied_and_a_thread_be_ended(drive: Driver) -> None:
    """Forks without a change, and stopping a waiting graph for good, would not work."""

    def story(drive: Driver) -> list[Any]:
        session = Session(drive, sequence(a=says("a"), b=asks("b?"), c=says("c")))
        session.run({"log": ["in"]})
        copied = session.update(None, session.history()[1].config, as_node="__copy__")
        state = session.state(copied)
        session.update(None, as_node="__end__")
        return [state, session.state(), session.history()]

    alike(drive, story)


def test_many_updates_can_be_made_at_once(drive: Driver) -> None:
    """A conversation could not be imported from elsewhere."""

    def story(drive: Driver) -> list[Any]:
        session = Session(drive, sequence(a=says("a"), b=says("b")))
        session.bulk_update(
            [
                [StateUpdate({"log": ["in"]}, "__input__")],
                [StateUpdate({"log": ["not a"]}, "a")],
                [StateUpdate({"log": ["b"]}, "b"), StateUpdate({"log": ["b too"]}, "b")],
            ]
        )
        return [session.state(), session.run({"log": ["two"]}), session.history()]

    alike(drive, story)
