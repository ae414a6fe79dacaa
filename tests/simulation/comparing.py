"""What a reader got, compared with what the oracle knows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Any

from langgraph.checkpoint.base import CheckpointTuple, DeltaChannelHistory
from langgraph.types import Command

from .oracle import Failure, Oracle, Place, Row, State, Thread, Write, history, reads_as


def place_of(found: CheckpointTuple) -> Place:
    """The namespace and the id of a checkpoint that was read."""
    at = found.config["configurable"]
    return str(at.get("checkpoint_ns", "")), str(at["checkpoint_id"])


def compare(thread: Thread, found: CheckpointTuple) -> Row:
    """The checkpoint that was read; a failure if it is not exactly what was put."""
    place = place_of(found)
    row = thread.rows.get(place)
    if row is None:
        raise Failure("wrong", f"{place} was never put")
    checkpoint = {**found.checkpoint, "channel_values": None}
    expected = {**row.checkpoint, "channel_values": None}
    if checkpoint != expected:
        raise Failure("wrong", f"{place} reads as {checkpoint}, and was {expected}")
    if with_lists(found.metadata) != with_lists(row.metadata):
        raise Failure("wrong", f"{place} has metadata {found.metadata}, and had {row.metadata}")
    _compare_values(thread, row, found.checkpoint["channel_values"])
    if found.parent_config:
        parent_id = found.parent_config["configurable"]["checkpoint_id"]
        if parent_id != row.parent_id:
            raise Failure("wrong", f"{place} has parent {parent_id}, and had {row.parent_id!r}")
    return row


def with_lists(value: Any) -> Any:
    """Something with lists for tuples, as LangGraph's serializer reads what it wrote.

    That goes for the fields of a `Command`, too. An exception reads as its text.
    """
    if isinstance(value, BaseException):
        return repr(value)
    if isinstance(value, Command):
        return Command, [with_lists(getattr(value, field.name)) for field in fields(value)]
    if isinstance(value, dict):
        return {key: with_lists(item) for key, item in value.items()}
    return [*map(with_lists, value)] if isinstance(value, list | tuple) else value


def _compare_values(thread: Thread, row: Row, found: dict[str, Any]) -> None:
    for channel, value in row.values.items():
        if channel not in found:
            raise Failure("less", f"{row.place} lacks its channel {channel!r}")
        if with_lists(found[channel]) != with_lists(value):
            raise Failure(
                "wrong", f"{row.place} has {channel!r} as {found[channel]}, and had {value}"
            )
    for channel in found.keys() - row.values.keys():
        if with_lists(found[channel]) != with_lists(thread.kept_value(row, channel)):
            raise Failure("wrong", f"{row.place} has {channel!r}, which it never had")


def compare_writes(thread: Thread, row: Row, found: CheckpointTuple) -> None:
    """Find the writes that must be there among those that were read, and settle the others."""
    rest = [*(found.pending_writes or ())]
    seen: dict[Write, Any] = {}
    for write in thread.writes_at(row.place):
        if rest and _is(write, rest[0]):
            seen[write] = rest.pop(0)[2]
        elif write.state is State.PRESENT:
            if write.is_damaged:
                raise Failure("less", f"{row.place} lacks {_name(write)}, without an error")
            raise Failure("lost", f"{row.place} lacks {_name(write)}; left are {rest}")
    if rest:
        raise Failure("wrong", f"{row.place} has writes that were not put, or not there: {rest}")
    _check_that_calls_are_whole(thread.writes_at(row.place), seen)
    for write in thread.writes_at(row.place):
        write.state = State.PRESENT if write in seen else State.ABSENT
        if write in seen:
            write.values = [seen[write]]


def _is(write: Write, found: Sequence[Any]) -> bool:
    values = [*map(with_lists, write.values)]
    return [*found[:2]] == [write.task_id, write.channel] and with_lists(found[2]) in values


def _name(write: Write) -> str:
    return f"write {write.number} of task {write.task_id} to {write.channel!r}"


def _check_that_calls_are_whole(writes: Iterable[Write], seen: dict[Write, Any]) -> None:
    halves: dict[object, set[bool]] = {}
    for write in writes:
        if write.state is State.MAYBE and write.number >= 0:
            halves.setdefault(write.call, set()).add(write in seen)
            if len(halves[write.call]) > 1:
                raise Failure("half", f"of a call, {_name(write)} is there and another is not")


def compare_history(thread: Thread, row: Row, channel: str, found: DeltaChannelHistory) -> None:
    """Compare what a delta channel reads as with what it was."""
    ways, is_whole = history(thread, row, channel, items_of)
    value = [*items_of(found.get("seed", ()))]
    for _, _, written in found["writes"]:
        value += written
    if not any(reads_as(steps, value) for steps in ways):
        was = [step.values for step in ways[-1]]
        gone = "" if is_whole else " Some of its ancestors are gone, and no error says so."
        raise Failure("delta", f"{row.place}: {channel!r} reads as {value}, and was {was}.{gone}")


def items_of(value: Any) -> Sequence[Any]:
    """The items of a stored delta channel, which LangGraph wraps."""
    items: Sequence[Any] = getattr(value, "value", value) or ()
    return items


def check_latest(thread: Thread, namespace: str, row: Row) -> None:
    """The latest checkpoint must not be one that an acknowledged one goes on from."""
    for other in thread.there(State.PRESENT):
        if other.namespace == namespace and row in [*thread.ancestors(other)]:
            raise Failure(
                "order", f"{row.place} is read as the latest, and {other.id} goes on from it"
            )


def check_seen(oracle: Oracle, thread_id: str, found: CheckpointTuple | None) -> None:
    """Compare what a client read while others went on."""
    if found is not None:
        compare(oracle.thread(thread_id), found)
