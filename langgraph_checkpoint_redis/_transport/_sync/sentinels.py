# Derived from _transport/_async/sentinels.py by tools/derive_sync.py.
# Change the source and run `make derive`.

"""The primary that sentinels name, and what happens when they name another one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from langgraph_checkpoint_redis._runtime.log import report_failover
from langgraph_checkpoint_redis._transport.clients import sentinels


class Sentinels(ABC):
    """A link to the primary of a service."""

    _service: str
    _client: Any
    _primary: tuple[str, int] | None

    def _learn(self, primary: tuple[str, int]) -> None:
        """Remember the primary, and leave the one before."""
        old, self._primary = self._primary, primary
        if old and old != primary:
            report_failover(self._service, "{}:{}".format(*old), "{}:{}".format(*primary))
            self._leave_all_but(primary)

    @abstractmethod
    def _leave_all_but(self, primary: tuple[str, int]) -> None:
        """Leave the connections to other servers, whose replies no longer count."""

    def _close_sentinels(self) -> None:
        """Close the idle connections to sentinels; a call may be using some to connect."""
        for sentinel in sentinels(self._client):
            sentinel.connection_pool.disconnect(inuse_connections=False)
