"""Operations without a server: the test gives the replies, and compares requests and results."""

from __future__ import annotations

from typing import TypeVar

import pytest
from langgraph.checkpoint.conformance.test_utils import generate_checkpoint, generate_metadata

from langgraph_checkpoint_redis import RedisSaver
from langgraph_checkpoint_redis._core import reading, removing, writing
from langgraph_checkpoint_redis._core.context import Context
from langgraph_checkpoint_redis._protocol.requests import Call, Commands, Operation
from langgraph_checkpoint_redis._scripts import calls
from langgraph_checkpoint_redis._scripts.load import INDEX, PUT
from langgraph_checkpoint_redis._storage.keys import Keyspace

from .story import thread

T = TypeVar("T")

KEYS = Keyspace("lg").thread("a")


@pytest.fixture
def context() -> Context:
    """What the operations of a saver work with that is never connected."""
    return RedisSaver("redis://nowhere.invalid")._context


def finish(operation: Operation[T], reply: object) -> T:
    """The result of an operation that asks for nothing more."""
    with pytest.raises(StopIteration) as stop:
        operation.send(reply)
    result: T = stop.value.value
    return result


def test_reading_the_latest_checkpoint_is_one_call(context: Context) -> None:
    """An operation could not be understood, or tested, without a server."""
    operation = reading.get_tuple(context, thread("a"))
    nothing_known = b"\x90"
    assert next(operation) == calls.get(
        KEYS, [("", "")], known_trees=nothing_known, allow_truncation=True
    )
    assert finish(operation, [1, [], 0, [], []]) is None


def test_deleting_a_thread_takes_it_out_of_the_index_of_its_runs(context: Context) -> None:
    """Runs would lead to threads that are gone."""
    operation = removing.delete_thread(context, "a")
    run = Keyspace("lg").run("r")
    assert next(operation) == calls.delete(KEYS, token=b"", tombstone=0, confirm=None)
    removal = ("ZREM", run, b"a\0token"), ("ZRANGE", run, -1, -1, "WITHSCORES")
    assert operation.send([b"r\0 token"]) == Commands(removal, may_fail=True)
    assert operation.send([1, []]) == calls.forget_runs(KEYS, ["r\0 token"])
    assert finish(operation, 1) is None


def test_a_thread_without_runs_is_deleted_by_one_call(context: Context) -> None:
    """Deleting would take more round trips than it needs."""
    operation = removing.delete_thread(context, "a")
    assert next(operation) == calls.delete(KEYS, token=b"", tombstone=0, confirm=None)
    assert finish(operation, []) is None


def test_a_put_is_indexed_before_it_is_stored(context: Context) -> None:
    """After a crash between the two, `delete_for_runs` would not find the checkpoint."""
    operation = writing.put(
        context, thread("a"), generate_checkpoint(), generate_metadata(run_id="r"), {}
    )
    run = Keyspace("lg").run("r")
    entry = next(operation)
    assert isinstance(entry, Call)
    assert (entry.script, entry.keys) == (INDEX, (run,))
    call = operation.send(10**15)
    assert isinstance(call, Call)
    assert (call.script, call.keys) == (PUT, KEYS)


def test_a_put_that_lacks_something_on_the_server_is_sent_again_with_all_of_it(
    context: Context,
) -> None:
    """A checkpoint could not be stored when another process had pruned its thread."""
    large = [f"{number:600}" for number in range(3)]
    checkpoint = generate_checkpoint(channel_values={"old": large}, channel_versions={"old": "1"})
    operation = writing.put(context, thread("a"), checkpoint, generate_metadata(), {})
    lean = next(operation)
    whole = operation.send([0, b"", [b"old"]])
    assert isinstance(lean, Call)
    assert isinstance(whole, Call)
    assert not [arg for arg in lean.args if len(str(arg)) > 600]
    assert len([arg for arg in whole.args if len(str(arg)) > 600]) == 3
    assert finish(operation, [1, [], [], 0, []]) == thread(
        "a", checkpoint_ns="", checkpoint_id=checkpoint["id"]
    )


def test_calls_are_values() -> None:
    """A test could not compare them, and a call could change between two attempts to send it."""
    assert calls.forget_runs(KEYS, ["r"]) == calls.forget_runs(KEYS, ("r",))
    assert len({calls.runs_of(KEYS), calls.runs_of(KEYS), calls.forget_runs(KEYS, [])}) == 2
    with pytest.raises(AttributeError):
        calls.runs_of(KEYS).args = ()  # type: ignore[misc]
