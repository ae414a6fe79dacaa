"""LangGraph's Agent Server (`langgraph dev`) keeps its threads with our saver, and loses nothing.

It is the real one, in a process of its own, with its detector of blocking calls switched on.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
import pytest_asyncio
import redis
from langgraph_sdk import get_client, get_sync_client
from langgraph_sdk.client import LangGraphClient

from langgraph_checkpoint_redis import RedisSaver
from tests.local_server import free_port, running_server

from .servers import any_binary

pytestmark = pytest.mark.skipif(
    sys.version_info < (3, 11), reason="langgraph-api does not exist for Python 3.10"
)

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "agent_server"
GRAPHS = ("steps", "approval", "endless")
PREFIX = "agents"
SECONDS_TO_START = 60
SECONDS_TO_COME_ABOUT = 20
OFFLINE = {
    "LANGGRAPH_CLI_NO_ANALYTICS": "1",
    "LANGGRAPH_NO_VERSION_CHECK": "true",
    "LANGSMITH_TRACING": "false",
    "NO_COLOR": "1",
}
INPUT: dict[str, Any] = {"trail": []}
HELLO: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}]}


class Agents(NamedTuple):
    """A running Agent Server, and the Redis server that it keeps its threads in."""

    url: str
    redis_url: str


@contextmanager
def agent_server(project: Path, log: Path, **environment: str) -> Iterator[str]:
    """Run the server of a project as its user would; it may have nothing to complain about."""
    port = free_port()
    command = (sys.executable, "-m", "langgraph_cli", "dev", "--no-browser", "--no-reload")
    ours = ("REDIS_URL", "LANGGRAPH_AES_KEY")
    inherited = {name: value for name, value in os.environ.items() if name not in ours}
    with (
        log.open("ab") as output,
        subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            cwd=project,
            env={**inherited, **OFFLINE, **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        try:
            url = f"http://127.0.0.1:{port}"
            _wait_until_it_answers(url, process, log)
            yield url
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(SECONDS_TO_START)
    said = log.read_text(errors="replace")
    assert "BlockingError" not in said, said
    assert "Traceback" not in said, said


def _wait_until_it_answers(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + SECONDS_TO_START
    while True:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        try:
            if httpx.get(f"{url}/ok").is_success:
                return
        except httpx.TransportError:
            time.sleep(0.05)


@pytest.fixture(scope="module")
def agents(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agents]:
    """The example, with the graphs of the tests beside its own."""
    directory = tmp_path_factory.mktemp("agents")
    project = shutil.copytree(EXAMPLE, directory / "project")
    shutil.copy(ROOT / "tests" / "agent_graphs.py", project)
    settings = json.loads((project / "langgraph.json").read_text())
    settings["graphs"] |= {name: f"./agent_graphs.py:{name}" for name in GRAPHS}
    (project / "langgraph.json").write_text(json.dumps(settings))
    with running_server(any_binary()) as url:
        environment = {"LANGGRAPH_REDIS_URL": url, "LANGGRAPH_REDIS_PREFIX": PREFIX}
        with agent_server(project, directory / "log", **environment) as agents_url:
            yield Agents(agents_url, url)


@pytest_asyncio.fixture
async def agent(agents: Agents) -> AsyncIterator[LangGraphClient]:
    """LangGraph's own client of the server."""
    async with get_client(url=agents.url) as client:
        yield client


@pytest.fixture
def stored(agents: Agents) -> Iterator[Callable[[str], int]]:
    """How many checkpoints there are of a thread, as another process sees it."""
    with RedisSaver.from_conn_string(agents.redis_url, prefix=PREFIX) as saver:
        yield lambda thread_id: len([*saver.list({"configurable": {"thread_id": thread_id}})])


async def new_thread(agent: LangGraphClient) -> str:
    return str((await agent.threads.create())["thread_id"])


async def copied(agent: LangGraphClient, thread_id: str) -> str:
    copy: Any = await agent.threads.copy(thread_id)  # type: ignore[func-returns-value]
    return str(copy["thread_id"])


async def trail(agent: LangGraphClient, thread_id: str) -> list[str]:
    values: Any = (await agent.threads.get_state(thread_id))["values"]
    return list(values["trail"]) if values else []


async def history(agent: LangGraphClient, thread_id: str) -> list[Any]:
    """The ids and values of a thread's checkpoints; what comes next is the graph's to say."""
    states = await agent.threads.get_history(thread_id, limit=100)
    return [(state["checkpoint"]["checkpoint_id"], state["values"]) for state in states]


