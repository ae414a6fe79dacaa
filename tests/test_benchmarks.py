"""The benchmark runs: all workloads at their smallest, with what needs no other package."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import report, run

COLUMNS = ("core", "memory", "floor", "bare")


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the smallest run leaves."""
    directory = tmp_path_factory.mktemp("results")
    arguments = ["--scale", "smallest", "--results", str(directory), "--name", "test", "--columns"]
    assert run.main([*arguments, *COLUMNS]) == 0
    found: dict[str, Any] = json.loads(directory.joinpath("test.json").read_text(encoding="utf-8"))
    return found


def is_difference(operation: str) -> bool:
    """Whether it is a small difference of large counts: for so few turns, mere noise."""
    return operation == "stored" or operation.startswith("CPU") or operation.endswith("server")


def test_each_workload_of_the_benchmark_measures_our_saver(result: dict[str, Any]) -> None:
    """The benchmark would rot unseen, and the next release would go out unmeasured."""
    cells = [cell for cell in result["cells"] if cell["column"] == "core"]
    assert {cell["workload"] for cell in cells} == set(run.WORKLOADS)
    assert {cell["mode"] for cell in cells} == {"sync", "async"}
    assert all(cell["median"] > 0 for cell in cells if not is_difference(cell["operation"]))


def test_the_benchmark_says_where_it_ran_and_with_what(result: dict[str, Any]) -> None:
    """Numbers could not be compared with those of another day."""
    assert list(result["columns"]) == list(COLUMNS)
    assert all(result[fact] for fact in ("commit", "date", "machine", "python", "packages"))


def test_the_tables_of_the_benchmark_have_all_columns(result: dict[str, Any]) -> None:
    """A column could vanish from the documentation without a word."""
    tables = report.tables(result)
    for name in COLUMNS:
        assert tables.count(f"\n| {name} |") > 1
    assert "1.00x" in tables
    assert "What went wrong" not in tables


def test_the_tables_go_between_the_marks(result: dict[str, Any], tmp_path: Path) -> None:
    """A new result would be added to the old one, or eat the text around it."""
    page = tmp_path / "page.md"
    page.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n", encoding="utf-8")
    for _ in range(2):
        report.write_tables(result, page)
    text = page.read_text(encoding="utf-8")
    assert text.startswith("before\n")
    assert text.endswith(f"{report.END}\nafter\n")
    assert text.count("## Single operations") == 1
    assert "old" not in text
