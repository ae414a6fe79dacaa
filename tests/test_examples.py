"""The examples run as a newcomer runs them, and show what they promise."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from tests.local_server import running_server

from .servers import any_binary

ROOT = Path(__file__).parents[1]
NOT_PROGRAMS = {"__init__", "local_model", "storage"}
PROGRAMS = sorted({path.stem for path in ROOT.glob("examples/*.py")} - NOT_PROGRAMS)

# What each one prints, in this order.
PROMISES = {
    "chat": [
        "Without a checkpointer",
        "Hi Bob!",
        "I don't know who you are",
        "With RedisSaver, process",
        "Hi Bob!",
        "Your name is Bob!",
        "takes up the thread bob-",
        "Your name is Bob!",
        "The thread stranger-",
        "I don't know who you are",
    ],
    "async_chat": ["introduce themselves at once", "And all ask at once"],
    "interrupt": [
        "asks: May I buy a piano for 4000 euros?",
        "is told 'yes'. Bought a piano.",
        "asks: May I buy a piano for 4000 euros?",
        "is told 'no'. Bought nothing.",
    ],
    "time_travel": [
        "human: hi! I'm bob",
        "Your name is Bob!",
        "Its checkpoints, the newest first",
        "human: hi! I'm alice",
        "Your name is Alice!",
        "The first branch, still there",
        "Your name is Bob!",
    ],
}


@pytest.fixture
def url() -> Iterator[str]:
    """A server of the example's own: it is to be empty afterwards."""
    with running_server(any_binary()) as url:
        yield url


def run(program: str, **environment: str) -> str:
    """What an example says, in which every warning is an error."""
    done = subprocess.run(
        [sys.executable, "-W", "error", f"examples/{program}.py"],
        cwd=ROOT,
        env=local(**environment),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def local(**environment: str) -> dict[str, str]:
    """The environment, but for what leads to other servers and models."""
    hidden = ("REDIS_URL", "ANTHROPIC_API_KEY")
    here = {name: value for name, value in os.environ.items() if name not in hidden}
    return {**here, "PYTHONWARNINGS": "error", **environment}


@pytest.mark.parametrize("program", PROGRAMS)
def test_an_example_shows_what_it_promises_and_cleans_up(program: str, url: str) -> None:
    """The first thing that a newcomer sees would be an error, or not what it says it is."""
    said = run(program, REDIS_URL=url)
    assert re.search(".*".join(map(re.escape, PROMISES[program])), said, re.DOTALL), said
    CLOSER_LOOKS.get(program, str)(said)
    with redis.Redis.from_url(url) as client:
        assert client.keys() == []


def look_at_async_chat(said: str) -> None:
    """Everybody is greeted, and remembered, by their own name, in whatever order."""
    lines = re.findall(r"^  (\w+): (?:Hi|Your name is) (\w+)!", said, re.MULTILINE)
    people = ("Ada", "Bob", "Chen", "Dara", "Emil")
    assert sorted(lines) == sorted([(name, name) for name in people] * 2)


def look_at_processes(said: str) -> None:
    """What another process is said to remember is really known to another one."""
    assert len({*re.findall(r"[Pp]rocess (\d+)", said)}) > 1


CLOSER_LOOKS: dict[str, Callable[[str], object]] = {
    "async_chat": look_at_async_chat,
    "chat": look_at_processes,
    "interrupt": look_at_processes,
}


def test_an_example_without_a_server_brings_one_and_takes_it_away(tmp_path: Path) -> None:
    """A demo would fail for want of a server, or leave one running."""
    assert "Your name is Bob!" in run("time_travel", TMPDIR=str(tmp_path))
    assert [*tmp_path.iterdir()] == []  # the directory of a server goes when the server is gone
