"""Checkpoints, values and writes as bytes, and back.

A checkpoint is stored as two msgpack arrays, one behind the other. Scripts read the first, the
head:

    [format, parent id, run id, root id, delta channels, [channel, version, entry, ...]]

and never look into the second, the tail, which holds all that went through the serializer:

    [checkpoint type, checkpoint bytes, metadata type, metadata bytes, thread id was in metadata]

Scripts put the seal behind them, see `_storage/checksums.py`.

A task's writes are one array: [format, [task path, index, channel, entry, index, ...], ...].

An entry is a value, [type, literal] or [type, literal, size, level 0, level 1, ...] as in
`chunking.py`; its type is empty for "msgpack". Text and bytes are both msgpack raw strings: the
decoder in Redis knows no other kind. What is absent is `false`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from random import random
from struct import iter_unpack
from typing import Any, NamedTuple, cast

import msgpack
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
)
from langgraph.checkpoint.serde.base import SerializerProtocol

from langgraph_checkpoint_redis._core import arguments
from langgraph_checkpoint_redis._core.arguments import Place, good_names
from langgraph_checkpoint_redis._runtime.interruptions import raise_interruption
from langgraph_checkpoint_redis.errors import ConfigError, UnknownFormatError

from .checksums import seal_of, unsealed
from .chunking import (
    DIGEST,
    FEW,
    LITERAL,
    TEXT_RATE,
    Chunks,
    Cut,
    Rope,
    cut,
    cut_text,
    is_large,
    is_name_of,
    join,
    references,
    rows_of,
    uncut,
)
from .compression import content_of
from .encryption import loaded

FORMAT = 2
READABLE = (1, FORMAT)

# Entries that the put script replaces by the parent's, see _scripts/put.lua.
KEPT_IF_ANY, KEPT = 0, 1

Version = str | int | float


def pack(data: object) -> bytes:
    """`data` as msgpack that Redis can read."""
    try:
        return msgpack.packb(data, use_bin_type=False)
    except UnicodeEncodeError as error:
        raise ConfigError(f"names must be valid Unicode: {error.object!r:.200}") from error


# Versions: LangGraph's 50 characters say two numbers.


def next_version(current: Version | None) -> Version:
    """The version after `current`, in LangGraph's own format, so that threads can move here.

    A random part keeps branches apart. Threads of savers that count in numbers go on in numbers:
    LangGraph compares the versions of a thread with each other.
    """
    if isinstance(current, int | float):
        return current + 1
    number = int(current.split(".")[0]) if current else 0
    return _version_text(number + 1, random())  # noqa: S311 - tells branches apart, no secret


# A checkpoint names the same few versions many times, and so does the next one: hence the caches.
# They have only text, since numbers can be equal and of other types, or have another sign.

LONG = 100  # characters of a version that is not worth a place there


@lru_cache(maxsize=10_000, typed=True)
def _version_text(number: int, fraction: float) -> str:
    return f"{number:032}.{fraction:016}"


def lean_version(version: Version) -> Any:
    """Return a version of LangGraph's format as its two numbers, others as they are."""
    return _lean_text(version) if type(version) is str and len(version) < LONG else version


def _packed_version(version: Version) -> bytes:
    return _packed_text(version) if type(version) is str and len(version) < LONG else pack(version)


@lru_cache(maxsize=10_000)
def _lean_text(version: str) -> Any:
    if not arguments.is_unicode(version):
        raise ConfigError(f"versions of channels must be valid Unicode: {version!r:.200}")
    if len(version) > 33 and version[32] == ".":  # noqa: PLR2004 - where LangGraph's dot is
        try:
            number, fraction = int(version[:32]), float(version[33:])
        except ValueError:
            return version
        # Minus zero equals zero, which is what the caches go by.
        is_lean = 0 <= number < 2**63 and (fraction or "-" not in version)
        if is_lean and _version_text(number, fraction) == version:
            return number, fraction
    return version


@lru_cache(maxsize=10_000)
def _packed_text(version: str) -> bytes:
    return pack(_lean_text(version))


