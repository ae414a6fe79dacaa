"""The options of a saver, and the checks of their values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, TypedDict

from langgraph.checkpoint.serde.base import SerializerProtocol

from langgraph_checkpoint_redis._protocol.confirm import Confirm
from langgraph_checkpoint_redis._protocol.confirm import check_confirm as checked_confirm
from langgraph_checkpoint_redis._protocol.durations import Duration, to_milliseconds
from langgraph_checkpoint_redis._storage.checks import check_text
from langgraph_checkpoint_redis._storage.compression import Compression, check_compression
from langgraph_checkpoint_redis.errors import ConfigError, describe


class Options(NamedTuple):
    """What a saver was told; times are in milliseconds, 0 for none."""

    keep_last: int | None
    compression: Compression | None
    expiry: Expiry
    tombstone: int
    refuses_conflicts: bool
    confirm: Confirm | None
    socket_timeout: float | None
    allow_plaintext: bool
    refuses_clock_skew: bool

    @classmethod
    def checked(
        cls,
        *,
        keep_last: int | None,
        compression: Compression | None,
        ttl: Duration | Mapping[str, Any] | None,
        refresh_on_read: bool | None,
        tombstone: Duration | None,
        on_conflict: str,
        confirm: Confirm | Mapping[str, Any] | None,
        socket_timeout: float | None,
        allow_plaintext: bool,
        on_clock_skew: str,
    ) -> Options:
        """Return checked options; times are in milliseconds, 0 for none."""
        check_compression(compression)
        return cls(
            check_keep_last(keep_last),
            compression,
            parse_expiry(ttl, refresh_on_read),
            0 if tombstone is None else to_milliseconds("tombstone", tombstone),
            check_on_conflict(on_conflict),
            checked_confirm("confirm", confirm, socket_timeout),
            socket_timeout,
            check_flag("allow_plaintext", allow_plaintext),
            check_on_clock_skew(on_clock_skew),
        )


MOST_KEPT = 10**9  # checkpoints; scripts count in doubles, and ZRANGE in 64 bits
ENTRY_LIVES = 3  # times as long as its thread an entry of the index of runs; as in life.lua
IGNORED = ("sweep_interval_minutes", "sweep_limit", "strategy")  # Redis expires keys by itself


class Expiry(NamedTuple):
    """How long threads live after they were used last, in milliseconds; 0 for ever."""

    ttl: int
    refresh_on_read: bool

    def index_ttl(self, own_ttl: int | None = None) -> int:
        """Return for how many milliseconds entries of the index of runs stay."""
        return ENTRY_LIVES * (self.ttl if own_ttl is None else own_ttl)


def check_prefix(value: object) -> str:
    """A key prefix: no braces, which would move a thread's keys to different cluster slots."""
    checked = check_text("prefix", value)
    if "{" in checked or "}" in checked:
        raise ConfigError(f"prefix must not contain braces: {checked!r}")
    return checked


def check_keep_last(value: int | None) -> int | None:
    """How many checkpoints of a namespace to keep; `None` for all."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST_KEPT:
        raise ConfigError(
            f"keep_last must be an int from 1 to {MOST_KEPT}, or None for all, "
            f"not {describe(value)}"
        )
    return value


def parse_expiry(value: Duration | Mapping[str, Any] | None, refresh_on_read: object) -> Expiry:
    """How long threads live; LangGraph's own dictionary says it in minutes."""
    if isinstance(value, Mapping):
        if unknown := value.keys() - {"default_ttl", "refresh_on_read", *IGNORED}:
            raise ConfigError(f"ttl must not have {sorted(unknown)}")
        minutes = value.get("default_ttl")
        if refresh_on_read is None:
            refresh_on_read = value.get("refresh_on_read")
        value = None if minutes is None else _minutes(minutes)
    if not isinstance(refresh_on_read, bool | None):
        raise ConfigError(f"refresh_on_read must be a bool, not {refresh_on_read!r:.200}")
    return Expiry(0 if value is None else to_milliseconds("ttl", value), bool(refresh_on_read))


def _minutes(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(f'ttl["default_ttl"] must be minutes, a number, not {value!r:.200}')
    return value * 60


def check_flag(name: str, value: object) -> bool:
    """Whether an option is on."""
    if not isinstance(value, bool):
        raise ConfigError(f"{name} must be a bool, not {value!r:.200}")
    return value


def check_on_conflict(value: str) -> bool:
    """Whether a checkpoint is refused when its namespace has moved on past its parent."""
    if value not in ("fork", "error"):
        raise ConfigError(f'on_conflict must be "fork" or "error", not {value!r:.200}')
    return value == "error"


def check_on_clock_skew(value: str) -> bool:
    """Whether a checkpoint is refused that sorts before its parent."""
    if value not in ("warn", "error"):
        raise ConfigError(f'on_clock_skew must be "warn" or "error", not {value!r:.200}')
    return value == "error"


def check_serializer(value: SerializerProtocol | None) -> SerializerProtocol | None:
    """Return a serializer, or None for LangGraph's own."""
    if value is None or (hasattr(value, "dumps_typed") and hasattr(value, "loads_typed")):
        return value
    raise ConfigError(
        "serde must be a serializer with dumps_typed and loads_typed, or None for LangGraph's own, "
        f"not {describe(value)}"
    )


class SaverOptions(TypedDict, total=False):
    """The options of both savers, for annotations: `**options: Unpack[SaverOptions]`.

    The constructors of `RedisSaver` and `AsyncRedisSaver` explain them.
    """

    prefix: str
    serde: SerializerProtocol | None
    keep_last: int | None
    compression: Compression | None
    ttl: Duration | Mapping[str, Any] | None
    refresh_on_read: bool | None
    tombstone: Duration | None
    on_conflict: Literal["fork", "error"]
    confirm: Confirm | Mapping[str, Any] | None
    allow_plaintext: bool
    on_clock_skew: Literal["warn", "error"]


def check_names(callee: str, options: Mapping[str, object]) -> None:
    """Raise a `TypeError` for an option that does not exist, with the most similar one."""
    known = SaverOptions.__annotations__
    for name in options.keys() - known.keys():
        # Only where something is wrong already: importing this package is to stay quick.
        from difflib import get_close_matches  # noqa: PLC0415

        near = get_close_matches(name, known, 1)
        meant = f"did you mean {near[0]!r}?" if near else f"the options are {', '.join(known)}"
        raise TypeError(f"{callee} has no option {name!r}: {meant}")
