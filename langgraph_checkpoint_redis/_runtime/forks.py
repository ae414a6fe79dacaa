"""What a forked process starts afresh, before any of its own code runs.

A fork copies the memory of a process, but only the thread that forks. Locks that other threads hold
stay locked in the child, permits that they have never come back, and connections lead both
processes to the same server. An object that has any of these registers here.
"""

from __future__ import annotations

import os
from typing import Protocol
from weakref import ref


class Inherited(Protocol):
    """An object that a forked process inherits in an unknown state."""

    def after_fork(self) -> None:
        """Start afresh in the child, without waiting and without sending."""


# Not a `WeakSet`: its own callback is Python, which swallows what a signal handler raises in it.
_inherited: set[ref[Inherited]] = set()


def reset_in_children(inherited: Inherited) -> None:
    """Call `after_fork` of an object in each process that is forked while the object lives."""
    _inherited.add(ref(inherited, _inherited.discard))


def _reset_all() -> None:
    for found in [*_inherited]:
        if inherited := found():
            inherited.after_fork()


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(after_in_child=_reset_all)
