"""Draw the packages and who imports whom, from the code: `make picture`.

A test compares docs/img/rooms.svg with what this draws, so the picture cannot drift.
"""

from __future__ import annotations

import ast
import textwrap
from html import escape
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "langgraph_checkpoint_redis"
PICTURE = ROOT / "docs" / "img" / "rooms.svg"

SAVERS = "savers"  # the modules at the top that are no package
EVERYWHERE = {"errors", "_version", ""}  # what all may import is not drawn
FRONT = "saver.py, aio.py, server.py: the two front ends, and the one of the Agent Server."

WIDTH, HEIGHT, GAP, ROW = 300, 62, 30, 96  # of a box, between boxes, from row to row
MARGIN, LINE, LETTERS = 24, 15, 50


class Room(NamedTuple):
    """A box of the picture: its name, what belongs there, and the rooms that it imports."""

    name: str
    text: str
    imports: frozenset[str]


def room_of(path: Path) -> str:
    """Return the room that a file belongs to."""
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else SAVERS


def imported_names(path: Path) -> set[str]:
    """Return the modules and packages at the top of this package that a file imports."""
    package = [PACKAGE.name, *path.relative_to(PACKAGE).parent.parts]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    tree.body = [node for node in tree.body if not _is_for_annotations(node)]
    found: set[str] = set()
    for node in ast.walk(tree):
        names: list[list[str]] = []
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            module = [*base, *(node.module.split(".") if node.module else [])]
            names = [[*module, alias.name] for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
        found.update(_top(name) for name in names if name[0] == PACKAGE.name)
    return found


def _is_for_annotations(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def _top(name: list[str]) -> str:
    """Return the module or package at the top that a dotted name begins with; empty for a value."""
    is_module = (PACKAGE / name[1]).is_dir() or (PACKAGE / f"{name[1]}.py").exists()
    return name[1] if is_module else ""


def find_rooms() -> dict[str, Room]:
    """Read the rooms from the code."""
    packages = {path.parent.name: path for path in sorted(PACKAGE.glob("*/__init__.py"))}
    imports: dict[str, set[str]] = {name: set() for name in [*packages, SAVERS]}
    for path in PACKAGE.rglob("*.py"):
        room = room_of(path)
        for name in imported_names(path) - EVERYWHERE:
            target = name if name in packages else SAVERS
            if target != room and path.name != "__init__.py":
                imports[room].add(target)
    texts = {name: _first_line(path) for name, path in packages.items()} | {SAVERS: FRONT}
    return {name: Room(name, texts[name], frozenset(found)) for name, found in imports.items()}


def _first_line(path: Path) -> str:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return docstring.partition("\n\n")[0].replace("\n", " ")


def row_of(name: str, rooms: dict[str, Room]) -> int:
    """Return the row of a room, which is below all that import it; the first row is 0."""
    above = [room.name for room in rooms.values() if name in room.imports]
    return max((1 + row_of(one, rooms) for one in above), default=0)


def arrows(rooms: dict[str, Room]) -> list[tuple[str, str]]:
    """Return who imports whom, without what follows from other arrows."""
    found: list[tuple[str, str]] = []
    for room in rooms.values():
        further = set[str]().union(*[reach(below, rooms) for below in room.imports])
        found += [(room.name, below) for below in sorted(room.imports - further)]
    return found


def reach(room: str, rooms: dict[str, Room]) -> set[str]:
    """Return all rooms that a room imports, directly or not."""
    below = rooms[room].imports
    return {*below}.union(*[reach(one, rooms) for one in below])


def draw() -> str:
    """Return the picture."""
    rooms = find_rooms()
    rows: dict[int, list[str]] = {}
    for name in sorted(rooms):
        rows.setdefault(row_of(name, rooms), []).append(name)
    widest = max(map(len, rows.values()))
    width = 2 * MARGIN + widest * WIDTH + (widest - 1) * GAP
    height = 2 * MARGIN + max(rows) * ROW + HEIGHT
    places: dict[str, tuple[float, float]] = {}
    for row, names in rows.items():
        left = (width - len(names) * WIDTH - (len(names) - 1) * GAP) / 2
        for number, name in enumerate(names):
            places[name] = (left + number * (WIDTH + GAP), MARGIN + row * ROW)
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            'font-family="system-ui, \'DejaVu Sans\', sans-serif" font-size="11">'
        ),
        "<title>The packages, and who imports whom</title>",
        (
            '<defs><marker id="end" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
            'markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z" fill="#64748b"/></marker>'
            "</defs>"
        ),
        f'<rect width="{width}" height="{height}" rx="12" fill="#f8fafc"/>',
        *[_arrow(places[one], places[other]) for one, other in arrows(rooms)],
        *[_box(rooms[name], *places[name]) for name in sorted(rooms)],
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _arrow(start: tuple[float, float], end: tuple[float, float]) -> str:
    x, y = start[0] + WIDTH / 2, start[1] + HEIGHT
    to_x, to_y = end[0] + WIDTH / 2, end[1] - 2
    path = f"M{x:g} {y:g}"
    if end[1] - start[1] > ROW:  # past the boxes between, at the side of the first one
        aside = start[0] - GAP / 2
        path += _bend(x, y, aside, y + ROW - HEIGHT) + f"L{aside:g} {to_y - ROW + HEIGHT:g}"
        x, y = aside, to_y - ROW + HEIGHT
    path += _bend(x, y, to_x, to_y)
    return (
        f'<path d="{path}" fill="none" stroke="#64748b" stroke-width="1.3" marker-end="url(#end)"/>'
    )


def _bend(x: float, y: float, to_x: float, to_y: float) -> str:
    middle = (y + to_y) / 2
    return f"C{x:g} {middle:g} {to_x:g} {middle:g} {to_x:g} {to_y:g}"


def _box(room: Room, x: float, y: float) -> str:
    lines = textwrap.wrap(room.text, LETTERS)
    texts = [
        f'<text x="{x + 10:g}" y="{y + 36 + number * LINE:g}" fill="#334155">{escape(line)}</text>'
        for number, line in enumerate(lines)
    ]
    return "\n".join(
        [
            (
                f'<rect x="{x:g}" y="{y:g}" width="{WIDTH}" height="{HEIGHT}" rx="8" '
                'fill="#ffffff" stroke="#94a3b8"/>'
            ),
            (
                f'<text x="{x + 10:g}" y="{y + 20:g}" font-size="13" font-weight="600" '
                f'fill="#0f172a">{room.name}</text>'
            ),
            *texts,
        ]
    )


if __name__ == "__main__":
    PICTURE.write_text(draw(), encoding="utf-8")
    print(PICTURE.relative_to(ROOT))
