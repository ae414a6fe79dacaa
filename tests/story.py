"""A short story that calls a saver in every way that there is, to try servers and clients."""

from __future__ import annotations

from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.conformance.test_utils import generate_checkpoint, generate_metadata

from .driving import Saver


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
