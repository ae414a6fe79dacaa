"""A server that a saver brings along is there again after kills, failures and removed files."""

from __future__ import annotations

import os
import random
import signal
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
import redis

from langgraph_checkpoint_redis import EmbeddedServerError, RedisSaver
from langgraph_checkpoint_redis._embedded import server as embedded_server
from langgraph_checkpoint_redis._embedded import supervisor

from .embedding import (
    SECONDS,
    Open,
    ended,
    keeper_of,
    kill,
    open_embedded,
    processes_in,
    put,
    running,
    said,
    server_of,
    threads,
    within,
)

opened = open_embedded  # a saver of either kind, in a directory


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
