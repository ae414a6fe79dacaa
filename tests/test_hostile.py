"""Input from anybody reaches the thread that is named, and no other; and data stays data.

What is stored of all other threads, and under other prefixes, is compared byte for byte.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import time
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import ormsgpack
import pytest
import redis
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.conformance.test_utils import generate_checkpoint, generate_metadata
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.serde.types import ERROR, INTERRUPT

from langgraph_checkpoint_redis import (
    ConfigError,
    ConflictError,
    RedisSaver,
    RedisSaverError,
    ThreadLeasedError,
)
from langgraph_checkpoint_redis._storage.checks import check_text
from langgraph_checkpoint_redis._storage.keys import Keyspace
from langgraph_checkpoint_redis._storage.tree import digest_of
from tests.local_server import running_server

from .driving import Saver
from .servers import any_binary
from .stored import contents

some = settings(
    deadline=None, max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

FRAGMENTS = [
    *["\0", "\1", "\x7f", "\r\n", "{", "}", "{}", "}{", "%", "%7B", "%00", "%2525", ":", "::"],
    *["*", "?", "[a-z]", "[^a]", "\\", "\\0", "'", '"', "]]", "--", "..", "/", "|", "+", "(", "["],
    *[
        "timeline",
        ":writes",
        "}:chunks",
        "run:",
        "lg:run:{x}",
        "lg:{a}:timeline",
        "late ",
        "sweep:",
    ],
    *["redis.call('FLUSHALL')", "]] redis.call('FLUSHALL') --", "\r\n*1\r\n$8\r\nFLUSHALL\r\n"],
    *["$-1\r\n", "LGR:LEASED:6c67", "user_script:1: LGR:LOST:6c67 ", "KEYS[1]", "ARGV"],
    *["\u212a", "\u0130", "\ufb01", "e\u0301", "\u00e9", "\U0001f600", "\u202e", "\ud83d", " "],
    *["__proto__", "null", "None", "true", "0", "-1", "1e999", "\xff", "~lg:*", "a" * 5000],
]
hostile = st.lists(
    st.sampled_from(FRAGMENTS) | st.text(max_size=3) | st.sampled_from("aA"), max_size=4
).map("".join)


def neighbours(word: str) -> Iterator[str]:
    """Names that a slip could take for another one."""
    yield from (word[:-1], word[1:], word + "a", "a" + word, word * 2, word.strip(), word + " ")
    yield from (word.swapcase(), word.lower(), word.casefold(), word + "*", "*", "a", "A")
    yield from (word.replace("{", "%7B"), word.replace("%", "%25"), word.replace("\0", ""))
    yield from (
        word + "}:chunks",
        word.split("}", maxsplit=1)[0],
        word.rsplit("{", maxsplit=1)[-1],
        word.split("\0", maxsplit=1)[0],
    )
    if "\ud83d" not in word:
        yield from (quote(word), unquote(word), unicodedata.normalize("NFKC", word))


def is_name(word: str) -> bool:
    try:
        check_text("name", word)
    except ConfigError:
        return False
    return True


def thread(thread_id: str, **configurable: Any) -> RunnableConfig:
    return {"configurable": {"thread_id": thread_id, **configurable}}


def put(saver: Saver, at: RunnableConfig, value: object = "value", **metadata: Any) -> Any:
    values = {"c": value, "large": [f"{number:600}" for number in range(2)]}
    versions: Any = {"c": "1", "large": "1"}
    checkpoint = generate_checkpoint(channel_values=values, channel_versions=versions)
    at = saver.put(at, checkpoint, generate_metadata(**metadata), versions)
    saver.put_writes(at, [("c", value), (ERROR, value)], "task", "path")
    return at


def use(saver: RedisSaver, word: str, other: str, run: str) -> Iterator[Callable[[], object]]:
    """All that can be done to a thread, with names that somebody chose."""
    at = {"checkpoint_ns": other}
    id_ = thread(word, checkpoint_ns=other, checkpoint_id=other)
    checkpoint = generate_checkpoint(channel_values={other: 1}, channel_versions={other: other})
    metadata = generate_metadata(run_id=run)
    metadata[other] = other  # type: ignore[literal-required]
    yield lambda: saver.put(thread(word, **at), checkpoint, metadata, {other: other})
    yield lambda: saver.put(thread(word), {**checkpoint, "id": other}, metadata, {other: "1"})
    yield lambda: saver.put_writes(id_, [(other, other), (INTERRUPT, other)], other, other)
    yield lambda: saver.get_tuple(thread(word, **at))
    yield lambda: saver.get_tuple(id_)
    yield lambda: [*saver.list(thread(word), filter={other: other}, before=id_)]
    yield lambda: saver.get_delta_channel_history(config=id_, channels=[other])
    yield lambda: saver.thread_info(word)
    yield lambda: saver.set_ttl(word, 3600)
    yield lambda: saver.pin(word)
    yield lambda: saver.prune([word])
    yield lambda: saver.verify(word)
    yield lambda: saver.repair(word)
    yield lambda: [*saver.list_threads(prefix=word)]
    yield lambda: saver.delete_for_runs([run])
    yield lambda: saver.delete_thread(word)


def dumped(client: redis.Redis, prefix: str) -> dict[bytes, object]:
    return contents(client, client.scan_iter(f"{prefix}*", count=1000))


@some
@given(word=hostile, other=hostile, run=hostile)
@example(word="a}:timeline", other="\0", run="{a}")
@example(word="x" * 50_000, other="y" * 50_000, run="z" * 50_000)
def test_whatever_is_done_to_a_thread_all_others_stay_as_they_are(
    client: redis.Redis, prefix: str, word: str, other: str, run: str
) -> None:
    """A user who chooses names could read, change or delete the conversations of others."""
    keyspace = Keyspace(prefix)
    bystanders = [*{name for name in neighbours(word) if is_name(name) and name != word}][:6]
    saver = RedisSaver(client, prefix=prefix)
    for name in bystanders:
        put(saver, thread(name), run_id="run of a bystander")
    assume(run != "run of a bystander")
    for elsewhere in (f"{prefix}x", f"{prefix}:run", f"{prefix}:"):
        put(RedisSaver(client, prefix=elsewhere), thread(word if is_name(word) else "a"))
    own = set[bytes]()
    if is_name(word):
        own = {*keyspace.thread(word)}
        assert not own & {key for name in bystanders for key in keyspace.thread(name)}
    if is_name(run):
        own.add(keyspace.run(run))
    before = dumped(client, prefix)
    try:
        for call in use(saver, word, other, run):
            unchanged = dumped(client, prefix)
            try:
                call()
            except ConfigError:
                assert dumped(client, prefix) == unchanged
            except RedisSaverError:
                pass  # there is no such thread
        after = dumped(client, prefix)
        assert {key for key in before | after if before.get(key) != after.get(key)} <= own
    finally:
        client.delete(*client.scan_iter(f"{prefix}*", count=1000))


@some
@given(words=st.lists(hostile.filter(lambda word: is_name(word or "a")), min_size=2, max_size=5))
def test_names_within_a_thread_are_not_mixed_up(
    client: redis.Redis, prefix: str, words: list[str]
) -> None:
    """A subgraph, a channel or a task with a strange name would get what is another's."""
    saver = RedisSaver(client, prefix=prefix)
    names = {*words, *(name for word in words for name in neighbours(word) if is_name(name))}
    stored = {}
    for namespace in sorted(names)[:12]:
        values = {name: f"{namespace} {name}" for name in names}
        checkpoint = generate_checkpoint(
            channel_values=values, channel_versions=dict.fromkeys(names, "1")
        )
        at = saver.put(
            thread("t", checkpoint_ns=namespace),
            checkpoint,
            generate_metadata(),
            dict.fromkeys(names, "1"),
        )
        for name in sorted(names - {""})[:6]:
            saver.put_writes(at, [(name, f"{namespace} {name}")], name, name)
        stored[namespace] = values
    for namespace, values in stored.items():
        found = saver.get_tuple(thread("t", checkpoint_ns=namespace))
        assert found
        assert found.checkpoint["channel_values"] == values
        expected = [(n, n, f"{namespace} {n}") for n in sorted(names - {""})[:6]]
        assert sorted(found.pending_writes or []) == sorted(expected)
    saver.delete_thread("t")


