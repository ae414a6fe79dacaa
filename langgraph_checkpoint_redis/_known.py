"""What the server has, as far as this process knows.

A put leaves out what the server has already. The memory that decides this may be wrong (another
process pruned, the thread expired, a failover lost writes), so nothing relies on it: scripts check,
and say when something is missing after all.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable


class Known:
    """Names of things that the server has in a thread: digests of chunks, or ids of runs.

    Bounded by `capacity` names (about 100 bytes each), beyond which the thread that was used least
    recently is forgotten. Shared by all copies of a saver, from any thread and task.
    """

    def __init__(self, capacity: int) -> None:
        """Know nothing yet."""
        self._capacity = capacity
        self._size = 0
        self._threads: OrderedDict[str, set[bytes]] = OrderedDict()
        self._lock = threading.Lock()

    def missing(self, thread_id: str, names: Iterable[bytes]) -> list[bytes]:
        """Those of `names` that the thread is not known to have."""
        with self._lock:
            known = self._threads.get(thread_id, ())
            return [name for name in names if name not in known]

    def add(self, thread_id: str, names: Iterable[bytes]) -> None:
        """Remember that a thread has these."""
        with self._lock:
            known = self._threads.pop(thread_id, set())
            before = len(known)
            known.update(names)
            self._size += len(known) - before
            self._threads[thread_id] = known
            while self._size > self._capacity:
                self._size -= len(self._threads.popitem(last=False)[1])

    def forget(self, thread_id: str) -> None:
        """Know nothing of a thread any more."""
        with self._lock:
            self._size -= len(self._threads.pop(thread_id, ()))
