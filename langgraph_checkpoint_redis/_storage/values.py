"""Values: serialized, cut into chunks, referred to by entries of rows, and read again.

An entry is stored as a list: [type, inline], or [type, inline, size, level 0, level 1, ...] for a
tree of chunks (see `tree.py`). Its type is empty for "msgpack".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from struct import iter_unpack
from typing import Any, NamedTuple

from langgraph.checkpoint.serde.base import SerializerProtocol

from langgraph_checkpoint_redis._runtime.interruptions import raise_interruption

from .checks import check_serialized
from .chunking import LITERAL, TEXT_RATE, Cut, cut_msgpack, cut_text, keep_whole
from .compression import decompress_chunk
from .packing import unpack
from .tree import (
    DIGEST,
    FEW,
    Chunks,
    ChunkTree,
    is_large,
    is_name_of,
    join_tree,
    list_digests,
    split_digests,
)


class Entry(NamedTuple):
    """A value as rows refer to it.

    Attributes:
        type: The serializer's name of its type.
        inline: The bytes that it begins with; all of them, if it has no levels.
        size: How many bytes it has.
        levels: The levels of its tree, digests of pieces first.
    """

    type: str
    inline: bytes
    size: int
    levels: Sequence[bytes]

    @classmethod
    def parse(cls, stored: Sequence[Any]) -> Entry:
        """Read an entry; raises any error of decoding if it is none."""
        type_, inline, *tree = stored
        type_ = type_.decode() or "msgpack"
        if not tree:
            return cls(type_, inline, len(inline), ())
        size, *levels = tree
        if not levels:
            raise ValueError("an entry has a size but no levels")
        return cls(type_, inline, size, tuple(levels))

    def stored(self) -> list[Any]:
        """Return the entry as it is stored."""
        short = ["" if self.type == "msgpack" else self.type, self.inline]
        return [*short, self.size, *self.levels] if self.levels else short


class Value(NamedTuple):
    """A serialized value: the serializer's type, and its bytes, cut."""

    type: str
    cut: Cut

    @property
    def entry(self) -> Entry:
        """The value as rows refer to it."""
        tree = self.cut.tree
        return Entry(self.type, tree.inline, len(tree.data), tree.levels)


def encode_value(
    serde: SerializerProtocol,
    value: object,
    before: ChunkTree | None,
    known: Chunks,
    written: ChunkTree | None = None,
    *,
    rate: int = TEXT_RATE,
) -> Value:
    """Serialize a value and cut it, unless it was `written` just so before.

    A value that stays as it is keeps its tree. To cut it again could make other pieces of it, as
    places to cut at depend on the value before.
    """
    type_, data = serialize(serde, value)
    for same in (written, before):
        if same and same.data == data:
            return Value(type_, Cut(same, {}, {}))
    return Value(type_, cut_value(type_, data, before, known, rate))


_BYTES = frozenset(("bytes", "bytearray"))


def cut_value(
    type_: str, data: bytes, before: ChunkTree | None, known: Chunks, rate: int = TEXT_RATE
) -> Cut:
    """Cut what a serializer wrote: bytes as a text, what is encrypted not at all."""
    if "+" in type_ and len(data) > LITERAL:
        return keep_whole(data)
    found = (cut_text if type_ in _BYTES else cut_msgpack)(data, before, known, rate)
    if len(data) > FEW and is_large(found.tree) and not _can_be_joined(found, known):
        return keep_whole(data)
    return found


def _can_be_joined(found: Cut, known: Chunks) -> bool:
    """Return whether readers take a value as it was cut: it may repeat very few pieces."""
    tree, chunks = found.tree, {**known, **found.nodes, **found.pieces}
    try:
        join_tree(len(tree.data), tree.inline, tree.levels, chunks)
    except LookupError:
        return False
    return True


def serialize(serde: SerializerProtocol, value: object) -> tuple[str, bytes]:
    """Return what a serializer writes: the name of the type, and bytes that stay as they are.

    Raises `ConfigError` for what could not be read back as it was written.
    """
    typed = serde.dumps_typed(value)
    if type(typed) is tuple and len(typed) == 2:  # noqa: PLR2004 - as the interface says
        type_, data = typed
        if type(type_) is str and type_ and type(data) is bytes:
            return type_, data
    return check_serialized(typed)


def load_entry(
    entry: Entry, chunks: Chunks, before: ChunkTree | None = None
) -> tuple[tuple[str, bytes], ChunkTree | None]:
    """Return what the serializer made of a value, and its tree, unless all of it is inline.

    The tree may be that of the value `before`. Raises what `join_tree` does.
    """
    type_, inline, size, levels = entry
    if not levels:
        return (type_, inline), None
    if not (before and (before.inline, *before.levels) == (inline, *levels)):
        before = join_tree(size, inline, levels, chunks)
    return (type_, before.data), before


def list_pieces(entry: Entry, chunks: Chunks) -> Sequence[bytes]:
    """Return the digests of all pieces of a value; raises what `list_digests` does."""
    return list_digests(entry.levels, chunks)[0] if entry.levels else ()


def list_by_level(entries: Iterable[Entry]) -> dict[int, dict[bytes, None]]:
    """Return the digests that some values refer to by level, each once."""
    found: dict[int, dict[bytes, None]] = {}
    for entry in entries:
        for level, digests in enumerate(entry.levels):
            found.setdefault(level, {}).update(dict.fromkeys(split_digests(digests)))
    return found


def list_children(nodes: Iterable[bytes], chunks: Chunks) -> dict[bytes, None]:
    """What nodes lead to, in order, as far as they are there and make sense."""
    found: dict[bytes, None] = {}
    for node in nodes:
        content = chunks.get(node, b"")
        if len(content) % DIGEST == 0:
            found.update(dict.fromkeys(split_digests(content)))
    return found


def parse_chunks(
    digests: Sequence[bytes], groups: Sequence[Sequence[bytes | None]]
) -> dict[bytes, bytes]:
    """Return the intact chunks of a reply by digest; damaged ones are left out."""
    names = iter_unpack("16s", b"".join(digests))
    found: dict[bytes, bytes] = {}
    for (name,), chunk in zip(names, chain.from_iterable(groups), strict=True):
        if chunk is not None:
            try:
                found[name] = check_chunk(name, chunk)
            except ValueError as error:  # as if it were missing: whoever needs it names the place
                raise_interruption(error)
    return found


def check_chunk(name: bytes, chunk: bytes) -> bytes:
    """Return the content of a stored chunk; raises `ValueError` if it is not what its name says."""
    content = decompress_chunk(chunk)
    if not is_name_of(name, content):
        raise ValueError("chunk is damaged")
    return content


def unpack_entry(data: bytes) -> Entry:
    """Read a packed entry that stands on its own."""
    return Entry.parse(unpack(data))
