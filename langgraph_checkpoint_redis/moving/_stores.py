"""Stores: the threads of a saver, their checkpoints, and everything of a checkpoint.

LangGraph's interface is enough to move threads, and `Store` needs nothing else. It has two gaps. It
lists checkpoints with all their values only, which is slow, or takes much memory, where just the
ids are needed. And it has the order of pending writes, but neither their indexes nor the paths of
their tasks. Subclasses read both from where the known savers keep them.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from itertools import groupby
from typing import Any, NamedTuple, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    PendingWrite,
    writes_sort_key,
)

from langgraph_checkpoint_redis._admin import Admin
from langgraph_checkpoint_redis.aio import AsyncRedisSaver
from langgraph_checkpoint_redis.errors import ConfigError, RedisSaverError
from langgraph_checkpoint_redis.saver import RedisSaver

SENDS_ARE_WRITES = 4  # the version of checkpoints from which on tasks read sends as any writes

AnySaver = BaseCheckpointSaver[Any]


class Place(NamedTuple):
    """A checkpoint in its thread. Sorted places have the oldest of each namespace first."""

    namespace: str
    checkpoint_id: str


class Write(NamedTuple):
    """A pending write; `number` is its index in the writes of its task, if that is known."""

    path: str
    task_id: str
    number: int | None
    channel: str
    value: Any


# Writes are sorted by it, see `writes_sort_key`.
Key = tuple[str, str, int]


@dataclass(frozen=True)
class Item:
    """A checkpoint with everything; `parent_id` is empty if the parent is not in the thread.

    One that `is_cut_off` is there only because newer ones are rebuilt from it.
    """

    place: Place
    parent_id: str
    checkpoint: Checkpoint
    metadata: Mapping[str, Any]
    writes: Sequence[Write]
    is_cut_off: bool = False


class ChangedError(RedisSaverError):
    """A thread was written to while it was read."""


def config(thread_id: str, namespace: str, checkpoint_id: str = "") -> RunnableConfig:
    """Return the config of a checkpoint, or of a namespace."""
    place = {"thread_id": thread_id, "checkpoint_ns": namespace}
    return {"configurable": place | ({"checkpoint_id": checkpoint_id} if checkpoint_id else {})}


class Store:
    """The threads of any saver, by LangGraph's interface alone.

    Attributes:
        by_version: Whether a value may be kept by its channel and version, for all checkpoints.
    """

    by_version = True

    def __init__(self, saver: Any) -> None:
        self.saver = saver

    def thread_ids(self) -> Sequence[str]:
        """Return the ids of all threads."""
        found = self.saver.list(None)
        return [*dict.fromkeys(each.config["configurable"]["thread_id"] for each in found)]

    def places(self, thread_id: str) -> list[Place]:
        """Return all checkpoints of a thread, in order."""
        found = self.saver.list({"configurable": {"thread_id": thread_id}})
        return sorted(_place(each) for each in found)

    def items(self, thread_id: str) -> Iterator[Item]:
        """Yield all of a thread, in order. One checkpoint at a time is in memory."""
        places = self.places(thread_id)
        there = frozenset(places)
        for place in places:
            item = self.item(thread_id, place, there)
            if item is None:
                raise ChangedError(f"checkpoint {place} went away while its thread was read")
            yield item

    def put(self, thread_id: str, item: Item, new_versions: ChannelVersions) -> None:
        """Put a checkpoint, without its writes."""
        at = config(thread_id, item.place.namespace, item.parent_id)
        metadata = cast("CheckpointMetadata", item.metadata)
        self.saver.put(at, item.checkpoint, metadata, new_versions)

    def item(self, thread_id: str, place: Place, there: frozenset[Place]) -> Item | None:
        """Read a checkpoint of a thread; `there` are all of its checkpoints."""
        found = self.saver.get_tuple(config(thread_id, *place))
        if found is None:
            return None
        parent = found.parent_config or {}
        parent_id = parent.get("configurable", {}).get("checkpoint_id") or ""
        return Item(
            place,
            parent_id if Place(place.namespace, parent_id) in there else "",
            found.checkpoint,
            found.metadata,
            self._writes(thread_id, place, found.pending_writes) if found.pending_writes else [],
        )

    def _writes(self, thread_id: str, place: Place, pending: Sequence[PendingWrite]) -> list[Write]:
        """Return pending writes in their order. Paths are unknown: made-up ones keep the order."""
        tasks = [task_id for task_id, _ in groupby(task_id for task_id, _, _ in pending)]
        if tasks == sorted(set(tasks)):
            return [Write("", task_id, None, *rest) for task_id, *rest in pending]
        # Before all of LangGraph's own, which begin with "~_", but for the empty one.
        paths = {task_id: f"~{number:08}" for number, task_id in enumerate(dict.fromkeys(tasks))}
        return [Write(paths[task_id], task_id, None, *rest) for task_id, *rest in pending]


def _place(found: CheckpointTuple) -> Place:
    at = found.config["configurable"]
    return Place(at.get("checkpoint_ns", ""), at["checkpoint_id"])


class KeyStore(Store):
    """The threads of a saver that can be asked for paths and indexes of pending writes."""

    def _writes(self, thread_id: str, place: Place, pending: Sequence[PendingWrite]) -> list[Write]:
        keys = sorted(self._keys(thread_id, place))
        if [key[1] for key in keys] != [task_id for task_id, *_ in pending]:
            raise ChangedError(f"writes to checkpoint {place} came while its thread was read")
        return [Write(*key, *rest) for key, (_, *rest) in zip(keys, pending, strict=True)]

    def _keys(self, thread_id: str, place: Place) -> Iterable[Key]:
        """Return the keys that pending writes are sorted by."""
        raise NotImplementedError


# Ours


class OwnStore(KeyStore):
    """The threads of this package's savers."""

    by_version = False

    def __init__(self, saver: RedisSaver | AsyncRedisSaver) -> None:
        super().__init__(saver)
        self._admin = Admin(saver)

    def thread_ids(self) -> Sequence[str]:
        return self._admin.list_threads()

    def places(self, thread_id: str) -> list[Place]:
        return [*self._places(thread_id)]

    def _places(self, thread_id: str) -> dict[Place, bool]:
        """Return all checkpoints of a thread, in order, and whether each was cut off."""
        pages = self._admin.read_checkpoints(thread_id, takes_all=True)
        found = {Place(*stored.place): stored.is_cut_off for page in pages for stored in page}
        return dict(sorted(found.items()))

    def items(self, thread_id: str) -> Iterator[Item]:
        cut_off = self._places(thread_id)
        for item in super().items(thread_id):
            yield replace(item, is_cut_off=cut_off.get(item.place, False))

    def put(self, thread_id: str, item: Item, new_versions: ChannelVersions) -> None:
        if not item.is_cut_off:
            super().put(thread_id, item, new_versions)
            return
        at = config(thread_id, item.place.namespace, item.parent_id)
        metadata = cast("CheckpointMetadata", item.metadata)
        self._admin.put_cut_off(at, item.checkpoint, metadata, new_versions)

    def _keys(self, thread_id: str, place: Place) -> Iterable[Key]:
        (writes,) = self._admin.read_writes(thread_id, [place])
        return [writes_sort_key(write.path, write.task_id, write.number) for write in writes]


