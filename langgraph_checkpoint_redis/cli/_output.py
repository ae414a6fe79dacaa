"""Output: tables, trees and colours in a terminal, plain text elsewhere.

Stored text cannot command the terminal: control characters are made visible, and rich's markup is
off. Outside a terminal, nothing is cut or wrapped: tables have tabs between their columns, and
trees are indented.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from itertools import islice
from typing import Any, NamedTuple

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

out = Console(highlight=False, markup=False, emoji=False)
err = Console(stderr=True, highlight=False, markup=False, emoji=False)

_bars: list[Progress] = []  # those that are shown now

BATCH = 100  # rows that a table is laid out for at a time

_UNITS = ("B", "KB", "MB", "GB", "TB")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_BREAKS = re.compile(r"[\t\n]")


def clean(text: str) -> str:
    """Make the control characters of a text visible, except for tabs and ends of lines."""
    return _CONTROL.sub(_visible, text)


def one_line(text: str) -> str:
    """Make a text fit into one cell or line."""
    return _BREAKS.sub(_visible, clean(text))


def _visible(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode()


def styled(*parts: str | tuple[str, str]) -> Text:
    """Join texts, or pairs of a text and its style, into a line."""
    line = Text()
    for part in parts:
        text, style = (part, "") if isinstance(part, str) else part
        line.append(one_line(text), style)
    return line


def say(text: str | Text = "", *, error: bool = False) -> None:
    """Print a line, wrapped in a terminal only."""
    line = Text(clean(text)) if isinstance(text, str) else text
    _print(line, err if error else out, wraps=True)


def _print(line: Text, console: Console, *, wraps: bool) -> None:
    if not console.is_terminal:
        console.file.write(f"{line.plain}\n")
    elif _bars:  # on the same terminal: other lines would be wiped out with the bar
        err.print(line, soft_wrap=not wraps)
    else:
        console.print(line, soft_wrap=not wraps)


def block(text: str, *, indent: int = 2, style: str = "") -> None:
    """Print a text of many lines, wrapped to the width of a terminal."""
    content, margin = Text(clean(text).expandtabs(4), style), " " * indent
    if out.is_terminal:
        lines: Iterable[Text] = content.wrap(out, max(out.width - indent, 20))
    else:
        lines = content.split("\n", allow_blank=True)
    for line in lines:
        line.rstrip()
        say(Text(margin).append_text(line) if line else line)


def emit(document: Any) -> None:
    """Print a JSON document on a line of its own."""
    text = json.dumps(document, ensure_ascii=False, allow_nan=False)
    escaped = _CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
    _print(Text(escaped), out, wraps=False)


# Tables


class Column(NamedTuple):
    """The head of a column, and whether it has numbers."""

    name: str
    right: bool = False


Row = Sequence["str | Text"]


def table(columns: Sequence[Column], rows: Iterable[Row]) -> None:
    """Print rows as they come: aligned some at a time in a terminal, with tabs elsewhere."""
    if out.is_terminal:
        iterator = iter(rows)
        header = True
        while batch := list(islice(iterator, BATCH)):
            out.print(_laid_out(columns, batch, header=header))
            header = False
        return
    say("\t".join(column.name for column in columns))
    for row in rows:
        say("\t".join(one_line(str(cell)) for cell in row))


def _laid_out(columns: Sequence[Column], rows: Sequence[Row], *, header: bool) -> Table:
    laid_out = Table(box=None, pad_edge=False, show_header=header, header_style="bold")
    for column in columns:
        laid_out.add_column(
            column.name,
            justify="right" if column.right else "left",
            overflow="fold",
            no_wrap=column.right,
        )
    for row in rows:
        laid_out.add_row(*(styled(cell) if isinstance(cell, str) else cell for cell in row))
    return laid_out


def facts(pairs: Iterable[tuple[str, str | Text]]) -> None:
    """Print pairs of a name and a text."""
    if out.is_terminal:
        grid = Table.grid(padding=(0, 2))
        grid.add_column(style="dim", no_wrap=True)
        grid.add_column(overflow="fold")
        for name, text in pairs:
            grid.add_row(name, styled(text) if isinstance(text, str) else text)
        out.print(grid)
        return
    for name, text in pairs:
        say(f"{name}\t{one_line(str(text))}")


# Trees


@dataclass
class Branch:
    """A line with lines below it."""

    line: Text
    below: list[Branch] = field(default_factory=list)


def tree(branch: Branch) -> None:
    """Print a branch and everything below it."""
    if out.is_terminal:
        out.print(_grown(branch, Tree(branch.line, guide_style="dim")))
    else:
        _indented(branch, 0)


def _grown(branch: Branch, node: Tree) -> Tree:
    for lower in branch.below:
        _grown(lower, node.add(lower.line))
    return node


def _indented(branch: Branch, depth: int) -> None:
    say(Text("  " * depth).append_text(branch.line))
    for lower in branch.below:
        _indented(lower, depth + 1)


# Progress


Report = Callable[..., None]


@contextmanager
def progress(what: str, total: int | None = None) -> Iterator[Report]:
    """Show a bar on a terminal's stderr; yield a function that moves it to a number.

    The function also takes a total, if that is known only later.
    """
    if not err.is_terminal:
        yield lambda *_: None
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    # Redirection would take what is for stdout, too, were stdout a file.
    bar = Progress(
        *columns, console=err, transient=True, redirect_stdout=False, redirect_stderr=False
    )
    with bar:
        task = bar.add_task(what, total=total)
        _bars.append(bar)
        try:
            yield lambda number, total=None: bar.update(task, completed=number, total=total)
        finally:
            _bars.remove(bar)


# Numbers and times


def size(number: int | None) -> str:
    """Format a number of bytes; a KB is 1,000."""
    if number is None:
        return "?"
    power = min(max(len(str(number)) - 1, 0) // 3, len(_UNITS) - 1)
    return f"{number / 1000**power:.{1 if power else 0}f} {_UNITS[power]}"


def span(seconds: float) -> str:
    """Format a length of time, roughly."""
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.0f} {unit}"
    return f"{seconds:.0f} s"


def ago(time: datetime | None) -> str:
    """Format how long ago a time was."""
    if time is None:
        return "?"
    seconds = (datetime.now(timezone.utc) - time).total_seconds()
    return f"{span(seconds)} ago" if seconds >= 1 else "now"


def stamp(time: datetime | None) -> str | None:
    """Format a time for JSON: ISO 8601, in UTC."""
    return None if time is None else time.isoformat()


def count(number: int, thing: str) -> str:
    """Format a number of things, in words."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"
