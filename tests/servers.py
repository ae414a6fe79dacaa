"""Several server processes that work together, for tests that need more than one."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import redis

from tests.local_server import available_servers, free_port, running_server

SLOTS = 16384
SECONDS_TO_FORM = 30
SERVICE = "chats"
SOON = ("--repl-diskless-sync-delay", "0")  # replicas need not wait for others to come

Address = tuple[str, int]


chosen: list[str] = []  # the names of the servers that `--servers` says; see conftest.py


def any_binary() -> Path:
    """The first server of this machine that was chosen to test on; if none was, the newest."""
    found = available_servers()
    return next((found[name] for name in chosen if name in found), next(iter(found.values())))


def is_image(name: str) -> bool:
    """Whether `--servers` means the image of a container."""
    return ":" in name


@pytest.fixture(scope="module")
def own_server(request: pytest.FixtureRequest, servers: dict[str, str]) -> Iterator[str]:
    """A server of a test module's own, where one can be started: it is the module's `server`."""
    binary = available_servers().get(request.param)
    if binary is None:
        yield servers[request.param]
    else:
        with running_server(binary) as url:
            yield url


@contextmanager
def running_node(*settings: str) -> Iterator[str]:
    """A server of the first kind that was chosen, be it an image; its URL."""
    if chosen and is_image(chosen[0]):
        with _running_container(chosen[0], *settings) as url:
            yield url
    else:
        with running_server(any_binary(), *settings) as url:
            yield url


@contextmanager
def _running_container(image: str, *settings: str) -> Iterator[str]:
    """A container on the network of this machine, so that nodes can name each other's address."""
    # Docker's library is slow to import, and needed here only.
    from testcontainers.core.container import DockerContainer  # noqa: PLC0415

    port = str(free_port())
    command = ["--bind", "127.0.0.1", "--port", port, "--save", "", *settings]
    with (
        DockerContainer(image, network_mode="host").with_command(command),
        redis.Redis(port=int(port)) as client,
    ):
        wait_until(lambda: _answers(client), f"a container of {image} does not start")
        yield f"redis://127.0.0.1:{port}"


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:  # it is only starting
        return False


def wait_until(condition: Callable[[], bool], complaint: str) -> None:
    """Wait for what processes come to by themselves."""
    deadline = time.monotonic() + SECONDS_TO_FORM
    while not condition():
        assert time.monotonic() < deadline, complaint
        time.sleep(0.05)


def address(node: redis.Redis) -> Address:
    """Where a client's server is."""
    arguments = node.connection_pool.connection_kwargs
    return arguments["host"], arguments["port"]


def kill(node: redis.Redis) -> None:
    """End a server as a power failure would."""
    os.kill(int(node.info("server")["process_id"]), signal.SIGKILL)


def connections_of(client: redis.Redis, name: str) -> set[str]:
    """The connections that the server has under a name."""
    return {found["id"] for found in client.client_list() if found["name"] == name}


# Clusters


class Cluster(NamedTuple):
    """The nodes of a cluster, each with a client of its own, as they began."""

    primaries: list[redis.Redis]
    replicas: list[redis.Redis]

    @property
    def nodes(self) -> list[redis.Redis]:
        return [*self.primaries, *self.replicas]

    def url(self, start: int = 0) -> str:
        """What a saver is told, with some of the nodes."""
        places = [f"{host}:{port}" for host, port in map(address, self.nodes[start:])]
        return f"redis+cluster://{','.join(places[:3])}"


@contextmanager
def running_cluster(*, primaries: int = 3, replicas: int = 0) -> Iterator[Cluster]:
    """A cluster that is up; each of the first primaries has a replica."""
    settings = ("--cluster-enabled", "yes", "--cluster-node-timeout", "2000", *SOON)
    with ExitStack() as stack:
        urls = [stack.enter_context(running_node(*settings)) for _ in range(primaries + replicas)]
        nodes = [stack.enter_context(redis.Redis.from_url(url)) for url in urls]
        join(nodes, primaries)
        for primary, replica in zip(nodes, nodes[primaries:], strict=False):
            replicate(primary, replica)
        wait_until(lambda: all(is_formed(node, len(nodes)) for node in nodes), "no cluster forms")
        yield Cluster(nodes[:primaries], nodes[primaries:])


def node_id(node: redis.Redis) -> str:
    """What a cluster calls a node."""
    name = node.execute_command("CLUSTER MYID")
    return name.decode() if isinstance(name, bytes) else str(name)


