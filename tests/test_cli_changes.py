"""The commands that change something: delete, copy, pin, prune, repair, and moves of threads."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from langgraph_checkpoint_redis import RedisSaver, ThreadDeletedError

from .commanding import Run, asked, chatted, session
from .damaged import damage_last_row
from .dated import ago as days_ago
from .dated import id_at, put
from .graphs import (
    TYPED,
    Builder,
    Log,
    chat,
    says,
    sequence,
    typed,
)

ON_ONE_SERVER = True  # what a server has to do with is in the tests of savers, and of the doctor

DAY = 86_400


@pytest.fixture
def saver(server: str, prefix: str) -> Iterator[RedisSaver]:
    with RedisSaver.from_conn_string(server, prefix=prefix) as saver:
        yield saver


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


# verify, repair


def damage(client: redis.Redis, saver: RedisSaver, thread_id: str, part: str = "timeline") -> None:
    """Alter the row of the latest checkpoint, or of writes."""
    damage_last_row(client, getattr(saver._shared.keyspace.thread(thread_id), part))


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


@pytest.mark.parametrize("part", ["timeline", "writes"])
def test_a_damaged_row_is_named_by_what_reads_rows_only(
    run: Run, saver: RedisSaver, client: redis.Redis, tmp_path: Path, part: str
) -> None:
    """A timeline or a backup would end in an error that does not say which thread is damaged."""
    asked(saver)
    damage(client, saver, "a", part)
    shown = run("show", "a", "--json")
    assert shown.code == 1
    assert "Traceback" not in shown.err
    assert "thread 'a'" in shown.err
    moved = run("migrate", "--json", os.environ["REDIS_URL"], f"sqlite:///{tmp_path}/threads.db")
    assert moved.code == 1
    assert moved.documents[0]["reason"].startswith("CorruptThreadError: ")


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
