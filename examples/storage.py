"""Where the examples keep their threads: on the server in `REDIS_URL`, or on one of their own.

The server of their own is embedded. It keeps its data in a directory, which is removed when the
program ends.
"""

import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from langgraph_checkpoint_redis import AsyncRedisSaver, RedisSaver

DIRECTORY = "EXAMPLE_DIRECTORY"  # the variable by which another process finds the same server


@contextmanager
def storage() -> Iterator[None]:
    """A block in which this process, and those that it starts, find the same server."""
    if os.environ.keys() & {"REDIS_URL", DIRECTORY}:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="langgraph-") as directory:
        os.environ[DIRECTORY] = directory
        with RedisSaver.embedded(directory):  # it ends with its last user
            yield


@contextmanager
def open_saver() -> Iterator[RedisSaver]:
    """Open a saver."""
    url = os.environ.get("REDIS_URL")
    opened = RedisSaver.from_conn_string(url) if url else RedisSaver.embedded(os.environ[DIRECTORY])
    with opened as saver:
        yield saver


@asynccontextmanager
async def open_async_saver() -> AsyncIterator[AsyncRedisSaver]:
    """Open an asynchronous saver."""
    url, directory = os.environ.get("REDIS_URL"), os.environ.get(DIRECTORY, "")
    opened = AsyncRedisSaver.from_conn_string(url) if url else AsyncRedisSaver.embedded(directory)
    async with opened as saver:
        yield saver
