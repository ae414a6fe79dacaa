"""A client that sees each call of a script, and a story in which every script is called.

What belongs here: the story and its parts, and the client that shows each call to a test.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar

import redis
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import ChannelVersions
from langgraph.checkpoint.conformance.test_utils import (
    generate_checkpoint,
    generate_config,
    generate_metadata,
)
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.types import ERROR, INTERRUPT

from langgraph_checkpoint_redis import RedisSaver
from langgraph_checkpoint_redis._core import new_chunks
from langgraph_checkpoint_redis._protocol.requests import Script
from langgraph_checkpoint_redis._scripts import load

from .driving import Saver
from .story import thread

SCRIPTS = {script.name: script for script in vars(load).values() if isinstance(script, Script)}

S = TypeVar("S", bound=RedisSaver)


# A story


def put(saver: Saver, at: RunnableConfig, *, version: str = "1", **metadata: Any) -> RunnableConfig:
    """Add a checkpoint with a small value of a version, and a large one that stays the same."""
    values = {"small": version, "large": [f"{number:400}" for number in range(40)]}
    versions: ChannelVersions = {"small": version, "large": "1"}
    checkpoint = generate_checkpoint(channel_values=values, channel_versions=versions)
    new: ChannelVersions = {"small": version} if "checkpoint_id" in at["configurable"] else versions
    return saver.put(at, checkpoint, generate_metadata(**metadata), new)


def conversation(saver: Saver, thread_id: str) -> RunnableConfig:
    """Some checkpoints of two runs, and writes of them."""
    first = put(saver, generate_config(thread_id), run_id="run-1")
    child = generate_config(thread_id, checkpoint_ns="child:1")
    put(saver, child, run_id="run-1", parents={"": first["configurable"]["checkpoint_id"]})
    second = put(saver, first, version="2", run_id="run-1")
    last = put(saver, second, version="3", run_id="run-2")
    for text in ("old", "new"):
        writes = [("small", text), ("large", [f"{text} {number:400}" for number in range(40)])]
        saver.put_writes(last, writes, "task")
        saver.put_writes(last, [(ERROR, text), (INTERRUPT, text)], "task")
    return last


def story(saver: Saver) -> Iterator[object]:
    """A story, yielding between its steps."""
    yield saver.setup()
    yield (last := conversation(saver, "a"))
    yield saver.get_tuple(last)
    yield (runs := [found.metadata["run_id"] for found in saver.list(thread("a"))])
    assert runs == ["run-2", "run-1", "run-1", "run-1"]
    yield (found := [*saver.list(thread("a"), filter={"run_id": "run-2"})])
    assert [one.config for one in found] == [last]
    yield saver.get_delta_channel_history(config=last, channels=["large"])
    yield saver.copy_thread("a", "b")
    yield saver.delete_for_runs(["run-2"])
    yield (found := [*saver.list(thread("b"))])
    assert len(found) == 3
    yield saver.prune(["a"])
    yield (found := [*saver.list(thread("a", checkpoint_ns=""))])
    assert len(found) == 1
    yield (known := saver.thread_info("b"))
    assert known
    assert known.namespaces == {"": 2, "child:1": 1}
    yield (pruned := saver.prune_threads(keep_last=1, idle=3600))
    assert pruned == 1
    yield (pruned := saver.prune_threads(idle=1e-6, prefix="b"))
    assert pruned == 1
    yield saver.verify("a")
    yield saver.repair("a")
    yield saver.prune(["b"], strategy="delete")
    yield saver.delete_thread("a")


# Watching


class Sent(NamedTuple):
    """A call of a script as it was sent."""

    name: str
    keys: tuple[bytes, ...]
    args: tuple[Any, ...]


class WatchedRedis(redis.Redis):
    """A client that lets `around` see and send each call of a script."""

    around: Callable[[Sent, Callable[[], Any]], Any]

    def execute_command(self, *args: Any, **options: Any) -> Any:
        plain: Any = super()

        def send() -> Any:
            return plain.execute_command(*args, **options)

        return self.around(_sent(*args), send) if args[0] == "EVALSHA" else send()


class WatchedCluster(WatchedRedis):
    """Stands for a cluster, in which copies go from slot to slot."""


def saver_over(watched: WatchedRedis, **options: Any) -> RedisSaver:
    """A saver that copies as on a cluster, if it is to."""
    return spread(RedisSaver(watched, **options), watched)


def spread(saver: S, watched: WatchedRedis) -> S:
    """Let a saver copy as on a cluster, if it is to."""
    if isinstance(watched, WatchedCluster):
        saver._shared = saver._shared._replace(is_cluster=True)
    return saver


def _sent(_: str, sha: bytes, number: bytes, *rest: Any) -> Sent:
    names = {script.sha.encode(): name for name, script in SCRIPTS.items()}
    keys = int(number)
    return Sent(names[sha], rest[:keys], rest[keys:])


# The story, through such a client


def tell(watched: WatchedRedis, prefix: str) -> None:
    """The story, and a conversation that is kept short."""
    assert [*story(saver_over(watched, prefix=prefix))]
    conversation(saver_over(watched, prefix=prefix, keep_last=1), "c")
    live(saver_over(watched, prefix=prefix, ttl=3600, refresh_on_read=True, tombstone=60))
    mend(watched, saver_over(watched, prefix=prefix))
    put_much(saver_over(watched, prefix=prefix))
    encrypt(saver_over, watched, prefix)


def put_much(saver: RedisSaver) -> None:
    """A value whose chunks go ahead."""
    value = [f"{number:600}" for number in range(new_chunks.MANY)]
    checkpoint = generate_checkpoint(channel_values={"c": value}, channel_versions={"c": "1"})
    saver.put(generate_config("i"), checkpoint, generate_metadata(), {"c": "1"})


def live(saver: RedisSaver) -> None:
    """The life of a thread."""
    with saver.lease("d") as renew:
        last = conversation(saver, "d")
        renew()
        saver.pin("d")
        assert saver.get_tuple(last)
        saver.unpin("d")
        assert saver.get_tuple(last)
        saver.copy_thread("d", "e")
        saver.prune(["d"])
    saver.delete_thread("d")


def mend(watched: WatchedRedis, saver: RedisSaver) -> None:
    """Threads that have lost their chunks, or count their runs wrongly, are repaired."""
    conversation(saver, "f")
    watched.unlink(saver._shared.keyspace.thread("f").chunks)
    assert saver.repair("f")
    keyspace = saver._shared.keyspace
    watched.sadd(keyspace.run("old"), "f")  # as older versions stored it
    watched.zadd(keyspace.run("never-came"), {"f\0token": 10**15})
    saver.delete_for_runs(["old", "never-came"])
    assert not watched.exists(keyspace.run("never-came"))
    conversation(saver, "h")
    watched.hset(saver._shared.keyspace.thread("h").runs.decode(), "another", "2")
    assert saver.repair("h")


def encrypt(made: Callable[..., RedisSaver], watched: WatchedRedis, prefix: str) -> None:
    """A thread is encrypted."""
    conversation(made(watched, prefix=prefix), "g")
    serde = EncryptedSerializer.from_pycryptodome_aes(key=b"k" * 32)
    made(watched, prefix=prefix, serde=serde, allow_plaintext=True).reencrypt("g")
