"""The benchmark: our saver beside what else there is, on this machine, in one run.

    make bench                                  everything
    make bench-quick                            less of it, in some minutes
    python -m benchmarks.run --columns core memory floor --workloads operations

It starts all servers itself, and leaves `results/NAME.json` and what `report.py` makes of it. Read
on in `columns.py` (who takes part), `workloads.py` (what is done) and `measuring.py` (how).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import platform
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from . import agent, report, workloads
from .columns import COLUMNS, Column, Session
from .measuring import Bench, Recorder
from .proxy import ROOT, delayed
from .servers import Server, Unavailable
from .workers import many_processes

RESULTS = Path(__file__).parent / "results"
WORKLOADS = tuple(report.TITLES)
FOR_ALL = 50  # turns of the coding agent that all savers take part in
Running = list[tuple[Column, Server]]


@dataclass(frozen=True)
class Scale:
    """How much of everything."""

    sizes: tuple[int, ...]  # messages in a conversation
    rounds: int
    steps: int  # checkpoints in a round
    cpu: int  # samples of each operation
    turns: int
    counted: int  # turns that are measured in bytes and CPU
    agent: tuple[int, ...]  # turns of the coding agent
    interrupts: int
    megabytes: tuple[int, ...]
    large: int  # samples of large values
    delay_sizes: tuple[int, ...]
    delay_rounds: int
    crowds: tuple[int, ...]
    repeats: int
    processes: tuple[int, ...]

    def turns_of(self, runs: int) -> int:
        """Fewer turns for more runs, so that all take about as long."""
        return max(2, self.turns // (2 * runs))


SCALES = {
    "full": Scale(
        sizes=(0, 20, 200, 1000),
        rounds=5,
        steps=11,
        cpu=100,
        turns=100,
        counted=20,
        agent=(50, 200),
        interrupts=20,
        megabytes=(1, 10),
        large=5,
        delay_sizes=(0, 20, 200),
        delay_rounds=3,
        crowds=(1, 10, 50, 200, 1000),
        repeats=2,
        processes=(1, 2, 4, 8),
    ),
    "quick": Scale(
        sizes=(0, 20, 200),
        rounds=1,
        steps=11,
        cpu=20,
        turns=30,
        counted=5,
        agent=(20,),
        interrupts=5,
        megabytes=(10,),
        large=1,
        delay_sizes=(20,),
        delay_rounds=1,
        crowds=(1, 50),
        repeats=2,
        processes=(2,),
    ),
    "smallest": Scale(
        sizes=(0, 3),
        rounds=1,
        steps=2,
        cpu=2,
        turns=2,
        counted=1,
        agent=(1,),
        interrupts=1,
        megabytes=(1,),
        large=1,
        delay_sizes=(3,),
        delay_rounds=1,
        crowds=(2,),
        repeats=1,
        processes=(1,),
    ),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write, and fail if one of our columns did."""
    options = _options(arguments)
    recorder = Recorder()
    columns = [column for column in COLUMNS if column.name in options.columns]
    started = time.time()
    with _running(recorder, columns) as running:
        result = _about(running, options.scale)
        asyncio.run(_measure(recorder, running, SCALES[options.scale], options.workloads))
    result |= {"seconds": round(time.time() - started), "notes": recorder.notes}
    result["cells"] = recorder.rows()
    file: Path = options.results / f"{options.name}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(report.tables(result))
    if options.docs:
        report.publish(result, options.docs)
    ours = {column.name for column in columns if column.is_ours}
    failed = [cell for cell in recorder.problems if cell.column in ours]
    for cell in failed:
        print(f"{cell}: {recorder.problems[cell]}", file=sys.stderr)
    return 1 if failed else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    names = [column.name for column in COLUMNS]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scale", choices=SCALES, default="full")
    parser.add_argument("--columns", nargs="+", choices=names, default=names, metavar="COLUMN")
    parser.add_argument("--workloads", nargs="+", choices=WORKLOADS, default=WORKLOADS)
    parser.add_argument("--name", default="latest", help="of the file in the directory of results")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the JSON goes")
    parser.add_argument("--docs", type=Path, help="where benchmarks.md is, to write it anew")
    return parser.parse_args(arguments)


