"""What a process remembers of threads: bounded, safe to share, and never relied upon."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import Any

import pytest
import redis
from langgraph.checkpoint.conformance.test_utils import (
    generate_checkpoint,
    generate_config,
    generate_metadata,
)

from langgraph_checkpoint_redis import AsyncRedisSaver, CorruptThreadError, RedisSaver
from langgraph_checkpoint_redis._core import writing
from langgraph_checkpoint_redis._core.cache import (
    CHUNK,
    ID,
    THREAD,
    TREE,
    Put,
    Recent,
    ThreadCache,
    ThreadCaches,
)
from langgraph_checkpoint_redis._storage.chunking import Cut, cut_msgpack
from langgraph_checkpoint_redis._storage.keys import Keyspace
from langgraph_checkpoint_redis._storage.tree import Chunks, ChunkTree, digest_of

from .driving import DirectDriver, Driver, Saver
from .graphs import Session, alike, asks, chat, sequence
from .stored import chunks_at

SIZE = 1000  # bytes of a chunk


def some_chunks(name: object, count: int = 1) -> Chunks:
    """Chunks whose contents begin with a name."""
    contents = [f"{name} {number} ".encode().ljust(SIZE) for number in range(count)]
    return {digest_of(content): content for content in contents}


def learn(threads: ThreadCaches, thread_id: str, count: int = 1) -> ThreadCache:
    known = threads.of(thread_id)
    threads.learn(thread_id, known, some_chunks(thread_id, count))
    return known


def remembered(threads: ThreadCaches) -> list[str]:
    """The threads that are known, the one that is forgotten first at the beginning."""
    return [*threads._threads]


def size(threads: ThreadCaches) -> int:
    """The size of all that is known, after making sure that it is counted right."""
    known = threads._threads.values()
    counted = sum(_size_of(one) for one in known)
    assert threads._size == sum(one.size for one in known) == counted
    return counted


def _size_of(known: ThreadCache) -> int:
    chunks = sum(CHUNK + len(content) for content in known.chunks.values())
    trees = [tree for trees in known.trees.values() for tree in trees.values()]
    ids = ID * len(known.before)
    return THREAD + chunks + ids + sum(TREE + len(tree.data) for tree in trees)


@pytest.mark.parametrize("capacity", [0, 1, THREAD, THREAD + CHUNK + SIZE, 20_000])
def test_the_memory_takes_no_more_than_it_may(capacity: int) -> None:
    """A worker with many users would run out of memory."""
    threads = ThreadCaches(capacity)
    for number in range(50):
        learn(threads, f"thread {number}", number % 7)
        assert size(threads) <= capacity
    learn(threads, "large", 100)
    assert size(threads) <= capacity


def test_the_thread_that_was_not_used_for_longest_is_forgotten_first() -> None:
    """A busy conversation would be sent whole at each turn, while idle ones are remembered."""
    threads = ThreadCaches(3 * (THREAD + CHUNK + SIZE))
    for thread_id in "abc":
        learn(threads, thread_id)
    threads.of("a")
    learn(threads, "d")
    assert remembered(threads) == ["c", "a", "d"]
    assert threads.of("b").chunks == {}


def test_what_is_learned_twice_counts_once() -> None:
    """The memory would seem full while it holds next to nothing."""
    threads = ThreadCaches(10**6)
    data = b"".join(some_chunks("a", 5).values())
    for _ in range(5):
        known = learn(threads, "a", 5)
        pieces = cut_msgpack(data, None, known.chunks)
        threads.learn("a", known, pieces.nodes)
        threads.learn("a", known, pieces.pieces)
        threads.learn_trees("a", known, "", {"c": pieces.tree})
    assert size(threads) == _size_of(known)
    assert known.trees_of("") == {"c": pieces.tree}
    assert known.missing({**pieces.nodes, **pieces.pieces, **some_chunks("a", 5)}) == {}
    assert known.missing(some_chunks("b")) == some_chunks("b")


def test_checkpoints_whose_ancestors_are_known_take_memory_as_well() -> None:
    """A worker whose graphs call subgraphs all the time would run out of memory."""
    threads = ThreadCaches(20_000)
    known = threads.of("a")
    for number in range(50):
        threads.learn_before("a", known, f"call:{number}", "2")
        threads.learn_before("a", known, f"call:{number}", "1")  # an older one
        assert size(threads) == THREAD + ID * (number + 1)
    assert {*known.before.values()} == {"2"}
    for number in range(50, 500):
        threads.learn_before("a", known, f"call:{number}", "2")
    assert remembered(threads) == []


def test_what_is_in_use_survives_being_forgotten() -> None:
    """A call would fail when another thread needs the memory at the same moment."""
    threads = ThreadCaches(10**6)
    known = learn(threads, "a", 3)
    threads.forget("a")
    threads.learn("a", known, some_chunks("later"))
    threads.learn_trees("a", known, "", {"c": cut_msgpack(b"value", None, {}).tree})
    assert len(known.chunks) == 4
    assert known.trees_of("")
    assert size(threads) == 0
    assert threads.of("a") is not known
    assert threads.of("a").chunks == {}
    threads.learn("a", known, some_chunks("even later"))
    assert size(threads) == THREAD
    threads.forget("never known")


def test_many_threads_at_once_leave_the_size_right() -> None:
    """The memory would grow without end, or stop remembering anything."""
    threads = ThreadCaches(50_000)

    def hammer(seed: int) -> None:
        random = Random(seed)
        for number in range(2000):
            thread_id = random.choice("abcdefgh")
            known = threads.of(thread_id)
            threads.learn(thread_id, known, some_chunks(random.randrange(50), 2))
            threads.learn_trees(
                thread_id, known, str(number % 3), {"c": cut_msgpack(b"v", None, {}).tree}
            )
            known.packed_trees(str(number % 3))
            if random.random() < 0.1:
                threads.forget(thread_id)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(hammer, range(8)))
    assert size(threads) <= 50_000
    for thread_id in "abcdefgh":
        threads.forget(thread_id)
    assert size(threads) == 0


def test_the_runs_of_a_thread_count_as_well() -> None:
    """A thread that runs every minute would take more memory of a worker from day to day."""
    capacity = 10_000
    saver = RedisSaver("redis://localhost")  # nothing is sent
    saver._shared = saver._shared._replace(caches=ThreadCaches(capacity))
    for number in range(1000):
        metadata = generate_metadata(run_id=f"{number:036}")
        put = writing.put(saver._context, generate_config("a"), generate_checkpoint(), metadata, {})
        next(put)  # the call that indexes the run
        put.send(10**15)
        with pytest.raises(StopIteration):
            put.send([1, [], [], 0, []])
    runs = [run for known in saver._shared.caches._threads.values() for run in known.runs]
    assert sum(map(len, runs)) <= capacity


@pytest.mark.parametrize("kept", [1, 3, 10_000])
def test_what_is_certainly_there_of_a_short_thread_does_not_grow_with_it(kept: int) -> None:
    """A conversation that never ends would fill the memory of its process."""
    recent = Recent()
    for turn in range(1000):
        recent.add("", f"{turn:04}", [b"write %d" % turn])
        recent.advance(Put("", f"{turn:04}", kept, is_rebuilt=False, root=""))
        call = f"call:{turn}"
        recent.advance(Put(call, f"{turn:04}", kept, is_rebuilt=turn % 2 == 0, root=f"{turn:04}"))
        recent.add(call, f"{turn:04}", [b"call %d" % turn])
    assert recent.without([b"write 999", b"call 999", b"other"]) == {b"other"}
    old = [b"write 900", b"call 900"]
    assert recent.without(old) == {*old}
    found: list[object] = [recent]
    for each in found:
        found += [one for one in gc.get_referents(each) if isinstance(one, dict | set | frozenset)]
    assert sum(len(one) for one in found[1:] if isinstance(one, dict | set | frozenset)) < 200


def test_what_was_damaged_is_read_anew_when_it_is_repaired(
    saver: Saver, client: redis.Redis, prefix: str
) -> None:
    """After a backup is restored, each worker would still fail until it is started again."""
    key, at = Keyspace(prefix).thread("a").chunks, generate_config("a")
    checkpoint = generate_checkpoint(
        channel_values={"c": ["v" * 1000] * 9}, channel_versions={"c": "1"}
    )
    RedisSaver(client, prefix=prefix).put(at, checkpoint, generate_metadata(), {"c": "1"})
    chunks: Any = client.hgetall(key)
    client.hset(key, mapping={digest: chunk[:-1] for digest, chunk in chunks.items()})
    with pytest.raises(CorruptThreadError):
        saver.get_tuple(at)
    client.hset(key, mapping=chunks)
    found = saver.get_tuple(at)
    assert found
    assert found.checkpoint == checkpoint


def test_what_a_task_wrote_is_not_cut_again(
    saver: Saver, client: redis.Redis, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large result would cost twice: as a write, and as the value of its channel."""
    documents = [f"{number} " * 300 for number in range(20)]
    at = saver.put(generate_config("a"), generate_checkpoint(), generate_metadata(), {})
    saver.put_writes(at, [("short", "a"), ("documents", documents)], "task")
    short: list[bytes] = []

    def cut_short(data: bytes, before: ChunkTree | None, known: Chunks, rate: int) -> Cut:
        short.append(data)
        assert len(data) < 100
        return cut_msgpack(data, before, known, rate)

    monkeypatch.setattr("langgraph_checkpoint_redis._storage.values.cut_msgpack", cut_short)
    versions: dict[str, str | int | float] = {"short": "1", "documents": "1"}
    values = {"short": "a", "documents": documents}
    for _ in range(2):
        checkpoint = generate_checkpoint(channel_values=values, channel_versions=versions)
        saver.put(at, checkpoint, generate_metadata(), versions)
        found = RedisSaver(client, prefix=prefix).get_tuple(generate_config("a"))
        assert found
        assert found.checkpoint["channel_values"] == values
        assert short
        monkeypatch.setattr("langgraph_checkpoint_redis._storage.values.cut_msgpack", cut_msgpack)
        client.delete(Keyspace(prefix).thread("a").chunks)  # now it has to be sent, after all


