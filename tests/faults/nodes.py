"""Servers as real processes that are killed, stopped and started again with what they had."""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import redis
from redis.crc import key_slot

from tests.local_server import free_port, running_server
from tests.servers import (
    SERVICE,
    SOON,
    Address,
    any_binary,
    has_link,
    is_formed,
    join,
    node_id,
    replicate,
    running_sentinel,
    sees,
    wait_until,
)

SETTINGS = (
    *("--appendonly", "yes", "--auto-aof-rewrite-min-size", "256mb", *SOON),
    *("--repl-backlog-size", "64mb"),
)
# So that a primary which others have left takes no writes for long; see docs/operations.md.
WITH_REPLICAS = ("--min-replicas-to-write", "1", "--min-replicas-max-lag", "2")


class Node:
    """A server with a directory and a port of its own."""

    def __init__(self, directory: Path, *settings: str) -> None:
        directory.mkdir()
        self._settings = ("--dir", str(directory), *SETTINGS, *settings)
        self.address: Address = ("127.0.0.1", free_port())
        self.client = redis.Redis(*self.address, socket_timeout=5)
        self._stack = ExitStack()
        self.start()

    @property
    def url(self) -> str:
        return f"redis://{self.address[0]}:{self.address[1]}"

    def start(self, *settings: str) -> None:
        """Start it, and wait until it has read what it had."""
        server = running_server(any_binary(), *self._settings, *settings, port=self.address[1])
        self._stack.enter_context(server)
        self._process = int(self.client.info("server")["process_id"])

    def kill(self) -> None:
        """End it as a crash would."""
        self._signal(signal.SIGKILL)
        self._stack.close()

    def stop(self) -> None:
        """Let it stand still, with all its connections."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        os.kill(self._process, number)

    def close(self) -> None:
        """End it for good."""
        self._stack.close()
        self.client.close()


class Sentinels:
    """A primary and a replica, and three sentinels that watch them."""

    def __init__(self, stack: ExitStack, directory: Path) -> None:
        first = Node(directory / "0", *WITH_REPLICAS)
        stack.callback(first.close)
        self.nodes = [first]
        self._follow(directory / "1", stack)
        self.sentinels = [stack.enter_context(running_sentinel(*first.address)) for _ in range(3)]
        clients = [stack.enter_context(redis.Redis(*sentinel)) for sentinel in self.sentinels]
        wait_until(lambda: all(sees(client, 1) for client in clients), "the sentinels do not meet")
        self._sentinel: Any = clients[0]

    def _follow(self, directory: Path, stack: ExitStack) -> None:
        host, port = self.nodes[0].address
        replica = Node(directory, "--replicaof", host, str(port), *WITH_REPLICAS)
        stack.callback(replica.close)
        self.nodes.append(replica)
        wait_until(lambda: has_link(replica.client), "a replica does not reach its primary")

    @property
    def url(self) -> str:
        places = ",".join(f"{host}:{port}" for host, port in self.sentinels)
        return f"redis+sentinel://{places}/{SERVICE}"

    @property
    def primary(self) -> Node:
        """The one that the sentinels know."""
        _, port = self._sentinel.execute_command("SENTINEL GET-MASTER-ADDR-BY-NAME", SERVICE)
        return next(node for node in self.nodes if node.address[1] == int(port))

    def settle(self) -> None:
        """Wait until the other follows the primary."""
        wait_until(lambda: self._is_settled(), "no replica follows")  # noqa: PLW0108 - for retries

    def _is_settled(self) -> bool:
        try:
            roles = [node.client.info("replication") for node in self.nodes]
        except redis.RedisError:
            return False
        primary = roles[self.nodes.index(self.primary)]
        return primary["role"] == "master" and any(
            role.get("master_link_status") == "up" for role in roles
        )

    def fail_over(self, fail: Any, back: Any) -> None:
        """Let the primary fail, wait for another, and bring it back."""
        before = self.primary
        fail(before)
        wait_until(lambda: self.primary is not before, "no other primary comes")
        back(before)
        self.settle()


class Nodes:
    """A cluster of three primaries, with a replica each."""

    def __init__(self, stack: ExitStack, directory: Path) -> None:
        settings = ("--cluster-enabled", "yes", "--cluster-node-timeout", "1500")
        self.nodes = [Node(directory / str(number), *settings) for number in range(6)]
        for node in self.nodes:
            stack.callback(node.close)
        clients = [node.client for node in self.nodes]
        join(clients, 3)
        for primary, replica in zip(clients, clients[3:], strict=False):
            replicate(primary, replica)
        wait_until(lambda: all(is_formed(client, 6) for client in clients), "no cluster forms")

    @property
    def url(self) -> str:
        places = [f"{host}:{port}" for host, port in (node.address for node in self.nodes)]
        return f"redis+cluster://{','.join(places[:3])}"

    @property
    def primaries(self) -> list[Node]:
        """Those that are one now."""
        return [node for node in self.nodes if _is_primary(node)]

    def settle(self) -> None:
        """Wait until each primary has a replica again, and each slot an owner."""
        wait_until(self._is_settled, "the cluster does not come together again")

    def _is_settled(self) -> bool:
        try:
            formed = all(is_formed(node.client, 6) for node in self.nodes)
            roles = [node.client.info("replication") for node in self.nodes]
        except redis.RedisError:
            return False
        links = sum(role.get("master_link_status") == "up" for role in roles)
        return formed and links == 3 and sum(role["role"] == "master" for role in roles) == 3

    def fail_over(self, fail: Any, back: Any, number: int) -> None:
        """Let one of the primaries fail, wait until its replica takes over, and bring it back."""
        primary = self.primaries[number % 3]
        others = [node for node in self.nodes if node is not primary]
        before = len(self.primaries)
        fail(primary)
        wait_until(lambda: sum(map(_is_primary, others)) == before, "no replica takes the place")
        back(primary)
        self.settle()

    def _owner(self, slot: int) -> Node:
        ranges: Any = self.primaries[0].client.cluster("SLOTS")
        port = next(
            int(primary[1])
            for first, last, primary, *_ in ranges
            if int(first) <= slot <= int(last)
        )
        return next(node for node in self.nodes if node.address[1] == port)

    def move(self, key: bytes) -> bool:
        """Move a key's slot to another node; whether there was something in it."""
        slot = key_slot(key)
        source = self._owner(slot)
        target = next(node for node in self.primaries if node is not source)
        target.client.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", node_id(source.client))
        source.client.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", node_id(target.client))
        moved = 0
        while keys := source.client.execute_command("CLUSTER GETKEYSINSLOT", slot, 1):
            source.client.migrate(*target.address, keys, 0, 5000)
            moved += 1
        target.client.wait(1, 5000)  # who moves keys has to see to that
        for node in (target, source, *self.primaries):
            node.client.execute_command("CLUSTER SETSLOT", slot, "NODE", node_id(target.client))
        return bool(moved)


def _is_primary(node: Node) -> bool:
    try:
        return bool(node.client.info("replication")["role"] == "master")
    except redis.RedisError:
        return False
