"""The check of `setup`: can a server hold checkpoints, and may it lose them?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langgraph_checkpoint_redis._core.options import Options
from langgraph_checkpoint_redis._protocol.confirm import Confirm
from langgraph_checkpoint_redis._protocol.requests import Commands, Operation, ask
from langgraph_checkpoint_redis._scripts import calls
from langgraph_checkpoint_redis.errors import (
    DurabilityWarning,
    EvictionWarning,
    UnsupportedServerError,
)

OLDEST_SERVER = (6, 2)  # the first with COPY


def check_server(options: Options) -> Operation[list[UserWarning]]:
    """Raise an error if the server cannot hold checkpoints; return warnings if it may lose them."""
    info = _info(*(yield from ask(calls.check())))
    version = info.get("redis_version", "")
    if version and tuple(map(int, version.split(".")[:2])) < OLDEST_SERVER:
        raise UnsupportedServerError(f"Redis {version} is too old: 6.2 or newer is needed")
    warnings: list[UserWarning] = []
    if evicting := _evicting(info):
        warnings.append(EvictionWarning(evicting))
    if info.get("aof_enabled") == "0":
        warnings += [DurabilityWarning(text) for text in (yield from _forgetting(info))]
    if confirm := options.confirm:
        warnings += [DurabilityWarning(text) for text in (yield from _lacking(confirm, info))]
    return warnings


def _info(*sections: bytes) -> dict[str, str]:
    lines = [line for section in sections for line in section.decode().splitlines()]
    return dict(line.split(":", 1) for line in lines if ":" in line)


def _evicting(info: Mapping[str, str]) -> str:
    """Return why the server may delete parts of threads; empty if it does not.

    Even a thread that never expires has keys with a time to live of their own.
    """
    policy = info.get("maxmemory_policy", "")
    if not policy.startswith(("allkeys", "volatile")) or info.get("maxmemory") == "0":
        return ""
    return (
        f"maxmemory-policy is {policy}: when its memory is full, this server deletes parts of "
        "checkpoints. Set it to noeviction."
    )


def _forgetting(info: Mapping[str, str]) -> Operation[list[str]]:
    """Return that a server without an append-only file has no snapshots either, if it says so."""
    if (yield from _setting("save", info)) != ["save", ""]:
        return []
    return ["this server keeps nothing over a restart: set appendonly to yes, or save snapshots"]


def _lacking(confirm: Confirm, info: Mapping[str, str]) -> Operation[list[str]]:
    """Return why the server cannot confirm writes as `confirm` asks, as far as it can be seen."""
    lacking: list[str] = []
    if confirm.disk and info.get("aof_enabled") == "0":
        lacking.append("it has no append-only file (appendonly no)")
    if confirm.disk and "no" in (yield from _setting("appendfsync", info)):
        lacking.append("it leaves it to the system when to write to the disk (appendfsync no)")
    replicas = info.get("connected_slaves", "")
    if replicas.isdecimal() and int(replicas) < confirm.replicas:
        lacking.append(f"it has {replicas} replicas, not {confirm.replicas}")
    return [f"this server cannot confirm writes as confirm asks it to: {why}" for why in lacking]


def _setting(name: str, info: Mapping[str, str]) -> Operation[list[str]]:
    """Return a setting, name and value; empty if the server does not allow to read it.

    It is empty for a cluster: the command has no key, so clients do not know which node to ask.
    """
    if "cluster" in (info.get("redis_mode"), info.get("server_mode")):
        return []
    (found,) = yield Commands((("CONFIG", "GET", name),), may_fail=True)
    return _words(found)


def _words(reply: Any) -> list[str]:
    """Return the strings of a reply, which client libraries return in several forms."""
    flat = [*reply, *reply.values()] if isinstance(reply, dict) else reply
    words = [] if isinstance(flat, Exception) else flat
    return [word.decode() if isinstance(word, bytes) else str(word) for word in words]
