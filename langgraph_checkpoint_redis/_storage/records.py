"""Rows: checkpoints and the writes of tasks as they are stored, and back.

No other module knows their layout.

A checkpoint is stored as two msgpack arrays, one behind the other. Scripts read the first, the
head:

    [format, parent id, run id, root id, delta channels, [channel, version, entry, ...]]

and never look into the second, the tail, which holds all that went through the serializer:

    [checkpoint type, checkpoint bytes, metadata type, metadata bytes, thread id was in metadata]

The writes of a task are one array: [format, [task path, index, channel, entry, index, ...], ...].
A checksum ends each row, see `checksums.py`: scripts put it behind checkpoints, this package behind
writes.

`values.py` has the layout of entries. Text and bytes are both msgpack raw strings: the decoder in
Redis knows no other kind. What is absent is `false`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, cast

from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
)
from langgraph.checkpoint.serde.base import SerializerProtocol

from langgraph_checkpoint_redis.errors import UnknownFormatError

from .checks import check_seen_version, checked_names, is_unicode
from .checksums import checksum_of, strip_checksum
from .encryption import load_value
from .packing import _unpacker, pack, unpack, unpack_all
from .refs import CheckpointRef
from .values import Entry, Value, serialize
from .versions import (
    LONG_VERSION,
    Version,
    pack_version,
    restore_version,
    shorten_text,
    shorten_version,
    unpack_version,
)

FORMAT = 2
READABLE = (1, FORMAT)
CHANNELS = 5  # which field of a head has the channels
# Entries that the put script replaces by the parent's, see _scripts/put.lua.
KEPT_IF_ANY, KEPT = 0, 1


class Draft(NamedTuple):
    """A checkpoint to be stored, behind its parent, with the versions that are new in it."""

    parent: CheckpointRef
    checkpoint: Checkpoint
    metadata: CheckpointMetadata
    run: str
    new_versions: ChannelVersions
    is_cut_off: bool = False


def pack_head(draft: Draft, values: Mapping[str, Value]) -> bytes:
    """The part of a checkpoint that scripts read, with `values` for those of its channels."""
    ends: list[list[Any]] = [[]] if draft.is_cut_off else []
    return pack(
        [
            FORMAT,
            draft.parent.checkpoint_id,
            draft.run or False,
            (draft.parent.namespace and root_of(draft.metadata)) or False,
            list_delta_channels(draft) or False,
            _channels(draft, values),
            *ends,
        ]
    )


def root_of(metadata: CheckpointMetadata) -> str:
    """Return the root checkpoint that made the call; empty for what LangGraph does not say."""
    parents: object = metadata.get("parents")
    root = parents.get("") if isinstance(parents, dict) else None
    return root if isinstance(root, str) and is_unicode(root) else ""


def list_delta_channels(draft: Draft) -> list[str]:
    """Delta channels written since they were stored; those without a version never were."""
    counters: object = draft.metadata.get("counters_since_delta_snapshot")
    versions = draft.checkpoint["channel_versions"]
    return [each for each in counters if each in versions] if isinstance(counters, dict) else []


def _channels(draft: Draft, values: Mapping[str, Value]) -> list[Any]:
    found: list[Any] = []
    for channel, version in draft.checkpoint["channel_versions"].items():
        if channel in values:
            entry: Any = values[channel].entry.stored()
        elif channel in draft.new_versions:
            entry = False
        else:
            entry = KEPT if channel in draft.checkpoint["channel_values"] else KEPT_IF_ANY
        found += channel, pack_version(version), entry
    return found


def pack_tail(serde: SerializerProtocol, draft: Draft) -> bytes:
    """The serialized part of a checkpoint. A thread id in the metadata is left to the reader."""
    stored: dict[str, Any] = {**draft.metadata}
    own: object = stored.get("thread_id")
    own_thread = type(own) is str and own == draft.parent.thread_id
    if own_thread:
        del stored["thread_id"]
    lean = _lean(draft.checkpoint)
    return pack([*serialize(serde, lean), *serialize(serde, stored), own_thread])


def _lean(checkpoint: Checkpoint) -> dict[str, Any]:
    """A checkpoint without what its head, its values and its key say already."""
    versions = checkpoint["channel_versions"]
    lean: dict[str, Any] = {**checkpoint}
    for name in ("id", "channel_values", "channel_versions"):
        lean.pop(name, None)
    if "versions_seen" in lean:
        lean["versions_seen"] = {
            node: {
                channel: None
                if (current := versions.get(channel, _ABSENT)) is version
                else _lean_seen(channel, version, current)
                for channel, version in seen.items()
            }
            for node, seen in lean["versions_seen"].items()
        }
    return lean


_ABSENT = object()


def _lean_seen(channel: str, version: Version | None, current: object) -> Any:
    """Return a version that a node has seen as it is stored: `None` for the channel's current one.

    Equal numbers may be of other types, and zeros have signs.
    """
    if type(version) is str and channel in checked_names and len(version) < LONG_VERSION:
        return None if type(current) is str and current == version else shorten_text(version)
    check_seen_version(channel, version)
    if version is None:
        return ()  # as `None` stands for the current one
    is_current = type(current) is type(version) and current == version and version
    return None if is_current else shorten_version(version)


class CheckpointRow(NamedTuple):
    """A stored checkpoint, its serialized parts not yet read.

    `delta` are the delta channels that are rebuilt from ancestors, but for those with an entry.
    `run` is the run that made it, or false. One that was cut off is kept only because newer ones
    are rebuilt from it.
    """

    namespace: str
    checkpoint_id: str
    parent_id: str
    delta: list[bytes]
    channels: list[Any]
    tail: list[Any]
    run: bytes | bool = False
    is_cut_off: bool = False

    @property
    def place(self) -> tuple[str, str]:
        """Its namespace and its id."""
        return self.namespace, self.checkpoint_id

    def versions(self) -> ChannelVersions:
        """The version of each channel."""
        return {
            channel.decode(): restore_version(unpack_version(version))
            for channel, version, _ in _triples(self.channels)
        }

    def entries(self) -> Iterator[tuple[str, Entry]]:
        """Yield each channel that has a value, with its entry."""
        for channel, _, entry in _triples(self.channels):
            if entry:
                yield channel.decode(), Entry.parse(entry)

    def metadata(self, serde: SerializerProtocol, thread_id: str) -> CheckpointMetadata:
        """The metadata, as it was put."""
        _, _, type_, data, own_thread = self.tail
        stored = load_value(serde, (type_.decode(), data))
        if own_thread:
            stored["thread_id"] = thread_id
        return cast("CheckpointMetadata", stored)

    def checkpoint(self, serde: SerializerProtocol, values: Mapping[str, Any]) -> Checkpoint:
        """The checkpoint, as it was put, with these values."""
        type_, data, *_ = self.tail
        lean = load_value(serde, (type_.decode(), data))
        versions = self.versions()
        for seen in lean.get("versions_seen", {}).values():
            for channel, version in seen.items():
                seen[channel] = (
                    versions.get(channel) if version is None else restore_version(version)
                )
        return cast(
            "Checkpoint",
            {
                **lean,
                "id": self.checkpoint_id,
                "channel_versions": versions,
                "channel_values": values,
            },
        )


def parse_checkpoint_row(row: bytes) -> CheckpointRow:
    """The checkpoint that a row of the timeline holds; some error, if it is damaged."""
    namespace, checkpoint_id, data = strip_checksum(row).split(b"\0", 2)
    head_, tail_ = _unpacker(data)
    _, parent, run, _, delta, channels, *ends = _check_format(head_)
    names = namespace.decode(), checkpoint_id.decode(), parent.decode()
    return CheckpointRow(*names, delta or [], channels, tail_, run, bool(ends))


class Write(NamedTuple):
    """A stored write, in the order that LangGraph applies writes in (`writes_sort_key`)."""

    path: str
    task_id: str
    number: int
    channel: str
    entry: Entry


def pack_writes_row(
    place: bytes, path: str, channels: Sequence[str], values: Sequence[Value]
) -> bytes:
    """The row of a task's writes; of several special ones to the same channel the last counts."""
    indexed = {
        WRITES_IDX_MAP.get(channel, index): (channel, value.entry.stored())
        for index, (channel, value) in enumerate(zip(channels, values, strict=True))
    }
    group: list[Any] = [path]
    for index, (channel, entry) in indexed.items():
        group += index, channel, entry
    content = place + b"\0" + pack([FORMAT, group])
    return content + checksum_of(content)


