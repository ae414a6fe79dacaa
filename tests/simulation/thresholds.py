"""Thresholds so low that threads of a dozen rows take the paths of those with thousands.

What belongs here: changing constants of modules and of scripts, for as long as a run lasts. Each
one that is named here must be there exactly once, or the simulator would no longer do what it says.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from hashlib import sha1
from random import Random
from types import ModuleType
from typing import Any
from unittest.mock import patch

from langgraph_checkpoint_redis._core import new_chunks, reading, state
from langgraph_checkpoint_redis._protocol.requests import Script
from langgraph_checkpoint_redis._scripts import load, transactions
from langgraph_checkpoint_redis._storage import chunking, tree
from langgraph_checkpoint_redis._transport import retry

# Constants of Lua, by the file in `_scripts/` or `_scripts/lib/` that defines them.
OF_SCRIPTS: Mapping[str, Mapping[str, int]] = {
    "lib/walk": {"STEPS": 5},
    "lib/slices": {"SLICE": 4},
    "lib/sweep": {"FREED": 2000, "SCANNED": 2},
    "lib/trim": {"QUICK": 40},
    "namespaces": {"NAMESPACES": 1},
    "lib/reply": {"BUDGET": 700, "MANY": 6, "LARGE": 300, "MANY_NODES": 2},
    "scan": {"ROWS": 4, "NAMES": 4, "BATCH": 4},
    "list": {"FEW": 2},
    "copy": {"MEMBERS": 30},
    "dump": {"BYTES": 400, "MEMBERS": 3},
}
# Constants of modules.
OF_MODULES: Mapping[ModuleType, Mapping[str, Any]] = {
    reading: {"PAGE": 3, "ANCESTORS": 2, "FETCHED": 5, "MUCH": 2000},
    new_chunks: {"PART": 3, "PART_NODES": 2, "PART_BYTES": 500},
    chunking: {
        "LITERAL": 12,
        "PIECE": 40,
        "DEEP": 300,
        "RUN": 80,
        "INNER_RUN": 400,
        "RUN_RATE": 8,
    },
    tree: {"SENT": 20},
    state: {"KNOWN_BYTES": 60_000},
    # A client whose connection breaks asks again at once, and never gives up by itself.
    retry: {"FIRST_PAUSE": 0.0, "LONGEST_PAUSE": 0.0, "SECONDS_TO_RECOVER": 1e9},
}
# A seed draws how many bytes of new chunks go in a transaction, and how many chunks in parts.
NEVER = 10**9
IN_A_TRANSACTION = (NEVER, 300, 1)  # bytes
IN_PARTS = (NEVER, 4, 4)  # chunks


@contextmanager
def drawn_ways(seed: int) -> Iterator[None]:
    """Send chunks in a transaction, ahead in parts, or by the script, as a seed draws."""
    rng = Random(f"ways {seed}")
    with (
        patch.object(transactions, "LARGE", rng.choice(IN_A_TRANSACTION)),
        patch.object(new_chunks, "MANY", rng.choice(IN_PARTS)),
    ):
        yield


@contextmanager
def low_thresholds(preamble: str) -> Iterator[None]:
    """Lower all thresholds, and let scripts begin with `preamble`."""
    with ExitStack() as stack:
        for module, constants in OF_MODULES.items():
            for name, value in constants.items():
                stack.enter_context(patch.object(module, name, value))  # fails for unknown names
        for script in _all_scripts():
            source = preamble + load.assemble(script.name, _read_lowered)
            sha = sha1(source.encode(), usedforsecurity=False).hexdigest()
            assert script.sha != sha  # it is computed by now, and so can be replaced
            stack.enter_context(patch.dict(vars(script), {"source": source, "sha": sha}))
        yield


def _all_scripts() -> list[Script]:
    return [found for found in vars(load).values() if isinstance(found, Script)]


def _read_lowered(path: str) -> str:
    """Read a Lua file with lower thresholds."""
    text = load.read_file(path)
    for name, value in OF_SCRIPTS.get(path, {}).items():
        text = _lowered(text, name, value)
    return text


def _lowered(text: str, name: str, value: int) -> str:
    """Lua with another value for a constant, which must be defined exactly once."""
    # `local NAME = 1 * 2` and `local A, NAME = 1, 2`, with a comment behind it or not
    definition = re.compile(
        rf"^(local )([\w, ]*\b{name}\b[\w, ]*) = ([^\n-]+?)( *--.*)?$", re.MULTILINE
    )
    found = definition.findall(text)
    assert len(found) == 1, f"{name} is defined {len(found)} times, not once"
    _, names, values, _ = found[0]
    new = dict(zip(names.split(", "), values.split(", "), strict=True)) | {name: str(value)}
    return definition.sub(rf"\g<1>\g<2> = {', '.join(new.values())}\g<4>", text)
