"""The name of a checkpoint: its thread, its namespace and its id."""

from __future__ import annotations

from typing import NamedTuple

from langchain_core.runnables import RunnableConfig


class CheckpointRef(NamedTuple):
    """Where a checkpoint is: `checkpoint_id` is empty for the latest of its namespace."""

    thread_id: str
    namespace: str
    checkpoint_id: str

    def config(self, checkpoint_id: str) -> RunnableConfig:
        """The config that names a checkpoint of this thread and namespace."""
        return {
            "configurable": {
                "thread_id": self.thread_id,
                "checkpoint_ns": self.namespace,
                "checkpoint_id": checkpoint_id,
            }
        }
