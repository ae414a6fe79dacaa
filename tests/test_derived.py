"""The synchronous half is what the tool makes of the asynchronous half."""

from __future__ import annotations

import ast
import inspect
import re
import shutil
from pathlib import Path

import pytest

from langgraph_checkpoint_redis import AsyncRedisSaver, RedisSaver
from tools import derive_sync

PACKAGE = derive_sync.PACKAGE
HALF = [PACKAGE / "saver.py", *PACKAGE.glob("*/_sync/[!_]*.py")]
TWINS = [PACKAGE / one.path for one in (derive_sync.ASYNC_NAMES, derive_sync.SYNC_NAMES)]
DERIVED = [*HALF, *TWINS]


def names(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(PACKAGE)) for path in paths]


def test_derived_files_are_what_their_sources_make() -> None:
    """A change, or a mended fault, would be in one of the two savers only."""
    assert [*derive_sync.outdated()] == [], "make derive"


@pytest.mark.parametrize("path", DERIVED, ids=names(DERIVED))
def test_a_derived_file_begins_with_its_sources(path: Path) -> None:
    """Whoever mends a fault there would lose the change without a word."""
    first, second = path.read_text(encoding="utf-8").splitlines()[:2]
    found = re.fullmatch(r"# Derived from (.*) by tools/derive_sync\.py\.", first)
    assert found
    assert all((PACKAGE / name).exists() for name in found[1].split(" and "))
    assert second == "# Change the source and run `make derive`."


@pytest.mark.parametrize("path", HALF, ids=names(HALF))
def test_nothing_of_the_other_half_is_left(path: Path) -> None:
    """Docstrings would name methods that a saver does not have, or code wait for nobody."""
    text = path.read_text(encoding="utf-8")
    waiting = ast.AsyncFunctionDef | ast.Await | ast.AsyncFor | ast.AsyncWith
    assert not [node for node in ast.walk(ast.parse(text)) if isinstance(node, waiting)]
    assert {*re.findall(r"\bAsync\w+", text)} <= {"AsyncNames"}
    assert not re.search(rf"\ba({'|'.join(derive_sync.METHODS)})\b", text)
    assert not re.search(r"asyncio|awaited|`await|\ban `with", text)


def test_every_rule_of_the_tool_is_used() -> None:
    """A sentence that was reworded would read wrong in the synchronous half."""
    sources = [PACKAGE / "aio.py", *PACKAGE.glob("*/_async/*.py")]
    text = " ".join("\n".join(path.read_text(encoding="utf-8") for path in sources).split())
    rules = [*derive_sync.PHRASES, *derive_sync.NAMES, *map("".join, derive_sync.SEQUENCES)]
    spaced = text.replace(" = ", "=").replace("import asyncio", "importasyncio")
    assert [rule for rule in rules if rule not in text and rule not in spaced] == []


def public(kind: type) -> dict[str, str]:
    """The signatures of the methods of a saver; both halves call the types alike."""
    return {
        name: str(inspect.signature(function)).replace("Async", "")
        for name, function in inspect.getmembers(kind, callable)
        if not name.startswith("_") and name not in {"from_conn_string", "embedded"}
    }


def test_both_savers_have_the_methods_of_both_halves_with_the_same_arguments() -> None:
    """A graph that runs with one saver would fail with the other."""
    sync, asynchronous = public(RedisSaver), public(AsyncRedisSaver)
    own = {"set_ttl", "pin", "unpin", "lease"}
    assert sync.keys() - own == asynchronous.keys() - {"asetup", "aclose"} - {f"a{n}" for n in own}
    for name in derive_sync.METHODS:
        assert sync[name] == asynchronous[f"a{name}"]
    for name in sync.keys() & asynchronous.keys():
        assert sync[name] == asynchronous[name]


EXAMPLES = {
    "async def f(self) -> None:\n    await self.g()\n": "def f(self) -> None:\n    self.g()\n",
    "async with a as b, c:\n    pass\n": "with a as b, c:\n    pass\n",
    "x = [y async for y in z]\n": "x = [y for y in z]\n",
    "f: Callable[[A], Awaitable[B[C]]]\n": "f: Callable[[A], B[C]]\n",
    "f: Coroutine[Any, Any, dict[str, T]] | None\n": "f: dict[str, T] | None\n",
    "await asyncio.to_thread(self.f)\n": "self.f()\n",
    "x = await asyncio.to_thread(f, (1, 2), b=c)\n": "x = f((1, 2), b=c)\n",
    "return await shielded(self.run(a, b))\n": "return self.run(a, b)\n",
    "return [await self._finished(self.f(a))]\n": "return [self.f(a)]\n",
    "await asyncio.sleep(pause.of(error))\n": "time.sleep(pause.of(error))\n",
    "await self.aget_tuple(saver.avalue)\n": "self.get_tuple(saver.avalue)\n",
    '"""Raise what `aput` does in an `async with` block."""\n': (
        '"""Raise what `put` does in a `with` block."""\n'
    ),
    "x = f'{self.aput}: async with {b}'  # as `aput`\n": (
        "x = f'{self.put}: with {b}'  # as `put`\n"
    ),
    "awaiting = asyncs = loops_of(tasks_of)\n": "awaiting = asyncs = loops_of(tasks_of)\n",
}


@pytest.mark.parametrize("source", EXAMPLES)
def test_waiting_is_taken_out(source: str) -> None:
    """The synchronous saver would not even import, or do something else than the other."""
    assert derive_sync.derive(source) == EXAMPLES[source]


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the package that a test may change."""
    package = tmp_path / PACKAGE.name
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(derive_sync.ROOT / "pyproject.toml", tmp_path)
    monkeypatch.setattr(derive_sync, "ROOT", tmp_path)
    monkeypatch.setattr(derive_sync, "PACKAGE", package)
    return package


def test_a_derived_file_that_was_changed_is_found_and_derived_again(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`make lint` would pass, and the next `make derive` take the change back."""
    before = (copied / "saver.py").read_text()
    (copied / "saver.py").write_text(before.replace("def put(", "def putt("))
    (copied / "_core/_sync/lease.py").unlink()
    (copied / "_core/_sync/other.py").write_text("")
    assert derive_sync.main(["--check"]) == 1
    said = capsys.readouterr().out
    assert all(name in said for name in ("saver.py", "_sync/lease.py", "_sync/other.py"))
    assert derive_sync.main([]) == 0
    assert (copied / "saver.py").read_text() == before
    assert [path.name for path in sorted((copied / "_core/_sync").glob("[!_]*.py"))] == [
        "driver.py",
        "lease.py",
    ]
