"""Each message is stored once, and sent once: what that means for threads as they really grow.

What is stored is counted in the chunks of thread `a`; calls and bytes are counted by the server.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from statistics import fmean
from string import ascii_letters
from typing import Any

import pytest
import redis
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.conformance.test_utils import (
    generate_config,
)
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.graph import START, MessagesState, StateGraph

from langgraph_checkpoint_redis import RedisSaver
from langgraph_checkpoint_redis._core import reading
from langgraph_checkpoint_redis._storage.keys import Keyspace
from langgraph_checkpoint_redis._storage.tree import DIGEST

from .driving import Driver, Saver
from .graphs import Session, chat, thread
from .putting import put
from .stored import chunks_at

Fresh = Callable[[], RedisSaver]

HERE = generate_config("a")


@pytest.fixture
def fresh(client: redis.Redis, prefix: str, serde: SerializerProtocol | None) -> Fresh:
    """Makes savers that know nothing, as in other processes."""
    return lambda: RedisSaver(client, prefix=prefix, serde=serde)


def messages(count: int, size: int = 600) -> list[AnyMessage]:
    """Messages of random letters, the same ones each time."""
    random = Random(0)
    texts = ["".join(random.choices(ascii_letters, k=size)) for _ in range(count)]
    return [
        HumanMessage(text, id=str(number)) if number % 2 else AIMessage(text, id=str(number))
        for number, text in enumerate(texts)
    ]


def grow(saver: Saver, states: Sequence[object], at: RunnableConfig = HERE) -> list[RunnableConfig]:
    """A checkpoint for each state."""
    configs = [at]
    for state in states:
        configs.append(put(saver, configs[-1], state=state)[0])
    return configs[1:]


def chunks(client: Any, prefix: str) -> list[bytes]:
    """The chunks of thread `a`."""
    return [*chunks_at(client, Keyspace(prefix).thread("a").chunks).values()]


def size_of(saver: Saver, value: object) -> int:
    serde = saver.serde if isinstance(saver, RedisSaver) else saver.saver.serde
    return len(serde.dumps_typed(value)[1])


class Traffic:
    """What the server counts from here on."""

    def __init__(self, client: redis.Redis) -> None:
        self.client = client
        self.start = self._now()

    def so_far(self) -> tuple[int, int, int]:
        """Calls of scripts, bytes to the server, and bytes from it."""
        calls, sent, received = (
            now - before for now, before in zip(self._now(), self.start, strict=True)
        )
        return calls, sent, received

    @property
    def calls(self) -> int:
        return self.so_far()[0]

    def _now(self) -> tuple[int, int, int]:
        stats = self.client.info("stats")
        calls = self.client.info("commandstats").get("cmdstat_evalsha", {}).get("calls", 0)
        return calls, stats["total_net_input_bytes"], stats["total_net_output_bytes"]


# Stored once


def test_a_message_is_stored_once_wherever_it_is(
    saver: Saver, client: redis.Redis, prefix: str
) -> None:
    """The server would fill up with copies of what was said."""
    said = messages(30)
    first, *_, last = grow(saver, [said[: number + 1] for number in range(30)])
    put(saver, last, another=said, newest=said[-1])
    put(saver, generate_config("a", checkpoint_ns="child:1"), state=said[10:])
    fork, _ = put(saver, first, state=[said[0], *said[20:]])
    for at in (first, fork, last):
        saver.put_writes(at, [("state", said[5:25]), ("state", said[7]), ("other", said)], "task")
    stored = chunks(client, prefix)
    for message in said:
        assert sum(message.text.encode() in chunk for chunk in stored) == 1
    assert sum(map(len, stored)) <= 1.25 * size_of(saver, said)


@dataclass
class Desk:
    """A state that is one object."""

    topic: str
    said: list[AnyMessage]
    notes: dict[str, list[AnyMessage]]


STATES: dict[str, Callable[[list[AnyMessage]], object]] = {
    "dict": lambda said: {"topic": "t", "said": said, "notes": {"first": said[:2]}},
    "dict in a dict": lambda said: {"agents": {"one": {"said": said}, "other": {"said": said}}},
    "dataclass": lambda said: Desk("t", said, {"first": said[:2]}),
    "list of lists": lambda said: [said[start : start + 10] for start in range(0, len(said), 10)],
}


@pytest.mark.parametrize("state_of", [*STATES.values()], ids=[*STATES])
def test_messages_within_a_larger_state_are_shared_as_well(
    saver: Saver,
    fresh: Fresh,
    client: redis.Redis,
    prefix: str,
    state_of: Callable[[list[AnyMessage]], object],
) -> None:
    """Graphs that keep all they know in one object would store all of it at every step."""
    states = [state_of(messages(40)[: number + 1]) for number in range(40)]
    configs = grow(saver, states)
    once = size_of(saver, messages(40))
    assert sum(map(len, chunks(client, prefix))) <= 3 * once
    for at, state in zip(configs, states, strict=True):
        found = fresh().get_tuple(at)
        assert found
        assert found.checkpoint["channel_values"] == {"state": state}


class TestEncrypted:
    """Values that are encrypted."""

    @pytest.fixture
    def serde(self) -> SerializerProtocol:
        return EncryptedSerializer.from_pycryptodome_aes(key=b"sixteen byte key")

    def test_a_value_is_stored_whole_and_reads_as_it_was(
        self, saver: Saver, fresh: Fresh, client: redis.Redis, prefix: str
    ) -> None:
        """Secrets could be compared without the key, or would not be readable with it."""
        said = messages(20)
        configs = grow(saver, [said] * 3)
        saver.put_writes(configs[-1], [("state", said)], "task")
        size = size_of(saver, said)
        stored = chunks(client, prefix)
        assert 4 * size <= sum(map(len, stored)) <= 4.01 * size
        assert not any(message.text.encode() in b"".join(stored) for message in said)
        for found in fresh().list(HERE):
            assert found.checkpoint["channel_values"] == {"state": said}
        newest = fresh().get_tuple(HERE)
        assert newest
        assert newest.pending_writes == [("task", "state", said)]

    def test_a_chat_goes_on(self, drive: Driver, fresh: Fresh) -> None:
        """A graph would not run with encryption."""
        session = Session(drive, chat())
        for turn in range(10):
            session.say(f"turn {turn}")
        found = fresh().get_tuple(thread("a"))
        assert found
        assert found.checkpoint["channel_values"]["messages"] == session.state().values["messages"]


# Memory that is wrong


LARGE = "x" * 500
Lose = Callable[[Any, Fresh, bytes], object]

LOSSES: dict[str, Lose] = {
    "all chunks": lambda client, fresh, key: _lose_chunks(client, fresh(), key),
    "half of the chunks": lambda client, _, key: client.hdel(
        key, *sorted(name for name in client.hkeys(key) if len(name) == DIGEST)[::2]
    ),
    "what does not change": lambda client, _, key: client.hdel(
        key, *(name for name, chunk in client.hgetall(key).items() if LARGE.encode() in chunk)
    ),
    "what only an old state had": lambda _, fresh, __: fresh().prune(["a"]),
    "the thread": lambda _, fresh, __: fresh().delete_thread("a"),
    "the thread, which begins anew": lambda _, fresh, __: _begin_anew(fresh()),
}


def _lose_chunks(client: Any, saver: RedisSaver, key: bytes) -> None:
    """Lose all chunks of a thread that has both checkpoints and writes, so nothing else."""
    found = saver.get_tuple(HERE)
    assert found
    saver.put_writes(found.config, [("other", 1)], "other")
    client.delete(key)


def _begin_anew(saver: RedisSaver) -> None:
    saver.delete_thread("a")
    grow(saver, [messages(3)])


@pytest.fixture(params=LOSSES)
def lose(
    request: pytest.FixtureRequest, client: redis.Redis, fresh: Fresh, prefix: str
) -> Callable[[], object]:
    """Loses something behind the saver's back."""
    key = Keyspace(prefix).thread("a").chunks
    return lambda: LOSSES[request.param](client, fresh, key)


