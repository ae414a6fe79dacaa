"""Threads that were moved between savers: complete, compared, and graphs go on with them.

Here are the savers that need no other server; `test_moving_others.py` has the rest.
"""

from __future__ import annotations

import gc
import io
import pickle
import subprocess
import sys
import weakref
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointMetadata, CheckpointTuple
from langgraph.checkpoint.memory import InMemorySaver

from langgraph_checkpoint_redis import (
    AsyncRedisSaver,
    ConfigError,
    DifferentThreadError,
    RedisSaver,
    ThreadNotFoundError,
)
from langgraph_checkpoint_redis.moving import Moved, amigrate, export_threads, migrate, opened

from .driving import DirectDriver
from .graphs import Session, chat, shape, thread
from .moved import (
    STORIES,
    AnySaver,
    Make,
    begin_all,
    contents,
    long_thread,
    make,
    paths,
    peak_of,
    url,
)
from .strategies import Threads, config, next_checkpoint, place_of, run

__all__ = ["long_thread", "make", "url"]  # fixtures

ROOT = Path(__file__).parents[1]
PAIRS = [
    *(("memory", "ours"), ("sqlite", "ours"), ("unknown", "ours"), ("awaited", "ours")),
    *(("ours", "memory"), ("ours", "sqlite"), ("ours", "awaited"), ("ours", "embedded")),
]


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_graphs_go_on_where_their_threads_were_moved_to(
    make: Make, source: str, target: str
) -> None:
    """A conversation, a question, a fork, a failure or a subgraph would not survive the move."""
    before, after = make(source), make(target)
    begin_all(before)
    threads = {name: contents(before, name) for name in STORIES}
    report = migrate(before, after)
    assert report.ok, report.failed
    assert {*report.copied} == {*STORIES}
    assert report.checkpoints == sum(map(len, threads.values()))
    assert {name: contents(after, name) for name in STORIES} == threads
    for name, story in STORIES.items():
        moved, stayed = (story.go_on(story.session(saver, name)) for saver in (after, before))
        assert shape(moved) == shape(stayed), name


@pytest.mark.parametrize("kind", ["memory", "sqlite", "ours", "awaited"])
def test_pending_writes_keep_their_paths_and_indexes(make: Make, kind: str) -> None:
    """Tasks that go on would store their writes twice, or apply them in another order."""
    source, back, between = InMemorySaver(), InMemorySaver(), make(kind)
    begin_all(source)
    assert migrate(source, between).ok
    assert migrate(between, back).ok
    assert paths(back) == paths(source)
    assert any(path for found in paths(source).values() for path in found.values())


def test_the_order_of_writes_is_kept_where_paths_are_not_known(make: Make) -> None:
    """A reducer for which order counts would rebuild another state."""
    source, target = make("unknown"), make("ours")
    checkpoint, versions = next_checkpoint(RedisSaver("redis://"), None, "1", {"a": 1})
    at = source.put(config("t", ""), checkpoint, {}, versions)
    for number, task_id in enumerate(["z", "a", "m"]):
        source.put_writes(at, [("a", 1), ("a", 2)], task_id, f"~__pregel_push, {number:010}")
    assert migrate(source, target).ok
    assert contents(target, "t") == contents(source, "t")
    target.put_writes(at, [("a", 3)], "0", "~__pregel_push, 0000000003")
    found = target.get_tuple(at)
    assert found
    assert [write[0] for write in found.pending_writes or []] == [*"zzaamm0"]


class Moving(Threads):
    """Random threads, which are moved away, and back to another saver."""

    def __init__(self, source: RedisSaver, back: RedisSaver) -> None:
        super().__init__(source)
        self.back = back

    def write(self, by: int, times: int, method: str, *args: Any, **options: Any) -> None:
        if method == "put_writes":  # a task has one path
            at, writes, task_id, _ = args
            args = (at, writes, task_id, f"~path of {task_id}")
        super().write(by, times, method, *args, **options)

    def teardown(self) -> None:
        source, between, back = self.savers[0], InMemorySaver(), self.back
        assert isinstance(source, RedisSaver)
        try:
            for one, other in ((source, between), (between, back)):
                report = migrate(one, other, workers=1)
                assert report.ok, report.failed
            for thread_id in getattr(self, "thread_ids", ()):
                assert contents(back, thread_id) == contents(source, thread_id)
        finally:
            for thread_id in getattr(self, "thread_ids", ()):
                back.delete_thread(thread_id)
            super().teardown()


