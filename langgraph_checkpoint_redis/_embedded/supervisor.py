"""The keeper: a process that runs the server of a directory for as long as anybody uses it.

It runs as a program of its own, `python supervisor.py COMMAND...` in the directory, so this file
imports nothing but Python's library. What users of the server share with it is here as well: the
files of the directory. Three of them are there to be locked, by `flock`, since the system takes
back such a lock when the process that has it ends, in whatever way.

| file          | who has the lock                                                             |
|---------------|------------------------------------------------------------------------------|
| `users.lock`  | every user, shared; or the keeper, alone, once there are none: new ones wait |
| `keeper.lock` | the keeper, for its life: it never is started twice                          |
| `server.lock` | the keeper and its server, until both are gone: there never are two servers  |

Programs that clean up temporary directories remove old files, whether they are in use or not. So
the keeper renews the times of its files, and ends, or starts its server again, if they are gone.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # Windows has none; embedded servers are refused there
    fcntl = None  # type: ignore[assignment]

USERS, KEEPER, SERVER = "users.lock", "keeper.lock", "server.lock"
SOCKET = "socket"
SECONDS_BETWEEN_LOOKS = 0.05  # half of what the server itself has between two looks at its clock
SECONDS_BETWEEN_TOUCHES = 3600
SECONDS_TO_MAKE_SOCKET = 5  # a server does so before it reads its file


def free(path: Path) -> IO[bytes] | None:
    """The file of a lock that nobody had, now locked until it is closed; or None."""
    file = path.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def shared(path: Path) -> IO[bytes]:
    """The file of a lock, shared with others until it is closed, once nobody has it alone."""
    file = path.open("ab")
    fcntl.flock(file, fcntl.LOCK_SH)
    return file


def ask(place: str, command: str) -> str:
    """What the server at a socket answers to a command, or nothing if there is none."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            connection.connect(place)
            connection.sendall(f"{command}\r\n".encode())
            return connection.recv(1000).decode(errors="replace")
    except OSError:
        return ""


def lock_of_server(directory: Path) -> IO[bytes]:
    """Return the lock, once the server of a keeper that was killed has ended."""
    place = str(directory / SOCKET)
    while not (lock := free(directory / SERVER)):
        ask(place, "SHUTDOWN")
        time.sleep(SECONDS_BETWEEN_LOOKS)
    while ask(place, "PING"):  # its lock was removed
        ask(place, "SHUTDOWN")
        time.sleep(SECONDS_BETWEEN_LOOKS)
    return lock


def main(*command: str) -> None:
    """Go to the background as soon as no other server is left here, and be the keeper.

    The keeper's process id goes to stdout, for a user that inherits orphans.
    """
    os.umask(0o077)  # whatever the directory allows, its new files are for the user alone
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored, it would hide how the server ended
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    lock = lock_of_server(Path())
    if keeper := os.fork():
        sys.stdout.write(str(keeper))
        return
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # the log
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    _keep(command, lock)


def _keep(command: tuple[str, ...], lock: IO[bytes]) -> None:
    """Run the server, and again if it was killed, until nobody uses it or it fails by itself."""
    server = _Server(command, lock)
    try:
        while not (nobody := free(Path(USERS))):
            time.sleep(SECONDS_BETWEEN_LOOKS)
            if not _is_at(Path(SERVER), lock) or not server.is_kept_running():
                return
    finally:
        server.end()
    nobody.close()  # new users may come now


def _is_at(path: Path, file: IO[bytes]) -> bool:
    """Return whether an open file still has its name; without it, its lock protects nothing."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


class _Server:
    """The server's process, which starts again when it was killed."""

    def __init__(self, command: tuple[str, ...], lock: IO[bytes]) -> None:
        self._command, self._lock = command, lock
        self._touched = time.monotonic()
        self._start()

    def _start(self) -> None:
        self._process = subprocess.Popen(self._command, pass_fds=[self._lock.fileno()])
        self._socket_due = time.monotonic() + SECONDS_TO_MAKE_SOCKET

    def is_kept_running(self) -> bool:
        """Start the server again if it was killed or its socket is gone; not if it failed."""
        if Path(SOCKET).exists():
            self._socket_due = 0.0
        elif time.monotonic() > self._socket_due:
            self.end()
        if self._process.poll() is not None:
            if self._process.returncode > 0:
                return False
            self._start()
        self._touch()
        return True

    def _touch(self) -> None:
        if time.monotonic() - self._touched < SECONDS_BETWEEN_TOUCHES:
            return
        self._touched = time.monotonic()
        for name in (USERS, KEEPER, SERVER, SOCKET):
            with contextlib.suppress(FileNotFoundError):
                os.utime(name)

    def end(self) -> None:
        """End the server, which finishes what it is doing."""
        self._process.terminate()
        self._process.wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
