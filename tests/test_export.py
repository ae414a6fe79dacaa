"""Threads in files: what comes back, what damage is found, and what a stranger's file cannot do."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import stat
import tty
import zlib
from base64 import b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import ormsgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from langgraph_checkpoint_redis import (
    ConfigError,
    DamagedFileError,
    MissingLibraryError,
    UnknownFormatError,
)
from langgraph_checkpoint_redis.moving import (
    Moved,
    _files,
    _format,
    _passing,
    export_threads,
    import_threads,
    migrate,
)

from .driving import DirectDriver
from .graphs import Session, chat, shape
from .moved import STORIES, AnySaver, begin_all, contents, long_thread, make, peak_of, url
from .strategies import effort

__all__ = ["long_thread", "make", "url"]  # fixtures


@pytest.fixture(scope="module")
def source() -> InMemorySaver:
    """A saver with a thread for each story; tests only read it."""
    saver = InMemorySaver()
    begin_all(saver)
    return saver


@pytest.fixture(scope="module")
def exported(source: InMemorySaver) -> bytes:
    """Its threads in a file."""
    file = io.BytesIO()
    assert export_threads(source, file).ok
    return file.getvalue()


@pytest.mark.parametrize("kind", ["ours", "sqlite", "awaited", "unknown"])
def test_threads_come_back_from_a_file(make: Any, tmp_path: Path, kind: str) -> None:
    """A backup would be worth nothing."""
    saver, back, file = make(kind), make("ours"), tmp_path / "threads"
    begin_all(saver)
    assert {*export_threads(saver, file).copied} == {*STORIES}
    report = import_threads(back, file)
    assert report.ok, report.failed
    assert {*report.copied} == {*STORIES}
    for thread_id in STORIES:
        assert contents(back, thread_id) == contents(saver, thread_id)
    assert {*import_threads(back, file).present} == {*STORIES}


def test_graphs_go_on_with_threads_from_a_file(exported: bytes, source: InMemorySaver) -> None:
    """A restored conversation could be read, but not go on."""
    back, stayed = InMemorySaver(), InMemorySaver()
    assert import_threads(back, io.BytesIO(exported)).ok
    assert migrate(source, stayed).ok
    for name, story in STORIES.items():
        left, right = (story.go_on(story.session(saver, name)) for saver in (back, stayed))
        assert shape(left) == shape(right), name


@pytest.mark.parametrize("name", ["threads.gz", "threads.zst"])
def test_a_file_is_compressed_by_its_name(
    source: InMemorySaver, exported: bytes, tmp_path: Path, name: str
) -> None:
    """A backup would take many times the room."""
    file, back = tmp_path / name, InMemorySaver()
    export_threads(source, file)
    assert [*tmp_path.iterdir()] == [file]
    assert file.stat().st_size < len(exported) / 2
    assert import_threads(back, file).ok
    assert back.blobs == source.blobs


def test_nothing_is_lost_on_the_way_through_a_file(source: InMemorySaver, exported: bytes) -> None:
    """What the interface of savers does not show, the paths of tasks, would be another."""
    back = InMemorySaver()
    assert import_threads(back, io.BytesIO(exported)).ok
    assert {place: {**found} for place, found in back.writes.items()} == {
        place: {**found} for place, found in source.writes.items()
    }


def test_some_threads_are_chosen(source: InMemorySaver, exported: bytes) -> None:
    """Whoever wants one thread back would have to take them all."""
    back, told = InMemorySaver(), list[Moved]()
    wanted = ["chat", "none"]
    report = import_threads(back, io.BytesIO(exported), thread_ids=wanted, progress=told.append)
    assert report.copied == ("chat",)
    assert report.failed == {"none": "it is not in the file"}
    assert {moved.thread_id for moved in told} == {*wanted}
    assert {*back.storage} == {"chat"}
    file = io.BytesIO()
    report = export_threads(source, file, thread_ids=wanted)
    assert report.copied == ("chat",)
    assert "no thread 'none'" in report.failed["none"]
    file.seek(0)
    assert "was not exported" in import_threads(InMemorySaver(), file).failed["none"]


# Damage


def refused(file: bytes) -> str:
    """Why a file is refused; nothing of it may be imported."""
    saver = InMemorySaver()
    with pytest.raises(DamagedFileError) as caught:
        import_threads(saver, io.BytesIO(file))
    assert not saver.storage
    assert not saver.writes
    return str(caught.value)


@effort(60)
@given(data=st.data())
def test_a_file_that_is_cut_off_is_refused(exported: bytes, data: st.DataObject) -> None:
    """Threads would be missing, or half there, without a word."""
    refused(exported[: data.draw(st.integers(0, len(exported) - 1))])


@effort(60)
@given(data=st.data())
def test_a_file_with_an_altered_byte_is_refused(exported: bytes, data: st.DataObject) -> None:
    """A message would say something that nobody has said."""
    at = data.draw(st.integers(0, len(exported) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda byte: byte != exported[at]))
    refused(exported[:at] + bytes([byte]) + exported[at + 1 :])


@effort(60)
@given(data=st.data())
def test_a_file_with_lines_moved_about_is_refused(exported: bytes, data: st.DataObject) -> None:
    """Checkpoints would be in another thread, or missing from theirs."""
    lines = exported.splitlines(keepends=True)
    one, other = (data.draw(st.integers(0, len(lines) - 1)) for _ in range(2))
    changed = [*lines]
    changed.insert(other, changed.pop(one))
    if changed != lines:
        refused(b"".join(changed))
    refused(b"".join([*lines[:one], *lines[one + 1 :]]))
    refused(b"".join([*lines, lines[one]]))


def test_damage_is_named_and_what_is_complete_can_be_saved(exported: bytes) -> None:
    """One bad block on a disk would cost all conversations."""
    lines = exported.splitlines(keepends=True)
    number = next(i for i, line in enumerate(lines) if b'{"thread":"fork"}' in line) + 3
    lines[number] = lines[number][:50] + b"!" + lines[number][51:]
    damaged = b"".join(lines)
    assert f"line {number + 1} " in refused(damaged)
    assert "'fork'" in refused(damaged)
    back = InMemorySaver()
    report = import_threads(back, io.BytesIO(damaged), salvage=True)
    assert {*report.failed} == {"fork"}
    assert {*report.copied} == {*STORIES} - {"fork"}
    assert "fork" not in back.storage


@pytest.mark.parametrize("name", ["threads.gz", "threads.zst"])
def test_damage_of_compressed_files_is_found(
    source: InMemorySaver, tmp_path: Path, name: str
) -> None:
    """The error of a compression library says nothing of threads, or there is none."""
    file = tmp_path / name
    export_threads(source, file)
    whole = file.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:-9], whole[:2000] + b"\0" * 9 + whole[2009:]):
        file.write_bytes(damaged)
        with pytest.raises(DamagedFileError):
            import_threads(InMemorySaver(), file)


# Serializers


def encrypted(key: bytes) -> EncryptedSerializer:
    return EncryptedSerializer.from_pycryptodome_aes(key=key)


def test_what_is_encrypted_stays_encrypted_in_a_file() -> None:
    """A backup would give away what the server does not."""
    saver, file = InMemorySaver(serde=encrypted(b"k" * 32)), io.BytesIO()
    Session(DirectDriver(saver), chat(), "a").say("hello")
    export_threads(saver, file)
    records = [json.loads(line[9:]) for line in file.getvalue().splitlines()]
    values = [value for record in records for value in record.get("values", {}).values() if value]
    assert values
    assert all(type_.endswith("+aes") for type_, _ in values)
    file.seek(0)
    back = InMemorySaver(serde=encrypted(b"k" * 32))
    assert import_threads(back, file).ok
    assert contents(back, "a") == contents(saver, "a")
    file.seek(0)
    other = InMemorySaver(serde=encrypted(b"o" * 32))
    assert {*import_threads(other, file).failed} == {"a"}
    assert not other.storage.get("a")


def test_an_encrypted_saver_can_be_exported_in_plain_and_back() -> None:
    """Nobody could move to another key."""
    plain = JsonPlusSerializer()
    saver, file = InMemorySaver(serde=encrypted(b"k" * 32)), io.BytesIO()
    Session(DirectDriver(saver), chat(), "a").say("hello")
    export_threads(saver, file, serde=plain)
    back = InMemorySaver(serde=encrypted(b"o" * 32))
    file.seek(0)
    with pytest.raises(ConfigError, match="serde"):
        import_threads(back, file)
    file.seek(0)
    assert import_threads(back, file, serde=plain).ok
    assert contents(back, "a") == contents(saver, "a")


# Files of strangers


def line(record: object) -> bytes:
    data = json.dumps(record).encode()
    return b"%08x %s\n" % (zlib.crc32(data), data)


HEADER = {
    "format": "langgraph-threads",
    "version": 1,
    "serializer": "langgraph.checkpoint.serde.jsonplus.JsonPlusSerializer",
}


def made(*records: object, header: object = HEADER) -> bytes:
    """A file of these records whose checksums are right."""
    from hashlib import sha256  # noqa: PLC0415 - only what follows

    lines = [line(header), line({"thread": "a"}), *map(line, records)]
    digest = sha256(b"".join(lines[1:])).hexdigest()
    lines.append(line({"end": "a", "checkpoints": len(records), "sha256": digest}))
    digest = sha256(b"".join(lines)).hexdigest()
    lines.append(line({"end_of_file": True, "threads": 1, "sha256": digest}))
    return b"".join(lines)


def typed(value: object, serde: Any = JsonPlusSerializer()) -> list[str]:  # noqa: B008 - constant
    type_, data = serde.dumps_typed(value)
    return [type_, b64encode(data).decode()]


CHECKPOINT = {"v": 4, "ts": "", "channel_versions": {"c": 1}, "versions_seen": {}}
RECORD: dict[str, Any] = {
    "checkpoint": "1",
    "namespace": "",
    "parent": "",
    "data": typed(CHECKPOINT),
    "metadata": typed({}),
    "values": {"c": typed("v")},
    "writes": [["", "t", 0, "c", typed(1)]],
}


def test_a_file_made_by_the_description_is_read() -> None:
    """Nobody could write one in another language; and the tests below would show nothing."""
    saver = InMemorySaver()
    assert import_threads(saver, io.BytesIO(made(RECORD))).copied == ("a",)
    found = saver.get_tuple({"configurable": {"thread_id": "a"}})
    assert found
    assert found.checkpoint["channel_values"] == {"c": "v"}


@pytest.mark.parametrize(
    "wrong",
    [
        *({name: 7} for name in RECORD),
        *({name: None} for name in RECORD),
        {"values": {"c": None}},
        {"values": {"c": ["msgpack", "no base64"]}},
        {"values": {"c": ["msgpack"]}},
        {"writes": [["", "t", 0, "c"]]},
        {"writes": [["", "t", "0", "c", typed(1)]]},
        {"writes": [7]},
    ],
)
def test_records_of_another_form_are_refused(wrong: dict[str, Any]) -> None:
    """An error from deep inside would come when half a thread is written."""
    assert "line 3" in refused(made({**RECORD, **wrong}))


@pytest.mark.parametrize("data", [b"[" * 100_000, b"7", b"{", b'"\xff"', b""])
def test_lines_that_are_no_records_are_refused(data: bytes) -> None:
    """A file could end the program that reads it."""
    bad = b"%08x %s\n" % (zlib.crc32(data), data)
    good = made(RECORD).splitlines(keepends=True)
    refused(b"".join([*good[:2], bad, *good[2:]]))


def test_a_line_that_is_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small compressed file could take all memory."""
    monkeypatch.setattr(_format, "LONGEST", 1000)
    assert "too long" in refused(made({**RECORD, "values": {"c": typed("v" * 2000)}}))


