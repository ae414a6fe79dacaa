"""Removals of several calls: what a failover takes back, and what arrives, between two calls.

Scripts look at two rows in a call here, so that a thread of a dozen checkpoints takes many calls.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from itertools import combinations, zip_longest

import pytest
import redis
from langchain_core.runnables import RunnableConfig

from langgraph_checkpoint_redis import (
    MissingAncestorError,
    RedisSaver,
    RunNeededError,
    ThreadChangedError,
)
from langgraph_checkpoint_redis._core import removing
from langgraph_checkpoint_redis._protocol.requests import Operation
from langgraph_checkpoint_redis._scripts import load
from langgraph_checkpoint_redis._scripts.load import DELETE_RUNS, PRUNE
from langgraph_checkpoint_redis._storage.keys import Keyspace

from .deltas import HERE, Log
from .stepping import in_small_steps, steps
from .stored import stored

ON_ONE_SERVER = True  # `make test-servers` has all of them

Removal = Callable[[RedisSaver], Operation[None]]


def pruning(saver: RedisSaver) -> Operation[None]:
    return removing.prune(saver._context, "a", "keep_latest")


def deleting(saver: RedisSaver) -> Operation[None]:
    return removing.delete_runs(saver._context, "a", ["old"])


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    for script in (PRUNE, DELETE_RUNS):
        monkeypatch.setattr(load, script.name.upper(), in_small_steps(script))


class Scene:
    """Thread `a` with six checkpoints of an old run and two of a new one, which holds all."""

    def __init__(self, client: redis.Redis, prefix: str, *, whole_at: int = 7) -> None:
        self.client, self.prefix = client, prefix
        self.saver = RedisSaver(client, prefix=prefix)
        self.keys = Keyspace(prefix).thread("a")
        client.unlink(*self.keys)
        self.log = Log(self.saver, whole_at=whole_at)
        for number in range(8):
            self.log.add(run="old" if number < 6 else "new")
        self.before = [config["configurable"]["checkpoint_id"] for config in self.log.configs[1:]]

    def left(self) -> list[str]:
        """All checkpoints that are stored, newest first, whether they are listed or not."""
        rows = stored(self.client, self.prefix).records
        return [record.checkpoint_id for record in reversed(rows)]

    def dumps(self) -> dict[bytes, bytes | None]:
        return {key: self.client.dump(key) for key in self.keys}

    def fall_back(self, dumps: dict[bytes, bytes | None]) -> None:
        self.client.unlink(*self.keys)
        for key, dump in dumps.items():
            if dump is not None:
                self.client.restore(key, 0, dump)

    def check_readable(self) -> None:
        """Each checkpoint can be read with all that its channel is made of."""
        for found in self.saver.list(HERE):
            self.log.read(found.config)
        assert {problem.kind for problem in self.saver.verify("a")} <= {"garbage"}


def calls_of(scene: Scene, removal: Removal) -> int:
    names = [step.request.name for step in steps(scene.saver, removal(scene.saver)) if step.request]
    return sum(name in ("prune", "delete_runs") for name in names)


REMOVALS: dict[str, Removal] = {"pruning": pruning, "deleting": deleting}


@pytest.mark.parametrize("name", REMOVALS)
def test_a_removal_removes_what_a_failover_brings_back(
    client: redis.Redis, prefix: str, name: str
) -> None:
    """A run that is reported as deleted would still be there, with all that was said in it."""
    removal = REMOVALS[name]
    total = calls_of(Scene(client, prefix), removal)
    assert total > 5
    for lost_from, lost_to in combinations(range(total), 2):
        scene = Scene(client, prefix)
        for step in steps(scene.saver, removal(scene.saver)):
            if step.number == lost_from:
                dumps = scene.dumps()
            if step.number == lost_to:
                scene.fall_back(dumps)
        assert scene.left() == scene.before[:-3:-1]
        scene.check_readable()


def test_two_removals_at_a_time_come_to_their_end(client: redis.Redis, prefix: str) -> None:
    """Two workers that clean up the same thread would keep each other from it for ever."""
    alone = calls_of(Scene(client, prefix), pruning)
    scene = Scene(client, prefix)
    others = [steps(scene.saver, act(scene.saver)) for act in (pruning, deleting, pruning)]
    calls = sum(step is not None for taken in zip_longest(*others) for step in taken)
    assert calls < 5 * alone
    assert scene.left() == scene.before[:-3:-1]
    assert not client.hexists(scene.keys.chunks, "removals")


@pytest.mark.parametrize("name", REMOVALS)
def test_a_removal_whose_calls_are_always_taken_back_ends_with_an_error(
    client: redis.Redis, prefix: str, name: str
) -> None:
    """It would go on for ever, or report what is not so."""
    removal = REMOVALS[name]
    scene = Scene(client, prefix)
    dumps = scene.dumps()

    def remove() -> None:
        for _ in steps(scene.saver, removal(scene.saver)):
            scene.fall_back(dumps)

    with pytest.raises(ThreadChangedError) as raised:
        remove()
    assert raised.value.thread_id == "a"
    assert "Call it once more" in str(raised.value)
    assert scene.left() == scene.before[::-1]


@pytest.mark.parametrize("name", REMOVALS)
@pytest.mark.parametrize("calls", range(12))
def test_a_call_of_a_removal_that_arrives_twice_does_no_more_than_once(
    client: redis.Redis, prefix: str, name: str, calls: int
) -> None:
    """A reply that is lost would let a removal miss what it has still to remove."""
    removal = REMOVALS[name]
    for later in range(4):
        scene, again = Scene(client, prefix), None
        for step in steps(scene.saver, removal(scene.saver)):
            if step.number == calls + 1:
                again = step.request
            if again and step.number == calls + 1 + later:
                scene.saver._reply(again)
        assert scene.left() == scene.before[:-3:-1]
        scene.check_readable()


# What arrives in between


def may_be_refused() -> suppress:
    return suppress(MissingAncestorError)


def _configs(scene: Scene) -> list[RunnableConfig]:
    return scene.log.configs[1:9]


@pytest.mark.parametrize("whole_at", [1, 7])
@pytest.mark.parametrize("at", range(8))
def test_a_run_that_goes_on_while_its_thread_is_pruned_can_be_read(
    client: redis.Redis, prefix: str, at: int, whole_at: int
) -> None:
    """A turn would be acknowledged, and the thread unreadable from then on."""
    calls, is_over = 0, False
    while not is_over:
        scene, config, is_over = Scene(client, prefix, whole_at=whole_at), None, True
        for step in steps(scene.saver, pruning(scene.saver)):
            if step.number == calls:
                with may_be_refused():
                    config = scene.log.add(run="late", at=_configs(scene)[at])
                    config = scene.log.add(run="late", at=config)
            elif step.number == calls + 1 and config:  # others go on, so that it is not the newest
                scene.log.add(run="new", at=_configs(scene)[7])
                is_over = False
            elif step.number == calls + 1:
                is_over = False
        if config:
            assert config["configurable"]["checkpoint_id"] in scene.left()
        scene.check_readable()
        calls += 1
    assert calls > 5


def test_what_was_the_newest_checkpoint_when_pruning_began_can_be_read(
    client: redis.Redis, prefix: str
) -> None:
    """The state before the last message could not be shown any more."""
    calls, is_over = 0, False
    while not is_over:
        scene, is_over = Scene(client, prefix, whole_at=1), True
        for step in steps(scene.saver, pruning(scene.saver)):
            if step.number == calls:
                is_over = False
                scene.log.whole_at = len(scene.log.configs)
                scene.log.add(run="new")
        scene.check_readable()
        calls += 1
    assert calls > 5


@pytest.mark.parametrize("at", range(6))
def test_a_run_that_another_goes_on_from_meanwhile_is_not_deleted_under_it(
    client: redis.Redis, prefix: str, at: int
) -> None:
    """The other's turn would be acknowledged, and unreadable from then on."""
    calls, refused, is_over = 0, 0, False
    while not is_over:
        scene, config, is_over = Scene(client, prefix), None, True
        error: RunNeededError | None = None
        try:
            for step in steps(scene.saver, deleting(scene.saver)):
                if step.number == calls:
                    is_over = False
                    with may_be_refused():
                        config = scene.log.add(run="other", at=_configs(scene)[at])
                        config = scene.log.add(run="other", at=config)
        except RunNeededError as refusal:
            error = refusal
        if error:
            refused += 1
            assert (error.run_id, error.thread_id) == ("old", "a")
            assert "nothing was removed" not in str(error) or len(scene.left()) == 10
            assert not client.hexists(scene.keys.chunks, "removals")
        if config:
            assert config["configurable"]["checkpoint_id"] in scene.left()
        scene.check_readable()
        calls += 1
    assert refused > 1


@pytest.mark.parametrize("at", range(6))
def test_a_run_that_goes_on_while_it_is_deleted_leaves_nothing_that_cannot_be_read(
    client: redis.Redis, prefix: str, at: int
) -> None:
    """A thread whose run was rolled back would raise errors when it is looked at."""
    calls, is_over = 0, False
    while not is_over:
        scene, is_over = Scene(client, prefix), True
        config = _configs(scene)[at]
        for step in steps(scene.saver, deleting(scene.saver)):
            if step.number >= calls:
                is_over = False
                with may_be_refused():
                    config = scene.log.add(run="old", at=config)
        scene.check_readable()
        calls += 1
    assert calls > 5


def test_many_branches_that_arrive_meanwhile_can_all_be_read(
    client: redis.Redis, prefix: str
) -> None:
    """Only some of a hundred parallel runs would be safe."""
    scene = Scene(client, prefix, whole_at=1)
    configs = list[RunnableConfig]()
    for step in steps(scene.saver, pruning(scene.saver)):
        if step.number in (1, 2):
            configs += [scene.log.add(at=_configs(scene)[4]) for _ in range(70)]
    for config in configs:
        if scene.saver.get_tuple(config):
            scene.log.read(config)
    scene.check_readable()
