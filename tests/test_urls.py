"""What may be passed in as `redis`: URLs, the clients of two libraries, and nothing else."""

from __future__ import annotations

import re
import socket
import time
import traceback
from asyncio import AbstractEventLoop
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from pathlib import Path
from threading import Timer
from typing import Any

import pytest
import redis
import redis.asyncio
import valkey
import valkey.asyncio

from langgraph_checkpoint_redis import AsyncRedisSaver, ConfigError, RedisSaver
from langgraph_checkpoint_redis._transport import retry, tls
from langgraph_checkpoint_redis._transport.retry import SECONDS_TO_RECOVER, RetryPolicy
from langgraph_checkpoint_redis._transport.urls import read_url
from tests.local_server import available_servers, free_port, running_server

from .driving import Saver
from .forking import ran
from .servers import Restarting
from .story import chat, thread, use

SaverOn = Callable[..., Saver]


# URLs


@pytest.mark.parametrize(
    ("url", "hosts", "service"),
    [
        ("redis://", [("localhost", 6379)], ""),
        ("redis://h/3", [("h", 6379)], ""),
        ("rediss://user:pass@h:1", [("h", 1)], ""),
        ("redis://:p@ss@h:1/?protocol=3", [("h", 1)], ""),
        ("redis://[::1]:7", [("::1", 7)], ""),
        ("redis+cluster://a:1,b,[::1]:3", [("a", 1), ("b", 6379), ("::1", 3)], ""),
        ("rediss+cluster://u:p@a:1,b:2/0?ssl_cert_reqs=none", [("a", 1), ("b", 2)], ""),
        ("redis+sentinel://a,b:5/chats", [("a", 26379), ("b", 5)], "chats"),
        ("rediss+sentinel://u:p@a/chats/2?sentinel_password=q", [("a", 26379)], "chats"),
    ],
)
def test_a_url_says_where_the_servers_are(
    url: str, hosts: list[tuple[str, int]], service: str
) -> None:
    """The form that a user's other programs have could not be read, or would lead elsewhere."""
    found = read_url(url)
    assert [*found.hosts] == hosts
    assert found.service == service


def test_what_is_special_in_a_password_is_percent_encoded() -> None:
    """A generated password with such characters would be taken for a part of something else."""
    options = read_url("redis+cluster://us%40er:p%2Fa%3As%3F%40@h:1,i:2").options
    assert (options["username"], options["password"]) == ("us@er", "p/a:s?@")


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "hunter2",
        "localhost:6379",
        "http://:hunter2@h",
        "redis:/h:hunter2",
        "redis://:hunter2#@h",
        "redis://:hunter2/@h",
        "redis://:1/hunter2@h",
        "redis://:hunter2@h:port",
        "redis://:hunter2@h:99999",
        "redis://:hunter2@h/name",
        "redis://:hunter2@a,b",
        "redis://:hunter2@h?db=one",
        "redis://:hunter2@h?colour=red",
        "redis://:hunter2@h?retry_on_error=x",
        "redis://:hunter2@h?read_from_replicas=true",
        "redis+cluster://:hunter2@h?read_from_replicas=true",
        "redis+cluster://:hunter2@h?load_balancing_strategy=round_robin",
        "redis://:hunter2@h?redis_connect_func=x",
        "redis://:hunter2@h?parser_class=x",
        "rediss://:hunter2@h?ssl_cert_reqs=perhaps",
        "unix://:hunter2@",
        "unix+cluster://:hunter2@/socket",
        "redis+cluster://:hunter2@",
        "redis+cluster://:hunter2@a,,b",
        "redis+cluster://:hunter2@a/1",
        "redis+sentinel://:hunter2@a",
        "redis+sentinel://:hunter2@a/chats/first",
        "redis+sentinel:///chats",
    ],
)
@pytest.mark.parametrize("saver_class", [RedisSaver, AsyncRedisSaver])
def test_a_wrong_url_is_refused_at_once_and_its_password_not_shown(
    saver_class: Any, wrong: str
) -> None:
    """A typing error would come up in production, or bring a password into the logs."""
    with pytest.raises(ConfigError, match="redis") as found:
        saver_class(wrong)
    assert "hunter2" not in str(found.value)
    assert found.value.__cause__ is None


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("max_connections=0", "at least 1, not 0"),
        ("max_connections=-1", "at least 1"),
        ("socket_timeout=0", "seconds from 0.01 to 86400, not 0.0"),
        ("socket_timeout=-1", "seconds from"),
        ("socket_timeout=0.0001", "seconds from"),
        ("socket_timeout=nan", "seconds from"),
        ("socket_timeout=inf", "seconds from"),
        ("socket_connect_timeout=0", "seconds from"),
        ("health_check_interval=-1", "from 0 to"),
        ("db=-1", "at least 0"),
        ("client_name=x%20y", "without spaces"),
        ("client_name=x%0Ay", "without spaces"),
        ("encoding=utf-16", "keeps ASCII"),
        ("encoding=latin-2000", "keeps ASCII"),
    ],
)
@pytest.mark.parametrize("saver_class", [RedisSaver, AsyncRedisSaver])
def test_options_by_which_calls_would_hang_are_refused(
    saver_class: Any, option: str, expected: str
) -> None:
    """Each call would wait for ever, or be repeated in vain for ten seconds."""
    with pytest.raises(ConfigError, match=f"^redis: {option.partition('=')[0]} .*{expected}"):
        saver_class(f"redis://h?{option}")


