"""Drawn acts of one saver on thread `a`, and a journal of what must be read afterwards.

What belongs here: the acts, how Hypothesis draws them, and the journal that checks them.
"""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import ChannelVersions, Checkpoint, PendingWrite
from langgraph.checkpoint.conformance.test_utils import (
    generate_checkpoint,
    generate_config,
    generate_metadata,
)

from langgraph_checkpoint_redis import RedisSaver

Place = tuple[str, str]  # namespace and id of a checkpoint
HERE: RunnableConfig = {"configurable": {"thread_id": "a"}}
KEPT, DROPPED = "kept", "dropped"  # runs

whatever_happens = settings(
    deadline=None, max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@dataclass(frozen=True)
class Act:
    """A put, a write or a read, at one of the newest checkpoints of a namespace or at none."""

    kind: str
    namespace: str
    back: int
    channel: str
    run: str
    texts: str

    @property
    def value(self) -> list[str]:
        """Texts that each are a piece of their own, the same in many checkpoints."""
        return [letter * 600 for letter in self.texts]


Acts = list[Act]
acts = st.builds(
    Act,
    st.sampled_from(["put", "put", "write", "read"]),
    st.sampled_from(["", "child"]),
    st.integers(0, 3),
    st.sampled_from("cd"),
    st.sampled_from([KEPT, DROPPED]),
    st.text("uvwxyz", min_size=1, max_size=8),
)
some_acts = st.lists(acts, max_size=2)
many_acts = st.lists(acts, min_size=6, max_size=12)


class Journal:
    """What one saver did to thread `a`, and so how the checkpoints there must read."""

    def __init__(self, saver: RedisSaver) -> None:
        self.saver = saver
        self.checkpoints: dict[Place, Checkpoint] = {}
        self.writes: dict[Place, list[PendingWrite]] = {}
        self.runs: dict[Place, str] = {}

    def do(self, acts: Acts) -> None:
        for act in acts:
            {"put": self.put, "write": self.write, "read": self.read}[act.kind](act)

    def put(self, act: Act) -> None:
        """Put a checkpoint that differs from its parent, if it has one, in one channel."""
        parent = self._place(act)
        old = self.checkpoints.get(parent, generate_checkpoint())
        new: ChannelVersions = {act.channel: self.saver.get_next_version(None, None)}
        checkpoint = generate_checkpoint(
            channel_values={**old["channel_values"], act.channel: act.value},
            channel_versions={**old["channel_versions"], **new},
        )
        self.saver.put(_config(parent), checkpoint, generate_metadata(run_id=act.run), new)
        place = act.namespace, checkpoint["id"]
        self.checkpoints[place], self.writes[place], self.runs[place] = checkpoint, [], act.run

    def write(self, act: Act) -> None:
        """Write to a checkpoint, if there is one that is not removed yet."""
        at = self._place(act)
        if at in self.checkpoints and self.saver.get_tuple(_config(at)):
            task_id = f"{len(self.writes[at]):06}"
            self.saver.put_writes(_config(at), [(act.channel, act.value)], task_id)
            self.writes[at].append((task_id, act.channel, act.value))

    def read(self, act: Act) -> None:
        self.saver.get_tuple(_config(self._place(act)))

    def found(self) -> set[Place]:
        """What is there, after making sure that it reads as it must, by a saver that is new."""
        places = set()
        fresh = RedisSaver(
            self.saver._connections.link.client, prefix=self.saver._shared.keyspace.prefix
        )
        for found in fresh.list(HERE):
            configurable = found.config["configurable"]
            place = configurable["checkpoint_ns"], configurable["checkpoint_id"]
            assert found.checkpoint == self.checkpoints[place]
            assert found.pending_writes == self.writes[place]
            places.add(place)
        return places

    def must_stay(self, *removals: str) -> set[Place]:
        """What these removals together may not touch."""
        newest = dict(sorted(self.checkpoints))  # a namespace's last id wins
        return {
            (namespace, id_)
            for (namespace, id_), run in self.runs.items()
            if ("prune" not in removals or id_ == newest[namespace])
            and ("delete_runs" not in removals or run == KEPT)
        }

    def _place(self, act: Act) -> Place:
        """The place that an act is at; one without an id for none."""
        places = [place for place in self.checkpoints if place[0] == act.namespace]
        return places[-1 - act.back] if act.back < len(places) else (act.namespace, "")


def _config(place: Place) -> RunnableConfig:
    return generate_config("a", checkpoint_ns=place[0], checkpoint_id=place[1])
