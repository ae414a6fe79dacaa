"""Reading the Lua files of this package, each with the libraries that it includes in place."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

from langgraph_checkpoint_redis._protocol.requests import Script

_INCLUDE = re.compile(r"^ *-- include (\w+)\n", re.MULTILINE)
_FILES = files(__package__)


@cache
def _source(path: str) -> str:
    """A file, with its includes in place."""
    return _INCLUDE.sub(_included, _FILES.joinpath(path).read_text(encoding="utf-8"))


def _included(match: re.Match[str]) -> str:
    return _source(f"lib/{match[1]}.lua")


def load(name: str) -> Script:
    return Script(name, _source(f"{name}.lua"))


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
