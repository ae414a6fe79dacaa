"""Servers that allow only what they must: users of their own, and forbidden commands."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from langgraph.checkpoint.conformance.test_utils import generate_checkpoint, generate_metadata

from langgraph_checkpoint_redis import RedisSaver
from tests.local_server import running_server

from .documented import COMMANDS
from .driving import Saver
from .servers import any_binary
from .story import chat, thread, use
from .users import url_of, user

LONG = 2500  # messages of a thread that one call of a script cannot look through

SaverOn = Callable[..., Saver]


def use_everything(client: redis.Redis, server: str, prefix: str) -> None:
    """Make a saver run every command that it can need."""
    with RedisSaver.from_conn_string(server, prefix=prefix, keep_last=1) as short:
        use(short)
        for number in range(2):  # the second one finds what the first has stored
            short.put(thread("short"), *chat(number))
    with RedisSaver.from_conn_string(server, prefix=prefix) as saver:
        saver._shared = saver._shared._replace(is_cluster=True)  # so that it copies between slots
        saver.copy_thread("short", "copy")
        at = thread("long")
        for number in range(2):
            values = {"c": [f"{number} {item:600}" for item in range(LONG)]}
            checkpoint = generate_checkpoint(channel_values=values, channel_versions={"c": number})
            metadata = generate_metadata(run_id=f"run {number}")
            at = saver.put(at, checkpoint, metadata, {"c": number})
            saver.put_writes(at, [("c", "one" * 200)], "task", f"path {number}")
            saver.put_writes(at, [("c", "one" * 200), ("d", 1)], "task", f"path {number}")
        saver.prune(["long"])
        assert saver.verify("long") == []
        for thread_id in ("short", "copy", "long"):
            saver.delete_thread(thread_id)
        client.sadd(saver._shared.keyspace.run("old"), "gone")  # as older versions stored it
        saver.delete_for_runs(["old"])
    live_and_expire(server, prefix)


def live_and_expire(server: str, prefix: str) -> None:
    """Make a saver run what it needs for threads that expire, are leased and were deleted."""
    options: dict[str, Any] = {"ttl": 3600, "refresh_on_read": True, "tombstone": 0.001}
    with RedisSaver.from_conn_string(server, prefix=prefix, **options) as saver:
        with saver.lease("leased"):
            saver.put(thread("leased"), *chat(1))
            saver.get_tuple(thread("leased"))
            saver.pin("leased")
            saver.unpin("leased")
        assert saver.thread_info("leased")
        saver.delete_thread("leased")


def test_the_documented_commands_are_enough(
    server: str, client: redis.Redis, prefix: str, saver_on: SaverOn
) -> None:
    """A user who was set up by our documentation would be refused, one day, in some operation."""
    client.script_flush()
    with user(client, prefix, COMMANDS) as name:
        use_everything(client, url_of(server, name), prefix)
        use(saver_on(url_of(server, name), prefix=prefix))


@pytest.mark.parametrize("command", COMMANDS)
def test_each_documented_command_is_needed(
    server: str, client: redis.Redis, prefix: str, command: str
) -> None:
    """Users would be allowed more than they need, where secrets of others are."""
    client.script_flush()
    allowed = [one for one in COMMANDS if one != command]
    denied = r"(?i)no permission|can't run this command"
    with user(client, prefix, allowed) as name, pytest.raises(redis.ResponseError, match=denied):
        use_everything(client, url_of(server, name), prefix)


def test_tenants_cannot_reach_each_other(
    server: str, client: redis.Redis, prefix: str, saver_on: SaverOn
) -> None:
    """One customer could read or delete what another has said."""
    with user(client, f"{prefix}:a", COMMANDS) as a, user(client, f"{prefix}:b", COMMANDS) as b:
        saver_on(url_of(server, a), prefix=f"{prefix}:a").put(thread("secret"), *chat(1))
        intruder = saver_on(url_of(server, b), prefix=f"{prefix}:a")
        for attempt in (
            lambda: intruder.get_tuple(thread("secret")),
            lambda: [*intruder.list(None)],
            lambda: intruder.put(thread("secret"), *chat(2)),
            lambda: intruder.copy_thread("secret", "stolen"),
            lambda: intruder.delete_thread("secret"),
            lambda: intruder.delete_for_runs(["run 1"]),
        ):
            with pytest.raises(redis.exceptions.NoPermissionError):
                attempt()
        assert [*saver_on(url_of(server, b), prefix=f"{prefix}:b").list(None)] == []
        assert saver_on(url_of(server, a), prefix=f"{prefix}:a").get_tuple(thread("secret"))


def test_wrong_credentials_are_an_error_at_once(
    server: str, client: redis.Redis, prefix: str, saver_on: SaverOn
) -> None:
    """A typing error in a password would look like a server that is away."""
    with user(client, prefix, COMMANDS) as name:
        saver = saver_on(url_of(server, name, "wrong"), prefix=prefix)
        with pytest.raises(redis.AuthenticationError, match=r"(?i)invalid username-password"):
            saver.setup()


@pytest.fixture(scope="module")
def locked_server() -> Iterator[str]:
    """A server like those that are rented: what administrators do is not for its users."""
    forbidden = ("CONFIG", "INFO", "CLIENT", "MODULE", "KEYS", "DEBUG", "SCRIPT", "FLUSHALL")
    settings = [word for name in forbidden for word in ("--rename-command", name, "")]
    with running_server(any_binary(), *settings) as url:
        yield url


@pytest.mark.parametrize("protocol", [2, 3])
def test_commands_of_administrators_are_not_needed(
    locked_server: str, saver_on: SaverOn, protocol: int
) -> None:
    """Managed services, which forbid them, could not be used, or not set up."""
    use(saver_on(f"{locked_server}?protocol={protocol}"))
