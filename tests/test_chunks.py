"""How values are cut, and how versions and keys are written and read: all without a server."""

from __future__ import annotations

import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Sequence
from functools import cache
from math import log
from random import Random
from statistics import mean
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import HumanMessage
from redis.crc import key_slot

from langgraph_checkpoint_redis._storage.chunking import (
    PACKED_RATE,
    PIECE,
    TEXT_RATE,
    Cut,
    _levels,
    cut_msgpack,
    cut_text,
)
from langgraph_checkpoint_redis._storage.keys import Keyspace, list_starts
from langgraph_checkpoint_redis._storage.keys import thread_id_of as found_thread_id
from langgraph_checkpoint_redis._storage.packing import pack
from langgraph_checkpoint_redis._storage.tree import (
    NODE_MAX,
    NODE_MIN,
    ChunkTree,
    digest_of,
    join_tree,
)
from langgraph_checkpoint_redis._storage.versions import (
    next_version,
    restore_version,
    shorten_version,
)

from .packed import a_conversation, packed, packed_list
from .strategies import (
    effort,
    exact,
    message,
    names,
    nested,
    several,
    versions,
)


class Store:
    """All chunks of some values, and how much of each value was new."""

    def __init__(self) -> None:
        self.chunks: dict[bytes, bytes] = {}

    def add(
        self,
        data: bytes,
        before: ChunkTree | None = None,
        cut: Callable[..., Cut] = cut_msgpack,
        **options: int,
    ) -> tuple[ChunkTree, dict[bytes, bytes]]:
        """The rope of a value, and those of its chunks that were not here before."""
        found = cut(data, before, self.chunks, **options)
        chunks = {**found.nodes, **found.pieces}
        new = {digest: chunks[digest] for digest in chunks.keys() - self.chunks.keys()}
        self.chunks.update(new)
        return found.tree, new

    def read(self, tree: ChunkTree) -> bytes:
        read_tree = join_tree(len(tree.data), tree.inline, tree.levels, self.chunks)
        assert read_tree == tree or not tree.levels
        return read_tree.data


