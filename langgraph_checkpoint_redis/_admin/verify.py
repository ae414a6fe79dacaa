"""Looking for damage in a thread, and removing what it has made useless.

A thread is read in calls of bounded size: the names of its chunks, its rows, and the chunks, as
many at a time as fit into some megabytes. Each is compared with its name, and of pieces only the
size is kept. What changes meanwhile could look like damage, so the server is asked once more, in
one script, about each row that seems to lack something.

Nothing here calls the serializer. So no key is needed to look for damage, and nothing is removed
that merely a wrong key was tried on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from hashlib import sha1
from secrets import token_bytes
from typing import Any, Literal, NamedTuple, TypeVar

from langgraph_checkpoint_redis._core.operations import Operations
from langgraph_checkpoint_redis._core.run_index import Trouble
from langgraph_checkpoint_redis._protocol.requests import Commands, Operation
from langgraph_checkpoint_redis._protocol.resp import Argument
from langgraph_checkpoint_redis._runtime.interruptions import raise_interruption
from langgraph_checkpoint_redis._scripts.calls import DELETE_RUNS, DROP, RECOUNT, SCAN, TRUST
from langgraph_checkpoint_redis._storage.checks import check_id
from langgraph_checkpoint_redis._storage.corruption import CorruptionContext, parse_row_name
from langgraph_checkpoint_redis._storage.keys import ThreadKeys
from langgraph_checkpoint_redis._storage.records import (
    CheckpointRow,
    parse_checkpoint_row,
    parse_writes_row,
)
from langgraph_checkpoint_redis._storage.tree import DIGEST, check_levels, split_digests
from langgraph_checkpoint_redis._storage.values import check_chunk
from langgraph_checkpoint_redis.errors import CorruptThreadError

from .threads import time_of_id

T = TypeVar("T")
Thing = TypeVar("Thing")

AT_A_TIME = 100  # rows that one call is asked for
MANY = 1000  # chunks that one call is asked for
BYTES = 4 * 1024 * 1024  # of chunks that one call is asked for, if it is more than one
NAMED = 100  # chunks that a row lacks and that the server is asked for again
TRIES = 3  # to count checkpoints while a thread is written to
YOUNG = timedelta(days=1)  # age of writes whose checkpoint may come yet

TIMELINE, WRITES, KEY = 1, 2, 3  # what drop.lua is told of
PLACE = 40  # hexadecimal digits of what is in the place of a chunk

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
    """A problem that drop.lua looks at again: of which kind, what, and why.

    `weight` is how many bytes it reads for that.
    """

    problem: Problem
    kind: int
    what: bytes
    why: bytes
    weight: int


# Looking


@dataclass(slots=True)
class _Chunks:
    """What is found of chunks: the sizes of good ones, and what nodes lead to.

    `unused` are the names that were there at first and that nothing was found to lead to;
    `lengths` are those of chunks that are damaged. A node counts as `whole` at a level once all
    that it leads to was found there; then it is the size of that.
    """

    unused: set[bytes] = field(default_factory=set)
    sizes: dict[bytes, int] = field(default_factory=dict)
    nodes: dict[bytes, bytes] = field(default_factory=dict)
    damaged: dict[bytes, bytes] = field(default_factory=dict)
    lengths: dict[bytes, int] = field(default_factory=dict)
    whole: dict[tuple[int, bytes], int] = field(default_factory=dict)

    def add(self, digest: bytes, chunk: bytes, *, is_node: bool) -> None:
        """Compare a chunk with its name."""
        try:
            content = check_chunk(digest, chunk)
        except ValueError as error:
            raise_interruption(error)
            self.damaged[digest] = sha1(chunk, usedforsecurity=False).hexdigest().encode()
            self.lengths[digest] = len(chunk)
            return
        self.damaged.pop(digest, None)
        self.sizes[digest] = len(content)
        if is_node and len(content) % DIGEST == 0:
            self.nodes[digest] = content

    def below(self, level: int, digests: Iterable[bytes]) -> set[bytes]:
        """What nodes of a level lead to, but for those that are whole."""
        found = set[bytes]()
        for digest in digests:
            if (level, digest) not in self.whole and digest in self.nodes:
                found.update(split_digests(self.nodes[digest]))
        return found

    def lacking(self, entry: Sequence[Any]) -> frozenset[bytes]:
        """The chunks that a value lacks; raises `LookupError` if it is wrong in another way."""
        _, inline, *tree = entry
        if not tree:
            return frozenset()
        size, *levels = tree
        check_levels(levels)
        found, lost = len(inline), set[bytes]()
        for level, digests in enumerate(levels):
            found += self._size(level, split_digests(digests), lost)
        if not lost and found != size:
            raise LookupError(f"a value of {size} bytes reads as {found} bytes")
        return frozenset(lost)

    def _size(self, top: int, digests: Sequence[bytes], lost: set[bytes]) -> int:
        """How many bytes some digests of a level lead to; what they lack is added to `lost`."""
        levels = {top: {*digests}}
        for level in range(top, 0, -1):
            levels[level - 1] = self.below(level, levels[level])
        sizes: dict[bytes, int] = {}
        for level in range(top + 1):
            above: dict[bytes, int] = {}
            for digest in levels[level]:
                size = self._size_of(level, digest, sizes)
                if size is None:
                    lost.add(digest)
                above[digest] = size or 0
                if level and not lost:
                    self.whole[level, digest] = above[digest]
            sizes = above
        return sum(sizes[digest] for digest in digests)

    def _size_of(self, level: int, digest: bytes, below: Mapping[bytes, int]) -> int | None:
        """How many bytes a chunk leads to, or `None` if it is not there."""
        if level == 0:
            return self.sizes.get(digest)
        if (level, digest) in self.whole:
            return self.whole[level, digest]
        if digest not in self.nodes:
            return None
        return sum(below[child] for child in split_digests(self.nodes[digest]))

    def place_of(self, digest: bytes) -> bytes:
        """What drop.lua is told of a chunk that is lacking."""
        return digest + self.damaged.get(digest, b"-" * PLACE)


class _Checkpoint(NamedTuple):
    """What tells whether the delta channels of a checkpoint can be rebuilt."""

    parent: str
    delta: Collection[str]
    stored: Collection[str]
    written: Collection[str]  # channels that were ever written


class _Facts(NamedTuple):
    """The state of a thread, and how many checkpoints its runs have as the server counts them."""

    state: bytes
    runs: Mapping[bytes, int]

    @classmethod
    def of(cls, state: bytes, runs: Sequence[bytes]) -> _Facts:
        """Read them as scan.lua returns them."""
        return cls(state, dict(zip(runs[::2], map(int, runs[1::2]), strict=True)))


class _Runs:
    """How many checkpoints runs have, counted in the rows; `None` in place of what is not known."""

    def __init__(self) -> None:
        self._counted = Counter[bytes]()
        self._is_known = True
        self._seen: list[_Facts] = []
        self.time = datetime.now(timezone.utc)  # that of the server, once it has told it

    def add(self, record: CheckpointRow | None) -> None:
        """Count a checkpoint, or note that there is one that cannot be read."""
        if record is None:
            self._is_known = False
        elif isinstance(record.run, bytes):
            self._counted[record.run] += 1

    def see(self, facts: Sequence[Any]) -> None:
        """Note what the server says, at the beginning of the timeline and at its end."""
        if facts:
            state, runs, seconds = facts
            self._seen.append(_Facts.of(state, runs))
            self.time = datetime.fromtimestamp(int(seconds), timezone.utc)

    @property
    def wrong(self) -> dict[bytes, tuple[int | None, int]] | None:
        """The runs with a wrong number: what is stored, and what was counted; `None` if unknown."""
        if not self._is_known:
            return None
        stored = self._seen[-1].runs
        wrong = {
            run: (stored.get(run), self._counted[run])
            for run in {*stored, *self._counted}
            if stored.get(run, 0) != self._counted[run]
        }
        if wrong and self._seen[0] != self._seen[-1]:
            return None  # what changed meanwhile was counted in part
        return wrong

    @property
    def state(self) -> bytes:
        """The state of the thread."""
        return self._seen[-1].state


class _Look:
    """What is found of a thread, part by part."""

    def __init__(self, thread_id: str, keys: ThreadKeys) -> None:
        self.thread_id, self.keys = thread_id, keys
        self.chunks = _Chunks()
        self.checkpoints: dict[tuple[str, str], _Checkpoint] = {}
        self.newest: dict[str, str] = {}
        self.runs = _Runs()
        self.findings: list[_Finding] = []

    def read_rows(self, key: bytes, rows: Iterable[bytes]) -> dict[bytes, list[list[Any]]]:
        """Take rows; the values of each that can be read."""
        found: dict[bytes, list[list[Any]]] = {}
        for row in rows:
            entries = self._entries(key, row)
            if entries is not None:
                found[row] = entries
        return found

    def _entries(self, key: bytes, row: bytes) -> list[list[Any]] | None:
        try:
            with CorruptionContext(self.thread_id, key, row):
                if key == self.keys.writes:
                    entries = [write.entry for write in parse_writes_row(row)]
                else:
                    entries = self._entries_of_checkpoint(row)
                for entry in entries:
                    [split_digests(digests) for digests in entry[3:]]
                return entries
        except CorruptThreadError as error:
            self.found("lost", key, row, error.reason)
            if key == self.keys.timeline:
                self.runs.add(None)
            return None

    def _entries_of_checkpoint(self, row: bytes) -> list[list[Any]]:
        record = parse_checkpoint_row(row)
        stored = dict(record.entries())
        versions = record.versions()
        place = record.namespace, record.checkpoint_id
        self.checkpoints[place] = _Checkpoint(
            record.parent_id,
            [name.decode() for name in record.delta],
            stored.keys(),
            versions.keys(),
        )
        self.newest[place[0]] = max(self.newest.get(place[0], ""), place[1])
        self.runs.add(record)
        return [*stored.values()]

    def found(
        self,
        kind: Kind,
        key: bytes,
        row: bytes,
        reason: str,
        why: bytes = b"",
        *,
        lacking: Iterable[bytes] = (),
    ) -> None:
        """Note a problem with a row."""
        problem = Problem(kind, *parse_row_name(row), key.decode(), reason)
        number = TIMELINE if key == self.keys.timeline else WRITES
        weight = len(row) + sum(self.chunks.lengths.get(digest, 0) for digest in lacking)
        self.findings.append(_Finding(problem, number, row, why, weight))

    def find_lacking(self, key: bytes, rows: Mapping[bytes, list[list[Any]]]) -> None:
        """Note rows that lack chunks."""
        for row, entries in rows.items():
            try:
                with CorruptionContext(self.thread_id, key, row):
                    lost = sorted(frozenset[bytes]().union(*map(self.chunks.lacking, entries)))
            except CorruptThreadError as error:
                self.found("lost", key, row, error.reason)
                continue
            if lost:
                reason = f"chunk {lost[0].hex()} is missing or damaged"
                if len(lost) > 1:
                    reason += f", and {len(lost) - 1} more"
                # One that is lacking is enough to remove a row; these are for what comes back.
                some = lost[:NAMED]
                why = b"".join([self.chunks.place_of(digest) for digest in some])
                self.found("lost", key, row, reason, why, lacking=some)

    def find_orphans(self, rows: Iterable[bytes]) -> None:
        """Note old writes whose checkpoint is not there, though its namespace has gone on.

        LangGraph stores writes and checkpoints in no order, so that of newer ones may come yet.
        """
        before = self.runs.time - YOUNG
        for row in rows:
            namespace, checkpoint_id = place = parse_row_name(row)
            time = time_of_id(checkpoint_id)
            if (
                place not in self.checkpoints
                and checkpoint_id < self.newest.get(namespace, "")
                and time is not None
                and time < before
            ):
                self.found(
                    "garbage", self.keys.writes, row, "the checkpoint is not there", b"orphan"
                )

    def find_lost(self, names: Iterable[bytes]) -> None:
        """Note keys that are gone as a whole."""
        for name in names:
            key = getattr(self.keys, name.decode())
            reason = "the key is gone, though the thread has data in it"
            problem = Problem("lost", "", "", key.decode(), reason)
            self.findings.append(_Finding(problem, KEY, name, b"", 0))

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
        """The first ancestor that is not there, on the way to a stored value; empty for none.

        A channel that was not written yet has none before that.
        """
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
            if channel in checkpoint.stored or channel not in checkpoint.written:
                break
            checkpoint_id = checkpoint.parent
        ends.update(dict.fromkeys(path, end))
        return end


# Operations


class IntegrityOperations(Operations):
    """Looking for damage, and removing it."""

    __slots__ = ()

    def verify(self, thread_id: str) -> Operation[list[Problem]]:
        """Everything that is wrong with a thread."""
        thread_id = check_id("thread_id", thread_id)
        findings, others = yield from self._examine(thread_id)
        troubles = yield from self._runs.troubles(thread_id)
        return [*[finding.problem for finding in findings], *others, *map(_of_index, troubles)]

    def repair(self, thread_id: str) -> Operation[list[Problem]]:
        """Remove what is lost and what is garbage; what was removed."""
        thread_id = check_id("thread_id", thread_id)
        token = self.shared.token(thread_id)
        watched_by = yield from self._watch(thread_id, token)
        findings, others = yield from self._examine(thread_id)
        troubles = yield from self._runs.troubles(thread_id)
        dropped = yield from self._drop(thread_id, [token, 1], findings)
        mended = [problem for problem in others if problem.kind != "incomplete"]
        if dropped or mended:
            yield from self._recount(thread_id, token)
            gone = yield from self._remove(DELETE_RUNS, thread_id, [])  # of no run: frees chunks
            yield from self._removed(thread_id, gone)
        if troubles or dropped or mended:
            left = yield from self._runs.troubles(thread_id)
            yield from self._runs.mend(thread_id, left)
        yield from self._trust(thread_id, token, watched_by, [*findings, *others])
        return [*[finding.problem for finding in dropped], *mended, *map(_of_index, troubles)]

    # The mark that chunks were lost

    def _watch(self, thread_id: str, token: Argument) -> Operation[bytes]:
        """Watch a thread that is marked to have lost chunks; the token, or empty for others."""
        watched_by: bytes = yield TRUST(self._keys(thread_id), [token, 0, token_bytes(16)])
        return watched_by

    def _trust(
        self, thread_id: str, token: Argument, watched_by: bytes, found: Sequence[object]
    ) -> Operation[None]:
        """Take back the mark of a thread in which nothing was found, or nothing is any more.

        With the mark, each write looks at all chunks that it refers to. Others than the chunks of
        rows count, too: without the mark, what is garbage may be referred to by its name alone.
        """
        if found:
            watched_by = yield from self._watch(thread_id, token)
        if not watched_by:
            return
        if found:
            findings, others = yield from self._examine(thread_id)
            found = [*findings, *others]
        if not found:
            yield TRUST(self._keys(thread_id), [token, 1, watched_by], self.shared.options.confirm)

    # Looking

    def _examine(self, thread_id: str) -> Operation[tuple[list[_Finding], list[Problem]]]:
        """The problems that drop.lua can look at again, and the others."""
        keys = self._keys(thread_id)
        look = _Look(thread_id, keys)
        stage, position = b"chunks", b"0"
        while stage == b"chunks":
            names, stage, position, *_ = yield SCAN(keys, [stage, position])
            look.chunks.unused.update(name for name in names if len(name) == DIGEST)
        while stage:
            rows, next_stage, position, facts, lost = yield SCAN(keys, [stage, position])
            look.runs.see(facts)
            look.find_lost(lost)
            key = keys.timeline if stage == b"timeline" else keys.writes
            values = look.read_rows(key, rows)
            yield from self._see(look, [entry for entries in values.values() for entry in entries])
            look.find_lacking(key, values)
            if stage == b"writes":
                look.find_orphans(values)
            stage = next_stage
        findings = yield from self._drop(thread_id, [b"", 0], look.findings)
        runs = yield from self._wrong_runs(look)
        garbage = yield from self._garbage(look)
        return findings, [*look.incomplete(), *runs, *garbage]

    # Chunks

    def _see(self, look: _Look, entries: Iterable[Sequence[Any]]) -> Operation[None]:
        """Look at all chunks that values are made of, but for those that were seen."""
        chunks, levels = look.chunks, dict[int, set[bytes]]()
        for entry in entries:
            for level, digests in enumerate(entry[3:]):
                levels.setdefault(level, set()).update(split_digests(digests))
        for level in range(max(levels, default=-1), -1, -1):
            digests = levels.get(level, set())
            chunks.unused -= digests
            seen = chunks.nodes if level else chunks.sizes
            yield from self._fetch(
                look, [one for one in digests if one not in seen], is_node=level > 0
            )
            levels.setdefault(level - 1, set()).update(chunks.below(level, digests))

    def _fetch(self, look: _Look, digests: Sequence[bytes], *, is_node: bool) -> Operation[None]:
        """Look at some chunks, as many at a time as fit into some megabytes."""
        key = look.keys.chunks
        for start in range(0, len(digests), MANY):
            some = digests[start : start + MANY]
            lengths = yield Commands(tuple(("HSTRLEN", key, digest) for digest in some))
            for group in _groups(zip(some, lengths, strict=True)):
                [found] = yield Commands((("HMGET", key, *group),))
                for digest, chunk in zip(group, found, strict=True):
                    if chunk is not None:
                        look.chunks.add(digest, chunk, is_node=is_node)

    def _garbage(self, look: _Look) -> Operation[list[Problem]]:
        """The chunks that nothing leads to, as one problem.

        A row that was put meanwhile may lead to one, or a sweep be about to free it: so all rows
        are looked at once more.
        """
        if not look.chunks.unused:
            return []
        yield from self._see_again(look)
        key, unused, count = look.keys.chunks, sorted(look.chunks.unused), 0
        for start in range(0, len(unused), MANY):
            some = unused[start : start + MANY]
            replies = yield Commands(tuple(("HEXISTS", key, digest) for digest in some))
            count += sum(map(bool, replies))
        [is_swept] = yield Commands((("EXISTS", look.keys.live),))
        if is_swept or not count:
            return []
        reason = f"chunks that nothing leads to: {count}"
        return [Problem("garbage", "", "", key.decode(), reason)]

    def _see_again(self, look: _Look) -> Operation[None]:
        again = _Look(look.thread_id, look.keys)
        again.chunks = look.chunks
        stage, position = b"timeline", b""
        while stage:
            rows, next_stage, position, *_ = yield SCAN(look.keys, [stage, position])
            key = look.keys.timeline if stage == b"timeline" else look.keys.writes
            values = again.read_rows(key, rows)
            yield from self._see(again, [entry for each in values.values() for entry in each])
            stage = next_stage

    # Rows

    def _drop(
        self, thread_id: str, how: Sequence[Argument], findings: Sequence[_Finding]
    ) -> Operation[list[_Finding]]:
        """Those of some problems that there still are; they are removed, if `how` says so."""
        keys, confirmed = self._keys(thread_id), list[_Finding]()
        confirm = self.shared.options.confirm if how[-1] else None
        weighed = [(finding, finding.weight) for finding in findings]
        for some in _groups(weighed, AT_A_TIME):
            args: list[Argument] = [*how]
            for finding in some:
                args += finding.kind, finding.what, finding.why
            replies = yield DROP(keys, args, confirm)
            confirmed += [one for one, reply in zip(some, replies, strict=True) if reply]
        return confirmed

    # Runs

    def _wrong_runs(self, look: _Look) -> Operation[list[Problem]]:
        """The runs whose number of checkpoints is wrong, each as a problem.

        Where the thread was written to meanwhile, they are counted once more; while it is busy or
        has a checkpoint that cannot be read, nothing is said of them.
        """
        runs = look.runs
        if runs.wrong is None:
            runs = yield from self._counted(look.thread_id)
        key = look.keys.runs.decode()
        return [
            Problem(
                "lost",
                "",
                "",
                key,
                f"run {run.decode(errors='replace')!r} has {counted} checkpoints, but is stored "
                f"with {'none' if stored is None else stored}",
            )
            for run, (stored, counted) in sorted((runs.wrong or {}).items())
        ]

    def _counted(self, thread_id: str) -> Operation[_Runs]:
        """The checkpoints of runs, counted again, a few times if the thread changes meanwhile."""
        keys = self._keys(thread_id)
        for _ in range(TRIES):
            look = _Look(thread_id, keys)
            stage, position = b"timeline", b""
            while stage == b"timeline":
                rows, stage, position, facts, _ = yield SCAN(keys, [stage, position])
                look.runs.see(facts)
                look.read_rows(keys.timeline, rows)
            if look.runs.wrong is not None:
                break
        return look.runs

    def _recount(self, thread_id: str, token: Argument) -> Operation[None]:
        """Correct how many checkpoints the runs have, unless the thread is busy."""
        for _ in range(TRIES):
            runs = yield from self._counted(thread_id)
            args: list[Argument] = [token, runs.state]
            for run, (stored, counted) in (runs.wrong or {}).items():
                args += run, b"" if stored is None else stored, counted
            if not runs.wrong or (yield RECOUNT(self._keys(thread_id), args)):
                return


def _groups(weighed: Iterable[tuple[Thing, int]], most: int = MANY) -> Iterator[list[Thing]]:
    """Things in groups that have a bounded number and weight, or one thing."""
    group, weight = list[Thing](), 0
    for thing, size in weighed:
        if group and (weight + size > BYTES or len(group) == most):
            yield group
            group, weight = [], 0
        group.append(thing)
        weight += size
    if group:
        yield group


def _of_index(trouble: Trouble) -> Problem:
    """What is wrong between a thread and the index of a run, as a problem of the thread."""
    kind: Kind = "unindexed" if trouble.is_lost else "garbage"
    return Problem(kind, "", "", trouble.key.decode(), trouble.reason)
