"""Read the Lua files of this package, and put before each script the libraries that it needs.

The head of a library, a file in `lib/`, names the libraries it uses and what it gives to others:

    -- Needs: keys, refuse
    -- Gives: row_at, latest_row

A script has a line `Needs`, too. A file that assigns to variables of other libraries lists these in
a line `Sets`. Each file names only what it uses itself. The source of a script begins with all
libraries that it needs, directly or not: each one once, after the libraries that it needs in turn.
Otherwise they come in the order in which files name them, which is chosen for speed: defining a
function takes longer the farther back the variables are defined that it uses.

Redis runs all of a script in each call, and each function that it defines takes time. A file may
therefore define libraries inside a function, for the few calls that come there:

    -- Within load_guards: control, lease

The body of `load_guards` begins with these libraries, except for those that are outside anyway.

One file may be the source of two scripts, of which one does more:

    -- Only in put_last: trim

In the other script, `put`, the names that `trim` gives are nil.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from importlib.resources import files
from itertools import chain
from typing import NamedTuple

from langgraph_checkpoint_redis._protocol.requests import Script

_DECLARATION = re.compile(  # names may go on in further lines, each of which begins with blanks
    r"^-- (Needs|Sets|Gives|Only in \w+|Within \w+): (\w+(?:,(?: |\n-- +)\w+)*)\n", re.MULTILINE
)
_FILES = files(__package__)

SOURCES = {"put_last": "put"}  # the file of a script, if that has another name

Reader = Callable[[str], str]


class Part(NamedTuple):
    """A Lua file, which is a script or a library.

    Attributes:
        text: The whole file.
        needs: Libraries that the file uses.
        sets: Variables of these libraries that it assigns to.
        gives: Names that it defines for others.
        only: Libraries of one of the scripts that the file is the source of, by this script.
        within: Libraries that it uses inside one function only, by this function.
    """

    text: str
    needs: tuple[str, ...]
    sets: tuple[str, ...]
    gives: tuple[str, ...]
    only: Mapping[str, tuple[str, ...]]
    within: Mapping[str, tuple[str, ...]]


def read_file(path: str) -> str:
    """Read a Lua file by its path in this package, which has no `.lua`."""
    return _FILES.joinpath(f"{path}.lua").read_text(encoding="utf-8")


@cache
def parse(path: str, read: Reader = read_file) -> Part:
    """Read a Lua file and its declarations."""
    text = read(path)
    declared = {
        kind: tuple(re.findall(r"\w+", names)) for kind, names in _DECLARATION.findall(text)
    }

    def of_each(kind: str) -> dict[str, tuple[str, ...]]:
        return {
            name.removeprefix(kind): names
            for name, names in declared.items()
            if name.startswith(kind)
        }

    needs, sets, gives = (declared.get(kind, ()) for kind in ("Needs", "Sets", "Gives"))
    return Part(text, needs, sets, gives, of_each("Only in "), of_each("Within "))


def assemble(name: str, read: Reader = read_file) -> str:
    """Return the source of a script, with the libraries that it needs."""
    return _Assembly(read).script(name)


class _Assembly(NamedTuple):
    """Put the files together that `read` reads."""

    read: Reader

    def script(self, name: str) -> str:
        script = parse(SOURCES.get(name, name), self.read)
        needs, absent = [*script.needs], ""
        for variant, libraries in script.only.items():
            if variant == name:
                needs += libraries
            else:
                gives = chain(*(self._library(library).gives for library in libraries))
                absent += f"local {', '.join(gives)}\n"
        visible = self._reach(needs, within=False)
        return self._define(needs, set()) + absent + self._complete(script, visible)

    def _library(self, name: str) -> Part:
        return parse(f"lib/{name}", self.read)

    def _reach(self, names: Iterable[str], *, within: bool) -> set[str]:
        """Return libraries with all that they need, also inside functions if `within`."""
        found: set[str] = set()
        waiting = [*names]
        while waiting:
            name = waiting.pop()
            if name not in found:
                found.add(name)
                part = self._library(name)
                waiting += part.needs
                waiting += chain(*part.within.values()) if within else ()
        return found

    def _define(self, names: Iterable[str], visible: set[str]) -> str:
        """Return the text of libraries, with all that they need, except for those in `visible`."""
        added = self._reach(names, within=False) - visible
        parts = (self._library(name) for name in self._sort(names, added))
        return "".join(self._complete(part, visible | added) for part in parts)

    def _sort(self, names: Iterable[str], added: set[str]) -> list[str]:
        """Return the libraries in `added`, each one after those that it needs."""
        ordered: list[str] = []

        def order(name: str, users: tuple[str, ...]) -> None:
            if name in users:
                raise ValueError(f"libraries need each other: {', '.join((*users, name))}")
            if name in added and name not in ordered:
                part = self._library(name)
                inside = self._reach(chain(*part.within.values()), within=True)
                for needed in (*part.needs, *sorted(inside)):
                    order(needed, (*users, name))
                ordered.append(name)

        for name in names:
            order(name, ())
        return ordered

    def _complete(self, part: Part, visible: set[str]) -> str:
        """Return the text of a file, with libraries inside of its functions."""
        text = part.text
        for function, names in part.within.items():
            begin = re.compile(rf"^ *local function {function}\(.*\)\n", re.MULTILINE)
            (found,) = begin.finditer(text)
            text = text[: found.end()] + self._define(names, visible) + text[found.end() :]
        return text


def load(name: str) -> Script:
    return Script(name, assemble(name))


# All scripts are read now: later, an event loop would wait for the disk.
AHEAD = load("ahead")
CHECK = load("check")
COPY = load("copy")
DELETE = load("delete")
DELETE_RUNS = load("delete_runs")
DELETE_UNUSED = load("delete_unused")
DROP = load("drop")
DUMP = load("dump")
FORGET_RUNS = load("forget_runs")
GET = load("get")
GET_AND_REFRESH = load("get_and_refresh")
HISTORY = load("history")
INDEX = load("index")
INDEXED = load("indexed")
INFO = load("info")
LEASE = load("lease")
LIST = load("list")
NAMESPACES = load("namespaces")
PRUNE = load("prune")
PUT = load("put")
PUT_CHUNKS = load("put_chunks")
PUT_LAST = load("put_last")
PUT_WRITES = load("put_writes")
RECOUNT = load("recount")
RESTORE = load("restore")
REWRITE = load("rewrite")
RUNS = load("runs")
SCAN = load("scan")
SET_LIFE = load("set_life")
SETTLE = load("settle")
STALE = load("stale")
TIDY = load("tidy")
TRUST = load("trust")
UNHELD = load("unheld")
