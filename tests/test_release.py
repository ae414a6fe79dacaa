"""What is published is complete, and is what its tag, its changelog and its workflows say."""

from __future__ import annotations

import re
from pathlib import Path
from zipfile import ZipFile

import pytest

from tools import newest, release_check
from tools.release_check import ReleaseError, check_contents, check_version

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted(ROOT.glob(".github/workflows/*.yml"))
TARGETS = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
DATED = ("1.2.3", "2026-12-31")


def test_the_changelog_begins_with_the_version_of_the_code() -> None:
    """Users would look in vain for what a version has brought."""
    check_version(release_check.code_version(), release_check.newest_heading(), None)


def test_a_release_needs_one_version_and_a_date() -> None:
    """A version would be published under the name of another, and could never be taken back."""
    check_version("1.2.3", DATED, "v1.2.3")
    for tag in ("v1.2.4", "1.2.3", "v1.2.3.post1", ""):
        with pytest.raises(ReleaseError, match=r"it must be v1\.2\.3"):
            check_version("1.2.3", DATED, tag)
    with pytest.raises(ReleaseError, match="no date"):
        check_version("1.2.3", ("1.2.3", "unreleased"), "v1.2.3")
    with pytest.raises(ReleaseError, match="begins with"):
        check_version("1.2.4", DATED, None)


@pytest.mark.parametrize("heading", ["## Unreleased\n\n## 1.0.0 - 2026-01-01", "## 1.0.0", ""])
def test_a_changelog_without_a_version_at_its_top_is_refused(
    heading: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lines of a release would stand under no version."""
    (tmp_path / "CHANGELOG.md").write_text(f"# Changelog\n\n{heading}\n")
    monkeypatch.setattr(release_check, "ROOT", tmp_path)
    with pytest.raises(ReleaseError, match="must begin with a heading"):
        release_check.newest_heading()


def test_a_wheel_must_be_complete_and_clean(tmp_path: Path) -> None:
    """Every script call of every user would fail, or tests would be installed with the package."""
    expected = release_check.expected_contents()
    for name in ("py.typed", "_scripts/put.lua", "_scripts/lib/rows.lua", "saver.py"):
        assert f"{release_check.PACKAGE}/{name}" in expected
    check_contents(_wheel(tmp_path, expected), expected)
    with pytest.raises(
        ReleaseError, match=r"lacks \['langgraph_checkpoint_redis/_scripts/put\.lua'\]"
    ):
        check_contents(
            _wheel(tmp_path, expected - {"langgraph_checkpoint_redis/_scripts/put.lua"}), expected
        )
    with pytest.raises(ReleaseError, match=r"should not have \['tests/test_x\.py'\]"):
        check_contents(_wheel(tmp_path, expected | {"tests/test_x.py"}), expected)


def _wheel(directory: Path, names: set[str]) -> Path:
    path = directory / "some.whl"
    with ZipFile(path, "w") as wheel:
        for name in (*names, "some.dist-info/METADATA"):
            wheel.writestr(name, "")
    return path


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_call_targets_that_there_are(workflow: Path) -> None:
    """A workflow that runs once a year, to publish, would fail then."""
    commands = re.findall(r"\bmake ((?:[a-z-]+ ?)+)", workflow.read_text())
    called = {target for command in commands for target in command.split()}
    assert called
    assert called <= {*TARGETS}


def test_all_supported_versions_of_python_are_tested() -> None:
    """A version of Python that nobody tries would be promised."""
    promised = re.findall(r"Python :: (3\.\d+)", (ROOT / "pyproject.toml").read_text())
    for name in ("test", "publish"):
        workflow = (ROOT / ".github" / "workflows" / f"{name}.yml").read_text()
        assert {*re.findall(r"\b3\.\d+\b", workflow)} == {*promised}


def test_the_version_that_broke_something_is_named() -> None:
    """A maintainer would have to try which of a dozen new versions it was."""
    before = newest.installed()
    after = {**before, "redis": "99.0", "new-one": "1.0"}
    changes = newest.changed(before, after)
    assert changes == ["new-one (none) -> 1.0", f"redis {before['redis']} -> 99.0"]
    said = newest.failures(["..F", "FAILED tests/test_a.py::test_b - Error", "1 failed"])
    found = newest.verdict(changes, said, 1)
    assert found.startswith("**broken** with new-one (none) -> 1.0, redis ")
    assert "FAILED tests/test_a.py::test_b" in found
    assert "passed" in newest.verdict(changes, [], 0)
    pinned = re.findall(r"^([\w-]+)==", newest.KNOWN.read_text(), re.MULTILINE)
    (workflow,) = (path.read_text() for path in WORKFLOWS if path.name == "newest.yml")
    assert {*pinned} == {*re.findall(r'"([\w-]+)"', re.findall(r"package: (.*)", workflow)[0])}
