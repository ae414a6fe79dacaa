"""The option `keep_last`: threads stay short while they grow, and no graph notices.

What graphs see is compared with `InMemorySaver`, which keeps everything, at every turn. What is
left in Redis is looked at as it is stored there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import cycle, pairwise
from operator import add
from random import Random
from string import ascii_letters
from typing import Annotated, Any
from uuid import uuid4

import pytest
import redis
from hypothesis import given
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.channels.delta import DeltaChannel
from langgraph.checkpoint.base import ChannelVersions
from langgraph.checkpoint.conformance.test_utils import (
    generate_checkpoint,
    generate_config,
    generate_metadata,
)
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command, Durability, StateSnapshot
from typing_extensions import TypedDict

from langgraph_checkpoint_redis import CorruptThreadError, RedisSaver
from langgraph_checkpoint_redis._core import writing
from langgraph_checkpoint_redis._protocol.requests import Call, Operation
from langgraph_checkpoint_redis._storage.keys import Keyspace

from .driving import DirectDriver, Driver, Saver
from .graphs import (
    DURABILITIES,
    Session,
    alike,
    asks,
    chat,
    map_reduce,
    says,
    sequence,
    side_by_side,
    thread,
)
from .journal import Acts, Journal, many_acts, whatever_happens
from .run_index import runs_of
from .stored import Stored, stored

Look = Callable[[], Stored]


@pytest.fixture
def saver_options() -> dict[str, Any]:
    """Only the newest checkpoint is kept, unless a test says otherwise."""
    return {"keep_last": 1}


@pytest.fixture
def look(client: redis.Redis, prefix: str) -> Look:
    """Shows what is stored of thread `a`."""
    return lambda: stored(client, prefix)


def put(saver: Saver, at: RunnableConfig, value: object = "v", **metadata: Any) -> RunnableConfig:
    """Add a checkpoint with a new value in one channel and always the same in another."""
    version = saver.get_next_version(None, None)
    checkpoint = generate_checkpoint(
        channel_values={"c": value, "same": "s" * 100},
        channel_versions={"c": version, "same": "1"},
    )
    new: ChannelVersions = {"c": version}
    if "checkpoint_id" not in at["configurable"]:
        new["same"] = "1"
    return saver.put(at, checkpoint, generate_metadata(**metadata), new)


def chain(saver: Saver, length: int, namespace: str = "") -> list[RunnableConfig]:
    """Checkpoints that follow each other, each with writes."""
    configs = [generate_config("a", checkpoint_ns=namespace)]
    for number in range(length):
        configs.append(put(saver, configs[-1], f"{number:100}"))
        saver.put_writes(configs[-1], [("c", f"write {number:100}")], "task")
    return configs[1:]


# What remains


@pytest.mark.parametrize("saver_options", [{"keep_last": 1}, {"keep_last": 3}], ids=str)
def test_only_the_newest_checkpoints_of_each_namespace_remain_with_their_writes(
    saver: Saver, saver_options: dict[str, int], look: Look
) -> None:
    """Threads would grow in spite of the option, or lose what was to be kept."""
    kept = saver_options["keep_last"]
    for namespace in ("", "child", "child|grandchild"):
        configs = chain(saver, 5, namespace)
        found = [*saver.list(generate_config("a", checkpoint_ns=namespace))]
        assert [one.config for one in found] == configs[: -kept - 1 : -1]
        for number, one in zip(range(4, -1, -1), found, strict=False):
            assert one.checkpoint["channel_values"] == {"c": f"{number:100}", "same": "s" * 100}
            assert one.pending_writes == [("task", "c", f"write {number:100}")]
    assert look().garbage() == set()


@pytest.mark.parametrize("namespace", ["", "child"])
def test_a_late_write_to_a_checkpoint_that_is_gone_leaves_nothing(
    saver: Saver, look: Look, namespace: str
) -> None:
    """What slow tasks write after their step would pile up, out of anybody's reach."""
    old, _ = chain(saver, 2, namespace)
    before = look()
    saver.put_writes(old, [("c", "late" * 1000), ("d", ["l" * 600] * 9)], "slow")
    assert look() == before
    put(saver, generate_config("a", checkpoint_ns=namespace), "late" * 1000)
    assert look().garbage() == set()


def test_a_late_write_to_a_past_call_of_a_subgraph_leaves_nothing(saver: Saver, look: Look) -> None:
    """What slow tasks of subgraphs write would pile up, out of anybody's reach."""
    root = put(saver, generate_config("a"))
    called = {"parents": {"": root["configurable"]["checkpoint_id"]}}
    call = put(saver, generate_config("a", checkpoint_ns="child:1"), **called)
    put(saver, root)
    before = look()
    saver.put_writes(call, [("c", "late" * 1000)], "slow")
    assert look() == before


