"""LangGraph checkpoints on plain Redis: `RedisSaver` and `AsyncRedisSaver`."""

__version__ = "0.1.0"  # first, as connections tell it to the server

from ._confirm import Confirm
from ._encryption import KeyRing
from ._integrity import Problem
from ._threads import Stats, ThreadInfo
from .aio import AsyncRedisSaver
from .errors import (
    ConfigError,
    ConflictError,
    CorruptThreadError,
    DamagedFileError,
    DifferentThreadError,
    DurabilityWarning,
    EmbeddedServerError,
    EventLoopError,
    EvictionWarning,
    LeaseLostError,
    MissingLibraryError,
    RedisSaverError,
    ThreadDeletedError,
    ThreadExistsError,
    ThreadLeasedError,
    ThreadNotFoundError,
    ThreadsError,
    UnconfirmedError,
    UnencryptedError,
    UnknownFormatError,
    UnsupportedServerError,
)
from .saver import RedisSaver

__all__ = [
    "AsyncRedisSaver",
    "ConfigError",
    "Confirm",
    "ConflictError",
    "CorruptThreadError",
    "DamagedFileError",
    "DifferentThreadError",
    "DurabilityWarning",
    "EmbeddedServerError",
    "EventLoopError",
    "EvictionWarning",
    "KeyRing",
    "LeaseLostError",
    "MissingLibraryError",
    "Problem",
    "RedisSaver",
    "RedisSaverError",
    "Stats",
    "ThreadDeletedError",
    "ThreadExistsError",
    "ThreadInfo",
    "ThreadLeasedError",
    "ThreadNotFoundError",
    "ThreadsError",
    "UnconfirmedError",
    "UnencryptedError",
    "UnknownFormatError",
    "UnsupportedServerError",
]
