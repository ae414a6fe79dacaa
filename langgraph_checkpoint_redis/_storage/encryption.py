"""Reading what a serializer wrote: what is encrypted, what is not, and keys that change."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

from langgraph.checkpoint.serde.base import CipherProtocol, SerializerProtocol
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer

from langgraph_checkpoint_redis._runtime.interruptions import is_of_decryption
from langgraph_checkpoint_redis.errors import ConfigError

T = TypeVar("T")


class PlaintextFound(ValueError):  # noqa: N818 - becomes an `UnencryptedError`, which names the place
    """Something is stored as it is, though the serializer encrypts."""


class CiphertextFound(ValueError):  # noqa: N818 - becomes an `EncryptedThreadError`, as above
    """Something is encrypted, and cannot be decrypted."""

    def __init__(self, type_: str, error: BaseException) -> None:
        super().__init__(type_, error)
        self.type, self.error = type_, error

    def __str__(self) -> str:
        return (
            f"is encrypted ({self.type!r:.200}) and cannot be decrypted: "
            f"{type(self.error).__name__}: {self.error}. "
            "Give the saver the serializer and the key that wrote it"
        )


class _Decrypting:
    """An encrypting serializer that tells a wrong key from bytes that make no sense.

    It also refuses what was stored without encryption, unless that is allowed. LangGraph's own
    reads both: so who may write to the server, but has no key, could still plant a value of their
    choice.
    """

    def __init__(self, serde: EncryptedSerializer, *, allow_plaintext: bool) -> None:
        self.dumps_typed = serde.dumps_typed
        self._serde, self._allow_plaintext = serde, allow_plaintext
        self._is_own = type(serde).loads_typed is not EncryptedSerializer.loads_typed

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        if "+" not in data[0]:
            if not self._allow_plaintext:
                raise PlaintextFound("is not encrypted, though the serializer encrypts")
            return self._serde.loads_typed(data)
        if self._is_own:  # it may decrypt in another way
            return _decrypt(data[0], self._serde.loads_typed, data)
        kind, cipher_name = data[0].split("+", 1)
        content = _decrypt(data[0], self._serde.cipher.decrypt, cipher_name, data[1])
        return self._serde.serde.loads_typed((kind, content))


def _decrypt(type_: str, decrypt: Callable[..., T], *args: Any) -> T:
    """Call a function that decrypts."""
    try:
        return decrypt(*args)
    except Exception as error:
        if is_of_decryption(error):
            raise CiphertextFound(type_, error) from error
        raise


def with_decryption(serde: SerializerProtocol, *, allow_plaintext: bool) -> SerializerProtocol:
    """Return a serializer for what is stored."""
    # Not by `isinstance`, which is slow where a base is a protocol; this is asked for every reply.
    if EncryptedSerializer in type(serde).__mro__:
        return _Decrypting(cast("EncryptedSerializer", serde), allow_plaintext=allow_plaintext)
    return serde


def load_value(serde: SerializerProtocol, typed: tuple[str, bytes]) -> Any:
    """Return what a serializer makes of bytes.

    A serializer that does not encrypt calls the type of what is encrypted unknown. And `ormsgpack`
    replaces what its hook raises by an error without a cause. So a hook that failed is called once
    more: if it does not fail then, a signal handler raised while it was called.
    """
    try:
        return serde.loads_typed(typed)
    except NotImplementedError as error:
        if "+" in typed[0]:
            raise CiphertextFound(typed[0], error) from error
        raise
    except ValueError as error:
        if str(error) != HOOK_FAILED:
            raise
    return serde.loads_typed(typed)


HOOK_FAILED = "ext_hook failed"


def reencrypt(serde: EncryptedSerializer, typed: tuple[str, bytes]) -> tuple[str, bytes]:
    """Encrypt a stored value with the current key, without deserializing it."""
    type_, data = typed
    kind, _, cipher_name = type_.partition("+")
    if cipher_name:
        data = _decrypt(type_, serde.cipher.decrypt, cipher_name, data)
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
