"""`threads`: which threads there are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timezone
from enum import Enum
from heapq import nlargest
from itertools import islice
from typing import Annotated, Any

import typer

from langgraph_checkpoint_redis import ThreadInfo
from langgraph_checkpoint_redis._admin import Admin, Choice
from langgraph_checkpoint_redis.saver import RedisSaver

from ._output import Column, ago, count, emit, progress, say, size, span, stamp, table
from ._session import CommandError, Failures, Idle, IdPrefix, Json

COLUMNS = (
    Column("thread"),
    Column("checkpoints", right=True),
    Column("writes", right=True),
    Column("size", right=True),
    Column("last used", right=True),
    Column("expires"),
)


class Order(str, Enum):
    """The orders of threads."""

    size = "size"
    age = "age"
    recent = "recent"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("threads")(threads)


def threads(
    context: typer.Context,
    id_prefix: IdPrefix = "",
    idle: Idle = None,
    sort: Annotated[
        Order | None,
        typer.Option(help="The largest, the longest idle or the last used ones; looks at all."),
    ] = None,
    limit: Annotated[int, typer.Option(min=0, help="How many to show; 0 for all.")] = 50,
    json: Json = False,
) -> None:
    """List threads, in no order as they are found, or the first ones of an order."""
    if sort and not limit:
        raise CommandError("--sort keeps the first ones in memory: it needs a --limit above 0", 2)
    with context.obj.saver() as saver:
        failures = Failures()
        found = _infos(saver, id_prefix, idle, failures)
        chosen = iter(_first(found, sort, limit)) if sort else found
        shown = islice(chosen, limit or None)
        if json:
            for info in shown:
                emit(document(info))
        else:
            table(COLUMNS, map(row, shown))
            if next(chosen, None):
                say(f"there are more than these {limit}: --limit 0, or --sort", error=True)
    failures.check()


def _infos(
    saver: RedisSaver, id_prefix: str, idle: float | None, failures: Failures
) -> Iterator[ThreadInfo]:
    choice = Choice.parse(id_prefix, idle)
    for _, info in failures.sift(Admin(saver).read_infos(prefix=id_prefix)):
        if info and (idle is None or choice.is_idle(info.last)):
            yield info


def _first(found: Iterable[ThreadInfo], order: Order, limit: int) -> list[ThreadInfo]:
    """Return the first threads of an order. No others are held in memory."""
    with progress("threads") as report:
        return nlargest(limit, _counted(found, report), key=_KEYS[order])


def _counted(found: Iterable[ThreadInfo], report: Callable[[int], None]) -> Iterator[ThreadInfo]:
    for number, info in enumerate(found, 1):
        report(number)
        yield info


def _age(info: ThreadInfo) -> float:
    now = datetime.now(timezone.utc)
    return (now - info.last).total_seconds() if info.last else float("-inf")


_KEYS: dict[Order, Callable[[ThreadInfo], Any]] = {
    Order.size: lambda info: (info.bytes or 0, info.checkpoints),
    Order.age: _age,
    Order.recent: lambda info: info.last.timestamp() if info.last else float("-inf"),
}


def row(info: ThreadInfo) -> list[str]:
    """Format a thread as a row of the table."""
    return [
        info.thread_id,
        f"{info.checkpoints:,}",
        f"{info.pending_writes:,}",
        size(info.bytes),
        ago(info.last),
        life(info),
    ]


def life(info: ThreadInfo) -> str:
    """Format when a thread expires, and its lease."""
    end = "pinned" if info.pinned else "never" if info.ttl is None else f"in {span(info.ttl)}"
    return end if info.lease is None else f"{end}, leased for {span(info.lease)}"


def summary(info: ThreadInfo) -> str:
    """Describe a thread in a few words."""
    namespaces = count(len(info.namespaces), "namespace")
    return f"{count(info.checkpoints, 'checkpoint')} in {namespaces}, {size(info.bytes)}"


def document(info: ThreadInfo) -> dict[str, Any]:
    """Return a thread as JSON."""
    return {
        "thread_id": info.thread_id,
        "checkpoints": info.checkpoints,
        "namespaces": dict(info.namespaces),
        "pending_writes": info.pending_writes,
        "runs": info.runs,
        "first": stamp(info.first),
        "last": stamp(info.last),
        "bytes": info.bytes,
        "bytes_by_key": info.bytes_by_key and dict(info.bytes_by_key),
        "shared_bytes": info.shared_bytes,
        "ttl": info.ttl,
        "pinned": info.pinned,
        "lease": info.lease,
    }