def test_the_garbage_collector_finds_little_in_what_is_remembered(drive: Driver) -> None:
    """A process that serves many threads would stop the longer, and each time for all of them."""
    threads, turns = 10, 6
    for thread_id in range(threads):
        session = Session(drive, chat(), f"{thread_id}")
        for turn in range(turns):
            session.say(f"turn {turn} of {thread_id} " * 50)
    gc.collect()
    shared = drive.saver._shared  # type: ignore[attr-defined]
    assert collected([*shared.caches._threads.values()]) <= 10 * threads
    remembered = drive.saver.serde.messages  # type: ignore[attr-defined]
    messages = [*remembered.read.values()]
    assert len(messages) > threads * turns / 2
    dictionary = sys.version_info >= (3, 14)  # before, none that holds but text and numbers counted
    assert collected(messages) <= (1 + dictionary) * len(messages) + threads
    assert not collected([*remembered.written.values()])


def collected(roots: list[Any]) -> int:
    """How many objects of some and all that is in them the garbage collector looks at."""
    seen: dict[int, Any] = {}
    found = roots
    while found:
        new = {id(one): one for one in found if gc.is_tracked(one) and not isinstance(one, type)}
        found = gc.get_referents(*[one for name, one in new.items() if name not in seen])
        seen |= new
    return len(seen)


