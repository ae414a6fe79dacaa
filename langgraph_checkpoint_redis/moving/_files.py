"""Move threads to a file and back, record by record.

A file is checked as a whole before anything is imported. The check also finds where each thread
begins, so that several threads can be read at the same time.
"""

from __future__ import annotations

import gzip
import io
import os
import stat
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from errno import ENOENT
from functools import partial
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

from langgraph.checkpoint.serde.base import SerializerProtocol

from langgraph_checkpoint_redis._admin import check_id, expand_home
from langgraph_checkpoint_redis.errors import (
    ConfigError,
    DamagedFileError,
    MissingLibraryError,
    ThreadNotFoundError,
)

from . import _format, _reports, _threads
from ._format import Decoder, Encoder, Record, field
from ._passing import passing, with_serializer
from ._reports import Outcome, Progress, Report, Tally
from ._stores import AnySaver, Item, Store, store

try:
    import zstandard
except ImportError:  # it is an extra
    zstandard = None  # type: ignore[assignment]

File = str | os.PathLike[str] | BinaryIO

SOME = 2**16  # bytes to write to a pipe at a time
# Bytes that a compressed file may decompress to: more than threads, which are mostly text.
LEAST_LIMIT, TIMES_COMPRESSED = 2**30, 200

# To a file


def export_threads(
    saver: AnySaver,
    file: File,
    *,
    thread_ids: Iterable[str] | None = None,
    serde: SerializerProtocol | None = None,
    progress: Progress = None,
) -> Report:
    """Write threads to a file, complete.

    One checkpoint at a time is in memory. A file gets its name when it is complete and on the disk.
    It replaces a file of that name, and only its owner can read it. It is compressed if its name
    ends with `.gz` or `.zst`. Named pipes and character devices, such as `/dev/null`, are written
    to. A symbolic link or anything else is refused.

    Args:
        saver: Where the threads are: any saver of LangGraph's interface.
        file: A path, or a binary file that is open for writing.
        thread_ids: Which threads; by default, all threads that the saver lists.
        serde: The serializer of values in the file. By default, the saver's: encrypted values stay
            encrypted in the file. `JsonPlusSerializer()` writes them for every saver.
        progress: Is called after each thread with a `Moved`.

    Returns:
        Which threads were exported (`copied`), and why the others failed: the file says so of each.

    Raises:
        ConfigError: An argument is not what it should be.
        MissingLibraryError: `.zst` needs the extra `zstd`.
        OSError: The file cannot be written.
    """
    origin, progress = store("saver", saver), _reports.check_progress(progress)
    ids = origin.thread_ids() if thread_ids is None else _reports.check_thread_ids(thread_ids)
    tally = Tally(len(ids), progress)
    with _create(file) as stream:
        writer = _Writer(stream, serde or saver.serde)
        for thread_id in ids:
            writer.write_thread(origin, thread_id, tally)
        writer.end()
    return tally.report()


class _Writer:
    """Writes records, with their checksums and numbers."""

    def __init__(self, stream: BinaryIO, serde: SerializerProtocol) -> None:
        self._stream, self._serde = stream, serde
        self._file_sum, self._thread_sum = sha256(), sha256()
        self._threads = 0
        self._write(_format.header(serde))

    def write_thread(self, origin: Store, thread_id: str, tally: Tally) -> None:
        """Write a thread; if it cannot be read, write why."""
        self._thread_sum = sha256()
        written_id = check_id("thread_id", thread_id)  # InMemorySaver keeps UUIDs as they are
        self._write({"thread": written_id})
        lines = _Lines(origin, thread_id, self._serde)
        for line in lines:
            self._write_line(line)
        end: Record = {"end": written_id, "checkpoints": lines.count}
        if lines.error is not None:
            tally.add_failed(thread_id, lines.error)
            self._write({**end, "failed": _reports.describe_failure(lines.error)})
        else:
            tally.add(thread_id, "copied", lines.count)
            self._write({**end, "sha256": self._thread_sum.hexdigest()})
        self._threads += 1

    def end(self) -> None:
        """Write the end of a complete file."""
        digest = self._file_sum.hexdigest()
        self._write({"end_of_file": True, "threads": self._threads, "sha256": digest})
        self._stream.flush()

    def _write(self, record: Record) -> None:
        self._write_line(_format.line(record))

    def _write_line(self, line: bytes) -> None:
        self._stream.write(line)
        self._file_sum.update(line)
        self._thread_sum.update(line)


