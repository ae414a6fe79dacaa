"""Every script as a function: what it is called with, and what it answers.

In Python, nothing else knows the order of a script's arguments or of its reply. A function here
returns a `Call`, which nobody has sent yet; the header of its Lua file says what it does.
Operations send it and get its reply:

    reply = yield from ask(calls.get(keys, refs, known_trees=b"", allow_truncation=True))
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any, NamedTuple

from langgraph_checkpoint_redis._protocol.confirm import Confirm
from langgraph_checkpoint_redis._protocol.requests import Call, Script, as_it_is
from langgraph_checkpoint_redis._protocol.resp import Argument
from langgraph_checkpoint_redis._storage.keys import ThreadKeys

from . import load
from .transactions import are_large

Args = tuple[Argument, ...]

# What writes have in common


class Terms(NamedTuple):
    """On which terms a thread is written to.

    Attributes:
        token: The token of the caller's lease; empty for none.
        ttl: The milliseconds that the thread lives on; 0 if the caller does not say.
        own_ttl: The same for this thread from now on, whatever savers say; `None` if not given.
    """

    token: bytes
    ttl: int
    own_ttl: int | None

    @property
    def args(self) -> Args:
        """Return the terms as scripts take them."""
        return self.token, self.ttl, "" if self.own_ttl is None else self.own_ttl


class SentChunks(NamedTuple):
    """The chunks that a row refers to.

    Attributes:
        named: The digests of chunks that the server must have already, in one string.
        pairs: The digest and the stored content of each chunk that comes along.
    """

    named: bytes
    pairs: Sequence[Argument]

    @property
    def args(self) -> Args:
        """Return the chunks as scripts take them, behind all else."""
        return self.named, *self.pairs

    def first_behind(self, args: Args) -> int | None:
        """Return the number of the first chunk behind `args`, if the chunks are large.

        Then they go ahead of the script.
        """
        return len(args) + 1 if are_large(self.pairs) else None


# Checkpoints and writes


class Stored(NamedTuple):
    """A checkpoint was stored.

    Attributes:
        unused: The run with the token of the new entry in the index of runs, if the thread does
            not need it.
        runs: Runs whose entries have to be renewed, with their tokens.
        lifetime: For how many milliseconds they have to be.
        gone: Runs that have no checkpoint left, with the tokens of their entries.
    """

    unused: Sequence[bytes]
    runs: Sequence[bytes]
    lifetime: int
    gone: Sequence[bytes]


class WritesStored(NamedTuple):
    """The writes of a task were stored; `runs` and `lifetime` as in `Stored`."""

    runs: Sequence[bytes]
    lifetime: int


class ChunksMissing(NamedTuple):
    """Nothing was written.

    Attributes:
        digests: The chunks that the thread lacks, in one string.
        channels: The unchanged channels whose value it lacks.
    """

    digests: bytes
    channels: Sequence[bytes] = ()


class EntryNeeded(NamedTuple):
    """Nothing was written: the run needs a new entry in the index of runs.

    Attributes:
        lifetime: For how many milliseconds the entry has to stay.
    """

    lifetime: int


PutReply = Stored | ChunksMissing | EntryNeeded

_REGISTRATION = 9  # ARGV[10] of put.lua, counted from 0; it is empty in a call that is sent again


def put(
    keys: ThreadKeys,
    *,
    namespace: str,
    checkpoint_id: str,
    head: bytes,
    tail: bytes,
    keep_last: int | None,
    terms: Terms,
    refuses_conflict: bool,
    registration: str,
    chunks: SentChunks,
    confirm: Confirm | None,
) -> Call[PutReply]:
    """Store a checkpoint. `registration` is a new entry in the index of runs, or empty."""
    script = load.PUT_LAST if keep_last else load.PUT
    args = (
        *(namespace, checkpoint_id, head, tail, keep_last or 0),
        *(*terms.args, int(refuses_conflict), registration),
    )
    first = chunks.first_behind(args)
    return Call(script, keys, (*args, *chunks.args), _parse_put, confirm, _REGISTRATION, first)


def _parse_put(reply: Sequence[Any]) -> PutReply:
    outcome, *rest = reply
    if outcome == 1:
        return Stored(*rest)
    return ChunksMissing(*rest) if outcome == 0 else EntryNeeded(*rest)


def put_writes(
    keys: ThreadKeys,
    *,
    name: bytes,
    row: bytes,
    drops_late: bool,
    terms: Terms,
    chunks: SentChunks,
    confirm: Confirm | None,
) -> Call[WritesStored | ChunksMissing]:
    """Store the writes of a task, whose row has this name.

    `drops_late` is whether late writes to a checkpoint that was trimmed are dropped.
    """
    args = (name, row, int(drops_late), *terms.args)
    first, parse = chunks.first_behind(args), _parse_put_writes
    return Call(load.PUT_WRITES, keys, (*args, *chunks.args), parse, confirm, first_chunk=first)


def _parse_put_writes(reply: Sequence[Any]) -> WritesStored | ChunksMissing:
    outcome, *rest = reply
    return WritesStored(*rest) if outcome == 1 else ChunksMissing(*rest)


def put_chunks(keys: ThreadKeys, *, token: bytes, ttl: int, chunks: SentChunks) -> Call[bool]:
    """Store chunks ahead of their row; False if the row has to come with all of them.

    They expire after `ttl` milliseconds in a thread without rows.
    """
    return Call(load.PUT_CHUNKS, keys, (token, ttl, *chunks.args), bool)


# Reading


class Row(NamedTuple):
    """A row of the timeline, whether its parent is there, and the rows of writes to it."""

    row: bytes
    has_parent: int
    writes: Sequence[bytes]


class Found(NamedTuple):
    """Checkpoints and what they are made of.

    Attributes:
        done: How many were looked for before the reply was large enough.
        rows: A row of each; none where there is no such checkpoint.
        truncated: 1 if chunks were left out that the caller may not know.
        digests: The chunks that come along, in strings of digests.
        groups: The content of these chunks.
        runs: Runs whose entries in the index have to be renewed, with their tokens.
        lifetime: For how many milliseconds they have to be.
    """

    done: int
    rows: Sequence[Row]
    truncated: int
    digests: Sequence[bytes]
    groups: Sequence[Any]
    runs: Sequence[bytes] = ()
    lifetime: int = 0


def get(
    keys: ThreadKeys,
    places: Iterable[tuple[str, str]],
    *,
    known_trees: bytes,
    allow_truncation: bool,
    refresh: int = 0,
) -> Call[Found]:
    """Read checkpoints by namespace and id; an empty id is the latest.

    `known_trees` are trees whose chunks the caller knows. With `refresh`, in milliseconds, the
    thread lives on for as long.
    """
    wanted = chain.from_iterable(places)
    if refresh:
        args: Args = (known_trees, int(allow_truncation), refresh, *wanted)
        return Call(load.GET_AND_REFRESH, keys, args, _parse_found)
    return Call(load.GET, keys, (known_trees, int(allow_truncation), *wanted), _parse_found)


def _parse_found(reply: Sequence[Any]) -> Found:
    done, rows, *rest = reply
    return Found(done, [Row._make(row) for row in rows], *rest)


class Listed(NamedTuple):
    """A page of rows.

    Attributes:
        more: 1 when there are older checkpoints in these namespaces, -1 when there are too many
            namespaces to find them here.
        rows: The rows.
        heads: The namespaces that go on, each followed by the id of its next row.
    """

    more: int
    rows: Sequence[Row]
    heads: Sequence[bytes]


def list_rows(
    keys: ThreadKeys,
    *,
    namespaces: bytes,
    after: tuple[Argument, Argument],
    end: tuple[Argument, Argument],
    count: int,
    whole: bool,
    takes_all: bool,
) -> Call[Listed]:
    """Read a page of rows, newest first, with their writes if they are to be `whole`.

    `namespaces` is a packed list, empty for all. `after` is where the page before ended, `end`
    where other namespaces go on; each is a checkpoint id and a namespace. Only `takes_all` takes
    rows that were cut off, and older ones.
    """
    args = (namespaces, *after, *end, count, int(whole), int(takes_all))
    return Call(load.LIST, keys, args, _parse_listed)


def _parse_listed(reply: Sequence[Any]) -> Listed:
    more, rows, heads = reply
    return Listed(more, [Row._make(row) for row in rows], heads)


class Walked(NamedTuple):
    """Ancestors of a checkpoint.

    Attributes:
        ancestors: Of each, rows of writes, and a flat list of channels and packed entries.
        next_id: The checkpoint to go on with; empty at the end.
        gone: The id of a checkpoint that was looked for and is not there; or empty.
        delta: The delta channels that the checkpoint needs ancestors for.
        begun: The channels that were written first by one of these ancestors.
        digests: The chunks that come along, in strings of digests.
        groups: The content of these chunks.
    """

    ancestors: Sequence[tuple[Sequence[bytes], Sequence[bytes]]]
    next_id: bytes
    gone: bytes
    delta: Sequence[bytes]
    begun: Sequence[bytes]
    digests: Sequence[bytes]
    groups: Sequence[Any]


def history(
    keys: ThreadKeys,
    *,
    namespace: str,
    checkpoint_id: Argument,
    is_start: bool,
    count: int,
    known_trees: bytes,
    known_before: str,
    channels: Sequence[str],
) -> Call[Walked]:
    """Walk the ancestors of a checkpoint, from its parent on if `is_start`.

    The caller knows most chunks of ancestors before `known_before`, and asks for others itself.
    """
    args = (namespace, checkpoint_id, int(is_start), count, known_trees, known_before, *channels)
    return Call(load.HISTORY, keys, args, Walked._make)


# Removing


def delete(
    keys: ThreadKeys, *, token: bytes, tombstone: int, confirm: Confirm | None
) -> Call[Sequence[bytes]]:
    """Delete a thread, and refuse late writers for `tombstone` milliseconds.

    The reply has the runs of the thread, with the tokens of their entries.
    """
    return Call(load.DELETE, keys, (token, tombstone), as_it_is, confirm)


class Removed(NamedTuple):
    """How far a removal has come.

    Attributes:
        stage, position: Where to go on; an empty stage at the end. An empty position means that
            the removal has to begin again.
        gone: The runs that have no checkpoint left, with the tokens of their entries.
    """

    stage: bytes
    position: bytes
    gone: Sequence[bytes]


class Removal(NamedTuple):
    """A removal of checkpoints, which may take several calls."""

    script: Script
    what: tuple[Argument, ...]

    def step(
        self,
        keys: ThreadKeys,
        *,
        removal_token: str,
        stage: bytes,
        position: bytes,
        token: bytes,
        confirm: Confirm | None,
    ) -> Call[Removed]:
        """Remove some checkpoints. `token` is of the caller's lease, the other of this removal."""
        args = (removal_token, stage, position, token, *self.what)
        return Call(self.script, keys, args, Removed._make, confirm)


