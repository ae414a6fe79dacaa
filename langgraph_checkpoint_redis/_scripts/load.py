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
