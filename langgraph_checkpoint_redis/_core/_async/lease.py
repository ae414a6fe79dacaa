"""The lease of a thread, as a block takes it and gives it back. `_core/lease.py` has the rest."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

from langgraph_checkpoint_redis._core.lease import BaseLease, note_failure
from langgraph_checkpoint_redis._runtime.shielding import shielded
from langgraph_checkpoint_redis.errors import UnconfirmedError

if TYPE_CHECKING:
    from typing_extensions import Self

    from langgraph_checkpoint_redis._protocol.requests import Operation
    from langgraph_checkpoint_redis.aio import AsyncRedisSaver  # noqa: F401 - named in a string


@dataclass(frozen=True, repr=False, eq=False)
class AsyncLease(BaseLease["AsyncRedisSaver"]):
    """A lease of a thread, as `async with saver.alease(...)` gives it.

    `await lease()` renews it.
    """

    block = "async with saver.alease"
    run: Callable[[Operation[None]], Coroutine[Any, Any, None]]

    async def __call__(self) -> None:
        """Let the lease last for its whole `ttl` from now.

        Raises:
            LeaseLostError: It has ended.
        """
        await self.run(self._renewing())

    async def __aenter__(self) -> Self:
        """Take the lease.

        Raises:
            ThreadLeasedError: Another has it.
        """
        try:
            await self.run(self._taking())
        except UnconfirmedError:
            await self._give_back()
            raise
        except Exception:
            raise
        except BaseException:  # Ctrl-C or cancelled: the lease may be taken already
            await self._give_back()
            raise
        self.holding.enter()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Give the lease back."""
        self.holding.leave()
        try:
            await self._give_back()
        except Exception as failure:
            if error is None:
                raise
            note_failure(error, failure)

    async def _give_back(self) -> None:
        """Give the lease back, even if the caller is stopped meanwhile."""
        await shielded(self.run(self._giving_back()))
