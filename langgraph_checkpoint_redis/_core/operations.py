"""The operations of a saver as methods."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointTuple, DeltaChannelHistory
from langgraph.checkpoint.serde.base import SerializerProtocol

from langgraph_checkpoint_redis._protocol.durations import Duration
from langgraph_checkpoint_redis._protocol.requests import Operation, Script
from langgraph_checkpoint_redis._protocol.resp import Argument
from langgraph_checkpoint_redis._scripts import calls
from langgraph_checkpoint_redis._storage.keys import ThreadKeys

from . import copying, expiry, leasing, reading, removing, writing
from .context import Context
from .listing import Cursor, Page, Rows
from .options import SaverState
from .run_index import RunIndex


class Operations(NamedTuple):
    """The operations of a saver."""

    serde: SerializerProtocol
    shared: SaverState

    @property
    def context(self) -> Context:
        return Context(self.serde, self.shared)

    def _keys(self, thread_id: str) -> ThreadKeys:
        return self.context.keys(thread_id)

    @property
    def _runs(self) -> RunIndex:
        return self.context.runs

    def put(self, *args: Any) -> Operation[RunnableConfig]:
        return writing.put(self.context, *args)

    def put_writes(self, *args: Any) -> Operation[None]:
        return writing.put_writes(self.context, *args)

    def get_tuple(self, config: RunnableConfig) -> Operation[CheckpointTuple | None]:
        return reading.get_tuple(self.context, config)

    def page(self, thread_id: str, cursor: Cursor) -> Operation[Page]:
        return reading.read_page(self.context, thread_id, cursor)

    def rows(self, thread_id: str, cursor: Cursor, *, whole: bool) -> Operation[Rows]:
        return reading.read_rows(self.context, thread_id, cursor, whole=whole)

    def get_delta_channel_history(
        self, config: RunnableConfig, channels: Sequence[str]
    ) -> Operation[dict[str, DeltaChannelHistory]]:
        return reading.get_delta_channel_history(self.context, config, channels)

    def delete_thread(self, thread_id: str) -> Operation[None]:
        return removing.delete_thread(self.context, thread_id)

    def prune(self, thread_id: str, strategy: str) -> Operation[None]:
        return removing.prune(self.context, thread_id, strategy)

    def threads_of_runs(self, run_ids: Sequence[str]) -> Operation[dict[str, list[str]]]:
        return removing.threads_of_runs(self.context, run_ids)

    def delete_runs(self, thread_id: str, run_ids: Sequence[str]) -> Operation[None]:
        return removing.delete_runs(self.context, thread_id, run_ids)

    def _remove(
        self, script: Script, thread_id: str, args: Sequence[Argument]
    ) -> Operation[Collection[bytes]]:
        return removing.remove(self.context, thread_id, calls.Removal(script, tuple(args)))

    def _removed(self, thread_id: str, runs: Collection[bytes]) -> Operation[None]:
        return removing.forget_removed(self.context, thread_id, runs)

    def copy_thread(self, source: str, target: str) -> Operation[None]:
        return copying.copy_thread(self.context, source, target)

    def set_ttl(self, thread_id: str, ttl: Duration | None) -> Operation[None]:
        return expiry.set_ttl(self.context, thread_id, ttl)

    def pin(self, thread_id: str) -> Operation[None]:
        return expiry.pin(self.context, thread_id)

    def take_lease(self, thread_id: str, token: bytes, span: int) -> Operation[None]:
        return leasing.take_lease(self.context, thread_id, token, span)

    def renew_lease(self, thread_id: str, token: bytes, span: int) -> Operation[None]:
        return leasing.renew_lease(self.context, thread_id, token, span)

    def give_back_lease(self, thread_id: str, token: bytes) -> Operation[None]:
        return leasing.give_back_lease(self.context, thread_id, token)
