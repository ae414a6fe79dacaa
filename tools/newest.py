"""Test with the newest version of one package, and name the version that broke something.

`make test-newest PACKAGE=langgraph` runs it in an environment of its own, the workflow `newest`
each night for each package. All other packages stay as in `tools/newest.txt`, the versions that
passed last. A package brings along newer versions of what it depends on only where it needs them.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

KNOWN = Path(__file__).with_suffix(".txt")
PIP = (sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
SHOWN = 20  # failed tests

Versions = Mapping[str, str]


def main() -> None:
    """Install, test, and say what changed and what failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("package")
    parser.add_argument("--pre", action="store_true", help="also what is no release yet")
    own, of_pytest = split(sys.argv[1:])
    asked = parser.parse_args(own)
    subprocess.run([*PIP, "-r", KNOWN], check=True)
    before = installed()
    pre = ["--pre"] if asked.pre else []
    subprocess.run([*PIP, "--upgrade", *pre, asked.package], check=True)
    changes = changed(before, installed())
    if not changes:
        tell(f"{asked.package} {before[asked.package]} is the newest: nothing to test")
        return
    command = [sys.executable, "-m", "pytest", "-rfE", *of_pytest]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        failed = failures(passed_on(process.stdout or ()))
    tell(verdict(changes, failed, process.returncode))
    sys.exit(process.returncode)


def split(words: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """Return our arguments, and those of pytest, which are behind `--`."""
    end = words.index("--") if "--" in words else len(words)
    return words[:end], words[end + 1 :]


def installed() -> Versions:
    """Return the version of each package, by its normalized name."""
    command = (sys.executable, "-c", _LIST)
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    first_last = reversed([line.split() for line in listed.splitlines()])  # the first one counts
    return {normalized(name): version for name, version in first_last}


# In a process of its own, as Python remembers what was installed.
_LIST = """
from importlib.metadata import distributions
for found in distributions():
    print(found.name, found.version)
"""


def normalized(name: str) -> str:
    """Return the name of a package as the index compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def changed(before: Versions, after: Versions) -> list[str]:
    """Return what has another version, in words."""
    return [
        f"{name} {before.get(name, '(none)')} -> {version}"
        for name, version in sorted(after.items())
        if before.get(name) != version
    ]


def passed_on(lines: Iterable[str]) -> list[str]:
    """Print lines as they come, and return them."""
    found = []
    for line in lines:
        sys.stdout.write(line)
        found.append(line.rstrip())
    return found


def failures(lines: Sequence[str]) -> list[str]:
    """Return the tests that failed, of pytest's summary."""
    return [line for line in lines if line.startswith(("FAILED ", "ERROR "))]


def verdict(changes: Sequence[str], failed: Sequence[str], code: int) -> str:
    """Return what a maintainer wants to know, as Markdown."""
    what = f"**{'passed' if code == 0 else 'broken'}** with {', '.join(changes)}"
    if code == 0:
        return f"{what}: put the new versions into tools/{KNOWN.name}"
    shown = "\n".join(failed[:SHOWN]) or "no test failed: pytest itself did, see its output"
    more = f"\nand {len(failed) - SHOWN} more" if len(failed) > SHOWN else ""
    return f"{what}\n\n```text\n{shown}{more}\n```"


def tell(text: str) -> None:
    """Print a text, also on the page of the workflow's run."""
    sys.stdout.write(f"{text}\n")
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(summary).open("a") as file:
            file.write(f"{text}\n")


if __name__ == "__main__":
    main()
