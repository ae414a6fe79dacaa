"""The oracle: what must, may and must not be stored, after all calls and all faults.

A checkpoint or a write is PRESENT once it was acknowledged: then it must be read, exactly. It is
MAYBE while a call that adds it is under way, or after one that may remove it was executed; then it
may be read, exactly, or not. ABSENT must not be read. Whoever looks settles a MAYBE: it is executed
requests alone that change what is there.

What was there when a key was evicted is damaged: it reads exactly, or as an error. An answer that
is wrong, or less than there was, is never permitted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from enum import Enum
from math import inf
from typing import Any, NamedTuple

from langgraph.checkpoint.base import Checkpoint, CheckpointMetadata, empty_checkpoint

Place = tuple[str, str]  # a namespace and the id of a checkpoint in it


class Failure(Exception):  # noqa: N818 - it is what a simulation looks for
    """Something that no fault permits. `kind` is the same for failures that are alike."""

    def __init__(self, kind: str, text: str) -> None:
        self.kind = kind
        super().__init__(f"{kind}: {text}")


class State(Enum):
    """Whether something is stored."""

    ABSENT = "absent"
    MAYBE = "maybe"
    PRESENT = "present"


@dataclass(eq=False)
class Item:
    """A checkpoint or a write, and the ticks at which things happened to it.

    `began_at` and `acked_at` are those of the call that added it; `ran_at` is the last execution of
    a request that may have added it, `removed_at` of one that may have removed it.
    """

    state: State = State.ABSENT
    is_damaged: bool = False
    began_at: float = 0
    acked_at: float = inf
    ran_at: float = 0
    removed_at: float = 0


@dataclass(eq=False)
class Row(Item):
    """A checkpoint as it was put.

    It `may_be_unlisted` if there were as many newer ones once as a put, or a removal, was to keep.
    """

    may_be_unlisted: bool = False
    namespace: str = ""
    parent_id: str = ""
    checkpoint: Checkpoint = field(default_factory=empty_checkpoint)
    metadata: CheckpointMetadata = field(default_factory=CheckpointMetadata)
    new_versions: Mapping[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return self.checkpoint["id"]

    @property
    def place(self) -> Place:
        return self.namespace, self.id

    @property
    def run(self) -> str:
        return str(self.metadata.get("run_id", ""))

    @property
    def root(self) -> str | None:
        return self.metadata.get("parents", {}).get("") if self.namespace else None

    @property
    def values(self) -> dict[str, Any]:
        """The values that must be read with it."""
        versions, values = self.checkpoint["channel_versions"], self.checkpoint["channel_values"]
        return {channel: value for channel, value in values.items() if channel in versions}

    @property
    def delta_channels(self) -> list[str]:
        """The delta channels that are rebuilt from its ancestors."""
        counters = self.metadata.get("counters_since_delta_snapshot") or {}
        return [each for each in counters if each not in self.values and self.has_written(each)]

    def has_written(self, channel: str) -> bool:
        """Whether a channel was written by then."""
        return channel in self.checkpoint["channel_versions"]


@dataclass(eq=False)
class Write(Item):
    """A write as it was put. Which of `values` is not known where calls differ in it."""

    path: str = ""
    task_id: str = ""
    number: int = 0
    channel: str = ""
    values: list[Any] = field(default_factory=list)
    call: object = None

    @property
    def order(self) -> tuple[str, str, int]:
        return self.path, self.task_id, self.number


@dataclass(eq=False)
class Thread:
    """All that was ever stored of a thread.

    It `is_frayed` if single chunks are gone: then what is put later and shares them may be damaged,
    too. Servers evict whole keys, so this takes somebody's hand, and no put looks for it.
    `written_at` is the tick at which a script last added something to it, or was to.
    """

    rows: dict[Place, Row] = field(default_factory=dict)
    writes: dict[Place, dict[tuple[str, int], Write]] = field(default_factory=dict)
    is_damaged: bool = False
    is_frayed: bool = False
    is_index_unsure: bool = False
    written_at: float = 0

    def items(self) -> Iterator[Item]:
        yield from self.rows.values()
        for writes in self.writes.values():
            yield from writes.values()

    def writes_at(self, place: Place) -> list[Write]:
        return sorted(self.writes.get(place, {}).values(), key=lambda write: write.order)

    def may_be_unreadable(self, row: Row) -> bool:
        """Return whether a checkpoint, or an older write that is read with it, is damaged."""
        return row.is_damaged or any(map(_may_be_damaged, self.writes_at(row.place)))

    def there(self, *states: State) -> list[Row]:
        """The checkpoints in these states, or those that may be there."""
        wanted = states or (State.MAYBE, State.PRESENT)
        return [row for row in self.rows.values() if row.state in wanted]

    def namespaces(self) -> list[str]:
        return sorted({row.namespace for row in self.there()})

    def parent(self, row: Row) -> Row | None:
        return self.rows.get((row.namespace, row.parent_id)) if row.parent_id else None

    def ancestors(self, row: Row) -> Iterator[Row]:
        """The checkpoints that one goes on from, as far as they were ever put."""
        visited = {row.place}
        parent = self.parent(row)
        while parent and parent.place not in visited:
            visited.add(parent.place)
            yield parent
            parent = self.parent(parent)

    def kept_value(self, row: Row, channel: str) -> Any:
        """What a channel without a value of its own may have: its parent's, of the same version."""
        versions = row.checkpoint["channel_versions"]
        for ancestor in self.ancestors(row):
            same = ancestor.checkpoint["channel_versions"].get(channel) == versions.get(channel)
            if channel in row.new_versions or not same:
                return None
            if channel in ancestor.values:
                return ancestor.values[channel]
            row = ancestor
        return None


