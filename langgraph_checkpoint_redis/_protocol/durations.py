"""Times as callers give them: seconds or a `timedelta`."""

from __future__ import annotations

from datetime import timedelta

from langgraph_checkpoint_redis.errors import ConfigError, describe

LONGEST = 10 * 365 * 24 * 60 * 60  # seconds that a thread may be told to live
Duration = int | float | timedelta


def to_milliseconds(name: str, value: object) -> int:
    """A time in seconds, or a timedelta, in milliseconds: at least one."""
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds > 0:
        raise ConfigError(f"{name} must be seconds (above 0) or a timedelta, not {describe(value)}")
    if seconds > LONGEST:
        raise ConfigError(f"{name} must be at most {LONGEST} seconds, not {describe(value)}")
    return max(round(seconds * 1000), 1)