class Exploit:
    """What a pickle of a stranger would do."""

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("touch executed",)


def test_a_file_cannot_run_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever can write a backup could take over the machine that reads it."""
    monkeypatch.chdir(tmp_path)
    hostile = ["pickle", b64encode(pickle.dumps(Exploit())).decode()]
    saver = InMemorySaver()
    report = import_threads(saver, io.BytesIO(made({**RECORD, "values": {"c": hostile}})))
    assert {*report.failed} == {"a"}
    assert not saver.storage.get("a")
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("own", [JsonPlusSerializer(), encrypted(b"k" * 32)], ids=["plain", "aes"])
def test_an_import_builds_no_objects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: SerializerProtocol
) -> None:
    """Whoever can write a backup could run code where it is imported, by the name of a function."""
    monkeypatch.chdir(tmp_path)
    call = ormsgpack.packb(("os", "system", ("touch executed",)))
    hostile = ["msgpack", b64encode(ormsgpack.packb([ormsgpack.Ext(1, call)])).decode()]
    file = made({**RECORD, "values": {"c": hostile}, "writes": [["", "t", 0, "c", hostile]]})
    saver = InMemorySaver(serde=own)
    report = import_threads(saver, io.BytesIO(file), serde=JsonPlusSerializer())
    assert report.copied == ("a",)
    assert import_threads(saver, io.BytesIO(file), serde=JsonPlusSerializer()).present == ("a",)
    (type_, data) = saver.blobs[("a", "", "c", 1)]
    if isinstance(own, EncryptedSerializer):
        data = own.cipher.decrypt(type_.partition("+")[2], data)
    assert data == ormsgpack.packb([ormsgpack.Ext(1, call)]), "the saver has the same bytes"
    assert [*tmp_path.iterdir()] == []


def test_a_pickle_is_read_only_where_that_was_said() -> None:
    """Whoever trusts a file could not import it; or everybody would trust it."""
    value = {"c": ["pickle", b64encode(pickle.dumps({"a"})).decode()]}
    trusting = JsonPlusSerializer(pickle_fallback=True)
    saver = InMemorySaver(serde=trusting)
    file = made({**RECORD, "values": value})
    report = import_threads(saver, io.BytesIO(file))
    assert "say with `serde`" in report.failed["a"]
    assert not saver.storage.get("a")
    assert import_threads(saver, io.BytesIO(file), serde=trusting).copied == ("a",)


def test_a_small_file_cannot_fill_a_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few megabytes of a stranger would become gigabytes."""
    monkeypatch.setattr(_files, "LEAST_LIMIT", 2**20)
    monkeypatch.setattr(_files, "TIMES_COMPRESSED", 1)
    file = tmp_path / "threads.gz"
    many = [{**RECORD, "checkpoint": f"{number:08}"} for number in range(10_000)]
    file.write_bytes(gzip.compress(made(*many)))
    saver = InMemorySaver()
    with pytest.raises(DamagedFileError, match="decompress it first"):
        import_threads(saver, file)
    assert {*import_threads(saver, file, salvage=True).failed} == {"a"}
    assert not saver.storage
    plain = tmp_path / "threads"
    plain.write_bytes(gzip.decompress(file.read_bytes()))
    with pytest.raises(DamagedFileError, match="cut off"):  # read to its end, which is gone
        import_threads(saver, io.BytesIO(plain.read_bytes()[:-1]))