def _unpacked_version(data: bytes) -> Any:
    return msgpack.unpackb(data, max_array_len=2, max_map_len=0, max_ext_len=0)


def full_version(lean: Any) -> Any:
    """Return the version that `lean_version` shortened."""
    if isinstance(lean, list | tuple):
        return _version_text(*lean) if lean else None
    return lean


# Values.


class Value(NamedTuple):
    """A serialized value: the serializer's type, and its bytes, cut."""

    type: str
    cut: Cut

    @property
    def entry(self) -> list[Any]:
        """The value as rows refer to it."""
        rope = self.cut.rope
        short = ["" if self.type == "msgpack" else self.type, rope.literal]
        return [*short, len(rope.data), *rope.levels] if rope.levels else short


def encode(
    serde: SerializerProtocol,
    value: object,
    before: Rope | None,
    known: Chunks,
    written: Rope | None = None,
    *,
    rate: int = TEXT_RATE,
) -> Value:
    """Serialize a value and cut it, as `cut` does, unless it was `written` just so before."""
    type_, data = serialized(serde, value)
    if written and written.data == data:
        return Value(type_, Cut(written, {}, {}))
    return Value(type_, cut_of(type_, data, before, known, rate))


_BYTES = frozenset(("bytes", "bytearray"))


def cut_of(
    type_: str, data: bytes, before: Rope | None, known: Chunks, rate: int = TEXT_RATE
) -> Cut:
    """Cut what a serializer wrote: bytes as a text, what is encrypted not at all."""
    if "+" in type_ and len(data) > LITERAL:
        return uncut(data)
    found = (cut_text if type_ in _BYTES else cut)(data, before, known, rate)
    if len(data) > FEW and is_large(found.rope) and not _can_be_joined(found, known):
        return uncut(data)
    return found


def _can_be_joined(found: Cut, known: Chunks) -> bool:
    """Return whether readers take a value as it was cut: it may repeat very few pieces."""
    rope, chunks = found.rope, {**known, **found.nodes, **found.pieces}
    try:
        join(len(rope.data), rope.literal, rope.levels, chunks)
    except LookupError:
        return False
    return True


def serialized(serde: SerializerProtocol, value: object) -> tuple[str, bytes]:
    """Return what a serializer writes: the name of the type, and bytes that stay as they are.

    Raises `ConfigError` for what could not be read back as it was written.
    """
    typed = serde.dumps_typed(value)
    if type(typed) is tuple and len(typed) == 2:  # noqa: PLR2004 - as the interface says
        type_, data = typed
        if type(type_) is str and type_ and type(data) is bytes:
            return type_, data
    return arguments.serialized(typed)


def typed(
    entry: Sequence[Any], chunks: Chunks, before: Rope | None = None
) -> tuple[tuple[str, bytes], Rope | None]:
    """What the serializer made of an entry's value, and its rope, unless it is a literal.

    The rope may be that of the value `before`. Raises what `join` does.
    """
    type_, literal, *rope = entry
    type_ = type_.decode() or "msgpack"
    if not rope:
        return (type_, literal), None
    size, *levels = rope
    if not (before and (before.literal, *before.levels) == (literal, *levels)):
        before = join(size, literal, levels, chunks)
    return (type_, before.data), before


def pieces_of(entry: Sequence[Any], chunks: Chunks) -> Sequence[bytes]:
    """The digests of all pieces of an entry's value; raises what `rows_of` does."""
    _, _, *rope = entry
    return rows_of(rope[1:], chunks)[0] if rope[1:] else ()


def children(nodes: Iterable[bytes], chunks: Chunks) -> dict[bytes, None]:
    """What nodes lead to, in order, as far as they are there and make sense."""
    found: dict[bytes, None] = {}
    for node in nodes:
        content = chunks.get(node, b"")
        if len(content) % DIGEST == 0:
            found.update(dict.fromkeys(references(content)))
    return found


# Checkpoints.


