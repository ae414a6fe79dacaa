"""What can be stored and read back as it is: names, versions, writes, what a serializer returns.

Everything else is refused here, by an error that names the argument, before anything is sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import isnan
from typing import Any
from uuid import UUID

from langgraph_checkpoint_redis.errors import ConfigError, describe


def check_text(name: str, value: object, *, empty: bool = False) -> str:
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


def check_id(name: str, value: object) -> str:
    """Return the text of the id of a thread or a run.

    A UUID or an int means its text, as in LangGraph's own savers.
    """
    if isinstance(value, UUID) or (isinstance(value, int) and not isinstance(value, bool)):
        try:
            value = str(value)
        except ValueError as error:  # Python does not write out ints of thousands of digits
            raise ConfigError(f"{name} must not be {describe(value)}") from error
    return check_text(name, value)


def check_ids(name: str, values: Sequence[object]) -> list[str]:
    """Return the texts of ids, if they are a list and not a bare string."""
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise ConfigError(f"{name} must be a list of str, not a bare {type(values).__name__}")
    return [check_id(f"each of {name}", value) for value in values]


def check_texts(name: str, values: Sequence[str]) -> list[str]:
    """`values`, if they are a list (not a bare string) of strings that can name something."""
    if isinstance(values, str | bytes):
        raise ConfigError(f"{name} must be a list of str, not a bare {type(values).__name__}")
    return [check_text(f"each of {name}", value) for value in values]


LONG_NAME = 200  # characters: longer names are looked at each time
MOST_NAMES = 10_000  # names
checked_names: set[str] = set()  # that were looked at, as the same few come again and again


def check_checkpoint(checkpoint: Any, metadata: object, new_versions: object) -> str:
    """Return the id of a checkpoint whose parts can be stored and read back as they are.

    The versions in `versions_seen` are checked by `version` where they are shortened.
    """
    if not type(checkpoint) is type(metadata) is type(new_versions) is dict:
        _check_mapping("checkpoint", checkpoint)
        _check_mapping("metadata", metadata)
        _check_mapping("new_versions", new_versions)
    try:
        id_, values = checkpoint["id"], checkpoint["channel_values"]
        versions = checkpoint["channel_versions"]
    except KeyError as error:
        raise ConfigError(f"checkpoint[{error.args[0]!r}] is missing") from error
    _check_mapping('checkpoint["channel_values"]', values)
    _check_versions(_check_mapping('checkpoint["channel_versions"]', versions))
    _check_seen(checkpoint.get("versions_seen", {}))
    return check_text('checkpoint["id"]', id_)


def _check_versions(versions: Mapping[Any, Any]) -> None:
    _check_names('checkpoint["channel_versions"]', versions)
    try:
        is_good = "".join(versions.values()).isascii()  # nearly always, and known at once
    except TypeError:
        is_good = False
    if not is_good:
        for channel, value in versions.items():
            check_version('checkpoint["channel_versions"]', channel, value)


def _check_seen(seen: Any) -> None:
    _check_names('checkpoint["versions_seen"]', _check_mapping('checkpoint["versions_seen"]', seen))
    for channels in seen.values():
        if type(channels) is not dict:
            _check_mapping('each node of checkpoint["versions_seen"]', channels)


def check_version(name: str, channel: object, value: object) -> None:
    """Check a version of a channel; `name` is what errors call the versions."""
    if channel not in checked_names:
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
            f"not {describe(value)}"
        )


def check_seen_version(channel: object, value: object) -> None:
    """Check a version that a node has seen; `None` is one of a channel that has none."""
    check_version('a node of checkpoint["versions_seen"]', channel, "" if value is None else value)


def check_writes(value: object) -> list[tuple[str, Any]]:
    """Return the writes of a task, each a channel and a value."""
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise ConfigError(f"writes must be a list of (channel, value), not {describe(value)}")
    found = [*value]
    for write in found:
        if not isinstance(write, tuple | list) or len(write) != 2:  # noqa: PLR2004 - as it says
            raise ConfigError(f"each of writes must be (channel, value), not {describe(write)}")
        if write[0] not in checked_names:
            _check_name("the channel of each of writes", write[0])
    return found


def check_serialized(typed: object) -> tuple[str, bytes]:
    """Return what a serializer wrote, if it can be read back as it is."""
    if not isinstance(typed, tuple | list) or len(typed) != 2:  # noqa: PLR2004 - as it says
        raise ConfigError(f"serde.dumps_typed must return (type, bytes), not {describe(typed)}")
    type_, data = typed
    if not isinstance(type_, str) or not type_ or not is_unicode(type_):
        raise ConfigError(
            "serde.dumps_typed must return (type, bytes), the type a str that is not empty, "
            f"not {describe(type_)}"
        )
    if not isinstance(data, bytes | bytearray | memoryview):
        raise ConfigError(
            f"serde.dumps_typed must return (type, bytes), not a {type(data).__name__} as bytes"
        )
    return type_, bytes(data)


def _check_mapping(name: str, value: object) -> Mapping[Any, Any]:
    # In two steps, as other mappings are slow to recognize.
    if not isinstance(value, dict) and not isinstance(value, Mapping):
        raise ConfigError(f"{name} must be a dict, not {describe(value)}")
    return value


def _check_names(name: str, named: Mapping[Any, Any]) -> None:
    if not named.keys() <= checked_names:
        for each in named:
            _check_name(f"each name in {name}", each)


def _check_name(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise ConfigError(f"{name} must be a str, not {describe(value)}")
    if not is_unicode(value):
        raise ConfigError(f"{name} must be valid Unicode: {value!r:.200}")
    if len(value) <= LONG_NAME:
        if len(checked_names) >= MOST_NAMES:
            checked_names.clear()
        checked_names.add(str.__str__(value))


def is_unicode(value: str) -> bool:
    """Return whether a text can be stored, which half of an emoji cannot."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
