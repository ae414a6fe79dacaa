"""The command line, on real servers with the threads of real graphs: what it shows, and its errors.

Commands run in this process, as piped ones do. `test_cli_changes.py` has the commands that change
something, `test_cli_secrets.py` threads of strangers and encrypted ones, and
`test_cli_terminals.py` commands in a terminal, which run in a process of their own.
"""

from __future__ import annotations

import re
import time
from asyncio import AbstractEventLoop
from collections.abc import Iterator
from pathlib import Path
from threading import Semaphore
from time import sleep
from typing import Any

import pytest
import redis
from langchain_core.messages import AIMessage, HumanMessage, RemoveMessage, ToolMessage
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command, Send, interrupt

from langgraph_checkpoint_redis import RedisSaver, cli
from langgraph_checkpoint_redis._transport import tls
from langgraph_checkpoint_redis.cli._output import ago, size, span
from tests.local_server import running_server

from .commanding import Run, asked, chatted, many, session
from .dated import ago as days_ago
from .dated import id_at, put
from .deltas import Seldom
from .graphs import (
    Builder,
    Flaky,
    Log,
    Node,
    asks,
    map_reduce,
    says,
    sequence,
    side_by_side,
)
from .pages import run_page, text
from .servers import any_binary

ON_ONE_SERVER = True  # what a server has to do with is in the tests of savers, and of the doctor

DAY = 86_400


@pytest.fixture
def saver(server: str, prefix: str) -> Iterator[RedisSaver]:
    with RedisSaver.from_conn_string(server, prefix=prefix) as saver:
        yield saver


# threads


def test_threads_are_listed_with_what_they_are(run: Run, saver: RedisSaver) -> None:
    """Operators would not know what is on their server."""
    chatted(saver, "shop:ada")
    asked(saver, "help:bob")
    saver.pin("help:bob")
    done = run("threads")
    assert done.code == 0
    rows = {row[0]: row[1:] for row in done.rows}
    assert rows.keys() == {"shop:ada", "help:bob"}
    assert rows["shop:ada"][0] == "6"
    assert rows["help:bob"][-1] == "pinned"
    assert [row[0] for row in run("threads", "--id-prefix", "shop:").rows] == ["shop:ada"]


def test_idle_threads_are_told_from_others(run: Run, saver: RedisSaver) -> None:
    """Who cleans up would look at threads that are in use."""
    put(saver, "old", id_at(days_ago(40 * DAY)))
    put(saver, "older", id_at(days_ago(90 * DAY)))
    put(saver, "new")

    def names(*words: str) -> list[str]:
        return [row[0] for row in run("threads", *words).rows]

    assert {*names("--idle", "30d")} == {"old", "older"}
    assert names("--sort", "age") == ["older", "old", "new"]
    assert names("--sort", "recent", "--limit", "2") == ["new", "old"]
    assert run("threads", "--idle", "soon").code == 2


def test_a_thousand_threads_are_paged(run: Run, saver: RedisSaver, client: redis.Redis) -> None:
    """A server with many threads would flood a screen, or show the wrong ones first."""
    many(client, saver, 1000)
    chatted(saver, "big", 5)
    done = run("threads")
    assert len(done.rows) == 50
    assert "more" in done.err
    assert len({row[0] for row in run("threads", "--limit", "0").rows}) == 1001
    biggest = run("threads", "--sort", "size", "--limit", "3", "--json").documents
    assert biggest[0]["thread_id"] == "big"
    assert len(biggest) == 3
    assert run("threads", "--sort", "size", "--limit", "0").code == 2


def test_the_json_of_a_thread_has_all_that_is_known(run: Run, saver: RedisSaver) -> None:
    """Scripts would have to read tables."""
    chatted(saver)
    info = saver.thread_info("a")
    assert info
    (document,) = run("threads", "--json").documents
    assert document == {
        "thread_id": "a",
        "checkpoints": 6,
        "namespaces": {"": 6},
        "pending_writes": info.pending_writes,
        "runs": 0,
        "first": info.first and info.first.isoformat(),
        "last": info.last and info.last.isoformat(),
        "bytes": info.bytes,
        "bytes_by_key": info.bytes_by_key,
        "shared_bytes": info.shared_bytes,
        "ttl": None,
        "pinned": False,
        "lease": None,
    }


