"""`Admin`, what tools for operators ask of a saver: the same of both savers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

import pytest
import redis
from langgraph.checkpoint.conformance.test_utils import generate_checkpoint, generate_metadata

from langgraph_checkpoint_redis import AsyncRedisSaver, CorruptThreadError, RedisSaver, ThreadInfo
from langgraph_checkpoint_redis._admin import Admin, Limits, Pruned
from langgraph_checkpoint_redis._storage.keys import Keyspace

from .damaged import damage_last_row
from .dated import put
from .driving import Saver
from .strategies import config

T = TypeVar("T")
Ask = Callable[[Callable[[Admin], T]], T]


@pytest.fixture
def ask(raw_saver: RedisSaver | AsyncRedisSaver, loop: asyncio.AbstractEventLoop) -> Ask[Any]:
    """Asks in a worker thread, while the event loop of the asynchronous saver runs."""

    def ask(question: Callable[[Admin], T]) -> T:
        return loop.run_until_complete(asyncio.to_thread(question, Admin(raw_saver)))

    return ask


@pytest.fixture
def threads(saver: Saver, client: redis.Redis, prefix: str) -> None:
    """Two good threads of two checkpoints, and one whose row is damaged."""
    for thread_id in ("a:1", "a:2", "b"):
        put(saver, thread_id)
        put(saver, thread_id)
    damage_last_row(client, Keyspace(prefix).thread("a:2").timeline)


@pytest.mark.usefixtures("threads")
def test_threads_are_asked_with_the_failure_of_each(ask: Ask[Any]) -> None:
    """One damaged thread would hide all others from a report."""
    assert sorted(ask(Admin.list_threads)) == ["a:1", "a:2", "b"]
    assert ask(lambda admin: [*map(admin.has_thread, ("a:2", "c"))]) == [True, False]
    infos = ask(lambda admin: dict(admin.read_infos(prefix="a:")))
    assert {name: type(info) for name, info in infos.items()} == {
        "a:1": ThreadInfo,
        "a:2": CorruptThreadError,
    }
    pruned = ask(lambda admin: dict(admin.prune(Limits.parse("", None, 1), ["a:1", "a:2", "c"])))
    assert isinstance(pruned["a:1"], Pruned)
    assert pruned["a:1"].before == infos["a:1"]
    assert pruned["a:1"].after
    assert pruned["a:1"].after.checkpoints == 1
    assert isinstance(pruned["a:2"], CorruptThreadError)
    assert pruned["c"] is None


@pytest.mark.usefixtures("threads")
def test_a_leased_thread_is_an_answer_and_no_error(ask: Ask[Any], server: str, prefix: str) -> None:
    """A repair of all threads would stop at the first that is in use."""
    (problem, *_) = ask(lambda admin: admin.verify("a:2"))
    assert problem.kind == "lost"
    with RedisSaver.from_conn_string(server, prefix=prefix) as other, other.lease("a:2"):
        answer = ask(lambda admin: admin.repair("a:2"))
    assert type(answer).__name__ == "ThreadLeasedError"
    assert problem in ask(lambda admin: admin.repair("a:2"))
    assert ask(lambda admin: admin.verify("a:2")) == []


def test_rows_are_read_without_values(ask: Ask[Any], saver: Saver) -> None:
    """A timeline of a thread with large values would take as long as reading all of them."""
    at = config("a", "")
    for number in range(3):
        values = {"text": "x" * 5000, "number": number}
        checkpoint = generate_checkpoint(
            channel_values=values, channel_versions={"text": 1, "number": number}
        )
        metadata = generate_metadata(step=number)
        at = saver.put(at, checkpoint, metadata, {"text": 1, "number": number})
    saver.put_writes(at, [("number", 1), ("text", "y")], "task", "path")
    (page,) = ask(lambda admin: [*admin.read_checkpoints("a")])
    assert [stored.read_metadata()["step"] for stored in page] == [2, 1, 0]
    assert [stored.parent_id for stored in page] == [*[one.checkpoint_id for one in page[1:]], ""]
    assert page[0].values()["text"].type == "msgpack"
    assert 5000 <= page[0].values()["text"].size < 5010
    places = [stored.place for stored in page]
    first, *others = ask(lambda admin: admin.read_writes("a", places))
    assert first == [("path", "task", 0, "number"), ("path", "task", 1, "text")]
    assert others == [[], []]
    assert ask(lambda admin: [*admin.read_checkpoints("a", "no such namespace")]) == [[]]


@pytest.mark.parametrize("saver_options", [{"keep_last": 3, "on_conflict": "error"}, {}], ids=str)
def test_options_are_told(ask: Ask[Any], prefix: str, saver_options: dict[str, Any]) -> None:
    """A move would not know that its target forgets checkpoints."""
    admin = ask(lambda admin: admin)
    assert admin.prefix == prefix
    assert admin.keep_last == saver_options.get("keep_last")
    assert admin.refuses_conflicts == bool(saver_options)
    assert [str(each) for each in ask(Admin.check_server)] == [
        "this server keeps nothing over a restart: set appendonly to yes, or save snapshots"
    ]
