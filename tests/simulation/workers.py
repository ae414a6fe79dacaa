"""Worker threads in lock-step: one runs at a time, and only while the scheduler waits for it."""

from __future__ import annotations

from collections.abc import Callable
from threading import Semaphore, Thread
from typing import Any

from langgraph_checkpoint_redis._protocol.requests import Request


class Killed(BaseException):
    """The end of a client between two requests: its process is killed, its task is cancelled."""


class Worker:
    """What a client does at the moment: a task, which waits at each request for the scheduler.

    `request` is what it waits with: a request, or nothing where it merely lets others go first.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_idle = True
        self.request: Request | None = None
        self.error: BaseException | None = None
        self._is_killed = False
        self._go, self._back = Semaphore(0), Semaphore(0)
        self._outcome: Any = None

    def begin(self, task: Callable[[], None]) -> None:
        """Run a task up to its first request."""
        self.is_idle, self._is_killed, self.error = False, False, None
        Thread(target=self._run, args=[task], daemon=True, name=self.name).start()
        self._back.acquire()

    def _run(self, task: Callable[[], None]) -> None:
        try:
            task()
        except Killed:
            pass
        except BaseException as error:  # noqa: BLE001 - the scheduler raises it
            self.error = error
        self.is_idle, self.request = True, None
        self._back.release()

    def ask(self, request: Request | None) -> Any:
        """Wait for the scheduler to say what became of a request; called by the task."""
        if self._is_killed:  # what a task does in the end does not reach the server either
            raise Killed
        self.request = request
        self._back.release()
        self._go.acquire()
        outcome, self._outcome = self._outcome, None
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def go_on(self, outcome: Any) -> None:
        """Run the task up to its next request or its end; an exception is raised in it."""
        self._outcome = outcome
        self._is_killed = isinstance(outcome, Killed)
        self._go.release()
        self._back.acquire()