def test_random_threads_are_the_same_when_they_come_back(url: str) -> None:
    """Something that tests with graphs do not think of would be lost."""
    with (
        RedisSaver.from_conn_string(url, prefix="here") as source,
        RedisSaver.from_conn_string(url, prefix="there") as back,
    ):
        run(lambda: Moving(source, back), examples=15, steps=20)


# Stopped, repeated and in conflict


STOPPED = """
import os, signal, sys
from langgraph_checkpoint_redis.moving import migrate, opened

_, file, url, prefix, name, calls = sys.argv
with opened(file, existing=True) as source, opened(url, prefix=prefix) as target:
    left = int(calls)
    method = getattr(target, name)

    def counted(*args):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return method(*args)

    setattr(target, name, counted)
    migrate(source, target, workers=2)
"""


@pytest.mark.parametrize(("method", "calls"), [("put", 1), ("put", 25), ("put_writes", 12)])
def test_a_move_that_was_killed_is_completed_by_the_next(
    url: str, tmp_path: Path, method: str, calls: int
) -> None:
    """Half a thread would stay, which nobody could complete, or pass for a whole one."""
    file, prefix = f"sqlite:///{tmp_path / 'a.db'}", uuid4().hex
    with opened(file) as source:
        begin_all(source)
    command = [sys.executable, "-c", STOPPED, file, url, prefix, method, str(calls)]
    assert subprocess.run(command, check=False, cwd=ROOT).returncode == -9
    with opened(file) as source, RedisSaver.from_conn_string(url, prefix=prefix) as target:
        there = sum(len([*target.list(thread(name))]) for name in STORIES)
        assert there < sum(len([*source.list(thread(name))]) for name in STORIES)
        assert migrate(source, target).ok
        for name in STORIES:
            assert contents(target, name) == contents(source, name)


