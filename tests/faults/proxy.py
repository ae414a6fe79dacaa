"""A TCP proxy on loopback that loses, cuts, halves and delays what savers and servers say.

It takes a request as one that a client begins to send when its last one was answered, and lets the
greetings of a new connection pass, so that a fault meets what a saver asks for.
"""

from __future__ import annotations

import asyncio
import re
import threading
from asyncio import StreamReader, StreamWriter
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from enum import Enum

Address = tuple[str, int]

READ = 1 << 16  # bytes at a time
SECONDS_OF_DELAY = 0.15

_GREETING = re.compile(rb"\*\d+\r\n\$\d+\r\n(?:HELLO|AUTH|CLIENT|SELECT|PING)\r\n", re.IGNORECASE)


class Fault(Enum):
    """What happens to a request, or to its reply."""

    LOST_REQUEST = "the connection ends before the server gets the request"
    HALF_REQUEST = "the connection ends when the server has half of the request"
    LOST_REPLY = "the connection ends after the server has done it, before its reply"
    HALF_REPLY = "the connection ends in the middle of the reply"
    DELAY = "the reply is late"


class Proxy:
    """Passes on what clients and a server say, but for the faults that `choose` tells.

    Args:
        target: The address of the server.
        choose: Is asked for each request what is to happen to it.
    """

    def __init__(self, target: Address, choose: Callable[[], Fault | None]) -> None:
        self.target = target
        self.choose = choose
        self.met = Counter[Fault]()
        self.connections = dict[_Connection, asyncio.Task[None] | None]()
        self.address: Address = ("127.0.0.1", 0)

    @property
    def url(self) -> str:
        """Where a saver finds the server, through this."""
        return f"redis://{self.address[0]}:{self.address[1]}"

    async def serve(self, ready: threading.Event, end: asyncio.Event) -> None:
        """Listen until `end`."""
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.address = server.sockets[0].getsockname()[:2]
        ready.set()
        await end.wait()
        server.close()
        for connection in self.connections:
            connection.cut()
        if tasks := [task for task in self.connections.values() if task]:
            await asyncio.wait(tasks)

    async def _connected(self, reader: StreamReader, writer: StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(*self.target)
        except OSError:
            writer.close()
            return
        connection = _Connection(self, writer, far_writer)
        self.connections[connection] = asyncio.current_task()
        with suppress(OSError):
            await asyncio.gather(connection.requests(reader), connection.replies(far_reader))
        connection.cut()
        del self.connections[connection]


class _Connection:
    """One client's connection, and what is to happen to its present request."""

    def __init__(self, proxy: Proxy, near: StreamWriter, far: StreamWriter) -> None:
        self._proxy, self._near, self._far = proxy, near, far
        self._is_answered = True
        self._fault: Fault | None = None

    def cut(self) -> None:
        """End it, after what was passed on already."""
        self._near.close()
        self._far.close()

    async def requests(self, reader: StreamReader) -> None:
        """Pass on what the client says."""
        while data := await reader.read(READ):
            if self._is_answered and not _GREETING.match(data):
                self._fault = self._proxy.choose()
            self._is_answered = False
            if self._meets(Fault.LOST_REQUEST):
                break
            if self._meets(Fault.HALF_REQUEST):
                self._far.write(data[: len(data) // 2])
                break
            self._far.write(data)
            await self._far.drain()
        self.cut()

    async def replies(self, reader: StreamReader) -> None:
        """Pass on what the server says."""
        while data := await reader.read(READ):
            self._is_answered = True
            if self._meets(Fault.LOST_REPLY):
                break
            if self._meets(Fault.HALF_REPLY):
                self._near.write(data[: len(data) // 2])
                break
            if self._meets(Fault.DELAY):
                await asyncio.sleep(SECONDS_OF_DELAY)
            self._near.write(data)
            await self._near.drain()
        self.cut()

    def _meets(self, fault: Fault) -> bool:
        if self._fault is not fault:
            return False
        self._fault = None
        self._proxy.met[fault] += 1
        return True


@contextmanager
def running_proxy(target: Address, choose: Callable[[], Fault | None]) -> Iterator[Proxy]:
    """A proxy in a thread of its own, until the block ends."""
    proxy, ready, end = Proxy(target, choose), threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    def run() -> None:
        loop.run_until_complete(proxy.serve(ready, end))
        loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    ready.wait()
    try:
        yield proxy
    finally:
        loop.call_soon_threadsafe(end.set)
        thread.join()