class Endless(io.RawIOBase):
    """A file whose last line never ends."""

    def __init__(self, lines: bytes) -> None:
        self.lines, self.count = io.BytesIO(lines), 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        given = self.lines.readinto(buffer)
        buffer[given:] = bytes(len(buffer) - given)
        self.count += len(buffer)
        return len(buffer)


@pytest.mark.parametrize("salvage", [{}, {"salvage": True}], ids=str)
def test_a_line_without_end_is_not_read_to_its_end(
    monkeypatch: pytest.MonkeyPatch, salvage: dict[str, bool]
) -> None:
    """An import would never end, and take all of the disk."""
    monkeypatch.setattr(_format, "LONGEST", 2**16)
    file = Endless(b"".join(made(RECORD).splitlines(keepends=True)[:4]))
    saver = InMemorySaver()
    if salvage:
        assert import_threads(saver, io.BufferedReader(file), salvage=True).copied == ("a",)
    else:
        with pytest.raises(DamagedFileError, match="too long"):
            import_threads(saver, io.BufferedReader(file))
    assert file.count < 2**18


def test_a_line_of_very_many_items_is_refused() -> None:
    """Two bytes of it would take 64 in memory."""
    many = {**RECORD, "writes": [[]] * 3_000_000}
    assert "too many items" in refused(made(many))


