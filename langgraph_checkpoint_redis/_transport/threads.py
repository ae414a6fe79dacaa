"""How the links of threads take turns, and hold a client of a library: with locks, and over forks.

`_transport/tasks.py` has the same for the tasks of an event loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock
from typing import Any, ClassVar

import redis as redis_py

from langgraph_checkpoint_redis._protocol.requests import Request
from langgraph_checkpoint_redis._protocol.resp import Command
from langgraph_checkpoint_redis._runtime.forks import reset_in_children

from ._sync.link import Link, pipelined
from .clients import client_of_node, connection_limit
from .inherited import start_afresh
from .permits import Permits, permits_of
from .retry import Server
from .urls import Url


class TurnLink(Link):
    """A link that a limited number of threads use at a time."""

    def __init__(self, permits: Permits) -> None:
        self._permits = permits

    def reply(self, request: Request) -> Any:
        """Do as any link does, once it is this thread's turn."""
        permits, turn = self._permits, object()
        queue, limit = permits.queue, permits.limit
        try:
            queue[turn] = None
            if len(queue) > limit:
                permits.wait(queue, turn)
            return super().reply(request)
        finally:
            queue.pop(turn, None)  # first, and in one step: see `Permits`
            if len(queue) >= limit:
                permits.wake(queue)


class HeldClient(TurnLink):
    """A client: one that was passed in, or that of a cluster, made from a URL when first used."""

    _may_have_cache: ClassVar[bool] = True

    def __init__(self, redis: Any) -> None:
        limit = connection_limit(redis)
        self._url = redis if isinstance(redis, Url) else None
        super().__init__(Permits(limit) if self._url else permits_of(redis, limit))
        self._client = None if self._url else redis
        self._making = Lock()  # one that is left over would close what others are still using
        reset_in_children(self)

    def after_fork(self) -> None:
        """Leave a client that was made here to the parent process."""
        self._making = Lock()
        if self._url:
            self._client = None
        else:
            start_afresh(self._client, asynchronous=False)

    @property
    def client(self) -> Any:
        """The client."""
        if self._client is None and self._url:
            with self._making:
                self._client = self._client or self._url.client(redis_py)
            Server(self._url).note_reached()  # the client of a cluster connects when it is made
        return self._client

    @property
    def was_reached(self) -> bool:
        """Whether the client is there: that of a cluster connects when it is made."""
        return self._client is not None

    def close(self) -> None:
        """Close the client, if it was made here; a request may make it again."""
        if self._url and self._client is not None:
            self._client.close()


class HeldCluster(HeldClient):
    """The client of a cluster, and those that it has for its nodes."""

    _may_have_cache = False  # such a client is asked by node, as those that read from replicas

    def _initialized(self) -> Any:
        """Return the client, which learns of the slots when it is made."""
        return self.client

    def _send_to(self, node: Any, commands: Sequence[Command]) -> Sequence[Any]:
        """Send commands to a node."""
        return pipelined(client_of_node(self.client, node), commands)
