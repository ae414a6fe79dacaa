# Derived from _core/_async/driver.py by tools/derive_sync.py.
# Change the source and run `make derive`.

"""What methods beyond LangGraph's interface build on: a saver that drives operations.

The saver implements this class. Methods of a saver in a file of their own derive from it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from langgraph.checkpoint.serde.base import SerializerProtocol

from langgraph_checkpoint_redis._core.batches import Done, make_batches
from langgraph_checkpoint_redis._core.context import Context
from langgraph_checkpoint_redis._core.state import SaverState
from langgraph_checkpoint_redis._protocol.requests import Operation
from langgraph_checkpoint_redis._scripts.refusals import is_of_thread

T = TypeVar("T")


class Driver(ABC):
    """A saver, as far as methods in other files need it."""

    serde: SerializerProtocol
    _shared: SaverState

    @property
    @abstractmethod
    def _context(self) -> Context: ...

    @abstractmethod
    def _run(self, operation: Operation[T]) -> T: ...

    @abstractmethod
    def _thread_pages(self) -> Iterator[Sequence[str]]: ...

    def _run_each(
        self, thread_ids: Sequence[str], begin: Callable[[str], Operation[T]]
    ) -> Iterator[tuple[str, T | Exception]]:
        """Drive an operation for each thread; return its result, or the error of the thread."""
        for batch in make_batches(thread_ids, begin):
            rests = self._run(batch.first())
            for thread_id, rest in zip(batch.thread_ids, rests, strict=True):
                if isinstance(rest, Done):
                    yield thread_id, rest.result
                else:
                    yield thread_id, self._outcome(rest)

    def _outcome(self, operation: Operation[T]) -> T | Exception:
        """Drive an operation; return its result, or the error of the thread."""
        try:
            return self._run(operation)
        except Exception as error:
            if is_of_thread(error):
                return error
            raise


class OpenDriver(Driver):
    """A driver that is set up, and closed at the end."""

    @abstractmethod
    def setup(self) -> None: ...

    @abstractmethod
    def close(self) -> None: ...