async def test_a_thread_goes_on_where_its_last_run_left_it(
    agent: LangGraphClient, stored: Callable[[str], int]
) -> None:
    """Conversations would begin anew with each message."""
    thread_id = await new_thread(agent)
    for _ in range(2):
        await agent.runs.wait(thread_id, "steps", input=INPUT)
    assert await trail(agent, thread_id) == ["first", "second"] * 2
    assert stored(thread_id) > 10  # with those of the subgraph


async def test_a_history_is_read_page_by_page(agent: LangGraphClient) -> None:
    """A user who scrolls back would miss messages, or see some twice."""
    thread_id = await new_thread(agent)
    for _ in range(3):
        await agent.runs.wait(thread_id, "steps", input=INPUT)
    whole = await agent.threads.get_history(thread_id, limit=100)
    pages: list[Any] = await agent.threads.get_history(thread_id, limit=5)
    while page := await agent.threads.get_history(
        thread_id, limit=5, before=pages[-1]["checkpoint"]
    ):
        pages += page
    assert pages == whole
    assert len(whole) == 15
    inputs = await agent.threads.get_history(thread_id, metadata={"source": "input"})
    assert [state["metadata"]["source"] for state in inputs if state["metadata"]] == ["input"] * 3


async def test_a_state_is_edited_and_a_thread_goes_on_from_the_past(agent: LangGraphClient) -> None:
    """Whoever corrects an agent would find it doing the same again."""
    thread_id = await new_thread(agent)
    await agent.runs.wait(thread_id, "steps", input=INPUT)
    await agent.threads.update_state(thread_id, {"trail": ["edited"]})
    assert await trail(agent, thread_id) == ["first", "second", "edited"]
    history = await agent.threads.get_history(thread_id)
    past = next(state for state in history if state["next"] == ["inner"])
    await agent.threads.update_state(thread_id, {"trail": ["fork"]}, checkpoint=past["checkpoint"])
    await agent.runs.wait(thread_id, "steps", input=None)
    assert await trail(agent, thread_id) == ["first", "fork", "second"]
    before_fork = await agent.threads.get_state(thread_id, checkpoint=history[0]["checkpoint"])
    assert before_fork["values"]["trail"] == ["first", "second", "edited"]  # type: ignore[call-overload]


async def test_a_run_waits_for_a_person(agent: LangGraphClient) -> None:
    """What an agent may do only when it is told to, it would do unasked, or never."""
    thread_id = await new_thread(agent)
    await agent.runs.wait(thread_id, "approval", input=INPUT)
    state = await agent.threads.get_state(thread_id)
    assert state["next"] == ["ask"]
    assert [interrupt["value"] for interrupt in state["tasks"][0]["interrupts"]] == ["May I?"]
    await agent.runs.wait(thread_id, "approval", command={"resume": "yes"})
    assert await trail(agent, thread_id) == ["first", "yes"]


async def test_a_copy_is_a_thread_of_its_own(agent: LangGraphClient) -> None:
    """What is tried on a copy would happen to the original."""
    original = await new_thread(agent)
    await agent.runs.wait(original, "steps", input=INPUT)
    copy = await copied(agent, original)
    history = await agent.threads.get_history(copy)
    assert len(history) == 5
    assert {state["metadata"]["thread_id"] for state in history if state["metadata"]} == {copy}
    await agent.runs.wait(copy, "steps", input=INPUT)
    assert await trail(agent, copy) == ["first", "second"] * 2
    assert await trail(agent, original) == ["first", "second"]


async def test_a_thread_without_runs_is_copied(agent: LangGraphClient) -> None:
    """A template that nobody has talked to yet could not be used."""
    copy = await copied(agent, await new_thread(agent))
    await agent.runs.wait(copy, "steps", input=INPUT)
    assert await trail(agent, copy) == ["first", "second"]


async def busy_run(agent: LangGraphClient, thread_id: str, before: int = 0) -> str:
    """A run that has stored its first step, and will not end by itself."""
    run = await agent.runs.create(thread_id, "endless", input=INPUT)
    deadline = time.monotonic() + SECONDS_TO_COME_ABOUT
    while len(await trail(agent, thread_id)) == before:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
    return run["run_id"]


