"""Delta channels, which are stored as writes and, now and then, as a whole.

What belongs here: states of graphs with such channels, an agent that edits a file in one, and a
thread that tests write one checkpoint at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import add
from random import Random
from typing import Annotated, Any, cast

from langchain_core.runnables import RunnableConfig
from langgraph.channels.delta import DeltaChannel
from langgraph.checkpoint.base import Checkpoint, CheckpointMetadata
from langgraph.checkpoint.conformance.test_utils import generate_checkpoint, generate_metadata
from langgraph.graph import START, StateGraph
from typing_extensions import TypedDict

from .driving import Saver
from .graphs import Builder


def _extended(state: list[str], writes: Sequence[list[str]]) -> list[str]:
    return [*state, *(text for write in writes for text in write)]


class Often(TypedDict):
    """A snapshot at every third update."""

    log: Annotated[list[str], DeltaChannel(_extended, snapshot_frequency=3)]


class Seldom(TypedDict):
    """No snapshot within a test."""

    log: Annotated[list[str], DeltaChannel(_extended, snapshot_frequency=10_000)]


class Both(TypedDict):
    """Delta channels of both kinds, and a channel that is none."""

    log: Annotated[list[str], DeltaChannel(_extended, snapshot_frequency=3)]
    notes: Annotated[list[str], DeltaChannel(_extended, snapshot_frequency=10_000)]
    plain: Annotated[list[str], add]


# An agent


FILE = 100_000  # characters


def _merged(files: dict[str, str], writes: Sequence[dict[str, str]]) -> dict[str, str]:
    return {name: text for part in (files, *writes) for name, text in part.items()}


class Files(TypedDict):
    """Files by name, with a snapshot at every 20th edit."""

    files: Annotated[dict[str, str], DeltaChannel(_merged, dict, snapshot_frequency=20)]


def editing() -> Builder:
    """An agent that changes a few characters of a large file in each turn."""
    rng = Random(1)
    letters = "abcdefghijklmnopqrstuvwxyz \n"

    def edit(state: Files) -> dict[str, dict[str, str]]:
        text = state["files"].get("a.md") or "".join(rng.choices(letters, k=FILE))
        at = rng.randrange(len(text) - 10)
        return {"files": {"a.md": f"{text[:at]}{rng.random():.8f}{text[at + 10 :]}"}}

    return StateGraph(Files).add_node("edit", edit).add_edge(START, "edit")


# A thread


HERE: RunnableConfig = {"configurable": {"thread_id": "a", "checkpoint_ns": ""}}


class Log:
    """Thread `a` with a delta channel `log`, a line for each checkpoint; one may hold it whole."""

    def __init__(self, saver: Saver, *, whole_at: int = 0) -> None:
        self.saver, self.whole_at = saver, whole_at
        self.configs: list[RunnableConfig] = [HERE]
        self.versions: dict[str, Any] = {}

    def add(
        self, *, run: str = "run", at: RunnableConfig | None = None, saver: Saver | None = None
    ) -> RunnableConfig:
        """Write a line at a checkpoint, the newest by default, and put the checkpoint behind it."""
        saver, at = saver or self.saver, at or self.configs[-1]
        number = len(self.configs)
        if "checkpoint_id" in at["configurable"]:
            saver.put_writes(at, [("log", [f"line {number}"])], f"task {number}")
        self.versions["log"] = saver.get_next_version(self.versions.get("log"), None)
        is_whole = number == self.whole_at
        checkpoint: Checkpoint = generate_checkpoint(
            channel_values={"log": ["whole"]} if is_whole else {},
            channel_versions={**self.versions},
        )
        counters = {} if is_whole else {"log": [1, 1]}
        metadata = {**generate_metadata(run_id=run), "counters_since_delta_snapshot": counters}
        new = {**self.versions} if is_whole else {}
        config = saver.put(at, checkpoint, cast("CheckpointMetadata", metadata), new)
        self.configs.append(config)
        return config

    def read(self, config: RunnableConfig | None = None) -> list[str]:
        """What the channel is made of at a checkpoint, the newest by default."""
        at = config or self.configs[-1]
        history = self.saver.get_delta_channel_history(config=at, channels=["log"])["log"]
        writes = [line for _, _, lines in history["writes"] for line in lines]
        return [*history.get("seed", []), *writes]
