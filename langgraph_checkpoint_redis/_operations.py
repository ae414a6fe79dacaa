"""What each method asks of the server, and how it reads the answer.

Operations are generators (see `_scripts.py`); nothing here touches a client or waits. Each asks for
one script call, and where one asks for more, a comment says why.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from secrets import token_bytes
from typing import Any, NamedTuple

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
    PendingWrite,
    get_checkpoint_metadata,
)
from langgraph.checkpoint.serde.base import SerializerProtocol

from . import _codec, _config
from ._chunks import Chunks
from ._codec import Value, Write
from ._config import Place
from ._keys import Keyspace, ThreadKeys, same_slot
from ._known import Known
from ._scripts import (
    CHECK,
    COPY,
    DELETE,
    DELETE_RUNS,
    DUMP,
    GET,
    HISTORY,
    LIST,
    PRUNE,
    PUT,
    PUT_WRITES,
    RESTORE,
    Argument,
    Commands,
    Operation,
    Script,
)
from .errors import CorruptThreadError, ThreadExistsError, UnsupportedServerError

PAGE = 100  # checkpoints in a page of `list`
ANCESTORS = 1000  # checkpoints that one call walks back for a delta channel
COPY_MARK = 60_000  # milliseconds in which a repeated copy is known to be the same one
KNOWN_CHUNKS = 100_000  # digests to remember, of all threads together
KNOWN_RUNS = 10_000  # and ids of runs
OLDEST_SERVER = (6, 2)  # the first with COPY
LAST = b"\xff"  # sorts behind all ids and namespaces, which are UTF-8


class Memory(NamedTuple):
    """What all copies of a saver share."""

    keyspace: Keyspace
    is_cluster: bool
    chunks: Known
    runs: Known


def memory(prefix: str, *, is_cluster: bool) -> Memory:
    """What a new saver remembers: nothing yet."""
    return Memory(
        Keyspace(_config.prefix(prefix)), is_cluster, Known(KNOWN_CHUNKS), Known(KNOWN_RUNS)
    )


class Cursor(NamedTuple):
    """How far a listing of one thread has come.

    `namespace` is `None` for all, `only_id` empty for all; `left` is how many checkpoints the
    listing may still give, `None` for any number; `after` is where the page before ended, a
    checkpoint id and a namespace.
    """

    namespace: str | None
    only_id: str
    filter: Mapping[str, Any]
    left: int | None
    after: tuple[Argument, Argument]
    more: bool


class Page(NamedTuple):
    """Checkpoints, decoded one by one as they are taken, and where to go on."""

    tuples: Iterator[CheckpointTuple]
    cursor: Cursor


def cursor(
    config: RunnableConfig | None,
    filter: Mapping[str, Any] | None,
    before: Mapping[str, Any] | None,
    limit: int | None,
) -> Cursor:
    """The beginning of a listing, in any thread."""
    namespace, only_id = _config.scope(config)
    start = _config.before_id(before)
    if only_id and not (start and start <= only_id):
        start = only_id + "\1"  # right behind that id
    left = _config.limit(limit)
    return Cursor(namespace, only_id, filter or {}, left, (start or LAST, LAST), left != 0)


@dataclass(frozen=True, slots=True)
class _Reply:
    """The chunks that a reply holds, and the values that they make."""

    serde: SerializerProtocol
    thread_id: str
    key: str
    chunks: Chunks

    def value(self, namespace: str, checkpoint_id: str, entry: Sequence[Any]) -> Any:
        try:
            typed = _codec.typed(entry, self.chunks)
        except LookupError as error:
            raise CorruptThreadError(
                self.thread_id, namespace, checkpoint_id, self.key, str(error)
            ) from error
        return self.serde.loads_typed(typed)

    def tuple(self, row: Sequence[Any]) -> CheckpointTuple:
        stored, has_parent, writes = row
        record = _codec.record(stored)
        place = Place(self.thread_id, record.namespace, record.checkpoint_id)
        values = {
            channel: self.value(record.namespace, record.checkpoint_id, entry)
            for channel, entry in record.entries()
        }
        return CheckpointTuple(
            place.config(record.checkpoint_id),
            record.checkpoint(self.serde, values),
            record.metadata(self.serde, self.thread_id),
            place.config(record.parent_id) if has_parent else None,
            [
                (
                    write.task_id,
                    write.channel,
                    self.value(record.namespace, record.checkpoint_id, write.entry),
                )
                for write in _in_order(writes)
            ],
        )


def _in_order(rows: Iterable[bytes]) -> list[Write]:
    return sorted(write for row in rows for write in _codec.stored_writes(row))


@dataclass(frozen=True, slots=True)
class Operations:
    """The operations of a saver: made anew for each call, as the serializer may be swapped."""

    serde: SerializerProtocol
    memory: Memory

    def _keys(self, thread_id: str) -> ThreadKeys:
        return self.memory.keyspace.thread(thread_id)

    # Writing

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> Operation[RunnableConfig]:
        """Store a checkpoint; the one that `config` names is its parent."""
        parent = _config.place(config)
        checkpoint_id = _config.text('checkpoint["id"]', checkpoint["id"])
        metadata = get_checkpoint_metadata(config, metadata)
        run = _codec.run_id(metadata)
        tail = _codec.tail(self.serde, parent.thread_id, checkpoint, metadata)

        def store(channels: Iterable[str]) -> Operation[Any]:
            values = self._encoded(checkpoint, channels)
            head = _codec.head(parent, checkpoint, metadata, new_versions, values)
            args = (parent.namespace, checkpoint_id, head, tail)
            return self._store(PUT, parent.thread_id, args, values.values())

        # The index comes first, so that no crash leaves a checkpoint that it does not lead to.
        indexed = yield from self._index_new(parent.thread_id, run)
        stored, run_is_new = yield from store(new_versions)
        if not stored:  # the server lacks what it was thought to have: send all that there is
            self.memory.chunks.forget(parent.thread_id)
            stored, run_is_new = yield from store(checkpoint["channel_values"])
        if run_is_new and not indexed:  # the run was deleted here meanwhile, and the index with it
            yield from self._index(parent.thread_id, [run])
        return parent.config(checkpoint_id)

    def put_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str,
    ) -> Operation[None]:
        """Store writes of a task."""
        place = _config.written_place(config)
        _config.text("task_id", task_id)
        _config.text("task_path", task_path, empty=True)
        if not writes:
            return
        encoded = [(channel, _codec.encode(self.serde, value)) for channel, value in writes]
        values = [value for _, value in encoded]
        groups = _codec.groups(task_path, encoded)
        args = (place.namespace, place.checkpoint_id, task_id, groups)
        if not (yield from self._store(PUT_WRITES, place.thread_id, args, values)):
            # the server lacks what it was thought to have: send all
            self.memory.chunks.forget(place.thread_id)
            yield from self._store(PUT_WRITES, place.thread_id, args, values)

    def _encoded(self, checkpoint: Checkpoint, channels: Iterable[str]) -> dict[str, Value]:
        values, versions = checkpoint["channel_values"], checkpoint["channel_versions"]
        return {
            channel: _codec.encode(self.serde, values[channel])
            for channel in channels
            if channel in values and channel in versions
        }

    def _store(
        self, script: Script, thread_id: str, args: Sequence[Argument], values: Collection[Value]
    ) -> Operation[Any]:
        """Call a script that stores values, sending the chunks that the server may lack."""
        known = self.memory.chunks
        nodes = {digest: node for value in values for digest, node in value.rope.nodes.items()}
        pieces = {digest: piece for value in values for digest, piece in value.rope.pieces.items()}
        new_nodes, new_pieces = known.missing(thread_id, nodes), known.missing(thread_id, pieces)
        sent = [arg for digest in new_nodes for arg in (digest, nodes[digest])]
        sent += [arg for digest in new_pieces for arg in (digest, pieces[digest])]
        reply = yield from script(self._keys(thread_id), [*args, len(new_nodes), *sent])
        known.add(thread_id, [*nodes, *pieces])
        return reply

    # Reading

    def get_tuple(self, config: RunnableConfig) -> Operation[CheckpointTuple | None]:
        """Read the checkpoint that a config names, or the latest."""
        place = _config.place(config)
        _, rows, *chunks = yield from GET(
            self._keys(place.thread_id), [place.namespace, place.checkpoint_id]
        )
        return self._reply(place.thread_id, *chunks).tuple(rows[0]) if rows else None

    def page(self, thread_id: str, cursor: Cursor) -> Operation[Page]:
        """Read the next checkpoints of a listing."""
        whole = not cursor.filter
        more, rows, *chunks = yield from LIST(
            self._keys(thread_id),
            [
                int(cursor.namespace is not None),
                cursor.namespace or "",
                *cursor.after,
                PAGE if cursor.left is None or not whole else min(PAGE, cursor.left),
                int(whole),
            ],
        )
        if rows:
            last = _codec.record(rows[-1][0])
            cursor = cursor._replace(after=(last.checkpoint_id, last.namespace))
            more = more and cursor.only_id in ("", last.checkpoint_id)
        if cursor.only_id:
            rows = _with_id(rows, cursor.only_id)
        if whole:
            tuples: Iterator[CheckpointTuple] = map(self._reply(thread_id, *chunks).tuple, rows)
        else:
            rows = [row for row in rows if self._matches(row, thread_id, cursor.filter)]
            rows = rows[: cursor.left]
            tuples = yield from self._whole(thread_id, rows)
        left = None if cursor.left is None else cursor.left - len(rows)
        return Page(tuples, cursor._replace(left=left, more=bool(more) and left != 0))

    def _matches(self, row: Sequence[Any], thread_id: str, wanted: Mapping[str, Any]) -> bool:
        metadata = _codec.record(row[0]).metadata(self.serde, thread_id)
        return all(metadata.get(name) == value for name, value in wanted.items())

    def _whole(self, thread_id: str, rows: Sequence[Any]) -> Operation[Iterator[CheckpointTuple]]:
        """The checkpoints of rows that came without values: a second call, for matches only."""
        records = [_codec.record(row[0]) for row in rows]
        found: list[Iterator[CheckpointTuple]] = []
        while records:
            ids = [arg for record in records for arg in (record.namespace, record.checkpoint_id)]
            done, whole_rows, *chunks = yield from GET(self._keys(thread_id), ids)
            found.append(map(self._reply(thread_id, *chunks).tuple, whole_rows))
            records = records[done:]
        return (tuple_ for tuples in found for tuple_ in tuples)

    def get_delta_channel_history(
        self, config: RunnableConfig, channels: Sequence[str]
    ) -> Operation[dict[str, DeltaChannelHistory]]:
        """Read what channels wrote since their last stored value, on the way to a checkpoint."""
        place = _config.place(config)
        wanted = list(dict.fromkeys(_config.texts("channels", channels)))
        histories = {channel: _History() for channel in wanted}
        next_id, skip, visited = place.checkpoint_id, 1, set[str]()
        while searched := [name for name, history in histories.items() if not history.seeded]:
            ancestors, next_id_, *chunks = yield from HISTORY(
                self._keys(place.thread_id),
                [place.namespace, next_id, skip, ANCESTORS, *searched],
            )
            reply = self._reply(place.thread_id, *chunks)
            for writes, seeds in ancestors:
                self._add_ancestor(histories, reply, place, writes, seeds)
            next_id, skip = next_id_.decode(), 0
            if not next_id or next_id in visited:  # the beginning, or a loop
                break
            visited.add(next_id)
        return {channel: history.result() for channel, history in histories.items()}

    def _add_ancestor(
        self,
        histories: Mapping[str, _History],
        reply: _Reply,
        place: Place,
        writes: Iterable[bytes],
        seeds: Sequence[bytes],
    ) -> None:
        for write in reversed(_in_order(writes)):
            history = histories.get(write.channel)
            if history and not history.seeded:
                value = reply.value(place.namespace, place.checkpoint_id, write.entry)
                history.writes.append((write.task_id, write.channel, value))
        for channel, entry in zip(seeds[::2], seeds[1::2], strict=True):
            history = histories[channel.decode()]
            history.seeded = True
            history.seed = reply.value(place.namespace, place.checkpoint_id, _codec.entry_of(entry))

    def _reply(self, thread_id: str, directory: bytes, contents: bytes) -> _Reply:
        chunks = _codec.chunks(directory, contents)
        self.memory.chunks.add(thread_id, chunks)
        return _Reply(self.serde, thread_id, self._keys(thread_id)[2].decode(), chunks)

    # Deleting and copying

    def delete_thread(self, thread_id: str) -> Operation[None]:
        """Delete all of a thread."""
        _config.text("thread_id", thread_id)
        yield from self._remove(DELETE, thread_id, [])

    def prune(self, thread_id: str, strategy: str) -> Operation[None]:
        """Delete a thread but for the latest checkpoint of each namespace, or all of it."""
        yield from self._remove(PRUNE if strategy == "keep_latest" else DELETE, thread_id, [])

    def threads_of_runs(self, run_ids: Sequence[str]) -> Operation[dict[str, list[str]]]:
        """The threads that have checkpoints of runs, each with those runs."""
        runs = list(dict.fromkeys(_config.texts("run_ids", run_ids)))
        threads: dict[str, list[str]] = {}
        if runs:
            replies = yield from Commands(
                tuple(("SMEMBERS", self.memory.keyspace.run(run)) for run in runs)
            )
            for run, members in zip(runs, replies, strict=True):
                for thread_id in sorted(members):
                    threads.setdefault(thread_id.decode(), []).append(run)
        return threads

    def delete_runs(self, thread_id: str, run_ids: Sequence[str]) -> Operation[None]:
        """Delete the checkpoints that runs made in a thread."""
        yield from self._remove(DELETE_RUNS, thread_id, run_ids)

    def _remove(self, script: Script, thread_id: str, run_ids: Sequence[str]) -> Operation[None]:
        gone = yield from script(self._keys(thread_id), run_ids)
        self.memory.chunks.forget(thread_id)
        self.memory.runs.forget(thread_id)
        yield from self._unindex(thread_id, {*run_ids, *(run.decode() for run in gone)})

    def copy_thread(self, source: str, target: str) -> Operation[None]:
        """Copy all of a thread to one that has nothing yet."""
        _config.text("source_thread_id", source)
        _config.text("target_thread_id", target)
        keys, target_keys = self._keys(source), self._keys(target)
        mark = self.memory.keyspace.copy_mark(target)
        token = token_bytes(16)
        (runs,) = yield from Commands((("SMEMBERS", keys[3]),))
        yield from self._index(target, _decoded(runs))  # before the copy, as in `put`
        if self.memory.is_cluster and not same_slot(keys[0], target_keys[0]):
            runs_then, *dumps = yield from DUMP(keys)
            copied = yield from RESTORE([*target_keys, mark], [token, COPY_MARK, *dumps])
        else:
            copied, runs_then = yield from COPY([*keys, *target_keys, mark], [token, COPY_MARK])
        if not copied:
            raise ThreadExistsError(target)
        yield from self._index(target, set(_decoded(runs_then)).difference(_decoded(runs)))

    # The index of runs: which threads a run has checkpoints in.

    def _index_new(self, thread_id: str, run: str) -> Operation[bool]:
        """Index a run, unless this was done already."""
        is_new = bool(run and self.memory.runs.missing(thread_id, [run.encode()]))
        if is_new:
            yield from self._index(thread_id, [run])
        return is_new

    def _index(self, thread_id: str, runs: Collection[str]) -> Operation[None]:
        run_key = self.memory.keyspace.run
        if commands := tuple(("SADD", run_key(run), thread_id) for run in runs):
            yield from Commands(commands)
            self.memory.runs.add(thread_id, [run.encode() for run in runs])

    def _unindex(self, thread_id: str, runs: Iterable[str]) -> Operation[None]:
        ordered = sorted(runs)
        if not ordered:
            return
        run_key, runs_key = self.memory.keyspace.run, self._keys(thread_id)[3]
        yield from Commands(tuple(("SREM", run_key(run), thread_id) for run in ordered))
        # A put of one of these runs may have come between: then its index entry goes back.
        (present,) = yield from Commands((("SMISMEMBER", runs_key, *ordered),))
        back = [run for run, is_member in zip(ordered, present, strict=True) if is_member]
        yield from self._index(thread_id, back)

    # The server

    def check(self) -> Operation[str]:
        """Raise an error if the server cannot hold checkpoints; a warning, if it may lose them."""
        server, memory = yield from CHECK(())
        info = _info(server) | _info(memory)
        version = info.get("redis_version", "")
        if version and tuple(map(int, version.split(".")[:2])) < OLDEST_SERVER:
            raise UnsupportedServerError(f"Redis {version} is too old: 6.2 or newer is needed")
        policy = info.get("maxmemory_policy", "")
        if policy.startswith("allkeys") and info.get("maxmemory") != "0":
            return (
                f"maxmemory-policy is {policy}: when its memory is full, this server deletes "
                "parts of checkpoints. Set it to noeviction."
            )
        return ""


class _History:
    """What one channel wrote, newest first, and the stored value that it started from."""

    def __init__(self) -> None:
        self.writes: list[PendingWrite] = []
        self.seeded = False
        self.seed: Any = None

    def result(self) -> DeltaChannelHistory:
        history: DeltaChannelHistory = {"writes": self.writes[::-1]}
        if self.seeded:
            history["seed"] = self.seed
        return history


def _with_id(rows: Iterable[Sequence[Any]], checkpoint_id: str) -> list[Sequence[Any]]:
    return [row for row in rows if _codec.record(row[0]).checkpoint_id == checkpoint_id]


def _decoded(names: Iterable[bytes]) -> list[str]:
    return sorted(name.decode() for name in names)


def _info(section: bytes) -> dict[str, str]:
    lines = section.decode().splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)
