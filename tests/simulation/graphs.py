"""Real graphs, whose checkpointer is a saver of the simulation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import Any

from .savers import Simulated

GRAPHS: Mapping[str, Callable[[], Any]] = {}


def play(name: str, saver: Simulated, thread_id: str, run: str, rng: Random) -> None:
    """Run a graph once."""
