"""The option `compression`: what is stored takes less room, and reads back whatever the setting."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from hashlib import sha256
from itertools import cycle, islice
from pathlib import Path
from random import Random
from typing import Any

import pytest
import redis
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import ChannelVersions
from langgraph.checkpoint.conformance.test_utils import (
    generate_checkpoint,
    generate_config,
    generate_metadata,
)

from langgraph_checkpoint_redis import AsyncRedisSaver, ConfigError, CorruptThreadError, RedisSaver
from langgraph_checkpoint_redis._storage.compression import (
    DICTIONARY,
    PLAIN,
    ZLIB,
    ZSTD,
    Compression,
    decompress_chunk,
)
from langgraph_checkpoint_redis._storage.keys import Keyspace

from .driving import Saver
from .stored import chunks_at

Open = Callable[[Compression | None], RedisSaver]

SETTINGS: list[Compression | None] = [None, "zlib", "zstd"]
BYTE: dict[Compression, bytes] = {"zlib": ZLIB, "zstd": ZSTD}
HERE = generate_config("a")


@pytest.fixture(params=BYTE)
def compression(request: pytest.FixtureRequest) -> Compression:
    """Each of the two ways to compress."""
    compression: Compression = request.param
    return compression


@pytest.fixture
def saver_options(compression: Compression) -> dict[str, Any]:
    """How the saver stores."""
    return {"compression": compression}


@pytest.fixture
def opened(client: redis.Redis, prefix: str) -> Open:
    """Opens further savers, with any setting, that know nothing of threads."""
    return lambda compression: RedisSaver(client, prefix=prefix, compression=compression)


def chunks(client: Any, prefix: str, thread_id: str = "a") -> dict[bytes, bytes]:
    """The chunks of a thread by digest, as they are stored."""
    return chunks_at(client, Keyspace(prefix).thread(thread_id).chunks)


def put(saver: Saver, at: RunnableConfig, value: object) -> RunnableConfig:
    """Add a checkpoint with a value."""
    new: ChannelVersions = {"c": saver.get_next_version(None, None)}
    checkpoint = generate_checkpoint(channel_values={"c": value}, channel_versions=new)
    return saver.put(at, checkpoint, generate_metadata(), new)


def read(saver: Saver, at: RunnableConfig = HERE) -> object:
    found = saver.get_tuple(at)
    assert found
    return found.checkpoint["channel_values"]["c"]


# Words as people use them: few are frequent, most are rare.

_VOWELS, _CONSONANTS = "aeiou", "bcdfghklmnprstvw"
_SYLLABLES = [one + other for one in _CONSONANTS for other in _VOWELS]


def _words() -> list[str]:
    random = Random(0)
    lengths = random.choices([1, 2, 3, 4], [3, 4, 2, 1], k=800)
    return ["".join(random.choices(_SYLLABLES, k=length)) for length in lengths]


WORDS = _words()
FREQUENCIES = [1 / rank for rank in range(1, len(WORDS) + 1)]


def text(seed: int, words: int) -> str:
    return " ".join(Random(seed).choices(WORDS, FREQUENCIES, k=words)).capitalize() + "."


def conversation(turns: int) -> Iterator[AnyMessage]:
    """A question, a search, what it found and an answer; turn by turn."""
    for turn in range(turns):
        call = {"name": "search", "args": {"query": text(turn, 5)}, "id": f"toolu_{turn:024}"}
        usage = {"input_tokens": 90 + turn, "output_tokens": 40, "total_tokens": 130 + turn}
        model = {"id": f"msg_{turn:024}", "model": "claude-sonnet-4-5", "stop_reason": "end_turn"}
        yield HumanMessage(text(turn + 1000, 25), id=f"{turn:036}")
        yield AIMessage("", id=f"lc_run--{turn:036}", tool_calls=[call], response_metadata=model)
        yield ToolMessage(text(turn + 2000, 150), tool_call_id=call["id"], name="search")
        yield AIMessage(text(turn + 3000, 90), response_metadata=model, usage_metadata=usage)


# Whatever the setting


@pytest.mark.parametrize("order", [SETTINGS, SETTINGS[::-1]], ids=str)
def test_every_setting_reads_and_extends_what_another_stored(
    saver: Saver,
    opened: Open,
    client: redis.Redis,
    prefix: str,
    order: Sequence[Compression | None],
) -> None:
    """Whoever changes the setting would lose all threads there are, or store them twice."""
    messages, at, once = [*conversation(9)], HERE, generate_config("once")
    savers = {setting: opened(setting) for setting in SETTINGS}
    for turn, setting in enumerate(islice(cycle(order), 9), 1):
        at = put(savers[setting], at, messages[: 4 * turn])
        once = put(savers[None], once, messages[: 4 * turn])
        for reader in (saver, *savers.values(), opened(None)):
            assert read(reader) == messages[: 4 * turn]
    assert chunks(client, prefix).keys() == chunks(client, prefix, "once").keys()
    assert {chunk[:1] for chunk in chunks(client, prefix).values()} == {PLAIN, ZLIB, ZSTD}
    for found, turn in zip(saver.list(HERE), range(9, 0, -1), strict=True):
        assert found.checkpoint["channel_values"]["c"] == messages[: 4 * turn]


def test_what_is_stored_already_is_not_stored_again(
    saver: Saver, opened: Open, client: redis.Redis, prefix: str
) -> None:
    """To compress from now on would cost the room for all that was stored before."""
    messages = [*conversation(9)]
    at = put(opened(None), HERE, messages)
    before = chunks(client, prefix)
    read(saver)
    put(saver, at, messages[:-1])
    assert before.items() <= chunks(client, prefix).items()


def test_messages_take_at_most_half_the_memory(
    saver: Saver, opened: Open, client: redis.Redis, prefix: str
) -> None:
    """Compressing would take time and save little."""
    memory = []
    for thread_id, one in (("plain", opened(None)), ("compressed", saver)):
        put(one, generate_config(thread_id), [*conversation(20)])
        key = Keyspace(prefix).thread(thread_id).chunks
        memory.append(client.memory_usage(key, samples=0) or 0)
    plain, compressed = memory
    assert compressed <= plain / 2


@pytest.mark.parametrize("value", [text(0, 30), Random(0).randbytes(4000)], ids=["small", "random"])
def test_a_piece_stays_plain_where_compressing_saves_nothing(
    saver: Saver, client: redis.Redis, prefix: str, value: object
) -> None:
    """Small and random pieces would take more room than they do without compression."""
    put(saver, HERE, value)
    (chunk,) = chunks(client, prefix).values()
    assert chunk == PLAIN + decompress_chunk(chunk)
    assert read(saver) == value


# The stored form


def test_the_dictionary_is_as_it_always_was() -> None:
    """All that is compressed would be unreadable after an update."""
    digest = "9856ace05d11e7d7ce0d65854f2d649698d42dd7a04ed1b2c11391dc1d2e0ae2"
    assert sha256(DICTIONARY).hexdigest() == digest


@pytest.mark.parametrize(
    "chunk",
    [
        "0178bbba6e1c37c357e9298c4a522409004faf7d29",
        "0228b52ffd605c005d0000082002003c40a9822f9381",
    ],
    ids=BYTE,
)
def test_what_was_compressed_long_ago_reads_the_same(chunk: str) -> None:
    """All that is compressed would be unreadable after an update."""
    assert decompress_chunk(bytes.fromhex(chunk)) == b"You are a helpful assistant. " * 12


# Damage


@pytest.mark.parametrize("setting", ["zlib", "zstd"])
def test_a_piece_with_a_changed_bit_is_never_taken_for_another(
    opened: Open, client: redis.Redis, prefix: str, setting: Compression
) -> None:
    """A message that was damaged would be read as another message, or take all memory."""
    value = text(0, 50)
    put(opened(setting), HERE, value)
    ((digest, chunk),) = chunks(client, prefix).items()
    assert chunk[:1] == BYTE[setting]
    number = int.from_bytes(chunk, "big")
    for bit in range(8 * len(chunk)):
        changed = (number ^ 1 << bit).to_bytes(len(chunk), "big")
        client.hset(Keyspace(prefix).thread("a").chunks, mapping={digest: changed})
        with suppress(CorruptThreadError):
            assert read(opened(setting)) == value


def test_a_piece_that_is_cut_short_is_noticed(
    saver: Saver, opened: Open, client: redis.Redis, prefix: str, compression: Compression
) -> None:
    """A state that lost a part would be read as another state."""
    put(opened(compression), HERE, text(0, 90))
    ((digest, chunk),) = chunks(client, prefix).items()
    assert chunk[:1] == BYTE[compression]
    for end in reversed(range(len(chunk))):
        client.hset(Keyspace(prefix).thread("a").chunks, mapping={digest: chunk[:end]})
        with pytest.raises(CorruptThreadError):
            read(saver)


# What is not there


@pytest.mark.parametrize("saver_class", [RedisSaver, AsyncRedisSaver])
@pytest.mark.parametrize("unknown", ["", "lz4", "ZLIB", b"zlib", True, 9])
def test_an_unknown_compression_is_refused_at_once(saver_class: Any, unknown: object) -> None:
    """A slip in a setting would be noticed when the server is full."""
    with pytest.raises(ConfigError, match="compression"):
        saver_class("redis://localhost", compression=unknown)


WITHOUT_ZSTANDARD = """
import sys
sys.modules["zstandard"] = None

