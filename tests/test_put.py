"""Whatever a put is given, it is refused by name, or reads back equal: values, types and all."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointTuple, get_checkpoint_metadata
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from langgraph_checkpoint_redis import ConfigError, RedisSaver
from langgraph_checkpoint_redis._storage.keys import Keyspace

from .driving import Saver
from .strategies import METADATA, effort, nested, texts, values

ON_ONE_SERVER = True  # what is refused and read is up to Python

SERDE = JsonPlusSerializer()


class Name(str):
    """A text of a class of its own."""

    __slots__ = ()


class Color(str, Enum):
    """Names as some programs keep them."""

    RED = "red"


def exactly(value: Any) -> Any:
    """A value as something that equals only what is the same to the last type and bit."""
    if isinstance(value, dict):
        return type(value), {exactly(key): exactly(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value), [*map(exactly, value)]
    if isinstance(value, str):  # a text of any class is stored as text
        return str, str.__str__(value)
    return type(value), repr(value)


# What LangGraph allows, and what is near

SURROGATE = "half \ud83d"
near: st.SearchStrategy[Any] = st.sampled_from(
    [
        *(None, True, False, 0, 1, -1, 1.0, 0.0, -0.0, 2**63, 2**64 - 1, 2**64, -(2**63)),
        *(float("nan"), float("inf"), float("-inf"), 5e-324, (1, 0.5), [1, 0.5], [], {}),
        *(
            b"",
            b"a",
            bytearray(b"a"),
            "",
            "a",
            "1",
            "\0",
            "\0a",
            SURROGATE,
            "\uffff",
            "é",
            "x" * 300,
        ),
        *("0" * 31 + "1.0000000000000.5", "0" * 31 + "1.-00000000000.0"),
        *(Name("a"), Color.RED, object(), 1j),
    ]
)
own_versions = st.builds("{:032}.{:016}".format, st.integers(0, 5), st.sampled_from([0.5, 0.25]))
good_versions = own_versions | st.integers(0, 9) | st.floats(0, 9) | st.sampled_from(["1", "a"])
versions = st.one_of(good_versions, own_versions, near)
good_names = st.sampled_from(["messages", "__start__", "branch:to:é", "a", "", "\0", "\0a"]) | texts
names = (
    good_names
    | good_names
    | near.filter(lambda name: not isinstance(name, list | dict | bytearray))
)
mostly = st.sampled_from([True] * 9 + [False])


def or_near(good: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """What is good, and one time in ten something else."""
    return mostly.flatmap(lambda is_good: good if is_good else near)


def some(keys: st.SearchStrategy[Any], items: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.dictionaries(keys, items, max_size=4)


@st.composite
def checkpoints(draw: st.DrawFn, *, good: bool = False) -> Any:
    """A checkpoint, whose parts are all good, or now and then not."""
    of_names, of_versions = (good_names, good_versions) if good else (names, versions)
    any_of: Callable[[Any], Any] = (lambda part: part) if good else or_near
    channel_versions = draw(some(of_names, of_versions))
    known = st.sampled_from([*channel_versions] or ["a"])
    seen = some(
        of_names | known, of_versions | st.sampled_from([*channel_versions.values()] or [1])
    )
    found: dict[Any, Any] = {
        "v": draw(st.sampled_from([1, 4, None, "4"])),
        "ts": draw(texts),
        "id": draw(any_of(st.sampled_from(["1", "a", "é"]))),
        "channel_values": draw(any_of(some(known, values))),
        "channel_versions": draw(any_of(st.just(channel_versions))),
        "versions_seen": draw(any_of(some(of_names, any_of(seen)))),
        "updated_channels": draw(st.none() | st.lists(texts, max_size=2)),
    }
    for part in draw(st.sets(st.sampled_from(["v", "ts", "versions_seen", "updated_channels"]))):
        del found[part]
    if not good and draw(mostly) is False:
        found.pop(draw(st.sampled_from(["id", "channel_values", "channel_versions"])), None)
    if draw(st.booleans()):
        found[draw(st.sampled_from(["more", "pending_sends", "é"]))] = draw(nested)
    return found


metadatas: st.SearchStrategy[Any] = st.fixed_dictionaries(
    {},
    optional=METADATA
    | {
        "parents": near | st.just({"": "1"}) | st.just({"": SURROGATE}),
        "counters_since_delta_snapshot": near | st.just({"a": [1, 1]}) | st.just({5: 1}),
        "thread_id": st.sampled_from(["t", Name("t"), "other", 5]),
        "run_id": near,
    },
)


class Odd(JsonPlusSerializer):
    """Returns something else than a type and bytes, or other bytes and types."""

    def __init__(self, change: Callable[[str, bytes], Any], back: Callable[[Any], Any]) -> None:
        super().__init__()
        self.change, self.back = change, back

    def dumps_typed(self, obj: Any) -> Any:
        return self.change(*super().dumps_typed(obj))

    def loads_typed(self, data: Any) -> Any:
        return super().loads_typed(self.back(data))


def renamed(type_: Any) -> Odd:
    """A serializer that has one type for all: no reader is to take it for another one."""

    def back(data: Any) -> Any:
        assert (type(data[0]), data[0]) == (type(type_), type_)
        return (data[1][:1] == b"n" and "null") or "msgpack", data[1][1:]

    return Odd(lambda kind, data: (type_, kind[:1].encode() + data), back)


def made_of(kind: Callable[[bytes], Any]) -> Odd:
    return Odd(lambda type_, data: (type_, kind(data)), lambda data: data)


SERDES: dict[str, SerializerProtocol] = {
    "LangGraph's": SERDE,
    "bytearray": made_of(bytearray),
    "memoryview": made_of(memoryview),
    "str": made_of(lambda data: data.decode("latin-1")),
    "numbers": made_of(list),
    "nothing": made_of(lambda _: None),
    "a number": made_of(len),
    "a list": Odd(lambda *typed: [*typed], lambda data: data),
    "one": Odd(lambda type_, data: data, lambda data: data),
    "three": Odd(lambda *typed: (*typed, 1), lambda data: data),
    **{
        f"type {type_!r}": renamed(type_)
        for type_ in ("", None, 5, b"msgpack", SURROGATE, "a\0b", "é", True)
    },
}


def is_serializable(*found: Any) -> bool:
    """Whether LangGraph's serializer takes values at all; its own errors pass."""
    try:
        [SERDE.dumps_typed(value) for value in found]
    except (TypeError, ValueError):
        return False
    return True


