"""What the documentation shows works, and what it points to exists."""

from __future__ import annotations

import ast
import inspect
import os
import re
import subprocess
import sys
from asyncio import AbstractEventLoop
from collections.abc import Iterator
from pathlib import Path
from types import CodeType
from typing import Any

import pytest

from examples.local_server import running_server
from langgraph_checkpoint_redis import AsyncRedisSaver, RedisSaver

from .servers import any_binary

ROOT = Path(__file__).parents[1]
PAGES = [str(page.relative_to(ROOT)) for page in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"))]
SHOWN_URL = "redis://localhost:6379"


def text(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def python_blocks(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", text(page), re.MULTILINE | re.DOTALL)


PAGES_WITH_PYTHON = [page for page in PAGES if python_blocks(page)]


@pytest.fixture
def empty_server() -> Iterator[str]:
    """A server with nothing on it: the documentation uses the names of threads that it likes."""
    with running_server(any_binary()) as url:
        yield url


@pytest.fixture(autouse=True)
def empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the documentation runs, and leaves what it leaves."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(page: str, url: str, loop: AbstractEventLoop) -> None:
    """Run the Python of a page, block by block, all in one namespace."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for number, block in enumerate(python_blocks(page), 1):
        source = block.replace(SHOWN_URL, url)
        code = _compiled(source, f"{page}, block {number}")
        awaited = eval(code, namespace)  # noqa: S307 - our own documentation
        if code.co_flags & inspect.CO_COROUTINE:
            loop.run_until_complete(awaited)


def _compiled(source: str, name: str) -> CodeType:
    compiled: CodeType = compile(source, name, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    return compiled


@pytest.mark.parametrize("page", PAGES_WITH_PYTHON)
def test_the_python_of_a_page_runs(page: str, empty_server: str, loop: AbstractEventLoop) -> None:
    """Whoever copies it would get an error instead of a first success."""
    run(page, empty_server, loop)


def test_the_readme_goes_on_where_it_left_off(
    empty_server: str, loop: AbstractEventLoop, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first thing that the README promises would not be so."""
    said: list[str] = []
    for _ in range(2):
        run("README.md", empty_server, loop)
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


@pytest.mark.parametrize("saver_class", [RedisSaver, AsyncRedisSaver])
def test_the_readme_explains_every_option(
    saver_class: type[RedisSaver | AsyncRedisSaver],
) -> None:
    """An option that nobody reads of is of no use."""
    _, *options = inspect.signature(saver_class).parameters
    explained = re.findall(r"^\| `(\w+)` ", text("README.md"), re.MULTILINE)
    assert {*options} <= {*explained}
