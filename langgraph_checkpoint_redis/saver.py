# Derived from aio.py by tools/derive_sync.py.
# Change the source and run `make derive`.

"""`RedisSaver`: a line or two for each method, and the loop that drives operations.

`_core` decides what each method asks of the server and how it reads the replies.
The connections are in `_transport/sync_own_links.py`. The methods for operators are in
`_admin/_sync/methods.py`, and the names of the other half in `_twins/async_names.py`.
"""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from typing import Any, TypeVar, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
)
from redis import Redis, RedisCluster
from typing_extensions import Self, Unpack

from ._admin._sync.methods import AdminMethods
from ._admin.setup import check_server
from ._admin.walks import start_walk
from ._base import BaseSaver
from ._core import copying, expiry, reading, removing, writing
from ._core._sync.lease import Lease
from ._core.arguments import check_strategy, parse_thread_id
from ._core.batches import Failures
from ._core.holding import Holding
from ._core.listing import Cursor, make_cursor
from ._core.options import SaverOptions
from ._embedded.server import EmbeddedServer
from ._protocol.durations import Duration, to_milliseconds
from ._protocol.requests import Operation, Request
from ._storage.checks import check_id, check_ids
from ._storage.versions import next_version
from ._transport._sync.link import Link
from ._transport.clients import is_cluster
from ._transport.retry import RetryPolicy
from ._transport.sync_own_links import Connections
from ._twins.async_names import AsyncNames

T = TypeVar("T")