def test_options_are_for_the_servers_and_for_their_sentinels() -> None:
    """Sentinels behind TLS, or with a password of their own, could not be asked."""
    url = read_url(
        "rediss+sentinel://user:pass@a/chats/2?ssl_ca_certs=ca.pem&sentinel_password=word"
    )
    client = url.client(redis)
    server = client.connection_pool.connection_kwargs
    (sentinel,) = client.connection_pool.sentinel_manager.sentinels
    asked = sentinel.connection_pool.connection_kwargs
    assert (server["username"], server["password"], server["db"]) == ("user", "pass", 2)
    assert (asked["username"], asked["password"], asked["db"]) == (None, "word", 0)
    assert server["ssl_ca_certs"] == asked["ssl_ca_certs"] == "ca.pem"
    for pool in (client.connection_pool, sentinel.connection_pool):
        assert issubclass(pool.connection_class, redis.SSLConnection)
    assert "pass" not in repr(url)


# Clients


@pytest.fixture
def valkey_client(kind: str, server: str, loop: AbstractEventLoop) -> Iterator[Callable[..., Any]]:
    """Makes a client of valkey-py."""
    made: list[Any] = []

    def client(**options: Any) -> Any:
        of: Any = valkey if kind == "sync" else valkey.asyncio
        made.append(of.Valkey.from_url(server.replace("redis:", "valkey:"), **options))
        return made[-1]

    yield client
    for opened in made:
        if kind == "sync":
            opened.close()
        else:
            loop.run_until_complete(opened.aclose())


@pytest.mark.parametrize(
    "options", [{}, {"protocol": 3}, {"decode_responses": True}, {"db": 5}], ids=str
)
def test_a_client_of_the_other_library_will_do(
    valkey_client: Callable[..., Any],
    client: redis.Redis,
    saver_on: SaverOn,
    prefix: str,
    options: dict[str, Any],
) -> None:
    """Who has moved to Valkey, and to its library, would have to install and set up another."""
    client.script_flush()  # so that the scripts are not known
    use(saver_on(valkey_client(**options), prefix=prefix))


@pytest.mark.parametrize("wrong", [None, 5, b"redis://h", redis.Redis, {}], ids=str)
def test_what_is_no_client_is_refused(saver_on: SaverOn, wrong: object) -> None:
    """The first call would fail with an error from deep inside."""
    with pytest.raises(ConfigError, match=r"^redis must be"):
        saver_on(wrong)


def test_no_url_at_all_is_a_type_error(saver_on: SaverOn, kind: str) -> None:
    """A variable that is not set would look like a fault of this package."""
    name = "RedisSaver" if kind == "sync" else "AsyncRedisSaver"
    with pytest.raises(TypeError, match=rf"\b{name}\.from_conn_string\(url\).* not None: is the"):
        saver_on(None)


async def use_in_block(saver: Any) -> None:
    with saver:
        pass


async def use_in_async_block(saver: Any) -> None:
    async with saver:
        pass


