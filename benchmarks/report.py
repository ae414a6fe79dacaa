"""Tables and plots of a result.

    python -m benchmarks.report results/latest.json docs

writes the tables into docs/benchmarks.md, between its markers, and the plots into docs/images.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- results -->", "<!-- end of results -->"
PICTURES = """\
![Time of a turn](images/turn.svg)
![Memory of a conversation](images/memory.svg)
![Reading over a network](images/delay.svg)
![Many conversations at once](images/throughput.svg)
"""
TITLES = {
    "operations": "Single operations, by messages in the conversation",
    "delay": "The same with a millisecond of network",
    "cpu": "CPU of single operations, by messages in the conversation",
    "chat": "A conversation of so many turns",
    "delta": "A conversation of so many turns in a delta channel",
    "agent": "A coding agent after so many turns",
    "agent-delta": "The same agent with delta channels",
    "interrupt": "Stop for a person and go on, by messages in the conversation",
    "large": "A value of so many megabytes",
    "crowd": "So many conversations at once in one process",
    "processes": "So many processes of ten conversations at once",
}
MANY = 100  # numbers from here on need no decimals
Result = dict[str, Any]
Cell = dict[str, Any]


def publish(result: Result, docs: Path) -> None:
    """Write a result into the documentation."""
    write_tables(result, docs / "benchmarks.md")
    plots(result, docs / "images")


def write_tables(result: Result, page: Path) -> None:
    """Replace what stands between the marks of a page."""
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    text = f"{before}{BEGIN}\n\n{PICTURES}\n{tables(result)}\n{END}{after}"
    page.write_text(text, encoding="utf-8")


def tables(result: Result) -> str:
    """All of it as Markdown."""
    machine = result["machine"]
    about = (
        f"Measured on {result['date']} at commit {result['commit']}, scale {result['scale']}, in "
        f"{result['seconds']} seconds: {machine['cpu']}, {machine['cores']} cores, "
        f"{machine['system']}, Python {result['python']}."
    )
    notes = [f"* {note}" for note in result["notes"]]
    lines = [about, "", *_columns(result), "", *notes]
    problems: list[str] = []
    for workload, title in TITLES.items():
        cells = [cell for cell in result["cells"] if cell["workload"] == workload]
        if cells:
            lines += ["", f"## {title}", *_sections(cells, [*result["columns"]], problems)]
    if problems:
        lines += ["", "## What went wrong", "", *problems]
    return "\n".join(lines) + "\n"


def _columns(result: Result) -> Iterator[str]:
    yield "| column | what it is | package | server |"
    yield "| --- | --- | --- | --- |"
    for name, column in result["columns"].items():
        package = f"{column['package']} {result['packages'][column['package']]}"
        yield f"| {name} | {column['about']} | {package} | {column['server']} |"


def _sections(cells: list[Cell], names: Sequence[str], problems: list[str]) -> Iterator[str]:
    """A table for each kind of saver, or for each operation if it was done at several sizes."""
    if len({cell["size"] for cell in cells}) == 1:
        title, head = "mode", "operation"
    else:
        title, head = "operation", "size"
    cells = sorted(cells, key=lambda cell: str(cell["mode"]), reverse=True)  # sync, async
    for value in dict.fromkeys(cell[title] for cell in cells):
        own = [cell for cell in cells if cell[title] == value]
        units = {cell["unit"] for cell in own if "unit" in cell}
        yield from ("", f"### {value}{', ms' if units == {'s'} else ''}", "")
        yield from _table(own, head, names, problems)


def _table(
    cells: list[Cell], head: str, names: Sequence[str], problems: list[str]
) -> Iterator[str]:
    """A row for each column of the benchmark: it has more of them than a page is wide."""
    places = sorted({(cell["mode"] == "async", cell[head]) for cell in cells})
    titles = [f"{'async' if awaited else 'sync'} {name}" for awaited, name in places]
    found = {(cell["column"], cell["mode"] == "async", cell[head]): cell for cell in cells}
    yield f"| | {' | '.join(titles)} |"
    yield "| --- |" + " ---: |" * len(titles)
    for name in names:
        shown = [
            _shown(found.get((name, *place)), found.get(("floor", *place)), problems)
            for place in places
        ]
        if any(shown):
            yield f"| {name} | {' | '.join(shown)} |"


def _shown(cell: Cell | None, floor: Cell | None, problems: list[str]) -> str:
    """The median and p95, and the median beside the floor's."""
    if cell is None:
        return ""
    if problem := cell.get("problem"):
        return "no" if problem == "not supported" else f"[{_numbered(problem, problems)}]"
    number, unit = UNITS[cell["unit"]]
    text = number(cell["median"])
    if cell["unit"] == "s" and cell["samples"] > 1:
        text += f" / {number(cell['p95'])}"
    return f"{text} ({cell['median'] / floor['median']:.2f}x)" if floor else f"{text}{unit}"