# LangGraph's


class MemoryStore(KeyStore):
    """The threads of `InMemorySaver`, in its dictionaries."""

    def thread_ids(self) -> Sequence[str]:
        return [thread_id for thread_id in [*self.saver.storage] if self.places(thread_id)]

    def places(self, thread_id: str) -> list[Place]:
        namespaces = self.saver.storage.get(thread_id, {})
        return sorted(Place(ns, id_) for ns, stored in [*namespaces.items()] for id_ in [*stored])

    def _keys(self, thread_id: str, place: Place) -> Iterable[Key]:
        stored = self.saver.writes.get((thread_id, *place), {})
        return [writes_sort_key(row[3], *key) for key, row in [*stored.items()]]


class TableStore(KeyStore):
    """The threads of a saver that keeps them in tables."""

    WRITES = ""  # the table of writes

    def thread_ids(self) -> Sequence[str]:
        rows = self._select("SELECT DISTINCT thread_id FROM checkpoints")
        return [thread_id for (thread_id,) in rows]

    def places(self, thread_id: str) -> list[Place]:
        query = "SELECT checkpoint_ns, checkpoint_id FROM checkpoints WHERE thread_id = ?"
        return sorted(Place(*row) for row in self._select(query, thread_id))

    def _keys(self, thread_id: str, place: Place) -> Iterable[Key]:
        rows = self._select(
            f"SELECT task_path, task_id, idx FROM {self.WRITES} "  # noqa: S608 - our own constant
            "WHERE thread_id = ? AND checkpoint_ns = ? AND checkpoint_id = ?",
            *(thread_id, *place),
        )
        return [writes_sort_key(*row) for row in rows]

    def _select(self, query: str, *parameters: str) -> list[tuple[Any, ...]]:
        raise NotImplementedError


class SqliteStore(TableStore):
    """The threads of `SqliteSaver`."""

    WRITES = "writes"

    def _select(self, query: str, *parameters: str) -> list[tuple[Any, ...]]:
        with self.saver.cursor(transaction=False) as cursor:
            return [*cursor.execute(query, parameters)]


