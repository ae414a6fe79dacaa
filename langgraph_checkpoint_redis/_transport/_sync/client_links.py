# Derived from _transport/_async/client_links.py by tools/derive_sync.py.
# Change the source and run `make derive`.

"""Links that ask a client of a library: of one server, of several servers, or of a cluster.

`_transport/threads.py` has how such a link holds its client.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from langgraph_checkpoint_redis._protocol.requests import AtNode, Primaries, Request
from langgraph_checkpoint_redis._protocol.resp import Argument, Command, encode_command
from langgraph_checkpoint_redis._transport._sync.link import pipelined
from langgraph_checkpoint_redis._transport.clients import (
    RAW,
    SCRIPTS,
    cannot_confirm,
    is_error,
    reads_from_replicas,
)
from langgraph_checkpoint_redis._transport.routing import (
    ASKING,
    READWRITE,
    REDIRECTIONS,
    check_node_known,
    key_of,
)
from langgraph_checkpoint_redis._transport.threads import HeldClient, HeldCluster


class ClientLink(HeldClient):
    """A client of one server, used by its own methods."""

    def _ask(self, commands: Sequence[Command]) -> Sequence[Any]:
        # A client with a cache looks for plain commands there, but not for those of a pipeline.
        if len(commands) > 1 or (self._may_have_cache and commands[0][0] not in SCRIPTS):
            return self._ask_together(commands)
        return [self._ask_one(commands[0])]

    def _ask_one(self, command: Command) -> Any:
        try:
            return self.client.execute_command(*encode_command(command), **RAW)
        except Exception as error:
            if is_error(error, "ResponseError"):
                return error
            raise

    def _ask_together(self, commands: Sequence[Command]) -> Sequence[Any]:
        return pipelined(self.client, commands)


class ServersLink(ClientLink):
    """A client that chooses one of several servers, redis-py's `MultiDBClient`.

    Its pipelines are transactions, in which nothing waits, so each command goes by itself.
    """

    def _ask_together(self, commands: Sequence[Command]) -> Sequence[Any]:
        return [self._ask_one(command) for command in commands]

    def _ask_and_wait(self, commands: Sequence[Command]) -> Sequence[Any]:
        raise cannot_confirm(self.client)


class ClusterLink(HeldCluster, ClientLink):
    """The client of a cluster.

    It cannot wait for a write, and some read from replicas. Such requests go to the node itself.
    """

    def reply(self, request: Request) -> Any:
        """Do as any link does; some requests are for certain nodes."""
        if isinstance(request, Primaries):
            return self._primaries(fresh=request.fresh)
        if isinstance(request, AtNode):
            return request.result(self._ask_node(request.node, request.each, asking=False))
        return super().reply(request)

    def _primaries(self, *, fresh: bool) -> list[Any]:
        """Return the primaries that the client knows, or those that there are now."""
        client = self._initialized()
        if fresh:
            client.nodes_manager.initialize()
        return [*client.get_primaries()]

    def _ask(self, commands: Sequence[Command]) -> Sequence[Any]:
        if not reads_from_replicas(self.client) or not key_of(commands[0]):
            return super()._ask(commands)
        groups = [[*group] for _, group in groupby(commands, key_of)]
        return [reply for group in groups for reply in self._ask_and_wait(group)]

    def _ask_and_wait(self, commands: Sequence[Command]) -> Sequence[Any]:
        client = self._initialized()
        try:
            return self._ask_node_of(key_of(commands[0]), commands)
        except Exception:
            client.nodes_manager.initialize()  # another node may have taken over
            raise

    def _ask_node_of(self, key: Argument, commands: Sequence[Command]) -> Sequence[Any]:
        """Ask the node that has a key, or that it leads to."""
        client = self.client
        node, asking = client.get_node_from_key(key), False
        for _ in range(REDIRECTIONS):
            replies = self._ask_node(node, commands, asking=asking)
            asking = is_error(replies[0], "AskError") and not is_error(replies[0], "MovedError")
            if asking:
                node = check_node_known(client.get_node(replies[0].host, replies[0].port))
            elif is_error(replies[0], "MovedError"):
                client.nodes_manager.initialize()
                node = client.get_node_from_key(key)
            else:
                break
        return replies

    def _ask_node(self, node: Any, commands: Sequence[Command], *, asking: bool) -> Sequence[Any]:
        before = [*([READWRITE] if reads_from_replicas(self.client) else [])]
        before += [ASKING] if asking else []
        replies = self._send_to(node, [*before, *commands])
        return replies[len(before) :]