def as_read(value: Any) -> Any:
    """A value as LangGraph's serializer reads it, which makes lists of tuples."""
    return SERDE.loads_typed(SERDE.dumps_typed(value))


AT: RunnableConfig = {"configurable": {"thread_id": "t", "checkpoint_ns": "n"}}


class Judge:
    """Puts with a saver, and looks with another one at what came of it."""

    def __init__(
        self,
        saver: Saver,
        client: redis.Redis,
        prefix: str,
        serde: SerializerProtocol | None = None,
    ) -> None:
        self.saver, self.client, self.prefix, self.serde = saver, client, prefix, serde

    def put(self, checkpoint: Any, metadata: Any, new: Any) -> CheckpointTuple | None:
        """What is read of a put; `None` if it is refused, and nothing was written."""
        self.clear()
        try:
            at = self.saver.put(AT, checkpoint, metadata, new)
        except ConfigError:
            assert [*self.client.scan_iter(f"{self.prefix}:*")] == []
            return None
        return self.read(at)

    def put_writes(self, writes: Any, task_id: Any, path: Any) -> Any:
        """What is read of writes; `None` if they are refused, and nothing was written."""
        self.clear()
        try:
            at = self.saver.put(AT, EMPTY, {}, {})
            self.saver.put_writes(at, writes, task_id, path)
        except ConfigError:
            assert not self.client.exists(Keyspace(self.prefix).thread("t").writes)
            return None
        return self.read(at).pending_writes

    def read(self, at: RunnableConfig) -> CheckpointTuple:
        """What another process reads, and this one, too."""
        found = RedisSaver(self.client, prefix=self.prefix, serde=self.serde).get_tuple(at)
        again = self.saver.get_tuple(at)
        assert found
        assert again
        assert exactly(found.checkpoint) == exactly(again.checkpoint)
        return found

    def clear(self) -> None:
        self.saver.delete_thread("t")
        for key in self.client.scan_iter(f"{self.prefix}:*"):
            self.client.delete(key)


EMPTY: Any = {"id": "1", "channel_values": {}, "channel_versions": {}}


@pytest.fixture
def judge(saver: Saver, client: redis.Redis, prefix: str) -> Judge:
    return Judge(saver, client, prefix)


def expected(checkpoint: Any) -> Any:
    """A checkpoint as LangGraph has it read: a channel without a version has no value."""
    versions, values = checkpoint["channel_versions"], checkpoint["channel_values"]
    outside = {"id", "channel_versions", "channel_values", "versions_seen"}
    others = {name: part for name, part in checkpoint.items() if name not in outside}
    kept = {name: as_read(value) for name, value in values.items() if name in versions}
    found = as_read(others) | {"id": checkpoint["id"], "channel_versions": versions}
    if "versions_seen" in checkpoint:
        found["versions_seen"] = checkpoint["versions_seen"]
    return found | {"channel_values": kept}


@given(checkpoint=checkpoints(), metadata=or_near(metadatas), new=or_near(st.just({})))
@effort(60)
def test_a_checkpoint_is_refused_or_reads_back_equal(
    judge: Judge, checkpoint: Any, metadata: Any, new: Any
) -> None:
    """What was acknowledged could not be read, and the conversation would be lost."""
    if new == {} and isinstance(checkpoint.get("channel_versions"), dict):
        new = checkpoint["channel_versions"]
    if not is_serializable(checkpoint, metadata):
        return
    found = judge.put(checkpoint, metadata, new)
    if found:
        assert exactly(found.checkpoint) == exactly(expected(checkpoint))
        assert exactly(found.metadata) == exactly(as_read(get_checkpoint_metadata(AT, metadata)))


