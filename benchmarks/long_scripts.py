"""How long the longest call of each operation blocks the server, on threads at the limits.

    python -m benchmarks.long_scripts                  # all threads, the table of docs/costs.md
    python -m benchmarks.long_scripts --only tasks     # one of them
    make test-long                                     # fails where a call takes more than 50 ms

It starts a server of its own. A running script blocks all other clients, so the longest call of an
operation counts, by the server's slow log, and not the sum of its calls. On a busy machine, calls
look longer: their time is multiplied by the share of it that the server had of the processor. An
operation is repeated while its longest call is above the limit, and the best of its rounds counts.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from random import Random
from typing import Any, NamedTuple
from uuid import uuid4

import redis
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import Checkpoint, CheckpointMetadata, empty_checkpoint
from langgraph.checkpoint.base.id import uuid6
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer

from langgraph_checkpoint_redis import RedisSaver
from langgraph_checkpoint_redis._protocol.requests import Script
from langgraph_checkpoint_redis._scripts import load
from tests.local_server import available_servers, running_server

LIMIT = 50.0  # milliseconds
ROUNDS = 7  # times that an operation is tried at most, as long as it is above the limit
LOGGED = 1_000_000  # calls that the slow log keeps
MEGABYTE = 1_000_000
RUN = 100  # checkpoints of a run
WINDOW = 20  # messages in each checkpoint of a thread of many
MESSAGE = 600  # characters
KEPT, USED = "kept", "used"  # prefixes: of threads as they are made, and of those that are measured
SCRIPTS = {script.sha: script.name for script in vars(load).values() if isinstance(script, Script)}


# What cannot be divided yet, by thread and script: the milliseconds that it may take instead.
KNOWN = {
    ("bytes", "dump"): 150.0,  # it reads a chunk of 8 MB
    ("items", "prune"): 1000.0,  # it marks all chunks of one value
    ("items", "put_last"): 1000.0,  # the same
    ("items", "delete_runs"): 1000.0,  # the same
    ("items", "history"): 1500.0,  # it reads all pieces that one ancestor has written
    ("checkpoints", "put_last"): 1000.0,  # it looks at each of 10,000 checkpoints that stay
    ("checkpoints", "prune"): 1000.0,  # the same
}


class Thread(NamedTuple):
    """A thread to measure, with its latest checkpoint and the value of the channel `messages`."""

    name: str
    latest: RunnableConfig
    value: Any

    @property
    def all(self) -> RunnableConfig:
        """The thread."""
        return {"configurable": {"thread_id": self.name}}


class Blocked(NamedTuple):
    """The longest call of an operation."""

    milliseconds: float
    call: str
    thread: str


# Threads at the limits


def checkpoints(saver: RedisSaver, count: int) -> Thread:
    """A thread of many checkpoints, with a write each."""
    at = _start("checkpoints")
    messages: list[str] = []
    for step in range(count):
        messages = [*messages[1 - WINDOW :], _text(step)]
        at = _put(saver, at, messages, step)
        saver.put_writes(at, [("messages", messages[-1:])], "task")
    return Thread("checkpoints", at, messages)


def namespaces(saver: RedisSaver, count: int) -> Thread:
    """A thread of many calls of a subgraph, each with a namespace of its own."""
    root = _put(saver, _start("namespaces"), ["root"], 0)
    parents = {"": root["configurable"]["checkpoint_id"]}
    for step in range(count):
        at = _start("namespaces", f"sub:{uuid4()}")
        _put(saver, at, [f"{step}"], step, parents=parents)
    return Thread("namespaces", root, ["root"])


def tasks(saver: RedisSaver, count: int) -> Thread:
    """A checkpoint with the writes of many tasks."""
    at = _put(saver, _start("tasks"), ["before"], 0)
    for number in range(count):
        saver.put_writes(at, [("messages", ["x" * 80])], f"task-{number:06}")
    return Thread("tasks", at, ["before"])


def delta(saver: RedisSaver, count: int) -> Thread:
    """A delta channel with no snapshot: each checkpoint is rebuilt from all before it."""
    at = _start("delta")
    for step in range(count):
        at = _put_delta(saver, at, step)
        saver.put_writes(at, [("messages", [_text(step)])], "task")
    return Thread("delta", at, None)


def items(saver: RedisSaver, count: int) -> Thread:
    """A list of many messages, and a turn that adds one."""
    messages = [_text(number) for number in range(count)]
    at = _put(saver, _start("items"), messages, 0)
    messages = [*messages, _text(count)]
    return Thread("items", _put(saver, at, messages, 1), messages)


def bytes_(saver: RedisSaver, count: int) -> Thread:
    """Files of 8 MB in the state, another one in each checkpoint."""
    at, file = _start("bytes"), b""
    for step in range(count):
        file = Random(step).randbytes(8 * MEGABYTE)
        at = _put(saver, at, file, step)
        saver.put_writes(at, [("messages", Random(-step).randbytes(8 * MEGABYTE))], "task")
    return Thread("bytes", at, file)


def pictures(saver: RedisSaver, count: int) -> Thread:
    """Pictures of 300 KB in the state, another one in each checkpoint."""
    at, picture = _start("pictures"), b""
    for step in range(count):
        picture = Random(step).randbytes(300_000)
        at = _put(saver, at, picture, step)
    return Thread("pictures", at, picture)


# By name: how to make it, and how large it is.
THREADS: dict[str, tuple[Callable[[RedisSaver, int], Thread], int]] = {
    "checkpoints": (checkpoints, 20_000),
    "namespaces": (namespaces, 5000),
    "tasks": (tasks, 5000),
    "delta": (delta, 600),
    "items": (items, 100_000),
    "bytes": (bytes_, 20),
    "pictures": (pictures, 1000),
}


def _start(thread_id: str, namespace: str = "") -> RunnableConfig:
    return {"configurable": {"thread_id": thread_id, "checkpoint_ns": namespace}}


def _text(number: int) -> str:
    return f"{number} " + f"{Random(number).getrandbits(4 * MESSAGE):0{MESSAGE}x}"


def _put(
    saver: RedisSaver, at: RunnableConfig, value: Any, step: int, **metadata: Any
) -> RunnableConfig:
    checkpoint = _next_checkpoint(step)
    checkpoint["channel_values"] = {"messages": value}
    return _stored(saver, at, checkpoint, {"step": step, **metadata})


def _put_delta(saver: RedisSaver, at: RunnableConfig, step: int) -> RunnableConfig:
    since = {"messages": (step, step)}
    return _stored(
        saver,
        at,
        _next_checkpoint(step),
        {"step": step, "counters_since_delta_snapshot": since, "run_id": "run 0"},
    )


def _next_checkpoint(step: int) -> Checkpoint:
    checkpoint = empty_checkpoint()
    checkpoint["id"] = str(uuid6())
    checkpoint["channel_versions"] = {"messages": f"{step + 1:032}.{0.5:016}"}
    return checkpoint


def _stored(
    saver: RedisSaver, at: RunnableConfig, checkpoint: Checkpoint, metadata: dict[str, Any]
) -> RunnableConfig:
    run = f"run {metadata['step'] // RUN}"
    whole: CheckpointMetadata = {"source": "loop", "parents": {}, "run_id": run, **metadata}  # type: ignore[typeddict-item] # what a graph adds
    return saver.put(at, checkpoint, whole, checkpoint["channel_versions"])


# Operations


def operations(url: str) -> dict[str, Callable[[RedisSaver, Thread], object]]:
    """What is done with a copy of each thread, by a saver that does not know it."""
    encrypted = EncryptedSerializer.from_pycryptodome_aes(key=b"k" * 32)

    def other(act: Callable[[RedisSaver, Thread], object], **options: Any) -> Any:
        def done(_: RedisSaver, at: Thread) -> None:
            with closing(RedisSaver(url, prefix=USED, **options)) as saver:
                act(saver, at)

        return done

    def put_next(saver: RedisSaver, at: Thread) -> None:
        if at.value is None:
            _put_delta(saver, at.latest, LOGGED)
        else:
            _put(saver, at.latest, _changed(at.value), LOGGED)

    def lease(saver: RedisSaver, at: Thread) -> None:
        with saver.lease(at.name) as renew:
            renew()

    return {
        "`put`": put_next,
        "`put`, the first of a thread": lambda saver, at: _put(
            saver, _start(f"{at.name}:new"), at.value, 0
        ),
        "`put`, `keep_last=1`": other(put_next, keep_last=1),
        "`put`, `keep_last=5`": other(put_next, keep_last=5),
        "`put`, `keep_last=10_000`": other(put_next, keep_last=10_000),
        "`put_writes`, a task": lambda saver, at: saver.put_writes(
            at.latest, [("messages", "one more")], "one more"
        ),
        "`put_writes`, the whole value": lambda saver, at: saver.put_writes(
            at.latest, [("messages", at.value)], "one more"
        ),
        "`get_tuple`": lambda saver, at: saver.get_tuple(at.all),
        "`get_tuple`, by id": lambda saver, at: saver.get_tuple(at.latest),
        "`list`": lambda saver, at: _read(saver.list(at.all)),
        "`list`, `limit=1`": lambda saver, at: _read(saver.list(at.all, limit=1)),
        "`list`, `limit=100`": lambda saver, at: _read(saver.list(at.all, limit=100)),
        "`list`, filtered": lambda saver, at: _read(saver.list(at.all, filter={"step": 7})),
        "`get_delta_channel_history`": lambda saver, at: saver.get_delta_channel_history(
            config=at.latest, channels=["messages"]
        ),
        "`copy_thread`": lambda saver, at: saver.copy_thread(at.name, f"{at.name}:new"),
        "`delete_for_runs`, the first": lambda saver, _: saver.delete_for_runs(["run 0"]),
        '`prune`, `"keep_latest"`': lambda saver, at: saver.prune([at.name]),
        "`prune_threads`, `keep_last=5`": lambda saver, at: saver.prune_threads(
            keep_last=5, prefix=at.name
        ),
        "`prune_threads`, `keep_last=10_000`": lambda saver, at: saver.prune_threads(
            keep_last=10_000, prefix=at.name
        ),
        "`prune_threads`, `idle`": lambda saver, at: saver.prune_threads(
            idle=0.000_001, prefix=at.name
        ),
        "`list_threads`": lambda saver, _: _read(saver.list_threads()),
        "`thread_info`": lambda saver, at: saver.thread_info(at.name),
        "`stats`": lambda saver, _: saver.stats(),
        "`set_ttl`": lambda saver, at: saver.set_ttl(at.name, 3600),
        "`pin`, `unpin`": lambda saver, at: (saver.pin(at.name), saver.unpin(at.name)),
        "`lease`": lease,
        "`verify`": lambda saver, at: saver.verify(at.name),
        "`repair`": lambda saver, at: saver.repair(at.name),
        "`reencrypt`": other(
            lambda saver, at: saver.reencrypt(at.name), serde=encrypted, allow_plaintext=True
        ),
        "`delete_thread`": lambda saver, at: saver.delete_thread(at.name),
        "`delete_thread`, `tombstone=60`": other(
            lambda saver, at: saver.delete_thread(at.name), tombstone=60
        ),
    }


def _changed(value: Any) -> Any:
    return value + (b"more" if isinstance(value, bytes) else ["more"])


def _read(found: Iterator[Any]) -> None:
    for _ in found:
        pass


# Measuring


class Meter:
    """A server of our own, and what its slow log says.

    Threads are kept under a prefix of their own, from which each round takes a copy of all keys.
    """

    def __init__(self, url: str, limit: float) -> None:
        """Let the server log all calls, and know all scripts."""
        self.url, self.limit = url, limit
        self.client = redis.Redis.from_url(url)
        self.client.config_set("slowlog-max-len", LOGGED)
        for script in vars(load).values():
            if isinstance(script, Script):
                self.client.script_load(script.source)

    def built(self, make: Callable[[RedisSaver, int], Thread], size: int) -> tuple[Thread, Blocked]:
        """Make a thread; the longest call of that as well."""
        with closing(RedisSaver(self.url, prefix=KEPT)) as saver:
            before = self._processor_time()
            with self._logging():
                thread = make(saver, size)
            return thread, self._longest(thread.name, before)

    def measured(
        self, thread: Thread, operation: Callable[[RedisSaver, Thread], object]
    ) -> Blocked:
        """The best of some rounds of an operation."""
        best = self._round(thread, operation)
        for _ in range(ROUNDS - 1):
            if best.milliseconds > self.limit:
                best = min(best, self._round(thread, operation))
        return best

    def _round(self, thread: Thread, operation: Callable[[RedisSaver, Thread], object]) -> Blocked:
        for key in self._keys(KEPT):
            self.client.copy(key.decode(), f"{USED}{key.decode().removeprefix(KEPT)}")
        with closing(RedisSaver(self.url, prefix=USED)) as saver:
            before = self._processor_time()
            with self._logging():
                operation(saver, thread)
            longest = self._longest(thread.name, before)
        for key in self._keys(USED):
            self.client.unlink(key)
        return longest

    def _keys(self, prefix: str) -> list[bytes]:
        return [*self.client.scan_iter(f"{prefix}:*", count=1000)]

    @contextmanager
    def _logging(self) -> Iterator[None]:
        self.client.slowlog_reset()
        self.client.config_set("slowlog-log-slower-than", 0)
        yield
        self.client.config_set("slowlog-log-slower-than", -1)

    def _processor_time(self) -> float:
        """Seconds of the processor that the server has had, for its commands if it says so."""
        found: Any = self.client.info("cpu")
        threads = "_main_thread" if "used_cpu_user_main_thread" in found else ""
        return float(found[f"used_cpu_user{threads}"]) + float(found[f"used_cpu_sys{threads}"])

    def _longest(self, thread: str, before: float) -> Blocked:
        """The longest call, less the share of the time that other programs had the processor."""
        processor = self._processor_time() - before
        reply: Any = self.client.slowlog_get(LOGGED)
        all_ = sum(one["duration"] for one in reply) / 1_000_000
        milliseconds, name = max((one["duration"] / 1000, _name_of(one)) for one in reply)
        return Blocked(milliseconds * min(1.0, processor / all_ if all_ else 1.0), name, thread)


def _name_of(logged: dict[str, Any]) -> str:
    name, *rest = logged["command"].split(b" ")
    return SCRIPTS[rest[0].decode()] if name == b"EVALSHA" else name.decode()


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, and say whether a call was above the limit."""
    parser = argparse.ArgumentParser(description="How long the longest call of each operation is.")
    parser.add_argument("--server", default=next(iter(available_servers())))
    parser.add_argument("--only", nargs="*", choices=THREADS, default=[*THREADS])
    parser.add_argument("--operation", default="", help="part of the name of some operations")
    parser.add_argument("--scale", type=float, default=1, help="0.1: threads of a tenth")
    parser.add_argument("--limit", type=float, default=LIMIT, help="milliseconds")
    args = parser.parse_args(arguments)
    found: dict[str, list[Blocked]] = {}
    with running_server(available_servers()[args.server]) as url:
        meter = Meter(url, args.limit)
        for name in args.only:
            make, size = THREADS[name]
            thread, longest = meter.built(make, max(1, int(size * args.scale)))
            found.setdefault("building the threads", []).append(longest)
            for operation, act in operations(url).items():
                if args.operation not in operation:
                    continue
                blocked = meter.measured(thread, act)
                print(
                    f"{name}: {operation}: {blocked.milliseconds:.1f} ms, {blocked.call}",
                    file=sys.stderr,
                    flush=True,
                )
                found.setdefault(operation, []).append(blocked)
            meter.client.flushall()
    print(f"{args.server}, at most {args.limit:g} ms\n")
    print("| operation | longest call, ms | on | which |\n|---|---|---|---|")
    for operation, all_ in found.items():
        worst = max(all_)
        print(f"| {operation} | {worst.milliseconds:.1f} | {worst.thread} | `{worst.call}` |")
    slow = [one for all_ in found.values() for one in all_ if _is_slow(one, args.limit)]
    for one in slow:
        print(f"too long: {one.call} on {one.thread}, {one.milliseconds:.1f} ms", file=sys.stderr)
    return 1 if slow else 0


def _is_slow(one: Blocked, limit: float) -> bool:
    return one.milliseconds > max(limit, KNOWN.get((one.thread, one.call), limit))


if __name__ == "__main__":
    sys.exit(main())
