"""What callers pass in, checked: the one place where bad input is refused, before anything is sent.

LangGraph's configs are dictionaries of dictionaries that may come from anybody; past this module
there are only `Place`s and strings that are known to be good.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from math import isnan
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.serde.base import SerializerProtocol

from langgraph_checkpoint_redis.errors import ConfigError

LONGEST = 10 * 365 * 24 * 60 * 60  # seconds that a thread may be told to live
REPLAY = "__pregel_replay_state"  # in a config: LangGraph's own, for subgraphs of a replay
MOST_KEPT = 10**9  # checkpoints; scripts count in doubles, and ZRANGE in 64 bits
IGNORED = ("sweep_interval_minutes", "sweep_limit", "strategy")  # Redis expires keys by itself


class Life(NamedTuple):
    """How long threads live after they were used last, in milliseconds; 0 for ever."""

    ttl: int
    refresh_on_read: bool

    def index_ttl(self, own_ttl: int | None = None) -> int:
        """How long the index of runs lives: longer than the thread it leads to, see life.lua."""
        return 3 * (self.ttl if own_ttl is None else own_ttl)


class Place(NamedTuple):
    """Where a checkpoint is: `checkpoint_id` is empty for the latest of its namespace."""

    thread_id: str
    namespace: str
    checkpoint_id: str

    def config(self, checkpoint_id: str) -> RunnableConfig:
        """The config that names a checkpoint of this thread and namespace."""
        return {
            "configurable": {
                "thread_id": self.thread_id,
                "checkpoint_ns": self.namespace,
                "checkpoint_id": checkpoint_id,
            }
        }


def text(name: str, value: object, *, empty: bool = False) -> str:
    """`value`, if it is a string that can name something; `name` is what errors call it."""
    if not isinstance(value, str):
        raise ConfigError(f"{name} must be a str, not {type(value).__name__}: {value!r:.200}")
    if not value and not empty:
        raise ConfigError(f"{name} must not be empty")
    if "\0" in value:
        raise ConfigError(f"{name} must not contain NUL characters: {value!r:.200}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(f"{name} must be valid Unicode: {value!r:.200}") from error
    return value if type(value) is str else str.__str__(value)  # an enumeration formats as its name


def identifier(name: str, value: object) -> str:
    """Return the text of the id of a thread or a run.

    A UUID or an int means its text, as in LangGraph's own savers.
    """
    if isinstance(value, UUID) or (isinstance(value, int) and not isinstance(value, bool)):
        try:
            value = str(value)
        except ValueError as error:  # Python does not write out ints of thousands of digits
            raise ConfigError(f"{name} must not be {_brief(value)}") from error
    return text(name, value)


def identifiers(name: str, values: Sequence[object]) -> list[str]:
    """Return the texts of ids, if they are a list and not a bare string."""
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise ConfigError(f"{name} must be a list of str, not a bare {type(values).__name__}")
    return [identifier(f"each of {name}", value) for value in values]


def texts(name: str, values: Sequence[str]) -> list[str]:
    """`values`, if they are a list (not a bare string) of strings that can name something."""
    if isinstance(values, str | bytes):
        raise ConfigError(f"{name} must be a list of str, not a bare {type(values).__name__}")
    return [text(f"each of {name}", value) for value in values]


def prefix(value: object) -> str:
    """A key prefix: no braces, which would move a thread's keys to different cluster slots."""
    checked = text("prefix", value)
    if "{" in checked or "}" in checked:
        raise ConfigError(f"prefix must not contain braces: {checked!r}")
    return checked


def home_expanded(name: str, path: str) -> Path:
    """Return a path, with the home directory for `~`: settings and URLs never saw a shell."""
    try:
        return Path(path).expanduser() if path.startswith("~") else Path(path)
    except RuntimeError as error:
        raise ConfigError(
            f"{name} {path!r:.200} names a home directory that is not known"
        ) from error


def _configurable(config: object) -> Mapping[str, Any]:
    # `dict` stands first as it is nearly always one, and other mappings are slow to recognize.
    configurable = config.get("configurable") if isinstance(config, dict | Mapping) else None
    if not isinstance(configurable, dict | Mapping):
        raise ConfigError(
            "config must be a dict like "
            f'{{"configurable": {{"thread_id": "..."}}}}, not {config!r:.200}'
        )
    return configurable


def _thread_id(configurable: Mapping[str, Any]) -> str:
    if "thread_id" not in configurable:
        raise ConfigError('config["configurable"]["thread_id"] is missing: it must be a str')
    return identifier('config["configurable"]["thread_id"]', configurable["thread_id"])


def _optional(configurable: Mapping[str, Any], name: str) -> str | None:
    value = configurable.get(name)
    if value is None or value == "":
        return value
    return text(f'config["configurable"]["{name}"]', value)


def place(config: RunnableConfig) -> Place:
    """The checkpoint that a config names: with no id the latest, with no namespace the root's."""
    configurable = _configurable(config)
    return Place(
        _thread_id(configurable),
        _optional(configurable, "checkpoint_ns") or "",
        _optional(configurable, "checkpoint_id") or "",
    )


