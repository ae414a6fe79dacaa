"""What each method asks of the server, and how it reads the answer.

Operations are generators (see `_scripts.py`); nothing here touches a client or waits. Each asks for
one script call, and where one asks for more, a comment says why.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from secrets import token_bytes
from typing import Any, NamedTuple

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
    get_checkpoint_metadata,
)
from langgraph.checkpoint.serde.base import SerializerProtocol

from . import _codec, _config
from ._chunks import DEEP, digests_beside
from ._codec import Record, Value
from ._compression import stored
from ._config import Duration, Place
from ._confirm import Confirm, own_confirm
from ._damage import Reading
from ._encryption import reading
from ._keys import ThreadKeys, same_slot
from ._known import Known, written
from ._listing import Cursor, Page, Rows
from ._options import Shared
from ._replies import Found, History, Reply, add_ancestor
from ._resp import Argument
from ._scripts import (
    COPY,
    DELETE,
    DELETE_RUNS,
    DUMP,
    FORGET_RUNS,
    GET,
    GET_AND_REFRESH,
    HISTORY,
    INDEX,
    INDEXED,
    LEASE,
    LIST,
    NAMESPACES,
    PRUNE,
    PUT,
    PUT_LAST,
    PUT_WRITES,
    RESTORE,
    SET_LIFE,
    Commands,
    Operation,
    Script,
)
from .errors import (
    LeaseLostError,
    ThreadExistsError,
    ThreadLeasedError,
    ThreadNotFoundError,
)

PAGE = 100  # checkpoints in a page of `list`
ANCESTORS = 1000  # checkpoints that one call walks back for a delta channel
FETCHED = 1000  # pieces that one command asks for
MUCH = 8 * 1024 * 1024  # bytes of new values that end a page
KEPT = 32 * 1024 * 1024  # bytes that a listing knows of a thread from one page to the next
COPY_MARK = 60_000  # milliseconds in which a repeated copy is known to be the same one


class Operations(NamedTuple):
    """The operations of a saver: made anew for each call, as the serializer may be swapped."""

    serde: SerializerProtocol
    shared: Shared

    def _keys(self, thread_id: str) -> ThreadKeys:
        return self.shared.keyspace.thread(thread_id)

    def _confirm(self, config: RunnableConfig) -> Confirm | None:
        options = self.shared.options
        return own_confirm(config, options.confirm, options.socket_timeout)

    @property
    def _reading_serde(self) -> SerializerProtocol:
        return reading(self.serde, allow_plaintext=self.shared.options.allow_plaintext)

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
        run = _config.run_id(metadata)
        own_ttl = _config.own_ttl(config)
        confirm = self._confirm(config)
        draft = _codec.Draft(parent, checkpoint, metadata, run, new_versions)
        tail = _codec.tail(self.serde, draft)
        keep_last = self.shared.options.keep_last or 0
        refuses = int(self._refuses_conflict(parent))
        terms = (tail, keep_last, *self._terms(parent.thread_id, own_ttl), refuses)
        # The index comes first, so that no crash leaves a checkpoint that it does not lead to.
        lifetime = self.shared.options.life.index_ttl(own_ttl)
        indexed = yield from self._index_new(parent.thread_id, run, lifetime, confirm)
        for channels in (new_versions, checkpoint["channel_values"]):
            known = self.shared.threads.of(parent.thread_id)
            values = self._encoded(checkpoint, channels, known, parent.namespace)
            head = _codec.head(draft, values)
            args, new = self._with_new_chunks(
                known, [parent.namespace, checkpoint_id, head, *terms], values.values()
            )
            script = PUT_LAST if keep_last else PUT
            is_stored, *told = yield script(self._keys(parent.thread_id), args, confirm)
            if is_stored:
                ropes = {channel: value.cut.rope for channel, value in values.items()}
                self.shared.threads.learn(parent.thread_id, known, new)
                self.shared.threads.learn_ropes(parent.thread_id, known, parent.namespace, ropes)
                break
            # The server lacks what it was thought to have: send all that there is.
            self.shared.threads.forget(parent.thread_id)
        run_is_new, runs, lifetime, gone = told
        if run_is_new and not indexed:  # the run was deleted here meanwhile, and the index with it
            yield from self._index(parent.thread_id, [run], lifetime, confirm)
        yield from self._renew_index(parent.thread_id, runs, lifetime)
        yield from self._unindex(parent.thread_id, gone)
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
        own_ttl = _config.own_ttl(config)
        confirm = self._confirm(config)
        if not writes:
            return
        name = f"{place.namespace}\0{place.checkpoint_id}\0{task_id}".encode()
        trims = int(self.shared.options.keep_last is not None)
        terms = (trims, *self._terms(place.thread_id, own_ttl))
        for _ in range(2):  # as in `put`
            known = self.shared.threads.of(place.thread_id)
            ropes = known.ropes_of(place.namespace)
            values = [
                _codec.encode(self.serde, value, ropes.get(channel), known.chunks)
                for channel, value in writes
            ]
            channels = [channel for channel, _ in writes]
            row = _codec.writes_row(name, task_path, channels, values)
            args, new = self._with_new_chunks(known, [name, row, *terms], values)
            is_stored, *told = yield PUT_WRITES(self._keys(place.thread_id), args, confirm)
            if is_stored:
                self.shared.threads.learn(place.thread_id, known, new)
                self._learn_written(place, known, dict(zip(channels, values, strict=True)))
                break
            self.shared.threads.forget(place.thread_id)
        runs, lifetime = told
        yield from self._renew_index(place.thread_id, runs, lifetime)

    def _learn_written(self, place: Place, known: Known, values: Mapping[str, Value]) -> None:
        """Remember large writes as they were cut: many become the values of their channels."""
        ropes = {
            written(channel): value.cut.rope
            for channel, value in values.items()
            if len(value.cut.rope.data) >= DEEP
        }
        if ropes:
            self.shared.threads.learn_ropes(place.thread_id, known, place.namespace, ropes)

    def _terms(self, thread_id: str, own_ttl: int | None) -> tuple[Argument, ...]:
        """What write scripts are told of a thread's lease and of how long it lives."""
        own = "" if own_ttl is None else own_ttl
        return self.shared.token(thread_id), self.shared.options.life.ttl, own

    def _refuses_conflict(self, parent: Place) -> bool:
        """Whether a checkpoint may not fork its thread: it may where it was read by its id."""
        refuses = self.shared.options.refuses_conflicts
        return refuses and not self.shared.threads.was_addressed(parent)

    def _encoded(
        self, checkpoint: Checkpoint, channels: Iterable[str], known: Known, namespace: str
    ) -> dict[str, Value]:
        values, versions = checkpoint["channel_values"], checkpoint["channel_versions"]
        ropes, chunks = known.ropes_of(namespace), known.chunks
        return {
            channel: _codec.encode(
                self.serde, values[channel], ropes.get(channel), chunks, ropes.get(written(channel))
            )
            for channel in channels
            if channel in values and channel in versions
        }

    def _with_new_chunks(
        self,
        known: Known,
        args: Sequence[Argument],
        values: Collection[Value],
        levels: Sequence[bytes] = (),
    ) -> tuple[tuple[Argument, ...], dict[bytes, bytes]]:
        """What a script that stores values takes, and those of their chunks that are not known.

        These go with it, and the names of all others that the values or further `levels` refer to.
        """
        nodes: dict[bytes, bytes] = {}
        pieces: dict[bytes, bytes] = {}
        for _, cut in values:
            if cut.nodes or cut.pieces:
                nodes |= known.missing(cut.nodes)
                pieces |= known.missing(cut.pieces)
        levels = [*levels, *[level for _, cut in values for level in cut.rope.levels]]
        whole: list[Argument] = [*args, digests_beside(levels, nodes, pieces)]
        for digest, content in nodes.items():
            whole += digest, stored(content, None)
        for digest, content in pieces.items():
            whole += digest, stored(content, self.shared.options.compression)
        return tuple(whole), nodes | pieces

    # Reading

    def get_tuple(self, config: RunnableConfig) -> Operation[CheckpointTuple | None]:
        """Read the checkpoint that a config names, or the latest."""
        place = _config.place(config)
        known = self.shared.threads.of(place.thread_id)
        if place.checkpoint_id and self.shared.options.refuses_conflicts:
            self.shared.threads.address(place)
        found, is_left, reply = yield from self._get(place, known, may_leave=1)
        # Many pieces, or large ones, come by a command, since a script takes far longer for them;
        # unless the thread has changed in between, or is damaged: one call sees it as it is.
        if found and is_left and not (yield from self._fetched(reply, found)):
            found, _, reply = yield from self._get(place, known, may_leave=0)
        if not found:
            return None
        whole, ropes = reply.tuple_and_ropes(found)
        self.shared.threads.learn_ropes(place.thread_id, known, place.namespace, ropes)
        return whole

    def _get(
        self, place: Place, known: Known, *, may_leave: int
    ) -> Operation[tuple[Found | None, int, Reply]]:
        """A checkpoint, if it is there, and whether pieces of it were left out."""
        keys, life = self._keys(place.thread_id), self.shared.options.life
        ropes, wanted = known.packed_ropes(place.namespace), (place.namespace, place.checkpoint_id)
        if life.refresh_on_read and life.ttl:
            args: list[Argument] = [ropes, may_leave, life.ttl, *wanted]
            _, rows, is_left, *chunks, runs, lifetime = yield GET_AND_REFRESH(keys, args)
            yield from self._renew_index(place.thread_id, runs, lifetime)
        else:
            _, rows, is_left, *chunks = yield GET(keys, [ropes, may_leave, *wanted])
        reply = self._reply(place.thread_id, known, *chunks)
        return (reply.found(rows[0]) if rows else None), is_left, reply

    def _fetched(self, reply: Reply, found: Found) -> Operation[bool]:
        """Ask for the pieces that a checkpoint lacks; whether they are there."""
        lacking, chunks = reply.lacking(found), reply.keys.chunks
        if lacking:
            parts = [lacking[start : start + FETCHED] for start in range(0, len(lacking), FETCHED)]
            groups = yield Commands(tuple(("HMGET", chunks, *part) for part in parts))
            pieces = _codec.chunks(lacking, groups)
            self.shared.threads.learn(reply.thread_id, reply.known, pieces)
        return reply.known.chunks.keys() >= {*lacking}

    def page(self, thread_id: str, cursor: Cursor) -> Operation[Page]:
        """Read the next checkpoints of a listing: their rows, then what is new of their values."""
        rows = yield from self.rows(thread_id, cursor, whole=not cursor.filter)
        known = cursor.known or self.shared.threads.of(thread_id)
        reply = self._reply(thread_id, known, (), ())
        page = [reply.found(row) for row in rows.rows]
        if cursor.filter:
            wanted = [one for one in page if self._matches(one.record, thread_id, cursor)]
        else:
            wanted = [one for one in page if cursor.wants(one.record)]
        chosen, listed = reply.up_to(MUCH, wanted[: cursor.left]), page
        if len(chosen) < len(wanted):  # the next page begins behind the last one of these
            listed = page[: page.index(chosen[-1]) + 1]
        tuples: Iterator[CheckpointTuple]
        if cursor.filter:
            tuples = yield from self._whole(thread_id, known, [one.record for one in chosen])
        else:
            tuples = yield from self._filled(reply, chosen)
        if known.size > KEPT:
            known = Known()  # the pieces of all that was listed would be in memory in the end
        records = [found.record for found in listed]
        return Page(tuples, cursor.moved(rows, records, len(chosen), known))

    def rows(self, thread_id: str, cursor: Cursor, *, whole: bool) -> Operation[Rows]:
        """Read the rows of the next checkpoints, with their writes if they are to be `whole`."""
        group, end = cursor.group()
        count = PAGE if cursor.left is None or not whole else min(PAGE, cursor.left)
        names = _codec.pack(group) if group else b""
        args = [names, *cursor.after, *end, count, int(whole)]
        more, rows, heads = yield LIST(self._keys(thread_id), args)
        if more < 0:
            all_heads = yield from self._heads(thread_id)
            return (yield from self.rows(thread_id, cursor._replace(heads=all_heads), whole=whole))
        others = cursor.heads
        if others is not None:
            asked = {*group}
            others = {name: id_ for name, id_ in others.items() if name not in asked}
        return Rows(rows, bool(more), dict(zip(heads[::2], heads[1::2], strict=True)), others)

    def _heads(self, thread_id: str) -> Operation[dict[bytes, bytes]]:
        """The newest checkpoint of each namespace."""
        heads: dict[bytes, bytes] = {}
        start = b"-"
        while start:
            start, namespaces, _ = yield NAMESPACES(self._keys(thread_id), [start])
            heads.update({name: newest for name, _, _, newest in namespaces})
        return heads

    def _filled(self, reply: Reply, page: Sequence[Found]) -> Operation[Iterator[CheckpointTuple]]:
        """Checkpoints of rows, when the chunks that are new of their values were fetched.

        They are fetched by commands, level by level, since a script takes far longer for them. So a
        checkpoint may be removed in between: one that lacks something is read again in one call.
        """
        known, chunks = reply.known, reply.keys.chunks
        wanted = reply.digests(page)
        lacking = set[bytes]()
        for level in range(max(wanted, default=-1), -1, -1):
            new = [one for one in wanted.get(level, ()) if one not in known.chunks]
            parts = [new[start : start + FETCHED] for start in range(0, len(new), FETCHED)]
            if parts:
                groups = yield Commands(tuple(("HMGET", chunks, *part) for part in parts))
                self.shared.threads.learn(reply.thread_id, known, _codec.chunks(new, groups))
            lacking.update(one for one in new if one not in known.chunks)
            if level:
                below = wanted.setdefault(level - 1, {})
                below.update(_codec.children(wanted.get(level, ()), known.chunks))
        if not lacking:
            return map(reply.checkpoint_tuple, page)
        tuples: list[Iterator[CheckpointTuple]] = []
        for one in page:
            if reply.lacks(one):
                tuples.append((yield from self._whole(reply.thread_id, known, [one.record])))
            else:
                tuples.append(map(reply.checkpoint_tuple, [one]))
        return chain.from_iterable(tuples)

    def _matches(self, record: Record, thread_id: str, cursor: Cursor) -> bool:
        with Reading(thread_id, self._keys(thread_id).timeline, record.place):
            metadata = record.metadata(self._reading_serde, thread_id)
        return cursor.wants(record) and all(
            metadata.get(name) == value for name, value in cursor.filter.items()
        )

    def _whole(
        self, thread_id: str, known: Known, records: Sequence[Record]
    ) -> Operation[Iterator[CheckpointTuple]]:
        """The checkpoints of rows that came without values: a second call, for matches only."""
        found: list[Iterator[CheckpointTuple]] = []
        while records:
            ids = [arg for record in records for arg in record.place]
            done, rows, _, *chunks = yield GET(
                self._keys(thread_id), [known.packed_ropes(records[0].namespace), 0, *ids]
            )
            reply = self._reply(thread_id, known, *chunks)
            found.append(map(reply.checkpoint_tuple, map(reply.found, rows)))
            records = records[done:]
        return chain.from_iterable(found)

    def get_delta_channel_history(
        self, config: RunnableConfig, channels: Sequence[str]
    ) -> Operation[dict[str, DeltaChannelHistory]]:
        """Read what channels wrote since their last stored value, on the way to a checkpoint."""
        place = _config.place(config)
        histories = {channel: History() for channel in _config.texts("channels", channels)}
        known = self.shared.threads.of(place.thread_id)
        next_id: Argument = place.checkpoint_id
        skip, visited = 1, set[Argument]()
        while searched := [name for name, history in histories.items() if not history.seeded]:
            ancestors, next_id, *chunks = yield HISTORY(
                self._keys(place.thread_id),
                [
                    place.namespace,
                    next_id,
                    skip,
                    ANCESTORS,
                    known.packed_ropes(place.namespace),
                    *searched,
                ],
            )
            reply = self._reply(place.thread_id, known, *chunks)
            for writes, seeds in ancestors:
                add_ancestor(histories, reply, place, writes, seeds)
            if not next_id or next_id in visited:  # the beginning, or a loop
                break
            visited.add(next_id)
            skip = 0
        return {channel: history.result() for channel, history in histories.items()}

    def _reply(
        self, thread_id: str, known: Known, digests: Sequence[bytes], groups: Sequence[Any]
    ) -> Reply:
        self.shared.threads.learn(thread_id, known, _codec.chunks(digests, groups))
        keys = self._keys(thread_id)
        return Reply(self._reading_serde, thread_id, keys, known, self.shared.threads)

    # Deleting and copying

    def delete_thread(self, thread_id: str) -> Operation[None]:
        """Delete all of a thread."""
        _config.text("thread_id", thread_id)
        args: list[Argument] = [self.shared.token(thread_id), self.shared.options.tombstone]
        runs = yield DELETE(self._keys(thread_id), args, self.shared.options.confirm)
        yield from self._removed(thread_id, runs)

    def prune(self, thread_id: str, strategy: str) -> Operation[None]:
        """Delete a thread but for the latest checkpoint of each namespace, or all of it."""
        if strategy == "keep_latest":
            gone = yield from self._remove(PRUNE, thread_id, [1])
            yield from self._removed(thread_id, gone)
        else:
            yield from self.delete_thread(thread_id)

    def threads_of_runs(self, run_ids: Sequence[str]) -> Operation[dict[str, list[str]]]:
        """The threads that have checkpoints of runs, each with those runs."""
        runs = list(dict.fromkeys(_config.texts("run_ids", run_ids)))
        threads: dict[str, list[str]] = {}
        if runs:
            replies = yield Commands(
                tuple(("SMEMBERS", self.shared.keyspace.run(run)) for run in runs)
            )
            for run, members in zip(runs, replies, strict=True):
                for thread_id in _decoded(members):
                    threads.setdefault(thread_id, []).append(run)
        return threads

    def delete_runs(self, thread_id: str, run_ids: Sequence[str]) -> Operation[None]:
        """Delete the checkpoints that runs made in a thread."""
        gone = yield from self._remove(DELETE_RUNS, thread_id, run_ids)
        yield from self._removed(thread_id, {*gone, *(run.encode() for run in run_ids)})

    def _remove(
        self, script: Script, thread_id: str, args: Sequence[Argument]
    ) -> Operation[Collection[bytes]]:
        """Remove checkpoints in one call; in several for a thread of thousands of them."""
        token = token_bytes(16)
        stage, position, gone = b"rows", b"", ()
        while stage:
            stage, position, gone = yield script(
                self._keys(thread_id),
                [token, stage, position, self.shared.token(thread_id), *args],
                self.shared.options.confirm,
            )
        return gone

    def _removed(self, thread_id: str, runs: Collection[bytes]) -> Operation[None]:
        self.shared.threads.forget(thread_id)
        yield from self._unindex(thread_id, runs)

    def copy_thread(self, source: str, target: str) -> Operation[None]:
        """Copy all of a thread to one that has nothing yet."""
        _config.text("source_thread_id", source)
        _config.text("target_thread_id", target)
        keys, target_keys = self._keys(source), self._keys(target)
        copied_keys = (*keys[:4], keys.control)
        marked_keys = (
            *target_keys[:4],
            target_keys.control,
            self.shared.keyspace.copy_mark(target),
        )
        mark, confirm = (token_bytes(16), COPY_MARK), self.shared.options.confirm
        runs, own_ttl = yield Commands((("HKEYS", keys.runs), ("HGET", keys.control, "ttl")))
        lifetime = self.shared.options.life.index_ttl(None if own_ttl is None else int(own_ttl))
        yield from self._index(target, _decoded(runs), lifetime)  # before the copy, as in `put`
        if self.shared.is_cluster and not same_slot(keys[0], target_keys[0]):
            runs_then, *thread = yield DUMP(copied_keys)
            copied = yield RESTORE(marked_keys, [*mark, *thread], confirm)
        else:
            copied, runs_then = yield COPY([*copied_keys, *marked_keys], mark, confirm)
        if not copied:
            yield from self._unindex(target, runs)
            raise ThreadExistsError(target)
        new = set(_decoded(runs_then)).difference(_decoded(runs))
        yield from self._index(target, new, lifetime)

    # The life of a thread

    def set_ttl(self, thread_id: str, ttl: Duration | None) -> Operation[None]:
        """Give a thread a time to live of its own, or take it back."""
        return self._set_life(thread_id, "" if ttl is None else _config.milliseconds("ttl", ttl))

    def pin(self, thread_id: str) -> Operation[None]:
        """Let a thread live for ever."""
        return self._set_life(thread_id, 0)

    def _set_life(self, thread_id: str, own: Argument) -> Operation[None]:
        _config.text("thread_id", thread_id)
        ttl = self.shared.options.life.ttl
        args: list[Argument] = [self.shared.token(thread_id), own, ttl]
        found, runs, lifetime = yield SET_LIFE(self._keys(thread_id), args)
        if not found:
            raise ThreadNotFoundError(thread_id)
        yield from self._renew_index(thread_id, runs, lifetime)

    def take_lease(self, thread_id: str, token: bytes, span: int) -> Operation[None]:
        """Take a lease that lasts `span` milliseconds after the last write."""
        if not (yield LEASE(self._keys(thread_id), [token, span, 1])):
            raise ThreadLeasedError(thread_id)

    def renew_lease(self, thread_id: str, token: bytes, span: int) -> Operation[None]:
        """Let a lease last `span` milliseconds from now."""
        if not (yield LEASE(self._keys(thread_id), [token, span, 0])):
            raise LeaseLostError(thread_id)

    def give_back_lease(self, thread_id: str, token: bytes) -> Operation[None]:
        """End a lease, if it has not ended."""
        yield LEASE(self._keys(thread_id), [token, 0, 0])

    # The index of runs: which threads a run has checkpoints in.

    def _index_new(
        self, thread_id: str, run: str, lifetime: int, confirm: Confirm | None
    ) -> Operation[bool]:
        """Index a run, unless this was done already."""
        is_new = bool(run) and run not in self.shared.threads.of(thread_id).runs
        if is_new:
            yield from self._index(thread_id, [run], lifetime, confirm)
        return is_new

    def _index(
        self,
        thread_id: str,
        runs: Collection[str],
        lifetime: int,
        confirm: Confirm | None = None,
    ) -> Operation[None]:
        """Let runs lead to a thread, for so many milliseconds at least; 0 is for ever.

        What is confirmed behind it, is so with it; but the nodes of a cluster confirm each its own.
        """
        if not runs:
            return
        keys = [self.shared.keyspace.run(run) for run in runs]
        confirm = confirm if self.shared.is_cluster else None
        if lifetime or confirm:
            for key in keys:
                yield INDEX([key], [thread_id, lifetime], confirm)
        else:
            commands = [(("SADD", key, thread_id), ("PERSIST", key)) for key in keys]
            yield Commands(tuple(chain.from_iterable(commands)))
        self.shared.threads.learn_runs(thread_id, runs)

    def _renew_index(
        self, thread_id: str, runs: Collection[bytes], lifetime: int
    ) -> Operation[None]:
        """Let a thread's runs lead to it for longer, and the thread know it only then.

        Whatever is lost on the way, the next call is asked to do it again.
        """
        if not runs:
            return
        yield from self._index(thread_id, _decoded(runs), lifetime)
        if lifetime:
            yield INDEXED(self._keys(thread_id), [lifetime])

    def _unindex(self, thread_id: str, runs: Collection[bytes]) -> Operation[None]:
        if not runs:
            return
        names, run_key = _decoded(runs), self.shared.keyspace.run
        yield Commands(tuple(("SREM", run_key(run), thread_id) for run in names))
        # The thread forgets them only now, so that a repeated removal finds them again. A put of
        # one of these runs may have come between: then its index entry goes back.
        back = yield FORGET_RUNS(self._keys(thread_id), names)
        yield from self._index(thread_id, _decoded(back), self.shared.options.life.index_ttl())


def _decoded(names: Iterable[bytes]) -> list[str]:
    return sorted(name.decode() for name in names)