# show


def lines(text: str) -> list[str]:
    """The lines of a tree with its ids left out, and what varies of sizes and times."""
    text = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "ID", text)
    return [re.sub(r" +[\d.]+ K?B", "", line) for line in text.splitlines()[1:]]


def test_a_timeline_shows_steps_and_what_is_next(run: Run, saver: RedisSaver) -> None:
    """Nobody would see what a thread did, and what it waits for."""
    asked(saver)
    assert lines(run("show", "a").out) == [
        "  (root)  3 checkpoints",
        "     -1  ID  input  next: __start__",
        "      0  ID  loop  next: plan",
        "      1  ID  loop  next: ask  waits for: Buy?",
    ]


def test_a_timeline_shows_forks_below_their_step(run: Run, saver: RedisSaver) -> None:
    """What was tried from an earlier state would look like one story."""
    waiting = asked(saver)
    waiting.run(Command(resume="yes"))
    (start,) = (one for one in waiting.history() if (one.metadata or {}).get("step") == 0)
    waiting.run(None, start.config)
    assert lines(run("show", "a").out) == [
        "  (root)  6 checkpoints",
        "     -1  ID  input  next: __start__",
        "      0  ID  loop  next: plan",
        "      fork",
        "          1  ID  loop  next: ask  asked: Buy?",
        "          2  ID  loop",
        "      1  ID  fork  next: plan",
        "      2  ID  loop  next: ask  waits for: Buy?",
    ]


def test_a_timeline_shows_subgraphs_below_the_step_that_called_them(
    run: Run, saver: RedisSaver
) -> None:
    """The checkpoints of subgraphs would stand beside those that they belong to."""
    inner = sequence(Log, ask=asks("Size?")).compile()
    outer = session(saver, sequence(Log, first=says("1"), inner=inner))
    outer.run({"log": []})
    assert lines(run("show", "a").out)[3:] == [
        "      1  ID  loop  next: inner  waits for: Size?",
        "      inner:ID  2 checkpoints",
        "         -1  ID  input  next: __start__",
        "          0  ID  loop  next: ask  waits for: Size?",
    ]
    (inner_name,) = {*run("show", "a", "--json").documents[0]["namespaces"]} - {""}
    assert len(lines(run("show", "a", "-n", inner_name).out)) == 3
    assert run("show", "a", "-n", "no such").code == 1


def test_what_runs_next_is_what_the_graph_says(run: Run, saver: RedisSaver) -> None:
    """The timeline would name other nodes than those that run."""
    for builder in (
        map_reduce(3),
        side_by_side(a=says("a"), b=says("b")),
        sequence(Log, a=says("a"), b=says("b")),
    ):
        saver.delete_thread("a")
        graph = session(saver, builder)
        graph.run({"log": []})
        expected = {
            found.config["configurable"]["checkpoint_id"]: sorted(found.next)
            for found in graph.history()
        }
        timeline = run("show", "a", "--json").documents[0]["timeline"]
        assert {one["checkpoint_id"]: sorted(one["next"]) for one in timeline} == expected


def test_a_failure_is_part_of_the_timeline(run: Run, saver: RedisSaver) -> None:
    """One would have to search logs for why a thread stopped."""
    with pytest.raises(ConnectionError):
        session(saver, sequence(Log, a=says("a"), b=Flaky(1))).run({"log": []})
    assert "failed: ConnectionError('failure 1')" in run("show", "a").out
    assert "failed\tConnectionError('failure 1')" in run("state", "a").out


def test_long_timelines_are_cut_at_their_beginning(run: Run, saver: RedisSaver) -> None:
    """A long thread would flood a screen, or hide that there is more."""
    chatted(saver, turns=40)
    done = run("show", "a", "--limit", "5")
    assert "115 older" in done.out
    assert len(done.out.splitlines()) == 8
    (document,) = run("show", "a", "--json", "--limit", "0").documents
    ids = [one["checkpoint_id"] for one in document["timeline"]]
    assert ids == sorted(ids)
    assert len(ids) == 120
    assert document["older"] == 0


