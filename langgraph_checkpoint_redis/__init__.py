"""LangGraph checkpoints on plain Redis: `RedisSaver` and `AsyncRedisSaver`."""

from ._threads import Stats, ThreadInfo
from .aio import AsyncRedisSaver
from .errors import (
    ConfigError,
    CorruptThreadError,
    EventLoopError,
    EvictionWarning,
    MissingLibraryError,
    RedisSaverError,
    ThreadExistsError,
    UnknownFormatError,
    UnsupportedServerError,
)
from .saver import RedisSaver

__all__ = [
    "AsyncRedisSaver",
    "ConfigError",
    "CorruptThreadError",
    "EventLoopError",
    "EvictionWarning",
    "MissingLibraryError",
    "RedisSaver",
    "RedisSaverError",
    "Stats",
    "ThreadExistsError",
    "ThreadInfo",
    "UnknownFormatError",
    "UnsupportedServerError",
]

__version__ = "0.1.0"
