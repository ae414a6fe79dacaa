"""The command line, on real servers with the threads of real graphs.

Most commands run in this process, as piped ones do; those that need a terminal, a signal or a
closed pipe run in one of their own.
"""

from __future__ import annotations

import json
import os
import pickle
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import time
from asyncio import AbstractEventLoop
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import pytest
import redis
from langchain_core.messages import AIMessage, HumanMessage, RemoveMessage, ToolMessage
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.serde.base import CipherProtocol
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command, Send, interrupt

from langgraph_checkpoint_redis import KeyRing, RedisSaver, ThreadDeletedError, cli
from langgraph_checkpoint_redis.cli._output import ago, size, span
from tests.local_server import running_server

from .commanding import Done, Run
from .driving import DirectDriver
from .graphs import (
    TYPED,
    Builder,
    Flaky,
    Log,
    Node,
    Session,
    asks,
    chat,
    map_reduce,
    says,
    sequence,
    side_by_side,
    thread,
    typed,
)
from .servers import any_binary
from .test_delta import Seldom
from .test_docs import run as run_page
from .test_docs import text
from .test_threads import ago as days_ago
from .test_threads import id_at, put

ON_ONE_SERVER = True  # what a server has to do with is in the tests of savers, and of the doctor

DAY = 86_400
KEY = "0123456789abcdef"
CTRL_C = "Ctrl-C"
ESCAPE = "\x1b[31m[bold]red[/bold]\n"


@pytest.fixture
def saver(server: str, prefix: str) -> Iterator[RedisSaver]:
    with RedisSaver.from_conn_string(server, prefix=prefix) as saver:
        yield saver


def session(saver: RedisSaver, builder: Any, thread_id: str = "a") -> Session:
    return Session(DirectDriver(saver), builder, thread_id)


def chatted(saver: RedisSaver, thread_id: str = "a", turns: int = 2) -> Session:
    talk = session(saver, chat(), thread_id)
    for turn in range(turns):
        talk.say(f"turn {turn}")
    return talk


def asked(saver: RedisSaver, thread_id: str = "a") -> Session:
    """A thread that waits for an answer."""
    waiting = session(saver, sequence(Log, plan=says("plan"), ask=asks("Buy?")), thread_id)
    waiting.run({"log": []})
    return waiting


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


def many(client: redis.Redis, saver: RedisSaver, number: int) -> None:
    """So many threads of a checkpoint each, in a moment."""
    chatted(saver, "source", 1)
    keyspace = saver._shared.keyspace
    with client.pipeline(transaction=False) as pipeline:
        for copy in range(number):
            to = keyspace.thread(f"copy {copy} {'x' * 40}")
            for source, target in zip(keyspace.thread("source")[:3], to[:3], strict=True):
                pipeline.execute_command("COPY", source, target)
        pipeline.execute()
    saver.delete_thread("source")


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

    def work(state: Any) -> dict[str, list[str]]:
        if state["i"] == 3:
            raise ConnectionError("gone")
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


# Whose threads these are is not known


def test_types_of_others_are_data_until_they_are_allowed(run: Run, saver: RedisSaver) -> None:
    """To look at a thread would run what somebody has put there."""
    session(saver, typed()).run(TYPED)
    done = run("state", "a")
    assert 'points  [{"x": 1, "y": 2}, {"x": 3, "y": 4}]' in done.out
    assert "tests.graphs.Person, tests.graphs.Point" in done.err
    allowed = run("--allow", "tests.graphs.Point", "state", "a")
    assert "tests.graphs.Point" not in allowed.err
    assert "tests.graphs.Person" in allowed.err
    assert run("--allow", "all", "state", "a").err == ""
    assert run("--allow", "Point", "state", "a").code == 2


