"""Whether LangGraph's checkpoint library is new enough, said before anything needs it.

pip installs one that is, but other packages may have replaced it later.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from .errors import MissingLibraryError

NEEDED = "4.3"

try:
    from langgraph.checkpoint.base import DeltaChannelHistory, writes_sort_key
except ImportError as error:
    try:
        found = f"{version('langgraph-checkpoint')} is installed"
    except PackageNotFoundError:
        found = "it is not installed"
    raise MissingLibraryError(
        f"langgraph-checkpoint-redis-core needs langgraph-checkpoint {NEEDED} or newer, but "
        f"{found} ({error}): pip install -U 'langgraph-checkpoint>={NEEDED}'"
    ) from error

__all__ = ["DeltaChannelHistory", "writes_sort_key"]
