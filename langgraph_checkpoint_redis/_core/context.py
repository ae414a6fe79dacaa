"""What every operation is given: the serializer, and all that the copies of a saver share."""

from __future__ import annotations

from typing import NamedTuple

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.serde.base import SerializerProtocol

from langgraph_checkpoint_redis._protocol.confirm import Confirm, parse_own_confirm
from langgraph_checkpoint_redis._storage.encryption import with_decryption
from langgraph_checkpoint_redis._storage.keys import ThreadKeys

from .cache import ThreadCaches
from .options import Options
from .run_index import RunIndex
from .state import SaverState


class Context(NamedTuple):
    """The context of one call. It is made for each, as the serializer of a saver may be replaced.

    Attributes:
        serde: The serializer.
        state: What all copies of the saver share.
    """

    serde: SerializerProtocol
    state: SaverState

    @property
    def options(self) -> Options:
        """The options of the saver."""
        return self.state.options

    @property
    def caches(self) -> ThreadCaches:
        """What this process knows of threads."""
        return self.state.caches

    @property
    def runs(self) -> RunIndex:
        """The operations on the index of runs."""
        return RunIndex(self.state)

    @property
    def reading_serde(self) -> SerializerProtocol:
        """The serializer for what is stored, which refuses plain values where it encrypts."""
        return with_decryption(self.serde, allow_plaintext=self.options.allow_plaintext)

    def keys(self, thread_id: str) -> ThreadKeys:
        """Return the keys of a thread."""
        return self.state.keyspace.thread(thread_id)

    def confirm_for(self, config: RunnableConfig) -> Confirm | None:
        """Return what a write waits for: what its config says, or else the saver."""
        return parse_own_confirm(config, self.options.confirm, self.options.socket_timeout)
