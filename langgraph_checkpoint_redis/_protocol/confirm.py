"""Confirmation: a write that counts as done only when it is on disk, or on other servers too.

Redis acknowledges a write when it is in memory. `WAIT` and `WAITAOF`, sent right behind a script on
the same connection, answer when what the script wrote has come further.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from langchain_core.runnables import RunnableConfig

from langgraph_checkpoint_redis.errors import ConfigError, UnconfirmedError

from .durations import to_milliseconds
from .resp import Command


@dataclass(frozen=True)
class Confirm:
    """What a write waits for before its call returns.

    Attributes:
        disk: That it is in the append-only file and the file is on the disk (`WAITAOF`, which takes
            Redis 7.2 or Valkey, and `appendonly yes`). With `appendfsync everysec` that takes up to
            a second, with `always` no time.
        replicas: That so many replicas have it in memory (`WAIT`).
        timeout: For how long to wait for each of the two, in seconds or as a timedelta; less than
            the client's `socket_timeout`.

    Raises:
        ConfigError: There is nothing to wait for, or one of these is not what it should be.
    """

    disk: bool = False
    replicas: int = 0
    timeout: float | timedelta = 3.0

    def __post_init__(self) -> None:
        if not isinstance(self.disk, bool):
            raise ConfigError(f"confirm: disk must be a bool, not {self.disk!r:.200}")
        if isinstance(self.replicas, bool) or not isinstance(self.replicas, int):
            raise ConfigError(f"confirm: replicas must be an int, not {self.replicas!r:.200}")
        if self.replicas < 0 or not (self.disk or self.replicas):
            raise ConfigError("confirm: needs disk=True, or a number of replicas of at least 1")
        to_milliseconds("confirm: timeout", self.timeout)

    def commands(self) -> tuple[Command, ...]:
        """What is sent behind a script."""
        timeout = to_milliseconds("timeout", self.timeout)
        return (
            *([("WAIT", self.replicas, timeout)] if self.replicas else []),
            *([("WAITAOF", 1, 0, timeout)] if self.disk else []),
        )

    def check(self, key: str, replies: Sequence[Any]) -> None:
        """Raise `UnconfirmedError` unless all was reached, by the replies to the commands."""
        refused = [reply for reply in replies if isinstance(reply, Exception)]
        if refused:
            raise UnconfirmedError(key, f"the server says: {refused[0]}") from refused[0]
        replicas = replies[0] if self.replicas else 0
        on_disk = replies[-1][0] > 0 if self.disk else False
        if replicas < self.replicas or on_disk < self.disk:
            raise UnconfirmedError(
                key, self._reached(on_disk, replicas), on_disk=on_disk, replicas=replicas
            )

    def _reached(self, on_disk: bool, replicas: int) -> str:  # noqa: FBT001 - both are results
        disk = ["on disk" if on_disk else "not on disk"] if self.disk else []
        others = [f"on {replicas} of {self.replicas} replicas"] if self.replicas else []
        return f"within {self.timeout} s it was {' and '.join([*disk, *others])}"


def check_confirm(name: str, value: object, socket_timeout: float | None) -> Confirm | None:
    """What to wait for, as callers say it: a `Confirm`, a mapping of its attributes, or nothing."""
    if value is None or value is False:
        return None
    if isinstance(value, Mapping) and not value.keys() - {"disk", "replicas", "timeout"}:
        value = Confirm(**value)
    if not isinstance(value, Confirm):
        raise ConfigError(
            f"{name} must be a Confirm, a dict of its attributes, or None, not {value!r:.200}"
        )
    if socket_timeout and to_milliseconds(name, value.timeout) >= socket_timeout * 1000:
        raise ConfigError(
            f"{name}: timeout must be less than the socket_timeout of the client, which is "
            f"{socket_timeout:g} seconds, not {value.timeout!r}"
        )
    return value


def parse_own_confirm(
    config: RunnableConfig, default: Confirm | None, socket_timeout: float | None
) -> Confirm | None:
    """Return what a write waits for by its config, or else `default`.

    `False` in the config waits for nothing, whatever the saver's option says.
    """
    value = config["configurable"].get("confirm")
    if value is None:
        return default
    return check_confirm('config["configurable"]["confirm"]', value, socket_timeout)
