"""Values as ropes: long byte strings, cut into chunks that are shared by their content.

LangGraph stores the whole list of messages again at every step. Here the bytes of a value are cut
where the items of its msgpack containers begin, and each piece is stored once in a thread, under a
digest of its content. Joining the pieces gives back the very same bytes, so nothing here depends on
what the bytes mean: a wrong cut costs sharing, never correctness.

The list of a rope's digests would grow with the conversation, too. It is therefore grouped into
nodes (chunks that hold digests), and those into nodes of a higher level. All boundaries depend on
content only, so that an edit anywhere changes the pieces and nodes around it and no others.

This module knows bytes and digests; not serializers, records or Redis.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import pairwise
from struct import iter_unpack
from zlib import crc32

from msgpack import Unpacker
from msgpack.exceptions import UnpackException

LITERAL = 64  # bytes: up to this a value stands in its row, which costs less than a chunk
PIECE = 512  # bytes: an item of this size is a piece of its own, smaller ones go together
DEEP = 8192  # bytes: items of this size are cut inside, as are containers that are most of a value
DEPTH = 8  # containers within containers that are cut inside
TINY = 24  # bytes: containers whose items are smaller on average are not worth cutting
FANOUT = 8  # references in a node, on average

Chunks = Mapping[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Rope:
    """A value of `size` bytes, cut.

    It reads as `literal`, followed by what the levels refer to, from the highest down to level 0.
    A level is a string of digests: of pieces in level 0, of nodes in the others. `nodes` and
    `pieces` are the chunks themselves, by digest.
    """

    size: int
    literal: bytes
    levels: tuple[bytes, ...] = ()
    nodes: Chunks = field(default_factory=dict)
    pieces: Chunks = field(default_factory=dict)


def digest_of(content: bytes) -> bytes:
    """The 16-byte name of a chunk: BLAKE2b-128 of its content."""
    return blake2b(content, digest_size=16).digest()


def cut(data: bytes) -> Rope:
    """The rope that reads as `data`."""
    if len(data) <= LITERAL:
        return Rope(len(data), data)
    literal, contents = _pieces(data)
    digests = [digest_of(content) for content in contents]
    levels, nodes = _levels(digests)
    return Rope(len(data), literal, levels, nodes, dict(zip(digests, contents, strict=True)))


def join(size: int, literal: bytes, levels: Iterable[bytes], chunks: Chunks) -> bytes:
    """What a rope reads as; raises `LookupError` with the reason where it cannot be read."""
    parts: list[bytes] = []
    try:
        for level, digests in enumerate(levels):
            parts[:0] = _leaves(level, digests, chunks)
    except KeyError as error:
        raise LookupError(f"chunk {error.args[0].hex()} is missing") from error
    data = b"".join((literal, *parts))
    if len(data) != size:
        raise LookupError(f"a value of {size} bytes reads as {len(data)} bytes")
    return data


def _leaves(level: int, digests: bytes, chunks: Chunks) -> list[bytes]:
    for _ in range(level):
        digests = b"".join(_resolve(digests, chunks))
    return _resolve(digests, chunks)


def _resolve(digests: bytes, chunks: Chunks) -> list[bytes]:
    return [chunks[digest] for (digest,) in iter_unpack("16s", digests)]


# Cutting: first where items begin, then which of them go together.

# First bytes in msgpack: extensions with the length of their headers, arrays and maps.
_EXTENSIONS = {0xC7: 3, 0xC8: 4, 0xC9: 6}
_ARRAYS = frozenset((*range(0x90, 0xA0), 0xDC, 0xDD))
_MAPS = frozenset((*range(0x80, 0x90), 0xDE, 0xDF))


def _pieces(data: bytes) -> tuple[bytes, list[bytes]]:
    """The literal that a value begins with, and the pieces that follow it."""
    if len(data) < PIECE:
        return b"", [data]
    bounds = [0, *_item_starts(data), len(data)]
    literal_end = _literal_end(bounds)
    cuts = list(_group(data, literal_end, [bound for bound in bounds if bound > literal_end]))
    return data[:literal_end], [data[start:end] for start, end in pairwise((literal_end, *cuts))]


def _literal_end(bounds: list[int]) -> int:
    """Where the small beginning ends: headers, which differ while the items after them do not."""
    end = 0
    for start, next_start in pairwise(bounds):
        if next_start > LITERAL or next_start - start >= PIECE:
            break
        end = next_start
    return end


def _group(data: bytes, start: int, bounds: list[int]) -> Iterator[int]:
    """The ends of pieces. A large item is one; small ones go together until they say so."""
    item = start
    for end in bounds:
        if end - item >= PIECE:
            if item > start:
                yield item
            yield end
            start = end
        elif end - start >= PIECE and (end - start >= 4 * PIECE or crc32(data[item:end]) & 1):
            yield end
            start = end
        item = end
    if start < item:
        yield item


def _item_starts(data: bytes, base: int = 0, depth: int = DEPTH) -> Iterator[int]:
    """Where the items of the container `data` begin, and those of large containers in it."""
    large = min(DEEP, max(PIECE, len(data) // 2))
    for start, end in pairwise(_spans(data)):
        yield base + start
        if end - start > large and depth:
            yield from _item_starts(data[start:end], base + start, depth - 1)


def _spans(data: bytes) -> list[int]:
    """Where the items of the container `data` begin, and its end; empty if it is none to be cut."""
    header = _EXTENSIONS.get(data[0], 0)  # an extension may hold a container: an object's fields
    if header and len(data) < DEEP:
        return []  # a message in a short list is cut out just as it is in a long one
    unpacker = Unpacker(max_buffer_size=len(data))
    unpacker.feed(data[header:])
    try:
        count = _item_count(unpacker, data[header])
        if not count or len(data) < TINY * count:
            return []
        starts = [header + _skip(unpacker) for _ in range(count)]
    except (UnpackException, ValueError):
        return []  # bytes that merely look like a container
    end = header + unpacker.tell()
    return [*starts, end] if end == len(data) else []


def _item_count(unpacker: Unpacker, kind: int) -> int:
    if kind in _ARRAYS:
        return int(unpacker.read_array_header())
    if kind in _MAPS:
        return 2 * int(unpacker.read_map_header())
    return 0


def _skip(unpacker: Unpacker) -> int:
    start = int(unpacker.tell())
    unpacker.skip()
    return start


# Grouping references.


def _levels(digests: list[bytes]) -> tuple[tuple[bytes, ...], dict[bytes, bytes]]:
    """The levels of a rope, lowest first, and the nodes that the higher ones refer to."""
    levels: list[bytes] = []
    nodes: dict[bytes, bytes] = {}
    while len(digests) > FANOUT:
        groups, rest = _grouped(digests)
        levels.append(b"".join(rest))
        digests = [digest_of(group) for group in groups]
        nodes.update(zip(digests, groups, strict=True))
    return (*levels, b"".join(digests)), nodes


def _grouped(digests: list[bytes]) -> tuple[list[bytes], list[bytes]]:
    """The contents of full nodes, and the references behind the last one."""
    groups: list[bytes] = []
    rest: list[bytes] = []
    for digest in digests:
        rest.append(digest)
        if digest[0] % FANOUT == 0 or len(rest) == 4 * FANOUT:
            groups.append(b"".join(rest))
            rest = []
    return groups, rest
