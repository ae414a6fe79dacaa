"""How the Agent Server's checkpointer is told what to be: by environment variables."""

from __future__ import annotations

import inspect
import re
import sys
from asyncio import AbstractEventLoop
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import redis
from langgraph.checkpoint.base import empty_checkpoint

from langgraph_checkpoint_redis import (
    AsyncRedisSaver,
    ConfigError,
    Confirm,
    DurabilityWarning,
    MissingLibraryError,
    server,
)
from langgraph_checkpoint_redis.server import make_checkpointer

PAGE = Path(__file__).parents[1] / "docs" / "agent-server.md"
CONFIG: Any = {"configurable": {"thread_id": "a", "checkpoint_ns": ""}}
KEY = "0123456789abcdef"
UNREACHABLE = "redis://:secret@127.0.0.1:1"


@dataclass
class Order:
    """A type of a user's own."""

    item: str


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets our variables, and no others."""
    variables = re.findall(r"^\| `(\w+)`", PAGE.read_text(), re.MULTILINE)
    for variable in variables:
        monkeypatch.delenv(variable, raising=False)

    def set_all(**variables: str) -> None:
        for variable, value in variables.items():
            monkeypatch.setenv(variable, value)

    return set_all


@pytest.fixture
def opened(loop: AbstractEventLoop) -> Callable[..., Any]:
    """What a coroutine function returns that is given the saver of the environment."""

    async def run(use: Callable[[AsyncRedisSaver], Any]) -> Any:
        async with make_checkpointer() as saver:
            return await use(saver)

    return lambda use: loop.run_until_complete(run(use))


async def nothing(saver: AsyncRedisSaver) -> AsyncRedisSaver:
    return saver


async def put(saver: AsyncRedisSaver, value: Any = "plain text") -> Any:
    checkpoint = empty_checkpoint()
    checkpoint["channel_values"]["value"] = value
    checkpoint["channel_versions"]["value"] = "1"
    await saver.aput(CONFIG, checkpoint, {}, {"value": "1"})
    found = await saver.aget(CONFIG)
    assert found
    return found["channel_values"]["value"]


def test_each_option_of_a_saver_has_its_variable() -> None:
    """An option could be used anywhere but in the server."""
    _, *options = inspect.signature(AsyncRedisSaver).parameters
    assert {*options} == {"serde", *server._OPTIONS}


def test_the_documentation_lists_the_variables() -> None:
    """A variable that nobody reads of is of no use, and one that does nothing misleads."""
    listed = re.findall(r"^\| `(\w+)`", PAGE.read_text(), re.MULTILINE)
    others = {server.URL, server.COMMON_URL, server.DIRECTORY, server.TYPES, server.KEY}
    assert sorted(listed) == sorted({*map(server._variable, server._OPTIONS), *others})


def test_variables_say_what_arguments_say(
    environment: Callable[..., None], opened: Callable[..., AsyncRedisSaver], server: str
) -> None:
    """Threads would live for ever, or fill the server, whatever its administrator said."""
    environment(
        LANGGRAPH_REDIS_URL=server,
        LANGGRAPH_REDIS_PREFIX="shop",
        LANGGRAPH_REDIS_KEEP_LAST="3",
        LANGGRAPH_REDIS_COMPRESSION="zlib",
        LANGGRAPH_REDIS_TTL="0.5",
        LANGGRAPH_REDIS_REFRESH_ON_READ="true",
        LANGGRAPH_REDIS_TOMBSTONE="60",
        LANGGRAPH_REDIS_ON_CONFLICT="error",
        LANGGRAPH_REDIS_ON_CLOCK_SKEW="error",
        LANGGRAPH_REDIS_CONFIRM="disk, replicas=2,timeout=0.5",
        LANGGRAPH_REDIS_ALLOW_PLAINTEXT="true",
    )
    told = AsyncRedisSaver(
        server,
        prefix="shop",
        keep_last=3,
        compression="zlib",
        ttl=0.5,
        refresh_on_read=True,
        tombstone=60,
        on_conflict="error",
        on_clock_skew="error",
        confirm=Confirm(disk=True, replicas=2, timeout=0.5),
        allow_plaintext=True,
    )
    with pytest.warns(DurabilityWarning):  # the server of the tests has no disk
        made = opened(nothing)._shared
    assert (made.options, made.keyspace) == (told._shared.options, told._shared.keyspace)


def test_a_saver_without_variables_is_a_saver_without_arguments(
    environment: Callable[..., None], opened: Callable[..., AsyncRedisSaver], server: str
) -> None:
    """What tools leave empty would count as a value."""
    environment(REDIS_URL=server, LANGGRAPH_REDIS_TTL="", LANGGRAPH_AES_KEY="")
    made = opened(nothing)._shared
    assert made.options == AsyncRedisSaver(server)._shared.options


def test_the_saver_uses_the_server_that_is_meant_for_it(
    environment: Callable[..., None],
    opened: Callable[..., Any],
    client: redis.Redis,
    server: str,
    prefix: str,
) -> None:
    """Threads would go to a cache that somebody flushes."""
    environment(LANGGRAPH_REDIS_URL=server, REDIS_URL=UNREACHABLE, LANGGRAPH_REDIS_PREFIX=prefix)
    assert opened(put) == "plain text"
    assert client.keys(f"{prefix}:*")


def test_the_saver_brings_its_server_along(
    environment: Callable[..., None], opened: Callable[..., Any], tmp_path: Path
) -> None:
    """A developer without Redis could not begin."""
    environment(LANGGRAPH_REDIS_EMBEDDED=str(tmp_path / "data"), REDIS_URL=UNREACHABLE)
    assert opened(put) == "plain text"
    assert (tmp_path / "data").is_dir()


def test_what_is_stored_is_encrypted(
    environment: Callable[..., None],
    opened: Callable[..., Any],
    client: redis.Redis,
    server: str,
    prefix: str,
) -> None:
    """Secrets that were to be encrypted could be read in Redis and its backups."""
    environment(LANGGRAPH_REDIS_URL=server, LANGGRAPH_REDIS_PREFIX=prefix, LANGGRAPH_AES_KEY=KEY)
    assert opened(put) == "plain text"
    (row,) = client.zrange(f"{prefix}:{{a}}:timeline", 0, -1)
    assert b"plain text" not in row
    assert b"msgpack+aes" in row


def test_only_allowed_types_are_built_from_what_is_stored(
    environment: Callable[..., None], opened: Callable[..., Any], server: str, prefix: str
) -> None:
    """Who can write to Redis could have any code run in the server."""
    value = [Order("tea"), Decimal(1)]
    environment(LANGGRAPH_REDIS_URL=server, LANGGRAPH_REDIS_PREFIX=prefix)
    environment(LANGGRAPH_REDIS_ALLOWED_TYPES=f"my_app:State, {Order.__module__}:Order")
    assert opened(lambda saver: put(saver, value)) == value
    environment(LANGGRAPH_REDIS_ALLOWED_TYPES="my_app:State")
    refused, safe = opened(lambda saver: put(saver, value))
    assert not isinstance(refused, Order)
    assert safe == Decimal(1)


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("LANGGRAPH_REDIS_URL", "http://:secret@host", "redis://"),
        ("REDIS_URL", "redis://:secret@host:port", "port"),
        ("LANGGRAPH_REDIS_EMBEDDED", __file__, "directory"),
        ("LANGGRAPH_REDIS_PREFIX", "{a}", "braces"),
        ("LANGGRAPH_REDIS_KEEP_LAST", "many", "from 1 to"),
        ("LANGGRAPH_REDIS_KEEP_LAST", "0", "from 1 to"),
        ("LANGGRAPH_REDIS_KEEP_LAST", "9" * 20, "from 1 to"),
        ("LANGGRAPH_REDIS_KEEP_LAST", "9" * 5000, "from 1 to"),
        ("LANGGRAPH_REDIS_TTL", "1e400", "seconds"),
        ("LANGGRAPH_REDIS_CONFIRM", "disk,timeout=9", "socket_timeout"),
        ("LANGGRAPH_REDIS_COMPRESSION", "gzip", "zlib"),
        ("LANGGRAPH_REDIS_TTL", "soon", "seconds"),
        ("LANGGRAPH_REDIS_TTL", "nan", "seconds"),
        ("LANGGRAPH_REDIS_TOMBSTONE", "-1", "seconds"),
        ("LANGGRAPH_REDIS_REFRESH_ON_READ", "yes", "true or false"),
        ("LANGGRAPH_REDIS_ON_CONFLICT", "merge", "fork"),
        ("LANGGRAPH_REDIS_CONFIRM", "always", "disk,replicas=1"),
        ("LANGGRAPH_REDIS_CONFIRM", "replicas=many", "replicas must be an int"),
        ("LANGGRAPH_REDIS_CONFIRM", "timeout=1", "disk=True"),
        ("LANGGRAPH_REDIS_ALLOWED_TYPES", "my_app.State", "my_app.state:Order"),
        ("LANGGRAPH_AES_KEY", "secret", "16, 24 or 32 bytes"),
    ],
)
def test_a_wrong_value_is_refused_by_the_name_of_its_variable(
    environment: Callable[..., None],
    opened: Callable[..., Any],
    variable: str,
    value: str,
    expected: str,
) -> None:
    """A typing error would go unseen, or a password end up in a log."""
    environment(**{"REDIS_URL": UNREACHABLE, variable: value})
    with pytest.raises(ConfigError, match=rf"(?s)^{variable}: .*{expected}") as caught:
        opened(nothing)
    assert "secret" not in f"{caught.value!r}{caught.value.__context__!r}"


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("LANGGRAPH_REDIS_TTLS", "did you mean LANGGRAPH_REDIS_TTL"),
        ("LANGGRAPH_REDIS_KEEPLAST", "did you mean LANGGRAPH_REDIS_KEEP_LAST"),
        ("LANGGRAPH_REDIS_XYZ", "only LANGGRAPH_REDIS_ALLOWED_TYPES, "),
    ],
)
def test_a_misspelt_variable_is_refused(
    environment: Callable[..., None],
    opened: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    server: str,
    variable: str,
    meant: str,
) -> None:
    """Threads would stay for ever, or unencrypted, and the settings say otherwise."""
    environment(LANGGRAPH_REDIS_URL=server)
    monkeypatch.setenv(variable, "1")
    with pytest.raises(ConfigError, match=rf"^{variable} is not .*{meant}"):
        opened(nothing)
    monkeypatch.setenv(variable, "")
    assert opened(nothing)
    for name in ("SERVICE_HOST", "SERVICE_PORT_HTTP", "PORT", "PORT_6379_TCP_ADDR"):
        monkeypatch.setenv(f"LANGGRAPH_REDIS_{name}", "of Kubernetes")
    assert opened(nothing)


def test_the_embedded_server_may_be_at_home(
    environment: Callable[..., None],
    opened: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """A directory called `~` would appear wherever the server starts."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir("/")
    environment(LANGGRAPH_REDIS_EMBEDDED="~/threads")
    opened(put)
    assert (tmp_path / "threads" / "server.log").exists()
    environment(LANGGRAPH_REDIS_EMBEDDED="~nobody-of-this-name/threads")
    with pytest.raises(ConfigError, match=r"^LANGGRAPH_REDIS_EMBEDDED: .*home directory"):
        opened(nothing)