# state


def tool_call(_: MessagesState) -> Any:
    call = {"name": "weather", "args": {"city": "Paris"}, "id": "1"}
    return {
        "messages": [
            AIMessage("Let me look.", id="m1", tool_calls=[call]),
            ToolMessage("sunny", tool_call_id="1", name="weather", id="m2"),
        ]
    }


def deferring(*edges: tuple[str | list[str], str]) -> Builder:
    """A graph whose node z waits until all others are done."""
    builder = StateGraph(Log)
    for name in "abc":
        builder.add_node(name, says(name))
    builder.add_node("z", says("z"), defer=True)
    for start, end in edges:
        builder.add_edge(start, end)
    return builder


@pytest.mark.parametrize("join", [["a", "b"], "a"], ids=str)
def test_a_deferred_node_is_next_when_all_others_are_done(
    run: Run, saver: RedisSaver, join: str | list[str]
) -> None:
    """Threads of such graphs would end in a traceback, or seem to be about to end."""
    graph = deferring((START, "a"), (START, "b"), ("b", "c"), (join, "z"))
    session(saver, graph, "deferred").run({"log": []})
    (document,) = run("show", "deferred", "--json").documents
    assert [step["next"] for step in document["timeline"]] == [
        *([START], ["a", "b"], ["c"], ["z"], []),
    ]
    assert run("show", "deferred").code == 0


def test_the_task_that_failed_or_waits_is_named(run: Run, saver: RedisSaver) -> None:
    """Of eight that run at once, nobody would know which to look at."""
    begun = Semaphore(0)

    def work(state: Any) -> dict[str, list[str]]:
        if state["i"] == 3:
            for _ in range(7):
                assert begun.acquire(timeout=30)
            sleep(0.3)  # LangGraph cancels what has not ended, which then counts as failed, too
            raise ConnectionError("gone")
        begun.release()
        if state["i"] == 5:
            interrupt("go on?")
        return {"log": [f"{state['i']}"]}

    def split(_: object) -> list[Send]:
        return [Send("work", {"i": number}) for number in range(8)]

    sending = StateGraph(Log).add_node("work", work).add_conditional_edges(START, split, ["work"])
    with pytest.raises(ConnectionError):
        session(saver, sending).run({"log": []})
    with pytest.raises(ConnectionError):
        session(saver, side_by_side(a=says("a"), b=Flaky(1)), "b").run({"log": []})
    shown = run("show", "a").out
    assert "waits for (work, 6 of 8): go on?" in shown
    assert "failed (work, 4 of 8): ConnectionError('gone')" in shown
    assert "failed (b): ConnectionError" in run("show", "b").out
    (document,) = run("show", "a", "--json").documents
    assert document["timeline"][-1]["failed_tasks"] == ["work, 4 of 8"]
    assert document["timeline"][-1]["waiting_tasks"] == ["work, 6 of 8"]


def test_messages_are_shown_as_a_conversation(run: Run, saver: RedisSaver) -> None:
    """Nobody could read what was said."""
    node: Node = tool_call
    graph = StateGraph(MessagesState).add_node("tool_call", node).add_edge(START, "tool_call")
    session(saver, graph).run({"messages": [HumanMessage("Weather?\n\nIn Paris.", id="m0")]})
    shown = run("state", "a").out.partition("messages  3 messages\n")[2]
    assert shown == (
        "\n  human  m0\n    Weather?\n\n    In Paris.\n"
        '\n  ai  m1\n    Let me look.\n    → weather(city="Paris")\n'
        "\n  tool weather  m2\n    sunny\n"
    )
    (document,) = run("state", "a", "--json").documents
    messages = document["channels"]["messages"]
    assert [message["type"] for message in messages] == ["human", "ai", "tool"]
    assert messages[1]["tool_calls"][0]["args"] == {"city": "Paris"}


