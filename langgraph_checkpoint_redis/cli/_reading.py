"""Read values as data, without importing any stored class.

Threads may come from strangers. Only objects of LangGraph's strict list of harmless types are
built. Objects of other types are shown as the data they are made of, unless the user allows them by
name. An `Unreadable` stands for a value that cannot be read: it is encrypted, say, or of an unknown
serializer.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import Any

import ormsgpack
from langgraph.checkpoint.serde.base import CipherProtocol, SerializerProtocol
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.event_hooks import SerdeEvent, register_serde_event_listener
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from langgraph_checkpoint_redis import KeyRing
from langgraph_checkpoint_redis.errors import ConfigError, MissingLibraryError

ANY = "all"

# What a serializer raises for a type, a key or bytes that it cannot do with.
_UNREADABLE = (NotImplementedError, ValueError, TypeError, AssertionError)


class Unreadable(dict[str, Any]):
    """Stands for a value that cannot be read; a dict, as checkpoints and metadata are ones."""

    def __init__(self, type_: str, size: int, reason: str) -> None:
        super().__init__()
        self.type, self.size, self.reason = type_, size, reason

    def __repr__(self) -> str:
        return f"({self.reason}: {self.type}, {self.size} bytes)"


class Reader(SerializerProtocol):
    """Reads values, and collects which values could not be shown in full; writes nothing."""

    def __init__(self, cipher: CipherProtocol | None, allow: Sequence[str]) -> None:
        logging.getLogger("langgraph.checkpoint.serde").setLevel(logging.ERROR)  # see `remarks`
        plain = JsonPlusSerializer(allowed_msgpack_modules=_allowed(allow))
        self._has_key = cipher is not None
        self._inner = _decrypting(plain, cipher)
        self._as_data = set[str]()
        self._names = set[str]()
        self._reasons = set[str]()
        self.close = register_serde_event_listener(self._note)

    def _note(self, event: SerdeEvent) -> None:
        if event["kind"] == "msgpack_blocked":
            self._as_data.add(f"{event['module']}.{event['name']}")

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        """Refuse to write: objects that were read as data must not be written back."""
        raise NotImplementedError("the command line does not write values")

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        """Return a value, or an `Unreadable`."""
        try:
            return self._inner.loads_typed(data)
        except _UNREADABLE as error:
            reason = self._reason(data[0], error)
            self._reasons.add(reason)
            return Unreadable(data[0], len(data[1]), reason)

    def _reason(self, type_: str, error: Exception) -> str:
        if "+" in type_:
            self._names.add(type_.partition("+")[2].partition(":")[2])
            return "encrypted with another key" if self._has_key else "encrypted"
        return "of an unknown type" if isinstance(error, NotImplementedError) else "damaged"

    def remarks(self, variables: Sequence[str]) -> list[str]:
        """Return remarks for the end of a command; `variables` are those with keys."""
        remarks = []
        if self._as_data:
            names = sorted(self._as_data)
            allow = " ".join(f"--allow {name}" for name in names)
            remarks.append(
                f"shown as data, without importing them: {', '.join(names)}. "
                f"If you trust this thread: langgraph-redis {allow} ..."
            )
        if in_ring := sorted(map(repr, self._names - {""})):
            remarks.append(
                f"this is encrypted with keys of a KeyRing: {', '.join(in_ring):.500}. "
                "For each, put the key into a variable, and say --aes-key-env NAME=VARIABLE."
            )
        if "" in self._names:
            variable = " or ".join(variables)
            remarks.append(
                f"this is encrypted with another key than that in {variable}: name the variable "
                "of the right key by --aes-key-env."
                if self._has_key
                else f"this is encrypted: put the key into {variable} to read it, or name another "
                "variable by --aes-key-env."
            )
        return remarks


def _allowed(allow: Sequence[str]) -> Any:
    if ANY in allow:
        return True
    names = [name.rpartition(".") for name in allow]
    for module, _, class_ in names:
        if not (module and class_):
            raise ConfigError(f"--allow takes MODULE.CLASS or {ANY}, not {allow}")
    return [(module, class_) for module, _, class_ in names]


AES_KEY = "LANGGRAPH_AES_KEY"  # the name that LangGraph gives it; it may be absent


def cipher_of(variables: Sequence[str]) -> CipherProtocol | None:
    """Return a cipher of the keys in environment variables, if there are any.

    A variable is a plain name, or `NAME=VARIABLE` for the key of that name in a `KeyRing`. The
    first one encrypts.
    """
    unnamed: CipherProtocol | None = None
    named: dict[str, CipherProtocol] = {}
    for each in variables:
        name, is_named, variable = each.rpartition("=")
        key = _key(variable)
        if key and is_named:
            named[name] = _aes(key)
        elif key:
            unnamed = _aes(key)
        elif is_named:
            raise ConfigError(f"{variable} must have the key {name!r}, and is not set")
        elif variable != AES_KEY:
            raise ConfigError(f"{variable} must have a key, and is not set")
    return KeyRing(named, unnamed=unnamed) if named else unnamed


def _key(variable: str) -> bytes | None:
    """Return the key in an environment variable, in the form of LangGraph's `LANGGRAPH_AES_KEY`."""
    key = os.environ.get(variable, "").encode()
    if key and len(key) not in (16, 24, 32):
        raise ConfigError(f"{variable} must have 16, 24 or 32 bytes, not {len(key)}")
    return key or None


def _aes(key: bytes) -> CipherProtocol:
    try:
        return EncryptedSerializer.from_pycryptodome_aes(key=key).cipher
    except ImportError as error:
        raise MissingLibraryError("to decrypt threads: pip install pycryptodome") from error


def passing(cipher: CipherProtocol | None) -> SerializerProtocol:
    """Return a serializer that passes objects on as their stored bytes, without imports.

    It has the class of LangGraph's serializer, since files name the class.
    """
    plain = JsonPlusSerializer(allowed_msgpack_modules=None, __unpack_ext_hook__=ormsgpack.Ext)
    return _decrypting(plain, cipher)


def _decrypting(plain: SerializerProtocol, cipher: CipherProtocol | None) -> SerializerProtocol:
    return plain if cipher is None else EncryptedSerializer(cipher, plain)