@pytest.mark.parametrize("use", [use_in_block, use_in_async_block])
@pytest.mark.parametrize("saver_class", [RedisSaver, AsyncRedisSaver])
async def test_a_saver_in_a_block_says_what_to_write_instead(
    saver_class: Any, use: Callable[[Any], Awaitable[None]]
) -> None:
    """Who knows LangGraph's other savers would have to look for the reason in our code."""
    name = saver_class.__name__
    start = "async with" if saver_class is AsyncRedisSaver else "with"
    with pytest.raises(TypeError, match=rf"`{start} {name}\.from_conn_string\(url\) as saver:`"):
        await use(saver_class("redis://h"))


@pytest.mark.parametrize("saver_class", [RedisSaver, AsyncRedisSaver])
def test_a_saver_does_not_look_like_a_context_manager(saver_class: Any) -> None:
    """Frameworks that take both would open a block with a saver, and fail."""
    saver = saver_class("redis://h")
    for name in ("__enter__", "__exit__", "__aenter__", "__aexit__"):
        assert not hasattr(saver, name)


def test_a_client_of_the_other_kind_is_refused(saver_on: SaverOn, kind: str) -> None:
    """A coroutine that nobody awaits would be taken for a reply, or a loop would be blocked."""
    wrong = redis.asyncio.Redis() if kind == "sync" else redis.Redis()
    with pytest.raises(ConfigError, match=r"^redis must be an? "):
        saver_on(wrong)


def test_connections_say_who_they_are(
    saver_on: SaverOn, server: str, client: redis.Redis, prefix: str
) -> None:
    """Whoever looks for what keeps a server busy could not tell our connections from others."""
    saver_on(server, prefix=prefix).get_tuple(thread("a"))
    # Older servers keep no names of libraries: there, it must only do no harm.
    names = [found["lib-name"] for found in client.client_list() if "lib-name" in found]
    assert not names or any("langgraph-checkpoint-redis-core_v" in name for name in names)


# Patience


def test_a_saver_waits_for_a_server_that_restarts(saver_on: SaverOn) -> None:
    """Every restart of a server would fail the runs that are on their way."""
    with closing(Restarting()) as server:
        saver = saver_on(server.url)
        saver.put(thread("a"), *chat(1))
        starting = server.restart_in(0.5)
        saver.put(thread("b"), *chat(2))
        starting.join()
        assert saver.get_tuple(thread("b"))


@pytest.mark.parametrize("binary", available_servers().values(), ids=available_servers())
@pytest.mark.parametrize("serves_stale_data", ["yes", "no"])
def test_a_saver_waits_for_a_replica_that_becomes_the_primary(
    saver_on: SaverOn, binary: Path, serves_stale_data: str
) -> None:
    """In a failover there is a moment in which no server takes writes, and runs would fail."""
    stale = ("--replica-serve-stale-data", serves_stale_data)
    with running_server(binary, *stale) as url, redis.Redis.from_url(url) as client:
        saver = saver_on(url)
        at = saver.put(thread("a"), *chat(1))
        saver.put_writes(at, [("c", 1)], "task")
        client.execute_command("REPLICAOF", "127.0.0.1", "1")
        promotion = Timer(0.2, lambda: client.execute_command("REPLICAOF", "NO", "ONE"))
        promotion.start()
        saver.put_writes(at, [("c", 2)], "other task")
        promotion.join()
        found = saver.get_tuple(at)
        assert found
        assert found.pending_writes == [("other task", "c", 2), ("task", "c", 1)]


def test_a_client_that_was_passed_in_keeps_its_own_patience(
    kind: str, loop: AbstractEventLoop
) -> None:
    """Programs that want errors at once could not have them."""
    start = loop.time()
    with pytest.raises(redis.ConnectionError):
        loop.run_until_complete(_read(kind, "redis://127.0.0.1:1"))
    assert loop.time() - start < 1


async def _read(kind: str, url: str) -> None:
    no_more = redis.backoff.NoBackoff(), 0
    if kind == "sync":
        RedisSaver(redis.Redis.from_url(url, retry=redis.retry.Retry(*no_more))).get(thread("a"))
    else:
        retry = redis.asyncio.retry.Retry(*no_more)
        async with redis.asyncio.Redis.from_url(url, retry=retry) as client:
            await AsyncRedisSaver(client).aget(thread("a"))


