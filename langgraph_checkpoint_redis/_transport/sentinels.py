"""Asking sentinels for the primary, and why none of them named one.

redis-py asks them in turn, too. Its error shows its clients with all their options, and does not
tell a name that does not exist from a sentinel that is only starting.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import redis.asyncio.sentinel
import redis.sentinel
from redis.exceptions import AuthenticationError, RedisError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from langgraph_checkpoint_redis.errors import ConfigError

Address = tuple[str, int]


_ADVICE = "Check the hosts and ports of the sentinels in the URL, and whether they run"


class UnknownServiceError(LookupError):
    """Sentinels answer, and none of them watches the service."""


class _Round:
    """What the sentinels answer when they are asked once, one after the other."""

    def __init__(self, service: str) -> None:
        self._service = service
        self._failures: dict[str, Exception] = {}
        self._watched: dict[str, list[str]] = {}

    def add_failure(self, sentinel: Any, error: Exception) -> None:
        """Note that a sentinel did not answer, or is none; raise what says anything else."""
        if not (
            _is_no_sentinel(error) or isinstance(error, (RedisConnectionError, RedisTimeoutError))
        ):
            raise error
        self._failures[_place(sentinel)] = error

    def primary(self, manager: Any, sentinel: Any, services: Any) -> Address | None:
        """Return the address of the primary if a sentinel names it; ask this one first from now."""
        self._watched[_place(sentinel)] = [*map(str, services)]
        state = services.get(self._service)
        if not state or not manager.check_master_state(state, self._service):
            return None
        others = [one for one in manager.sentinels if one is not sentinel]
        manager.sentinels[:] = [sentinel, *others]
        return state["ip"], state["port"]

    def error(self, kind: type[Exception]) -> Exception:
        """Return why there is no primary; its cause is what all sentinels have in common."""
        if self._watched:
            return self._error_of_those_that_answer(kind)
        if all(map(_is_no_sentinel, self._failures.values())):
            return ConfigError(
                f"the server at {', '.join(self._failures)} is not a sentinel, though the URL has "
                "redis+sentinel://: use redis://, or the port of the sentinel, often 26379"
            )
        failures = [f"{place} ({_reason(error)})" for place, error in self._failures.items()]
        error = kind(f"no sentinel of {self._service!r} answers: {', '.join(failures)}. {_ADVICE}")
        if len({_kind_of(each) for each in self._failures.values()}) == 1:
            error.__cause__ = next(iter(self._failures.values()))
        return error

    def _error_of_those_that_answer(self, kind: type[Exception]) -> Exception:
        where = ", ".join(self._watched)
        watched = sorted({name for names in self._watched.values() for name in names})
        if self._service in watched:
            return kind(f"the sentinels at {where} know no primary of {self._service!r} that is up")
        names = ", ".join(map(repr, watched)) or "nothing"
        error = kind(
            f"the sentinels at {where} do not watch the service {self._service!r}, only {names}"
        )
        error.__cause__ = UnknownServiceError(self._service)
        return error


class Sentinel(redis.sentinel.Sentinel):
    """The sentinels of a service, whose error says what each of them answered."""

    def discover_master(self, service_name: str) -> Any:
        """Return the address of the primary."""
        asked = _Round(service_name)
        for sentinel in [*self.sentinels]:
            try:
                services = sentinel.sentinel_masters()
            except RedisError as error:  # noqa: PERF203 - few
                asked.add_failure(sentinel, error)
            else:
                if primary := asked.primary(self, sentinel, services):
                    return primary
        raise asked.error(redis.sentinel.MasterNotFoundError)


class AsyncSentinel(redis.asyncio.sentinel.Sentinel):
    """The same for `redis.asyncio`."""

    async def discover_master(self, service_name: str) -> Any:
        """Return the address of the primary."""
        asked = _Round(service_name)
        for sentinel in [*self.sentinels]:
            try:
                services = await sentinel.sentinel_masters()
            except RedisError as error:  # noqa: PERF203 - few
                asked.add_failure(sentinel, error)
            else:
                if primary := asked.primary(self, sentinel, services):
                    return primary
        raise asked.error(redis.asyncio.sentinel.MasterNotFoundError)


def sentinel_class_for(of: ModuleType) -> type:
    """Return the class for `redis` or for `redis.asyncio`."""
    return AsyncSentinel if of.__name__.endswith("asyncio") else Sentinel


def _place(sentinel: Any) -> str:
    options = sentinel.connection_pool.connection_kwargs
    return f"{options['host']}:{options['port']}"


def _is_no_sentinel(error: Exception) -> bool:
    return isinstance(error, ResponseError) and "unknown command" in str(error).lower()


def _kind_of(error: Exception) -> type[BaseException]:
    """Return the class of what led to an error; errors of logins are one kind."""
    if isinstance(error, AuthenticationError):
        return AuthenticationError
    return type(error.__cause__ or error.__context__ or error)


def _reason(error: Exception) -> str:
    """Return the words of the system, which redis-py wraps, or those of the server."""
    cause = error.__cause__ or error.__context__
    return in_words(cause) if isinstance(cause, OSError) and cause.strerror else str(error)


def in_words(error: BaseException) -> str:
    """Return what the system says of an error, without the address that event loops add."""
    if isinstance(error, ConnectionRefusedError):
        return "Connection refused"
    return getattr(error, "strerror", None) or str(error)
