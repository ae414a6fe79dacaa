"""Versions of channels: LangGraph's 50 characters say two numbers, and only these are stored."""

from __future__ import annotations

from functools import lru_cache
from random import random
from typing import Any

import msgpack

from langgraph_checkpoint_redis.errors import ConfigError

from .checks import is_unicode
from .packing import pack

Version = str | int | float


def next_version(current: Version | None) -> Version:
    """The version after `current`, in LangGraph's own format, so that threads can move here.

    A random part keeps branches apart. Threads of savers that count in numbers go on in numbers:
    LangGraph compares the versions of a thread with each other.
    """
    if isinstance(current, int | float):
        return current + 1
    number = int(current.split(".")[0]) if current else 0
    return _version_text(number + 1, random())  # noqa: S311 - tells branches apart, no secret


LONG_VERSION = 100  # characters of a version that is not worth a place there


@lru_cache(maxsize=10_000, typed=True)
def _version_text(number: int, fraction: float) -> str:
    return f"{number:032}.{fraction:016}"


def shorten_version(version: Version) -> Any:
    """Return a version of LangGraph's format as its two numbers, others as they are."""
    return (
        shorten_text(version) if type(version) is str and len(version) < LONG_VERSION else version
    )


def pack_version(version: Version) -> bytes:
    return (
        _packed_text(version)
        if type(version) is str and len(version) < LONG_VERSION
        else pack(version)
    )


@lru_cache(maxsize=10_000)
def shorten_text(version: str) -> Any:
    if not is_unicode(version):
        raise ConfigError(f"versions of channels must be valid Unicode: {version!r:.200}")
    if len(version) > 33 and version[32] == ".":  # noqa: PLR2004 - where LangGraph's dot is
        try:
            number, fraction = int(version[:32]), float(version[33:])
        except ValueError:
            return version
        # Minus zero equals zero, which is what the caches go by.
        is_lean = 0 <= number < 2**63 and (fraction or "-" not in version)
        if is_lean and _version_text(number, fraction) == version:
            return number, fraction
    return version


@lru_cache(maxsize=10_000)
def _packed_text(version: str) -> bytes:
    return pack(shorten_text(version))


def unpack_version(data: bytes) -> Any:
    return msgpack.unpackb(data, max_array_len=2, max_map_len=0, max_ext_len=0)


def restore_version(lean: Any) -> Any:
    """Return the version that `shorten_version` shortened."""
    if isinstance(lean, list | tuple):
        return _version_text(*lean) if lean else None
    return lean
