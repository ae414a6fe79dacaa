"""Savers by URL, for command lines. Each library is imported only if a URL needs it.

No error shows a URL: there may be a password in it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple
from urllib.parse import unquote

from typing_extensions import Unpack

from langgraph_checkpoint_redis import SaverOptions
from langgraph_checkpoint_redis._admin import check_names, expand_home, read_url
from langgraph_checkpoint_redis.errors import ConfigError, MissingLibraryError
from langgraph_checkpoint_redis.saver import RedisSaver

from ._stores import AnySaver

FORMS = """url must have one of these forms:
    redis://..., rediss://..., unix://..., redis+cluster://..., redis+sentinel://...
    embedded:///DIRECTORY                (of RedisSaver.embedded)
    sqlite:///FILE                       (four slashes begin an absolute path)
    postgresql://...
    vendor+redis://..., vendor+rediss:// (of langgraph-checkpoint-redis)"""


@contextmanager
def opened(
    url: str, *, existing: bool = False, **options: Unpack[SaverOptions]
) -> Iterator[AnySaver]:
    """Yield a saver for a URL, and close it when the block ends.

    Args:
        url: Where the threads are: `redis://` and the other forms of `RedisSaver`,
            `embedded:///DIRECTORY`, `sqlite:///FILE`, `postgresql://`, or `vendor+redis://` for
            langgraph-checkpoint-redis. Paths are as in SQLAlchemy: `sqlite:///a.db` is in the
            current directory, `sqlite:////data/a.db` is not.
        existing: Whether there must be something already: a file or directory that is not there is
            refused instead of made, and no table is made in Postgres.
        **options: For our own savers, those of `RedisSaver`, `prefix` say; for all, `serde`.

    Raises:
        TypeError: An option does not exist. The error names the most similar one.
        ConfigError: The URL is none of these, or nothing is there that should be.
        MissingLibraryError: The saver of another package is not installed; it says which.
    """
    if not isinstance(url, str):
        raise ConfigError(f"url must be a str, not {type(url).__name__}")
    check_names("opened", options)
    scheme = url.partition(":")[0]
    with _SAVERS.get(scheme, _redis)(_Asked(url, existing, options)) as saver:
        yield saver


def _own(url: str) -> str:
    try:
        read_url(url)
    except ConfigError as error:
        raise ConfigError(f"{FORMS}\n{error}") from None
    return url


class _Asked(NamedTuple):
    """The arguments of `opened`."""

    url: str
    existing: bool
    options: SaverOptions

    @property
    def path(self) -> Path:
        """The path in the URL."""
        rest = self.url.partition(":")[2]
        if not rest.startswith("///") or rest == "///":
            raise ConfigError(f"{FORMS}\nA path begins after three slashes.")
        return expand_home("url: the path", unquote(rest.removeprefix("///")))


def _redis(asked: _Asked) -> AbstractContextManager[AnySaver]:
    return RedisSaver.from_conn_string(_own(asked.url), **asked.options)


def _embedded(asked: _Asked) -> AbstractContextManager[AnySaver]:
    if asked.existing and not asked.path.is_dir():
        raise ConfigError(f"there is no directory {str(asked.path)!r}")
    return RedisSaver.embedded(asked.path, **asked.options)


@contextmanager
def _sqlite(asked: _Asked) -> Iterator[AnySaver]:
    module = _module("langgraph.checkpoint.sqlite", "langgraph-checkpoint-sqlite")
    if asked.existing and not asked.path.is_file():
        raise ConfigError(f"there is no file {str(asked.path)!r}")
    with module.SqliteSaver.from_conn_string(str(asked.path)) as saver:
        yield _with_options(saver, asked.options)


@contextmanager
def _postgres(asked: _Asked) -> Iterator[AnySaver]:
    name = "langgraph.checkpoint.postgres"
    module = _module(name, "langgraph-checkpoint-postgres 'psycopg[binary]'")
    _check_postgres(asked.url)
    with module.PostgresSaver.from_conn_string(asked.url) as saver:
        if not asked.existing:
            saver.setup()
        yield _with_options(saver, asked.options)


def _check_postgres(url: str) -> None:
    """Refuse URLs that errors of the library would show a part of."""
    psycopg = import_module("psycopg")
    try:
        parts = psycopg.conninfo.conninfo_to_dict(url)
    except psycopg.Error:
        parts = {"port": "none"}
    ports, hosts = str(parts.get("port") or ""), str(parts.get("host") or "")
    if not re.fullmatch(r"[\d,]*", ports) or "@" in hosts:
        raise ConfigError(
            f"{FORMS}\nThe one for Postgres cannot be read; what is special in a user name or a "
            "password must be percent-encoded."
        )


@contextmanager
def _vendor(asked: _Asked) -> Iterator[AnySaver]:
    module = _module("langgraph.checkpoint.redis", "langgraph-checkpoint-redis")
    url = _own(asked.url.removeprefix("vendor+"))
    with module.RedisSaver.from_conn_string(url) as saver:
        saver.setup()  # finds its indexes; without them, it can do nothing
        yield _with_options(saver, asked.options)


def _with_options(saver: Any, options: SaverOptions) -> AnySaver:
    if unknown := options.keys() - {"serde"}:
        raise ConfigError(f"only our own savers have the options {sorted(unknown)}")
    if options.get("serde"):
        saver.serde = options["serde"]
    found: AnySaver = saver
    return found


def _module(name: str, packages: str) -> ModuleType:
    try:
        return import_module(name)
    except ImportError as error:
        raise MissingLibraryError(f"{name} cannot be imported: pip install {packages}") from error


_SAVERS: dict[str, Callable[[_Asked], AbstractContextManager[AnySaver]]] = {
    "embedded": _embedded,
    "sqlite": _sqlite,
    "postgresql": _postgres,
    "postgres": _postgres,
    "vendor+redis": _vendor,
    "vendor+rediss": _vendor,
}
