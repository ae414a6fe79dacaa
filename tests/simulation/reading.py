"""Reading everything with a saver that knows nothing, and comparing it with the oracle."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from langgraph.checkpoint.base import CheckpointTuple

from langgraph_checkpoint_redis import Problem
from langgraph_checkpoint_redis._core import removing
from langgraph_checkpoint_redis._storage.keys import Keyspace
from langgraph_checkpoint_redis.errors import RedisSaverError

from .clients import config
from .comparing import (
    check_latest,
    compare,
    compare_history,
    compare_writes,
    items_of,
    place_of,
)
from .oracle import Failure, Oracle, Row, State, Thread, history
from .savers import Gate, Simulated, serializer
from .server import PREFIX

T = TypeVar("T")


class Reader:
    """A reader of one thread, in a process of its own."""

    def __init__(self, gate: Gate, thread_id: str) -> None:
        self._thread_id = thread_id
        self._thread: Thread = gate.oracle.thread(thread_id)
        kind = "same" if thread_id.rsplit("-", 1)[-1].startswith("e") else "plain"
        self.saver = Simulated(gate, serde=serializer(gate, kind))

    def check(self) -> None:
        """Raise a failure for whatever is not as it must be."""
        listed = self._listed()
        if listed is None:
            for row in [*self._thread.rows.values()]:
                self._check_alone(row)
        else:
            self._check_all(listed)
        for namespace in self._thread.namespaces():
            self._check_latest(namespace)
        for row in self._thread.there():
            for channel in row.delta_channels:
                self._check_history(row, channel)
        self._check_verify()

    def check_row(self, row: Row) -> None:
        """The same for one checkpoint and its writes, and for what is the latest."""
        self._check_alone(row)
        if row.state is State.PRESENT:
            self._check_latest(row.namespace)

    def _try(self, what: str, call: Callable[[], T], *, may_fail: bool) -> T | None:
        try:
            return call()
        except RedisSaverError as error:
            if may_fail:
                return None
            raise Failure("unreadable", f"{what} of {self._thread_id!r}: {error}") from error
        except Failure:
            raise
        except Exception as error:
            raise Failure("crash", f"{what} of {self._thread_id!r} raised {error!r}") from error

    def _listed(self) -> list[CheckpointTuple] | None:
        """All checkpoints; nothing if some are damaged, and so none can be listed."""
        has_damage = any(row.is_damaged for row in self._thread.there())
        may_fail = has_damage or self._thread.is_damaged
        return self._try("list", lambda: self.saver.list_all(self._thread_id), may_fail=may_fail)

    def _check_all(self, listed: list[CheckpointTuple]) -> None:
        found = {place_of(one): one for one in listed}
        if len(found) < len(listed):
            raise Failure("wrong", f"{self._thread_id!r} lists checkpoints twice")
        if listed != sorted(listed, key=lambda one: place_of(one)[1], reverse=True):
            raise Failure("wrong", f"{self._thread_id!r} is listed in another order")
        for one in listed:
            compare(self._thread, one)
        for row in self._thread.rows.values():
            if row.place not in found and self._may_be_unlisted(row):
                self._check_alone(row)
            else:
                self._settle(row, found.get(row.place))

    def _may_be_unlisted(self, row: Row) -> bool:
        """Whether a checkpoint may be there only because newer ones are rebuilt from it.

        Listings of a namespace end before the newest one of these.
        """
        return any(
            other.may_be_unlisted and other.namespace == row.namespace and other.id >= row.id
            for other in self._thread.there()
        )

    def _check_alone(self, row: Row) -> None:
        what = f"get_tuple({row.place})"
        place = config(self._thread_id, *row.place)
        is_unsure = self._thread.is_damaged and row.state is not State.PRESENT
        may_fail = is_unsure or self._thread.may_be_unreadable(row)
        found = self._try(what, lambda: self.saver.get_tuple(place), may_fail=may_fail)
        if found or not may_fail:
            self._settle(row, found)
        elif row.state is State.PRESENT and self._is_none(row):
            raise Failure("less", f"{row.place} of {self._thread_id!r} reads as never put")

    def _is_none(self, row: Row) -> bool:
        """Whether a damaged checkpoint reads as none, not as an error."""
        try:
            return self.saver.get_tuple(config(self._thread_id, *row.place)) is None
        except RedisSaverError:
            return False

    def _settle(self, row: Row, found: CheckpointTuple | None) -> None:
        if found is None:
            if row.state is State.PRESENT:
                kind = "less" if row.is_damaged else "lost"
                raise Failure(kind, f"{row.place} of {self._thread_id!r} is not there")
            row.state = State.ABSENT
            return
        if row.state is State.ABSENT:
            raise Failure("undead", f"{row.place} of {self._thread_id!r} is there, and must not be")
        compare(self._thread, found)
        row.state = State.PRESENT
        compare_writes(self._thread, row, found)

    def _check_latest(self, namespace: str) -> None:
        rows = [row for row in self._thread.there(State.PRESENT) if row.namespace == namespace]
        is_damaged = self._thread.is_damaged
        place = config(self._thread_id, namespace)
        what = f"get_tuple(latest of {namespace!r})"
        try:
            found = self.saver.get_tuple(place)
        except RedisSaverError as error:
            if is_damaged:
                return
            raise Failure("unreadable", f"{what} of {self._thread_id!r}: {error}") from error
        if found is None:
            if rows:
                raise Failure(
                    "less" if is_damaged else "lost",
                    f"the latest of {namespace!r} in {self._thread_id!r} is none",
                )
            return
        row = compare(self._thread, found)
        if row.state is State.ABSENT:
            raise Failure("undead", f"{row.place} of {self._thread_id!r} is the latest")
        check_latest(self._thread, namespace, row)

    def _check_history(self, row: Row, channel: str) -> None:
        if row.state is not State.PRESENT:
            return
        is_whole = history(self._thread, row, channel, items_of).is_whole
        place = config(self._thread_id, *row.place)

        def read() -> None:
            found = self.saver.get_tuple(place)
            if found and channel in found.checkpoint["channel_values"]:
                return  # it has the value of its parent
            histories = self.saver.get_delta_channel_history(config=place, channels=[channel])
            compare_history(self._thread, row, channel, histories[channel])

        may_fail = not is_whole or self._thread.may_be_unreadable(row)
        self._try(f"history of {row.place}", read, may_fail=may_fail)

    def _check_verify(self) -> None:
        may_fail = self._thread.is_damaged
        problems = self._try(
            "verify", lambda: self.saver.verify(self._thread_id), may_fail=may_fail
        )
        for problem in problems or ():
            self._check_problem(problem)

    def _check_problem(self, problem: Problem) -> None:
        row = self._thread.rows.get((problem.namespace, problem.checkpoint_id))
        if problem.key.endswith(":runs") and self._thread.is_index_unsure:
            return
        if problem.kind == "lost" and not (self._thread.is_damaged or (row and row.is_damaged)):
            raise Failure("verify", f"{self._thread_id!r} is said to have lost: {problem}")
        if problem.kind == "incomplete" and row:
            wholes = [
                history(self._thread, row, channel, items_of).is_whole
                for channel in row.delta_channels
            ]
            if all(wholes):
                raise Failure("verify", f"{self._thread_id!r} is said to lack: {problem}")

    # At the end of a run

    def check_sweep(self) -> None:
        """Sweep, and look for what is not reachable any more."""
        context = self.saver._context
        self.saver.run(removing.delete_runs(context, self._thread_id, ["no run"]))
        problems = self.saver.verify(self._thread_id)
        garbage = [one for one in problems if one.kind == "garbage" and not one.checkpoint_id]
        if garbage:
            raise Failure("garbage", f"{self._thread_id!r}, after a sweep: {garbage}")


def check_index(gate: Gate, oracle: Oracle) -> None:
    """The index of runs must lead to each thread with a checkpoint of a run."""
    saver = Simulated(gate)
    wanted: dict[str, set[str]] = {}
    for thread_id, thread in oracle.threads.items():
        if not thread.is_index_unsure and not thread.is_damaged:
            for row in thread.there(State.PRESENT):
                if row.run:
                    wanted.setdefault(row.run, set()).add(thread_id)
    for run, threads in wanted.items():
        found = saver.run(removing.threads_of_runs(saver._context, [run]))
        if lacking := sorted(threads - found.keys()):
            raise Failure("index", f"run {run!r} does not lead to {lacking}")


def check_left_over(gate: Gate, thread_id: str) -> None:
    """Check that no note of a transaction is left, and no chunks of a thread without rows."""
    keys = Keyspace(PREFIX).thread(thread_id)
    client = gate.server.client
    if client.hexists(keys.chunks, "ahead"):
        raise Failure("note", f"the note of a transaction is left in {thread_id!r}")
    has_rows = client.exists(keys.timeline, keys.writes)
    had_rows = any(client.hmget(keys.chunks, "timeline", "writes"))
    if client.exists(keys.chunks) and not (has_rows or had_rows):
        raise Failure("left", f"without a row, {thread_id!r} has {client.hkeys(keys.chunks)}")
