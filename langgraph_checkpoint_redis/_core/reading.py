"""Reading one checkpoint, listings, and the histories of delta channels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointTuple, DeltaChannelHistory

from langgraph_checkpoint_redis._protocol.requests import Commands, Operation, ask
from langgraph_checkpoint_redis._protocol.resp import Argument
from langgraph_checkpoint_redis._scripts import calls
from langgraph_checkpoint_redis._storage.checks import check_texts
from langgraph_checkpoint_redis._storage.corruption import CorruptionContext
from langgraph_checkpoint_redis._storage.packing import pack
from langgraph_checkpoint_redis._storage.records import CheckpointRow
from langgraph_checkpoint_redis._storage.refs import CheckpointRef
from langgraph_checkpoint_redis._storage.values import list_children, parse_chunks
from langgraph_checkpoint_redis.errors import MissingAncestorError

from .arguments import parse_ref
from .cache import ThreadCache
from .context import Context
from .listing import Cursor, Page, Rows
from .replies import FoundCheckpoint, History, ThreadReader, add_ancestor

PAGE = 100  # checkpoints in a page of `list`
ANCESTORS = 1000  # checkpoints that one call walks back for a delta channel
FETCHED = 1000  # pieces that one command asks for
MUCH = 8 * 1024 * 1024  # bytes of new values that end a page
KEPT = 32 * 1024 * 1024  # bytes that a listing knows of a thread from one page to the next


# One checkpoint


def get_tuple(context: Context, config: RunnableConfig) -> Operation[CheckpointTuple | None]:
    """Read the checkpoint that a config names, or the latest."""
    ref = parse_ref(config)
    cache = context.caches.of(ref.thread_id)
    if ref.checkpoint_id and context.options.refuses_conflicts:
        context.caches.address(ref)
    found, truncated, reply = yield from _get(context, ref, cache, allow_truncation=True)
    # Many chunks, or large ones, come by commands, since a script takes far longer for them;
    # unless the thread has changed in between, or is damaged: one call sees it as it is.
    if found and truncated and not (yield from _fetch(context, reply, reply.digests([found]))):
        found, _, reply = yield from _get(context, ref, cache, allow_truncation=False)
    if not found:
        return None
    whole, trees = reply.tuple_and_trees(found)
    context.caches.learn_trees(ref.thread_id, cache, ref.namespace, trees)
    return whole


def _get(
    context: Context, ref: CheckpointRef, cache: ThreadCache, *, allow_truncation: bool
) -> Operation[tuple[FoundCheckpoint | None, int, ThreadReader]]:
    """Read a checkpoint, if it is there, and whether pieces of it were left out."""
    expiry = context.options.expiry
    call = calls.get(
        context.keys(ref.thread_id),
        [ref[1:]],
        known_trees=cache.packed_trees(ref.namespace),
        allow_truncation=allow_truncation,
        refresh=expiry.ttl if expiry.refresh_on_read else 0,
    )
    found = yield from ask(call)
    if found.runs:
        yield from context.runs.renew(ref.thread_id, found.runs, found.lifetime)
    reply = _learn(context, ref.thread_id, cache, found)
    return (reply.found(found.rows[0]) if found.rows else None), found.truncated, reply


def _learn(
    context: Context, thread_id: str, cache: ThreadCache, found: calls.Found | calls.Walked | None
) -> ThreadReader:
    """Remember the chunks that came with a script's reply; return what to read it with."""
    if found:
        chunks = parse_chunks(found.digests, found.groups)
        context.caches.learn(thread_id, cache, chunks)
    return ThreadReader(
        context.reading_serde, thread_id, context.keys(thread_id), cache, context.caches
    )


def _fetch(
    context: Context, reply: ThreadReader, wanted: dict[int, dict[bytes, None]]
) -> Operation[bool]:
    """Ask for what is not known of chunks and all below them; return whether it is there."""
    cache, chunks = reply.cache, reply.keys.chunks
    is_there = True
    for level in range(max(wanted, default=-1), -1, -1):
        new = [one for one in wanted.get(level, ()) if one not in cache.chunks]
        parts = [new[start : start + FETCHED] for start in range(0, len(new), FETCHED)]
        if parts:
            groups = yield Commands(tuple(("HMGET", chunks, *part) for part in parts))
            context.caches.learn(reply.thread_id, cache, parse_chunks(new, groups))
            is_there = is_there and cache.chunks.keys() >= {*new}
        if level:
            below = wanted.setdefault(level - 1, {})
            below.update(list_children(wanted.get(level, ()), cache.chunks))
    return is_there


