"""Runs the scenarios, prints what they show, and fails if something was lost that may not be."""

from __future__ import annotations

import argparse
import signal
import sys

from .driver import run
from .report import table
from .scenarios import SCENARIOS

WORKERS = ["plain", "async", "graph", "async-graph", "reader"]


def main() -> None:
    """Read the command line, and run."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--minutes", type=float, default=13.0, help="for all scenarios together")
    parser.add_argument("--seed", type=int, default=1, help="of what is done, and when")
    parser.add_argument("--only", help="a part of the names of the scenarios to run")
    said = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))  # so that all that runs is ended
    chosen = [scenario for scenario in SCENARIOS if (said.only or "") in scenario.name]
    whole = sum(SCENARIOS[scenario] for scenario in chosen)
    results = []
    for scenario in chosen:
        share = SCENARIOS[scenario]
        seconds = said.minutes * 60 * share / whole
        print(f"{scenario.name}: {seconds:.0f} seconds ...", file=sys.stderr, flush=True)
        results.append(run(scenario, WORKERS, seconds=seconds, seed=said.seed))
        print(results[-1].row(), file=sys.stderr, flush=True)
    print(table(results))
    unexcused = [what for result in results for what in result.unexcused]
    print(*unexcused[:50], sep="\n")
    sys.exit(bool(unexcused))


if __name__ == "__main__":
    main()
