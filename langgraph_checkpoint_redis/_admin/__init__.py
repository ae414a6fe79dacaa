"""Administration: what operators do with threads, from `thread_info` to `repair`.

The savers take their methods from here, see `_async/methods.py`.

Tools for operators, `cli` and `moving`, import from this module and from no module below it:

* `Admin(saver)` asks a saver for more than its public methods return: checkpoints without their
  values, many threads at a time with the failures of each, its options, its server.
* `Choice` and `Limits` say which threads to look at and what to keep of them; `Tally` sums up.
* `open_client`, `read_url`, `is_cluster` and `PASSING` are about servers: how to reach one, whether
  it is a cluster, and which errors may pass by themselves.
* `check_id`, `check_names`, `parse_time` and `expand_home` read arguments.
"""

from langgraph_checkpoint_redis._core.options import check_names
from langgraph_checkpoint_redis._storage.checks import check_id
from langgraph_checkpoint_redis._transport.clients import is_cluster
from langgraph_checkpoint_redis._transport.retry import LOCAL_HOSTS, PASSING
from langgraph_checkpoint_redis._transport.urls import Url, expand_home, read_url

from .admin import Admin
from .checkpoints import StoredCheckpoint, StoredValue, StoredWrite
from .prune import Choice, Limits, Pruned
from .reaching import open_client
from .setup import OLDEST_SERVER
from .threads import Tally
from .times import parse_time

__all__ = [
    "LOCAL_HOSTS",
    "OLDEST_SERVER",
    "PASSING",
    "Admin",
    "Choice",
    "Limits",
    "Pruned",
    "StoredCheckpoint",
    "StoredValue",
    "StoredWrite",
    "Tally",
    "Url",
    "check_id",
    "check_names",
    "expand_home",
    "is_cluster",
    "open_client",
    "parse_time",
    "read_url",
]