def test_a_state_says_where_it_is_and_what_it_waits_for(run: Run, saver: RedisSaver) -> None:
    """An interrupted thread would look like a finished one."""
    waiting = asked(saver)
    shown = run("state", "a").out
    assert re.search(r"^next\task$", shown, re.MULTILINE)
    assert re.search(r"^waits for\tBuy\?$", shown, re.MULTILINE)
    assert 'log  ["plan"]' in shown
    assert "branch:to:" not in shown
    assert "branch:to:ask" in run("state", "a", "--all").out
    (document,) = run("state", "a", "--json").documents
    state = waiting.state()
    assert document["checkpoint_id"] == state.config["configurable"]["checkpoint_id"]
    assert document["channels"]["log"] == state.values["log"]
    assert document["interrupts"] == [{"id": state.interrupts[0].id, "value": "Buy?"}]
    assert document["metadata"]["step"] == 1


def test_checkpoints_are_named_by_id_by_its_beginning_or_from_the_latest(
    run: Run, saver: RedisSaver
) -> None:
    """Ids of 36 characters would have to be copied."""
    talk = chatted(saver)
    ids = [found.config["configurable"]["checkpoint_id"] for found in talk.history()]

    def named(name: str) -> Any:
        return run("state", "a", name, "--json").documents[0]["checkpoint_id"]

    assert [named(name) for name in ("latest", "latest~2", ids[3], ids[3][:23])] == [
        ids[0],
        ids[2],
        ids[3],
        ids[3],
    ]
    assert named(f"{ids[2]}~") == ids[3]
    assert run("state", "a", ids[0][:4]).code == 2
    assert run("state", "a", "latest~x").code == 2
    for absent in ("f" * 8, "latest~99"):
        done = run("state", "a", absent)
        assert done.code == 1
        assert "no checkpoint" in done.err


def test_what_is_not_there_is_said(run: Run, saver: RedisSaver) -> None:
    """A typing error would look like an empty thread."""
    chatted(saver)
    for words in (
        ("show", "b"),
        ("state", "b"),
        ("diff", "b", "latest~1", "latest"),
        ("delete", "b", "--yes"),
        ("copy", "b", "c"),
        ("pin", "b"),
        ("unpin", "b"),
    ):
        done = run(*words)
        assert (done.code, done.out) == (1, "")
        assert "there is no thread 'b'" in done.err
    assert "no namespace 'x'" in run("state", "a", "-n", "x").err


def test_delta_channels_are_shown_as_what_was_written(run: Run, saver: RedisSaver) -> None:
    """Their state would be missing, as it is not stored as such."""
    session(saver, sequence(Seldom, a=says("one"), b=says("two"))).run({"log": ["zero"]})
    (document,) = run("state", "a", "--json").documents
    assert document["channels"]["log"] == ["zero", "one", "two"]


# diff


def test_a_diff_says_which_messages_came_went_and_changed(run: Run, saver: RedisSaver) -> None:
    """One would have to compare two conversations by eye."""
    talk = chatted(saver)
    edits = [
        RemoveMessage(id="said turn 0"),
        AIMessage("I know nothing", id="answer 1"),
        HumanMessage("new", id="new"),
    ]
    talk.update({"messages": edits})
    shown = run("diff", "a", "latest~", "latest").out.partition("\n\n")[2]
    assert shown == (
        "~ messages  changed\n"
        "  - human  said turn 0\n    turn 0\n"
        "  ~ ai  answer 1\n    - I know 1\n    + I know nothing\n"
        "  + human  new\n    new\n"
    )
    (document,) = run("diff", "a", "latest~", "latest", "--json").documents
    (channel,) = document["channels"]
    assert [one["change"] for one in channel["messages"]] == ["removed", "changed", "added"]


def test_a_diff_says_what_changed_in_other_channels(run: Run, saver: RedisSaver) -> None:
    """Only chats could be compared."""
    asked(saver)
    assert run("diff", "a", "latest~2", "latest").out.partition("\n\n")[2] == (
        '+ log  added\n  + ["plan"]\n'
    )
    (document,) = run("diff", "a", "latest~", "latest", "--json").documents
    (change,) = document["channels"]
    assert change == {"channel": "log", "change": "changed", "before": [], "after": ["plan"]}
    assert "+ branch:to:ask" in run("diff", "a", "latest~", "latest", "--all").out
    assert "no channel changed" in run("diff", "a", "latest", "latest").out


# stats


