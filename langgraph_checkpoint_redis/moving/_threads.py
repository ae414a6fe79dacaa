"""Bringing one thread to a saver: what is there already, what is lacking, and whether it is right.

The thread comes as items that can be read again: a first time to compare what the target has, then
to copy, and at last to compare all of it. None of these keeps more than one checkpoint in memory.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

from langgraph.checkpoint.base import WRITES_IDX_MAP, ChannelVersions, CheckpointMetadata
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
    """Refuse one that would not keep all that it is given."""
    if isinstance(target.saver, RedisSaver | AsyncRedisSaver):
        admin = Admin(target.saver)
        if admin.keep_last is not None:
            raise ConfigError("target must keep all checkpoints: make it without keep_last")
        if admin.refuses_conflicts:
            raise ConfigError('target must accept forks: make it without on_conflict="error"')


def bring(items: Items, target: Store, thread_id: str) -> tuple[Outcome, int]:
    """Copy a thread, or what is lacking of it, and make sure that the target reads it as it is.

    Raises:
        ThreadNotFoundError: There are no items.
        DifferentThreadError: The target has something else under this id, before or afterwards.
    """
    there = frozenset(target.places(thread_id))
    lacking = _lacking(items, target, thread_id, there) if there else None
    if lacking is None or lacking:
        _copy(items, target, thread_id, lacking)
        count = _verify(items, target, thread_id)
        return "copied", count
    return "present", len(there)


def _lacking(
    items: Items, target: Store, thread_id: str, there: frozenset[Place]
) -> frozenset[Place]:
    """The checkpoints that the target has not, or not with all their writes."""
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
    """The versions of channels that have others than in the parent, or a value only here or there.

    A saver that keeps values by version is not told of a value that is only in the parent: it would
    forget the one that the parent has.
    """
    return {
        channel: version
        for channel, (version, has_value) in shape.items()
        if parent.get(channel) not in ((version, has_value), (version, has_value or by_version))
    }


def _put(item: Item, target: Store, thread_id: str, new_versions: ChannelVersions) -> None:
    """Put a checkpoint and then its writes: some savers reset them with a checkpoint."""
    namespace, checkpoint_id = item.place
    target.saver.put(
        config(thread_id, namespace, item.parent_id),
        item.checkpoint,
        cast("CheckpointMetadata", item.metadata),
        new_versions,
    )
    at = config(thread_id, namespace, checkpoint_id)
    for task_id, writes in _by_task(item.writes).items():
        pairs = [(write.channel, write.value) for write in _numbered(writes)]
        target.saver.put_writes(at, pairs, task_id, writes[0].path)


def _by_task(writes: Sequence[Write]) -> Mapping[str, Sequence[Write]]:
    tasks: dict[str, list[Write]] = {}
    for write in writes:
        tasks.setdefault(write.task_id, []).append(write)
    return tasks


def _numbered(writes: Sequence[Write]) -> Sequence[Write]:
    """A task's writes such that each has its index as its position.

    Special ones have indexes of their own wherever they are, so they fill the gaps: it was one of
    them that made a gap.
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


# Only ever for writing, to compare; savers' own may make the same of what is not.
_COMPARED = JsonPlusSerializer(pickle_fallback=True)


class _Comparison:
    """Says where two checkpoints differ as data, in words; empty if they do not."""

    def __init__(self, target: Store, thread_id: str, there: frozenset[Place]) -> None:
        self._target, self._thread_id, self._there = target, thread_id, there

    def checkpoints(self, one: Item, other: Item) -> str:
        """Compare all but the writes; a parent that the target has not (yet) cannot be named."""
        parent = Place(one.place.namespace, one.parent_id)
        if other.parent_id != (one.parent_id if parent in self._there else ""):
            return f"{_name(one.place)} has another parent"
        for what, left, right in (
            ("value of channel", _values(one), self._own_values(one, other)),
            ("metadata", _kept(one.metadata, other.metadata), other.metadata),
            ("field", _fields(one), _fields(other)),
        ):
            for key in sorted({*left, *right}):
                if not (key in left and key in right and self._same(left[key], right[key])):
                    return f"{_name(one.place)} differs in {what} {key!r}"
        return ""

    def _own_values(self, one: Item, other: Item) -> Mapping[str, Any]:
        """The target's values, but for those that only it has, of the checkpoint's parent.

        Most savers return the snapshot of a delta channel for as long as its version lasts; those
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
        """Whether all writes of one are among the other's."""
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
    """A serializer without its encryption, which never makes the same bytes twice."""
    return serde.serde if isinstance(serde, EncryptedSerializer) else serde


def _values(item: Item) -> Mapping[str, Any]:
    return item.checkpoint["channel_values"]


def _fields(item: Item) -> Mapping[str, Any]:
    """What a checkpoint has beside its values; some savers add or leave out what is empty."""
    return {
        key: value for key, value in item.checkpoint.items() if key != "channel_values" and value
    }


def _kept(metadata: Mapping[str, Any], other: Mapping[str, Any]) -> Mapping[str, Any]:
    """Metadata but for the `writes` of old LangGraph, which its savers of today leave out."""
    return {key: value for key, value in metadata.items() if key != "writes" or key in other}