BOMBS = {
    "lists": b"\xdd\x00\x04\x00\x00" + b"\x90" * 2**18,
    "maps": b"\xdd\x00\x04\x00\x00" + b"\x81\x00\x00" * 2**18,
    "nothing": b"\xdd\x00\x04\x00\x00" + b"\xc0" * 2**18,
    "lies": b"\xdd\xff\xff\xff\xff",
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
@pytest.mark.parametrize("field", ["values", "data", "metadata"])
def test_a_value_of_very_many_items_is_refused(
    monkeypatch: pytest.MonkeyPatch, bomb: bytes, field: str
) -> None:
    """Some megabytes of a file would take gigabytes in memory."""
    monkeypatch.setattr(_passing, "MOST_ITEMS", 100_000)
    value = ["msgpack", b64encode(bomb).decode()]
    file = made({**RECORD, field: {"c": value} if field == "values" else value})
    saver = InMemorySaver()

    def imported() -> None:
        assert {*import_threads(saver, io.BytesIO(file)).failed} == {"a"}

    assert peak_of(imported) < 10 * len(file) + 2_000_000
    assert not saver.storage.get("a")


def test_a_large_value_passes(tmp_path: Path) -> None:
    """Embeddings of some thousand documents could not be backed up."""
    value = [[0.5] * 1536] * 200
    saver, back = InMemorySaver(), InMemorySaver()
    file = made({**RECORD, "values": {"c": typed(value)}})
    assert import_threads(saver, io.BytesIO(file)).ok
    assert export_threads(saver, tmp_path / "file").ok
    assert import_threads(back, tmp_path / "file").ok
    found = back.get_tuple({"configurable": {"thread_id": "a"}})
    assert found
    assert found.checkpoint["channel_values"] == {"c": value}


def test_what_no_import_would_read_is_not_exported(monkeypatch: pytest.MonkeyPatch) -> None:
    """A backup would turn out to be none when it is needed."""
    saver, file = InMemorySaver(), io.BytesIO()
    Session(DirectDriver(saver), chat(), "a").say("x" * 5000)
    Session(DirectDriver(saver), chat(), "b").say("x")
    monkeypatch.setattr(_format, "LONGEST", 6000)
    report = export_threads(saver, file)
    assert report.copied == ("b",)
    assert "too large for a file" in report.failed["a"]
    file.seek(0)
    assert import_threads(InMemorySaver(), file).copied == ("b",)


def test_files_of_newer_versions_and_of_other_kinds_are_refused(tmp_path: Path) -> None:
    """They would be read wrong."""
    with pytest.raises(UnknownFormatError, match="2"):
        import_threads(InMemorySaver(), io.BytesIO(made(RECORD, header={**HEADER, "version": 2})))
    for other in (b"", b"SQLite format 3\0", b"\n", gzip.compress(b"x"), line({}), line([])):
        refused(other)
    with pytest.raises(FileNotFoundError):
        import_threads(InMemorySaver(), tmp_path / "none")


def test_zstd_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user would get an error that does not name the extra."""
    monkeypatch.setattr(_files, "zstandard", None)
    with pytest.raises(MissingLibraryError, match=r"redis-core\[zstd\]"):
        export_threads(InMemorySaver(), tmp_path / "a.zst")
    assert [*tmp_path.iterdir()] == []


# Names


def test_only_regular_files_are_replaced(source: InMemorySaver, tmp_path: Path) -> None:
    """As root, an export would replace `/dev/null`; or a pipe, and its reader would wait."""
    pipe, link, target, directory = (tmp_path / name for name in ("pipe", "link", "target", "d"))
    os.mkfifo(pipe)
    directory.mkdir()
    target.write_text("mine")
    link.symlink_to(target)
    with ThreadPoolExecutor(1) as pool:
        read = pool.submit(pipe.read_bytes)
        assert export_threads(source, pipe).ok
        assert read.result(10).count(b"\n") > 20
        writing = pool.submit(pipe.write_bytes, read.result())
        assert import_threads(InMemorySaver(), pipe).ok
        writing.result(10)
    assert pipe.is_fifo()
    with pytest.raises(ConfigError, match=r"symbolic link to '.*target'"):
        export_threads(source, link)
    with pytest.raises(ConfigError, match="neither a regular file"):
        export_threads(source, directory)
    with pytest.raises(FileNotFoundError, match=r"none'$"):
        export_threads(source, tmp_path / "none" / "file")
    assert link.is_symlink()
    assert target.read_text() == "mine"


def test_a_character_device_is_written_to(source: InMemorySaver) -> None:
    """An export to a terminal or to `/dev/null` would put a file in its place."""
    one, other = os.openpty()
    tty.setraw(other)
    with open(one, "rb", buffering=0) as terminal, ThreadPoolExecutor(1) as pool:  # noqa: PTH123
        report = pool.submit(export_threads, source, os.ttyname(other), thread_ids=["chat"])
        shown = b""
        while b"end_of_file" not in shown:
            shown += terminal.read(2**16)
        assert report.result(10).ok
    os.close(other)


def test_only_its_owner_can_read_a_file(source: InMemorySaver, tmp_path: Path) -> None:
    """A backup in a shared directory would show all conversations to everybody."""
    file = tmp_path / "threads"
    for _ in range(2):
        export_threads(source, file)
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        file.chmod(0o644)

    def look(_: Moved) -> None:
        assert {stat.S_IMODE(one.stat().st_mode) for one in tmp_path.iterdir()} == {0o600, 0o644}

    assert export_threads(source, file, progress=look).ok


def test_two_exports_to_one_name_leave_one_whole_file(
    source: InMemorySaver, tmp_path: Path
) -> None:
    """Cron jobs that overlap would mix their lines, and neither would know."""
    file, mine = tmp_path / "threads", tmp_path / "threads.part"
    mine.write_text("mine")
    barrier = Barrier(2)
    with ThreadPoolExecutor(2) as pool:
        reports = [
            pool.submit(export_threads, source, file, progress=lambda _: barrier.wait(10))
            for _ in range(2)
        ]
        assert [report.result(20).ok for report in reports] == [True, True]
    assert {*import_threads(InMemorySaver(), file).copied} == {*STORIES}
    assert {*tmp_path.iterdir()} == {file, mine}
    assert mine.read_text() == "mine"


def test_a_tilde_is_the_home_directory(
    source: InMemorySaver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path from a setting would be one of a directory that is called `~`."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir("/")
    export_threads(source, "~/threads", thread_ids=["chat"])
    assert import_threads(InMemorySaver(), "~/threads").ok
    assert (tmp_path / "threads").exists()
    for path in ("", "nul\0", "~nobody-of-this-name/file"):
        with pytest.raises(ConfigError, match="file"):
            export_threads(source, path)


# Stopped


class Unreadable(InMemorySaver):
    """A saver that cannot read a thread any more after some checkpoints."""

    left = 2

    def get_tuple(self, config: Any) -> Any:
        if config["configurable"]["thread_id"] == "fork":
            self.left -= 1
            if not self.left:
                raise ConnectionError("gone")
        return super().get_tuple(config)


def test_a_thread_that_cannot_be_read_costs_no_other(source: InMemorySaver) -> None:
    """A backup would end in the middle, or pass half a thread for a whole one."""
    saver, file = Unreadable(), io.BytesIO()
    migrate(source, saver, thread_ids=["chat", "fork"], workers=1)
    saver.left = 2
    report = export_threads(saver, file)
    assert report.copied == ("chat",)
    assert report.failed == {"fork": "ConnectionError: gone"}
    file.seek(0)
    report = import_threads(back := InMemorySaver(), file)
    assert report.copied == ("chat",)
    assert report.failed == {"fork": "it was not exported: ConnectionError: gone"}
    assert "fork" not in back.storage


def test_a_file_is_there_when_it_is_complete(tmp_path: Path, source: InMemorySaver) -> None:
    """A stopped export would replace yesterday's backup by half a one."""
    file = tmp_path / "threads"
    file.write_text("yesterday's")

    def stop(_: Moved) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_threads(source, file, progress=stop)
    assert file.read_text() == "yesterday's"
    assert [*tmp_path.iterdir()] == [file]


class Full(InMemorySaver):
    """A saver that takes so many checkpoints, and no more."""

    room = 5

    def put(self, *args: Any) -> Any:
        if not self.room:
            raise OSError("full")
        self.room -= 1
        return super().put(*args)


def test_an_import_that_was_stopped_is_completed_by_the_next(exported: bytes) -> None:
    """Half a thread would stay, which nobody could complete."""
    saver = Full()
    report = import_threads(saver, io.BytesIO(exported), workers=1)
    assert {*report.failed.values()} == {"OSError: full"}
    saver.room = -1
    assert import_threads(saver, io.BytesIO(exported)).ok
    assert [len(contents(saver, name)) > 0 for name in STORIES] == [True] * len(STORIES)


def test_a_long_thread_goes_through_a_file_in_little_memory(
    make: Any, long_thread: AnySaver, tmp_path: Path
) -> None:
    """The longest conversation could not be backed up, or not be restored."""
    target, file = make("sqlite"), tmp_path / "threads.gz"
    assert peak_of(lambda: export_threads(long_thread, file)) < 3_000_000
    assert peak_of(lambda: import_threads(target, file)) < 3_000_000
    assert contents(target, "long") == contents(long_thread, "long")
