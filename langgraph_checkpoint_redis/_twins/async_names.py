# Derived from aio.py and _admin/_async/methods.py by tools/derive_sync.py.
# Change the source and run `make derive`.

"""The asynchronous names of `RedisSaver`: each runs its synchronous twin in a worker thread."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
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

from langgraph_checkpoint_redis._admin._sync.methods import AdminMethods
from langgraph_checkpoint_redis._admin.prune import Idle
from langgraph_checkpoint_redis._admin.threads import Progress, Stats, ThreadInfo
from langgraph_checkpoint_redis._admin.verify import Problem


class AsyncAdminNames(AdminMethods):
    """The names of the methods for operators."""

    async def alist_threads(self, *, prefix: str = "", idle: Idle = None) -> AsyncIterator[str]:
        """Run each step of `list_threads` in a worker thread."""
        items = self.list_threads(prefix=prefix, idle=idle)
        while (item := await asyncio.to_thread(next, items, None)) is not None:
            yield item

    async def athread_info(self, thread_id: str) -> ThreadInfo | None:
        """Run `thread_info` in a worker thread."""
        return await asyncio.to_thread(self.thread_info, thread_id)

    async def astats(self, *, progress: Progress = None) -> Stats:
        """Run `stats` in a worker thread."""
        return await asyncio.to_thread(self.stats, progress=progress)

    async def aprune_threads(
        self,
        *,
        keep_last: int | None = None,
        idle: Idle = None,
        prefix: str = "",
        progress: Progress = None,
    ) -> int:
        """Run `prune_threads` in a worker thread."""
        return await asyncio.to_thread(
            self.prune_threads, keep_last=keep_last, idle=idle, prefix=prefix, progress=progress
        )

    async def averify(self, thread_id: str) -> list[Problem]:
        """Run `verify` in a worker thread."""
        return await asyncio.to_thread(self.verify, thread_id)

    async def arepair(self, thread_id: str) -> list[Problem]:
        """Run `repair` in a worker thread."""
        return await asyncio.to_thread(self.repair, thread_id)

    async def areencrypt(self, thread_id: str) -> None:
        """Run `reencrypt` in a worker thread."""
        return await asyncio.to_thread(self.reencrypt, thread_id)


class AsyncNames(BaseCheckpointSaver[str], AsyncAdminNames):
    """The names of all other methods."""

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Run `get_tuple` in a worker thread."""
        return await asyncio.to_thread(self.get_tuple, config)

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """Run each step of `list` in a worker thread."""
        items = self.list(config, filter=filter, before=before, limit=limit)
        while (item := await asyncio.to_thread(next, items, None)) is not None:
            yield item

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Run `put` in a worker thread."""
        return await asyncio.to_thread(self.put, config, checkpoint, metadata, new_versions)

    async def aput_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """Run `put_writes` in a worker thread."""
        return await asyncio.to_thread(self.put_writes, config, writes, task_id, task_path)

    async def adelete_thread(self, thread_id: str) -> None:
        """Run `delete_thread` in a worker thread."""
        return await asyncio.to_thread(self.delete_thread, thread_id)

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Run `delete_for_runs` in a worker thread."""
        return await asyncio.to_thread(self.delete_for_runs, run_ids)

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Run `copy_thread` in a worker thread."""
        return await asyncio.to_thread(self.copy_thread, source_thread_id, target_thread_id)

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Run `prune` in a worker thread."""
        return await asyncio.to_thread(self.prune, thread_ids, strategy=strategy)

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """Run `get_delta_channel_history` in a worker thread."""
        return await asyncio.to_thread(
            self.get_delta_channel_history, config=config, channels=channels
        )
