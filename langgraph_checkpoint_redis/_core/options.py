"""What a saver was told, and what it shares with all its copies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from langchain_core.runnables import RunnableConfig

from langgraph_checkpoint_redis._protocol.confirm import Confirm
from langgraph_checkpoint_redis._protocol.confirm import confirm as checked_confirm
from langgraph_checkpoint_redis._serde.caching import Messages
from langgraph_checkpoint_redis._storage.compression import Compression, check
from langgraph_checkpoint_redis._storage.keys import Keyspace

from . import arguments
from .arguments import Duration, Life
from .cache import KnownThreads
from .lease import Holding, shown_by

KNOWN_BYTES = 32 * 2**20  # memory for what is known of threads
MESSAGES_BYTES = 32 * 2**20  # memory for messages that were written and read before


class Options(NamedTuple):
    """What a saver was told; times are in milliseconds, 0 for none."""

    keep_last: int | None
    compression: Compression | None
    life: Life
    tombstone: int
    refuses_conflicts: bool
    confirm: Confirm | None
    socket_timeout: float | None
    allow_plaintext: bool
    refuses_clock_skew: bool

    @classmethod
    def checked(
        cls,
        *,
        keep_last: int | None,
        compression: Compression | None,
        ttl: Duration | Mapping[str, Any] | None,
        refresh_on_read: bool | None,
        tombstone: Duration | None,
        on_conflict: str,
        confirm: Confirm | Mapping[str, Any] | None,
        socket_timeout: float | None,
        allow_plaintext: bool,
        on_clock_skew: str,
    ) -> Options:
        """These options, unless one of them is wrong."""
        check(compression)
        return cls(
            arguments.keep_last(keep_last),
            compression,
            arguments.life(ttl, refresh_on_read),
            0 if tombstone is None else arguments.milliseconds("tombstone", tombstone),
            arguments.on_conflict(on_conflict),
            checked_confirm("confirm", confirm, socket_timeout),
            socket_timeout,
            arguments.flag("allow_plaintext", allow_plaintext),
            arguments.on_clock_skew(on_clock_skew),
        )


class Shared(NamedTuple):
    """What all copies of a saver share: where and how it stores, and what it knows of threads."""

    keyspace: Keyspace
    is_cluster: bool
    options: Options
    threads: KnownThreads
    messages: Messages
    tokens: tuple[tuple[str, bytes], ...] = ()  # of leases, by their names

    def lease_name(self, thread_id: str) -> str:
        """Return what names the lease of a thread: the key that it is stored in."""
        return self.keyspace.thread(thread_id).control.decode()

    def with_token(self, lease: Holding) -> Shared:
        """Return the same for a copy of the saver that shows the token of a lease."""
        return self._replace(tokens=(*self.tokens, (lease.name, lease.token)))

    def token(self, thread_id: str, config: RunnableConfig | None = None) -> bytes:
        """Return the token of the lease that the caller has of a thread, empty for none."""
        name = self.lease_name(thread_id)
        shown = shown_by(config, name) if config else b""
        return shown or dict(self.tokens).get(name) or Holding.here(self.threads, name)


def shared(prefix: str, options: Options, *, is_cluster: bool) -> Shared:
    """The beginning of a saver, which knows nothing yet."""
    keyspace = Keyspace(arguments.prefix(prefix))
    known, messages = KnownThreads(KNOWN_BYTES), Messages(MESSAGES_BYTES)
    return Shared(keyspace, is_cluster, options, known, messages)
