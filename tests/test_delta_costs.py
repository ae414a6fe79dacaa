"""What delta channels cost, in the server's own counts: a process receives what is new to it.

A delta channel is rebuilt at each read from all that was written since its last snapshot. So
whatever is received again is received at every turn.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from random import Random
from typing import Any, cast

import pytest
import redis
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointMetadata
from langgraph.checkpoint.conformance.test_utils import generate_checkpoint, generate_metadata

from langgraph_checkpoint_redis import (
    AsyncRedisSaver,
    CorruptThreadError,
    MissingAncestorError,
    RedisSaver,
)
from langgraph_checkpoint_redis._core import reading
from langgraph_checkpoint_redis._storage.keys import Keyspace

from .counting import Cost, cost
from .deltas import FILE, Both, editing
from .driving import AwaitedDriver, DirectDriver, Driver, Saver
from .graphs import Session, says, sequence, shape, thread
from .servers import own_server

server = own_server  # its counts are of nobody else

MEGABYTE = 1_000_000


@pytest.fixture
def other(server: str, prefix: str, drive: Driver) -> Iterator[Driver]:
    """A driver of another process, which knows nothing of any thread."""
    if isinstance(drive, AwaitedDriver):
        asynchronous = AsyncRedisSaver(server, prefix=prefix)
        yield AwaitedDriver(asynchronous, drive.loop)
        drive.loop.run_until_complete(asynchronous.aclose())
    else:
        with RedisSaver.from_conn_string(server, prefix=prefix) as saver:
            yield DirectDriver(saver)


def _read(drive: Driver, config: RunnableConfig, channels: Sequence[str]) -> Mapping[str, Any]:
    saver = drive.saver
    if isinstance(drive, AwaitedDriver):
        return drive.loop.run_until_complete(
            saver.aget_delta_channel_history(config=config, channels=channels)
        )
    return saver.get_delta_channel_history(config=config, channels=channels)


def test_turns_receive_what_others_wrote_and_nothing_again(
    drive: Driver, client: redis.Redis
) -> None:
    """An agent that edits a file would receive all edits since the last snapshot in each turn."""
    session = Session(drive, editing())

    def talk() -> None:
        for _ in range(30):
            session.run({"files": {}})

    assert cost(client, talk).received <= 0.5 * MEGABYTE
    assert cost(client, session.state).received <= 20_000
    assert cost(client, session.history).received <= 0.7 * MEGABYTE


def test_a_new_process_receives_each_edit_once(
    drive: Driver, other: Driver, client: redis.Redis
) -> None:
    """To look through a thread would move it once for each of its checkpoints."""
    session = Session(drive, editing())
    for _ in range(8):
        session.run({"files": {}})
    first = session.go_on(other)
    whole = cost(client, first.history).received
    assert FILE <= whole <= 2.5 * FILE
    assert cost(client, first.state).received <= 20_000
    assert shape(first.history()) == shape(session.history())


def test_processes_that_take_turns_receive_each_others_edits_in_one_round_trip(
    drive: Driver, other: Driver, client: redis.Redis
) -> None:
    """Behind a load balancer, each turn would receive the thread again, or take more requests."""
    sessions = [session := Session(drive, editing()), session.go_on(other)]

    def read(reader: Driver, writer: Session) -> Cost:
        at = writer.state().config
        return cost(client, lambda: _read(reader, at, ["files"]))

    for turn in range(6):
        sessions[turn % 2].run({"files": {}})
    own = read(other, sessions[1])  # which was the last that wrote
    assert own.round_trips == 1
    assert own.received <= 5_000
    for turn in range(6, 10):
        sessions[turn % 2].run({"files": {}})
        found = read((other, drive)[turn % 2], sessions[turn % 2])
        assert found.round_trips == 1
        assert 1_000 <= found.received <= FILE


@pytest.mark.parametrize("saver_options", [{"keep_last": 2}], ids=str)
def test_a_short_thread_keeps_no_more_than_its_last_snapshot_and_what_follows(
    drive: Driver, client: redis.Redis, prefix: str
) -> None:
    """A thread that is to stay short would grow, or lose what it is rebuilt from."""
    session = Session(drive, editing())
    kept, edits = [], 0
    for turn in range(34):  # of three checkpoints and two updates
        session.run({"files": {str(turn): "by a person"}})
        kept.append(client.zcard(Keyspace(prefix).thread("a").timeline))
        edits = len(session.state().values["files"])
        assert edits == turn + 2
    assert min(kept[10:]) < 10
    assert max(kept) <= 2 + 20 * 3 / 2


@pytest.mark.parametrize("saver_options", [{"keep_last": 1}, {"keep_last": 5}], ids=str)
def test_a_put_in_a_short_thread_looks_at_few_of_the_checkpoints_it_is_rebuilt_from(
    saver: Saver, client: redis.Redis, prefix: str
) -> None:
    """Where a channel is seldom whole, each put would hold the server up for longer."""
    at, costs = thread("a", checkpoint_ns=""), list[dict[str, int]]()
    for number in range(200):
        made = list[RunnableConfig]()
        found = cost(client, lambda: made.append(add(saver, at, f"{number}")))  # noqa: B023 - at once
        at = made[0]
        costs.append(found.commands)
    assert client.zcard(Keyspace(prefix).thread("a").timeline) == 200
    looked = [sum(count for name, count in each.items() if "range" in name) for each in costs]
    assert looked[-1] == looked[20] < 40
    assert costs[-1].get("hkeys", 0) == costs[-1].get("hscan", 0) == 0  # it sweeps nothing


@pytest.mark.parametrize("saver_options", [{"keep_last": 1}], ids=str)
def test_what_no_checkpoint_needs_any_more_goes_in_few_puts(
    saver: Saver, client: redis.Redis, prefix: str
) -> None:
    """Each put would look through all that is left, until a long thread is short again."""
    at = thread("a", checkpoint_ns="")
    for number in range(200):
        at = add(saver, at, f"{number}")
    version, timeline = saver.get_next_version(None, None), Keyspace(prefix).thread("a").timeline
    whole = generate_checkpoint(channel_values={"log": []}, channel_versions={"log": version})
    at = saver.put(at, whole, generate_metadata(), {"log": version})
    puts = 0
    while client.zcard(timeline) > puts + 1:
        at, puts = add(saver, at, f"{puts}"), puts + 1
    assert puts < 20


# What a process thinks to know


CHANNELS = ["log", "notes", "plain"]


def test_processes_that_know_different_parts_read_the_same(drive: Driver, other: Driver) -> None:
    """A process that knows a part of a thread would rebuild a channel from other writes."""
    rng = Random(1)
    builder = sequence(Both, a=says("a " * 200), b=says("b"))
    sessions = [session := Session(drive, builder), session.go_on(other)]
    for turn in range(10):
        acting = rng.choice(sessions)
        at = rng.choice([acting.config, *[found.config for found in acting.history()]])
        if rng.random() < 0.3:
            acting.update({"log": [f"by hand {turn}" * 20]}, at, as_node="a")
        else:
            acting.run({"log": [f"turn {turn}" * 20]}, at)
        for found in session.history():
            one, two = (_read(each.drive, found.config, CHANNELS) for each in sessions)
            assert shape(one) == shape(two)


def add(saver: Saver, at: RunnableConfig, line: str) -> RunnableConfig:
    """Write a long line at a checkpoint, and put the checkpoint behind it."""
    if "checkpoint_id" in at["configurable"]:
        saver.put_writes(at, [("log", [line * 50])], line)
    version = saver.get_next_version(None, None)
    checkpoint = generate_checkpoint(channel_values={}, channel_versions={"log": version})
    metadata = {**generate_metadata(), "counters_since_delta_snapshot": {"log": [1, 1]}}
    return saver.put(at, checkpoint, cast("CheckpointMetadata", metadata), {})


def lines(saver: Saver, at: RunnableConfig) -> list[str]:
    """The lines that the channel is made of at a checkpoint."""
    writes = saver.get_delta_channel_history(config=at, channels=["log"])["log"]["writes"]
    return [line for _, _, written in writes for line in written]


@pytest.fixture
def configs(saver: Saver) -> list[RunnableConfig]:
    """Checkpoints with a line between each two."""
    made = [add(saver, thread("a", checkpoint_ns=""), "")]
    for line in ("one", "two", "three"):
        made.append(add(saver, made[-1], line))
    return made


def test_writes_that_come_late_to_an_old_checkpoint_are_read(
    configs: list[RunnableConfig], saver: Saver, client: redis.Redis, prefix: str
) -> None:
    """What a slow task of another process wrote would be left out of the channel."""
    written = [line * 50 for line in ("one", "two", "three")]
    assert lines(saver, configs[-1]) == written
    late = "z by another process" * 50  # sorts behind the others of its step
    RedisSaver(client, prefix=prefix).put_writes(configs[0], [("log", [late])], "z")
    assert lines(saver, configs[-1]) == [written[0], late, *written[1:]]


def test_a_thread_that_is_pruned_while_a_history_is_read_is_read_as_it_is_then(
    configs: list[RunnableConfig],
    raw_saver: RedisSaver | AsyncRedisSaver,
    saver: Saver,
    client: redis.Redis,
    prefix: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A thread would be reported as damaged because another process has made room."""
    elsewhere = RedisSaver(client, prefix=prefix)
    elsewhere.put_writes(configs[0], [("log", ["z by another process" * 50])], "z")
    whole = generate_checkpoint(channel_values={"log": ["whole"]}, channel_versions={"log": "9"})
    elsewhere.put(configs[-1], whole, generate_metadata(), {"log": "9"})
    fetch = reading._fetch
    asked = list[Any]()

    def fetch_after_pruning(*args: Any) -> Any:
        if not asked:
            elsewhere.prune(["a"])
        asked.append(args)
        return (yield from fetch(*args))

    monkeypatch.setattr(reading, "_fetch", fetch_after_pruning)
    with pytest.raises(MissingAncestorError):
        lines(saver, configs[-1])
    assert len(asked) == 1


def test_a_lost_chunk_of_an_ancestor_is_an_error(
    configs: list[RunnableConfig], saver: Saver, client: redis.Redis, prefix: str
) -> None:
    """A conversation would read as its part that this process knows."""
    chunks = Keyspace(prefix).thread("a").chunks
    mine: Any = client.hkeys(chunks)
    elsewhere = RedisSaver(client, prefix=prefix)
    elsewhere.put_writes(configs[0], [("log", ["z by another process" * 50])], "z")
    theirs: Any = client.hkeys(chunks)
    client.hdel(chunks, *({*theirs} - {*mine}))
    with pytest.raises(CorruptThreadError, match="missing or damaged"):
        lines(saver, configs[-1])
