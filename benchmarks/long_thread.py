"""How long each operation holds up the server, on a thread of 10,000 checkpoints.

    python benchmarks/long_thread.py        on a server of the benchmark's own (or on REDIS_URL)

The thread is a chat that keeps its last 200 messages. A script holds up everybody else while it
runs, so what counts is the longest call of an operation, by the server's slow log, not their sum.
Each operation is done several times, of which the least counts: what disturbs the server is not it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

sys.path.insert(0, str(Path(__file__).parent.parent))

import redis
from langchain_core.messages import AIMessage, AnyMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointMetadata

from benchmarks.workloads import checkpoint_of
from examples.local_server import server_url
from langgraph_checkpoint_redis import RedisSaver

ROUNDS = 3
KEPT = 200  # messages
RUNS = 100  # checkpoints of a run
MANY = 100_000  # more calls than any operation makes


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoints", type=int, default=10_000)
    count = parser.parse_args().checkpoints
    with (
        server_url() as url,
        redis.Redis.from_url(url) as client,
        RedisSaver.from_conn_string(url) as saver,
        slow_log(client),
    ):
        latest = fill(saver, count)
        print("| operation | longest call, ms |\n|---|---|")
        for name, operation in operations(latest).items():
            longest = min(measured(client, saver, operation) for _ in range(ROUNDS))
            print(f"| {name} | {longest / 1000:.2f} |", flush=True)
        saver.delete_thread("long")


@contextmanager
def slow_log(client: redis.Redis) -> Iterator[None]:
    """Let the server log nearly all calls meanwhile."""
    before: dict[Any, Any] = client.config_get("slowlog-*")
    client.config_set("slowlog-log-slower-than", 20)  # microseconds
    client.config_set("slowlog-max-len", MANY)
    yield
    for name, value in before.items():
        client.config_set(name, value)


def fill(saver: RedisSaver, count: int) -> RunnableConfig:
    """Put so many checkpoints, each with a message and a write more; the latest of them."""
    at: RunnableConfig = {"configurable": {"thread_id": "long", "checkpoint_ns": ""}}
    messages: list[AnyMessage] = []
    for step in range(count):
        messages = [*messages[1 - KEPT :], AIMessage(f"{step} " * 80, id=str(uuid4()))]
        at = put(saver, at, messages, step)
        saver.put_writes(at, [("messages", messages[-1:])], "task")
    return at


def put(
    saver: RedisSaver, at: RunnableConfig, messages: list[AnyMessage], step: int
) -> RunnableConfig:
    """Put the next checkpoint."""
    version = saver.get_next_version(None, None)
    checkpoint = checkpoint_of({"messages": messages}, version)
    metadata: CheckpointMetadata = {"source": "loop", "step": step, "parents": {}}
    metadata["run_id"] = f"run {step // RUNS}"
    return saver.put(at, checkpoint, metadata, {"messages": version})


def operations(latest: RunnableConfig) -> dict[str, Callable[[RedisSaver, str], object]]:
    """What is done: with a saver that does not know the thread, or a copy of it by its name."""
    thread: RunnableConfig = {"configurable": {"thread_id": "long"}}
    runs = (f"run {number}" for number in range(10, 20))
    return {
        "`put`": lambda other, _: put(other, latest, [AIMessage("new")], 0),
        "`put_writes`": lambda other, _: other.put_writes(latest, [("a", 1)], str(uuid4())),
        "`get_tuple`": lambda other, _: other.get_tuple(thread),
        "`list`, all": lambda other, _: [*other.list(thread)],
        "`list`, filtered": lambda other, _: [*other.list(thread, filter={"step": 7})],
        "`thread_info`": lambda other, _: other.thread_info("long"),
        "`verify`": lambda other, _: other.verify("long"),
        "`copy_thread`": lambda other, copy: other.copy_thread("long", copy + " again"),
        "`delete_for_runs`, a run": lambda other, _: other.delete_for_runs([next(runs)]),
        '`prune`, "keep_latest"': lambda other, copy: other.prune([copy], strategy="keep_latest"),
        "`delete_thread`": lambda other, copy: other.delete_thread(copy),
    }


def measured(
    client: redis.Redis, saver: RedisSaver, operation: Callable[[RedisSaver, str], object]
) -> int:
    """How many microseconds the longest call of an operation takes."""
    copy = str(uuid4())
    saver.copy_thread("long", copy)
    other = RedisSaver(client)
    client.slowlog_reset()
    operation(other, copy)
    longest = max((call["duration"] for call in client.slowlog_get(MANY)), default=0)
    for left in (copy, copy + " again"):
        saver.delete_thread(left)
    return int(longest)


if __name__ == "__main__":
    main()
