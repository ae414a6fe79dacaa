"""The chunks that a write brings along, and the parts in which many of them go ahead of its row.

A script that stores 60 MB would block the server for a third of a second. So many chunks go in
calls of their own, before the one that stores the row and refers to them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

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
