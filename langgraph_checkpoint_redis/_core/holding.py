"""The token of a lease, and how a context or a config shows it.

A lease is known by a random token. Its holder shows the token with every write, and every write
script checks it. There are two ways to show it. The block of the `with` statement has the lease in
its context (see `contextvars`), and so have the tasks and worker threads that it starts. A config
of `Lease.config`, and a saver of `Lease.saver`, carry the token themselves, for code that runs in
other contexts: a generator has the context of the code that steps through it.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar, Token
from secrets import token_bytes
from types import MappingProxyType
from typing import Any

from langgraph_checkpoint_redis.errors import ConfigError

# Where a config carries tokens: LangGraph hands the keys of `configurable` on to every task and
# to the checkpointer. Those that begin with two underscores do not become metadata.
CONFIGURABLE = "__redis_leases"

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
