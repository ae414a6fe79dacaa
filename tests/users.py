"""Users of a server with rights of their own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import redis


@contextmanager
def user(client: redis.Redis, prefix: str, commands: list[str]) -> Iterator[str]:
    """The name (and password) of a user who may run these commands on keys below a prefix."""
    name = f"user-{uuid4().hex}"
    rules = ["resetkeys", f"~{prefix}:*", "resetchannels", "-@all", *(f"+{c}" for c in commands)]
    client.execute_command("ACL SETUSER", name, "on", f">{name}", *rules)
    yield name
    client.execute_command("ACL DELUSER", name)


def url_of(server: str, name: str, password: str | None = None) -> str:
    return server.replace("//", f"//{name}:{password or name}@")
