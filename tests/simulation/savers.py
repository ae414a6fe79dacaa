"""Savers whose requests the scheduler decides on, and whose calls the oracle sees.

`Simulated` is a `RedisSaver` that graphs may use. `Awaited` drives an `AsyncRedisSaver` and has the
same methods. Both send requests through a gate: in a worker thread, that waits for the scheduler.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from hashlib import sha256
from typing import Any, TypeVar, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
)
from langgraph.checkpoint.serde.base import CipherProtocol, SerializerProtocol
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from langgraph_checkpoint_redis import AsyncRedisSaver, RedisSaver
from langgraph_checkpoint_redis._admin.prune import Limits, prune_thread
from langgraph_checkpoint_redis._protocol.requests import Operation as Requests
from langgraph_checkpoint_redis._protocol.requests import Request
from langgraph_checkpoint_redis.errors import RedisSaverError

from . import operations
from .operations import Operation
from .oracle import Failure, Oracle
from .server import Server
from .workers import Killed, Worker

T = TypeVar("T")

SLOW = 4  # of so many lists, a serializer is slow with one


class GivenUp(Exception):  # noqa: N818 - no fault of ours
    """A client has asked for long enough: its caller gets an error, and does not know more."""


class Gate:
    """What all requests of a run go through.

    `running` is the worker that runs; requests of the scheduler itself go straight to the server.
    `calls` are the calls of workers that are under way, and `run_since` says when those that run a
    graph have begun. `acknowledged` are calls that have returned lately; `outcomes` counts how all
    calls ended, and `refusals` by which error of ours.
    """

    def __init__(self, server: Server, oracle: Oracle) -> None:
        self.server, self.oracle = server, oracle
        self.running: Worker | None = None
        self.calls: dict[Worker, Operation] = {}
        self.run_since: dict[Worker | None, float] = {}
        self.acknowledged: list[Operation] = []
        self.outcomes: dict[tuple[str, str], int] = {}
        self.refusals: dict[str, int] = {}

    def reply(self, request: Request) -> Any:
        """What becomes of a request."""
        return self.running.ask(request) if self.running else self.server.reply(request)

    def here(self) -> Gate:
        """The link, as connections tell."""
        return self

    def were_reached_by(self, link: Gate | None) -> bool:
        """Whether the server was reached, as connections tell."""
        return True

    def let_others_go_first(self) -> None:
        """Wait for the scheduler where no request is to be sent, as a slow serializer does."""
        if self.running:
            self.running.ask(None)

    def close(self) -> None:
        """Nothing was opened."""

    @contextmanager
    def graph(self) -> Iterator[None]:
        """Let the oracle know that a graph runs: it may make ids long before it puts them."""
        worker = self.running
        self.run_since[worker] = self.oracle.tick()
        try:
            yield
        finally:
            del self.run_since[worker]

    @contextmanager
    def call(self, operation: Operation) -> Iterator[None]:
        """Let the oracle know of a call, and how it ends."""
        worker = self.running
        assert worker
        outer = self.calls.get(worker)
        self.calls[worker] = operation
        outcome = "acknowledged"
        try:
            yield
            operation.succeed()
            self.acknowledged.append(operation)
        except Killed:
            outcome = "abandoned"
            raise
        except GivenUp:
            outcome = "given up"
            raise
        except RedisSaverError as error:
            outcome = "refused"
            name = f"{operation.name}: {type(error).__name__}"
            self.refusals[name] = self.refusals.get(name, 0) + 1
            raise
        except Exception as error:
            raise Failure(
                "crash", f"{operation.name} raised {type(error).__name__}: {error}"
            ) from error
        finally:
            count = self.outcomes.get((operation.name, outcome), 0)
            self.outcomes[operation.name, outcome] = count + 1
            del self.calls[worker]
            if outer:
                self.calls[worker] = outer


class AwaitedGate:
    """The gate, for an event loop that runs in a worker thread."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def were_reached_by(self, link: AwaitedGate | None) -> bool:
        """Whether the server was reached, as connections tell."""
        return True

    async def here(self) -> AwaitedGate:
        """The link of this loop."""
        return self

    async def reply(self, request: Request) -> Any:
        """What becomes of a request; the whole loop waits for it."""
        return self._gate.reply(request)


