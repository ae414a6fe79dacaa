"""The file format of threads: lines, checksums and records. `docs/moving.md` describes it.

A line is the CRC-32 of the JSON that follows, as eight hexadecimal digits, a space, the JSON, and a
line feed. Nothing here knows where lines come from or go to.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, cast
from zlib import crc32

from langgraph.checkpoint.base import Checkpoint
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from langgraph_checkpoint_redis import CachingSerializer
from langgraph_checkpoint_redis.errors import DamagedFileError, UnknownFormatError

from ._passing import check_items
from ._stores import Item, Place, Write
from ._threads import plain

FORMAT, VERSION = "langgraph-threads", 1
LONGEST = 256 * 2**20  # bytes of a line
# Commas and brackets in a line, since an empty list of two bytes takes 64 in memory. A pending
# write has eight of them, a value three.
MOST_ITEMS = 4_000_000

Record = dict[str, Any]


# Lines


def line(record: Record) -> bytes:
    """Return a record as a line."""
    data = json.dumps(record, separators=(",", ":")).encode("ascii")
    if len(data) > LONGEST - _FRAME or _items(data) > MOST_ITEMS:
        raise ValueError(
            f"checkpoint {record.get('checkpoint')!r:.100} is too large for a file: {len(data)} "
            f"bytes; at most {LONGEST} are read back. `migrate` moves it"
        )
    return b"%08x %s\n" % (crc32(data), data)


_FRAME = len(b"00000000 \n") + 1  # a line as long as LONGEST would look cut off


def _items(data: bytes) -> int:
    return data.count(b",") + data.count(b"[") + data.count(b"{")


def record(data: bytes) -> Record:
    """Return the record of a line."""
    if not data.endswith(b"\n"):
        reason = "is too long" if len(data) >= LONGEST else "is cut off"
        raise DamagedFileError(f"it {reason}")
    checksum, _, text = data[:-1].partition(b" ")
    if b"%08x" % crc32(text) != checksum:
        raise DamagedFileError("its checksum is another")
    if _items(text) > MOST_ITEMS:
        raise DamagedFileError("it has too many items")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DamagedFileError(f"it is no JSON: {type(error).__name__}") from error
    if not isinstance(found, dict):
        raise DamagedFileError("it is no JSON object")
    return found


def field(record: Record, name: str, kind: type | tuple[type, ...]) -> Any:
    """Return a field of a record, if it has that type."""
    value = record.get(name)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise DamagedFileError(f"its field {name!r} is missing or of another kind")
    return value


# The first line


def header(serde: SerializerProtocol) -> Record:
    """Return the first record of a file."""
    return {"format": FORMAT, "version": VERSION, "serializer": serializer_name(serde)}


def serializer_in(found: Record) -> str:
    """Return the serializer that a header names, if the file can be read."""
    if found.get("format") != FORMAT:
        raise DamagedFileError("it is no file of threads")
    if field(found, "version", int) != VERSION:
        raise UnknownFormatError(found["version"])
    return cast("str", field(found, "serializer", str))


def serializer_name(serde: SerializerProtocol) -> str:
    """Return the name of a serializer in files: its class, and the class that it encrypts for.

    `CachingSerializer` has the name of the serializer whose bytes it reads and writes.
    """
    kind = JsonPlusSerializer if type(serde) is CachingSerializer else type(serde)
    name = f"{kind.__module__}.{kind.__qualname__}"
    inner = plain(serde)
    return name if inner is serde else f"{name}({serializer_name(inner)})"


# Checkpoints


class Encoder:
    """Makes records of a thread's checkpoints, with each value only where it changed."""

    def __init__(self, serde: SerializerProtocol) -> None:
        self._serde, self._plain = serde, plain(serde)
        self._namespace: str | None = None
        self._digests: dict[str, bytes] = {}

    def record(self, item: Item) -> Record:
        """Return a checkpoint as a record."""
        checkpoint: Record = {**item.checkpoint}
        values = checkpoint.pop("channel_values")
        return {
            "checkpoint": item.place.checkpoint_id,
            "namespace": item.place.namespace,
            "parent": item.parent_id,
            "data": self._typed(checkpoint),
            "metadata": self._typed(item.metadata),
            "values": self._values(item.place.namespace, values),
            "writes": [[*write[:4], self._typed(write.value)] for write in item.writes],
            **({"cut_off": 1} if item.is_cut_off else {}),
        }

    def _values(self, namespace: str, values: Mapping[str, Any]) -> Record:
        before = self._digests if namespace == self._namespace else {}
        self._namespace, self._digests = namespace, {}
        found: Record = {}
        for channel, value in values.items():
            digest = self._digests[channel] = self._digest(value)
            found[channel] = None if before.get(channel) == digest else self._typed(value)
        return found

    def _digest(self, value: Any) -> bytes:
        type_, data = self._plain.dumps_typed(value)
        return sha256(type_.encode() + b"\0" + data).digest()

    def _typed(self, value: Any) -> list[str]:
        type_, data = self._serde.dumps_typed(value)
        if type_ == "msgpack":
            check_items(data)  # as an import does
        return [type_, b64encode(data).decode()]


class Decoder:
    """Makes checkpoints of a thread's records; without a serializer, it only checks their form."""

    def __init__(self, serde: SerializerProtocol | None) -> None:
        self._serde = serde
        self._place: Place | None = None
        self._before: Mapping[str, Any] = {}

    def item(self, found: Record) -> Item:
        """Return the checkpoint of a record."""
        place = Place(field(found, "namespace", str), field(found, "checkpoint", str))
        if self._place is not None and self._place >= place:
            raise DamagedFileError("its checkpoint is not in order")
        if self._place is None or self._place.namespace != place.namespace:
            self._before = {}
        parent = field(found, "parent", str)
        values = field(found, "values", dict)
        self._place = place
        self._before = {channel: self._value(channel, typed) for channel, typed in values.items()}
        checkpoint, metadata = self._dict(found, "data"), self._dict(found, "metadata")
        complete = {**checkpoint, "id": place.checkpoint_id, "channel_values": self._before}
        writes = [self._write(write) for write in field(found, "writes", list)]
        is_cut_off = found.get("cut_off") == 1
        return Item(place, parent, cast("Checkpoint", complete), metadata, writes, is_cut_off)

    def _value(self, channel: str, typed: object) -> Any:
        if typed is not None:
            return self._loaded(typed)
        if channel not in self._before:
            raise DamagedFileError(f"there is no value of {channel!r} before it")
        return self._before[channel]

    def _dict(self, found: Record, name: str) -> Record:
        value = self._loaded(found.get(name))
        if self._serde and not isinstance(value, dict):
            raise DamagedFileError(f"its field {name!r} is no dict")
        return value or {}

    def _write(self, found: object) -> Write:
        match found:
            case [str(path), str(task_id), int() | None as number, str(channel), typed]:
                return Write(path, task_id, number, channel, self._loaded(typed))
        raise DamagedFileError("one of its writes is of another form")

    def _loaded(self, typed: object) -> Any:
        match typed:
            case [str(type_), str(data)]:
                try:
                    content = b64decode(data, validate=True)
                except ValueError as error:
                    raise DamagedFileError("one of its values is no base64") from error
                return self._serde.loads_typed((type_, content)) if self._serde else None
        raise DamagedFileError("one of its values is of another form")