def test_what_is_there_is_not_copied_again(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever repeats a move of a million threads would wait as long as the first time."""
    source, target = make("memory"), make("ours")
    begin_all(source)
    migrate(source, target)
    monkeypatch.setattr(target, "put", None)
    monkeypatch.setattr(target, "put_writes", None)
    report = migrate(source, target)
    assert {*report.present} == {*STORIES}
    assert (report.copied, report.failed) == ((), {})


def test_what_came_since_the_last_move_is_copied(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service could not be moved while it runs, with a short last step."""
    source, target = make("memory"), make("ours")
    session = chat_on(source)
    session.say("one")
    migrate(source, target)
    old = {found.checkpoint["id"] for found in source.list(None)}
    session.say("two")
    put = counted_puts(target, monkeypatch)
    assert migrate(source, target).copied == ("a",)
    assert contents(target, "a") == contents(source, "a")
    assert len(put) == len(old) == 3
    assert old.isdisjoint(put)


def chat_on(saver: AnySaver, thread_id: str = "a") -> Session:
    return Session(DirectDriver(saver), chat(), thread_id)


def counted_puts(saver: AnySaver, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of checkpoints that are put from now on."""
    ids: list[str] = []
    original = saver.put

    def put(*args: Any) -> RunnableConfig:
        ids.append(args[1]["id"])
        return original(*args)

    monkeypatch.setattr(saver, "put", put)
    return ids


def test_a_thread_that_is_another_on_the_target_is_left_alone(make: Make) -> None:
    """A conversation would be mixed with another that happens to have its id."""
    source, target = make("memory"), make("ours")
    for thread_id in ("a", "b", "c"):
        chat_on(source, thread_id).say("hello")
    migrate(source, target, thread_ids=["b"])
    chat_on(target, "a").say("somebody else")
    chat_on(target, "b").say("on the target only")
    before = [contents(target, thread_id) for thread_id in ("a", "b")]
    report = migrate(source, target)
    assert not report.ok
    assert report.copied == ("c",)
    assert {*report.failed} == {"a", "b"}
    assert all("on the target" in reason for reason in report.failed.values())
    assert [contents(target, thread_id) for thread_id in ("a", "b")] == before


def test_a_report_has_the_error_of_each_thread(make: Make) -> None:
    """A program would have to know an error by the words of its reason."""
    source, target, seen = make("ours"), make("ours"), list[Moved]()
    for saver, thread_id in ((source, "a"), (target, "a"), (source, "b")):
        chat_on(saver, thread_id).say("hello")
    report = migrate(source, target, thread_ids=["a", "b", "none"], progress=seen.append)
    assert {name: type(error) for name, error in report.errors.items()} == {
        "a": DifferentThreadError,
        "none": ThreadNotFoundError,
    }
    assert {moved.thread_id: moved.error for moved in seen} == {"b": None, **report.errors}
    assert report.errors.keys() == report.failed.keys()


class Heavy:
    """A value that takes much memory."""


class Failing(InMemorySaver):
    """A saver that fails with a value in its hands."""

    def __init__(self) -> None:
        super().__init__()
        self.values: list[weakref.ref[Heavy]] = []
        self.error: Exception = ConnectionError("gone")

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        value = Heavy()
        self.values.append(weakref.ref(value))
        try:
            return super().get_tuple({"configurable": {}, "value": value})  # type: ignore[typeddict-unknown-key]
        except KeyError as error:
            raise self.error from error


def test_a_report_of_failed_threads_keeps_no_values(make: Make) -> None:
    """A move of many threads that fail would take a checkpoint of memory for each."""
    source = Failing()
    for thread_id in ("a", "b"):
        source.storage[thread_id][""]["1"] = (("", b""), ("", b""), None)
    reports = [migrate(source, make("memory")), export_threads(source, io.BytesIO())]
    assert [{*report.errors} for report in reports] == [{"a", "b"}] * 2
    assert all(isinstance(error, ConnectionError) for error in reports[0].errors.values())
    gc.collect()
    assert len(source.values) == 4
    assert [ref() for ref in source.values] == [None] * 4


def test_reports_go_to_other_processes(make: Make) -> None:
    """A program that moves threads in a pool of processes would get none of its reports."""
    source, seen = Failing(), list[Moved]()
    source.error = ConnectionError("gone", lambda: "which pickle cannot take")
    source.storage["a"][""]["1"] = (("", b""), ("", b""), None)
    report = migrate(source, make("memory"), progress=seen.append)
    assert seen[0].error is report.errors["a"] is source.error
    there = pickle.loads(pickle.dumps([report, *seen]))  # noqa: S301 - our own
    assert there == [replace(report, errors={}), replace(seen[0], error=None)]
    assert there[0].failed["a"].startswith("ConnectionError: ")


def test_an_error_that_the_caller_handles_keeps_its_variables() -> None:
    """A program that makes a backup after an error could not see any more what had gone wrong."""

    def fail() -> None:
        wanted = "to be seen"
        raise ValueError(wanted)

    source = Failing()
    source.storage["a"][""]["1"] = (("", b""), ("", b""), None)
    reports = []

    def fail_and_export() -> None:
        try:
            fail()
        except ValueError:
            reports.append(export_threads(source, io.BytesIO()))
            raise

    with pytest.raises(ValueError, match="to be seen") as failed:
        fail_and_export()
    assert {*reports[0].errors} == {"a"}
    assert failed.traceback[-1].frame.f_locals == {"wanted": "to be seen"}


@pytest.mark.parametrize("change", ["value", "metadata", "parent", "writes", "version"])
def test_a_difference_of_any_kind_is_found(make: Make, change: str) -> None:
    """A thread would pass for moved that is not the same."""
    source, target = make("memory"), make("memory")
    assert isinstance(source, InMemorySaver)
    checkpoint, versions = next_checkpoint(RedisSaver("redis://"), None, "1", {"a": [1]})
    second = {**checkpoint, "id": "2"}
    for saver in (source, target):
        at = saver.put(config("t", ""), checkpoint, {"source": "loop"}, versions)
        at = saver.put(at, second, {"source": "loop"}, {})  # type: ignore[arg-type]
        saver.put_writes(at, [("a", [2])], "task")
    assert migrate(source, target).present == ("t",)
    at = config("t", "", None if change == "parent" else "1")
    at["configurable"]["checkpoint_ns"] = ""
    metadata: CheckpointMetadata = {"source": "input" if change == "metadata" else "loop"}
    changed: Any = {**second}
    if change == "value":
        changed = {**second, "channel_values": {"a": [1, 2]}}
    if change == "version":
        changed = {**second, "versions_seen": {"node": {"a": "7"}}}
    at = target.put(at, changed, metadata, versions if change == "value" else {})
    if change == "writes":
        target.put_writes(at, [("a", [2]), ("a", [3])], "task")
    assert {*migrate(source, target).failed} == {"t"}


class Forgetful(InMemorySaver):
    """A saver that does not keep what it is given."""

    def put(self, config: Any, checkpoint: Any, metadata: Any, versions: Any) -> RunnableConfig:
        metadata = {**metadata, "step": 7}
        return super().put(config, checkpoint, metadata, versions)


def test_what_the_target_reads_is_compared_afterwards(make: Make) -> None:
    """A move would be reported as done, and the loss be seen when the source is gone."""
    source = make("memory")
    chat_on(source).say("hello")
    report = migrate(source, Forgetful())
    assert report.copied == ()
    assert "reads differently" in report.failed["a"]
    assert "'step'" in report.failed["a"]


# What moved threads have


def test_values_are_shared_on_the_target_as_they_were(make: Make) -> None:
    """A moved thread would take many times the memory."""
    source, target = make("ours"), make("ours")
    assert isinstance(source, RedisSaver)
    assert isinstance(target, RedisSaver)
    begin_all(source)
    assert migrate(source, target).ok
    for name in STORIES:
        left, right = (saver.thread_info(name) for saver in (source, target))
        assert left
        assert right
        assert (left.namespaces, left.runs) == (right.namespaces, right.runs)
        assert left.bytes_by_key
        assert right.bytes_by_key
        assert right.bytes_by_key["chunks"] <= left.bytes_by_key["chunks"] * 1.1


def test_runs_can_be_deleted_on_the_target(make: Make) -> None:
    """What a user has a right to have deleted would stay."""
    source, target = make("memory"), make("ours")
    for turn in ("one", "two"):
        chat_on(source).run({"messages": [("user", turn)]}, thread("a", run_id=turn))
    migrate(source, target)
    target.delete_for_runs(["two"])
    runs = {found.metadata.get("run_id") for found in target.list(thread("a"))}
    assert runs == {"one"}


def test_branches_whose_versions_are_numbers_keep_their_values(make: Make) -> None:
    """Savers that count in numbers have the same version twice in branches."""
    source, target = make("sqlite"), make("ours")
    ids = ["1", "2", "3"]
    for checkpoint_id, value in zip(ids, ["root", "left", "right"], strict=True):
        checkpoint, _ = next_checkpoint(RedisSaver("redis://"), None, checkpoint_id, {"a": value})
        version = 1 if value == "root" else 2
        checkpoint["channel_versions"] = {"a": version}
        source.put(
            config("t", "", None if value == "root" else "1"), checkpoint, {}, {"a": version}
        )
    assert migrate(source, target).ok
    assert contents(target, "t") == contents(source, "t")
    report = migrate(source, InMemorySaver())  # it keeps one value of each version
    assert "value of channel 'a'" in report.failed["t"]


def test_snapshots_of_delta_channels_stay_where_values_are_kept_by_version(make: Make) -> None:
    """A delta channel would be rebuilt from nothing, or be refused as another."""
    source, target = make("sqlite"), InMemorySaver()
    story = STORIES["delta"]
    story.begin(story.session(source, "delta"))
    assert migrate(source, target).ok
    left, right = (story.go_on(story.session(saver, "delta")) for saver in (target, source))
    assert shape(left) == shape(right)


def test_a_long_thread_is_never_in_memory_as_a_whole(make: Make, long_thread: AnySaver) -> None:
    """The longest conversation could not be moved at all."""
    target = make("sqlite")
    assert peak_of(lambda: migrate(long_thread, target)) < 3_000_000
    assert contents(target, "long") == contents(long_thread, "long")


# How it is called


async def test_savers_of_the_running_loop_are_moved(url: str) -> None:
    """A program that is asynchronous throughout could not move its threads."""
    async with (
        AsyncRedisSaver.from_conn_string(url, prefix=uuid4().hex) as source,
        AsyncRedisSaver.from_conn_string(url, prefix=uuid4().hex) as target,
    ):
        graph = chat().compile(checkpointer=source)
        await graph.ainvoke({"messages": [("user", "hello")]}, thread("a"))
        report = await amigrate(source, target)
        assert (report.copied, report.checkpoints) == (("a",), 3)
        assert await target.aget(thread("a")) == await source.aget(thread("a"))


def test_threads_are_chosen_and_progress_is_told(make: Make) -> None:
    """Nobody would know how far it has come, or could move some first."""
    source, target = make("memory"), make("ours")
    for thread_id in ("a", "b", "c"):
        chat_on(source, thread_id).say("hello")
    told: list[Moved] = []
    report = migrate(
        source, target, thread_ids=iter(["b", "none", "b"]), workers=1, progress=told.append
    )
    assert report.copied == ("b",)
    assert "there is no thread 'none'" in report.failed["none"]
    assert [(moved.thread_id, moved.outcome) for moved in told] == [
        ("b", "copied"),
        ("none", "failed"),
    ]
    assert [(moved.number, moved.total) for moved in told] == [(1, 2), (2, 2)]
    assert {place_of(found)[0] for found in target.list(None)} == {"b"}


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"source": None}, "source"),
        ({"target": "redis://"}, "target"),
        ({"target": RedisSaver("redis://", keep_last=1)}, "keep_last"),
        ({"target": RedisSaver("redis://", on_conflict="error")}, "on_conflict"),
        ({"thread_ids": "abc"}, "thread_ids"),
        ({"thread_ids": 7}, "thread_ids"),
        ({"thread_ids": ["a", 7.5]}, "thread_ids"),
        ({"workers": 0}, "workers"),
        ({"workers": True}, "workers"),
        ({"progress": 7}, "progress"),
    ],
)
def test_a_wrong_argument_is_named(options: dict[str, Any], named: str) -> None:
    """A typing mistake would show as an error from deep inside, or as a move of nothing."""
    arguments: dict[str, Any] = {"source": InMemorySaver(), "target": InMemorySaver(), **options}
    with pytest.raises(ConfigError, match=named):
        migrate(arguments.pop("source"), arguments.pop("target"), **arguments)


def test_a_saver_is_not_moved_to_itself() -> None:
    """Each thread would be compared with itself, and nothing be moved."""
    saver = InMemorySaver()
    with pytest.raises(ConfigError, match="two savers"):
        migrate(saver, saver)


async def _awaited(_: object) -> None: ...


class _Awaited:
    async def __call__(self, _: object) -> None: ...


@pytest.mark.parametrize("progress", [_awaited, partial(_awaited), _Awaited()], ids=[*"fpo"])
def test_progress_that_nobody_would_await_is_refused(progress: Any, tmp_path: Path) -> None:
    """A user would see no progress, and a warning from somewhere else."""
    one, other = InMemorySaver(), InMemorySaver()
    with pytest.raises(ConfigError, match="progress must be a plain function"):
        migrate(one, other, progress=progress)
    with pytest.raises(ConfigError, match="progress must be a plain function"):
        export_threads(one, tmp_path / "file", progress=progress)
    assert not [*tmp_path.iterdir()]