class Saved(NamedTuple):
    """What the oracle knew when a dump was made."""

    items: dict[Item, tuple[State, bool, list[Any]]]
    flags: dict[str, tuple[bool, bool, bool]]


class Oracle:
    """What is known of all threads."""

    def __init__(self) -> None:
        self.threads: dict[str, Thread] = {}
        self.ticks = 0

    def tick(self) -> int:
        """The number of what happens now: it is greater than that of all that came before."""
        self.ticks += 1
        return self.ticks

    def thread(self, thread_id: str) -> Thread:
        return self.threads.setdefault(thread_id, Thread())

    # Changes

    def may_be_added(self, thread: Thread, item: Item) -> None:
        """A request was executed that may have added something."""
        item.is_damaged |= thread.is_frayed
        item.ran_at = self.tick()
        if item.state is State.ABSENT:
            item.state = State.MAYBE

    def may_be_removed(self, thread: Thread, rows: Iterable[Row]) -> None:
        """A request was executed that may have removed checkpoints, and their writes with them."""
        for row in rows:
            for item in (row, *thread.writes.get(row.place, {}).values()):
                item.removed_at = self.tick()
                if item.state is State.PRESENT:
                    item.state = State.MAYBE

    def acknowledged(self, thread: Thread, item: Item, since: float) -> None:
        """A call that began to be executed at a tick has returned: what it added is there.

        Unless something was executed since that may have removed it.
        """
        item.acked_at = self.tick()
        item.is_damaged &= thread.is_frayed or item.removed_at >= since
        if item.removed_at < since:
            item.state = State.PRESENT

    def removed(self, thread: Thread, rows: Iterable[Row], since: float) -> None:
        """A removal that began to be executed at a tick has returned: what it removed is gone.

        Unless something was executed since that may have added it again.
        """
        for row in rows:
            if row.ran_at < since:
                row.state = State.MAYBE if thread.is_index_unsure else State.ABSENT

    def lost(self, thread_id: str) -> None:
        """All of a thread is gone at once."""
        thread = self.thread(thread_id)
        for item in thread.items():
            item.removed_at = self.tick()
            item.state = State.ABSENT
            item.is_damaged = False
        thread.is_damaged = thread.is_frayed = False

    def damaged(self, thread_id: str, *, is_frayed: bool = False) -> None:
        """Parts of a thread are gone: what there is reads as it was, or as an error."""
        thread = self.thread(thread_id)
        thread.is_damaged = True
        thread.is_frayed |= is_frayed
        for item in thread.items():
            item.removed_at = self.tick()
            item.is_damaged = item.is_damaged or item.state is not State.ABSENT

    # Older states

    def saved(self) -> Saved:
        """What is known now."""
        return Saved(
            {
                item: (item.state, item.is_damaged, [*getattr(item, "values", ())])
                for thread in self.threads.values()
                for item in thread.items()
            },
            {
                name: (one.is_damaged, one.is_frayed, one.is_index_unsure)
                for name, one in self.threads.items()
            },
        )

    def fell_back(self, saved: Saved, thread_id: str | None = None) -> None:
        """A thread, or everything, is as it was when this was saved."""
        for name in [thread_id] if thread_id else [*self.threads]:
            thread = self.thread(name)
            flags = saved.flags.get(name, (False, False, False))
            thread.is_damaged, thread.is_frayed, thread.is_index_unsure = flags
            # The index did not fall back with a thread. In a failover it did, but a client may be
            # about to put a checkpoint whose entry was lost.
            thread.is_index_unsure = True
            thread.written_at = 0
            for item in thread.items():
                item.removed_at = item.ran_at = self.tick()
                item.state, item.is_damaged, values = saved.items.get(
                    item, (State.ABSENT, False, [])
                )
                if isinstance(item, Write) and values:
                    item.values = values

    # What is permitted

    def removable(self, thread: Thread, namespaces: Iterable[str], count: int) -> list[Row]:
        """The checkpoints that are not among the newest `count` of their namespaces.

        Which ones are newest is up to their ids, which are in the order in which checkpoints were
        put, if one was begun after another was acknowledged. Where clocks differ, a newer id comes
        before what a process puts that has not seen it; it has seen the parent.
        """
        rows = thread.there()
        found: dict[Row, None] = {}
        kept: list[Row] = []
        for row in rows:
            others = [
                other
                for other in rows
                if other is not row
                and other.namespace == row.namespace
                and (other.acked_at >= row.began_at or row.parent_id < other.id > row.id)
            ]
            if len(others) >= count:
                found[row] = None
                row.may_be_unlisted |= row.namespace in {*namespaces}
            else:
                kept.append(row)
        beyond = {*found}
        for row in kept:
            for ancestor in self._needed(thread, row):
                found.pop(ancestor, None)
        for namespace in thread.namespaces():
            if ":" in namespace:
                found.update(dict.fromkeys(self._gone_with_root(thread, namespace, beyond)))
        wanted = {*namespaces}
        return [row for row in found if row.namespace in wanted]

    def _needed(self, thread: Thread, row: Row) -> Iterator[Row]:
        for channel in row.delta_channels:
            for one in (row, *thread.ancestors(row)):
                if one is not row:
                    yield one
                if channel in one.values or thread.kept_value(one, channel) is not None:
                    break
                if not one.has_written(channel):  # these are the first writes
                    break

    def _gone_with_root(self, thread: Thread, namespace: str, beyond: set[Row]) -> list[Row]:
        """What a subgraph's call made goes with the root checkpoint that made the call.

        It does so even if that stays, as a later one needs it.
        """
        rows = [row for row in thread.there() if row.namespace == namespace]
        root = max(rows, key=lambda row: row.id).root
        root_row = thread.rows.get(("", root)) if root else None
        is_there = root_row and root_row.state is State.PRESENT and root_row not in beyond
        return rows if root and not is_there else []


