"""Deleting threads and runs, and making threads shorter."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from secrets import token_hex

from langgraph_checkpoint_redis._protocol.requests import Operation, ask
from langgraph_checkpoint_redis._scripts import calls
from langgraph_checkpoint_redis._storage.checks import check_id, check_ids
from langgraph_checkpoint_redis.errors import ThreadChangedError

from .context import Context

PASSES = 10  # times that a removal begins to look for what is in use
BEGINNINGS = 20  # times that a removal begins again with the newest checkpoint


def delete_thread(context: Context, thread_id: str) -> Operation[None]:
    """Delete all of a thread."""
    thread_id = check_id("thread_id", thread_id)
    call = calls.delete(
        context.keys(thread_id),
        token=context.state.token(thread_id),
        tombstone=context.options.tombstone,
        confirm=context.options.confirm,
    )
    runs = yield from ask(call)
    yield from forget_removed(context, thread_id, runs)


def prune(context: Context, thread_id: str, strategy: str) -> Operation[None]:
    """Delete a thread but for the latest checkpoint of each namespace, or all of it."""
    if strategy == "keep_latest":
        yield from remove(context, thread_id, calls.prune(1))
    else:
        yield from delete_thread(context, thread_id)


def threads_of_runs(context: Context, run_ids: Sequence[str]) -> Operation[dict[str, list[str]]]:
    """Return the threads that have checkpoints of runs, each with those runs."""
    runs = list(dict.fromkeys(check_ids("run_ids", run_ids)))
    return (yield from context.runs.threads(runs))


def delete_runs(context: Context, thread_id: str, run_ids: Sequence[str]) -> Operation[None]:
    """Delete the checkpoints that runs made in a thread."""
    gone = yield from remove(context, thread_id, calls.delete_runs(run_ids))
    found = {text.partition(b"\0")[0].decode() for text in gone}
    yield from context.runs.remove_stale(thread_id, [run for run in run_ids if run not in found])


def free_unused_chunks(context: Context, thread_id: str) -> Operation[None]:
    """Free the chunks that nothing refers to."""
    yield from remove(context, thread_id, calls.delete_runs([]))


def remove(
    context: Context, thread_id: str, removal: calls.Removal
) -> Operation[Collection[bytes]]:
    """Remove checkpoints in one call; in several for a thread of thousands of them.

    Return the runs that have no checkpoint left, with the tokens of their entries in the index.
    """
    removal_token, passes, begun = token_hex(8), set[bytes](), 0
    gone: Sequence[bytes] = ()
    stage, position = b"rows", b""
    # A pass that has lost its marks begins again. Where that happens over and over, the chunks
    # are left to the next removal: they take memory and do no harm. Rows are not left.
    while stage and len(passes) <= PASSES:
        call = removal.step(
            context.keys(thread_id),
            removal_token=removal_token,
            stage=stage,
            position=position,
            token=context.state.token(thread_id),
            confirm=context.options.confirm,
        )
        stage, position, gone = yield from ask(call)
        if stage in (b"timeline", b"writes", b"chunks"):
            passes.add(position.split(b" ")[1])
        elif stage and not position:
            begun += 1
            if begun > BEGINNINGS:
                raise ThreadChangedError(thread_id, is_removal=True)
    yield from forget_removed(context, thread_id, gone)
    return gone


def forget_removed(context: Context, thread_id: str, runs: Collection[bytes]) -> Operation[None]:
    """Forget what this process knows of a thread, and the entries of runs that left it."""
    context.caches.forget(thread_id)
    yield from context.runs.unindex(thread_id, runs)
