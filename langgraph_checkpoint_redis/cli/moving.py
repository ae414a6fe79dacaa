"""`export`, `import` and `migrate`: threads to files, from files, and from saver to saver."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from langgraph_checkpoint_redis.errors import EncryptedThreadError
from langgraph_checkpoint_redis.moving import (
    Moved,
    Report,
    export_threads,
    import_threads,
    migrate,
)

from ._output import count, emit, one_line, progress, say
from ._reading import AES_KEY
from ._session import FILE, CommandError, Json, Session, Yes, confirm

Threads = Annotated[
    list[str] | None, typer.Argument(metavar="THREAD", help="Only these; else all.")
]
Workers = Annotated[int, typer.Option(min=1, help="How many threads at the same time.")]
File = Annotated[
    str, typer.Argument(metavar="FILE", help="`-` for a pipe; .gz and .zst are compressed.")
]
PIPE = "-"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("export")(export)
    app.command("import")(import_)
    app.command("migrate")(migrate_)


def export(
    context: typer.Context,
    file: File,
    threads: Threads = None,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Write threads to a file, complete, with their histories.

    `-` writes them to stdout, and says on stderr what became of them.
    """
    session: Session = context.obj
    to_pipe = file == PIPE
    if to_pipe and json:
        raise CommandError("--json and the file - would both write to stdout", 2)
    path = Path(file)
    if not to_pipe and path.exists() and not (path.is_file() or path.is_fifo()):
        raise CommandError(f"{file} exists, and is neither a regular file nor a pipe", FILE)
    if not to_pipe and path.is_file():
        confirm(f"Replace {file}?", yes=yes)
    with (
        _named_errors(),
        _reported("exported", json=json, error=to_pipe) as (ended, report),
        session.mover(session.url, session.prefix) as saver,
    ):
        opened = sys.stdout.buffer if to_pipe else file
        ended(export_threads(saver, opened, thread_ids=threads or None, progress=report))


def import_(
    context: typer.Context,
    file: File,
    threads: Threads = None,
    salvage: Annotated[
        bool, typer.Option(help="Also from a damaged file, what is complete in it.")
    ] = False,
    workers: Workers = 4,
    json: Json = False,
) -> None:
    """Copy threads from a file that `export` wrote, and compare them; may be repeated.

    `-` reads them from stdin.
    """
    session: Session = context.obj
    options: dict[str, Any] = {"thread_ids": threads or None, "salvage": salvage}
    with (
        _named_errors(),
        _reported("imported", json=json) as (ended, report),
        session.mover(session.url, session.prefix) as saver,
    ):
        opened = sys.stdin.buffer if file == PIPE else file
        ended(import_threads(saver, opened, workers=workers, progress=report, **options))


def migrate_(
    context: typer.Context,
    source: Annotated[str, typer.Argument(metavar="FROM")],
    target: Annotated[str, typer.Argument(metavar="TO")],
    threads: Threads = None,
    from_prefix: Annotated[
        str, typer.Option(help="Of the keys of FROM, if it is not --prefix.")
    ] = "",
    to_prefix: Annotated[str, typer.Option(help="Of the keys of TO, if it is not --prefix.")] = "",
    workers: Workers = 4,
    json: Json = False,
) -> None:
    """Copy threads from one saver to another, and compare them; may be repeated.

    FROM and TO are redis:// and the like, embedded:///DIRECTORY, sqlite:///FILE, postgresql://, or
    vendor+redis:// for langgraph-checkpoint-redis. FROM is only read.
    """
    session: Session = context.obj
    options: dict[str, Any] = {"thread_ids": threads or None, "workers": workers}
    with (
        _named_errors(),
        _reported("copied", json=json) as (ended, report),
        session.mover(source, from_prefix or session.prefix, existing=True) as origin,
        session.mover(target, to_prefix or session.prefix) as destination,
    ):
        ended(migrate(origin, destination, progress=report, **options))


# Telling


@contextmanager
def _reported(
    done: str, *, json: bool, error: bool = False
) -> Iterator[tuple[Callable[[Report], None], Callable[[Moved], None]]]:
    """Report each thread, and all at the end; exit with 1 if one has failed."""
    reports: list[Report] = []
    with progress("threads") as move:

        def tell(moved: Moved) -> None:
            move(moved.number, moved.total)
            _tell(moved, json=json)

        yield reports.append, tell
    (report,) = reports
    if json:
        emit(_document(report))
    else:
        say(_summary(report, done), error=error)
    if not report.ok:
        if any(isinstance(error, EncryptedThreadError) for error in report.errors.values()):
            say(
                f"threads are encrypted with a key that is not here: put it into {AES_KEY}, "
                "or name its variable by --aes-key-env before the command",
                error=True,
            )
        raise typer.Exit(1)


def _tell(moved: Moved, *, json: bool) -> None:
    if json:
        names = ("thread_id", "outcome", "checkpoints", "reason")
        emit({name: getattr(moved, name) or None for name in names})
    elif moved.reason:
        say(one_line(f"failed: {moved.thread_id}: {moved.reason}"), error=True)


def _document(report: Report) -> dict[str, int]:
    return {
        "copied": len(report.copied),
        "present": len(report.present),
        "failed": len(report.failed),
        "checkpoints": report.checkpoints,
    }


def _summary(report: Report, done: str) -> str:
    present = f", {len(report.present):,} there already" if report.present else ""
    failed = f", {len(report.failed):,} failed" if report.failed else ""
    checkpoints = count(report.checkpoints, "checkpoint")
    return f"{count(len(report.copied), 'thread')} {done}{present}{failed}; {checkpoints}"


@contextmanager
def _named_errors() -> Iterator[None]:
    """Turn errors of files and of other databases into errors of the command."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise CommandError(f"{type(error).__name__}: {error}", FILE) from error
    except _others() as error:
        raise CommandError(f"{type(error).__name__}: {error}", 3) from error


def _others() -> tuple[type[Exception], ...]:
    psycopg = sys.modules.get("psycopg")  # it is only there if a URL asked for it
    return (sqlite3.Error, *([psycopg.Error] if psycopg else []))
