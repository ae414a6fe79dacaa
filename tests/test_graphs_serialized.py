"""Graphs with types of their own, allowlists of types, and an encrypting serializer."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
import redis
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.types import Command

from langgraph_checkpoint_redis import AsyncRedisSaver, RedisSaver

from .driving import Driver, Open, Restart
from .graphs import (
    TYPED,
    Point,
    Session,
    alike,
    asks,
    chat,
    says,
    sequence,
    thread,
    typed,
    with_saver,
)
from .servers import connections_of
from .stored import parts_of

_STRICT = JsonPlusSerializer(allowed_msgpack_modules=None)


@pytest.mark.parametrize("serde", [_STRICT], ids=[""])
def test_an_allowlist_lets_its_types_through_and_no_others(
    drive: Driver, raw_saver: RedisSaver | AsyncRedisSaver
) -> None:
    """State would come back as plain data, or types that nobody allowed would be made."""
    drive.invoke(typed().compile(checkpointer=raw_saver), TYPED, thread())
    allowed = raw_saver.with_allowlist([(Point.__module__, "Point")])
    values = [
        drive.state(typed().compile(checkpointer=saver), thread()).values
        for saver in (allowed, raw_saver)
    ]
    assert values[0]["points"] == [Point(1, 2), Point(3, 4)]
    assert values[0]["person"] != TYPED["person"]
    assert not any(isinstance(point, Point) for point in values[1]["points"])


_STRICT_PROGRAM = """
import asyncio, sys
from langgraph_checkpoint_redis import AsyncRedisSaver, RedisSaver
from tests.graphs import TYPED, thread, typed

url, prefix = sys.argv[1:]

async def awaited():
    async with AsyncRedisSaver.from_conn_string(url, prefix=prefix) as saver:
        graph = typed().compile(checkpointer=saver)
        await graph.ainvoke(TYPED, thread("async"))
        print((await graph.aget_state(thread("async"))).values)

with RedisSaver.from_conn_string(url, prefix=prefix) as saver:
    graph = typed().compile(checkpointer=saver)
    graph.invoke(TYPED, thread("sync"))
    print(graph.get_state(thread("sync")).values)
asyncio.run(awaited())
"""


def test_strict_msgpack_knows_the_types_of_the_schema(server: str, prefix: str) -> None:
    """Whoever turns on LangGraph's strict mode would get dictionaries for their objects."""
    command = [sys.executable, "-W", "error", "-c", _STRICT_PROGRAM, server, prefix]
    strict = {**os.environ, "LANGGRAPH_STRICT_MSGPACK": "true"}
    run = subprocess.run(command, env=strict, capture_output=True, text=True, check=False)
    assert run.stderr == ""
    point, person = TYPED["points"][0], TYPED["person"]
    values = f"{{'points': [{point}, {Point(3, 4)}], 'person': {person!r}}}"
    assert run.stdout.splitlines() == [values, values]


@pytest.mark.parametrize("serde", [_STRICT], ids=[""])
def test_copies_for_an_allowlist_share_the_connections(
    drive: Driver, savers: Open, server: str, client: redis.Redis
) -> None:
    """Every graph would open connections of its own, or close those of the others when it goes."""
    name = f"mine-{uuid4()}"
    saver = savers(f"{server}?client_name={name}")
    Session(with_saver(drive, saver), chat()).say("hi")
    connections = connections_of(client, name)
    for _ in range(3):
        copied = saver.with_allowlist([("no", "matter")])
        assert copied is not saver
        Session(with_saver(drive, copied), chat()).state()
        del copied
        gc.collect()
    assert connections_of(client, name) == connections != set()


_ENCRYPTED = EncryptedSerializer.from_pycryptodome_aes(key=bytes(range(32)))


@pytest.mark.parametrize("serde", [None, _ENCRYPTED], ids=["plain", "encrypted"])
def test_an_encrypting_serializer_covers_all_that_was_said(
    drive: Driver,
    restart: Restart,
    serde: SerializerProtocol | None,
    client: redis.Redis,
    prefix: str,
) -> None:
    """Secrets could be read by whoever reads the server, its backups or its replicas."""
    secrets = ["told", "noted", "asked", "answered", "updated", "tagged", "failed"]

    def story(drive: Driver) -> list[Any]:
        builder = sequence(
            a=says("SECRET noted"), b=asks("SECRET asked"), c=_fails("SECRET failed")
        )
        session = Session(drive, builder)
        tagged: RunnableConfig = {**session.config, "metadata": {"tag": "SECRET tagged"}}
        session.run({"log": ["SECRET told"]}, tagged)
        session.update({"log": ["SECRET updated"]}, as_node="a")
        session = session.go_on(restart(drive))
        session.run(None)
        with pytest.raises(ValueError, match="SECRET failed"):
            session.run(Command(resume="SECRET answered"))
        return [
            session.state(),
            session.history(filter={"tag": "SECRET tagged"}),
            session.history(),
        ]

    alike(drive, story)
    stored = b"\n".join(
        part for key in client.scan_iter(f"{prefix}:*") for part in [key, *parts_of(client, key)]
    )
    found = [secret for secret in secrets if f"SECRET {secret}".encode() in stored]
    assert found == ([] if serde else secrets)


def _fails(message: str) -> Callable[[object], None]:
    def fail(_: object) -> None:
        raise ValueError(message)

    return fail
