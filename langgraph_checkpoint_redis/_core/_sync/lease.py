# Derived from _core/_async/lease.py by tools/derive_sync.py.
# Change the source and run `make derive`.

"""The lease of a thread, as a block takes it and gives it back. `_core/lease.py` has the rest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING

from langgraph_checkpoint_redis._core.lease import BaseLease, note_failure
from langgraph_checkpoint_redis.errors import UnconfirmedError

if TYPE_CHECKING:
    from typing_extensions import Self

    from langgraph_checkpoint_redis._protocol.requests import Operation
    from langgraph_checkpoint_redis.saver import RedisSaver  # noqa: F401 - named in a string


@dataclass(frozen=True, repr=False, eq=False)
class Lease(BaseLease["RedisSaver"]):
    """A lease of a thread, as `with saver.lease(...)` gives it.

    `lease()` renews it.
    """

    block = "with saver.lease"
    run: Callable[[Operation[None]], None]

    def __call__(self) -> None:
        """Let the lease last for its whole `ttl` from now.

        Raises:
            LeaseLostError: It has ended.
        """
        self.run(self._renewing())

    def __enter__(self) -> Self:
        """Take the lease.

        Raises:
            ThreadLeasedError: Another has it.
        """
        try:
            self.run(self._taking())
        except UnconfirmedError:
            self._give_back()
            raise
        except Exception:
            raise
        except BaseException:  # Ctrl-C or cancelled: the lease may be taken already
            self._give_back()
            raise
        self.holding.enter()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Give the lease back."""
        self.holding.leave()
        try:
            self._give_back()
        except Exception as failure:
            if error is None:
                raise
            note_failure(error, failure)

    def _give_back(self) -> None:
        """Give the lease back, even if the caller is stopped meanwhile."""
        self.run(self._giving_back())
