"""The two operations: everything that is wrong with a thread, and its repair."""

from __future__ import annotations

from collections.abc import Sequence
from secrets import token_bytes

from langgraph_checkpoint_redis._admin.core import Context, free_chunks, keys_of, run_index
from langgraph_checkpoint_redis._protocol.requests import Operation
from langgraph_checkpoint_redis._protocol.resp import Argument
from langgraph_checkpoint_redis._scripts.calls import RECOUNT, TRUST
from langgraph_checkpoint_redis._storage.checks import check_id

from .problems import Problem, describe_trouble
from .reading import TRIES, count_runs, drop, examine


def verify_thread(context: Context, thread_id: str) -> Operation[list[Problem]]:
    """Return everything that is wrong with a thread."""
    thread_id = check_id("thread_id", thread_id)
    findings, others = yield from examine(context, thread_id)
    troubles = yield from run_index(context).troubles(thread_id)
    return [*[finding.problem for finding in findings], *others, *map(describe_trouble, troubles)]


def repair_thread(context: Context, thread_id: str) -> Operation[list[Problem]]:
    """Remove what is lost and what is garbage, and index runs; return what was mended."""
    thread_id = check_id("thread_id", thread_id)
    token = context.shared.token(thread_id)
    watched_by = yield from _watch(context, thread_id, token)
    findings, others = yield from examine(context, thread_id)
    troubles = yield from run_index(context).troubles(thread_id)
    dropped = yield from drop(context, thread_id, token, findings)
    mended = [problem for problem in others if problem.kind != "incomplete"]
    if dropped or mended:
        yield from _recount(context, thread_id, token)
        yield from free_chunks(context, thread_id)
    if troubles or dropped or mended:
        left = yield from run_index(context).troubles(thread_id)
        yield from run_index(context).mend(thread_id, left)
    yield from _trust(context, thread_id, token, watched_by, [*findings, *others])
    return [*[finding.problem for finding in dropped], *mended, *map(describe_trouble, troubles)]


def _recount(context: Context, thread_id: str, token: Argument) -> Operation[None]:
    """Correct how many checkpoints the runs have, unless the thread stays busy."""
    for _ in range(TRIES):
        runs = yield from count_runs(context, thread_id)
        args: list[Argument] = [token, runs.state]
        for run, (stored, counted) in (runs.wrong or {}).items():
            args += run, b"" if stored is None else stored, counted
        if not runs.wrong or (yield RECOUNT(keys_of(context, thread_id), args)):
            return


# The mark that chunks were lost


def _watch(context: Context, thread_id: str, token: Argument) -> Operation[bytes]:
    """Watch a thread that is marked to have lost chunks; return the token, or empty if unmarked."""
    watched_by: bytes = yield TRUST(keys_of(context, thread_id), [token, 0, token_bytes(16)])
    return watched_by


def _trust(
    context: Context, thread_id: str, token: Argument, watched_by: bytes, found: Sequence[object]
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
        yield TRUST(
            keys_of(context, thread_id), [token, 1, watched_by], context.shared.options.confirm
        )
