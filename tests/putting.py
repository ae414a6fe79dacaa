"""Checkpoints put one by one, each with values from the test.

What belongs here: `put` for tests that say which values change. `dated.py` puts checkpoints whose
times matter, `story.py` any checkpoint at all.
"""

from __future__ import annotations

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import ChannelVersions, Checkpoint
from langgraph.checkpoint.conformance.test_utils import generate_checkpoint, generate_metadata

from .driving import Saver


def put(
    saver: Saver, at: RunnableConfig, /, kept: Checkpoint | None = None, **values: object
) -> tuple[RunnableConfig, Checkpoint]:
    """Add a checkpoint with new values, beside those that are kept from its parent."""
    old = kept or generate_checkpoint()
    new: ChannelVersions = {name: saver.get_next_version(None, None) for name in values}
    checkpoint = generate_checkpoint(
        channel_values={**old["channel_values"], **values},
        channel_versions={**old["channel_versions"], **new},
    )
    return saver.put(at, checkpoint, generate_metadata(), new), checkpoint
