"""What a command works with: the options before its name, a saver made from them, and secrets.

Commands only look through a serializer that never imports what is stored, see `_reading.py`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, TypeVar
from urllib.parse import unquote

import redis as redis_py
import typer
from redis.exceptions import NoPermissionError

from langgraph_checkpoint_redis import ThreadInfo
from langgraph_checkpoint_redis._admin import Admin, parse_time, read_url
from langgraph_checkpoint_redis.errors import CorruptThreadError, ThreadNotFoundError
from langgraph_checkpoint_redis.moving import opened
from langgraph_checkpoint_redis.saver import RedisSaver

from ._output import count, err, one_line, say
from ._reading import Reader, cipher_of, passing

T = TypeVar("T")

OWN = ("redis", "unix", "embedded")  # what URLs of our savers begin with
FOREIGN = "vendor+"  # a saver whose serializer is its own
LOCAL = "redis://localhost:6379"
FILE = 4  # the exit code where a file, or stdout, cannot be read or written

_LOGIN = re.compile(r"(?<=://)[^/?#\s\[\]]*@")
_SECRET_OPTION = re.compile(r"(password=)[^&\s]*", re.IGNORECASE)
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_secrets: set[str] = set()


class CommandError(Exception):
    """A command cannot go on; its message is for the user, its code for scripts."""

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
        """A saver that answered once, so that a server out of reach is an error at once.

        From then on it is as patient with the server as any. What could not be shown in full is
        said at the end.
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
        """A saver of any kind for a URL, whose values pass through as they are stored.

        With a key, what is encrypted is read, and all that is written is encrypted.
        """
        _remember(url)
        options: dict[str, Any] = {"existing": existing}
        if url.startswith(OWN):
            options["prefix"] = prefix
        if not url.startswith(FOREIGN):
            options["serde"] = passing(cipher_of(self.aes_key_env))
        with opened(url, **options) as saver:
            yield saver

    @contextmanager
    def client(self) -> Iterator[Any]:
        """A client of redis-py, once the server has answered."""
        with closing(read_url(self.url).client(redis_py)) as client:
            with suppress(NoPermissionError):  # that is an answer, too
                client.ping()
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
    """A text without passwords."""
    text = _SECRET_OPTION.sub(r"\1***", _LOGIN.sub("***@", text))
    for secret in sorted(_secrets, key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


# Asking


Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")]


def confirm(question: str, *, yes: bool) -> None:
    """Ask before something is destroyed; where nobody is there to answer, refuse."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise CommandError(f"{question} Nobody is there to ask: say --yes.", 2)
    err.print(f"{question} [y/N] ", end="", markup=False)
    if input().strip().lower() not in ("y", "yes"):
        raise CommandError("nothing was changed")


# Arguments


def duration(text: str) -> float:
    """Seconds of a time such as 90, 45m, 12h, 30d."""
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
    """Raise an error if there is no such thread; a damaged one is there."""
    if not Admin(saver).has_thread(thread_id):
        raise ThreadNotFoundError(thread_id)


@dataclass
class Failures:
    """The threads that a command failed in: each is told at once, and costs no other."""

    count: int = 0

    def sift(self, found: Iterable[tuple[str, T | Exception]]) -> Iterator[tuple[str, T]]:
        """Pass on the results of threads, and say which threads failed."""
        for thread_id, result in found:
            if isinstance(result, Exception):
                self.tell(thread_id, result)
            else:
                yield thread_id, result

    def tell(self, thread_id: str, error: Exception) -> None:
        """Say that a thread failed."""
        self.count += 1
        hint = "damaged, see `verify`: " if isinstance(error, CorruptThreadError) else ""
        said = str(error) if thread_id in str(error) else f"{thread_id}: {error}"
        say(one_line(hidden(hint + said)), error=True)

    def check(self) -> None:
        """End the command with an exit code, if there was any."""
        if self.count:
            say(f"failed: {count(self.count, 'thread')}", error=True)
            raise typer.Exit(1)


def info_of(saver: RedisSaver, thread_id: str) -> ThreadInfo | None:
    """What there is of a thread; a damaged one is told of, and costs no other."""
    try:
        return saver.thread_info(thread_id)
    except CorruptThreadError as error:
        say(f"damaged, see `verify`: {error}", error=True)
        return None


def existing(saver: RedisSaver, thread_id: str) -> ThreadInfo:
    """What there is of a thread that must be there."""
    info = saver.thread_info(thread_id)
    if info is None:
        raise ThreadNotFoundError(thread_id)
    return info


def made_at(checkpoint_id: str) -> datetime | None:
    """When a checkpoint was made, if its id tells."""
    return parse_time(checkpoint_id.encode())
