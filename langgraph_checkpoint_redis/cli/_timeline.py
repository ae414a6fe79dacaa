"""The timeline of a thread, and which of its checkpoints a user means.

A timeline is made without the values of checkpoints, however large they are. A checkpoint is read
whole only if something waits in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from langgraph.checkpoint.base import CheckpointTuple
from langgraph.checkpoint.serde.types import ERROR, INTERRUPT, TASKS

from langgraph_checkpoint_redis._admin import Admin, StoredCheckpoint, StoredValue, StoredWrite
from langgraph_checkpoint_redis.saver import RedisSaver

from ._reading import Unreadable
from ._session import CommandError, made_at

LATEST = "latest"

_TO_NODE = "branch:to:"
_JOIN = "join:"
_START = "__start__"


@dataclass(frozen=True)
class Step:
    """A checkpoint, as a timeline shows it."""

    namespace: str
    checkpoint_id: str
    parent_id: str
    metadata: Mapping[str, Any]
    bytes: int
    next: Sequence[str]
    interrupts: Sequence[Mapping[str, Any]]
    errors: Sequence[str]
    waiting: Sequence[str]  # the task of each interrupt, where several run at once
    failed: Sequence[str]  # the task of each error, where several run at once
    writes: int

    @property
    def made(self) -> datetime | None:
        """When it was made; None if its id has no time."""
        return made_at(self.checkpoint_id)

    @property
    def step(self) -> int | None:
        """The number of its step."""
        return self.metadata.get("step")

    @property
    def source(self) -> str:
        """What made it: input, loop, update or fork."""
        return str(self.metadata.get("source", "?"))


def steps(saver: RedisSaver, thread_id: str, namespace: str | None = None) -> Iterator[Step]:
    """Yield the checkpoints of a thread, newest first."""
    admin = Admin(saver)
    for page in admin.read_checkpoints(thread_id, namespace):
        if page:
            writes = admin.read_writes(thread_id, [stored.place for stored in page])
            for stored, of_tasks in zip(page, writes, strict=True):
                yield _step(saver, thread_id, stored, of_tasks)


def _step(
    saver: RedisSaver, thread_id: str, stored: StoredCheckpoint, writes: Sequence[StoredWrite]
) -> Step:
    values = stored.values()
    found = _read(saver, thread_id, *stored.place) if _is_telling(values, writes) else None
    tasks = _tasks(found, writes) if found else {}
    return Step(
        namespace=stored.namespace,
        checkpoint_id=stored.checkpoint_id,
        parent_id=stored.parent_id,
        metadata=stored.read_metadata(),
        bytes=sum(value.size for value in values.values()),
        next=next_nodes(found.checkpoint["channel_values"]) if found else _next({*values}),
        interrupts=interrupts(found) if found else (),
        errors=errors(found) if found else (),
        waiting=[
            tasks.get(task, "")
            for task, channel, asked in (found.pending_writes or () if found else ())
            if channel == INTERRUPT
            for _ in (asked if isinstance(asked, list | tuple) else [asked])
        ],
        failed=[
            tasks.get(task, "")
            for task, channel, _ in (found.pending_writes or () if found else ())
            if channel == ERROR
        ],
        writes=len(writes),
    )


def _is_telling(values: Mapping[str, StoredValue], writes: Sequence[StoredWrite]) -> bool:
    """Return whether values of a checkpoint, or of writes to it, say what it waits for."""
    asked = any(write.channel in (INTERRUPT, ERROR) for write in writes)
    return asked or any(
        name == TASKS or name.startswith(_JOIN) or _is_deferred(name, value)
        for name, value in values.items()
    )


def _is_deferred(name: str, value: StoredValue) -> bool:
    """Return whether a node may wait for others: a plain edge to a node stores no value."""
    return name.startswith(_TO_NODE) and value.type != "null"


# What a checkpoint says


def _next(channels: set[str]) -> list[str]:
    """Return the nodes that plain edges lead to: their channels have a value for one step."""
    nodes = [name.removeprefix(_TO_NODE) for name in channels if name.startswith(_TO_NODE)]
    return sorted(nodes) + ([_START] if _START in channels else [])


def next_nodes(values: Mapping[str, Any]) -> list[str]:
    """Return the nodes that run next: after edges, after complete joins, and of Sends."""
    ready = {name: _ready(value) for name, value in values.items()}
    joined = [
        name.rpartition(":")[2]
        for name, value in ready.items()
        if name.startswith(_JOIN) and _names(value) >= {*name.split(":")[1].split("+")}
    ]
    waiting = {name for name, value in ready.items() if value is _NOT_YET}
    sent = [getattr(task, "node", None) or _node(task) for task in values.get(TASKS) or ()]
    return sorted({*_next({*values} - waiting), *joined}) + sent


_NOT_YET = object()


def _ready(value: Any) -> Any:
    """Return the value of an edge; an edge to a deferred node waits until all others are done."""
    match value:
        case [found, bool(is_done)]:
            return found if is_done else _NOT_YET
    return value


def _names(value: Any) -> set[str]:
    return {one for one in value if isinstance(one, str)} if _is_many(value) else set()


def _is_many(value: Any) -> bool:
    return isinstance(value, set | frozenset | list | tuple)


def _tasks(found: CheckpointTuple, writes: Sequence[StoredWrite]) -> dict[str, str]:
    """Return the names of tasks by id: the node, and which of its calls. Empty for a single one."""
    values = found.checkpoint["channel_values"]
    sent = values.get(TASKS) or ()
    if len(next_nodes(values)) < 2:  # noqa: PLR2004 - one is called by its node
        return {}
    return {write.task_id: _task(write.path, sent) for write in writes}


def _task(path: str, sent: Sequence[Any]) -> str:
    match path.removeprefix("~").split(", "):
        case ["__pregel_pull", node, *_]:
            return node
        case ["__pregel_push", number, *_] if number.isdecimal() and int(number) < len(sent):
            task = sent[int(number)]
            node = getattr(task, "node", None) or _node(task)
            return f"{node}, {int(number) + 1} of {len(sent)}"
    return ""


def _node(task: Any) -> str:
    """Return the node of a Send that was read as data."""
    return str(task[0]) if isinstance(task, list | tuple) and task else "?"


def interrupts(found: CheckpointTuple) -> list[dict[str, Any]]:
    """Return the questions that a checkpoint's tasks stopped for."""
    return [
        _question(one)
        for _, channel, asked in found.pending_writes or ()
        if channel == INTERRUPT
        for one in (asked if isinstance(asked, list | tuple) else [asked])
    ]


