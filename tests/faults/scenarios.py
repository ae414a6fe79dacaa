"""Set-ups of servers, and what is done to each while workers use it.

A scenario is a class: how to start its servers, which faults there are, how to heal. The numbers
beside faults are their weights; a fault returns when the servers can be met by the next one.
"""

from __future__ import annotations

import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, ClassVar

from langgraph_checkpoint_redis._storage.keys import Keyspace

from .ledger import last_done
from .nodes import Node, Nodes, Sentinels
from .proxy import Fault, Proxy, running_proxy

SHORT, LONG = (0.05, 0.4), (5.2, 5.8)  # seconds: within what a client waits, and beyond
Faults = dict[Callable[[], object], float]


class Scenario(ABC):
    """Servers that workers use.

    Attributes:
        name: What `--only` and the report call it.
        promise: What its set-up promises of acknowledged writes.
        seconds_lost: How long before and after a fault acknowledged writes may be lost; 0 for none.
        options: What the workers' savers are made with.
    """

    name: ClassVar[str]
    promise: ClassVar[str]
    seconds_lost: ClassVar[float] = 0.0
    options: ClassVar[dict[str, Any]] = {}
    url: str  # for workers
    plain_url: str  # for checks, without a proxy

    def __init__(self, stack: ExitStack, directory: Path, chance: random.Random) -> None:
        self.directory, self.chance = directory, chance
        self.losses: list[tuple[float, float]] = []  # when something may have been lost
        self.start(stack, directory)

    @abstractmethod
    def start(self, stack: ExitStack, directory: Path) -> None:
        """Start the servers."""

    @abstractmethod
    def faults(self) -> Faults:
        """What can be done to the servers, each with its weight."""

    @property
    @abstractmethod
    def nodes(self) -> list[Node]:
        """All servers."""

    def proxied_faults(self) -> int:
        """How many requests a proxy has struck."""
        return 0

    @abstractmethod
    def heal(self) -> None:
        """Let no fault come any more, and wait until all is well."""

    def wait(self, span: tuple[float, float] = SHORT) -> None:
        time.sleep(self.chance.uniform(*span))

    @contextmanager
    def losing(self) -> Iterator[None]:
        """Note that what is acknowledged in this block may be lost."""
        start = time.time()
        try:
            yield
        finally:
            self.losses.append((start, time.time()))

    # Faults that all servers know

    def flush_scripts(self) -> None:
        """Let servers forget the scripts."""
        for node in self.nodes:
            node.client.script_flush()

    def cut_clients(self) -> None:
        """Let a server close the connections of all clients."""
        self.chance.choice(self.nodes).client.execute_command("CLIENT KILL TYPE normal SKIPME yes")

    def stop_for_a_moment(self) -> None:
        """Let a server stand still, for less than clients wait."""
        node = self.chance.choice(self.nodes)
        node.stop()
        self.wait()
        node.go_on()


class Single(Scenario):
    """One server that writes each command to disk before it answers, behind a proxy."""

    name = "single, appendfsync always"
    promise = "nothing is lost"
    settings: ClassVar[tuple[str, ...]] = ("--appendfsync", "always")
    rate = 0.015  # of requests that the proxy strikes

    def start(self, stack: ExitStack, directory: Path) -> None:
        self.node = Node(directory / "server", *self.settings)
        stack.callback(self.node.close)
        self._is_healed = False
        self.proxy: Proxy = stack.enter_context(running_proxy(self.node.address, self._strike))
        self.url, self.plain_url = self.proxy.url, self.node.url

    def _strike(self) -> Fault | None:
        if self._is_healed or random.random() > self.rate:
            return None
        return Fault(random.choice([*Fault]))

    @property
    def nodes(self) -> list[Node]:
        return [self.node]

    def proxied_faults(self) -> int:
        return sum(self.proxy.met.values())

    def faults(self) -> Faults:
        return {
            self.kill: 3,
            self.stop_for_a_moment: 2,
            self.stop_for_long: 0.15,
            self.flush_scripts: 3,
            self.cut_clients: 3,
            self.pause: 2,
        }

    def kill(self) -> None:
        """Kill the server, and start it a moment later."""
        with self.losing():
            self.node.kill()
        self.wait()
        self.node.start()

    def stop_for_long(self) -> None:
        """Let the server stand still for longer than clients wait for an answer."""
        self.node.stop()
        self.wait(LONG)
        self.node.go_on()

    def pause(self) -> None:
        """Let the server not carry out what clients ask for a moment."""
        self.node.client.client_pause(self.chance.randrange(50, 500))

    def heal(self) -> None:
        self._is_healed = True