class _Lines:
    """The lines of a thread's checkpoints; afterwards their number, and why there are no more."""

    def __init__(self, origin: Store, thread_id: str, serde: SerializerProtocol) -> None:
        self._origin, self._thread_id, self._encoder = origin, thread_id, Encoder(serde)
        self.count = 0
        self.error: Exception | None = None

    def __iter__(self) -> Iterator[bytes]:
        try:
            for item in self._origin.items(self._thread_id):
                line = _format.line(self._encoder.record(item))
                self.count += 1
                yield line
            if not self.count:
                raise ThreadNotFoundError(self._thread_id)  # noqa: TRY301 - as if it were read
        except Exception as error:  # noqa: BLE001 - any saver's any error; the file has it
            self.error = error


@contextmanager
def _create(file: File) -> Iterator[BinaryIO]:
    """Open a file for writing; a regular file gets its name when it is complete."""
    if not isinstance(file, str | os.PathLike):
        yield file
        return
    path = path_of(file)
    if _is_stream(path):
        with path.open("wb", buffering=SOME) as raw, _compress(path, raw) as stream:
            yield stream
        return
    descriptor, part = tempfile.mkstemp(".part", f".{path.name[:100]}.", path.parent)
    try:
        with open(descriptor, "wb") as raw:  # noqa: PTH123 - it is open already
            with _compress(path, raw) as stream:
                yield stream
            raw.flush()
            os.fsync(raw.fileno())
        Path(part).replace(path)
        _sync_directory(path.parent)
    finally:
        Path(part).unlink(missing_ok=True)


def path_of(file: str | os.PathLike[str]) -> Path:
    """Return a path, with the home directory for `~`."""
    name = os.fspath(file)
    if not isinstance(name, str) or not name or "\0" in name:
        raise ConfigError(f"file must be a path or a binary file, not {file!r:.200}")
    return expand_home("file", name)