def written_place(config: RunnableConfig) -> Place:
    """The checkpoint that writes belong to: its id is required."""
    found = place(config)
    text('config["configurable"]["checkpoint_id"]', found.checkpoint_id)
    return found


def thread_id(config: RunnableConfig) -> str:
    """The thread that a config names."""
    return _thread_id(_configurable(config))


def scope(config: RunnableConfig | None) -> tuple[str | None, str]:
    """The namespace (`None` for all) and the id (empty for all) that a config asks to list."""
    if not config:
        return None, ""
    configurable = _configurable(config)
    return (
        _optional(configurable, "checkpoint_ns"),
        _optional(configurable, "checkpoint_id") or "",
    )


def before_id(before: Mapping[str, Any] | None) -> str:
    """The id that listed checkpoints must be older than; empty for no such bound.

    It may come without a thread, and without its `configurable` wrapper: LangGraph's server and SDK
    send both.
    """
    if not before:
        return ""
    if not isinstance(before, Mapping):
        raise ConfigError(f"before must be a config (a dict), not {before!r:.200}")
    return (
        _optional(_configurable(before) if "configurable" in before else before, "checkpoint_id")
        or ""
    )


def limit(value: int | None) -> int | None:
    """How many checkpoints to list at most; `None` for all, negative ones count as 0."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigError(f"limit must be an int or None, not {value!r:.200}")
    return max(value, 0)


# What a checkpoint and writes consist of

LONG = 200  # characters: longer names are looked at each time
MET = 10_000  # names

good_names: set[str] = set()  # that were looked at, as the same few come again and again


def checkpoint_id(checkpoint: Any, metadata: object, new_versions: object) -> str:
    """Return the id of a checkpoint whose parts can be stored and read back as they are.

    The versions in `versions_seen` are checked by `version` where they are shortened.
    """
    if not type(checkpoint) is type(metadata) is type(new_versions) is dict:
        _mapping("checkpoint", checkpoint)
        _mapping("metadata", metadata)
        _mapping("new_versions", new_versions)
    try:
        id_, values = checkpoint["id"], checkpoint["channel_values"]
        versions = checkpoint["channel_versions"]
    except KeyError as error:
        raise ConfigError(f"checkpoint[{error.args[0]!r}] is missing") from error
    _mapping('checkpoint["channel_values"]', values)
    _check_versions(_mapping('checkpoint["channel_versions"]', versions))
    _check_seen(checkpoint.get("versions_seen", {}))
    return text('checkpoint["id"]', id_)


def _check_versions(versions: Mapping[Any, Any]) -> None:
    _check_names('checkpoint["channel_versions"]', versions)
    try:
        is_good = "".join(versions.values()).isascii()  # nearly always, and known at once
    except TypeError:
        is_good = False
    if not is_good:
        for channel, value in versions.items():
            version('checkpoint["channel_versions"]', channel, value)


def _check_seen(seen: Any) -> None:
    _check_names('checkpoint["versions_seen"]', _mapping('checkpoint["versions_seen"]', seen))
    for channels in seen.values():
        if type(channels) is not dict:
            _mapping('each node of checkpoint["versions_seen"]', channels)


def version(name: str, channel: object, value: object) -> None:
    """Check a version of a channel; `name` is what errors call the versions."""
    if channel not in good_names:
        _check_name(name, channel)
    if isinstance(value, str):
        is_good = value.isascii() or is_unicode(value)
    elif isinstance(value, int):
        is_good = -(2**63) <= value < 2**64
    else:
        is_good = isinstance(value, float) and not isnan(value)
    if not is_good:
        raise ConfigError(
            f"{name}[{channel!r:.200}] must be a valid str, an int of 64 bits or a float, "
            f"not {_brief(value)}"
        )


def seen_version(channel: object, value: object) -> None:
    """Check a version that a node has seen; `None` is one of a channel that has none."""
    version('a node of checkpoint["versions_seen"]', channel, "" if value is None else value)


def writes(value: object) -> list[tuple[str, Any]]:
    """Return the writes of a task, each a channel and a value."""
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise ConfigError(f"writes must be a list of (channel, value), not {_brief(value)}")
    found = [*value]
    for write in found:
        if not isinstance(write, tuple | list) or len(write) != 2:  # noqa: PLR2004 - as it says
            raise ConfigError(f"each of writes must be (channel, value), not {_brief(write)}")
        if write[0] not in good_names:
            _check_name("the channel of each of writes", write[0])
    return found


def serialized(typed: object) -> tuple[str, bytes]:
    """Return what a serializer wrote, if it can be read back as it is."""
    if not isinstance(typed, tuple | list) or len(typed) != 2:  # noqa: PLR2004 - as it says
        raise ConfigError(f"serde.dumps_typed must return (type, bytes), not {_brief(typed)}")
    type_, data = typed
    if not isinstance(type_, str) or not type_ or not is_unicode(type_):
        raise ConfigError(
            "serde.dumps_typed must return (type, bytes), the type a str that is not empty, "
            f"not {_brief(type_)}"
        )
    if not isinstance(data, bytes | bytearray | memoryview):
        raise ConfigError(
            f"serde.dumps_typed must return (type, bytes), not a {type(data).__name__} as bytes"
        )
    return type_, bytes(data)


def _mapping(name: str, value: object) -> Mapping[Any, Any]:
    # In two steps, as other mappings are slow to recognize.
    if not isinstance(value, dict) and not isinstance(value, Mapping):
        raise ConfigError(f"{name} must be a dict, not {_brief(value)}")
    return value


def _check_names(name: str, named: Mapping[Any, Any]) -> None:
    if not named.keys() <= good_names:
        for each in named:
            _check_name(f"each name in {name}", each)


def _check_name(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise ConfigError(f"{name} must be a str, not {_brief(value)}")
    if not is_unicode(value):
        raise ConfigError(f"{name} must be valid Unicode: {value!r:.200}")
    if len(value) <= LONG:
        if len(good_names) >= MET:
            good_names.clear()
        good_names.add(str.__str__(value))


def is_unicode(value: str) -> bool:
    """Return whether a text can be stored, which half of an emoji cannot."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _brief(value: object) -> str:
    """Return a value and its class, as errors show it. An int may be too long for Python."""
    try:
        return f"{type(value).__name__}: {value!r:.200}"
    except ValueError:
        return type(value).__name__


