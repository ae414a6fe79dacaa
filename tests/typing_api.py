"""What type checkers make of the public names: `mypy` checks this file, and nothing runs it.

A user would lose the types of results, or be told that a correct program is wrong.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
)
from datetime import timedelta
from pathlib import Path
from typing import Literal

import redis
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
)
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.graph import MessagesState, StateGraph
from typing_extensions import assert_type

from langgraph_checkpoint_redis import (
    AsyncLease,
    AsyncRedisSaver,
    ConfigError,
    CorruptThreadError,
    Lease,
    Problem,
    RedisSaver,
    RedisSaverError,
    SaverOptions,
    Stats,
    ThreadExistsError,
    ThreadInfo,
)
from langgraph_checkpoint_redis.moving import (
    Moved,
    Report,
    amigrate,
    export_threads,
    import_threads,
    migrate,
    opened,
)
from langgraph_checkpoint_redis.server import make_checkpointer

CONFIG: RunnableConfig = {"configurable": {"thread_id": "a"}}


def savers_are_made_of_urls_and_clients(url: str) -> list[BaseCheckpointSaver[str]]:
    return [
        RedisSaver(url),
        RedisSaver(redis.Redis()),
        RedisSaver(redis.Redis(decode_responses=True)),
        RedisSaver(redis.RedisCluster.from_url(url)),
        RedisSaver(url, prefix="p", serde=JsonPlusSerializer(), keep_last=1, compression="zlib"),
        AsyncRedisSaver(url),
        AsyncRedisSaver(redis.asyncio.Redis()),
        AsyncRedisSaver(redis.asyncio.Redis(decode_responses=True)),
        AsyncRedisSaver(redis.asyncio.RedisCluster.from_url(url)),
        AsyncRedisSaver(url, prefix="p", serde=None, keep_last=None, compression="zstd"),
    ]


def wrong_arguments_are_found(url: str) -> None:
    RedisSaver(url, "p")  # type: ignore[call-arg] # options have names
    RedisSaver(7)  # type: ignore[arg-type]
    RedisSaver(redis.asyncio.Redis())  # type: ignore[arg-type]
    AsyncRedisSaver(redis.Redis())  # type: ignore[arg-type]
    RedisSaver(url, compression="gzip")  # type: ignore[arg-type]
    RedisSaver(url, keep_last="1")  # type: ignore[arg-type]
    RedisSaver(url, keep_lats=1)  # type: ignore[call-arg] # a misspelt option
    AsyncRedisSaver(url, tll=60)  # type: ignore[call-arg]


def wrong_options_are_found_wherever_a_saver_is_opened(url: str, options: SaverOptions) -> None:
    RedisSaver.from_conn_string(url, keep_lats=1)  # type: ignore[call-arg]
    RedisSaver.from_conn_string(url, keep_last="1")  # type: ignore[arg-type]
    RedisSaver.embedded("directory", tll=60)  # type: ignore[call-arg]
    RedisSaver.embedded("directory", on_conflict="merge")  # type: ignore[arg-type]
    AsyncRedisSaver.from_conn_string(url, prefx="p")  # type: ignore[call-arg]
    AsyncRedisSaver.from_conn_string(url, prefix=None)  # type: ignore[arg-type]
    AsyncRedisSaver.embedded("directory", tombstones=60)  # type: ignore[call-arg]
    AsyncRedisSaver.embedded("directory", on_clock_skew="ignore")  # type: ignore[arg-type]
    opened(url, prefx="p")  # type: ignore[call-arg]
    opened(url, allow_plaintext="yes")  # type: ignore[arg-type]
    opened(url, existing=1)  # type: ignore[arg-type]
    options["keep_lats"] = 1  # type: ignore[typeddict-unknown-key]
    SaverOptions(ttl="1 day")  # type: ignore[typeddict-item]


def options_can_be_passed_on(url: str, options: SaverOptions) -> None:
    RedisSaver(url, **options)
    AsyncRedisSaver(url, **options)
    RedisSaver.from_conn_string(url, **options)
    RedisSaver.embedded("directory", **options)
    AsyncRedisSaver.from_conn_string(url, **options)
    AsyncRedisSaver.embedded("directory", **options)
    opened(url, existing=True, **options)
    for_tests: SaverOptions = {"prefix": "tests", "ttl": timedelta(minutes=1), "confirm": None}
    RedisSaver(url, **for_tests)


class Traced(RedisSaver):
    """A saver of a user's own."""


class AsyncTraced(AsyncRedisSaver):
    """The same, to be awaited."""


async def contexts_of_a_subclass_give_the_subclass(url: str) -> None:
    with Traced.from_conn_string(url) as saver, Traced.embedded("directory") as local:
        assert_type(saver, Traced)
        assert_type(local, Traced)
    async with AsyncTraced.from_conn_string(url) as awaited:
        assert_type(awaited, AsyncTraced)
    async with AsyncTraced.embedded("directory") as awaited_local:
        assert_type(awaited_local, AsyncTraced)


def the_agent_server_gets_an_async_saver() -> AbstractAsyncContextManager[AsyncRedisSaver]:
    return make_checkpointer()


def graphs_take_both(saver: RedisSaver, asynchronous: AsyncRedisSaver) -> None:
    builder = StateGraph(MessagesState)
    builder.compile(checkpointer=saver)
    builder.compile(checkpointer=asynchronous)


def contexts_give_savers(url: str) -> None:
    context: AbstractContextManager[RedisSaver] = RedisSaver.from_conn_string(url, prefix="p")
    with context as saver:
        assert_type(saver, RedisSaver)


