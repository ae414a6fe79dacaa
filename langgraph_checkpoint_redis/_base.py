"""What both savers have: the options, the constructor, and copies in this and other processes.

The constructor says what each option means. `SaverOptions` in `_core/options.py` has them once
more, for type checkers; a test compares the two.
"""

from __future__ import annotations

import copy
from abc import ABCMeta, abstractmethod
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, ClassVar, Generic, Literal, NamedTuple, TypeVar, cast

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from typing_extensions import Self

from ._core.context import Context
from ._core.options import Options, check_names, check_serializer
from ._core.state import SaverState, make_state
from ._protocol.confirm import Confirm
from ._protocol.durations import Duration
from ._runtime.blocks import NoBlock
from ._serde.caching import CachingSerializer
from ._storage.compression import Compression
from ._transport.clients import check_client, is_cluster, socket_timeout
from ._transport.urls import Url

Client = TypeVar("Client")
Constructor = TypeVar("Constructor", bound=Callable[..., None])
SaverType = TypeVar("SaverType")

# What copies in a process share, and what another process makes for itself.
_SHARED = ("_redis", "_connections", "_shared", "serde")


def _names_checked(constructor: Constructor) -> Constructor:
    """Let a constructor check the names of options, as Python itself suggests no other name."""

    @wraps(constructor)
    def construct(saver: object, *redis: object, **options: object) -> None:
        check_names(type(saver).__name__, {k: v for k, v in options.items() if k != "redis"})
        constructor(saver, *redis, **options)

    return cast("Constructor", construct)


