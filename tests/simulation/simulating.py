"""Simulating: a server and everything around it, for any number of runs."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from .graphs import at_once
from .moves import Move, mixed, moves
from .scheduler import Result, run
from .server import PREAMBLE, Server, running
from .shrink import shrunk
from .thresholds import low_thresholds


class Simulator:
    """What runs seeds, with faults of some kinds.

    Where it `mixes`, each seed has a few of them.
    """

    def __init__(
        self, server: Server, kinds: Collection[str], steps: int, *, mixes: bool = False
    ) -> None:
        self._server, self._kinds, self._steps, self._mixes = server, kinds, steps, mixes

    def kinds(self, seed: int) -> Collection[str]:
        """The kinds of faults of a seed."""
        return mixed(seed, self._kinds) if self._mixes else self._kinds

    def moves(self, seed: int) -> list[Move]:
        """The moves that a seed stands for."""
        return moves(seed, self._steps, self.kinds(seed))

    def run(self, seed: int, some: Sequence[Move] | None = None) -> Result:
        """Make the moves of a seed, or some of them."""
        made = self.moves(seed) if some is None else some
        return run(self._server, seed, made, self.kinds(seed))

    def runs(self, seed: int, seconds: float) -> Iterator[Result]:
        """The runs of this seed and the next ones, until the time is over; one at least."""
        deadline = time.monotonic() + seconds
        while True:
            yield self.run(seed)
            seed += 1
            if time.monotonic() >= deadline:
                return

    def shrink(self, result: Result, *, seconds: float) -> Result:
        """The shortest run that fails as this one does."""
        return shrunk(result, lambda some: self.run(result.seed, some), seconds=seconds)


@contextmanager
def simulator(
    binary: Path, kinds: Collection[str], steps: int, *, mixes: bool = False
) -> Iterator[Simulator]:
    """A simulator with a server of its own."""
    with at_once(), low_thresholds(PREAMBLE), running(binary) as server:
        yield Simulator(server, kinds, steps, mixes=mixes)
