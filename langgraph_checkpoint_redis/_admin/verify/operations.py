"""The two operations: everything that is wrong with a thread, and its repair."""

from __future__ import annotations

from collections.abc import Sequence
from secrets import token_bytes

from langgraph_checkpoint_redis._core.context import Context
from langgraph_checkpoint_redis._core.removing import free_unused_chunks
from langgraph_checkpoint_redis._protocol.requests import Operation, ask
from langgraph_checkpoint_redis._scripts import calls
from langgraph_checkpoint_redis._storage.checks import check_id

from .problems import Problem, describe_trouble
from .reading import TRIES, count_runs, drop, examine


def verify_thread(context: Context, thread_id: str) -> Operation[list[Problem]]:
    """Return everything that is wrong with a thread."""
    thread_id = check_id("thread_id", thread_id)
    findings, others = yield from examine(context, thread_id)
    troubles = yield from context.runs.troubles(thread_id)
    return [*[finding.problem for finding in findings], *others, *map(describe_trouble, troubles)]


def repair_thread(context: Context, thread_id: str) -> Operation[list[Problem]]:
    """Remove what is lost and what is garbage, and index runs; return what was mended."""
    thread_id = check_id("thread_id", thread_id)
    token = context.state.token(thread_id)
    watched_by = yield from _watch(context, thread_id, token)
    findings, others = yield from examine(context, thread_id)
    troubles = yield from context.runs.troubles(thread_id)
    dropped = yield from drop(context, thread_id, token, findings)
    mended = [problem for problem in others if problem.kind != "incomplete"]
    if dropped or mended:
        yield from _recount(context, thread_id, token)
        yield from free_unused_chunks(context, thread_id)
    if troubles or dropped or mended:
        left = yield from context.runs.troubles(thread_id)
        yield from context.runs.mend(thread_id, left)
    yield from _trust(context, thread_id, token, watched_by, [*findings, *others])
    return [*[finding.problem for finding in dropped], *mended, *map(describe_trouble, troubles)]


def _recount(context: Context, thread_id: str, token: bytes) -> Operation[None]:
    """Correct how many checkpoints the runs have, unless the thread stays busy."""
    for _ in range(TRIES):
        runs = yield from count_runs(context, thread_id)
        counts = [calls.RunCount(run, *numbers) for run, numbers in (runs.wrong or {}).items()]
        if not counts:
            return
        keys = context.keys(thread_id)
        if (yield from ask(calls.recount(keys, counts, token=token, state=runs.state))):
            return


# The mark that chunks were lost


def _watch(context: Context, thread_id: str, token: bytes) -> Operation[bytes]:
    """Watch a thread that is marked to have lost chunks; return the token, or empty if unmarked."""
    call = calls.watch_lost(context.keys(thread_id), token=token, watch=token_bytes(16))
    return (yield from ask(call))


def _trust(
    context: Context, thread_id: str, token: bytes, watched_by: bytes, found: Sequence[object]
) -> Operation[None]:
    """Take back the mark of a thread in which nothing was found, or nothing is left.

    With the mark, each write looks at all chunks that it refers to. Garbage counts, too: without
    the mark, a write may refer to a garbage chunk by its name alone.
    """
    if found:
        watched_by = yield from _watch(context, thread_id, token)
    if not watched_by:
        return
    if found:
        findings, others = yield from examine(context, thread_id)
        found = [*findings, *others]
    if not found:
        call = calls.take_back_lost(
            context.keys(thread_id),
            token=token,
            watched_by=watched_by,
            confirm=context.options.confirm,
        )
        yield from ask(call)