class PostgresStore(TableStore):
    """The threads of `PostgresSaver`."""

    WRITES = "checkpoint_writes"

    def _select(self, query: str, *parameters: str) -> list[tuple[Any, ...]]:
        with self.saver._cursor() as cursor:  # noqa: SLF001 - its lock and its connection
            found = cursor.execute(query.replace("?", "%s"), parameters)
            return [tuple(row.values()) for row in found]


# Redis' own


class VendorStore(Store):
    """The threads of langgraph-checkpoint-redis, in its search indexes.

    It returns pending writes in no certain order, so they are read here. Two fields that it adds to
    checkpoints are left out: how they are stored, and the sends of their parent, which LangGraph
    reads in old checkpoints only.
    """

    PAGE = 1000

    def thread_ids(self) -> Sequence[str]:
        rows = self._search(self.saver.checkpoints_index, {}, "thread_id")
        return [*dict.fromkeys(_restore_empty(thread_id) for (thread_id,) in rows)]

    def places(self, thread_id: str) -> list[Place]:
        fields = ("thread_id", "checkpoint_ns", "checkpoint_id")
        rows = self._search(self.saver.checkpoints_index, {"thread_id": thread_id}, *fields)
        # Tags are compared whatever their case, and an index is no snapshot.
        return sorted(
            {Place(_restore_empty(ns), id_) for found, ns, id_ in rows if found == thread_id}
        )

    def item(self, thread_id: str, place: Place, there: frozenset[Place]) -> Item | None:
        item = super().item(thread_id, place, there)
        if item is None:
            return None
        added = ("type", "pending_sends") if item.checkpoint["v"] >= SENDS_ARE_WRITES else ("type",)
        kept = {name: value for name, value in item.checkpoint.items() if name not in added}
        return replace(item, checkpoint=cast("Checkpoint", kept))

    def _writes(self, thread_id: str, place: Place, pending: Sequence[PendingWrite]) -> list[Write]:
        at = {
            "thread_id": thread_id,
            "checkpoint_ns": place.namespace or "__empty__",
            "checkpoint_id": place.checkpoint_id,
        }
        fields = ("$.task_path", "task_id", "idx", "channel", "type", "$.blob")
        rows = self._search(self.saver.checkpoint_writes_index, at, *fields)
        stored = {
            writes_sort_key(path, task_id, int(number)): rest
            for path, task_id, number, *rest in rows
        }
        if len(stored) != len(pending):
            raise ChangedError(f"writes to checkpoint {place} came while its thread was read")
        return [
            Write(*key, channel, self._value(type_, blob))
            for key, (channel, type_, blob) in sorted(stored.items())
        ]

    def _value(self, type_: str, blob: str) -> Any:
        return self.saver.serde.loads_typed((type_, b64decode(blob)))

    def _search(self, index: Any, tags: Mapping[str, str], *fields: str) -> list[list[str]]:
        """Return these fields of all documents that have these tags."""
        # Installed with the saver, and slow to import.
        query, filters = import_module("redisvl.query"), import_module("redisvl.query.filter")
        wanted = filters.FilterExpression("*")
        for name, value in tags.items():
            wanted &= filters.Tag(name) == value
        asked = query.FilterQuery(filter_expression=wanted, return_fields=[*fields])
        pages = index.paginate(asked, page_size=self.PAGE)
        return [[str(each.get(name, "")) for name in fields] for page in pages for each in page]


def _restore_empty(text: str) -> str:
    return "" if text == "__empty__" else text


# Stores by the classes of savers

_STORES: Mapping[str, type[Store]] = {
    "langgraph.checkpoint.memory.InMemorySaver": MemoryStore,
    "langgraph.checkpoint.sqlite.SqliteSaver": SqliteStore,
    "langgraph.checkpoint.postgres.PostgresSaver": PostgresStore,
    "langgraph.checkpoint.redis.RedisSaver": VendorStore,
    f"{RedisSaver.__module__}.{RedisSaver.__qualname__}": OwnStore,
    f"{AsyncRedisSaver.__module__}.{AsyncRedisSaver.__qualname__}": OwnStore,
}


def store(name: str, saver: AnySaver) -> Store:
    """Return the store of a saver, by the name of its class. No other library is imported."""
    if not isinstance(saver, BaseCheckpointSaver):
        raise ConfigError(f"{name} must be a checkpoint saver of LangGraph, not {saver!r:.200}")
    classes = (f"{each.__module__}.{each.__qualname__}" for each in type(saver).__mro__)
    return next((_STORES[each] for each in classes if each in _STORES), Store)(saver)
