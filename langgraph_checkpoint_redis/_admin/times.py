"""The times in checkpoint ids. LangGraph makes ids as UUIDs of version 6, which sort by time."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timedelta, timezone
from uuid import UUID

_TICKS = 10  # in a microsecond
_LOW_BITS = 12  # of the time in an id, which come behind its version
_START_OF_TICKS = datetime(1582, 10, 15, tzinfo=timezone.utc)


def parse_time(checkpoint_id: bytes) -> datetime | None:
    """Return when a checkpoint was made; None for an id that is not a UUID of version 6."""
    try:
        number = UUID(checkpoint_id.decode()).int
    except ValueError:
        return None
    if number >> 76 & 0xF != 6 or number >> 62 & 3 != 2:  # noqa: PLR2004 - UUIDs that sort by time
        return None
    ticks = number >> 80 << 12 | number >> 64 & 0xFFF
    return _START_OF_TICKS + timedelta(microseconds=ticks // _TICKS)


def parse_any_time(checkpoint_id: str) -> datetime | None:
    """Return when a checkpoint was made; None for an id that is not a UUID of version 1 or 6."""
    with suppress(ValueError):
        uuid = UUID(checkpoint_id)
        if uuid.version == 1:
            return _START_OF_TICKS + timedelta(microseconds=uuid.time // _TICKS)
    return parse_time(checkpoint_id.encode())


def leading_bits(timestamp: float) -> int:
    """Return the first 48 bits of the ids that are made at a time, in seconds since 1970."""
    seconds = timestamp - _START_OF_TICKS.timestamp()
    return max(int(seconds * 1_000_000 * _TICKS), 0) >> _LOW_BITS
