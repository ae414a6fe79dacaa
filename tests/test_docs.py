"""What the documentation shows works, and what it points to exists."""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
from asyncio import AbstractEventLoop
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from langgraph_checkpoint_redis import AsyncRedisSaver, RedisSaver, errors
from tests.local_server import running_server
from tools import notebook

from .pages import FILE, PAGES, ROOT, python_blocks, run_page, shown_outputs, text
from .servers import any_binary

PAGES_WITH_PYTHON = [page for page in PAGES if python_blocks(page)]


@pytest.fixture
def empty_server() -> Iterator[str]:
    """A server with nothing on it: the documentation uses the names of threads that it likes."""
    with running_server(any_binary(), "--save", "3600 1") as url:  # or `setup` would warn
        yield url


@pytest.fixture(autouse=True)
def empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the documentation runs, and leaves what it leaves."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    modules = {*sys.modules}
    yield tmp_path
    for name in {*sys.modules} - modules:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.mark.parametrize("page", PAGES_WITH_PYTHON)
def test_the_python_of_a_page_runs(
    page: str, empty_server: str, loop: AbstractEventLoop, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever copies it would get an error instead of a first success, or not what is shown."""
    run_page(page, empty_server, loop)
    printed = capsys.readouterr().out
    for output in shown_outputs(page):
        assert output in printed


def test_the_notebook_is_the_tutorial() -> None:
    """Who reads the one would learn something else than who reads the other."""
    stored, made = json.loads(text(notebook.NOTEBOOK)), notebook.notebook()
    assert sources(stored["cells"]) == sources(made["cells"]), "make notebook"


def test_the_notebook_prints_what_it_shows(empty_directory: Path) -> None:
    """Whoever runs it would see something else than was promised, or an error."""
    cells = [cell for cell in json.loads(text(notebook.NOTEBOOK))["cells"] if "outputs" in cell]
    program, shown = [], []
    for source, cell in zip(sources(cells), cells, strict=True):
        if file := FILE.match(source):
            Path(file[1]).write_text(source.removeprefix(file[0]))
        else:
            program.append(source)
            shown += [line for output in cell["outputs"] for line in output["text"]]
    Path("cells.py").write_text("\n".join(program))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = (sys.executable, "cells.py")
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("".join(shown), "")


def sources(cells: list[dict[str, Any]]) -> list[str]:
    return ["".join(cell["source"]) for cell in cells]


def test_the_readme_goes_on_where_it_left_off(
    empty_server: str, loop: AbstractEventLoop, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first thing that the README promises would not be so."""
    said: list[str] = []
    for _ in range(2):
        run_page("README.md", empty_server, loop)
        said.append(capsys.readouterr().out)
    first, second = (f"Messages in this thread: {number}\n" for number in (1, 3))
    assert said == [first * 2, second * 2]


def test_the_tests_that_are_shown_pass(empty_directory: Path) -> None:
    """Whoever begins with them would begin with a failure."""
    tests = empty_directory / "test_shown.py"
    tests.write_text("\n".join(python_blocks("docs/testing.md")))
    command = (sys.executable, "-m", "pytest", "-W", "error", "-p", "no:asyncio", str(tests))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert " 2 passed" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    """A reader would end on a page that says `not found`."""
    links = re.findall(r"\]\((?!https?:)([^)#]*)(#[^)]*)?\)", text(page))
    for path, anchor in links:
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), path
        assert not anchor or anchor[1:] in headings(target), anchor


def headings(page: Path) -> list[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    found = re.findall(r"^#+ (.*)", page.read_text(encoding="utf-8"), re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found]


@pytest.mark.parametrize("page", PAGES)
def test_commands_of_the_makefile_exist(page: str) -> None:
    """The first command that a newcomer tries would be refused."""
    targets = re.findall(r"^([a-z-]+):", text("Makefile"), re.MULTILINE)
    assert {*re.findall(r"\bmake ([a-z-]+)", code(page))} <= {*targets}


def code(page: str) -> str:
    """The shell commands and inline code of a page."""
    shell = re.findall(r"^```(?:bash|sh|console)\n(.*?)^```", text(page), re.MULTILINE | re.DOTALL)
    return "\n".join([*shell, *re.findall(r"`make [^`]*`", text(page))])


def test_every_page_is_on_the_site() -> None:
    """Nobody would find it there."""
    named = re.findall(r"\b[\w-]+\.md$", text("mkdocs.yml").partition("\nnav:")[2], re.MULTILINE)
    assert {Path(page).name for page in PAGES if page.startswith("docs/")} <= {*named}


def test_every_error_is_explained() -> None:
    """Whoever gets it would have to guess what to do."""
    explained = re.findall(r"^\| `(\w+)`", text("docs/errors.md"), re.MULTILINE)
    raised = {name for name in vars(errors) if name.endswith(("Error", "Warning"))}
    assert raised - {"RedisSaverError"} <= {*explained}


@pytest.mark.parametrize("saver_class", [RedisSaver, AsyncRedisSaver])
def test_the_readme_explains_every_option(
    saver_class: type[RedisSaver | AsyncRedisSaver],
) -> None:
    """An option that nobody reads of is of no use."""
    _, *options = inspect.signature(saver_class).parameters
    explained = re.findall(r"^\| `(\w+)` ", text("README.md"), re.MULTILINE)
    assert {*options} <= {*explained}
