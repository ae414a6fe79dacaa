"""`delete`, `copy`, `pin`, `unpin`: one thread at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from langgraph_checkpoint_redis import ThreadInfo

from ._output import emit, one_line, say
from ._session import DryRun, Json, Yes, check_there, confirm, duration, existing, info_of
from .threads import summary

Tombstone = Annotated[
    float,
    typer.Option(
        parser=duration,
        metavar="TIME",
        show_default="1h",
        help="How long to refuse runs that are under way; 0 for not at all.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for name, command in (("delete", delete), ("copy", copy), ("pin", pin), ("unpin", unpin)):
        app.command(name)(command)


def delete(
    context: typer.Context,
    threads: Annotated[list[str], typer.Argument(metavar="THREAD")],
    tombstone: Tombstone = "1h",  # type: ignore[assignment]  # parsed like what is typed
    dry_run: DryRun = False,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Delete threads, with all that they have.

    For an hour, runs that began before that cannot bring them back; new runs can begin them.
    """
    with context.obj.saver(tombstone=tombstone or None) as saver:
        for thread in threads:
            check_there(saver, thread)
        found = {thread: info_of(saver, thread) for thread in threads}
        if not dry_run:
            confirm(_question(found), yes=yes)
            for thread in found:
                saver.delete_thread(thread)
    for thread, info in found.items():
        _report(
            f"{'would delete' if dry_run else 'deleted'} {thread}: {_size(info)}",
            {"thread_id": thread, "deleted": not dry_run, "bytes": info and info.bytes},
            json=json,
        )


def _question(found: Mapping[str, ThreadInfo | None]) -> str:
    if len(found) > 1:
        return f"Delete {len(found)} threads?"
    ((thread, info),) = found.items()
    return f"Delete thread {thread!r} ({_size(info)})?"


def _size(info: ThreadInfo | None) -> str:
    return summary(info) if info else "damaged"


def copy(context: typer.Context, source: str, target: str, json: Json = False) -> None:
    """Copy all of a thread to a new one."""
    with context.obj.saver() as saver:
        info = existing(saver, source)
        saver.copy_thread(source, target)
    document = {"source": source, "target": target, "checkpoints": info.checkpoints}
    _report(f"copied {source} to {target}: {summary(info)}", document, json=json)


def pin(context: typer.Context, thread: str, json: Json = False) -> None:
    """Pin a thread, so that it never expires."""
    with context.obj.saver() as saver:
        saver.pin(thread)
    _report(f"pinned {thread}", {"thread_id": thread, "pinned": True}, json=json)


def unpin(context: typer.Context, thread: str, json: Json = False) -> None:
    """Let a thread expire again, from its next use on, by the options of savers."""
    with context.obj.saver() as saver:
        saver.unpin(thread)
    _report(f"unpinned {thread}", {"thread_id": thread, "pinned": False}, json=json)


def _report(text: str, document: dict[str, Any], *, json: bool) -> None:
    if json:
        emit(document)
    else:
        say(one_line(text))
