"""What operations cost, in the server's own counts: round trips, bytes each way, memory.

All numbers are the same on every run and machine; how long things take is for the benchmarks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from random import Random
from statistics import fmean
from string import ascii_letters
from typing import Any
from uuid import uuid4

import pytest
import redis
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.conformance.test_utils import (
    generate_checkpoint,
    generate_config,
    generate_metadata,
)
from langgraph.graph import START, MessagesState, StateGraph

from langgraph_checkpoint_redis import RedisSaver

from .counting import cost, stored_bytes
from .driving import Graph, Saver
from .servers import own_server

server = own_server  # its counts are of nobody else

MEGABYTE = 1_000_000
MESSAGE = 500  # characters


# Operations


def put(saver: Saver, at: RunnableConfig, *, value: Any = "v", **metadata: Any) -> RunnableConfig:
    """Add a checkpoint."""
    checkpoint = generate_checkpoint(channel_values={"c": value}, channel_versions={"c": "1"})
    return saver.put(at, checkpoint, generate_metadata(**metadata), {"c": "1"})


def grown(saver: Saver, thread_id: str, checkpoints: int, **options: Any) -> RunnableConfig:
    """A thread of so many checkpoints."""
    at = generate_config(thread_id)
    for _ in range(checkpoints):
        at = put(saver, at, **options)
    return at


OPERATIONS: dict[str, Callable[[Saver, RunnableConfig], object]] = {
    "put": put,
    "put_writes": lambda saver, at: saver.put_writes(at, [("c", "w"), ("d", "w")], "task"),
    "get_tuple of the latest": lambda saver, at: saver.get_tuple(_latest(at)),
    "get_tuple by id": lambda saver, at: saver.get_tuple(at),
    "a page of list": lambda saver, at: list(saver.list(_latest(at))),
    "delete_thread": lambda saver, at: saver.delete_thread(at["configurable"]["thread_id"]),
    "prune": lambda saver, at: saver.prune([at["configurable"]["thread_id"]]),
    "delta history": lambda saver, at: saver.get_delta_channel_history(config=at, channels=["c"]),
}


def _latest(at: RunnableConfig) -> RunnableConfig:
    return generate_config(at["configurable"]["thread_id"])


@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_operation_is_one_round_trip(saver: Saver, client: redis.Redis, operation: str) -> None:
    """Each step of a graph would wait for the network more often, and could be half done."""
    act = OPERATIONS[operation]
    act(saver, grown(saver, "so that the server knows the script", 3))
    at = grown(saver, "a", 3)
    found = cost(client, lambda: act(saver, at))
    assert found.round_trips == found.commands.pop("evalsha") == 1
    assert not found.commands.get("eval")


@pytest.mark.parametrize(("messages", "round_trips"), [(200, 1), (400, 2)])
def test_a_long_conversation_does_not_hold_up_the_server_when_it_is_read_first(
    saver: Saver, client: redis.Redis, prefix: str, messages: int, round_trips: int
) -> None:
    """Everybody else would wait while a script copies it, which takes it so much longer."""
    at = generate_config("a")
    put(RedisSaver(client, prefix=prefix), at, value=[_text(n, 600) for n in range(messages)])
    saver.get_tuple(generate_config("other"))  # the server knows the script
    first, second = (cost(client, lambda: saver.get_tuple(at)) for _ in range(2))
    assert (first.round_trips, second.round_trips) == (round_trips, 1)


def test_only_the_first_put_of_a_run_goes_to_the_index_of_runs(
    saver: Saver, client: redis.Redis
) -> None:
    """Each checkpoint would take two round trips where one is enough."""
    at = grown(saver, "a", 1, run_id="so that the server knows the scripts")
    first = cost(client, lambda: put(saver, at, run_id="r"))
    second = cost(client, lambda: put(saver, at, run_id="r"))
    other = cost(client, lambda: put(saver, at, run_id="s"))
    assert [first.round_trips, second.round_trips, other.round_trips] == [2, 1, 2]
    calls = [one.commands["evalsha"] for one in (first, second, other)]
    assert calls == [2, 1, 2]


def test_a_long_list_takes_a_call_per_page(saver: Saver, client: redis.Redis) -> None:
    """A history would come checkpoint by checkpoint, or in one reply that blocks the server."""
    at = grown(saver, "a", 250)
    list(saver.list(_latest(at), limit=1))  # the server knows the script
    found = cost(client, lambda: list(saver.list(_latest(at))))
    assert found.round_trips == found.commands["evalsha"] == 3


def test_a_limited_list_reads_no_more_than_that(saver: Saver, client: redis.Redis) -> None:
    """Showing the last two of many steps would read a whole page of them."""
    grown(saver, "a", 100)
    few = cost(client, lambda: list(saver.list(generate_config("a"), limit=2)))
    all_ = cost(client, lambda: list(saver.list(generate_config("a"))))
    assert few.received < all_.received / 25


def test_a_filtered_list_brings_the_values_of_matches_only(
    saver: Saver, client: redis.Redis
) -> None:
    """To find one step in a history, all states of the thread would cross the network."""
    size = 10_000
    for number in range(250):
        put(saver, generate_config("a"), value=_text(number, size), user=f"user {number}")
    found = cost(client, lambda: list(saver.list(generate_config("a"), filter={"user": "user 99"})))
    assert found.commands["evalsha"] == 3 + 1
    assert size < found.received < 10 * size


def _text(seed: int, size: int) -> str:
    return "".join(Random(seed).choices(ascii_letters, k=size))


# Keys


def test_a_thread_takes_four_keys_and_leaves_none(
    saver: Saver, client: redis.Redis, prefix: str
) -> None:
    """Memory would be lost with each thread that is deleted, forever."""
    for namespace in ("", "child:1", "child:1|grandchild:2"):
        at = put(saver, generate_config("a", checkpoint_ns=namespace), run_id=f"run of {namespace}")
        saver.put_writes(at, [("c", _text(1, 2000))], "task")
    kinds = [key.rpartition(b":")[2] for key in client.scan_iter(f"{prefix}:{{a}}:*")]
    assert sorted(kinds) == [b"chunks", b"runs", b"timeline", b"writes"]
    assert len([*client.scan_iter(f"{prefix}:*")]) == 4 + 3

    saver.delete_thread("a")
    assert [*client.scan_iter(f"{prefix}:*")] == []


# A conversation


class Chat:
    """A conversation of random messages of one size; it counts what each turn sends."""

    def __init__(self, url: str) -> None:
        self.prefix = f"test-{uuid4().hex}"
        self.client = redis.Redis.from_url(url)
        self.saver = RedisSaver(url, prefix=self.prefix)
        self.config = generate_config("a")
        self.sent: list[int] = []
        self.memory: dict[int, int] = {}  # bytes, by turn
        self._random = Random(0)

    def go_on(self, turn: int) -> None:
        """Talk up to a turn."""
        graph = self.graph(self.saver)
        while len(self.sent) < turn:
            self.sent.append(cost(self.client, lambda: self._say(graph)).sent)
        self.memory[turn] = stored_bytes(self.client, self.prefix)

    def sent_before(self, turn: int) -> float:
        """What a turn sends about then: the pieces of a single one are up to chance."""
        return fmean(self.sent[turn - 10 : turn])

    def graph(self, saver: RedisSaver) -> Graph:
        builder = StateGraph(MessagesState).add_node("answer", self._answer)
        return builder.add_edge(START, "answer").compile(checkpointer=saver)

    def fresh_saver(self) -> RedisSaver:
        """A saver that knows nothing of the thread, as in another process."""
        return RedisSaver(self.client, prefix=self.prefix)

    def close(self) -> None:
        self.saver.delete_thread("a")
        self.saver.close()
        self.client.close()

    def _say(self, graph: Graph) -> None:
        graph.invoke({"messages": [HumanMessage(self._text())]}, self.config, durability="sync")

    def _answer(self, state: MessagesState) -> dict[str, Any]:
        return {"messages": [AIMessage(self._text())]}

    def _text(self) -> str:
        return "".join(self._random.choices(ascii_letters, k=MESSAGE))


@pytest.fixture(scope="module")
def chat(server: str) -> Iterator[Chat]:
    """100 turns, 200 messages."""
    chat = Chat(server)
    chat.go_on(50)
    chat.go_on(100)
    yield chat
    chat.close()


def test_a_conversation_stays_small(chat: Chat) -> None:
    """The server would fill up with copies of the same messages."""
    assert chat.memory[100] <= 0.6 * MEGABYTE


def test_a_conversation_grows_with_its_length_not_with_the_square_of_it(chat: Chat) -> None:
    """Each turn of a long chat would cost more memory than the one before."""
    first, second = chat.memory[50], chat.memory[100] - chat.memory[50]
    assert second <= 1.15 * first


def test_a_late_turn_sends_no_more_than_an_early_one(chat: Chat) -> None:
    """A long chat would become slower with each turn."""
    assert chat.sent_before(100) <= 1.3 * chat.sent_before(20)


def test_a_history_is_read_without_repeating_what_its_states_share(chat: Chat) -> None:
    """Looking through the history of a chat would move all of it once per step."""
    graph = chat.graph(chat.fresh_saver())
    found = cost(chat.client, lambda: list(graph.get_state_history(chat.config)))
    assert found.received <= 1.0 * MEGABYTE


def test_a_state_is_received_once_and_then_known(chat: Chat) -> None:
    """Each turn of a chat would begin with reading all of its messages again."""
    saver = chat.fresh_saver()
    state = chat.saver.get_tuple(chat.config)
    assert state
    size = len(saver.serde.dumps_typed(state.checkpoint["channel_values"]["messages"])[1])
    cold, warm = (cost(chat.client, lambda: saver.get_tuple(chat.config)) for _ in range(2))
    assert size <= cold.received <= 1.2 * size
    assert warm.received <= 3000
    assert cost(chat.client, lambda: chat.saver.get_tuple(chat.config)).received <= 3000


@pytest.mark.slow
def test_a_very_long_conversation_goes_on_like_that(server: str) -> None:
    """An assistant that talks for weeks would end in a slow and full server."""
    with closing(Chat(server)) as chat:
        chat.go_on(200)
        assert chat.sent_before(200) <= 1.3 * chat.sent_before(20)
        chat.go_on(500)
        assert chat.memory[500] <= 4.5 * MEGABYTE
