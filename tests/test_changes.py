"""Large states that change a little at a time: only what is new is sent, received and stored.

Bytes are counted by the server, which these tests have for themselves where one can be started.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.conformance.test_utils import (
    generate_checkpoint,
    generate_config,
    generate_metadata,
)
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from benchmarks.changes import CHANGES, States, appended, edited, log, map_with_one_change, words
from langgraph_checkpoint_redis import AsyncRedisSaver, RedisSaver

from .counting import moved_bytes, stored_bytes
from .driving import Saver
from .servers import own_server
from .strategies import effort

server = own_server  # its counts are of nobody else

ON_ONE_SERVER = True  # what is sent depends on this side alone

HERE = generate_config("a")
MEGABYTE = 1_000_000


def put(saver: Saver, at: RunnableConfig, state: Any) -> RunnableConfig:
    """Add a checkpoint in which the state is new."""
    version = saver.get_next_version(None, None)
    checkpoint = generate_checkpoint(
        channel_values={"state": state}, channel_versions={"state": version}
    )
    return saver.put(at, checkpoint, generate_metadata(), {"state": version})


def state_at(saver: Saver, at: RunnableConfig = HERE) -> Any:
    found = saver.get_tuple(at)
    assert found
    return found.checkpoint["channel_values"]["state"]


def refusals(saver: RedisSaver | AsyncRedisSaver) -> int:
    """How many writes were refused, since the server lacked what they left out."""
    return saver._shared.caches.refused


# What is stored and sent of all versions


LIMITS = {  # megabytes
    "2,000 texts of 20 characters": (2.5, 3.5),
    "a map of 1,000 short texts, 500 changes": (1.2, 1.5),
    "a text of 100 KB, 30 edits": (0.3, 0.3),
    "bytes of 200 KB, 30 edits": (0.45, 0.45),
    "three files of 100 KB, 30 edits": (0.6, 0.6),
    "the same as lists of lines": (0.6, 0.6),
    "base64 of 133 KB, 30 appends": (0.4, 0.4),
    "a report of 120 KB in 200 steps": (0.8, 0.9),
}


@pytest.mark.parametrize("changes", LIMITS)
def test_many_small_changes_of_a_large_state_take_little(
    server: str, client: redis.Redis, prefix: str, changes: str
) -> None:
    """The server would fill up with copies of a state that hardly differ."""
    with RedisSaver.from_conn_string(server, prefix=prefix) as saver:
        put(saver, generate_config("other"), "so that the server knows the script")
        begun, at = moved_bytes(client), HERE
        for state in CHANGES[changes](Random(1)):
            at = put(saver, at, state)
        sent, received = (now - then for now, then in zip(moved_bytes(client), begun, strict=True))
        stored_at_most, sent_at_most = LIMITS[changes]
        assert stored_bytes(client, prefix) <= stored_at_most * MEGABYTE
        assert sent <= sent_at_most * MEGABYTE
        assert received <= 0.5 * MEGABYTE
        assert refusals(saver) == 0
        assert state_at(RedisSaver(client, prefix=prefix)) == state


GROWING: dict[str, Callable[[Random, int], States]] = {
    "short texts": lambda random, count: appended(random, lambda r: words(r, 20), count),
    "integers": lambda random, count: appended(random, lambda r: r.randrange(10**9), count),
    "pairs": lambda random, count: appended(random, lambda r: [words(r, 9), r.random()], count),
    "objects": lambda random, count: appended(
        random, lambda r: {"id": r.randrange(9), "a": None}, count
    ),
    "a log": lambda random, count: log(random, 80, count),
}


@pytest.mark.parametrize("kind", GROWING)
def test_what_grows_by_small_items_grows_linearly(
    saver: Saver, client: redis.Redis, prefix: str, kind: str
) -> None:
    """A list of what was visited would cost more with each step, until it fills the server."""
    at, half = HERE, 0
    for number, state in enumerate(GROWING[kind](Random(0), 600)):
        at = put(saver, at, state)
        if number == 299:
            half = stored_bytes(client, prefix)
    assert stored_bytes(client, prefix) - half <= 1.2 * half
    assert state_at(saver) == state


EDITED: dict[str, Callable[[Random], States]] = {
    "a text": lambda random: edited(random, words(random, 100_000), 6),
    "bytes": lambda random: edited(random, random.randbytes(100_000), 6),
    "a map": lambda random: map_with_one_change(random, 2000, 6),
    "a text in a map": lambda random: (
        {"draft": {"text": text, "title": "a"}, "done": False}
        for text in edited(random, words(random, 100_000), 6)
    ),
}


@pytest.mark.parametrize(
    ("saver_options", "read_at_most"),
    # With keep_last=1, the server no longer has the nodes that the reader knows: it may send all.
    [({}, 20_000), ({"compression": "zlib"}, 20_000), ({"keep_last": 1}, 120_000)],
    ids=str,
)
@pytest.mark.parametrize("kind", EDITED)
def test_an_edit_moves_little_in_both_directions(
    saver: Saver,
    raw_saver: RedisSaver | AsyncRedisSaver,
    client: redis.Redis,
    prefix: str,
    kind: str,
    read_at_most: int,
) -> None:
    """Each edit of a file would move the whole file, twice: to the server, and to who reads it."""
    reader, at = RedisSaver(client, prefix=prefix), HERE
    states = EDITED[kind](Random(0))
    at = put(saver, at, next(states))
    state_at(reader)
    for state in states:
        before = moved_bytes(client)
        at = put(saver, at, state)
        between = moved_bytes(client)
        assert state_at(reader) == state
        assert between[0] - before[0] <= 16_000
        assert moved_bytes(client)[1] - between[1] <= read_at_most
    assert refusals(raw_saver) == 0


# States of any shape


def small(random: Random) -> Any:
    """A value of some bytes."""
    return random.choice([random.randrange(10**6), words(random, random.randrange(60)), None, 0.5])


def state_of(random: Random, depth: int = 0) -> Any:
    """A state: containers in containers, of small values, long texts and bytes."""
    kind = random.randrange(7 if depth < 3 else 5)
    count = random.choice([3, 30, 600])
    if kind == 0:
        return words(random, random.choice([100, 9000, 60_000]))
    if kind == 1:
        return random.randbytes(random.choice([100, 9000, 60_000]))
    if kind == 2:
        return [small(random) for _ in range(count)]
    if kind == 3:
        return {f"key {number}": small(random) for number in range(count)}
    if kind == 4:
        return [HumanMessage(words(random, 300), id=str(number)) for number in range(count // 10)]
    parts = [state_of(random, depth + 1) for _ in range(random.randint(1, 5))]
    return parts if kind == 5 else {f"part {number}": part for number, part in enumerate(parts)}


def changed(random: Random, state: Any) -> Any:
    """The same state with one edit somewhere in it."""
    if isinstance(state, str | bytes):
        at, new = random.randrange(len(state) + 1), words(random, random.randrange(50))
        piece: Any = new if isinstance(state, str) else new.encode()
        return state[:at] + piece + state[at + random.choice([0, 0, 10, 200]) :]
    if isinstance(state, list) and state:
        at = random.randrange(len(state))
        if isinstance(state[at], str | bytes | list | dict) and random.randrange(4):
            return [*state[:at], changed(random, state[at]), *state[at + 1 :]]
        return [*state[:at], small(random), *state[at + random.choice([0, 1]) :]]
    if isinstance(state, dict) and state:
        key = random.choice([*state])
        if isinstance(state[key], list | dict):
            return {**state, key: changed(random, state[key])}
        return {**state, key: small(random)}
    return small(random)


@effort(25)
@given(seed=st.integers(0, 2**32), keep_last=st.sampled_from([None, 1, 3]))
def test_an_edit_of_any_state_moves_what_is_new(
    server: str, client: redis.Redis, prefix: str, seed: int, keep_last: int | None
) -> None:
    """Some shape of state would be read wrongly, or sent and stored whole with each edit."""
    random = Random(seed)
    with RedisSaver.from_conn_string(server, prefix=prefix, keep_last=keep_last) as saver:
        saver.delete_thread("a")
        put(saver, generate_config("other"), "so that the server knows the script")
        reader, state = RedisSaver(client, prefix=prefix), {"state": state_of(random)}
        at = put(saver, HERE, state)
        assert typed(state_at(reader)) == typed(state)
        for _ in range(4):
            state = {"state": changed(random, state["state"])}
            before, stored = moved_bytes(client), stored_bytes(client, prefix)
            at = put(saver, at, state)
            between = moved_bytes(client)
            assert typed(state_at(reader)) == typed(state)
            received = moved_bytes(client)[1] - between[1]
            # Items of up to 8 KB are not cut, and an edit may touch two of them.
            assert between[0] - before[0] <= MOVED
            assert stored_bytes(client, prefix) - stored <= MOVED
            assert keep_last or received <= MOVED
        assert refusals(saver) == 0
        assert typed(state_at(RedisSaver(client, prefix=prefix))) == typed(state)


MOVED = 32_000


def typed(value: Any) -> tuple[str, bytes]:
    """A value as LangGraph would write it, which tells apart what is merely equal."""
    return JsonPlusSerializer().dumps_typed(value)
