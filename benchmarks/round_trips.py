"""How often each saver on Redis asks its server, per operation.

    python -m benchmarks.round_trips

A proxy between saver and server counts how often the client begins to send after an answer: a
pipeline is one round trip, whatever is in it. What comes with a first use (connecting, loading
scripts) is not counted, as every operation is done once before.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from uuid import uuid4

from .columns import COLUMNS, Column, Session
from .servers import Server, Unavailable
from .workloads import Thread, conversation, message

NAMES = ("core", "redis", "plainredis", "valkey", "hotkv")
SIZE = 1 << 16


class Counter:
    """Connections to a server that pass through here, and their round trips so far."""

    def __init__(self, address: str) -> None:
        """With the server's `host:port`; it listens at once."""
        host, _, port = address.rpartition(":")
        self._target, self.trips = (host, int(port)), 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Listen no more."""
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._target)
                answered = threading.Event()
                answered.set()
                for run, ends in ((self._send, (near, far)), (self._answer, (far, near))):
                    threading.Thread(target=run, args=(*ends, answered), daemon=True).start()

    def _send(self, near: socket.socket, far: socket.socket, answered: threading.Event) -> None:
        for data in _received(near):
            if answered.is_set():
                answered.clear()
                self.trips += 1
            far.sendall(data)
        far.close()

    def _answer(self, far: socket.socket, near: socket.socket, answered: threading.Event) -> None:
        for data in _received(far):
            answered.set()
            near.sendall(data)
        near.close()


def _received(end: socket.socket) -> Iterator[bytes]:
    with suppress(OSError):  # the other direction has closed it
        while data := end.recv(SIZE):
            yield data


@contextmanager
def counted(server: Server) -> Iterator[Counter]:
    """A counter in front of a server."""
    counter = Counter(server.address)
    try:
        yield counter
    finally:
        counter.close()


async def trips_of(column: Column) -> dict[str, int]:
    """Round trips by operation, in a thread that has a few checkpoints, as a chat would."""
    with column.server() as server, counted(server) as counter:
        url = f"redis://127.0.0.1:{counter.port}"
        async with Session.opened(column, server, awaited=False, url=url) as session:
            for _ in range(2):  # the second time, nothing is new
                found = await _operations(session, counter)
    return found


async def _operations(session: Session, counter: Counter) -> dict[str, int]:
    thread, found = Thread(session), dict[str, int]()
    writes = [("messages", [message(1)]), ("branch:to:chat", None)]

    async def count(name: str, act: Callable[[], Awaitable[object]]) -> None:
        before = counter.trips
        await act()
        found[name] = counter.trips - before

    for _ in range(3):
        thread.advance(messages=conversation(4))
        await count("put", thread.put)
        await count(
            "put_writes", lambda: session.call("put_writes", thread.at, writes, str(uuid4()))
        )
    await count("get_tuple, latest", lambda: session.call("get_tuple", thread.latest))
    await count("get_tuple, by id", lambda: session.call("get_tuple", thread.at))
    await count("list of 3", lambda: session.listed(thread.latest))
    await count("delete_thread of 3", lambda: session.call("delete_thread", thread.id))
    return found


def main() -> None:
    """Print a table, a row for each saver."""
    titles: list[str] = []
    for column in (column for column in COLUMNS if column.name in NAMES):
        try:
            found = asyncio.run(trips_of(column))
        except (Unavailable, ImportError) as error:
            print(f"{column.name} is left out: {error}")
            continue
        if not titles:
            titles = ["saver", *found]
            print("|", " | ".join(titles), "|")
            print("|", " | ".join("---" for _ in titles), "|")
        print("|", " | ".join([column.name, *map(str, found.values())]), "|")


if __name__ == "__main__":
    main()
