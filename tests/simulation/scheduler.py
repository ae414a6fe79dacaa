"""One run: the moves of a seed, one after the other, on a server that is empty at the beginning."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any, TypeGuard

from redis.exceptions import ConnectionError as RedisConnectionError

from langgraph_checkpoint_redis._protocol.requests import Call, Request
from langgraph_checkpoint_redis._scripts.load import PUT_CHUNKS
from langgraph_checkpoint_redis._storage.keys import thread_id_of as thread_of

from .clients import Client, Process, Theme, drawn_process
from .faults import FAULTS, expire, expire_all_marks
from .machines import drawn_tokens
from .moves import FATES, PICKS, Move
from .operations import DeleteRuns, Operation, Prune, Put, PutWrites, Repair
from .oracle import Failure, Oracle, Saved
from .reading import Reader, check_index, check_left_over
from .savers import Gate, GivenUp
from .server import Dump, Server
from .thresholds import drawn_ways
from .workers import Killed

PROCESSES = ("plain", "plain", "encrypted", "plain")
WRITERS = ("put", "put_last", "put_writes")
REMOVALS = (Prune, DeleteRuns, Repair)
READ_BACK = 0.4  # of the calls that are acknowledged
PATIENCE = 3000  # requests until all clients must have ended


@dataclass
class Result:
    """What became of a run; of its moves, so many were `made` when it failed or ended."""

    seed: int
    moves: list[Move]
    failure: Failure | None = None
    trace: list[str] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    ways: Counter[str] = field(default_factory=Counter)  # that chunks have taken
    made: int = 0
    requests: int = 0
    checks: int = 0


class Late:
    """A request that is still on its way, sent by a client that has asked again since."""

    def __init__(self, request: Request, call: Operation | None, sender: str) -> None:
        self.request, self.call, self.sender = request, call, sender


class Simulation:
    """The state of a run."""

    def __init__(self, server: Server, seed: int, kinds: Collection[str]) -> None:
        self.server, self.seed, self.kinds = server, seed, kinds
        self.oracle = Oracle()
        self.gate = Gate(server, self.oracle)
        rng = Random(f"clients {seed}")
        self.theme = Theme.drawn(rng, kinds)
        encryption = rng.choice(["same", "random"])
        self.processes = [
            drawn_process(
                rng,
                f"process {number}",
                self.gate,
                self.theme,
                kind if kind == "plain" else encryption,
            )
            for number, kind in enumerate(PROCESSES[: 3 if self.theme.sweeps else 4])
        ]
        runs: list[str] = []
        self.clients = [
            Client(number, self.processes[number % len(self.processes)], self.theme, runs)
            for number in range(PICKS)
        ]
        self.late: list[Late] = []
        self.snapshots: list[tuple[Dump, Saved]] = []
        self.result = Result(seed, [])

    # Moves

    def make(self, move: Move) -> None:
        """Make a move."""
        rng = Random(move.seed)
        self.server.now += rng.randint(1, 40)
        if move.kind == "step" or move.kind in FATES:
            self._step(move, rng)
        elif move.kind == "check":
            self._check(rng)
        elif move.kind == "arrive":
            self._arrive(move.pick)
        else:
            self._note(move.kind, FAULTS[move.kind](self, rng))

    def _note(self, kind: str, text: str) -> None:
        if text:
            self.result.faults[kind] += 1
            self.result.trace.append(f"! {text}")

    def _step(self, move: Move, rng: Random) -> None:
        client = self._drawn_client(move, rng)
        if client.worker.is_idle:
            with self._running(client, move.seed):
                client.begin(rng)
            return
        request, call = client.worker.request, self.gate.calls.get(client.worker)
        name = f"client {client.number} ({client.doing})"
        fate = move.kind if request is not None or move.kind == "abandon" else "step"
        if fate in FATES:
            self.result.faults[fate] += 1
        self.result.trace.append(f"{name}: {told(request)} - {fate}")
        outcome = self._outcome(fate, request, call, rng, name)
        with self._running(client, move.seed):
            client.worker.go_on(outcome)
        if fate == "abandon" and isinstance(call, REMOVALS) and rng.random() < 0.7:
            self._note("expire_marks", self._some_time_later())
        if fate == "abandon" and rng.random() < 0.4:
            self.result.trace.append(f"  {client.process.machine.name} is restarted")
            self._kill(client.process)
        self._check_acknowledged(rng)

    def _drawn_client(self, move: Move, rng: Random) -> Client:
        """The client that a move names; but removals are worth to be left half done."""
        if move.kind == "abandon" and rng.random() < 0.9:
            for client in self.clients:
                call = self.gate.calls.get(client.worker)
                if isinstance(call, REMOVALS) and call.last_ran_at:
                    return client
        return self.clients[move.pick % len(self.clients)]

    def _check_acknowledged(self, rng: Random) -> None:
        """Read some of what was just acknowledged."""
        calls, self.gate.acknowledged = self.gate.acknowledged, []
        for call in calls:
            if isinstance(call, Put | PutWrites) and rng.random() < READ_BACK:
                row = call.thread.rows.get(call.row.place if isinstance(call, Put) else call.place)
                if row:
                    self.result.checks += 1
                    Reader(self.gate, call.thread_id).check_row(row)

    def _some_time_later(self) -> str:
        """A removal was left half done, and some time later nothing tells of it any more."""
        return expire_all_marks(self) if "expire_marks" in self.kinds else ""

    def _kill(self, process: Process) -> None:
        for client in self.clients:
            if client.process is process:
                if not client.worker.is_idle:
                    with self._running(client, 0):
                        client.worker.go_on(Killed())
                client.forget()
        process.start()

    def _outcome(
        self, fate: str, request: Request | None, call: Operation | None, rng: Random, name: str
    ) -> Any:
        """What a client gets for a request, which may be executed, or not."""
        if fate == "delay" and request is not None:
            self.late.append(Late(request, call, name))
        executed = {"step": 1, "lost_reply": 1, "repeat": 2, "lost_request": 0, "delay": 0}
        times = executed.get(fate, rng.randint(0, 1))
        if not times and fate != "delay" and is_transaction(request):
            self.result.ways["cut off"] += 1
            self.server.receive_a_part(request, rng.random())
        replies = [self._execute(request, call) for _ in range(times)] if request else [None]
        if fate in {"lost_request", "lost_reply", "delay"}:
            return RedisConnectionError(f"simulated: {fate}")
        ends = {"abandon": Killed(), "give_up": GivenUp()}
        return ends.get(fate) or replies[0]

    def _execute(self, request: Request, call: Operation | None) -> Any:
        if call:
            call.ran()
        if is_transaction(request):
            self.result.ways["in a transaction"] += 1
        elif request.name == PUT_CHUNKS.name:
            self.result.ways["ahead in a part"] += 1
        if isinstance(request, Call) and request.name in WRITERS:
            thread = self.oracle.thread(thread_of(request.keys[0].decode()))
            thread.written_at = self.oracle.tick()
        try:
            return self.server.reply(request)
        except Exception as error:  # noqa: BLE001 - the client gets it
            return error

    def _arrive(self, pick: int) -> None:
        if self.late:
            late = self.late.pop(pick % len(self.late))
            self.result.trace.append(f"late, of {late.sender}: {told(late.request)}")
            self._execute(late.request, late.call)

    @contextmanager
    def _running(self, client: Client, seed: int) -> Iterator[None]:
        """Let a client run, until it waits or ends."""
        self.gate.running = client.worker
        with client.process.machine.running(self.server.now, seed):
            try:
                yield
            finally:
                self.gate.running = None
        error = client.worker.error
        if isinstance(error, Failure):
            raise error
        if error is not None:
            raise Failure("crash", f"client {client.number}, {client.doing}: {error!r}") from error

    def _check(self, rng: Random) -> None:
        if threads := sorted(self.oracle.threads):
            self.check(rng.choice(threads))

    def check(self, thread_id: str) -> None:
        """Compare a thread with what must be there."""
        self.result.checks += 1
        Reader(self.gate, thread_id).check()

    # The end

    def end(self) -> None:
        """Let all clients finish, and look at everything."""
        rng = Random(f"end {self.seed}")
        self.result.trace.append("! the end: all clients finish")
        for _ in range(PATIENCE):
            busy = [client for client in self.clients if not client.worker.is_idle]
            if not busy:
                break
            client = rng.choice(busy)
            self.make(Move("step", client.number, rng.getrandbits(48)))
        else:
            raise Failure("endless", f"{[client.doing for client in busy]} do not end")
        while self.late and rng.random() < 0.7:
            self._arrive(rng.randrange(1000))
        self.server.now += 1_000_000  # leases end, and marks expire
        expire(self)
        for thread_id in sorted(self.oracle.threads):
            self.check(thread_id)
            check_left_over(self.gate, thread_id)
        check_index(self.gate, self.oracle)
        for thread_id in sorted(self.oracle.threads):
            if not self.oracle.thread(thread_id).is_damaged:
                Reader(self.gate, thread_id).check_sweep()
                self.check(thread_id)

    def stop(self) -> None:
        """End what a failure has left."""
        for client in self.clients:
            if not client.worker.is_idle:
                self.gate.running = client.worker
                client.worker.go_on(Killed())
        self.gate.running = None


def is_transaction(request: Request | None) -> TypeGuard[Call[Any]]:
    """Return whether a request is sent as a transaction, with its chunks ahead of the script."""
    return isinstance(request, Call) and request.first_chunk is not None


def told(request: Request | None) -> str:
    """A request in a few words."""
    if request is None:
        return "(serializing)"
    if isinstance(request, Call):
        words = (
            [str(arg)[:24] for arg in request.args[1:3]] if "thread" in request.script.name else []
        )
        words += ["in a transaction"] if is_transaction(request) else []
        return " ".join([request.script.name, request.keys[0].decode().rsplit(":", 1)[0], *words])
    return ", ".join(f"{command[0]!s} {_text(command[1])}" for command in request.each[:3])


def _text(argument: object) -> str:
    return argument.decode() if isinstance(argument, bytes) else str(argument)


def run(server: Server, seed: int, moves: Sequence[Move], kinds: Collection[str]) -> Result:
    """Make moves, and say what became of it."""
    server.reset()
    with drawn_tokens(seed), drawn_ways(seed):
        simulation = Simulation(server, seed, kinds)
        result = simulation.result
        result.moves = [*moves]
        try:
            for move in moves:
                simulation.make(move)
                result.made += 1
            simulation.end()
        except Failure as failure:
            result.failure = failure
            result.trace.append(f"FAILURE {failure}")
        finally:
            simulation.stop()
        result.outcomes.update(simulation.gate.outcomes)
        result.refusals.update(simulation.gate.refusals)
        result.requests = server.requests
    return result