class Everysec(Single):
    """The same, which writes to disk once in a second."""

    name = "single, appendfsync everysec"
    promise = "the last 2 seconds before a crash may be lost"
    settings = ("--appendfsync", "everysec")
    seconds_lost = 2.5


class Full(Single):
    """A server whose memory is full again and again."""

    name = "memory full"
    promise = "nothing is lost"
    rate = 0.0

    def faults(self) -> Faults:
        return {self.fill: 4, self.flush_scripts: 1, self.kill: 0.3}

    def fill(self) -> None:
        """Let the server have no memory left for a moment."""
        self.node.client.config_set("maxmemory", 1)
        self.wait()
        self.node.client.config_set("maxmemory", 0)


class Watched(Scenario):
    """A primary and a replica that sentinels watch."""

    name = "sentinels"
    promise = "what no replica had yet may be lost in a failover"
    seconds_lost = 3.0

    def start(self, stack: ExitStack, directory: Path) -> None:
        self.servers = Sentinels(stack, directory)
        self.url = self.plain_url = self.servers.url

    @property
    def nodes(self) -> list[Node]:
        return self.servers.nodes

    def faults(self) -> Faults:
        return {
            self.kill_primary: 1,
            self.stop_primary: 1,
            self.stop_for_a_moment: 3,
            self.flush_scripts: 4,
            self.cut_clients: 6,
        }

    def kill_primary(self) -> None:
        """Kill the primary; it comes back as a replica."""
        self._fail_over(Node.kill, Node.start)

    def stop_primary(self) -> None:
        """Let the primary stand still until there is another: then there are two for a moment."""
        self._fail_over(Node.stop, Node.go_on)

    def _fail_over(self, fail: Callable[[Node], None], back: Callable[[Node], None]) -> None:
        with self.losing():
            self.servers.fail_over(fail, back)

    def heal(self) -> None:
        self.servers.settle()


class Clustered(Scenario):
    """A cluster of three primaries, each with a replica."""

    name = "cluster"
    promise = Watched.promise
    seconds_lost = Watched.seconds_lost

    def start(self, stack: ExitStack, directory: Path) -> None:
        self.servers = Nodes(stack, directory)
        self.url = self.plain_url = self.servers.url

    @property
    def nodes(self) -> list[Node]:
        return self.servers.nodes

    def faults(self) -> Faults:
        return {
            self.kill_primary: 1,
            self.stop_primary: 1,
            self.move_slot: 5,
            self.stop_for_a_moment: 2,
            self.flush_scripts: 3,
            self.cut_clients: 6,
        }

    def kill_primary(self) -> None:
        """Kill a primary; it comes back as a replica."""
        self._fail_over(Node.kill, Node.start)

    def stop_primary(self) -> None:
        """Let a primary stand still until its replica has taken its place."""
        self._fail_over(Node.stop, Node.go_on)

    def _fail_over(self, fail: Callable[[Node], None], back: Callable[[Node], None]) -> None:
        with self.losing():
            self.servers.fail_over(fail, back, self.chance.randrange(3))

    def move_slot(self) -> None:
        """Move the slot of a thread that is in use to another node."""
        for path in self._ledgers():
            if entry := last_done(path, "put"):
                self.servers.move(Keyspace("lg").thread(entry.thread_id).timeline)
                return

    def _ledgers(self) -> Iterator[Path]:
        ledgers = [path for path in self.directory.glob("*.*.*") if "graph" not in path.name]
        self.chance.shuffle(ledgers)
        yield from ledgers

    def heal(self) -> None:
        self.servers.settle()


class OnDisk(Everysec):
    """A server that writes to disk once in a second, and savers that wait for it."""

    name = "single, everysec, confirm disk"
    promise = "nothing is lost"
    options: ClassVar[dict[str, Any]] = {"confirm": {"disk": True, "timeout": 3}}
    seconds_lost = 0.0


class WatchedAndConfirmed(Watched):
    """A primary and a replica, and savers that wait for the replica."""

    name = "sentinels, confirm replica"
    promise = "nothing is lost"
    options: ClassVar[dict[str, Any]] = {"confirm": {"replicas": 1, "timeout": 2}}
    seconds_lost = 0.0


class ClusteredAndConfirmed(Clustered):
    """A cluster, and savers that wait for the replicas."""

    name = "cluster, confirm replica"
    promise = "nothing is lost"
    options: ClassVar[dict[str, Any]] = WatchedAndConfirmed.options
    seconds_lost = 0.0


SCENARIOS: dict[type[Scenario], float] = {  # each with its share of the time
    Single: 5,
    Everysec: 1.5,
    OnDisk: 1,
    Full: 1,
    Watched: 2,
    WatchedAndConfirmed: 2,
    Clustered: 2,
    ClusteredAndConfirmed: 2,
}