def test_stats_sum_up_what_there_is(run: Run, saver: RedisSaver) -> None:
    """Nobody would know what fills the server."""
    chatted(saver, "a", 5)
    asked(saver, "b")
    expected = saver.stats()
    (document,) = run("stats", "--json").documents
    assert document["threads"] == 2
    assert document["bytes"] == expected.bytes
    assert document["bytes_by_key"] == expected.bytes_by_key
    assert document["shared_bytes"] == expected.shared_bytes
    assert [info["thread_id"] for info in document["biggest"]] == ["a", "b"]
    assert document["server_bytes"] > 0
    shown = run("stats").out
    assert re.search(r"^checkpoints\t18, with", shown, re.MULTILINE)
    assert re.search(r"^timeline\t", shown, re.MULTILINE)


def test_growth_is_what_came_lately(run: Run, saver: RedisSaver) -> None:
    """Old threads would count as if they came every day."""
    put(saver, "old", id_at(days_ago(40 * DAY)))
    put(saver, "days", id_at(days_ago(3 * DAY)))
    put(saver, "new")
    put(saver, "both", id_at(days_ago(10 * DAY)))
    put(saver, "both", id_at(days_ago(4 * DAY)))
    sizes = {one["thread_id"]: one["bytes"] for one in run("threads", "--json").documents}
    growth = run("stats", "--json").documents[0]["bytes_a_day"]
    assert growth["last_1_days"] == sizes["new"]
    assert growth["last_7_days"] == pytest.approx(
        (sizes["new"] + sizes["days"] + sizes["both"] / 2) / 7, abs=1
    )


# What the documentation shows


PAGE = "docs/command-line.md"


def words(shown: str) -> list[str]:
    """What is shown, however it is laid out, and whatever its ids, numbers and times are."""
    shown = re.sub(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}(-[0-9a-f]{4}-[0-9a-f]{12})?", "ID", shown)
    shown = re.sub(r"\d{4}-\d\d-\d\dT[\d:.+]+", "TIME", shown)
    shown = re.sub(r"[\d.,]+ (K?B|MB|s|min|h)\b|now", "SIZE", shown)
    shown = re.sub(r"\d+%", "SHARE", shown)
    return re.sub(r"[├└─│]", "", shown).replace("SIZE ago", "SIZE").split()


def test_the_command_lines_that_are_shown_print_what_is_shown(
    run: Run,
    loop: AbstractEventLoop,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever reads the page would learn another program."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LANGGRAPH_REDIS_PREFIX")
    with running_server(any_binary()) as url:
        run_page(PAGE, url, loop)
        blocks = re.findall(r"^```console\n(.*?)^```", text(PAGE), re.MULTILINE | re.DOTALL)
        for shown in "".join(blocks).split("$ langgraph-redis ")[1:]:
            line, _, expected = shown.partition("\n")
            done = run("--url", url, *line.replace("redis://localhost:6379", url).split())
            assert words(done.out) == words(expected), line


def test_every_command_is_documented(run: Run) -> None:
    """A command that nobody reads of is of no use."""
    commands = re.findall(r"^  (\w+)  ", run("--help").out, re.MULTILINE)
    assert len(commands) == 16
    shown = {*re.findall(r"langgraph-redis (\w+)", text(PAGE))}
    in_json = {*re.findall(r"`(\w+)`", text(PAGE).partition("| each line |")[2])}
    for command in commands:
        assert run(command, "--help").code == 0
        assert command in shown & in_json


# Errors and secrets


def test_a_server_out_of_reach_is_an_error_at_once(run: Run) -> None:
    """A script could not tell an outage from a thread that is not there, and would wait for it."""
    start = time.monotonic()
    done = run("--url", "redis://ada:s3cret%40@127.0.0.1:1", "threads")
    assert done.code == 3
    assert "127.0.0.1:1" in done.err
    assert time.monotonic() - start < 5


EACH = {
    "threads": [],
    "show": ["x"],
    "state": ["x"],
    "doctor": [],
    "stats": [],
    "verify": [],
    "repair": ["--yes"],
    "prune": ["--keep-last", "1", "--yes"],
    "delete": ["x", "--yes"],
    "export": ["-"],
    "import": [__file__],
    "migrate": ["URL", "URL"],
}


