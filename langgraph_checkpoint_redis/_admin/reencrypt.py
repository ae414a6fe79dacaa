"""Encrypting anew what is stored: with a newer key, or what was stored before there was one.

Values are decrypted and encrypted again, and not looked into: no type has to be known for it. Rows
are replaced one by one, each in one script, so that it may run beside the traffic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from typing import Any, NamedTuple, TypeVar, cast

from langgraph.checkpoint.serde.encrypted import EncryptedSerializer

from langgraph_checkpoint_redis._core.operations import Operations
from langgraph_checkpoint_redis._protocol.requests import Commands, Operation
from langgraph_checkpoint_redis._scripts.calls import DELETE_RUNS, REWRITE, SCAN
from langgraph_checkpoint_redis._storage.checks import check_id
from langgraph_checkpoint_redis._storage.checksums import strip_checksum
from langgraph_checkpoint_redis._storage.corruption import CorruptionContext
from langgraph_checkpoint_redis._storage.encryption import PlaintextFound, reencrypt
from langgraph_checkpoint_redis._storage.keys import ThreadKeys
from langgraph_checkpoint_redis._storage.packing import pack, unpack_all
from langgraph_checkpoint_redis._storage.tree import Chunks, split_digests
from langgraph_checkpoint_redis._storage.values import Value, cut_value, load_entry, parse_chunks
from langgraph_checkpoint_redis.errors import ConfigError

T = TypeVar("T")

AT_A_TIME = 100  # chunks that one call is asked for

Entry = list[Any]
Again = Callable[[bytes, bytes], tuple[str, bytes]]


class ReencryptionOperations(Operations):
    """Encrypting a thread anew."""

    __slots__ = ()

    def reencrypt(self, thread_id: str) -> Operation[None]:
        """Encrypt all that a thread has with the key that is used now."""
        thread_id = check_id("thread_id", thread_id)
        if not isinstance(self.serde, EncryptedSerializer):
            raise ConfigError(
                f"serde must be an EncryptedSerializer, not {type(self.serde).__name__}"
            )
        anew: dict[bytes, Entry] = {}  # values by their old entries, so that rows still share them
        done: set[bytes] = set()
        while (yield from self._rewrite_all(thread_id, anew, done)):
            pass  # what replaced a row meanwhile may stand where we have been
        gone = yield from self._remove(DELETE_RUNS, thread_id, [])  # of no run: frees chunks
        yield from self._removed(thread_id, gone)

    def _rewrite_all(
        self, thread_id: str, anew: dict[bytes, Entry], done: set[bytes]
    ) -> Operation[bool]:
        """Replace the rows that are not done; whether one was replaced by somebody else."""
        missed = False
        stage, position = b"timeline", b""
        while stage:
            rows, next_stage, position, *_ = yield SCAN(self._keys(thread_id), [stage, position])
            for row in rows:
                is_done = yield from self._rewrite(thread_id, _Row.of(stage, row), anew, done)
                missed = missed or not is_done
            stage = next_stage
        return missed

    def _rewrite(
        self, thread_id: str, row: _Row, anew: dict[bytes, Entry], done: set[bytes]
    ) -> Operation[bool]:
        """Replace a row, unless it was, or is not there any more; whether it is done.

        The one that replaced it may be met behind it.
        """
        keys = self._keys(thread_id)
        with CorruptionContext(thread_id, row.key(keys), row.row):
            name, parts = row.parts()
            entries = row.entries(parts)
        if name in done:
            return True
        chunks = yield from self._chunks(keys, entries)
        stored = 0
        while not stored:  # what earlier rows share may be gone with them: then it is sent again
            values: list[Value] = []
            with CorruptionContext(thread_id, row.key(keys), row.row):
                for entry in entries:
                    self._renew(entry, chunks, anew, values)
                content = b"\0".join([name, row.packed(parts, self._again, anew)])
            levels = [level for entry in entries for level in anew[pack(entry)][3:]]
            told = (self.shared.token(thread_id), row.number, row.row, content)
            args, _ = self._with_new_chunks(None, told, values, levels)
            stored = yield REWRITE(keys, args, self.shared.options.confirm)
            if not stored:
                anew.clear()
        if stored > 0:
            done.add(name)
        return stored > 0

    def _again(self, type_: bytes, data: bytes) -> tuple[str, bytes]:
        """Something serialized, encrypted anew."""
        typed = type_.decode(), data
        if "+" not in typed[0] and not self.shared.options.allow_plaintext:
            raise PlaintextFound("is not encrypted, though the serializer encrypts")
        return reencrypt(cast("EncryptedSerializer", self.serde), typed)

    def _renew(
        self, entry: Entry, chunks: Chunks, anew: dict[bytes, Entry], values: list[Value]
    ) -> None:
        """Encrypt a value anew, if no row before had it."""
        name = pack(entry)
        if name not in anew:
            (type_, data), _ = load_entry(entry, chunks)
            new_type, new_data = self._again(type_.encode(), data)
            value = Value(new_type, cut_value(new_type, new_data, None, {}))
            values.append(value)
            anew[name] = value.entry

    def _chunks(self, keys: ThreadKeys, entries: Iterable[Entry]) -> Operation[dict[bytes, bytes]]:
        """The chunks of values, as far as they are there and can be read."""
        wanted: dict[int, list[bytes]] = {}
        for entry in entries:
            for level, digests in enumerate(entry[3:]):
                wanted.setdefault(level, []).extend(split_digests(digests))
        found: dict[bytes, bytes] = {}
        for level in range(max(wanted, default=-1), -1, -1):
            new = [*dict.fromkeys(wanted.get(level, []))]
            for start in range(0, len(new), AT_A_TIME):
                digests = new[start : start + AT_A_TIME]
                groups = yield Commands((("HMGET", keys.chunks, *digests),))
                found.update(parse_chunks([b"".join(digests)], groups))
            if level:
                nodes = [found[digest] for digest in new if digest in found]
                wanted.setdefault(level - 1, []).extend(
                    child for node in nodes for child in split_digests(node)
                )
        return found


class _Row(NamedTuple):
    """A row of one of the two sets, taken apart and put together again."""

    row: bytes
    number: int  # of its key, as scripts count

    @classmethod
    def of(cls, stage: bytes, row: bytes) -> _Row:
        return cls(row, 1 if stage == b"timeline" else 2)

    def key(self, keys: ThreadKeys) -> bytes:
        return keys[self.number - 1]

    def parts(self) -> tuple[bytes, list[Any]]:
        """Its name, and the msgpack behind it."""
        *names, data = strip_checksum(self.row).split(b"\0", self.number + 1)
        return b"\0".join(names), unpack_all(data)

    def entries(self, parts: list[Any]) -> list[Entry]:
        """Its values."""
        lists = [parts[0][5]] if self.number == 1 else [group[1:] for group in parts[0][1:]]
        return [entry for flat in lists for entry in flat[2::3] if entry]

    def packed(self, parts: list[Any], again: Again, anew: Mapping[bytes, Entry]) -> bytes:
        """The msgpack, with other values."""

        def renewed(flat: list[Any]) -> list[Any]:
            entries = [entry and anew[pack(entry)] for entry in flat[2::3]]
            return [*chain.from_iterable(zip(flat[::3], flat[1::3], entries, strict=True))]

        if self.number == 1:
            (*head, channels), (type_, data, metadata_type, metadata, own) = parts
            tail = [*again(type_, data), *again(metadata_type, metadata), own]
            return pack([*head, renewed(channels)]) + pack(tail)
        [[format_, *groups]] = parts
        return pack([format_, *[[path, *renewed(flat)] for path, *flat in groups]])
