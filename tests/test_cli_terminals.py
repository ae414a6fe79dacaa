"""The command line in a process of its own: in a terminal, in a pipe, interrupted."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

import pytest
import redis

from langgraph_checkpoint_redis import RedisSaver

from .commanding import Done, chatted, many

ON_ONE_SERVER = True  # what a server has to do with is in the tests of savers, and of the doctor

CTRL_C = "Ctrl-C"


@pytest.fixture
def saver(server: str, prefix: str) -> Iterator[RedisSaver]:
    with RedisSaver.from_conn_string(server, prefix=prefix) as saver:
        yield saver


@pytest.fixture
def environment(server: str, prefix: str) -> dict[str, str]:
    """What a command in a process of its own is given."""
    return {
        **{name: value for name, value in os.environ.items() if name != "NO_COLOR"},
        "REDIS_URL": server,
        "LANGGRAPH_REDIS_PREFIX": prefix,
        "TERM": "xterm-256color",
        "COLUMNS": "80",
    }


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "langgraph_checkpoint_redis.cli", *words]


def in_terminal(
    environment: dict[str, str], *words: str, typed: str = "", out: IO[bytes] | None = None
) -> Done:
    """Run a command in a terminal of its own, and type something, or press Ctrl-C, when it asks.

    Its stdout may go elsewhere.
    """
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        command(*words), stdin=theirs, stdout=out or theirs, stderr=theirs, env=environment
    ) as process:
        os.close(theirs)
        try:
            shown = _conversation(ours, process, typed)
        finally:
            os.close(ours)
            if process.poll() is None:
                process.send_signal(signal.SIGHUP)  # what the end of a terminal is
    return Done(process.returncode, shown, "")


def _conversation(terminal: int, process: subprocess.Popen[bytes], typed: str) -> str:
    shown = b""
    while part := _read(terminal):
        shown += part
        if typed and b"[y/N]" in shown:
            if typed == CTRL_C:
                _interrupt(process)
            else:
                os.write(terminal, typed.encode())
            typed = ""
    process.wait()
    return shown.decode()


def _interrupt(process: subprocess.Popen[bytes]) -> None:
    """Press Ctrl-C, and again if need be: Python misses one between a prompt and its reading."""
    while process.poll() is None:
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(2)


def _read(terminal: int) -> bytes:
    ready, _, _ = select.select([terminal], [], [], 30)
    assert ready, "the command says nothing"
    try:
        return os.read(terminal, 65536)
    except OSError:  # what Linux says when the other end is closed
        return b""


def test_a_terminal_gets_colours_and_trees(environment: dict[str, str], saver: RedisSaver) -> None:
    """It would be as plain as a pipe."""
    chatted(saver)
    shown = in_terminal(environment, "show", "a").out
    assert "\x1b[1m" in shown
    assert "├──" in shown
    plain = re.sub(r"\x1b\[[\d;]*m", "", shown)
    assert max(map(len, plain.splitlines())) <= 80


def test_a_bar_of_progress_hides_nothing(environment: dict[str, str], saver: RedisSaver) -> None:
    """What a long command says meanwhile would be wiped out."""
    for name in ("a", "b", "c"):
        chatted(saver, name)
    shown = in_terminal(environment, "prune", "--keep-last", "1", "--dry-run").out
    seen = re.sub(r"[^\n]*\x1b\[2K", "", shown)  # a line that is cleared is not seen
    assert {*re.findall(r"would shorten (\w)", seen)} == {"a", "b", "c"}


def test_a_bar_of_progress_leaves_a_file_what_is_its(
    environment: dict[str, str], saver: RedisSaver, tmp_path: Path
) -> None:
    """`> file` would leave the file empty, whenever somebody watches."""
    chatted(saver)
    with (tmp_path / "file").open("wb") as file:
        shown = in_terminal(environment, "threads", "--sort", "size", "--json", out=file).out
    assert json.loads((tmp_path / "file").read_text())["thread_id"] == "a"
    assert "thread_id" not in shown


def test_who_is_asked_may_say_no(environment: dict[str, str], saver: RedisSaver) -> None:
    """There would be no way back from a typing error."""
    chatted(saver)
    assert in_terminal(environment, "delete", "a", typed=CTRL_C).code == 130
    assert saver.thread_info("a")
    assert in_terminal(environment, "delete", "a", typed="y\n").code == 0
    assert not saver.thread_info("a")


def test_an_interrupted_command_ends_without_a_traceback(environment: dict[str, str]) -> None:
    """Ctrl-C would end in a page of Python."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        environment["REDIS_URL"] = f"redis://127.0.0.1:{silent.getsockname()[1]}"
        with subprocess.Popen(
            command("stats"), env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            connection, _ = silent.accept()
            with connection:
                process.send_signal(signal.SIGINT)
                out, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert b"Traceback" not in err
    assert not out


def test_a_closed_pipe_is_no_error(
    environment: dict[str, str], saver: RedisSaver, client: redis.Redis
) -> None:
    """`| head` would end in a complaint."""
    many(client, saver, 1500)
    listing = command("threads", "--limit", "0")
    with subprocess.Popen(
        listing, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


@pytest.mark.parametrize("number", [2, 1500])
def test_a_closed_pipe_is_told_by_its_code(
    environment: dict[str, str], saver: RedisSaver, client: redis.Redis, number: int
) -> None:
    """A script could not tell it from a problem that was found."""
    many(client, saver, number)
    reading, writing = os.pipe()
    os.close(reading)
    listing = command("threads", "--limit", "0")
    with os.fdopen(writing, "wb") as closed:
        done = subprocess.run(
            listing, env=environment, stdout=closed, stderr=subprocess.PIPE, check=False
        )
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize("words", [("threads", "--limit", "0"), ("export", "-"), ("--help",)])
def test_a_full_disk_is_an_error(
    environment: dict[str, str], saver: RedisSaver, client: redis.Redis, words: tuple[str, ...]
) -> None:
    """A report or a backup would be cut off, and the script that made it go on."""
    many(client, saver, 1500)
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            command(*words),
            env=environment,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 4
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_threads_go_through_pipes(environment: dict[str, str], saver: RedisSaver) -> None:
    """A backup to another machine would need room here."""
    talk = chatted(saver)
    before = talk.history()

    def piped(*words: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        done = subprocess.run(
            command(*words), env=environment, input=given, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done

    exported = piped("export", "-")
    assert b"1 thread exported" in exported.stderr
    saver.delete_thread("a")
    assert b"1 thread imported" in piped("import", "-", given=exported.stdout).stdout
    assert talk.history() == before


def test_shells_can_complete_commands(environment: dict[str, str]) -> None:
    """Names would have to be typed."""
    asked = {"_LANGGRAPH_REDIS_COMPLETE": "complete_bash", "COMP_CWORD": "1"}
    done = subprocess.run(
        [str(Path(sys.executable).with_name("langgraph-redis"))],
        env={**environment, **asked, "COMP_WORDS": "langgraph-redis s"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert {*done.stdout.split()} == {"show", "state", "stats"}