# Savers that remember nothing


@pytest.fixture
def forgetful(
    raw_saver: RedisSaver | AsyncRedisSaver, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Has the saver's memory evicted all the time."""
    shared = raw_saver._shared._replace(caches=ThreadCaches(0))
    monkeypatch.setattr(raw_saver, "_shared", shared)
    yield
    assert shared.caches._size == 0


@pytest.mark.usefixtures("forgetful")
def test_a_saver_without_memory_works_as_any_other(drive: Driver) -> None:
    """With many large threads at a time, graphs would fail."""

    def story(drive: Driver) -> list[object]:
        asking = Session(drive, sequence(a=asks("a?"), b=asks("b?")), "b")
        seen: list[object] = [asking.run({"log": ["in"]})]
        talk = Session(drive, chat())
        seen += [talk.say(f"turn {turn} " * 100)["messages"][-1].text for turn in range(10)]
        talk.update({"messages": [("user", "by hand")]}, talk.history()[4].config)
        seen.append([state.next for state in talk.history()])
        return [*seen, asking.state(), talk.history(filter={"source": "input"})]

    alike(drive, story)


@pytest.mark.usefixtures("forgetful")
def test_a_saver_without_memory_stores_what_any_other_does(
    drive: Driver, client: redis.Redis, prefix: str
) -> None:
    """What does not fit in the memory of a worker would fill up the server."""
    remembering = DirectDriver(RedisSaver(client, prefix=prefix))
    for thread_id, one in (("a", drive), ("b", remembering)):
        talk = Session(one, chat(), thread_id)
        for turn in range(10):
            talk.say(f"turn {turn} " * 100)
    chunks, others = ([*chunks_at(client, Keyspace(prefix).thread(name).chunks)] for name in "ab")
    assert len(chunks) > 10
    assert {*chunks} == {*others}
