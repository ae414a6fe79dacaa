"""The checkpointer of LangGraph's Agent Server and `langgraph dev`, as `langgraph.json` names it.

The server calls it without arguments, once for each of its event loops. So what a saver is to be
comes from environment variables: `LANGGRAPH_REDIS_` and the name of the option, and a few more.
docs/agent-server.md lists them.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from difflib import get_close_matches
from typing import Any, TypeVar, cast

from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer

from ._core.options import (
    SaverOptions,
    check_keep_last,
    check_on_clock_skew,
    check_on_conflict,
    check_prefix,
)
from ._embedded.server import check_directory
from ._protocol.confirm import Confirm, check_confirm
from ._protocol.durations import to_milliseconds
from ._serde.caching import CachingSerializer
from ._storage.compression import check_compression
from ._transport import urls
from ._transport.urls import read_url
from .aio import AsyncRedisSaver
from .errors import ConfigError, MissingLibraryError

T = TypeVar("T")

PREFIX = "LANGGRAPH_REDIS_"
URL, COMMON_URL = "LANGGRAPH_REDIS_URL", "REDIS_URL"
DIRECTORY = "LANGGRAPH_REDIS_EMBEDDED"
TYPES = "LANGGRAPH_REDIS_ALLOWED_TYPES"
KEY = "LANGGRAPH_AES_KEY"  # the name that LangGraph gives it
# What Kubernetes sets for a service that is called langgraph-redis.
_OF_SERVICE = re.compile(rf"{PREFIX}(SERVICE_HOST|SERVICE_PORT|PORT)(_|$)")


@asynccontextmanager
async def make_checkpointer() -> AsyncIterator[AsyncRedisSaver]:
    """A saver that is as the environment says, checked and closed when the block ends.

    Raises:
        ConfigError: A variable is missing or has a value that cannot be used.
        MissingLibraryError: The library of a cipher, of a compression or of the embedded server is
            not installed.
        UnsupportedServerError: The Redis server is older than 6.2.
    """
    opened = await asyncio.to_thread(_from_environment)  # as it imports libraries from the disk
    async with opened as saver:
        await saver.asetup()
        yield saver


def _from_environment() -> AbstractAsyncContextManager[AsyncRedisSaver]:
    _check_names()
    options = {option: _read(_variable(option), read) for option, read in _OPTIONS.items()}
    given = cast(
        "SaverOptions", {option: value for option, value in options.items() if value is not None}
    )
    url, directory = _read(URL, _url), _read(DIRECTORY, _directory)
    if url and directory:
        raise ConfigError(f"{URL} and {DIRECTORY} are both set: only one server can be used")
    url = url or _read(COMMON_URL, _url)
    if directory:
        _check_confirm(given, urls.SECONDS_TO_ANSWER)
        given["serde"] = _serde()
        return AsyncRedisSaver.embedded(directory, **given)
    if not url:
        raise ConfigError(f"{URL} is not set: it must be a URL, such as redis://localhost:6379")
    _check_confirm(given, read_url(url).socket_timeout)
    given["serde"] = _serde()
    return AsyncRedisSaver.from_conn_string(url, **given)


def _check_confirm(given: Mapping[str, Any], socket_timeout: float | None) -> None:
    """Compare two variables, which the saver would do without their names."""
    check_confirm(_variable("confirm"), given.get("confirm"), socket_timeout)


def _check_names() -> None:
    """Refuse variables that nothing reads: one letter could cost an expiry, or encryption."""
    known = {URL, DIRECTORY, TYPES, *map(_variable, _OPTIONS)}
    for name, value in os.environ.items():
        if value and name.startswith(PREFIX) and name not in known and not _OF_SERVICE.match(name):
            ends = {one.removeprefix(PREFIX): one for one in sorted(known)}
            near = get_close_matches(name.removeprefix(PREFIX), ends, 1)
            meant = f"did you mean {ends[near[0]]}?" if near else f"only {', '.join(ends.values())}"
            raise ConfigError(f"{name} is not a variable of this package: {meant}")


def _variable(option: str) -> str:
    return f"{PREFIX}{option.upper()}"


def _read(variable: str, reader: Callable[[str], T]) -> T | None:
    """What a variable says; an empty one says nothing, as tools set those that have no value."""
    text = os.environ.get(variable)
    try:
        return reader(text) if text else None
    except ValueError as error:  # ConfigError as well
        raise ConfigError(f"{variable}: {error}") from None
    except MissingLibraryError as error:
        raise MissingLibraryError(f"{variable}: {error}") from error


def _serde() -> SerializerProtocol:
    allowed = _read(TYPES, _types)
    plain = CachingSerializer(allowed_msgpack_modules=allowed) if allowed else CachingSerializer()
    key = _read(KEY, _aes_key)
    if not key:
        return plain
    try:
        encrypting = EncryptedSerializer.from_pycryptodome_aes(plain, key=key)
    except ImportError as error:
        raise MissingLibraryError(f"{KEY} is set: pip install pycryptodome") from error
    encrypting.dumps_typed(None)  # loads the rest of the library
    return encrypting


# Readers: each makes a value of a text, or raises `ValueError`


def _url(text: str) -> str:
    read_url(text)
    return text


def _directory(text: str) -> str:
    return str(check_directory(text))


def _types(text: str) -> list[tuple[str, str]]:
    types = [tuple(name.strip().split(":")) for name in text.split(",")]
    if not all(len(parts) == 2 and all(parts) for parts in types):  # noqa: PLR2004
        raise ValueError(f'must be like "my_app.state:Order,my_app.state:Item", not {text!r:.200}')
    return [(module, name) for module, name in types]


def _aes_key(text: str) -> bytes:
    key = text.encode()
    if len(key) not in {16, 24, 32}:
        raise ValueError("must be 16, 24 or 32 bytes long")  # and never shown
    return key


def _seconds(text: str) -> Any:
    seconds = _number(float, text)
    to_milliseconds("it", seconds)
    return seconds


def _keep_last(text: str) -> int | None:
    return check_keep_last(_number(int, text))


def _number(kind: type[int | float], text: str) -> Any:
    """A number, or the text itself where it is none: that is refused like any other value."""
    try:
        return kind(text)
    except ValueError:
        return text


def _flag(text: str) -> bool:
    if text.lower() not in {"true", "false"}:
        raise ValueError(f"must be true or false, not {text!r:.200}")
    return text.lower() == "true"


def _compressed(text: str) -> str:
    check_compression(text)  # type: ignore[arg-type]
    return text


def _on_clock_skew(text: str) -> str:
    check_on_clock_skew(text)
    return text


def _on_conflict(text: str) -> str:
    check_on_conflict(text)
    return text


def _confirmation(text: str) -> Confirm:
    """What to wait for, of words and numbers like `disk,replicas=1,timeout=2`."""
    said = dict(word.strip().partition("=")[::2] for word in text.split(","))
    if "disk" in said and not said["disk"]:
        said["disk"] = "true"
    readers: dict[str, Callable[[str], Any]] = {
        "disk": _flag,
        "replicas": lambda number: _number(int, number),
        "timeout": _seconds,
    }
    if unknown := said.keys() - readers:
        raise ValueError(f"must be like disk,replicas=1,timeout=2, and not have {sorted(unknown)}")
    return Confirm(**{word: readers[word](value) for word, value in said.items()})


_OPTIONS: dict[str, Callable[[str], Any]] = {
    "prefix": check_prefix,
    "keep_last": _keep_last,
    "compression": _compressed,
    "ttl": _seconds,
    "refresh_on_read": _flag,
    "tombstone": _seconds,
    "on_conflict": _on_conflict,
    "on_clock_skew": _on_clock_skew,
    "confirm": _confirmation,
    "allow_plaintext": _flag,
}
