"""Values as trees of chunks: long byte strings, cut into pieces that are shared by their content.

Each piece is stored once in a thread, under a digest of its content. Joining the pieces gives back
the very same bytes.

The list of the digests of a value would grow with the conversation, too. It is therefore grouped
into nodes, which are chunks that hold digests, and those into nodes of a higher level.

This module knows bytes and digests; not serializers, records or Redis. `chunking.py` decides where
values are cut.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import NamedTuple

from msgpack import packb

SENT = 128  # bytes: a piece below this is always sent

NODE_MIN, NODE_MAX = 4, 12  # references in a node
DIGEST = 16  # bytes
_NODE_SIZES = range(NODE_MIN * DIGEST, NODE_MAX * DIGEST + 1, DIGEST)

# What a value may ask for before it is joined. A value may be FEW pieces and SMALL bytes long,
# whatever it is made of; a larger one at most REPEATED times what is stored of it.
LEVELS = 32
FEW = 2**18
SMALL = 2**26  # bytes
REPEATED = 16

Chunks = Mapping[bytes, bytes]


class ChunkTree(NamedTuple):
    """A value, `data`, and how it is put together.

    It begins with its first `start` bytes, which stand in the row. What the levels refer to
    follows, from the highest down to level 0. A level is a string of digests: of pieces in level 0,
    of nodes in the others. `rows` have all digests of each level, in order, also those that its
    nodes refer to.
    """

    data: bytes
    start: int
    levels: Sequence[bytes]
    rows: Sequence[Sequence[bytes]]

    @property
    def pieces(self) -> Sequence[bytes]:
        """The digests of all its pieces, in order."""
        return self.rows[0] if self.rows else ()

    @property
    def inline(self) -> bytes:
        """What it begins with."""
        return self.data[: self.start]


def digest_of(content: bytes) -> bytes:
    """Return the 16-byte name of a node, and of most pieces: BLAKE2b-128 of the content."""
    return blake2b(content, digest_size=DIGEST).digest()


def name_piece(content: bytes) -> bytes:
    """Return the 16-byte name of a piece.

    A piece as long as a node may be has a name of another kind. Otherwise bytes of a user's that
    equal a node would keep its name in use when all that the node refers to is freed.
    """
    if len(content) in _NODE_SIZES:
        return blake2b(content, digest_size=DIGEST, person=b"piece").digest()
    return digest_of(content)


def with_all_below(digests: Iterable[bytes], known: Chunks) -> dict[bytes, None]:
    """Return chunks with what those that are nodes refer to, as far as it is known."""
    found: dict[bytes, None] = {}
    left = [*digests]
    while left:
        digest = left.pop()
        content = known.get(digest, b"")
        if digest not in found and is_node(digest, content):
            left += split_digests(content)
        found[digest] = None
    return found


def is_name_of(name: bytes, content: bytes) -> bool:
    """Return whether a chunk with this content, piece or node, has this name."""
    return name == digest_of(content) or name == name_piece(content)


def join_tree(size: int, inline: bytes, levels: Sequence[bytes], chunks: Chunks) -> ChunkTree:
    """Join a stored value; raise `LookupError` if a chunk is missing or damaged."""
    try:
        rows = list_digests(levels, chunks)
        contents = [inline, *[chunks[piece] for row in rows[:1] for piece in row]]
    except KeyError as error:
        raise LookupError(f"chunk {error.args[0].hex()} is missing or damaged") from error
    except struct.error as error:
        raise LookupError("a node is damaged") from error
    if (found := sum(map(len, contents))) != size:
        raise LookupError(f"a value of {size} bytes reads as {found} bytes")
    if size > SMALL and size > REPEATED * _distinct(rows[0] if rows else (), chunks):
        raise LookupError("a value repeats too few pieces")
    return ChunkTree(b"".join(contents), len(inline), tuple(levels), rows)


def list_digests(levels: Sequence[bytes], chunks: Chunks) -> tuple[tuple[bytes, ...], ...]:
    """Return all digests of each level of a tree, whose nodes are among `chunks`.

    Raises `KeyError` for a node that is not, `LookupError` or `struct.error` for one that is wrong.
    Nodes of nodes may grow without end, so each level is measured before it is put together.
    """
    check_levels(levels)
    rows: list[tuple[bytes, ...]] = []
    row: tuple[bytes, ...] = ()
    for level in reversed(levels):
        nodes = [chunks[node] for node in row]
        length = sum(map(len, nodes))
        if length > DIGEST * FEW and length > REPEATED * _distinct(row, chunks):
            raise LookupError("a value repeats too few nodes")
        row = split_digests(b"".join([*nodes, level]))
        rows.append(row)
    return tuple(rows[::-1])


def check_levels(levels: Sequence[bytes]) -> None:
    """Raise `LookupError` for more levels of nodes than a value can have."""
    if len(levels) > LEVELS:
        raise LookupError(f"a value has {len(levels)} levels of nodes, more than {LEVELS}")


def _distinct(digests: Iterable[bytes], chunks: Chunks) -> int:
    """Return the length of some chunks, each counted once."""
    return sum(len(chunks[digest]) for digest in {*digests})


def split_digests(digests: bytes) -> tuple[bytes, ...]:
    """The digests in a level or a node; raises `struct.error` if it is cut short."""
    return tuple([digest for (digest,) in struct.iter_unpack("16s", digests)])


def list_named(levels: Iterable[bytes], nodes: Chunks, pieces: Chunks) -> list[bytes]:
    """Return the digests in levels and nodes that are of none of these chunks."""
    named = dict.fromkeys(split_digests(b"".join([*levels, *nodes.values()])))
    return [name for name in named if name not in pieces and name not in nodes]


def pick_small_pieces(names: Iterable[bytes], known: Chunks) -> dict[bytes, bytes]:
    """Return the known pieces, of these chunks, that are sent rather than named.

    A small piece costs little, and a sweep frees it soon: the end of a message, say, as only the
    input of a run has it. To name it would have most writes refused where old checkpoints go.
    """
    found: dict[bytes, bytes] = {}
    for name in names:
        content = known.get(name)
        if content and len(content) < SENT and not is_node(name, content):
            found[name] = content
    return found


def is_node(name: bytes, content: bytes) -> bool:
    """Return whether a chunk is a node by its name, which tells it from a piece of its size."""
    return len(content) in _NODE_SIZES and digest_of(content) == name


def is_large(tree: ChunkTree) -> bool:
    """Return whether a tree might ask for more than `join_tree` gives."""
    return len(tree.data) > SMALL or len(tree.pieces) > FEW


def pack_trees(trees: Iterable[Sequence[bytes]]) -> bytes:
    """Return the levels of some trees as scripts take them."""
    return packb([[*levels] for levels in trees if levels], use_bin_type=False)
