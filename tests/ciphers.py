"""Two keys, and the serializers and key rings that encrypt with them."""

from __future__ import annotations

import os
from typing import Any

from langgraph.checkpoint.serde.encrypted import EncryptedSerializer

from langgraph_checkpoint_redis import KeyRing

OLD, NEW = os.urandom(32), os.urandom(32)


def encrypting(*keys: bytes) -> EncryptedSerializer:
    """The serializer of a key, or of a key ring, the newest first, if there are several."""
    ciphers = [EncryptedSerializer.from_pycryptodome_aes(key=key).cipher for key in keys]
    return EncryptedSerializer(ciphers[0] if len(ciphers) == 1 else ring(*keys))


def ring(*keys: bytes, unnamed: bytes | None = None) -> KeyRing:
    """The key ring of some keys, the newest first; `unnamed` reads what names no key."""

    def cipher(key: bytes) -> Any:
        return EncryptedSerializer.from_pycryptodome_aes(key=key).cipher

    names = {OLD: "2025", NEW: "2026"}
    return KeyRing(
        {names[key]: cipher(key) for key in keys}, unnamed=cipher(unnamed) if unnamed else None
    )
