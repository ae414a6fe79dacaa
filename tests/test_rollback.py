"""A server that has lost its newest writes, as after a failover to a replica that lagged behind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import redis
from langgraph.checkpoint.base import Checkpoint

from langgraph_checkpoint_redis import RedisSaver
from langgraph_checkpoint_redis._storage.keys import Keyspace

from .driving import Saver
from .graphs import thread
from .strategies import message, next_checkpoint

MESSAGES = [message(number) for number in range(40)]


@contextmanager
def rolled_back(client: redis.Redis, prefix: str) -> Iterator[None]:
    """What is written meanwhile is lost at the end."""
    keys = Keyspace(prefix).thread("a")
    dumps = {key: client.dump(key) for key in keys}
    yield
    for key, dump in dumps.items():
        client.delete(key)
        if dump is not None:
            client.restore(key, 0, dump)


def put(saver: Saver, before: Checkpoint | None, number: int) -> Checkpoint:
    """A step of a conversation, of five messages; one channel changes in the first step only."""
    changed = {"messages": MESSAGES[: 5 * number]}
    if before is None:
        changed["notes"] = MESSAGES[:3]
    checkpoint, versions = next_checkpoint(saver, before, str(number), changed)
    parent = before["id"] if before else ""
    saver.put(thread("a", checkpoint_ns="", checkpoint_id=parent), checkpoint, {}, versions)
    return checkpoint


@pytest.mark.parametrize("kept", range(4))
def test_a_conversation_goes_on_complete_after_its_newest_writes_were_lost(
    saver: Saver, client: redis.Redis, prefix: str, server: str, kept: int
) -> None:
    """After a failover, every checkpoint would be damaged, and users would have to start anew."""
    last: Checkpoint | None = None
    for number in range(1, kept + 1):
        last = put(saver, last, number)
    with rolled_back(client, prefix):
        for number in range(kept + 1, kept + 4):
            last = put(saver, last, number)
            saver.put_writes(thread("a", checkpoint_id=last["id"]), [("messages", MESSAGES)], "t")
    newest = put(saver, last, kept + 4)
    saver.put_writes(thread("a", checkpoint_id=newest["id"]), [("messages", MESSAGES)], "task")
    with RedisSaver.from_conn_string(server, prefix=prefix) as other:
        for reader in (other, saver):
            found = reader.get_tuple(thread("a"))
            assert found
            assert found.checkpoint["channel_values"] == newest["channel_values"]
            assert found.pending_writes == [("task", "messages", MESSAGES)]
            assert len([*reader.list(thread("a"))]) == kept + 1
