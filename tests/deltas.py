"""The states of graphs with delta channels: stored as writes, and now and then as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from operator import add
from typing import Annotated

from langgraph.channels.delta import DeltaChannel
from typing_extensions import TypedDict


def _extended(state: list[str], writes: Sequence[list[str]]) -> list[str]:
    return [*state, *(text for write in writes for text in write)]


class Often(TypedDict):
    """A snapshot at every third update."""

    log: Annotated[list[str], DeltaChannel(_extended, snapshot_frequency=3)]


class Seldom(TypedDict):
    """No snapshot within a test."""

    log: Annotated[list[str], DeltaChannel(_extended, snapshot_frequency=10_000)]


class Both(TypedDict):
    """Delta channels of both kinds, and a channel that is none."""

    log: Annotated[list[str], DeltaChannel(_extended, snapshot_frequency=3)]
    notes: Annotated[list[str], DeltaChannel(_extended, snapshot_frequency=10_000)]
    plain: Annotated[list[str], add]
