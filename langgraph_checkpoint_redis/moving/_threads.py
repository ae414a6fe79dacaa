"""Bring one thread to a saver: find what is missing, copy it, and compare everything.

The thread comes as items that can be read again: first to compare with the target, then to copy,
and at last to compare all of it. None of these keeps more than one checkpoint in memory.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from langgraph.checkpoint.base import WRITES_IDX_MAP, ChannelVersions
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from langgraph_checkpoint_redis._admin import Admin
from langgraph_checkpoint_redis.aio import AsyncRedisSaver
from langgraph_checkpoint_redis.errors import ConfigError, DifferentThreadError, ThreadNotFoundError
from langgraph_checkpoint_redis.saver import RedisSaver

from ._reports import Outcome
from ._stores import Item, Place, Store, Write, config

Items = Callable[[], Iterator[Item]]
# Of a checkpoint: each channel's version, and whether it has a value.
Shape = Mapping[str, tuple[str | int | float, bool]]

PARENTS = 100  # checkpoints whose shapes are remembered, to say what is new in their children


def check_target(target: Store) -> None:
    """Refuse a target that would not keep everything."""
    if isinstance(target.saver, RedisSaver | AsyncRedisSaver):
        admin = Admin(target.saver)
        if admin.keep_last is not None:
            raise ConfigError("target must keep all checkpoints: make it without keep_last")
        if admin.refuses_conflicts:
            raise ConfigError('target must accept forks: make it without on_conflict="error"')


def bring(items: Items, target: Store, thread_id: str) -> tuple[Outcome, int]:
    """Copy a thread, or its missing part, and check that the target reads the same.

    Raises:
        ThreadNotFoundError: There are no items.
        DifferentThreadError: The target has something else under this id, before or afterwards.
    """
    there = frozenset(target.places(thread_id))
    lacking = _find_lacking(items, target, thread_id, there) if there else None
    if lacking is None or lacking:
        _copy(items, target, thread_id, lacking)
        count = _verify(items, target, thread_id)
        return "copied", count
    return "present", len(there)


def _find_lacking(
    items: Items, target: Store, thread_id: str, there: frozenset[Place]
) -> frozenset[Place]:
    """Return the checkpoints that the target lacks, or lacks writes of."""
    lacking, seen = set[Place](), set[Place]()
    differs = _Comparison(target, thread_id, there)
    for item in items():
        seen.add(item.place)
        found = target.item(thread_id, item.place, there) if item.place in there else None
        if found is None:
            lacking.add(item.place)
        elif difference := differs.checkpoints(item, found):
            raise DifferentThreadError(thread_id, difference)
        elif differs.writes(item, found):
            if not differs.has_writes_of(found, item):
                raise DifferentThreadError(thread_id, f"{_name(item.place)} has other writes")
            lacking.add(item.place)
    if more := there - seen:
        raise DifferentThreadError(thread_id, f"{_name(min(more))} is on the target only")
    return frozenset(lacking)


def _copy(items: Items, target: Store, thread_id: str, wanted: frozenset[Place] | None) -> None:
    """Put checkpoints, the oldest of each namespace first; `wanted` is `None` for all."""
    shapes = OrderedDict[Place, Shape]()
    for item in items():
        shape = _shape(item)
        if wanted is None or item.place in wanted:
            parent = Place(item.place.namespace, item.parent_id)
            if item.parent_id and parent not in shapes:
                found = target.item(thread_id, parent, frozenset())
                shapes[parent] = _shape(found) if found else {}
            before = shapes.get(parent, {})
            new_versions = _new_versions(shape, before, by_version=target.by_version)
            _put(item, target, thread_id, new_versions)
        shapes[item.place] = shape
        while len(shapes) > PARENTS:
            shapes.popitem(last=False)


def _shape(item: Item) -> Shape:
    values = item.checkpoint["channel_values"]
    versions = item.checkpoint["channel_versions"]
    return {channel: (version, channel in values) for channel, version in versions.items()}


def _new_versions(shape: Shape, parent: Shape, *, by_version: bool) -> ChannelVersions:
    """Return the versions of channels that differ from the parent, or have a value only in one.

    For a saver that keeps values by version, a channel with a value only in the parent is left out:
    the saver would forget the value of the parent.
    """
    return {
        channel: version
        for channel, (version, has_value) in shape.items()
        if parent.get(channel) not in ((version, has_value), (version, has_value or by_version))
    }


def _put(item: Item, target: Store, thread_id: str, new_versions: ChannelVersions) -> None:
    """Put a checkpoint and then its writes: some savers reset them with a checkpoint."""
    namespace, checkpoint_id = item.place
    target.put(thread_id, item, new_versions)
    at = config(thread_id, namespace, checkpoint_id)
    for task_id, writes in _by_task(item.writes).items():
        pairs = [(write.channel, write.value) for write in _order_by_number(writes)]
        target.saver.put_writes(at, pairs, task_id, writes[0].path)


def _by_task(writes: Sequence[Write]) -> Mapping[str, Sequence[Write]]:
    tasks: dict[str, list[Write]] = {}
    for write in writes:
        tasks.setdefault(write.task_id, []).append(write)
    return tasks


def _order_by_number(writes: Sequence[Write]) -> Sequence[Write]:
    """Return a task's writes in an order in which each has its index as its position.

    Special writes have fixed indexes at any position, so they fill the gaps: a special write made
    each gap.
    """
    special = [write for write in writes if write.channel in WRITES_IDX_MAP]
    found: list[Write] = []
    for write in writes:
        if write.channel not in WRITES_IDX_MAP:
            gap = (write.number or 0) - len(found)
            found += [special.pop(0) for _ in range(min(gap, len(special)))]
            found.append(write)
    return [*found, *special]


def _verify(items: Items, target: Store, thread_id: str) -> int:
    """Compare all of a thread, and count its checkpoints."""
    there = frozenset(target.places(thread_id))
    differs, seen = _Comparison(target, thread_id, there), set[Place]()
    for item in items():
        seen.add(item.place)
        found = target.item(thread_id, item.place, there)
        if found is None:
            raise DifferentThreadError(thread_id, f"{_name(item.place)} is missing", copied=True)
        if difference := differs.checkpoints(item, found) or differs.writes(item, found):
            raise DifferentThreadError(thread_id, difference, copied=True)
    if not seen:
        raise ThreadNotFoundError(thread_id)
    if more := there - seen:
        only = f"{_name(min(more))} is on the target only"
        raise DifferentThreadError(thread_id, only, copied=True)
    return len(seen)


def _name(place: Place) -> str:
    namespace = f" of namespace {place.namespace!r}" if place.namespace else ""
    return f"checkpoint {place.checkpoint_id!r}{namespace}"


# Only writes, to compare: the serializers of savers may write the same for different values.
_COMPARED = JsonPlusSerializer(pickle_fallback=True)


class _Comparison:
    """Describes in words where two checkpoints differ as data; empty if they do not."""

    def __init__(self, target: Store, thread_id: str, there: frozenset[Place]) -> None:
        self._target, self._thread_id, self._there = target, thread_id, there

    def checkpoints(self, one: Item, other: Item) -> str:
        """Compare everything except the writes. The target cannot name a parent that it lacks."""
        parent = Place(one.place.namespace, one.parent_id)
        if other.parent_id != (one.parent_id if parent in self._there else ""):
            return f"{_name(one.place)} has another parent"
        for what, left, right in (
            ("value of channel", _values(one), self._own_values(one, other)),
            ("metadata", _without_old_writes(one.metadata, other.metadata), other.metadata),
            ("field", _fields(one), _fields(other)),
        ):
            for key in sorted({*left, *right}):
                if not (key in left and key in right and self._same(left[key], right[key])):
                    return f"{_name(one.place)} differs in {what} {key!r}"
        return ""

    def _own_values(self, one: Item, other: Item) -> Mapping[str, Any]:
        """Return the target's values, without values of the parent that only the target has.

        Most savers return the snapshot of a delta channel for as long as its version lasts. Savers
        that keep each checkpoint whole, as LangGraph's for SQLite does, return it once.
        """
        found = _values(other)
        if found.keys() <= _values(one).keys() or not other.parent_id:
            return found
        place = Place(other.place.namespace, other.parent_id)
        parent = self._target.item(self._thread_id, place, self._there)
        return {
            channel: value
            for channel, value in found.items()
            if channel in _values(one)
            or not (parent and self._is_of_parent(channel, value, other, parent))
        }

    def _is_of_parent(self, channel: str, value: Any, other: Item, parent: Item) -> bool:
        versions = [item.checkpoint["channel_versions"].get(channel) for item in (other, parent)]
        values = _values(parent)
        return (
            versions[0] == versions[1] and channel in values and self._same(value, values[channel])
        )

    def writes(self, one: Item, other: Item) -> str:
        """Compare the writes, and their order."""
        if len(one.writes) == len(other.writes) and all(
            map(self._same_write, one.writes, other.writes)
        ):
            return ""
        return f"{_name(one.place)} differs in its writes"

    def has_writes_of(self, one: Item, other: Item) -> bool:
        """Return whether all writes of one are among the other's."""
        left = [*other.writes]
        for write in one.writes:
            found = next((each for each in left if self._same_write(write, each)), None)
            if found is None:
                return False
            left.remove(found)
        return True

    def _same_write(self, one: Write, other: Write) -> bool:
        is_same = (one.task_id, one.channel) == (other.task_id, other.channel)
        return is_same and self._same(one.value, other.value)

    def _same(self, one: Any, other: Any) -> bool:
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            return one.keys() == other.keys() and all(
                self._same(one[key], other[key]) for key in one
            )
        if isinstance(one, list | tuple) and isinstance(other, list | tuple):
            return len(one) == len(other) and all(map(self._same, one, other))
        # Arrays do not compare to a bool, and objects without `__eq__` only to themselves.
        if (one == other) is True:
            return True
        return _COMPARED.dumps_typed(one) == _COMPARED.dumps_typed(other)


def plain(serde: SerializerProtocol) -> SerializerProtocol:
    """Return a serializer without its encryption, which never makes the same bytes twice."""
    return serde.serde if isinstance(serde, EncryptedSerializer) else serde


def _values(item: Item) -> Mapping[str, Any]:
    return item.checkpoint["channel_values"]


def _fields(item: Item) -> Mapping[str, Any]:
    """Return the fields of a checkpoint without its values and without empty ones.

    Some savers add or omit empty fields.
    """
    return {
        key: value for key, value in item.checkpoint.items() if key != "channel_values" and value
    }


def _without_old_writes(metadata: Mapping[str, Any], other: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return metadata without the `writes` of old LangGraph, which its savers leave out today."""
    return {key: value for key, value in metadata.items() if key != "writes" or key in other}
