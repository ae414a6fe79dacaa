"""Several processes on one server, as an application has them.

    python -m benchmarks.workers COLUMN URL TURNS

is one of them: it says "ready", waits for a line, and then prints how many turns it did.
"""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import IO

from .columns import COLUMNS, Column
from .measuring import Cell, Recorder, WrongState
from .proxy import ROOT
from .servers import Server
from .workloads import CONNECTIONS_OF_A_RUN, crowd

RUNS = 10  # at once, in each process


def many_processes(
    recorder: Recorder, running: Sequence[tuple[Column, Server]], *, processes: int, turns: int
) -> None:
    """Some conversations at once in each of so many processes."""
    for column, server in running:
        cell = Cell("processes", "turns in a second", processes, "async", column.name)
        if server.url and not column.is_floor:
            with recorder.problems_of(cell):
                recorder.add(cell, _throughput(column, server, processes, turns), "/s")


def _throughput(column: Column, server: Server, processes: int, turns: int) -> float:
    module = [sys.executable, "-W", "ignore", "-m", "benchmarks.workers"]
    command = [*module, column.name, server.url, str(turns)]
    pipe = subprocess.PIPE
    with ExitStack() as stack:
        workers = [
            stack.enter_context(
                subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, cwd=ROOT)
            )
            for _ in range(processes)
        ]
        for worker in workers:
            _said(worker)
        start = time.perf_counter()
        for worker in workers:
            _file(worker.stdin).write("\n")
            _file(worker.stdin).flush()
        done = sum(int(_said(worker)) for worker in workers)
        return done / (time.perf_counter() - start)


def _said(worker: subprocess.Popen[str]) -> str:
    line = _file(worker.stdout).readline()
    if not line:
        raise WrongState(_file(worker.stderr).read().strip().splitlines()[-1])
    return line


def _file(pipe: IO[str] | None) -> IO[str]:
    assert pipe  # noqa: S101 - all pipes were asked for
    return pipe


async def _work(name: str, url: str, turns: int) -> None:
    column = next(column for column in COLUMNS if column.name == name)
    connections = CONNECTIONS_OF_A_RUN * RUNS
    async with column.opened(url, True, connections) as saver:  # noqa: FBT003 - awaited
        await crowd(saver, runs=RUNS, turns=1)
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        await crowd(saver, runs=RUNS, turns=turns)
        print(RUNS * turns, flush=True)


if __name__ == "__main__":
    logging.disable()
    asyncio.run(_work(sys.argv[1], sys.argv[2], int(sys.argv[3])))
