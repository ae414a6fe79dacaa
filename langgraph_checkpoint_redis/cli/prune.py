"""`prune`: remove what is old, of many threads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated

import typer

from langgraph_checkpoint_redis import ThreadInfo
from langgraph_checkpoint_redis._admin import Admin, Limits, Pruned
from langgraph_checkpoint_redis.saver import RedisSaver

from ._output import count, emit, one_line, progress, say, size, span
from ._session import (
    CommandError,
    DryRun,
    Failures,
    Idle,
    IdPrefix,
    Json,
    Yes,
    confirm,
    existing,
)


@dataclass
class Tally:
    """What was removed, or would be."""

    looked_at: int = 0
    deleted: int = 0
    shortened: int = 0
    checkpoints: int = 0
    bytes: int = 0

    def add(self, before: ThreadInfo, after: ThreadInfo | None) -> None:
        """Count a thread by what it had before and has after."""
        gone = before.checkpoints - (after.checkpoints if after else 0)
        self.looked_at += 1
        self.deleted += after is None
        self.shortened += after is not None and gone > 0
        self.checkpoints += gone
        self.bytes += (before.bytes or 0) - ((after.bytes or 0) if after else 0)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("prune")(prune)


def prune(
    context: typer.Context,
    threads: Annotated[
        list[str] | None, typer.Argument(metavar="THREAD", help="Only these; else all.")
    ] = None,
    keep_last: Annotated[
        int | None, typer.Option(min=1, help="Checkpoints of each namespace to keep, the newest.")
    ] = None,
    idle: Idle = None,
    id_prefix: IdPrefix = "",
    dry_run: DryRun = False,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Delete idle threads (--idle), and all but the newest checkpoints of others (--keep-last).

    Threads that are pinned or leased are not deleted, and ancestors that delta channels are rebuilt
    from are kept.
    """
    if keep_last is None and idle is None:
        raise CommandError("say what to prune: --keep-last, --idle or both", 2)
    limits = Limits.parse(id_prefix, idle, keep_last)
    with context.obj.saver() as saver:
        if threads:
            for thread in threads:
                existing(saver, thread)
        if not dry_run:
            confirm(f"{_plan(limits, threads)}?", yes=yes)
        tally, failures = Tally(), Failures()
        for before, after in _prune_each(saver, threads, limits, failures, dry_run=dry_run):
            tally.add(before, after)
            if dry_run:
                _say_plan(before, after, json=json)
    _report(tally, dry_run=dry_run, json=json)
    failures.check()


def _plan(limits: Limits, threads: list[str] | None) -> str:
    which = count(len(threads), "thread") if threads else "all threads"
    if limits.choice.prefix:
        which += f" whose ids begin with {limits.choice.prefix!r}"
    parts = []
    if limits.choice.idle is not None:
        parts.append(f"delete those that were idle for {span(limits.choice.idle)}")
    if limits.keep_last is not None:
        parts.append(f"keep only the {count(limits.keep_last, 'newest checkpoint')} of the others")
    return f"Of {which}, {' and '.join(parts)}"


def _prune_each(
    saver: RedisSaver,
    threads: list[str] | None,
    limits: Limits,
    failures: Failures,
    *,
    dry_run: bool,
) -> Iterator[Pruned]:
    """Prune threads, or say what would become of them; yield each before and after."""
    admin, chosen = Admin(saver), threads or None
    found: Iterable[Pruned | None]
    if dry_run:
        infos = failures.sift(admin.read_infos(chosen, prefix=limits.choice.prefix))
        found = (Pruned(before, _after(before, limits)) if before else None for _, before in infos)
    else:
        found = (pruned for _, pruned in failures.sift(admin.prune(limits, chosen)))
    with progress("threads", len(threads) if threads else None) as report:
        for number, pruned in enumerate(found, 1):
            report(number)
            if pruned:
                yield pruned


def _after(before: ThreadInfo, limits: Limits) -> ThreadInfo | None:
    """Return what would stay of a thread. Its bytes would change, too, and are not known."""
    kept = before.pinned or before.lease is not None
    if limits.choice.is_idle(before.last) and not kept:
        return None
    if limits.keep_last is None:
        return before
    namespaces = {name: min(number, limits.keep_last) for name, number in before.namespaces.items()}
    return ThreadInfo(**{**vars(before), "namespaces": namespaces})


def _say_plan(before: ThreadInfo, after: ThreadInfo | None, *, json: bool) -> None:
    gone = before.checkpoints - (after.checkpoints if after else 0)
    if not gone:
        return
    if json:
        emit({"thread_id": before.thread_id, "delete": after is None, "checkpoints": gone})
    elif after is None:
        say(one_line(f"would delete {before.thread_id}: {size(before.bytes)}"))
    else:
        say(one_line(f"would shorten {before.thread_id}: up to {count(gone, 'checkpoint')}"))


def _report(tally: Tally, *, dry_run: bool, json: bool) -> None:
    if json:
        emit({"dry_run": dry_run, **vars(tally)})
        return
    would, gone = ("would be ", "would go at most") if dry_run else ("", "gone")
    freed = "" if dry_run else f", {size(tally.bytes)} freed"
    say(
        f"{count(tally.looked_at, 'thread')} looked at: {tally.deleted:,} {would}deleted, "
        f"{tally.shortened:,} {would}shortened; "
        f"{count(tally.checkpoints, 'checkpoint')} {gone}{freed}"
    )
