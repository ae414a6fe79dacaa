"""Storing checkpoints, and what tasks write on top of them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    get_checkpoint_metadata,
)

from langgraph_checkpoint_redis._protocol.requests import Operation, ask
from langgraph_checkpoint_redis._runtime.log import report_clock
from langgraph_checkpoint_redis._scripts import calls
from langgraph_checkpoint_redis._storage.checks import check_checkpoint, check_text, check_writes
from langgraph_checkpoint_redis._storage.checksums import ADVICE
from langgraph_checkpoint_redis._storage.chunking import DEEP, PACKED_RATE, TEXT_RATE
from langgraph_checkpoint_redis._storage.records import (
    Draft,
    list_delta_channels,
    pack_head,
    pack_tail,
    pack_writes_row,
    root_of,
)
from langgraph_checkpoint_redis._storage.refs import CheckpointRef
from langgraph_checkpoint_redis._storage.values import Value, encode_value
from langgraph_checkpoint_redis.errors import ClockError, ClockWarning, CorruptThreadError

from . import clock
from .arguments import (
    means_to_fork,
    parse_own_ttl,
    parse_ref,
    parse_run_id,
    parse_thread_id,
    parse_written_ref,
)
from .cache import Put, ThreadCache, written_name
from .context import Context
from .new_chunks import NewChunks, find_new_chunks, name_chunks
from .sending import Sending

AHEAD = 60_000  # milliseconds in which the row has to follow, in a thread without others


def put(
    context: Context,
    config: RunnableConfig,
    checkpoint: Checkpoint,
    metadata: CheckpointMetadata,
    new_versions: ChannelVersions,
    *,
    is_cut_off: bool = False,
) -> Operation[RunnableConfig]:
    """Store a checkpoint, and return its config; `config` names its parent.

    A checkpoint that `is_cut_off` is there only because newer ones are rebuilt from it.
    """
    parent = parse_ref(config)
    checkpoint_id = check_checkpoint(checkpoint, metadata, new_versions)
    metadata = get_checkpoint_metadata(config, metadata)
    run = parse_run_id(metadata)
    terms, confirm = _make_terms(context, config), context.confirm_for(config)
    draft = Draft(parent, checkpoint, metadata, run, new_versions, is_cut_off)
    tail = pack_tail(context.serde, draft)
    _check_clock(context, parent, checkpoint_id)
    refuses_conflict = _refuses_conflict(context, parent, config, metadata)

    # The index comes first, so that no crash leaves a checkpoint that it does not lead to.
    lifetime = context.options.expiry.index_ttl(terms.own_ttl)
    registration = yield from context.runs.register(parent.thread_id, run, lifetime, confirm)

    def encode(sending: Sending) -> dict[str, Value]:
        changed = checkpoint["channel_values"] if sending.sends_all else new_versions
        return _encode_channels(context, draft, {**changed, **sending.channels}, sending.cache)

    def store(
        values: Mapping[str, Value], chunks: calls.SentChunks
    ) -> Operation[calls.Stored | calls.ChunksMissing]:
        make_call = partial(
            calls.put,
            context.keys(parent.thread_id),
            namespace=parent.namespace,
            checkpoint_id=checkpoint_id,
            head=pack_head(draft, values),
            tail=tail,
            keep_last=context.options.keep_last,
            terms=terms,
            refuses_conflict=refuses_conflict,
            chunks=chunks,
            confirm=confirm,
        )
        return context.runs.put(registration, make_call)

    stored, values, cache = yield from _store(context, parent, terms.token, encode, store)
    trees = {channel: value.cut.tree for channel, value in values.items()}
    context.caches.learn_trees(parent.thread_id, cache, parent.namespace, trees)
    if context.options.keep_last:
        _learn_recent(context, parent, checkpoint_id, cache, values.values())
        _learn_removed(context, draft, cache, context.options.keep_last)
    if parent.namespace in cache.before or not parent.checkpoint_id:
        context.caches.learn_before(parent.thread_id, cache, parent.namespace, checkpoint_id)
    clock.see(checkpoint_id)
    yield from context.runs.keep(registration, stored)
    return parent.config(checkpoint_id)


def put_writes(
    context: Context,
    config: RunnableConfig,
    writes: Sequence[tuple[str, Any]],
    task_id: str,
    task_path: str,
) -> Operation[None]:
    """Store writes of a task."""
    ref = parse_written_ref(config)
    task_id = check_text("task_id", task_id)
    task_path = check_text("task_path", task_path, empty=True)
    terms, confirm = _make_terms(context, config), context.confirm_for(config)
    writes = check_writes(writes)
    if not writes:
        return
    name = f"{ref.namespace}\0{ref.checkpoint_id}\0{task_id}".encode()
    channels = [channel for channel, _ in writes]

    def encode(sending: Sending) -> dict[int, Value]:
        cache, rate = sending.cache, _text_rate(context)
        trees = cache.trees_of(ref.namespace)
        return {
            number: encode_value(context.serde, value, trees.get(channel), cache.chunks, rate=rate)
            for number, (channel, value) in enumerate(writes)
        }

    def store(
        values: Mapping[int, Value], chunks: calls.SentChunks
    ) -> Operation[calls.WritesStored | calls.ChunksMissing]:
        call = calls.put_writes(
            context.keys(ref.thread_id),
            name=name,
            row=pack_writes_row(name, task_path, channels, [*values.values()]),
            drops_late=context.options.keep_last is not None,
            terms=terms,
            chunks=chunks,
            confirm=confirm,
        )
        return ask(call)

    stored, values, cache = yield from _store(context, ref, terms.token, encode, store)
    _learn_written(context, ref, cache, dict(zip(channels, values.values(), strict=True)))
    if context.options.keep_last:
        _learn_recent(context, ref, ref.checkpoint_id, cache, values.values())
    yield from context.runs.renew(ref.thread_id, stored.runs, stored.lifetime)


class _Result(NamedTuple):
    """What became of a write: the script's reply, its values, and what to learn them in."""

    stored: Any
    values: Any
    cache: ThreadCache


