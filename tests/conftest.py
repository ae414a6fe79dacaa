"""What tests are given: real servers, savers of both kinds, and one way to drive them.

A test is written once. It calls `saver` (or the graph driver `drive`) as if all were synchronous,
and runs for `RedisSaver` and for `AsyncRedisSaver`, on each server.

Which servers: those that `--servers` names, by default the newest Redis and the newest Valkey that
were found in wheels or on PATH; `all` means every one. A name with a colon in it, such as
`redis:7.4`, is the image of a container. `REDIS_URL` overrides it, and where nothing is found, it
is a container as well. A missing server, or a missing Docker, is an error, never a skip.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any
from uuid import uuid4

import pytest
import redis
from langgraph.checkpoint.base import id as generator
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.types import Durability

from langgraph_checkpoint_redis import AsyncRedisSaver, RedisSaver, cli
from tests.local_server import available_servers, running_server

from .commanding import Done, Run
from .driving import AwaitedDriver, AwaitedSaver, DirectDriver, Driver, Open, Restart, Saver, close
from .graphs import DURABILITIES, with_saver
from .servers import chosen, is_image

IMAGE = "redis:8"  # where no server is found


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--servers", default="newest", help="newest, all, or names such as valkey-8.1 or redis:7.4"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Refuse servers that there are not, before any test runs."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in what a shell runs by `&`
        signal.signal(signal.SIGINT, signal.default_int_handler)  # commands are to end by Ctrl-C
    chosen[:] = _chosen(config.getoption("--servers"))
    for name in chosen:
        if is_image(name):
            _check_docker(name)
        elif name != "REDIS_URL" and name not in available_servers():
            raise pytest.UsageError(f"--servers: no {name} here, only {[*available_servers()]}")


def _check_docker(image: str) -> None:
    # Slow, and needed here only; it has no types.
    import docker  # type: ignore[import-untyped]  # noqa: PLC0415

    try:
        with closing(docker.from_env()) as daemon:
            daemon.ping()
    except docker.errors.DockerException as error:
        raise pytest.UsageError(
            f"--servers: {image} is the image of a container, but no Docker daemon answers: {error}"
        ) from error


def _chosen(option: str) -> list[str]:
    if "REDIS_URL" in os.environ:
        return ["REDIS_URL"]
    found = sorted(available_servers(), key=_version, reverse=True)
    if not found:
        return [IMAGE]
    if option == "all":
        return found
    if option == "newest":
        kinds = {name.split("-")[0] for name in found}
        return [next(name for name in found if name.startswith(kind)) for kind in sorted(kinds)]
    return option.split(",")


def _version(name: str) -> list[int]:
    return [int(part) for part in name.split("-")[1].split(".")]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "server" in metafunc.fixturenames:
        names = _chosen(metafunc.config.getoption("--servers"))
        if getattr(metafunc.module, "ON_ONE_SERVER", False):
            names = names[:1]
        metafunc.parametrize("server", names, indirect=True, scope="session")


@pytest.fixture(autouse=True)
def _same_clock_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes back what a test has read: ids that are ahead make later ones of the process so."""
    last = getattr(generator, "_last_v6_timestamp", None)
    monkeypatch.setattr(generator, "_last_v6_timestamp", last)


@pytest.fixture(scope="session")
def servers() -> Iterator[dict[str, str]]:
    """The URLs of the servers that run already, by name; all stop when the session ends."""
    with ExitStack() as stack:
        urls = _Servers(stack)
        yield urls


class _Servers(dict[str, str]):
    def __init__(self, stack: ExitStack) -> None:
        super().__init__()
        self._stack = stack

    def __missing__(self, name: str) -> str:
        self[name] = self._started(name)
        return self[name]

    def _started(self, name: str) -> str:
        if name == "REDIS_URL":
            return os.environ["REDIS_URL"]
        if is_image(name):
            # Docker's library is slow to import, and needed here only.
            from testcontainers.community.redis import RedisContainer  # noqa: PLC0415

            container = self._stack.enter_context(RedisContainer(name))
            host, port = container.get_container_host_ip(), container.get_exposed_port(6379)
            return f"redis://{host}:{port}"
        return self._stack.enter_context(running_server(available_servers()[name]))


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest, servers: dict[str, str]) -> str:
    """The URL of a server."""
    return servers[request.param]


@pytest.fixture
def client(server: str) -> Iterator[redis.Redis]:
    """A plain client of the server, to look at what is stored."""
    with redis.Redis.from_url(server) as client:
        yield client


