"""Read a thread in calls of bounded size: its rows, its chunks, and once more what seems wrong."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from langgraph_checkpoint_redis._core.context import Context
from langgraph_checkpoint_redis._protocol.requests import Commands, Operation, ask
from langgraph_checkpoint_redis._scripts import calls
from langgraph_checkpoint_redis._storage.tree import DIGEST
from langgraph_checkpoint_redis._storage.values import Entry, list_by_level

from .problems import Finding, Problem
from .rows import Examination
from .runs import RunCounts

Thing = TypeVar("Thing")

AT_A_TIME = 100  # rows that one call is asked for
MANY = 1000  # chunks that one call is asked for
BYTES = 4 * 1024 * 1024  # of chunks that one call is asked for, if it is more than one
TRIES = 3  # to count checkpoints while a thread is written to


def examine(context: Context, thread_id: str) -> Operation[tuple[list[Finding], list[Problem]]]:
    """Read all of a thread; return the problems that drop.lua can look at again, and the others."""
    keys = context.keys(thread_id)
    found = Examination(thread_id, keys)
    stage, position = b"chunks", b"0"
    while stage == b"chunks":
        call = calls.scan(keys, stage=stage, position=position)
        names, stage, position, *_ = yield from ask(call)
        found.chunks.unused.update(name for name in names if len(name) == DIGEST)
    while stage:
        call = calls.scan(keys, stage=stage, position=position)
        rows, next_stage, position, facts, lost = yield from ask(call)
        found.runs.see(facts)
        found.find_lost_keys(lost)
        key = keys.timeline if stage == b"timeline" else keys.writes
        values = found.read_rows(key, rows)
        yield from _read_chunks(found, [entry for entries in values.values() for entry in entries])
        found.find_lacking(key, values)
        if stage == b"writes":
            found.find_orphans(values)
        stage = next_stage
    findings = yield from confirm(context, thread_id, found.findings)
    runs = yield from _find_wrong_runs(context, found)
    garbage = yield from _find_garbage(found)
    return findings, [*found.list_incomplete(), *runs, *garbage]


# Chunks


def _read_chunks(found: Examination, entries: Iterable[Entry]) -> Operation[None]:
    """Read all chunks that values are made of, except for the chunks that were read before."""
    chunks = found.chunks
    levels = {level: {*names} for level, names in list_by_level(entries).items()}
    for level in range(max(levels, default=-1), -1, -1):
        names = levels.get(level, set())
        chunks.unused -= names
        seen = chunks.nodes if level else chunks.sizes
        yield from _fetch(found, [name for name in names if name not in seen], is_node=level > 0)
        levels.setdefault(level - 1, set()).update(chunks.list_below(level, names))


def _fetch(found: Examination, digests: Sequence[bytes], *, is_node: bool) -> Operation[None]:
    """Read some chunks, as many at a time as fit into some megabytes."""
    key = found.keys.chunks
    for start in range(0, len(digests), MANY):
        some = digests[start : start + MANY]
        lengths = yield Commands(tuple(("HSTRLEN", key, digest) for digest in some))
        for group in _split(zip(some, lengths, strict=True)):
            [contents] = yield Commands((("HMGET", key, *group),))
            for digest, chunk in zip(group, contents, strict=True):
                if chunk is not None:
                    found.chunks.add(digest, chunk, is_node=is_node)


def _find_garbage(found: Examination) -> Operation[list[Problem]]:
    """Return the chunks that nothing refers to, as one problem.

    A row that was put meanwhile may refer to one, or a sweep may be about to free it. So all rows
    are read once more.
    """
    if not found.chunks.unused:
        return []
    yield from _read_rows_again(found)
    key, unused, count = found.keys.chunks, sorted(found.chunks.unused), 0
    for start in range(0, len(unused), MANY):
        some = unused[start : start + MANY]
        replies = yield Commands(tuple(("HEXISTS", key, digest) for digest in some))
        count += sum(map(bool, replies))
    [is_swept] = yield Commands((("EXISTS", found.keys.live),))
    if is_swept or not count:
        return []
    reason = f"chunks that nothing leads to: {count}"
    return [Problem("garbage", "", "", key.decode(), reason)]


def _read_rows_again(found: Examination) -> Operation[None]:
    again = Examination(found.thread_id, found.keys)
    again.chunks = found.chunks
    stage, position = b"timeline", b""
    while stage:
        call = calls.scan(found.keys, stage=stage, position=position)
        rows, next_stage, position, *_ = yield from ask(call)
        key = found.keys.timeline if stage == b"timeline" else found.keys.writes
        values = again.read_rows(key, rows)
        yield from _read_chunks(again, [entry for each in values.values() for entry in each])
        stage = next_stage


# Rows


def confirm(
    context: Context, thread_id: str, findings: Sequence[Finding]
) -> Operation[list[Finding]]:
    """Return the problems that are still there."""
    return (yield from _look_again(context, thread_id, findings))


def drop(
    context: Context, thread_id: str, token: bytes, findings: Sequence[Finding]
) -> Operation[list[Finding]]:
    """Remove the rows of problems that are still there, and return these problems."""
    return (yield from _look_again(context, thread_id, findings, token, is_mending=True))


def _look_again(
    context: Context,
    thread_id: str,
    findings: Sequence[Finding],
    token: bytes = b"",
    *,
    is_mending: bool = False,
) -> Operation[list[Finding]]:
    confirmed: list[Finding] = []
    weighed = [(finding, finding.weight) for finding in findings]
    for some in _split(weighed, AT_A_TIME):
        call = calls.drop(
            context.keys(thread_id),
            [finding.flaw for finding in some],
            token=token,
            is_mending=is_mending,
            confirm=context.options.confirm,
        )
        replies = yield from ask(call)
        confirmed += [one for one, reply in zip(some, replies, strict=True) if reply]
    return confirmed


def _split(weighed: Iterable[tuple[Thing, int]], most: int = MANY) -> Iterator[list[Thing]]:
    """Divide things into groups of a bounded number and weight. A heavy thing is alone."""
    group, weight = list[Thing](), 0
    for thing, size in weighed:
        if group and (weight + size > BYTES or len(group) == most):
            yield group
            group, weight = [], 0
        group.append(thing)
        weight += size
    if group:
        yield group


# Runs


def _find_wrong_runs(context: Context, found: Examination) -> Operation[list[Problem]]:
    """Return the runs whose number of checkpoints is wrong, each as a problem.

    If the thread was written to meanwhile, they are counted again. If it stays busy, or has a
    checkpoint that cannot be read, none is returned.
    """
    runs = found.runs
    if runs.wrong is None:
        runs = yield from count_runs(context, found.thread_id)
    return runs.list_problems(found.keys.runs)


def count_runs(context: Context, thread_id: str) -> Operation[RunCounts]:
    """Count the checkpoints of runs, a few times if the thread changes meanwhile."""
    keys = context.keys(thread_id)
    for _ in range(TRIES):
        found = Examination(thread_id, keys)
        stage, position = b"timeline", b""
        while stage == b"timeline":
            call = calls.scan(keys, stage=stage, position=position)
            rows, stage, position, facts, _ = yield from ask(call)
            found.runs.see(facts)
            found.read_rows(keys.timeline, rows)
        if found.runs.wrong is not None:
            break
    return found.runs
