"""Where the time of a large value goes: `put`, alternately with plain commands of the same bytes.

    python -m benchmarks.large_values

prints medians of milliseconds: by the clock, of this process's CPU and of the server's main thread.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable
from secrets import token_bytes
from typing import Any

import redis
from langgraph.checkpoint.base import CheckpointMetadata

from langgraph_checkpoint_redis import RedisSaver
from tests.local_server import available_servers, running_server

from .workloads import checkpoint_of, new_thread

SERVERS = ("redis-8.2", "valkey-8.1", "redis-6.2")
MEGABYTES = (0.3, 1, 10)
SAMPLES = 15
MEGABYTE = 1_000_000
SCRIPT = "redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])"


def main() -> None:
    """Measure on each server that is here."""
    for name in SERVERS:
        if binary := available_servers().get(name):
            with running_server(binary) as url:
                for megabytes in MEGABYTES:
                    _show(name, megabytes, _measured(url, int(megabytes * MEGABYTE)))


def _measured(url: str, size: int) -> dict[str, list[tuple[float, ...]]]:
    metadata: CheckpointMetadata = {"source": "loop", "step": 0, "parents": {}}
    with redis.Redis.from_url(url) as client, RedisSaver.from_conn_string(url) as saver:
        by_script = RedisSaver(client, prefix="by-script")
        sha = client.script_load(SCRIPT)

        def put(saver: RedisSaver, data: bytes) -> Any:
            checkpoint = checkpoint_of({"file": data}, "1")
            return saver.put(new_thread(), checkpoint, metadata, {"file": "1"})

        acts: dict[str, Callable[[bytes], Any]] = {
            "SET": lambda data: client.set("string", data),
            "HSET": lambda data: client.hset("hash", "field", data),
            "HSET in a script": lambda data: client.evalsha(sha, 1, "hash", "field", data),
            "put": lambda data: put(saver, data),
            "put with a client that was passed in": lambda data: put(by_script, data),
        }
        found: dict[str, list[tuple[float, ...]]] = {name: [] for name in acts}
        for number in range(SAMPLES + 1):
            data = token_bytes(size)
            for name in random.sample([*acts], len(acts)):
                taken = _taken(client, acts[name], data)
                client.flushall()
                if number:
                    found[name].append(taken)
        return found


def _taken(client: redis.Redis, act: Callable[[bytes], Any], data: bytes) -> tuple[float, ...]:
    server, cpu, start = _server_seconds(client), time.process_time(), time.perf_counter()
    act(data)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    return seconds, cpu, _server_seconds(client) - server


def _server_seconds(client: redis.Redis) -> float:
    stats = client.info("cpu")
    kinds = ("used_cpu_user_main_thread", "used_cpu_sys_main_thread")
    if kinds[0] not in stats:  # Redis 6.0 has no more than the whole
        kinds = ("used_cpu_user", "used_cpu_sys")
    return float(sum(stats[kind] for kind in kinds))


def _show(server: str, megabytes: float, found: dict[str, list[tuple[float, ...]]]) -> None:
    print(f"\n| {server}, {megabytes} MB | time | client CPU | server CPU |")
    print("| --- | ---: | ---: | ---: |")
    for name, samples in found.items():
        medians = [statistics.median(column) * 1000 for column in zip(*samples, strict=True)]
        print(f"| {name} | {' | '.join(f'{median:.1f}' for median in medians)} |")


if __name__ == "__main__":
    main()
