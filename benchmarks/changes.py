"""What small changes to large states cost: stored and sent for all versions, and time of a put.

    python benchmarks/changes.py

A thread gets a checkpoint for each version of one channel. "new" is the last version and all that
the changes brought, serialized: what cannot be saved. "whole" is the sum of all versions, which a
saver that stores values whole takes at least. The server is one of the benchmark's own, or that of
REDIS_URL.
"""

from __future__ import annotations

import argparse
import base64
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any
from uuid import uuid4

sys.path.insert(0, str(Path(__file__).parent.parent))

import redis
from langchain_core.runnables import RunnableConfig

from benchmarks.sharing import memory_of, print_head
from benchmarks.workloads import checkpoint_of
from langgraph_checkpoint_redis import RedisSaver
from tests.local_server import server_url

States = Iterator[Any]


def words(random: Random, size: int) -> str:
    """So many characters of prose, roughly: the same few hundred words, in lines."""
    chosen = random.choices(VOCABULARY, k=1 + size // 4)
    return "".join(word + random.choice("        \n") for word in chosen)[:size]


VOCABULARY = [
    "".join(Random(number).choices("aabcdeeeffghiklmnoprsttuvw", k=3 + number % 6))
    for number in range(400)
]


def appended(random: Random, item: Callable[[Random], Any], count: int) -> States:
    """A list that grows by one item at a time."""
    items: list[Any] = []
    for _ in range(count):
        items = [*items, item(random)]
        yield items


def edited(random: Random, value: Any, count: int) -> States:
    """A text, or bytes, edited in the middle: some words more, less, or others."""
    yield value
    for _ in range(count):
        at, new = random.randrange(len(value)), words(random, 30)
        piece = new if isinstance(value, str) else new.encode()
        value = value[:at] + piece + value[at + random.choice([0, 5, 30]) :]
        yield value


def map_with_one_change(random: Random, keys: int, count: int) -> States:
    """A map, of which one value changes at a time."""
    state = {f"key {number}": words(random, 30) for number in range(keys)}
    for _ in range(count):
        state = {**state, f"key {random.randrange(keys)}": words(random, 30)}
        yield state


def files(random: Random, count: int, *, lines: bool) -> States:
    """Files by name, of which one is edited at a time: texts, or lists of lines."""
    names = [f"file {number}.md" for number in range(3)]
    texts = {name: words(random, 100_000) for name in names}
    for _ in range(count):
        name = random.choice(names)
        _, texts[name] = edited(random, texts[name], 1)
        split = {name: text.split("\n") for name, text in texts.items()}
        yield split if lines else {**texts}


def log(random: Random, step: int, count: int, *, is_binary: bool = False) -> States:
    """A text that grows, or the base64 of bytes that grow."""
    text, data = "", random.randbytes(100_000)
    for _ in range(count):
        text, data = text + words(random, step), data + random.randbytes(step)
        yield base64.b64encode(data).decode() if is_binary else text


CHANGES: dict[str, Callable[[Random], States]] = {
    "2,000 texts of 20 characters": lambda random: appended(random, lambda r: words(r, 20), 2000),
    "4,000 of them": lambda random: appended(random, lambda r: words(r, 20), 4000),
    "2,000 texts of 60 characters": lambda random: appended(random, lambda r: words(r, 60), 2000),
    "2,000 integers": lambda random: appended(random, lambda r: r.randrange(10**9), 2000),
    "2,000 pairs": lambda random: appended(random, lambda r: [words(r, 10), r.randrange(9)], 2000),
    "a map of 1,000 short texts, 500 changes": lambda random: map_with_one_change(
        random, 1000, 500
    ),
    "a text of 100 KB, 30 edits": lambda random: edited(random, words(random, 100_000), 30),
    "bytes of 200 KB, 30 edits": lambda random: edited(random, random.randbytes(200_000), 30),
    "three files of 100 KB, 30 edits": lambda random: files(random, 30, lines=False),
    "the same as lists of lines": lambda random: files(random, 30, lines=True),
    "base64 of 133 KB, 30 appends": lambda random: log(random, 700, 30, is_binary=True),
    "a report of 120 KB in 200 steps": lambda random: log(random, 600, 200),
}


def main() -> None:
    """Print the table."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    with server_url() as url, redis.Redis.from_url(url) as client:
        print_head("changes", "whole MB", "new MB", "stored MB", "sent MB", "CPU ms of a put")
        for name, states in CHANGES.items():
            prefix = f"bench-{uuid4().hex}"
            with RedisSaver.from_conn_string(url, prefix=prefix) as saver:
                whole, first, last, sent, times = put_all(saver, client, states(Random(1)))
                cells = [whole, max(first, last), memory_of(client, prefix), sent]
                row = " | ".join(f"{cell / 1e6:.2f}" for cell in cells)
                print(f"| {name} | {row} | {1000 * statistics.median(times):.2f} |")
                saver.delete_thread("thread")


def put_all(
    saver: RedisSaver, client: redis.Redis, states: States
) -> tuple[int, int, int, int, list[float]]:
    """Put a checkpoint for each state: bytes of all, the first and the last; bytes sent; times."""
    at: RunnableConfig = {"configurable": {"thread_id": "thread", "checkpoint_ns": ""}}
    version, sizes, times = None, list[int](), list[float]()
    sent = client.info("stats")["total_net_input_bytes"]
    for state in states:
        sizes.append(len(saver.serde.dumps_typed(state)[1]))
        version = saver.get_next_version(version, None)
        checkpoint = checkpoint_of({"state": state}, version)
        begun = time.thread_time()
        at = saver.put(at, checkpoint, {"source": "loop", "step": 0}, {"state": version})
        times.append(time.thread_time() - begun)
    sent = client.info("stats")["total_net_input_bytes"] - sent
    return sum(sizes), sizes[0], sizes[-1], sent, times


if __name__ == "__main__":
    main()