def join(nodes: list[redis.Redis], primaries: int) -> None:
    share = -(-SLOTS // primaries)
    for first, node in zip(count(0, share), nodes[:primaries], strict=False):
        node.execute_command("CLUSTER ADDSLOTS", *range(first, min(first + share, SLOTS)))
    for node in nodes[1:]:
        node.execute_command("CLUSTER MEET", *address(nodes[0]))


def replicate(primary: redis.Redis, replica: redis.Redis) -> None:
    name = node_id(primary)
    known = lambda: name in str(replica.execute_command("CLUSTER NODES"))  # noqa: E731 - short
    wait_until(known, "a replica does not hear of its primary")
    replica.execute_command("CLUSTER REPLICATE", name)
    wait_until(lambda: has_link(replica), "a replica does not reach its primary")


def has_link(replica: redis.Redis) -> bool:
    """Whether a replica follows its primary."""
    return replica.info("replication").get("master_link_status") == "up"


def is_formed(node: redis.Redis, size: int) -> bool:
    info: Any = node.execute_command("CLUSTER INFO")
    return bool(info["cluster_state"] == "ok" and info["cluster_known_nodes"] == str(size))


# Sentinels


class Watched(NamedTuple):
    """A primary and its replicas, and who watches them."""

    servers: list[redis.Redis]
    sentinels: list[Address]

    @property
    def url(self) -> str:
        places = ",".join(f"{host}:{port}" for host, port in self.sentinels)
        return f"redis+sentinel://{places}/{SERVICE}"


@contextmanager
def running_sentinels(*, replicas: int = 2) -> Iterator[Watched]:
    """A primary, its replicas, and three sentinels that know of each other."""
    with ExitStack() as stack:
        first = stack.enter_context(running_server(any_binary(), *SOON))
        host, port = first.removeprefix("redis://").split(":")
        follow = ("--replicaof", host, port, *SOON)
        urls = [
            first,
            *(stack.enter_context(running_server(any_binary(), *follow)) for _ in range(replicas)),
        ]
        servers = [stack.enter_context(redis.Redis.from_url(url)) for url in urls]
        wait_until(lambda: all(map(has_link, servers[1:])), "a replica does not reach its primary")
        sentinels = [stack.enter_context(running_sentinel(host, int(port))) for _ in range(3)]
        clients = [stack.enter_context(redis.Redis(*sentinel)) for sentinel in sentinels]
        wait_until(
            lambda: all(sees(client, replicas) for client in clients), "the sentinels do not meet"
        )
        yield Watched(servers, sentinels)


def sees(sentinel: redis.Redis, replicas: int) -> bool:
    try:
        # The method for it is broken in redis-py 6.4.
        state: Any = sentinel.execute_command("SENTINEL MASTER", SERVICE)
    except redis.ConnectionError:  # it is only starting
        return False
    return bool(state["num-other-sentinels"] == 2 and state["num-slaves"] == replicas)


@contextmanager
def running_sentinel(host: str, port: int) -> Iterator[Address]:
    """A sentinel: it wants a file of settings that it can write to."""
    own_port = free_port()
    with tempfile.TemporaryDirectory(prefix="sentinel-") as directory:
        settings = Path(directory, "sentinel.conf")
        settings.write_text(
            f"bind 127.0.0.1\nport {own_port}\ndir {directory}\n"
            f"sentinel monitor {SERVICE} {host} {port} 2\n"
            f"sentinel down-after-milliseconds {SERVICE} 1000\n"
            f"sentinel failover-timeout {SERVICE} 1500\n"
        )
        command = (str(any_binary()), str(settings), "--sentinel")
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            try:
                yield "127.0.0.1", own_port
            finally:
                process.kill()


# Restarts


class Restarting:
    """A server that is killed, and starts again where it was, with these settings."""

    def __init__(self, *settings: str) -> None:
        self._settings = settings
        self._port = free_port()
        self._stack = ExitStack()
        self.url = self._start()

    def _start(self) -> str:
        server = running_server(any_binary(), *self._settings, port=self._port)
        return self._stack.enter_context(server)

    def restart_in(self, seconds: float) -> threading.Timer:
        """Kill the server now, and start another later, while the caller goes on."""
        self._stack.close()
        timer = threading.Timer(seconds, self._start)
        timer.start()
        return timer

    def close(self) -> None:
        """End the server."""
        self._stack.close()