def delete_runs(run_ids: Sequence[str]) -> Removal:
    """Remove the checkpoints of runs; of none, free the chunks that nothing refers to."""
    return Removal(load.DELETE_RUNS, tuple(run_ids))


def prune(keep: int) -> Removal:
    """Remove all but so many checkpoints of each namespace, and what reading them needs."""
    return Removal(load.PRUNE, (keep,))


class Deleted(NamedTuple):
    """Whether a thread was deleted, and its runs with the tokens of their entries."""

    is_deleted: int
    runs: Sequence[bytes]


def delete_unused(
    keys: ThreadKeys, *, watched_by: Argument, confirm: Confirm | None
) -> Call[Deleted]:
    """Delete a thread unless it was used since it is watched, is pinned or has a lease."""
    return Call(load.DELETE_UNUSED, keys, (watched_by,), Deleted._make, confirm)


# Copying


class CopyEntry(NamedTuple):
    """New entries in the index of runs that lead to a copy: their token, their score, the runs."""

    token: str
    score: int
    runs: Sequence[str]


def copy(
    source: ThreadKeys,
    target: ThreadKeys,
    copy_mark: bytes,
    *,
    mark: bytes,
    mark_span: int,
    token: bytes,
    entry: CopyEntry,
    confirm: Confirm | None,
) -> Call[bytes]:
    """Copy a small thread. The mark of this copy lasts for `mark_span` milliseconds.

    The reply is `COPIED`, or says why not.
    """
    keys = (*target, copy_mark, *source[:4], source.control)
    args: Args = (mark, mark_span, token, entry.token, entry.score, *entry.runs)
    return Call(load.COPY, keys, args, as_it_is, confirm)


