"""`diff`: what changed in each channel between two checkpoints of a thread."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from difflib import ndiff
from typing import Annotated, Any, NamedTuple

import typer
from langchain_core.messages import BaseMessage

from . import _values
from ._output import block, emit, say, styled
from ._session import Everything, Json, Namespace
from ._timeline import checkpoint
from .state import channel_values

_SIGNS = {"added": ("+", "green"), "removed": ("-", "red"), "changed": ("~", "yellow")}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("diff")(diff)


class Change(NamedTuple):
    """A channel that differs: how it changed, and its values."""

    channel: str
    kind: str
    before: Any
    after: Any


class MessageChange(NamedTuple):
    """A message that differs, by its id."""

    kind: str
    before: BaseMessage | None
    after: BaseMessage | None

    @property
    def message(self) -> BaseMessage:
        """The message after the change, or the removed message."""
        found = self.after or self.before
        assert found is not None  # noqa: S101 - one of them is there
        return found


def diff(
    context: typer.Context,
    thread: str,
    before: Annotated[str, typer.Argument(metavar="A", help="As for `state`.")],
    after: Annotated[str, typer.Argument(metavar="B", help="As for `state`.")],
    namespace: Namespace = "",
    everything: Everything = False,
    json: Json = False,
) -> None:
    """Show what changed in each channel from checkpoint A to checkpoint B."""
    with context.obj.saver() as saver:
        one, other = (checkpoint(saver, thread, namespace, name) for name in (before, after))
        changes = [
            change
            for change in _changes(channel_values(saver, one), channel_values(saver, other))
            if everything or not change.channel.startswith(_values.INTERNAL)
        ]
        ids = [found.config["configurable"]["checkpoint_id"] for found in (one, other)]
        if json:
            emit(_document(thread, namespace, ids, changes))
        else:
            _show_all(ids, changes)


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Change]:
    for name in sorted(before.keys() | after.keys()):
        one, other = before.get(name), after.get(name)
        if name not in before:
            yield Change(name, "added", None, other)
        elif name not in after:
            yield Change(name, "removed", one, None)
        elif _values.plain(one) != _values.plain(other):
            yield Change(name, "changed", one, other)


def _messages(before: Any, after: Any) -> list[MessageChange] | None:
    """Return the messages that differ, in order; `None` if a value is not a list of messages."""
    lists = [value or [] for value in (before, after)]
    if not all(_values.is_conversation(one) for one in lists if one) or not any(lists):
        return None
    one, other = ({_key(at, message): message for at, message in enumerate(all_)} for all_ in lists)
    gone = [MessageChange("removed", one[key], None) for key in one if key not in other]
    return gone + [
        MessageChange("changed" if key in one else "added", one.get(key), message)
        for key, message in other.items()
        if one.get(key) != message
    ]


def _key(position: int, message: BaseMessage) -> str:
    return message.id or f"#{position}"


# Showing


def _document(
    thread: str, namespace: str, ids: Sequence[str], changes: Sequence[Change]
) -> dict[str, Any]:
    return {
        "thread_id": thread,
        "namespace": namespace,
        "before": ids[0],
        "after": ids[1],
        "channels": [_change_document(change) for change in changes],
    }


def _change_document(change: Change) -> dict[str, Any]:
    document: dict[str, Any] = {"channel": change.channel, "change": change.kind}
    messages = _messages(change.before, change.after)
    if messages is None:
        return document | {
            "before": _values.plain(change.before),
            "after": _values.plain(change.after),
        }
    return document | {
        "messages": [
            {"change": kind, "before": _values.plain(one), "after": _values.plain(other)}
            for kind, one, other in messages
        ]
    }


def _show_all(ids: Sequence[str], changes: Sequence[Change]) -> None:
    say(styled((f"{ids[0]} → {ids[1]}", "dim")))
    for change in changes:
        _show(change)
    if not changes:
        say("no channel changed")


def _show(change: Change) -> None:
    say()
    sign, style = _SIGNS[change.kind]
    say(styled((f"{sign} {change.channel}", f"bold {style}"), (f"  {change.kind}", "dim")))
    messages = _messages(change.before, change.after)
    if messages is None:
        _show_lines(_text(change, change.before), _text(change, change.after))
    for message in messages or ():
        _show_message(message)


def _text(change: Change, value: Any) -> str:
    absent = "added" if value is change.before else "removed"
    return "" if change.kind == absent else _values.text(value)


def _show_message(change: MessageChange) -> None:
    sign, style = _SIGNS[change.kind]
    message = change.message
    say(styled(f"  {sign} ", (message.type, f"bold {style}"), (f"  {message.id or ''}", "dim")))
    before, after = (
        _values.message_text(one) if one else "" for one in (change.before, change.after)
    )
    if change.kind == "changed":
        _show_lines(before, after, indent=4)
    else:
        block(before or after, indent=4, style=style)


def _show_lines(before: str, after: str, *, indent: int = 2) -> None:
    for line in ndiff(before.splitlines(), after.splitlines()):
        if line[0] in "+-":
            block(line, indent=indent, style="green" if line[0] == "+" else "red")