class Draft(NamedTuple):
    """A checkpoint to be stored, behind its parent, with the versions that are new in it."""

    parent: Place
    checkpoint: Checkpoint
    metadata: CheckpointMetadata
    run: str
    new_versions: ChannelVersions


def head(draft: Draft, values: Mapping[str, Value]) -> bytes:
    """The part of a checkpoint that scripts read, with `values` for those of its channels."""
    return pack(
        [
            FORMAT,
            draft.parent.checkpoint_id,
            draft.run or False,
            _root(draft) if draft.parent.namespace else False,
            _delta_channels(draft) or False,
            _channels(draft, values),
        ]
    )


def _root(draft: Draft) -> str | bool:
    """Return the root checkpoint that made the call, or `False` for what LangGraph does not say."""
    parents: object = draft.metadata.get("parents")
    root = parents.get("") if isinstance(parents, dict) else None
    return root if isinstance(root, str) and arguments.is_unicode(root) else False


def _delta_channels(draft: Draft) -> list[str]:
    """Delta channels written since they were stored; those without a version never were."""
    counters: object = draft.metadata.get("counters_since_delta_snapshot")
    versions = draft.checkpoint["channel_versions"]
    return [each for each in counters if each in versions] if isinstance(counters, dict) else []


def _channels(draft: Draft, values: Mapping[str, Value]) -> list[Any]:
    found: list[Any] = []
    for channel, version in draft.checkpoint["channel_versions"].items():
        if channel in values:
            entry: Any = values[channel].entry
        elif channel in draft.new_versions:
            entry = False
        else:
            entry = KEPT if channel in draft.checkpoint["channel_values"] else KEPT_IF_ANY
        found += channel, _packed_version(version), entry
    return found


def tail(serde: SerializerProtocol, draft: Draft) -> bytes:
    """The serialized part of a checkpoint. A thread id in the metadata is left to the reader."""
    stored: dict[str, Any] = {**draft.metadata}
    own: object = stored.get("thread_id")
    own_thread = type(own) is str and own == draft.parent.thread_id
    if own_thread:
        del stored["thread_id"]
    lean = _lean(draft.checkpoint)
    return pack([*serialized(serde, lean), *serialized(serde, stored), own_thread])


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
    if type(version) is str and channel in good_names and len(version) < LONG:
        return None if type(current) is str and current == version else _lean_text(version)
    arguments.seen_version(channel, version)
    if version is None:
        return ()  # as `None` stands for the current one
    is_current = type(current) is type(version) and current == version and version
    return None if is_current else lean_version(version)


class Record(NamedTuple):
    """A stored checkpoint, its serialized parts not yet read.

    `delta` are the delta channels that are rebuilt from ancestors, but for those with an entry.
    `run` is the run that made it, or false.
    """

    namespace: str
    checkpoint_id: str
    parent_id: str
    delta: list[bytes]
    channels: list[Any]
    tail: list[Any]
    run: bytes | bool = False

    @property
    def place(self) -> tuple[str, str]:
        """Its namespace and its id."""
        return self.namespace, self.checkpoint_id

    def versions(self) -> ChannelVersions:
        """The version of each channel."""
        return {
            channel.decode(): full_version(_unpacked_version(version))
            for channel, version, _ in _triples(self.channels)
        }

    def entries(self) -> Iterator[tuple[str, list[Any]]]:
        """Each channel that has a value, with its entry."""
        for channel, _, entry in _triples(self.channels):
            if entry:
                yield channel.decode(), entry

    def metadata(self, serde: SerializerProtocol, thread_id: str) -> CheckpointMetadata:
        """The metadata, as it was put."""
        _, _, type_, data, own_thread = self.tail
        stored = loaded(serde, (type_.decode(), data))
        if own_thread:
            stored["thread_id"] = thread_id
        return cast("CheckpointMetadata", stored)

    def checkpoint(self, serde: SerializerProtocol, values: Mapping[str, Any]) -> Checkpoint:
        """The checkpoint, as it was put, with these values."""
        type_, data, *_ = self.tail
        lean = loaded(serde, (type_.decode(), data))
        versions = self.versions()
        for seen in lean.get("versions_seen", {}).values():
            for channel, version in seen.items():
                seen[channel] = versions.get(channel) if version is None else full_version(version)
        return cast(
            "Checkpoint",
            {
                **lean,
                "id": self.checkpoint_id,
                "channel_versions": versions,
                "channel_values": values,
            },
        )