class Dumped(NamedTuple):
    """A part of a thread.

    Attributes:
        token: The token to read on with; empty if the thread has changed or has lost a key.
        stage, position: Where to go on; an empty stage at the end. The lost key, without a token.
        parts: The rows, or fields and values, of the first four keys.
        sizes: At the end, the number of members of each key.
        ttl, deadline: At the end, how long the thread lives, as control.lua has it.
    """

    token: bytes
    stage: bytes
    position: bytes
    parts: Sequence[Sequence[bytes]]
    sizes: Sequence[int]
    ttl: bytes
    deadline: bytes


def dump(keys: ThreadKeys, *, token: bytes, stage: bytes, position: bytes) -> Call[Dumped]:
    """Read a part of a thread as it is stored."""
    return Call(load.DUMP, keys, (token, stage, position), _parse_dumped)


def _parse_dumped(reply: Sequence[Any]) -> Dumped:
    token, stage, position, *parts, sizes, ttl, deadline = reply
    return Dumped(token, stage, position, parts, sizes, ttl, deadline)


def restore(
    target: ThreadKeys,
    copy_mark: bytes,
    staged: Sequence[bytes],
    *,
    mark: bytes,
    mark_span: int,
    token: bytes,
    entry: CopyEntry,
    dumped: Dumped,
    confirm: Confirm | None,
) -> Call[bytes]:
    """Write a part of a copy to keys of its own; the last part makes all of it a thread."""
    is_last = not dumped.stage
    some: list[Sequence[Argument]] = [*dumped.parts, entry.runs if is_last else []]
    sizes: Sequence[Argument] = dumped.sizes or [""] * 4
    args: Args = (
        *(mark, mark_span, token, entry.token, entry.score),
        *sizes,
        *(dumped.ttl, dumped.deadline, *map(len, some), *chain.from_iterable(some)),
    )
    keys = (*target, copy_mark, *staged)
    return Call(load.RESTORE, keys, args, as_it_is, confirm if is_last else None)


