"""Machines: what each simulated process has of its own that Python has once.

These are the clock that checkpoint ids are made of and the last id that was made of it; and random
numbers, which are drawn from the seed of a move. Whoever runs does so `with` a machine.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from random import Random
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from langgraph.checkpoint.base import id as ids

from langgraph_checkpoint_redis._admin import prune
from langgraph_checkpoint_redis._core import clock as _clock

_LAST = "_last_v6_timestamp"  # the last time that an id was made of
NANOSECONDS = 1_000_000  # in a millisecond


class Machine:
    """A machine, with a clock that is `skew` milliseconds ahead, or behind."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.skew = 0
        self._last_id: int | None = None

    def restart(self) -> None:
        """Forget what processes forget; the clock stays as wrong as it is."""
        self._last_id = None

    @contextmanager
    def running(self, now: int, seed: int) -> Iterator[None]:
        """Be the one that runs, at a time in milliseconds."""
        assert _LAST in vars(ids), "LangGraph makes ids otherwise"
        random.seed(seed)
        clock = SimpleNamespace(
            time_ns=lambda: (now + self.skew) * NANOSECONDS, time=lambda: (now + self.skew) / 1000
        )
        with ExitStack() as stack:
            for module in (ids, _clock, prune):
                stack.enter_context(patch.object(module, "time", clock))
            vars(ids)[_LAST] = self._last_id
            try:
                yield
            finally:
                self._last_id = vars(ids)[_LAST]


@contextmanager
def drawn_tokens(seed: int) -> Iterator[None]:
    """Let the tokens of the package, which are drawn by the system elsewhere, come from a seed."""
    rng = Random(f"tokens {seed}")
    with ExitStack() as stack:
        found = [
            module
            for name, module in sorted(sys.modules.items())
            if name.startswith("langgraph_checkpoint_redis") and hasattr(module, "token_bytes")
        ]
        assert found, "no module draws tokens any more"
        for module in found:
            stack.enter_context(patch.object(module, "token_bytes", _drawing(rng)))
        yield


def _drawing(rng: Random) -> Any:
    return lambda size=32: rng.randbytes(size)
