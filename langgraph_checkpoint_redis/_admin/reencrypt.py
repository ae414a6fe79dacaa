"""Encrypt a thread again: with a newer key, or a thread that was stored without encryption.

Values are decrypted and encrypted, and never deserialized, so no type has to be known. Each row is
replaced by one script, so this may run next to the traffic.
"""

from __future__ import annotations

from collections.abc import Iterable

from langgraph.checkpoint.serde.encrypted import EncryptedSerializer

from langgraph_checkpoint_redis._core.cache import ThreadCache
from langgraph_checkpoint_redis._core.context import Context
from langgraph_checkpoint_redis._core.new_chunks import NewChunks, name_chunks
from langgraph_checkpoint_redis._core.removing import free_unused_chunks
from langgraph_checkpoint_redis._protocol.requests import Commands, Operation, ask
from langgraph_checkpoint_redis._scripts import calls
from langgraph_checkpoint_redis._storage.checks import check_id
from langgraph_checkpoint_redis._storage.corruption import CorruptionContext
from langgraph_checkpoint_redis._storage.encryption import PlaintextFound, reencrypt
from langgraph_checkpoint_redis._storage.records import list_entries, name_row, replace_values
from langgraph_checkpoint_redis._storage.tree import Chunks
from langgraph_checkpoint_redis._storage.values import (
    Entry,
    Value,
    cut_value,
    list_by_level,
    list_children,
    load_entry,
    parse_chunks,
)
from langgraph_checkpoint_redis.errors import ConfigError

AT_A_TIME = 100  # chunks that one call is asked for


def reencrypt_thread(context: Context, thread_id: str) -> Operation[None]:
    """Encrypt all of a thread with the key that is used now."""
    thread_id = check_id("thread_id", thread_id)
    if not isinstance(context.serde, EncryptedSerializer):
        raise ConfigError(
            f"serde must be an EncryptedSerializer, not {type(context.serde).__name__}"
        )
    rewriting = _Rewriting(context, thread_id, context.serde)
    while (yield from rewriting.replace_rows()):
        pass  # a row that replaced another meanwhile may stand where we have been
    yield from free_unused_chunks(context, thread_id)


class _Rewriting:
    """The rows of one thread, replaced one by one."""

    def __init__(self, context: Context, thread_id: str, serde: EncryptedSerializer) -> None:
        self._context, self._thread_id, self._serde = context, thread_id, serde
        self._keys = context.keys(thread_id)
        self._renewed: dict[Entry, Entry] = {}  # by the old one, so that rows still share values
        self._done: set[bytes] = set()

    def replace_rows(self) -> Operation[bool]:
        """Replace the rows that are not done; return whether another client replaced one."""
        missed = False
        stage, position = b"timeline", b""
        while stage:
            call = calls.scan(self._keys, stage=stage, position=position)
            scanned = yield from ask(call)
            for row in scanned.items:
                is_done = yield from self._replace(row, is_checkpoint=stage == b"timeline")
                missed = missed or not is_done
            stage, position = scanned.stage, scanned.position
        return missed

    def _replace(self, row: bytes, *, is_checkpoint: bool) -> Operation[bool]:
        """Replace a row, unless it is done or gone; return whether it is done.

        The row that replaced it may come later in the scan.
        """
        key = self._keys.timeline if is_checkpoint else self._keys.writes
        with CorruptionContext(self._thread_id, key, row):
            name = name_row(row, is_checkpoint=is_checkpoint)
            entries = list_entries(row, is_checkpoint=is_checkpoint)
        if name in self._done:
            return True
        stored_chunks = yield from self._fetch(entries)
        stored = 0
        while not stored:  # chunks shared with earlier rows may be gone with them: send them again
            with CorruptionContext(self._thread_id, key, row):
                values = self._renew(entries, stored_chunks)
                content = replace_values(
                    row, self._renewed.__getitem__, self._encrypt, is_checkpoint=is_checkpoint
                )
            call = calls.rewrite(
                self._keys,
                token=self._context.state.token(self._thread_id),
                is_checkpoint=is_checkpoint,
                row=row,
                content=content,
                chunks=self._name_chunks(entries, values),
                confirm=self._context.options.confirm,
            )
            stored = yield from ask(call)
            if not stored:
                self._renewed.clear()
        if stored > 0:
            self._done.add(name)
        return stored > 0

    def _encrypt(self, typed: tuple[str, bytes]) -> tuple[str, bytes]:
        """Encrypt serialized data again."""
        if "+" not in typed[0] and not self._context.options.allow_plaintext:
            raise PlaintextFound("is not encrypted, though the serializer encrypts")
        return reencrypt(self._serde, typed)

    def _renew(self, entries: Iterable[Entry], chunks: Chunks) -> list[Value]:
        """Encrypt the values again that no earlier row had, and return them."""
        values: list[Value] = []
        for entry in entries:
            if entry not in self._renewed:
                typed, _ = load_entry(entry, chunks)
                type_, data = self._encrypt(typed)
                value = Value(type_, cut_value(type_, data, None, {}))
                values.append(value)
                self._renewed[entry] = value.entry
        return values

    def _name_chunks(self, entries: Iterable[Entry], values: list[Value]) -> calls.SentChunks:
        """Return all chunks of new values, and the names of those of values that rows share."""
        nodes: dict[bytes, bytes] = {}
        pieces: dict[bytes, bytes] = {}
        for value in values:
            nodes |= value.cut.nodes
            pieces |= value.cut.pieces
        levels = [level for entry in entries for level in self._renewed[entry].levels]
        compression = self._context.options.compression
        return name_chunks(values, NewChunks(nodes, pieces), ThreadCache(), compression, levels)

    def _fetch(self, entries: Iterable[Entry]) -> Operation[dict[bytes, bytes]]:
        """Return the chunks of values; without those that are missing or cannot be read."""
        wanted = list_by_level(entries)
        found: dict[bytes, bytes] = {}
        for level in range(max(wanted, default=-1), -1, -1):
            new = [*wanted.get(level, {})]
            for start in range(0, len(new), AT_A_TIME):
                digests = new[start : start + AT_A_TIME]
                groups = yield Commands((("HMGET", self._keys.chunks, *digests),))
                found.update(parse_chunks([b"".join(digests)], groups))
            if level:
                wanted.setdefault(level - 1, {}).update(list_children(new, found))
        return found
