"""The steps of the core that the operations of this package are made of.

Operations here are functions that take a `Context`: the serializer and the state of a saver. This
is the only module of the package that calls methods of the core's own operations.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from langgraph_checkpoint_redis._core.driving import AsyncDriver, Driver
from langgraph_checkpoint_redis._core.listing import Cursor, Rows
from langgraph_checkpoint_redis._core.operations import Operations as Context
from langgraph_checkpoint_redis._core.run_index import RunIndex
from langgraph_checkpoint_redis._protocol.requests import Operation, Script
from langgraph_checkpoint_redis._protocol.resp import Argument
from langgraph_checkpoint_redis._scripts.calls import DELETE_RUNS
from langgraph_checkpoint_redis._storage.keys import ThreadKeys
from langgraph_checkpoint_redis._storage.values import Value

__all__ = [
    "Context",
    "context_of",
    "forget_thread",
    "free_chunks",
    "keys_of",
    "pack_chunks",
    "read_rows",
    "remove_rows",
    "run_index",
]


def context_of(saver: Driver | AsyncDriver) -> Context:
    """Return what the operations of a saver work with."""
    return Context(saver.serde, saver._shared)  # noqa: SLF001 - of the package's own savers


def keys_of(context: Context, thread_id: str) -> ThreadKeys:
    """Return the keys of a thread."""
    return context.shared.keyspace.thread(thread_id)


def run_index(context: Context) -> RunIndex:
    """Return the operations on the index of runs."""
    return RunIndex(context.shared)


def read_rows(context: Context, thread_id: str, cursor: Cursor) -> Operation[Rows]:
    """Read the next rows of a listing, without the values that they refer to."""
    return context.rows(thread_id, cursor, whole=False)


def remove_rows(
    context: Context, script: Script, thread_id: str, args: Sequence[Argument] = ()
) -> Operation[None]:
    """Remove rows and what only they led to, by one of the scripts that remove."""
    runs = yield from context._remove(script, thread_id, args)  # noqa: SLF001 - see above
    yield from forget_thread(context, thread_id, runs)


def free_chunks(context: Context, thread_id: str) -> Operation[None]:
    """Free the chunks that nothing leads to, by a removal of the checkpoints of no run."""
    yield from remove_rows(context, DELETE_RUNS, thread_id)


def forget_thread(context: Context, thread_id: str, runs: Collection[bytes]) -> Operation[None]:
    """Forget what this process knows of a thread; the index of these runs forgets it, too."""
    yield from context._removed(thread_id, runs)  # noqa: SLF001 - see above


def pack_chunks(
    context: Context, args: Sequence[Argument], values: Collection[Value], levels: Sequence[bytes]
) -> tuple[Argument, ...]:
    """Return the arguments of a script that stores values, with all of their chunks."""
    packed, _ = context._with_new_chunks(None, args, values, levels)  # noqa: SLF001 - see above
    return packed
