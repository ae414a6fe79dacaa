"""What all copies of a saver share: where it stores, its options, and what it knows of threads."""

from __future__ import annotations

from typing import NamedTuple

from langchain_core.runnables import RunnableConfig

from langgraph_checkpoint_redis._storage.keys import Keyspace

from .cache import ThreadCaches
from .holding import Holding, shown_by
from .options import Options, check_prefix

KNOWN_BYTES = 32 * 2**20  # memory for what is known of threads


class SaverState(NamedTuple):
    """What all copies of a saver share: where and how it stores, and what it knows of threads."""

    keyspace: Keyspace
    is_cluster: bool
    options: Options
    caches: ThreadCaches
    tokens: tuple[tuple[str, bytes], ...] = ()  # of leases, by their names

    def lease_name(self, thread_id: str) -> str:
        """Return what names the lease of a thread: the key that it is stored in."""
        return self.keyspace.thread(thread_id).control.decode()

    def with_token(self, lease: Holding) -> SaverState:
        """Return the same for a copy of the saver that shows the token of a lease."""
        return self._replace(tokens=(*self.tokens, (lease.name, lease.token)))

    def token(self, thread_id: str, config: RunnableConfig | None = None) -> bytes:
        """Return the token of the lease that the caller has of a thread, empty for none."""
        name = self.lease_name(thread_id)
        shown = shown_by(config, name) if config else b""
        return shown or dict(self.tokens).get(name) or Holding.here(self.caches, name)


def make_state(prefix: str, options: Options, *, is_cluster: bool) -> SaverState:
    """Return the state of a new saver, with empty caches."""
    keyspace = Keyspace(check_prefix(prefix))
    return SaverState(keyspace, is_cluster, options, ThreadCaches(KNOWN_BYTES))
