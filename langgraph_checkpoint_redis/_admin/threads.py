"""What is stored of threads: the results that callers see, and the operation that reads them.

Each call reads a bounded part of a thread, so all of this may run next to the traffic. Changes in
between are counted as they are found.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from heapq import nlargest

from langgraph_checkpoint_redis._core.context import Context
from langgraph_checkpoint_redis._protocol.requests import Commands, Operation, ask
from langgraph_checkpoint_redis._protocol.resp import Argument
from langgraph_checkpoint_redis._scripts import calls
from langgraph_checkpoint_redis._scripts.calls import Namespace
from langgraph_checkpoint_redis._storage.checks import check_id
from langgraph_checkpoint_redis._storage.keys import ThreadKeys
from langgraph_checkpoint_redis.errors import ConfigError

from .times import parse_time
from .walks import traces

BIGGEST = 10  # threads that `stats` names
# Rows that a call looks at: one of many that go together, and one on its own.
FEW_ROWS, ROWS = 40, 300

Progress = Callable[[int], object] | None  # is called with how many threads were looked at so far


# Results


@dataclass(frozen=True)
class ThreadInfo:
    """What is stored of a thread.

    Times come from the ids of checkpoints, which LangGraph makes as UUIDs of version 6. If any
    namespace has other ids, the times are not known.

    Attributes:
        thread_id: Its id.
        namespaces: The number of checkpoints in each namespace. The root namespace is the empty
            string.
        pending_writes: The number of stored task writes, on all checkpoints.
        first: When the oldest checkpoint was made, in UTC; `None` if that is not known.
        last: When the newest checkpoint was made; `None` as above.
        runs: The number of runs that made the checkpoints, of the runs that had a `run_id`.
        bytes_by_key: The memory of each of its keys, by kind (`timeline`, `writes`, `chunks`,
            `runs`, `live`, `control`), from `MEMORY USAGE`: exact for keys of up to 5,000
            members, estimated for larger ones. `None` if the server does not allow the command.
        shared_bytes: The bytes that chunks save, compared with storing each version of each value
            whole. `None` as above.
        ttl: The seconds until the thread expires; `None` if it never does.
        pinned: Whether it was pinned, so that it never expires.
        lease: The seconds until its lease ends; `None` if it has none.
    """

    thread_id: str
    namespaces: Mapping[str, int]
    pending_writes: int
    first: datetime | None
    last: datetime | None
    runs: int
    bytes_by_key: Mapping[str, int] | None
    shared_bytes: int | None
    ttl: float | None
    pinned: bool
    lease: float | None

    @property
    def checkpoints(self) -> int:
        """The number of checkpoints in all namespaces."""
        return sum(self.namespaces.values())

    @property
    def bytes(self) -> int | None:
        """The memory of all its keys; `None` if the server does not allow `MEMORY USAGE`."""
        return None if self.bytes_by_key is None else sum(self.bytes_by_key.values())


@dataclass(frozen=True)
class Stats:
    """What is stored of all threads under a prefix: the attributes of `ThreadInfo`, summed up.

    The sums leave out the index that leads from runs to threads.

    Attributes:
        threads: The number of threads.
        checkpoints: The number of their checkpoints.
        pending_writes: The number of stored task writes.
        bytes_by_key: The memory of their keys, by kind.
        shared_bytes: The bytes that chunks save, compared with whole values.
        pinned: The number of pinned threads.
        expiring: The number of threads that will expire.
        biggest: The ten threads that take the most memory, the biggest first.
        damaged: The threads that could not be read, each with its error. They count in `threads`
            and in nothing else.
    """

    threads: int
    checkpoints: int
    pending_writes: int
    bytes_by_key: Mapping[str, int] | None
    shared_bytes: int | None
    pinned: int
    expiring: int
    biggest: Sequence[ThreadInfo]
    damaged: Mapping[str, Exception] = field(default_factory=dict)

    @property
    def bytes(self) -> int | None:
        """The memory of all threads; `None` if the server does not allow `MEMORY USAGE`."""
        return None if self.bytes_by_key is None else sum(self.bytes_by_key.values())


class Tally:
    """Sums up threads one by one. Only the biggest stay in memory."""

    def __init__(self) -> None:
        self._counts = Counter[str]()
        self._bytes = Counter[str](dict.fromkeys(ThreadKeys._fields, 0))
        self._bytes_are_known = True
        self._biggest: list[ThreadInfo] = []
        self._damaged: dict[str, Exception] = {}

    def add_damaged(self, thread_id: str, error: Exception) -> None:
        """Count a thread that could not be read."""
        self._counts.update(threads=1)
        self._damaged[thread_id] = error

    def add(self, info: ThreadInfo | None) -> None:
        """Count a thread; None is a thread that is gone."""
        if info is None:
            return
        self._counts.update(
            threads=1,
            checkpoints=info.checkpoints,
            pending_writes=info.pending_writes,
            shared_bytes=info.shared_bytes or 0,
            pinned=info.pinned,
            expiring=info.ttl is not None,
        )
        self._bytes.update(info.bytes_by_key or {})
        self._bytes_are_known &= info.bytes_by_key is not None
        self._biggest = nlargest(BIGGEST, [*self._biggest, info], key=_size)

    def stats(self) -> Stats:
        """Return the sums."""
        counts, known = self._counts, self._bytes_are_known
        return Stats(
            threads=counts["threads"],
            checkpoints=counts["checkpoints"],
            pending_writes=counts["pending_writes"],
            bytes_by_key=dict(self._bytes) if known else None,
            shared_bytes=counts["shared_bytes"] if known else None,
            pinned=counts["pinned"],
            expiring=counts["expiring"],
            biggest=tuple(self._biggest),
            damaged=dict(self._damaged),
        )


def _size(info: ThreadInfo) -> tuple[int, int]:
    return info.bytes or 0, info.checkpoints


# Namespaces


def _join(older: Namespace, newer: Namespace) -> Namespace:
    """Join two parts of a namespace."""
    checkpoints = older.checkpoints + newer.checkpoints
    return newer._replace(checkpoints=checkpoints, oldest=older.oldest)


def read_namespaces(
    context: Context, thread_id: str, token: Argument = "", newest: Argument = ""
) -> Operation[tuple[list[Namespace], bytes]]:
    """Read the namespaces of a thread, hundreds in a call; return the token that watches it, too.

    With a `token`, the thread is watched from now on, unless it has a newer checkpoint than
    `newest` (see namespaces.lua). The returned token is empty if the thread is not watched.
    """
    keys = context.keys(thread_id)
    first = yield from ask(calls.namespaces(keys, watch=token, newest=newest))
    start, found = first.start, [*first.namespaces]
    while start:
        start, more, _ = yield from ask(calls.namespaces(keys, start=start))
        found += more
    return found, first.watched_by


def find_span(namespaces: Sequence[Namespace]) -> tuple[datetime | None, datetime | None]:
    """Return when the first and the last checkpoint were made; None if any id has no time."""
    ids = {id_ for namespace in namespaces for id_ in (namespace.oldest, namespace.newest)}
    times = [parse_time(id_) for id_ in ids]
    known = [found for found in times if found]
    return (min(known), max(known)) if known and len(known) == len(ids) else (None, None)


# Reading


def has_thread(context: Context, thread_id: str) -> Operation[bool]:
    """Return whether anything is stored of a thread, damaged or not."""
    keys = context.keys(thread_id)
    replies = yield Commands((("EXISTS", keys.writes), *traces(keys)))
    return any(replies)


def read_info(context: Context, thread_id: str) -> Operation[ThreadInfo | None]:
    """Read what is stored of a thread; None if there is no such thread.

    The first call reads a few rows only, since most threads have no more.
    """
    thread_id = check_id("thread_id", thread_id)
    namespaces: dict[bytes, Namespace] = {}
    stage, position, rows, sums = b"timeline", b"", FEW_ROWS, Counter[str]()
    while stage:
        call = calls.info(context.keys(thread_id), stage=stage, position=position, rows=rows)
        stage, position, more, writes, whole, facts = yield from ask(call)
        for namespace in more:
            before = namespaces.get(namespace.name)
            namespaces[namespace.name] = _join(before, namespace) if before else namespace
        sums.update(writes=writes, whole=whole)
        rows = ROWS
    if facts is None or not facts.exists:
        return None
    return _make_info(thread_id, [*namespaces.values()], sums, facts)


def _make_info(
    thread_id: str, namespaces: Sequence[Namespace], sums: Mapping[str, int], facts: calls.Facts
) -> ThreadInfo:
    first, last = find_span(namespaces)
    allowed = min(facts.sizes) >= 0
    by_key = dict(zip(ThreadKeys._fields, facts.sizes, strict=True)) if allowed else None
    return ThreadInfo(
        thread_id=thread_id,
        namespaces={namespace.name.decode(): namespace.checkpoints for namespace in namespaces},
        pending_writes=sums["writes"],
        first=first,
        last=last,
        runs=facts.runs,
        bytes_by_key=by_key,
        shared_bytes=None if by_key is None else max(sums["whole"] - by_key["chunks"], 0),
        ttl=_to_seconds(facts.ttl),
        pinned=bool(facts.pinned),
        lease=_to_seconds(facts.lease),
    )


def _to_seconds(milliseconds: int) -> float | None:
    return milliseconds / 1000 if milliseconds >= 0 else None


def check_progress(progress: Progress) -> Callable[[int], object]:
    """Return the function to call after each thread."""
    if progress is None:
        return lambda _: None
    if not callable(progress):
        raise ConfigError(f"progress must be callable with an int, or None, not {progress!r:.200}")
    return progress
