"""The version of this package, and a check of the library that it needs.

The check comes before anything else is imported. pip installs a version of langgraph-checkpoint
that is new enough, but another package may have replaced it later.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from .errors import MissingLibraryError

__version__ = "0.1.0"

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

__all__ = ["DeltaChannelHistory", "__version__", "writes_sort_key"]
