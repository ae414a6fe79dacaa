"""The command line shows threads of strangers and encrypted ones: it runs and reveals nothing."""

from __future__ import annotations

import json
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.serde.base import CipherProtocol
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer

from langgraph_checkpoint_redis import KeyRing, RedisSaver

from .commanding import Run, asked, session
from .graphs import (
    TYPED,
    chat,
    thread,
    typed,
)

ON_ONE_SERVER = True  # what a server has to do with is in the tests of savers, and of the doctor

KEY = "0123456789abcdef"
ESCAPE = "\x1b[31m[bold]red[/bold]\n"


@pytest.fixture
def saver(server: str, prefix: str) -> Iterator[RedisSaver]:
    with RedisSaver.from_conn_string(server, prefix=prefix) as saver:
        yield saver


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
