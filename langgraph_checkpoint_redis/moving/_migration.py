"""Move threads from one saver to another."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from functools import partial

from langgraph_checkpoint_redis._admin import check_id
from langgraph_checkpoint_redis.errors import ConfigError

from . import _reports, _threads
from ._reports import Outcome, Progress, Report, Tally
from ._stores import AnySaver, Store, store


def migrate(
    source: AnySaver,
    target: AnySaver,
    *,
    thread_ids: Iterable[str] | None = None,
    workers: int = 4,
    progress: Progress = None,
) -> Report:
    """Copy threads to another saver, complete, and compare what it reads then with the source.

    The source is only read. Each thread has its checkpoints of all namespaces with their ids,
    parents, versions, values and metadata, and their pending writes in order. It may be stopped at
    any time and be run again: what is there is compared, and only what is lacking is copied.

    Both savers are used from several threads. Asynchronous ones are used by their synchronous
    names, so that the event loop they live in must run elsewhere: see `amigrate`.

    Args:
        source: Where the threads are: any saver of LangGraph's interface.
        target: Where they are to go; ours must be without `keep_last` and `on_conflict="error"`.
        thread_ids: Which; all that the source lists by default.
        workers: How many threads are copied at the same time.
        progress: Is called after each thread, in the calling thread, with a `Moved`.

    Returns:
        Which threads were copied, which were there, and why the others failed: a thread that the
        target has with other content, say. Such a thread is left alone.

    Raises:
        ConfigError: An argument is not what it should be; nothing was copied.
    """
    workers, progress = _reports.check_workers(workers), _reports.check_progress(progress)
    if source is target:
        raise ConfigError("source and target must be two savers")
    origin, destination = store("source", source), store("target", target)
    _threads.check_target(destination)
    ids = origin.thread_ids() if thread_ids is None else _reports.check_thread_ids(thread_ids)
    tally = Tally(len(ids), progress)
    _reports.move_all(ids, partial(_migrate_thread, origin, destination), workers, tally)
    return tally.report()


def _migrate_thread(source: Store, target: Store, thread_id: str) -> tuple[Outcome, int]:
    # InMemorySaver keeps ids that are UUIDs or ints as they are.
    target_id = check_id("thread_id", thread_id)
    return _threads.bring(lambda: source.items(thread_id), target, target_id)


async def amigrate(
    source: AnySaver,
    target: AnySaver,
    *,
    thread_ids: Iterable[str] | None = None,
    workers: int = 4,
    progress: Progress = None,
) -> Report:
    """Run `migrate` in a worker thread, for savers that live in the running event loop.

    `progress` is called in the worker thread.
    """
    return await asyncio.to_thread(
        migrate, source, target, thread_ids=thread_ids, workers=workers, progress=progress
    )
