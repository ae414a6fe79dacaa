"""Replies of scripts that read, as what callers get: checkpoints, writes, histories of channels."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

from langgraph.checkpoint.base import CheckpointTuple, DeltaChannelHistory, PendingWrite
from langgraph.checkpoint.serde.base import SerializerProtocol

from langgraph_checkpoint_redis._runtime.interruptions import DECODING, raise_interruption
from langgraph_checkpoint_redis._storage.corruption import CorruptionContext, raise_corruption
from langgraph_checkpoint_redis._storage.encryption import load_value
from langgraph_checkpoint_redis._storage.keys import ThreadKeys
from langgraph_checkpoint_redis._storage.records import (
    CheckpointRow,
    Write,
    parse_checkpoint_row,
    parse_writes_row,
)
from langgraph_checkpoint_redis._storage.refs import CheckpointRef
from langgraph_checkpoint_redis._storage.tree import ChunkTree, split_digests
from langgraph_checkpoint_redis._storage.values import (
    Entry,
    list_by_level,
    list_pieces,
    load_entry,
    unpack_entry,
)
from langgraph_checkpoint_redis.errors import CorruptThreadError

from . import clock
from .cache import ThreadCache, ThreadCaches


class FoundCheckpoint(NamedTuple):
    """A checkpoint of a reply: whether its parent is there, and the rows of its writes."""

    record: CheckpointRow
    has_parent: int
    writes: Sequence[bytes]


class Ancestor(NamedTuple):
    """What an ancestor has of the channels that are searched for: writes, and stored values."""

    writes: list[Write]
    seeds: list[tuple[str, Entry]]


class ThreadReader(NamedTuple):
    """Reads the rows of one thread that a script returned; their chunks are in the `cache`."""

    serde: SerializerProtocol
    thread_id: str
    keys: ThreadKeys
    cache: ThreadCache
    caches: ThreadCaches

    def value(self, namespace: str, checkpoint_id: str, entry: Entry) -> Any:
        return self._value_and_tree(namespace, checkpoint_id, entry)[0]

    def found(self, row: Sequence[Any]) -> FoundCheckpoint:
        """Parse a row of the reply, without its serialized values."""
        timeline_row, has_parent, writes = row
        with CorruptionContext(self.thread_id, self.keys.timeline, timeline_row):
            return FoundCheckpoint(parse_checkpoint_row(timeline_row), has_parent, writes)

    def checkpoint_tuple(self, found: FoundCheckpoint) -> CheckpointTuple:
        return self.tuple_and_trees(found)[0]

    def tuple_and_trees(
        self, found: FoundCheckpoint
    ) -> tuple[CheckpointTuple, dict[str, ChunkTree]]:
        with CorruptionContext(self.thread_id, self.keys.timeline, found.record.place):
            return self._tuple_and_trees(*found)

    def _tuple_and_trees(
        self, record: CheckpointRow, has_parent: int, writes: Sequence[bytes]
    ) -> tuple[CheckpointTuple, dict[str, ChunkTree]]:
        namespace, checkpoint_id = record.place
        ref = CheckpointRef(self.thread_id, namespace, checkpoint_id)
        clock.see(checkpoint_id)
        values: dict[str, Any] = {}
        trees: dict[str, ChunkTree] = {}
        before = self.cache.trees_of(namespace)
        for channel, entry in record.entries():
            values[channel], tree = self._value_and_tree(
                namespace, checkpoint_id, entry, before.get(channel)
            )
            if tree:
                trees[channel] = tree
        found = CheckpointTuple(
            ref.config(checkpoint_id),
            record.checkpoint(self.serde, values),
            record.metadata(self.serde, self.thread_id),
            ref.config(record.parent_id) if has_parent else None,
            [
                (write.task_id, write.channel, self.value(namespace, checkpoint_id, write.entry))
                for write in self.writes(writes)
            ],
        )
        return found, trees

    def lacks(self, found: FoundCheckpoint) -> bool:
        """Return whether the cache lacks a chunk of a checkpoint."""
        for entry in self._entries(found):
            try:
                pieces = list_pieces(entry, self.cache.chunks)
            except DECODING as error:
                raise_interruption(error)
                return True
            if not self.cache.chunks.keys() >= {*pieces}:
                return True
        return False

    def digests(self, page: Iterable[FoundCheckpoint]) -> dict[int, dict[bytes, None]]:
        """Return what the values of checkpoints refer to, by level, each once."""
        return list_by_level(chain.from_iterable(map(self._entries, page)))

    def ancestor(
        self, writes: Iterable[bytes], seeds: Sequence[bytes], searched: Collection[str]
    ) -> Ancestor:
        """Read the rows of an ancestor's writes, and its values."""
        return Ancestor(
            [write for write in self.writes(writes) if write.channel in searched],
            [
                (channel.decode(), unpack_entry(entry))
                for channel, entry in zip(seeds[::2], seeds[1::2], strict=True)
            ],
        )

    def digests_of(self, ancestors: Iterable[Ancestor]) -> dict[int, dict[bytes, None]]:
        """Return what the values of ancestors refer to, by level, each once."""
        entries: list[Entry] = []
        for writes, seeds in ancestors:
            entries += [write.entry for write in writes]
            entries += [entry for _, entry in seeds]
        # What is forged may be no digests.
        with CorruptionContext(self.thread_id, self.keys.writes, b""):
            return list_by_level(entries)

    def up_to(self, most: int, page: Sequence[FoundCheckpoint]) -> Sequence[FoundCheckpoint]:
        """Return the first checkpoints, at least one, with about `most` bytes of new chunks."""
        seen, total = set[bytes](), 0.0
        for number, found in enumerate(page):
            for _, _, size, levels in self._entries(found):
                digests = split_digests(b"".join(levels))
                new = [one for one in digests if one not in self.cache.chunks and one not in seen]
                seen.update(new)
                total += size * len(new) / max(len(digests), 1)
            if number and total > most:
                return page[:number]
        return page

    def _entries(self, found: FoundCheckpoint) -> list[Entry]:
        """The values of a checkpoint and of its writes; none, if reading them raises an error."""
        try:
            with CorruptionContext(self.thread_id, self.keys.timeline, found.record.place):
                entries = [entry for _, entry in found.record.entries()]
                entries += [write.entry for write in self.writes(found.writes)]
                for entry in entries:
                    split_digests(b"".join(entry.levels))
        except CorruptThreadError:  # told by whoever reads the checkpoint
            return []
        return entries

    def writes(self, rows: Iterable[bytes]) -> list[Write]:
        """The writes of some rows, in order."""
        found: list[Write] = []
        for row in rows:
            with CorruptionContext(self.thread_id, self.keys.writes, row):
                found += parse_writes_row(row)
        # What is forged may have no order.
        with CorruptionContext(self.thread_id, self.keys.writes, b""):
            return sorted(found)

    def _value_and_tree(
        self,
        namespace: str,
        checkpoint_id: str,
        entry: Entry,
        before: ChunkTree | None = None,
    ) -> tuple[Any, ChunkTree | None]:
        try:
            typed, tree = load_entry(entry, self.cache.chunks, before)
            return load_value(self.serde, typed), tree
        except Exception as error:  # a `CorruptionContext` takes longer
            if isinstance(error, LookupError):
                self.caches.forget(self.thread_id)  # so that it is read anew when it is repaired
            raise_corruption(error, self.thread_id, self.keys.chunks, (namespace, checkpoint_id))
            raise


class History:
    """What one channel wrote, newest first, and the stored value that it started from."""

    def __init__(self) -> None:
        self.writes: list[PendingWrite] = []
        self.seeded = False
        self.seed: Any = None

    def result(self) -> DeltaChannelHistory:
        history: DeltaChannelHistory = {"writes": self.writes[::-1]}
        if self.seeded:
            history["seed"] = self.seed
        return history


def add_ancestor(
    histories: Mapping[str, History], reply: ThreadReader, ref: CheckpointRef, ancestor: Ancestor
) -> None:
    """Add what an ancestor has: its writes, which come before the values that end the search."""
    for write in reversed(ancestor.writes):
        history = histories[write.channel]
        if not history.seeded:
            value = reply.value(ref.namespace, ref.checkpoint_id, write.entry)
            history.writes.append((write.task_id, write.channel, value))
    for channel, entry in ancestor.seeds:
        history = histories[channel]
        history.seeded = True
        history.seed = reply.value(ref.namespace, ref.checkpoint_id, entry)
