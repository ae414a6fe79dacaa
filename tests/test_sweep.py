"""Making room while others go on: removals of many calls, and what may come between two of them.

Removals are driven here request by request. What a script looks at in one call is made small, so
that a short thread takes as many calls as one of thousands of checkpoints. How it goes at full size
is shown at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import count, islice, pairwise, product

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st
from langgraph.checkpoint.conformance.test_utils import (
    generate_checkpoint,
    generate_metadata,
)

from langgraph_checkpoint_redis import RedisSaver
from langgraph_checkpoint_redis._core import removing
from langgraph_checkpoint_redis._protocol.requests import Call, Operation, Request
from langgraph_checkpoint_redis._scripts import load
from langgraph_checkpoint_redis._storage.keys import Keyspace

from .driving import Saver
from .journal import DROPPED, HERE, KEPT, Act, Acts, Journal, many_acts, some_acts, whatever_happens
from .run_index import runs_of
from .stepping import in_small_steps
from .stored import Stored, stored
from .strategies import RepeatingSaver

REMOVALS: dict[str, Callable[[RedisSaver], Operation[None]]] = {
    "prune": lambda saver: removing.prune(saver._context, "a", "keep_latest"),
    "delete_runs": lambda saver: removing.delete_runs(saver._context, "a", [DROPPED]),
}


# Removals, request by request


class Scene:
    """Thread `a`, its journal, and removals that are made there."""

    def __init__(self, client: redis.Redis, prefix: str) -> None:
        self.client, self.prefix = client, prefix

    def begin(self, acts: Acts) -> Journal:
        """Begin the thread anew, with some acts."""
        journal = Journal(self.saver())
        journal.saver.delete_thread("a")
        journal.do(acts)
        return journal

    def saver(self) -> RedisSaver:
        """A saver that knows nothing, as in another process."""
        return RedisSaver(self.client, prefix=self.prefix)

    def requests(self, removal: str) -> Iterator[Request]:
        """Make a removal, stopping before each request."""
        saver = self.saver()
        operation = REMOVALS[removal](saver)
        with suppress(StopIteration):
            request = next(operation)
            while True:
                yield request
                reply = saver._reply(request)
                request = operation.send(reply)

    def calls(self, removal: str) -> Iterator[Request]:
        """Make a removal, stopping before each call of its script."""
        return (request for request in self.requests(removal) if isinstance(request, Call))

    def make_room(self) -> None:
        """Remove all that can be, undisturbed, which leaves no garbage."""
        self.saver().prune(["a"])
        assert self.stored().garbage() == set()

    def stored(self) -> Stored:
        return stored(self.client, self.prefix)

    def indexed_runs(self) -> set[str]:
        return runs_of(self.client, self.prefix, "a")


@pytest.fixture
def scene(client: redis.Redis, prefix: str) -> Scene:
    return Scene(client, prefix)


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rows or chunks at a time."""
    for name in ("PRUNE", "DELETE_RUNS"):
        monkeypatch.setattr(load, name, in_small_steps(getattr(load, name)))


@pytest.mark.usefixtures("small_steps")
@pytest.mark.parametrize("removal", REMOVALS)
@given(first=many_acts, data=st.data())
@whatever_happens
def test_whatever_is_done_between_the_calls_of_a_removal_is_kept(
    scene: Scene, removal: str, first: Acts, data: st.DataObject
) -> None:
    """Making room in a long thread would destroy a conversation that goes on meanwhile."""
    journal = scene.begin(first)
    for _ in scene.requests(removal):
        journal.do(data.draw(some_acts))
        assert journal.found() >= journal.must_stay(removal)
    assert journal.found() >= journal.must_stay(removal)
    scene.make_room()
    assert scene.indexed_runs() == scene.stored().runs_of_checkpoints()


