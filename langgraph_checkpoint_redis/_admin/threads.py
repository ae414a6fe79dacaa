"""What is stored of threads, as operators see it, and what of many threads to remove.

Here are the results that callers see (`ThreadInfo`, `Stats`), how threads are chosen, and the
operations that look at one thread or make it shorter. Each call looks at a bounded part of it, so
all of this may run beside the traffic; what changes meanwhile is counted as it is found.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from heapq import nlargest
from secrets import token_bytes
from typing import NamedTuple
from uuid import UUID

from langgraph_checkpoint_redis._core.operations import Operations
from langgraph_checkpoint_redis._core.options import check_keep_last
from langgraph_checkpoint_redis._protocol.durations import to_milliseconds
from langgraph_checkpoint_redis._protocol.requests import Operation
from langgraph_checkpoint_redis._protocol.resp import Argument
from langgraph_checkpoint_redis._scripts.load import DELETE_UNUSED, INFO, NAMESPACES, PRUNE
from langgraph_checkpoint_redis._storage.checks import check_id, check_text
from langgraph_checkpoint_redis._storage.keys import ThreadKeys
from langgraph_checkpoint_redis.errors import ConfigError

BIGGEST = 10  # threads that `stats` names
# Rows that a call looks at: one of many that go together, and one on its own.
FEW_ROWS, ROWS = 40, 300

Idle = float | timedelta | None  # time since the last checkpoint
Progress = Callable[[int], object] | None  # is told how many threads were looked at so far


# Results


@dataclass(frozen=True)
class ThreadInfo:
    """What is stored of a thread.

    Times are those in the ids of checkpoints, which LangGraph makes as UUIDs of version 6. With
    other ids, in any namespace, they are not known.

    Attributes:
        thread_id: Its id.
        namespaces: How many checkpoints each namespace has; the root's is the empty string.
        pending_writes: How many writes of tasks are stored, on top of whatever checkpoint.
        first: When the oldest checkpoint was made, in UTC; `None` if that is not known.
        last: When the newest one was made.
        runs: How many runs made the checkpoints, as far as they had a `run_id`.
        bytes_by_key: The memory of each of its keys, by kind (`timeline`, `writes`, `chunks`,
            `runs`, `live`, `control`), as `MEMORY USAGE` tells it: exactly for keys of up to 5,000
            members, estimated beyond. `None` if the server does not allow to ask.
        shared_bytes: How many bytes less the chunks take than if each version of each value were
            stored whole. `None` as above.
        ttl: In how many seconds the thread expires; `None` for never.
        pinned: Whether it was pinned, so that it never expires.
        lease: For how many seconds more it is leased; `None` if it is not.
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
        """How many checkpoints it has in all."""
        return sum(self.namespaces.values())

    @property
    def bytes(self) -> int | None:
        """The memory of all its keys; `None` if the server does not allow to ask."""
        return None if self.bytes_by_key is None else sum(self.bytes_by_key.values())