def test_a_missing_compression_is_named(
    environment: Callable[..., None], opened: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody would know which setting needs a library."""
    environment(REDIS_URL=UNREACHABLE, LANGGRAPH_REDIS_COMPRESSION="zstd")
    monkeypatch.setattr("langgraph_checkpoint_redis._storage.compression.zstandard", None)
    with pytest.raises(MissingLibraryError, match=r"^LANGGRAPH_REDIS_COMPRESSION: "):
        opened(nothing)


def test_a_saver_needs_to_know_its_server(
    environment: Callable[..., None], opened: Callable[..., Any]
) -> None:
    """Threads would go to a server that was not meant, or nowhere."""
    with pytest.raises(ConfigError, match=r"^LANGGRAPH_REDIS_URL is not set"):
        opened(nothing)
    environment(LANGGRAPH_REDIS_URL=UNREACHABLE, LANGGRAPH_REDIS_EMBEDDED="data")
    with pytest.raises(ConfigError, match=r"^LANGGRAPH_REDIS_URL and .*_EMBEDDED are both set"):
        opened(nothing)


def test_a_missing_cipher_is_named(
    environment: Callable[..., None], opened: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody would know what to install, or threads would be stored as they are."""
    environment(REDIS_URL=UNREACHABLE, LANGGRAPH_AES_KEY=KEY)
    monkeypatch.setitem(sys.modules, "Crypto.Cipher", None)
    with pytest.raises(MissingLibraryError, match=r"^LANGGRAPH_AES_KEY .*pycryptodome"):
        opened(nothing)


def test_a_server_that_cannot_be_reached_stops_the_start(
    environment: Callable[..., None], opened: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first user would be told, instead of who has started the server."""
    monkeypatch.setattr("langgraph_checkpoint_redis._transport.retry.SECONDS_TO_RECOVER", 0.1)
    environment(LANGGRAPH_REDIS_URL=UNREACHABLE)
    with pytest.raises(redis.ConnectionError):
        opened(nothing)