# Mistakes that last


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("redis://no-such-host.invalid", redis.exceptions.ConnectionError),
        ("redis+cluster://no-such-host.invalid", redis.exceptions.RedisClusterException),
    ],
)
def test_a_host_that_does_not_exist_is_an_error_soon(
    saver_on: SaverOn, url: str, error: type[Exception]
) -> None:
    """Whoever mistypes a name would wait ten seconds for each try."""
    saver = saver_on(url)
    began = time.monotonic()
    with pytest.raises(error):
        saver.get_tuple(thread("a"))
    with pytest.raises(error):
        [*saver.list(None)]
    assert time.monotonic() - began < SECONDS_TO_RECOVER  # for both


def test_sentinels_that_are_not_there_are_named_without_passwords(
    saver_on: SaverOn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever mistypes a name would wait, and read the options of clients instead of the name."""
    monkeypatch.setattr(retry, "SECONDS_TO_BE_THERE", 0.1)
    url = "redis+sentinel://ada:s3cret@a.invalid,b.invalid:7/chats?sentinel_password=s3cret"
    with pytest.raises(redis.exceptions.ConnectionError) as raised:
        saver_on(url).get_tuple(thread("a"))
    said = str(raised.value)
    assert re.match(r"no sentinel of 'chats' answers: a.invalid:26379 \(.+\), b.invalid:7 \(", said)
    assert "s3cret" not in "".join(traceback.format_exception(raised.value))
    assert len(said) < 300


def test_a_server_that_is_not_there_is_a_short_error_soon(saver_on: SaverOn) -> None:
    """Whoever tries this out without a server would wait, and then look for it in our code."""
    port = free_port()
    saver = saver_on(f"redis://localhost:{port}")
    began = time.monotonic()
    with pytest.raises(redis.exceptions.ConnectionError) as raised:
        saver.get_tuple(thread("a"))
    assert time.monotonic() - began < 4  # 2, and what a busy machine takes
    said = str(raised.value)
    assert said.startswith(f"no Redis at localhost:{port}: Connection refused. Start one (")
    for words in (f"redis-server --port {port}", f"-p {port}:6379", "RedisSaver.embedded("):
        assert words in said
    assert "During handling" not in "".join(traceback.format_exception(raised.value))


def test_a_server_elsewhere_that_is_not_there_is_not_to_be_started_here() -> None:
    """Whoever mistypes a port would be told to start a server on another machine."""
    url = read_url("redis://:s3cret@10.0.0.1:7")
    error = redis.exceptions.ConnectionError("Error 111 connecting to 10.0.0.1:7.")
    error.__cause__ = ConnectionRefusedError()
    with pytest.raises(redis.exceptions.ConnectionError, match="Check the host and the port"):
        RetryPolicy(url, "put", was_reached=False, seconds=0).seconds_until_retry(error)


def test_a_server_that_another_saver_has_reached_is_waited_for(
    saver_on: SaverOn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Programs that make a saver for each request would fail while a server restarts."""
    monkeypatch.setattr(retry, "SECONDS_TO_BE_THERE", 0.0)
    with closing(Restarting()) as server:
        saver_on(server.url).get_tuple(thread("a"))
        starting = server.restart_in(0.5)
        saver_on(server.url).put(thread("b"), *chat(2))
        starting.join()


def test_a_server_that_comes_in_a_moment_is_waited_for(saver_on: SaverOn) -> None:
    """Containers that start together would have to be started again."""
    with closing(Restarting()) as server:
        starting = server.restart_in(0.5)
        saver_on(server.url).put(thread("a"), *chat(1))
        starting.join()


@pytest.mark.parametrize("form", ["redis", "redis+cluster", "redis+sentinel"])
def test_a_server_without_tls_is_named_soon(
    saver_on: SaverOn, server: str, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A letter too many in a URL would cost twenty seconds, and look like a server that is slow."""
    monkeypatch.setattr(tls, "SECONDS_TO_BEGIN", 0.3)
    url = server.replace("redis", form.replace("redis", "rediss"))
    end = "?socket_timeout=0.3&socket_connect_timeout=0.3"
    url += f"/chats{end}" if form == "redis+sentinel" else end
    saver = saver_on(url)
    began = time.monotonic()
    with pytest.raises(ConfigError, match=rf"does not speak TLS.* use {re.escape(form)}://"):
        saver.get_tuple(thread("a"))
    assert time.monotonic() - began < 5
    with pytest.raises(ConfigError, match="does not speak TLS"):
        [*saver.list(None)]


@pytest.mark.parametrize(
    ("url", "error", "is_asked"),
    [
        ("rediss://h", redis.TimeoutError("silence"), True),
        ("rediss://h", redis.ConnectionError("closed"), True),
        ("redis://h", redis.ConnectionError("closed"), True),
        ("redis://h", redis.TimeoutError("silence"), False),
        ("redis://h", redis.exceptions.BusyLoadingError("LOADING"), False),
        ("redis://h", redis.ResponseError("BUSY"), False),
        ("redis://h", redis.AuthenticationError("NOAUTH"), False),
    ],
)
def test_a_server_is_only_asked_what_it_speaks_where_it_may_be_that(
    url: str, error: Exception, *, is_asked: bool
) -> None:
    """A server that is busy when a program starts would cost a second more, and get odd bytes."""
    asked = RetryPolicy(read_url(url), "put", was_reached=False).look_for_tls(error)
    assert bool(asked) is is_asked
    assert RetryPolicy(read_url(url), "put", was_reached=True).look_for_tls(error) is None


def test_a_server_that_is_no_sentinel_is_named(saver_on: SaverOn, server: str) -> None:
    """The URL of the server itself would end in a command that it does not know."""
    saver = saver_on(server.replace("redis://", "redis+sentinel://") + "/chats")
    with pytest.raises(ConfigError, match=r"is not a sentinel.* use redis://"):
        saver.get_tuple(thread("a"))


def test_a_name_that_was_reached_before_may_be_unknown_for_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The name of a container goes while it restarts, and all runs would fail."""
    unknown = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    error = redis.exceptions.ConnectionError("no such name")
    error.__cause__ = unknown
    monkeypatch.setattr(retry, "SECONDS_TO_BE_THERE", 0.0)
    RetryPolicy(read_url("redis://h"), "put", was_reached=True).seconds_until_retry(error)
    with pytest.raises(redis.exceptions.ConnectionError):
        RetryPolicy(read_url("redis://h"), "put", was_reached=False).seconds_until_retry(error)


def test_a_name_may_come_in_a_moment() -> None:
    """Containers that start together would have to be started again."""
    error = redis.exceptions.ConnectionError("no such name")
    error.__cause__ = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    assert (
        RetryPolicy(read_url("redis://h"), "put", was_reached=False).seconds_until_retry(error) == 0
    )


def test_connections_are_remembered_for_that(
    raw_saver: RedisSaver | AsyncRedisSaver, saver: Saver, loop: AbstractEventLoop
) -> None:
    """The same, where a saver has been in use."""

    def was_reached() -> bool:
        if isinstance(raw_saver, RedisSaver):
            return raw_saver._connections.link.was_reached
        return loop.run_until_complete(raw_saver._connections.here()).was_reached

    assert not was_reached()
    saver.get_tuple(thread("a"))
    assert was_reached()


@pytest.mark.parametrize(
    "later",
    [
        """
        saver = AsyncRedisSaver(url)
        assert asyncio.run(saver.aget_tuple(thread("a"))) is None
        back_at = time.monotonic() + 1
        assert asyncio.run(saver.aget_tuple(thread("a"))) is None
        """,
        """
        saver = RedisSaver(url)
        assert saver.get_tuple(thread("a")) is None
        back_at = time.monotonic() + 1
        check(forked(lambda: saver.get_tuple(thread("a")) is None))
        """,
    ],
    ids=["in another loop", "in a forked process"],
)
def test_a_saver_remembers_for_that_what_it_has_reached(
    server: str, prefix: str, later: str
) -> None:
    """Jobs that run in a loop or a process of their own would fail while a container restarts."""
    url = server.replace("127.0.0.1", "container")
    assert ran(url, prefix, _NAMED_CONTAINER, later) == "done"


_NAMED_CONTAINER = """
    import socket

    known, back_at = socket.getaddrinfo, 0.0

    def look_up(host, *args, **options):
        if time.monotonic() < back_at:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return known("127.0.0.1" if host == "container" else host, *args, **options)

    socket.getaddrinfo = look_up
    """


def test_a_url_for_a_cluster_says_that_it_leads_to_another_server(
    saver_on: SaverOn, server: str
) -> None:
    """The mistake would look like a server that is down."""
    saver = saver_on(server.replace("redis://", "redis+cluster://"))
    began = time.monotonic()
    with pytest.raises(ConfigError, match="not part of a cluster"):
        saver.get_tuple(thread("a"))
    assert time.monotonic() - began < 5
