"""With an encrypting serializer, nothing of what graphs store is readable; and keys can change."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from operator import add
from pathlib import Path
from typing import Annotated, Any, cast

import pytest
import redis
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langgraph.channels.delta import DeltaChannel
from langgraph.checkpoint.conformance.test_utils import generate_checkpoint, generate_metadata
from langgraph.checkpoint.serde.base import CipherProtocol, SerializerProtocol
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import Command, Send, interrupt
from typing_extensions import TypedDict

from langgraph_checkpoint_redis import (
    ConfigError,
    CorruptThreadError,
    EncryptedThreadError,
    KeyRing,
    RedisSaver,
    RedisSaverError,
    UnencryptedError,
)
from langgraph_checkpoint_redis._scripts.load import REWRITE
from langgraph_checkpoint_redis._storage.checksums import checksum_of, strip_checksum
from langgraph_checkpoint_redis._storage.keys import Keyspace
from tests.local_server import running_server

from .ciphers import NEW, OLD, encrypting, ring
from .driving import AwaitedDriver, DirectDriver, Driver, Saver
from .servers import any_binary

# What is nobody's business,
SECRETS = [
    *["SecretMessage", "SecretToolArgument", "SecretToolResult", "SecretNote", "SecretQuestion"],
    *["SecretAnswer", "SecretFailure", "SecretMetadata", "SecretSend", "SecretDelta"],
    *["SecretOfTheChild", "SecretBytes", "SecretKeyOfAMap", "secret_tool"],
]
# and what stays readable.
NAMES = ["readable_channel", "readable_node", "readable-thread", "readable-run"]


# What is readable


def _extended(state: list[str], writes: Any) -> list[str]:
    return [*state, *(text for write in writes for text in write)]


class Everything(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]
    readable_channel: Annotated[list[Any], add]
    delta: Annotated[list[str], DeltaChannel(_extended, snapshot_frequency=2)]


class Child(TypedDict):
    readable_channel: Annotated[list[Any], add]


def everything() -> Any:
    """A graph that stores all that graphs can store."""

    def readable_node(state: Any) -> Any:
        call = {"name": "secret_tool", "args": {"q": "SecretToolArgument"}, "id": "1"}
        return {
            "messages": [
                AIMessage("SecretMessage " * 100, tool_calls=[call]),
                ToolMessage("SecretToolResult", tool_call_id="1"),
            ],
            "readable_channel": ["SecretNote", b"SecretBytes", {"SecretKeyOfAMap": 1}],
            "delta": ["SecretDelta"],
        }

    def in_child(state: Any) -> Any:
        return {"readable_channel": ["SecretOfTheChild", interrupt("SecretQuestion")]}

    def fan_out(state: Any) -> Any:
        return [Send("fails", {"readable_channel": ["SecretSend"]})]

    def fails(state: Any) -> Any:
        raise ValueError("SecretFailure")

    child = StateGraph(Child).add_node(in_child).add_edge(START, "in_child").compile()
    graph = StateGraph(cast("Any", Everything)).add_node(readable_node).add_node("child", child)
    graph.add_node(fails).add_edge(START, "readable_node").add_edge("readable_node", "child")
    return graph.add_conditional_edges("child", fan_out, ["fails"])


def use(drive: Driver) -> None:
    config: RunnableConfig = {
        "configurable": {"thread_id": "readable-thread"},
        "metadata": {"note": "SecretMetadata", "run_id": "readable-run"},
        "tags": ["SecretTag"],
    }
    graph = everything().compile(checkpointer=drive.saver)
    for _ in range(3):
        said: Any = {"messages": [HumanMessage("SecretMessage")], "delta": ["SecretDelta"]}
        drive.invoke(graph, said, config)
    with pytest.raises(ValueError, match="SecretFailure"):
        drive.invoke(graph, Command(resume="SecretAnswer"), config)


@pytest.fixture(scope="module")
def plain_server() -> Iterator[str]:
    """A server that writes down what it has, and compresses nothing."""
    with running_server(any_binary(), "--rdbcompression", "no") as url:
        yield url


def written(url: str) -> bytes:
    """All that a server writes down."""
    with redis.Redis.from_url(url) as client:
        client.save()
        directory = client.config_get("dir")["dir"]
        file = Path(directory) / client.config_get("dbfilename")["dbfilename"]
        dumps = [cast("bytes", client.dump(key)) for key in client.scan_iter()]
        client.flushall()
        return b"".join([file.read_bytes(), *dumps])


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_nothing_but_names_is_readable_in_what_a_server_writes_down(
    plain_server: str, saver_on: Callable[..., Saver], loop: Any, compression: Any
) -> None:
    """Whoever has a backup could read the conversations."""

    def found(serde: Any, compression: Any) -> set[str]:
        saver = saver_on(plain_server, serde=serde, compression=compression)
        use(
            DirectDriver(saver)
            if isinstance(saver, RedisSaver)
            else AwaitedDriver(saver.saver, loop)
        )
        data = written(plain_server)
        return {word for word in [*SECRETS, *NAMES] if word.encode() in data}

    assert found(None, None) == {*SECRETS, *NAMES}
    assert found(encrypting(OLD), compression) == {*NAMES}


# What is refused


class Leaking(EncryptedSerializer):
    """Forgets to encrypt what contains a word."""

    def __init__(self, word: str) -> None:
        super().__init__(encrypting(OLD).cipher)
        self.word = word

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        return self.serde.dumps_typed(obj) if self.word in repr(obj) else super().dumps_typed(obj)


def thread(**configurable: Any) -> RunnableConfig:
    return {"configurable": {"thread_id": "a", **configurable}}


def conversation(saver: Saver) -> list[RunnableConfig]:
    """Some checkpoints that share a large value, and writes."""
    places, at = [], thread()
    for number in range(3):
        values = {"small": f"value {number}", "large": [f"{i:600}" for i in range(20)]}
        versions: Any = {"small": str(number), "large": "1"}
        checkpoint = generate_checkpoint(channel_values=values, channel_versions={**versions})
        checkpoint["updated_channels"] = [f"inside {number}"]
        metadata = generate_metadata(note=f"metadata {number}", run_id="run")
        new: Any = {"small": str(number)} if number else versions
        at = saver.put(at, checkpoint, metadata, new)
        saver.put_writes(at, [("small", f"write {number}"), ("large", ["w" * 700])], "task")
        places.append(at)
    return places


@pytest.mark.parametrize("word", ["value 1", "inside 1", "metadata 1", "write 1"])
def test_what_is_not_encrypted_is_refused(
    client: redis.Redis, prefix: str, saver_on: Callable[..., Saver], server: str, word: str
) -> None:
    """Who can write to the server, but has no key, could plant what an agent is to believe."""
    _, at, _ = conversation(RedisSaver(client, prefix=prefix, serde=Leaking(word)))
    saver = saver_on(server, prefix=prefix, serde=encrypting(OLD))
    for read in (lambda: saver.get_tuple(at), lambda: [*saver.list(at)]):
        with pytest.raises(UnencryptedError, match="is not encrypted") as raised:
            read()
        named = raised.value.thread_id, raised.value.checkpoint_id
        assert named == ("a", at["configurable"]["checkpoint_id"])
    limited: Any = RedisSaver(client, prefix=prefix, serde=encrypting(OLD))
    with pytest.raises(UnencryptedError):
        limited.with_allowlist([("module", "Class")]).get_tuple(at)
    allowing = {"serde": encrypting(OLD), "allow_plaintext": True}
    assert saver_on(server, prefix=prefix, **allowing).get_tuple(at)


def test_a_bad_option_is_named() -> None:
    """A word that was meant as `no` would let plaintext in."""
    with pytest.raises(ConfigError, match="allow_plaintext"):
        RedisSaver("redis://nowhere.invalid", allow_plaintext="no")  # type: ignore[arg-type]


class Foreign(CipherProtocol):
    """A cipher of another library, whose errors are of no built-in class."""

    def encrypt(self, plaintext: bytes) -> tuple[str, bytes]:
        return "foreign", plaintext

    def decrypt(self, ciphername: str, ciphertext: bytes) -> bytes:
        raise InvalidTag


class Own(EncryptedSerializer):
    """An encrypting serializer that decrypts in its own way."""

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        if not self.cipher.decrypt("aes", data[1]):
            raise ValueError("empty")
        return super().loads_typed(data)


class InvalidTag(Exception):  # noqa: N818 - as a library calls it
    """What a library for ciphers raises for a wrong key."""


InvalidTag.__module__ = "cryptography.exceptions"
FOREIGN = EncryptedSerializer(Foreign())

WITHOUT_THE_KEY: dict[str, tuple[SerializerProtocol, SerializerProtocol | None, str]] = {
    "another key": (encrypting(OLD), encrypting(NEW), "MAC check failed"),
    "no key": (encrypting(OLD), None, r"msgpack\+aes"),
    "a ring without it": (
        EncryptedSerializer(ring(OLD)),
        EncryptedSerializer(ring(NEW)),
        "no key '2025'",
    ),
    "no ring": (EncryptedSerializer(ring(OLD)), encrypting(OLD), "Unsupported cipher"),
    "another library": (FOREIGN, FOREIGN, "InvalidTag"),
    "a class of the user's": (encrypting(OLD), Own(encrypting(NEW).cipher), "MAC check failed"),
}


@pytest.mark.parametrize("case", WITHOUT_THE_KEY)
def test_a_missing_key_is_told_from_damage(
    client: redis.Redis, prefix: str, saver_on: Callable[..., Saver], server: str, case: str
) -> None:
    """A program with the key of another one would take threads for damaged, and repair them."""
    writer, reader, said = WITHOUT_THE_KEY[case]
    at, *_ = conversation(RedisSaver(client, prefix=prefix, serde=writer))
    saver = saver_on(server, prefix=prefix, serde=reader)
    calls: list[Callable[[], object]] = [
        lambda: saver.get_tuple(at),
        lambda: [*saver.list(at)],
        lambda: [*saver.list(at, filter={"note": 1})],
    ]
    for call in calls:
        with pytest.raises(EncryptedThreadError, match=said) as raised:
            call()
        assert "Give the saver the serializer and the key that wrote it" in str(raised.value)
        assert "orrupt" not in str(raised.value)
        assert raised.value.thread_id == "a"
        assert raised.value.__cause__
    if isinstance(reader, EncryptedSerializer):
        with pytest.raises(EncryptedThreadError):
            saver.reencrypt("a")
    assert saver.verify("a") == []  # and it is not taken for damage


def test_what_decrypts_but_makes_no_sense_is_damage(client: redis.Redis, prefix: str) -> None:
    """Somebody would look for a key that they have."""

    class Unreadable(JsonPlusSerializer):
        def loads_typed(self, data: tuple[str, bytes]) -> Any:
            raise ValueError("no sense")

    at, *_ = conversation(RedisSaver(client, prefix=prefix, serde=encrypting(OLD)))
    serde = EncryptedSerializer(encrypting(OLD).cipher, Unreadable())
    with pytest.raises(CorruptThreadError, match="no sense") as raised:
        RedisSaver(client, prefix=prefix, serde=serde).get_tuple(at)
    assert not isinstance(raised.value, EncryptedThreadError)


def test_a_value_can_be_put_in_the_place_of_another(client: redis.Redis, prefix: str) -> None:
    """The documentation would speak of a limit that there is not (any more)."""
    saver = RedisSaver(client, prefix=prefix, serde=encrypting(OLD))
    checkpoint = generate_checkpoint(channel_values={"c": "x"}, channel_versions={"c": "1"})
    at = saver.put(thread(), checkpoint, generate_metadata(), {"c": "1"})
    other = generate_checkpoint(channel_values={"c": "y"}, channel_versions={"c": "1"})
    saver.put(thread(checkpoint_ns="other"), other, generate_metadata(), {"c": "1"})
    key = Keyspace(prefix).thread("a").timeline
    one, two = [strip_checksum(row) for row in cast("list[bytes]", client.zrange(key, 0, -1))]

    def value(row: bytes) -> slice:  # behind the type and a header of two bytes
        start = row.index(b"msgpack+aes") + len(b"msgpack+aes") + 2
        return slice(start, start + row[start - 1])

    planted = one[: value(one).start] + two[value(two)] + one[value(one).stop :]
    client.delete(key)
    client.zadd(key, {planted + checksum_of(planted): 0})
    found = saver.get_tuple(at)
    assert found
    assert found.checkpoint["channel_values"] == {"c": "y"}


# Keys that change


def all_of(saver: Any) -> list[Any]:
    return [*saver.list(thread())]


def test_a_thread_moves_to_a_new_key(
    client: redis.Redis, prefix: str, saver_on: Callable[..., Saver], server: str
) -> None:
    """A key that leaked could never be put out of use."""
    places = conversation(
        RedisSaver(client, prefix=prefix, serde=EncryptedSerializer(ring(OLD)), ttl=3600)
    )
    chunks = Keyspace(prefix).thread("a").chunks
    expected = all_of(RedisSaver(client, prefix=prefix, serde=EncryptedSerializer(ring(OLD))))
    stored = client.hlen(chunks)
    both = saver_on(server, prefix=prefix, serde=EncryptedSerializer(ring(NEW, OLD)))
    assert all_of(both) == expected
    conversation(both)
    only_new = RedisSaver(client, prefix=prefix, serde=EncryptedSerializer(ring(NEW)))
    with pytest.raises(EncryptedThreadError, match="no key '2025'"):
        only_new.get_tuple(places[0])
    for _ in range(2):
        both.reencrypt("a")
        found = [only_new.get_tuple(place) for place in places]
        assert found[::-1] == expected
        assert all(
            client.ttl(key) > 0 for key in Keyspace(prefix).thread("a") if client.exists(key)
        )
        assert only_new.verify("a") == []
    assert client.hlen(chunks) <= 2 * stored  # what rows share, they still do


def test_what_is_written_meanwhile_moves_to_the_new_key(
    client: redis.Redis, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once the old key is thrown away, the answer of a task could not be read any more."""
    old = RedisSaver(client, prefix=prefix, serde=EncryptedSerializer(ring(OLD)))
    at = old.put(thread(), generate_checkpoint(), generate_metadata(), {})
    for task in "abc":
        old.put_writes(at, [("c", task)], task)
    saver = RedisSaver(client, prefix=prefix, serde=EncryptedSerializer(ring(NEW, OLD)))
    tasks, reply = iter("abc"), saver._connections.link.reply

    def written_to_meanwhile(request: Any) -> Any:
        if getattr(request, "script", None) is REWRITE and request.args[1] == 2:
            for task in tasks:
                saver.put_writes(at, [("c", task), ("d", "more")], task)
        return reply(request)

    monkeypatch.setattr(saver._connections.link, "reply", written_to_meanwhile)
    saver.reencrypt("a")
    found = RedisSaver(client, prefix=prefix, serde=EncryptedSerializer(ring(NEW))).get_tuple(at)
    assert found
    assert sorted(found.pending_writes or []) == [
        (task, channel, value) for task in "abc" for channel, value in (("c", task), ("d", "more"))
    ]


