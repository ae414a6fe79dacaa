"""Compression: what it saves, that every setting reads every other, and that damage is noticed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableConfig

from langgraph_checkpoint_redis import CorruptThreadError, RedisSaver
from langgraph_checkpoint_redis._chunks import digest_of
from langgraph_checkpoint_redis._compression import DICTIONARY, Compression, content_of, stored

from .driving import Saver
from .graphs import thread
from .strategies import next_checkpoint
from .test_removal import Raw

SETTINGS: list[Compression | None] = [None, "zlib", "zstd"]
TEXT = """the order was sent on monday and should arrive within three days if nothing goes wrong
please check your account for details we are sorry about this and will refund what you paid"""
WORDS = TEXT.split()


def conversation(count: int) -> list[AnyMessage]:
    """Messages of people, models and tools, always the same ones."""
    random = Random(1)
    kinds: list[Any] = [
        lambda text, id_: HumanMessage(text, id=id_),
        lambda text, id_: AIMessage(text, id=id_, response_metadata={"model_name": "claude"}),
        lambda text, id_: ToolMessage(text, tool_call_id=id_, name="search"),
    ]
    return [
        kinds[number % 3](" ".join(random.choices(WORDS, k=80)), f"{random.getrandbits(128):x}")
        for number in range(count)
    ]


@pytest.fixture
def raw(client: redis.Redis, prefix: str) -> Raw:
    """What is stored."""
    return Raw(client, prefix)


@pytest.fixture
def savers(server: str, prefix: str) -> Iterator[dict[Compression | None, RedisSaver]]:
    """A saver for each setting."""
    savers = {
        setting: RedisSaver(server, prefix=prefix, compression=setting) for setting in SETTINGS
    }
    yield savers
    for saver in savers.values():
        saver.close()


def put(saver: Saver, checkpoint_id: str, messages: list[AnyMessage], parent: str = "") -> None:
    checkpoint, versions = next_checkpoint(saver, None, checkpoint_id, {"messages": messages})
    config: RunnableConfig = thread("a", checkpoint_ns="", checkpoint_id=parent)
    saver.put(config, checkpoint, {}, versions)


def test_every_setting_reads_and_goes_on_with_what_another_stored(
    savers: dict[Compression | None, RedisSaver], raw: Raw
) -> None:
    """Whoever changes the setting would lose all threads, or store them again."""
    messages = conversation(30)
    for number, saver in enumerate([*savers.values(), *reversed(savers.values())], 1):
        put(saver, str(number), messages[: 5 * number], str(number - 1) if number > 1 else "")
        for reader in savers.values():
            found = reader.get_tuple(thread("a"))
            assert found
            assert found.checkpoint["channel_values"]["messages"] == messages[: 5 * number]
    assert len(raw.chunks("a")) < 2 * len(messages)


@pytest.mark.parametrize("saver_options", [{"compression": "zlib"}, {"compression": "zstd"}])
def test_messages_take_at_most_half_the_memory(
    saver: Saver, savers: dict[Compression | None, RedisSaver], raw: Raw
) -> None:
    """Compression would cost time for nothing."""
    put(savers[None], "1", conversation(60))
    plain = sum(map(len, raw.chunks("a").values()))
    saver.delete_thread("a")
    put(saver, "1", conversation(60))
    assert sum(map(len, raw.chunks("a").values())) <= plain / 2


@pytest.mark.parametrize("saver_options", [{"compression": "zlib"}, {"compression": "zstd"}])
@pytest.mark.parametrize("damage", ["cut short", "altered"])
def test_a_damaged_piece_is_noticed(saver: Saver, raw: Raw, server: str, damage: str) -> None:
    """A conversation would read as another one."""
    put(saver, "1", conversation(10))
    key = raw.keyspace.thread("a").chunks
    for digest, chunk in raw.chunks("a").items():
        if chunk[:1] != b"\0":
            altered = chunk[:-4] if damage == "cut short" else chunk[:4] + b"????" + chunk[8:]
            raw.client.hset(key, mapping={digest: altered})
    with (
        RedisSaver.from_conn_string(server, prefix=raw.prefix) as other,
        pytest.raises(CorruptThreadError),
    ):
        other.get_tuple(thread("a"))


@given(content=st.binary(max_size=3000), setting=st.sampled_from(SETTINGS))
def test_a_piece_reads_as_it_was_stored(content: bytes, setting: Compression | None) -> None:
    """Some value would come back as another one."""
    chunk = stored(content, setting)
    assert content_of(chunk) == content
    assert len(chunk) <= len(content) + 1


def test_the_dictionary_stays_what_it_is() -> None:
    """All that was compressed so far would become unreadable."""
    assert digest_of(DICTIONARY).hex() == "0fa02710e2c2312e2776b60ccca8861e"


def test_a_missing_library_is_named(server: str) -> None:
    """A user would find out at the first message."""
    code = f"""
import sys
sys.modules["zstandard"] = None
from langgraph_checkpoint_redis import MissingLibraryError, RedisSaver
try:
    RedisSaver({server!r}, compression="zstd")
except MissingLibraryError as error:
    assert "[zstd]" in str(error), error
else:
    raise AssertionError
RedisSaver({server!r}, compression="zlib").close()
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
