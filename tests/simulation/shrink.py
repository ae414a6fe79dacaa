"""Shrinking: the few moves of a failing run that still fail in the same way."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from .moves import Move
from .scheduler import Result

Replay = Callable[[Sequence[Move]], Result]


def shrunk(result: Result, replay: Replay, *, seconds: float) -> Result:
    """Leave out moves, ever smaller parts of them, while the run fails in the same way.

    It takes some `seconds` at most, and then returns the shortest run so far.
    """
    deadline = time.monotonic() + seconds
    assert result.failure
    best = _shortest_beginning(result, replay)
    for client in sorted({move.pick for move in best.moves}):  # all moves of one client at a time
        if time.monotonic() > deadline:
            return best
        rest = [move for move in best.moves if move.pick != client]
        best = _kept(best, replay(rest)) or best
    size = max(len(best.moves) // 2, 1)
    while size and time.monotonic() < deadline:
        start, found_any = 0, False
        while start < len(best.moves) and time.monotonic() < deadline:
            rest = [*best.moves[:start], *best.moves[start + size :]]
            if found := _kept(best, replay(rest)):
                best, found_any = found, True
            else:
                start += size
        if not (found_any and size == 1):
            size //= 2
    return best


def _shortest_beginning(result: Result, replay: Replay) -> Result:
    """The run up to the move that makes it fail, which is often seen much later."""
    best, too_short = result, 0
    while len(best.moves) - too_short > 1:
        length = (too_short + len(best.moves)) // 2
        if found := _kept(best, replay(best.moves[:length])):
            best = found
        else:
            too_short = length
    return best


def _kept(result: Result, shorter: Result) -> Result | None:
    """The shorter run, if it fails in the same way."""
    assert result.failure
    if not shorter.failure or shorter.failure.kind != result.failure.kind:
        return None
    shorter.moves = shorter.moves[: shorter.made + 1]
    return shorter