class RedisSaver(BaseSaver[Redis | RedisCluster], AsyncNames, AdminMethods):
    """Stores the checkpoints of LangGraph graphs in Redis.

    Any number of threads and tasks may share one saver, and any number of savers
    one server. Plain Redis 6.2 or newer is enough, or Valkey, single or as a cluster.

    All methods raise `ConfigError` for a bad argument, before anything is sent. They raise errors
    of the server and of the connection as the client raises them. Methods that read raise
    `CorruptThreadError` and `UnknownFormatError` for what cannot be read.

    The asynchronous methods call the synchronous ones in worker threads.
    """

    _is_asynchronous = False

    def _connect(self) -> None:
        self._connections = Connections(self._redis)

    @classmethod
    @contextmanager
    def from_conn_string(cls, url: str, **options: Unpack[SaverOptions]) -> Iterator[Self]:
        """Open a saver, and close it when the block ends; `options` are the constructor's."""
        saver = cls(url, **options)
        try:
            yield saver
        finally:
            saver.close()

    @classmethod
    @contextmanager
    def embedded(
        cls, path: str | os.PathLike[str], **options: Unpack[SaverOptions]
    ) -> Iterator[Self]:
        """Open a saver on a server that this package runs and keeps in a directory.

        It is for one machine: all processes of a user that name the same directory share the
        server, which starts with the first of them and ends with the last. Both kinds of savers can
        share it. What was stored stays in the directory, also if power fails.

        Args:
            path: The directory; it is made if it is not there. Use a local disk, not a network's.
            **options: The constructor's.

        Raises:
            MissingLibraryError: There is no server: `langgraph-checkpoint-redis-core[embedded]`.
            EmbeddedServerError: It does not start, and says why; or this is Windows.
        """
        server = EmbeddedServer(path)
        try:
            with cls.from_conn_string(server.url, **options) as saver:
                server.start()
                yield saver
        finally:
            server.stop()

    def setup(self) -> None:
        """Check that the server is reachable and can hold checkpoints; optional.

        Raises:
            UnsupportedServerError: It is older than Redis 6.2.

        Warns `EvictionWarning` when the server deletes keys once its memory is full, and
        `DurabilityWarning` when it writes nothing to disk or cannot keep what `confirm` asks for.
        """
        for warning in self._run(check_server(self._shared.options)):
            warnings.warn(warning, stacklevel=2)

    def close(self) -> None:
        """Close the connections, if the saver was made from a URL."""
        self._connections.close()

    # Driving operations

    def _run(self, operation: Operation[T], ask: Callable[[Request], Any] | None = None) -> T:
        """Drive an operation; `ask` is how, with retries by default."""
        ask, reply = ask or self._reply, None
        while True:
            try:
                request = operation.send(reply)
            except StopIteration as done:
                result: T = done.value
                return result
            reply = ask(request)

    def _reply(self, request: Request) -> Any:
        policy, link, handled = None, None, sys.exc_info()[1]
        while True:
            try:
                link = self._connections.here()  # it may have been closed meanwhile
                return link.reply(request)
            except Exception as error:  # noqa: BLE001, PERF203 - raised again, or tried again
                policy = policy or self._retry_policy(request.name, link, handled)
                _wait_or_raise(policy, error)
                request = request.again()

    def _retry_policy(
        self, what: str, link: Link | None, handled: BaseException | None
    ) -> RetryPolicy:
        was_reached = self._connections.were_reached_by(link)
        return RetryPolicy(self._redis, what, was_reached=was_reached, handled=handled)

    def _thread_pages(self) -> Iterator[Sequence[str]]:
        """All threads, each once, a page at a time."""
        walking = start_walk(self._shared.keyspace, is_cluster=is_cluster(self._redis))
        policy, link = None, None
        while True:
            handled = sys.exc_info()[1]
            try:
                link = self._connections.here()
                page = self._run(walking.page(), link.reply)
            except Exception as error:  # noqa: BLE001 - raised again, or tried again
                if not walking.failed():
                    policy = policy or self._retry_policy("SCAN", link, handled)
                    _wait_or_raise(policy, error)
                continue
            if page is None:
                return
            policy = None
            yield page
            if walking.pause:
                time.sleep(walking.pause)

    # LangGraph's interface

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """The checkpoint that `config` names, or the latest; `None` if there is none."""
        return self._run(reading.get_tuple(self._context, config))

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """Checkpoints from the newest to the oldest, read page by page as they are taken.

        Args:
            config: The thread; with a `checkpoint_ns` only that namespace, with a `checkpoint_id`
                only that checkpoint. `None` lists all threads, one after the other.
            filter: Metadata that checkpoints must have, compared by equality.
            before: A config whose `checkpoint_id` they must be older than.
            limit: How many to list at most.

        Raises:
            ThreadsError: At the end of all threads, where some cannot be read.
        """
        place = make_cursor(config, filter, before, limit)
        if config:
            for found in self._listed(parse_thread_id(config), place):
                yield found
            return
        failures = Failures()
        for thread_id in self._thread_ids(place):
            try:
                for found in self._listed(thread_id, place):
                    place = place.with_one_less()
                    yield found
            except Exception as error:  # noqa: BLE001 - raised again, at once or at the end
                failures.add(thread_id, error)
            if not place.more:
                break
        failures.check()

    def _thread_ids(self, place: Cursor) -> Iterator[str]:
        """All threads, if anything is to be listed."""
        if place.more:
            for page in self._thread_pages():
                yield from page

    def _listed(self, thread_id: str, position: Cursor) -> Iterator[CheckpointTuple]:
        """The checkpoints of one thread."""
        while position.more:
            page = self._run(reading.read_page(self._context, thread_id, position))
            yield from page.tuples
            position = page.cursor

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Store a checkpoint, replacing one of the same id; `config` names its parent."""
        return self._run(writing.put(self._context, config, checkpoint, metadata, new_versions))

    def put_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """Store what a task wrote on top of the checkpoint that `config` names.

        A write that is there already stays as it is, but for the special ones (errors, interrupts,
        resumes), which are replaced.
        """
        self._run(writing.put_writes(self._context, config, writes, task_id, task_path))

    def delete_thread(self, thread_id: str) -> None:
        """Delete all that is stored of a thread."""
        self._run(removing.delete_thread(self._context, thread_id))

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Delete the checkpoints whose metadata has one of these run ids, with their writes.

        Raises:
            RunNeededError: Checkpoints of other runs are rebuilt from these. In that thread,
                nothing was removed, unless another run went on from them during the removal.
            ThreadsError: Several threads have checkpoints of the runs, and some failed. All others
                are done.
        """
        failures = Failures()
        threads = self._run(removing.threads_of_runs(self._context, run_ids))
        for thread_id, runs in threads.items():
            deleted = self._outcome(removing.delete_runs(self._context, thread_id, runs))
            if isinstance(deleted, Exception):
                failures.add(thread_id, deleted)
        failures.check_named(len(threads))

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy all of a thread to another, complete or not at all.

        A source that does not exist has nothing to copy: the Agent Server copies threads that
        nobody has talked to yet.

        Raises:
            ThreadExistsError: The target has checkpoints or writes already.
            CorruptThreadError: The source, or the target, has lost a key.
            ThreadLeasedError: Another has the lease of the target.
            ThreadChangedError: The source is large, and was written to each time that it was read.
        """
        self._run(copying.copy_thread(self._context, source_thread_id, target_thread_id))

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Delete what threads no longer need.

        Args:
            thread_ids: The threads.
            strategy: `"keep_latest"` keeps the latest checkpoint of each namespace, and the
                ancestors that its delta channels are rebuilt from; `"delete"` keeps nothing.

        Raises:
            ThreadsError: Of several threads, some failed. All others are done.
        """
        strategy, failures = check_strategy(strategy), Failures()
        thread_ids = check_ids("thread_ids", thread_ids)
        for thread_id in thread_ids:
            pruned = self._outcome(removing.prune(self._context, thread_id, strategy))
            if isinstance(pruned, Exception):
                failures.add(thread_id, pruned)
        failures.check_named(len(thread_ids))

    def get_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """What delta channels wrote, oldest first, since the last stored value of each."""
        return self._run(reading.get_delta_channel_history(self._context, config, channels))

    def get_next_version(self, current: str | None, channel: None) -> str:
        """The version after `current`: text in LangGraph's own format, or a number for a number."""
        return cast("str", next_version(current))

    # The life of a thread

    def set_ttl(self, thread_id: str, ttl: Duration | None) -> None:
        """Let a thread live for its own time after its last use, whatever savers say.

        The same as `ttl` in the `configurable` of a config, for a thread that there is already.

        Args:
            thread_id: The thread.
            ttl: Seconds, or a timedelta; `None` lets savers say again.

        Raises:
            ThreadNotFoundError: There is no such thread.
        """
        self._run(expiry.set_ttl(self._context, thread_id, ttl))

    def pin(self, thread_id: str) -> None:
        """Let a thread live for ever; raises what `set_ttl` does."""
        self._run(expiry.pin(self._context, thread_id))

    def unpin(self, thread_id: str) -> None:
        """Let a thread expire again, as savers say; raises what `set_ttl` does."""
        self._run(expiry.set_ttl(self._context, thread_id, None))

    def lease(self, thread_id: str, *, ttl: Duration = 60) -> Lease:
        """Be the only one to write to a thread in a `with` block, and in what it starts.

        Each write renews the lease, and so does `lease()`. Once it has ended, because there
        was neither for too long, writes raise `LeaseLostError`; while it lasts, those of others
        raise `ThreadLeasedError`.

        A generator that a web framework steps through, and what another task or thread goes on
        with, need `Lease.config` or `Lease.saver`.

        Args:
            thread_id: The thread.
            ttl: Seconds, or a timedelta, that the lease lasts after the last write.

        Raises:
            ThreadLeasedError: Another has the lease.
        """
        thread_id = check_id("thread_id", thread_id)
        span = to_milliseconds("ttl", ttl)
        holding = Holding(self._shared.caches, self._shared.lease_name(thread_id))
        return Lease(thread_id, span, holding, self._context, self._showing, self._run)

    def _showing(self, lease: Holding) -> RedisSaver:
        """Return a copy of this saver that shows the token of a lease."""
        saver = copy(self)
        saver._shared = self._shared.with_token(lease)  # noqa: SLF001 - a copy of this one
        return saver


def _wait_or_raise(policy: RetryPolicy, error: Exception) -> None:
    """Wait before asking again; raise an error that will not pass."""
    if look := policy.look_for_tls(error):
        policy.note_mistake(look())
    time.sleep(policy.seconds_until_retry(error))
