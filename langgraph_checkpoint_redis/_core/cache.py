"""What this process knows of threads, so that neither side sends what the other has.

Chunks are named by their content, so what is known of one never becomes wrong; whether the server
still has it may (another process pruned, the thread expired, a failover lost writes). A put leaves
out known chunks, and its script says when one is missing after all. A read names the ropes that are
known, and the server leaves out their chunks.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from threading import Lock
from typing import Any

from langgraph_checkpoint_redis._runtime.forks import reset_in_children
from langgraph_checkpoint_redis._storage.chunking import Chunks, Rope, pack_ropes

from .arguments import Place

# Bytes that things take in memory, roughly: a thread, a chunk beside its content, a rope, an id.
THREAD, CHUNK, ROPE, ID = 1000, 150, 500, 150

ADDRESSED = 10_000  # checkpoints that were read by their id


def written(channel: str) -> str:
    """What stands for the writes to a channel, where there is something of each channel."""
    return f"\0{channel}"


class Known:
    """What is known of one thread.

    `chunks` has chunks by digest; `ropes` the last value seen of each channel, by namespace, and
    the last large one that a task has `written` to it, whose chunks are all known; the same are
    `packed`; `runs` the runs that the index of runs leads to the thread from. `before` has, by
    namespace, the newest checkpoint that this process has put, or read the history of: most chunks
    of its ancestors are known.
    """

    __slots__ = ("before", "chunks", "packed", "ropes", "runs", "size")

    def __init__(self) -> None:
        self.chunks: dict[bytes, bytes] = {}
        self.ropes: dict[str, dict[str, Rope]] = {}
        self.packed: dict[str, bytes] = {}
        self.runs: set[str] = set()
        self.before: dict[str, str] = {}
        self.size = 0

    def ropes_of(self, namespace: str) -> Mapping[str, Rope]:
        """The last value seen of each channel of a namespace."""
        return self.ropes.get(namespace, {})

    def packed_ropes(self, namespace: str) -> bytes:
        """Those values, packed for scripts to leave out."""
        packed = self.packed.get(namespace)
        if packed is None:
            ropes = [*self.ropes_of(namespace).values()]
            packed = self.packed[namespace] = pack_ropes([rope.levels for rope in ropes])
        return packed

    def missing(self, chunks: Chunks) -> dict[bytes, bytes]:
        """Those of some chunks that are not known."""
        known = self.chunks
        return {digest: chunks[digest] for digest in chunks if digest not in known}


def _size(rope: Rope | None) -> int:
    return ROPE + len(rope.data) if rope else 0


class KnownThreads:
    """What is known of all threads, in at most `capacity` bytes.

    Beyond them the thread that was used least recently is forgotten. Shared by all copies of a
    saver, from any thread and task; whoever has a `Known` may go on with it when it is forgotten.

    Not forgotten with a thread is which checkpoints were read by their id, to fork there.

    Attributes:
        refused: How many writes the server has refused, since it lacked what they left out.
        sent_whole: How many times one of them was sent again with all of its chunks.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self.after_fork()
        reset_in_children(self)

    def after_fork(self) -> None:
        """Know nothing: another thread may have been about to change what was known."""
        self._size = 0
        self._threads: OrderedDict[str, Known] = OrderedDict()
        self._addressed: OrderedDict[Place, None] = OrderedDict()
        self._lock = Lock()
        self.refused = self.sent_whole = 0

    def count_refusal(self, *, sends_whole: bool) -> None:
        """Count a refused write, and whether it is sent again with all of its chunks."""
        with self._lock:
            self.refused += 1
            self.sent_whole += sends_whole

    def __reduce__(self) -> tuple[Any, ...]:
        """Begin with nothing known in another process."""
        return KnownThreads, (self._capacity,)

    def of(self, thread_id: str) -> Known:
        """What is known of a thread."""
        with self._lock:
            known = self._threads.get(thread_id)
            if known is None:
                known = self._threads[thread_id] = Known()
                self._grow(thread_id, known, THREAD)
            else:
                self._threads.move_to_end(thread_id)
            return known

    def learn(self, thread_id: str, known: Known, chunks: Chunks) -> None:
        """Remember chunks that a thread has."""
        if not chunks:
            return
        with self._lock:
            new = known.missing(chunks)
            self._grow(thread_id, known, sum(map(len, new.values())) + CHUNK * len(new))
            known.chunks.update(new)

    def learn_ropes(
        self, thread_id: str, known: Known, namespace: str, ropes: Mapping[str, Rope]
    ) -> None:
        """Remember the last values of channels, whose chunks are known."""
        with self._lock:
            last = known.ropes.setdefault(namespace, {})
            new = {name: rope for name, rope in ropes.items() if last.get(name) is not rope}
            if new:
                grown = sum(_size(new[name]) - _size(last.get(name)) for name in new)
                self._grow(thread_id, known, grown)
                last.update(new)
                known.packed.pop(namespace, None)

    def learn_before(
        self, thread_id: str, known: Known, namespace: str, checkpoint_id: str
    ) -> None:
        """Remember that most chunks of the ancestors of a checkpoint are known."""
        if known.before.get(namespace, "") < checkpoint_id:
            with self._lock:
                if namespace not in known.before:
                    self._grow(thread_id, known, ID)
                known.before[namespace] = checkpoint_id

    def learn_runs(self, thread_id: str, runs: Iterable[str]) -> None:
        """Remember that the index of runs leads to a thread from these."""
        known = self.of(thread_id)
        with self._lock:
            new = {*runs} - known.runs
            self._grow(thread_id, known, ID * len(new))
            known.runs |= new

    def address(self, place: Place) -> None:
        """Remember that a checkpoint was read by its id."""
        with self._lock:
            self._addressed[place] = None
            self._addressed.move_to_end(place)
            if len(self._addressed) > ADDRESSED:
                self._addressed.popitem(last=False)

    def was_addressed(self, place: Place) -> bool:
        """Whether a checkpoint was read by its id."""
        return place in self._addressed

    def forget(self, thread_id: str) -> None:
        """Know nothing of a thread any more."""
        with self._lock:
            if known := self._threads.pop(thread_id, None):
                self._size -= known.size

    def _grow(self, thread_id: str, known: Known, size: int) -> None:
        # If an exception of a signal handler strikes here, too much is counted, never too little,
        # and only until nothing is left.
        if self._threads.get(thread_id) is known:
            self._size += size
        known.size += size
        while self._size > self._capacity and self._threads:
            self._size -= self._threads.popitem(last=False)[1].size
        if not self._threads:
            self._size = 0
