"""What `AsyncRedisSaver` does in an event loop never blocks it, not even the first time.

LangGraph's Agent Server fails a run that does. Each test is a process of its own, since what is
read or imported when it is first needed is read and imported once.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.local_server import running_server

from .servers import any_binary

ROOT = Path(__file__).parents[1]

PROGRAM = """
import asyncio
import os

from blockbuster import blockbuster_ctx
from langgraph.checkpoint.base import empty_checkpoint

from langgraph_checkpoint_redis import AsyncRedisSaver
from langgraph_checkpoint_redis.server import make_checkpointer

A = {"configurable": {"thread_id": "a", "checkpoint_ns": ""}}


async def use(saver):
    await saver.asetup()
    checkpoint = empty_checkpoint()
    checkpoint["channel_values"]["text"] = os.urandom(4000).hex()
    checkpoint["channel_versions"]["text"] = saver.get_next_version(None, None)
    put = await saver.aput(A, checkpoint, {"run_id": "r"}, checkpoint["channel_versions"])
    await saver.aput_writes(put, [("text", "more")], "task")
    assert (await saver.aget_tuple(A)).checkpoint == checkpoint
    assert len([found async for found in saver.alist(None)]) == 1
    await saver.aget_delta_channel_history(config=put, channels=["text"])
    await saver.acopy_thread("a", "b")
    await saver.aset_ttl("b", 60)
    async with saver.alease("b"):
        pass
    await saver.aprune(["b"], strategy="delete_all")
    await saver.adelete_for_runs(["r"])
    await saver.adelete_thread("a")


async def main(opened):
    with blockbuster_ctx():
        async with opened() as saver:
            await use(saver)


def from_url():
    return AsyncRedisSaver.from_conn_string(os.environ["REDIS_URL"])


def embedded():
    return AsyncRedisSaver.embedded("data")


asyncio.run(main(OPENED))
os._exit(0)  # what blockbuster changed in Python can make its end a crash
"""


def run(opened: str, directory: Path, **environment: str) -> None:
    filters = ("-W", "error", "-W", "ignore:this server keeps nothing")  # it is in memory
    command = (sys.executable, *filters, "-c", PROGRAM.replace("OPENED", opened))
    environment["PYTHONPATH"] = str(ROOT)
    done = subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running_server(any_binary()) as url:
        yield url


def test_nothing_blocks_a_saver_from_a_url(url: str, tmp_path: Path) -> None:
    """All other requests of a web server would wait meanwhile."""
    run("from_url", tmp_path, REDIS_URL=url)


def test_nothing_blocks_an_embedded_server(tmp_path: Path) -> None:
    """A program would stand still while a server starts."""
    run("embedded", tmp_path)


def test_nothing_blocks_the_checkpointer_of_the_agent_server(url: str, tmp_path: Path) -> None:
    """Each run of each graph would fail."""
    options = {"COMPRESSION": "zstd", "KEEP_LAST": "2", "TTL": "60", "TOMBSTONE": "60"}
    environment = {f"LANGGRAPH_REDIS_{name}": value for name, value in options.items()}
    run("make_checkpointer", tmp_path, REDIS_URL=url, LANGGRAPH_AES_KEY="k" * 32, **environment)
