"""What users install: the wheel, what is in it, and that it works alone."""

from __future__ import annotations

import re
import subprocess
import sys
import venv
from email.message import Message
from email.parser import HeaderParser
from importlib.util import find_spec
from pathlib import Path
from zipfile import ZipFile

import pytest

import langgraph_checkpoint_redis
from tests.local_server import running_server

from .servers import any_binary

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "langgraph_checkpoint_redis"
RUNTIME = {"hiredis", "langgraph-checkpoint", "msgpack", "redis"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, newly built."""
    directory = tmp_path_factory.mktemp("wheel")
    isolation = ["--no-isolation"] if find_spec("hatchling") else []
    run("-m", "build", "--wheel", *isolation, "--outdir", str(directory), str(ROOT))
    (wheel,) = directory.iterdir()
    return wheel


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    """What the wheel says of itself."""
    with ZipFile(wheel) as files:
        (name,) = (name for name in files.namelist() if name.endswith(".dist-info/METADATA"))
        return HeaderParser().parsestr(files.read(name).decode())


def run(*arguments: str, python: str = sys.executable) -> str:
    """What a Python program says."""
    command = (python, *arguments)
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path.home())
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_wheel_has_the_package_and_nothing_else(wheel: Path) -> None:
    """Scripts or types would be missing, or tests would land in users' environments."""
    sources = [path for path in PACKAGE.rglob("*") if path.suffix in {".py", ".lua", ".typed"}]
    expected = {str(path.relative_to(ROOT)) for path in sources}
    names = set(ZipFile(wheel).namelist())
    assert {name for name in names if ".dist-info/" not in name} == expected
    assert any(name.endswith("/licenses/LICENSE") for name in names)
    assert any(name.endswith(".lua") for name in expected)


def test_a_wheel_needs_four_packages(metadata: Message) -> None:
    """Programs would carry along libraries that they have no use for."""
    required = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert {re.split(r"[^\w-]", line)[0] for line in required} == RUNTIME


def test_a_wheel_says_what_it_is(metadata: Message) -> None:
    """The package index would show an empty page, or another version than the code has."""
    assert metadata["Name"] == "langgraph-checkpoint-redis-core"
    assert metadata["Version"] == langgraph_checkpoint_redis.__version__
    assert f"# {metadata['Name']}" in str(metadata.get_payload())


def test_links_of_the_index_lead_to_the_repository(metadata: Message) -> None:
    """Every link of the page that most users see first would be dead."""
    assert metadata["Description-Content-Type"] == "text/markdown"
    targets = re.findall(r"\]\((.*?)\)", str(metadata.get_payload()))
    assert not [target for target in targets if not target.startswith(("https://", "#"))]
    urls = dict(url.split(", ") for url in metadata.get_all("Project-URL", []))
    assert {*urls} == {"Homepage", "Documentation", "Source", "Changelog", "Issues"}
    shown = [url.split("/blob/main/")[1] for url in targets if url.startswith(urls["Homepage"])]
    assert "docs/costs.md" in shown
    assert not [path for path in shown if not (ROOT / path.split("#")[0]).exists()]


ALONE = """
import sys
from langgraph.checkpoint.base import empty_checkpoint
from langgraph_checkpoint_redis import RedisSaver

config = {"configurable": {"thread_id": "a", "checkpoint_ns": ""}}
with RedisSaver.from_conn_string(sys.argv[1]) as saver:
    checkpoint = empty_checkpoint()
    saver.put(config, checkpoint, {"source": "input"}, {})
    assert saver.get(config) == checkpoint
    saver.prune(["a"])
    saver.delete_thread("a")
print(sys.modules["langgraph_checkpoint_redis"].__file__)
"""


@pytest.mark.slow
def test_a_wheel_works_alone(wheel: Path, tmp_path: Path) -> None:
    """An installation without our tests' libraries would not import, or lack its scripts."""
    venv.create(tmp_path, symlinks=True)
    python = str(tmp_path / "bin" / "python")
    run("-m", "pip", "--python", python, "install", "--quiet", str(wheel))
    with running_server(any_binary()) as url:
        said = run("-W", "error", "-c", ALONE, url, python=python)
    assert Path(said.strip()).is_relative_to(tmp_path)


def test_an_import_loads_little_beside_what_is_needed_anyway() -> None:
    """Every start of a program, a serverless one say, would be slower."""
    needed = "import redis.asyncio, langgraph.checkpoint.base"
    extra = imported(f"{needed}, langgraph_checkpoint_redis") - imported(needed)
    others = {name for name in extra if not name.startswith("langgraph_checkpoint_redis")}
    assert len(extra - others) >= len([*PACKAGE.glob("*.py")]) - 1  # server.py is for few
    assert len(others) <= 20
    assert not [name for name in others if name.startswith(("langgraph", "langchain"))]


def imported(statement: str) -> set[str]:
    """The modules that a statement loads."""
    command = (sys.executable, "-X", "importtime", "-c", statement)
    said = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stderr
    return {*re.findall(r"^import time: +\d+ \| +\d+ \| +([\w.]+)$", said, re.MULTILINE)}


def test_a_library_of_langgraph_that_is_too_old_is_named() -> None:
    """The first error would be that some name cannot be imported, and say nothing to anybody."""
    program = """if True:
        import langgraph.checkpoint.base as base
        del base.writes_sort_key  # as before 4.3
        import langgraph_checkpoint_redis
        """
    command = (sys.executable, "-c", program)
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    last = done.stderr.strip().splitlines()[-1]
    assert "MissingLibraryError" in last
    assert "needs langgraph-checkpoint 4.3 or newer" in last
    assert "pip install -U" in last