@cache
def text(kind: str, size: int) -> str:
    """Lines of words of an alphabet, about so many bytes, the same ones each time."""
    if size < LONGEST_TEXT:
        return text(kind, LONGEST_TEXT)[: size // len(ALPHABETS[kind][0].encode())]
    random = Random(0)
    words = ["".join(random.choices(ALPHABETS[kind], k=random.randint(2, 9))) for _ in range(500)]
    return "".join(word + random.choice("       \n") for word in random.choices(words, k=size // 2))


LONGEST_TEXT = 150_000


ALPHABETS = {
    "English": "aaabcdeeeefghiiijklmnnooopqrstttuvwxyz",
    "Russian": "абвгдежзиклмнопрстуфхцчшщыьэюя",
    "Chinese": "".join(chr(point) for point in range(0x4E00, 0x4F00)),
    "Emoji": "".join(chr(point) for point in range(0x1F600, 0x1F640)),
    "numbers": "0123456789",
}
NESTS: dict[str, Callable[[str], Any]] = {
    "a text": lambda text: text,
    "a field": lambda text: {"title": "a", "text": text, "done": False},
    "a file": lambda text: {"files": {"a.md": "short", "b.md": text, "c.md": "short"}},
    "in a list": lambda text: ["before", text, "behind"],
    "words": lambda text: text.split(),
    "words in a field": lambda text: {"words": text.split(), "count": 1},
    "counts": lambda text: {word: len(word) for word in text.split()},
    "lines": lambda text: {"a": text.splitlines(), "b": []},
}

# Any bytes.

sizes = st.integers(0, 3000)
headers = st.sampled_from(
    [b"\xdd\xff\xff\xff\xff", b"\xdf\x80\0\0\0", b"\xdc\xff\xff", b"\xc9\x7f"]
)
bytestrings: st.SearchStrategy[bytes] = st.one_of(
    st.binary(max_size=100),
    st.builds(lambda unit, times: unit * times, st.binary(max_size=20), sizes),
    st.builds(lambda items, times: packed(items * times), st.lists(nested, max_size=6), sizes),
    st.builds(
        lambda count: packed([message(number) for number in range(count)]), st.integers(0, 99)
    ),
    st.builds(lambda nest, times: nest * times, st.sampled_from([b"\x91", b"\x81\xc0"]), sizes),
    st.builds(
        lambda nest, kind, size: packed(NESTS[nest](text(kind, size))),
        st.sampled_from([*NESTS]),
        st.sampled_from([*ALPHABETS]),
        st.integers(0, 60_000),
    ),
)
extensions = st.builds(
    lambda code, data: msgpack.packb(msgpack.ExtType(code, data)), st.integers(0, 127), bytestrings
)


def damaged(data: bytes, at: int, removed: int, added: bytes) -> bytes:
    at %= len(data) + 1
    return data[:at] + added + data[at + removed :]


histories = st.lists(bytestrings | extensions, min_size=1, max_size=3).flatmap(
    lambda history: st.tuples(
        *[
            st.just(data)
            | st.builds(damaged, st.just(data), sizes, sizes, headers | st.binary(max_size=8))
            for data in [*history, history[0]]
        ]
    )
)


@effort(300)
@given(history=histories, how=st.sampled_from([cut_msgpack, cut_text]))
def test_what_was_cut_joins_to_the_same_bytes(
    history: Sequence[bytes], how: Callable[..., Cut]
) -> None:
    """A value would read as another than was stored, or not at all."""
    store, trees, before = Store(), list[ChunkTree](), None
    for number, data in enumerate(history):
        rate = PACKED_RATE if number % 2 else TEXT_RATE
        before, _ = store.add(data, before, how, rate=rate)
        trees.append(before)
    assert [store.read(tree) for tree in trees] == [*history]


@effort(200)
@given(
    count=st.integers(1, 3000),
    kinds=st.integers(1, 3000),
    same=st.integers(0),
    more=st.integers(0, 50),
)
def test_nodes_that_stay_are_not_made_anew(count: int, kinds: int, same: int, more: int) -> None:
    """A conversation would be grouped otherwise by who goes on with it than by who is new to it."""
    digests = [digest_of(b"%d" % (number % kinds)) for number in range(count)]
    same %= count + 1
    edited = [*digests[:same], *[digest_of(b"new %d" % number) for number in range(more)]]
    levels, rows, nodes = _levels(digests)
    edited_levels, edited_rows, new = _levels(edited, ChunkTree(b"", 0, levels, rows), same, nodes)
    expected_levels, expected_rows, expected_nodes = _levels(edited)
    assert (edited_levels, edited_rows) == (expected_levels, expected_rows)
    assert {**nodes, **new}.items() >= expected_nodes.items()
    assert len(new) <= 2 * more + 2 * log(count + 1, NODE_MIN) + 2


@effort(200)
@given(size=st.integers(0, 9000))
def test_the_list_that_most_tasks_write_is_cut_like_any_other(size: int) -> None:
    """A message would be stored twice, as what a task wrote and in the conversation."""
    data = packed([message(0, size)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "langgraph_checkpoint_redis._storage.chunking._is_short_write", lambda data: False
        )
        expected = cut_msgpack(data, None, {})
    assert cut_msgpack(data, None, {}) == expected


@effort(100)
@given(data=bytestrings.filter(bool), gone=sizes)
def test_a_missing_chunk_is_named(data: bytes, gone: int) -> None:
    """Damage would read as a shorter value, or fail where nobody can tell what is missing."""
    store = Store()
    tree, _ = store.add(data)
    if store.chunks:
        digest = sorted(store.chunks)[gone % len(store.chunks)]
        del store.chunks[digest]
        with pytest.raises(LookupError, match=digest.hex()):
            store.read(tree)


# Lists that are edited.

Items = list[Any]
EDITS: dict[str, Callable[[Items, int, Any], Items]] = {
    "append": lambda items, at, new: [*items, new],
    "insert at the front": lambda items, at, new: [new, *items],
    "insert": lambda items, at, new: [*items[:at], new, *items[at:]],
    "replace": lambda items, at, new: [*items[:at], new, *items[at + 1 :]],
    "remove": lambda items, at, new: [*items[:at], *items[at + 1 :]],
    "move to the front": lambda items, at, new: [items[at], *items[:at], *items[at + 1 :]],
    "truncate": lambda items, at, new: items[:at],
}
ITEM_SIZES = [(24, 25), (10, 100), (200, 900), (100, 3000)]


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("item_sizes", ITEM_SIZES, ids=str)
def test_an_edit_of_a_list_changes_few_chunks(item_sizes: tuple[int, int], edit: str) -> None:
    """Memory and traffic would grow with the square of a conversation."""
    counts = [count for seed in range(20) for count in _new_chunks(seed, item_sizes, EDITS[edit])]
    assert mean(counts) <= 16
    assert max(counts) <= 64


def _new_chunks(
    seed: int, item_sizes: tuple[int, int], edit: Callable[[Items, int, Any], Items]
) -> tuple[int, int]:
    """How many chunks an edit adds, in a process that remembers the list, and in another."""
    random, store, other = Random(seed), Store(), Store()
    items = [packed(random.randbytes(random.randint(*item_sizes))) for _ in range(1000)]
    new = packed(random.randbytes(random.randint(*item_sizes)))
    edited = packed_list(edit(items, random.randrange(1000), new))
    before, _ = store.add(packed_list(items))
    other.chunks.update(store.chunks)
    return len(store.add(edited, before)[1]), len(other.add(edited)[1])


@pytest.mark.parametrize("size", [50, 300, 600, 2000])
def test_appending_to_a_list_adds_as_much_however_long_it_is(size: int) -> None:
    """Every turn of a conversation would cost more than the one before."""
    short, long = (_added_by_appending(count, size) for count in (20, 2000))
    assert long <= 1.5 * short
    assert short <= size + 2 * PIECE


def _added_by_appending(count: int, size: int) -> float:
    """How many bytes a list takes for each message more: chunks, digests and references."""
    store, tree, added = Store(), None, []
    messages = [packed(message(number, size)) for number in range(count + 64)]
    for end in range(count, count + 64):
        tree, new = store.add(packed_list(messages[:end]), tree)
        added.append(sum(map(len, [*new, *new.values(), *tree.levels])))
    return mean(added[1:])


@effort(20)
@given(count=st.integers(1, 300), more=st.integers(1, 9), size=st.integers(1, 3000))
def test_processes_cut_a_growing_list_alike_whatever_they_remember(
    count: int, more: int, size: int
) -> None:
    """A process that goes on with the thread of another would store all of it again."""
    store = Store()
    before, after = (packed([message(i, size) for i in range(n)]) for n in (count, count + more))
    tree, _ = store.add(before)
    assert store.add(after, tree)[0] == Store().add(after)[0]


@pytest.mark.parametrize("count", range(1, 4))
@pytest.mark.parametrize("parts", [1, 3])
def test_large_messages_are_cut_alike_wherever_a_process_begins(count: int, parts: int) -> None:
    """An image would be sent and stored again as a part of the conversation it goes into."""
    texts = [[text("numbers", 30_000 + number)] * parts for number in range(count + 1)]
    said = [
        HumanMessage([{"type": "text", "text": text} for text in each], id=str(number))
        for number, each in enumerate(texts)
    ]
    store = Store()
    tree, _ = store.add(packed(said[:-1]))
    assert store.add(packed(said), tree)[0] == Store().add(packed(said))[0]
    assert {*Store().add(packed(said[-1:]))[0].pieces} <= {*store.chunks}


def test_a_list_shares_its_pieces_wherever_it_is() -> None:
    """The same messages would be stored once for each channel and write that has them."""
    messages = [message(number) for number in range(200)]
    pieces = [
        set(Store().add(packed(value))[0].pieces)
        for value in (messages, {"messages": messages}, [messages], {"a": 1, "messages": messages})
    ]
    for others in pieces[1:]:
        assert len(others & pieces[0]) >= 0.9 * len(pieces[0])


# Texts and rows of tiny items, which are edited.

TEXT_EDITS: dict[str, Callable[[str, int], str]] = {
    "append": lambda text, at: f"{text} appended",
    "insert": lambda text, at: f"{text[:at]} inserted {text[at:]}",
    "replace": lambda text, at: f"{text[:at]}replaced{text[at + 8 :]}",
    "remove": lambda text, at: text[:at] + text[at + 100 :],
    "cut off the beginning": lambda text, at: text[200:],
}


@pytest.mark.parametrize("nest", NESTS)
@pytest.mark.parametrize("kind", ALPHABETS)
def test_an_edit_of_a_long_text_changes_little(kind: str, nest: str) -> None:
    """A file that an agent edits would be stored whole with each edit."""
    new, random = dict[str, int](), Random(0)
    before = packed(NESTS[nest](text(kind, 100_000)))
    for edit in TEXT_EDITS.values():
        for seed in range(4):
            at = random.randrange(len(text(kind, 100_000)))
            edited = packed(NESTS[nest](edit(text(kind, 100_000), at)))
            here, other = Store(), Store()
            tree, _ = here.add(before)
            other.chunks.update(here.chunks)
            new[f"here {edit} {seed}"] = sum(map(len, here.add(edited, tree)[1].values()))
            new[f"other {edit} {seed}"] = sum(map(len, other.add(edited)[1].values()))
    assert mean(new.values()) <= 8000
    assert max(new.values()) <= 24_000


@pytest.mark.parametrize("nest", NESTS)
@pytest.mark.parametrize("grows_by", [1, 20, 700])
def test_appending_to_a_text_adds_as_much_however_long_it_is(nest: str, grows_by: int) -> None:
    """A log or a report that grows would be stored whole at each step."""
    whole = text("English", 120_000)
    added = []
    for size in (20_000, 110_000):
        store, tree = Store(), None
        for end in range(size, size + 40 * grows_by, grows_by):
            tree, new = store.add(packed(NESTS[nest](whole[:end])), tree)
            added.append(sum(map(len, [*new.values(), *tree.levels])))
    early, late = mean(added[1:40]), mean(added[41:])
    assert late <= 1.5 * early + 500
    assert late <= 4000 + grows_by


def test_many_edits_leave_no_crumbs() -> None:
    """A text that was edited a thousand times would be of pieces of some bytes each."""
    random, store, tree, edited = Random(0), Store(), None, text("English", 60_000)
    for _ in range(1000):
        at = random.randrange(len(edited))
        edited = f"{edited[:at]}{random.choice(['', 'a', 'a word '])}{edited[at + 2 :]}"
        tree, _ = store.add(packed(edited), tree)
    assert tree
    assert len(tree.pieces) <= 2 * len(Store().add(packed(edited))[0].pieces)


def test_a_message_that_is_long_stays_one_piece() -> None:
    """What a tool has found is not edited, so cutting it would cost time for nothing."""
    data = packed([message(0, 50_000), message(1, 50_000)])
    assert len(Store().add(data)[0].pieces) <= 8


# How much there is.


@pytest.mark.parametrize("count", [10, 100, 1000, 10_000, 100_000])
@pytest.mark.parametrize("kinds", [100_000, 1])
def test_the_references_of_a_value_grow_with_the_logarithm_of_its_size(
    count: int, kinds: int
) -> None:
    """Every checkpoint of a long conversation would hold a list of all its messages."""
    levels, _, _ = _levels([digest_of(b"%d" % (number % kinds)) for number in range(count)])
    assert len(levels) <= 2 + log(count, NODE_MIN)
    assert all(len(level) < NODE_MAX * 16 for level in levels)


def _in_lists(value: Any, depth: int) -> Any:
    return ["before", _in_lists(value, depth - 1), "after"] if depth else value


LARGE: dict[str, Callable[[], Any]] = {
    "integers": lambda: list(range(3_000_000)),
    "one text": lambda: "x" * 10_000_000,
    "tiny texts": lambda: [f"{number:020}" for number in range(400_000)],
    "lists in lists": lambda: [[[f"{number:020}"] * 20] * 20 for number in range(1000)],
    "text in lists": lambda: _in_lists("x" * 10_000_000, 200),
    "list in lists": lambda: _in_lists([f"{number:0500}" for number in range(20_000)], 200),
}


@pytest.mark.parametrize("name", LARGE)
def test_cutting_a_large_value_takes_memory_for_a_few_copies_of_it(name: str) -> None:
    """One large value would stop a whole process for minutes, or end it."""
    data = packed(LARGE[name]())
    tracemalloc.start()
    found = cut_msgpack(data, None, {})
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak <= 12 * len(data)
    assert len(found.tree.pieces) <= 1 + len(data) / PIECE


def test_another_process_cuts_alike() -> None:
    """Processes would store the same messages again, each its own way."""
    program = (
        "from langgraph_checkpoint_redis._storage.chunking import cut_msgpack; "
        "from tests.packed import a_conversation; "
        "print(cut_msgpack(a_conversation(), None, {}).tree)"
    )
    command = [sys.executable, "-W", "error", "-c", program]
    other = subprocess.run(command, check=True, capture_output=True, text=True)
    assert other.stdout.strip() == str(cut_msgpack(a_conversation(), None, {}).tree)


# Versions.


@effort(500)
@given(version=versions)
def test_a_short_version_is_the_same_version(version: Any) -> None:
    """A channel would look as if it had changed, or had not."""
    short = msgpack.unpackb(pack(shorten_version(version)))
    assert exact(restore_version(short)) == exact(version)


@effort(50)
@given(number=st.integers(0, 10**6))
def test_a_version_in_langgraphs_format_takes_few_bytes(number: int) -> None:
    """Versions would take most of the memory of a thread: each has 50 characters."""
    assert len(pack(shorten_version(next_version(number)))) <= 16


# Keys.

KEYSPACE = Keyspace("lg")


@effort(200)
@given(thread_id=names, prefix=st.sampled_from(["lg", "a:b", "é*", "%7B"]))
def test_a_thread_is_found_again_by_its_keys(thread_id: str, prefix: str) -> None:
    """`list(None)` would leave threads out, or name threads that there are not."""
    keyspace = Keyspace(prefix)
    keys = keyspace.thread(thread_id)
    for part in ("timeline", "chunks"):
        (start,) = list_starts(keys, part.encode())
        assert found_thread_id(start.decode()) == thread_id
        assert all(key.startswith(start + b":") for key in keys)


@effort(200)
@given(thread_id=names)
def test_all_keys_of_a_thread_are_in_one_slot(thread_id: str) -> None:
    """No script would run in a cluster."""
    keys = [*KEYSPACE.thread(thread_id), KEYSPACE.copy_mark(thread_id)]
    assert len(set(keys)) == len(keys)
    assert len({key_slot(key) for key in keys}) == 1


@effort(300)
@given(some=several(names, 8))
def test_threads_and_runs_never_share_a_key(some: list[str]) -> None:
    """One thread would overwrite or delete another."""
    keys = [
        key
        for name in some
        for key in (*KEYSPACE.thread(name), KEYSPACE.copy_mark(name), KEYSPACE.run(name))
    ]
    assert len(set(keys)) == len(keys)


def lookalikes(size: int) -> dict[str, bytes]:
    """Bytes of a user's that look like many items of msgpack, or like deep ones."""
    return {
        "numbers": bytes(size),
        "letters": b"\xa1a" * (size // 2),
        "maps": b"\x81\xa1a" * (size // 3),
        "extensions": b"\xc7\xff\x05" * (size // 3),
        "lists within lists": b"\x91" * size,
        "many of them": (b"\x91" * 500 + b"\xc0") * (size // 501),
        "a long item, then numbers": b"\xc5\xff\xff" + b"\xc0" * (2**16 - 1) + bytes(size),
        "a row of numbers": b"\xdd" + size.to_bytes(4, "big") + bytes(size),
        "rows in rows": b"\xdc\xff\xff" * (size // 3),
        "a text of one letter": b"\xdb" + size.to_bytes(4, "big") + b"a" * size,
        "a text without a place to cut at": b"\xc6" + size.to_bytes(4, "big") + b"\xff" * size,
        "texts in texts": (b"\xda\x20\x00" + b"\xd9" * 2**13) * (size // (2**13 + 3)),
    }


@pytest.mark.parametrize("kind", lookalikes(0))
def test_cutting_bytes_takes_about_the_time_of_cutting_messages(kind: str) -> None:
    """A file that somebody uploads would hold up an agent for many seconds."""
    size = 5_000_000
    messages = msgpack.packb([{"content": f"{number:025}"} for number in range(size // 36)])
    began = time.process_time()
    cut_msgpack(messages, None, {})
    usual = time.process_time() - began
    before = cut_msgpack(b"\x92" + msgpack.packb(b"a" * 700) + msgpack.packb(b"b" * 700), None, {})
    known = {**before.nodes, **before.pieces}
    data = before.tree.data[:-703] + lookalikes(size)[kind]
    began = time.process_time()
    made = cut_msgpack(data, before.tree, known)
    again = cut_msgpack(lookalikes(size)[kind], made.tree, {**known, **made.nodes, **made.pieces})
    as_text = cut_text(lookalikes(size)[kind], None, {})
    assert time.process_time() - began < 3 * usual + 0.6
    for found, whole in ((made, data), (again, data[-len(again.tree.data) :]), (as_text, None)):
        assert len(found.tree.pieces) <= 1000 + len(found.tree.data) / PIECE
        chunks = {**known, **made.nodes, **made.pieces, **found.nodes, **found.pieces}
        read = join_tree(len(found.tree.data), found.tree.inline, found.tree.levels, chunks).data
        assert read == (whole or lookalikes(size)[kind])
