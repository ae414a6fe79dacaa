"""Copying a thread to one that has nothing yet."""

from __future__ import annotations

from secrets import token_bytes

from redis.crc import key_slot

from langgraph_checkpoint_redis._protocol.requests import Commands, Operation, ask
from langgraph_checkpoint_redis._scripts import calls
from langgraph_checkpoint_redis._scripts.refusals import lost_key_error
from langgraph_checkpoint_redis._storage.checks import check_id
from langgraph_checkpoint_redis.errors import (
    LeaseLostError,
    RedisSaverError,
    ThreadChangedError,
    ThreadExistsError,
    ThreadLeasedError,
)

from .context import Context
from .run_index import list_names

MARK = 60_000  # milliseconds in which a repeated copy is known to be the same one
COPIES = 10  # times that a copy begins, while its source changes


def copy_thread(context: Context, source: str, target: str) -> Operation[None]:
    """Copy all of a thread, complete or not at all."""
    source = check_id("source_thread_id", source)
    target = check_id("target_thread_id", target)
    in_parts = yield from _crosses_slots(context, source, target)
    mark, outcome, begun = token_bytes(16), b"CHANGED", 0
    while outcome == b"CHANGED" and begun < COPIES:
        # The entries of the index of runs come before the copy, as in `put`.
        runs, _, span, now = yield from ask(calls.runs_of(context.keys(source)))
        token, score = yield from context.runs.lead(target, runs, span, now)
        entry = calls.CopyEntry(token, score, list_names(runs))
        outcome = b"LARGE"
        if not in_parts:
            outcome = yield from _copy_at_once(context, source, target, mark, entry)
        if outcome == b"LARGE":
            in_parts = True
            outcome = yield from _copy_in_parts(context, source, target, mark, entry)
        if outcome != b"COPIED":
            yield from context.runs.lead_no_more(target, runs, token)
        begun += 1
    if outcome not in {b"COPIED", b"NOTHING"}:
        raise _copy_error(outcome, source, target)


def _crosses_slots(context: Context, source: str, target: str) -> Operation[bool]:
    """Return whether a server refuses a call with the keys of both threads."""
    key, target_key = context.keys(source).timeline, context.keys(target).timeline
    if key_slot(key) == key_slot(target_key):
        return False
    if context.state.is_cluster:
        return True
    # The one node of a cluster may be reached without a client for clusters.
    (found,) = yield Commands((("EXISTS", key, target_key),), may_fail=True)
    return isinstance(found, Exception) and "slot" in str(found).lower()


def _copy_at_once(
    context: Context, source: str, target: str, mark: bytes, entry: calls.CopyEntry
) -> Operation[bytes]:
    """Copy a thread by one call, if it is small."""
    call = calls.copy(
        context.keys(source),
        context.keys(target),
        context.state.keyspace.copy_mark(target),
        mark=mark,
        mark_span=MARK,
        token=context.state.token(target),
        entry=entry,
        confirm=context.options.confirm,
    )
    return (yield from ask(call))


def _copy_in_parts(
    context: Context, source: str, target: str, mark: bytes, entry: calls.CopyEntry
) -> Operation[bytes]:
    """Copy a thread by way of this process. The target has all of it with the last part."""
    token, stage, position = token_bytes(16), b"", b""
    staged = context.state.keyspace.staged(target, token)
    outcome = b"MORE"
    while outcome == b"MORE":
        dumped = yield from ask(
            calls.dump(context.keys(source), token=token, stage=stage, position=position)
        )
        token, stage, position, _, sizes, *_ = dumped
        if not token:
            yield Commands(tuple(("UNLINK", key) for key in staged))
            return b"LOST " + stage if stage else b"CHANGED"
        if sizes and not any(sizes[:2]):  # there are no rows, but perhaps chunks ahead of them
            return b"NOTHING"
        call = calls.restore(
            context.keys(target),
            context.state.keyspace.copy_mark(target),
            staged,
            mark=mark,
            mark_span=MARK,
            token=context.state.token(target),
            entry=entry,
            dumped=dumped,
            confirm=context.options.confirm,
        )
        outcome = yield from ask(call)
    return outcome


def _copy_error(outcome: bytes, source: str, target: str) -> RedisSaverError:
    """Return why a thread was not copied, as the script says."""
    if outcome == b"CHANGED":
        return ThreadChangedError(source)
    if outcome.startswith(b"LOST "):
        return lost_key_error(outcome.removeprefix(b"LOST "))
    refusals: dict[bytes, type[ThreadExistsError | ThreadLeasedError | LeaseLostError]] = {
        b"EXISTS": ThreadExistsError,
        b"LEASED": ThreadLeasedError,
        b"LEASELOST": LeaseLostError,
    }
    return refusals[outcome](target)
