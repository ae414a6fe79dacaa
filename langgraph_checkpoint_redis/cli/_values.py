"""Values of channels as JSON and as text; messages as a conversation."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from datetime import date, time
from enum import Enum
from typing import Any

from langchain_core.messages import BaseMessage
from langgraph.checkpoint.serde.types import _DeltaSnapshot
from pydantic import BaseModel

from ._output import block, say, styled
from ._reading import Unreadable

INTERNAL = ("branch:", "join:", "__")  # what channels of LangGraph's own begin with
LONGEST_LINE = 60  # characters that a value may have next to its name

_STYLES = {
    "human": "bold cyan",
    "ai": "bold green",
    "system": "bold magenta",
    "tool": "bold yellow",
}


def plain(value: Any) -> Any:  # noqa: PLR0911 - one case for each kind of value
    """Turn a value into JSON types. Equal values always become equal."""
    if isinstance(value, Unreadable):
        return {"unreadable": value.reason, "type": value.type, "bytes": value.size}
    if isinstance(value, _DeltaSnapshot):
        return plain(value.value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if value is None or (isinstance(value, str | int | bool) and not isinstance(value, Enum)):
        return value
    if isinstance(value, bytes | bytearray):
        return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, BaseModel):
        return plain(value.model_dump())
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    return _plain_other(value)


def _plain_other(value: Any) -> Any:
    if isinstance(value, set | frozenset):
        return sorted((plain(item) for item in value), key=repr)
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, Enum):
        return plain(value.value)
    if hasattr(value, "node") and hasattr(value, "arg"):  # a Send
        return {"node": value.node, "arg": plain(value.arg)}
    if isinstance(value, Iterable):
        return [plain(item) for item in value]
    return str(value)


def text(value: Any) -> str:
    """Format a value for reading: a string unchanged, any other value as JSON."""
    if isinstance(value, Unreadable):
        return repr(value)
    if isinstance(value, str):
        return value
    short = json.dumps(plain(value), ensure_ascii=False)
    if len(short) <= LONGEST_LINE:
        return short
    return json.dumps(plain(value), ensure_ascii=False, indent=2)


def preview(value: Any, length: int = 60) -> str:
    """Format the beginning of a value, for a line."""
    words = " ".join(text(value).split())
    return words if len(words) <= length else words[: length - 1] + "…"


def is_conversation(value: Any) -> bool:
    """Return whether a value is a list of messages."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(item, BaseMessage) for item in value)
    )


# Showing


def show_value(name: str, value: Any) -> None:
    """Print a channel."""
    if is_conversation(value):
        say(styled((name, "bold"), (f"  {len(value)} messages", "dim")))
        for message in value:
            show_message(message)
        return
    shown = text(value)
    if "\n" in shown or len(shown) > LONGEST_LINE:
        say(styled((name, "bold")))
        block(shown)
    else:
        say(styled((name, "bold"), "  ", shown))


def show_message(message: BaseMessage) -> None:
    """Print a message: its author, its text, and its tool calls."""
    say()
    name = f" {message.name}" if message.name else ""
    style = _STYLES.get(message.type, "bold")
    say(styled("  ", (message.type + name, style), (f"  {message.id or ''}", "dim")))
    if said := content_text(message.content):
        block(said, indent=4)
    for call in _calls(message):
        block(call, indent=4, style="yellow")


def message_text(message: BaseMessage) -> str:
    """Return the text of a message, and its tool calls."""
    said = content_text(message.content)
    return "\n".join([*([said] if said else []), *_calls(message)])


def _calls(message: BaseMessage) -> list[str]:
    calls = getattr(message, "tool_calls", ())
    return [f"→ {call['name']}({_arguments(call['args'])})" for call in calls]


def _arguments(arguments: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name}={json.dumps(plain(value), ensure_ascii=False)}"
        for name, value in arguments.items()
    )


def content_text(content: str | list[Any]) -> str:
    """Return the text of a message, and the kinds of its other blocks."""
    if isinstance(content, str):
        return content
    return "\n".join(_block_text(part) for part in content)


def _block_text(part: Any) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, Mapping):
        return str(part["text"]) if "text" in part else f"[{part.get('type', 'block')}]"
    return str(part)