import asyncio
from langgraph_checkpoint_redis import AsyncRedisSaver, MissingLibraryError, RedisSaver

def asks_for_library(act):
    try:
        act()
    except MissingLibraryError as error:
        return "[zstd]" in str(error)

async def aread(thread_id):
    async with AsyncRedisSaver.from_conn_string(url, prefix=prefix) as saver:
        return await saver.aget_tuple({"configurable": {"thread_id": thread_id}})

def read(thread_id):
    with RedisSaver.from_conn_string(url, prefix=prefix, compression="zlib") as saver:
        return saver.get_tuple({"configurable": {"thread_id": thread_id}})

_, url, prefix = sys.argv
assert asks_for_library(lambda: RedisSaver(url, compression="zstd"))
assert asks_for_library(lambda: AsyncRedisSaver(url, compression="zstd"))
assert asks_for_library(lambda: read("zstd"))
assert asks_for_library(lambda: asyncio.run(aread("zstd")))
assert read("zlib").checkpoint == asyncio.run(aread("zlib")).checkpoint
"""


def test_a_missing_library_is_asked_for_where_it_is_needed_and_nowhere_else(
    opened: Open, server: str, prefix: str
) -> None:
    """A program without an optional library would not run, or fail in the middle of a chat."""
    for setting in BYTE:
        put(opened(setting), generate_config(setting), text(0, 90))
    command = [sys.executable, "-W", "error", "-c", WITHOUT_ZSTANDARD, server, prefix]
    subprocess.run(command, check=True, cwd=Path(__file__).parents[1])
