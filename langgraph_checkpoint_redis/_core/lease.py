"""Leases: one writer of a thread at a time, for those who ask for it.

A lease is known by a random token. Its holder shows the token with every write, and every write
script checks it. There are two ways to show it. The block of the `with` statement has the lease in
its context (see `contextvars`), and so have the tasks and worker threads that it starts. A config
of `Lease.config`, and a saver of `Lease.saver`, carry the token themselves, for code that runs in
other contexts: a generator has the context of the code that steps through it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from contextvars import ContextVar, Token
from dataclasses import dataclass
from secrets import token_bytes
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from langchain_core.runnables import RunnableConfig

from langgraph_checkpoint_redis.errors import ConfigError

if TYPE_CHECKING:
    from langgraph_checkpoint_redis._protocol.requests import Operation
    from langgraph_checkpoint_redis.aio import AsyncRedisSaver
    from langgraph_checkpoint_redis.saver import RedisSaver

    from .operations import Operations

# Where a config carries tokens: LangGraph hands the keys of `configurable` on to every task and
# to the checkpointer. Those that begin with two underscores do not become metadata.
CONFIGURABLE = "__redis_leases"

S = TypeVar("S", "RedisSaver", "AsyncRedisSaver")

_held: ContextVar[Mapping[tuple[int, str], Holding]] = ContextVar(
    "held", default=MappingProxyType({})
)


class Holding:
    """The token of a lease, and how a context has it.

    `owner` is what all copies of a saver share; `name` is the key that the lease is stored in.
    """

    def __init__(self, owner: object, name: str) -> None:
        self.owner = owner
        self.name = name
        self.token = token_bytes(16)
        self.was_begun = self.was_left = False
        self._before: Token[Mapping[tuple[int, str], Holding]] | None = None

    @property
    def _place(self) -> tuple[int, str]:
        return id(self.owner), self.name

    def enter(self) -> None:
        """Have the lease in this context, and in the contexts that are copied from it."""
        self._before = _held.set({**_held.get(), self._place: self})

    def leave(self) -> None:
        """Have the lease in this context no longer.

        Copies of the context keep it, so that what still runs there is refused. A block that ends
        in another context than it began in cannot take the lease from there: from now on no context
        shows it, or whatever comes next in that one would be refused.
        """
        now = _held.get()
        before, self._before = self._before, None
        try:
            if before is not None:
                _held.reset(before)
        except ValueError:  # made in a different context
            self.was_left = True
            return
        # Others may have been taken since, and end later: two generators in one loop, say.
        _held.set({place: held for place, held in now.items() if held is not self})

    @classmethod
    def here(cls, owner: object, name: str) -> bytes:
        """Return the token that this context shows, empty for none."""
        held = _held.get().get((id(owner), name))
        return held.token if held and not held.was_left else b""


def shown_by(config: Mapping[str, Any], name: str) -> bytes:
    """Return the token that a config carries for a thread, empty for none."""
    tokens = config["configurable"].get(CONFIGURABLE)
    if tokens is None:
        return b""
    try:
        return bytes.fromhex(tokens.get(name, ""))
    except (AttributeError, TypeError, ValueError) as error:
        raise ConfigError(
            f'config["configurable"]["{CONFIGURABLE}"] must be as `lease.config` made it, '
            f"not {tokens!r:.200}"
        ) from error


@dataclass(frozen=True, repr=False, eq=False)
class BaseLease(Generic[S]):
    """What the leases of both savers have.

    `bound` makes a copy of the saver that shows a token; `block` is how a block begins.
    """

    block: ClassVar[str]

    thread_id: str
    span: int
    holding: Holding
    operations: Operations
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
        return self.operations.take_lease(self.thread_id, self._token, self.span)

    def _renewing(self) -> Operation[None]:
        return self.operations.renew_lease(self.thread_id, self._token, self.span)

    def _giving_back(self) -> Operation[None]:
        return self.operations.give_back_lease(self.thread_id, self._token)


def note_failure(error: BaseException, failure: Exception) -> None:
    """Say with the error of a block that its lease was not given back either."""
    if hasattr(error, "add_note"):  # not in Python 3.10
        error.add_note(
            f"The lease was not given back, and ends by itself: {type(failure).__name__}: {failure}"
        )