def test_past_calls_of_subgraphs_vanish_while_the_root_keeps_its_delta_channel(
    saver: Saver, look: Look
) -> None:
    """Between two snapshots, every call of a subgraph would stay."""
    root = put(saver, generate_config("a"))
    for _ in range(3):
        written = generate_checkpoint(channel_versions={"c": saver.get_next_version(None, None)})
        metadata = generate_metadata(counters_since_delta_snapshot={"c": (1, 1)})
        root = saver.put(root, written, metadata, written["channel_versions"])
        called = {"parents": {"": root["configurable"]["checkpoint_id"]}}
        put(saver, generate_config("a", checkpoint_ns=f"child:{uuid4()}"), **called)
    assert Counter(record.namespace == "" for record in look().records) == {True: 4, False: 1}
    assert look().garbage() == set()


def test_a_write_that_comes_before_its_checkpoint_waits_for_it(saver: Saver, look: Look) -> None:
    """With durability "async", results of tasks would be lost on their way."""
    first = put(saver, generate_config("a"))
    early = generate_checkpoint()
    at = generate_config("a", checkpoint_id=early["id"])
    saver.put_writes(at, [("c", "early" * 100)], "fast")
    saver.put(first, early, generate_metadata(), {})
    found = saver.get_tuple(generate_config("a"))
    assert found
    assert found.pending_writes == [("fast", "c", "early" * 100)]
    assert look().garbage() == set()


@given(acts=many_acts)
@whatever_happens
def test_nothing_is_left_over_after_any_put(client: redis.Redis, prefix: str, acts: Acts) -> None:
    """A thread of one state would still fill the server, slowly."""
    for keep_last in (1, 2):
        journal = Journal(RedisSaver(client, prefix=prefix, keep_last=keep_last))
        journal.saver.delete_thread("a")
        for act in acts:
            journal.do([act])
            now = stored(client, prefix)
            assert now.garbage() == set()
            assert runs_of(client, prefix, "a") == now.runs_of_checkpoints()
        assert journal.found() >= journal.must_stay("prune")


def test_a_put_that_is_sent_again_does_nothing_more(
    client: redis.Redis, prefix: str, look: Look
) -> None:
    """A client that retries after a lost reply would damage the only checkpoint there is."""
    saver = RedisSaver(client, prefix=prefix, keep_last=1)
    at = generate_config("a")
    for number in range(3):
        checkpoint = generate_checkpoint(
            channel_values={"c": f"{number:100}", "same": "s" * 100},
            channel_versions={"c": number, "same": 0},
        )
        new: ChannelVersions = {"c": number} if number else {"c": number, "same": 0}
        putting = writing.put(saver._context, at, checkpoint, generate_metadata(run_id="r"), new)
        at = _sent_twice(saver, putting, look)
        found = saver.get_tuple(generate_config("a"))
        assert found
        assert found.checkpoint == checkpoint
    assert look().garbage() == set()


def _sent_twice(saver: RedisSaver, operation: Operation[RunnableConfig], look: Look) -> Any:
    """Drive an operation, sending each call of a script again at once."""
    request = next(operation)
    while True:
        if isinstance(request, Call):
            reply, once = saver._reply(request), look()
            again = saver._reply(request)
            if isinstance(reply, list):
                assert [again[0], *again[2:]] == [reply[0], *reply[2:]]
            assert look() == once
        else:
            reply = saver._reply(request)
        try:
            request = operation.send(reply)
        except StopIteration as done:
            return done.value


@pytest.mark.filterwarnings("ignore::langgraph_checkpoint_redis.ClockWarning")
def test_a_checkpoint_of_a_clock_that_is_behind_stays_when_it_is_put_again(saver: Saver) -> None:
    """A client that retries after a lost reply would remove what it has just stored."""
    newest = put(saver, generate_config("a"))
    late = generate_checkpoint(channel_values={"c": "late"}, channel_versions={"c": "1"})
    late["id"] = "0" + newest["configurable"]["checkpoint_id"][1:]
    for _ in range(3):
        at = saver.put(newest, late, generate_metadata(), {"c": "1"})
        found = saver.get_tuple(at)
        assert found
        assert found.checkpoint == late
        latest = saver.get_tuple(generate_config("a"))
        assert latest
        assert latest.config == newest


