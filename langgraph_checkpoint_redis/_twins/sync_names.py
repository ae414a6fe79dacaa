# Derived from aio.py and _admin/_async/methods.py by tools/derive_sync.py.
# Change the source and run `make derive`.

"""The synchronous names of `AsyncRedisSaver`: each waits for its asynchronous twin."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
)

from langgraph_checkpoint_redis._admin._async.methods import AsyncAdminMethods
from langgraph_checkpoint_redis._admin.prune import Idle
from langgraph_checkpoint_redis._admin.threads import Progress, Stats, ThreadInfo
from langgraph_checkpoint_redis._admin.verify import Problem

from .waiting import Waiting, next_of


class SyncAdminNames(AsyncAdminMethods, Waiting):
    """The names of the methods for operators."""

    def list_threads(self, *, prefix: str = "", idle: Idle = None) -> Iterator[str]:
        """Wait for each step of `alist_threads`, in a thread without an event loop."""
        items = self.alist_threads(prefix=prefix, idle=idle)
        while (item := self._wait(next_of(items))) is not None:
            yield item

    def thread_info(self, thread_id: str) -> ThreadInfo | None:
        """Wait for `athread_info`, in a thread without an event loop."""
        return self._wait(self.athread_info(thread_id))

    def stats(self, *, progress: Progress = None) -> Stats:
        """Wait for `astats`, which calls `progress` in the event loop."""
        return self._wait(self.astats(progress=progress))

    def prune_threads(
        self,
        *,
        keep_last: int | None = None,
        idle: Idle = None,
        prefix: str = "",
        progress: Progress = None,
    ) -> int:
        """Wait for `aprune_threads`, which calls `progress` in the event loop."""
        return self._wait(
            self.aprune_threads(keep_last=keep_last, idle=idle, prefix=prefix, progress=progress)
        )

    def verify(self, thread_id: str) -> list[Problem]:
        """Wait for `averify`, in a thread without an event loop."""
        return self._wait(self.averify(thread_id))

    def repair(self, thread_id: str) -> list[Problem]:
        """Wait for `arepair`, in a thread without an event loop."""
        return self._wait(self.arepair(thread_id))

    def reencrypt(self, thread_id: str) -> None:
        """Wait for `areencrypt`, in a thread without an event loop."""
        return self._wait(self.areencrypt(thread_id))


class SyncNames(BaseCheckpointSaver[str], SyncAdminNames):
    """The names of all other methods."""

    def setup(self) -> None:
        """Wait for `asetup`, in a thread without an event loop."""
        return self._wait(self.asetup())

    def close(self) -> None:
        """Wait for `aclose`, in a thread without an event loop."""
        return self._wait(self.aclose())

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Wait for `aget_tuple`, in a thread without an event loop."""
        return self._wait(self.aget_tuple(config))

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """Wait for each step of `alist`, in a thread without an event loop."""
        items = self.alist(config, filter=filter, before=before, limit=limit)
        while (item := self._wait(next_of(items))) is not None:
            yield item

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Wait for `aput`, in a thread without an event loop."""
        return self._wait(self.aput(config, checkpoint, metadata, new_versions))

    def put_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """Wait for `aput_writes`, in a thread without an event loop."""
        return self._wait(self.aput_writes(config, writes, task_id, task_path))

    def delete_thread(self, thread_id: str) -> None:
        """Wait for `adelete_thread`, in a thread without an event loop."""
        return self._wait(self.adelete_thread(thread_id))

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Wait for `adelete_for_runs`, in a thread without an event loop."""
        return self._wait(self.adelete_for_runs(run_ids))

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Wait for `acopy_thread`, in a thread without an event loop."""
        return self._wait(self.acopy_thread(source_thread_id, target_thread_id))

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Wait for `aprune`, in a thread without an event loop."""
        return self._wait(self.aprune(thread_ids, strategy=strategy))

    def get_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """Wait for `aget_delta_channel_history`, in a thread without an event loop."""
        return self._wait(self.aget_delta_channel_history(config=config, channels=channels))
