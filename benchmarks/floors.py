"""The floors: what nobody who stores whole values can be quicker than.

One command for each operation, with a checkpoint or a task's writes as one string: no index, no
history, nothing that a saver is for. The bare floor moves the same bytes without serializing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import chain
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
)
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer


class Floor(BaseCheckpointSaver[str]):
    """SET and MGET of whole checkpoints; which there are is known in this process only."""

    def __init__(self, client: Any, *, serializes: bool) -> None:
        """With a `redis.Redis` for the methods, or a `redis.asyncio.Redis` for the awaited ones."""
        super().__init__()
        self.client = client
        self._serializes = serializes
        self._serializer = JsonPlusSerializer()
        self._canned: dict[tuple[int, ...], bytes] = {}
        self._ids: defaultdict[str, list[str]] = defaultdict(list)

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """One SET."""
        at = self._added(config, checkpoint)
        self.client.set(_key(at), self._dumped([checkpoint, metadata], checkpoint))
        return at

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """One SET."""
        at = self._added(config, checkpoint)
        await self.client.set(_key(at), self._dumped([checkpoint, metadata], checkpoint))
        return at

    def put_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """One SET."""
        self.client.set(
            _key(config, "writes"), self._dumped([task_id, *chain.from_iterable(writes)])
        )

    async def aput_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """One SET."""
        await self.client.set(
            _key(config, "writes"), self._dumped([task_id, *chain.from_iterable(writes)])
        )

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """One MGET, of the checkpoint and its writes."""
        at = self._found(config)
        return self._loaded(at, self.client.mget(_key(at), _key(at, "writes")))

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """One MGET, of the checkpoint and its writes."""
        at = self._found(config)
        return self._loaded(at, await self.client.mget(_key(at), _key(at, "writes")))

    def _added(self, config: RunnableConfig, checkpoint: Checkpoint) -> RunnableConfig:
        thread_id = config["configurable"]["thread_id"]
        self._ids[thread_id].append(checkpoint["id"])
        return _at(thread_id, checkpoint["id"])

    def _found(self, config: RunnableConfig) -> RunnableConfig:
        thread_id = config["configurable"]["thread_id"]
        return _at(
            thread_id, config["configurable"].get("checkpoint_id") or self._ids[thread_id][-1]
        )

    # Lists all through: for tuples the serializer makes a detour.

    def _dumped(self, value: object, checkpoint: Checkpoint | None = None) -> bytes:
        """The bare floor serializes once for values of the same lengths."""
        if self._serializes:
            return self._serializer.dumps_typed(value)[1]
        values = checkpoint["channel_values"] if checkpoint else {}
        length = tuple(map(len, values.values()))
        if length not in self._canned:
            self._canned[length] = self._serializer.dumps_typed(value)[1]
        return self._canned[length]

    def _loaded(self, at: RunnableConfig, replies: list[bytes | None]) -> CheckpointTuple | None:
        if not self._serializes or replies[0] is None:
            return None
        checkpoint, metadata = self._serializer.loads_typed(("msgpack", replies[0]))
        loads = self._serializer.loads_typed
        task_id, *flat = loads(("msgpack", replies[1])) if replies[1] else ("",)
        writes = zip(flat[::2], flat[1::2], strict=True)
        pending = [(task_id, channel, value) for channel, value in writes]
        return CheckpointTuple(at, checkpoint, metadata, None, pending)


def _at(thread_id: str, checkpoint_id: str) -> RunnableConfig:
    return {"configurable": {"thread_id": thread_id, "checkpoint_id": checkpoint_id}}


def _key(at: RunnableConfig, kind: str = "checkpoint") -> str:
    return f"floor:{at['configurable']['thread_id']}:{at['configurable']['checkpoint_id']}:{kind}"
