"""`delete`, `copy`, `pin`, `unpin`: one thread at a time."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from langgraph_checkpoint_redis._threads import ThreadInfo

from ._output import emit, one_line, say
from ._session import DryRun, Json, Yes, confirm, existing
from .threads import summary


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for name, command in (("delete", delete), ("copy", copy), ("pin", pin), ("unpin", unpin)):
        app.command(name)(command)


def delete(
    context: typer.Context,
    threads: Annotated[list[str], typer.Argument(metavar="THREAD...")],
    dry_run: DryRun = False,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Delete threads, with all that they have."""
    with context.obj.saver() as saver:
        found = [existing(saver, thread) for thread in dict.fromkeys(threads)]
        if not dry_run:
            confirm(_question(found), yes=yes)
            for info in found:
                saver.delete_thread(info.thread_id)
    for info in found:
        _report(
            f"{'would delete' if dry_run else 'deleted'} {info.thread_id}: {summary(info)}",
            {"thread_id": info.thread_id, "deleted": not dry_run, "bytes": info.bytes},
            json=json,
        )


def _question(found: list[ThreadInfo]) -> str:
    if len(found) == 1:
        return f"Delete thread {found[0].thread_id!r} ({summary(found[0])})?"
    return f"Delete {len(found)} threads?"


def copy(context: typer.Context, source: str, target: str, json: Json = False) -> None:
    """Copy all of a thread to a new one."""
    with context.obj.saver() as saver:
        info = existing(saver, source)
        saver.copy_thread(source, target)
    document = {"source": source, "target": target, "checkpoints": info.checkpoints}
    _report(f"copied {source} to {target}: {summary(info)}", document, json=json)


def pin(context: typer.Context, thread: str, json: Json = False) -> None:
    """Keep a thread for ever."""
    with context.obj.saver() as saver:
        saver.pin(thread)
    _report(f"pinned {thread}", {"thread_id": thread, "pinned": True}, json=json)


def unpin(context: typer.Context, thread: str, json: Json = False) -> None:
    """Let a thread expire again, from its next use on, as savers say."""
    with context.obj.saver() as saver:
        saver.unpin(thread)
    _report(f"unpinned {thread}", {"thread_id": thread, "pinned": False}, json=json)


def _report(text: str, document: dict[str, Any], *, json: bool) -> None:
    if json:
        emit(document)
    else:
        say(one_line(text))
