"""What clients do with their savers: turns of a run, and housekeeping.

Texts come from a small stock, so that checkpoints share chunks, and what was swept comes back.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from random import Random
from string import ascii_letters
from typing import Any, NamedTuple

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import Checkpoint, CheckpointMetadata, CheckpointTuple
from langgraph.checkpoint.base.id import uuid6

from langgraph_checkpoint_redis.errors import RedisSaverError

from .comparing import items_of
from .graphs import GRAPHS, play
from .machines import Machine
from .savers import Awaited, Gate, GivenUp, Simulated, serializer
from .workers import Worker

PLAIN, ENCRYPTED = ("a", "b"), ("e",)
COPIES = ("c", "d")
STOCK = 18  # texts
LISTS = 9  # lists of them that come back again and again
LATELY = 5  # runs among which those are deleted that may still go on
IDLE = (0.01, 0.1, 2.0)  # seconds; a request takes some milliseconds
FIRST = "2100-01-01T00:00:00+00:00"
SNAPSHOT_EVERY = 3  # updates of the delta channel


class Theme(NamedTuple):
    """What all clients of a run have in common."""

    stock: list[str]
    lists: list[list[str]]
    keeps_last: bool
    has_deltas: bool
    removes: bool
    sweeps: bool
    races_runs: bool
    graphs: tuple[str, ...]

    @classmethod
    def drawn(cls, rng: Random, kinds: Collection[str]) -> Theme:
        """A theme; what would be a fault is left out unless it is among the kinds."""
        has_deltas = rng.random() < 0.35
        removes = not has_deltas or "cut_deltas" in kinds
        sweeps = removes and not has_deltas and rng.random() < 0.5
        keeps_last = removes and not sweeps and rng.random() < 0.5
        cuts = removes and "cut_deltas" not in kinds
        plays = not sweeps and rng.random() < 0.6
        played = tuple(name for name in GRAPHS if plays and not (cuts and name == "delta"))
        stock = [_text(rng) for _ in range(STOCK)]
        lists = [_unshared(rng) if sweeps else _part(rng, stock) for _ in range(LISTS)]
        races = "race_runs" in kinds
        return cls(stock, lists, keeps_last, has_deltas, removes, sweeps, races, played)


def _unshared(rng: Random) -> list[str]:
    """A list that shares nothing with others: no row keeps its chunks but those that have it."""
    return [_text(rng) for _ in range(rng.randint(6, 12))]


def _text(rng: Random) -> str:
    return "".join(rng.choices(ascii_letters, k=rng.randint(20, 90)))


def _part(rng: Random, stock: list[str]) -> list[str]:
    first = rng.choice([0, 0, 0, 3, 9])
    return stock[first : first + rng.randint(1, len(stock))]


@dataclass
class Process:
    """A process with a saver, which its clients share."""

    machine: Machine
    gate: Gate
    options: Mapping[str, Any]
    serde: str
    threads: tuple[str, ...]
    is_async: bool
    saver: Simulated = field(init=False)

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        """Begin, knowing nothing."""
        serde = None if self.serde == "native" else serializer(self.gate, self.serde)
        kind = Awaited if self.is_async else Simulated
        self.saver = kind(self.gate, serde=serde, **self.options)
        self.machine.restart()

    def __str__(self) -> str:
        options = "".join(f", {name}={value!r}" for name, value in self.options.items())
        return f"{type(self.saver).__name__}({self.serde}{options})"


def drawn_process(rng: Random, name: str, gate: Gate, theme: Theme, kind: str) -> Process:
    """A process with options that are drawn."""
    options: dict[str, Any] = {}
    if theme.keeps_last:
        options["keep_last"] = rng.choice([1, 1, 2, 5, None])
    if theme.removes and rng.random() < 0.3:
        options["ttl"] = rng.choice([600, 86_400])
        options["refresh_on_read"] = rng.random() < 0.5
    if rng.random() < 0.3:
        options["tombstone"] = 120
    if rng.random() < 0.3:
        options["compression"] = "zlib"
    if rng.random() < 0.2:
        options["on_conflict"] = "error"
    serde = kind if kind != "plain" or theme.sweeps else rng.choice(["native", "plain"])
    threads = ENCRYPTED if kind != "plain" else PLAIN[:1] if theme.sweeps else PLAIN
    return Process(Machine(name), gate, options, serde, threads, rng.random() < 0.3)


class Seen(NamedTuple):
    """A checkpoint that a client goes on from, and what its delta channel was there."""

    config: RunnableConfig
    checkpoint: Checkpoint
    metadata: CheckpointMetadata
    log: list[str]


class Client:
    """Somebody who uses a process, one call after the other."""

    def __init__(self, number: int, process: Process, theme: Theme, runs: list[str]) -> None:
        self.number, self.process, self.theme = number, process, theme
        self.worker = Worker(f"client {number}")
        self.runs = runs  # those of all clients that have ended
        self.doing = ""
        self.turns = 0
        self._last: dict[tuple[str, str], Seen] = {}

    @property
    def saver(self) -> Simulated:
        return self.process.saver

    def forget(self) -> None:
        """Know nothing of before, as the process has ended."""
        self._last.clear()

    def begin(self, rng: Random) -> None:
        """Begin a turn, or some housekeeping."""
        self.turns += 1
        task = self._drawn_task(rng)

        def guarded() -> None:
            try:
                task(rng)
            except (RedisSaverError, GivenUp):
                self._last.clear()  # whoever was refused reads anew

        self.worker.begin(guarded)

    def _drawn_task(self, rng: Random) -> Callable[[Random], None]:
        tasks: dict[Callable[[Random], None], int] = {self.converse: 60, self.read: 6}
        if self.theme.removes:
            tasks |= {
                self.prune: 8,
                self.delete_runs: 15 if self.theme.races_runs else 5,
                self.delete_thread: 2,
                self.prune_idle: 8,
                self.repair: 2,
            }
            tasks |= {self.copy: 3, self.lease: 1 if self.theme.sweeps else 4}
        if self.theme.sweeps:
            tasks |= {self.converse: 20, self.go_back: 20, self.read: 12}
        if self.theme.graphs:
            tasks[self.play] = 25
        return rng.choices([*tasks], [*tasks.values()])[0]

    # Runs

    def converse(self, rng: Random) -> None:
        """Go on with a thread, for some steps of one run."""
        thread_id = rng.choice(self.process.threads)
        run = self._new_run(rng)
        namespaces = ["", "sub", f"call:{rng.randint(1, 2)}"]
        namespace = rng.choices(namespaces, [90 if self.theme.sweeps else 70, 15, 15])[0]
        self.doing = f"converse in {thread_id!r}, namespace {namespace!r}, run {run!r}"
        root = self._read(thread_id, "") if ":" in namespace else None
        seen = self._last.get((thread_id, namespace)) if rng.random() < 0.35 else None
        seen = seen or self._read(thread_id, namespace)
        for _ in range(rng.randint(1, 3)):
            seen = self._step(rng, thread_id, namespace, run, seen, root)
            self._last[thread_id, namespace] = seen
        self.runs.append(run)

    def go_back(self, rng: Random) -> None:
        """Put all that was said before once more, as undo and retries do.

        This process may remember chunks that nothing in the thread refers to any more.
        """
        thread_id, run = self.process.threads[0], self._new_run(rng)
        self.doing = f"go back in {thread_id!r}, run {run!r}"
        seen = self._last.get((thread_id, "")) or self._read(thread_id, "")
        for value in rng.sample(self.theme.lists, LISTS):
            seen = self._put(thread_id, "", run, seen, {"messages": value})
        self.runs.append(run)

    def _put(
        self, thread_id: str, namespace: str, run: str, seen: Seen | None, changed: dict[str, Any]
    ) -> Seen:
        """Put a checkpoint that goes on from another."""
        values = {**seen.checkpoint["channel_values"]} if seen else {}
        versions = {**seen.checkpoint["channel_versions"]} if seen else {}
        newest: Any = max(versions.values(), default=None)
        new: dict[str, Any] = dict.fromkeys(changed, self.saver.get_next_version(newest, None))
        checkpoint = self._checkpoint(values | changed, versions | new)
        metadata = CheckpointMetadata(source="loop", step=self.turns, parents={}, run_id=run)
        at = config(thread_id, namespace, seen.checkpoint["id"] if seen else None)
        stored = self.saver.put(at, checkpoint, metadata, new)
        return Seen(stored, checkpoint, metadata, seen.log if seen else [])

    def _checkpoint(self, values: dict[str, Any], versions: dict[str, Any]) -> Checkpoint:
        return Checkpoint(
            v=4,
            ts=FIRST,
            id=str(uuid6(clock_seq=self.number)),
            channel_values=values,
            channel_versions=versions,
            versions_seen={"node": {**versions}},
            updated_channels=None,
        )

    def _new_run(self, rng: Random) -> str:
        run = f"run {rng.getrandbits(24):06x}"
        if self.theme.races_runs:
            self.runs.append(run)  # to be deleted while it goes on
        return run

    def _read(self, thread_id: str, namespace: str) -> Seen | None:
        found = self.saver.get_tuple(config(thread_id, namespace))
        if found is None:
            return None
        log = found.checkpoint["channel_values"].get("log")
        if log is None and "log" in found.checkpoint["channel_versions"]:
            log = self._read_log(found)
        return Seen(found.config, found.checkpoint, found.metadata, [*(log or ())])

    def _read_log(self, found: CheckpointTuple) -> list[str]:
        histories = self.saver.get_delta_channel_history(config=found.config, channels=["log"])
        history = histories["log"]
        value = [*items_of(history.get("seed", ()))]
        for _, _, written in history["writes"]:
            value += written
        return value

    def _step(
        self,
        rng: Random,
        thread_id: str,
        namespace: str,
        run: str,
        seen: Seen | None,
        root: Seen | None,
    ) -> Seen:
        """Tasks write, and a checkpoint follows."""
        said: list[str] = []
        if seen:
            said = self._put_writes(rng, seen.config) if self.theme.has_deltas else []
            if not said and rng.random() < 0.5:
                self._put_other_writes(rng, seen.config)
        log = [*(seen.log if seen else ()), *said]
        checkpoint, new_versions, counters = self._next(rng, seen, said, log)
        metadata = CheckpointMetadata(source="loop", step=self.turns, parents={}, run_id=run)
        if counters:
            metadata["counters_since_delta_snapshot"] = counters
        if root:
            metadata["parents"] = {"": root.checkpoint["id"]}
        at = config(thread_id, namespace, seen.checkpoint["id"] if seen else None)
        if not self.saver.keep_last and rng.random() < 0.15:  # they may be stored in any order
            self._put_other_writes(rng, config(thread_id, namespace, checkpoint["id"]))
        stored = self.saver.put(at, checkpoint, metadata, new_versions)
        return Seen(stored, checkpoint, metadata, log)

    def _put_writes(self, rng: Random, at: RunnableConfig) -> list[str]:
        if rng.random() < 0.4:
            return []
        said = [f"{self.number}.{self.turns} {rng.choice(self.theme.stock)}"]
        self.saver.put_writes(at, [("log", said), ("n", rng.randint(0, 9))], self._task(rng))
        return said

    def _put_other_writes(self, rng: Random, at: RunnableConfig) -> None:
        value = self._texts(rng)
        self.saver.put_writes(at, [("messages", value), ("n", 1)], self._task(rng), "~path")

    def _task(self, rng: Random) -> str:
        return f"task-{self.number}-{rng.getrandbits(32):08x}"

    def _texts(self, rng: Random) -> list[str]:
        if self.theme.sweeps or rng.random() < 0.7:
            return rng.choice(self.theme.lists)
        return _part(rng, self.theme.stock)

    def _next(
        self, rng: Random, seen: Seen | None, said: list[str], log: list[str]
    ) -> tuple[Checkpoint, dict[str, Any], dict[str, tuple[int, int]]]:
        values = {**seen.checkpoint["channel_values"]} if seen else {"docs": self._texts(rng)}
        versions = {**seen.checkpoint["channel_versions"]} if seen else {}
        changed: dict[str, Any] = {"n": rng.randint(0, 9)}
        if rng.random() < 0.7:
            changed["messages"] = self._texts(rng)
        if rng.random() < (0.5 if self.theme.sweeps else 0.15) or not seen:
            changed[rng.choice(["docs", "notes"])] = self._texts(rng)
        newest: Any = max(versions.values(), default=None)
        version = self.saver.get_next_version(newest, None)
        counters: dict[str, tuple[int, int]] = {}
        updates, steps = 0, 0
        if seen:
            before = seen.metadata.get("counters_since_delta_snapshot") or {}
            updates, steps = before.get("log", (0, 0))
        values.pop("log", None)
        if said:
            versions["log"] = version
            updates += 1
        if "log" in versions and updates >= SNAPSHOT_EVERY:
            versions["log"] = changed["log"] = version
            changed["log"] = log
        elif updates:
            counters["log"] = updates, steps + 1
        values |= changed
        new = dict.fromkeys(changed, version) | ({"log": version} if said else {})
        versions |= new
        return self._checkpoint(values, versions), new, counters

    def play(self, rng: Random) -> None:
        """Run a graph."""
        name = rng.choice(self.theme.graphs)
        thread_id = f"{name}-{rng.choice(self.process.threads)}"
        run = self._new_run(rng)
        self.doing = f"run the graph {name!r} in {thread_id!r}, run {run!r}"
        play(name, self.saver, thread_id, run, rng)
        self.runs.append(run)

    # Housekeeping

    def _any_thread(self, rng: Random) -> str:
        names = self.process.threads
        if self.theme.sweeps and rng.random() < 0.8:
            return names[0]
        if self.process.threads != ENCRYPTED:
            names += COPIES
        if self.theme.graphs and rng.random() < 0.4:
            return f"{rng.choice(self.theme.graphs)}-{rng.choice(self.process.threads)}"
        return rng.choice(names)

    def prune(self, rng: Random) -> None:
        """Keep the latest checkpoints of a thread."""
        thread_id = self._any_thread(rng)
        self.doing = f"prune {thread_id!r}"
        self.saver.prune([thread_id])

    def delete_runs(self, rng: Random) -> None:
        """Roll back a run, or two."""
        found = self.runs[-LATELY:] if self.theme.races_runs else self.runs
        runs = rng.sample(found, min(len(found), rng.choice([1, 1, 2])))
        self.doing = f"delete_for_runs({runs})"
        self.saver.delete_for_runs(runs)

    def delete_thread(self, rng: Random) -> None:
        """Delete a thread."""
        thread_id = self._any_thread(rng)
        self.doing = f"delete_thread({thread_id!r})"
        self.saver.delete_thread(thread_id)

    def prune_idle(self, rng: Random) -> None:
        """Delete a thread that was not used for a moment."""
        thread_id = self._any_thread(rng)
        self.doing = f"prune {thread_id!r} if it is idle"
        self.saver.prune_idle(thread_id, rng.choice(IDLE))

    def repair(self, rng: Random) -> None:
        """Remove what is lost."""
        thread_id = self._any_thread(rng)
        self.doing = f"repair({thread_id!r})"
        self.saver.repair(thread_id)

    def copy(self, rng: Random) -> None:
        """Copy a thread."""
        names = PLAIN + COPIES if self.process.threads != ENCRYPTED else ("e", "e copy")
        source, target = rng.sample(names, 2)
        self.doing = f"copy_thread({source!r}, {target!r})"
        self.saver.copy_thread(source, target)

    def lease(self, rng: Random) -> None:
        """Converse with a thread that nobody else may write to meanwhile."""
        thread_id = rng.choice(self.process.threads)
        self.doing = f"lease {thread_id!r}"
        with self.saver.lease(thread_id):
            self.converse(rng)

    def read(self, rng: Random) -> None:
        """Look at a thread, with all that this process remembers."""
        thread_id = self._any_thread(rng)
        self.doing = f"read {thread_id!r}"
        if rng.random() < 0.5:
            self.saver.get_tuple(config(thread_id))
        else:
            rng.choice([self.saver.list_all, self.saver.verify])(thread_id)


def config(thread_id: str, namespace: str = "", checkpoint_id: str | None = None) -> RunnableConfig:
    """The config of a checkpoint, or of the latest."""
    at = {"thread_id": thread_id, "checkpoint_ns": namespace}
    if checkpoint_id:
        at["checkpoint_id"] = checkpoint_id
    return {"configurable": at}