async def test_a_cancelled_run_keeps_what_it_has_done(agent: LangGraphClient) -> None:
    """Stopping an agent would lose its work."""
    thread_id = await new_thread(agent)
    run_id = await busy_run(agent, thread_id)
    await agent.runs.cancel(thread_id, run_id, wait=True)
    assert await trail(agent, thread_id) == ["first"]


async def test_a_run_that_is_rolled_back_leaves_nothing(
    agent: LangGraphClient, stored: Callable[[str], int]
) -> None:
    """A message that its user has taken back would still be answered."""
    thread_id = await new_thread(agent)
    await agent.runs.wait(thread_id, "steps", input=INPUT)
    before = await history(agent, thread_id)
    rows = stored(thread_id)
    run_id = await busy_run(agent, thread_id, before=2)
    await agent.runs.cancel(thread_id, run_id, wait=True, action="rollback")
    await _until(lambda: stored(thread_id) == rows)
    assert await history(agent, thread_id) == before


async def test_a_new_run_may_take_the_place_of_another(agent: LangGraphClient) -> None:
    """A user who writes twice would get both answers mixed."""
    thread_id = await new_thread(agent)
    await busy_run(agent, thread_id)
    await agent.runs.wait(thread_id, "steps", input=INPUT, multitask_strategy="rollback")
    assert await trail(agent, thread_id) == ["first", "second"]


async def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS_TO_COME_ABOUT
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


async def test_a_deleted_thread_leaves_no_key(agent: LangGraphClient, agents: Agents) -> None:
    """What a user wants forgotten would stay on the server."""
    thread_id = await new_thread(agent)
    await agent.runs.wait(thread_id, "steps", input=INPUT)
    with redis.Redis.from_url(agents.redis_url) as client:
        assert {*client.scan_iter(f"{PREFIX}:*{thread_id}*")}
        await agent.threads.delete(thread_id)
        assert not {*client.scan_iter(f"*{thread_id}*")}


async def test_a_run_without_a_thread_leaves_nothing(
    agent: LangGraphClient, agents: Agents
) -> None:
    """Each of them would take memory for ever."""
    with redis.Redis.from_url(agents.redis_url) as client:
        before = {*client.keys(f"{PREFIX}:*timeline")}
        for _ in range(2):
            values: Any = await agent.runs.wait(None, "steps", input=INPUT)
            assert values["trail"] == ["first", "second"]
        await _until(lambda: {*client.keys(f"{PREFIX}:*timeline")} <= before)


async def test_threads_are_pruned(agent: LangGraphClient, stored: Callable[[str], int]) -> None:
    """A server would fill up with threads that nobody comes back to."""
    kept, deleted = [await new_thread(agent) for _ in range(2)]
    for thread_id in (kept, deleted):
        await agent.runs.wait(thread_id, "steps", input=INPUT)
    await agent.threads.prune([deleted])
    assert (stored(deleted), await trail(agent, kept)) == (0, ["first", "second"])


async def test_many_threads_run_at_once(agent: LangGraphClient) -> None:
    """One user's state would end up with another's, or be lost."""

    async def talk(number: int) -> list[str]:
        thread_id = await new_thread(agent)
        for _ in range(2):
            note: dict[str, Any] = {"trail": [str(number)]}
            await agent.runs.wait(thread_id, "steps", input=note)
        return await trail(agent, thread_id)

    trails = await asyncio.gather(*map(talk, range(20)))
    assert trails == [[str(number), "first", "second"] * 2 for number in range(20)]


async def test_the_graph_of_the_example_answers(agent: LangGraphClient) -> None:
    """Whoever copies the example would begin with an error."""
    values: Any = await agent.runs.wait(await new_thread(agent), "chat", input=HELLO)
    assert values["messages"][-1]["content"] == "Messages in this thread: 1"


@pytest.mark.slow
def test_the_example_needs_no_server_and_survives_a_restart(tmp_path: Path) -> None:
    """Whoever copies it would lose with the first restart what was said."""
    project = shutil.copytree(EXAMPLE, tmp_path / "project")
    thread_id = "11111111-1111-4111-8111-111111111111"
    for messages in (2, 4):
        shutil.rmtree(project / ".langgraph_api", ignore_errors=True)  # what `dev` itself keeps
        with (
            agent_server(project, tmp_path / "log", LANGGRAPH_REDIS_EMBEDDED="data") as url,
            get_sync_client(url=url) as client,
        ):
            client.threads.create(thread_id=thread_id)
            values: Any = client.runs.wait(thread_id, "chat", input=HELLO)
        assert len(values["messages"]) == messages
