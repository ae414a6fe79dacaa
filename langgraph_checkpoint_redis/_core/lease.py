"""Leases: one writer of a thread at a time, for those who ask for it.

`holding.py` has the token of a lease. The blocks of the two savers are in `_async/lease.py` and
`_sync/lease.py`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

from langchain_core.runnables import RunnableConfig

from langgraph_checkpoint_redis._protocol.requests import Operation, ask
from langgraph_checkpoint_redis._scripts import calls
from langgraph_checkpoint_redis.errors import ConfigError, LeaseLostError, ThreadLeasedError

from .context import Context
from .holding import CONFIGURABLE, Holding

if TYPE_CHECKING:
    from langgraph_checkpoint_redis.aio import AsyncRedisSaver
    from langgraph_checkpoint_redis.saver import RedisSaver

S = TypeVar("S", "RedisSaver", "AsyncRedisSaver")


@dataclass(frozen=True, repr=False, eq=False)
class BaseLease(Generic[S]):
    """What the leases of both savers have.

    `bound` makes a copy of the saver that shows a token; `block` is how a block begins.
    """

    block: ClassVar[str]

    thread_id: str
    span: int
    holding: Holding
    context: Context
    bound: Callable[[Holding], S]

    def config(self, config: RunnableConfig) -> RunnableConfig:
        """Return a config that shows the lease, in whatever context its run goes on.

        The run of such a config writes as the holder of the lease, and so do its tasks and
        subgraphs.
        """
        configurable = dict(config.get("configurable") or {})
        tokens = {**(configurable.get(CONFIGURABLE) or {}), self.holding.name: self._token.hex()}
        return {**config, "configurable": {**configurable, CONFIGURABLE: tokens}}

    @property
    def saver(self) -> S:
        """A copy of the saver that shows the lease in all its calls, in whatever context.

        It shares the connections of the saver. Use it for calls without a config, such as
        `delete_thread`, or compile a graph with it.
        """
        self._check_begun()
        return self.bound(self.holding)

    @property
    def _token(self) -> bytes:
        self._check_begun()
        return self.holding.token

    def _check_begun(self) -> None:
        if not self.holding.was_begun:
            raise ConfigError(f"{self._never_begun()}: nothing was sent")

    def _never_begun(self) -> str:
        return (
            f"the lease of thread {self.thread_id!r} was never taken. It is taken by a block: "
            f"`{self.block}(thread_id) as lease:`"
        )

    def __del__(self) -> None:
        """Warn of a lease that protects nothing."""
        if not self.holding.was_begun:
            warnings.warn(self._never_begun(), RuntimeWarning, stacklevel=2)

    def _taking(self) -> Operation[None]:
        self.holding.was_begun = True
        return _take(self.context, self.thread_id, self._token, self.span)

    def _renewing(self) -> Operation[None]:
        return _renew(self.context, self.thread_id, self._token, self.span)

    def _giving_back(self) -> Operation[None]:
        return _give_back(self.context, self.thread_id, self._token)


def _take(context: Context, thread_id: str, token: bytes, span: int) -> Operation[None]:
    """Take a lease that lasts `span` milliseconds after the last write."""
    keys, confirm = context.keys(thread_id), context.options.confirm
    if not (yield from ask(calls.take_lease(keys, token=token, span=span, confirm=confirm))):
        raise ThreadLeasedError(thread_id)


def _renew(context: Context, thread_id: str, token: bytes, span: int) -> Operation[None]:
    """Let a lease last `span` milliseconds from now."""
    keys, confirm = context.keys(thread_id), context.options.confirm
    if not (yield from ask(calls.renew_lease(keys, token=token, span=span, confirm=confirm))):
        raise LeaseLostError(thread_id)


def _give_back(context: Context, thread_id: str, token: bytes) -> Operation[None]:
    """End a lease, if it has not ended. If that is lost, it ends by itself: no confirmation."""
    yield from ask(calls.give_back_lease(context.keys(thread_id), token=token))


def note_failure(error: BaseException, failure: Exception) -> None:
    """Say with the error of a block that its lease was not given back either."""
    if hasattr(error, "add_note"):  # not in Python 3.10
        error.add_note(
            f"The lease was not given back, and ends by itself: {type(failure).__name__}: {failure}"
        )
