"""How long a thread lives: times to live of its own, and pins."""

from __future__ import annotations

from collections.abc import Sequence

from langgraph_checkpoint_redis._protocol.durations import Duration, to_milliseconds
from langgraph_checkpoint_redis._protocol.requests import Operation, ask
from langgraph_checkpoint_redis._scripts import calls
from langgraph_checkpoint_redis._storage.checks import check_id
from langgraph_checkpoint_redis.errors import ThreadNotFoundError

from .context import Context

ENDING = 2  # what set_life.lua says where entries of the index of runs end too soon


def set_ttl(context: Context, thread_id: str, ttl: Duration | None) -> Operation[None]:
    """Give a thread a time to live of its own, or take it back."""
    return _set_expiry(context, thread_id, None if ttl is None else to_milliseconds("ttl", ttl))


def pin(context: Context, thread_id: str) -> Operation[None]:
    """Let a thread never expire."""
    return _set_expiry(context, thread_id, 0)


def _set_expiry(context: Context, thread_id: str, own_ttl: int | None) -> Operation[None]:
    thread_id = check_id("thread_id", thread_id)
    runs: Sequence[bytes] = ()
    found, lifetime = ENDING, 0
    while found == ENDING:  # then what leads to the thread has to stay for as long, first
        lasting = yield from context.runs.keep_for_ever(thread_id, runs)
        call = calls.set_expiry(
            context.keys(thread_id),
            token=context.state.token(thread_id),
            own_ttl=own_ttl,
            ttl=context.options.expiry.ttl,
            lasting_runs=lasting,
            confirm=context.options.confirm,
        )
        found, runs, lifetime = yield from ask(call)
    if not found:
        raise ThreadNotFoundError(thread_id)
    yield from context.runs.renew(thread_id, runs, lifetime)
