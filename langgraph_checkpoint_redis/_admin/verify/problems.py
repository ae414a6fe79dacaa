"""Problems of a thread: as callers see them, and as drop.lua looks at them again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from langgraph_checkpoint_redis._core.run_index import Trouble
from langgraph_checkpoint_redis._scripts.calls import Flaw

Kind = Literal["lost", "incomplete", "unindexed", "garbage"]


@dataclass(frozen=True)
class Problem:
    """Something that is wrong in a thread.

    Attributes:
        kind: `"lost"` is data that cannot be read any more; `"incomplete"` a checkpoint with a
            delta channel whose ancestors are gone, so that it reads as less than it was;
            `"unindexed"` a run whose checkpoints here `delete_for_runs` would not find;
            `"garbage"` data that nothing refers to, or that refers to nothing. It costs memory and
            does no other harm.
        namespace: The namespace of the checkpoint, or of the checkpoint that writes belong to. If
            the name is damaged, the part that can be read.
        checkpoint_id: The id of that checkpoint; empty for garbage among the chunks.
        key: The key in Redis.
        reason: What is wrong, for people.
    """

    kind: Kind
    namespace: str
    checkpoint_id: str
    key: str
    reason: str


class Finding(NamedTuple):
    """A problem that a script looks at again, as it is told of it.

    `weight` is how many bytes the script reads for it.
    """

    problem: Problem
    flaw: Flaw
    weight: int


def describe_trouble(trouble: Trouble) -> Problem:
    """Return what is wrong between a thread and the index of a run as a problem of the thread."""
    kind: Kind = "unindexed" if trouble.is_lost else "garbage"
    return Problem(kind, "", "", trouble.key.decode(), trouble.reason)