async def awaited_contexts_give_savers(url: str) -> None:
    context: AbstractAsyncContextManager[AsyncRedisSaver] = AsyncRedisSaver.from_conn_string(url)
    async with context as saver:
        assert_type(saver, AsyncRedisSaver)


def sync_methods_have_results(
    saver: RedisSaver | AsyncRedisSaver, checkpoint: Checkpoint, metadata: CheckpointMetadata
) -> None:
    assert_type(saver.get_tuple(CONFIG), CheckpointTuple | None)
    assert_type(saver.get(CONFIG), Checkpoint | None)
    assert_type(saver.list(CONFIG, filter={}, before=CONFIG, limit=1), Iterator[CheckpointTuple])
    assert_type(saver.put(CONFIG, checkpoint, metadata, {"c": "1"}), RunnableConfig)
    assert_type(
        saver.get_delta_channel_history(config=CONFIG, channels=["c"]),
        Mapping[str, DeltaChannelHistory],
    )
    assert_type(saver.get_next_version(None, None), str)
    assert_type(saver.list_threads(prefix="a", idle=timedelta(days=1)), Iterator[str])
    assert_type(saver.thread_info("a"), ThreadInfo | None)
    assert_type(saver.stats(progress=print), Stats)
    assert_type(saver.prune_threads(keep_last=1, idle=1.5, prefix="a", progress=print), int)
    assert_type(saver.verify("a"), list[Problem])
    assert_type(saver.repair("a"), list[Problem])
    saver.reencrypt("a")
    saver.setup()
    saver.put_writes(CONFIG, [("c", 1)], "task", "path")
    saver.delete_thread("a")
    saver.delete_for_runs(["r"])
    saver.copy_thread("a", "b")
    saver.prune(["a"], strategy="delete")
    saver.close()


async def async_methods_have_results(
    saver: RedisSaver | AsyncRedisSaver, checkpoint: Checkpoint, metadata: CheckpointMetadata
) -> None:
    assert_type(await saver.aget_tuple(CONFIG), CheckpointTuple | None)
    assert_type(await saver.aget(CONFIG), Checkpoint | None)
    assert_type(
        saver.alist(CONFIG, filter={}, before=CONFIG, limit=1), AsyncIterator[CheckpointTuple]
    )
    assert_type(await saver.aput(CONFIG, checkpoint, metadata, {"c": "1"}), RunnableConfig)
    assert_type(
        await saver.aget_delta_channel_history(config=CONFIG, channels=["c"]),
        Mapping[str, DeltaChannelHistory],
    )
    assert_type(saver.alist_threads(prefix="a", idle=1), AsyncIterator[str])
    assert_type(await saver.athread_info("a"), ThreadInfo | None)
    assert_type(await saver.astats(progress=print), Stats)
    assert_type(await saver.aprune_threads(keep_last=1, idle=1.5), int)
    assert_type(await saver.averify("a"), list[Problem])
    assert_type(await saver.arepair("a"), list[Problem])
    await saver.areencrypt("a")
    await saver.aput_writes(CONFIG, [("c", 1)], "task", "path")
    await saver.adelete_thread("a")
    await saver.adelete_for_runs(["r"])
    await saver.acopy_thread("a", "b")
    await saver.aprune(["a"], strategy="delete")


async def leases_are_shown(saver: RedisSaver, other: AsyncRedisSaver) -> None:
    with saver.lease("a", ttl=timedelta(seconds=30)) as lease:
        assert_type(lease, Lease)
        assert_type(lease.config(CONFIG), RunnableConfig)
        assert_type(lease.saver, RedisSaver)
        lease()
    async with other.alease("a", ttl=1.5) as awaited:
        assert_type(awaited, AsyncLease)
        assert_type(awaited.config(CONFIG), RunnableConfig)
        assert_type(awaited.saver, AsyncRedisSaver)
        await awaited()


async def the_async_saver_is_set_up_and_closed(saver: AsyncRedisSaver) -> None:
    await saver.asetup()
    await saver.aclose()


def errors_say_where(error: CorruptThreadError | ThreadExistsError, bad: ConfigError) -> None:
    base: RedisSaverError = error
    value_error: ValueError = bad
    assert_type(error.thread_id, str)
    if isinstance(error, CorruptThreadError):
        assert_type((error.namespace, error.checkpoint_id, error.key), tuple[str, str, str])
    raise base from value_error


def savers_can_be_limited_to_known_types(saver: RedisSaver, other: AsyncRedisSaver) -> None:
    assert_type(saver.with_allowlist([("module", "Class")]), BaseCheckpointSaver[str])
    assert_type(other.with_allowlist([("module", "Class")]), BaseCheckpointSaver[str])


def threads_are_moved(source: BaseCheckpointSaver[int], target: RedisSaver) -> None:
    report = migrate(source, target, thread_ids=("a",), workers=2, progress=print)
    assert_type(report, Report)
    assert_type(report.failed, dict[str, str])
    assert_type(report.ok, bool)
    export_threads(target, Path("a.gz"), serde=JsonPlusSerializer())
    with Path("a").open("rb") as file, opened("redis://", prefix="p") as saver:
        assert_type(import_threads(saver, file, salvage=True), Report)
    migrate(source, "redis://")  # type: ignore[arg-type]


async def threads_are_moved_in_a_loop(source: AsyncRedisSaver, target: RedisSaver) -> None:
    def told(moved: Moved) -> None:
        assert_type(moved.outcome, Literal["copied", "present", "failed"])

    assert_type(await amigrate(source, target, progress=told), Report)