@given(checkpoint=checkpoints(good=True), metadata=st.fixed_dictionaries({}, optional=METADATA))
@effort(40)
def test_a_checkpoint_that_langgraph_allows_is_not_refused(
    judge: Judge, checkpoint: Any, metadata: Any
) -> None:
    """A graph that runs with other savers would not run with this one."""
    found = judge.put(checkpoint, metadata, checkpoint["channel_versions"])
    assert found
    assert exactly(found.checkpoint) == exactly(expected(checkpoint))


@given(
    writes=or_near(st.lists(or_near(st.tuples(names, values)), max_size=3)),
    task_id=or_near(st.just("task")),
    path=or_near(st.just("path")),
)
@effort(60)
def test_writes_are_refused_or_read_back_equal(
    judge: Judge, writes: Any, task_id: Any, path: Any
) -> None:
    """What a task did would be lost, and the task be acknowledged as done."""
    if isinstance(writes, list) and not is_serializable(*writes):
        return
    found = judge.put_writes(writes, task_id, path)
    if found is not None:
        stored = [(task_id, channel, as_read(value)) for channel, value in writes]
        assert exactly(found) == exactly(stored)


@pytest.mark.parametrize("name", SERDES)
def test_what_a_serializer_returns_is_refused_or_reads_back_equal(
    saver_on: Callable[..., Saver], server: str, client: redis.Redis, prefix: str, name: str
) -> None:
    """A serializer of the user's own would write what it cannot read."""
    serde = SERDES[name]
    judge = Judge(saver_on(server, prefix=prefix, serde=serde), client, prefix, serde)
    for value in ("a", ["a" * 300] * 5, None):
        checkpoint = EMPTY | {"channel_values": {"c": value}, "channel_versions": {"c": "1"}}
        found = judge.put(checkpoint, {"step": 1}, {"c": "1"})
        if found:
            assert exactly(found.checkpoint) == exactly(checkpoint)
        assert judge.put_writes([("c", value)], "task", "") in (None, [("task", "c", value)])


SAME: list[Any] = [1, 1.0, True, "1", 0, 0.0, -0.0, False, ""]


@pytest.mark.parametrize("current", SAME, ids=repr)
def test_versions_that_are_equal_keep_their_types(judge: Judge, current: Any) -> None:
    """A node would be run again, or not at all, where versions are compared by their text."""
    seen = {repr(version): {"c": version, "gone": version} for version in [*SAME, None]}
    checkpoint = EMPTY | {"channel_versions": {"c": current}, "versions_seen": seen}
    found = judge.put(checkpoint, {}, {"c": current})
    assert found
    assert exactly(found.checkpoint) == exactly(checkpoint)


BAD_PARTS: dict[str, tuple[Any, str]] = {
    "no checkpoint": (None, "checkpoint must be a dict"),
    "no id": ({"channel_values": {}, "channel_versions": {}}, "'id'] is missing"),
    "no values": ({"id": "1", "channel_versions": {}}, "'channel_values'] is missing"),
    "no versions": ({"id": "1", "channel_values": {}}, "'channel_versions'] is missing"),
    "a list of versions": (EMPTY | {"channel_versions": [1]}, "must be a dict, not list"),
    "a number as a name": (EMPTY | {"channel_versions": {5: "1"}}, "must be a str, not int: 5"),
    "no version": (EMPTY | {"channel_versions": {"c": None}}, r"\['c'\] must be a valid str"),
    "bytes": (EMPTY | {"channel_versions": {"c": b"1"}}, "bytes: b'1'"),
    "a huge number": (EMPTY | {"channel_versions": {"c": 10**5000}}, "must be a valid str"),
    "not a number": (EMPTY | {"channel_versions": {"c": float("nan")}}, "float: nan"),
    "a seen list": (EMPTY | {"versions_seen": []}, "versions_seen"),
    "a node that is a number": (EMPTY | {"versions_seen": {5: {}}}, "versions_seen.*int: 5"),
    "a node with a list": (EMPTY | {"versions_seen": {"n": [1]}}, "versions_seen.*list"),
    "a seen tuple": (EMPTY | {"versions_seen": {"n": {"c": (1, 0.5)}}}, "versions_seen.*tuple"),
    "half a node": (EMPTY | {"versions_seen": {SURROGATE: {}}}, "versions_seen.*Unicode"),
    "half a version": (EMPTY | {"versions_seen": {"n": {"c": SURROGATE}}}, "valid str|Unicode"),
}


@pytest.mark.parametrize("case", BAD_PARTS)
def test_a_part_that_cannot_be_read_back_is_named(judge: Judge, case: str) -> None:
    """A slip in a program would be a riddle."""
    checkpoint, said = BAD_PARTS[case]
    with pytest.raises(ConfigError, match=said):
        judge.saver.put(AT, checkpoint, {}, {})
    assert judge.put(checkpoint, {}, {}) is None