@pytest.mark.parametrize(
    "state_of",
    [
        lambda said: said,
        lambda said: [*said[29::-1], *said[40:]],  # where only new nodes refer to what is gone
    ],
    ids=["as before", "in another order"],
)
def test_a_put_after_a_loss_takes_a_second_call_and_is_complete(
    saver: Saver,
    fresh: Fresh,
    client: redis.Redis,
    lose: Callable[[], object],
    state_of: Callable[[list[AnyMessage]], object],
) -> None:
    """A new state would lack what the server was thought to have."""
    said = messages(48)
    at, old = put(saver, HERE, said=said[:40], large=LARGE)
    at, now = put(saver, at, old, said=said[30:40])
    lose()
    traffic = Traffic(client)
    at, again = put(saver, at, now, said=state_of(said))
    assert traffic.calls == 2
    _, last = put(saver, at, again, said=said[1:])
    assert traffic.calls == 3
    for config, expected in ((at, again), (HERE, last)):
        found = fresh().get_tuple(config)
        assert found
        assert found.checkpoint == expected


def test_writes_after_a_loss_take_a_second_call_and_are_complete(
    saver: Saver, fresh: Fresh, client: redis.Redis, lose: Callable[[], object]
) -> None:
    """What a task did would be lost, while the graph goes on as if it were not."""
    said = messages(40)
    at, _ = put(saver, HERE, said=said, large=LARGE)
    put(saver, at, said=said[:2])
    lose()
    at, _ = put(saver, at, small="s")
    traffic = Traffic(client)
    saver.put_writes(at, [("said", said), ("large", LARGE)], "task 1")
    assert traffic.calls == 2
    saver.put_writes(at, [("said", said[::-1])], "task 2")
    assert traffic.calls == 3
    found = fresh().get_tuple(at)
    assert found
    assert found.pending_writes == [
        ("task 1", "said", said),
        ("task 1", "large", LARGE),
        ("task 2", "said", said[::-1]),
    ]


