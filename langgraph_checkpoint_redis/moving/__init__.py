"""Moving threads in and out: between any two LangGraph savers, and to files and back.

Nothing here is loaded by importing the package; `docs/moving.md` shows how it is used.
"""

from ._files import export_threads, import_threads
from ._migration import amigrate, migrate
from ._opening import opened
from ._reports import Moved, Report

__all__ = [
    "Moved",
    "Report",
    "amigrate",
    "export_threads",
    "import_threads",
    "migrate",
    "opened",
]
