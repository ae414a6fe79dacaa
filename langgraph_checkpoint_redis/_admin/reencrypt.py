"""Encrypt a thread again: with a newer key, or a thread that was stored without encryption.

Values are decrypted and encrypted, and never deserialized, so no type has to be known. Each row is
replaced by one script, so this may run next to the traffic.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from typing import Any, NamedTuple

from langgraph.checkpoint.serde.encrypted import EncryptedSerializer

from langgraph_checkpoint_redis._core.driving import AsyncDriver, Driver
from langgraph_checkpoint_redis._protocol.requests import Commands, Operation
from langgraph_checkpoint_redis._scripts.calls import REWRITE, SCAN
from langgraph_checkpoint_redis._storage.checks import check_id
from langgraph_checkpoint_redis._storage.checksums import strip_checksum
from langgraph_checkpoint_redis._storage.corruption import CorruptionContext
from langgraph_checkpoint_redis._storage.encryption import PlaintextFound, reencrypt
from langgraph_checkpoint_redis._storage.keys import ThreadKeys
from langgraph_checkpoint_redis._storage.packing import pack, unpack_all
from langgraph_checkpoint_redis._storage.tree import Chunks, split_digests
from langgraph_checkpoint_redis._storage.values import Value, cut_value, load_entry, parse_chunks
from langgraph_checkpoint_redis.errors import ConfigError

from .core import Context, context_of, free_chunks, keys_of, pack_chunks

AT_A_TIME = 100  # chunks that one call is asked for

Entry = list[Any]
Encrypt = Callable[[bytes, bytes], tuple[str, bytes]]


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
    yield from free_chunks(context, thread_id)


class _Rewriting:
    """The rows of one thread, replaced one by one."""

    def __init__(self, context: Context, thread_id: str, serde: EncryptedSerializer) -> None:
        self._context, self._thread_id, self._serde = context, thread_id, serde
        self._keys = keys_of(context, thread_id)
        self._renewed: dict[bytes, Entry] = {}  # by the old entry, so that rows still share values
        self._done: set[bytes] = set()

    def replace_rows(self) -> Operation[bool]:
        """Replace the rows that are not done; return whether another client replaced one."""
        missed = False
        stage, position = b"timeline", b""
        while stage:
            rows, next_stage, position, *_ = yield SCAN(self._keys, [stage, position])
            for row in rows:
                is_done = yield from self._replace(_Row.of(stage, row))
                missed = missed or not is_done
            stage = next_stage
        return missed

    def _replace(self, row: _Row) -> Operation[bool]:
        """Replace a row, unless it is done or gone; return whether it is done.

        The row that replaced it may come later in the scan.
        """
        with CorruptionContext(self._thread_id, row.key(self._keys), row.row):
            name, parts = row.parts()
            entries = row.entries(parts)
        if name in self._done:
            return True
        chunks = yield from self._fetch(entries)
        stored = 0
        while not stored:  # chunks shared with earlier rows may be gone with them: send them again
            values: list[Value] = []
            with CorruptionContext(self._thread_id, row.key(self._keys), row.row):
                for entry in entries:
                    self._renew(entry, chunks, values)
                content = b"\0".join([name, row.packed(parts, self._encrypt, self._renewed)])
            levels = [level for entry in entries for level in self._renewed[pack(entry)][3:]]
            token = self._context.shared.token(self._thread_id)
            terms = (token, row.number, row.row, content)
            args = pack_chunks(self._context, terms, values, levels)
            stored = yield REWRITE(self._keys, args, self._context.shared.options.confirm)
            if not stored:
                self._renewed.clear()
        if stored > 0:
            self._done.add(name)
        return stored > 0

    def _encrypt(self, type_: bytes, data: bytes) -> tuple[str, bytes]:
        """Encrypt serialized data again."""
        typed = type_.decode(), data
        if "+" not in typed[0] and not self._context.shared.options.allow_plaintext:
            raise PlaintextFound("is not encrypted, though the serializer encrypts")
        return reencrypt(self._serde, typed)

    def _renew(self, entry: Entry, chunks: Chunks, values: list[Value]) -> None:
        """Encrypt a value again, if no earlier row had it; add it to `values`."""
        name = pack(entry)
        if name not in self._renewed:
            (type_, data), _ = load_entry(entry, chunks)
            new_type, new_data = self._encrypt(type_.encode(), data)
            value = Value(new_type, cut_value(new_type, new_data, None, {}))
            values.append(value)
            self._renewed[name] = value.entry

    def _fetch(self, entries: Iterable[Entry]) -> Operation[dict[bytes, bytes]]:
        """Return the chunks of values; without those that are missing or cannot be read."""
        wanted: dict[int, list[bytes]] = {}
        for entry in entries:
            for level, digests in enumerate(entry[3:]):
                wanted.setdefault(level, []).extend(split_digests(digests))
        found: dict[bytes, bytes] = {}
        for level in range(max(wanted, default=-1), -1, -1):
            new = [*dict.fromkeys(wanted.get(level, []))]
            for start in range(0, len(new), AT_A_TIME):
                digests = new[start : start + AT_A_TIME]
                groups = yield Commands((("HMGET", self._keys.chunks, *digests),))
                found.update(parse_chunks([b"".join(digests)], groups))
            if level:
                nodes = [found[digest] for digest in new if digest in found]
                wanted.setdefault(level - 1, []).extend(
                    child for node in nodes for child in split_digests(node)
                )
        return found


class _Row(NamedTuple):
    """A row of one of the two sets: taken apart, and put together with other values."""

    row: bytes
    number: int  # of its key, as scripts count

    @classmethod
    def of(cls, stage: bytes, row: bytes) -> _Row:
        return cls(row, 1 if stage == b"timeline" else 2)

    def key(self, keys: ThreadKeys) -> bytes:
        return keys[self.number - 1]

    def parts(self) -> tuple[bytes, list[Any]]:
        """Return its name, and the msgpack behind it."""
        *names, data = strip_checksum(self.row).split(b"\0", self.number + 1)
        return b"\0".join(names), unpack_all(data)

    def entries(self, parts: list[Any]) -> list[Entry]:
        """Return the entries of its values."""
        lists = [parts[0][5]] if self.number == 1 else [group[1:] for group in parts[0][1:]]
        return [entry for flat in lists for entry in flat[2::3] if entry]

    def packed(self, parts: list[Any], encrypt: Encrypt, renewed: Mapping[bytes, Entry]) -> bytes:
        """Return the msgpack with other values."""

        def replace(flat: list[Any]) -> list[Any]:
            entries = [entry and renewed[pack(entry)] for entry in flat[2::3]]
            return [*chain.from_iterable(zip(flat[::3], flat[1::3], entries, strict=True))]

        if self.number == 1:
            (*head, channels), (type_, data, metadata_type, metadata, own) = parts
            tail = [*encrypt(type_, data), *encrypt(metadata_type, metadata), own]
            return pack([*head, replace(channels)]) + pack(tail)
        [[format_, *groups]] = parts
        return pack([format_, *[[path, *replace(flat)] for path, *flat in groups]])


# Methods


class Reencryption(Driver):
    """The method of the synchronous saver, and its awaited name."""

    def reencrypt(self, thread_id: str) -> None:
        """Encrypt all of a thread with the key that is used now.

        With `allow_plaintext=True`, data that was stored without encryption is encrypted, too.
        Nothing is deserialized, so all values stay the same. A call may be interrupted and
        repeated.

        Raises:
            ConfigError: The saver's `serde` is not an `EncryptedSerializer`.
            CorruptThreadError: A part is damaged, or encrypted with a key that is not here.
            UnencryptedError: A part is not encrypted.
            ThreadLeasedError: Another has the lease of the thread.
        """
        self._run(reencrypt_thread(context_of(self), thread_id))

    async def areencrypt(self, thread_id: str) -> None:
        """Run `reencrypt` in a worker thread."""
        await asyncio.to_thread(self.reencrypt, thread_id)


class AsyncReencryption(AsyncDriver):
    """The method of the asynchronous saver, and its synchronous name."""

    async def areencrypt(self, thread_id: str) -> None:
        """Encrypt all of a thread with the key that is used now.

        With `allow_plaintext=True`, data that was stored without encryption is encrypted, too.
        Nothing is deserialized, so all values stay the same. A call may be interrupted and
        repeated.

        Raises:
            ConfigError: The saver's `serde` is not an `EncryptedSerializer`.
            CorruptThreadError: A part is damaged, or encrypted with a key that is not here.
            UnencryptedError: A part is not encrypted.
            ThreadLeasedError: Another has the lease of the thread.
        """
        await self._run(reencrypt_thread(context_of(self), thread_id))

    def reencrypt(self, thread_id: str) -> None:
        """Run `areencrypt` from a worker thread, not from the event loop's."""
        self._wait(self.areencrypt(thread_id))