class BaseSaver(BaseCheckpointSaver[str], NoBlock, Generic[Client], metaclass=ABCMeta):
    """What does not depend on how a saver waits for the server."""

    _is_asynchronous: ClassVar[bool]

    @_names_checked
    def __init__(
        self,
        redis: str | Client,
        *,
        prefix: str = "lg",
        serde: SerializerProtocol | None = None,
        keep_last: int | None = None,
        compression: Compression | None = None,
        ttl: Duration | Mapping[str, Any] | None = None,
        refresh_on_read: bool | None = None,
        tombstone: Duration | None = None,
        on_conflict: Literal["fork", "error"] = "fork",
        confirm: Confirm | Mapping[str, Any] | None = None,
        allow_plaintext: bool = False,
        on_clock_skew: Literal["warn", "error"] = "warn",
    ) -> None:
        """Make a saver. It sends nothing before the first call, and needs no event loop.

        Args:
            redis: A URL (`redis://`, `rediss://`, `unix://`, `redis+cluster://` or
                `redis+sentinel://`), or a client of redis-py or valkey-py. `RedisSaver` takes
                synchronous clients, such as `redis.Redis` and `redis.RedisCluster`, and
                `AsyncRedisSaver` takes those of `redis.asyncio`. An asynchronous client works in
                one event loop only, a URL in any.
            prefix: The beginning of all keys. Savers with different prefixes share nothing.
            serde: The serializer of values, metadata and checkpoints. By default a
                `CachingSerializer`, which writes and reads the same bytes as LangGraph's own.
            keep_last: How many of the newest checkpoints of each namespace to keep. One is enough
                to continue a conversation, to interrupt and to resume. `None` keeps all.
            compression: How to store pieces of 256 bytes and more: `"zlib"`, or `"zstd"` (an
                extra). The saver reads what is stored already, whatever this says.
            ttl: Seconds, or a timedelta, after which a thread expires that nobody writes to, with
                everything it has; or LangGraph's own
                `{"default_ttl": minutes, "refresh_on_read": bool}`.
            refresh_on_read: Whether reading a thread by `get_tuple` or `aget_tuple` counts as use.
            tombstone: Seconds, or a timedelta, after the deletion of a thread. Until they have
                passed, runs that began before it are refused with `ThreadDeletedError`.
            on_conflict: What a checkpoint does whose namespace has moved on past its parent:
                `"fork"`, as in LangGraph's own savers, or `"error"` for `ConflictError`. A run that
                goes back in time, or starts from a checkpoint that it names by its id, always
                forks.
            confirm: What writes wait for before their call returns: `Confirm(disk=True,
                replicas=1)`, or a dictionary of its attributes. By default, they wait until the
                server has the write in memory. `config["configurable"]["confirm"]` sets it for a
                single run; `False` waits for nothing.
            allow_plaintext: With an encrypting `serde`, whether to read what was stored without
                encryption. Otherwise that is an `UnencryptedError`.
            on_clock_skew: What to do with a checkpoint whose id, a time, sorts before its parent's
                because the clock of this machine is more than a day behind. `"warn"` stores it with
                a `ClockWarning`, `"error"` raises `ClockError`. The saver makes up for smaller
                differences.

        Raises:
            TypeError: An option does not exist. The error names the most similar one.
            ConfigError: `redis` is neither a URL nor a client; `serde` is not a serializer;
                `prefix` is empty, or contains braces or NUL characters; `keep_last` is less than 1;
                `compression`, `on_conflict` or `on_clock_skew` is not one of the allowed values; a
                time is not above 0.
            MissingLibraryError: The library for `compression` is not installed.
        """
        super().__init__(serde=check_serializer(serde) or CachingSerializer())
        redis = check_client(redis, asynchronous=self._is_asynchronous)
        self._redis = redis
        self._connect()
        options = Options.checked(
            keep_last=keep_last,
            compression=compression,
            ttl=ttl,
            refresh_on_read=refresh_on_read,
            tombstone=tombstone,
            on_conflict=on_conflict,
            confirm=confirm,
            socket_timeout=socket_timeout(redis),
            allow_plaintext=allow_plaintext,
            on_clock_skew=on_clock_skew,
        )
        self._shared: SaverState = make_state(prefix, options, is_cluster=is_cluster(redis))

    @abstractmethod
    def _connect(self) -> None:
        """Prepare the connections of this process, without sending anything."""

    @property
    def _context(self) -> Context:
        return Context(self.serde, self._shared)

    # Copies

    def __copy__(self) -> Self:
        """Return a saver that shares connections and memory with this one."""
        return copy_saver(self, {})

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return a saver on the same connections: also a deep copy writes to the same server."""
        return copy_saver(self, memo, deeply=True)

    def __getstate__(self) -> dict[str, Any]:
        """Return what makes a saver of another process: no connections, and no memory."""
        return pickle_state(self)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(restore_state(state))
        self._connect()


def copy_saver(saver: SaverType, memo: dict[int, Any], *, deeply: bool = False) -> SaverType:
    """Return a copy that shares the connections, the memory and the serializer of a saver.

    Only what a subclass has added is copied deeply.
    """
    clone = object.__new__(type(saver))
    memo[id(saver)] = clone
    for name, value in vars(saver).items():
        is_shared = name in _SHARED or not deeply
        vars(clone)[name] = value if is_shared else copy.deepcopy(value, memo)
    return clone


def pickle_state(saver: Any) -> dict[str, Any]:
    """Return what pickle takes of a saver: the URL, its password too, the options and the rest."""
    if not isinstance(saver._redis, Url):  # noqa: SLF001 - the savers' own
        raise TypeError(
            f"cannot pickle a {type(saver).__name__} that was made from a client, as the client's "
            "connections belong to this process: make the saver from a URL, or make another one "
            "in the other process"
        )
    state = {name: value for name, value in vars(saver).items() if name != "_connections"}
    known: SaverState = state["_shared"]
    state["_shared"] = make_state(known.keyspace.prefix, known.options, is_cluster=known.is_cluster)
    state["serde"] = _pack_serde(state["serde"])
    return state


def restore_state(state: dict[str, Any]) -> dict[str, Any]:
    """Return the attributes of a saver in another process, all but its connections."""
    return {**state, "serde": _unpack_serde(state["serde"])}


class _JsonPlus(NamedTuple):
    """A serializer of LangGraph or ours, which pickle cannot take: the arguments that make it."""

    capacity: int | None  # of ours
    pickle_fallback: bool
    allowed_json_modules: Any
    allowed_msgpack_modules: Any


class _Encrypted(NamedTuple):
    """The same for an encrypting one."""

    cipher: Any
    serde: Any


def _pack_serde(serde: Any) -> Any:
    if type(serde) is EncryptedSerializer:
        return _Encrypted(serde.cipher, _pack_serde(serde.serde))
    # One with a hook of the user's goes as it is: nothing else would read the same.
    is_plain = type(serde) in (JsonPlusSerializer, CachingSerializer)
    if is_plain and not getattr(serde, "_custom_unpack_ext_hook", True):
        found = vars(serde)
        names = ("pickle_fallback", "_allowed_json_modules", "_allowed_msgpack_modules")
        return _JsonPlus(found.get("capacity"), *[found[name] for name in names])
    return serde


def _unpack_serde(packed: Any) -> Any:
    if isinstance(packed, _Encrypted):
        return EncryptedSerializer(packed.cipher, _unpack_serde(packed.serde))
    if isinstance(packed, _JsonPlus):
        options = {name: value for name, value in packed._asdict().items() if value is not None}
        options["allowed_msgpack_modules"] = (
            packed.allowed_msgpack_modules
        )  # None allows the fewest
        return (CachingSerializer if packed.capacity is not None else JsonPlusSerializer)(**options)
    return packed
