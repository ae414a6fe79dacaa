"""How the tests are laid out: which modules import which, and which files are named elsewhere."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CODE = sorted(
    path for name in ("tests", "benchmarks", "tools") for path in (ROOT / name).rglob("*.py")
)
TEST_MODULE = re.compile(r"(?:tests)?\.+test_\w+")
# Programs that tests run in other processes import by their text.
IN_TEXT = re.compile(r"\btests\.test_\w+|\bfrom tests import .*\btest_\w+")


def imported_test_modules(source: str) -> list[str]:
    """Return the test modules that a module of `tests` imports, by itself or in a program."""
    return [name for node in ast.walk(ast.parse(source)) for name in _test_modules_at(node)]


def _test_modules_at(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Import(names=names):
            yield from (name.name for name in names if TEST_MODULE.match(name.name))
        case ast.ImportFrom(module=module, names=names, level=level):
            start = "." * level + (module or "")
            if TEST_MODULE.match(start):
                yield start
            elif start.strip(".") in {"", "tests"}:
                yield from (name.name for name in names if name.name.startswith("test_"))
        case ast.Constant(value=str(text)):
            yield from IN_TEXT.findall(text)
        case _:
            pass


def test_no_module_imports_a_test_module() -> None:
    """A change of one file's tests would break another's; shared helpers have their own modules."""
    found = [
        (str(path.relative_to(ROOT)), module)
        for path in CODE
        for module in imported_test_modules(path.read_text(encoding="utf-8"))
    ]
    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        "from .OTHER import put",
        "from . import driving, OTHER",
        "from ..OTHER import put",
        "from .. import OTHER",
        "from tests.OTHER import put",
        "from tests import OTHER",
        "import tests.OTHER as other",
        "def test() -> None:\n    from .OTHER import put",
        "PROGRAM = 'from tests.OTHER import put; put()'",
        "PROGRAM = '''\nfrom tests import driving, OTHER\n'''",
        "run('-m', 'tests.OTHER')",
        "run(f'import tests.OTHER; print({name})')",
    ],
)
def test_an_import_of_a_test_module_is_found_however_it_is_written(source: str) -> None:
    """The rule above would hold because it sees nothing."""
    assert imported_test_modules(source.replace("OTHER", "driving")) == []
    assert len(imported_test_modules(source.replace("OTHER", "test_other"))) == 1


def test_test_files_that_are_named_exist() -> None:
    """`make` would run fewer tests, or a page would name a proof that is not there."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    lists = re.findall(r"addprefix tests/test_,(.*)\)", makefile)
    named = [f"tests/test_{name}" for line in lists for name in line.split()]
    pages = [ROOT / "Makefile", *ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
    for page in pages:
        named += re.findall(r"tests/test_\w+\.py", page.read_text(encoding="utf-8"))
    assert len(named) > 20
    assert [name for name in named if not [*ROOT.glob(name)]] == []
