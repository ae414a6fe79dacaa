"""What is there afterwards, beside what the ledgers say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from langgraph.checkpoint.base import CheckpointTuple

from langgraph_checkpoint_redis import RedisSaver

from .content import LENGTH, TASK, config, text, values, writes
from .ledger import DONE, FAILED, MISSING, TRIED, WRONG, Entry, entries


@dataclass
class Findings:
    """What was found.

    Attributes:
        operations: How many operations were acknowledged.
        failed: How many calls raised an error of the server or the connection, and were repeated.
        lost: What was acknowledged and is not there.
        wrong: What is there and is not what was stored, or what nothing leads to.
    """

    operations: int = 0
    checkpoints: int = 0
    failed: int = 0
    lost: list[Entry] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


def check_all(directory: Path, saver: RedisSaver, *, may_lose: bool) -> Findings:
    """Read all that the ledgers in a directory tell of.

    Where acknowledged writes may be lost, so may a checkpoint whose writes were stored later.
    """
    findings = Findings()
    for path in sorted(directory.glob("*.*.*")):
        lines = [*entries(path)]
        _count(findings, lines, may_lose=may_lose)
        is_chat = path.name.endswith("graph")
        by_thread: dict[str, list[Entry]] = {}
        for line in lines:
            if line.thread_id and line.state in (TRIED, DONE):
                by_thread.setdefault(line.thread_id, []).append(line)
        for thread_id, of_thread in by_thread.items():
            check = _check_chat if is_chat else _check_plain
            check(findings, saver, thread_id, of_thread)
            findings.wrong += _problems(saver, thread_id, may_lack=may_lose or is_chat)
    return findings


def _problems(saver: RedisSaver, thread_id: str, *, may_lack: bool) -> Iterator[str]:
    """What `verify` finds; with `may_lack`, writes of checkpoints that are not there are in order.

    A run of a graph may store those before the checkpoint, which then fails.
    """
    for problem in saver.verify(thread_id):
        if not (may_lack and problem.kind == "garbage" and problem.checkpoint_id):
            yield f"{thread_id}: {problem}"


def _count(findings: Findings, lines: Sequence[Entry], *, may_lose: bool) -> None:
    for line in lines:
        if line.state == DONE:
            # A turn of a graph says how many calls it took.
            findings.operations += int(line.detail) if line.operation == "turn" else 1
        findings.failed += line.state == FAILED
        if line.state == WRONG:
            findings.wrong.append(f"{line.thread_id}: read {line.detail}")
        if line.state == MISSING and not may_lose:  # else what is not there in the end counts
            findings.lost.append(line)


class _Story:
    """What was tried and done with a thread, by operation."""

    def __init__(self, lines: Sequence[Entry]) -> None:
        self.done = {(line.operation, line.number): line for line in lines if line.state == DONE}
        self.tried = {(line.operation, line.number): line for line in lines}

    def each_done(self, operation: str) -> Iterator[Entry]:
        for (name, _), line in self.done.items():
            if name == operation:
                yield line


def _check_plain(
    findings: Findings, saver: RedisSaver, thread_id: str, lines: Sequence[Entry]
) -> None:
    story = _Story(lines)
    found = {tuple_.checkpoint["id"]: tuple_ for tuple_ in saver.list(config(thread_id))}
    findings.checkpoints += len(found)
    numbers = {line.detail: number for (name, number), line in story.tried.items() if name == "put"}
    for checkpoint_id, tuple_ in found.items():
        if checkpoint_id not in numbers:
            findings.wrong.append(f"{thread_id}: nobody put {checkpoint_id}")
        else:
            _check_tuple(findings, thread_id, numbers[checkpoint_id], tuple_)
    if ("delete_thread", 0) in story.done:
        if found:
            findings.lost.append(story.done["delete_thread", 0])
    elif not {("delete_thread", 0), ("prune", 0)} & story.tried.keys():
        findings.lost += [line for line in story.each_done("put") if line.detail not in found]
    elif ("delete_thread", 0) not in story.tried:
        newest = story.tried["put", LENGTH - 1].detail
        if newest not in found or (len(found) > 1 and ("prune", 0) in story.done):
            findings.lost.append(story.tried["prune", 0])
    _check_writes(findings, story, found)
    for line in story.each_done("copy_thread"):
        copied = {tuple_.checkpoint["id"] for tuple_ in saver.list(config(line.detail))}
        if copied != found.keys():
            findings.lost.append(line)


def _check_tuple(findings: Findings, thread_id: str, number: int, tuple_: CheckpointTuple) -> None:
    if tuple_.checkpoint["channel_values"] != values(thread_id, number):
        findings.wrong.append(f"{thread_id}: {number} has other values")
    if tuple_.metadata.get("step") != number:
        findings.wrong.append(f"{thread_id}: {number} has other metadata")
    written = [(TASK, *write) for write in writes(thread_id, number)]
    if sorted(tuple_.pending_writes or []) not in ([], sorted(written)):
        findings.wrong.append(f"{thread_id}: {number} has other writes")


def _check_writes(findings: Findings, story: _Story, found: dict[str, CheckpointTuple]) -> None:
    for line in story.each_done("put_writes"):
        tuple_ = found.get(story.tried["put", line.number].detail)
        if tuple_ and not tuple_.pending_writes:
            findings.lost.append(line)


def _check_chat(
    findings: Findings, saver: RedisSaver, thread_id: str, lines: Sequence[Entry]
) -> None:
    story = _Story(lines)
    lane = thread_id.split("-", maxsplit=1)[0]
    history = [*saver.list({"configurable": {"thread_id": thread_id}})]
    findings.checkpoints += len(history)
    latest = history[0].checkpoint["channel_values"].get("messages", []) if history else []
    there = {message.id for message in latest}
    findings.lost += [
        line
        for line in story.each_done("turn")
        if not {f"h{line.number}", f"a{line.number}"} <= there
    ]
    ids = [message.id for message in latest]
    if len(ids) != len(there):
        findings.wrong.append(f"{thread_id}: messages are there twice: {ids}")
    for tuple_ in history:
        for message in tuple_.checkpoint["channel_values"].get("messages", []):
            kind = "question" if message.id[0] == "h" else "answer"
            if message.content != text(f"{lane} {kind}", int(message.id[1:])):
                findings.wrong.append(f"{thread_id}: {message.id} is another message")
