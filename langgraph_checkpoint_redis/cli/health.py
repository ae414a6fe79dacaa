"""`verify` and `repair`: damage in threads, found and removed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Annotated

import typer

from langgraph_checkpoint_redis import Problem
from langgraph_checkpoint_redis._admin import Admin
from langgraph_checkpoint_redis.saver import RedisSaver

from ._output import count, emit, one_line, progress, say, styled
from ._session import DryRun, Failures, IdPrefix, Json, Yes, check_there, confirm

KEPT = "incomplete"  # the kind that `repair` leaves, as it can still be read
HARMLESS = "garbage"  # the kind that costs memory and no more

_STYLES = {
    "lost": "bold red",
    "incomplete": "bold yellow",
    "unindexed": "bold yellow",
    "garbage": "dim",
}

Threads = Annotated[
    list[str] | None, typer.Argument(metavar="THREAD", help="Only these; else all.")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("verify")(verify)
    app.command("repair")(repair)


def verify(
    context: typer.Context, threads: Threads = None, id_prefix: IdPrefix = "", json: Json = False
) -> None:
    """Look for damage in threads; exit with 1 if there is more than garbage.

    Reads all of each thread, a part at a time, and needs no key for encrypted ones.
    """
    tally, failures = Counter[str](), Failures()
    with context.obj.saver() as saver:
        for thread_id in _chosen(saver, threads, id_prefix):
            found = Admin(saver).verify(thread_id)
            if isinstance(found, Exception):
                failures.tell(thread_id, found)
            else:
                _tell(thread_id, found, tally, json=json)
    _sum_up(tally, "found", json=json)
    failures.check()
    if tally["lost"] or tally["incomplete"] or tally["unindexed"]:
        raise typer.Exit(1)


def repair(
    context: typer.Context,
    threads: Threads = None,
    id_prefix: IdPrefix = "",
    dry_run: DryRun = False,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Remove from threads what cannot be read any more, and what nothing leads to.

    All else stays. Threads that another has leased are left alone; then it exits with 1.
    """
    tally, failures = Counter[str](), Failures()
    with context.obj.saver() as saver:
        which = count(len(threads), "thread") if threads else "all threads"
        if not dry_run:
            confirm(f"Remove what is lost or garbage from {which}?", yes=yes)
        for thread_id in _chosen(saver, threads, id_prefix):
            removed = _repaired(Admin(saver), thread_id, dry_run=dry_run)
            if isinstance(removed, Exception):
                failures.tell(thread_id, removed)
            else:
                _tell(thread_id, removed, tally, json=json)
    _sum_up(tally, "would be removed" if dry_run else "removed", json=json)
    failures.check()


def _repaired(admin: Admin, thread_id: str, *, dry_run: bool) -> list[Problem] | Exception:
    """Repair a thread; return what was removed, or would be."""
    if not dry_run:
        return admin.repair(thread_id)
    found = admin.verify(thread_id)
    if isinstance(found, Exception):
        return found
    return [problem for problem in found if problem.kind != KEPT]


def _chosen(saver: RedisSaver, threads: list[str] | None, id_prefix: str) -> Iterator[str]:
    for thread in threads or ():
        check_there(saver, thread)
    found: Iterable[str] = threads or saver.list_threads(prefix=id_prefix)
    with progress("threads", len(threads) if threads else None) as report:
        for number, thread_id in enumerate(found, 1):
            yield thread_id
            report(number)


def _tell(thread_id: str, problems: list[Problem], tally: Counter[str], *, json: bool) -> None:
    tally["threads"] += 1
    tally["damaged"] += any(problem.kind != HARMLESS for problem in problems)
    tally.update(problem.kind for problem in problems)
    for problem in problems:
        if json:
            emit({"thread_id": thread_id, **vars(problem)})
        else:
            place = " ".join(filter(None, (problem.namespace, problem.checkpoint_id)))
            kind = (f"{problem.kind:<10}", _STYLES[problem.kind])
            say(styled(kind, f"  {thread_id}  {place}  ", one_line(problem.reason)))


def _sum_up(tally: Counter[str], what: str, *, json: bool) -> None:
    kinds = ("lost", "incomplete", "unindexed", "garbage")
    if json:
        emit({name: tally[name] for name in ("threads", "damaged", *kinds)})
        return
    found = ", ".join(f"{tally[kind]:,} {kind}" for kind in kinds if tally[kind])
    say(f"{count(tally['threads'], 'thread')} looked at: {found or 'nothing'} {what}")