WORDS = [
    *["a b", "%7B}", "\r\n-ERR x", "é 中", "x NOREPLICAS y", "BUSY ", "-READONLY ", "MASTERDOWN "],
    *["LGR:CORRUPT:6c673a7b627d3a78:00", "user_script:1: LGR:DELETED:6c673a7b627d3a78 "],
]


@pytest.mark.parametrize("word", WORDS)
def test_an_error_names_the_thread_whatever_it_is_called(
    saver: Saver, client: redis.Redis, prefix: str, word: str
) -> None:
    """An error would be a riddle, or name somebody else's thread."""
    other = RedisSaver(client, prefix=prefix)
    with other.lease(word), pytest.raises(ThreadLeasedError) as raised:
        put(saver, thread(word))
    assert repr(word) in str(raised.value)


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("saver_options", [{"on_conflict": "error"}], ids=str)
def test_an_error_is_of_its_kind_whatever_a_checkpoint_is_called(saver: Saver, word: str) -> None:
    """A conflict would be told as the damage of another thread, or be tried again for long."""
    put(saver, thread("a"))
    start = time.monotonic()
    with pytest.raises(ConflictError) as raised:
        put(saver, thread("a", checkpoint_id=f"0 {word}"))
    assert raised.value.parent == f"0 {word}"
    assert time.monotonic() - start < 5


# Data that looks like something else

