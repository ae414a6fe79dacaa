"""`state`: what a checkpoint holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer
from langgraph.checkpoint.base import CheckpointTuple, DeltaChannelHistory
from langgraph.checkpoint.serde.types import ERROR, INTERRUPT

from langgraph_checkpoint_redis.saver import RedisSaver

from . import _values
from ._output import ago, emit, facts, say, stamp, styled
from ._session import Everything, Json, Namespace, made_at
from ._timeline import LATEST, checkpoint, errors, interrupts, next_nodes

TOLD = (INTERRUPT, ERROR)  # pending writes that are said at the top


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("state")(state)


def state(
    context: typer.Context,
    thread: str,
    reference: Annotated[
        str,
        typer.Argument(metavar="CHECKPOINT", help="latest, latest~3, an id, or its beginning."),
    ] = LATEST,
    namespace: Namespace = "",
    everything: Everything = False,
    json: Json = False,
) -> None:
    """Show what a checkpoint holds: messages as a conversation, other channels as text."""
    with context.obj.saver() as saver:
        found = checkpoint(saver, thread, namespace, reference)
        values = channel_values(saver, found)
        if json:
            emit(_document(found, values))
            return
        _show(found, values, everything=everything)


# Values


def channel_values(saver: RedisSaver, found: CheckpointTuple) -> dict[str, Any]:
    """Return the value of each channel; of a delta channel, its writes."""
    values = dict(found.checkpoint["channel_values"])
    counters = found.metadata.get("counters_since_delta_snapshot") or {}
    deltas = [name for name in counters if name not in values]
    if deltas:
        histories = saver.get_delta_channel_history(config=found.config, channels=deltas)
        values |= {name: _applied(history) for name, history in histories.items()}
    return values


def _applied(history: DeltaChannelHistory) -> list[Any]:
    """Return the writes of a delta channel, in order. Its reducer is in the graph's code."""
    values = [history["seed"]] if "seed" in history else []
    values += [value for _, _, value in history["writes"]]
    values = [getattr(value, "value", value) for value in values]
    return [one for value in values for one in (value if isinstance(value, list) else [value])]


# Showing


def _document(found: CheckpointTuple, values: Mapping[str, Any]) -> dict[str, Any]:
    place = found.config["configurable"]
    parent = found.parent_config["configurable"]["checkpoint_id"] if found.parent_config else None
    return {
        "thread_id": place["thread_id"],
        "namespace": place["checkpoint_ns"],
        "checkpoint_id": place["checkpoint_id"],
        "parent_id": parent,
        "made": stamp(made_at(place["checkpoint_id"])),
        "metadata": _values.plain(found.metadata),
        "channels": _values.plain(values),
        "next": next_nodes(values),
        "interrupts": _values.plain(interrupts(found)),
        "errors": errors(found),
        "pending_writes": [
            {"task_id": task, "channel": channel, "value": _values.plain(value)}
            for task, channel, value in found.pending_writes or ()
        ],
    }


def _show(found: CheckpointTuple, values: Mapping[str, Any], *, everything: bool) -> None:
    facts(_head(found, values))
    for name in sorted(values, key=lambda name: (_values.is_conversation(values[name]), name)):
        if everything or not name.startswith(_values.INTERNAL):
            say()
            _values.show_value(name, values[name])
    if writes := [write for write in found.pending_writes or () if write[1] not in TOLD]:
        say()
        say(styled(("pending writes", "bold")))
        for task, channel, value in writes:
            say(styled("  ", channel, "  ", _values.preview(value), (f"  task {task}", "dim")))


def _head(found: CheckpointTuple, values: Mapping[str, Any]) -> list[tuple[str, Any]]:
    place, metadata = found.config["configurable"], found.metadata
    made = made_at(place["checkpoint_id"])
    pairs = [
        ("thread", place["thread_id"]),
        ("namespace", place["checkpoint_ns"] or "(root)"),
        ("checkpoint", place["checkpoint_id"]),
        ("made", f"{stamp(made)}, {ago(made)}" if made else "?"),
        ("step", f"{metadata.get('step', '?')}, {metadata.get('source', '?')}"),
        ("next", ", ".join(next_nodes(values))),
        *[("waits for", _values.preview(one["value"], 200)) for one in interrupts(found)],
        *[("failed", _values.preview(error, 200)) for error in errors(found)],
    ]
    return [(name, value) for name, value in pairs if value]