def _allow_many_connections() -> None:
    """As many open files as the system lets a process have: a peer may want thousands."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@contextmanager
def _running(recorder: Recorder, columns: Sequence[Column]) -> Iterator[Running]:
    """The columns that can take part, each with a server of its own."""
    with ExitStack() as stack:
        running: Running = []
        for column in columns:
            with _left_out(recorder, column):
                server = stack.enter_context(column.server())
                asyncio.run(_probe(column, server))
                running.append((column, server))
        yield running


@contextmanager
def _left_out(recorder: Recorder, column: Column) -> Iterator[None]:
    """Go on without a column that lacks something here."""
    try:
        yield
    except (Unavailable, ImportError, RuntimeError) as error:
        why = str(error).strip().splitlines()[-1]
        recorder.note(f"`{column.name}` is left out: {why}.")


async def _probe(column: Column, server: Server) -> None:
    async with column.opened(server.url, False, None):  # noqa: FBT003 - not awaited
        pass


@asynccontextmanager
async def _sessions(running: Running, *, awaited: bool) -> AsyncIterator[list[Session]]:
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(
                Session.opened(column, server, awaited=awaited, url=server.url)
            )
            for column, server in running
        ]


async def _measure(
    recorder: Recorder, running: Running, scale: Scale, chosen: Sequence[str]
) -> None:
    for awaited in (False, True):
        async with _sessions(running, awaited=awaited) as sessions:
            await _in_sessions(recorder, sessions, scale, chosen)
            if not awaited:
                await _agents(recorder, sessions, scale, chosen)
        if "delay" in chosen:
            await _delayed(recorder, running, scale, awaited=awaited)
    for repeat in range(scale.repeats):
        first = repeat * len(running) // scale.repeats
        order = running[first:] + running[:first]  # none is always the first
        if "crowd" in chosen:
            for runs in scale.crowds:
                _tell("crowd", runs)
                await workloads.crowds(recorder, order, runs=runs, turns=scale.turns_of(runs))
        if "processes" in chosen:
            for processes in scale.processes:
                _tell("processes", processes)
                turns = scale.turns_of(10)
                many_processes(recorder, order, processes=processes, turns=turns)


def _plan(scale: Scale) -> dict[str, tuple[tuple[int, ...], Callable[[Bench], Awaitable[None]]]]:
    """The workloads for savers that are open side by side: each with its sizes."""
    return {
        "operations": (
            scale.sizes,
            lambda bench: workloads.operations(bench, rounds=scale.rounds, steps=scale.steps),
        ),
        "cpu": (scale.sizes, lambda bench: workloads.cpu(bench, samples=scale.cpu)),
        "chat": (
            (scale.turns,),
            lambda bench: workloads.chats(bench, turns=scale.turns, counted=scale.counted),
        ),
        "interrupt": (
            scale.sizes[1:3],
            lambda bench: workloads.interrupts(bench, samples=scale.interrupts),
        ),
        "delta": ((scale.turns,), lambda bench: workloads.deltas(bench, turns=scale.turns)),
        "large": (
            scale.megabytes,
            lambda bench: workloads.large_values(bench, samples=scale.large),
        ),
    }


async def _in_sessions(
    recorder: Recorder, sessions: list[Session], scale: Scale, chosen: Sequence[str]
) -> None:
    for workload, (sizes, measure) in _plan(scale).items():
        for size in sizes if workload in chosen else ():
            _tell(workload, size, sessions[0].mode)
            await measure(Bench(recorder, sessions, workload, size))


async def _agents(
    recorder: Recorder, sessions: list[Session], scale: Scale, chosen: Sequence[str]
) -> None:
    """The coding agent: long conversations for ours alone, as others keep gigabytes of them."""
    for workload in agent.STATES:
        for turns in scale.agent if workload in chosen else ():
            some = [each for each in sessions if each.column.is_ours or turns <= FOR_ALL]
            _tell(workload, turns)
            await agent.agents(Bench(recorder, some, workload, turns))


async def _delayed(recorder: Recorder, running: Running, scale: Scale, *, awaited: bool) -> None:
    """The operations and a short chat, with a millisecond on the way to the server and back."""
    async with AsyncExitStack() as stack:
        sessions = []
        for column, server in running:
            if server.address:
                port = stack.enter_context(delayed(server.address, 0.0005))
                opening = Session.opened(
                    column, server, awaited=awaited, url=server.url_through(port)
                )
                sessions.append(await stack.enter_async_context(opening))
        for size in scale.delay_sizes:
            _tell("delay", size, "async" if awaited else "sync")
            here = Bench(recorder, sessions, "delay", size)
            await workloads.operations(here, rounds=scale.delay_rounds, steps=scale.steps)


def _tell(*what: object) -> None:
    print(time.strftime("%H:%M:%S"), *what, file=sys.stderr, flush=True)


def _about(running: Running, scale: str) -> dict[str, Any]:
    """Where, with what and when."""
    packages = {column.package for column, _ in running} | {"langgraph", "redis", "hiredis"}
    return {
        "date": time.strftime("%Y-%m-%d"),
        "commit": _output("git", "-C", str(ROOT), "describe", "--always", "--dirty"),
        "scale": scale,
        "machine": {
            "cpu": _cpu(),
            "cores": os.cpu_count(),
            "system": platform.platform(),
        },
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in sorted(packages)},
        "columns": {
            column.name: {
                "about": column.about,
                "package": column.package,
                "server": server.version,
                "is_ours": column.is_ours,
                "is_floor": column.is_floor,
            }
            for column, server in running
        },
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _output(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, check=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # What peers warn of is not asked here,
    logging.disable()  # and what they raise is in the result.
    _allow_many_connections()
    sys.exit(main())