DIGEST = digest_of(b"x" * 600)
LOOKALIKES: list[object] = [
    {"lc": 2, "type": "constructor", "id": ["subprocess", "getoutput"], "args": ["id"]},
    {"lc": 1, "type": "constructor", "id": ["langchain_core", "messages", "HumanMessage"]},
    {"lc": 1, "type": "secret", "id": ["OPENAI_API_KEY"]},
    {"lc": 1, "type": "not_implemented", "id": ["x"], "repr": "x"},
    ormsgpack.packb(ormsgpack.Ext(1, ormsgpack.packb(("os", "system", ("id",))))),
    b"\xc7\x05\x05abcde", b"\x80\x04K\x01.", b"\xdd\xff\xff\xff\xff", b"\xc1",
    *[["", b"literal"], ["", b"", 600, DIGEST], ["msgpack", b"\xc0"], ["x+aes", b""]],
    *[DIGEST, DIGEST * 5, b"\0" + DIGEST * 5, b"\1", b"\2(\xb5/\xfd", DIGEST * 40],
    *[0, 1, False, True, None, "", b"", [], {}, "\0", "0", [None], {"": None}],
    *["__start__", "__error__", "__interrupt__", {"__root__": 1}, 2**63, -(2**63), 1e308],
    [1, "parent", False, False, False, ["c", "1", ["", b"x"]]],
]  # fmt: skip


def test_state_that_looks_like_an_envelope_comes_back_as_it_is(
    saver: Saver, client: redis.Redis, prefix: str
) -> None:
    """A user's text could become an object, or be lost."""
    for value in [*LOOKALIKES, [LOOKALIKES] * 30]:
        at = put(saver, thread("t"), value, note=value)
        for reader in (saver, RedisSaver(client, prefix=prefix)):
            found = reader.get_tuple(at)
            assert found
            read = found.checkpoint["channel_values"]["c"]
            assert (read, type(read)) == (value, type(value))
            assert [write[2] for write in found.pending_writes or []] == [value, value]
            without_nul = value.replace("\0", "") if isinstance(value, str) else value
            note: object = found.metadata["note"]  # type: ignore[typeddict-item]
            assert note == without_nul  # LangGraph itself takes them out of metadata


# Poisoned records


def poisons(marker: str) -> dict[str, tuple[str, bytes]]:
    """Serialized values that ask to run `touch`, by the way in which they do."""
    touch = ["touch", marker]

    class Pickled:
        def __reduce__(self) -> Any:
            return subprocess.call, (touch,)

    def ext(code: int, *parts: object) -> tuple[str, bytes]:
        return "msgpack", ormsgpack.packb(ormsgpack.Ext(code, ormsgpack.packb(parts)))

    lc2 = {"lc": 2, "type": "constructor", "id": ["subprocess", "call"], "args": [touch]}
    lc1 = {"lc": 1, "type": "constructor", "id": ["subprocess", "call"], "kwargs": {"args": touch}}
    return {
        "pickle": ("pickle", pickle.dumps(Pickled())),
        "one argument": ext(0, "subprocess", "call", touch),
        "arguments": ext(1, "subprocess", "call", [touch]),
        "keywords": ext(2, "subprocess", "call", {"args": touch}),
        "a method": ext(3, "subprocess", "Popen", touch, "__call__"),
        "pydantic": ext(4, "subprocess", "Popen", {"args": touch}),
        "pydantic 2": ext(5, "subprocess", "Popen", {"args": touch}, "model_validate_json"),
        "json": ("json", json.dumps(lc2).encode()),
        "json of langchain": ("json", json.dumps(lc1).encode()),
        "no kind": (" ", b""),
        "another kind": ("\xff" * 9, b"x"),
    }


class Poisoning(JsonPlusSerializer):
    """Stores something else than it is given: the value, the metadata or the checkpoint."""

    def __init__(self, what: str, poison: tuple[str, bytes]) -> None:
        super().__init__()
        self.what, self.poison = what, poison

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        kinds = {"value": obj == "value", "metadata": "source" in obj, "checkpoint": "v" in obj}
        return self.poison if kinds[self.what] else super().dumps_typed(obj)


READ = """
import sys
from langgraph_checkpoint_redis import CorruptThreadError, RedisSaver
url, *threads = sys.argv[1:]
with RedisSaver.from_conn_string(url) as saver:
    for thread_id in threads:
        try:
            print(saver.get_tuple({"configurable": {"thread_id": thread_id}}))
        except CorruptThreadError as error:
            print(error)
"""


def test_a_poisoned_record_runs_nothing_where_types_are_strict(tmp_path: Path) -> None:
    """Who can write to the server could run programs where the agents are."""
    marker, threads = tmp_path / "marker", list[str]()
    with running_server(any_binary()) as url:
        for name, poison in poisons(str(marker)).items():
            for what in ("value", "metadata", "checkpoint"):
                serde: SerializerProtocol = Poisoning(what, poison)
                with RedisSaver.from_conn_string(url, serde=serde) as poisoner:
                    put(poisoner, thread(f"{what} {name}"))
                threads.append(f"{what} {name}")
        environment = os.environ | {"LANGGRAPH_STRICT_MSGPACK": "true"}
        command = [sys.executable, "-c", READ, url, *threads]
        done = subprocess.run(command, env=environment, stdout=-1, text=True, check=True)
        assert len(done.stdout.splitlines()) == len(threads)
        assert not marker.exists()
        with RedisSaver.from_conn_string(url) as trusting:  # shows that it is poison indeed
            trusting.get_tuple(thread("value arguments"))
        assert marker.exists()
