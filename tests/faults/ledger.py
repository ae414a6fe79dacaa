"""What a worker tried, and what it was told to be done: a file that only grows.

Each line is with the system before the worker goes on, so that it outlives a worker that is killed.
The machine itself does not fail here, so it need not be on the disk.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

TRIED, DONE, FAILED, WRONG, MISSING = "tried", "done", "failed", "wrong", "missing"


class Entry(NamedTuple):
    """A line.

    `state` is one of the words above: an operation was tried, acknowledged, or has failed with an
    error; a read was wrong, or did not find what was acknowledged. `time` is Unix time.
    """

    time: float
    state: str
    operation: str
    thread_id: str
    number: int = 0
    detail: str = ""


class Ledger:
    """A ledger of one lane, to be written."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, state: str, operation: str, thread_id: str, *more: Any) -> None:
        """Add a line."""
        entry = Entry(time.time(), state, operation, thread_id, *more)
        os.write(self._file, json.dumps(entry).encode() + b"\n")


def entries(path: Path) -> Iterator[Entry]:
    """What is in a ledger so far; a last line that is half there is left out."""
    if not path.exists():
        return
    for line in path.read_bytes().split(b"\n")[:-1]:
        yield Entry(*json.loads(line))


def last_done(path: Path, operation: str) -> Entry | None:
    """The latest operation of a kind that was acknowledged, from the end of a ledger."""
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
        lines = file.read().split(b"\n")[1:-1]
    for line in reversed(lines):
        entry = Entry(*json.loads(line))
        if (entry.state, entry.operation) == (DONE, operation):
            return entry
    return None
