"""What methods beyond LangGraph's interface build on: a saver that drives operations.

The savers implement this; whoever adds methods to them in a file of its own derives from it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Coroutine
from typing import Any, TypeVar

from langgraph.checkpoint.serde.base import SerializerProtocol

from ._options import Shared
from ._scripts import Operation

T = TypeVar("T")


class Driver(ABC):
    """The synchronous saver."""

    serde: SerializerProtocol
    _shared: Shared

    @abstractmethod
    def _run(self, operation: Operation[T]) -> T: ...


class AsyncDriver(ABC):
    """The asynchronous saver, which also waits for its own coroutines in other threads."""

    serde: SerializerProtocol
    _shared: Shared

    @abstractmethod
    async def _run(self, operation: Operation[T]) -> T: ...

    @abstractmethod
    def _wait(self, coroutine: Coroutine[Any, Any, T]) -> T: ...