def _store(
    context: Context,
    ref: CheckpointRef,
    token: bytes,
    encode: Callable[[Sending], Mapping[Any, Value]],
    store: Callable[[Any, calls.SentChunks], Operation[Any]],
) -> Operation[_Result]:
    """Store values and the row that refers to them, whatever the server lacks.

    A try leaves out the chunks that the server is known to have. If it lacks some, it stores
    nothing and says which; the next try sends these, too. The last one leaves out nothing.
    """
    is_short = context.options.keep_last is not None
    sending = Sending(context.caches, ref.thread_id, ref.namespace, is_short=is_short)
    while True:
        values = encode(sending)
        new = find_new_chunks(values.values(), sending)
        went_ahead = yield from _send_ahead(context, ref, token, new, sending)
        rest = NewChunks({}, {}) if went_ahead else new
        chunks = name_chunks(values.values(), rest, sending.cache, context.options.compression)
        reply = yield from store(values, chunks)
        if not isinstance(reply, calls.ChunksMissing):
            cache = sending.learning()
            context.caches.learn(ref.thread_id, cache, new.all)
            return _Result(reply, values, cache)
        if not sending.refused(reply.digests, reply.channels):
            raise _lost_value_error(context, ref, reply.channels)


def _send_ahead(
    context: Context, ref: CheckpointRef, token: bytes, new: NewChunks, sending: Sending
) -> Operation[bool]:
    """Store many new chunks ahead of their row; False if they have to come with it."""
    if not new.are_many or sending.sends_all:
        return False
    keys = context.keys(ref.thread_id)
    for part in new.parts():
        chunks = name_chunks((), part, ThreadCache(), context.options.compression)
        if not (yield from ask(calls.put_chunks(keys, token=token, ttl=AHEAD, chunks=chunks))):
            return False
    return True


def _make_terms(context: Context, config: RunnableConfig) -> calls.Terms:
    """Return the lease that the caller has of a thread, and how long the thread is to live."""
    token = context.state.token(parse_thread_id(config), config)
    return calls.Terms(token, context.options.expiry.ttl, parse_own_ttl(config))


def _check_clock(context: Context, parent: CheckpointRef, checkpoint_id: str) -> None:
    """Raise or warn if a checkpoint would sort before its parent."""
    if not clock.is_backwards(checkpoint_id, parent.checkpoint_id):
        return
    if context.options.refuses_clock_skew:
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


def _refuses_conflict(
    context: Context, parent: CheckpointRef, config: RunnableConfig, metadata: CheckpointMetadata
) -> bool:
    """Return whether to refuse a checkpoint whose namespace has moved on past its parent.

    A run that goes back in time means to fork: it says so, or has read the parent by its id.
    """
    if not context.options.refuses_conflicts or means_to_fork(config, metadata):
        return False
    return not context.caches.was_addressed(parent)


def _text_rate(context: Context) -> int:
    """Return how finely texts are cut."""
    return PACKED_RATE if context.options.compression else TEXT_RATE


def _encode_channels(
    context: Context, draft: Draft, channels: Collection[str], cache: ThreadCache
) -> dict[str, Value]:
    """Serialize and cut the values of channels."""
    values = draft.checkpoint["channel_values"]
    versions = draft.checkpoint["channel_versions"]
    trees, rate = cache.trees_of(draft.parent.namespace), _text_rate(context)
    return {
        channel: encode_value(
            context.serde,
            values[channel],
            trees.get(channel),
            cache.chunks,
            trees.get(written_name(channel)),
            rate=rate,
        )
        for channel in channels
        if channel in values and channel in versions
    }


def _learn_written(
    context: Context, ref: CheckpointRef, cache: ThreadCache, values: Mapping[str, Value]
) -> None:
    """Remember large writes as they were cut: many become the values of their channels."""
    trees = {
        written_name(channel): value.cut.tree
        for channel, value in values.items()
        if len(value.cut.tree.data) >= DEEP
    }
    if trees:
        context.caches.learn_trees(ref.thread_id, cache, ref.namespace, trees)


def _learn_recent(
    context: Context,
    ref: CheckpointRef,
    checkpoint_id: str,
    cache: ThreadCache,
    values: Iterable[Value],
) -> None:
    """Remember the chunks of a row, so that the next put need not send them."""
    names = chain.from_iterable((*cut.nodes, *cut.pieces) for _, cut in values)
    context.caches.learn_recent(cache, ref.namespace, checkpoint_id, names)


def _learn_removed(context: Context, draft: Draft, cache: ThreadCache, kept: int) -> None:
    """Note what else a put with `keep_last` may have removed."""
    channels = draft.checkpoint["channel_values"]
    is_rebuilt = any(channel not in channels for channel in list_delta_channels(draft))
    root = root_of(draft.metadata)
    put = Put(draft.parent.namespace, draft.checkpoint["id"], kept, is_rebuilt, root)
    context.caches.learn_put(draft.parent.thread_id, cache, put, channels)


def _lost_value_error(
    context: Context, ref: CheckpointRef, channels: Sequence[bytes]
) -> CorruptThreadError:
    """Return the error for a write that keeps a value which the thread has lost."""
    names = ", ".join(repr(channel.decode()) for channel in channels)
    reason = f"what it keeps is missing ({names or 'earlier writes of its task'})"
    chunks = context.keys(ref.thread_id).chunks.decode()
    reason += ": nothing was written"
    return CorruptThreadError(*ref, chunks, reason, advice=ADVICE)
