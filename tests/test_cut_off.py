"""The history of threads that stay short, with several delta channels.

Each channel has its snapshots at checkpoints of its own. So a checkpoint that is kept because one
channel of a newer one is rebuilt from it may lack what another channel needs. Such checkpoints are
cut off: they are there, and no listing has them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, cast

import pytest
import redis
from langchain_core.runnables import RunnableConfig
from langgraph.channels.delta import DeltaChannel
from langgraph.checkpoint.base import ChannelVersions
from langgraph.checkpoint.conformance.test_utils import generate_checkpoint, generate_metadata
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.graph import START, StateGraph
from langgraph.types import Durability
from typing_extensions import TypedDict

from langgraph_checkpoint_redis import MissingAncestorError, RedisSaver
from langgraph_checkpoint_redis._storage.keys import Keyspace
from langgraph_checkpoint_redis.moving import export_threads, import_threads, migrate

from .ciphers import NEW, OLD, ring
from .driving import DirectDriver, Driver, Saver
from .graphs import Builder, Session, sequence, thread
from .stored import stored

ON_ONE_SERVER = True  # `make test-servers` has all of them

SaverOn = Callable[..., Saver]
HERE: RunnableConfig = {"configurable": {"thread_id": "a", "checkpoint_ns": ""}}


def _extended(state: list[str], writes: Sequence[list[str]]) -> list[str]:
    return [*state, *(text for write in writes for text in write)]


class Two(TypedDict):
    """Two channels whose snapshots seldom fall together."""

    log: Annotated[list[str], DeltaChannel(_extended, snapshot_frequency=3)]
    notes: Annotated[list[str], DeltaChannel(_extended, snapshot_frequency=5)]


class Late(TypedDict):
    """The same, with one more that is first written when the others are old."""

    log: Annotated[list[str], DeltaChannel(_extended, snapshot_frequency=3)]
    notes: Annotated[list[str], DeltaChannel(_extended, snapshot_frequency=5)]
    late: Annotated[list[str], DeltaChannel(_extended, snapshot_frequency=4)]


class Log(TypedDict):
    """What a subgraph with memory has said, with no snapshot."""

    log: Annotated[list[str], DeltaChannel(_extended, snapshot_frequency=1000)]


class Counted(TypedDict):
    """How much the subgraph knew."""

    count: int


def _says_more(_: Log) -> dict[str, list[str]]:
    return {"log": ["said"]}


def _says(state: Any) -> dict[str, list[str]]:
    turn = len(state["notes"])
    late = {"late": [f"late {turn}"]} if "late" in state and turn > 5 else {}
    return {"log": [f"said {turn}"], "notes": [f"noted {turn}"], **late}


def graph(state: type = Two) -> Builder:
    """A graph that writes to both channels in each turn."""
    return StateGraph(state).add_node("says", _says).add_edge(START, "says")


@pytest.fixture(params=[1, 2, 5])
def kept(request: pytest.FixtureRequest) -> int:
    """How many checkpoints are kept."""
    return int(request.param)


@pytest.fixture
def saver_options(kept: int) -> dict[str, Any]:
    return {"keep_last": kept}


def in_memory(builder: Builder, **options: Any) -> Session:
    """The same graph with a saver that keeps everything."""
    return Session(DirectDriver(InMemorySaver()), builder, **options)


def values(session: Session, at: RunnableConfig | None = None) -> list[dict[str, list[str]]]:
    return [found.values for found in session.history(at)]


@pytest.mark.parametrize("state", [Two, Late])
def test_the_history_has_the_newest_checkpoints_and_never_fails(
    drive: Driver, saver: Saver, kept: int, durability: Durability, state: type
) -> None:
    """To look back would raise an error in every other turn."""
    session = Session(drive, graph(state), durability=durability)
    memory = in_memory(graph(state), durability=durability)
    for turn in range(10):
        for each in (session, memory):
            each.run({"log": [f"turn {turn}"]})
        assert values(session) == values(memory)[:kept]
        assert saver.verify("a") == []
    assert len(session.history()) == kept


def test_subgraphs_have_a_history_of_their_own(
    drive: Driver, saver: Saver, kept: int, durability: Durability
) -> None:
    """What a subgraph remembers could not be looked at."""
    builder = sequence(Two, own=graph().compile(checkpointer=True))
    session = Session(drive, builder, durability=durability)
    memory = in_memory(builder, durability=durability)
    inner = thread(checkpoint_ns="own")
    for turn in range(7):
        for each in (session, memory):
            each.run({"log": [f"turn {turn}"]})
        assert values(session) == values(memory)[:kept]
        assert values(session, inner) == values(memory, inner)[:kept]
    listed = {each.config["configurable"]["checkpoint_ns"] for each in saver.list(thread())}
    assert listed == {"", "own"}
    assert saver.verify("a") == []


def test_forks_are_listed_as_what_they_are(drive: Driver, saver: Saver, kept: int) -> None:
    """A person who goes back would see errors, or what others have said."""
    session, memory = Session(drive, graph()), in_memory(graph())
    for turn in range(8):
        for each in (session, memory):
            history = each.history()
            at = history[min(len(history), kept) - 1].config if turn % 3 == 2 else None
            each.run({"log": [f"turn {turn}"]}, at)
            if turn % 3 == 1:
                each.update({"notes": ["by hand"]}, each.history()[0].config, as_node="says")
        assert values(session) == values(memory)[:kept]
    assert saver.verify("a") == []


@pytest.mark.parametrize("saver_options", [{}])
def test_a_pruned_thread_has_the_newest_checkpoints_in_its_history(
    drive: Driver, saver: Saver, kept: int
) -> None:
    """To look back at a thread that was made short would raise an error."""
    session, memory = Session(drive, graph()), in_memory(graph())
    for turn in range(9):
        for each in (session, memory):
            each.run({"log": [f"turn {turn}"]})
        if turn % 4 == 3:
            saver.prune_threads(keep_last=kept)
            assert values(session) == values(memory)[:kept]
            assert saver.verify("a") == []
    saver.prune(["a"])
    assert values(session) == values(memory)[:1]


@pytest.mark.parametrize("saver_options", [{}])
def test_a_long_thread_shows_no_error_while_it_becomes_short(
    drive: Driver, kept: int, client: redis.Redis, prefix: str
) -> None:
    """Turning the option on late would break the history until all old checkpoints are gone."""
    session, memory = Session(drive, graph()), in_memory(graph())
    for turn in range(14):
        for each in (session, memory):
            each.run({"log": [f"turn {turn}"]})
    short = session.go_on(DirectDriver(RedisSaver(client, prefix=prefix, keep_last=kept)))
    sizes = [len(stored(client, prefix).timeline)]
    while len(sizes) < 2 or sizes[-1] < sizes[-2]:
        for each in (short, memory):
            each.run({"log": [f"turn {14 + len(sizes)}"]})
        found = values(short)
        assert found == values(memory)[: len(found)]
        assert len(found) >= kept
        sizes.append(len(stored(client, prefix).timeline))
    assert values(short) == values(memory)[:kept]


def test_savers_that_keep_other_numbers_show_no_error(
    client: redis.Redis, prefix: str, kept: int
) -> None:
    """While the option is rolled out, workers would break each other's history."""
    savers = [RedisSaver(client, prefix=prefix, keep_last=each) for each in (kept, 5, None)]
    memory = in_memory(graph())
    for turn in range(18):
        session = Session(DirectDriver(savers[turn // 2 % 3]), graph())
        for each in (session, memory):
            each.run({"log": [f"turn {turn}"]})
        found = values(session)
        assert found == values(memory)[: len(found)]
        assert len(found) >= min(kept, len(values(memory)))
        assert savers[0].verify("a") == []


# What was cut off


def all_configs(client: redis.Redis, prefix: str) -> list[RunnableConfig]:
    """The configs of all checkpoints that are stored, newest first."""
    rows = reversed(stored(client, prefix).records)
    return [thread(checkpoint_ns="", checkpoint_id=row.checkpoint_id) for row in rows]


@pytest.mark.parametrize("saver_options", [{"keep_last": 1}], ids=str)
def test_by_its_id_a_checkpoint_reads_as_it_was_or_raises_an_error(
    drive: Driver, saver: Saver, client: redis.Redis, prefix: str
) -> None:
    """A link to an old state would show less than there was."""
    session, memory = Session(drive, graph()), in_memory(graph())
    read = missing = 0
    for turn in range(9):
        for each in (session, memory):
            each.run({"log": [f"turn {turn}"]})
        listed = [each.config for each in saver.list(thread())]
        configs = all_configs(client, prefix)
        assert listed == configs[:1]
        then = values(memory)
        for config in configs[1:]:
            assert [each.config for each in saver.list(config)] == [config]
            try:
                assert session.state(config).values in then
                read += 1
            except MissingAncestorError:
                missing += 1
    assert read
    assert missing


@pytest.mark.parametrize("saver_options", [{"keep_last": 1}], ids=str)
def test_what_goes_on_from_a_cut_off_checkpoint_is_whole_or_refused(
    drive: Driver, saver: Saver, client: redis.Redis, prefix: str
) -> None:
    """A branch would be stored that nobody can read."""
    stored_ones = refused = 0
    for turns in range(4, 9):
        session = Session(drive, graph())
        for turn in range(turns):
            session.run({"log": [f"turn {turn}"]})
        for config in all_configs(client, prefix)[1:]:
            parent = saver.get_tuple(config)
            if parent is None:
                continue
            try:
                put(saver, config, dict(parent.checkpoint["channel_versions"]))
            except MissingAncestorError:
                refused += 1
                continue
            stored_ones += 1
            session.state()
        saver.delete_thread("a")
    assert stored_ones
    assert refused


def put(
    saver: Saver,
    at: RunnableConfig,
    versions: ChannelVersions,
    held: Mapping[str, Any] | None = None,
    *,
    id: str = "",
    **metadata: Any,
) -> RunnableConfig:
    """Put a checkpoint of delta channels, with the values of some."""
    held = held or {}
    checkpoint = generate_checkpoint(channel_values={**held}, channel_versions=versions)
    checkpoint["id"] = id or checkpoint["id"]
    counters = {channel: (1, 1) for channel in versions if channel not in held}
    metadata = {**metadata, "counters_since_delta_snapshot": counters}
    return saver.put(at, checkpoint, generate_metadata(**metadata), versions)


def story(saver: Saver, snapshots: Mapping[int, str], length: int) -> list[RunnableConfig]:
    """Checkpoints that follow each other, each with writes to two channels."""
    configs = [HERE]
    for number in range(length):
        held = {channel: [f"{channel} up to {number}"] for channel in snapshots.get(number, "")}
        configs.append(put(saver, configs[-1], {"a": number, "b": number}, held, id=name(number)))
        saver.put_writes(configs[-1], [("a", f"a {number}"), ("b", f"b {number}")], "task")
    return configs[1:]


def name(number: int) -> str:
    """An id that tells which checkpoint it is."""
    return f"1f1ea980-0000-6000-8000-{number:012}"


def read(saver: Saver, at: RunnableConfig) -> dict[str, list[str]]:
    """What both channels are rebuilt from."""
    found = saver.get_delta_channel_history(config=at, channels=["a", "b"])
    return {
        channel: [*history.get("seed", []), *(text for _, _, text in history["writes"])]
        for channel, history in found.items()
    }


STAGGERED = {0: "ab", 4: "a", 7: "b", 9: "a", 12: "b", 14: "a"}


@pytest.mark.parametrize("saver_options", [{"keep_last": 1}], ids=str)
def test_after_a_run_was_deleted_the_newest_that_is_left_is_listed(saver: Saver) -> None:
    """A thread whose last run was rolled back would seem to be empty, or go on from less."""
    for length in range(6, 16):
        configs = story(saver, STAGGERED, length)
        before = read(saver, configs[-1])
        put(saver, configs[-1], {"a": 99, "b": 99}, run_id="last")
        saver.delete_for_runs(["last"])
        found = saver.get_tuple(HERE)
        assert found
        assert found.config == configs[-1]
        assert [each.config for each in saver.list(HERE)] == [found.config]
        assert [each.config for each in saver.list(HERE, limit=1)] == [found.config]
        assert saver.verify("a") == []
        assert read(saver, HERE) == before
        saver.delete_thread("a")


@pytest.mark.parametrize("saver_options", [{"keep_last": 1}], ids=str)
def test_an_incomplete_checkpoint_that_became_the_newest_is_no_ground_to_go_on(
    saver: Saver, client: redis.Redis, prefix: str
) -> None:
    """A turn would be acknowledged, and the thread unreadable from then on."""
    configs = story(saver, STAGGERED, 15)
    timeline = Keyspace(prefix).thread("a").timeline
    rows: Any = client.zrange(timeline, 0, -1)
    incomplete = 0
    while len(rows) > 1:  # as if the newest ones were deleted, one after the other
        client.zrem(timeline, rows.pop())
        newest = thread(checkpoint_ns="", checkpoint_id=rows[-1].split(b"\0")[1].decode())
        assert [each.config for each in saver.list(HERE)] == [newest]
        try:
            read(saver, newest)
        except MissingAncestorError:
            incomplete += 1
            assert [problem.kind for problem in saver.verify("a")] == ["incomplete"]
            with pytest.raises(MissingAncestorError):
                put(saver, newest, {"a": 99, "b": 99})
    assert incomplete
    assert configs


@pytest.mark.parametrize("saver_options", [{"keep_last": 2}], ids=str)
def test_a_copy_is_cut_off_where_its_source_was(
    drive: Driver, saver: Saver, client: redis.Redis, prefix: str
) -> None:
    """A copy of a short thread would raise errors when somebody looks back."""
    session = Session(drive, graph())
    for turn in range(8):
        session.run({"log": [f"turn {turn}"]})
    saver.copy_thread("a", "b")
    copy = Session(drive, graph(), "b")
    assert values(copy) == values(session)
    assert saver.verify("b") == []
    for each in (session, copy):
        each.run({"log": ["more"]})
    assert values(copy) == values(session)


@pytest.mark.parametrize("saver_options", [{"keep_last": 2}], ids=str)
@pytest.mark.parametrize("by_file", [False, True])
def test_a_moved_thread_is_cut_off_where_it_was(
    drive: Driver, client: redis.Redis, prefix: str, tmp_path: Path, *, by_file: bool
) -> None:
    """On another server, the history would go on with checkpoints that read as less."""
    session = Session(drive, graph())
    for turn in range(8):
        session.run({"log": [f"turn {turn}"]})
    target = RedisSaver(client, prefix=f"{prefix}:target")
    source = RedisSaver(client, prefix=prefix)
    if by_file:
        export_threads(source, tmp_path / "threads")
        report = import_threads(target, tmp_path / "threads")
    else:
        report = migrate(source, target)
    assert report.copied == ("a",)
    moved = session.go_on(DirectDriver(target))
    assert values(moved) == values(session)
    assert target.verify("a") == []
    assert migrate(source, target).present == ("a",)
    more = {"log": ["more"]}
    assert moved.run(more) == session.run(more)


def test_a_thread_is_cut_off_where_it_was_after_it_moved_to_a_new_key(
    saver_on: SaverOn, server: str, prefix: str
) -> None:
    """A key that is replaced would make the history raise errors."""
    old = saver_on(server, prefix=prefix, keep_last=2, serde=EncryptedSerializer(ring(OLD)))
    configs = story(old, STAGGERED, 15)
    before = read(old, configs[-1])
    both = saver_on(server, prefix=prefix, serde=EncryptedSerializer(ring(NEW, OLD)))
    both.reencrypt("a")
    assert [each.config for each in both.list(HERE)] == configs[:-3:-1]
    assert both.verify("a") == []
    assert read(both, configs[-1]) == before


@pytest.mark.parametrize("saver_options", [{"keep_last": 2}], ids=str)
def test_a_page_that_begins_among_the_cut_off_is_empty(saver: Saver) -> None:
    """The last page of a history would end with an error."""
    configs = story(saver, STAGGERED, 14)
    assert [each.config for each in saver.list(HERE, before=configs[-1])] == [configs[-2]]
    for number in range(5):
        assert [*saver.list(HERE, before=configs[-2 - number])] == []


@pytest.mark.parametrize("saver_options", [{"keep_last": 1}], ids=str)
def test_a_repeated_put_of_an_old_checkpoint_lists_it_no_more_than_before(
    saver: Saver, client: redis.Redis, prefix: str
) -> None:
    """A request that arrives late would bring an incomplete checkpoint back into the history."""
    configs = story(saver, {0: "ab"}, 6)
    for again in (saver, cast("Saver", RedisSaver(client, prefix=prefix))):
        put(again, configs[2], {"a": 3, "b": 3}, id=name(3))
        rows = stored(client, prefix).records
        assert [row.checkpoint_id for row in rows] == [name(number) for number in range(6)]
        assert [row.is_cut_off for row in rows] == [True] * 5 + [False]


@pytest.mark.parametrize("keeps", [True, False])
@pytest.mark.parametrize("saver_options", [{"keep_last": 1}], ids=str)
def test_what_an_ancestor_needs_is_kept_when_it_is_put_again_with_less(
    saver: Saver, client: redis.Redis, prefix: str, *, keeps: bool
) -> None:
    """What was noted of the ancestors would be wrong, and messages be removed."""
    configs = story(saver, {0: "ab", 4: "ab"}, 4)
    fifth = put(saver, configs[3], {"a": 4, "b": 4}, {"a": ["held"]}, id=name(4))
    saver.put_writes(fifth, [("a", "a 4"), ("b", "b 4")], "task")
    at = [*configs, fifth]
    for number in range(5, 9):
        at.append(put(saver, at[-1], {"a": number, "b": number}, id=name(number)))
        saver.put_writes(at[-1], [("a", f"a {number}"), ("b", f"b {number}")], "task")
    again = saver if keeps else cast("Saver", RedisSaver(client, prefix=prefix))
    put(again, configs[3], {"a": 4, "b": 4}, {"b": ["b held"]}, id=name(4))
    for number in range(9, 12):
        at.append(put(saver, at[-1], {"a": number, "b": number}, id=name(number)))
    assert read(saver, at[-1]) == {
        "a": ["a up to 0", *(f"a {number}" for number in range(9))],
        "b": ["b held", *(f"b {number}" for number in range(4, 9))],
    }


@pytest.mark.parametrize("saver_options", [{"keep_last": 3}], ids=str)
def test_a_root_checkpoint_in_the_history_is_replayed_with_what_its_subgraph_knew(
    drive: Driver,
) -> None:
    """A subgraph with memory would begin anew, without any sign of it."""

    def chat(checkpointer: Any) -> Any:
        inner: Any = StateGraph(Log)
        said = inner.add_node("say", _says_more).add_edge(START, "say").compile(checkpointer=True)

        def count(_: Counted) -> dict[str, int]:
            return {"count": len(said.invoke({"log": ["asked"]})["log"])}

        outer: Any = StateGraph(Counted)
        outer.add_node("count", count).add_edge(START, "count")
        return outer.compile(checkpointer=checkpointer)

    results = []
    for saver in (drive.saver, InMemorySaver()):
        graph = chat(saver)
        for _ in range(4):
            graph.invoke({"count": 0}, thread("a"))
        history = graph.get_state_history(thread("a"))
        replayed = next(state for state in history if state.next == ("count",))
        results.append(graph.invoke(None, replayed.config)["count"])
    assert results == [8, 8]
