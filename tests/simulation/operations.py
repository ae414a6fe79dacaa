"""What each call of a saver does to what the oracle knows.

A call begins, its requests are executed (once, several times, or later than it ends), and it
returns, raises an error, or is abandoned. `ran` is called at each execution of any of its requests.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    get_checkpoint_metadata,
)

from .oracle import Oracle, Row, State, Thread, Write, copied


class Operation(ABC):
    """A call of a saver."""

    name = ""

    def __init__(self, oracle: Oracle) -> None:
        self.oracle = oracle
        self.began_at = oracle.tick()
        self.first_ran_at = float("inf")
        self.last_ran_at = 0.0

    def ran(self) -> None:
        """Note that one of its requests was executed."""
        now = self.oracle.tick()
        self.first_ran_at, self.last_ran_at = min(self.first_ran_at, now), now
        self.take_effect()

    @abstractmethod
    def take_effect(self) -> None:
        """Note what any of its requests may have done."""

    @abstractmethod
    def succeed(self) -> None:
        """Note that it has returned."""


class Reading(Operation):
    """A call that changes nothing."""

    def __init__(self, oracle: Oracle, name: str) -> None:
        super().__init__(oracle)
        self.name = name

    def take_effect(self) -> None:
        """Change nothing."""

    def succeed(self) -> None:
        """Change nothing."""


class Put(Operation):
    """`put`, which may keep a namespace short."""

    name = "put"

    def __init__(
        self,
        oracle: Oracle,
        keep_last: int | None,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
        since: float | None = None,
    ) -> None:
        """`since` is when the run began that made the id, if that was before the call."""
        super().__init__(oracle)
        at = config["configurable"]
        self.thread_id, self.keep_last = str(at["thread_id"]), keep_last
        self.thread = oracle.thread(self.thread_id)
        place = at.get("checkpoint_ns") or "", checkpoint["id"]
        self.row = self.thread.rows.get(place) or Row(
            began_at=self.began_at if since is None else since,
            namespace=place[0],
            parent_id=at.get("checkpoint_id") or "",
            checkpoint=copied(checkpoint),
            metadata=copied(get_checkpoint_metadata(config, metadata)),
            new_versions=copied(new_versions),
        )
        self.thread.rows[place] = self.row

    def take_effect(self) -> None:
        self.oracle.may_be_added(self.thread, self.row)
        if self.keep_last:
            namespace = self.row.namespace
            others = [name for name in self.thread.namespaces() if ":" in name and not namespace]
            rows = self.oracle.removable(self.thread, [namespace, *others], self.keep_last)
            self.oracle.may_be_removed(self.thread, [row for row in rows if row is not self.row])

    def succeed(self) -> None:
        self.oracle.acknowledged(self.thread, self.row, self.first_ran_at)


class PutWrites(Operation):
    """`put_writes`."""

    name = "put_writes"

    def __init__(
        self,
        oracle: Oracle,
        keep_last: int | None,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str,
    ) -> None:
        super().__init__(oracle)
        at = config["configurable"]
        self.thread_id, self.keep_last = str(at["thread_id"]), keep_last
        self.thread = oracle.thread(self.thread_id)
        self.place = at.get("checkpoint_ns") or "", str(at["checkpoint_id"])
        self.values: list[tuple[Write, Any]] = []
        there = self.thread.writes.setdefault(self.place, {})
        for index, (channel, value) in enumerate(writes):
            number = WRITES_IDX_MAP.get(channel, index)
            write = there.setdefault(
                (task_id, number),
                Write(
                    began_at=self.began_at,
                    path=task_path,
                    task_id=task_id,
                    number=number,
                    channel=channel,
                    call=self,
                ),
            )
            self.values.append((write, copied(value)))

    def take_effect(self) -> None:
        for write, value in self.values:
            is_new = write.state is not State.PRESENT or write.number < 0
            if is_new and value not in write.values:
                write.values.append(value)
            self.oracle.may_be_added(self.thread, write)

    def succeed(self) -> None:
        row = self.thread.rows.get(self.place)
        is_gone = row is not None and row.ran_at > 0 and row.state is not State.PRESENT
        may_be_dropped = self.keep_last is not None and (row is None or not row.ran_at)
        for write, value in self.values:
            if not is_gone and not may_be_dropped:
                self.oracle.acknowledged(self.thread, write, self.first_ran_at)
            if write.number < 0 and write.removed_at < self.first_ran_at:
                write.values = [value]


class DeleteThread(Operation):
    """`delete_thread`, or `prune` that keeps nothing."""

    name = "delete_thread"

    def __init__(self, oracle: Oracle, thread_id: str) -> None:
        super().__init__(oracle)
        self.thread_id = thread_id
        self.thread = oracle.thread(thread_id)

    def take_effect(self) -> None:
        self.oracle.may_be_removed(self.thread, self.thread.rows.values())
        for writes in self.thread.writes.values():
            for write in writes.values():
                write.removed_at = self.oracle.tick()
                write.state = State.MAYBE if write.state is State.PRESENT else write.state

    def succeed(self) -> None:
        for item in self.thread.items():
            if item.ran_at < self.first_ran_at:
                item.state, item.is_damaged = State.ABSENT, False
        if not any(item.is_damaged for item in self.thread.items()):
            self.thread.is_damaged = self.thread.is_frayed = False


class PruneIdle(DeleteThread):
    """`prune_threads` of idle threads, for one thread: nothing goes that it has not seen.

    `seen_at` is the tick of the look at the thread that the call goes by.
    """

    name = "prune_threads"

    def __init__(self, oracle: Oracle, thread_id: str) -> None:
        super().__init__(oracle, thread_id)
        self.seen_at = 0.0

    def take_effect(self) -> None:
        if self.seen_at > self.thread.written_at or (self.seen_at and self.thread.is_damaged):
            super().take_effect()

    def succeed(self) -> None:
        """Nothing more: what may be gone is found out by who looks."""


class Prune(Operation):
    """`prune` to the latest checkpoints."""

    name = "prune"

    def __init__(self, oracle: Oracle, thread_id: str) -> None:
        super().__init__(oracle)
        self.thread_id = thread_id
        self.thread = oracle.thread(thread_id)

    def take_effect(self) -> None:
        rows = self.oracle.removable(self.thread, self.thread.namespaces(), 1)
        self.oracle.may_be_removed(self.thread, rows)

    def succeed(self) -> None:
        """Nothing more: what may be gone is found out by who looks."""


class DeleteRuns(Operation):
    """`delete_for_runs`."""

    name = "delete_for_runs"

    def __init__(self, oracle: Oracle, runs: Sequence[str]) -> None:
        super().__init__(oracle)
        self.runs = {*runs}

    def _rows(self) -> list[tuple[Thread, list[Row]]]:
        return [
            (thread, [row for row in thread.rows.values() if row.run in self.runs])
            for thread in self.oracle.threads.values()
        ]

    def take_effect(self) -> None:
        for thread, rows in self._rows():
            self.oracle.may_be_removed(thread, rows)

    def succeed(self) -> None:
        for thread, rows in self._rows():
            self.oracle.removed(thread, rows, self.first_ran_at)


class Repair(Operation):
    """`repair`: what is damaged may go."""

    name = "repair"

    def __init__(self, oracle: Oracle, thread_id: str) -> None:
        super().__init__(oracle)
        self.thread_id = thread_id
        self.thread = oracle.thread(thread_id)

    def take_effect(self) -> None:
        rows = [row for row in self.thread.rows.values() if row.is_damaged]
        self.oracle.may_be_removed(self.thread, rows)
        for item in self.thread.items():
            if item.is_damaged and item.state is State.PRESENT:
                item.removed_at, item.state = self.oracle.tick(), State.MAYBE

    def succeed(self) -> None:
        """Nothing more: what may be gone is found out by who looks."""


class CopyThread(Operation):
    """`copy_thread`: the target has what the source had."""

    name = "copy_thread"

    def __init__(self, oracle: Oracle, source: str, target: str) -> None:
        super().__init__(oracle)
        self.source, self.target = oracle.thread(source), oracle.thread(target)
        self.names = source, target

    def take_effect(self) -> None:
        self.target.is_damaged |= self.source.is_damaged
        self.target.is_frayed |= self.source.is_frayed
        self.target.is_index_unsure |= self.source.is_index_unsure
        for place, row in self.source.rows.items():
            if row.state is not State.ABSENT:
                copy = self.target.rows.setdefault(place, self._new_row(row))
                copy.is_damaged |= row.is_damaged
                copy.may_be_unlisted |= row.may_be_unlisted
                self.oracle.may_be_added(self.target, copy)
        for place, writes in self.source.writes.items():
            there = self.target.writes.setdefault(place, {})
            for key, write in writes.items():
                if write.state is not State.ABSENT:
                    self._add_write(there.setdefault(key, self._new_write(write)), write)

    def _new_row(self, row: Row) -> Row:
        metadata = copied(row.metadata)
        if metadata.get("thread_id") == self.names[0]:
            metadata["thread_id"] = self.names[1]
        return replace(row, metadata=metadata, state=State.ABSENT, ran_at=0, removed_at=0)

    def _new_write(self, write: Write) -> Write:
        values = [*write.values]
        # A copy is complete, but for what the source may lack itself.
        call = self if write.state is State.PRESENT else (self, write.call)
        return replace(write, values=values, call=call, state=State.ABSENT, ran_at=0, removed_at=0)

    def _add_write(self, copy: Write, write: Write) -> None:
        copy.values += [value for value in write.values if value not in copy.values]
        copy.is_damaged |= write.is_damaged
        self.oracle.may_be_added(self.target, copy)

    def succeed(self) -> None:
        for place, row in self.source.rows.items():
            self._keep(self.target.rows.get(place), row)
            for key, write in self.source.writes.get(place, {}).items():
                self._keep(self.target.writes.get(place, {}).get(key), write)

    def _keep(self, copy: Row | Write | None, original: Row | Write) -> None:
        was_there = original.state is State.PRESENT and original.acked_at < self.first_ran_at
        if copy and was_there and original.removed_at < self.first_ran_at:
            self.oracle.acknowledged(self.target, copy, self.first_ran_at)
            copy.began_at, copy.acked_at = original.began_at, original.acked_at
