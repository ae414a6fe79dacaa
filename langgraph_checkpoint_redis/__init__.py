"""LangGraph checkpoints on plain Redis: `RedisSaver` and `AsyncRedisSaver`."""

from ._version import __version__ as __version__  # first, as it checks what all others import

# isort: split
from ._admin.threads import Stats, ThreadInfo
from ._admin.verify import Problem
from ._core._async.lease import AsyncLease
from ._core._sync.lease import Lease
from ._core.options import SaverOptions
from ._protocol.confirm import Confirm
from ._serde.caching import CachingSerializer
from ._storage.encryption import KeyRing
from .aio import AsyncRedisSaver
from .errors import (
    ClockError,
    ClockWarning,
    ConfigError,
    ConfigTypeError,
    ConflictError,
    CorruptThreadError,
    DamagedFileError,
    DifferentThreadError,
    DurabilityWarning,
    EmbeddedServerError,
    EncryptedThreadError,
    EventLoopError,
    EvictionWarning,
    LeaseLostError,
    MissingAncestorError,
    MissingLibraryError,
    RedisSaverError,
    RunNeededError,
    ThreadChangedError,
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
    "AsyncLease",
    "AsyncRedisSaver",
    "CachingSerializer",
    "ClockError",
    "ClockWarning",
    "ConfigError",
    "ConfigTypeError",
    "Confirm",
    "ConflictError",
    "CorruptThreadError",
    "DamagedFileError",
    "DifferentThreadError",
    "DurabilityWarning",
    "EmbeddedServerError",
    "EncryptedThreadError",
    "EventLoopError",
    "EvictionWarning",
    "KeyRing",
    "Lease",
    "LeaseLostError",
    "MissingAncestorError",
    "MissingLibraryError",
    "Problem",
    "RedisSaver",
    "RedisSaverError",
    "RunNeededError",
    "SaverOptions",
    "Stats",
    "ThreadChangedError",
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