@pytest.mark.usefixtures("small_steps")
@pytest.mark.parametrize(
    ("one", "other"),
    [("prune", "prune"), ("prune", "delete_runs"), ("delete_runs", "delete_runs")],
)
@given(first=many_acts, data=st.data())
@whatever_happens
def test_two_removals_at_a_time_do_no_harm(
    scene: Scene, one: str, other: str, first: Acts, data: st.DataObject
) -> None:
    """Two workers that make room at the same time would free what is in use."""
    journal = scene.begin(first)
    going_on = [scene.requests(one), scene.requests(other)]
    while going_on:
        turn = data.draw(st.sampled_from(going_on))
        if next(turn, None) is None:
            going_on.remove(turn)
        journal.do(data.draw(some_acts))
        assert journal.found() >= journal.must_stay(one, other)
    assert scene.indexed_runs() >= scene.stored().runs_of_checkpoints()
    scene.make_room()


@pytest.mark.usefixtures("small_steps")
@pytest.mark.parametrize("removal", REMOVALS)
def test_a_removal_each_of_whose_calls_is_repeated_clears_the_index(
    server: str, client: redis.Redis, prefix: str, removal: str
) -> None:
    """Where replies are lost, runs would lead for ever to threads that have nothing of them."""
    with RepeatingSaver.from_conn_string(server, prefix=prefix) as saver:
        grow(saver, 12)
        saver._run(REMOVALS[removal](saver))
    assert runs_of(client, prefix, "a") == {KEPT}
    assert not stored(client, prefix).garbage()


@pytest.mark.usefixtures("small_steps")
@pytest.mark.parametrize("removal", REMOVALS)
@given(first=many_acts, calls=st.integers(1, 20), later=many_acts)
@whatever_happens
def test_a_removal_that_breaks_off_loses_nothing_and_the_next_one_ends_it(
    scene: Scene, removal: str, first: Acts, calls: int, later: Acts
) -> None:
    """A worker that dies while making room would damage a thread, or leave it full for ever."""
    journal = scene.begin(first)
    assert [*islice(scene.calls(removal), calls)]
    assert journal.found() >= journal.must_stay(removal)
    journal.do(later)
    assert journal.found() >= journal.must_stay(removal)
    scene.make_room()
    assert journal.found() >= journal.must_stay(removal, "prune")


# At every single place


Stops = Iterator[tuple[Journal, Iterator[Request]]]


@pytest.fixture(params=REMOVALS)
def stops(request: pytest.FixtureRequest, scene: Scene, small_steps: None) -> Stops:
    """The example with a removal that is stopped before its first call, its second, and so on."""

    def stopped() -> Stops:
        for number in count(1):
            journal, rest = example(scene), scene.calls(request.param)
            if len([*islice(rest, number)]) < number:
                assert number > 5
                return
            yield journal, rest

    return stopped()


def example(scene: Scene) -> Journal:
    """A thread of two namespaces and two runs."""
    puts = [
        Act("put", namespace, 0, "c", run, "uvwxyz"[: number + 2])
        for namespace in ("", "child")
        for number, run in enumerate((KEPT, KEPT, DROPPED, KEPT))
    ]
    return scene.begin([*puts, replace(puts[0], kind="write", texts="zzyx")])


def test_a_put_during_a_removal_marks_all_that_it_refers_to(scene: Scene, stops: Stops) -> None:
    """What a new checkpoint shares with old ones would be freed along with them."""
    for journal, rest in stops:
        journal.do([Act("put", "", 9, "d", KEPT, "uvwxyz"), Act("write", "", 0, "d", KEPT, "zyx")])
        now = scene.stored()
        if now.live:
            record = [one for one in now.records if not one.namespace][-1]
            ((_, entry),) = record.entries()
            assert now.live.issuperset(now.digests(entry))
        list(rest)
        assert journal.found() >= journal.must_stay("prune", "delete_runs")


@pytest.mark.usefixtures("small_steps")
@pytest.mark.parametrize("removal", REMOVALS)
def test_a_state_that_comes_back_during_a_removal_is_complete(scene: Scene, removal: str) -> None:
    """Undoing a change would destroy the state, where a part of the old one is freed already."""
    for start, calls in product(range(1000, 2500, 100), range(3, 8)):
        texts = "".join(map(chr, range(start, start + 80)))
        old = Act("put", "", 0, "c", DROPPED, texts)
        journal = scene.begin([old, replace(old, run=KEPT, texts="z")])
        rest = scene.calls(removal)
        assert len([*islice(rest, calls)]) == calls
        journal.do([replace(old, run=KEPT)])
        list(rest)
        assert journal.found() >= journal.must_stay("prune", "delete_runs")


