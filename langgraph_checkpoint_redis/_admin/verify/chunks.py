"""The chunks of a thread, compared with their names: which are damaged, and what a value lacks.

The name of a chunk is a digest of its content. Only the size of a piece stays in memory, and the
content of a node, which is a list of names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha1

from langgraph_checkpoint_redis._runtime.interruptions import raise_interruption
from langgraph_checkpoint_redis._storage.tree import DIGEST, check_levels, split_digests
from langgraph_checkpoint_redis._storage.values import Entry, check_chunk

CONTENT = 40  # hexadecimal digits of a digest of a damaged chunk, for drop.lua


@dataclass(slots=True)
class SeenChunks:
    """The chunks of a thread that were read so far.

    Attributes:
        unused: The names that were there at first and that nothing was found to refer to.
        sizes: The sizes of good chunks.
        nodes: The contents of good nodes.
        damaged: Digests of the contents of damaged chunks.
        lengths: The lengths of damaged chunks.
        whole: Nodes, by level and name, of which all that they refer to was found; with its size.
    """

    unused: set[bytes] = field(default_factory=set)
    sizes: dict[bytes, int] = field(default_factory=dict)
    nodes: dict[bytes, bytes] = field(default_factory=dict)
    damaged: dict[bytes, bytes] = field(default_factory=dict)
    lengths: dict[bytes, int] = field(default_factory=dict)
    whole: dict[tuple[int, bytes], int] = field(default_factory=dict)

    def add(self, digest: bytes, chunk: bytes, *, is_node: bool) -> None:
        """Compare a chunk with its name."""
        try:
            content = check_chunk(digest, chunk)
        except ValueError as error:
            raise_interruption(error)
            self.damaged[digest] = sha1(chunk, usedforsecurity=False).hexdigest().encode()
            self.lengths[digest] = len(chunk)
            return
        self.damaged.pop(digest, None)
        self.sizes[digest] = len(content)
        if is_node and len(content) % DIGEST == 0:
            self.nodes[digest] = content

    def list_below(self, level: int, digests: Iterable[bytes]) -> set[bytes]:
        """Return the names in the nodes of a level, except for nodes that are whole."""
        found = set[bytes]()
        for digest in digests:
            if (level, digest) not in self.whole and digest in self.nodes:
                found.update(split_digests(self.nodes[digest]))
        return found

    def find_lacking(self, entry: Entry) -> frozenset[bytes]:
        """Return the chunks that a value lacks; raise `LookupError` if it has another fault."""
        check_levels(entry.levels)
        found, lost = len(entry.inline), set[bytes]()
        for level, digests in enumerate(entry.levels):
            found += self._add_up(level, split_digests(digests), lost)
        if not lost and found != entry.size:
            raise LookupError(f"a value of {entry.size} bytes reads as {found} bytes")
        return frozenset(lost)

    def _add_up(self, top: int, digests: Sequence[bytes], lost: set[bytes]) -> int:
        """Return how many bytes the chunks of a level lead to; add to `lost` what they lack."""
        levels = {top: {*digests}}
        for level in range(top, 0, -1):
            levels[level - 1] = self.list_below(level, levels[level])
        sizes: dict[bytes, int] = {}
        for level in range(top + 1):
            above: dict[bytes, int] = {}
            for digest in levels[level]:
                size = self._size_of(level, digest, sizes)
                if size is None:
                    lost.add(digest)
                above[digest] = size or 0
                if level and not lost:
                    self.whole[level, digest] = above[digest]
            sizes = above
        return sum(sizes[digest] for digest in digests)

    def _size_of(self, level: int, digest: bytes, below: Mapping[bytes, int]) -> int | None:
        """Return how many bytes a chunk leads to; None if it is missing."""
        if level == 0:
            return self.sizes.get(digest)
        if (level, digest) in self.whole:
            return self.whole[level, digest]
        if digest not in self.nodes:
            return None
        return sum(below[child] for child in split_digests(self.nodes[digest]))

    def name_lacking(self, digest: bytes) -> bytes:
        """Return a lacking chunk as drop.lua takes it: its name, and its damaged content if any."""
        return digest + self.damaged.get(digest, b"-" * CONTENT)
