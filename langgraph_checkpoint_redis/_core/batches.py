"""Operations on many threads: the first requests of some go together.

A round trip for each would take most of the time. One thread that fails does not stop the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar, cast

from langgraph_checkpoint_redis._protocol.requests import Call, Operation, Request, Together
from langgraph_checkpoint_redis._runtime.log import report_skipped
from langgraph_checkpoint_redis._scripts.refusals import is_of_thread
from langgraph_checkpoint_redis.errors import ThreadsError

T = TypeVar("T")

TOGETHER = 100  # threads whose first requests go together


class Failures:
    """The threads that a walk failed in."""

    def __init__(self) -> None:
        self.by_thread: dict[str, Exception] = {}

    def add(self, thread_id: str, error: Exception) -> None:
        """Note that a thread failed; raise an error that is not of this thread alone."""
        if not is_of_thread(error):
            raise error
        self.by_thread[thread_id] = error
        report_skipped(f"thread {thread_id!r}", type(error).__name__)

    def check_named(self, threads: int) -> None:
        """Raise the collected errors; the error itself if the caller named one thread only."""
        if threads == 1:
            for error in self.by_thread.values():
                raise error
        self.check()

    def check(self, result: object = None) -> None:
        """Raise an error at the end of a walk, if any thread failed."""
        if self.by_thread:
            raise ThreadsError(self.by_thread, result) from next(iter(self.by_thread.values()))


class Batch(Generic[T]):
    """Operations on threads, whose first requests, calls of one script each, go together."""

    def __init__(self, thread_ids: Sequence[str], begin: Callable[[str], Operation[T]]) -> None:
        self.thread_ids = thread_ids
        self._operations = [begin(thread_id) for thread_id in thread_ids]
        self._requests: list[Call[Any] | None] = []
        self._results = dict[int, T]()
        for number, operation in enumerate(self._operations):
            self._requests.append(self._begun(number, operation))

    def _begun(self, number: int, operation: Operation[T]) -> Call[Any] | None:
        try:
            return cast("Call[Any]", next(operation))
        except StopIteration as done:  # it had nothing to ask for
            self._results[number] = done.value
            return None

    def first(self) -> Operation[list[Done[T] | Operation[T]]]:
        """Send what is asked for first; return the result of each operation, or the rest of it."""
        calls = [call for call in self._requests if call]
        replies = iter((yield Together.of(calls)) if calls else ())
        return [
            _after(operation, call, next(replies)) if call else Done(self._results[number])
            for number, (operation, call) in enumerate(
                zip(self._operations, self._requests, strict=True)
            )
        ]


class Done(Generic[T]):
    """The result of an operation that asked for no more."""

    __slots__ = ("result",)

    def __init__(self, result: T | Exception) -> None:
        self.result = result


def _after(operation: Operation[T], call: Call[Any], reply: Any) -> Done[T] | Operation[T]:
    """What became of an operation; where its first request failed among others, it asks again."""
    if isinstance(reply, Exception):
        return _continue(operation, call)
    try:
        return _continue(operation, operation.send(reply))
    except StopIteration as done:
        return Done(done.value)
    except Exception as error:
        if is_of_thread(error):
            return Done(error)
        raise


def _continue(operation: Operation[T], request: Request) -> Operation[T]:
    """The rest of an operation, from a request on."""
    while True:
        reply = yield request
        try:
            request = operation.send(reply)
        except StopIteration as done:
            result: T = done.value
            return result


def make_batches(
    thread_ids: Sequence[str], begin: Callable[[str], Operation[T]]
) -> Iterator[Batch[T]]:
    """Operations on these threads, some at a time."""
    for start in range(0, len(thread_ids), TOGETHER):
        yield Batch(thread_ids[start : start + TOGETHER], begin)
