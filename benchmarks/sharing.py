"""What sharing values by content costs and saves, side by side with storing whole values.

    python benchmarks/sharing.py            times of put and get_tuple, memory of a conversation
    python benchmarks/sharing.py --turns 500

The same code runs both ways: "whole" is a saver that cuts nothing and remembers nothing, "shared"
is the saver as it is, "cold" is that saver in a process that has not seen the thread before. All
are measured in one run, in turns, on a server of the benchmark's own (or on REDIS_URL).
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any
from uuid import uuid4

sys.path.insert(0, str(Path(__file__).parent.parent))

import redis
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import Checkpoint, CheckpointMetadata
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.graph import START, MessagesState, StateGraph

from benchmarks.workloads import checkpoint_of
from langgraph_checkpoint_redis import CachingSerializer, RedisSaver
from langgraph_checkpoint_redis._core.cache import ThreadCaches
from langgraph_checkpoint_redis._storage import chunking
from tests.local_server import server_url

SAMPLES = 60
LETTERS = "abcdefgh ijklmnop"


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=100)
    turns = parser.parse_args().turns
    with server_url() as url, redis.Redis.from_url(url) as client:
        python, server = sys.version.split()[0], client.info("server")["redis_version"]
        print(f"Python {python}, redis-py {redis.__version__}, Redis {server}")
        print_head("messages", "operation", "whole ms", "shared ms", "ratio", "cold ms", "ratio")
        for count in (0, 20, 200, 1000):
            print_times(url, count)
        print_messages()
        print_head(f"{turns} turns", "memory KB", "second half / first", "KB sent in the last turn")
        for options in ({}, {"compression": "zlib"}, {"compression": "zstd"}, {"keep_last": 1}):
            print_memory(url, client, turns, options)


def print_head(*columns: str) -> None:
    """The head of a Markdown table."""
    print("\n| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))


def message(number: int) -> AnyMessage:
    """A message of 500 characters."""
    text = "".join(random.choices(LETTERS, k=500))
    kind = AIMessage if number % 2 else HumanMessage
    return kind(text, id=str(uuid4()))


@contextmanager
def whole_values() -> Iterator[None]:
    """Cut nothing meanwhile."""
    before, chunking.PIECE = chunking.PIECE, sys.maxsize
    yield
    chunking.PIECE = before


def forget(saver: RedisSaver) -> None:
    """Let a saver know as little as in a new process."""
    saver._shared = saver._shared._replace(caches=ThreadCaches(0))
    if type(saver.serde) is CachingSerializer:
        saver.serde = CachingSerializer()


def print_times(url: str, count: int) -> None:
    """One row for each operation, with a conversation that grows from `count` messages."""
    shared = RedisSaver(url, prefix=f"bench-{uuid4().hex}")
    cold = RedisSaver(url, prefix=shared._shared.keyspace.prefix)
    whole = RedisSaver(url, prefix=f"bench-{uuid4().hex}", serde=JsonPlusSerializer())
    forget(whole)
    times: defaultdict[str, list[float]] = defaultdict(list)
    messages = [message(number) for number in range(count)]
    configs = {saver: thread() for saver in (shared, whole)}
    for sample in range(SAMPLES):
        messages = [*messages, message(sample)] if count else []
        checkpoint = checkpoint_of({"messages": messages}, shared.get_next_version(None, None))
        runs: list[tuple[RedisSaver, RedisSaver, AbstractContextManager[None], str]] = [
            (shared, shared, nullcontext(), "shared"),
            (whole, whole, whole_values(), "whole"),
            (cold, shared, nullcontext(), "cold"),
        ]
        for reader, writer, way, name in runs if sample % 2 else (runs[1], runs[0], runs[2]):
            forget(cold)
            with way:
                if reader is writer:
                    put(writer, configs, checkpoint, sample, times[f"put {name}"])
                timed(times[f"get_tuple {name}"], reader.get_tuple, configs[writer])
    for operation in ("put", "get_tuple"):
        print_row(count, operation, times)
    for saver in (shared, whole):
        saver.delete_thread("thread")


def print_messages() -> None:
    """What a message takes anew, as one like others, and as one that was here before."""
    count = 100
    remembering = CachingSerializer()
    times: defaultdict[str, list[float]] = defaultdict(list)
    for _ in range(SAMPLES):
        value = [message(number) for number in range(count)]
        typed = JsonPlusSerializer().dumps_typed(value)
        for name, serde in (("anew", JsonPlusSerializer()), ("like others", remembering)):
            timed(times[f"{name} written"], serde.dumps_typed, value)
            timed(times[f"{name} read"], serde.loads_typed, typed)
        for _ in range(SAMPLES):
            timed(times["remembered written"], remembering.dumps_typed, value)
            timed(times["remembered read"], remembering.loads_typed, typed)
    print_head("a message", "written, us", "read, us")
    for name in ("anew", "like others", "remembered"):
        each = [statistics.median(times[f"{name} {way}"]) / count for way in ("written", "read")]
        print(f"| {name} | {1e6 * each[0]:.1f} | {1e6 * each[1]:.1f} |")


def thread() -> RunnableConfig:
    """The latest of the benchmark's thread."""
    return {"configurable": {"thread_id": "thread", "checkpoint_ns": ""}}


