"""Listings of checkpoints: what is asked for, and how far one has come."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointTuple

from langgraph_checkpoint_redis._protocol.resp import Argument
from langgraph_checkpoint_redis._scripts.calls import Row
from langgraph_checkpoint_redis._storage.records import CheckpointRow

from .arguments import check_filter, check_limit, parse_before, parse_scope
from .cache import ThreadCache

TOGETHER = 50  # namespaces whose rows one call brings into order
LAST = b"\xff"  # sorts behind all ids and namespaces, which are UTF-8


class Cursor(NamedTuple):
    """How far a listing of one thread has come.

    `namespace` is `None` for all, `only_id` empty for all; `left` is how many checkpoints the
    listing may still give, `None` for any number. `after` is where the page before ended, a
    checkpoint id and a namespace; its chunks are in the `cache`. Of many namespaces, `heads` has
    where each goes on. With `takes_all` it has the checkpoints that were cut off as well.
    """

    namespace: str | None
    only_id: str
    filter: Mapping[str, Any]
    left: int | None
    after: tuple[Argument, Argument]
    more: bool
    cache: ThreadCache | None = None
    heads: Mapping[bytes, bytes] | None = None
    takes_all: bool = False

    def wants(self, record: CheckpointRow) -> bool:
        """Return whether a checkpoint has the id that was asked for."""
        return self.only_id in ("", record.checkpoint_id)

    def with_one_less(self) -> Cursor:
        """Return the cursor for the next thread, after one more checkpoint was returned."""
        left = None if self.left is None else self.left - 1
        return self._replace(left=left, more=left != 0)

    def group(self) -> tuple[list[bytes], tuple[bytes, bytes]]:
        """Return the namespaces to ask for, and where the next one starts."""
        if self.namespace is not None:
            return [self.namespace.encode()], (b"", b"")
        ordered = sorted((self.heads or {}).items())
        ordered.sort(key=lambda head: head[1], reverse=True)
        others = ordered[TOGETHER:]
        return [name for name, _ in ordered[:TOGETHER]], others[0][::-1] if others else (b"", b"")

    def moved(
        self,
        rows: Rows,
        records: Sequence[CheckpointRow],
        taken: int,
        cache: ThreadCache | None = None,
    ) -> Cursor:
        """Return the cursor after these checkpoints of a page, `taken` of which were returned."""
        heads = rows.heads_behind(len(records))
        more = bool(heads) or rows.more or len(records) < len(rows.rows)
        left = None if self.left is None else self.left - taken
        moved = self._replace(left=left, more=more and left != 0, cache=cache, heads=heads)
        if not records:
            return moved
        last = records[-1]
        return moved._replace(
            after=(last.checkpoint_id, last.namespace), more=moved.more and self.wants(last)
        )


class Rows(NamedTuple):
    """The rows of a page, as list.lua returns them, and where the namespaces of it go on.

    `others` has where all other namespaces go on; it is `None` if there are none.
    """

    rows: Sequence[Row]
    more: bool
    heads: Mapping[bytes, bytes]
    others: Mapping[bytes, bytes] | None

    def heads_behind(self, count: int) -> Mapping[bytes, bytes] | None:
        """Return where each namespace goes on after so many rows; None if one call covers all."""
        if self.others is None:
            return None
        heads = {**self.others, **self.heads}
        for row, *_ in reversed(self.rows[count:]):
            name, id_, _ = row.split(b"\0", 2)
            heads[name] = id_
        return heads


def make_cursor(
    config: RunnableConfig | None,
    filter: Mapping[str, Any] | None,
    before: Mapping[str, Any] | None,
    limit: int | None,
) -> Cursor:
    """The beginning of a listing, in any thread."""
    namespace, only_id = parse_scope(config)
    start = parse_before(before)
    if only_id and not (start and start <= only_id):
        start = only_id + "\1"  # right behind that id
    left = check_limit(limit)
    begin = Cursor(namespace, only_id, check_filter(filter), left, (start or LAST, LAST), left != 0)
    # By its id, a checkpoint is found for as long as it is there. So is what a subgraph knew before
    # a checkpoint of the root graph: LangGraph asks for it in this way when it replays that one.
    is_replay = bool(namespace and start) and left == 1
    return begin._replace(takes_all=bool(only_id) or is_replay)


class Page(NamedTuple):
    """Checkpoints, decoded one by one as they are taken, and where to go on."""

    tuples: Iterator[CheckpointTuple]
    cursor: Cursor
