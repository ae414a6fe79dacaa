"""What each method asks of the server, and how it reads the answer.

Operations are generators (see `_protocol/requests.py`); nothing here touches a client or waits.
Each asks for one script call, and where one asks for more, a comment says why.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from secrets import token_bytes, token_hex
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
from redis.crc import key_slot

from langgraph_checkpoint_redis._protocol.confirm import Confirm, parse_own_confirm
from langgraph_checkpoint_redis._protocol.durations import Duration, to_milliseconds
from langgraph_checkpoint_redis._protocol.requests import Commands, Operation, Script
from langgraph_checkpoint_redis._protocol.resp import Argument
from langgraph_checkpoint_redis._runtime.log import report_clock
from langgraph_checkpoint_redis._scripts.calls import (
    COPY,
    DELETE,
    DELETE_RUNS,
    DUMP,
    GET,
    GET_AND_REFRESH,
    HISTORY,
    LEASE,
    LIST,
    NAMESPACES,
    PRUNE,
    PUT,
    PUT_CHUNKS,
    PUT_LAST,
    PUT_WRITES,
    RESTORE,
    RUNS,
    SET_LIFE,
)
from langgraph_checkpoint_redis._scripts.refusals import lost_key_error
from langgraph_checkpoint_redis._scripts.transactions import mark_large_chunks
from langgraph_checkpoint_redis._storage.checks import (
    check_checkpoint,
    check_id,
    check_ids,
    check_text,
    check_texts,
    check_writes,
)
from langgraph_checkpoint_redis._storage.chunking import DEEP, PACKED_RATE, TEXT_RATE
from langgraph_checkpoint_redis._storage.compression import compress_chunk
from langgraph_checkpoint_redis._storage.corruption import CorruptionContext
from langgraph_checkpoint_redis._storage.encryption import with_decryption
from langgraph_checkpoint_redis._storage.keys import ThreadKeys
from langgraph_checkpoint_redis._storage.packing import pack
from langgraph_checkpoint_redis._storage.records import (
    CheckpointRow,
    Draft,
    pack_head,
    pack_tail,
    pack_writes_row,
)
from langgraph_checkpoint_redis._storage.refs import CheckpointRef
from langgraph_checkpoint_redis._storage.tree import list_named, pick_small_pieces
from langgraph_checkpoint_redis._storage.values import (
    Value,
    encode_value,
    list_children,
    parse_chunks,
)
from langgraph_checkpoint_redis.errors import (
    ClockError,
    ClockWarning,
    CorruptThreadError,
    LeaseLostError,
    MissingAncestorError,
    RedisSaverError,
    ThreadChangedError,
    ThreadExistsError,
    ThreadLeasedError,
    ThreadNotFoundError,
)

from . import arguments, clock
from .arguments import parse_own_ttl, parse_ref, parse_run_id, parse_thread_id, parse_written_ref
from .cache import ThreadCache, written_name
from .listing import Cursor, Page, Rows
from .new_chunks import NewChunks
from .options import SaverState
from .replies import Found, History, Reply, add_ancestor
from .run_index import RunIndex, list_names
from .sending import Sending

PAGE = 100  # checkpoints in a page of `list`
ANCESTORS = 1000  # checkpoints that one call walks back for a delta channel
FETCHED = 1000  # pieces that one command asks for
MUCH = 8 * 1024 * 1024  # bytes of new values that end a page
KEPT = 32 * 1024 * 1024  # bytes that a listing knows of a thread from one page to the next
CHUNKS_OF_PUT, CHUNKS_OF_WRITES = 11, 7  # the arguments of these scripts that chunks begin with
AHEAD = 60_000  # milliseconds in which the row has to follow, in a thread without others
PASSES = 10  # times that a removal begins to look for what is in use
BEGINNINGS = 20  # times that a removal begins again with the newest checkpoint
COPY_MARK = 60_000  # milliseconds in which a repeated copy is known to be the same one
COPIES = 10  # times that a copy begins, while its source changes
ENDING = 2  # what set_life.lua says where entries of the index of runs end too soon


class Operations(NamedTuple):
    """The operations of a saver: made anew for each call, as the serializer may be swapped."""

    serde: SerializerProtocol
    shared: SaverState

    def _keys(self, thread_id: str) -> ThreadKeys:
        return self.shared.keyspace.thread(thread_id)

    @property
    def _runs(self) -> RunIndex:
        return RunIndex(self.shared)

    def _confirm(self, config: RunnableConfig) -> Confirm | None:
        options = self.shared.options
        return parse_own_confirm(config, options.confirm, options.socket_timeout)

    @property
    def _reading_serde(self) -> SerializerProtocol:
        return with_decryption(self.serde, allow_plaintext=self.shared.options.allow_plaintext)

    # Writing

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> Operation[RunnableConfig]:
        """Store a checkpoint; the one that `config` names is its parent."""
        parent = parse_ref(config)
        checkpoint_id = check_checkpoint(checkpoint, metadata, new_versions)
        metadata = get_checkpoint_metadata(config, metadata)
        run = parse_run_id(metadata)
        own_ttl = parse_own_ttl(config)
        confirm = self._confirm(config)
        draft = Draft(parent, checkpoint, metadata, run, new_versions)
        tail = pack_tail(self.serde, draft)
        self._check_clock(parent, checkpoint_id)
        keep_last = self.shared.options.keep_last or 0
        refuses = int(self._refuses_conflict(parent, config, metadata))
        token, *expiry = self._terms(config, own_ttl)
        terms = (tail, keep_last, token, *expiry, refuses, "")
        # The index comes first, so that no crash leaves a checkpoint that it does not lead to.
        lifetime = self.shared.options.expiry.index_ttl(own_ttl)
        registration = yield from self._runs.register(parent.thread_id, run, lifetime, confirm)
        keys, threads = self._keys(parent.thread_id), self.shared.caches
        script = PUT_LAST if keep_last else PUT
        sending = Sending(threads, parent.thread_id, parent.namespace)
        while True:
            channels = {**checkpoint["channel_values"]} if sending.sends_all else new_versions
            values = self._encoded(
                checkpoint, {**channels, **sending.channels}, sending.cache, parent.namespace
            )
            head = pack_head(draft, values)
            args, new = yield from self._with_chunks_ahead(
                sending,
                [parent.namespace, checkpoint_id, head, *terms],
                values.values(),
                keys,
                token,
            )
            call = mark_large_chunks(script(keys, args, confirm), CHUNKS_OF_PUT)
            is_stored, *told = yield from self._runs.put(registration, call)
            if is_stored:
                break
            if not sending.refused(*told):
                raise self._unkept(parent, told[1])
        cache = sending.learning()
        trees = {channel: value.cut.tree for channel, value in values.items()}
        threads.learn(parent.thread_id, cache, new)
        threads.learn_trees(parent.thread_id, cache, parent.namespace, trees)
        if parent.namespace in cache.before or not parent.checkpoint_id:
            threads.learn_before(parent.thread_id, cache, parent.namespace, checkpoint_id)
        clock.see(checkpoint_id)
        yield from self._runs.keep(registration, told)
        return parent.config(checkpoint_id)

    def put_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str,
    ) -> Operation[None]:
        """Store writes of a task."""
        ref = parse_written_ref(config)
        task_id = check_text("task_id", task_id)
        task_path = check_text("task_path", task_path, empty=True)
        own_ttl = parse_own_ttl(config)
        confirm = self._confirm(config)
        writes = check_writes(writes)
        if not writes:
            return
        name = f"{ref.namespace}\0{ref.checkpoint_id}\0{task_id}".encode()
        keys, threads = self._keys(ref.thread_id), self.shared.caches
        channels = [channel for channel, _ in writes]
        sending = Sending(threads, ref.thread_id, ref.namespace)
        trims = int(self.shared.options.keep_last is not None)
        token, *expiry = self._terms(config, own_ttl)
        terms = (trims, token, *expiry)
        while True:
            cache = sending.cache
            trees = cache.trees_of(ref.namespace)
            values = [
                encode_value(self.serde, value, trees.get(channel), cache.chunks, rate=self._rate)
                for channel, value in writes
            ]
            row = pack_writes_row(name, task_path, channels, values)
            args, new = yield from self._with_chunks_ahead(
                sending, [name, row, *terms], values, keys, token
            )
            call = PUT_WRITES(keys, args, confirm)
            is_stored, *told = yield mark_large_chunks(call, CHUNKS_OF_WRITES)
            if is_stored:
                break
            if not sending.refused(*told):
                raise self._unkept(ref, [])
        cache = sending.learning()
        threads.learn(ref.thread_id, cache, new)
        self._learn_written(ref, cache, dict(zip(channels, values, strict=True)))
        runs, lifetime = told
        yield from self._runs.renew(ref.thread_id, runs, lifetime)

    def _check_clock(self, parent: CheckpointRef, checkpoint_id: str) -> None:
        """Raise or warn if a checkpoint would sort before its parent."""
        if not clock.is_backwards(checkpoint_id, parent.checkpoint_id):
            return
        if self.shared.options.refuses_clock_skew:
            raise ClockError(parent.thread_id, checkpoint_id, parent.checkpoint_id)
        report_clock(parent.thread_id, clock.seconds_behind(checkpoint_id, parent.checkpoint_id))
        warnings.warn(
            ClockWarning(
                f"checkpoint {checkpoint_id!r} of thread {parent.thread_id!r} sorts before its "
                f"parent {parent.checkpoint_id!r}, so readers go on from the parent: the clock of "
                "this machine, or of the one that wrote the parent, is wrong. Synchronize the "
                "clocks"
            ),
            stacklevel=2,
        )

    def _unkept(self, ref: CheckpointRef, channels: Sequence[bytes]) -> CorruptThreadError:
        """Return the error for a write that keeps what is stored already, and no longer is."""
        names = ", ".join(repr(channel.decode()) for channel in channels)
        reason = f"what it keeps is missing ({names or 'earlier writes of its task'})"
        chunks = self._keys(ref.thread_id).chunks.decode()
        return CorruptThreadError(*ref, chunks, f"{reason}: nothing was written")

    def _learn_written(
        self, ref: CheckpointRef, cache: ThreadCache, values: Mapping[str, Value]
    ) -> None:
        """Remember large writes as they were cut: many become the values of their channels."""
        trees = {
            written_name(channel): value.cut.tree
            for channel, value in values.items()
            if len(value.cut.tree.data) >= DEEP
        }
        if trees:
            self.shared.caches.learn_trees(ref.thread_id, cache, ref.namespace, trees)

    def _terms(self, config: RunnableConfig, own_ttl: int | None) -> tuple[bytes, int, Argument]:
        """What write scripts are told of a thread's lease and of how long it lives."""
        own = "" if own_ttl is None else own_ttl
        token = self.shared.token(parse_thread_id(config), config)
        return token, self.shared.options.expiry.ttl, own

    def _refuses_conflict(
        self, parent: CheckpointRef, config: RunnableConfig, metadata: CheckpointMetadata
    ) -> bool:
        """Return whether to refuse a checkpoint whose namespace has moved on past its parent.

        A run that goes back in time means to fork: it says so, or has read the parent by its id.
        """
        if not self.shared.options.refuses_conflicts or arguments.means_to_fork(config, metadata):
            return False
        return not self.shared.caches.was_addressed(parent)

    @property
    def _rate(self) -> int:
        """How finely texts are cut."""
        return PACKED_RATE if self.shared.options.compression else TEXT_RATE

    def _encoded(
        self, checkpoint: Checkpoint, channels: Iterable[str], cache: ThreadCache, namespace: str
    ) -> dict[str, Value]:
        values, versions = checkpoint["channel_values"], checkpoint["channel_versions"]
        trees, chunks, rate = cache.trees_of(namespace), cache.chunks, self._rate
        return {
            channel: encode_value(
                self.serde,
                values[channel],
                trees.get(channel),
                chunks,
                trees.get(written_name(channel)),
                rate=rate,
            )
            for channel in channels
            if channel in values and channel in versions
        }

    def _with_new_chunks(
        self,
        sending: Sending | None,
        args: Sequence[Argument],
        values: Collection[Value],
        levels: Sequence[bytes] = (),
    ) -> tuple[tuple[Argument, ...], dict[bytes, bytes]]:
        """What a script that stores values takes, and those of their chunks that are not known.

        These go with it, and the names of all others that the values or further `levels` refer to.
        """
        new = self._new_chunks(sending, values)
        return self._with_chunks(sending, args, values, new, levels), new.all

    def _with_chunks_ahead(
        self,
        sending: Sending,
        args: Sequence[Argument],
        values: Collection[Value],
        keys: ThreadKeys,
        token: bytes,
    ) -> Operation[tuple[tuple[Argument, ...], dict[bytes, bytes]]]:
        """The same, but many new chunks are sent ahead, in several calls."""
        new = self._new_chunks(sending, values)
        is_sent = (
            new.are_many
            and not sending.sends_all
            and (yield from self._send_ahead(keys, token, new))
        )
        rest = NewChunks({}, {}) if is_sent else new
        return self._with_chunks(sending, args, values, rest), new.all

    def _send_ahead(self, keys: ThreadKeys, token: bytes, new: NewChunks) -> Operation[bool]:
        """Store chunks, a part at a time; False if they have to come with the row after all."""
        for part in new.parts():
            named = b"".join(list_named((), part.nodes, {}))
            if not (yield PUT_CHUNKS(keys, [token, AHEAD, named, *self._pairs(part)])):
                return False
        return True

    def _new_chunks(self, sending: Sending | None, values: Collection[Value]) -> NewChunks:
        """The chunks of values that the server may not have."""
        cache = sending.cache if sending else ThreadCache()
        nodes: dict[bytes, bytes] = {}
        pieces: dict[bytes, bytes] = {}
        if sending and sending.again:  # these first: new nodes may refer to them
            for _, cut in values:
                lower, *upper = cut.tree.rows or ((),)
                nodes |= sending.missed(chain.from_iterable(upper))
                pieces |= sending.missed(lower)
        for _, cut in values:
            if cut.nodes or cut.pieces:
                nodes |= cache.missing(cut.nodes)
                pieces |= cache.missing(cut.pieces)
        return NewChunks(nodes, pieces)

    def _with_chunks(
        self,
        sending: Sending | None,
        args: Sequence[Argument],
        values: Collection[Value],
        new: NewChunks,
        levels: Sequence[bytes] = (),
    ) -> tuple[Argument, ...]:
        """The arguments, with the names of what is there already, and with these chunks."""
        cache = sending.cache if sending else ThreadCache()
        levels = [*levels, *[level for _, cut in values for level in cut.tree.levels]]
        named = list_named(levels, *new)
        if small := pick_small_pieces(named, cache.chunks):
            new = NewChunks(new.nodes, {**new.pieces, **small})
            named = [name for name in named if name not in small]
        return (*args, b"".join(named), *self._pairs(new))

    def _pairs(self, new: NewChunks) -> list[Argument]:
        """Chunks as scripts take them: name and content of each."""
        pairs: list[Argument] = []
        for digest, content in new.nodes.items():
            pairs += digest, compress_chunk(content, None)
        for digest, content in new.pieces.items():
            pairs += digest, compress_chunk(content, self.shared.options.compression)
        return pairs

    # Reading

    def get_tuple(self, config: RunnableConfig) -> Operation[CheckpointTuple | None]:
        """Read the checkpoint that a config names, or the latest."""
        ref = parse_ref(config)
        cache = self.shared.caches.of(ref.thread_id)
        if ref.checkpoint_id and self.shared.options.refuses_conflicts:
            self.shared.caches.address(ref)
        found, truncated, reply = yield from self._get(ref, cache, allow_truncation=1)
        # Many chunks, or large ones, come by commands, since a script takes far longer for them;
        # unless the thread has changed in between, or is damaged: one call sees it as it is.
        if found and truncated and not (yield from self._bring(reply, reply.digests([found]))):
            found, _, reply = yield from self._get(ref, cache, allow_truncation=0)
        if not found:
            return None
        whole, trees = reply.tuple_and_trees(found)
        self.shared.caches.learn_trees(ref.thread_id, cache, ref.namespace, trees)
        return whole

    def _get(
        self, ref: CheckpointRef, cache: ThreadCache, *, allow_truncation: int
    ) -> Operation[tuple[Found | None, int, Reply]]:
        """A checkpoint, if it is there, and whether pieces of it were left out."""
        keys, expiry = self._keys(ref.thread_id), self.shared.options.expiry
        trees, wanted = cache.packed_trees(ref.namespace), (ref.namespace, ref.checkpoint_id)
        if expiry.refresh_on_read and expiry.ttl:
            args: list[Argument] = [trees, allow_truncation, expiry.ttl, *wanted]
            _, rows, truncated, *chunks, runs, lifetime = yield GET_AND_REFRESH(keys, args)
            yield from self._runs.renew(ref.thread_id, runs, lifetime)
        else:
            _, rows, truncated, *chunks = yield GET(keys, [trees, allow_truncation, *wanted])
        reply = self._reply(ref.thread_id, cache, *chunks)
        return (reply.found(rows[0]) if rows else None), truncated, reply

    def page(self, thread_id: str, cursor: Cursor) -> Operation[Page]:
        """Read the next checkpoints of a listing: their rows, then what is new of their values."""
        rows = yield from self.rows(thread_id, cursor, whole=not cursor.filter)
        cache = cursor.cache or self.shared.caches.of(thread_id)
        reply = self._reply(thread_id, cache, (), ())
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
            tuples = yield from self._matching(thread_id, cache, [one.record for one in chosen])
        else:
            tuples = yield from self._filled(reply, chosen)
            self._learn_listed(reply, chosen)
        if cache.size > KEPT:
            cache = ThreadCache()  # the pieces of all that was listed would be in memory in the end
        records = [found.record for found in listed]
        return Page(tuples, cursor.moved(rows, records, len(chosen), cache))

    def rows(self, thread_id: str, cursor: Cursor, *, whole: bool) -> Operation[Rows]:
        """Read the rows of the next checkpoints, with their writes if they are to be `whole`."""
        group, end = cursor.group()
        count = PAGE if cursor.left is None or not whole else min(PAGE, cursor.left)
        names = pack(group) if group else b""
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
            start, namespaces, _ = yield NAMESPACES(self._keys(thread_id), [start, "", ""])
            heads.update({name: newest for name, _, _, newest in namespaces})
        return heads

    def _filled(self, reply: Reply, page: Sequence[Found]) -> Operation[Iterator[CheckpointTuple]]:
        """Checkpoints of rows, when the chunks that are new of their values were fetched.

        They are fetched by commands, level by level, since a script takes far longer for them. So a
        checkpoint may be removed in between: one that lacks something is read again in one call.
        """
        if (yield from self._bring(reply, reply.digests(page))):
            return map(reply.checkpoint_tuple, page)
        tuples: list[Iterator[CheckpointTuple]] = []
        for one in page:
            if reply.lacks(one):
                tuples.append((yield from self._whole(reply.thread_id, reply.cache, [one.record])))
            else:
                tuples.append(map(reply.checkpoint_tuple, [one]))
        return chain.from_iterable(tuples)

    def _learn_listed(self, reply: Reply, page: Sequence[Found]) -> None:
        """Remember where the newest of some checkpoints are, which came with their writes."""
        newest: dict[str, str] = {}
        for namespace, checkpoint_id in (found.record.place for found in page):
            newest.setdefault(namespace, checkpoint_id)
        for namespace, checkpoint_id in newest.items():
            self.shared.caches.learn_before(reply.thread_id, reply.cache, namespace, checkpoint_id)

    def _bring(self, reply: Reply, wanted: dict[int, dict[bytes, None]]) -> Operation[bool]:
        """Ask for what is not known of chunks and all below them; return whether it is there."""
        cache, chunks = reply.cache, reply.keys.chunks
        is_there = True
        for level in range(max(wanted, default=-1), -1, -1):
            new = [one for one in wanted.get(level, ()) if one not in cache.chunks]
            parts = [new[start : start + FETCHED] for start in range(0, len(new), FETCHED)]
            if parts:
                groups = yield Commands(tuple(("HMGET", chunks, *part) for part in parts))
                self.shared.caches.learn(reply.thread_id, cache, parse_chunks(new, groups))
                is_there = is_there and cache.chunks.keys() >= {*new}
            if level:
                below = wanted.setdefault(level - 1, {})
                below.update(list_children(wanted.get(level, ()), cache.chunks))
        return is_there

    def _matches(self, record: CheckpointRow, thread_id: str, cursor: Cursor) -> bool:
        with CorruptionContext(thread_id, self._keys(thread_id).timeline, record.place):
            metadata = record.metadata(self._reading_serde, thread_id)
        return cursor.wants(record) and all(
            metadata.get(name) == value for name, value in cursor.filter.items()
        )

    def _matching(
        self, thread_id: str, cache: ThreadCache, records: Sequence[CheckpointRow]
    ) -> Operation[Iterator[CheckpointTuple]]:
        """The checkpoints of rows that came without values: a second call, for matches only."""
        found: list[Iterator[CheckpointTuple]] = []
        while records:
            ids = [arg for record in records for arg in record.place]
            done, rows, _, *chunks = yield GET(
                self._keys(thread_id), [cache.packed_trees(records[0].namespace), 1, *ids]
            )
            reply = self._reply(thread_id, cache, *chunks)
            page = [reply.found(row) for row in rows]
            found.append((yield from self._filled(reply, page)))
            records = records[done:]
        return chain.from_iterable(found)

    def _whole(
        self, thread_id: str, cache: ThreadCache, records: Sequence[CheckpointRow]
    ) -> Operation[Iterator[CheckpointTuple]]:
        """Checkpoints that lack something, as one call sees them."""
        found: list[Iterator[CheckpointTuple]] = []
        while records:
            ids = [arg for record in records for arg in record.place]
            done, rows, _, *chunks = yield GET(
                self._keys(thread_id), [cache.packed_trees(records[0].namespace), 0, *ids]
            )
            reply = self._reply(thread_id, cache, *chunks)
            found.append(map(reply.checkpoint_tuple, map(reply.found, rows)))
            records = records[done:]
        return chain.from_iterable(found)

    def get_delta_channel_history(
        self, config: RunnableConfig, channels: Sequence[str]
    ) -> Operation[dict[str, DeltaChannelHistory]]:
        """Read what channels wrote since their last stored value, on the way to a checkpoint."""
        ref = parse_ref(config)
        histories = {channel: History() for channel in check_texts("channels", channels)}
        cache = self.shared.caches.of(ref.thread_id)
        start: Argument = ref.checkpoint_id
        keys, skip, visited = self._keys(ref.thread_id), 1, set[Argument]()
        rebuilt: set[str] = set()  # channels that the checkpoint needs older ancestors for
        known_before = cache.before.get(ref.namespace, "")
        while searched := [name for name, history in histories.items() if not history.seeded]:
            trees = cache.packed_trees(ref.namespace)
            args = [ref.namespace, start, skip, ANCESTORS, trees, known_before, *searched]
            found, next_id, gone, delta, begun, *chunks = yield HISTORY(keys, args)
            reply = self._reply(ref.thread_id, cache, *chunks)
            ancestors = [reply.ancestor(writes, seeds, searched) for writes, seeds in found]
            # Another process may have written to those ancestors. If the chunks are not there, the
            # thread has changed since the call, or is damaged: one call sees it as it is.
            if known_before and not (yield from self._bring(reply, reply.digests_of(ancestors))):
                known_before = ""
                continue
            for ancestor in ancestors:
                add_ancestor(histories, reply, ref, ancestor)
            with CorruptionContext(ref.thread_id, reply.keys.timeline, ref[1:]):
                rebuilt.update(_decoded(delta))
                rebuilt.difference_update(_decoded(begun))
                gone_id = gone.decode()
            is_short = any(not histories[name].seeded for name in rebuilt & {*searched})
            if gone_id and (is_short or gone_id == ref.checkpoint_id):
                raise MissingAncestorError(*ref, reply.keys.timeline.decode(), gone_id)
            if not next_id or next_id in visited:  # the beginning, or a loop
                break
            visited.add(next_id)
            start, skip = next_id, 0
        threads = self.shared.caches
        threads.learn_before(ref.thread_id, cache, ref.namespace, ref.checkpoint_id)
        return {channel: history.result() for channel, history in histories.items()}

    def _reply(
        self, thread_id: str, cache: ThreadCache, digests: Sequence[bytes], groups: Sequence[Any]
    ) -> Reply:
        self.shared.caches.learn(thread_id, cache, parse_chunks(digests, groups))
        keys = self._keys(thread_id)
        return Reply(self._reading_serde, thread_id, keys, cache, self.shared.caches)

    # Deleting and copying

    def delete_thread(self, thread_id: str) -> Operation[None]:
        """Delete all of a thread."""
        thread_id = check_id("thread_id", thread_id)
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
        runs = list(dict.fromkeys(check_ids("run_ids", run_ids)))
        return (yield from self._runs.threads(runs))

    def delete_runs(self, thread_id: str, run_ids: Sequence[str]) -> Operation[None]:
        """Delete the checkpoints that runs made in a thread."""
        gone = yield from self._remove(DELETE_RUNS, thread_id, run_ids)
        yield from self._removed(thread_id, gone)
        found = {text.partition(b"\0")[0].decode() for text in gone}
        yield from self._runs.remove_stale(thread_id, [run for run in run_ids if run not in found])

    def _remove(
        self, script: Script, thread_id: str, args: Sequence[Argument]
    ) -> Operation[Collection[bytes]]:
        """Remove checkpoints in one call; in several for a thread of thousands of them."""
        token, passes, begun = token_hex(8), set[bytes](), 0
        stage, position, gone = b"rows", b"", ()
        # A pass that has lost its marks begins again. Where that happens over and over, the chunks
        # are left to the next removal: they take memory and do no harm. Rows are not left.
        while stage and len(passes) <= PASSES:
            stage, position, gone = yield script(
                self._keys(thread_id),
                [token, stage, position, self.shared.token(thread_id), *args],
                self.shared.options.confirm,
            )
            if stage in (b"timeline", b"writes", b"chunks"):
                passes.add(position.split(b" ")[1])
            elif stage and not position:
                begun += 1
                if begun > BEGINNINGS:
                    raise ThreadChangedError(thread_id, is_removal=True)
        return gone

    def _removed(self, thread_id: str, runs: Collection[bytes]) -> Operation[None]:
        self.shared.caches.forget(thread_id)
        yield from self._runs.unindex(thread_id, runs)

    def copy_thread(self, source: str, target: str) -> Operation[None]:
        """Copy all of a thread to one that has nothing yet."""
        source = check_id("source_thread_id", source)
        target = check_id("target_thread_id", target)
        in_parts = yield from self._crosses_slots(source, target)
        mark, outcome, begun = token_bytes(16), b"CHANGED", 0
        while outcome == b"CHANGED" and begun < COPIES:
            # The entries of the index of runs come before the copy, as in `put`.
            runs, _, span, now = yield RUNS(self._keys(source))
            token, score = yield from self._runs.lead(target, runs, span, now)
            led: list[Argument] = [token, score, *list_names(runs)]
            outcome = b"LARGE"
            if not in_parts:
                outcome = yield from self._copy_at_once(source, target, mark, led)
            if outcome == b"LARGE":
                in_parts = True
                outcome = yield from self._copy_in_parts(source, target, mark, led)
            if outcome != b"COPIED":
                yield from self._runs.lead_no_more(target, runs, token)
            begun += 1
        if outcome not in {b"COPIED", b"NOTHING"}:
            raise _copy_error(outcome, source, target)

    def _crosses_slots(self, source: str, target: str) -> Operation[bool]:
        """Return whether a server refuses a call with the keys of both threads."""
        key, target_key = self._keys(source).timeline, self._keys(target).timeline
        if is_same_slot(key, target_key):
            return False
        if self.shared.is_cluster:
            return True
        # The one node of a cluster may be reached without a client for clusters.
        (found,) = yield Commands((("EXISTS", key, target_key),), may_fail=True)
        return isinstance(found, Exception) and "slot" in str(found).lower()

    def _copy_at_once(
        self, source: str, target: str, mark: bytes, led: Sequence[Argument]
    ) -> Operation[bytes]:
        """Copy a thread by one call, if it is small."""
        keys = self._keys(source)
        outcome: bytes = yield COPY(
            [*self._target_keys(target), *keys[:4], keys.control],
            [mark, COPY_MARK, self.shared.token(target), *led],
            self.shared.options.confirm,
        )
        return outcome

    def _copy_in_parts(
        self, source: str, target: str, mark: bytes, led: Sequence[Argument]
    ) -> Operation[bytes]:
        """Copy a thread by way of this process. The target has all of it with the last part."""
        token, stage, position = token_bytes(16), b"", b""
        staged = self.shared.keyspace.staged(target, token)
        keys = [*self._target_keys(target), *staged]
        entry, names = led[:2], led[2:]
        terms = [mark, COPY_MARK, self.shared.token(target), *entry]
        outcome = b"MORE"
        while outcome == b"MORE":
            reply = yield DUMP(self._keys(source), [token, stage, position])
            token, stage, position, *parts, sizes, ttl, deadline = reply
            if not token:
                yield Commands(tuple(("UNLINK", key) for key in staged))
                return b"LOST " + stage if stage else b"CHANGED"
            if sizes and not any(sizes[:2]):  # there are no rows, but perhaps chunks ahead of them
                return b"NOTHING"
            some = [*parts, [] if stage else names]
            args = [*terms, *(sizes or [""] * 4), ttl, deadline, *map(len, some)]
            confirm = None if stage else self.shared.options.confirm
            outcome = yield RESTORE(keys, [*args, *chain.from_iterable(some)], confirm)
        return outcome

    def _target_keys(self, target: str) -> tuple[bytes, ...]:
        return (*self._keys(target), self.shared.keyspace.copy_mark(target))

    # The life of a thread

    def set_ttl(self, thread_id: str, ttl: Duration | None) -> Operation[None]:
        """Give a thread a time to live of its own, or take it back."""
        return self._set_life(thread_id, "" if ttl is None else to_milliseconds("ttl", ttl))

    def pin(self, thread_id: str) -> Operation[None]:
        """Let a thread live for ever."""
        return self._set_life(thread_id, 0)

    def _set_life(self, thread_id: str, own: Argument) -> Operation[None]:
        thread_id = check_id("thread_id", thread_id)
        ttl = self.shared.options.expiry.ttl
        found, runs, lifetime = ENDING, (), 0
        while found == ENDING:  # then what leads to the thread has to stay for as long, first
            stay = yield from self._runs.keep_for_ever(thread_id, runs)
            args: list[Argument] = [self.shared.token(thread_id), own, ttl, *stay]
            found, runs, lifetime = yield SET_LIFE(
                self._keys(thread_id), args, self.shared.options.confirm
            )
        if not found:
            raise ThreadNotFoundError(thread_id)
        yield from self._runs.renew(thread_id, runs, lifetime)

    def take_lease(self, thread_id: str, token: bytes, span: int) -> Operation[None]:
        """Take a lease that lasts `span` milliseconds after the last write."""
        confirm = self.shared.options.confirm
        if not (yield LEASE(self._keys(thread_id), [token, span, 1], confirm)):
            raise ThreadLeasedError(thread_id)

    def renew_lease(self, thread_id: str, token: bytes, span: int) -> Operation[None]:
        """Let a lease last `span` milliseconds from now."""
        confirm = self.shared.options.confirm
        if not (yield LEASE(self._keys(thread_id), [token, span, 0], confirm)):
            raise LeaseLostError(thread_id)

    def give_back_lease(self, thread_id: str, token: bytes) -> Operation[None]:
        """End a lease, if it has not ended. If that is lost, it ends by itself: no confirmation."""
        yield LEASE(self._keys(thread_id), [token, 0, 0])


def _copy_error(outcome: bytes, source: str, target: str) -> RedisSaverError:
    """Return why a thread was not copied, as the script says."""
    if outcome == b"CHANGED":
        return ThreadChangedError(source)
    if outcome.startswith(b"LOST "):
        return lost_key_error(outcome.removeprefix(b"LOST "))
    refusals: dict[bytes, type[ThreadExistsError | ThreadLeasedError | LeaseLostError]] = {
        b"EXISTS": ThreadExistsError,
        b"LEASED": ThreadLeasedError,
        b"LEASELOST": LeaseLostError,
    }
    return refusals[outcome](target)


def _decoded(names: Iterable[bytes]) -> list[str]:
    return sorted(name.decode() for name in names)


def is_same_slot(one: bytes, other: bytes) -> bool:
    """Whether a cluster keeps both keys in one slot."""
    return bool(key_slot(one) == key_slot(other))