# Listings


def read_page(context: Context, thread_id: str, cursor: Cursor) -> Operation[Page]:
    """Read the next checkpoints of a listing: their rows, then what is new of their values."""
    rows = yield from read_rows(context, thread_id, cursor, whole=not cursor.filter)
    cache = cursor.cache or context.caches.of(thread_id)
    reply = _learn(context, thread_id, cache, None)
    page = [reply.found(row) for row in rows.rows]
    if cursor.filter:
        wanted = [one for one in page if _matches(context, one.record, thread_id, cursor)]
    else:
        wanted = [one for one in page if cursor.wants(one.record)]
    chosen, listed = reply.up_to(MUCH, wanted[: cursor.left]), page
    if len(chosen) < len(wanted):  # the next page begins behind the last one of these
        listed = page[: page.index(chosen[-1]) + 1]
    tuples: Iterator[CheckpointTuple]
    if cursor.filter:
        rows_only = [one.record for one in chosen]
        tuples = yield from _read_whole(context, thread_id, cache, rows_only, allow_truncation=True)
    else:
        tuples = yield from _fill(context, reply, chosen)
        _learn_listed(context, reply, chosen)
    if cache.size > KEPT:
        cache = ThreadCache()  # the pieces of all that was listed would be in memory in the end
    records = [found.record for found in listed]
    return Page(tuples, cursor.moved(rows, records, len(chosen), cache))


def read_rows(context: Context, thread_id: str, cursor: Cursor, *, whole: bool) -> Operation[Rows]:
    """Read the rows of the next checkpoints, with their writes if they are to be `whole`."""
    group, end = cursor.group()
    call = calls.list_rows(
        context.keys(thread_id),
        namespaces=pack(group) if group else b"",
        after=cursor.after,
        end=end,
        count=PAGE if cursor.left is None or not whole else min(PAGE, cursor.left),
        whole=whole,
        takes_all=cursor.takes_all,
    )
    found = yield from ask(call)
    if found.more < 0:
        all_heads = yield from _read_heads(context, thread_id)
        cursor = cursor._replace(heads=all_heads)
        return (yield from read_rows(context, thread_id, cursor, whole=whole))
    others = cursor.heads
    if others is not None:
        asked = {*group}
        others = {name: id_ for name, id_ in others.items() if name not in asked}
    heads = dict(zip(found.heads[::2], found.heads[1::2], strict=True))
    return Rows(found.rows, bool(found.more), heads, others)


def _read_heads(context: Context, thread_id: str) -> Operation[dict[bytes, bytes]]:
    """Read which checkpoint is the newest of each namespace."""
    heads: dict[bytes, bytes] = {}
    start = b"-"
    while start:
        start, found, _ = yield from ask(calls.namespaces(context.keys(thread_id), start=start))
        heads.update({namespace.name: namespace.newest for namespace in found})
    return heads


def _fill(
    context: Context, reply: ThreadReader, page: Sequence[FoundCheckpoint]
) -> Operation[Iterator[CheckpointTuple]]:
    """Fetch the chunks that are new of some checkpoints, and return these.

    The chunks are fetched by commands, level by level, since a script takes far longer for them. So
    a checkpoint may be removed in between: one that lacks something is read again in one call.
    """
    if (yield from _fetch(context, reply, reply.digests(page))):
        return map(reply.checkpoint_tuple, page)
    tuples: list[Iterator[CheckpointTuple]] = []
    for one in page:
        if reply.lacks(one):
            again = _read_whole(
                context, reply.thread_id, reply.cache, [one.record], allow_truncation=False
            )
            tuples.append((yield from again))
        else:
            tuples.append(map(reply.checkpoint_tuple, [one]))
    return chain.from_iterable(tuples)