WRONG = [
    ("redis+cluster://SERVER", 2, "the server is not part of a cluster"),
    ("redis+sentinel://SERVER/chats", 2, "the server at SERVER is not a sentinel"),
    ("rediss://SERVER", 2, "the server at SERVER does not speak TLS"),
    ("redis://127.0.0.1:1", 3, "no Redis at 127.0.0.1:1: Connection refused. Start one ("),
    ("redis+cluster://127.0.0.1:1", 3, "no node of a cluster at 127.0.0.1:1: Connection"),
    ("redis+sentinel://no.invalid/chats", 3, "no sentinel of 'chats' answers: no.invalid:"),
    ("redis://no.invalid", 3, "no Redis at no.invalid:6379: "),
]


@pytest.mark.parametrize(
    ("command", "url", "code", "said"),
    [
        *((command, *WRONG[0]) for command in EACH),
        *((command, *wrong) for wrong in WRONG[1:] for command in ("threads", "export")),
    ],
)
def test_a_url_that_leads_nowhere_is_one_line_that_says_what_to_do(
    run: Run, server: str, command: str, url: str, code: int, said: str
) -> None:
    """Whoever mistypes a URL would read a traceback, or a page of options."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tls, "SECONDS_TO_BEGIN", 0.2)
        place = server.removeprefix("redis://")
        url, said = url.replace("SERVER", place), said.replace("SERVER", place)
        words = [url if word == "URL" else word for word in EACH[command]]
        done = run("--url", url, command, *words)
    assert (done.code, done.out) == (code, "")
    assert done.err.startswith(f"langgraph-redis: {said}")
    assert done.err.count("\n") == 1
    assert any(word in done.err for word in ("use redis", "Start one", "Check the host"))


@pytest.mark.parametrize(
    "url",
    [
        "redis://ada:s3cret%40@127.0.0.1:1",
        "redis+sentinel://ada:s3cret%40@127.0.0.1:1?sentinel_password=s3cret%40",
        "redis://ada:s3cret%40@127.0.0.1:x",
        "redis://127.0.0.1:1?password=s3cret%40&no_such=1",
        "no-redis://ada:s3cret%40@x",
    ],
)
def test_no_password_is_ever_printed(run: Run, url: str) -> None:
    """Secrets would end in the logs of a job."""
    done = run("--url", url, "threads")
    assert done.code in {2, 3}
    assert "s3cret" not in done.out + done.err


def test_no_password_is_in_a_traceback(
    run: Run, monkeypatch: pytest.MonkeyPatch, server: str
) -> None:
    """Nor in that of an error which nobody thought of."""
    url = server.replace("//", "//default:s3cret@")

    def fails(*_: Any, **__: Any) -> None:
        raise RuntimeError(f"cannot do it with {url}")

    monkeypatch.setattr(RedisSaver, "__init__", fails)
    done = run("--url", url, "threads")
    assert done.code == 1
    assert "RuntimeError" in done.err
    assert "s3cret" not in done.err


def test_wrong_usage_has_a_code_of_its_own(run: Run) -> None:
    """A typing error in a script would look like a problem of the server."""
    for words in (("no-such",), ("show",), ("threads", "--limit", "x"), ("--prefix", "{", "stats")):
        done = run(*words)
        assert done.code == 2
        assert done.err
        assert not done.out


def test_without_its_libraries_it_says_how_to_get_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who forgot the extra would see an ImportError."""
    monkeypatch.setattr(cli, "find_spec", lambda name: None)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert "langgraph-checkpoint-redis-core[cli]" in capsys.readouterr().err


# Numbers in words


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 KB"),
        (1_234_567, "1.2 MB"),
        (5 * 10**15, "5000.0 TB"),
    ],
)
def test_sizes_are_short(number: int, said: str) -> None:
    """Tables would be full of digits, or of wrong ones."""
    assert size(number) == said


def test_times_are_rough() -> None:
    """A glance would not be enough."""
    assert [span(seconds) for seconds in (0.4, 90, 3600, 86_400, 30 * 86_400)] == [
        "0 s",
        "90 s",
        "60 min",
        "24 h",
        "30 d",
    ]
    assert ago(None) == "?"
