"""What must hold before a version is published; `make release-check` runs it.

It builds into dist/ what would be uploaded, looks at what is in it, and installs the wheel as users
do, on each supported Python of this machine: in an empty environment, with a graph that runs.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn
from zipfile import ZipFile

ROOT = Path(__file__).parents[1]
DIST = ROOT / "dist"
PACKAGE = "langgraph_checkpoint_redis"
SHIPPED = {".py", ".lua", ".typed"}

GRAPH = """
from langgraph.graph import START, MessagesState, StateGraph
from langgraph_checkpoint_redis import RedisSaver, __file__, __version__

def answer(state: MessagesState):
    return {"messages": [("ai", f"{len(state['messages'])} messages")]}

builder = StateGraph(MessagesState).add_node(answer).add_edge(START, "answer")
thread = {"configurable": {"thread_id": "a"}}
for expected in ("1 messages", "3 messages"):
    with RedisSaver.embedded("data") as saver:
        graph = builder.compile(checkpointer=saver)
        state = graph.invoke({"messages": [("user", "hi")]}, thread)
    assert state["messages"][-1].text == expected, state
print(__version__, __file__)
"""


class ReleaseError(Exception):
    """Something is not ready to be published."""


def main() -> None:
    """Check everything, and say what was checked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tag", help="the tag of the release, such as v1.2.3")
    tag = parser.parse_args().tag
    try:
        check_version(code_version(), newest_heading(), tag)
        wheel = built()
        check_contents(wheel, expected_contents())
        tried = [*try_out(wheel)]
    except ReleaseError as error:
        sys.exit(f"not to be published: {error}")
    print(f"{wheel.name} may be published. Tried on Python {', '.join(tried)}.")


def code_version() -> str:
    """The version, from the one place where it is written."""
    source = (ROOT / PACKAGE / "_version.py").read_text(encoding="utf-8")
    return str(re.findall(r'^__version__ = "(.+?)"', source, re.MULTILINE)[0])


def newest_heading() -> tuple[str, str]:
    """The version that the changelog begins with, and the date of it, or `unreleased`."""
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## (\d\S*) - (\d{4}-\d\d-\d\d|unreleased)$", changelog, re.MULTILINE)
    if not headings or f"## {' - '.join(headings[0])}" != _first_heading(changelog):
        raise ReleaseError("the changelog must begin with a heading like `## 1.2.3 - 2026-12-31`")
    version, date = headings[0]
    return version, date


def _first_heading(changelog: str) -> str:
    return next((line for line in changelog.splitlines() if line.startswith("## ")), "")


def check_version(code: str, heading: tuple[str, str], tag: str | None) -> None:
    """Refuse a version, a heading and a tag that do not agree; a tag wants a date."""
    version, date = heading
    if version != code:
        raise ReleaseError(f"the changelog begins with {version}, and the code is {code}")
    if tag is None:
        return
    if tag != f"v{code}":
        raise ReleaseError(f"the tag is {tag}, and the code is {code}: it must be v{code}")
    if date == "unreleased":
        raise ReleaseError(f"the changelog has no date for {version}")


def built() -> Path:
    """Build a source distribution and, from that, the wheel; both as the index wants them."""
    shutil.rmtree(DIST, ignore_errors=True)
    _run(sys.executable, "-m", "build", "--outdir", str(DIST), str(ROOT))
    _run(sys.executable, "-m", "twine", "check", "--strict", *map(str, DIST.iterdir()))
    (wheel,) = DIST.glob("*.whl")
    return wheel


def expected_contents() -> set[str]:
    """The files of the package: its modules, its scripts, and that it is typed."""
    files = (ROOT / PACKAGE).rglob("*")
    return {str(path.relative_to(ROOT)) for path in files if path.suffix in SHIPPED}


def check_contents(wheel: Path, expected: set[str]) -> None:
    """Refuse a wheel that lacks a file, or has one that is not the package's."""
    with ZipFile(wheel) as files:
        found = {name for name in files.namelist() if ".dist-info/" not in name}
    if found != expected:
        raise ReleaseError(
            f"{wheel.name} lacks {sorted(expected - found)} and should not have "
            f"{sorted(found - expected)}"
        )


def try_out(wheel: Path) -> Iterator[str]:
    """Run a graph with the wheel on each supported Python found; yields their versions."""
    tried = 0
    for version in supported(wheel):
        if python := found_python(version):
            with tempfile.TemporaryDirectory() as directory:
                _try_on(python, wheel, Path(directory))
            yield version
            tried += 1
        else:
            print(f"There is no Python {version} here.")
    if not tried:
        raise ReleaseError("no supported Python was found")


def supported(wheel: Path) -> list[str]:
    """The versions of Python that a wheel says it supports."""
    with ZipFile(wheel) as files:
        (name,) = (name for name in files.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = files.read(name).decode()
    return re.findall(r"\nClassifier: Programming Language :: Python :: (3\.\d+)(?=\n)", metadata)


def found_python(version: str) -> str | None:
    """A Python of a version, from the PATH or from pyenv, that really runs."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
    candidates = [f"python{version}", *map(str, pyenv.glob(f"{version}.*/bin/python"))]
    return next((python for python in candidates if _says(python) == version), None)


def _says(python: str) -> str:
    program = "import sys; print('%d.%d' % sys.version_info[:2])"
    if not shutil.which(python):
        return ""
    done = subprocess.run([python, "-c", program], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _try_on(python: str, wheel: Path, directory: Path) -> None:
    _run(python, "-m", "venv", str(directory / "venv"))
    inside = str(directory / "venv" / "bin" / "python")
    install = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    _run(inside, *install, f"{wheel}[embedded]", "langgraph")
    # -I: not this repository, which may be where we are, but what was installed.
    said = _run(inside, "-I", "-W", "error", "-c", GRAPH, cwd=directory)
    version, _, file = said.strip().partition(" ")
    if version != code_version() or not Path(file).is_relative_to(directory.resolve()):
        raise ReleaseError(f"{python} imported {version} from {file}")
    print(f"{python}: a graph ran.")


def _run(*command: str, cwd: Path = ROOT) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        _fail(command, done.stdout + done.stderr)
    return done.stdout


def _fail(command: tuple[str, ...], said: str) -> NoReturn:
    raise ReleaseError(f"{' '.join(command[:4])} failed:\n{said}")


if __name__ == "__main__":
    main()