class Simulated(RedisSaver):
    """A synchronous saver."""

    def __init__(self, gate: Gate, **options: Any) -> None:
        super().__init__(gate.server.url, **options)
        self._connections.close()
        self._connections = cast("Any", gate)
        self.gate = gate

    @property
    def keep_last(self) -> int | None:
        """How many checkpoints it keeps."""
        return self._shared.options.keep_last

    def run(self, operation: Requests[T]) -> T:
        """Drive an operation that no method stands for."""
        return self._run(operation)

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        return self._reading("get_tuple", lambda: RedisSaver.get_tuple(self, config))

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        what = config, checkpoint, metadata, new_versions
        since = self.gate.run_since.get(self.gate.running)
        call = operations.Put(self.gate.oracle, self.keep_last, *what, since)
        with self.gate.call(call):
            return super().put(*what)

    def put_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        what = config, writes, task_id, task_path
        with self.gate.call(operations.PutWrites(self.gate.oracle, self.keep_last, *what)):
            super().put_writes(*what)

    def get_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        return self._reading(
            "get_delta_channel_history",
            lambda: RedisSaver.get_delta_channel_history(self, config=config, channels=channels),
        )

    def delete_thread(self, thread_id: str) -> None:
        with self.gate.call(operations.DeleteThread(self.gate.oracle, thread_id)):
            super().delete_thread(thread_id)

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        with self.gate.call(operations.DeleteRuns(self.gate.oracle, run_ids)):
            super().delete_for_runs(run_ids)

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        names = source_thread_id, target_thread_id
        with self.gate.call(operations.CopyThread(self.gate.oracle, *names)):
            super().copy_thread(*names)

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        kind = operations.Prune if strategy == "keep_latest" else operations.DeleteThread
        for thread_id in thread_ids:
            with self.gate.call(kind(self.gate.oracle, thread_id)):
                super().prune([thread_id], strategy=strategy)

    def prune_idle(self, thread_id: str, idle: float) -> None:
        """Delete a thread if it is idle, as `prune_threads` does with each."""
        call = operations.PruneIdle(self.gate.oracle, thread_id)
        pruning = prune_thread(self._context, thread_id, Limits.parse("", idle, None))

        def watched() -> Requests[bool]:
            reply = None
            with suppress(StopIteration):
                while True:
                    request = pruning.send(reply)
                    reply = yield request
                    if request.name == "namespaces":
                        call.seen_at = call.last_ran_at
            return True

        with self.gate.call(call):
            self._run(watched())

    def repair(self, thread_id: str) -> Any:
        with self.gate.call(operations.Repair(self.gate.oracle, thread_id)):
            return super().repair(thread_id)

    def verify(self, thread_id: str) -> Any:
        return self._reading("verify", lambda: RedisSaver.verify(self, thread_id))

    def list_all(self, thread_id: str) -> list[CheckpointTuple]:
        """List a thread, as one call."""
        config: RunnableConfig = {"configurable": {"thread_id": thread_id}}
        return self._reading("list", lambda: [*self.list(config)])

    def set_ttl(self, thread_id: str, ttl: Any) -> None:
        self._reading("set_ttl", lambda: RedisSaver.set_ttl(self, thread_id, ttl))

    def pin(self, thread_id: str) -> None:
        self._reading("pin", lambda: RedisSaver.pin(self, thread_id))

    def _reading(self, name: str, call: Callable[[], T]) -> T:
        if not self.gate.running:  # a reader of the scheduler
            return call()
        with self.gate.call(operations.Reading(self.gate.oracle, name)):
            return call()


class Awaited(Simulated):
    """The asynchronous saver, driven by an event loop for each call."""

    def __init__(self, gate: Gate, **options: Any) -> None:
        super().__init__(gate, **options)
        self._twin = AsyncRedisSaver(gate.server.url, **options)
        self._twin._connections = cast("Any", AwaitedGate(gate))
        self._twin._shared = self._shared

    def _run(self, operation: Requests[T], ask: Callable[[Request], Any] | None = None) -> T:
        """Drive an operation as the asynchronous saver does."""
        return asyncio.run(self._twin._run(operation))


class Cipher(CipherProtocol):
    """Encrypts as a real cipher does, but draws its nonces from a seed."""

    def __init__(self, *, is_random: bool) -> None:
        self._is_random, self._count = is_random, 0

    def encrypt(self, plaintext: bytes) -> tuple[str, bytes]:
        self._count += self._is_random
        nonce = self._count.to_bytes(4, "big")
        return "xor", nonce + _xor(nonce, plaintext)

    def decrypt(self, ciphername: str, ciphertext: bytes) -> bytes:
        return _xor(ciphertext[:4], ciphertext[4:])


def _xor(nonce: bytes, text: bytes) -> bytes:
    blocks = range(len(text) // 32 + 1)
    stream = b"".join(sha256(nonce + block.to_bytes(4, "big")).digest() for block in blocks)
    return bytes(one ^ other for one, other in zip(text, stream, strict=False))


class Serializer(SerializerProtocol):
    """A serializer that is slow now and then, so that others go on meanwhile."""

    def __init__(self, gate: Gate, inner: SerializerProtocol) -> None:
        self._gate, self._inner = gate, inner
        self._count = 0

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        self._count += isinstance(obj, list)
        if isinstance(obj, list) and self._count % SLOW == 0:
            self._gate.let_others_go_first()
        return self._inner.dumps_typed(obj)

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        return self._inner.loads_typed(data)


def serializer(gate: Gate, kind: str) -> SerializerProtocol:
    """The serializer of threads of a kind: `plain`, `same` or `random` for two ways to encrypt."""
    plain = JsonPlusSerializer()
    if kind == "plain":
        return Serializer(gate, plain)
    return EncryptedSerializer(Cipher(is_random=kind == "random"), Serializer(gate, plain))
