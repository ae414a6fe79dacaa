"""What workers store: all of it follows from a thread's name and a number, and can be checked."""

from __future__ import annotations

import random
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    empty_checkpoint,
)

LENGTH = 16  # checkpoints, or turns, of a thread
TASK = "task"


def config(thread_id: str, checkpoint_id: str | None = None) -> RunnableConfig:
    """Where something is, in the root's namespace."""
    return {
        "configurable": {
            "thread_id": thread_id,
            "checkpoint_ns": "",
            "checkpoint_id": checkpoint_id,
        }
    }


def text(name: str, number: int) -> str:
    """A message that no other is like, of some hundred characters."""
    chance = random.Random(f"{name} {number}")
    return f"{name} {number} {chance.randbytes(chance.randrange(100, 300)).hex()}"


def values(thread_id: str, number: int) -> dict[str, Any]:
    """The values of a checkpoint: a conversation that grows, a constant and a counter."""
    return {
        "messages": [text(thread_id, before) for before in range(number + 1)],
        "same": [text(thread_id, -1)] * 3,
        "count": number,
    }


def writes(thread_id: str, number: int) -> list[tuple[str, Any]]:
    """What a task writes on top of a checkpoint."""
    return [("messages", text(f"{thread_id} write", number)), ("count", number)]


def checkpoint(
    thread_id: str, number: int, checkpoint_id: str
) -> tuple[Checkpoint, CheckpointMetadata, ChannelVersions]:
    """A checkpoint as `put` takes it; what does not change is said to be so."""
    version = str(number)
    versions: ChannelVersions = {"messages": version, "same": "0", "count": version}
    stored = empty_checkpoint()
    stored["id"] = checkpoint_id
    stored["channel_values"] = values(thread_id, number)
    stored["channel_versions"] = versions
    new: ChannelVersions = {"messages": version, "count": version}
    metadata: CheckpointMetadata = {"source": "loop", "step": number, "run_id": f"run {thread_id}"}
    return stored, metadata, new if number else versions
