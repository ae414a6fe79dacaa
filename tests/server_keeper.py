"""A program that ends a server, and tidies up, as soon as the program that wanted it is gone.

`local_server.py` starts it. It imports Python's own library only, and so is there at once.
"""

import os
import shutil
import subprocess
import sys
import threading


def keep(directory: str, *command: str) -> None:
    """Run a command until it ends, or a byte or the end comes in; then remove the directory."""
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL)

    def kill_when_told() -> None:
        os.read(sys.stdin.fileno(), 1)
        server.kill()  # Nothing is worth saving, and a busy script would not let it finish.

    threading.Thread(target=kill_when_told, daemon=True).start()
    server.wait()
    shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    keep(*sys.argv[1:])
