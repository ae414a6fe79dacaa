"""What this process knows of threads, so that neither side sends what the other has.

Chunks are named by their content, so what is known of one never becomes wrong; whether the server
still has it may (another process pruned, the thread expired, a failover lost writes). A put leaves
out known chunks, and its script says when one is missing after all. A read names the trees that are
known, and the server leaves out their chunks.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping
from itertools import chain
from threading import Lock
from typing import Any, NamedTuple

from langgraph_checkpoint_redis._runtime.forks import reset_in_children
from langgraph_checkpoint_redis._storage.refs import CheckpointRef
from langgraph_checkpoint_redis._storage.tree import Chunks, ChunkTree, pack_trees

# Bytes that things take in memory, roughly: a thread, a chunk beside its content, a tree, an id.
THREAD, CHUNK, TREE, ID = 1000, 150, 500, 150

RECENT = 8  # checkpoints of a namespace whose new chunks are remembered, where puts remove old ones
ADDRESSED = 10_000  # checkpoints that were read by their id


def written_name(channel: str) -> str:
    """Return the key under which `trees` remembers the writes of a task to a channel."""
    return f"\0{channel}"


def _is_call(namespace: str) -> bool:
    """Return whether a namespace belongs to one call of a subgraph."""
    return ":" in namespace


class Put(NamedTuple):
    """A checkpoint that was put with `keep_last`, and which checkpoints are there for certain.

    These are the newest `kept` of its namespace. If it `is_rebuilt` from ancestors, all since the
    one that these begin with are there. The `root` checkpoint is that of a subgraph's call.
    """

    namespace: str
    checkpoint_id: str
    kept: int
    is_rebuilt: bool
    root: str


class Recent:
    """The chunks of rows that are certainly there, in a thread that puts keep short.

    A put with `keep_last` removes older checkpoints of its namespace, with the writes there. So
    this has the chunks that were new in the newest checkpoints that were put, and in the writes to
    these. The namespace of a subgraph's call goes with the root checkpoint that made the call.
    """

    __slots__ = ("_chunks", "_lasting", "_newest", "_oldest", "_roots")

    def __init__(self) -> None:
        self._newest: dict[str, list[str]] = {}  # checkpoints that were put, by namespace
        self._oldest: dict[str, str] = {}  # of these, where older ones may be gone
        # These are replaced as a whole, so that readers need no lock.
        self._roots: dict[str, str] = {}  # the root checkpoints that made calls
        self._chunks: dict[tuple[str, str], frozenset[bytes]] = {}
        # What delta channels may still be rebuilt from. These sets only grow.
        self._lasting: dict[str, set[bytes]] = {}

    def add(self, namespace: str, checkpoint_id: str, names: Iterable[bytes]) -> None:
        """Note the chunks of a row of a checkpoint, unless it may be gone."""
        if checkpoint_id >= self._oldest.get(namespace, ""):
            at = namespace, checkpoint_id
            self._chunks = {**self._chunks, at: self._chunks.get(at, frozenset()).union(names)}

    def advance(self, put: Put) -> None:
        """Note that a checkpoint was put, which may have removed others."""
        namespace, kept = put.namespace, min(put.kept, RECENT)
        newest = sorted({put.checkpoint_id, *self._newest.get(namespace, ())}, reverse=True)[:kept]
        oldest = newest[-1] if len(newest) == kept else ""
        self._newest[namespace], self._oldest[namespace] = newest, oldest
        lasting = self._lasting.get(namespace, set()) if put.is_rebuilt else set()
        self._lasting = {**self._lasting, namespace: lasting}
        for (name, id_), names in self._chunks.items() if put.is_rebuilt else ():
            if name == namespace and id_ < oldest:
                lasting.update(names)
        if _is_call(namespace):
            self._roots = {**self._roots, namespace: put.root}
        elif not namespace:
            self._forget_calls_before(oldest)
        self._chunks = {
            (name, id_): names
            for (name, id_), names in self._chunks.items()
            if self.has(name) and id_ >= self._oldest.get(name, "")
        }

    def _forget_calls_before(self, root: str) -> None:
        self._roots = {name: id_ for name, id_ in self._roots.items() if id_ >= root}
        self._newest = {name: ids for name, ids in self._newest.items() if self.has(name)}
        self._oldest = {name: id_ for name, id_ in self._oldest.items() if self.has(name)}
        self._lasting = {name: some for name, some in self._lasting.items() if self.has(name)}

    def has(self, namespace: str) -> bool:
        """Return whether the last values that were seen in a namespace are certainly there."""
        return not _is_call(namespace) or namespace in self._roots

    def without(self, names: Iterable[bytes]) -> set[bytes]:
        """Return those of some chunks that are not among these."""
        return {*names}.difference(*self._chunks.values(), *self._lasting.values())


class ThreadCache:
    """What is known of one thread.

    `chunks` has chunks by digest; `trees` the last value seen of each channel, by namespace, and
    the last large one that a task has `written` to it, whose chunks are all known; the same are
    `packed`; `runs` the runs that the index of runs leads to the thread from. `before` has, by
    namespace, the newest checkpoint that this process has put, or read the history of: most chunks
    of its ancestors are known. What is `recent` is there still where puts remove old checkpoints.
    """

    __slots__ = ("before", "chunks", "packed", "recent", "runs", "size", "trees")

    def __init__(self) -> None:
        self.chunks: dict[bytes, bytes] = {}
        self.trees: dict[str, dict[str, ChunkTree]] = {}
        self.packed: dict[str, bytes] = {}
        self.runs: set[str] = set()
        self.before: dict[str, str] = {}
        self.recent = Recent()
        self.size = 0

    def trees_of(self, namespace: str) -> Mapping[str, ChunkTree]:
        """Return the last value seen of each channel of a namespace."""
        return self.trees.get(namespace, {})

    def packed_trees(self, namespace: str) -> bytes:
        """Return these trees packed, so that a script leaves out their chunks."""
        packed = self.packed.get(namespace)
        if packed is None:
            trees = [*self.trees_of(namespace).values()]
            packed = self.packed[namespace] = pack_trees([tree.levels for tree in trees])
        return packed

    def missing(self, chunks: Chunks) -> dict[bytes, bytes]:
        """Return the chunks that the cache lacks."""
        cache = self.chunks
        return {digest: chunks[digest] for digest in chunks if digest not in cache}

    def unsure(self, names: Iterable[bytes]) -> set[bytes]:
        """Return the chunks, of these, that a put with `keep_last` may have removed.

        What the last values of channels are made of is there, and what is recent.
        """
        found = self.recent.without(names)
        for namespace, trees in [*self.trees.items()] if found else ():
            if self.recent.has(namespace):
                found.difference_update(
                    *chain.from_iterable(tree.rows for tree in [*trees.values()])
                )
        return found


def _size(tree: ChunkTree | None) -> int:
    return TREE + len(tree.data) if tree else 0


class ThreadCaches:
    """What is known of all threads, in at most `capacity` bytes.

    Beyond them the thread that was used least recently is forgotten. Shared by all copies of a
    saver, from any thread and task; a `ThreadCache` stays usable after its thread is forgotten.

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
        self._threads: OrderedDict[str, ThreadCache] = OrderedDict()
        self._addressed: OrderedDict[CheckpointRef, None] = OrderedDict()
        self._lock = Lock()
        self.refused = self.sent_whole = 0

    def count_refusal(self, *, sends_whole: bool) -> None:
        """Count a refused write, and whether it is sent again with all of its chunks."""
        with self._lock:
            self.refused += 1
            self.sent_whole += sends_whole

    def __reduce__(self) -> tuple[Any, ...]:
        """Begin with nothing known in another process."""
        return ThreadCaches, (self._capacity,)

    def of(self, thread_id: str) -> ThreadCache:
        """What is known of a thread."""
        with self._lock:
            cache = self._threads.get(thread_id)
            if cache is None:
                cache = self._threads[thread_id] = ThreadCache()
                self._grow(thread_id, cache, THREAD)
            else:
                self._threads.move_to_end(thread_id)
            return cache

    def learn(self, thread_id: str, cache: ThreadCache, chunks: Chunks) -> None:
        """Remember chunks that a thread has."""
        if not chunks:
            return
        with self._lock:
            new = cache.missing(chunks)
            self._grow(thread_id, cache, sum(map(len, new.values())) + CHUNK * len(new))
            cache.chunks.update(new)

    def learn_trees(
        self, thread_id: str, cache: ThreadCache, namespace: str, trees: Mapping[str, ChunkTree]
    ) -> None:
        """Remember the last values of channels, whose chunks are known."""
        with self._lock:
            last = cache.trees.setdefault(namespace, {})
            new = {name: tree for name, tree in trees.items() if last.get(name) is not tree}
            if new:
                grown = sum(_size(new[name]) - _size(last.get(name)) for name in new)
                self._grow(thread_id, cache, grown)
                last.update(new)
                cache.packed.pop(namespace, None)

    def learn_recent(
        self, cache: ThreadCache, namespace: str, checkpoint_id: str, names: Iterable[bytes]
    ) -> None:
        """Remember the chunks that were new in a row of a checkpoint."""
        with self._lock:
            cache.recent.add(namespace, checkpoint_id, names)

    def learn_put(
        self, thread_id: str, cache: ThreadCache, put: Put, channels: Collection[str]
    ) -> None:
        """Note that a checkpoint was put with `keep_last`, with values of these channels.

        It may have removed the values of others, and what tasks wrote.
        """
        with self._lock:
            cache.recent.advance(put)
            last = cache.trees.get(put.namespace, {})
            gone = [] if put.is_rebuilt else [name for name in last if name not in channels]
            for name in gone:
                self._grow(thread_id, cache, -_size(last.pop(name)))
                cache.packed.pop(put.namespace, None)

    def learn_before(
        self, thread_id: str, cache: ThreadCache, namespace: str, checkpoint_id: str
    ) -> None:
        """Remember that most chunks of the ancestors of a checkpoint are known."""
        if cache.before.get(namespace, "") < checkpoint_id:
            with self._lock:
                if namespace not in cache.before:
                    self._grow(thread_id, cache, ID)
                cache.before[namespace] = checkpoint_id

    def learn_runs(self, thread_id: str, runs: Iterable[str]) -> None:
        """Remember that the index of runs leads to a thread from these."""
        cache = self.of(thread_id)
        with self._lock:
            new = {*runs} - cache.runs
            self._grow(thread_id, cache, ID * len(new))
            cache.runs |= new

    def address(self, ref: CheckpointRef) -> None:
        """Remember that a checkpoint was read by its id."""
        with self._lock:
            self._addressed[ref] = None
            self._addressed.move_to_end(ref)
            if len(self._addressed) > ADDRESSED:
                self._addressed.popitem(last=False)

    def was_addressed(self, ref: CheckpointRef) -> bool:
        """Whether a checkpoint was read by its id."""
        return ref in self._addressed

    def forget(self, thread_id: str) -> None:
        """Know nothing of a thread any more."""
        with self._lock:
            if cache := self._threads.pop(thread_id, None):
                self._size -= cache.size

    def _grow(self, thread_id: str, cache: ThreadCache, size: int) -> None:
        # If an exception of a signal handler strikes here, too much is counted, never too little,
        # and only until nothing is left.
        if self._threads.get(thread_id) is cache:
            self._size += size
        cache.size += size
        while self._size > self._capacity and self._threads:
            self._size -= self._threads.popitem(last=False)[1].size
        if not self._threads:
            self._size = 0