@dataclass(frozen=True)
class Stats:
    """What is stored of all threads under a prefix; attributes as of `ThreadInfo`, summed up.

    The index that leads from runs to threads is not in it.

    Attributes:
        threads: How many threads there are.
        checkpoints: How many checkpoints they have.
        pending_writes: How many writes of tasks.
        bytes_by_key: The memory of their keys, by kind.
        shared_bytes: How many bytes their values take less than whole ones would.
        pinned: How many threads are pinned.
        expiring: How many threads expire some time.
        biggest: The ten that take the most memory, the biggest first.
        damaged: The threads that could not be read, each with the error. They are counted in
            `threads`, but in nothing else.
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
        """The memory of all threads; `None` if the server does not allow to ask."""
        return None if self.bytes_by_key is None else sum(self.bytes_by_key.values())


class Tally:
    """Adds up what is found of threads, and keeps the biggest only."""

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
        """Count a thread, if it is still there."""
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
        """What was counted."""
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


# Choosing threads


class Choice(NamedTuple):
    """Threads whose ids begin with `prefix`, and that are idle for longer than `idle` seconds."""

    prefix: str
    idle: float | None

    @classmethod
    def checked(cls, prefix: str, idle: Idle) -> Choice:
        """Of arguments as callers pass them."""
        seconds = None if idle is None else to_milliseconds("idle", idle) / 1000
        return cls(check_text("prefix", prefix, empty=True), seconds)

    def is_idle(self, last: datetime | None) -> bool:
        """Whether a thread with such a last checkpoint is idle; unknown times are not."""
        if self.idle is None or last is None:
            return False
        return time.time() - last.timestamp() > self.idle

    def newest_idle(self) -> int:
        """Return the first 48 bits of checkpoint ids that are made so long ago."""
        seconds = time.time() - (self.idle or 0) - _START_OF_TICKS.timestamp()
        return max(int(seconds * 1_000_000 * _TICKS), 0) >> _LOW_BITS


class Limits(NamedTuple):
    """What to keep of the threads of a choice."""

    choice: Choice
    keep_last: int | None

    @classmethod
    def checked(cls, prefix: str, idle: Idle, keep_last: int | None) -> Limits:
        """Of arguments as callers pass them."""
        if idle is None and keep_last is None:
            raise ConfigError("prune_threads must be told what to keep: keep_last, idle or both")
        return cls(Choice.checked(prefix, idle), check_keep_last(keep_last))


def make_reporter(progress: Progress) -> Callable[[int], object]:
    """What to call after each thread."""
    if progress is None:
        return lambda _: None
    if not callable(progress):
        raise ConfigError(f"progress must be callable with an int, or None, not {progress!r:.200}")
    return progress


# Times

_TICKS = 10  # in a microsecond
_LOW_BITS = 12  # of the time in an id, which come behind its version
_START_OF_TICKS = datetime(1582, 10, 15, tzinfo=timezone.utc)


def parse_time(checkpoint_id: bytes) -> datetime | None:
    """When a checkpoint was made, if its id says so; those of other kinds than 6 do not sort."""
    try:
        number = UUID(checkpoint_id.decode()).int
    except ValueError:
        return None
    if number >> 76 & 0xF != 6 or number >> 62 & 3 != 2:  # noqa: PLR2004 - UUIDs that sort by time
        return None
    ticks = number >> 80 << 12 | number >> 64 & 0xFFF
    return _START_OF_TICKS + timedelta(microseconds=ticks // _TICKS)


def time_of_id(checkpoint_id: str) -> datetime | None:
    """When a checkpoint was made, if its id is a UUID with a time in it, of version 1 or 6."""
    with suppress(ValueError):
        uuid = UUID(checkpoint_id)
        if uuid.version == 1:
            return _START_OF_TICKS + timedelta(microseconds=uuid.time // _TICKS)
    return parse_time(checkpoint_id.encode())


class _Namespace(NamedTuple):
    name: bytes
    checkpoints: int
    oldest: bytes
    newest: bytes

    def behind(self, other: _Namespace) -> _Namespace:
        """Both parts of a namespace as one, of which this is the newer."""
        checkpoints = other.checkpoints + self.checkpoints
        return self._replace(checkpoints=checkpoints, oldest=other.oldest)


def _span(namespaces: Sequence[_Namespace]) -> tuple[datetime | None, datetime | None]:
    """When the first checkpoint was made and the last, if all of these ids tell it."""
    ids = {id_ for namespace in namespaces for id_ in (namespace.oldest, namespace.newest)}
    times = [parse_time(id_) for id_ in ids]
    known = [found for found in times if found]
    return (min(known), max(known)) if known and len(known) == len(ids) else (None, None)


# Operations


class ThreadOperations(Operations):
    """Look at threads, and remove what is old."""

    __slots__ = ()

    def is_chosen(self, thread_id: str, choice: Choice) -> Operation[bool]:
        """Whether a thread is one of those: only for an idle one the server has to be asked."""
        if not thread_id.startswith(choice.prefix):
            return False
        if choice.idle is None:
            return True
        namespaces, _ = yield from self._namespaces(thread_id)
        return choice.is_idle(_span(namespaces)[1])

    def _namespaces(
        self, thread_id: str, token: Argument = "", newest: Argument = ""
    ) -> Operation[tuple[list[_Namespace], bytes]]:
        """The namespaces of a thread, hundreds in a call, and the token it is watched by since.

        It is watched if there is a `token`, unless it has a newer checkpoint than `newest`; see
        namespaces.lua. If it is not, the token that is returned is empty.
        """
        keys = self._keys(thread_id)
        start, namespaces, watched_by = yield NAMESPACES(keys, ["-", token, newest])
        while start:
            start, more, _ = yield NAMESPACES(keys, [start, "", ""])
            namespaces += more
        return [_Namespace(*namespace) for namespace in namespaces], watched_by

    def info(self, thread_id: str) -> Operation[ThreadInfo | None]:
        """Look at all of a thread: at a few rows first, which are all that most threads have."""
        thread_id = check_id("thread_id", thread_id)
        namespaces: dict[bytes, _Namespace] = {}
        stage, position, rows, sums = b"timeline", b"", FEW_ROWS, Counter[str]()
        while stage:
            stage, position, more, writes, whole, thread = yield INFO(
                self._keys(thread_id), [stage, position, rows]
            )
            for namespace in map(_Namespace._make, more):
                before = namespaces.get(namespace.name)
                namespaces[namespace.name] = namespace.behind(before) if before else namespace
            sums.update(writes=writes, whole=whole)
            rows = ROWS
        facts = _Facts(*thread)
        return _info(thread_id, [*namespaces.values()], sums, facts) if facts.exists else None

    def prune_to(self, thread_id: str, limits: Limits) -> Operation[bool]:
        """Delete an idle thread, or the older checkpoints of another; whether anything went."""
        if not thread_id.startswith(limits.choice.prefix):
            return False
        namespaces, is_deleted = yield from self._delete_idle(thread_id, limits.choice)
        if is_deleted:
            return True
        before, most = _count(namespaces), limits.keep_last
        if most is None or all(namespace.checkpoints <= most for namespace in namespaces):
            return False
        gone = yield from self._remove(PRUNE, thread_id, [most])
        yield from self._removed(thread_id, gone)
        namespaces, _ = yield from self._namespaces(thread_id)
        return _count(namespaces) < before

    def _delete_idle(
        self, thread_id: str, choice: Choice
    ) -> Operation[tuple[list[_Namespace], bool]]:
        """The namespaces of a thread, and whether it was deleted, as it is idle.

        It is watched from the first look on, so that no write in between goes with it. Where a few
        bits of its newest ids did not tell that it is idle, it is looked at again.
        """
        if choice.idle is None:
            return (yield from self._namespaces(thread_id))[0], False
        token, limit = token_bytes(16), choice.newest_idle()
        namespaces, watched_by = yield from self._namespaces(thread_id, token, limit)
        is_idle = choice.is_idle(_span(namespaces)[1])
        if is_idle and not watched_by:
            namespaces, watched_by = yield from self._namespaces(thread_id, token)
            is_idle = choice.is_idle(_span(namespaces)[1])
        return namespaces, is_idle and (yield from self._delete_unused(thread_id, watched_by))

    def _delete_unused(self, thread_id: str, watched_by: Argument) -> Operation[bool]:
        deleted, runs = yield DELETE_UNUSED(
            self._keys(thread_id), [watched_by], self.shared.options.confirm
        )
        if deleted:
            yield from self._removed(thread_id, runs)
        return bool(deleted)


class _Facts(NamedTuple):
    """What the last call of the script says; -1 is what is not known, or not there."""

    exists: int
    runs: int
    sizes: Sequence[int]
    pinned: int
    ttl: int
    lease: int


def _count(namespaces: Sequence[_Namespace]) -> int:
    return sum(namespace.checkpoints for namespace in namespaces)


def _info(
    thread_id: str, namespaces: Sequence[_Namespace], sums: Mapping[str, int], facts: _Facts
) -> ThreadInfo:
    first, last = _span(namespaces)
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
        ttl=_in_seconds(facts.ttl),
        pinned=bool(facts.pinned),
        lease=_in_seconds(facts.lease),
    )


def _in_seconds(milliseconds: int) -> float | None:
    return milliseconds / 1000 if milliseconds >= 0 else None
