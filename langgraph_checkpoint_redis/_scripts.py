"""Scripts, calls of them, and operations: the vocabulary between the core and its two front ends.

Each Lua file under `lua/` is one `Script`. A `Call` is a script with its keys and arguments, a
value that nobody has sent yet. An operation is a generator that yields requests and returns a
result:

    reply = yield from GET(keys, [namespace, checkpoint_id])

`RedisSaver` and `AsyncRedisSaver` drive operations, sending each request and handing back the reply
as the server gave it: bytes, integers and lists.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha1
from importlib.resources import files
from typing import Any, TypeAlias, TypeVar

Argument: TypeAlias = "bytes | str | int"

_INCLUDE = re.compile(r"^-- include (\w+)\n", re.MULTILINE)
_FILES = files(__package__) / "lua"


@dataclass(frozen=True)
class Script:
    """A Lua script by name; its source is read when it is first needed."""

    name: str

    @cached_property
    def source(self) -> str:
        """The script with its includes in place."""
        return _INCLUDE.sub(_included, _read(f"{self.name}.lua"))

    @cached_property
    def sha(self) -> str:
        """What EVALSHA calls it."""
        return sha1(self.source.encode(), usedforsecurity=False).hexdigest()

    def __call__(self, keys: Sequence[bytes], args: Sequence[Argument] = ()) -> Call:
        """A call that is yet to be sent."""
        return Call(self, tuple(keys), tuple(args))


def _read(path: str) -> str:
    return _FILES.joinpath(path).read_text(encoding="utf-8")


def _included(match: re.Match[str]) -> str:
    return _read(f"include/{match[1]}.lua")


@dataclass(frozen=True)
class Call:
    """One call of a script."""

    script: Script
    keys: tuple[bytes, ...]
    args: tuple[Argument, ...]

    def __iter__(self) -> Generator[Request, Any, Any]:
        """Ask for this to be sent; the value of `yield from` is the reply."""
        return (yield self)


@dataclass(frozen=True)
class Commands:
    """Plain commands of the server, each on one key, sent together; replies come as a list."""

    commands: tuple[tuple[Argument, ...], ...]

    def __iter__(self) -> Generator[Request, Any, Any]:
        """Ask for these to be sent; the value of `yield from` is the list of replies."""
        return (yield self)


Request: TypeAlias = "Call | Commands"

T = TypeVar("T")
Operation: TypeAlias = Generator[Request, Any, T]

CHECK = Script("check")
PUT = Script("put")
PUT_LAST = Script("put_last")
PUT_WRITES = Script("put_writes")
GET = Script("get")
GET_AND_REFRESH = Script("get_and_refresh")
LIST = Script("list")
HISTORY = Script("history")
DELETE = Script("delete")
DELETE_RUNS = Script("delete_runs")
FORGET_RUNS = Script("forget_runs")
PRUNE = Script("prune")
COPY = Script("copy")
DUMP = Script("dump")
RESTORE = Script("restore")
INDEX = Script("index")
SET_LIFE = Script("set_life")
LEASE = Script("lease")
NAMESPACES = Script("namespaces")
INFO = Script("info")
DELETE_UNUSED = Script("delete_unused")
