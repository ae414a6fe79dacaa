"""Which package may import which: a change in one room must not reach all others."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import langgraph_checkpoint_redis

ROOT = Path(langgraph_checkpoint_redis.__file__).parent
NAME = ROOT.name

# What each room may import of this package, beside itself. What is not named here is public.
ROOMS: dict[str, set[str]] = {
    "_runtime": {"errors"},
    "_storage": {"_runtime", "errors"},
    "_serde": {"_runtime", "errors"},
    "_protocol": {"errors"},
    "_scripts": {"_protocol", "_storage", "errors"},
    "_core": {"_runtime", "_storage", "_serde", "_protocol", "_scripts", "errors"},
    "_transport": {"_runtime", "_protocol", "_scripts", "_version", "errors"},
    "_embedded": {"_runtime", "_transport", "errors"},
    "_admin": {"_runtime", "_storage", "_protocol", "_scripts", "_core", "_transport", "errors"},
    "_twins": {"_admin", "_transport"},
}
MODULES = sorted(path for path in ROOT.rglob("*.py"))


def room_of(path: Path) -> str:
    """The package that a file is in, or its own name at the top."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return "" if parts == ("__init__",) else parts[0]


def imports_of(path: Path) -> set[str]:
    """The rooms and modules at the top of this package that a file imports."""
    package = [NAME, *path.relative_to(ROOT).parent.parts]
    found: set[str] = set()
    tree = ast.parse(path.read_text())
    tree.body = [node for node in tree.body if not _is_for_annotations(node)]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            module = [*base, *(node.module.split(".") if node.module else [])]
            names = [[*module, alias.name] for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
        else:
            continue
        for name in names:
            if name[0] == NAME:
                is_module = (
                    len(name) > 2 or (ROOT / name[1]).is_dir() or (ROOT / f"{name[1]}.py").exists()
                )
                found.add(name[1] if is_module else "")
    return found


def _is_for_annotations(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_only_rooms_that_it_may(path: Path) -> None:
    """A change of the stored format would have to be made in the command line as well."""
    room = room_of(path)
    allowed = ROOMS.get(room)
    if allowed is not None:
        assert imports_of(path) - {room} <= allowed


def test_every_room_has_a_rule() -> None:
    """A new package would import whatever it likes."""
    rooms = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert rooms == {*ROOMS, "moving", "cli"}


@pytest.mark.parametrize(("half", "other"), [("_async", "_sync"), ("_sync", "_async")])
def test_a_half_does_without_the_other(half: str, other: str) -> None:
    """A synchronous saver would import, and wait for, what belongs to an event loop."""
    for path in ROOT.glob(f"*/{half}/*.py"):
        tree = ast.parse(path.read_text())
        modules = [n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)]
        assert not [module for module in modules if other in module.split(".")], path


@pytest.mark.parametrize("room", ["_storage", "_serde"])
def test_what_is_stored_knows_nothing_of_redis(room: str) -> None:
    """The format could not be read without a server."""
    for path in (ROOT / room).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                assert (node.module or "").split(".")[0] != "redis"
            elif isinstance(node, ast.Import):
                assert all(alias.name.split(".")[0] != "redis" for alias in node.names)