# The index of runs


def index(
    key: bytes, *, lifetime: int, entries: Sequence[bytes], confirm: Confirm | None = None
) -> Call[int]:
    """Make entries that stay for `lifetime` milliseconds at least, 0 for ever; their score."""
    return Call(load.INDEX, (key,), (lifetime, *entries), int, confirm)


class Indexed(NamedTuple):
    """What a thread says of entries that were renewed.

    Attributes:
        superseded: Runs with the tokens of entries that are not needed any more.
        runs: Runs whose entries have to be renewed once more.
        lifetime: For how many milliseconds they have to be.
    """

    superseded: Sequence[bytes]
    runs: Sequence[bytes]
    lifetime: int


def indexed(
    keys: ThreadKeys, *, score: int, token: str, span: int, runs: Sequence[str]
) -> Call[Indexed]:
    """Note that entries of runs stay until `score`, for a time to live of `span` milliseconds."""
    args: Args = (score, token, span, *runs)
    return Call(load.INDEXED, keys, args, Indexed._make)


def tidy(key: bytes) -> Call[int]:
    """Remove the expired entries of a run, and let the key expire with the last one."""
    return Call(load.TIDY, (key,), (), int)


def stale(key: bytes, *, thread_id: str, age: int) -> Call[Sequence[bytes]]:
    """Find the entries of a thread that never end and are older than `age` milliseconds."""
    return Call(load.STALE, (key,), (thread_id, age), as_it_is)


def unheld(keys: ThreadKeys, runs: Sequence[str]) -> Call[Sequence[bytes]]:
    """Return those of some runs' tokens that a thread does not know of."""
    return Call(load.UNHELD, keys, tuple(runs), as_it_is)


def forget_runs(keys: ThreadKeys, runs: Sequence[str]) -> Call[int]:
    """Forget tokens of runs whose entries are gone from the index."""
    return Call(load.FORGET_RUNS, keys, tuple(runs), int)


class ThreadRuns(NamedTuple):
    """The runs of a thread.

    Attributes:
        here: The runs that have checkpoints, with the tokens of their entries.
        gone: The same of runs that have none left.
        span: The milliseconds that the thread lives on when it is used; 0 for ever.
        time: The time of the server, in milliseconds.
    """

    here: Sequence[bytes]
    gone: Sequence[bytes]
    span: int
    time: int