def test_savers_with_other_settings_do_no_harm(
    saver: Saver, client: redis.Redis, prefix: str, look: Look
) -> None:
    """While a new setting is rolled out, old and new workers would break each other's threads."""
    others = [RedisSaver(client, prefix=prefix, keep_last=number) for number in (None, 5)]
    at = generate_config("a")
    sizes = []
    for number, one in zip(range(18), cycle([saver, *others]), strict=False):
        at = put(one, at, [f"{item} of {number:600}" for item in range(6)])
        for reader in (saver, *others, RedisSaver(client, prefix=prefix)):
            found = reader.get_tuple(generate_config("a"))
            assert found
            assert found.config == at
            assert found.checkpoint["channel_values"]["c"][5] == f"5 of {number:600}"
        sizes.append(len(look().timeline))
    assert sizes == [1, 2, 3] * 6
    put(saver, at)
    assert look().garbage() == set()


def test_a_long_thread_becomes_short_turn_by_turn(
    drive: Driver, server: str, prefix: str, look: Look
) -> None:
    """Turning the option on late would block one put for long, or never have an effect."""
    with RedisSaver.from_conn_string(server, prefix=prefix) as keeping:
        long = Session(DirectDriver(keeping), chat())
        for turn in range(30):
            long.say(f"turn {turn}")
    session = Session(drive, chat(), durability="sync")
    sizes = [len(look().timeline)]
    while sizes[-1] > 1:
        messages = session.say(f"turn {30 + len(sizes)}")["messages"]
        sizes.append(len(look().timeline))
        assert sizes[-1] < sizes[-2]
    assert len(sizes) > 3
    assert len(messages) == 60 + 2 * (len(sizes) - 1)
    assert look().garbage() == set()


# Graphs


def now(session: Session) -> StateSnapshot:
    """The state of a thread, but for its parent."""
    return _without_parent(session.state(subgraphs=True))


def _without_parent(state: StateSnapshot) -> StateSnapshot:
    tasks = [
        task._replace(state=_without_parent(task.state))
        if isinstance(task.state, StateSnapshot)
        else task
        for task in state.tasks
    ]
    return state._replace(parent_config=None, tasks=tuple(tasks))


def test_a_long_chat_goes_on_as_if_everything_was_kept(drive: Driver, look: Look) -> None:
    """A chat would lose messages, depending on when it is stored."""

    def story(drive: Driver) -> list[Any]:
        seen = []
        session = Session(drive, chat())
        for turn, durability in zip(range(30), cycle(DURABILITIES), strict=False):
            message = HumanMessage(f"turn {turn}", id=f"{turn}")
            session.run({"messages": [message]}, durability=durability)
            state = now(session)
            texts = [message.text for message in state.values["messages"]]
            seen.append((texts, state.metadata, state.next))
        return [*seen, state]

    assert len(alike(drive, story)[-1].values["messages"]) == 60
    assert len(look().timeline) == 1
    assert look().garbage() == set()


def test_interrupts_wait_for_their_answers(
    drive: Driver, durability: Durability, look: Look
) -> None:
    """A person's approval would come to nothing, as what asked for it is gone."""

    def story(drive: Driver) -> list[Any]:
        builder = side_by_side(a=asks("a?", "a again?"), b=asks("b?"), c=says("c"))
        session = Session(drive, builder, durability=durability)
        seen = []
        for turn in ("one", "two"):
            session.run({"log": [turn]})
            while asked := session.state().interrupts:
                seen.append(now(session))
                session.run(Command(resume={asked[0].id: f"to {asked[0].value}"}))
            seen.append(now(session))
        return seen

    *_, state = alike(drive, story)
    answers = ["a? to a?", "a again? to a again?", "b? to b?", "c", "last"]
    assert state.values["log"] == ["one", *answers, "two", *answers]
    assert look().garbage() == set()


def test_states_are_updated_by_hand(drive: Driver, look: Look) -> None:
    """What a person corrects would be lost, or the graph would not go on from there."""

    def story(drive: Driver) -> list[Any]:
        session = Session(drive, sequence(a=says("a"), b=asks("b?"), c=says("c")))
        seen = []
        for durability in DURABILITIES:
            session.update({"log": ["before"]}, as_node="c")
            session.run({"log": [durability]}, durability=durability)
            session.update({"log": ["instead of b"]}, as_node="b")
            seen += [now(session), session.run(durability=durability), now(session)]
            session.update({"log": ["after"]})
            seen.append(now(session))
        return seen

    alike(drive, story)
    assert look().garbage() == set()


def test_parallel_branches_come_together(drive: Driver, look: Look) -> None:
    """What branches did at the same time would be lost in part."""

    def story(drive: Driver) -> list[Any]:
        session = Session(drive, map_reduce(20))
        return [
            [session.run({"log": [durability]}, durability=durability), now(session)]
            for durability in DURABILITIES
        ]

    alike(drive, story)
    assert look().garbage() == set()


