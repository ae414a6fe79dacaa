"""The chunks that a write brings along, and the parts in which many of them go ahead of its row.

A script that stores 60 MB would block the server for a third of a second. So many chunks go in
calls of their own, before the one that stores the row and refers to them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import chain
from typing import NamedTuple

from langgraph_checkpoint_redis._protocol.resp import Argument
from langgraph_checkpoint_redis._scripts.calls import SentChunks
from langgraph_checkpoint_redis._storage.compression import Compression, compress_chunk
from langgraph_checkpoint_redis._storage.tree import list_named, pick_small_pieces
from langgraph_checkpoint_redis._storage.values import Value

from .cache import ThreadCache
from .sending import Sending

MANY, MANY_BYTES = 2000, 12 * 1024 * 1024  # chunks that come along with the row; more go ahead
PART, PART_NODES, PART_BYTES = 1000, 250, 1024 * 1024  # of them, in one call


class NewChunks(NamedTuple):
    """Chunks that a write brings along; nodes come after those that they refer to."""

    nodes: Mapping[bytes, bytes]
    pieces: Mapping[bytes, bytes]

    @property
    def all(self) -> dict[bytes, bytes]:
        """Both."""
        return {**self.nodes, **self.pieces}

    @property
    def are_many(self) -> bool:
        """Whether a script that stores all of them would take long, and several calls would not."""
        number = len(self.nodes) + len(self.pieces)
        if number <= 1 or number > MANY:
            return number > 1
        size = sum(map(len, self.pieces.values())) + sum(map(len, self.nodes.values()))
        return size > MANY_BYTES

    def parts(self) -> Iterator[NewChunks]:
        """Parts of a bounded size; each refers only to itself and to parts before it."""
        for part in _split(self.pieces, PART):
            yield NewChunks({}, part)
        for part in _split(self.nodes, PART_NODES):
            yield NewChunks(part, {})


def _split(chunks: Mapping[bytes, bytes], most: int) -> Iterator[dict[bytes, bytes]]:
    """Divide chunks into parts of at most so many, and of few bytes."""
    part: dict[bytes, bytes] = {}
    size = 0
    for name, content in chunks.items():
        if part and (len(part) == most or size + len(content) > PART_BYTES):
            yield part
            part, size = {}, 0
        part[name] = content
        size += len(content)
    if part:
        yield part


def find_new_chunks(values: Collection[Value], sending: Sending) -> NewChunks:
    """Return the chunks of values that the server may not have."""
    nodes: dict[bytes, bytes] = {}
    pieces: dict[bytes, bytes] = {}
    if sending.again:  # these first: new nodes may refer to them
        for _, cut in values:
            lower, *upper = cut.tree.rows or ((),)
            nodes |= sending.missed(chain.from_iterable(upper))
            pieces |= sending.missed(lower)
    for _, cut in values:
        if cut.nodes or cut.pieces:
            nodes |= sending.missing(cut.nodes)
            pieces |= sending.missing(cut.pieces)
    return NewChunks(nodes, pieces)


def name_chunks(
    values: Iterable[Value],
    new: NewChunks,
    cache: ThreadCache,
    compression: Compression | None,
    levels: Iterable[bytes] = (),
) -> SentChunks:
    """Return new chunks as scripts take them, and the names of all others that are referred to.

    Values refer to them, or further `levels` of trees, or the new chunks themselves.
    """
    levels = [*levels, *[level for _, cut in values for level in cut.tree.levels]]
    named = list_named(levels, *new)
    if small := pick_small_pieces(named, cache.chunks):
        new = NewChunks(new.nodes, {**new.pieces, **small})
        named = [name for name in named if name not in small]
    pairs: list[Argument] = []
    for digest, content in new.nodes.items():
        pairs += digest, compress_chunk(content, None)
    for digest, content in new.pieces.items():
        pairs += digest, compress_chunk(content, compression)
    return SentChunks(b"".join(named), pairs)