def record(row: bytes) -> Record:
    """The checkpoint that a row of the timeline holds; some error, if it is damaged."""
    namespace, checkpoint_id, data = unsealed(row).split(b"\0", 2)
    head_, tail_ = _unpacker(data)
    _, parent, run, _, delta, channels = _known(head_)
    names = namespace.decode(), checkpoint_id.decode(), parent.decode()
    return Record(*names, delta or [], channels, tail_, run)


# Writes.


class Write(NamedTuple):
    """A stored write, in the order that LangGraph applies writes in (`writes_sort_key`)."""

    path: str
    task_id: str
    number: int
    channel: str
    entry: list[Any]


def writes_row(place: bytes, path: str, channels: Sequence[str], values: Sequence[Value]) -> bytes:
    """The row of a task's writes; of several special ones to the same channel the last counts."""
    indexed = {
        WRITES_IDX_MAP.get(channel, index): (channel, value.entry)
        for index, (channel, value) in enumerate(zip(channels, values, strict=True))
    }
    group: list[Any] = [path]
    for index, (channel, entry) in indexed.items():
        group += index, channel, entry
    content = place + b"\0" + pack([FORMAT, group])
    return content + seal_of(content)


def stored_writes(row: bytes) -> Iterator[Write]:
    """The writes that a row of the writes holds; some error, if it is damaged."""
    _, _, task_id, data = unsealed(row).split(b"\0", 3)
    _, *task_groups = _known(_unpacked(data))
    for path, *group in task_groups:
        for index, channel, entry in _triples(group):
            yield Write(path.decode(), task_id.decode(), index, channel.decode(), entry)


def chunks(
    digests: Sequence[bytes], groups: Sequence[Sequence[bytes | None]]
) -> dict[bytes, bytes]:
    """The chunks of a reply that can be read: groups of digests, and what is stored, likewise."""
    names = iter_unpack("16s", b"".join(digests))
    found: dict[bytes, bytes] = {}
    for (name,), chunk in zip(names, chain.from_iterable(groups), strict=True):
        if chunk is not None:
            try:
                found[name] = checked(name, chunk)
            except ValueError as error:  # as if it were missing: whoever needs it names the place
                raise_interruption(error)
    return found


def checked(name: bytes, chunk: bytes) -> bytes:
    """The content of a stored chunk; raises `ValueError` if it is not what its name says."""
    content = content_of(chunk)
    if not is_name_of(name, content):
        raise ValueError("chunk is damaged")
    return content


def unpacked(data: bytes) -> list[Any]:
    """The msgpack values that follow one another."""
    return [*_unpacker(data)]


def entry_of(data: bytes) -> list[Any]:
    """An entry on its own."""
    return cast("list[Any]", _unpacked(data))


def _known(data: list[Any]) -> list[Any]:
    if data[0] not in READABLE:
        raise UnknownFormatError(data[0])
    return data


def _unpacker(data: bytes) -> Any:
    """Return an iterator over the values that follow one another, without maps and extensions.

    They are skipped once before they are read. A list takes memory for as many items as it says to
    have, and a list within a list again; skipping takes none, and finds those that are not there.
    """
    whole = msgpack.Unpacker(raw=True, max_buffer_size=len(data))
    whole.feed(data)
    while whole.tell() < len(data):
        whole.skip()
    unpacker = msgpack.Unpacker(raw=True, max_buffer_size=len(data), max_map_len=0, max_ext_len=0)
    unpacker.feed(data)
    return unpacker


def _unpacked(data: bytes) -> Any:
    (found,) = _unpacker(data)
    return found


def _triples(flat: Sequence[Any]) -> Iterator[tuple[Any, Any, Any]]:
    return zip(flat[::3], flat[1::3], flat[2::3], strict=True)
