"""What the server counts: round trips, commands, bytes each way, and bytes of memory.

The counts are those of all clients, so a test needs a server of its own (`servers.own_server`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import redis


class Cost(NamedTuple):
    """What the server counted, for its commands those that scripts gave, too."""

    round_trips: int
    sent: int
    received: int
    commands: dict[str, int]


def cost(client: redis.Redis, act: Callable[[], object]) -> Cost:
    """What something costs, less what counting itself does."""
    idle, _ = _counted(client, lambda: None)
    busy, commands = _counted(client, act)
    round_trips, sent, received = _less(busy, idle)
    return Cost(round_trips, sent, received, commands)


def _counted(client: redis.Redis, act: Callable[[], object]) -> tuple[list[int], dict[str, int]]:
    commands, totals = _commands(client), _totals(client)
    act()
    totals = _less(_totals(client), totals)
    now = _commands(client).items()
    return totals, {name: count - commands.get(name, 0) for name, count in now}


def _less(now: list[int], before: list[int]) -> list[int]:
    return [one - other for one, other in zip(now, before, strict=True)]


def _totals(client: redis.Redis) -> list[int]:
    stats = client.info("stats")
    names = ("total_reads_processed", "total_net_input_bytes", "total_net_output_bytes")
    return [stats[name] for name in names]


def _commands(client: redis.Redis) -> dict[str, int]:
    stats = client.info("commandstats")
    return {name.removeprefix("cmdstat_"): stat["calls"] for name, stat in stats.items()}


def moved_bytes(client: redis.Redis) -> tuple[int, int]:
    """Bytes that the server has received and sent so far."""
    _, received, sent = _totals(client)
    return received, sent


def stored_bytes(client: redis.Redis, prefix: str) -> int:
    """Bytes of memory that the keys below a prefix take."""
    keys = client.scan_iter(f"{prefix}:*", count=1000)
    return sum(client.memory_usage(key, samples=0) or 0 for key in keys)
