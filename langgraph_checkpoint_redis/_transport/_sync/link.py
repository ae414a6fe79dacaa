# Derived from _transport/_async/link.py by tools/derive_sync.py.
# Change the source and run `make derive`.

"""How a link to the server asks for what a request stands for, whatever it consists of."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from redis.exceptions import ConnectionError as RedisConnectionError

from langgraph_checkpoint_redis._protocol.requests import Call, Request
from langgraph_checkpoint_redis._protocol.resp import Command, encode_command
from langgraph_checkpoint_redis._scripts.transactions import (
    PROBE,
    Transactions,
    build_transaction,
    read_transaction,
)
from langgraph_checkpoint_redis._transport.clients import (
    RAW,
    client_in_transaction,
    is_unknown_script,
    was_queued,
)

Ask = Callable[[Sequence[Command]], Sequence[Any]]


class Link(ABC):
    """A way to the server, for any number of callers at a time."""

    # What is known of transactions over one connection; `None` for clients, which may use several.
    _transactions: Transactions | None = None

    def reply(self, request: Request) -> Any:
        """Return what the server replies; raise errors as the client library raises them."""
        ask = self._ask_and_wait if request.confirm else self._ask
        replies: Sequence[Any] = []
        if isinstance(request, Call) and request.first_chunk:
            replies = self._ask_ahead(request, request.first_chunk, ask)
        if not replies:
            replies = ask(request.commands())
            if is_unknown_script(replies[0]):
                replies = ask(request.eval_commands())
        if was_queued(replies[0]):
            raise client_in_transaction()
        return request.result(replies)

    def _ask_ahead(self, call: Call[Any], first: int, ask: Ask) -> Sequence[Any]:
        """Ask with the chunks of a call ahead of it; return no replies if that cannot be done."""
        transactions = self._transactions
        if transactions is None:
            return []
        if transactions.are_unknown:
            try:
                transactions.learn(ask(PROBE))
            except RedisConnectionError:
                # Some proxies close the connection. If the server is away, the call says so.
                transactions.learn([])
        if not transactions.are_allowed:
            return []
        return read_transaction(ask(build_transaction(call, first)), transactions)

    @abstractmethod
    def _ask(self, commands: Sequence[Command]) -> Sequence[Any]:
        """Return the reply to each command; a refused command has an error for its reply."""

    def _ask_and_wait(self, commands: Sequence[Command]) -> Sequence[Any]:
        """Do the same, certainly over one connection, for commands that wait for the first.

        While they wait, the server does nothing else for this connection.
        """
        return self._ask(commands)

    @property
    def was_reached(self) -> bool:
        """Whether there was a connection to the server; True for clients that do not say."""
        return True

    @property
    @abstractmethod
    def client(self) -> Any:
        """A client of the client library for the same server."""

    @abstractmethod
    def close(self) -> None:
        """Close what was opened here."""


def pipelined(client: Any, commands: Sequence[Command]) -> Sequence[Any]:
    """Return the replies to commands that a client sends together."""
    with client.pipeline(transaction=False) as pipeline:
        for command in commands:
            pipeline.execute_command(*encode_command(command), **RAW)
        replies: list[Any] = pipeline.execute(raise_on_error=False)
        return replies
