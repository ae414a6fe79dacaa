"""Takes fixes out again, one at a time, and looks for the seed that finds each.

A simulator that finds nothing may look at nothing. `make simulate-mutations` copies the package,
takes a fix out of the copy, and simulates it until a seed fails. It tells what no seed finds.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "langgraph_checkpoint_redis"
SECONDS = 180  # to look for a seed
FAILS = re.compile(r"^seed (\d+) fails: (\w+)", re.MULTILINE)


class Mutation(NamedTuple):
    """What is taken out: a text of a file becomes another; and the faults that show it."""

    name: str
    path: str
    old: str
    new: str
    faults: str = "mixed"


MUTATIONS = (
    Mutation(
        "a refusal counts as stored",
        "_core/writing.py",
        "        if not sending.refused(reply.digests, reply.channels):\n"
        "            raise _lost_value_error(context, ref, reply.channels)\n",
        "        return _Result(calls.Stored([], [], 0, []), values, sending.learning())\n",
    ),
    Mutation(
        "a sweep notes nothing when it begins to free",
        "_scripts/lib/sweep.lua",
        "    redis.call('HSET', CHUNKS, 'swept', '1')\n",
        "",
        "abandon,expire_marks,lost_request",
    ),
    Mutation(
        "a cursor counts in any process",
        "_scripts/lib/sweep.lua",
        "string.match(position, '^' .. run .. ' (%d+)$')",
        "string.match(position, ' (%d+)$')",
        "restart,failover",
    ),
    Mutation(
        "marks that are gone do not begin a pass again",
        "_scripts/lib/remove.lua",
        "  local is_next = redis.call('SISMEMBER', LIVE, pass_name(token, pass, calls)) == 1\n",
        "  local is_next = true\n",
        "expire_marks,evict_key",
    ),
    Mutation(
        "a put needs no ancestors",
        "_scripts/lib/parents.lua",
        "  if not head[DELTA] or head[PARENT] == '' or head[ENDS] then\n",
        "  if true then\n",
        "cut_deltas",
    ),
    Mutation(
        "a history may end early",
        "_core/reading.py",
        "        if gone_id and (is_short or",
        "        if False and (is_short or",
        "cut_deltas,evict_fields,rollback",
    ),
    Mutation(
        "a run in the middle may be deleted",
        "_scripts/delete_runs.lua",
        "  if parent_row and is_victim(parent_row) then\n",
        "  if false then\n",
        "cut_deltas,race_runs",
    ),
    Mutation(
        "a trim does not keep what delta channels need",
        "_scripts/lib/trim_plan.lua",
        "        least = least and not is_before(last, least) and least or last\n",
        "",
        "cut_deltas",
    ),
    Mutation(
        "a put that is repeated may trim its own checkpoint",
        "_scripts/lib/trim_plan.lua",
        "    if #removed < most and not (own and row == own.old_row) then\n",
        "    if #removed < most then\n",
        "clock,lost_reply,repeat",
    ),
    Mutation(
        "what was read does not set the clock forward",
        "_core/clock.py",
        "    if seen is None or seen <= last:\n",
        "    if True:\n",
        "clock",
    ),
    Mutation(
        "a lost key is not noticed",
        "_scripts/lib/whole.lua",
        "      if fields[i] and not exists(keys[name]) then\n",
        "      if false then\n",
        "evict_key",
    ),
    Mutation(
        "two lost keys are not noticed",
        "_scripts/lib/whole.lua",
        "      lost[1] = 'chunks'\n",
        "",
        "evict_key",
    ),
    Mutation(
        "lost chunks are not noted",
        "_scripts/lib/whole.lua",
        "  note(exists(CHUNKS) and 'swept' or 'lost')\n",
        "",
        "evict_key",
    ),
    Mutation(
        "a transaction takes back what it has stored",
        "_scripts/lib/chunks.lua",
        "    redis.call('HDEL', CHUNKS, 'ahead')\n",
        "",
        "lost_reply",
    ),
    Mutation(
        "a refused transaction leaves its chunks",
        "_scripts/settle.lua",
        "    redis.call('HDEL', CHUNKS, name)\n",
        "",
        "race_runs,abandon",
    ),
    Mutation(
        "parts that came ahead stay without a row",
        "_scripts/put_chunks.lua",
        "  redis.call('PEXPIRE', CHUNKS, ARGV[2])\n",
        "",
        "abandon,give_up",
    ),
    Mutation(
        "a run needs no new entry",
        "_scripts/lib/run_counts.lua",
        "  return nil, count <= 0\n",
        "  return nil, false\n",
        "race_runs,lost_request,abandon,delay",
    ),
)


def mutated(mutation: Mutation, source: str) -> str:
    """The source of a file with the fix taken out; what is not there, or twice, is an error."""
    if source.count(mutation.old) != 1:
        raise ValueError(f"{mutation.path} no longer has once what {mutation.name!r} takes out")
    return source.replace(mutation.old, mutation.new)


def _result(mutation: Mutation, seconds: float) -> str:
    """Which seed finds a mutation, and how; a seed that fails without it as well finds nothing."""
    with TemporaryDirectory() as folder:
        copy = Path(folder) / PACKAGE.name
        shutil.copytree(PACKAGE, copy)
        changed = copy / mutation.path
        changed.write_text(mutated(mutation, changed.read_text("utf-8")), "utf-8")
        found = _first_failure(Path(folder), mutation.faults, 1, seconds)
    if not found:
        return "NOT FOUND"
    seed, kind = found
    if _first_failure(ROOT, mutation.faults, seed, 0):
        return f"seed {seed} fails without it"
    return f"seed {seed} finds it: {kind}"


def _first_failure(folder: Path, faults: str, seed: int, seconds: float) -> tuple[int, str] | None:
    """The first seed that fails with the package in a folder, and how; None if none does."""
    command = [sys.executable, "-m", "tests.simulation", "--until-failure", "--shrink", "0"]
    command += ["--seed", str(seed), "--seconds", str(seconds), "--faults", faults]
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}
    done = subprocess.run(  # in the folder, as Python looks there first
        command, cwd=folder, env=env, capture_output=True, text=True, check=False
    )
    if found := FAILS.search(done.stdout):
        return int(found[1]), found[2]
    if "failures  none" not in done.stdout:
        raise RuntimeError(done.stderr[-2000:] or done.stdout[-2000:])
    return None


def main() -> None:
    """Look for the seed of each mutation; exits with 1 if one is not found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for each of them")
    parser.add_argument("--only", default="", help="those with this in their name")
    said = parser.parse_args()
    missed = 0
    for mutation in MUTATIONS:
        if said.only in mutation.name:
            began = time.monotonic()
            result = _result(mutation, said.seconds)
            took = time.monotonic() - began
            print(f"{mutation.name:50} {result:35} {took:4.0f} s  {mutation.faults}", flush=True)
            missed += "finds it" not in result
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()
