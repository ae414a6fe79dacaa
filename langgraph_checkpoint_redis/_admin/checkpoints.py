"""Checkpoints and pending writes without their values.

Rows say nearly all that a timeline shows, however large the values are that they refer to. This
module reads rows only, and returns them as named fields.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from langgraph.checkpoint.base import CheckpointMetadata

from langgraph_checkpoint_redis._core.context import Context
from langgraph_checkpoint_redis._core.listing import Cursor, make_cursor
from langgraph_checkpoint_redis._core.reading import read_rows
from langgraph_checkpoint_redis._protocol.requests import Commands, Operation
from langgraph_checkpoint_redis._storage.corruption import CorruptionContext
from langgraph_checkpoint_redis._storage.records import (
    CheckpointRow,
    parse_checkpoint_row,
    parse_writes_row,
)

Place = tuple[str, str]  # of a checkpoint in its thread: the namespace and the id


class StoredValue(NamedTuple):
    """A value as a row refers to it: the serializer's name of its type, and its size in bytes."""

    type: str
    size: int


@dataclass(frozen=True)
class StoredCheckpoint:
    """A checkpoint without its values; `parent_id` is empty for the first one."""

    namespace: str
    checkpoint_id: str
    parent_id: str
    is_cut_off: bool
    _context: Context = field(repr=False)
    _thread_id: str = field(repr=False)
    _row: CheckpointRow = field(repr=False)

    @property
    def place(self) -> Place:
        """Its namespace and its id."""
        return self.namespace, self.checkpoint_id

    def values(self) -> dict[str, StoredValue]:
        """Return the channels that have a value, with type and size of each."""
        with self._corruption():
            return {
                channel: StoredValue(entry.type, entry.size)
                for channel, entry in self._row.entries()
            }

    def read_metadata(self) -> CheckpointMetadata:
        """Return the metadata, read by the saver's serializer."""
        with self._corruption():
            return self._row.metadata(self._context.serde, self._thread_id)

    def _corruption(self) -> CorruptionContext:
        timeline = self._context.keys(self._thread_id).timeline
        return CorruptionContext(self._thread_id, timeline, self.place)


class StoredWrite(NamedTuple):
    """A pending write without its value; `number` is its index in the writes of its task."""

    path: str
    task_id: str
    number: int
    channel: str


def start_listing(namespace: str | None) -> Cursor:
    """Return the beginning of a listing of one namespace, or of all for None."""
    return make_cursor(None, None, None, None)._replace(namespace=namespace)


def read_page(
    context: Context, thread_id: str, cursor: Cursor
) -> Operation[tuple[list[StoredCheckpoint], Cursor]]:
    """Read the next checkpoints of a listing, newest first; return where it goes on, too."""
    rows = yield from read_rows(context, thread_id, cursor, whole=False)
    timeline, records = context.keys(thread_id).timeline, list[CheckpointRow]()
    for row, *_ in rows.rows:
        with CorruptionContext(thread_id, timeline, row):
            records.append(parse_checkpoint_row(row))
    page = [
        StoredCheckpoint(
            *record.place, record.parent_id, record.is_cut_off, context, thread_id, record
        )
        for record in records
    ]
    return page, cursor.moved(rows, records, len(records))


def read_writes(
    context: Context, thread_id: str, places: Sequence[Place]
) -> Operation[list[list[StoredWrite]]]:
    """Read the pending writes of each of these checkpoints."""
    key = context.keys(thread_id).writes
    names = [f"{namespace}\0{checkpoint_id}" for namespace, checkpoint_id in places]
    commands = [("ZRANGEBYLEX", key, f"[{name}\0", f"({name}\1") for name in names]
    replies = yield Commands(tuple(commands))
    found: list[list[StoredWrite]] = []
    for rows in replies:
        writes = list[StoredWrite]()
        for row in rows:
            with CorruptionContext(thread_id, key, row):
                writes += [StoredWrite(*write[:4]) for write in parse_writes_row(row)]
        found.append(writes)
    return found