def _read_whole(
    context: Context,
    thread_id: str,
    cache: ThreadCache,
    records: Sequence[CheckpointRow],
    *,
    allow_truncation: bool,
) -> Operation[Iterator[CheckpointTuple]]:
    """Read checkpoints again whose rows came without values, or lacked something."""
    found: list[Iterator[CheckpointTuple]] = []
    while records:
        call = calls.get(
            context.keys(thread_id),
            [record.place for record in records],
            known_trees=cache.packed_trees(records[0].namespace),
            allow_truncation=allow_truncation,
        )
        answer = yield from ask(call)
        reply = _learn(context, thread_id, cache, answer)
        page = [reply.found(row) for row in answer.rows]
        if allow_truncation:
            found.append((yield from _fill(context, reply, page)))
        else:
            found.append(map(reply.checkpoint_tuple, page))
        records = records[answer.done :]
    return chain.from_iterable(found)


def _learn_listed(context: Context, reply: ThreadReader, page: Sequence[FoundCheckpoint]) -> None:
    """Remember where the newest of some checkpoints are, which came with their writes."""
    newest: dict[str, str] = {}
    for namespace, checkpoint_id in (found.record.place for found in page):
        newest.setdefault(namespace, checkpoint_id)
    for namespace, checkpoint_id in newest.items():
        context.caches.learn_before(reply.thread_id, reply.cache, namespace, checkpoint_id)


def _matches(context: Context, record: CheckpointRow, thread_id: str, cursor: Cursor) -> bool:
    """Return whether a checkpoint has the metadata that a listing asks for."""
    with CorruptionContext(thread_id, context.keys(thread_id).timeline, record.place):
        metadata = record.metadata(context.reading_serde, thread_id)
    return cursor.wants(record) and all(
        metadata.get(name) == value for name, value in cursor.filter.items()
    )


# Delta channels


def get_delta_channel_history(
    context: Context, config: RunnableConfig, channels: Sequence[str]
) -> Operation[dict[str, DeltaChannelHistory]]:
    """Read what channels wrote since their last stored value, on the way to a checkpoint."""
    ref = parse_ref(config)
    histories = {channel: History() for channel in check_texts("channels", channels)}
    cache = context.caches.of(ref.thread_id)
    start: Argument = ref.checkpoint_id
    is_start, visited = True, set[Argument]()
    rebuilt: set[str] = set()  # channels that the checkpoint needs older ancestors for
    known_before = cache.before.get(ref.namespace, "")
    while searched := [name for name, history in histories.items() if not history.seeded]:
        call = calls.history(
            context.keys(ref.thread_id),
            namespace=ref.namespace,
            checkpoint_id=start,
            is_start=is_start,
            count=ANCESTORS,
            known_trees=cache.packed_trees(ref.namespace),
            known_before=known_before,
            channels=searched,
        )
        walked = yield from ask(call)
        reply = _learn(context, ref.thread_id, cache, walked)
        ancestors = [reply.ancestor(writes, seeds, searched) for writes, seeds in walked.ancestors]
        # Another process may have written to those ancestors. If the chunks are not there, the
        # thread has changed since the call, or is damaged: one call sees it as it is.
        if known_before and not (yield from _fetch(context, reply, reply.digests_of(ancestors))):
            known_before = ""
            continue
        for ancestor in ancestors:
            add_ancestor(histories, reply, ref, ancestor)
        with CorruptionContext(ref.thread_id, reply.keys.timeline, ref[1:]):
            rebuilt.update(_decode_sorted(walked.delta))
            rebuilt.difference_update(_decode_sorted(walked.begun))
            gone_id = walked.gone.decode()
        is_short = any(not histories[name].seeded for name in rebuilt & {*searched})
        if gone_id and (is_short or gone_id == ref.checkpoint_id):
            raise MissingAncestorError(*ref, reply.keys.timeline.decode(), gone_id)
        if not walked.next_id or walked.next_id in visited:  # the beginning, or a loop
            break
        visited.add(walked.next_id)
        start, is_start = walked.next_id, False
    context.caches.learn_before(ref.thread_id, cache, ref.namespace, ref.checkpoint_id)
    return {channel: history.result() for channel, history in histories.items()}


def _decode_sorted(names: Iterable[bytes]) -> list[str]:
    return sorted(name.decode() for name in names)