def runs_of(keys: ThreadKeys) -> Call[ThreadRuns]:
    """Read which runs have checkpoints in a thread."""
    return Call(load.RUNS, keys, (), ThreadRuns._make)


# Expiry and leases


class ExpirySet(NamedTuple):
    """Whether the time to live of a thread was set.

    Attributes:
        found: 0 when there is no thread; 2 when nothing was done, since the entries of `runs` may
            end before the thread; else 1.
        runs: Runs whose entries have to be renewed, with their tokens.
        lifetime: For how many milliseconds they have to be.
    """

    found: int
    runs: Sequence[bytes]
    lifetime: int


def set_expiry(
    keys: ThreadKeys,
    *,
    token: bytes,
    own_ttl: int | None,
    ttl: int,
    lasting_runs: Sequence[str],
    confirm: Confirm | None,
) -> Call[ExpirySet]:
    """Set how long a thread lives after its last use: 0 for ever, `None` as savers say (`ttl`)."""
    args = (token, "" if own_ttl is None else own_ttl, ttl, *lasting_runs)
    return Call(load.SET_LIFE, keys, args, ExpirySet._make, confirm)


def take_lease(keys: ThreadKeys, *, token: bytes, span: int, confirm: Confirm | None) -> Call[bool]:
    """Take a lease for `span` milliseconds; False when another has it."""
    return Call(load.LEASE, keys, (token, span, 1), bool, confirm)


def renew_lease(
    keys: ThreadKeys, *, token: bytes, span: int, confirm: Confirm | None
) -> Call[bool]:
    """Let a lease last `span` milliseconds from now; False when it has ended."""
    return Call(load.LEASE, keys, (token, span, 0), bool, confirm)


def give_back_lease(keys: ThreadKeys, *, token: bytes) -> Call[bool]:
    """End a lease."""
    return Call(load.LEASE, keys, (token, 0, 0), bool)


# Looking at threads


class Namespace(NamedTuple):
    """A namespace of a thread: how many checkpoints, and the oldest and the newest id."""

    name: bytes
    checkpoints: int
    oldest: bytes
    newest: bytes


class Namespaces(NamedTuple):
    """Some namespaces of a thread.

    Attributes:
        start: Where to go on; empty at the end.
        namespaces: The namespaces.
        watched_by: The token that `delete_unused` asks for; or empty.
    """

    start: bytes
    namespaces: Sequence[Namespace]
    watched_by: bytes


def namespaces(
    keys: ThreadKeys, *, start: bytes = b"-", watch: Argument = "", newest: Argument = ""
) -> Call[Namespaces]:
    """Read some namespaces of a thread, and watch it by a random token, if one is given.

    A thread that seems to have a newer checkpoint than `newest` is not watched.
    """
    return Call(load.NAMESPACES, keys, (start, watch, newest), _parse_namespaces)


def _parse_namespaces(reply: Sequence[Any]) -> Namespaces:
    start, found, watched_by = reply
    return Namespaces(start, [Namespace._make(one) for one in found], watched_by)


class Facts(NamedTuple):
    """What the last call says of a whole thread; -1 is what is not known, or not there.

    Attributes:
        exists: Whether there is such a thread.
        runs: How many runs it has.
        sizes: The bytes of each key.
        pinned: Whether it never expires, whatever savers say.
        ttl, lease: The milliseconds until it expires, and until its lease ends.
    """

    exists: int
    runs: int
    sizes: Sequence[int]
    pinned: int
    ttl: int
    lease: int


class Info(NamedTuple):
    """A part of what is stored of a thread.

    Attributes:
        stage, position: Where to go on; an empty stage at the end.
        namespaces: The namespaces that this call came by.
        writes: How many writes it came by.
        whole: The bytes that values would take, each version stored by itself.
        facts: At the end, what is so of the whole thread.
    """

    stage: bytes
    position: bytes
    namespaces: Sequence[Namespace]
    writes: int
    whole: int
    facts: Facts | None


def info(keys: ThreadKeys, *, stage: bytes, position: bytes, rows: int) -> Call[Info]:
    """Sum up a part of a thread; this call visits so many rows at most."""
    return Call(load.INFO, keys, (stage, position, rows), _parse_info)


