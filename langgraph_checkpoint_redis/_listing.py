"""Listings of checkpoints: what is asked for, and how far one has come."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointTuple

from . import _config
from ._chunks import pack_ropes
from ._codec import Record
from ._known import Known
from ._resp import Argument

LAST = b"\xff"  # sorts behind all ids and namespaces, which are UTF-8


class Cursor(NamedTuple):
    """How far a listing of one thread has come.

    `namespace` is `None` for all, `only_id` empty for all; `left` is how many checkpoints the
    listing may still give, `None` for any number. `after` is where the page before ended, a
    checkpoint id and a namespace; its chunks are `known`, with the `ropes` of its last checkpoint.
    """

    namespace: str | None
    only_id: str
    filter: Mapping[str, Any]
    left: int | None
    after: tuple[Argument, Argument]
    more: bool
    known: Known | None = None
    ropes: bytes = b""

    def wants(self, record: Record) -> bool:
        """Whether a checkpoint has the id that was asked for."""
        return self.only_id in ("", record.checkpoint_id)

    def with_one_less(self) -> Cursor:
        """For the next thread, when one more checkpoint was given."""
        left = None if self.left is None else self.left - 1
        return self._replace(left=left, more=left != 0)

    def moved(self, records: Sequence[Record], taken: int, known: Known, *, more: bool) -> Cursor:
        """Behind a page of these checkpoints, of which so many were taken."""
        if not records:
            return self._replace(more=False)
        last = records[-1]
        left = None if self.left is None else self.left - taken
        return self._replace(
            left=left,
            after=(last.checkpoint_id, last.namespace),
            more=more and left != 0 and self.wants(last),
            known=known,
            ropes=pack_ropes([entry[3:] for _, entry in last.entries()]),
        )


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
    return Cursor(
        namespace, only_id, _config.filters(filter), left, (start or LAST, LAST), left != 0
    )


class Page(NamedTuple):
    """Checkpoints, decoded one by one as they are taken, and where to go on."""

    tuples: Iterator[CheckpointTuple]
    cursor: Cursor
