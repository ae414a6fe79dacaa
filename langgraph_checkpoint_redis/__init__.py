"""LangGraph checkpoints on plain Redis: `RedisSaver` and `AsyncRedisSaver`."""

from .aio import AsyncRedisSaver
from .errors import (
    ConfigError,
    CorruptThreadError,
    EmbeddedServerError,
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
    "EmbeddedServerError",
    "EventLoopError",
    "EvictionWarning",
    "MissingLibraryError",
    "RedisSaver",
    "RedisSaverError",
    "ThreadExistsError",
    "UnknownFormatError",
    "UnsupportedServerError",
]

__version__ = "0.1.0"