def namespaces(look: Look) -> set[str]:
    """The namespaces that checkpoints are in, without the ids of tasks."""
    return {record.namespace.split(":")[0] for record in look().records}


def test_subgraphs_remember_and_their_past_calls_vanish(
    drive: Driver, durability: Durability, look: Look
) -> None:
    """Subgraphs would forget where they were, or leave something behind with each call."""
    inner = sequence(x=says("x"), y=asks("y?"), z=says("z"))
    middle = sequence(deep=inner.compile(), w=says("w"))
    nodes: dict[str, Any] = {
        "once": inner.compile(),
        "own": inner.compile(checkpointer=True),
        "nested": middle.compile(),
    }

    def story(drive: Driver) -> list[Any]:
        session = Session(drive, sequence(**nodes), durability=durability)
        seen = []
        for turn in ("one", "two", "three"):
            given: list[object] = [{"log": [turn]}, *[Command(resume=turn)] * 3]
            for one in given:
                seen += [session.run(one), now(session)]
        return seen

    done = alike(drive, story)[-1]
    assert done.next == ()
    assert namespaces(look) == {"", "own"}
    assert look().garbage() == set()


def test_an_interrupted_subgraph_is_kept_and_can_be_updated(
    drive: Driver, durability: Durability, look: Look
) -> None:
    """A subgraph that waits for a person would be cleared away, or could not be corrected."""
    inner = sequence(x=says("x"), y=asks("y?"), z=says("z"))

    def story(drive: Driver) -> list[Any]:
        builder = sequence(call=inner.compile(), after=says("after"))
        session = Session(drive, builder, durability=durability)
        session.run({"log": ["in"]})
        (task,) = session.state(subgraphs=True).tasks
        assert isinstance(task.state, StateSnapshot)
        session.update({"log": ["corrected"]}, task.state.config)
        return [now(session), session.run(Command(resume="yes")), now(session)]

    *_, state = alike(drive, story)
    assert "corrected" in state.values["log"]
    session = Session(drive, sequence(call=inner.compile(), after=says("after")), "a")
    session.run({"log": ["again"]})
    assert namespaces(look) == {"", "call"}


def _extended(state: list[str], writes: Sequence[list[str]]) -> list[str]:
    return [*state, *(text for write in writes for text in write)]


class Often(TypedDict):
    """A snapshot at every third update."""

    log: Annotated[list[str], DeltaChannel(_extended, snapshot_frequency=3)]
    plain: Annotated[list[str], add]


class Seldom(TypedDict):
    """No snapshot within a test."""

    log: Annotated[list[str], DeltaChannel(_extended, snapshot_frequency=10_000)]
    plain: Annotated[list[str], add]


@pytest.mark.parametrize("state", [Often, Seldom])
def test_delta_channels_read_right_at_every_turn(
    drive: Driver, durability: Durability, state: type, look: Look
) -> None:
    """A conversation that is stored in pieces would lose those that lie behind it."""

    def story(drive: Driver) -> list[Any]:
        builder = sequence(state, a=says("a"), b=asks("b?"), c=says("c"))
        session = Session(drive, builder, durability=durability)
        seen = []
        for turn in range(6):
            given: list[object] = [{"log": [f"{turn}"], "plain": ["p"]}, Command(resume=f"{turn}")]
            for one in given:
                seen += [session.run(one), now(session)]
            session.update({"log": ["by hand"]}, as_node="a" if turn % 2 else "c")
            seen.append(now(session))
        return seen

    alike(drive, story)
    assert look().garbage() == set()
    if state is Often:
        assert len(look().timeline) < 10


# Runs and memory


def test_runs_that_have_no_checkpoint_left_are_not_found_any_more(
    drive: Driver, client: redis.Redis, prefix: str, look: Look
) -> None:
    """The index of runs would grow with every run there ever was."""
    session = Session(drive, chat())
    for durability in DURABILITIES:
        run = f"run with {durability}"
        at = thread("a", run_id=run)
        session.run({"messages": [("user", "hi")]}, at, durability=durability)
        assert runs_of(client, prefix, "a") == {run}
        assert look().runs.keys() == {run.encode()}


