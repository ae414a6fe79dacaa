"""`Admin`: what tools for operators can ask of a saver, next to its public methods."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import ChannelVersions, Checkpoint, CheckpointMetadata
from langgraph.checkpoint.serde.base import SerializerProtocol

from langgraph_checkpoint_redis._core._sync.driver import Driver
from langgraph_checkpoint_redis._core.context import Context
from langgraph_checkpoint_redis._core.state import SaverState
from langgraph_checkpoint_redis._core.writing import put
from langgraph_checkpoint_redis._protocol.requests import Commands, Operation

from .checkpoints import (
    Place,
    StoredCheckpoint,
    StoredWrite,
    read_page,
    read_writes,
    start_listing,
)
from .prune import Limits, Pruned, prune_and_compare
from .setup import check_server
from .threads import ThreadInfo, has_thread, read_info
from .verify.operations import repair_thread, verify_thread
from .verify.problems import Problem
from .walks import node_state

T = TypeVar("T")


class AsyncSaver(Protocol):
    """An asynchronous saver whose coroutines worker threads wait for."""

    serde: SerializerProtocol
    _shared: SaverState

    @property
    def _context(self) -> Context: ...

    async def _run(self, operation: Operation[T]) -> T: ...

    def _thread_pages(self) -> AsyncIterator[Sequence[str]]: ...

    def _wait(self, coroutine: Coroutine[Any, Any, T]) -> T: ...


class Admin(Driver):
    """What tools for operators can ask of a saver, of either kind.

    All methods are synchronous. For an `AsyncRedisSaver`, call them from a worker thread, not from
    the event loop's.

    Methods that go through many threads yield `(thread_id, result)`. The result is an error where
    only this thread failed; the others go on. Any other error is raised.
    """

    def __init__(self, saver: Driver | AsyncSaver) -> None:
        self._saver = saver
        self.serde, self._shared = saver.serde, saver._shared  # noqa: SLF001 - of the same package

    # The saver

    @property
    def prefix(self) -> str:
        """The beginning of all keys."""
        return self._shared.keyspace.prefix

    @property
    def keep_last(self) -> int | None:
        """How many checkpoints of each namespace the saver keeps; None for all."""
        return self._shared.options.keep_last

    @property
    def refuses_conflicts(self) -> bool:
        """Whether the saver refuses forks, by `on_conflict="error"`."""
        return self._shared.options.refuses_conflicts

    def check_server(self) -> list[UserWarning]:
        """Return how the server may lose checkpoints; raise an error if it cannot hold any."""
        return self._run(check_server(self._shared.options))

    def has_all_slots(self) -> bool:
        """Return whether a node of a cluster has all slots, so that it has all threads."""
        (nodes,) = self._run(_ask(Commands((("CLUSTER", "NODES"),))))
        return node_state(nodes, is_same=True).has_all_slots

    # Threads

    def list_threads(self) -> list[str]:
        """Return the ids of all threads."""
        return [thread_id for page in self._thread_pages() for thread_id in page]

    def has_thread(self, thread_id: str) -> bool:
        """Return whether anything is stored of a thread, damaged or not."""
        return self._run(has_thread(self._context, thread_id))

    def read_infos(
        self, thread_ids: Sequence[str] | None = None, *, prefix: str = ""
    ) -> Iterator[tuple[str, ThreadInfo | Exception | None]]:
        """Read what is stored of these threads, or of all whose ids begin with a prefix.

        The result is None for a thread that is gone.
        """
        return self._ask_each(partial(read_info, self._context), thread_ids, prefix)

    def prune(
        self, limits: Limits, thread_ids: Sequence[str] | None = None
    ) -> Iterator[tuple[str, Pruned | Exception | None]]:
        """Prune these threads, or all, within their limits; read each before and after.

        The result is None for a thread that is gone.
        """
        prune = partial(prune_and_compare, self._context, limits=limits)
        return self._ask_each(prune, thread_ids, limits.choice.prefix)

    def verify(self, thread_id: str) -> list[Problem] | Exception:
        """Return what is wrong with a thread, or the error if only this thread failed."""
        return self._outcome(verify_thread(self._context, thread_id))

    def repair(self, thread_id: str) -> list[Problem] | Exception:
        """Repair a thread; return what was mended, or the error if only this thread failed."""
        return self._outcome(repair_thread(self._context, thread_id))

    # Checkpoints and pending writes, without values

    def read_checkpoints(
        self, thread_id: str, namespace: str | None = None, *, takes_all: bool = False
    ) -> Iterator[list[StoredCheckpoint]]:
        """Read the checkpoints of a thread page by page, newest first; None for all namespaces.

        With `takes_all`, these have those that are there only because newer ones are rebuilt from
        them.
        """
        cursor = start_listing(namespace)._replace(takes_all=takes_all)
        while cursor.more:
            page, cursor = self._run(read_page(self._context, thread_id, cursor))
            yield page

    def read_writes(self, thread_id: str, places: Sequence[Place]) -> list[list[StoredWrite]]:
        """Read the pending writes of each of these checkpoints."""
        return self._run(read_writes(self._context, thread_id, places))

    def put_cut_off(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> None:
        """Store a checkpoint that is there only because newer ones are rebuilt from it."""
        what = config, checkpoint, metadata, new_versions
        self._run(put(self._context, *what, is_cut_off=True))

    # Driving operations

    @property
    def _context(self) -> Context:
        return self._saver._context  # noqa: SLF001 - a driver on top of a driver

    def _run(self, operation: Operation[T]) -> T:
        saver = self._saver
        if isinstance(saver, Driver):
            return saver._run(operation)  # noqa: SLF001 - a driver on top of a driver
        return saver._wait(saver._run(operation))  # noqa: SLF001 - the same

    def _thread_pages(self) -> Iterator[Sequence[str]]:
        saver = self._saver
        if isinstance(saver, Driver):
            yield from saver._thread_pages()  # noqa: SLF001 - the same
            return
        pages = saver._thread_pages()  # noqa: SLF001 - the same
        while (page := saver._wait(_next(pages))) is not None:  # noqa: SLF001 - the same
            yield page

    def _ask_each(
        self, ask: Callable[[str], Operation[T]], thread_ids: Sequence[str] | None, prefix: str
    ) -> Iterator[tuple[str, T | Exception]]:
        """Drive an operation for each thread, of these or of all, whose id begins with a prefix."""
        for page in self._thread_pages() if thread_ids is None else [thread_ids]:
            chosen = [thread_id for thread_id in page if thread_id.startswith(prefix)]
            yield from self._run_each(chosen, ask)


async def _next(pages: AsyncIterator[Sequence[str]]) -> Sequence[str] | None:
    return await anext(pages, None)


def _ask(commands: Commands) -> Operation[Any]:
    return (yield commands)
