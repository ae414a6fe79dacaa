"""Runs scenarios: starts servers and workers, does what can be done to them, and looks then."""

from __future__ import annotations

import random
import shutil
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

from langgraph_checkpoint_redis import RedisSaver

from .checking import check_all
from .report import Result
from .scenarios import Scenario
from .workers import work

# Forked from a process that has imported all: one that was killed is there again at once.
PROCESSES = get_context("forkserver")
PROCESSES.set_forkserver_preload(["tests.faults.workers"])
SECONDS_BETWEEN_FAULTS = (0.3, 1.5)
SECONDS_TO_START, SECONDS_TO_END = 90, 60


class Workers:
    """The worker processes of a scenario, each started again when it was killed."""

    def __init__(self, kinds: list[str], scenario: Scenario) -> None:
        self._scenario = scenario
        self._kinds = {
            f"{kind.replace('-', '')}{number}": kind for number, kind in enumerate(kinds)
        }
        self._processes = {name: self._started(name) for name in self._kinds}

    def _started(self, name: str) -> BaseProcess:
        scenario = self._scenario
        words = (self._kinds[name], name, scenario.url, scenario.directory, scenario.options)
        process = PROCESSES.Process(target=work, args=words)
        process.start()
        return process

    def wait(self) -> None:
        """Wait until each has done something."""
        deadline = time.monotonic() + SECONDS_TO_START
        while not all(map(self._has_begun, self._kinds)):
            assert time.monotonic() < deadline, "the workers do not begin"
            self.check()
            time.sleep(0.1)

    def _has_begun(self, name: str) -> bool:
        return any(path.stat().st_size for path in self._scenario.directory.glob(f"{name}.*"))

    def kill_worker(self) -> None:
        """Kill a worker, and start it again."""
        name = self._scenario.chance.choice([*self._processes])
        self._processes[name].kill()
        self._processes[name].join()
        self._processes[name] = self._started(name)

    def check(self) -> None:
        """Raise an error if a worker has ended by itself; it has said why."""
        failed = [name for name, process in self._processes.items() if process.exitcode]
        assert not failed, f"workers have failed: {failed}"

    def end(self) -> None:
        """Let all come to an end."""
        (self._scenario.directory / "stop").touch()
        for name, process in self._processes.items():
            process.join(SECONDS_TO_END)
            assert process.exitcode is not None, f"worker {name} does not end"
        self.check()

    def kill(self) -> None:
        for process in self._processes.values():
            process.kill()
            process.join()


def run(kind: type[Scenario], kinds: list[str], *, seconds: float, seed: int) -> Result:
    """Use the servers of a scenario for so long, do it all, and look what is there afterwards."""
    chance = random.Random(seed)
    with ExitStack() as stack:
        directory = Path(tempfile.mkdtemp(prefix="faults-"))
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        scenario = kind(stack, directory, chance)
        workers = Workers(kinds, scenario)
        stack.callback(workers.kill)
        workers.wait()
        faults = _strike(scenario, workers, time.monotonic() + seconds)
        scenario.heal()
        time.sleep(1)  # calls that were struck last are repeated meanwhile
        workers.end()
        if struck := scenario.proxied_faults():
            faults["strike a request or a reply"] = struck
        saver = stack.enter_context(RedisSaver.from_conn_string(scenario.plain_url))
        findings = check_all(directory, saver, may_lose=scenario.seconds_lost > 0)
    return Result(scenario, seconds, faults, findings)


def _strike(scenario: Scenario, workers: Workers, end: float) -> Counter[str]:
    """Do one thing after the other to the servers and the workers, until the end."""
    faults = scenario.faults() | {workers.kill_worker: 1}
    struck = Counter[str]()
    while time.monotonic() < end:
        (fault,) = scenario.chance.choices([*faults], [*faults.values()])
        fault()
        struck[fault.__name__.replace("_", " ")] += 1
        workers.check()
        scenario.wait(SECONDS_BETWEEN_FAULTS)
    return struck