def test_nothing_stored_is_imported(
    run: Run, saver: RedisSaver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stored name could start any code that the machine has."""
    mark = tmp_path / "ran"
    (tmp_path / "trap.py").write_text(
        f"import pathlib\npathlib.Path({str(mark)!r}).touch()\nclass Trap: ..."
    )
    monkeypatch.syspath_prepend(tmp_path)
    import trap  # type: ignore[import-not-found]  # noqa: PLC0415 - it is there now

    class Model:
        def model_dump(self) -> dict[str, int]:
            return {"x": 1}

    Model.__module__, Model.__qualname__ = "trap", "Trap"
    Model.__name__ = "Trap"
    store(saver, {"c": Model()})
    del sys.modules["trap"], trap
    mark.unlink()
    assert '{"x": 1}' in run("state", "a").out
    assert not mark.exists()
    run("--allow", "trap.Trap", "state", "a")
    assert mark.exists()


def store(saver: RedisSaver, values: dict[str, Any]) -> None:
    """A checkpoint with these values."""
    checkpoint = empty_checkpoint()
    versions: Any = dict.fromkeys(values, 1)
    checkpoint["channel_values"], checkpoint["channel_versions"] = values, versions
    saver.put(thread("a", checkpoint_ns=""), checkpoint, {"source": "input", "step": 1}, versions)


def test_pickles_are_never_read(run: Run, server: str, prefix: str) -> None:
    """To look at a pickle is to run it."""

    class Pickling:
        def dumps_typed(self, value: Any) -> tuple[str, bytes]:
            return ("pickle" if isinstance(value, set) else "json"), (
                pickle.dumps(value) if isinstance(value, set) else json.dumps(value).encode()
            )

        def loads_typed(self, data: tuple[str, bytes]) -> Any:
            raise NotImplementedError

    with RedisSaver.from_conn_string(server, prefix=prefix, serde=Pickling()) as saver:
        store(saver, {"c": {1}, "d": "readable"})
    done = run("state", "a")
    assert "c  (of an unknown type: pickle, " in done.out
    assert "d  readable" in done.out
    assert run("state", "a", "--json").documents[0]["channels"]["c"]["type"] == "pickle"


def test_what_is_stored_cannot_command_a_terminal(run: Run, saver: RedisSaver) -> None:
    """Whoever writes to a chat could write to the operator's screen."""
    session(saver, chat(), f"a {ESCAPE}").say(ESCAPE)
    for words in (("threads",), ("show", f"a {ESCAPE}"), ("state", f"a {ESCAPE}"), ("stats",)):
        shown = run(*words).out
        assert "\x1b" not in shown
        assert r"\x1b[31m[bold]red[/bold]" in shown
    assert r"\x1b" in run("delete", f"a {ESCAPE}", "--yes").out


@pytest.fixture
def encrypted(server: str, prefix: str) -> None:
    """A thread that is encrypted."""
    serde = EncryptedSerializer.from_pycryptodome_aes(key=KEY.encode())
    with RedisSaver.from_conn_string(server, prefix=prefix, serde=serde) as saver:
        asked(saver)


@pytest.mark.usefixtures("encrypted")
def test_of_an_encrypted_thread_what_can_be_seen_is_shown(run: Run) -> None:
    """Encryption would make a thread look broken."""
    assert [row[:2] for row in run("threads").rows] == [["a", "3"]]
    shown = run("show", "a")
    assert "waits for: (encrypted: msgpack+aes, " in shown.out
    assert "next: ask" in shown.out
    done = run("state", "a")
    assert done.code == 0
    assert "log  (encrypted: msgpack+aes, " in done.out
    assert "LANGGRAPH_AES_KEY" in done.err
    (document,) = run("state", "a", "--json").documents
    assert document["channels"]["log"]["unreadable"] == "encrypted"


@pytest.mark.usefixtures("encrypted")
def test_an_encrypted_thread_is_read_with_its_key(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who has the key could not read it either."""
    monkeypatch.setenv("OUR_KEY", KEY)
    assert 'log  ["plan"]' in run("--aes-key-env", "OUR_KEY", "state", "a").out
    monkeypatch.setenv("LANGGRAPH_AES_KEY", KEY[::-1])
    wrong = run("state", "a")
    assert "log  (encrypted with another key" in wrong.out
    assert KEY[::-1] not in wrong.out + wrong.err
    monkeypatch.setenv("LANGGRAPH_AES_KEY", "short")
    assert run("state", "a").code == 2


def cipher(key: str) -> CipherProtocol:
    return EncryptedSerializer.from_pycryptodome_aes(key=key.encode()).cipher


def test_a_thread_of_a_key_ring_is_read_with_its_keys(
    run: Run, server: str, prefix: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Who has several keys could not look at a thread, or make a backup of it."""
    old, new, first = KEY, KEY[::-1], KEY.upper()
    rings = {
        "a": KeyRing({"2025": cipher(old)}),
        "b": KeyRing({"2026": cipher(new), "2025": cipher(old)}),
        "c": cipher(first),
    }
    for thread_id, ring in rings.items():
        with RedisSaver.from_conn_string(
            server, prefix=prefix, serde=EncryptedSerializer(ring)
        ) as saver:
            asked(saver, thread_id)
    without = run("state", "a")
    assert "log  (encrypted: msgpack+aes:2025, " in without.out
    assert "KeyRing: '2025'" in without.err
    assert "--aes-key-env NAME=VARIABLE" in without.err
    for variable, key in (("NEW", new), ("OLD", old), ("FIRST", first)):
        monkeypatch.setenv(variable, key)
    keys = [
        word for given in ("2026=NEW", "2025=OLD", "FIRST") for word in ("--aes-key-env", given)
    ]
    for thread_id in rings:
        assert 'log  ["plan"]' in run(*keys, "state", thread_id).out
    exported = run(*keys, "export", f"{tmp_path}/file")
    assert (exported.code, exported.out) == (0, "3 threads exported; 9 checkpoints\n")
    assert run(*keys, "import", f"{tmp_path}/file").code == 0
    only_new = run("--aes-key-env", "2026=NEW", "state", "a")
    assert "log  (encrypted with another key" in only_new.out
    assert not any(key in only_new.out + only_new.err for key in (old, new, first))
    unset = run("--aes-key-env", "2027=UNSET", "state", "a")
    assert (unset.code, "UNSET must have the key '2027'" in unset.err) == (2, True)


@pytest.mark.usefixtures("encrypted")
def test_an_export_without_the_key_says_that_the_thread_is_encrypted(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Who lacks a key would take the thread for damaged, and repair it."""
    for key in ("", KEY[::-1]):
        monkeypatch.setenv("LANGGRAPH_AES_KEY", key)
        exported = run("export", f"{tmp_path}/file", "--yes")
        assert exported.code == 1
        assert "EncryptedThreadError" in exported.err
        assert "put it into LANGGRAPH_AES_KEY" in exported.err
        assert "--aes-key-env" in exported.err
        assert "orrupt" not in exported.err


FILES: dict[str, tuple[list[str], int]] = {
    "import of no file": (["import", "none"], 4),
    "import of a directory": (["import", "."], 4),
    "import of something else": (["import", "text"], 1),
    "import of half a file": (["import", "half"], 1),
    "import of another thread": (["import", "file", "other"], 1),
    "export to nowhere": (["export", "none/file"], 4),
    "export to a directory": (["export", "."], 4),
    "export over a file, with nobody to ask": (["export", "file"], 2),
    "export of another thread": (["export", "new", "other"], 1),
    "migrate from no database": (["migrate", "sqlite:///none", "sqlite:///new"], 2),
    "migrate from something else": (["migrate", "redis:", "sqlite:///new"], 2),
}


@pytest.mark.parametrize(("words", "code"), FILES.values(), ids=FILES)
def test_the_exit_code_says_whether_it_was_the_file(
    run: Run,
    saver: RedisSaver,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    code: int,
) -> None:
    """A script that makes backups could not tell a wrong path from a damaged thread."""
    monkeypatch.chdir(tmp_path)
    chatted(saver)
    assert run("export", "file").code == 0
    whole = Path("file").read_bytes()
    Path("half").write_bytes(whole[: len(whole) // 2])
    Path("text").write_text("hello\n")
    done = run(*words)
    assert done.code == code, done.err
    assert done.err.strip()


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


# delete, copy, pin, prune


def test_nothing_is_destroyed_where_nobody_can_be_asked(run: Run, saver: RedisSaver) -> None:
    """A script with a mistake in it would delete what it should only show."""
    chatted(saver)
    for words in (("delete", "a"), ("prune", "--keep-last", "1")):
        done = run(*words)
        assert done.code == 2
        assert "--yes" in done.err
    assert "would delete a: 6 checkpoints" in run("delete", "a", "--dry-run").out
    assert saver.thread_info("a")


def test_threads_are_deleted_when_that_was_said(run: Run, saver: RedisSaver) -> None:
    """There would be no way to remove a thread."""
    chatted(saver, "a")
    chatted(saver, "b")
    assert run("delete", "a", "none", "--yes").code == 1
    assert saver.thread_info("a"), "all or nothing"
    assert run("delete", "a", "b", "--yes").code == 0
    assert not [*saver.list_threads()]


def test_a_deleted_thread_does_not_come_back(
    run: Run, saver: RedisSaver, client: redis.Redis, tmp_path: Path
) -> None:
    """A run that is under way would bring back what somebody asked to have deleted."""
    file = str(tmp_path / "threads")
    found: list[int] = []

    def deleting() -> Builder:
        def delete(_: object) -> dict[str, list[str]]:
            found.append(run("delete", "a", "--yes").code)
            return {"log": ["late"]}

        return sequence(Log, delete=delete, after=says("after"))

    session(saver, deleting()).update({"log": ["secret"]}, as_node="after")
    run("export", file)
    with pytest.raises(ThreadDeletedError):
        session(saver, deleting()).run({"log": ["go on"]})
    assert not [*saver.list_threads()]
    session(saver, sequence(Log, a=says("new"))).run({"log": []})
    assert saver.thread_info("a"), "a new run may begin it"
    run("delete", "a", "--yes")
    assert run("import", file).code == 0, "and a backup may bring it back"
    chatted(saver, "b")
    assert run("delete", "b", "--yes", "--tombstone", "0").code == 0
    (left,) = client.scan_iter(f"{saver._shared.keyspace.prefix}:*control")
    assert b"{a}" in left, "only one has a tombstone"
    assert 3500 < client.ttl(left) <= 3600
    assert found == [0]
    assert run("delete", "a", "--yes", "--tombstone", "soon").code == 2


def test_threads_are_copied_pinned_and_unpinned(run: Run, saver: RedisSaver) -> None:
    """The saver's methods would need a program for each use."""
    talk = chatted(saver)
    (document,) = run("copy", "a", "b", "--json").documents
    assert document == {"source": "a", "target": "b", "checkpoints": 6}
    copied = session(saver, chat(), "b")
    assert copied.state().values == talk.state().values
    assert run("copy", "a", "b").code == 1
    assert run("pin", "b", "--json").documents == [{"thread_id": "b", "pinned": True}]
    info = saver.thread_info("b")
    assert info
    assert info.pinned
    run("unpin", "b")
    info = saver.thread_info("b")
    assert info
    assert not info.pinned


@pytest.fixture
def old_and_new(saver: RedisSaver) -> None:
    """A thread that is idle, one that is too but pinned, and two that are in use."""
    for name in ("old", "kept"):
        put(saver, name, id_at(days_ago(40 * DAY)))
    saver.pin("kept")
    chatted(saver, "new")
    put(saver, "short")


@pytest.mark.usefixtures("old_and_new")
def test_a_dry_run_says_what_would_go_and_it_goes(run: Run, saver: RedisSaver) -> None:
    """The first run would be the one that counts."""
    words = ("prune", "--idle", "30d", "--keep-last", "2")
    *planned, total = run(*words, "--dry-run", "--json").documents
    assert sorted((one["thread_id"], one["delete"], one["checkpoints"]) for one in planned) == [
        ("new", False, 4),
        ("old", True, 1),
    ]
    assert {*saver.list_threads()} == {"old", "kept", "new", "short"}
    done = run(*words, "--yes")
    assert "4 threads looked at: 1 deleted, 1 shortened; 5 checkpoints gone" in done.out
    assert {*saver.list_threads()} == {"kept", "new", "short"}
    assert total == {"dry_run": True, "looked_at": 4, "deleted": 1, "shortened": 1} | {
        "checkpoints": 5,
        "bytes": total["bytes"],
    }


@pytest.mark.usefixtures("old_and_new")
def test_only_the_threads_that_were_named_are_pruned(run: Run, saver: RedisSaver) -> None:
    """Who means one thread would shorten them all."""
    chatted(saver, "other")
    run("prune", "new", "--keep-last", "1", "--yes")
    run("prune", "--id-prefix", "ol", "--idle", "30d", "--yes")
    left = {
        name: info.checkpoints for name in saver.list_threads() if (info := saver.thread_info(name))
    }
    assert left == {"new": 1, "kept": 1, "short": 1, "other": 6}
    assert run("prune", "--yes").code == 2


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


# verify, repair


def damage(client: redis.Redis, saver: RedisSaver, thread_id: str) -> None:
    """Alter the row of the latest checkpoint."""
    timeline = saver._shared.keyspace.thread(thread_id).timeline
    rows: Any = client.zrange(timeline, -1, -1)
    (row,) = rows
    client.zrem(timeline, row)
    client.zadd(timeline, {row[:-9] + b"?" + row[-8:]: 0})


def test_damage_is_found_and_removed(run: Run, saver: RedisSaver, client: redis.Redis) -> None:
    """It would be found by a user in the middle of a conversation."""
    chatted(saver, "good")
    chatted(saver, "bad")
    sound = run("verify")
    assert (sound.code, sound.out) == (0, "2 threads looked at: nothing found\n")
    damage(client, saver, "bad")
    done = run("verify", "--json")
    assert done.code == 1
    *problems, total = done.documents
    assert total["damaged"] == 1
    (lost,) = (one for one in problems if one["kind"] == "lost")
    assert lost["thread_id"] == "bad"
    assert lost["reason"] == "the row is damaged"
    listed = run("threads")
    assert [row[0] for row in listed.rows] == ["good"]
    assert "damaged" in listed.err
    assert run("repair").code == 2
    assert "would be removed" in run("repair", "--dry-run").out
    assert run("verify").code == 1
    assert "1 lost" in run("repair", "bad", "--yes").out
    assert run("verify").out == "2 threads looked at: nothing found\n"
    assert run("verify", "none").code == 1
    damage(client, saver, "bad")
    assert run("delete", "bad", "--yes").code == 0
    assert [*saver.list_threads()] == ["good"]


def test_a_leased_thread_is_not_repaired(run: Run, saver: RedisSaver, client: redis.Redis) -> None:
    """Its run would lose what it builds on."""
    chatted(saver)
    damage(client, saver, "a")
    with saver.lease("a"):
        done = run("repair", "--yes")
    assert done.code == 1
    assert "lease" in done.err
    assert run("verify").code == 1


# export, import, migrate


def test_threads_go_to_a_file_and_back(run: Run, saver: RedisSaver, tmp_path: Path) -> None:
    """There would be no backup of a single thread."""
    talk = chatted(saver)
    session(saver, typed(), "typed").run(TYPED)
    before = talk.history()
    file = str(tmp_path / "threads.gz")
    assert run("export", file).out == "2 threads exported; 9 checkpoints\n"
    assert run("export", file).code == 2
    saver.delete_thread("a")
    *each, total = run("import", file, "--json").documents
    assert {(one["thread_id"], one["outcome"]) for one in each} == {
        ("a", "copied"),
        ("typed", "present"),
    }
    assert total == {"copied": 1, "present": 1, "failed": 0, "checkpoints": 9}
    assert talk.history() == before
    Path(file).write_bytes(b"no such file of ours")
    assert run("import", file).code == 1
    assert run("import", f"{file}.none").code == 4
    assert run("export", str(tmp_path / "none" / "file")).code == 4
    Path(f"{file}.link").symlink_to(file)
    assert run("export", f"{file}.link", "--yes").code == 2
    assert run("export", "-", "--json").code == 2


def test_threads_migrate_with_types_that_nobody_imports(
    run: Run, saver: RedisSaver, server: str, prefix: str, tmp_path: Path
) -> None:
    """A migration would turn objects into data, or run what somebody has stored."""
    session(saver, typed()).run(TYPED)
    asked(saver, "b")
    file = f"sqlite:///{tmp_path}/threads.db"
    there = run("migrate", server, file)
    assert (there.code, there.out) == (0, "2 threads copied; 6 checkpoints\n")
    back = run("migrate", file, server, "--to-prefix", f"{prefix}:copy")
    assert back.code == 0, back.err
    assert "tests.graphs" not in there.err + back.err
    with RedisSaver.from_conn_string(server, prefix=f"{prefix}:copy") as copy:
        assert session(copy, typed()).state().values == session(saver, typed()).state().values
    assert "there already" in run("migrate", server, file).out
    assert run("migrate", f"{file}.none", server).code == 2
    only = run("migrate", server, f"sqlite:///{tmp_path}/one.db", "b", "--json").documents
    assert [one["thread_id"] for one in only[:-1]] == ["b"]


def test_what_cannot_be_moved_is_named(run: Run, saver: RedisSaver, tmp_path: Path) -> None:
    """Threads would be left behind in silence."""
    chatted(saver)
    done = run("export", str(tmp_path / "file"), "a", "nobody")
    assert done.code == 1
    assert "failed: nobody: " in done.err
    assert "1 thread exported, 1 failed" in done.out


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
    url = server.replace("//", "//:s3cret@")

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


# Terminals, pipes and signals


@pytest.fixture
def environment(server: str, prefix: str) -> dict[str, str]:
    """What a command in a process of its own is given."""
    return {
        **{name: value for name, value in os.environ.items() if name != "NO_COLOR"},
        "REDIS_URL": server,
        "LANGGRAPH_REDIS_PREFIX": prefix,
        "TERM": "xterm-256color",
        "COLUMNS": "80",
    }


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "langgraph_checkpoint_redis.cli", *words]


def in_terminal(
    environment: dict[str, str], *words: str, typed: str = "", out: IO[bytes] | None = None
) -> Done:
    """Run a command in a terminal of its own, and type something, or press Ctrl-C, when it asks.

    Its stdout may go elsewhere.
    """
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        command(*words), stdin=theirs, stdout=out or theirs, stderr=theirs, env=environment
    ) as process:
        os.close(theirs)
        try:
            shown = _conversation(ours, process, typed)
        finally:
            os.close(ours)
            if process.poll() is None:
                process.send_signal(signal.SIGHUP)  # what the end of a terminal is
    return Done(process.returncode, shown, "")


def _conversation(terminal: int, process: subprocess.Popen[bytes], typed: str) -> str:
    shown = b""
    while part := _read(terminal):
        shown += part
        if typed and b"[y/N]" in shown:
            if typed == CTRL_C:
                _interrupt(process)
            else:
                os.write(terminal, typed.encode())
            typed = ""
    process.wait()
    return shown.decode()


def _interrupt(process: subprocess.Popen[bytes]) -> None:
    """Press Ctrl-C, and again if need be: Python misses one between a prompt and its reading."""
    while process.poll() is None:
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(2)


def _read(terminal: int) -> bytes:
    ready, _, _ = select.select([terminal], [], [], 30)
    assert ready, "the command says nothing"
    try:
        return os.read(terminal, 65536)
    except OSError:  # what Linux says when the other end is closed
        return b""


def test_a_terminal_gets_colours_and_trees(environment: dict[str, str], saver: RedisSaver) -> None:
    """It would be as plain as a pipe."""
    chatted(saver)
    shown = in_terminal(environment, "show", "a").out
    assert "\x1b[1m" in shown
    assert "├──" in shown
    plain = re.sub(r"\x1b\[[\d;]*m", "", shown)
    assert max(map(len, plain.splitlines())) <= 80


def test_a_bar_of_progress_hides_nothing(environment: dict[str, str], saver: RedisSaver) -> None:
    """What a long command says meanwhile would be wiped out."""
    for name in ("a", "b", "c"):
        chatted(saver, name)
    shown = in_terminal(environment, "prune", "--keep-last", "1", "--dry-run").out
    seen = re.sub(r"[^\n]*\x1b\[2K", "", shown)  # a line that is cleared is not seen
    assert {*re.findall(r"would shorten (\w)", seen)} == {"a", "b", "c"}


def test_a_bar_of_progress_leaves_a_file_what_is_its(
    environment: dict[str, str], saver: RedisSaver, tmp_path: Path
) -> None:
    """`> file` would leave the file empty, whenever somebody watches."""
    chatted(saver)
    with (tmp_path / "file").open("wb") as file:
        shown = in_terminal(environment, "threads", "--sort", "size", "--json", out=file).out
    assert json.loads((tmp_path / "file").read_text())["thread_id"] == "a"
    assert "thread_id" not in shown


def test_who_is_asked_may_say_no(environment: dict[str, str], saver: RedisSaver) -> None:
    """There would be no way back from a typing error."""
    chatted(saver)
    assert in_terminal(environment, "delete", "a", typed=CTRL_C).code == 130
    assert saver.thread_info("a")
    assert in_terminal(environment, "delete", "a", typed="y\n").code == 0
    assert not saver.thread_info("a")


def test_an_interrupted_command_ends_without_a_traceback(environment: dict[str, str]) -> None:
    """Ctrl-C would end in a page of Python."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        environment["REDIS_URL"] = f"redis://127.0.0.1:{silent.getsockname()[1]}"
        with subprocess.Popen(
            command("stats"), env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            connection, _ = silent.accept()
            with connection:
                process.send_signal(signal.SIGINT)
                out, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert b"Traceback" not in err
    assert not out


def test_a_closed_pipe_is_no_error(
    environment: dict[str, str], saver: RedisSaver, client: redis.Redis
) -> None:
    """`| head` would end in a complaint."""
    many(client, saver, 1500)
    listing = command("threads", "--limit", "0")
    with subprocess.Popen(
        listing, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


@pytest.mark.parametrize("number", [2, 1500])
def test_a_closed_pipe_is_told_by_its_code(
    environment: dict[str, str], saver: RedisSaver, client: redis.Redis, number: int
) -> None:
    """A script could not tell it from a problem that was found."""
    many(client, saver, number)
    reading, writing = os.pipe()
    os.close(reading)
    listing = command("threads", "--limit", "0")
    with os.fdopen(writing, "wb") as closed:
        done = subprocess.run(
            listing, env=environment, stdout=closed, stderr=subprocess.PIPE, check=False
        )
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize("words", [("threads", "--limit", "0"), ("export", "-"), ("--help",)])
def test_a_full_disk_is_an_error(
    environment: dict[str, str], saver: RedisSaver, client: redis.Redis, words: tuple[str, ...]
) -> None:
    """A report or a backup would be cut off, and the script that made it go on."""
    many(client, saver, 1500)
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            command(*words),
            env=environment,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 4
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_threads_go_through_pipes(environment: dict[str, str], saver: RedisSaver) -> None:
    """A backup to another machine would need room here."""
    talk = chatted(saver)
    before = talk.history()

    def piped(*words: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        done = subprocess.run(
            command(*words), env=environment, input=given, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done

    exported = piped("export", "-")
    assert b"1 thread exported" in exported.stderr
    saver.delete_thread("a")
    assert b"1 thread imported" in piped("import", "-", given=exported.stdout).stdout
    assert talk.history() == before


def test_shells_can_complete_commands(environment: dict[str, str]) -> None:
    """Names would have to be typed."""
    asked = {"_LANGGRAPH_REDIS_COMPLETE": "complete_bash", "COMP_CWORD": "1"}
    done = subprocess.run(
        [str(Path(sys.executable).with_name("langgraph-redis"))],
        env={**environment, **asked, "COMP_WORDS": "langgraph-redis s"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert {*done.stdout.split()} == {"show", "state", "stats"}


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