def test_a_removal_that_breaks_off_anywhere_is_ended_by_the_next_one(
    scene: Scene, stops: Stops
) -> None:
    """What a worker had marked before it died would stay for ever."""
    for journal, _ in stops:
        for namespace in ("", "child"):
            journal.do([Act("put", namespace, 9, "c", KEPT, "st")])
        scene.make_room()
        assert journal.found() == journal.must_stay("prune")


def test_what_a_removal_that_broke_off_has_marked_expires(scene: Scene, stops: Stops) -> None:
    """The marks would grow with every turn of a thread that is never cleaned up again."""
    for journal, _ in stops:
        journal.do([Act("put", "", 9, "c", KEPT, "st")])
        live = Keyspace(scene.prefix).thread("a").live
        assert not scene.stored().live or 0 < scene.client.pttl(live) <= 60_000


def test_a_thread_that_is_deleted_during_a_removal_leaves_nothing(
    scene: Scene, stops: Stops
) -> None:
    """What users want to have deleted would stay, in part and out of their reach."""
    for _, rest in stops:
        scene.saver().delete_thread("a")
        list(rest)
        assert [*scene.client.scan_iter(f"{scene.prefix}:*")] == []


def test_a_thread_that_begins_anew_during_a_removal_is_safe(scene: Scene, stops: Stops) -> None:
    """A removal would go on in a conversation that it never looked at."""
    for _, rest in stops:
        journal = example(scene)
        list(rest)
        assert journal.found() >= journal.must_stay("prune", "delete_runs")
        assert scene.indexed_runs() >= scene.stored().runs_of_checkpoints()


# At full size


def grow(saver: Saver, checkpoints: int) -> None:
    """Put many checkpoints, every third of another run, each with a chunk of its own."""
    for number in range(checkpoints):
        checkpoint = generate_checkpoint(
            channel_values={"c": f"{number:100}"}, channel_versions={"c": number}
        )
        run = KEPT if number % 3 else DROPPED
        saver.put(HERE, checkpoint, generate_metadata(run_id=run), {"c": number})


def test_a_long_thread_is_made_short_in_several_calls(
    saver: Saver, scene: Scene, client: redis.Redis
) -> None:
    """A thread of thousands of checkpoints could never be made shorter, or only in part."""
    grow(saver, 1600)
    removals: list[tuple[Callable[[], None], int]] = [
        (lambda: saver.delete_for_runs([DROPPED]), 1066),
        (lambda: saver.prune(["a"]), 1),
    ]
    for remove, left in removals:
        before = script_calls(client)
        remove()
        assert script_calls(client) - before >= 3
        now = scene.stored()
        assert len(now.timeline) == len(now.chunks) == left
        assert now.garbage() == set()
        assert scene.indexed_runs() == {KEPT}
    (last,) = saver.list(HERE)
    assert last.checkpoint["channel_values"] == {"c": f"{1598:100}"}  # 1599 was of the other run


def script_calls(client: redis.Redis) -> int:
    """How many scripts were called by now."""
    calls: int = client.info("commandstats")["cmdstat_evalsha"]["calls"]
    return calls


@pytest.mark.slow
@pytest.mark.parametrize("removal", REMOVALS)
def test_a_call_of_a_removal_handles_some_thousand_things(scene: Scene, removal: str) -> None:
    """The server would stand still for everybody while one long thread is made shorter."""
    grow(scene.saver(), 10_000)
    seen = [scene.stored() for _ in scene.calls(removal)]
    assert len(seen) > 20
    for before, after in pairwise(seen):
        assert len(before.timeline) - len(after.timeline) <= 1000
        assert len(before.chunks) - len(after.chunks) <= 1000 + 100  # a page of HSCAN more
        assert len(after.live) - len(before.live) <= 1000 + 2  # whose pass it is, and how far
    assert scene.stored().garbage() == set()