@pytest.fixture
def prefix(client: redis.Redis) -> Iterator[str]:
    """A key prefix of the test's own; what it leaves there is removed."""
    prefix = f"test-{uuid4().hex}"
    yield prefix
    for key in client.scan_iter(match=f"{prefix}:*", count=1000):
        client.unlink(key)


@pytest.fixture(params=["sync", "async"])
def kind(request: pytest.FixtureRequest) -> str:
    """Which of the two savers a test is for."""
    return str(request.param)


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """The event loop in which the asynchronous saver lives, between its calls at rest."""
    loop = asyncio.new_event_loop()
    yield loop
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


@pytest.fixture
def serde() -> SerializerProtocol | None:
    """The serializer; a test module may override it."""
    return None


@pytest.fixture
def saver_options() -> dict[str, Any]:
    """Further options of the saver; a test may be parametrized with others."""
    return {}


@pytest.fixture
def raw_saver(
    kind: str,
    server: str,
    prefix: str,
    loop: asyncio.AbstractEventLoop,
    serde: SerializerProtocol,
    saver_options: dict[str, Any],
) -> Iterator[RedisSaver | AsyncRedisSaver]:
    """A saver as users make it."""
    options = {"prefix": prefix, "serde": serde, **saver_options}
    if kind == "sync":
        with RedisSaver.from_conn_string(server, **options) as saver:
            yield saver
    else:
        asynchronous = AsyncRedisSaver(server, **options)
        yield asynchronous
        loop.run_until_complete(asynchronous.aclose())


@pytest.fixture
def saver(raw_saver: RedisSaver | AsyncRedisSaver, loop: asyncio.AbstractEventLoop) -> Saver:
    """A saver of either kind, called synchronously."""
    return raw_saver if isinstance(raw_saver, RedisSaver) else AwaitedSaver(raw_saver, loop)


@pytest.fixture
def saver_on(kind: str, loop: asyncio.AbstractEventLoop) -> Iterator[Callable[..., Saver]]:
    """Makes savers of either kind, on whatever server a test has; all are closed at its end."""
    with ExitStack() as stack:

        def made(redis: Any, **options: Any) -> Saver:
            if kind == "sync":
                saver = RedisSaver(redis, **options)
                stack.callback(saver.close)
                return saver
            asynchronous = AsyncRedisSaver(redis, **options)
            stack.callback(lambda: loop.run_until_complete(asynchronous.aclose()))
            return AwaitedSaver(asynchronous, loop)

        yield made


@pytest.fixture
def drive(raw_saver: RedisSaver | AsyncRedisSaver, loop: asyncio.AbstractEventLoop) -> Driver:
    """Runs graphs with the saver: `invoke` or `ainvoke`, and so on."""
    return (
        DirectDriver(raw_saver)
        if isinstance(raw_saver, RedisSaver)
        else AwaitedDriver(raw_saver, loop)
    )


@pytest.fixture(params=DURABILITIES)
def durability(request: pytest.FixtureRequest) -> Durability:
    """When a graph stores its checkpoints."""
    durability: Durability = request.param
    return durability


@pytest.fixture
def savers(
    kind: str, prefix: str, serde: SerializerProtocol | None, loop: asyncio.AbstractEventLoop
) -> Iterator[Open]:
    """Opens more savers of the same kind, for a URL or a client; they are closed at the end."""
    opened: list[RedisSaver | AsyncRedisSaver] = []

    def opened_for(redis: Any, **options: Any) -> RedisSaver | AsyncRedisSaver:
        saver_class = RedisSaver if kind == "sync" else AsyncRedisSaver
        opened.append(saver_class(redis, prefix=prefix, serde=serde, **options))
        return opened[-1]

    yield opened_for
    for saver in opened:
        close(saver, loop)


@pytest.fixture
def restart(savers: Open, server: str) -> Restart:
    """Gives a driver whose saver is new, as in another process; `InMemorySaver` stays."""
    return lambda drive: (
        drive if isinstance(drive.saver, InMemorySaver) else with_saver(drive, savers(server))
    )


@pytest.fixture
def run(
    server: str, prefix: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Runs a command on the test's threads, its output piped and nobody at the keyboard."""
    monkeypatch.setenv("REDIS_URL", server)
    monkeypatch.setenv("LANGGRAPH_REDIS_PREFIX", prefix)
    monkeypatch.delenv("LANGGRAPH_AES_KEY", raising=False)

    def run(*words: str) -> Done:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["langgraph-redis", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return Done(int(ended.value.code or 0), *capsys.readouterr())

    return run