# Sent once


def test_the_first_put_of_a_process_is_one_call(
    saver: Saver, fresh: Fresh, client: redis.Redis
) -> None:
    """Each worker would begin with a needless round trip."""
    said = messages(40)
    at, old = put(fresh(), HERE, said=said[:39], other=said)
    fresh().get_tuple(at)  # so that the server knows the script
    traffic = Traffic(client)
    put(saver, at, old, said=said)
    assert traffic.calls == 1


def test_what_was_read_is_not_sent_again(saver: Saver, fresh: Fresh, client: redis.Redis) -> None:
    """A turn that another process takes over would send the whole conversation."""
    said = messages(201)
    at, _ = put(fresh(), HERE, said=said[:200])
    saver.get_tuple(HERE)
    traffic = Traffic(client)
    put(saver, at, said=said)
    calls, sent, _ = traffic.so_far()
    assert calls == 1
    assert sent < 5000


def test_a_late_turn_of_a_chat_moves_as_much_as_an_early_one(
    drive: Driver, client: redis.Redis
) -> None:
    """A chat would become slower with each turn."""
    said = iter(messages(120))

    def answer(state: MessagesState) -> dict[str, Any]:
        return {"messages": [next(said)]}

    builder = StateGraph(MessagesState).add_node(answer).add_edge(START, "answer")
    session = Session(drive, builder, durability="sync")
    moved = []
    for message in said:
        traffic = Traffic(client)
        session.run({"messages": [message]})
        _, sent, received = traffic.so_far()
        moved.append((sent, received))
    sent_early, received_early = map(fmean, zip(*moved[10:20], strict=True))
    sent_late, received_late = map(fmean, zip(*moved[50:60], strict=True))
    assert sent_late <= 1.3 * sent_early
    assert received_late <= 1.3 * received_early


def test_a_history_of_many_pages_brings_each_message_once(
    saver: Saver, fresh: Fresh, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looking back would move the whole conversation again with each page."""
    monkeypatch.setattr(reading, "PAGE", 10)
    said = messages(60, 2000)
    configs = grow(fresh(), [said[: number + 1] for number in range(60)])
    traffic = Traffic(client)
    found = [*saver.list(HERE)]
    calls, _, received = traffic.so_far()
    assert calls == 6
    assert [one.config for one in found] == configs[::-1]
    states = [one.checkpoint["channel_values"]["state"] for one in found]
    assert states == [said[:number] for number in range(60, 0, -1)]
    assert received <= 1.2 * size_of(saver, said) + 1000 * len(configs)
