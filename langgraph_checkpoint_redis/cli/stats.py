"""`stats`: what all threads take, how much sharing saves, and how fast it grows."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any, NamedTuple

import typer
from redis.exceptions import ResponseError

from langgraph_checkpoint_redis import Stats, ThreadInfo
from langgraph_checkpoint_redis._admin import Admin, Tally, is_cluster
from langgraph_checkpoint_redis.saver import RedisSaver

from ._output import Column, count, emit, facts, progress, say, size, span, styled, table
from ._session import Failures, IdPrefix, Json, Session
from .threads import COLUMNS, document, row

DAY = timedelta(days=1)
WINDOWS = (1, 7)  # days that growth is estimated for


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("stats")(stats)


class Growth:
    """Estimates the bytes of the last days, as if each thread had grown evenly over its life."""

    def __init__(self, now: datetime) -> None:
        self._now = now
        self._bytes = dict.fromkeys(WINDOWS, 0.0)

    def add(self, info: ThreadInfo) -> None:
        """Count the part of a thread's bytes that fell into each window."""
        if info.bytes is None or info.first is None or info.last is None:
            return
        for days in WINDOWS:
            since = self._now - days * DAY
            if info.first >= since:
                self._bytes[days] += info.bytes
            elif info.last > since:
                self._bytes[days] += info.bytes * ((info.last - since) / (info.last - info.first))

    def per_day(self) -> dict[int, int]:
        """Return bytes per day, by the number of days."""
        return {days: round(total / days) for days, total in self._bytes.items()}


class Memory(NamedTuple):
    """The memory that the server uses and may use; a limit of 0 is none."""

    used: int
    limit: int


def stats(context: typer.Context, id_prefix: IdPrefix = "", json: Json = False) -> None:
    """Sum up all threads: memory by kind, what sharing saves, the biggest, and growth."""
    with context.obj.saver() as saver:
        failures = Failures()
        found, growth = _sum_up(saver, id_prefix, failures)
    memory = _memory(context.obj)
    if json:
        emit(_document(found, growth, memory))
    else:
        _show(found, growth, memory)
    failures.check()


def _show(found: Stats, growth: Mapping[int, int], memory: Memory | None) -> None:
    facts(_facts(found, growth, memory))
    if found.bytes_by_key:
        say()
        _show_kinds(found.bytes_by_key)
    if found.biggest:
        say()
        table((Column("biggest thread"), *COLUMNS[1:]), map(row, found.biggest))


def _sum_up(
    saver: RedisSaver, id_prefix: str, failures: Failures
) -> tuple[Stats, Mapping[int, int]]:
    tally, growth = Tally(), Growth(datetime.now(timezone.utc))
    with progress("threads") as report:
        found = failures.sift(Admin(saver).read_infos(prefix=id_prefix))
        for number, (_, info) in enumerate(found, 1):
            report(number)
            tally.add(info)
            if info:
                growth.add(info)
    return tally.stats(), growth.per_day()


def _memory(session: Session) -> Memory | None:
    """Return the server's memory; `None` for a cluster, or if the server does not allow INFO."""
    with session.client() as client:
        if is_cluster(client):
            return None
        try:
            info = client.info("memory")
        except ResponseError:
            return None
    return Memory(int(info.get("used_memory", 0)), int(info.get("maxmemory", 0)))


def _document(found: Stats, growth: Mapping[int, int], memory: Memory | None) -> dict[str, Any]:
    return {
        "threads": found.threads,
        "checkpoints": found.checkpoints,
        "pending_writes": found.pending_writes,
        "pinned": found.pinned,
        "expiring": found.expiring,
        "bytes": found.bytes,
        "bytes_by_key": found.bytes_by_key and dict(found.bytes_by_key),
        "shared_bytes": found.shared_bytes,
        "bytes_a_day": {f"last_{days}_days": number for days, number in growth.items()},
        "server_bytes": memory and memory.used,
        "server_limit": memory and (memory.limit or None),
        "biggest": [document(info) for info in found.biggest],
    }


def _facts(found: Stats, growth: Mapping[int, int], memory: Memory | None) -> list[tuple[str, Any]]:
    average = (
        f", {size(found.bytes // found.threads)} each" if found.bytes and found.threads else ""
    )
    pairs: list[tuple[str, Any]] = [
        ("threads", f"{found.threads:,}: {found.pinned:,} pinned, {found.expiring:,} expire"),
        ("checkpoints", f"{found.checkpoints:,}, with {count(found.pending_writes, 'write')}"),
        ("memory", styled((size(found.bytes), "bold"), average)),
        ("saved", _saved(found)),
        ("growth", "; ".join(f"{size(n)} a day in the last {_days(d)}" for d, n in growth.items())),
    ]
    if memory:
        pairs.append(("server", _room(memory, growth[WINDOWS[-1]])))
    return pairs


def _days(days: int) -> str:
    return count(days, "day") if days > 1 else "day"


def _saved(found: Stats) -> str:
    if found.shared_bytes is None or found.bytes is None:
        return "not known: the server does not allow MEMORY USAGE"
    times = (found.bytes + found.shared_bytes) / found.bytes if found.bytes else 1
    return f"{size(found.shared_bytes)} by sharing and compression: {times:.1f} times less"


def _room(memory: Memory, per_day: int) -> str:
    if not memory.limit:
        return f"{size(memory.used)} used, no limit set"
    left = memory.limit - memory.used
    full = f", full in {span(left / per_day * DAY.total_seconds())}" if per_day and left > 0 else ""
    return f"{size(memory.used)} used of {size(memory.limit)}{full}"


def _show_kinds(bytes_by_key: Mapping[str, int]) -> None:
    total = sum(bytes_by_key.values()) or 1
    kinds = sorted(bytes_by_key.items(), key=lambda item: -item[1])
    table(
        (Column("kind of key"), Column("size", right=True), Column("share", right=True)),
        ([name, size(number), f"{number / total:.0%}"] for name, number in kinds if number),
    )
