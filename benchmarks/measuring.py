"""Taking times: who is asked, in which order, and what becomes of it.

All columns do the same thing one after the other, in an order that is drawn anew each time:
whatever else the machine does falls on all of them alike, and none always follows one that has left
its caches warm, or cold. What a graph does in a row, each column does in a row, before it is the
turn of the next: so a call finds caches as warm, or cold, as it would in a program. What a column
answers is checked, outside of the time taken; one that raises or answers wrongly has that for its
result.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from random import Random
from typing import Any, NamedTuple

from .columns import Session

SHOWN = 50  # characters of a wrong value


class WrongState(Exception):  # noqa: N818 - it is the result of a column
    """A column gave back something else than what was stored."""


class Cell(NamedTuple):
    """Where a result stands."""

    workload: str
    operation: str
    size: int
    mode: str
    column: str


class Recorder:
    """All that was measured: samples of each cell, or the problem that a column had there."""

    def __init__(self) -> None:
        self.samples: defaultdict[Cell, list[float]] = defaultdict(list)
        self.units: dict[Cell, str] = {}
        self.problems: dict[Cell, str] = {}
        self.notes: list[str] = []

    def add(self, cell: Cell, value: float, unit: str = "s") -> None:
        """One more sample."""
        self.samples[cell].append(value)
        self.units[cell] = unit

    def note(self, text: str) -> None:
        """Something that readers must know; once is enough."""
        if text not in self.notes:
            self.notes.append(text)

    @contextmanager
    def problems_of(self, cell: Cell) -> Iterator[None]:
        """Whatever a column raises is its result here, and the others go on."""
        try:
            yield
        except NotImplementedError:
            self.problems[cell] = "not supported"
        except Exception as error:  # noqa: BLE001 - a peer may raise anything, and it is reported
            self.problems[cell] = f"{type(error).__name__}: {error}".splitlines()[0][:200]

    def rows(self) -> list[dict[str, Any]]:
        """All cells for JSON: what was measured, or what went wrong."""
        cells = sorted({*self.samples, *self.problems})
        return [cell._asdict() | self._result(cell) for cell in cells]

    def _result(self, cell: Cell) -> dict[str, Any]:
        if cell in self.problems:
            return {"problem": self.problems[cell]}
        samples = self.samples[cell]
        return {
            "unit": self.units[cell],
            "median": statistics.median(samples),
            "p95": sorted(samples)[int(0.95 * (len(samples) - 1) + 0.5)],
            "total": sum(samples),
            "samples": len(samples),
        }


Act = Callable[[Session], Awaitable[Any]]
Check = Callable[[Session, Any], None]


class Step(NamedTuple):
    """Something that all do; who fails in what is `essential`, is out from there on."""

    operation: str
    act: Act
    check: Check | None = None
    essential: bool = False


class Bench:
    """Some open savers that are compared in one workload, at one size."""

    _random = Random(0)  # of all: one that begins with each would draw the same orders again

    def __init__(
        self, recorder: Recorder, sessions: Sequence[Session], workload: str, size: int
    ) -> None:
        """While `recording` is false, all is done as usual, but only to warm up."""
        self.recorder, self.workload, self.size = recorder, workload, size
        self.sessions = list(sessions)
        self.recording = True

    def cell(self, session: Session, operation: str) -> Cell:
        """Where a result of a session belongs."""
        column = session.column.name
        return Cell(self.workload, operation, self.size, session.mode, column)

    async def each(
        self, operation: str, act: Act, check: Check | None = None, *, essential: bool = False
    ) -> None:
        """Time one step with each."""
        await self.in_turns([Step(operation, act, check, essential)])

    async def in_turns(self, steps: Sequence[Step]) -> None:
        """Time some steps, which each does one after the other before it is the next one's turn."""
        for session in self._random.sample(self.sessions, len(self.sessions)):
            for step in steps:
                if session in self.sessions:
                    await self._step(session, step)

    async def _step(self, session: Session, step: Step) -> None:
        cell = self.cell(session, step.operation)
        if cell not in self.recorder.problems:
            with self.recorder.problems_of(cell):
                await self._once(cell, session, step.act, step.check)
        if step.essential and cell in self.recorder.problems:
            self.sessions.remove(session)

    async def _once(self, cell: Cell, session: Session, act: Act, check: Check | None) -> None:
        seconds, result = await timed(act, session)
        if check and session.column.is_checked:
            check(session, result)
        if self.recording:
            self.recorder.add(cell, seconds)


async def timed(act: Act, session: Session) -> tuple[float, Any]:
    """The seconds that something takes and its result; garbage is collected outside of them."""
    gc.collect(1)
    gc.disable()
    try:
        start = time.perf_counter()
        result = await act(session)
        return time.perf_counter() - start, result
    finally:
        gc.enable()


def expect(what: str, found: object, expected: object) -> None:
    """Raise `WrongState` if they differ."""
    if found != expected:
        raise WrongState(f"{what}: {_short(found)} instead of {_short(expected)}")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
