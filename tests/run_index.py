"""The index of runs, read without a saver."""

from __future__ import annotations

from typing import Any

from langgraph_checkpoint_redis._storage.keys import Keyspace


def threads_of(client: Any, prefix: str, run_id: str) -> set[str]:
    """The threads that a run leads to."""
    entries = client.zrange(Keyspace(prefix).run(run_id), 0, -1)
    return {entry.partition(b"\0")[0].decode() for entry in entries}


def runs_of(client: Any, prefix: str, thread_id: str) -> set[str]:
    """The runs that lead to a thread."""
    names = [key.decode() for key in client.scan_iter(f"{prefix}:run:*")]
    runs = [name[name.index("{") + 1 : name.rindex("}")] for name in names]
    return {run for run in runs if thread_id in threads_of(client, prefix, run)}
