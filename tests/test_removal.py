"""What remains when parts of threads are removed, or are lost: all that is needed, nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import rule
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointMetadata, CheckpointTuple
from redis import Redis

from langgraph_checkpoint_redis import CorruptThreadError, RedisSaver
from langgraph_checkpoint_redis._storage.compression import decompress_chunk
from langgraph_checkpoint_redis._storage.keys import Keyspace
from langgraph_checkpoint_redis._storage.records import parse_checkpoint_row, parse_writes_row
from langgraph_checkpoint_redis._storage.values import Entry

from .driving import Saver
from .run_index import threads_of
from .stored import chunks_at
from .strategies import (
    RUNS,
    Model,
    RepeatingSaver,
    Threads,
    config,
    delta_channels,
    exact,
    message,
    next_checkpoint,
    picks,
    run,
    run_of,
    times,
)


class Raw:
    """What is stored, read without a saver."""

    def __init__(self, client: Redis, prefix: str) -> None:
        self.client = client
        self.keyspace = Keyspace(prefix)
        self.prefix = prefix

    def keys(self) -> list[bytes]:
        return [*self.client.scan_iter(match=f"{self.prefix}:*", count=1000)]

    def chunks(self, thread_id: str) -> dict[bytes, bytes]:
        return chunks_at(self.client, self.keyspace.thread(thread_id).chunks)

    def lose_chunks(self, thread_id: str) -> None:
        assert self.client.delete(self.keyspace.thread(thread_id).chunks)

    def threads_of(self, run_id: str) -> set[str]:
        return threads_of(self.client, self.prefix, run_id)

    def _rows(self, key: bytes) -> list[bytes]:
        return cast("list[bytes]", self.client.zrange(key, 0, -1))

    def _entries(self, thread_id: str) -> Iterator[Entry]:
        timeline, writes, *_ = self.keyspace.thread(thread_id)
        for row in self._rows(timeline):
            yield from (entry for _, entry in parse_checkpoint_row(row).entries())
        for row in self._rows(writes):
            yield from (write.entry for write in parse_writes_row(row))

    def places_of_writes(self, thread_id: str) -> set[tuple[str, str]]:
        """The namespaces and ids of the checkpoints that there are writes for."""
        rows = self._rows(self.keyspace.thread(thread_id).writes)
        found = (row.decode(errors="replace").split("\0", 2) for row in rows)
        return {(namespace, checkpoint_id) for namespace, checkpoint_id, _ in found}

    def referenced(self, thread_id: str) -> set[bytes]:
        """The digests of all chunks that checkpoints and writes of a thread are made of."""
        chunks = self.chunks(thread_id)
        return {
            digest
            for entry in self._entries(thread_id)
            for level, digests in enumerate(entry.levels)
            for digest in _closure(chunks, level, digests)
        }


def _closure(chunks: Mapping[bytes, bytes], level: int, digests: bytes) -> Iterator[bytes]:
    for start in range(0, len(digests), 16):
        digest = digests[start : start + 16]
        yield digest
        if level:
            yield from _closure(chunks, level - 1, decompress_chunk(chunks[digest]))


class Removals(Threads):
    """Removes from savers what it removes from the model, and looks at what remains."""

    def __init__(self, raw: Raw, *savers: Saver) -> None:
        super().__init__(*savers)
        self.raw = raw

    @rule(by=picks, times=times, pick=picks)
    def prune(self, by: int, times: int, pick: int) -> None:
        thread_id = self.thread_id(pick)
        before = self._histories(self.model, thread_id)
        self.write(by, times, "prune", [thread_id])
        after = self._histories(self.saver(by), thread_id)
        assert after == {namespace: before[namespace] for namespace in after}
        self.check(thread_id)

    def _histories(self, reader: Saver | Model, thread_id: str) -> dict[str, Any]:
        """What the delta channels of the latest checkpoints are rebuilt from."""
        histories = {}
        for namespace in self.namespaces:
            at = config(thread_id, namespace)
            if latest := self.model.get_tuple(at):
                values = latest.checkpoint["channel_values"]
                rebuilt = [channel for channel in delta_channels(latest) if channel not in values]
                history = reader.get_delta_channel_history(config=at, channels=rebuilt)
                histories[namespace] = exact(dict(history))
        return histories

    @rule(by=picks, times=times, some=st.lists(st.sampled_from(RUNS), max_size=2))
    def delete_for_runs(self, by: int, times: int, some: list[str]) -> None:
        touched = [each for each in self.thread_ids if any(self._has(each, run) for run in some)]
        if any(self._is_needed(found, some) for each in touched for found in self._all_of(each)):
            return  # it is refused
        self.write(by, times, "delete_for_runs", some)
        for thread_id in touched:
            self.check(thread_id)

    def _all_of(self, thread_id: str) -> list[CheckpointTuple]:
        return [*self.model.all_of(thread_id)]

    def _is_needed(self, found: CheckpointTuple, runs: list[str]) -> bool:
        """Whether a checkpoint that stays may be rebuilt from one of these runs."""
        values = found.checkpoint["channel_values"]
        delta = found.metadata.get("counters_since_delta_snapshot") or {}
        if found.parent_config is None or run_of(found) in runs or {*delta} <= {*values}:
            return False
        parent = self.model.get_tuple(found.parent_config)
        return parent is not None and run_of(parent) in runs

    def check(self, thread_id: str) -> None:
        """A swept thread has all that it should have, and nothing that it has no need of."""
        assert self.raw.referenced(thread_id) == self.raw.chunks(thread_id).keys()
        with_writes = {place[1:] for place in self.model.writes if place[0] == thread_id}
        assert self.raw.places_of_writes(thread_id) == with_writes
        self.check_readable(thread_id)

    def check_readable(self, thread_id: str) -> None:
        at = config(thread_id)
        expected = exact([*self.model.list(at)])
        for saver in self.savers:
            assert exact([*saver.list(at)]) == expected

    def check_runs(self) -> None:
        """The index of runs leads to the threads that have checkpoints of a run, to no others."""
        found = {run: self.raw.threads_of(run) for run in RUNS}
        expected = {run: {each for each in self.thread_ids if self._has(each, run)} for run in RUNS}
        assert found == expected

    def _has(self, thread_id: str, run: str) -> bool:
        return any(run_of(found) == run for found in self.model.all_of(thread_id))

    def teardown(self) -> None:
        try:
            self._check_all()
        finally:
            super().teardown()
        assert not self.raw.keys()

    def _check_all(self) -> None:
        thread_ids = getattr(self, "thread_ids", ())
        if thread_ids:
            self.check_runs()
        for thread_id in thread_ids:
            self.check_readable(thread_id)
            assert self.raw.referenced(thread_id) <= self.raw.chunks(thread_id).keys()


@pytest.fixture
def raw(client: Redis, prefix: str) -> Raw:
    return Raw(client, prefix)


@pytest.fixture
def other(server: str, prefix: str) -> Iterator[RedisSaver]:
    """The saver of another process: it knows nothing of what this one has done."""
    with RedisSaver.from_conn_string(server, prefix=prefix) as saver:
        yield saver


def test_what_remains_is_all_that_is_needed_and_nothing_else(
    saver: Saver, other: RedisSaver, raw: Raw
) -> None:
    """Removing something would damage what is kept, or free no memory."""
    run(lambda: Removals(raw, saver, other), examples=40, steps=25)


def test_a_removal_that_runs_twice_is_as_good_as_one(raw: Raw, server: str) -> None:
    """A connection lost while something is removed would leave parts of it for ever."""
    with RepeatingSaver.from_conn_string(server, prefix=raw.prefix) as saver:
        run(lambda: Removals(raw, saver), examples=20, steps=25)


# Single threads, step by step.

MESSAGES = [message(number) for number in range(60)]
NOTES = "a long text " * 100


def go_on(
    saver: Saver, at: RunnableConfig, checkpoint_id: str, changed: dict[str, Any]
) -> RunnableConfig:
    """Put the checkpoint that follows the one that is read at a config."""
    parent = saver.get_tuple(at)
    checkpoint, new_versions = next_checkpoint(
        saver, parent and parent.checkpoint, checkpoint_id, changed
    )
    return saver.put(at, checkpoint, {"run_id": "run"}, new_versions)


def values_at(saver: Saver, at: RunnableConfig) -> dict[str, Any]:
    found = saver.get_tuple(at)
    assert found
    return found.checkpoint["channel_values"]


CHANGES: dict[str, dict[str, Any]] = {
    "what shares chunks with it": {"messages": [*MESSAGES, message(60)], "notes": "short"},
    "something else": {"notes": "short"},
    "something as long": {"notes": NOTES[::-1]},
}


@pytest.mark.parametrize("changed", CHANGES.values(), ids=CHANGES)
def test_a_put_after_chunks_were_lost_is_complete(
    saver: Saver, other: RedisSaver, raw: Raw, changed: dict[str, Any]
) -> None:
    """All checkpoints from then on would be damaged, and nobody would know."""
    begin = {"messages": MESSAGES, "notes": NOTES}
    first = go_on(saver, config("thread", "ns"), "1", begin)
    saver.put_writes(first, [("notes", "short")], "task")
    raw.lose_chunks("thread")
    second = go_on(saver, first, "2", changed)
    assert values_at(other, second) == {**begin, **changed}
    assert values_at(saver, second) == {**begin, **changed}


def test_a_checkpoint_whose_chunks_were_lost_is_named(
    saver: Saver, other: RedisSaver, raw: Raw
) -> None:
    """Damage would read as another state, or nobody could tell which thread to repair."""
    at = go_on(saver, config("thread", "ns"), "1", {"messages": MESSAGES})
    saver.put_writes(at, [("notes", "short")], "task")
    raw.lose_chunks("thread")
    with pytest.raises(CorruptThreadError) as raised:
        other.get_tuple(at)
    error, key = raised.value, raw.keyspace.thread("thread").chunks.decode()
    assert (error.thread_id, error.namespace, error.checkpoint_id) == ("thread", "ns", "1")
    assert error.key == key
    assert all(repr(part) in str(error) for part in ("thread", "ns", "1", key))


def test_writes_after_chunks_were_lost_are_complete(
    saver: Saver, other: RedisSaver, raw: Raw
) -> None:
    """A finished task would be lost when its run is resumed."""
    at = go_on(saver, config("thread", ""), "1", {})
    for task_id in ("first", "second"):
        saver.put_writes(at, [("messages", MESSAGES)], task_id)
        if task_id == "first":
            raw.lose_chunks("thread")
    found = other.get_tuple(at)
    assert found
    assert found.pending_writes == [(task, "messages", MESSAGES) for task in ("first", "second")]


@pytest.mark.parametrize("strategy", ["keep_latest", "delete"])
def test_a_graph_goes_on_when_another_process_removed_what_it_began_with(
    saver: Saver, other: RedisSaver, strategy: str
) -> None:
    """A run would end with an error, or with channels that have lost their values."""
    begin = {"messages": MESSAGES, "notes": NOTES}
    first = go_on(saver, config("thread", ""), "1", begin)
    checkpoint, new_versions = next_checkpoint(
        saver, saver.get(first), "2", {"messages": [*MESSAGES, message(60)]}
    )
    go_on(other, config("thread", ""), "3", {})
    other.prune(["thread"], strategy=strategy)
    second = saver.put(first, checkpoint, {}, new_versions)
    assert values_at(other, second) == {"messages": [*MESSAGES, message(60)], "notes": NOTES}
    found = other.get_tuple(second)
    assert found
    assert found.parent_config is None


def test_writes_whose_checkpoint_is_yet_to_come_survive_pruning(
    saver: Saver, other: RedisSaver, raw: Raw
) -> None:
    """A finished task would run again, with all that it does to the world."""
    at = config("thread", "", "2")
    saver.put_writes(at, [("messages", MESSAGES)], "task")
    go_on(saver, config("thread", ""), "1", {"notes": NOTES})
    other.prune(["thread"])
    go_on(saver, config("thread", ""), "2", {})
    found = other.get_tuple(at)
    assert found
    assert found.pending_writes == [("task", "messages", MESSAGES)]
    other.delete_thread("thread")
    assert not raw.keys()


def test_writes_whose_checkpoint_never_came_are_deleted_with_their_thread(
    saver: Saver, raw: Raw
) -> None:
    """A deleted thread would go on to take memory, or come to life again."""
    saver.put_writes(config("thread", "", "1"), [("messages", MESSAGES)], "task")
    saver.delete_thread("thread")
    assert not raw.keys()


def test_a_parent_that_was_removed_reads_as_none(saver: Saver) -> None:
    """LangGraph would go on from a checkpoint that is not there."""
    first = go_on(saver, config("thread", ""), "1", {"notes": NOTES})
    second = go_on(saver, first, "2", {"notes": "short"})
    assert [found.parent_config for found in saver.list(config("thread"))] == [first, None]
    saver.prune(["thread"])
    found = saver.get_tuple(second)
    assert found
    assert found.parent_config is None


def test_runs_lead_to_copies_of_their_threads(saver: Saver, raw: Raw) -> None:
    """A run that somebody wants deleted would survive in a copy."""
    go_on(saver, config("thread", ""), "1", {"notes": NOTES})
    saver.copy_thread("thread", "copy")
    assert raw.threads_of("run") == {"thread", "copy"}
    saver.delete_for_runs(["run"])
    assert not [*saver.list(None)]
    assert not raw.threads_of("run")


@pytest.mark.parametrize("strategy", ["delete", "delete_all"])
def test_pruning_may_leave_nothing(saver: Saver, raw: Raw, strategy: str) -> None:
    """The Agent Server, which has two words for it, would report what has not taken place."""
    go_on(saver, config("thread", ""), "1", {"notes": NOTES})
    saver.prune(["thread", "never seen"], strategy=strategy)
    assert not raw.keys()


def test_runs_are_deleted_twice_and_where_there_are_none(saver: Saver) -> None:
    """The Agent Server, which asks twice, would report a rollback as failed."""
    put_empty(saver, "1", run_id="kept")
    put_empty(saver, "2", run_id="run")
    for _ in range(2):
        saver.delete_for_runs(["run", "never seen", "run"])
        assert [found.checkpoint["id"] for found in saver.list(None)] == ["1"]


@pytest.mark.parametrize("count", [1, 1000])
def test_a_run_that_goes_on_after_it_was_deleted_is_found_again(
    saver: Saver, other: RedisSaver, raw: Raw, count: int
) -> None:
    """What a user wants deleted would stay, as nothing leads to it."""
    for number in range(count):
        put_empty(saver, f"{number:05}")
    for checkpoint_id in ("begun", "gone on"):
        put_empty(other, checkpoint_id, run_id="run")
        assert raw.threads_of("run") == {"thread"}
        saver.delete_for_runs(["run"])
        assert not saver.get_tuple(config("thread", "", checkpoint_id))
        assert not raw.threads_of("run")


def put_empty(saver: Saver, checkpoint_id: str, **metadata: Any) -> None:
    checkpoint, _ = next_checkpoint(saver, None, checkpoint_id, {})
    saver.put(config("thread", ""), checkpoint, cast("CheckpointMetadata", metadata), {})
