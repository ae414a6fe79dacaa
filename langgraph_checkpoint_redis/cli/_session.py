"""The session of a command: the options before its name, a saver made from them, and secrets.

Commands read with a serializer that never imports stored classes, see `_reading.py`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, TypeVar
from urllib.parse import unquote

import typer

from langgraph_checkpoint_redis import ThreadInfo
from langgraph_checkpoint_redis._admin import Admin, open_client, parse_time
from langgraph_checkpoint_redis.errors import CorruptThreadError, ThreadNotFoundError, brief
from langgraph_checkpoint_redis.moving import opened
from langgraph_checkpoint_redis.saver import RedisSaver

from ._output import count, err, one_line, say
from ._reading import Reader, cipher_of, passing

T = TypeVar("T")

SERVERS = ("redis", "unix")
OWN = (*SERVERS, "embedded")  # what URLs of our savers begin with
FOREIGN = "vendor+"  # a saver whose serializer is its own
LOCAL = "redis://localhost:6379"
INSTEAD = "give the URL of another one (--url, REDIS_URL)"
FILE = 4  # the exit code where a file, or stdout, cannot be read or written

_LOGIN = re.compile(r"(?<=://)[^/?#\s\[\]]*@")
_SECRET_OPTION = re.compile(r"(password=)[^&\s]*", re.IGNORECASE)
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_secrets: set[str] = set()


class CommandError(Exception):
    """A command failed. The message is for the user, the exit code for scripts."""

    def __init__(self, message: str, code: int = 1) -> None:
        self.code = code
        super().__init__(message)


@dataclass(frozen=True)
class Session:
    """The options before the name of a command."""

    url: str
    prefix: str
    aes_key_env: tuple[str, ...]
    allow: tuple[str, ...]

    def __post_init__(self) -> None:
        """Keep the passwords of the URL out of all that is printed from now on."""
        _remember(self.url)

    @contextmanager
    def saver(self, **more: Any) -> Iterator[RedisSaver]:
        """Yield a saver whose server has answered once. A server out of reach is an error at once.

        From then on the saver retries as usual. Remarks at the end name the values that could not
        be shown in full.
        """
        reader = Reader(cipher_of(self.aes_key_env), self.allow)
        with self.client(), closing(reader):
            options: dict[str, Any] = {"prefix": self.prefix, "serde": reader, **more}
            with RedisSaver.from_conn_string(self.url, **options) as saver:
                yield saver
        for remark in reader.remarks(self.aes_key_env):
            say(remark, error=True)

    @contextmanager
    def mover(self, url: str, prefix: str, *, existing: bool = False) -> Iterator[Any]:
        """Yield a saver of any kind for a URL. Values pass through as they are stored.

        With a key, encrypted values are read, and all written values are encrypted.
        """
        _remember(url)
        options: dict[str, Any] = {"existing": existing}
        if url.startswith(OWN):
            options["prefix"] = prefix
        if not url.startswith(FOREIGN):
            options["serde"] = passing(cipher_of(self.aes_key_env))
        with opened(url, **options) as saver:
            if url.startswith(SERVERS):
                with open_client(url, instead=INSTEAD):
                    pass
            yield saver

    @contextmanager
    def client(self) -> Iterator[Any]:
        """Yield a client of redis-py, once the server has answered."""
        with open_client(self.url, instead=INSTEAD) as client:
            yield client


# Secrets


def _remember(url: str) -> None:
    """Keep the passwords of a URL out of all that is printed from now on."""
    for login in _LOGIN.findall(url):
        _, _, password = login[:-1].partition(":")
        _secrets.update({password, unquote(password)} - {""})
    for match in _SECRET_OPTION.finditer(url):
        value = match[0].partition("=")[2]
        _secrets.update({value, unquote(value)} - {""})


def hidden(text: str) -> str:
    """Replace the passwords in a text."""
    text = _SECRET_OPTION.sub(r"\1***", _LOGIN.sub("***@", text))
    for secret in sorted(_secrets, key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


# Asking


Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")]


def confirm(question: str, *, yes: bool) -> None:
    """Ask before something is destroyed; refuse if stdin is not a terminal."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise CommandError(f"{question} Nobody is there to ask: say --yes.", 2)
    err.print(f"{question} [y/N] ", end="", markup=False)
    if input().strip().lower() not in ("y", "yes"):
        raise CommandError("nothing was changed")


# Arguments


def duration(text: str) -> float:
    """Parse a duration such as 90, 45m, 12h or 30d; return seconds."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw]?)", text.strip())
    if not match:
        raise typer.BadParameter(f"{text!r} is no time: 90 (seconds), 45m, 12h, 30d, 2w")
    return float(match[1]) * _UNITS[match[2] or "s"]


Idle = Annotated[
    float | None,
    typer.Option(parser=duration, metavar="TIME", help="No new checkpoint for so long: 12h, 30d."),
]
IdPrefix = Annotated[
    str, typer.Option("--id-prefix", metavar="TEXT", help="What thread ids begin with.")
]
Namespace = Annotated[
    str, typer.Option("--namespace", "-n", help="Of a subgraph; as `show` has it.")
]
Everything = Annotated[
    bool, typer.Option("--all", help="Also the channels that LangGraph has for itself.")
]


def check_there(saver: RedisSaver, thread_id: str) -> None:
    """Raise an error if there is no such thread. A damaged thread is there."""
    if not Admin(saver).has_thread(thread_id):
        raise ThreadNotFoundError(thread_id)


@dataclass
class Failures:
    """The threads that a command failed in. Each is reported at once; the others go on."""

    count: int = 0

    def sift(self, found: Iterable[tuple[str, T | Exception]]) -> Iterator[tuple[str, T]]:
        """Yield the results of threads, and report the threads that failed."""
        for thread_id, result in found:
            if isinstance(result, Exception):
                self.tell(thread_id, result)
            else:
                yield thread_id, result

    def tell(self, thread_id: str, error: Exception) -> None:
        """Report that a thread failed."""
        self.count += 1
        hint = "damaged, see `verify`: " if isinstance(error, CorruptThreadError) else ""
        text = brief(error)
        said = text if thread_id in text else f"{thread_id}: {text}"
        say(one_line(hidden(hint + said)), error=True)

    def check(self) -> None:
        """End the command with an exit code if any thread failed."""
        if self.count:
            say(f"failed: {count(self.count, 'thread')}", error=True)
            raise typer.Exit(1)


def info_of(saver: RedisSaver, thread_id: str) -> ThreadInfo | None:
    """Return what is stored of a thread; report a damaged thread and return None."""
    try:
        return saver.thread_info(thread_id)
    except CorruptThreadError as error:
        say(f"damaged, see `verify`: {brief(error)}", error=True)
        return None


def existing(saver: RedisSaver, thread_id: str) -> ThreadInfo:
    """Return what is stored of a thread; raise an error if there is no such thread."""
    info = saver.thread_info(thread_id)
    if info is None:
        raise ThreadNotFoundError(thread_id)
    return info


def made_at(checkpoint_id: str) -> datetime | None:
    """Return when a checkpoint was made; None if its id has no time."""
    return parse_time(checkpoint_id.encode())