def test_a_value_whose_other_row_is_removed_meanwhile_moves_to_the_new_key(
    client: redis.Redis, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row that is left would lead to what went with the other one."""
    old = RedisSaver(client, prefix=prefix, serde=EncryptedSerializer(ring(OLD)))
    values, at = {"c": "shared " * 100}, thread()
    new: Any
    for run, new in (("one", {"c": "1"}), ("two", {})):
        checkpoint = generate_checkpoint(channel_values=values, channel_versions={"c": "1"})
        at = old.put(at, checkpoint, generate_metadata(run_id=run), new)
    saver = RedisSaver(client, prefix=prefix, serde=EncryptedSerializer(ring(NEW, OLD)))
    rewritten, reply = iter([False, True]), saver._connections.link.reply

    def removed_meanwhile(request: Any) -> Any:
        if getattr(request, "script", None) is REWRITE and next(rewritten, False):
            old.delete_for_runs(["one"])
        return reply(request)

    monkeypatch.setattr(saver._connections.link, "reply", removed_meanwhile)
    saver.reencrypt("a")
    fresh = RedisSaver(client, prefix=prefix, serde=EncryptedSerializer(ring(NEW)))
    found = fresh.get_tuple(at)
    assert found
    assert found.checkpoint["channel_values"] == values
    assert fresh.verify("a") == []


def test_what_was_stored_without_encryption_moves_to_a_key(
    client: redis.Redis, prefix: str, saver_on: Callable[..., Saver], server: str
) -> None:
    """Threads from before would be lost, or stay readable for ever."""
    plain = RedisSaver(client, prefix=prefix)
    places = conversation(plain)
    expected = all_of(plain)
    refusing = saver_on(server, prefix=prefix, serde=encrypting(NEW))
    with pytest.raises(UnencryptedError):
        refusing.reencrypt("a")
    moving = saver_on(server, prefix=prefix, serde=encrypting(NEW), allow_plaintext=True)
    moving.reencrypt("a")
    fresh = RedisSaver(client, prefix=prefix, serde=encrypting(NEW))
    assert [fresh.get_tuple(place) for place in places][::-1] == expected
    assert fresh.verify("a") == []


def test_a_key_ring_takes_over_what_was_encrypted_before_it(
    client: redis.Redis, prefix: str
) -> None:
    """Whoever has one key could not begin to change it."""
    places = conversation(RedisSaver(client, prefix=prefix, serde=encrypting(OLD)))
    serde = EncryptedSerializer(ring(NEW, unnamed=OLD))
    saver = RedisSaver(client, prefix=prefix, serde=serde)
    saver.reencrypt("a")
    fresh = RedisSaver(client, prefix=prefix, serde=EncryptedSerializer(ring(NEW)))
    assert all(fresh.get_tuple(place) for place in places)


@pytest.mark.parametrize("ciphers", [{}, {"": None}, {"a:b": None}])
def test_a_key_without_a_good_name_is_refused(ciphers: Any) -> None:
    """What is encrypted could not be decrypted again."""
    with pytest.raises(ConfigError, match="names"):
        KeyRing(ciphers)


@pytest.mark.parametrize("bad", ["", 7.5])
def test_reencryption_wants_a_thread_and_a_key(saver: Saver, bad: Any) -> None:
    """A slip would look like a thread that is safe now."""
    with pytest.raises(RedisSaverError, match="thread_id"):
        saver.reencrypt(bad)
    with pytest.raises(ConfigError, match="EncryptedSerializer"):
        saver.reencrypt("a")
