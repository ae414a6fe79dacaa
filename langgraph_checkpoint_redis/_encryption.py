"""What is demanded of stored data where the serializer encrypts, and keys that change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langgraph.checkpoint.serde.base import CipherProtocol, SerializerProtocol
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer

from .errors import ConfigError


class PlaintextFound(ValueError):  # noqa: N818 - becomes an `UnencryptedError`, which names the place
    """Something is stored as it is, though the serializer encrypts."""


class _Demanding:
    """An encrypting serializer that does not read what was stored without it.

    LangGraph's own reads both; so who may write to the server, but has no key, could still plant a
    value of their choice.
    """

    def __init__(self, serde: SerializerProtocol) -> None:
        self.dumps_typed = serde.dumps_typed
        self._loads_typed = serde.loads_typed

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        if "+" not in data[0]:
            raise PlaintextFound("is not encrypted, though the serializer encrypts")
        return self._loads_typed(data)


def reading(serde: SerializerProtocol, *, allow_plaintext: bool) -> SerializerProtocol:
    """A serializer for what is stored."""
    # Not by `isinstance`, which is slow where a base is a protocol; this is asked for every reply.
    if EncryptedSerializer in type(serde).__mro__ and not allow_plaintext:
        return _Demanding(serde)
    return serde


def reencrypted(serde: EncryptedSerializer, typed: tuple[str, bytes]) -> tuple[str, bytes]:
    """What a serializer would store now in the place of what it did, which is not looked into."""
    type_, data = typed
    kind, _, cipher_name = type_.partition("+")
    if cipher_name:
        data = serde.cipher.decrypt(cipher_name, data)
    new_name, ciphertext = serde.cipher.encrypt(data)
    return f"{kind}+{new_name}", ciphertext


class KeyRing(CipherProtocol):
    """A cipher of several keys: it encrypts with the newest, and decrypts with any.

    What it encrypts says by the name of its key which one it was.

    Args:
        ciphers: A cipher for each name, the newest first, such as
            `EncryptedSerializer.from_pycryptodome_aes(key=...).cipher`. A name that was used stays
            that of its key.
        unnamed: The cipher of what was encrypted before there was a `KeyRing`.

    Raises:
        ConfigError: There are no ciphers, or a name is empty or has a colon in it.
    """

    def __init__(
        self, ciphers: Mapping[str, CipherProtocol], *, unnamed: CipherProtocol | None = None
    ) -> None:
        if not ciphers or not all(name and ":" not in name for name in ciphers):
            raise ConfigError(f"ciphers must have names, without colons, not {[*ciphers]!r:.200}")
        self._ciphers = {**ciphers}
        self._newest = next(iter(ciphers))
        self._unnamed = unnamed

    def encrypt(self, plaintext: bytes) -> tuple[str, bytes]:
        """Encrypt with the newest key; its name goes behind that of the cipher."""
        cipher_name, ciphertext = self._ciphers[self._newest].encrypt(plaintext)
        return f"{cipher_name}:{self._newest}", ciphertext

    def decrypt(self, ciphername: str, ciphertext: bytes) -> bytes:
        """Decrypt with the key that is named; raises `ValueError` if it is not here."""
        cipher_name, _, name = ciphername.partition(":")
        cipher = self._ciphers.get(name) if name else self._unnamed
        if cipher is None:
            raise ValueError(f"there is no key {name!r} to decrypt with")
        return cipher.decrypt(cipher_name, ciphertext)