def put(
    saver: RedisSaver,
    configs: dict[RedisSaver, RunnableConfig],
    checkpoint: Checkpoint,
    step: int,
    times: list[float],
) -> None:
    """Put a checkpoint behind the last one."""
    versions = checkpoint["channel_versions"]
    metadata: CheckpointMetadata = {"source": "loop", "step": step, "parents": {}}
    configs[saver] = timed(times, saver.put, configs[saver], checkpoint, metadata, versions)


def timed(times: list[float], operation: Callable[..., Any], *args: Any) -> Any:
    """The result of an operation; its time is added."""
    start = time.perf_counter()
    result = operation(*args)
    times.append(time.perf_counter() - start)
    return result


def print_row(count: int, operation: str, times: dict[str, list[float]]) -> None:
    """Medians, and ratios to whole values."""
    median = {
        way: statistics.median(times[f"{operation} {way}"]) * 1000
        for way in ("whole", "shared", "cold")
        if f"{operation} {way}" in times
    }
    cells = [f"{median['whole']:.2f}"]
    for way in ("shared", "cold"):
        known = way in median
        cells += (
            [f"{median[way]:.2f}", f"{median[way] / median['whole']:.2f}"] if known else ["", ""]
        )
    print(f"| {count} | `{operation}` | " + " | ".join(cells) + " |")


def print_memory(url: str, client: redis.Redis, turns: int, options: dict[str, Any]) -> None:
    """One row: a chat of so many turns, every step stored."""
    prefix = f"bench-{uuid4().hex}"
    with RedisSaver.from_conn_string(url, prefix=prefix, **options) as saver:
        graph = (
            StateGraph(MessagesState)
            .add_node("chat", lambda _: {"messages": [message(1)]})
            .add_edge(START, "chat")
            .compile(checkpointer=saver)
        )
        sizes = [0]
        for turn in range(1, turns + 1):
            before = client.info("stats")["total_net_input_bytes"]
            graph.invoke({"messages": [message(0)]}, thread(), durability="sync")
            sent = client.info("stats")["total_net_input_bytes"] - before
            if turn in (turns // 2, turns):
                sizes.append(memory_of(client, prefix))
        saver.delete_thread("thread")
    _, half, full = sizes
    name = ", ".join(f"`{name}={value!r}`" for name, value in options.items()) or "defaults"
    print(f"| {name} | {full / 1000:.0f} | {(full - half) / half:.2f} | {sent / 1000:.1f} |")


def memory_of(client: redis.Redis, prefix: str) -> int:
    """Bytes of all keys under a prefix, by Redis' own count."""
    keys = client.scan_iter(match=f"{prefix}:*")
    return sum(client.memory_usage(key, samples=0) or 0 for key in keys)


if __name__ == "__main__":
    main()
