"""What generated tests draw from, the model they compare savers with, and how both are written to.

`HYPOTHESIS_EFFORT=50 pytest tests/test_model.py` tries 50 times as many examples as usual.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, cast

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
)
from langgraph.checkpoint.memory import InMemorySaver

from langgraph_checkpoint_redis import RedisSaver
from langgraph_checkpoint_redis._protocol.requests import Call, Request

from .driving import Saver

EFFORT = int(os.environ.get("HYPOTHESIS_EFFORT", "1"))


def effort(examples: int, *, steps: int = 1) -> settings:
    """So many examples, of so many steps; more examples where more effort is asked for."""
    return settings(
        max_examples=examples * EFFORT,
        stateful_step_count=steps,
        deadline=None,
        print_blob=True,
        suppress_health_check=[
            HealthCheck.too_slow,
            HealthCheck.data_too_large,
            HealthCheck.function_scoped_fixture,  # examples clean up, or are of one thread only
        ],
    )


# Names: of threads, namespaces, checkpoints, tasks, channels and runs.

_AWKWARD = [
    *("a", "A", "ab", "a b", " ", "a:b", "a|b:c", "0", "-1", "messages", "timeline", "x" * 3000),
    *("a*", "a?", "[a]", "\\", "{a}", "}{", "%", "%7B", "%00", "é", "e\u0301", "\u212b", "ß"),
    *("\x01", "a\x01", "a\x02", "\x7f", "\r\n", "\ud7ff", "\uffff", "\U0001f600", "\U0010ffff"),
]

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
names = st.sampled_from(_AWKWARD) | texts.filter(bool)
namespaces = st.sampled_from(["", "agent", "agent:1", "agent:2|tool:3", "Agent"]) | names
channels = st.sampled_from(["messages", "__start__", "branch:to:é", "a", "A", "{a}%", "\x01"])
RUNS = ["run", "Run", "run:{é}%"]


def several(items: st.SearchStrategy[str], most: int) -> st.SearchStrategy[list[str]]:
    return st.lists(items, min_size=1, max_size=most, unique=True)


# Values of channels, and what a step does to them.


def message(number: int, size: int = 300) -> HumanMessage | AIMessage:
    """A message of about `size` bytes, the same one whenever its number is the same."""
    kind = HumanMessage if number % 2 else AIMessage
    return kind(f"{number} " * (size // len(f"{number} ")), id=str(number))


_scalars: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False),
    texts,
    st.binary(max_size=8),
)
nested = st.recursive(
    _scalars, lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=8
)
messages = st.builds(message, st.integers(0, 99), st.integers(1, 2000))
long: st.SearchStrategy[Any] = st.one_of(
    st.integers(0, 60).map(lambda count: [message(number) for number in range(count)]),
    st.integers(0, 300).map(lambda count: {str(i): [f"text {i}"] * 9 for i in range(count)}),
    st.integers(0, 3000).map(lambda count: list(range(count))),
    st.integers(0, 20_000).map(bytes),
    st.integers(0, 20_000).map(lambda size: "é" * size),
)
values: st.SearchStrategy[Any] = nested | long


class Edit(NamedTuple):
    """What a step does to the list in a channel; where there is none, it begins one."""

    kind: str
    where: int
    item: Any

    def __call__(self, old: Any) -> list[Any]:
        items = old if isinstance(old, list) else []
        at = self.where % (len(items) + 1)
        before, after = items[:at], items[at:]
        return {
            "append": [*items, self.item],
            "insert": [*before, self.item, *after],
            "replace": [*before, self.item, *after[1:]],
            "remove": [*before, *after[1:]],
            "truncate": before,
        }[self.kind]


CONSUMED = "consumed"  # the channel gets a version but no value: what it held was used up

_edits = st.builds(
    Edit,
    st.sampled_from(["append", "insert", "replace", "remove", "truncate"]),
    st.integers(0, 99),
    messages,
)
_changes = [values, _edits, st.just(CONSUMED)]  # each as often as the others
changes = st.dictionaries(
    channels, st.sampled_from(_changes).flatmap(lambda kind: kind), max_size=4
)
writes = st.lists(
    st.tuples(channels | st.sampled_from(sorted(WRITES_IDX_MAP)), values | messages), max_size=4
)
paths = st.sampled_from(["", "a", "~__pregel_pull, node", "~__pregel_push, 0, é"])
METADATA: dict[str, st.SearchStrategy[Any]] = {
    "source": st.sampled_from(["input", "loop", "update", "fork"]),
    "step": st.integers(-1, 2),
    "writes": st.none() | st.just({"node": {"messages": ["a", None]}}),
    "tags": st.sampled_from([[], ["a", ["b", {"c": None}]], {"a": {"b": [1, 2.5]}}]),
    "user é%": st.sampled_from(["a", "A", ""]),
    "run_id": st.sampled_from(RUNS),
}
metadatas: st.SearchStrategy[Any] = st.fixed_dictionaries({}, optional=METADATA)


# Versions of channels: LangGraph's own, and those of savers that count in another way.
kinds_of_versions: list[st.SearchStrategy[Any]] = [
    st.integers(0, 2**64 - 1),
    st.floats(0),
    st.builds("{:032}.{:016}".format, st.integers(0, 10**6) | st.integers(), st.floats()),
    st.builds("{:032}.{:016}".format, st.integers(-(2**66), 2**66), st.floats()),
    st.builds("{:032}.{}".format, st.integers(0, 2**63), texts),
    st.integers(0, 2**70).map(str),
    names,
]
versions = st.one_of(kinds_of_versions)


def next_checkpoint(
    saver: Saver, parent: Checkpoint | None, checkpoint_id: str, changed: Mapping[str, Any]
) -> tuple[Checkpoint, ChannelVersions]:
    """What a graph would put when a step made these changes, and the versions that are new."""
    values = {**parent["channel_values"]} if parent else {}
    versions: dict[str, Any] = {**parent["channel_versions"]} if parent else {}
    seen = {**parent["versions_seen"], "node": {**versions}} if parent else {}
    version = saver.get_next_version(max(versions.values(), default=None), None)
    for channel, change in changed.items():
        versions[channel] = version
        if change == CONSUMED:
            values.pop(channel, None)
        else:
            values[channel] = change(values.get(channel)) if isinstance(change, Edit) else change
    checkpoint: Checkpoint = {
        "v": 4,
        "id": checkpoint_id,
        "ts": "2026-01-01T00:00:00+00:00",
        "channel_values": values,
        "channel_versions": versions,
        "versions_seen": seen,
        "updated_channels": sorted(changed) or None,
    }
    return checkpoint, dict.fromkeys(changed, version)


# The model.


def config(
    thread_id: str, namespace: str | None = None, checkpoint_id: str | None = None
) -> RunnableConfig:
    parts = {"thread_id": thread_id, "checkpoint_ns": namespace, "checkpoint_id": checkpoint_id}
    return {"configurable": {name: part for name, part in parts.items() if part is not None}}


def exact(value: Any) -> Any:
    """`value` so that `==` also compares types, as in `1 != True`."""
    if isinstance(value, dict):
        return {key: exact(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value), [exact(item) for item in value]
    return type(value), value


class Model(InMemorySaver):
    """`InMemorySaver` with what it lacks, listing in the order of LangGraph's persistent savers.

    Where `prune` keeps a checkpoint only because a newer one is rebuilt from it, listings end.
    """

    def __init__(self) -> None:
        super().__init__()
        self.cut_off: set[tuple[str, str, str]] = set()

    def ids(self, thread_id: str, namespace: str) -> Sequence[str]:
        return sorted(self.storage[thread_id][namespace])

    def parent_id(self, thread_id: str, namespace: str, checkpoint_id: str) -> str | None:
        stored = self.storage[thread_id][namespace].get(checkpoint_id)
        return stored[2] if stored else None

    def lineage(self, thread_id: str, namespace: str, checkpoint_id: str | None) -> Sequence[str]:
        """A checkpoint and its ancestors; the last may be one that does not exist."""
        found = []
        while checkpoint_id is not None:
            found.append(checkpoint_id)
            checkpoint_id = self.parent_id(thread_id, namespace, checkpoint_id)
        return found

    def is_empty(self, thread_id: str) -> bool:
        has_writes = any(place[0] == thread_id for place in self.writes)
        return not has_writes and not any(self.storage[thread_id].values())

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        found = super().get_tuple(config)
        return found and self._complete(config["configurable"], found)

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        if before and "configurable" not in before:
            before = cast("RunnableConfig", {"configurable": before})
        found = [
            self._complete(tuple_.config["configurable"], tuple_)
            for tuple_ in super().list(config, filter=filter, before=before)
        ]
        found = [tuple_ for tuple_ in found if self._is_listed(tuple_)]
        found.sort(key=lambda tuple_: str(tuple_.config["configurable"]["checkpoint_ns"]))
        found.sort(key=lambda tuple_: tuple_.checkpoint["id"], reverse=True)
        yield from found[: None if limit is None else max(limit, 0)]

    def _is_listed(self, found: CheckpointTuple) -> bool:
        thread_id, namespace, checkpoint_id = place_of(found)
        *others, latest = self.ids(thread_id, namespace)
        cut_off = [each for each in others if (thread_id, namespace, each) in self.cut_off]
        return checkpoint_id == latest or checkpoint_id > max(cut_off, default="")

    def all_of(self, thread_id: str) -> Iterator[CheckpointTuple]:
        """The checkpoints of a thread, with those that are in no listing."""
        for namespace in list(self.storage[thread_id]):
            for checkpoint_id in self.ids(thread_id, namespace):
                found = self.get_tuple(config(thread_id, namespace, checkpoint_id))
                assert found
                yield found

    def _complete(self, place: Mapping[str, Any], found: CheckpointTuple) -> CheckpointTuple:
        """With its whole config, and without a parent that does not exist."""
        thread_id, namespace = place["thread_id"], place.get("checkpoint_ns", "")
        parent = self.parent_id(thread_id, namespace, found.checkpoint["id"])
        exists = parent in self.storage[thread_id][namespace]
        return found._replace(
            config=config(thread_id, namespace, found.checkpoint["id"]),
            parent_config=found.parent_config if exists else None,
        )

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        source, target = source_thread_id, target_thread_id
        for namespace, stored in self.storage[source].items():
            for checkpoint_id, (checkpoint, metadata, parent_id) in stored.items():
                copied = self.serde.loads_typed(metadata)
                if copied.get("thread_id") == source:
                    copied["thread_id"] = target
                row = (checkpoint, self.serde.dumps_typed(copied), parent_id)
                self.storage[target][namespace][checkpoint_id] = row
                if (source, namespace, checkpoint_id) in self.cut_off:
                    self.cut_off.add((target, namespace, checkpoint_id))
        for thread_id, namespace, checkpoint_id in list(self.writes):
            if thread_id == source:
                found = self.writes[source, namespace, checkpoint_id]
                self.writes[target, namespace, checkpoint_id] = {**found}
        for thread_id, namespace, channel, version in list(self.blobs):
            if thread_id == source:
                blob = self.blobs[source, namespace, channel, version]
                self.blobs[target, namespace, channel, version] = blob

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        for thread_id in list(self.storage):
            found = self.all_of(thread_id)
            self._drop(place_of(each) for each in found if run_of(each) in run_ids)

    def delete_thread(self, thread_id: str) -> None:
        super().delete_thread(thread_id)
        self.cut_off = {place for place in self.cut_off if place[0] != thread_id}

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        for thread_id in thread_ids:
            if strategy == "delete":
                self.delete_thread(thread_id)
            needed = {
                (thread_id, namespace, checkpoint_id)
                for namespace in list(self.storage[thread_id])
                for checkpoint_id in self._needed(thread_id, namespace)
            }
            self._drop({place_of(found) for found in self.all_of(thread_id)} - needed)
            self.cut_off |= {place for place in needed if place[2] != self.ids(*place[:2])[-1]}

    def _needed(self, thread_id: str, namespace: str) -> Iterator[str]:
        """The latest checkpoint, and its ancestors back to where its delta channels have values."""
        latest = self.get_tuple(config(thread_id, namespace))
        if latest is None or self._is_of_past_call(thread_id, namespace, latest):
            return
        searched = set(delta_channels(latest))
        for checkpoint_id in self.lineage(thread_id, namespace, latest.checkpoint["id"]):
            if found := self.get_tuple(config(thread_id, namespace, checkpoint_id)):
                yield checkpoint_id
                searched -= found.checkpoint["channel_values"].keys()
            if not searched:
                return

    def _is_of_past_call(self, thread_id: str, namespace: str, latest: CheckpointTuple) -> bool:
        """Whether a call of a subgraph made this namespace, and the root has gone on since."""
        root = latest.metadata.get("parents", {}).get("")
        roots = self.ids(thread_id, "")
        return bool(":" in namespace and root and roots and root < roots[-1])

    def _drop(self, places: Iterable[tuple[str, str, str]]) -> None:
        for thread_id, namespace, checkpoint_id in list(places):
            del self.storage[thread_id][namespace][checkpoint_id]
            self.writes.pop((thread_id, namespace, checkpoint_id), None)
            self.cut_off.discard((thread_id, namespace, checkpoint_id))


def place_of(found: CheckpointTuple) -> tuple[str, str, str]:
    at = found.config["configurable"]
    return at["thread_id"], at["checkpoint_ns"], at["checkpoint_id"]


def run_of(found: CheckpointTuple) -> str | None:
    return found.metadata.get("run_id")


def rebuilt_channels(found: CheckpointTuple) -> set[str]:
    return {*delta_channels(found)} - {*found.checkpoint["channel_values"]}


def delta_channels(found: CheckpointTuple) -> list[str]:
    """Channels that were written since their value was stored."""
    counted = found.metadata.get("counters_since_delta_snapshot", ())
    return [channel for channel in counted if channel in found.checkpoint["channel_versions"]]


# The machine. A pick is taken modulo the number of things to pick from.

picks = st.integers(0, 9)
places = st.tuples(picks, picks)
times = st.sampled_from([1, 2])


class Step(NamedTuple):
    """What a graph does next, in some thread and namespace."""

    pick: int
    parent: int | None
    root: int | None
    changed: dict[str, Any]
    metadata: dict[str, Any]
    names_thread: bool
    has_delta_channels: bool


steps = st.builds(
    Step,
    pick=picks,
    parent=picks | st.none(),
    root=picks | st.none(),
    changed=changes,
    metadata=metadatas,
    names_thread=st.booleans(),
    has_delta_channels=st.booleans(),
)


class Task(NamedTuple):
    """What a task writes."""

    pick: int
    path: str
    writes: list[tuple[str, Any]]


tasks = st.builds(Task, picks, paths, writes)


class Put(NamedTuple):
    """The arguments of a put."""

    config: RunnableConfig
    checkpoint: Checkpoint
    metadata: CheckpointMetadata
    new_versions: ChannelVersions

    @property
    def thread_id(self) -> str:
        return str(self.config["configurable"]["thread_id"])


class Threads(RuleBasedStateMachine):
    """Writes to savers what it writes to the model; subclasses compare them.

    All savers share their threads, and any of them may be the one that writes. Each write is done
    once or twice, which must be the same.
    """

    def __init__(self, *savers: Saver) -> None:
        super().__init__()
        self.savers = savers
        self.model = Model()
        self.puts: list[Put] = []

    @initialize(
        thread_ids=several(names, 2),
        namespaces=several(namespaces, 2),
        ids=several(names, 5),
        task_ids=several(names, 2),
    )
    def begin(
        self, thread_ids: list[str], namespaces: list[str], ids: list[str], task_ids: list[str]
    ) -> None:
        self.thread_ids, self.namespaces = thread_ids, [*dict.fromkeys(["", *namespaces])]
        self.ids, self.task_ids = ids, task_ids

    def teardown(self) -> None:
        for thread_id in getattr(self, "thread_ids", ()):
            self.savers[0].delete_thread(thread_id)

    def saver(self, pick: int) -> Saver:
        return self.savers[pick % len(self.savers)]

    def thread_id(self, pick: int) -> str:
        return self.thread_ids[pick % len(self.thread_ids)]

    def place(self, picked: tuple[int, int]) -> tuple[str, str]:
        return self.thread_id(picked[0]), self.namespaces[picked[1] % len(self.namespaces)]

    def checkpoint_id(self, pick: int) -> str:
        return self.ids[pick % len(self.ids)]

    def write(self, by: int, times: int, method: str, *args: Any, **options: Any) -> None:
        for _ in range(times):
            getattr(self.saver(by), method)(*args, **options)
        getattr(self.model, method)(*args, **options)

    @rule(by=picks, times=times, picked=places, step=steps)
    def go_on(self, by: int, times: int, picked: tuple[int, int], step: Step) -> None:
        """A step ends: its checkpoint follows another, or none, or replaces one of the same id."""
        at, checkpoint_id = self.place(picked), self.checkpoint_id(step.pick)
        parent_id = self._parent_id(*at, checkpoint_id, step.parent)
        parent = parent_id and self.model.get_tuple(config(*at, parent_id))
        checkpoint, new_versions = next_checkpoint(
            self.saver(by), parent.checkpoint if parent else None, checkpoint_id, step.changed
        )
        metadata = self._metadata(*at, step, checkpoint)
        self._put(by, times, Put(config(*at, parent_id), checkpoint, metadata, new_versions))

    def _parent_id(
        self, thread_id: str, namespace: str, checkpoint_id: str, pick: int | None
    ) -> str | None:
        there = self.model.ids(thread_id, namespace)
        if checkpoint_id in there:
            return self.model.parent_id(thread_id, namespace, checkpoint_id)
        if pick is None:
            return None
        return there[pick % len(there)] if there and pick else self.checkpoint_id(pick)

    def _metadata(
        self, thread_id: str, namespace: str, step: Step, checkpoint: Checkpoint
    ) -> CheckpointMetadata:
        metadata = {**step.metadata}
        if replaced := self.model.get_tuple(config(thread_id, namespace, checkpoint["id"])):
            metadata["run_id"] = run_of(replaced)
        if step.names_thread:
            metadata["thread_id"] = thread_id
        if step.root is not None and namespace:
            metadata["parents"] = {"": self.checkpoint_id(step.root)}
        if step.has_delta_channels:
            versions, values = checkpoint["channel_versions"], checkpoint["channel_values"]
            counters = {channel: [1, 1] for channel in versions if channel not in values}
            metadata["counters_since_delta_snapshot"] = counters
        return cast("CheckpointMetadata", metadata)

    @precondition(lambda self: self.puts)
    @rule(by=picks, times=times, pick=picks)
    def put_again(self, by: int, times: int, pick: int) -> None:
        """The put of a step that ended some time ago is repeated, as its answer was lost."""
        self._put(by, times, self.puts[pick % len(self.puts)])

    def _put(self, by: int, times: int, put: Put) -> None:
        if self._is_possible(put):
            self.write(by, times, "put", *put)
            self.puts.append(put)

    def _is_possible(self, put: Put) -> bool:
        """Whether a put makes no loop of ancestors, and leaves a checkpoint to its run.

        One with delta channels needs its ancestors; it is refused where they are gone.
        """
        at, checkpoint_id = put.config["configurable"], put.checkpoint["id"]
        place = put.thread_id, at["checkpoint_ns"]
        replaced = self.model.get_tuple(config(*place, checkpoint_id))
        ancestors = self.model.lineage(*place, at.get("checkpoint_id"))
        if counters := put.metadata.get("counters_since_delta_snapshot"):
            rebuilt = {*counters} - {*put.checkpoint["channel_values"]}
            is_new = replaced is None or not (
                rebuilt <= rebuilt_channels(replaced)
                and at.get("checkpoint_id") == self.model.parent_id(*place, checkpoint_id)
            )
            if is_new and not {*ancestors} <= {*self.model.ids(*place)}:
                return False
            if checkpoint_id < max(ancestors, default=""):
                return False  # moves put the oldest first
        return checkpoint_id not in ancestors and (
            replaced is None or run_of(replaced) == put.metadata.get("run_id")
        )

    @rule(by=picks, times=times, picked=places, pick=picks, task=tasks)
    def put_writes(
        self, by: int, times: int, picked: tuple[int, int], pick: int, task: Task
    ) -> None:
        """A task ends, is repeated or interrupted; its checkpoint may be yet to come."""
        at = config(*self.place(picked), self.checkpoint_id(pick))
        task_id = self.task_ids[task.pick % len(self.task_ids)]
        self.write(by, times, "put_writes", at, task.writes, task_id, task.path)

    @rule(by=picks, times=times, pick=picks)
    def delete_thread(self, by: int, times: int, pick: int) -> None:
        """A thread is deleted."""
        thread_id = self.thread_id(pick)
        self.write(by, times, "delete_thread", thread_id)
        self.forget_puts(thread_id)

    def forget_puts(self, thread_id: str) -> None:
        """What is deleted is not put again: `InMemorySaver` would lack the unchanged values."""
        self.puts = [put for put in self.puts if put.thread_id != thread_id]


class RepeatingSaver(RedisSaver):
    """Sends each script twice, as clients do whose first answer is lost with the connection."""

    def _reply(self, request: Request) -> Any:
        if isinstance(request, Call):
            super()._reply(request)
        return super()._reply(request)


def run(machine: Callable[[], Threads], *, examples: int, steps: int) -> None:
    """Run a machine in a test that has made savers for it."""
    made = cast("type[Threads]", machine)  # Hypothesis only calls it
    run_state_machine_as_test(made, settings=effort(examples, steps=steps))