def copied(item: Any) -> Any:
    """A copy that stays as it is, whatever a graph does with the original."""
    return deepcopy(item)


class Step(NamedTuple):
    """A part of a delta channel's history: required or not, and what it may read as."""

    is_required: bool
    values: Sequence[Sequence[Any]]


class History(NamedTuple):
    """What a delta channel was, oldest part first, in each of the ways to read it.

    There is more than one where a checkpoint may have the value of its parent, so that the walk
    ends there. It `is_whole` if everything on the longest way is there.
    """

    ways: list[list[Step]]
    is_whole: bool


def history(
    thread: Thread, row: Row, channel: str, items: Callable[[Any], Sequence[Any]]
) -> History:
    """What a delta channel was at a checkpoint; `items` are those of a stored value."""
    steps: list[Step] = []
    ways: list[list[Step]] = []
    is_whole, has_begun, last = True, False, row

    def ending_with(value: Any) -> list[Step]:
        return [Step(is_required=True, values=[items(value)]), *reversed(steps)]

    for ancestor in thread.ancestors(row):
        last = ancestor
        is_there = ancestor.state is State.PRESENT and not ancestor.is_damaged
        is_whole = is_whole and (has_begun or is_there)
        writes = [write for write in thread.writes_at(ancestor.place) if write.channel == channel]
        is_whole = is_whole and not any(_may_be_damaged(write) for write in writes)
        found = [_step(write, ancestor) for write in reversed(writes)]
        # What comes before the first version was written for another branch.
        steps += [step._replace(is_required=False) for step in found] if has_begun else found
        has_begun = has_begun or not ancestor.has_written(channel)
        if channel in ancestor.values:
            return History([*ways, ending_with(ancestor.values[channel])], is_whole)
        if (kept := thread.kept_value(ancestor, channel)) is not None:
            ways.append(ending_with(kept))
    return History([*ways, [*reversed(steps)]], is_whole and (has_begun or not last.parent_id))


def _may_be_damaged(write: Write) -> bool:
    """Return whether a write may be stored but not readable. Its branch does not matter."""
    return write.is_damaged and write.state is not State.ABSENT


def _step(write: Write, ancestor: Row) -> Step:
    if ancestor.state is State.PRESENT:
        return Step(write.state is State.PRESENT and not write.is_damaged, write.values)
    return Step(write.acked_at < inf, write.values)


def reads_as(steps: Sequence[Step], found: Sequence[Any]) -> bool:
    """Whether a channel that reads so has all that is required, in order, and nothing else."""
    ends = {0}
    for step in steps:
        reached = set() if step.is_required else {*ends}
        for end in ends:
            for value in step.values:
                if [*found[end : end + len(value)]] == [*value]:
                    reached.add(end + len(value))
        ends = reached
    return len(found) in ends
