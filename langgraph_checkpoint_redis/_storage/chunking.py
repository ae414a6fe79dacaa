"""Where values are cut into pieces, so that an edit anywhere changes the pieces around it only.

LangGraph stores the whole list of messages again at every step. Here the bytes of a value are cut
where the items of its msgpack containers begin. Nothing depends on what the bytes mean: a wrong cut
costs sharing, never correctness.

Long texts, bytes, and containers of many tiny items are cut at places that their content decides
(`boundaries.py`). A message is an exception: it is never edited in place, so its texts are not cut.

All boundaries depend on content only, those of nodes as well. `tree.py` knows how a value is put
together again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple
from zlib import crc32

from msgpack import Unpacker
from msgpack.exceptions import UnpackException

from .boundaries import places
from .tree import DIGEST, NODE_MAX, NODE_MIN, Chunks, ChunkTree, digest_of, name_piece

LITERAL = 64  # bytes: up to this a value stands in its row, which costs less than a chunk
PIECE = 512  # bytes: an item of this size is a piece of its own, smaller ones go together
DEEP = 8192  # bytes: items of this size are cut inside, as are containers that are most of a value
DEPTH = 8  # containers within containers that are cut inside
TINY = 24  # bytes: containers whose items are smaller on average are a run, cut as a text is
RUN = 1024  # bytes: a run of this size is cut if it is most of what it is in
INNER_RUN = 16384  # bytes: other runs are cut from here on; most vectors are smaller
TEXT_RATE = 512  # bytes for one place to cut a text at; pieces have five times as many
PACKED_RATE = 1024  # the same where pieces are compressed, as larger ones pack tighter
RUN_RATE = 128
PLACES = 4096  # a text or a run has so many at most, roughly: a larger one gets larger pieces
SOME = 1000  # items, of which any may be smaller


_NONE: Chunks = {}


class Cut(NamedTuple):
    """A tree, with those of its nodes and pieces that are not of the tree before."""

    tree: ChunkTree
    nodes: Chunks
    pieces: Chunks


def cut_msgpack(data: bytes, before: ChunkTree | None, known: Chunks, rate: int = TEXT_RATE) -> Cut:
    """Cut `data`. What is as in the tree `before` of `known` chunks is not cut again.

    Texts have a place to cut at for each `rate` bytes.
    """
    if len(data) <= LITERAL:
        return Cut(ChunkTree(data, len(data), (), ()), {}, {})
    if _is_short_write(data):
        piece = name_piece(data[1:])
        return Cut(ChunkTree(data, 1, (piece,), ((piece,),)), {}, {piece: data[1:]})
    old: Sequence[bytes] = ()
    if before:
        start, end, old = _same_beginning(data, before, known)
        if old:
            piece = known[before.pieces[len(old)]]
            items = _items_behind(data, before, piece, (start, end), rate)
            if items:
                contents = _split(data, end, items)
                return _build_tree(data, start, contents, before=before, old=old, known=known)
    if not old:
        start = end = 0
    stop, rest = _same_end(data, before, len(old), end, known)
    if len(data) >= PIECE:
        bounds = [0, *_item_starts(data, RUN, _Window(end, stop, rate)), stop]
    else:
        bounds = [stop]
    if not old:
        start = end = _literal_end(bounds)
    contents = _split(data, end, bounds, stop)
    return _build_tree(data, start, contents, before=before, old=old, rest=rest, known=known)


def cut_text(data: bytes, before: ChunkTree | None, known: Chunks, rate: int = TEXT_RATE) -> Cut:
    """Cut bytes that are no msgpack, as `cut_msgpack` does a text within it."""
    if len(data) <= LITERAL:
        return Cut(ChunkTree(data, len(data), (), ()), {}, {})
    if len(data) < DEEP:
        return keep_whole(data)
    start, end, old = _same_beginning(data, before, known) if before else (0, 0, ())
    stop, rest = _same_end(data, before, len(old), end, known)
    bounds = [*places(data, end, stop, _rate(len(data), rate))]
    contents = _split(data, end, bounds, stop)
    return _build_tree(data, start, contents, before=before, old=old, rest=rest, known=known)


def _build_tree(
    data: bytes,
    start: int,
    contents: Sequence[bytes],
    *,
    before: ChunkTree | None,
    old: Sequence[bytes],
    rest: Sequence[bytes] = (),
    known: Chunks,
) -> Cut:
    """Put a tree together: the first pieces as before, new ones, and the last ones as before."""
    new = [name_piece(content) for content in contents]
    digests = (*old, *new, *rest)
    levels, rows, nodes = _levels(digests, before if old else None, len(old), known)
    tree = ChunkTree(data, start, levels, rows)
    return Cut(tree, nodes, dict(zip(new, contents, strict=True)))


def _is_short_write(data: bytes) -> bool:
    """Whether this is what most tasks write: a list with one message, cut as any other would be."""
    return PIECE <= len(data) < DEEP and data[0] == _ARRAY_OF_ONE and data[1] in _EXTENSIONS


def keep_whole(data: bytes) -> Cut:
    """Return a tree of a single piece."""
    piece = name_piece(data)
    return Cut(ChunkTree(data, 0, (piece,), ((piece,),)), {}, {piece: data})


# What is as before.


def _same_beginning(
    data: bytes, before: ChunkTree, known: Chunks
) -> tuple[int, int, Sequence[bytes]]:
    """Where the literal ends, where the pieces that are as before end, and those pieces.

    The last piece is left out, since what follows may belong to it.
    """
    if len(before.pieces) < 2:  # noqa: PLR2004
        return 0, 0, ()
    *pieces, last = before.pieces
    body = memoryview(before.data)[before.start : len(before.data) - len(known[last])]
    for start in (before.start, before.start + 2):  # a header may have grown by 2
        if data.startswith(body, start):
            return start, start + len(body), pieces
        end, same = _same_pieces(data, start, pieces, known)
        if same:
            return start, end, pieces[:same]
    return 0, 0, ()


def _same_pieces(
    data: bytes, start: int, pieces: Sequence[bytes], known: Chunks
) -> tuple[int, int]:
    """Where the pieces that are as before end, and how many they are."""
    for same, digest in enumerate(pieces):
        if not data.startswith(known[digest], start):
            return start, same
        start += len(known[digest])
    return start, len(pieces)


def _same_end(
    data: bytes, before: ChunkTree | None, same: int, end: int, known: Chunks
) -> tuple[int, Sequence[bytes]]:
    """Where the last pieces begin that are as before, and those pieces.

    The first of them is left out, since it may belong to what is before it now. `same` pieces at
    the beginning are as before, up to `end`.
    """
    if not before or len(before.pieces) < same + 2:
        return len(data), ()
    stop, left, first = len(data), len(before.pieces), b""
    while left > same:
        content = known[before.pieces[left - 1]]
        if not data.endswith(content, end + LITERAL, stop):
            break
        stop -= len(content)
        left, first = left - 1, content
    return stop + len(first), before.pieces[left + 1 :]


def _items_behind(
    data: bytes, before: ChunkTree, piece: bytes, same: tuple[int, int], rate: int
) -> Sequence[int] | None:
    """Where items begin behind the `same` pieces; None if nothing tells.

    The tree before has `piece` there. It may be a part of a text or of a run, and then no item
    begins with it. But where that tree is a list that ends with the piece, and all that is within
    it is as before, an item begins behind the piece.
    """
    start, end = same
    if _is_row(piece):
        return _items_from(data, end, rate, may_be_message=True)
    header, old_header = _header_of_items(data), _header_of_items(before.data)
    if (
        header
        and old_header
        and end - start + before.start + len(piece) == len(before.data)
        and data.startswith(piece, end)
        and data[header:start] == before.data[old_header : before.start]
    ):
        return _items_from(data, end + len(piece), rate)
    return None


def _header_of_items(data: bytes) -> int:
    """Return the length of the header if `data` is an array or a map whose items are not tiny."""
    kind = data[0]
    if kind in _LONG_ARRAYS or kind in _LONG_MAPS:
        return 0 if _text(data, RUN, TEXT_RATE)[1] else _LONG_ARRAYS.get(kind) or _LONG_MAPS[kind]
    return int(kind in _ARRAYS or kind in _MAPS)


def _is_row(piece: bytes) -> bool:
    """Return whether a piece is a row of items, and not a part of a text or of a run.

    Bytes of a text look like tiny items. The last fields of an object are tiny, too, but they begin
    with a name.
    """
    header = _EXTENSIONS.get(piece[0])
    if header and header + int.from_bytes(piece[1 : header - 1], "big") == len(piece):
        return True  # a message, mostly
    least = 3 if len(piece) < PIECE and piece[0] in _NAMES else TINY
    unpacker = _unpacker(piece)
    try:
        for count in range(1, len(piece) // least + 1):
            unpacker.skip()
            end = unpacker.tell()
            if end == len(piece):
                return True
            if count >= _ENOUGH and end < least * count:
                return False
    except (UnpackException, ValueError):
        pass  # bytes that merely looked like items
    return False


_ENOUGH = 8  # items that tell whether those of a piece are tiny


def _items_from(
    data: bytes, start: int, rate: int, *, may_be_message: bool = False
) -> list[int] | None:
    """Where items begin behind `start`, the beginning of one, and the end; None if they are tiny.

    What follows an item in a container, or in those around it, reads as a row of items. If these
    may be parts of a message, large ones are left to whoever knows that: None as well.
    """
    row = _row(data[start:])
    if not row:
        return None
    if may_be_message and len(data) - start >= DEEP:
        for first, last in pairwise(row):
            if last - first >= DEEP and data[start + first] not in _EXTENSIONS:
                return None
    window = _Window(start, len(data), rate)
    return [*_cut_inside(data[start:], row, window, start, size=len(data)), len(data)]


# Cutting: first where items begin, then which of them go together.

# First bytes in msgpack: extensions with the length of their headers, arrays and maps.
_EXTENSIONS = {0xC7: 3, 0xC8: 4, 0xC9: 6}
_ARRAYS = frozenset((*range(0x90, 0xA0), 0xDC, 0xDD))
_ARRAY_OF_ONE = 0x91
_MAPS = frozenset((*range(0x80, 0x90), 0xDE, 0xDF))
# Those that may be long, with the length of their headers: texts and bytes, arrays and maps.
_TEXTS = {0xDA: 3, 0xDB: 5, 0xC5: 3, 0xC6: 5}
_LONG_ARRAYS = {0xDC: 3, 0xDD: 5}
_LONG_MAPS = {0xDE: 3, 0xDF: 5}
_NAMES = range(0xA1, 0xC0)  # short texts
_MESSAGES = b"langchain_core.messages."  # what is near the beginning of a message


class _Window(NamedTuple):
    """Which bytes of a value are to be cut, as what is around them is as before, and how finely."""

    first: int
    last: int
    rate: int


def _literal_end(bounds: Sequence[int]) -> int:
    """Where the small beginning ends: headers, which differ while the items after them do not."""
    end = 0
    for start, next_start in pairwise(bounds):
        if next_start > LITERAL or next_start - start >= PIECE:
            break
        end = next_start
    return end


def _split(data: bytes, start: int, bounds: Sequence[int], stop: int | None = None) -> list[bytes]:
    """The pieces of `data` from `start` on, where `bounds` are the ends of items, up to `stop`."""
    if stop is None:
        wanted = [bound for bound in bounds if bound > start]
    else:
        wanted = [bound for bound in bounds if start < bound <= stop]
    ends = _group(data, start, wanted)
    return [data[piece:end] for piece, end in pairwise((start, *ends))]


def _group(data: bytes, start: int, bounds: Sequence[int]) -> Iterator[int]:
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


def _item_starts(
    data: bytes, run: int | None, window: _Window, base: int = 0, depth: int = DEPTH
) -> Iterator[int]:
    """Where the items of the container `data` begin, and those of large containers in it.

    A text begins in `data` behind its header, and so does a run of at least `run` bytes. Where that
    is None, there is nothing to be cut that way.
    """
    start, rate = _text(data, run, window.rate) if run else (0, 0)
    if rate:
        yield base + start
        first, last = max(start, window.first - base), min(len(data), window.last - base)
        if first < last:
            for end in places(data, first, last, rate):
                yield base + end
    else:
        is_message = run and data[0] in _EXTENSIONS and _MESSAGES in data[:LITERAL]
        texts = run is not None and not is_message
        yield from _cut_inside(data, _items(data), window, base, depth, texts=texts)


def _cut_inside(
    data: bytes,
    bounds: Sequence[int],
    window: _Window,
    base: int,
    depth: int = DEPTH,
    *,
    texts: bool = True,
    size: int = 0,
) -> Iterator[int]:
    """Where items begin between `bounds`, and the items in them; `size` is that of all around."""
    large = min(DEEP, max(PIECE, len(data) // 2))
    most = (size or len(data)) // 2
    for start, end in pairwise(bounds):
        yield base + start
        if end - start > large and depth and base + end > window.first:
            if base + start >= window.last:
                break
            run = (RUN if end - start > most else INNER_RUN) if texts else None
            yield from _item_starts(data[start:end], run, window, base + start, depth - 1)


def _text(data: bytes, run: int, rate: int) -> tuple[int, int]:
    """Where a text or a run begins, and how finely to cut it; zeros if `data` is neither."""
    kind, size = data[0], len(data)
    if kind in _TEXTS and size >= DEEP:
        header = _TEXTS[kind]
        if header + int.from_bytes(data[1:header], "big") == size:
            return header, _rate(size, rate)
    elif (kind in _LONG_ARRAYS or kind in _LONG_MAPS) and size >= run:
        header = _LONG_ARRAYS.get(kind) or _LONG_MAPS[kind]
        count = int.from_bytes(data[1:header], "big") * (2 if kind in _LONG_MAPS else 1)
        if size < TINY * count <= TINY * size:
            return header, _rate(size, RUN_RATE)
    return 0, 0


def _rate(size: int, rate: int) -> int:
    """Return the bytes for one place: `rate`, or a power of two if there would be too many."""
    return max(rate, 1 << (size // PLACES).bit_length())


def _items(data: bytes) -> list[int]:
    """Where the items of the container `data` begin, and its end; empty if it is not to be cut."""
    if data[0] == _ARRAY_OF_ONE:  # what most writes are: a list with a message
        return [1, len(data)]
    header = _EXTENSIONS.get(data[0], 0)  # an extension may hold a container: an object's fields
    if header and len(data) < DEEP:
        return []  # a message in a short list is cut out just as it is in a long one
    unpacker = _unpacker(data[header:])
    try:
        count = _item_count(unpacker, data[header])
        if not count or len(data) < TINY * count:
            return []
        starts = [header + _skip(unpacker) for _ in range(count)]
    except (UnpackException, ValueError):
        return []  # bytes that merely look like a container
    end = header + unpacker.tell()
    return [*starts, end] if end == len(data) else []


def _row(data: bytes) -> list[int] | None:
    """Return where items begin that follow one another, and the end; None if that is in vain.

    It is where the items are too small on average to be worth cutting, as `_items` does: any byte
    below 128 is an item, and each item that is looked at takes time.
    """
    unpacker = _unpacker(data)
    bounds = [0]
    try:
        while bounds[-1] < len(data):
            unpacker.skip()
            bounds.append(unpacker.tell())
            if len(bounds) > SOME and TINY * len(bounds) > bounds[-1]:
                return None
    except (UnpackException, ValueError):
        return None  # what came before merely looked like items
    return bounds


def _unpacker(data: bytes) -> Unpacker:
    unpacker = Unpacker(max_buffer_size=len(data))
    unpacker.feed(data)
    return unpacker


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


def _levels(
    digests: Sequence[bytes], before: ChunkTree | None = None, same: int = 0, known: Chunks = _NONE
) -> tuple[Sequence[bytes], Sequence[Sequence[bytes]], Chunks]:
    """The levels of a tree, lowest first, with their rows, and the nodes that are new.

    The first `same` of its pieces are those of the tree `before`, and so are the nodes above them.
    """
    levels: list[bytes] = []
    rows = [tuple(digests)]
    nodes: dict[bytes, bytes] = {}
    while len(digests) > NODE_MIN + 1:
        start, old = _same_nodes(before, len(levels), same, known)
        groups, rest = _grouped(digests[start:])
        if not (groups or old):
            break  # no level is empty but below another one
        new = [digest_of(group) for group in groups]
        nodes.update(zip(new, groups, strict=True))
        levels.append(rest)
        same, digests = len(old), (*old, *new)
        rows.append(digests)
    return (*levels, b"".join(digests)), tuple(rows), nodes


def _same_nodes(
    before: ChunkTree | None, level: int, same: int, known: Chunks
) -> tuple[int, Sequence[bytes]]:
    """How many of the first `same` digests are in whole nodes of the tree before, and these."""
    if not before or level + 1 >= len(before.rows):
        return 0, ()
    nodes = [*before.rows[level + 1]]
    covered = len(before.rows[level]) - len(before.levels[level]) // DIGEST
    while covered > same:
        covered -= len(known[nodes.pop()]) // DIGEST
    return covered, nodes


def _grouped(digests: Sequence[bytes]) -> tuple[list[bytes], bytes]:
    """The contents of full nodes, and the references behind the last one."""
    joined = b"".join(digests)
    bounds = [0, *[DIGEST * node.end() for node in _NODE.finditer(joined[::DIGEST])]]
    return [joined[start:end] for start, end in pairwise(bounds)], joined[bounds[-1] :]


# The first bytes of the digests in a node. Which digest is the last is up to that digest, but for
# the limits of size: a multiple of 4 is. A loop would take five times as long as this expression.
_MULTIPLES = b"".join(b"\\x%02x" % byte for byte in range(0, 256, 4))
_NODE = re.compile(
    b"(?s).{%(begin)d}(?:[^%(last)b]{0,%(more)d}[%(last)b]|[^%(last)b]{%(full)d})"
    % {
        b"begin": NODE_MIN - 1,
        b"last": _MULTIPLES,
        b"more": NODE_MAX - NODE_MIN,
        b"full": NODE_MAX - NODE_MIN + 1,
    }
)