def _numbered(problem: str, problems: list[str]) -> int:
    """The number of a problem; ids in it are of no interest."""
    text = re.sub(r"'1f[0-9a-f]{6}-[0-9a-f-]*'|'[0-9a-f]{20,}[.]*", "…", problem)
    text = text.replace("|", "\\|").replace("<", "&lt;")
    known = [line.partition(". ")[2] for line in problems]
    if text not in known:
        problems.append(f"{len(problems) + 1}. {text}")
        return len(problems)
    return known.index(text) + 1


UNITS: dict[str, tuple[Callable[[float], str], str]] = {
    "s": (lambda value: f"{value * 1000:.2f}", ""),
    "bytes": (lambda value: f"{value / 1000:.1f}", " KB"),
    "MB": (lambda value: f"{value / 1e6:.2f}", " MB"),
    "/s": (lambda value: f"{value:.0f}", ""),
}


# Plots


def plots(result: Result, images: Path) -> None:
    """The pictures of the documentation; `None` stands for a column without that number."""
    images.mkdir(parents=True, exist_ok=True)
    by_name = {
        (c["workload"], c["mode"], c["operation"], c["size"], c["column"]): c
        for c in result["cells"]
        if "problem" not in c
    }
    turns = max((c["size"] for c in result["cells"] if c["workload"] == "chat"), default=0)
    size = max((c["size"] for c in result["cells"] if c["workload"] == "delay"), default=0)
    bars = {
        "turn.svg": (("chat", "sync", "turn", turns), 1e3, f"ms per turn, {turns} turns"),
        "memory.svg": (("chat", "sync", "stored", turns), 1e-3, f"KB stored by {turns} turns"),
        "delay.svg": (
            ("delay", "sync", "get_tuple, latest", size),
            1e3,
            f"ms for get_tuple, {size} messages, 1 ms of network",
        ),
    }
    for file, (row, factor, title) in bars.items():
        values = {
            name: by_name[(*row, name)]["median"] * factor
            for name in result["columns"]
            if (*row, name) in by_name
        }
        _bars(images / file, title, values, _ours(result))
    _lines(images / "throughput.svg", result, by_name)


def _ours(result: Result) -> set[str]:
    return {name for name, column in result["columns"].items() if column["is_ours"]}


def _bars(file: Path, title: str, values: dict[str, float], ours: set[str]) -> None:
    if not values:
        return
    names = sorted(values, key=values.__getitem__, reverse=True)
    pyplot = _pyplot()
    figure, axes = pyplot.subplots(figsize=(7, 0.35 * len(names) + 0.8))
    colours = ["#c0392b" if name in ours else "#8a94a0" for name in names]
    drawn = axes.barh(names, [values[name] for name in names], color=colours)
    labels = [_label(values[name]) for name in names]
    axes.bar_label(drawn, labels, padding=3)
    axes.set_title(title, fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.12)
    _save(figure, file)


def _label(value: float) -> str:
    return f"{value:.2f}" if value < MANY else f"{value:,.0f}"


def _lines(file: Path, result: Result, by_name: dict[Any, dict[str, Any]]) -> None:
    pyplot = _pyplot()
    figure, axes = pyplot.subplots(figsize=(7, 4))
    axes.set_prop_cycle(color=pyplot.get_cmap("tab20").colors)
    for name in result["columns"]:
        points = sorted(
            (key[3], cell["median"])
            for key, cell in by_name.items()
            if (key[0], key[2], key[4]) == ("crowd", "turns in a second", name)
        )
        if points:
            width = 2.5 if name in _ours(result) else 1.2
            axes.plot(*zip(*points, strict=True), marker="o", label=name, linewidth=width)
    axes.set_xscale("log")
    axes.set_title("turns in a second, by conversations at once", fontsize=10)
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    axes.spines[["top", "right"]].set_visible(False)
    _save(figure, file)


def _pyplot() -> Any:
    """Only where there are plots to draw: it is not needed to measure."""
    import_module("matplotlib").use("svg")
    pyplot = import_module("matplotlib.pyplot")
    pyplot.rcParams["svg.hashsalt"] = "the same file for the same numbers"
    return pyplot


def _save(figure: Any, file: Path) -> None:
    figure.savefig(file, bbox_inches="tight", metadata={"Date": None})
    _pyplot().close(figure)


def main(arguments: Sequence[str]) -> None:
    """Write the documentation from a file of results."""
    file, docs = map(Path, arguments)
    publish(json.loads(file.read_text(encoding="utf-8")), docs)


if __name__ == "__main__":
    main(sys.argv[1:])
