"""The command line, `langgraph-redis`: one file for each kind of command, and what they share.

Nothing of the savers imports this package; its own libraries come with the extra `cli`.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec

_MISSING = """\
langgraph-redis needs two more libraries, typer and rich:
    pip install "langgraph-checkpoint-redis-core[cli]"
"""


def main() -> None:
    """Run the command that `sys.argv` names, and end the process with its exit code."""
    if not (find_spec("typer") and find_spec("rich")):
        sys.stderr.write(_MISSING)
        raise SystemExit(2)
    from ._app import run  # noqa: PLC0415 - it imports what was just found

    run()
