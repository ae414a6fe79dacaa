"""`verify` finds what is wrong with a thread, and `repair` removes it and nothing else."""

from __future__ import annotations

import threading
import time
import tracemalloc
from collections.abc import Callable
from random import Random
from typing import Any
from uuid import UUID

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.conformance.test_utils import generate_checkpoint, generate_metadata

from langgraph_checkpoint_redis import (
    ConfigError,
    CorruptThreadError,
    Problem,
    RedisSaver,
    ThreadLeasedError,
    UnknownFormatError,
)
from langgraph_checkpoint_redis._storage.checksums import checksum_of, strip_checksum
from langgraph_checkpoint_redis._storage.keys import Keyspace

from .damaged import Stored, flipped, read, thread
from .driving import Saver
from .stored import chunks_at, contents

DAY = 86_400

whatever_happens = settings(
    deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture
def stored(client: redis.Redis, prefix: str) -> Stored:
    return Stored(client, prefix)


def kinds(problems: Any) -> list[str]:
    return sorted(problem.kind for problem in problems)


def test_a_thread_that_is_well_has_no_problems(saver: Saver, stored: Stored) -> None:
    """Every look would raise an alarm, and a repair would remove what is good."""
    assert saver.verify("a b") == []
    assert saver.repair("a b") == []
    assert all(read(saver, place) for place in stored.places)
    assert saver.verify("nobody") == saver.repair("nobody") == []


@pytest.mark.parametrize("method", ["verify", "repair"])
def test_a_bad_thread_id_is_named(saver: Saver, method: str) -> None:
    """A slip would be told that all is well."""
    for bad in ("", 7.5, True, None):
        with pytest.raises(ConfigError, match="thread_id"):
            getattr(saver, method)(bad)


# Each spoils something, and says what is to be found: kind, key, and what the reason tells.
Spoil = Callable[[Stored], tuple[str, str, str]]


def damaged_checkpoint(stored: Stored) -> tuple[str, str, str]:
    row = stored.timeline[-1]
    stored.replace_row(row, flipped(row, len(row) - 9, 1))
    return "lost", "timeline", "row is damaged"


def damaged_writes(stored: Stored) -> tuple[str, str, str]:
    row = stored.writes[-1]
    stored.replace_row(row, flipped(row, len(row) - 9, 1))
    return "lost", "writes", "row is damaged"


def damaged_name(stored: Stored) -> tuple[str, str, str]:
    row = stored.timeline[-2]
    stored.replace_row(row, flipped(row, row.index(b"\0") + 3, 1))
    return "lost", "timeline", "row is damaged"


def missing_chunk(stored: Stored) -> tuple[str, str, str]:
    (chunk,) = [digest for digest, chunk in stored.chunks.items() if f"{0:600}".encode() in chunk]
    stored.client.hdel(stored.keys.chunks, chunk)
    return "lost", "timeline", f"chunk {chunk.hex()} is missing or damaged"


def damaged_node(stored: Stored) -> tuple[str, str, str]:
    node = next(digest for digest, chunk in stored.chunks.items() if len(chunk) % 16 == 1)
    stored.client.hset(stored.keys.chunks, node, flipped(stored.chunks[node], 9, 1))
    return "lost", "timeline", f"chunk {node.hex()} is missing or damaged"


def wrong_size(stored: Stored) -> tuple[str, str, str]:
    row = stored.timeline[-1]
    content = strip_checksum(row)
    at = content.index(b"\xcd", content.index(b"\xa1c\xa2\xa1"))  # the size of the value of "c"
    content = flipped(content, at + 2, 1)
    stored.replace_row(row, content + checksum_of(content))
    return "lost", "timeline", "bytes reads as"


def no_row(stored: Stored) -> tuple[str, str, str]:
    stored.client.zadd(stored.keys.timeline, {b"of another program": 0})
    return "lost", "timeline", "row is damaged"


def unused_chunk(stored: Stored) -> tuple[str, str, str]:
    stored.client.hset(stored.keys.chunks, b"n" * 16, b"\0of no use")
    return "garbage", "chunks", "nothing leads to: 1"


def orphaned_writes(stored: Stored) -> tuple[str, str, str]:
    add_writes(stored, str(id_at(2 * DAY)))
    return "garbage", "writes", "checkpoint is not there"


def lost_key(stored: Stored) -> tuple[str, str, str]:
    stored.client.hset(stored.keys.chunks, "writes", "")
    stored.client.delete(stored.keys.writes)
    return "lost", "writes", "key is gone"


def lost_timeline(stored: Stored) -> tuple[str, str, str]:
    stored.client.hset(stored.keys.chunks, "timeline", "")
    stored.client.delete(stored.keys.timeline, stored.keys.runs)
    return "lost", "timeline", "key is gone"


def lost_runs(stored: Stored) -> tuple[str, str, str]:
    stored.client.delete(stored.keys.runs)
    return "lost", "runs", "stored with none"


def miscounted_run(stored: Stored) -> tuple[str, str, str]:
    value: Any = stored.client.hget(stored.keys.runs, "run")
    count, *tokens = value.split()
    stored.client.hset(stored.keys.runs, "run", b" ".join([b"%d" % (int(count) + 1), *tokens]))
    return "lost", "runs", "but is stored with"


def run_of_no_checkpoint(stored: Stored) -> tuple[str, str, str]:
    stored.client.hset(stored.keys.runs, "another", 2)
    return "lost", "runs", "run 'another' has 0 checkpoints"


def add_writes(stored: Stored, checkpoint_id: str) -> bytes:
    """Add writes on top of a checkpoint that is not there."""
    namespace, _, rest = strip_checksum(stored.writes[-1]).split(b"\0", 2)
    content = b"\0".join([namespace, checkpoint_id.encode(), rest])
    stored.client.zadd(stored.keys.writes, {content + checksum_of(content): 0})
    return content + checksum_of(content)


def id_at(age: float, version: int = 6) -> UUID:
    """The id of a checkpoint that was made so many seconds ago."""
    ticks = int((time.time() - age) * 10_000_000) + 0x01B21DD213814000
    if version == 1:
        low, middle, high = ticks & 0xFFFFFFFF, ticks >> 32 & 0xFFFF, ticks >> 48
        return UUID(fields=(low, middle, high, 0, 0, 0), version=1)
    return UUID(int=ticks >> 12 << 80 | 6 << 76 | (ticks & 0xFFF) << 64 | 2 << 62)


SPOILS = [
    *[damaged_checkpoint, damaged_writes, damaged_name, missing_chunk, damaged_node, wrong_size],
    *[no_row, unused_chunk, orphaned_writes, lost_key, lost_timeline],
    *[lost_runs, miscounted_run, run_of_no_checkpoint],
]


@pytest.mark.parametrize("spoil", SPOILS)
def test_what_is_wrong_is_found_and_repaired_and_all_else_stays(
    saver: Saver, stored: Stored, spoil: Spoil
) -> None:
    """A thread would fail at some turn, and nobody could say why, or save the rest of it."""
    expected = [saver.get_tuple(place) for place in stored.places]
    kind, key, reason = spoil(stored)
    before = contents(stored.client, stored.keys)
    problems = saver.verify("a b")
    assert any(
        one.kind == kind and one.key.endswith(key) and reason in one.reason for one in problems
    ), problems
    assert contents(stored.client, stored.keys) == before
    removed = saver.repair("a b")
    assert {*removed} >= {*problems}
    assert saver.verify("a b") == saver.repair("a b") == []
    found = [saver.get_tuple(place) for place in stored.places]
    for one, other in zip(found, expected, strict=True):
        assert other
        assert one in (None, other, other._replace(parent_config=None), _unwritten(other))
    lost = {(one.namespace, one.checkpoint_id) for one in problems if one.key.endswith("timeline")}
    for place, one in zip(stored.places, found, strict=True):
        at = place["configurable"]
        if (at["checkpoint_ns"], at["checkpoint_id"]) not in lost and spoil not in (
            damaged_name,
            lost_timeline,
        ):
            assert one


def _unwritten(found: Any) -> Any:
    return found._replace(pending_writes=[])


def test_a_problem_says_where_it_is(saver: Saver, stored: Stored) -> None:
    """Whoever reads an alarm would not know which turn was lost."""
    damaged_checkpoint(stored)
    id_ = stored.places[-1]["configurable"]["checkpoint_id"]
    key = stored.keys.timeline.decode()
    assert saver.verify("a b") == [Problem("lost", "child:1", id_, key, "the row is damaged")]


def spoil_some(stored: Stored, data: st.DataObject) -> None:
    """Alter some rows, and perhaps chunks; Hypothesis may give up a case at any draw."""
    for _ in range(data.draw(st.integers(1, 5))):
        row = data.draw(st.sampled_from(stored.timeline + stored.writes))
        position = data.draw(st.integers(0, len(row) - 1))
        stored.replace_row(row, flipped(row, position, data.draw(st.integers(1, 255))))
    for digest in data.draw(st.sets(st.sampled_from([*stored.chunks]), max_size=3)):
        altered = data.draw(st.sampled_from([b"", b"\0", stored.chunks[digest] + b"x"]))
        stored.client.hset(stored.keys.chunks, digest, altered)


@whatever_happens
@given(data=st.data())
def test_after_a_repair_all_that_is_listed_can_be_read(
    client: redis.Redis, prefix: str, stored: Stored, data: st.DataObject
) -> None:
    """A thread would stay unreadable, or lose more than was damaged."""
    saver = RedisSaver(client, prefix=prefix)
    expected = {str(found.config): found.checkpoint for found in saver.list(thread())}
    try:
        spoil_some(stored, data)
        problems = saver.verify("a b")
        assert "lost" in kinds(problems)
        saver.repair("a b")
        assert saver.verify("a b") == []
        reader = RedisSaver(client, prefix=prefix)
        for found in reader.list(thread()):
            assert found.checkpoint == expected[str(found.config)]
    finally:
        stored.repair()


def test_only_the_holder_of_a_lease_repairs(saver: Saver, stored: Stored, prefix: str) -> None:
    """A repair would change a thread under the one that has it for itself."""
    damaged_checkpoint(stored)
    other = RedisSaver(stored.client, prefix=prefix)
    with other.lease("a b"):
        with pytest.raises(ThreadLeasedError):
            saver.repair("a b")
        assert kinds(saver.verify("a b")) == ["lost"]
        assert kinds(other.repair("a b")) == ["lost"]


def test_a_newer_format_is_left_alone(saver: Saver, stored: Stored) -> None:
    """An old process would remove what a new one wrote."""
    row = stored.timeline[-1]
    *names, data = strip_checksum(row).split(b"\0", 2)
    content = b"\0".join([*names, data[:1] + b"\x63" + data[2:]])
    stored.replace_row(row, content + checksum_of(content))
    before = contents(stored.client, stored.keys)
    for method in (saver.verify, saver.repair):
        with pytest.raises(UnknownFormatError):
            method("a b")
    assert contents(stored.client, stored.keys) == before


def test_a_checkpoint_whose_delta_channel_lost_an_ancestor_is_reported(
    saver: Saver, stored: Stored
) -> None:
    """A conversation would be read without its beginning."""
    at = thread(checkpoint_ns="delta")
    places = []
    for number in range(3):
        checkpoint = generate_checkpoint(channel_versions={"d": str(number)})
        metadata = generate_metadata(counters_since_delta_snapshot={"d": (number, 0)})
        at = saver.put(at, checkpoint, metadata, {"d": str(number)})
        places.append(at["configurable"]["checkpoint_id"])
    assert saver.verify("a b") == []
    row = next(row for row in client_rows(stored) if places[0].encode() in row)
    stored.client.zrem(stored.keys.timeline, row)
    problems = saver.verify("a b")
    assert kinds(problems) == ["incomplete", "incomplete"]
    assert {problem.checkpoint_id for problem in problems} == {*places[1:]}
    assert all(places[0] in problem.reason for problem in problems)
    assert (
        saver.repair("a b") == []
    )  # they can be read: it is for people to say what they are worth


def client_rows(stored: Stored) -> list[bytes]:
    rows: list[bytes] = stored.client.zrange(stored.keys.timeline, 0, -1)  # type: ignore[assignment]
    return rows


def test_a_long_thread_is_looked_at_in_parts(
    saver: Saver, client: redis.Redis, prefix: str
) -> None:
    """A look at a long thread would hold up everybody else, or miss the most of it."""
    writer, at = RedisSaver(client, prefix=prefix), thread()
    for number in range(230):
        values = {"c": [f"{i:600}" for i in range(number, number + 2)]}
        checkpoint = generate_checkpoint(channel_values=values, channel_versions={"c": str(number)})
        at = writer.put(at, checkpoint, generate_metadata(), {"c": str(number)})
    keys = Keyspace(prefix).thread("a b")
    assert saver.verify("a b") == []
    lost = sorted(chunks_at(client, keys.chunks))[::40]
    client.hdel(keys.chunks, *lost)
    problems = saver.verify("a b")
    assert len(problems) >= len(lost)
    assert len(saver.repair("a b")) == len(problems)
    assert saver.verify("a b") == []
    assert client.zcard(keys.timeline) == 230 - len(problems)


def test_what_changes_meanwhile_does_not_look_like_damage(
    saver: Saver, client: redis.Redis, prefix: str
) -> None:
    """A look at a thread in use would raise alarms, and a repair would remove what is new."""
    stop, failed = threading.Event(), list[Exception]()

    def talk() -> None:
        writer, at, number = RedisSaver(client, prefix=prefix, keep_last=3), thread(), 0
        try:
            while not stop.is_set():
                values = {"c": [f"{i:600}" for i in range(number, number + 5)]}
                checkpoint = generate_checkpoint(
                    channel_values=values, channel_versions={"c": str(number)}
                )
                at = writer.put(at, checkpoint, generate_metadata(), {"c": str(number)})
                writer.put_writes(at, [("c", "w" * 700)], "task")
                number += 1
                assert RedisSaver(client, prefix=prefix).get_tuple(at)
        except (CorruptThreadError, AssertionError) as error:
            failed.append(error)

    talking = threading.Thread(target=talk)
    talking.start()
    try:
        for _ in range(15):
            assert "lost" not in kinds(saver.verify("a b"))
            assert "lost" not in kinds(saver.repair("a b"))
    finally:
        stop.set()
        talking.join()
    assert not failed


# What may be needed yet


@pytest.mark.parametrize("version", [1, 6])
def test_writes_wait_a_day_for_their_checkpoint(saver: Saver, stored: Stored, version: int) -> None:
    """A task that was paid for would run again, as its writes came before their checkpoint."""
    young = [add_writes(stored, str(id_at(age, version))) for age in (-5, 60, 0.99 * DAY)]
    old = [add_writes(stored, str(id_at(age, version))) for age in (1.01 * DAY, 300 * DAY)]
    newest = "f" * 36  # by whatever ids the namespace has gone on
    at = thread(checkpoint_ns=stored.places[-1]["configurable"]["checkpoint_ns"])
    saver.put(at, generate_checkpoint(checkpoint_id=newest), generate_metadata(), {})
    assert kinds(saver.verify("a b")) == ["garbage"] * len(old)
    assert len(saver.repair("a b")) == len(old)
    left = {*stored.client.zrange(stored.keys.writes, 0, -1)}
    assert left >= {*stored.writes, *young}
    assert not left & {*old}


def test_writes_to_checkpoints_of_other_ids_are_left_alone(saver: Saver, stored: Stored) -> None:
    """Ids that do not tell their time would make acknowledged writes go."""
    rows = [add_writes(stored, id_) for id_ in ("1", "early", "0" * 36, "1f", str(UUID(int=4)))]
    assert saver.verify("a b") == saver.repair("a b") == []
    assert {*stored.client.zrange(stored.keys.writes, 0, -1)} == {*stored.writes, *rows}


def test_marks_among_the_chunks_are_no_chunks(saver: Saver, stored: Stored) -> None:
    """Every thread would have garbage, and lose its marks to a repair."""
    for name in ("timeline", "writes", "swept"):
        stored.client.hset(stored.keys.chunks, name, "")
    assert saver.verify("a b") == saver.repair("a b") == []
    assert stored.client.hlen(stored.keys.chunks) == len(stored.chunks) + 3


# Bounds


def test_large_values_are_looked_at_a_few_at_a_time(
    saver: Saver, client: redis.Redis, prefix: str
) -> None:
    """A look at a thread of pictures would take all the memory of a worker."""
    writer, at = RedisSaver(client, prefix=prefix), thread()
    size = 1_600_000
    for number in range(25):
        picture = Random(number).randbytes(size // 2).hex()
        values = {"c": HumanMessage(picture, id="picture")}  # one piece
        checkpoint = generate_checkpoint(channel_values=values, channel_versions={"c": str(number)})
        at = writer.put(at, checkpoint, generate_metadata(), {"c": str(number)})
    keys = Keyspace(prefix).thread("a b")
    pieces = chunks_at(client, keys.chunks)
    for digest in sorted(name for name, piece in pieces.items() if len(piece) > 1000)[::5]:
        client.hset(keys.chunks, digest, b"x" * size)
    writer.close()
    tracemalloc.start()
    try:
        assert kinds(saver.verify("a b")) == ["lost"] * 5
        assert len(saver.repair("a b")) == 5
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 12 * size
