"""Where to cut bytes that have no items of their own: texts, files, long rows of tiny items.

A place to cut depends only on the eight bytes before it. An edit therefore moves the places next to
it and no others, and all processes find the same ones.

What belongs here: finding such places. `chunking.py` decides what is cut so, and how finely.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

# Any odd number of 64 bits whose bits look random. It decides where processes cut, so they would
# share less with those of another number.
_MIXER = 0x9E3779B97F4A7C15
_AT_ONCE = 2**16  # bytes that are mixed at once, at most
_RAREST = 2**16  # bytes for one place, at most
_REACH = 16  # bytes before a place that are mixed as well; eight decide, the others are for a carry


def places(data: bytes, start: int, stop: int, rate: int) -> Iterator[int]:
    """Return where to cut between two places, and the second of them.

    Pieces are at least four times `rate` bytes long, five times on average, and twenty times at
    most. The last one may be shorter.

    A loop over bytes would take fifty times as long as the product of two large numbers: each byte
    of it depends on eight bytes of the data, and hardly ever, by a carry, on earlier ones.
    """
    least, most = 4 * rate, 20 * rate
    find = _pattern(min(rate, _RAREST)).search
    size = min(_AT_ONCE, max(16 * rate, 4096)) if rate <= _AT_ONCE // 32 else max(4096, 2 * rate)
    cut, place = start, start + least
    first = last = start
    mixed = b""
    while place < stop:
        if place >= last:  # the bytes in between are skipped
            first, last = max(place - _REACH, start), min(place + size, stop)
            number = int.from_bytes(data[first:last], "little") * _MIXER
            mixed = number.to_bytes(last - first + 8, "little")
        found = find(mixed, place - first, last - first)
        end = first + found.end() if found else last
        while end - cut > most:
            cut += most
            yield cut
        if found and end - cut >= least:
            yield end
            cut = end
        place = max(end, cut + least)
    yield stop


@cache
def _pattern(rate: int) -> re.Pattern[bytes]:
    """Return a pattern that begins at one byte in `rate`, a power of two, on average."""
    zeros, rest = divmod(rate.bit_length() - 1, 8)
    last = b"[\\x00-\\x%02x]" % (2 ** (8 - rest) - 1) if rest else b""
    return re.compile(zeros * b"\\x00" + last)
