"""Clocks: checkpoint ids are times, and a thread goes on from the newest of a namespace.

LangGraph makes ids by the wall clock of the machine (UUID version 6). Where machines take turns on
a thread, one whose clock is behind would make a checkpoint that sorts before its parent, and no
reader would see it. So a process that has read an id makes only later ones, as a hybrid logical
clock does: LangGraph's generator never goes back, and is set forward to what was read.
"""

from __future__ import annotations

import re
import time

from langgraph.checkpoint.base import id as generator

AHEAD = 24 * 3600  # seconds by which an id that was read may set the generator forward

_UUID6 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-6[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_EPOCH = 0x01B21DD213814000  # 100 ns intervals between the epochs of UUIDs and of Unix


def time_of(checkpoint_id: str) -> int | None:
    """Return when a UUID of version 6 was made, in 100 ns since its epoch; None for other ids."""
    if not _UUID6.fullmatch(checkpoint_id):
        return None
    return int(checkpoint_id[:8] + checkpoint_id[9:13] + checkpoint_id[15:18], 16)


def see(checkpoint_id: str) -> None:
    """Make LangGraph's next ids later than this one, unless it is too far ahead of the clock."""
    seen, last = time_of(checkpoint_id), getattr(generator, "_last_v6_timestamp", 0) or 0
    if seen is None or seen <= last:
        return
    now = time.time_ns() // 100 + _EPOCH
    if seen <= now + AHEAD * 10_000_000:
        # It has no other way to be set forward, and no type of its own.
        generator._last_v6_timestamp = seen  # type: ignore[assignment]  # noqa: SLF001


def seconds_behind(checkpoint_id: str, parent_id: str) -> float:
    """Return by how many seconds an id is older than its parent's; both are times."""
    return ((time_of(parent_id) or 0) - (time_of(checkpoint_id) or 0)) / 10_000_000


def is_backwards(checkpoint_id: str, parent_id: str) -> bool:
    """Return whether an id sorts before its parent's though both are times."""
    return (
        checkpoint_id < parent_id
        and time_of(checkpoint_id) is not None
        and time_of(parent_id) is not None
    )
