"""How long walks over all threads take, and the longest script of each.

    python -m benchmarks.fleet                   # 100,000 threads, as docs/costs.md has it
    python -m benchmarks.fleet --threads 5000

It starts a server of its own. Each thread has a turn of a chat: three checkpoints, with writes.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from typing import Any

import redis
from langgraph.graph import START, MessagesState, StateGraph

from langgraph_checkpoint_redis import RedisSaver
from langgraph_checkpoint_redis._storage.keys import Keyspace, ThreadKeys
from tests.local_server import available_servers, running_server

DAY = 86_400
COPIES = 1000  # in a pipeline
SLOW_LOG = 10_000  # entries


def main() -> None:
    """Fill a server, walk over it in each way, and print a table."""
    parser = argparse.ArgumentParser(description="How long walks over all threads take.")
    parser.add_argument("--threads", type=int, default=100_000)
    parser.add_argument("--server", default=next(iter(available_servers())))
    args = parser.parse_args()
    with running_server(available_servers()[args.server]) as url:
        client = redis.Redis.from_url(url)
        saver = RedisSaver(url)
        _fill(saver, client, args.threads)
        print(f"{args.threads:,} threads, {args.server}\n")
        print("| walk | seconds | client CPU | server CPU | longest command, ms |")
        print("|---|---|---|---|---|")
        for name, walk, expected in _walks(saver, args.threads):
            times, found = _measured(client, walk)
            if found != expected:
                raise SystemExit(f"{name}: {found}, not {expected}")
            print(f"| `{name}` | " + " | ".join(f"{time:.1f}" for time in times) + " |", flush=True)
        saver.close()


def _walks(saver: RedisSaver, threads: int) -> Iterator[tuple[str, Callable[[], int], int]]:
    yield "list_threads()", lambda: len([*saver.list_threads()]), threads
    yield "list_threads(idle=...)", lambda: len([*saver.list_threads(idle=DAY)]), 0
    yield "list(None, limit=10)", lambda: len([*saver.list(None, limit=10)]), 10
    yield "stats()", lambda: saver.stats().threads, threads
    yield "prune_threads(keep_last=9)", lambda: saver.prune_threads(keep_last=9), 0
    yield "prune_threads(keep_last=1)", lambda: saver.prune_threads(keep_last=1), threads


def _fill(saver: RedisSaver, client: redis.Redis, threads: int) -> None:
    """Store one thread, and copies of its keys for the others."""
    chat: Any = StateGraph(MessagesState)
    chat.add_node("answer", lambda _: {"messages": [("ai", "Tell me more. " * 40)]})
    chat.add_edge(START, "answer")
    chat.compile(checkpointer=saver).invoke(
        {"messages": [("user", "hello")]}, {"configurable": {"thread_id": "0"}}
    )
    keyspace = Keyspace("lg")
    source = keyspace.thread("0")
    for start in range(1, threads, COPIES):
        with client.pipeline(transaction=False) as pipeline:
            for number in range(start, min(start + COPIES, threads)):
                _copy(pipeline, source, keyspace.thread(str(number)))
            pipeline.execute()


def _copy(pipeline: redis.client.Pipeline, source: ThreadKeys, target: ThreadKeys) -> None:
    for one, other in zip(source, target, strict=True):
        pipeline.copy(one.decode(), other.decode())


def _measured(client: redis.Redis, walk: Callable[[], int]) -> tuple[list[float], int]:
    """Seconds, those of CPU on both sides, milliseconds of the longest command; what was found.

    While other work takes the CPU, the seconds of CPU tell more than the others.
    """
    client.config_set("slowlog-log-slower-than", 500)
    client.config_set("slowlog-max-len", SLOW_LOG)
    client.slowlog_reset()
    start, own, server = time.perf_counter(), time.process_time(), _cpu(client)
    found = walk()
    times = [
        time.perf_counter() - start,
        time.process_time() - own,
        _cpu(client) - server,
        max((entry["duration"] / 1000 for entry in client.slowlog_get(SLOW_LOG)), default=0.5),
    ]
    return times, found


def _cpu(client: redis.Redis) -> float:
    """Seconds of CPU that the server has taken."""
    info: Any = client.info("cpu")
    return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])


if __name__ == "__main__":
    main()
