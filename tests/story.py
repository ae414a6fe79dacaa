"""What to do with a saver to try servers and clients: a call of every kind, and a load."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from threading import Timer
from typing import Any

import redis
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.conformance.test_utils import generate_checkpoint, generate_metadata

from .driving import AwaitedSaver, Saver
from .servers import kill


def thread(thread_id: str, **configurable: Any) -> RunnableConfig:
    return {"configurable": {"thread_id": thread_id, **configurable}}


def chat(number: int) -> tuple[Any, ...]:
    """A checkpoint with a large value, as `put` takes it."""
    values = {"c": [f"{number} {item:600}" for item in range(5)]}
    checkpoint = generate_checkpoint(channel_values=values, channel_versions={"c": 1})
    return checkpoint, generate_metadata(run_id=f"run {number}"), {"c": 1}


def use(saver: Saver) -> None:
    """Store, read and delete in every way that there is."""
    saver.setup()
    checkpoint, *rest = chat(1)
    at = saver.put(thread("größe"), checkpoint, *rest)
    saver.put_writes(at, [("c", "w" * 1000)], "task")
    found = saver.get_tuple(thread("größe"))
    assert found
    assert found.checkpoint == checkpoint
    assert found.pending_writes == [("task", "c", "w" * 1000)]
    assert [*saver.list(None)] == [*saver.list(at)] == [found]
    assert [*saver.list(None, filter={"source": "input"})] == []
    assert saver.get_delta_channel_history(config=at, channels=["c"])["c"]["writes"] == []
    saver.copy_thread("größe", "copy")
    saver.prune(["copy"])
    saver.delete_thread("größe")
    saver.delete_for_runs(["run 1"])
    assert [*saver.list(None)] == []


def store(saver: Saver, numbers: Iterable[int]) -> None:
    """Store a chat in a thread for each number, all at once: in tasks, or in threads."""
    if isinstance(saver, AwaitedSaver):
        saver.loop.run_until_complete(_stored(saver, numbers))
    else:
        with ThreadPoolExecutor(16) as threads:
            stored = threads.map(lambda n: saver.put(thread(str(n)), *chat(n)), numbers)
            assert all(stored)


async def _stored(saver: AwaitedSaver, numbers: Iterable[int]) -> None:
    await asyncio.gather(*[saver.saver.aput(thread(str(n)), *chat(n)) for n in numbers])


def kill_soon(node: redis.Redis) -> Callable[[], bool]:
    """Kill a server while calls are on their way to it; the result says if it is alive yet.

    What is confirmed in its last moments may be lost: replication is asynchronous.
    """
    killer = Timer(0.2, kill, [node])
    killer.start()
    return killer.is_alive
