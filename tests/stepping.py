"""Operations request by request, so that a test can step in between any two of them.

What belongs here: ways to drive an operation by hand, and scripts that stop after a few steps.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from langgraph_checkpoint_redis import RedisSaver
from langgraph_checkpoint_redis._protocol.requests import Operation, Request, Script


@dataclass
class Step:
    """A moment of an operation: how many requests were made, and the last one with its reply.

    A test may put another reply in its place.
    """

    number: int = 0
    request: Request | None = None
    reply: Any = None


def requests_of(saver: RedisSaver, operation: Operation[object]) -> Iterator[Request]:
    """Drive an operation: each request before it is made. The last one taken is not made."""
    reply = None
    while True:
        try:
            request = operation.send(reply)
        except StopIteration:
            return
        yield request
        reply = saver._reply(request)


def steps(saver: RedisSaver, operation: Operation[object], reply: object = None) -> Iterator[Step]:
    """Make the requests of an operation; the moments before, between and after them.

    An operation of which no further step is taken is broken off there. Another server may go on
    with it, from the last reply.
    """
    step = Step(reply=reply)
    yield step
    while True:
        try:
            request = operation.send(step.reply)
        except StopIteration:
            return
        step = Step(step.number + 1, request, saver._reply(request))
        yield step


def in_small_steps(script: Script) -> Script:
    """Make a script look at two rows or chunks in a call, so that a short thread takes many."""
    source, changes = re.subn(r"(local STEPS =|local SCANNED =) \d+", r"\1 2", script.source)
    assert changes == 2
    return Script(script.name, source)
