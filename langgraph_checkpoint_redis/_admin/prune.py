"""Which threads to choose, and the operation that removes what is old in them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from secrets import token_bytes
from typing import NamedTuple

from langgraph_checkpoint_redis._core.context import Context
from langgraph_checkpoint_redis._core.options import check_keep_last
from langgraph_checkpoint_redis._core.removing import forget_removed, remove
from langgraph_checkpoint_redis._protocol.durations import to_milliseconds
from langgraph_checkpoint_redis._protocol.requests import Operation, ask
from langgraph_checkpoint_redis._protocol.resp import Argument
from langgraph_checkpoint_redis._scripts import calls
from langgraph_checkpoint_redis._scripts.calls import Namespace
from langgraph_checkpoint_redis._storage.checks import check_text
from langgraph_checkpoint_redis.errors import ConfigError

from .threads import ThreadInfo, find_span, read_info, read_namespaces
from .times import leading_bits

Idle = float | timedelta | None  # time since the last checkpoint


class Choice(NamedTuple):
    """Threads whose ids begin with `prefix`, and that are idle for longer than `idle` seconds."""

    prefix: str
    idle: float | None

    @classmethod
    def parse(cls, prefix: str, idle: Idle) -> Choice:
        """Check the arguments of a caller."""
        seconds = None if idle is None else to_milliseconds("idle", idle) / 1000
        return cls(check_text("prefix", prefix, empty=True), seconds)

    def is_idle(self, last: datetime | None) -> bool:
        """Return whether a thread with this last checkpoint is idle; unknown times are not."""
        if self.idle is None or last is None:
            return False
        return time.time() - last.timestamp() > self.idle

    def newest_idle(self) -> int:
        """Return the first 48 bits of the newest ids that an idle thread has."""
        return leading_bits(time.time() - (self.idle or 0))


class Limits(NamedTuple):
    """What to keep of the threads of a choice."""

    choice: Choice
    keep_last: int | None

    @classmethod
    def parse(cls, prefix: str, idle: Idle, keep_last: int | None) -> Limits:
        """Check the arguments of a caller."""
        if idle is None and keep_last is None:
            raise ConfigError("prune_threads needs keep_last, idle or both")
        return cls(Choice.parse(prefix, idle), check_keep_last(keep_last))


class Pruned(NamedTuple):
    """A thread before and after it was pruned; `after` is None if it was deleted."""

    before: ThreadInfo
    after: ThreadInfo | None


def is_chosen(context: Context, thread_id: str, choice: Choice) -> Operation[bool]:
    """Return whether a thread is chosen. The server is asked only whether it is idle."""
    if not thread_id.startswith(choice.prefix):
        return False
    if choice.idle is None:
        return True
    namespaces, _ = yield from read_namespaces(context, thread_id)
    return choice.is_idle(find_span(namespaces)[1])


def prune_thread(context: Context, thread_id: str, limits: Limits) -> Operation[bool]:
    """Delete an idle thread, or the older checkpoints of another; return whether any are gone."""
    if not thread_id.startswith(limits.choice.prefix):
        return False
    namespaces, is_deleted = yield from _delete_idle(context, thread_id, limits.choice)
    if is_deleted:
        return True
    before, most = _count(namespaces), limits.keep_last
    if most is None or all(namespace.checkpoints <= most for namespace in namespaces):
        return False
    yield from remove(context, thread_id, calls.prune(most))
    namespaces, _ = yield from read_namespaces(context, thread_id)
    return _count(namespaces) < before


def prune_and_compare(context: Context, thread_id: str, limits: Limits) -> Operation[Pruned | None]:
    """Prune a thread and read it before and after; None if there is no such thread."""
    before = yield from read_info(context, thread_id)
    if before is None:
        return None
    if (yield from prune_thread(context, thread_id, limits)):
        return Pruned(before, (yield from read_info(context, thread_id)))
    return Pruned(before, before)


def _delete_idle(
    context: Context, thread_id: str, choice: Choice
) -> Operation[tuple[list[Namespace], bool]]:
    """Delete a thread if it is idle; return its namespaces, and whether it was deleted.

    The first look begins to watch the thread, so that no write in between is deleted with it. A few
    bits of the newest ids may not show that the thread is idle. Then it is looked at again.
    """
    if choice.idle is None:
        return (yield from read_namespaces(context, thread_id))[0], False
    token, limit = token_bytes(16), choice.newest_idle()
    namespaces, watched_by = yield from read_namespaces(context, thread_id, token, limit)
    is_idle = choice.is_idle(find_span(namespaces)[1])
    if is_idle and not watched_by:
        namespaces, watched_by = yield from read_namespaces(context, thread_id, token)
        is_idle = choice.is_idle(find_span(namespaces)[1])
    return namespaces, is_idle and (yield from _delete_unused(context, thread_id, watched_by))


def _delete_unused(context: Context, thread_id: str, watched_by: Argument) -> Operation[bool]:
    keys, confirm = context.keys(thread_id), context.options.confirm
    call = calls.delete_unused(keys, watched_by=watched_by, confirm=confirm)
    is_deleted, runs = yield from ask(call)
    if is_deleted:
        yield from forget_removed(context, thread_id, runs)
    return bool(is_deleted)


def _count(namespaces: Sequence[Namespace]) -> int:
    return sum(namespace.checkpoints for namespace in namespaces)
