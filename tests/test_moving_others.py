"""Threads that were moved between all savers, those of others and their servers included.

`make test-moving` runs these, in the environment of the benchmark, which has all of them. What is
missing there is an error.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from importlib import import_module
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from benchmarks import servers
from langgraph_checkpoint_redis import ConfigError
from langgraph_checkpoint_redis.moving import (
    amigrate,
    export_threads,
    import_threads,
    migrate,
    opened,
)

from .driving import DirectDriver
from .graphs import TYPED, Session, chat, shape, thread, typed
from .moved import STORIES, AnySaver, begin_all, contents, paths

pytestmark = [
    pytest.mark.others,
    pytest.mark.filterwarnings("default"),  # of their libraries
]

SAVERS = ("ours", "embedded", "memory", "sqlite", "postgres", "vendor")


@pytest.fixture(scope="module")
def urls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    """A server for each saver that needs one."""
    with ExitStack() as stack:
        yield {
            "ours": stack.enter_context(servers.plain_redis()).url,
            "embedded": f"embedded:///{tmp_path_factory.mktemp('embedded')}",
            "sqlite": f"sqlite:///{tmp_path_factory.mktemp('sqlite')}/threads.db",
            "postgres": stack.enter_context(servers.postgres()).url,
            "vendor": f"vendor+{stack.enter_context(servers.redis_stack()).url}",
        }


@pytest.fixture
def savers(urls: Mapping[str, str]) -> Iterator[Mapping[str, AnySaver]]:
    """All savers, each empty."""
    with ExitStack() as stack:
        found: dict[str, AnySaver] = {
            name: stack.enter_context(opened(url)) for name, url in urls.items()
        }
        for saver in found.values():
            for each in {place.config["configurable"]["thread_id"] for place in saver.list(None)}:
                saver.delete_thread(each)
        yield {**found, "memory": InMemorySaver()}


def as_dicts(value: Any) -> Any:
    """`value` with the fields of tuples and the keys of dicts in one order."""
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, dict):
        return {key: as_dicts(item) for key, item in sorted(value.items(), key=str)}
    return [as_dicts(item) for item in value] if isinstance(value, list | tuple) else value


@pytest.mark.parametrize(("source", "target"), [*permutations(SAVERS, 2)])
def test_graphs_go_on_where_their_threads_were_moved_to(
    savers: Mapping[str, AnySaver], source: str, target: str
) -> None:
    """A conversation, a question, a fork, a failure or a subgraph would not survive the move."""
    before, after, stayed, moved = savers[source], savers[target], InMemorySaver(), InMemorySaver()
    begin_all(before)
    report = migrate(before, after)
    assert report.ok, report.failed
    assert {*report.copied} == {*STORIES}
    assert {*migrate(before, after).present} == {*STORIES}
    for saver, copy in ((before, stayed), (after, moved)):
        report = migrate(saver, copy)
        assert report.ok, report.failed
    for name, story in STORIES.items():
        assert contents(moved, name) == contents(stayed, name)
        if target != "vendor":  # it has no order of writes, so that some graphs go another way
            left, right = (story.go_on(story.session(saver, name)) for saver in (after, stayed))
            assert shape(as_dicts(left)) == shape(as_dicts(right)), name


@pytest.mark.parametrize("between", ["postgres", "vendor"])
def test_paths_and_indexes_of_writes_are_known(
    savers: Mapping[str, AnySaver], between: str
) -> None:
    """Tasks that go on would store their writes twice, or apply them in another order."""
    source, back = InMemorySaver(), InMemorySaver()
    begin_all(source)
    assert migrate(source, savers[between]).ok
    assert migrate(savers[between], back).ok
    assert paths(back) == paths(source)


@pytest.mark.parametrize("between", ["postgres", "vendor"])
def test_threads_go_through_a_file(
    savers: Mapping[str, AnySaver], tmp_path: Path, between: str
) -> None:
    """A backup of one could not be restored to another."""
    file = tmp_path / "threads.gz"
    begin_all(savers[between])
    assert export_threads(savers[between], file, serde=JsonPlusSerializer()).ok
    assert import_threads(savers["ours"], file).ok
    assert {*migrate(savers[between], savers["ours"]).present} == {*STORIES}


def test_what_a_saver_cannot_hold_is_reported(savers: Mapping[str, AnySaver]) -> None:
    """Objects of a program would come back as dictionaries, and the source be gone."""
    session = Session(DirectDriver(savers["ours"]), typed(), "typed")
    session.run(TYPED)
    report = migrate(savers["ours"], savers["vendor"])
    assert "reads differently" in report.failed["typed"]


def test_no_error_shows_the_password_of_a_database() -> None:
    """Passwords would be in logs and in bug reports."""
    errors = (ConfigError, import_module("psycopg").Error)
    for url in (
        "postgresql://u:hunter2@[host",
        "postgresql://u:hun@ter2@127.0.0.1/x",
        "postgresql://u:hunter2@127.0.0.1:1/x",
        "postgresql://u:hunter2@127.0.0.1:hunter2/x",
        "vendor+redis://u:hunter2@host:hunter2",
    ):
        with pytest.raises(errors) as caught, opened(url):
            pass
        assert "ter2" not in str(caught.value)


async def test_savers_of_the_running_loop_are_moved(
    savers: Mapping[str, AnySaver], urls: Mapping[str, str]
) -> None:
    """A program that is asynchronous throughout could not move its threads."""
    # Only in the environment of these tests.
    from langgraph.checkpoint.postgres.aio import (  # type: ignore[import-not-found]  # noqa: PLC0415
        AsyncPostgresSaver,
    )

    async with AsyncPostgresSaver.from_conn_string(urls["postgres"]) as source:
        graph = chat().compile(checkpointer=source)
        await graph.ainvoke({"messages": [("user", "hello")]}, thread("awaited"))
        report = await amigrate(source, savers["ours"], thread_ids=["awaited"])
        assert report.copied == ("awaited",)
