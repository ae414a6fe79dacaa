"""The index of runs: requests of several clients in every order, and clients that stop anywhere.

Operations ask for requests, one at a time. So a test can make a request of one client, then one of
another: `explore` does so in all orders. It looks at what is stored after each request, since a
client may stop there and never come back.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count
from typing import Any, NamedTuple

import pytest
import redis
from langgraph.checkpoint.base import Checkpoint
from langgraph.checkpoint.conformance.test_utils import (
    generate_checkpoint,
    generate_config,
    generate_metadata,
)
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from langgraph_checkpoint_redis import RedisSaver, ThreadExistsError, ThreadNotFoundError
from langgraph_checkpoint_redis._core import copying, expiry, reading, removing, run_index, writing
from langgraph_checkpoint_redis._core.run_index import FAR
from langgraph_checkpoint_redis._protocol.requests import Operation, Request
from langgraph_checkpoint_redis._storage.keys import Keyspace
from langgraph_checkpoint_redis._storage.records import parse_checkpoint_row

from .driving import Saver
from .run_index import threads_of

ON_ONE_SERVER = True  # `make test-servers` has all of them

options = pytest.mark.parametrize

SECOND = 1000
RUN, *_ = RUNS = "run", "other"
THREADS = "a", "b"
CHECKPOINTS: list[Checkpoint] = [
    {**generate_checkpoint(channel_values={}), "id": f"{number}"} for number in range(9)
]


def put(saver: Saver, number: int, run: str = RUN, thread_id: str = "a", **own: Any) -> None:
    at = generate_config(thread_id)
    at["configurable"].update(own)
    saver.put(at, CHECKPOINTS[number], generate_metadata(run_id=run), {})


# Clients

Act = Callable[[RedisSaver], Operation[object]]


def putting(number: int, run: str = RUN, **own: Any) -> Act:
    def act(saver: RedisSaver) -> Operation[object]:
        at = generate_config("a")
        at["configurable"].update(own)
        metadata = generate_metadata(run_id=run)
        return writing.put(saver._context, at, CHECKPOINTS[number], metadata, {})

    return act


def deleting(*runs: str) -> Act:
    """`delete_for_runs`."""

    def act(saver: RedisSaver) -> Operation[object]:
        found = yield from removing.threads_of_runs(saver._context, runs or [RUN])
        for thread_id, some in found.items():
            yield from removing.delete_runs(saver._context, thread_id, some)
        return None

    return act


def one_after_the_other(*acts: Act) -> Act:
    def act(saver: RedisSaver) -> Operation[object]:
        for one in acts:
            yield from one(saver)
        return None

    return act


def making_a_copy(saver: RedisSaver) -> Operation[object]:
    return copying.copy_thread(saver._context, "a", "b")


def deleting_the_thread(saver: RedisSaver) -> Operation[object]:
    return removing.delete_thread(saver._context, "a")


def pruning(saver: RedisSaver) -> Operation[object]:
    return removing.prune(saver._context, "a", "keep_latest")


class Client(NamedTuple):
    """What a client does, and with which options of its saver."""

    act: Act
    options: Mapping[str, Any] = {}


class Position(NamedTuple):
    """What is stored, and what each client was answered so far."""

    stored: Mapping[bytes, tuple[int, bytes]]  # when it expires, 0 for never, and a dump
    replies: tuple[tuple[Any, ...], ...]


Content = Mapping[bytes, tuple[int, Any]]  # milliseconds to live, -1 for ever, and what is in a key


class World:
    """A server, and clients that each make one request after the other."""

    def __init__(
        self, client: redis.Redis, prefix: str, monkeypatch: pytest.MonkeyPatch, *clients: Client
    ) -> None:
        self.client, self.prefix, self.clients = client, prefix, clients
        self.keyspace = Keyspace(prefix)
        self.keys = [key for name in THREADS for key in self.keyspace.thread(name)]
        self.keys += [self.keyspace.copy_mark(name) for name in THREADS]
        self.keys += [self.keyspace.run(run) for run in RUNS]
        self.link = RedisSaver(client, prefix=prefix)._connections.link
        self.tokens: Iterator[str] = iter(())
        monkeypatch.setattr(run_index, "_new_token", lambda: next(self.tokens))

    def saver(self, name: str = "test", **options: Any) -> RedisSaver:
        """The saver of a process that knows nothing yet; its tokens can be told apart."""
        self.tokens = (f"{name}-{number}" for number in count())
        return RedisSaver(self.client, prefix=self.prefix, **options)

    # Positions

    def position(self, replies: tuple[tuple[Any, ...], ...]) -> Position:
        now = int(time.time() * 1000)
        with self.client.pipeline() as pipeline:
            for key in self.keys:
                pipeline.pttl(key)
                pipeline.dump(key)
            found = pipeline.execute()
        stored = zip(self.keys, found[::2], found[1::2], strict=True)
        return Position(
            {key: (now + left if left > 0 else 0, dump) for key, left, dump in stored if dump},
            replies,
        )

    def go_to(self, position: Position) -> None:
        with self.client.pipeline() as pipeline:
            pipeline.unlink(*self.keys)
            for key, (end, dump) in position.stored.items():
                pipeline.restore(key, end, dump, absttl=True)
            pipeline.execute()

    def content(self) -> Content:
        """What is stored now."""
        with self.client.pipeline() as pipeline:
            for key in self.keys:
                pipeline.pttl(key)
                if key.endswith((b":timeline", b":writes")) or b":run:" in key:
                    pipeline.zrange(key, 0, -1, withscores=True)
                elif key.endswith((b":live", b":copy")):
                    pipeline.exists(key)
                else:
                    pipeline.hgetall(key)
            found = pipeline.execute()
        return dict(zip(self.keys, zip(found[::2], found[1::2], strict=True), strict=True))

    def next_request(self, number: int, replies: Sequence[Any]) -> Request | None:
        """What a client asks for next, when it was answered so."""
        act, options = self.clients[number]
        operation = act(self.saver(f"{number}", **options))
        try:
            request = next(operation)
            for reply in replies:
                request = operation.send(reply)
        except (StopIteration, ThreadNotFoundError, ThreadExistsError):
            return None
        return request

    def explore(self, check: Callable[[Content], None]) -> int:
        """Make all requests in all orders; the number of different positions.

        What was stored and answered alike, but for times, goes on alike.
        """
        start = self.position(tuple(() for _ in self.clients))
        waiting, seen = [start], set[str]()
        while waiting:
            position = waiting.pop()
            for number, replies in enumerate(position.replies):
                request = self.next_request(number, replies)
                if request is None:
                    continue
                self.go_to(position)
                answered = [*position.replies]
                answered[number] = (*replies, self.link.reply(request))
                new, content = self.position(tuple(answered)), self.content()
                name = repr(_coarse([new.replies, [*content.values()]]))
                if name not in seen:
                    seen.add(name)
                    waiting.append(new)
                    check(content)
        return len(seen)

    # What has to hold

    def _runs_stored(self, content: Content, thread_id: str) -> set[str]:
        """The runs that have checkpoints in a thread."""
        _, rows = content[self.keyspace.thread(thread_id).timeline]
        found = [
            parse_checkpoint_row(row).metadata(JsonPlusSerializer(), thread_id) for row, _ in rows
        ]
        return {metadata["run_id"] for metadata in found if "run_id" in metadata}

    def check_found(self, content: Content) -> None:
        """Each thread is found by each run that it has checkpoints of."""
        for thread_id in THREADS:
            for run in self._runs_stored(content, thread_id):
                _, entries = content[self.keyspace.run(run)]
                assert thread_id in {entry.partition(b"\0")[0].decode() for entry, _ in entries}

    def check_outlived(self, content: Content) -> None:
        """Some entry of each run stays for as long as the thread does."""
        now = time.time() * 1000
        for thread_id in THREADS:
            keys = self.keyspace.thread(thread_id)
            left, _ = content[keys.timeline]
            for run in self._runs_stored(content, thread_id):
                key_left, entries = content[self.keyspace.run(run)]
                tokens = content[keys.runs][1][run.encode()].decode().split()[1:]
                held = {f"{thread_id}\0{token}".encode() for token in tokens}
                last = max(score for entry, score in entries if entry in held)
                if left < 0:
                    assert last >= FAR
                    assert key_left < 0
                else:
                    assert last - now >= left - SECOND
                    assert key_left < 0 or key_left >= left - SECOND

    def check_nothing_stays(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """All clients have stopped; then a last deletion leaves nothing of the run."""
        with monkeypatch.context() as patch:
            patch.setattr(run_index, "STALE_AFTER", -10_000)  # as if it was a day later
            saver = self.saver("last")
            saver.delete_for_runs([RUN])
            saver.delete_for_runs([RUN])  # what is stale besides, the next one finds
        content = self.content()
        assert not content[self.keyspace.run(RUN)][1]
        for thread_id in THREADS:
            assert RUN not in self._runs_stored(content, thread_id)
            keys = self.keyspace.thread(thread_id)
            if not any(content[key][1] for key in (keys.timeline, keys.writes, keys.chunks)):
                assert content[keys.runs][0] != -1  # gone, or goes in a day


def _coarse(value: Any) -> Any:
    """Something without the times in it."""
    if isinstance(value, dict):
        return sorted((str(name), _coarse(one)) for name, one in value.items())
    if isinstance(value, tuple | list):
        return [_coarse(one) for one in value]
    if isinstance(value, float):
        value = int(value)
    if isinstance(value, bytes) and value.lstrip(b"-").isdigit():
        value = int(value)
    if isinstance(value, int) and abs(value) >= SECOND:
        return "time", value > 0, abs(value) >= FAR
    return value


MakeWorld = Callable[..., World]


@pytest.fixture
def world(client: redis.Redis, prefix: str, monkeypatch: pytest.MonkeyPatch) -> MakeWorld:
    def made(*clients: Client) -> World:
        return World(client, prefix, monkeypatch, *clients)

    return made


DELETE = Client(deleting())
RACES: dict[str, list[Client]] = {
    "a put and a deletion": [Client(putting(1)), DELETE],
    "a put and two deletions": [Client(putting(1)), DELETE, DELETE],
    "two puts and a deletion": [Client(one_after_the_other(putting(1), putting(2))), DELETE],
    "two processes and a deletion": [Client(putting(1)), Client(putting(2)), DELETE],
    "a put and the deletion of the thread": [Client(putting(1)), Client(deleting_the_thread)],
    "a put, and both deletions": [Client(putting(1)), Client(deleting_the_thread), DELETE],
    "a put that goes on, and pruning": [
        Client(one_after_the_other(putting(1), putting(2))),
        Client(pruning),
    ],
    "a copy and a deletion": [Client(making_a_copy), DELETE],
    "a copy, a put and a deletion": [Client(making_a_copy), Client(putting(1)), DELETE],
    "another run that trims, and a deletion": [
        Client(putting(3, "other"), {"keep_last": 1}),
        DELETE,
    ],
}


@options("begun", [[], [RUN]], ids=str)
@options("race", RACES)
def test_a_run_is_found_whatever_comes_between(
    world: MakeWorld, monkeypatch: pytest.MonkeyPatch, race: str, begun: list[str]
) -> None:
    """Checkpoints that a run made would stay, though everybody was told that they are deleted."""
    scene = world(*RACES[race])
    for run in begun:
        put(scene.saver("before"), 0 if run == RUN else 4, run)

    def check(content: Content) -> None:
        scene.check_found(content)
        scene.check_nothing_stays(monkeypatch)

    assert scene.explore(check) > len(scene.clients)


def test_a_run_is_found_though_a_put_is_sent_again_after_the_run_was_deleted(
    world: MakeWorld,
) -> None:
    """What a put stores once more, as its answer was lost, could never be deleted by its run."""
    scene = world(Client(putting(1)))
    replies: tuple[Any, ...] = ()
    while (request := scene.next_request(0, replies)) and request.again() is request:
        replies = (*replies, scene.link.reply(request))
    assert request
    scene.link.reply(request)  # this answer is lost
    scene.saver("other").delete_for_runs([RUN])
    replies = (*replies, scene.link.reply(request.again()))
    while request := scene.next_request(0, replies):
        replies = (*replies, scene.link.reply(request))
    scene.check_found(scene.content())
    assert RUN in scene._runs_stored(scene.content(), "a")


# Time


def living(own: float | None) -> Act:
    """`set_ttl`."""
    return lambda saver: expiry.set_ttl(saver._context, "a", own)


def pinning(saver: RedisSaver) -> Operation[object]:
    return expiry.pin(saver._context, "a")


def getting(saver: RedisSaver) -> Operation[object]:
    return reading.get_tuple(saver._context, generate_config("a"))


LONG, SHORT = {"ttl": 100_000}, {"ttl": 1000}
LIVES: dict[str, list[Client]] = {
    "pinning, and a put of a saver with a time": [Client(pinning), Client(putting(1), SHORT)],
    "pinning, and a put of another run with a time": [
        Client(pinning),
        Client(putting(3, "other"), SHORT),
    ],
    "a put with a longer time": [Client(putting(3, "other", ttl=90_000), SHORT), Client(getting)],
    "a longer and a shorter time": [Client(living(90_000)), Client(living(900))],
    "savers that differ": [Client(putting(1), SHORT), Client(putting(3, "other"), LONG)],
    "a saver that says nothing": [Client(putting(1), SHORT), Client(putting(3, "other"))],
    "pinning and a shorter time": [Client(pinning), Client(living(900))],
    "no time of its own, and a reader": [
        Client(living(None)),
        Client(getting, {"ttl": 1000, "refresh_on_read": True}),
    ],
    "a copy, and pinning": [Client(making_a_copy), Client(pinning)],
    "a shorter time and a put": [Client(living(900)), Client(putting(1))],
    "a shorter time and a deletion": [Client(living(900)), DELETE],
    "pinning and a deletion": [Client(pinning), DELETE],
}


@options("begun", [{}, SHORT], ids=str)
@options("race", LIVES)
def test_no_entry_expires_before_its_thread(
    world: MakeWorld, race: str, begun: dict[str, Any]
) -> None:
    """A thread that lives long would not be found by the runs that it has checkpoints of."""
    scene = world(*LIVES[race])
    put(scene.saver("before", **begun), 0)

    def check(content: Content) -> None:
        scene.check_found(content)
        scene.check_outlived(content)

    assert scene.explore(check) > len(scene.clients)


@options("saver_options", [{"ttl": 100}], ids=str)
def test_a_thread_with_a_time_costs_no_more_requests(
    raw_saver: RedisSaver, saver: Saver, client: redis.Redis, prefix: str
) -> None:
    """Each put of a conversation that expires would wait for the network several times."""
    calls = list[str]()
    operation = writing.put(
        raw_saver._context, generate_config("a"), CHECKPOINTS[0], generate_metadata(run_id=RUN), {}
    )
    link, reply = RedisSaver(client, prefix=prefix)._connections.link, None
    try:
        while True:
            request: Any = operation.send(reply)
            calls.append(request.script.name)
            reply = link.reply(request)
    except StopIteration:
        pass
    assert calls == ["index", "put"]
    assert saver.get_tuple(generate_config("a"))


# Nothing of threads that are gone


def keys_of(client: redis.Redis, prefix: str) -> list[bytes]:
    return [*client.scan_iter(f"{prefix}:*")]


def eventually(holds: Callable[[], bool], seconds: float = 5) -> bool:
    end = time.monotonic() + seconds
    while not (held := holds()) and time.monotonic() < end:
        time.sleep(0.02)
    return held


def given_later(saver: Saver, _: Saver) -> None:
    put(saver, 0)
    saver.set_ttl("a", 0.3)


def given_by_a_config(saver: Saver, _: Saver) -> None:
    put(saver, 0)
    put(saver, 1, "other", ttl=0.3)


def given_by_another_saver(saver: Saver, short: Saver) -> None:
    put(saver, 0)
    put(short, 1, "other")


def added_by_a_saver_without_a_time(saver: Saver, short: Saver) -> None:
    put(short, 0)
    put(saver, 1, "other")


def given_back(saver: Saver, short: Saver) -> None:
    put(saver, 0)
    saver.pin("a")
    short.unpin("a")


@options(
    "how",
    [
        given_later,
        given_by_a_config,
        given_by_another_saver,
        added_by_a_saver_without_a_time,
        given_back,
    ],
)
def test_the_index_keeps_nothing_of_threads_that_expired(
    saver: Saver, client: redis.Redis, prefix: str, how: Callable[[Saver, Saver], None]
) -> None:
    """The server would fill up with ids of threads that are gone."""
    how(saver, RedisSaver(client, prefix=prefix, ttl=0.3))
    assert threads_of(client, prefix, RUN) == {"a"}
    assert eventually(lambda: not keys_of(client, prefix))


def test_the_index_of_a_run_loses_expired_threads_though_others_stay(
    saver: Saver, client: redis.Redis, prefix: str
) -> None:
    """One thread that never expires would keep the ids of all others of its run."""
    put(saver, 0, thread_id="stays")
    put(saver, 1, ttl=0.1)
    assert threads_of(client, prefix, RUN) == {"stays", "a"}
    time.sleep(0.4)
    put(saver, 2, thread_id="new")
    assert threads_of(client, prefix, RUN) == {"stays", "new"}
    assert client.ttl(Keyspace(prefix).run(RUN)) == -1


# What older versions stored


@options("seconds", [0, 1000])
def test_an_index_of_an_older_version_is_read_and_converted(
    saver: Saver, client: redis.Redis, prefix: str, seconds: int
) -> None:
    """After an update, every put and every deletion of a run that had begun would fail."""
    index, keys = Keyspace(prefix).run(RUN), Keyspace(prefix).thread("a")
    for act in (
        lambda: saver.delete_for_runs([RUN]),
        lambda: saver.delete_thread("a"),
        lambda: put(saver, 1),
        lambda: saver.verify("a"),
    ):
        put(RedisSaver(client, prefix=prefix), 0)
        client.hset(keys.runs, RUN, 1)
        client.unlink(index)
        client.sadd(index, "a", "elsewhere")
        if seconds:
            client.expire(index, seconds)
        act()
        assert client.type(index) == b"zset"
        saver.delete_for_runs([RUN])
        assert not client.exists(keys.timeline)
        assert threads_of(client, prefix, RUN) <= {"elsewhere"}
        assert client.ttl(index) > 0 or not seconds
        client.unlink(index)


# What was lost


def test_a_lost_index_is_noticed_and_mended(saver: Saver, client: redis.Redis, prefix: str) -> None:
    """After an eviction or a failover, what a run stored could never be deleted by that run."""
    index = Keyspace(prefix).run(RUN)
    for ttl in (None, 1000):
        put(saver, 0, ttl=ttl)
        assert saver.verify("a") == []
        client.unlink(index)
        (problem,) = saver.verify("a")
        assert (problem.kind, problem.key) == ("unindexed", index.decode())
        assert RUN in problem.reason
        assert saver.repair("a") == [problem]
        assert saver.verify("a") == []
        saver.delete_for_runs([RUN])
        assert not saver.get_tuple(generate_config("a"))
        assert not client.exists(index)
        saver.delete_thread("a")


def test_a_removal_that_broke_off_is_noticed_and_ended(
    raw_saver: RedisSaver, saver: Saver, client: redis.Redis, prefix: str
) -> None:
    """The index would lead to a thread that has nothing of the run any more."""
    put(saver, 0)
    put(saver, 1, "other")
    operation = removing.delete_runs(raw_saver._context, "a", [RUN])
    RedisSaver(client, prefix=prefix)._connections.link.reply(next(operation))
    (problem,) = saver.verify("a")
    assert (problem.kind, problem.key) == ("garbage", Keyspace(prefix).run(RUN).decode())
    assert saver.repair("a") == [problem]
    assert saver.verify("a") == []
    assert not threads_of(client, prefix, RUN)
    assert threads_of(client, prefix, "other") == {"a"}


def test_the_tokens_of_a_run_that_many_processes_go_on_with_stay_few(
    saver: Saver, client: redis.Redis, prefix: str
) -> None:
    """A run that never ends would take more memory with each process that works on it."""
    put(saver, 0)
    for number in range(1, 9):
        put(RedisSaver(client, prefix=prefix), number)
    assert client.zcard(Keyspace(prefix).run(RUN)) <= 4
    saver.delete_for_runs([RUN])
    assert not keys_of(client, prefix)
