"""Find damage in a thread and remove it.

A thread is read in calls of bounded size: first the names of its chunks, then its rows, and the
chunks of each part of the rows. Changes in between could look like damage, so one script asks the
server again about each row that seems to lack something.

Nothing here calls the serializer. So `verify` needs no key, and a wrong key makes `repair` remove
nothing.

In reading order: `problems.py`, `chunks.py`, `runs.py` and `rows.py` compare what was read;
`reading.py` reads; `operations.py` has the two operations.
"""

from .operations import repair_thread, verify_thread
from .problems import Problem

__all__ = ["Problem", "repair_thread", "verify_thread"]
