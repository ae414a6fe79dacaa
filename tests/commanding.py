"""Commands of the command line, and threads to run them on.

The fixture `run` runs a command, and returns what it printed and how it ended.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import redis

from langgraph_checkpoint_redis import RedisSaver

from .driving import DirectDriver
from .graphs import Log, Session, asks, chat, says, sequence


class Done(NamedTuple):
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def documents(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def rows(self) -> list[list[str]]:
        return [line.split("\t") for line in self.out.splitlines()[1:]]


Run = Callable[..., Done]


# Threads


def session(saver: RedisSaver, builder: Any, thread_id: str = "a") -> Session:
    return Session(DirectDriver(saver), builder, thread_id)


def chatted(saver: RedisSaver, thread_id: str = "a", turns: int = 2) -> Session:
    talk = session(saver, chat(), thread_id)
    for turn in range(turns):
        talk.say(f"turn {turn}")
    return talk


def asked(saver: RedisSaver, thread_id: str = "a") -> Session:
    """A thread that waits for an answer."""
    waiting = session(saver, sequence(Log, plan=says("plan"), ask=asks("Buy?")), thread_id)
    waiting.run({"log": []})
    return waiting


def many(client: redis.Redis, saver: RedisSaver, number: int) -> None:
    """So many threads of a checkpoint each, in a moment."""
    chatted(saver, "source", 1)
    keyspace = saver._shared.keyspace
    with client.pipeline(transaction=False) as pipeline:
        for copy in range(number):
            to = keyspace.thread(f"copy {copy} {'x' * 40}")
            for source, target in zip(keyspace.thread("source")[:3], to[:3], strict=True):
                pipeline.execute_command("COPY", source, target)
        pipeline.execute()
    saver.delete_thread("source")
