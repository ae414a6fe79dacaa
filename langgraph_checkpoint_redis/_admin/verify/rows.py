"""The rows of a thread, compared with each other and with its chunks: which problems they have."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import timedelta
from typing import NamedTuple

from langgraph_checkpoint_redis._admin.times import parse_any_time
from langgraph_checkpoint_redis._scripts.calls import Flaw
from langgraph_checkpoint_redis._storage.corruption import CorruptionContext, parse_row_name
from langgraph_checkpoint_redis._storage.keys import ThreadKeys
from langgraph_checkpoint_redis._storage.records import parse_checkpoint_row, parse_writes_row
from langgraph_checkpoint_redis._storage.tree import split_digests
from langgraph_checkpoint_redis._storage.values import Entry
from langgraph_checkpoint_redis.errors import CorruptThreadError

from .chunks import SeenChunks
from .problems import Finding, Kind, Problem
from .runs import RunCounts

NAMED = 100  # chunks that a row lacks and that the server is asked for again
YOUNG = timedelta(days=1)  # age of writes whose checkpoint may come yet


class _Checkpoint(NamedTuple):
    """The facts that show whether the delta channels of a checkpoint can be rebuilt."""

    parent: str
    delta: Collection[str]
    stored: Collection[str]
    written: Collection[str]  # channels that were ever written
    is_cut_off: bool


class Examination:
    """What is found of a thread, part by part."""

    def __init__(self, thread_id: str, keys: ThreadKeys) -> None:
        self.thread_id, self.keys = thread_id, keys
        self.chunks = SeenChunks()
        self.runs = RunCounts()
        self.findings: list[Finding] = []
        self._checkpoints: dict[tuple[str, str], _Checkpoint] = {}
        self._newest: dict[str, str] = {}

    def read_rows(self, key: bytes, rows: Iterable[bytes]) -> dict[bytes, list[Entry]]:
        """Note rows of a key; return the entries of the values of each row that can be read."""
        found: dict[bytes, list[Entry]] = {}
        for row in rows:
            entries = self._read_row(key, row)
            if entries is not None:
                found[row] = entries
        return found

    def _read_row(self, key: bytes, row: bytes) -> list[Entry] | None:
        try:
            with CorruptionContext(self.thread_id, key, row):
                if key == self.keys.writes:
                    entries = [write.entry for write in parse_writes_row(row)]
                else:
                    entries = self._read_checkpoint(row)
                for entry in entries:
                    [split_digests(digests) for digests in entry.levels]
                return entries
        except CorruptThreadError as error:
            self._add("lost", key, row, error.reason)
            if key == self.keys.timeline:
                self.runs.add(None)
            return None

    def _read_checkpoint(self, row: bytes) -> list[Entry]:
        record = parse_checkpoint_row(row)
        stored = dict(record.entries())
        versions = record.versions()
        namespace, checkpoint_id = place = record.namespace, record.checkpoint_id
        self._checkpoints[place] = _Checkpoint(
            record.parent_id,
            [name.decode() for name in record.delta],
            stored.keys(),
            versions.keys(),
            record.is_cut_off,
        )
        self._newest[namespace] = max(self._newest.get(namespace, ""), checkpoint_id)
        self.runs.add(record)
        return [*stored.values()]

    def find_lacking(self, key: bytes, rows: Mapping[bytes, list[Entry]]) -> None:
        """Note rows whose values lack chunks."""
        for row, entries in rows.items():
            try:
                with CorruptionContext(self.thread_id, key, row):
                    lost = sorted(frozenset[bytes]().union(*map(self.chunks.find_lacking, entries)))
            except CorruptThreadError as error:
                self._add("lost", key, row, error.reason)
                continue
            if lost:
                reason = f"chunk {lost[0].hex()} is missing or damaged"
                if len(lost) > 1:
                    reason += f", and {len(lost) - 1} more"
                # One lacking chunk is enough to remove a row. Others are named in case it is back.
                some = lost[:NAMED]
                why = b"".join([self.chunks.name_lacking(digest) for digest in some])
                self._add("lost", key, row, reason, why, lacking=some)

    def find_orphans(self, rows: Iterable[bytes]) -> None:
        """Note old writes whose checkpoint is missing, though their namespace has newer ones.

        LangGraph stores writes and checkpoints in no order, so the checkpoint of new writes may
        still come.
        """
        before = self.runs.time - YOUNG
        for row in rows:
            namespace, checkpoint_id = place = parse_row_name(row)
            time = parse_any_time(checkpoint_id)
            if (
                place not in self._checkpoints
                and checkpoint_id < self._newest.get(namespace, "")
                and time is not None
                and time < before
            ):
                self._add(
                    "garbage", self.keys.writes, row, "the checkpoint is not there", b"orphan"
                )

    def find_lost_keys(self, names: Iterable[bytes]) -> None:
        """Note whole keys that are gone."""
        for name in names:
            key = getattr(self.keys, name.decode())
            reason = "the key is gone, though the thread has data in it"
            problem = Problem("lost", "", "", key.decode(), reason)
            self.findings.append(Finding(problem, Flaw.of_key(name), 0))

    def _add(
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
        flaw = Flaw.of_row(row, why, is_checkpoint=key == self.keys.timeline)
        weight = len(row) + sum(self.chunks.lengths.get(digest, 0) for digest in lacking)
        self.findings.append(Finding(problem, flaw, weight))

    def list_incomplete(self) -> Iterator[Problem]:
        """Yield the checkpoints with a delta channel that cannot be rebuilt.

        A checkpoint that is kept for newer ones only need not be, unless it is the newest one now.
        """
        ends: dict[tuple[str, str, str], str] = {}
        for (namespace, checkpoint_id), checkpoint in self._checkpoints.items():
            if checkpoint.is_cut_off and checkpoint_id != self._newest[namespace]:
                continue
            for channel in checkpoint.delta:
                if gone := self._find_gap(namespace, checkpoint_id, channel, ends):
                    reason = f"delta channel {channel!r} lacks its ancestor {gone}"
                    key = self.keys.timeline.decode()
                    yield Problem("incomplete", namespace, checkpoint_id, key, reason)

    def _find_gap(
        self, namespace: str, start: str, channel: str, ends: dict[tuple[str, str, str], str]
    ) -> str:
        """Return the first missing ancestor on the way to a stored value; empty if none is missing.

        The way ends where the channel was not written yet.
        """
        path: list[tuple[str, str, str]] = []
        checkpoint_id, end = start, ""
        while checkpoint_id:
            step = (namespace, checkpoint_id, channel)
            if step in ends:
                end = ends[step]
                break
            checkpoint = self._checkpoints.get((namespace, checkpoint_id))
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
