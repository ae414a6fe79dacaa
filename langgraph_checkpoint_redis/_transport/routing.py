"""Which node of a cluster has the keys of a command, and what it is told."""

from __future__ import annotations

from typing import Any

from redis.exceptions import TryAgainError

from langgraph_checkpoint_redis._protocol.resp import Argument, Command

from .clients import SCRIPTS

REDIRECTIONS = 16  # at most, as redis-py has it
ASKING: Command = ("ASKING",)
READWRITE: Command = ("READWRITE",)  # a node that has become a replica then refuses to answer


def key_of(command: Command) -> Argument:
    """Return the first key of a script or a plain command; empty for a script without keys."""
    if command[0] in SCRIPTS:
        return command[3] if command[2] else b""
    return command[1]


def check_node_known(node: Any) -> Any:
    """Return a node that a slot is moving to; a new one becomes known once it has a slot."""
    if node is None:
        raise TryAgainError("a slot is moving to a node that is not known yet")
    return node