def _parse_info(reply: Sequence[Any]) -> Info:
    stage, position, found, writes, whole, facts = reply
    names = [Namespace._make(one) for one in found]
    return Info(stage, position, names, writes, whole, Facts(*facts) if facts else None)


class Scanned(NamedTuple):
    """A part of all that is stored of a thread.

    Attributes:
        items: The names of chunks, or rows.
        stage, position: Where to go on; an empty stage at the end.
        facts: At the beginning and at the end of the timeline: a state, runs each followed by its
            number of checkpoints, and the time in seconds; else empty.
        lost: At the end, the names of keys that are gone.
    """

    items: Sequence[bytes]
    stage: bytes
    position: bytes
    facts: Sequence[Any]
    lost: Sequence[bytes]


def scan(keys: ThreadKeys, *, stage: bytes, position: bytes) -> Call[Scanned]:
    """Read a part of a thread; at first stage `chunks` at `0`, or `timeline` at the beginning."""
    return Call(load.SCAN, keys, (stage, position), Scanned._make)


class Flaw(NamedTuple):
    """Something in a thread that seems to be of no use, as drop.lua is told of it.

    Attributes:
        kind: 1 for a row of the timeline, 2 for one of the writes, 3 for a lost key.
        what: The row, or the name of the key.
        why: Why it is of no use.
    """

    kind: int
    what: bytes
    why: bytes

    @classmethod
    def of_row(cls, row: bytes, why: bytes, *, is_checkpoint: bool) -> Flaw:
        """Return that a row of the timeline, or of the writes, is of no use."""
        return cls(1 if is_checkpoint else 2, row, why)

    @classmethod
    def of_key(cls, name: bytes) -> Flaw:
        """Return that a key is lost."""
        return cls(3, name, b"")


def drop(
    keys: ThreadKeys,
    flaws: Sequence[Flaw],
    *,
    token: bytes,
    is_mending: bool,
    confirm: Confirm | None,
) -> Call[Sequence[int]]:
    """Say of each flaw whether it is so, and remove it if `is_mending`."""
    told: Iterable[Sequence[Argument]] = flaws
    args: Args = (token, int(is_mending), *chain.from_iterable(told))
    return Call(load.DROP, keys, args, as_it_is, confirm if is_mending else None)


def watch_lost(keys: ThreadKeys, *, token: bytes, watch: bytes) -> Call[bytes]:
    """Watch a thread that is marked to have lost chunks; the token, or empty for others."""
    return Call(load.TRUST, keys, (token, 0, watch), as_it_is)


def take_back_lost(
    keys: ThreadKeys, *, token: bytes, watched_by: bytes, confirm: Confirm | None
) -> Call[bool]:
    """Take back that mark, unless the thread may have changed since it is watched."""
    return Call(load.TRUST, keys, (token, 1, watched_by), bool, confirm)


class RunCount(NamedTuple):
    """The number of checkpoints of a run: as stored, `None` for none, and as counted."""

    run: bytes
    stored: int | None
    counted: int


def recount(
    keys: ThreadKeys, counts: Sequence[RunCount], *, token: bytes, state: bytes
) -> Call[bool]:
    """Correct numbers of checkpoints, if the thread is still in the state of the count."""
    args: list[Argument] = [token, state]
    for run, stored, counted in counts:
        args += run, "" if stored is None else stored, counted
    return Call(load.RECOUNT, keys, tuple(args), bool)


def rewrite(
    keys: ThreadKeys,
    *,
    token: bytes,
    is_checkpoint: bool,
    row: bytes,
    content: bytes,
    chunks: SentChunks,
    confirm: Confirm | None,
) -> Call[int]:
    """Replace a row of the timeline or of the writes; `content` is without a checksum.

    The reply is 1; -1 when the row is gone; 0 when something is missing that it would refer to.
    """
    args = (token, 1 if is_checkpoint else 2, row, content, *chunks.args)
    return Call(load.REWRITE, keys, args, int, confirm)


class ServerFacts(NamedTuple):
    """Sections of INFO, empty where the server does not tell."""

    server: bytes
    memory: bytes
    persistence: bytes
    replication: bytes


def check() -> Call[ServerFacts]:
    """Show that scripts run, and read what the server says of itself."""
    return Call(load.CHECK, (), (), ServerFacts._make)
