"""Runs seeds, prints what they did, and shrinks those that fail."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

from tests.local_server import available_servers

from .moves import EVENTS, FATES, HABITS, Move, kinds_of
from .report import story, summary
from .scheduler import Result
from .simulating import Simulator, simulator

STEPS = 300
LARGEST_SEED = 10**9


def main() -> None:
    """Read the command line, and run."""
    said = _arguments()
    kinds = kinds_of(said.faults, said.without)
    seed = int(time.time()) % LARGEST_SEED if said.seed is None else said.seed
    mixes = said.faults == "mixed"
    of_each = "a few of " if mixes else ""
    print(f"seed {seed}, {said.steps} steps, {of_each}{len(kinds)} kinds of faults", flush=True)
    began, results = time.monotonic(), list[Result]()
    binary = available_servers()[said.server]
    with simulator(binary, kinds, said.steps, mixes=mixes) as simulating:
        if said.only:
            some = [simulating.moves(seed)[int(number)] for number in said.only.split(",")]
            results.append(simulating.run(seed, some))
            _show(said, simulating, results[-1])
        else:
            for result in simulating.runs(seed, said.seconds):
                results.append(result)
                if result.failure:
                    print(f"seed {result.seed} fails: {result.failure}"[:400], flush=True)
                if result.failure and len(_failed(results)) <= said.show:
                    _show(said, simulating, result)
                if result.failure and said.until_failure:
                    break
    print(summary(results, time.monotonic() - began))
    sys.exit(bool(_failed(results)))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    kinds = "; ".join(f"{name}: {', '.join(these)}" for name, these in _GROUPS.items())
    parser.add_argument("--seed", type=int, help="the first seed; without it, one of the time")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"moves of each run ({STEPS})")
    parser.add_argument(
        "--seconds", type=float, default=0, help="go on with the next seeds so long"
    )
    named = "mixed: a few, others for each seed; all; none; or some with commas"
    parser.add_argument("--faults", default="mixed", help=f"{named}. {kinds}")
    parser.add_argument("--without", nargs="*", default=(), help="kinds to leave out")
    parser.add_argument("--server", default=next(iter(available_servers())))
    parser.add_argument("--shrink", type=float, default=60, help="seconds to shrink a failure for")
    parser.add_argument("--show", type=int, default=3, help="how many failures to shrink and show")
    parser.add_argument("--until-failure", action="store_true", help="end with the first failure")
    parser.add_argument("--only", help="numbers of the moves to make, as a failure names them")
    return parser.parse_args()


_GROUPS = {"requests": FATES, "between them": EVENTS, "habits of clients": HABITS}


def _show(said: argparse.Namespace, simulating: Simulator, result: Result) -> None:
    if result.failure and said.shrink:
        result = simulating.shrink(result, seconds=said.shrink)
    if result.failure:
        numbers = _numbers(simulating.moves(result.seed), result.moves)
        print(story(result, _command(said, result.seed, numbers)), flush=True)


def _numbers(moves: Sequence[Move], some: Sequence[Move]) -> str:
    wanted = {*some}
    return ",".join(str(number) for number, move in enumerate(moves) if move in wanted)


def _command(said: argparse.Namespace, seed: int, numbers: str) -> str:
    without = f" --without {' '.join(said.without)}" if said.without else ""
    options = f"--seed {seed} --steps {said.steps} --faults {said.faults}{without}"
    return f"python -m tests.simulation {options} --only {numbers}"


def _failed(results: Sequence[Result]) -> list[Result]:
    return [result for result in results if result.failure]


if __name__ == "__main__":
    main()
