"""Ids of threads and runs that are UUIDs or ints, as web frameworks and databases make them."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver

from langgraph_checkpoint_redis import AsyncRedisSaver, ConfigError, RedisSaver
from langgraph_checkpoint_redis.moving import export_threads, import_threads, migrate

from .driving import Driver, Saver
from .graphs import Session, chat

IDS = [7, 0, -3, 2**70, UUID(int=7)]


def thread(thread_id: Any) -> RunnableConfig:
    return {"configurable": {"thread_id": thread_id, "checkpoint_ns": ""}}


def put(saver: Any, thread_id: Any, run_id: Any = None) -> None:
    saver.put(thread(thread_id), empty_checkpoint(), {"run_id": run_id} if run_id else {}, {})


@pytest.mark.parametrize("thread_id", IDS, ids=str)
def test_the_id_of_a_thread_means_its_text(saver: Saver, thread_id: Any) -> None:
    """A thread that a graph has stored could not be read or deleted by the id it was given."""
    put(saver, thread_id)
    stored = saver.get_tuple(thread(str(thread_id)))
    assert stored
    assert saver.get_tuple(thread(thread_id)) == stored
    assert [*saver.list(thread(thread_id))] == [stored]
    saver.put_writes(stored.config, [("c", 1)], "task")
    assert saver.thread_info(thread_id) == saver.thread_info(str(thread_id))
    target: Any = UUID(int=99)
    saver.copy_thread(thread_id, target)
    assert {*saver.list_threads()} == {str(thread_id), str(target)}
    saver.prune([thread_id])
    assert saver.verify(thread_id) == saver.repair(thread_id) == []
    saver.pin(thread_id)
    saver.unpin(thread_id)
    saver.set_ttl(thread_id, 60)
    saver.delete_thread(thread_id)
    assert saver.get_tuple(thread(thread_id)) is None
    assert saver.thread_info(thread_id) is None


@pytest.mark.parametrize("thread_id", IDS, ids=str)
def test_a_graph_and_its_saver_mean_the_same_thread(drive: Driver, thread_id: Any) -> None:
    """A web service would delete another thread than the one that its graph has."""
    Session(drive, chat(), thread_id).say("hello")
    other = Session(drive, chat(), str(thread_id))
    assert other.state().values["messages"][0].content == "hello"


def test_a_lease_is_of_the_text(raw_saver: Any, loop: Any) -> None:
    """Its holder would be refused by itself."""
    thread_id: Any = 7
    if isinstance(raw_saver, RedisSaver):
        with raw_saver.lease(thread_id):
            put(raw_saver, 7)
            put(raw_saver, "7")
        return

    async def leased(saver: AsyncRedisSaver) -> None:
        async with saver.alease(thread_id):
            for found in (7, "7"):
                await saver.aput(thread(found), empty_checkpoint(), {}, {})

    loop.run_until_complete(leased(raw_saver))


@pytest.mark.parametrize("run_id", [UUID(int=5), 5, -1], ids=str)
def test_a_run_is_found_by_either(saver: Saver, run_id: Any) -> None:
    """A run that is to be rolled back would stay."""
    for stored, asked in ((run_id, str(run_id)), (str(run_id), run_id), (run_id, run_id)):
        put(saver, "a", stored)
        saver.delete_for_runs([asked])
        assert saver.get_tuple(thread("a")) is None


@pytest.mark.parametrize("bad", [True, False, 7.0, b"7", None, 10**5000], ids=[*"tfbynl"])
def test_what_is_no_id_is_refused(saver: Saver, bad: Any) -> None:
    """A mistake would make a thread that nobody finds again."""
    for call in (saver.delete_thread, saver.thread_info, lambda bad: saver.get_tuple(thread(bad))):
        with pytest.raises(ConfigError, match="thread_id"):
            call(bad)


def test_such_threads_can_be_moved(server: str, prefix: str, tmp_path: Path) -> None:
    """One id that is no text would cost a whole backup."""
    memory, target = InMemorySaver(), RedisSaver(server, prefix=prefix)
    for thread_id in IDS:
        put(memory, thread_id)
    assert export_threads(memory, tmp_path / "file").ok
    assert {*import_threads(target, tmp_path / "file").copied} == {*map(str, IDS)}
    ids: Any = [7, UUID(int=7)]
    report = migrate(target, InMemorySaver(), thread_ids=ids)
    assert {*report.copied} == {"7", str(UUID(int=7))}
    with SqliteSaver.from_conn_string(":memory:") as table:
        assert migrate(memory, table).ok
    target.close()
