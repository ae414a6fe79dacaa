"""The keeper: a process that runs the server of a directory for as long as anybody uses it.

It runs as a program of its own, `python _keeper.py COMMAND...` in the directory, so this file
imports nothing but Python's library. What users of the server share with it is here as well: the
files of the directory. Three of them are there to be locked, by `flock`, since the system takes
back such a lock when the process that has it ends, in whatever way.

| file          | who has the lock                                                             |
|---------------|------------------------------------------------------------------------------|
| `users.lock`  | every user, shared; or the keeper, alone, once there are none: new ones wait |
| `keeper.lock` | the keeper, for its life: it never is started twice                          |
| `server.lock` | the keeper and its server, until both are gone: there never are two servers  |
"""

from __future__ import annotations

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
    """The lock; a server that has it without a keeper, which was killed, is told to end."""
    while not (lock := free(directory / SERVER)):
        ask(str(directory / SOCKET), "SHUTDOWN")
        time.sleep(SECONDS_BETWEEN_LOOKS)
    return lock


def main(*command: str) -> None:
    """Go to the background as soon as no other server is left here, and be the keeper."""
    os.umask(0o077)  # whatever the directory allows, its new files are for the user alone
    lock = lock_of_server(Path())
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit())
        _keep(command, lock)


def _keep(command: tuple[str, ...], lock: IO[bytes]) -> None:
    """Run the server, and again if it was killed, until nobody uses it or it fails by itself."""
    server = _started(command, lock)
    try:
        while not (nobody := free(Path(USERS))):
            time.sleep(SECONDS_BETWEEN_LOOKS)
            if server.poll() is not None:
                if server.returncode > 0:
                    return
                server = _started(command, lock)
    finally:
        server.terminate()
        server.wait()
    nobody.close()  # new users may come now


def _started(command: tuple[str, ...], lock: IO[bytes]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, pass_fds=[lock.fileno()])


if __name__ == "__main__":
    main(*sys.argv[1:])
