"""What a write leaves out, and what follows when the server refuses it.

A write names chunks that the server is known to have and does not send them. If it lacks some after
all, it stores nothing and says which. The next try sends these as well. Where most of them are
gone, it sends all chunks of what changed. The last try sends all values and names nothing, so
nothing that happens meanwhile can make the server refuse it.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain, count

from langgraph_checkpoint_redis._runtime.log import report_resend
from langgraph_checkpoint_redis._storage.tree import Chunks, split_digests, with_all_below

from .cache import ThreadCache, ThreadCaches

TRIES = 6  # that leave something out: a sweep may take more away between one and the next


class Sending:
    """One write to a namespace of a thread, from its first try on.

    Attributes:
        cache: What this try may leave out.
        again: Chunks that the server has said it lacks.
        channels: Unchanged channels of which it has said that it lacks the value.
        sends_all: Whether this is the last try.
    """

    __slots__ = (
        "_caches",
        "_is_own",
        "_is_short",
        "_namespace",
        "_thread_id",
        "_tries",
        "again",
        "cache",
        "channels",
        "sends_all",
    )

    def __init__(
        self, caches: ThreadCaches, thread_id: str, namespace: str, *, is_short: bool = False
    ) -> None:
        """`is_short` says that puts keep the thread short, and so free chunks that are known."""
        self._caches, self._thread_id, self._namespace = caches, thread_id, namespace
        self._is_short = is_short
        self._tries = count(1)
        self._is_own = False
        self.cache = caches.of(thread_id)
        self.again: dict[bytes, None] = {}
        self.channels: dict[str, None] = {}
        self.sends_all = False

    def refused(self, missing: bytes, channels: Iterable[bytes] = ()) -> bool:
        """Prepare the next try by what the server lacks; return False after the last one."""
        if self.sends_all:
            return False
        digests, names = split_digests(missing), [channel.decode() for channel in channels]
        is_news = any(digest not in self.again for digest in digests)
        is_news = is_news or any(name not in self.channels for name in names)
        is_known = all(digest in self.cache.chunks for digest in digests)
        self.channels.update(dict.fromkeys(names))
        report_resend(self._thread_id, f"{len(digests)} chunks and {len(names)} values")
        if next(self._tries) >= TRIES or not is_news:
            self.sends_all = True
        forgets = self.sends_all or not is_known or not self._repeat(digests, names)
        if forgets:
            self._forget()
        self._caches.count_refusal(sends_whole=forgets)
        return True

    def _forget(self) -> None:
        """Leave nothing out. What other worker threads learn meanwhile does not change that."""
        self._caches.forget(self._thread_id)
        self.cache, self.again, self._is_own = ThreadCache(), {}, True

    def _repeat(self, digests: Iterable[bytes], channels: Iterable[str]) -> bool:
        """Send what is missing as well, unless that is much of what is known of the thread."""
        chunks, trees = self.cache.chunks, self.cache.trees_of(self._namespace)
        # Where a node is gone, most of what it refers to is, too.
        self.again.update(with_all_below(digests, chunks))
        for channel in channels:
            if channel in trees:
                self.again.update(dict.fromkeys(chain.from_iterable(trees[channel].rows)))
        missing = sum(len(chunks.get(digest, b"")) for digest in self.again)
        return 4 * missing < sum(map(len, chunks.values()))

    def missing(self, chunks: Chunks) -> dict[bytes, bytes]:
        """Return those of some chunks that the server may not have."""
        missing = self.cache.missing(chunks)
        if not self._is_short or len(missing) == len(chunks):
            return missing
        unsure = self.cache.unsure(chunks.keys() - missing.keys())
        return {
            name: content for name, content in chunks.items() if name in missing or name in unsure
        }

    def missed(self, digests: Iterable[bytes]) -> dict[bytes, bytes]:
        """Return the chunks, of these, that the server has said it lacks."""
        chunks, again = self.cache.chunks, self.again
        return {name: chunks[name] for name in digests if name in again and name in chunks}

    def learning(self) -> ThreadCache:
        """Return what is to learn of the write once it is stored."""
        return self._caches.of(self._thread_id) if self._is_own else self.cache