def filters(value: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Metadata to compare with; none for `None`."""
    if value is not None and not isinstance(value, Mapping):
        raise ConfigError(f"filter must be a dict or None, not {value!r:.200}")
    return value or {}


def run_id(metadata: Mapping[str, Any]) -> str:
    """The run that metadata name, or an empty string."""
    run = metadata.get("run_id")
    if isinstance(run, str):
        return text('metadata["run_id"]', run, empty=True)
    is_id = isinstance(run, UUID | int) and not isinstance(run, bool)
    return identifier('metadata["run_id"]', run) if is_id else ""


def means_to_fork(config: RunnableConfig, metadata: Mapping[str, Any]) -> bool:
    """Return whether a run says that it goes back in time.

    LangGraph stores a checkpoint with the source "fork" where a graph is replayed or a checkpoint
    copied. Subgraphs of a graph that is replayed go on from what they had stored before that point,
    and find their graph's replay in their config.
    """
    return metadata.get("source") == "fork" or bool(config["configurable"].get(REPLAY))


def keep_last(value: int | None) -> int | None:
    """How many checkpoints of a namespace to keep; `None` for all."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST_KEPT:
        raise ConfigError(
            f"keep_last must be an int from 1 to {MOST_KEPT}, or None for all, not {_brief(value)}"
        )
    return value


def strategy(value: str) -> str:
    """A strategy of `prune`; LangGraph's server says `delete_all` for `delete`."""
    if value not in ("keep_latest", "delete", "delete_all"):
        raise ConfigError(f'strategy must be "keep_latest" or "delete", not {value!r:.200}')
    return value


Duration = int | float | timedelta


def milliseconds(name: str, value: object) -> int:
    """A time in seconds, or a timedelta, in milliseconds: at least one."""
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds > 0:
        raise ConfigError(f"{name} must be seconds (above 0) or a timedelta, not {_brief(value)}")
    if seconds > LONGEST:
        raise ConfigError(f"{name} must be at most {LONGEST} seconds, not {_brief(value)}")
    return max(round(seconds * 1000), 1)


def life(value: Duration | Mapping[str, Any] | None, refresh_on_read: object) -> Life:
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
    return Life(0 if value is None else milliseconds("ttl", value), bool(refresh_on_read))


def _minutes(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(f'ttl["default_ttl"] must be minutes, a number, not {value!r:.200}')
    return value * 60


def own_ttl(config: RunnableConfig) -> int | None:
    """The milliseconds that a config, which `place` has seen, gives its thread."""
    value = config["configurable"].get("ttl")
    return None if value is None else milliseconds('config["configurable"]["ttl"]', value)


def flag(name: str, value: object) -> bool:
    """Whether an option is on."""
    if not isinstance(value, bool):
        raise ConfigError(f"{name} must be a bool, not {value!r:.200}")
    return value


def on_conflict(value: str) -> bool:
    """Whether a checkpoint is refused when its namespace has moved on past its parent."""
    if value not in ("fork", "error"):
        raise ConfigError(f'on_conflict must be "fork" or "error", not {value!r:.200}')
    return value == "error"


def on_clock_skew(value: str) -> bool:
    """Whether a checkpoint is refused that sorts before its parent."""
    if value not in ("warn", "error"):
        raise ConfigError(f'on_clock_skew must be "warn" or "error", not {value!r:.200}')
    return value == "error"


def serializer(value: SerializerProtocol | None) -> SerializerProtocol | None:
    """Return a serializer, or None for LangGraph's own."""
    if value is None or (hasattr(value, "dumps_typed") and hasattr(value, "loads_typed")):
        return value
    raise ConfigError(
        "serde must be a serializer with dumps_typed and loads_typed, or None for LangGraph's own, "
        f"not {_brief(value)}"
    )
