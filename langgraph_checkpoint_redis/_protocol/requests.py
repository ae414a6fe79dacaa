"""Requests and operations: the vocabulary between the core and its two front ends.

A request is a value that nobody has sent yet: the call of a script, or plain commands. An operation
is a generator that yields requests and returns a result:

    found = yield from ask(calls.get(keys, ...))

`RedisSaver` and `AsyncRedisSaver` drive operations. They send each request and hand back the reply
as the server gave it: bytes, integers and lists. `ask` parses the reply of a script.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from hashlib import sha1
from typing import Any, Generic, TypeAlias, TypeVar

from typing_extensions import NamedTuple  # that of Python 3.10 cannot be generic

from .confirm import Confirm
from .resp import Argument, Command


@dataclass(frozen=True)
class Script:
    """A Lua script; its source begins with its libraries."""

    name: str
    source: str = field(repr=False)
    sha: str = field(init=False)  # what EVALSHA calls it

    def __post_init__(self) -> None:
        # At once: a property that is computed when first used has a lock, which a forked process
        # would inherit.
        sha = sha1(self.source.encode(), usedforsecurity=False).hexdigest()
        object.__setattr__(self, "sha", sha)

    def __call__(
        self,
        keys: Sequence[bytes],
        args: Sequence[Argument] = (),
        confirm: Confirm | None = None,
    ) -> Call[Any]:
        """Return a call whose reply is not parsed."""
        return Call(self, tuple(keys), tuple(args), as_it_is, confirm)


T = TypeVar("T")


def as_it_is(reply: T) -> T:
    """Return a reply that is not parsed."""
    return reply


class Call(NamedTuple, Generic[T]):
    """One call of a script, as `_scripts/calls.py` makes them.

    Attributes:
        script: The script.
        keys: Its keys.
        args: Its arguments.
        parse: Makes the result of the script's reply.
        confirm: What its write waits for.
        only_first: The number of an argument that is empty in a call that is sent again.
        first_chunk: The number of the first of its chunks, if they are large; see
            `_scripts/transactions.py`.
    """

    script: Script
    keys: tuple[bytes, ...]
    args: tuple[Argument, ...]
    parse: Callable[[Any], T]
    confirm: Confirm | None = None
    only_first: int | None = None
    first_chunk: int | None = None

    def again(self) -> Call[T]:
        """Return the call to send when the answer to this one was lost."""
        if self.only_first is None:
            return self
        args = [*self.args]
        args[self.only_first] = ""
        return self._replace(args=tuple(args))

    @property
    def name(self) -> str:
        """The name of the script."""
        return self.script.name

    def commands(self) -> tuple[Command, ...]:
        """What is sent to a server that knows the script."""
        return self._with(("EVALSHA", self.script.sha))

    def eval_commands(self) -> tuple[Command, ...]:
        """The same for a server that does not, which knows it from then on."""
        return self._with(("EVAL", self.script.source))

    def _with(self, script: Command) -> tuple[Command, ...]:
        command = (*script, len(self.keys), *self.keys, *self.args)
        return (command, *self.confirm.commands()) if self.confirm else (command,)

    def result(self, replies: Sequence[Any]) -> Any:
        """What the caller gets of the replies; raises an error that is among them."""
        if isinstance(replies[0], Exception):
            raise replies[0]
        if self.confirm:
            self.confirm.check(self.keys[0].decode(), replies[1:])
        return replies[0]


@dataclass(frozen=True)
class Commands:
    """Plain commands of the server, each on one key, sent together; replies come as a list.

    Where `may_fail`, an error of the server is the reply to the command that it refused.
    """

    each: tuple[Command, ...]
    may_fail: bool = False
    confirm: None = None

    @property
    def name(self) -> str:
        """The name of the first command."""
        return str(self.each[0][0])

    def commands(self) -> tuple[Command, ...]:
        """What is sent."""
        return self.each

    eval_commands = commands

    def again(self) -> Commands:
        """Return the commands to send when the answer to these was lost."""
        return self

    def result(self, replies: Sequence[Any]) -> Any:
        """What the caller gets of the replies; raises an error that is among them."""
        for reply in replies:
            if isinstance(reply, Exception) and not self.may_fail:
                raise reply
        return replies


@dataclass(frozen=True)
class Together(Commands):
    """Calls of one script on several threads, sent together; an error is the reply to its call."""

    calls: tuple[Call[Any], ...] = ()

    @classmethod
    def of(cls, calls: Sequence[Call[Any]]) -> Together:
        """Calls that do not wait for confirmation."""
        each = tuple(command for call in calls for command in call.commands())
        return cls(each, may_fail=True, calls=tuple(calls))

    def eval_commands(self) -> tuple[Command, ...]:
        """The same, whose first call has the source of the script."""
        return (*self.calls[0].eval_commands(), *self.each[1:])


@dataclass(frozen=True)
class AtNode(Commands):
    """Commands for one node of a cluster, which need not be on any key."""

    node: Any = None


@dataclass(frozen=True)
class Primaries(Commands):
    """What a cluster is asked for to get its primaries; `fresh` where it may have new ones."""

    each: tuple[Command, ...] = ()
    fresh: bool = False


Request: TypeAlias = "Call[Any] | Commands"
Operation: TypeAlias = Generator[Request, Any, T]


def ask(call: Call[T]) -> Operation[T]:
    """Send the call of a script and return what it replied."""
    return call.parse((yield call))
