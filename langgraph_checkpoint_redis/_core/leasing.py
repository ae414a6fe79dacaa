"""What savers ask of the server for a lease of a thread."""

from __future__ import annotations

from langgraph_checkpoint_redis._protocol.requests import Operation, ask
from langgraph_checkpoint_redis._scripts import calls
from langgraph_checkpoint_redis.errors import LeaseLostError, ThreadLeasedError

from .context import Context


def take_lease(context: Context, thread_id: str, token: bytes, span: int) -> Operation[None]:
    """Take a lease that lasts `span` milliseconds after the last write."""
    keys, confirm = context.keys(thread_id), context.options.confirm
    if not (yield from ask(calls.take_lease(keys, token=token, span=span, confirm=confirm))):
        raise ThreadLeasedError(thread_id)


def renew_lease(context: Context, thread_id: str, token: bytes, span: int) -> Operation[None]:
    """Let a lease last `span` milliseconds from now."""
    keys, confirm = context.keys(thread_id), context.options.confirm
    if not (yield from ask(calls.renew_lease(keys, token=token, span=span, confirm=confirm))):
        raise LeaseLostError(thread_id)


def give_back_lease(context: Context, thread_id: str, token: bytes) -> Operation[None]:
    """End a lease, if it has not ended. If that is lost, it ends by itself: no confirmation."""
    yield from ask(calls.give_back_lease(context.keys(thread_id), token=token))