def _is_stream(path: Path) -> bool:
    """Return whether to write into a pipe or device, not to replace a file; refuse the rest."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        if not path.parent.is_dir():
            raise FileNotFoundError(ENOENT, os.strerror(ENOENT), str(path.parent)) from None
        return False
    if stat.S_ISLNK(mode):
        raise ConfigError(
            f"file {str(path)!r} is a symbolic link to {str(path.readlink())!r}, which an export "
            "neither follows nor replaces: name the file itself"
        )
    if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)):
        raise ConfigError(f"file {str(path)!r} exists, and is neither a regular file nor a pipe")
    return not stat.S_ISREG(mode)


def _sync_directory(directory: Path) -> None:
    """Sync the name of a new file to the disk, where directories can be synced."""
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _compress(path: Path, raw: BinaryIO) -> Any:
    if path.suffix == ".gz":
        return gzip.GzipFile("", "wb", fileobj=raw, mtime=0)
    if path.suffix == ".zst":
        return _zstandard().ZstdCompressor(write_checksum=True).stream_writer(raw, closefd=False)
    return nullcontext(raw)


def _zstandard() -> Any:
    if zstandard is None:
        raise MissingLibraryError(
            "zstandard is not installed: pip install langgraph-checkpoint-redis-core[zstd]"
        )
    return zstandard


# From a file


def import_threads(
    saver: AnySaver,
    file: File,
    *,
    thread_ids: Iterable[str] | None = None,
    serde: SerializerProtocol | None = None,
    salvage: bool = False,
    workers: int = 4,
    progress: Progress = None,
) -> Report:
    """Copy threads from a file that `export_threads` wrote, and compare what the saver reads then.

    The whole file is checked first. Like `migrate`, it may be stopped and be run again. Where the
    file and the saver both have LangGraph's serializer, values pass through as bytes: no class that
    the file names is imported, and no pickle is read. Another serializer reads the values itself.

    Args:
        saver: Where the threads are to go; ours must be without `keep_last` and
            `on_conflict="error"`.
        file: A path, or a binary file that is open for reading. What is compressed or no regular
            file is copied to a temporary file.
        thread_ids: Which; all by default.
        serde: How values are written in the file; as in the saver by default.
        salvage: Whether to import from a damaged file the threads that are complete in it.
            Otherwise, nothing behind the first damage is read.
        workers: How many threads are imported at the same time.
        progress: Is called after each thread with a `Moved`.

    Returns:
        As of `migrate`; those that the export failed to read, and damaged ones, have failed.

    Raises:
        ConfigError: An argument is not what it should be; or another serializer wrote the file.
        DamagedFileError: The file is cut off, altered, or of another kind; nothing was imported.
        UnknownFormatError: A newer version wrote the file; nothing was imported.
        MissingLibraryError: `.zst` needs the extra `zstd`.
        OSError: The file cannot be read.
    """
    workers, progress = _reports.check_workers(workers), _reports.check_progress(progress)
    target = store("saver", saver)
    _threads.check_target(target)
    wanted = None if thread_ids is None else _reports.check_thread_ids(thread_ids)
    with _check_file(file, salvage=salvage) as (path, contents):
        if contents.damage and not salvage:
            raise DamagedFileError(contents.explain_damage())
        _check_serializer(contents.serializer, serde, saver)
        reading = passing(serde, asked=True) if serde else passing(saver.serde)
        writing = passing(saver.serde)
        if reading and writing:
            serde, target = reading, store("saver", with_serializer(saver, writing))
        chosen = [*contents.starts, *contents.failed] if wanted is None else wanted
        tally = Tally(len(chosen), progress)
        for thread_id in chosen:
            if thread_id not in contents.starts:
                reason = contents.failed.get(thread_id, "it is not in the file")
                tally.add_failed(thread_id, reason)
        job = partial(_import_thread, path, contents, serde or saver.serde, target)
        _reports.move_all([each for each in chosen if each in contents.starts], job, workers, tally)
    return tally.report()


def _import_thread(
    path: Path, contents: _Contents, serde: SerializerProtocol, target: Store, thread_id: str
) -> tuple[Outcome, int]:
    items = partial(_items, path, contents.starts[thread_id], serde)
    for _ in items():  # so that nothing is written of what cannot be read, with a wrong key, say
        pass
    return _threads.bring(items, target, thread_id)


def _items(path: Path, start: int, serde: SerializerProtocol) -> Iterator[Item]:
    """Yield the checkpoints of the thread that begins at a position."""
    decoder = Decoder(serde)
    with path.open("rb") as stream:
        stream.seek(start)
        while "end" not in (record := _format.record(stream.readline(_format.LONGEST))):
            yield decoder.item(record)


def _check_serializer(name: str, given: SerializerProtocol | None, saver: AnySaver) -> None:
    own = _format.serializer_name(saver.serde)
    if given is None and name != own:
        raise ConfigError(
            f"the values in the file were written by {name:.200}, and the saver reads with {own}: "
            "say with `serde` how to read them"
        )


@contextmanager
def _check_file(file: File, *, salvage: bool) -> Iterator[tuple[Path, _Contents]]:
    """Check a whole file; yield a path that can be read from any position, and its contents."""
    with ExitStack() as stack:
        if not isinstance(file, str | os.PathLike):
            path, stream, most = None, file, None
        else:
            path = path_of(file)
            stream = stack.enter_context(_decompress(path))
            most = _size_limit(path)
        if path is None or path.suffix in _COMPRESSED or not path.is_file():
            path = Path(stack.enter_context(TemporaryDirectory()), "threads")
            copy: BinaryIO | None = stack.enter_context(path.open("wb"))
        else:
            copy = None
        contents = _Contents(most)
        for line in contents.check_lines(stream):
            if copy:
                copy.write(line)
            if contents.damage and not salvage:
                break
        if copy:
            copy.flush()
        yield path, contents


def _size_limit(path: Path) -> int | None:
    """Return how many bytes a compressed file may become; None for no limit."""
    if path.suffix not in _COMPRESSED:
        return None
    return LEAST_LIMIT + TIMES_COMPRESSED * path.stat().st_size


_COMPRESSED = (".gz", ".zst")


def _decompress(path: Path) -> Any:
    if path.suffix == ".gz":
        return gzip.open(path, "rb")
    if path.suffix == ".zst":
        return io.BufferedReader(_zstandard().open(path, "rb"))
    return path.open("rb")


def _decompression_errors() -> tuple[type[Exception], ...]:
    """Return the errors that cut off or altered compressed data raises."""
    errors = (EOFError, gzip.BadGzipFile, zlib.error)
    return errors if zstandard is None else (*errors, zstandard.ZstdError)


class _Thread:
    """A thread of a file that is being checked."""

    def __init__(self, thread_id: str, line: bytes, start: int) -> None:
        self.thread_id, self.start = thread_id, start
        self._decoder, self._count, self._sum = Decoder(None), 0, sha256(line)

    def add(self, found: Record, line: bytes) -> None:
        """Check its next checkpoint."""
        self._decoder.item(found)
        self._count += 1
        self._sum.update(line)

    def check_end(self, found: Record) -> None:
        """Compare it with the record at its end."""
        if found["end"] != self.thread_id:
            raise DamagedFileError("it ends another thread")
        if field(found, "checkpoints", int) != self._count:
            raise DamagedFileError("its thread has not as many checkpoints")
        if "failed" not in found and field(found, "sha256", str) != self._sum.hexdigest():
            raise DamagedFileError("its thread has another checksum")


class _Contents:
    """The contents of a file: where threads begin, and what is wrong.

    Attributes:
        serializer: The name of the serializer that wrote it.
        starts: Where the first checkpoint of each complete thread begins, in bytes.
        failed: Why other threads are not complete.
        damage: What is wrong with the file, the first that was found.
    """

    def __init__(self, most: int | None = None) -> None:
        self._most = most
        self.serializer = ""
        self.starts: dict[str, int] = {}
        self.failed: dict[str, str] = {}
        self.damage = ""
        self._thread: _Thread | None = None
        self._sum, self._is_ended = sha256(), False

    def explain_damage(self) -> str:
        """Return what is wrong with the file, and with which threads."""
        which = f" (threads: {[*self.failed][:5]!r:.500})" if self.failed else ""
        return f"{self.damage}{which}. Nothing was imported; `salvage` takes what is complete."

    def check_lines(self, stream: BinaryIO) -> Iterator[bytes]:
        """Check each line, and yield it."""
        number = offset = 0
        for number, line in enumerate(self._lines(stream), 1):
            offset += len(line)
            if number == 1:
                self.serializer = _format.serializer_in(_format.record(line))
            else:
                try:
                    self._check_record(_format.record(line), line, offset)
                except DamagedFileError as error:
                    self._note_damage(f"line {number} of the file is damaged: {error}")
            self._sum.update(line)
            yield line
        if not number:
            raise DamagedFileError("the file is empty")
        if not self._is_ended:
            self._note_damage(f"the file is cut off after line {number}")

    def _lines(self, stream: BinaryIO) -> Iterator[bytes]:
        """Yield lines; stop behind a line that is too long, as no next line can be found."""
        total = 0
        try:
            while line := stream.readline(_format.LONGEST):
                yield line
                total += len(line)
                if len(line) == _format.LONGEST:
                    return
                if self._most is not None and total > self._most:
                    self._note_damage(
                        f"the file is more than {self._most} bytes long when decompressed; "
                        "if you trust it, decompress it first"
                    )
                    return
        except _decompression_errors() as error:
            self._note_damage(f"the file cannot be decompressed: {error}")

    def _check_record(self, found: Record, line: bytes, offset: int) -> None:
        if self._is_ended:
            raise DamagedFileError("there is something behind the end")
        if "thread" in found:
            self._begin(field(found, "thread", str), line, offset)
        elif "checkpoint" in found and self._thread:
            self._thread.add(found, line)
        elif "end" in found:
            self._end(field(found, "end", str), found)
        elif "end_of_file" in found:
            self._is_ended = True
            if self._thread or field(found, "sha256", str) != self._sum.hexdigest():
                raise DamagedFileError("the checksum of the whole file is another")
        elif not (self.damage and "checkpoint" in found):  # of a thread that failed already
            raise DamagedFileError("it has no place here")

    def _begin(self, thread_id: str, line: bytes, offset: int) -> None:
        if self._thread:
            self._note_damage(f"thread {self._thread.thread_id!r} has no end")
        if thread_id in self.starts or thread_id in self.failed:
            raise DamagedFileError(f"thread {thread_id!r} is in the file twice")
        self._thread = _Thread(thread_id, line, offset)

    def _end(self, thread_id: str, found: Record) -> None:
        if self._thread is None:  # its beginning was damaged
            self.failed.setdefault(thread_id, self.damage)
            return
        self._thread.check_end(found)
        if "failed" in found:
            self.failed[thread_id] = f"it was not exported: {field(found, 'failed', str):.2000}"
        else:
            self.starts[thread_id] = self._thread.start
        self._thread = None

    def _note_damage(self, what: str) -> None:
        self.damage = self.damage or what
        if self._thread:
            self.failed[self._thread.thread_id] = what
        self._thread = None