def _question(interrupt: Any) -> dict[str, Any]:
    """Describe an Interrupt, which is a dict where LangGraph itself is not installed."""
    if isinstance(interrupt, Unreadable):
        return {"id": None, "value": interrupt}
    if isinstance(interrupt, Mapping):
        return {"id": interrupt.get("id"), "value": interrupt.get("value")}
    return {"id": getattr(interrupt, "id", None), "value": getattr(interrupt, "value", interrupt)}


def errors(found: CheckpointTuple) -> list[str]:
    """Return the errors that a checkpoint's tasks ended with."""
    return [str(value) for _, channel, value in found.pending_writes or () if channel == ERROR]


# Which checkpoint


def checkpoint(
    saver: RedisSaver, thread_id: str, namespace: str, reference: str
) -> CheckpointTuple:
    """Read the checkpoint that a reference names: latest, latest~3, an id, or its beginning."""
    found = _read(saver, thread_id, namespace, "" if reference == LATEST else reference)
    if found is None:
        checkpoint_id = _resolved(saver, thread_id, namespace, reference)
        found = _read(saver, thread_id, namespace, checkpoint_id) if checkpoint_id else None
    if found is None:
        raise CommandError(_absent(saver, thread_id, namespace, reference))
    return found


def _read(
    saver: RedisSaver, thread_id: str, namespace: str, checkpoint_id: str
) -> CheckpointTuple | None:
    place = {
        "thread_id": thread_id,
        "checkpoint_ns": namespace,
        "checkpoint_id": checkpoint_id,
    }
    return saver.get_tuple({"configurable": place})


def _absent(saver: RedisSaver, thread_id: str, namespace: str, reference: str) -> str:
    info = saver.thread_info(thread_id)
    if info is None:
        return f"there is no thread {thread_id!r}"
    if namespace not in info.namespaces:
        return f"thread {thread_id!r} has no namespace {namespace!r}, only {[*info.namespaces]}"
    return f"thread {thread_id!r} has no checkpoint {reference!r} in namespace {namespace!r}"


def _resolved(saver: RedisSaver, thread_id: str, namespace: str, reference: str) -> str:
    """Return the id of the checkpoint that a reference names; empty if there is none."""
    name, is_relative, back = reference.partition("~")
    parents = {
        stored.checkpoint_id: stored.parent_id
        for page in Admin(saver).read_checkpoints(thread_id, namespace)
        for stored in page
    }
    matches = [name] if name in parents else [one for one in parents if one.startswith(name)]
    if name in ("", LATEST):
        matches = [*parents][:1]
    if len(matches) > 1:
        raise CommandError(f"{name!r} is the beginning of {len(matches)} checkpoint ids", 2)
    checkpoint_id = matches[0] if matches else ""
    for _ in range(_generations(reference, back) if is_relative else 0):
        checkpoint_id = parents.get(checkpoint_id, "")
    return checkpoint_id


def _generations(reference: str, back: str) -> int:
    if back and not back.isdecimal():
        raise CommandError(f"{reference!r} names no checkpoint: latest, latest~3, an id, ID~3", 2)
    return int(back or 1)
