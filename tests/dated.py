"""Checkpoints that were made at a time, by their ids."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import uuid4

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.conformance.test_utils import generate_checkpoint, generate_metadata

from .driving import Saver
from .strategies import config

START_OF_TICKS = datetime(1582, 10, 15, tzinfo=timezone.utc)


def id_at(made: datetime, number: int = 0) -> str:
    """A checkpoint id as LangGraph makes it, of a time."""
    ticks = f"{(made - START_OF_TICKS) // timedelta(microseconds=1) * 10 + number:015x}"
    return f"{ticks[:8]}-{ticks[8:12]}-6{ticks[12:]}-8000-{number:012x}"


def ago(seconds: float) -> datetime:
    return datetime.now(timezone.utc) - timedelta(seconds=seconds)


def put(
    saver: Saver, thread_id: str, checkpoint_id: str = "", namespace: str = "", **metadata: Any
) -> RunnableConfig:
    """Add a checkpoint, of now unless an id says otherwise."""
    values = {"c": f"{checkpoint_id} {uuid4()}"}
    checkpoint = generate_checkpoint(channel_values=values, channel_versions={"c": 1})
    checkpoint["id"] = checkpoint_id or checkpoint["id"]
    at = config(thread_id, namespace)
    return saver.put(at, checkpoint, generate_metadata(**metadata), {"c": 1})
