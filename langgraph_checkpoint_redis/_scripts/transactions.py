"""Large chunks go to the server ahead of the script that refers to them, in one transaction.

An argument of a script is copied into Lua, and copied again for the command that stores it. For
many bytes that takes a server several times as long as a plain `HSET`. So here a transaction has
the `HSET`, and then the script, which finds the chunks there. Two small scripts go around them: the
first notes which of the chunks are new, the last removes these if nothing was stored. Since it is a
transaction, no other client sees what is between, and no crash leaves a part of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic
from typing import Any

from langgraph_checkpoint_redis._protocol.requests import Call
from langgraph_checkpoint_redis._protocol.resp import Argument, Command

from .load import AHEAD, SETTLE

LARGE = 256 * 1024  # bytes of chunks: for fewer, a transaction takes longer than the copies

MULTI: Command = ("MULTI",)
EXEC: Command = ("EXEC",)
PROBE: tuple[Command, ...] = (MULTI, EXEC)  # what a server must allow
LENGTH = 6  # commands of a transaction
SECONDS_WITHOUT = 60.0  # after a server has refused a transaction, until it is asked again


class Transactions:
    """Remember whether a server, and each proxy before it, allows transactions.

    A refusal counts for a minute. A proxy may have lost its server for a moment, and an operator
    may change what a user is allowed to do.
    """

    def __init__(self) -> None:
        self.are_allowed = False
        self._asked_again_at = 0.0

    @property
    def are_unknown(self) -> bool:
        """Return whether the server has to be asked."""
        return not self.are_allowed and monotonic() >= self._asked_again_at

    def learn(self, replies: Sequence[Any]) -> None:
        """Take the replies to `PROBE`; there are none if the connection was closed."""
        self.are_allowed = [*replies] == [b"OK", []]
        self._asked_again_at = monotonic() + SECONDS_WITHOUT


def are_large(pairs: Sequence[Argument]) -> bool:
    """Return whether chunks, each a digest and a content, had better go ahead of their script."""
    return sum(len(content) for content in pairs[1::2] if isinstance(content, bytes)) >= LARGE


def build_transaction(call: Call[Any], first: int) -> tuple[Command, ...]:
    """Return the commands for a call whose chunks begin with its argument `first`."""
    pairs = call.args[first:]
    names = b"".join(name for name in pairs[::2] if isinstance(name, bytes))
    chunks = call.keys[2]
    args: list[Argument] = [*call.args[:first]]
    args[-1] = bytes(args[-1]) + names if isinstance(args[-1], bytes) else names
    # With their sources, as an unknown script would end a transaction that has begun to write.
    return (
        MULTI,
        ("EVAL", AHEAD.source, len(call.keys), *call.keys, names),
        ("HSET", chunks, *pairs),
        ("EVAL", call.script.source, len(call.keys) + 1, *call.keys, chunks, *args),
        ("EVAL", SETTLE.source, 3, *call.keys[:3]),
        EXEC,
        *(call.confirm.commands() if call.confirm else ()),
    )


def read_transaction(replies: Sequence[Any], transactions: Transactions) -> Sequence[Any]:
    """Return the replies that the call alone would have; none if the transaction has failed.

    Then nothing was stored, and the call itself has the reason for its reply.
    """
    if isinstance(replies[0], Exception):
        transactions.learn(replies)
    done = replies[LENGTH - 1]
    if not isinstance(done, list) or any(isinstance(reply, Exception) for reply in done):
        return []
    return [done[2], *replies[LENGTH:]]
