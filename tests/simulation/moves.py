"""The moves of a run: what a seed stands for, and which kinds of faults there are.

Each move has a seed of its own for everything that is random in it. So a run without some of its
moves does the others as before, which is what shrinking lives on.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from random import Random
from typing import NamedTuple

# What may become of a request, and its weight in a wild phase.
FATES: Mapping[str, int] = {
    "lost_request": 6,
    "lost_reply": 6,
    "repeat": 4,
    "delay": 5,
    "give_up": 2,
    "abandon": 5,
}
# What may happen between two requests.
EVENTS: Mapping[str, int] = {
    "clock": 3,
    "server_clock": 2,
    "expire_marks": 3,
    "expire_thread": 1,
    "evict_key": 1,
    "evict_fields": 1,
    "restart": 1,
    "rollback": 1,
    "failover": 1,
    "script_flush": 1,
}
# What clients do that is no fault, but was one's cause before; see `clients.py`.
HABITS: Mapping[str, str] = {
    "cut_deltas": "remove checkpoints that delta channels of later ones are rebuilt from",
    "race_runs": "delete runs that go on meanwhile",
}
KINDS = frozenset({*FATES, *EVENTS, *HABITS})

STEPS, CHECKS = 60, 6  # weights of moves that are no fault
SHORTEST_PHASE, LONGEST_PHASE = 15, 80  # moves
INTENSITIES = (0.0, 0.0, 0.3, 1.0)  # of calm, and of ever wilder phases
MOST_MIXED = 6  # kinds
PICKS = 7  # as many as there are clients


class Move(NamedTuple):
    """One decision: what happens, to which of those that it may happen to, and a seed."""

    kind: str
    pick: int
    seed: int


def kinds_of(faults: str, without: Collection[str] = ()) -> frozenset[str]:
    """The kinds that a command line names: `all`, `mixed`, `none`, or a list with commas."""
    words = {"all": KINDS, "mixed": KINDS, "none": frozenset[str]()}
    named = words.get(faults, frozenset(faults.split(",")))
    if unknown := sorted({*named, *without} - KINDS):
        raise ValueError(f"no such kinds of faults: {unknown}. There are {sorted(KINDS)}")
    return named - {*without}


def mixed(seed: int, kinds: Collection[str]) -> frozenset[str]:
    """A few of the kinds, others for each seed.

    Faults of all kinds at once hide each other: after an eviction, for example, much is permitted.
    """
    rng = Random(f"mixed {seed}")
    count = min(rng.randint(1, MOST_MIXED), len(kinds))
    return frozenset(rng.sample(sorted(kinds), count))


def moves(seed: int, steps: int, kinds: Collection[str]) -> list[Move]:
    """The moves of a run, in calm and wild phases."""
    return [*_moves(Random(f"moves {seed}"), steps, kinds)]


def _moves(rng: Random, steps: int, kinds: Collection[str]) -> Iterator[Move]:
    weights, left = _weights(0.0, kinds), 0
    for _ in range(steps):
        if not left:
            weights = _weights(rng.choice(INTENSITIES), kinds)
            left = rng.randint(SHORTEST_PHASE, LONGEST_PHASE)
        left -= 1
        (kind,) = rng.choices([*weights], [*weights.values()])
        yield Move(kind, rng.randrange(PICKS), rng.getrandbits(48))


def _weights(intensity: float, kinds: Collection[str]) -> dict[str, float]:
    weights: dict[str, float] = {"step": STEPS, "check": CHECKS}
    if {"rollback", "failover"} & {*kinds}:
        weights["snapshot"] = 2
    if "delay" in kinds:
        weights["arrive"] = 3
    for kind, weight in {**FATES, **EVENTS}.items():
        if kind in kinds and intensity:
            weights[kind] = weight * intensity
    return weights
