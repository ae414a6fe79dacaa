"""What a simulation prints: how much was done, and the few moves of a failure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TypeVar

from .scheduler import Result

T = TypeVar("T")


def summary(results: Sequence[Result], seconds: float) -> str:
    """What some runs did, all together."""
    return "\n".join(_lines(results, seconds))


def _lines(results: Sequence[Result], seconds: float) -> Iterator[str]:
    seeds = [result.seed for result in results]
    requests = sum(result.requests for result in results)
    steps = sum(len(result.moves) for result in results)
    yield f"seeds     {min(seeds)} to {max(seeds)}" if len(seeds) > 1 else f"seed      {seeds[0]}"
    yield (
        f"work      {steps:,} steps, {requests:,} requests, "
        f"{sum(result.checks for result in results):,} comparisons "
        f"in {seconds:.0f} s, {requests / seconds:,.0f} requests a second"
    )
    yield f"faults    {_counts(_sum([result.faults for result in results]))}"
    outcomes = _sum([result.outcomes for result in results])
    for call in sorted({name for name, _ in outcomes}):
        ends = Counter({end: count for (name, end), count in outcomes.items() if name == call})
        yield f"  {call:27} {_counts(ends)}"
    yield f"chunks    {_counts(_sum([result.ways for result in results]))}"
    refusals = _sum([result.refusals for result in results])
    yield f"refusals  {_counts(refusals)}"
    failures = Counter(result.failure.kind for result in results if result.failure)
    yield f"failures  {_counts(failures)}"


def _sum(counters: Sequence[Counter[T]]) -> Counter[T]:
    total = Counter[T]()
    for counter in counters:
        total.update(counter)
    return total


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counter.most_common()) or "none"


def story(result: Result, command: str) -> str:
    """A failure: the seed, what it takes, and how to see it again."""
    lines = [
        f"seed {result.seed} fails: {result.failure}",
        f"{len(result.moves)} moves do the same:",
        *[f"  {line}" for line in result.trace],
        f"again:  {command}",
    ]
    return "\n".join(lines)
