"""Looking for damage in a thread, and removing what it has made useless.

A thread is read in calls of bounded size: its chunks, each compared with its name; its rows; and
what they refer to. What changes meanwhile could look like damage, so the server is asked once more,
in one script, about each row that seems to lack something.

Nothing here calls the serializer. So no key is needed to look for damage, and nothing is removed
that merely a wrong key was tried on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha1
from typing import Any, Literal, NamedTuple, TypeVar

from . import _codec, _config
from ._chunks import check_levels, references
from ._damage import Reading, place_of
from ._decoding import raise_interruption
from ._driving import AsyncDriver, Driver
from ._keys import ThreadKeys
from ._operations import Operations
from ._resp import Argument
from ._run_index import Trouble
from ._scripts import DELETE_RUNS, DROP, SCAN, Commands, Operation
from .errors import CorruptThreadError

T = TypeVar("T")

AT_A_TIME = 100  # rows or chunks that one call is asked for

Kind = Literal["lost", "incomplete", "unindexed", "garbage"]

# Results


@dataclass(frozen=True)
class Problem:
    """Something that is not as it should be in a thread.

    Attributes:
        kind: `"lost"` is what cannot be read any more; `"incomplete"` a checkpoint with a delta
            channel whose ancestors are gone, so that it reads as less than it was; `"unindexed"`
            a run whose checkpoints here `delete_for_runs` would not find; `"garbage"` what nothing
            leads to, or what leads to nothing, which costs memory and no more.
        namespace: The namespace of a checkpoint, or of the one that writes belong to; as far as it
            can be made out, where a name is damaged.
        checkpoint_id: Its id, likewise; empty for garbage among the chunks.
        key: The key in Redis.
        reason: What is wrong, for people.
    """

    kind: Kind
    namespace: str
    checkpoint_id: str
    key: str
    reason: str


class _Finding(NamedTuple):
    """A problem with a row; `why` is what drop.lua has to know of it."""

    problem: Problem
    row: bytes
    why: bytes


# Looking


@dataclass(slots=True)
class _Chunks:
    """What is found of chunks: the sizes of good ones, and what may be nodes among them."""

    sizes: dict[bytes, int] = field(default_factory=dict)
    nodes: dict[bytes, bytes] = field(default_factory=dict)
    damaged: dict[bytes, bytes] = field(default_factory=dict)
    used: set[bytes] = field(default_factory=set)
    _below: dict[tuple[int, bytes], tuple[int, frozenset[bytes]]] = field(default_factory=dict)

    def add(self, digest: bytes, chunk: bytes) -> None:
        self._below.clear()
        try:
            content = _codec.checked(digest, chunk)
        except ValueError as error:
            raise_interruption(error)
            self.damaged[digest] = sha1(chunk, usedforsecurity=False).hexdigest().encode()
            return
        self.damaged.pop(digest, None)
        self.sizes[digest] = len(content)
        if len(content) % len(digest) == 0:
            self.nodes[digest] = content

    def lacking(self, entry: Sequence[Any]) -> frozenset[bytes]:
        """The chunks that a value lacks; raises `LookupError` if it is wrong in another way."""
        _, literal, *rope = entry
        if not rope:
            return frozenset()
        size, *levels = rope
        check_levels(levels)
        found, lacking = len(literal), frozenset[bytes]()
        for level, digests in enumerate(levels):
            more, lost = self._sum(level, digests)
            found, lacking = found + more, lacking | lost
        if not lacking and found != size:
            raise LookupError(f"a value of {size} bytes reads as {found} bytes")
        return lacking

    def _sum(self, level: int, digests: bytes) -> tuple[int, frozenset[bytes]]:
        below = [self._of(level, digest) for digest in references(digests)]
        return sum(size for size, _ in below), frozenset().union(*[lost for _, lost in below])

    def _of(self, level: int, digest: bytes) -> tuple[int, frozenset[bytes]]:
        self.used.add(digest)
        if (level, digest) not in self._below:
            if digest not in (self.nodes if level else self.sizes):
                found = 0, frozenset([digest])
            elif level:
                found = self._sum(level - 1, self.nodes[digest])
            else:
                found = self.sizes[digest], frozenset[bytes]()
            self._below[level, digest] = found
        return self._below[level, digest]

    def place_of(self, digest: bytes) -> bytes:
        """What drop.lua is told of a chunk that is lacking."""
        return digest + self.damaged.get(digest, b"-" * 40)

    def unused(self) -> list[bytes]:
        """The chunks that no value leads to, of those that were looked at."""
        return sorted((self.sizes.keys() | self.damaged.keys()) - self.used)


class _Checkpoint(NamedTuple):
    """What tells whether the delta channels of a checkpoint can be rebuilt."""

    parent: str
    delta: Collection[str]
    stored: Collection[str]


class _Look:
    """What is found of a thread, part by part."""

    def __init__(self, thread_id: str, keys: ThreadKeys) -> None:
        self.thread_id, self.keys = thread_id, keys
        self.chunks = _Chunks()
        self.checkpoints: dict[tuple[str, str], _Checkpoint] = {}
        self.writes: dict[bytes, list[list[Any]]] = {}
        self.findings: list[_Finding] = []

    def see_chunks(self, items: Sequence[bytes]) -> None:
        """Take a part of the chunks."""
        for digest, chunk in zip(items[::2], items[1::2], strict=True):
            self.chunks.add(digest, chunk)

    def see_rows(self, key: bytes, rows: Iterable[bytes]) -> dict[bytes, frozenset[bytes]]:
        """Take rows; those that lack chunks, as far as is known, are returned with these."""
        lacking = {row: self._lacking(key, row) for row in rows}
        return {row: lost for row, lost in lacking.items() if lost}

    def _lacking(self, key: bytes, row: bytes) -> frozenset[bytes]:
        try:
            with Reading(self.thread_id, key, row):
                entries = self._entries(key, row)
                return frozenset[bytes]().union(*map(self.chunks.lacking, entries))
        except CorruptThreadError as error:
            self.found("lost", key, row, error.reason)
            return frozenset()

    def _entries(self, key: bytes, row: bytes) -> list[list[Any]]:
        if key == self.keys.writes:
            self.writes[row] = [write.entry for write in _codec.stored_writes(row)]
            return self.writes[row]
        record = _codec.record(row)
        stored = dict(record.entries())
        record.versions()
        place = record.namespace, record.checkpoint_id
        self.checkpoints[place] = _Checkpoint(
            record.parent_id, [name.decode() for name in record.delta], stored.keys()
        )
        return [*stored.values()]

    def found(self, kind: Kind, key: bytes, row: bytes, reason: str, why: bytes = b"") -> None:
        """Note a problem with a row."""
        problem = Problem(kind, *place_of(row), key.decode(), reason)
        self.findings.append(_Finding(problem, row, why))

    def found_lacking(self, key: bytes, lacking: dict[bytes, frozenset[bytes]]) -> None:
        """Note rows that lack chunks."""
        for row, lost in lacking.items():
            first, *others = sorted(lost)
            reason = f"chunk {first.hex()} is missing or damaged"
            if others:
                reason += f", and {len(others)} more"
            why = b"".join([self.chunks.place_of(digest) for digest in (first, *others)])
            self.found("lost", key, row, reason, why)

    def find_orphans(self) -> None:
        """Note writes whose checkpoint is not there, though its namespace has gone on."""
        newest: dict[str, str] = {}
        for namespace, checkpoint_id in self.checkpoints:
            newest[namespace] = max(newest.get(namespace, ""), checkpoint_id)
        for row in self.writes:
            namespace, checkpoint_id = place = place_of(row)
            if place not in self.checkpoints and checkpoint_id < newest.get(namespace, ""):
                self.found(
                    "garbage", self.keys.writes, row, "the checkpoint is not there", b"orphan"
                )

    def incomplete(self) -> Iterator[Problem]:
        """The checkpoints with a delta channel that cannot be rebuilt."""
        ends: dict[tuple[str, str, str], str] = {}
        for (namespace, checkpoint_id), checkpoint in self.checkpoints.items():
            for channel in checkpoint.delta:
                if gone := self._gone(namespace, checkpoint_id, channel, ends):
                    reason = f"delta channel {channel!r} lacks its ancestor {gone}"
                    key = self.keys.timeline.decode()
                    yield Problem("incomplete", namespace, checkpoint_id, key, reason)

    def _gone(
        self, namespace: str, start: str, channel: str, ends: dict[tuple[str, str, str], str]
    ) -> str:
        """The first ancestor that is not there, on the way to a stored value; empty for none."""
        path: list[tuple[str, str, str]] = []
        checkpoint_id, end = start, ""
        while checkpoint_id:
            step = (namespace, checkpoint_id, channel)
            if step in ends:
                end = ends[step]
                break
            checkpoint = self.checkpoints.get((namespace, checkpoint_id))
            if checkpoint is None:
                end = checkpoint_id
                break
            ends[step] = ""  # where a loop ends
            path.append(step)
            if channel in checkpoint.stored:
                break
            checkpoint_id = checkpoint.parent
        ends.update(dict.fromkeys(path, end))
        return end


# Operations


class _IntegrityOperations(Operations):
    """Looking for damage, and removing it."""

    __slots__ = ()

    def verify(self, thread_id: str) -> Operation[list[Problem]]:
        """Everything that is wrong with a thread."""
        findings, others = yield from self._examine(thread_id)
        troubles = yield from self._runs.troubles(thread_id)
        return [*[finding.problem for finding in findings], *others, *map(_of_index, troubles)]

    def repair(self, thread_id: str) -> Operation[list[Problem]]:
        """Remove what is lost and what is garbage; what was removed."""
        thread_id = _config.identifier("thread_id", thread_id)
        findings, others = yield from self._examine(thread_id)
        token = self.shared.token(thread_id)
        dropped = yield from self._drop(thread_id, [token, 1], findings)
        garbage = [problem for problem in others if problem.kind == "garbage"]
        if dropped or garbage:
            gone = yield from self._remove(DELETE_RUNS, thread_id, [])  # of no run: frees chunks
            yield from self._removed(thread_id, gone)
        troubles = yield from self._runs.troubles(thread_id)
        yield from self._runs.mend(thread_id, troubles)
        return [*[finding.problem for finding in dropped], *garbage, *map(_of_index, troubles)]

    def _examine(self, thread_id: str) -> Operation[tuple[list[_Finding], list[Problem]]]:
        """The problems with rows, and the others."""
        thread_id = _config.identifier("thread_id", thread_id)
        keys = self._keys(thread_id)
        look = _Look(thread_id, keys)
        stage, position = b"chunks", b"0"
        while stage:
            items, next_stage, position = yield SCAN(keys, [stage, position])
            if stage == b"chunks":
                look.see_chunks(items)
            else:
                key = keys.timeline if stage == b"timeline" else keys.writes
                yield from self._see_rows(look, key, items)
            stage = next_stage
        look.find_orphans()
        findings = yield from self._drop(thread_id, [b"", 0], look.findings)
        garbage = yield from self._garbage(look)
        return findings, [*look.incomplete(), *garbage]

    def _see_rows(self, look: _Look, key: bytes, rows: Sequence[bytes]) -> Operation[None]:
        """Look at rows, and once more at those whose chunks came after the others were seen."""
        lacking = look.see_rows(key, rows)
        asked: set[bytes] = set()
        while new := sorted(frozenset[bytes]().union(*lacking.values()) - asked):
            digests = new[:AT_A_TIME]
            asked.update(digests)
            [chunks] = yield Commands((("HMGET", look.keys.chunks, *digests),))
            look.see_chunks(
                [
                    part
                    for digest, chunk in zip(digests, chunks, strict=True)
                    if chunk is not None
                    for part in (digest, chunk)
                ]
            )
            lacking = look.see_rows(key, lacking)
        look.found_lacking(key, lacking)

    def _drop(
        self, thread_id: str, how: Sequence[Argument], findings: Sequence[_Finding]
    ) -> Operation[list[_Finding]]:
        """Those of some problems that there still are; they are removed, if `how` says so."""
        keys, confirmed = self._keys(thread_id), list[_Finding]()
        confirm = self.shared.options.confirm if how[-1] else None
        for start in range(0, len(findings), AT_A_TIME):
            some = findings[start : start + AT_A_TIME]
            args: list[Argument] = [*how]
            for problem, row, why in some:
                args += 1 + (problem.key.encode() == keys.writes), row, why
            replies = yield DROP(keys, args, confirm)
            confirmed += [one for one, reply in zip(some, replies, strict=True) if reply]
        return confirmed

    def _garbage(self, look: _Look) -> Operation[list[Problem]]:
        """The chunks that nothing leads to, as one problem."""
        unused, count = look.chunks.unused(), 0
        for start in range(0, len(unused), AT_A_TIME):
            some = unused[start : start + AT_A_TIME]
            replies = yield Commands(
                tuple(("HEXISTS", look.keys.chunks, digest) for digest in some)
            )
            count += sum(map(bool, replies))
        reason = f"chunks that nothing leads to: {count}"
        return [Problem("garbage", "", "", look.keys.chunks.decode(), reason)] if count else []


def _of_index(trouble: Trouble) -> Problem:
    """What is wrong between a thread and the index of a run, as a problem of the thread."""
    kind: Kind = "unindexed" if trouble.is_lost else "garbage"
    return Problem(kind, "", "", trouble.key.decode(), trouble.reason)


# Methods


class Integrity(Driver):
    """The methods of the synchronous saver, and their awaited names."""

    @property
    def _checking(self) -> _IntegrityOperations:
        return _IntegrityOperations(self.serde, self._shared)

    def verify(self, thread_id: str) -> list[Problem]:
        """Everything that is wrong with what is stored of a thread; empty if all is well.

        The whole thread is read, in calls that each look at a bounded part of it; so it may run
        beside the traffic. The serializer is not called.

        Raises:
            UnknownFormatError: A part of it was written by a newer version of this package.
        """
        return self._run(self._checking.verify(thread_id))

    def repair(self, thread_id: str) -> list[Problem]:
        """Remove what is lost or garbage, as `verify` tells it, index runs that are unindexed.

        A checkpoint that lacks something goes with its writes; of damaged writes, all that the task
        wrote on top of the checkpoint, so that it runs again. May be repeated, and be interrupted.

        Returns:
            What was removed or mended.

        Raises:
            ThreadLeasedError: Another has the lease of the thread.
            UnknownFormatError: As `verify`.
        """
        return self._run(self._checking.repair(thread_id))

    async def averify(self, thread_id: str) -> list[Problem]:
        """`verify` in a thread."""
        return await asyncio.to_thread(self.verify, thread_id)

    async def arepair(self, thread_id: str) -> list[Problem]:
        """`repair` in a thread."""
        return await asyncio.to_thread(self.repair, thread_id)


class AsyncIntegrity(AsyncDriver):
    """The methods of the asynchronous saver, and their synchronous names."""

    @property
    def _checking(self) -> _IntegrityOperations:
        return _IntegrityOperations(self.serde, self._shared)

    async def averify(self, thread_id: str) -> list[Problem]:
        """Everything that is wrong with what is stored of a thread; empty if all is well.

        The whole thread is read, in calls that each look at a bounded part of it; so it may run
        beside the traffic. The serializer is not called.

        Raises:
            UnknownFormatError: A part of it was written by a newer version of this package.
        """
        return await self._run(self._checking.verify(thread_id))

    async def arepair(self, thread_id: str) -> list[Problem]:
        """Remove what is lost or garbage, as `averify` tells it, index runs that are unindexed.

        A checkpoint that lacks something goes with its writes; of damaged writes, all that the task
        wrote on top of the checkpoint, so that it runs again. May be repeated, and be interrupted.

        Returns:
            What was removed or mended.

        Raises:
            ThreadLeasedError: Another has the lease of the thread.
            UnknownFormatError: As `averify`.
        """
        return await self._run(self._checking.repair(thread_id))

    def verify(self, thread_id: str) -> list[Problem]:
        """`averify` from another thread than the event loop's."""
        return self._wait(self.averify(thread_id))

    def repair(self, thread_id: str) -> list[Problem]:
        """`arepair` from another thread than the event loop's."""
        return self._wait(self.arepair(thread_id))
