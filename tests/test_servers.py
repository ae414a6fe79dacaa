"""The servers that tests can be told to run on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.local_server import available_servers

ROOT = Path(__file__).parents[1]


def collected(servers: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """What pytest says of tests on some servers, without running them."""
    here = {name: value for name, value in os.environ.items() if name != "REDIS_URL"}
    options = ("--collect-only", "-q", "tests/test_conformance.py", "--servers", servers)
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options],
        cwd=ROOT,
        env={**here, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("image", ["redis:7.4", "valkey/valkey:8", "localhost:5000/redis:8"])
def test_an_image_without_docker_is_an_error_that_says_so(image: str, tmp_path: Path) -> None:
    """Hundreds of tests would fail, or be skipped, for a reason that none of them names."""
    done = collected(image, DOCKER_HOST=f"unix://{tmp_path}/none")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert f"--servers: {image} is the image of a container, but no Docker daemon" in done.stderr


def test_a_server_that_is_not_here_is_an_error_that_names_those_that_are() -> None:
    """A typing mistake would look like a test without servers."""
    done = collected("redis-1.0")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert f"--servers: no redis-1.0 here, only {[*available_servers()]}" in done.stderr


def test_servers_are_chosen_by_name() -> None:
    """The tests would run on another server than was asked for."""
    name = next(iter(available_servers()))
    lines = [line for line in collected(name).stdout.splitlines() if "::" in line]
    assert lines
    assert not [line for line in lines if name not in line]
