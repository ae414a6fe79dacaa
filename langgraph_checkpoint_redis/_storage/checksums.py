"""The checksum that a row ends with. It detects accidents.

Scripts check it before they use a row, and this package before it decodes one. It does not stop an
attacker who can write to the server, as anyone can compute it.
"""

from __future__ import annotations

from hashlib import sha1

SIZE = 4  # bytes
ADVICE = (
    "`repair` (langgraph-redis repair) removes what cannot be read and keeps all else, "
    "`delete_thread` removes the thread"
)


def checksum_of(content: bytes) -> bytes:
    """What a row with this content ends with: the first bytes of its SHA-1, which scripts know."""
    return sha1(content, usedforsecurity=False).digest()[:SIZE]


def strip_checksum(row: bytes) -> bytes:
    """A row without its checksum; raises `ValueError` if it is not as it was stored."""
    content = row[:-SIZE]
    if checksum_of(content) != row[-SIZE:]:
        raise ValueError("the row is damaged")
    return content
