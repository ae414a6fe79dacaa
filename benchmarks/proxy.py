"""A TCP proxy that delays: the network between two machines of a data centre, on one machine.

    python -m benchmarks.proxy HOST:PORT SECONDS      each direction takes so long
    python -m benchmarks.proxy /a/unix/socket SECONDS

It prints the port where it listens, and ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import os
import selectors
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

ROOT = Path(__file__).parents[1]
CHUNK = 1 << 18


@contextmanager
def delayed(target: str, seconds: float) -> Iterator[int]:
    """Run the proxy in a process of its own; gives its port."""
    command = [sys.executable, "-m", "benchmarks.proxy", target, str(seconds)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, cwd=ROOT) as process:
        assert process.stdout  # noqa: S101 - for the type checker
        yield int(process.stdout.readline())
        process.communicate()


async def _serve(target: str, seconds: float) -> None:
    server = await asyncio.start_server(partial(_connect, target, seconds), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    os._exit(0)  # At once: connections that wait have nothing to finish.


async def _connect(
    target: str, seconds: float, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    host, _, port = target.rpartition(":")
    connecting = (
        asyncio.open_unix_connection(target)
        if target.startswith("/")
        else asyncio.open_connection(host, int(port))
    )
    far_reader, far_writer = await connecting
    await asyncio.gather(_pass(reader, far_writer, seconds), _pass(far_reader, writer, seconds))


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    while data := await reader.read(CHUNK):
        loop.call_later(seconds, writer.write, data)
    loop.call_later(seconds, writer.close)


if __name__ == "__main__":
    # The usual selector of Linux rounds each wait up to a millisecond; select() does not.
    loop = asyncio.SelectorEventLoop(selectors.SelectSelector())
    loop.run_until_complete(_serve(sys.argv[1], float(sys.argv[2])))