def test_a_chat_takes_little_more_memory_than_its_state(
    drive: Driver, saver: Saver, client: redis.Redis, prefix: str
) -> None:
    """Keeping only the newest state would not be worth it."""
    random = Random(0)

    def text() -> str:
        return "".join(random.choices(ascii_letters, k=500))

    def answer(state: MessagesState) -> dict[str, Any]:
        return {"messages": [AIMessage(text())]}

    builder = StateGraph(MessagesState).add_node(answer).add_edge(START, "answer")
    session = Session(drive, builder, durability="sync")
    for _ in range(100):
        session.run({"messages": [HumanMessage(text())]})
    found = saver.get_tuple(session.config)
    assert found
    _, data = drive.saver.serde.dumps_typed(found.checkpoint["channel_values"])
    keys = client.scan_iter(f"{prefix}:*")
    assert sum(client.memory_usage(key, samples=0) or 0 for key in keys) <= 1.6 * len(data)


@pytest.mark.parametrize("saver_options", [{"keep_last": 3}], ids=str)
def test_a_put_that_meets_a_damaged_row_stores_nothing(
    saver: Saver, client: redis.Redis, prefix: str
) -> None:
    """A checkpoint would be stored, and its call say that it was not."""
    timeline = Keyspace(prefix).thread("a").timeline
    at = generate_config("a")
    for number in range(3):
        checkpoint = generate_checkpoint(
            channel_values={"c": number}, channel_versions={"c": str(number)}
        )
        at = saver.put(at, checkpoint, generate_metadata(), {"c": str(number)})
    row: Any = client.zrange(timeline, 0, 0)
    client.zrem(timeline, row[0])
    client.zadd(timeline, {row[0][:-1] + bytes([row[0][-1] ^ 1]): 0})
    checkpoint = generate_checkpoint(channel_values={"c": 3}, channel_versions={"c": "3"})
    with pytest.raises(CorruptThreadError):
        saver.put(at, checkpoint, generate_metadata(), {"c": "3"})
    assert client.zcard(timeline) == 3


@pytest.mark.parametrize("saver_options", [{"keep_last": 1}], ids=str)
def test_the_calls_of_subgraphs_go_a_few_with_each_put(
    saver: Saver, client: redis.Redis, server: str, prefix: str
) -> None:
    """A thread of thousands of calls would stop the server in one put, or keep them."""
    plain = RedisSaver(client, prefix=prefix)
    at = put_root(plain, generate_config("a"), 0)
    parents = {"": at["configurable"]["checkpoint_id"]}
    for number in range(700):
        checkpoint = generate_checkpoint(channel_values={}, channel_versions={})
        place = generate_config("a", checkpoint_ns=f"call:{number}")
        plain.put(place, checkpoint, generate_metadata(parents=parents), {})
    timeline, left = Keyspace(prefix).thread("a").timeline, [700]
    for number in range(1, 60):
        at = put_root(saver, at, number)
        left.append(client.zcard(timeline) - 1)
    steps = [before - after for before, after in pairwise(left)]
    assert max(steps) <= 200
    assert left[-1] == 0


def put_root(saver: Any, at: RunnableConfig, number: int) -> RunnableConfig:
    checkpoint = generate_checkpoint(channel_values={"c": number}, channel_versions={"c": number})
    config: RunnableConfig = saver.put(at, checkpoint, generate_metadata(), {"c": number})
    return config


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kept", [1, 4])
def test_delta_channels_are_rebuilt_as_if_all_checkpoints_were_kept(
    client: redis.Redis, prefix: str, kept: int, seed: int
) -> None:
    """Messages would be gone, where several delta channels and branches share ancestors."""
    rng = Random(seed)
    short, long = (
        RedisSaver(client, prefix=prefix, keep_last=kept),
        RedisSaver(client, prefix=prefix),
    )
    newest: list[tuple[RunnableConfig, RunnableConfig, list[str]]]
    newest = [(generate_config("short"), generate_config("long"), [])]
    for number in range(30):
        values = {name: number for name in "abc" if rng.random() < 0.15}
        versions: ChannelVersions = dict.fromkeys("abc", number)
        checkpoint = generate_checkpoint(channel_values=values, channel_versions=versions)
        deltas = dict.fromkeys("abc", (number, number))
        metadata = generate_metadata(counters_since_delta_snapshot=deltas)
        writes = [(name, f"{name} {number}") for name in "abc"]
        at, same, _ = rng.choice(newest)
        at = short.put(at, checkpoint, metadata, versions)
        same = long.put(same, checkpoint, metadata, versions)
        short.put_writes(at, writes, "task")
        long.put_writes(same, writes, "task")
        newest = [*newest, (at, same, [*{*"abc"} - {*values}])][-kept:]
        for at, same, rebuilt in newest:
            found = short.get_delta_channel_history(config=at, channels=rebuilt)
            assert found == long.get_delta_channel_history(config=same, channels=rebuilt)
