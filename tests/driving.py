"""One synchronous way to call both savers, and the graphs compiled with them.

The asynchronous saver is driven through its own event loop: every call here awaits its `a...` twin.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
)
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import StateSnapshot

from langgraph_checkpoint_redis import AsyncRedisSaver, Problem, RedisSaver, Stats, ThreadInfo

T = TypeVar("T")

Graph = CompiledStateGraph[Any, Any, Any, Any]


class AwaitedSaver:
    """An `AsyncRedisSaver`, called as if it were synchronous."""

    def __init__(self, saver: AsyncRedisSaver, loop: AbstractEventLoop) -> None:
        self.saver = saver
        self.loop = loop

    def setup(self) -> None:
        self.loop.run_until_complete(self.saver.asetup())

    def get(self, config: RunnableConfig) -> Checkpoint | None:
        return self.loop.run_until_complete(self.saver.aget(config))

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        return self.loop.run_until_complete(self.saver.aget_tuple(config))

    def list(self, config: RunnableConfig | None, **options: Any) -> Iterator[CheckpointTuple]:
        found = self.saver.alist(config, **options)
        return self._each(found)

    def _each(self, found: AsyncIterator[T]) -> Iterator[T]:
        while (item := self.loop.run_until_complete(_next(found))) is not None:
            yield item

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        return self.loop.run_until_complete(
            self.saver.aput(config, checkpoint, metadata, new_versions)
        )

    def put_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        self.loop.run_until_complete(self.saver.aput_writes(config, writes, task_id, task_path))

    def delete_thread(self, thread_id: str) -> None:
        self.loop.run_until_complete(self.saver.adelete_thread(thread_id))

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        self.loop.run_until_complete(self.saver.adelete_for_runs(run_ids))

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        self.loop.run_until_complete(self.saver.acopy_thread(source_thread_id, target_thread_id))

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        self.loop.run_until_complete(self.saver.aprune(thread_ids, strategy=strategy))

    def set_ttl(self, thread_id: str, ttl: Any) -> None:
        self.loop.run_until_complete(self.saver.aset_ttl(thread_id, ttl))

    def pin(self, thread_id: str) -> None:
        self.loop.run_until_complete(self.saver.apin(thread_id))

    def unpin(self, thread_id: str) -> None:
        self.loop.run_until_complete(self.saver.aunpin(thread_id))

    def list_threads(self, **options: Any) -> Iterator[str]:
        return self._each(self.saver.alist_threads(**options))

    def thread_info(self, thread_id: str) -> ThreadInfo | None:
        return self.loop.run_until_complete(self.saver.athread_info(thread_id))

    def stats(self, **options: Any) -> Stats:
        return self.loop.run_until_complete(self.saver.astats(**options))

    def prune_threads(self, **options: Any) -> int:
        return self.loop.run_until_complete(self.saver.aprune_threads(**options))

    def verify(self, thread_id: str) -> Sequence[Problem]:
        return self.loop.run_until_complete(self.saver.averify(thread_id))

    def repair(self, thread_id: str) -> Sequence[Problem]:
        return self.loop.run_until_complete(self.saver.arepair(thread_id))

    def reencrypt(self, thread_id: str) -> None:
        self.loop.run_until_complete(self.saver.areencrypt(thread_id))

    def get_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        return self.loop.run_until_complete(
            self.saver.aget_delta_channel_history(config=config, channels=channels)
        )

    def get_next_version(self, current: str | None, channel: None) -> str:
        return self.saver.get_next_version(current, channel)


async def _next(found: AsyncIterator[T]) -> T | None:
    return await anext(found, None)


Saver = RedisSaver | AwaitedSaver


def close(saver: RedisSaver | AsyncRedisSaver, loop: AbstractEventLoop) -> None:
    """Close a saver of either kind, as users make it."""
    if isinstance(saver, RedisSaver):
        saver.close()
    else:
        loop.run_until_complete(saver.aclose())


class Driver(Protocol):
    """Runs graphs; `saver` is what they are compiled with."""

    saver: BaseCheckpointSaver[str]

    def invoke(self, graph: Graph, input: Any, config: RunnableConfig, **options: Any) -> Any: ...

    def stream(
        self, graph: Graph, input: Any, config: RunnableConfig, **options: Any
    ) -> list[Any]: ...

    def state(self, graph: Graph, config: RunnableConfig, **options: Any) -> StateSnapshot: ...

    def history(
        self, graph: Graph, config: RunnableConfig, **options: Any
    ) -> list[StateSnapshot]: ...

    def update(
        self, graph: Graph, config: RunnableConfig, values: Any, **options: Any
    ) -> RunnableConfig: ...


Open = Callable[..., Any]  # the fixture `savers`
Restart = Callable[[Driver], Driver]  # the fixture `restart`


class DirectDriver:
    """Calls a graph directly."""

    def __init__(self, saver: BaseCheckpointSaver[Any]) -> None:
        self.saver: BaseCheckpointSaver[str] = saver

    def invoke(self, graph: Graph, input: Any, config: RunnableConfig, **options: Any) -> Any:
        return graph.invoke(input, config, **options)

    def stream(self, graph: Graph, input: Any, config: RunnableConfig, **options: Any) -> list[Any]:
        return list(graph.stream(input, config, **options))

    def state(self, graph: Graph, config: RunnableConfig, **options: Any) -> StateSnapshot:
        return graph.get_state(config, **options)

    def history(self, graph: Graph, config: RunnableConfig, **options: Any) -> list[StateSnapshot]:
        return list(graph.get_state_history(config, **options))

    def update(
        self, graph: Graph, config: RunnableConfig, values: Any, **options: Any
    ) -> RunnableConfig:
        return graph.update_state(config, values, **options)


class AwaitedDriver:
    """Awaits a graph."""

    def __init__(self, saver: AsyncRedisSaver, loop: AbstractEventLoop) -> None:
        self.saver: BaseCheckpointSaver[str] = saver
        self.loop = loop

    def invoke(self, graph: Graph, input: Any, config: RunnableConfig, **options: Any) -> Any:
        return self.loop.run_until_complete(graph.ainvoke(input, config, **options))

    def stream(self, graph: Graph, input: Any, config: RunnableConfig, **options: Any) -> list[Any]:
        async def collect() -> list[Any]:
            return [chunk async for chunk in graph.astream(input, config, **options)]

        return self.loop.run_until_complete(collect())

    def state(self, graph: Graph, config: RunnableConfig, **options: Any) -> StateSnapshot:
        return self.loop.run_until_complete(graph.aget_state(config, **options))

    def history(self, graph: Graph, config: RunnableConfig, **options: Any) -> list[StateSnapshot]:
        async def collect() -> list[StateSnapshot]:
            return [found async for found in graph.aget_state_history(config, **options)]

        return self.loop.run_until_complete(collect())

    def update(
        self, graph: Graph, config: RunnableConfig, values: Any, **options: Any
    ) -> RunnableConfig:
        return self.loop.run_until_complete(graph.aupdate_state(config, values, **options))
