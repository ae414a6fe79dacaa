"""LangGraph checkpoints on plain Redis: `RedisSaver` and `AsyncRedisSaver`."""

__version__ = "0.1.0"  # first, as connections tell it to the server

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
    "ThreadExistsError",
    "UnknownFormatError",
    "UnsupportedServerError",
]
