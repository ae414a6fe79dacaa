"""Which package may import which: a change in one room must not reach all others."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tools.rooms import PACKAGE as ROOT
from tools.rooms import PICTURE, draw, imported_names, room_of

NAME = ROOT.name

PUBLIC = {"", "errors", "saver", "aio"}  # the first one is the package itself
# What each room may import of this package, next to itself. What is not named here is public.
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
    "moving": {"_admin", *PUBLIC},
    "cli": {"_admin", "moving", *PUBLIC},
    "_twins": {"_admin", "_transport"},
}
MODULES = sorted(path for path in ROOT.rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_only_rooms_that_it_may(path: Path) -> None:
    """A change of the stored format would have to be made in the command line as well."""
    room = room_of(path)
    if room in ROOMS:
        assert imported_names(path) - {room} <= ROOMS[room]


def test_every_room_has_a_rule() -> None:
    """A new package would import whatever it likes."""
    rooms = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert rooms == {*ROOMS}


@pytest.mark.parametrize("room", ["moving", "cli"])
def test_tools_for_operators_ask_the_package_and_none_of_its_modules(room: str) -> None:
    """A module could not be split or renamed without a change of the tools."""
    for path in (ROOT / room).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                assert not (node.module or "").startswith(f"{NAME}._admin."), path
            elif isinstance(node, ast.Import):
                assert all(f"{NAME}._" not in alias.name for alias in node.names), path


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


def test_the_picture_of_the_packages_is_up_to_date() -> None:
    """A newcomer would look for code where it was a year ago."""
    assert PICTURE.read_text(encoding="utf-8") == draw(), "run `make picture`"
