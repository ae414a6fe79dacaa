"""Replies of scripts that read, as what callers get: checkpoints, writes, histories of channels."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

from langgraph.checkpoint.base import CheckpointTuple, DeltaChannelHistory, PendingWrite
from langgraph.checkpoint.serde.base import SerializerProtocol

from langgraph_checkpoint_redis._runtime.interruptions import DECODING, raise_interruption
from langgraph_checkpoint_redis._storage import codec
from langgraph_checkpoint_redis._storage.checksums import Reading, tell_damage
from langgraph_checkpoint_redis._storage.chunking import Rope, references
from langgraph_checkpoint_redis._storage.codec import Record, Write
from langgraph_checkpoint_redis._storage.encryption import loaded
from langgraph_checkpoint_redis._storage.keys import ThreadKeys
from langgraph_checkpoint_redis.errors import CorruptThreadError

from . import clock
from .arguments import Place
from .cache import Known, KnownThreads


class Found(NamedTuple):
    """A checkpoint of a reply: whether its parent is there, and the rows of its writes."""

    record: Record
    has_parent: int
    writes: Sequence[bytes]


class Ancestor(NamedTuple):
    """What an ancestor has of the channels that are searched for: writes, and stored values."""

    writes: list[Write]
    seeds: list[tuple[str, list[Any]]]


class Reply(NamedTuple):
    """What a reply is about, and what to read it with: with what it brought, all is `known`."""

    serde: SerializerProtocol
    thread_id: str
    keys: ThreadKeys
    known: Known
    threads: KnownThreads

    def value(self, namespace: str, checkpoint_id: str, entry: Sequence[Any]) -> Any:
        return self._value_and_rope(namespace, checkpoint_id, entry)[0]

    def found(self, row: Sequence[Any]) -> Found:
        """A row of the reply, of which only the serialized parts are not yet read."""
        timeline_row, has_parent, writes = row
        with Reading(self.thread_id, self.keys.timeline, timeline_row):
            return Found(codec.record(timeline_row), has_parent, writes)

    def checkpoint_tuple(self, found: Found) -> CheckpointTuple:
        return self.tuple_and_ropes(found)[0]

    def tuple_and_ropes(self, found: Found) -> tuple[CheckpointTuple, dict[str, Rope]]:
        with Reading(self.thread_id, self.keys.timeline, found.record.place):
            return self._tuple_and_ropes(*found)

    def _tuple_and_ropes(
        self, record: Record, has_parent: int, writes: Sequence[bytes]
    ) -> tuple[CheckpointTuple, dict[str, Rope]]:
        namespace, checkpoint_id = record.place
        place = Place(self.thread_id, namespace, checkpoint_id)
        clock.see(checkpoint_id)
        values: dict[str, Any] = {}
        ropes: dict[str, Rope] = {}
        before = self.known.ropes_of(namespace)
        for channel, entry in record.entries():
            values[channel], rope = self._value_and_rope(
                namespace, checkpoint_id, entry, before.get(channel)
            )
            if rope:
                ropes[channel] = rope
        found = CheckpointTuple(
            place.config(checkpoint_id),
            record.checkpoint(self.serde, values),
            record.metadata(self.serde, self.thread_id),
            place.config(record.parent_id) if has_parent else None,
            [
                (write.task_id, write.channel, self.value(namespace, checkpoint_id, write.entry))
                for write in self.writes(writes)
            ],
        )
        return found, ropes

    def lacks(self, found: Found) -> bool:
        """Whether some chunk of a checkpoint is not known."""
        for entry in self._entries(found):
            try:
                pieces = codec.pieces_of(entry, self.known.chunks)
            except DECODING as error:
                raise_interruption(error)
                return True
            if not self.known.chunks.keys() >= {*pieces}:
                return True
        return False

    def digests(self, page: Iterable[Found]) -> dict[int, dict[bytes, None]]:
        """What the values of checkpoints refer to, by level, each once."""
        return _by_level(chain.from_iterable(map(self._entries, page)))

    def ancestor(
        self, writes: Iterable[bytes], seeds: Sequence[bytes], searched: Collection[str]
    ) -> Ancestor:
        """Read the rows of an ancestor's writes, and its values."""
        return Ancestor(
            [write for write in self.writes(writes) if write.channel in searched],
            [
                (channel.decode(), codec.entry_of(entry))
                for channel, entry in zip(seeds[::2], seeds[1::2], strict=True)
            ],
        )

    def digests_of(self, ancestors: Iterable[Ancestor]) -> dict[int, dict[bytes, None]]:
        """Return what the values of ancestors refer to, by level, each once."""
        entries: list[list[Any]] = []
        for writes, seeds in ancestors:
            entries += [write.entry for write in writes]
            entries += [entry for _, entry in seeds]
        with Reading(self.thread_id, self.keys.writes, b""):  # what is forged may be no digests
            return _by_level(entries)

    def up_to(self, most: int, page: Sequence[Found]) -> Sequence[Found]:
        """The first of some checkpoints, at least one, with about so many bytes that are new."""
        seen, total = set[bytes](), 0.0
        for number, found in enumerate(page):
            for _, _, size, *levels in filter(_is_rope, self._entries(found)):
                digests = references(b"".join(levels))
                new = [one for one in digests if one not in self.known.chunks and one not in seen]
                seen.update(new)
                total += size * len(new) / max(len(digests), 1)
            if number and total > most:
                return page[:number]
        return page

    def _entries(self, found: Found) -> list[list[Any]]:
        """The values of a checkpoint and of its writes; none, if reading them raises an error."""
        try:
            with Reading(self.thread_id, self.keys.timeline, found.record.place):
                entries = [entry for _, entry in found.record.entries()]
                entries += [write.entry for write in self.writes(found.writes)]
                for entry in entries:
                    references(b"".join(entry[3:]))
        except CorruptThreadError:  # told by whoever reads the checkpoint
            return []
        return entries

    def writes(self, rows: Iterable[bytes]) -> list[Write]:
        """The writes of some rows, in order."""
        found: list[Write] = []
        for row in rows:
            with Reading(self.thread_id, self.keys.writes, row):
                found += codec.stored_writes(row)
        with Reading(self.thread_id, self.keys.writes, b""):  # what is forged may have no order
            return sorted(found)

    def _value_and_rope(
        self, namespace: str, checkpoint_id: str, entry: Sequence[Any], before: Rope | None = None
    ) -> tuple[Any, Rope | None]:
        try:
            typed, rope = codec.typed(entry, self.known.chunks, before)
            return loaded(self.serde, typed), rope
        except Exception as error:  # a block of `Reading` takes longer
            if isinstance(error, LookupError):
                self.threads.forget(self.thread_id)  # so that it is read anew when it is repaired
            tell_damage(error, self.thread_id, self.keys.chunks, (namespace, checkpoint_id))
            raise


def _by_level(entries: Iterable[Sequence[Any]]) -> dict[int, dict[bytes, None]]:
    """Return the digests of some values by level, each once."""
    found: dict[int, dict[bytes, None]] = {}
    for entry in entries:
        for level, digests in enumerate(entry[3:]):
            found.setdefault(level, {}).update(dict.fromkeys(references(digests)))
    return found


def _is_rope(entry: Sequence[Any]) -> bool:
    return len(entry) > 3  # noqa: PLR2004 - type, literal, size, levels


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
    histories: Mapping[str, History], reply: Reply, place: Place, ancestor: Ancestor
) -> None:
    """Add what an ancestor has: its writes, which come before the values that end the search."""
    for write in reversed(ancestor.writes):
        history = histories[write.channel]
        if not history.seeded:
            value = reply.value(place.namespace, place.checkpoint_id, write.entry)
            history.writes.append((write.task_id, write.channel, value))
    for channel, entry in ancestor.seeds:
        history = histories[channel]
        history.seeded = True
        history.seed = reply.value(place.namespace, place.checkpoint_id, entry)
