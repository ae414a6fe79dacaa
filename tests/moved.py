"""Threads to be moved, what graphs do with them before and after, and how savers are compared.

Here are also the savers to move between, as fixtures that a test module imports.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command, Overwrite

from langgraph_checkpoint_redis import AsyncRedisSaver, RedisSaver
from langgraph_checkpoint_redis.moving import opened
from tests.local_server import available_servers, running_server

from .deltas import Both
from .driving import DirectDriver
from .graphs import (
    Builder,
    Flaky,
    Log,
    Session,
    asks,
    chat,
    map_reduce,
    says,
    sequence,
    side_by_side,
    thread,
)
from .strategies import config, exact, next_checkpoint

AnySaver = BaseCheckpointSaver[Any]
Make = Callable[[str], AnySaver]

LONG = 150  # checkpoints of the long thread, of 100 KB each


class Story(NamedTuple):
    """What a graph does on one saver, and how it goes on, wherever its thread is then."""

    builder: Callable[[], Builder]
    begin: Callable[[Session], object]
    go_on: Callable[[Session], object]

    def session(self, saver: AnySaver, thread_id: str) -> Session:
        return Session(DirectDriver(saver), self.builder(), thread_id)


def _chats(session: Session) -> object:
    return [session.say(str(turn)) for turn in range(3)]


def _forks(session: Session) -> object:
    _chats(session)
    return session.run({"messages": [("user", "instead")]}, session.history()[4].config)


def _says_more(session: Session) -> object:
    return [session.say("more"), session.history()]


def _says_more_everywhere(session: Session) -> object:
    for found in session.history():
        session.update({"messages": [("user", f"after {found.config}")]}, found.config)
    return _says_more(session)


def _is_asked(session: Session) -> object:
    return session.run({"log": ["begun"]})


def _answers(session: Session) -> object:
    seen: list[object] = [session.state(subgraphs=True)]
    while interrupts := session.state().interrupts:
        answers = {asked.id: f"answer to {asked.value}" for asked in interrupts}
        seen += [session.run(Command(resume=answers)), session.state(subgraphs=True)]
    return [seen, session.history()]


def _answers_once(session: Session) -> object:
    _is_asked(session)
    return session.run(Command(resume="once"))


def _fails(session: Session) -> object:
    try:
        return session.run({"log": ["begun"]})
    except ConnectionError as error:
        return str(error)


def _writes_deltas(session: Session) -> object:
    for turn in range(4):
        session.run({"log": [f"turn {turn}"], "notes": [f"{turn}"]})
    return session.update({"log": Overwrite(["instead"])}, as_node="b")


def _tells_all(session: Session) -> object:
    told = [session.state(found.config) for found in session.history()]
    return [told, session.run({"log": ["more"]}), session.history()]


def _sends(session: Session) -> object:
    return session.run({"log": ["fan out"]}, interrupt_before=["work"])


def _works(session: Session) -> object:
    return [session.run(), session.run({"log": ["again"]}), session.history()]


def _asking() -> Builder:
    return side_by_side(a=says("a"), b=asks("b?", "and?"), c=asks("c?"))


def _nested() -> Builder:
    inner = sequence(Both, x=says("x"), y=asks("y?"))
    nodes = {"once": inner.compile(), "own": inner.compile(checkpointer=True)}
    return sequence(Both, **nodes)


STORIES: Mapping[str, Story] = {
    "chat": Story(chat, _chats, _says_more),
    "fork": Story(chat, _forks, _says_more_everywhere),
    "interrupts": Story(_asking, _is_asked, _answers),
    "failure": Story(
        lambda: side_by_side(Log, a=says("a"), b=Flaky(1)), _fails, lambda found: found.history()
    ),
    "subgraphs": Story(_nested, _answers_once, _answers),
    "delta": Story(lambda: sequence(Both, a=says("a"), b=says("b")), _writes_deltas, _tells_all),
    "sends": Story(lambda: map_reduce(12), _sends, _works),
}


def begin_all(saver: AnySaver) -> None:
    """Begin each story on a thread of its name."""
    for name, story in STORIES.items():
        story.begin(story.session(saver, name))


def contents(saver: AnySaver, thread_id: str) -> list[Any]:
    """All that a saver reads of a thread, by LangGraph's interface."""
    found = sorted(map(_as_data, saver.list(thread(thread_id))), key=lambda each: each[0])
    return [exact(each) for each in found]


def _as_data(found: CheckpointTuple) -> Any:
    """A checkpoint with what savers store as JSON as JSON has it: lists for tuples."""
    parent = found.parent_config or {"configurable": {}}
    at = found.config["configurable"]
    return (
        (at["checkpoint_ns"], at["checkpoint_id"]),
        parent["configurable"].get("checkpoint_id"),
        {**found.checkpoint},
        {name: _listed(value) for name, value in found.metadata.items()},
        found.pending_writes,
    )


def _listed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _listed(item) for key, item in value.items()}
    return [_listed(item) for item in value] if isinstance(value, list | tuple) else value


# Savers


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A server; what is moved does not depend on which."""
    with running_server(next(iter(available_servers().values()))) as url:
        yield url


@pytest.fixture
def make(url: str, tmp_path: Path) -> Iterator[Make]:
    """Makes savers by name, each empty."""
    with ExitStack() as stack:

        def made(kind: str) -> AnySaver:
            name = uuid4().hex
            if kind == "memory":
                return InMemorySaver()
            if kind == "unknown":
                return Unknown()
            if kind == "awaited":
                saver = AsyncRedisSaver(url, prefix=name)
                stack.callback(saver.close)
                return saver
            urls = {
                "sqlite": f"sqlite:///{tmp_path / name}",
                "ours": url,
                "embedded": f"embedded:///{tmp_path / 'embedded'}",
            }
            options: dict[str, Any] = {} if kind == "sqlite" else {"prefix": name}
            return stack.enter_context(opened(urls[kind], **options))

        yield made


class Unknown(BaseCheckpointSaver[str]):
    """A saver of somebody else, of which only LangGraph's interface is known."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = InMemorySaver()

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        return self.inner.get_tuple(config)

    def list(self, config: RunnableConfig | None, **options: Any) -> Iterator[CheckpointTuple]:
        return self.inner.list(config, **options)

    def put(self, *args: Any) -> RunnableConfig:
        return self.inner.put(*args)

    def put_writes(self, *args: Any) -> None:
        self.inner.put_writes(*args)

    def get_next_version(self, current: str | None, channel: None) -> str:
        return self.inner.get_next_version(current, channel)


def paths(saver: InMemorySaver) -> dict[Any, Any]:
    """The paths and indexes of all writes."""
    return {
        place: {key: row[3] for key, row in found.items()} for place, found in saver.writes.items()
    }


@pytest.fixture
def long_thread(make: Make) -> AnySaver:
    """A saver with a thread of 15 MB."""
    saver = make("sqlite")
    at = config("long", "")
    for number in range(LONG):
        changed = {"a": f"{number:06}" * 17_000}
        checkpoint, versions = next_checkpoint(
            RedisSaver("redis://"), None, f"{number:06}", changed
        )
        at = saver.put(at, checkpoint, {}, versions)
    return saver


def peak_of(call: Callable[[], object]) -> int:
    """The most memory that a call takes, in bytes."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