def parse_writes_row(row: bytes) -> Iterator[Write]:
    """The writes that a row of the writes holds; some error, if it is damaged."""
    _, _, task_id, data = strip_checksum(row).split(b"\0", 3)
    _, *task_groups = _check_format(unpack(data))
    for path, *group in task_groups:
        for index, channel, entry in _triples(group):
            yield Write(
                path.decode(), task_id.decode(), index, channel.decode(), Entry.parse(entry)
            )


def list_entries(row: bytes, *, is_checkpoint: bool) -> list[Entry]:
    """Return the values of a row; some error, if it is damaged."""
    if is_checkpoint:
        return [entry for _, entry in parse_checkpoint_row(row).entries()]
    return [write.entry for write in parse_writes_row(row)]


def name_row(row: bytes, *, is_checkpoint: bool) -> bytes:
    """Return what a row begins with: the names that tell it from other rows of its key."""
    count = 2 if is_checkpoint else 3
    return b"\0".join(strip_checksum(row).split(b"\0", count)[:count])


Serialized = tuple[str, bytes]


def replace_values(
    row: bytes,
    replace: Callable[[Entry], Entry],
    replace_serialized: Callable[[Serialized], Serialized],
    *,
    is_checkpoint: bool,
) -> bytes:
    """Return a row, without its checksum, with other values.

    `replace_serialized` is for what is not an entry: the checkpoint itself and its metadata.
    """

    def replace_all(flat: Sequence[Any]) -> list[Any]:
        found: list[Any] = []
        for name, version, entry in _triples(flat):
            found += name, version, entry and replace(Entry.parse(entry)).stored()
        return found

    name = name_row(row, is_checkpoint=is_checkpoint)
    data = unpack_all(strip_checksum(row)[len(name) + 1 :])
    if not is_checkpoint:
        [[format_, *groups]] = data
        return (
            name + b"\0" + pack([format_, *[[path, *replace_all(rest)] for path, *rest in groups]])
        )
    head, (type_, content, metadata_type, metadata, own_thread) = data
    head = [*head[:CHANNELS], replace_all(head[CHANNELS]), *head[CHANNELS + 1 :]]
    tail = [
        *replace_serialized((type_.decode(), content)),
        *replace_serialized((metadata_type.decode(), metadata)),
        own_thread,
    ]
    return name + b"\0" + pack(head) + pack(tail)


def _check_format(data: list[Any]) -> list[Any]:
    if data[0] not in READABLE:
        raise UnknownFormatError(data[0])
    return data


def _triples(flat: Sequence[Any]) -> Iterator[tuple[Any, Any, Any]]:
    return zip(flat[::3], flat[1::3], flat[2::3], strict=True)
