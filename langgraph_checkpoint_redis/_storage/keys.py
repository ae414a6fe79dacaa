"""Every key name, and nothing else.

A thread lives in up to six keys, all in one cluster slot because of the hash tag `{t}`:

| key             | type       | holds                                                             |
|-----------------|------------|-------------------------------------------------------------------|
| lg:{t}:timeline | sorted set | `ns NUL checkpoint_id NUL record`, scores 0: the checkpoints      |
| lg:{t}:writes   | sorted set | `ns NUL checkpoint_id NUL task_id NUL writes`, scores 0           |
| lg:{t}:chunks   | hash       | digest -> chunk: the pieces of all values, shared by content      |
| lg:{t}:runs     | hash       | run id -> how many checkpoints it has here, and tokens            |
| lg:{t}:live     | set        | what a long sweep found to be in use; for a minute at most        |
| lg:{t}:control  | hash       | its own time to live, its lease, its deletion: most have none     |

Beside them there are, for each run, the threads it has checkpoints in, `lg:run:{r}`, and for
a minute after a copy the mark `lg:{t}:copy` of its target. A copy in parts collects them in
`lg:{t}:copy:{token}:timeline` and so on. `lg` is the prefix.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote

# Braces would end the hash tag, `%` starts an escape, control characters spoil every tool's output.
_UNSAFE = re.compile(r"[{}%\x00-\x1f\x7f]")
_GLOB = re.compile(r"([\\*?\[\]])")


class ThreadKeys(NamedTuple):
    """The keys of a thread, in the order in which all scripts take them."""

    timeline: bytes
    writes: bytes
    chunks: bytes
    runs: bytes
    live: bytes
    control: bytes


_PARTS = [part.encode() for part in ThreadKeys._fields]


def _tag(text: str) -> str:
    return _UNSAFE.sub(lambda match: f"%{ord(match[0]):02X}", text)


@dataclass(frozen=True)
class Keyspace:
    """The names of all keys under a prefix."""

    prefix: str

    def thread(self, thread_id: str) -> ThreadKeys:
        """All keys of a thread."""
        return _thread_keys(self.prefix, thread_id)

    def copy_mark(self, thread_id: str) -> bytes:
        """What says, for a minute, which copy filled a thread."""
        return f"{self.prefix}:{{{_tag(thread_id)}}}:copy".encode()

    def staged(self, thread_id: str, token: bytes) -> tuple[bytes, ...]:
        """Return the keys in which a copy collects the target's timeline, writes, chunks, runs."""
        start = f"{self.prefix}:{{{_tag(thread_id)}}}:copy:{token.hex()}:"
        return tuple([(start + part).encode() for part in ThreadKeys._fields[:4]])

    def run(self, run_id: str) -> bytes:
        """The threads of a run."""
        return f"{self.prefix}:run:{{{_tag(run_id)}}}".encode()

    def found(self) -> str:
        """Return a pattern that the timelines and the chunks of all threads match.

        It names their first letters, since patterns have no "or".
        """
        return _GLOB.sub(r"\\\1", self.prefix) + ":{*}:[tc][ih][mu][en][lk][is]*"


@lru_cache(maxsize=1000)  # calls come in series for the same few threads
def _thread_keys(prefix: str, thread_id: str) -> ThreadKeys:
    start = f"{prefix}:{{{_tag(thread_id)}}}:".encode()
    return ThreadKeys._make([start + part for part in _PARTS])


def thread_id_of(key: str) -> str:
    """The thread that a key belongs to; no prefix has braces, and no tag."""
    return unquote(key[key.index("{") + 1 : key.index("}")])


def list_starts(keys: Iterable[bytes], part: bytes) -> list[bytes]:
    """Return what those keys that are this part of a thread begin with, as all of its keys do."""
    end = b":" + part
    return [key[: -len(end)] for key in keys if key.endswith(end)]
