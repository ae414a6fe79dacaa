"""What happens between requests: to clocks, keys and the server. A function for each kind.

Each does it, lets the oracle know what it may take back, and returns a few words for the trace.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import TYPE_CHECKING

from .oracle import Failure, Saved
from .server import PREFIX, Dump

if TYPE_CHECKING:
    from .scheduler import Simulation

SKEWS = (10, 300, 5_000, 60_000, 3_600_000, 40_000_000)  # milliseconds
JUMPS = (1_000, 70_000, 700_000, 100_000_000)
PROCESSES = 0.1  # restarts of the server that are those of its process
SNAPSHOTS = 4  # that are remembered
DIGEST = 16  # bytes in the name of a chunk; the other fields say whether the thread is whole
DATA = ("timeline", "writes", "chunks")  # the keys that make a thread


def thread_prefix(thread_id: str) -> bytes:
    """What the keys of a thread begin with."""
    return f"{PREFIX}:{{{thread_id}}}:".encode()


def is_of_copy(key: bytes) -> bool:
    """Return whether a copy in parts collects its data in this key."""
    return b"}:copy:" in key


def is_data(key: bytes) -> bool:
    """Return whether a key holds data of a thread."""
    return key.decode().endswith(DATA) and not is_of_copy(key)


def threads_of(simulation: Simulation) -> dict[str, list[bytes]]:
    """The keys of each thread."""
    found: dict[str, list[bytes]] = {}
    for key in simulation.server.keys(f"{PREFIX}:{{".encode()):
        found.setdefault(key.decode().split("{")[1].split("}")[0], []).append(key)
    return found


def _drawn_thread(simulation: Simulation, rng: Random) -> tuple[str, list[bytes]]:
    found = threads_of(simulation)
    thread_id = rng.choice([*found]) if found else ""
    return thread_id, found.get(thread_id, [])


def clock(simulation: Simulation, rng: Random) -> str:
    """The clock of a machine jumps."""
    process = rng.choice(simulation.processes)
    process.machine.skew = rng.choice([0, *SKEWS, *[-skew for skew in SKEWS]])
    return f"the clock of {process.machine.name} is {process.machine.skew} ms ahead"


def server_clock(simulation: Simulation, rng: Random) -> str:
    """Time passes for all, as by a break; what expires is gone."""
    jump = rng.choice(JUMPS)
    simulation.server.now += jump
    expire(simulation)
    return f"{jump} ms pass"


def expire(simulation: Simulation) -> None:
    """Delete the keys whose time has come: the data of a thread goes together, or not at all."""
    expired = simulation.server.expired()
    if not expired:
        return
    for thread_id, keys in threads_of(simulation).items():
        data = [*filter(is_data, keys)]
        gone = [key for key in data if key in expired]
        if gone and gone != data:
            raise Failure("expiry", f"of {data}, only {gone} expire")
        if gone:
            simulation.oracle.lost(thread_id)
    simulation.server.delete(expired)


def expire_marks(simulation: Simulation, rng: Random) -> str:
    """What a sweep has found so far is gone: it expires some time after the last call."""
    marked = {
        thread_id: [key for key in keys if key.endswith((b":live", b":copy"))]
        for thread_id, keys in threads_of(simulation).items()
    }
    if not any(marked.values()):
        return "there are no marks to expire"
    thread_id = rng.choice([thread_id for thread_id, keys in marked.items() if keys])
    gone = marked[thread_id]
    simulation.server.delete(gone)
    return f"the marks of {thread_id!r} expire: {gone}"


def expire_all_marks(simulation: Simulation) -> str:
    """The same for all sweeps."""
    found = threads_of(simulation).values()
    gone = [key for keys in found for key in keys if key.endswith(b":live")]
    simulation.server.delete(gone)
    return f"the marks expire: {gone}" if gone else ""


def expire_thread(simulation: Simulation, rng: Random) -> str:
    """All keys of a thread are gone at once."""
    thread_id, keys = _drawn_thread(simulation, rng)
    simulation.server.delete(keys)
    if thread_id:
        simulation.oracle.lost(thread_id)
    return f"{thread_id!r} expires"


def evict_key(simulation: Simulation, rng: Random) -> str:
    """The server evicts one key of a thread, or two, as it takes what was not used for long."""
    thread_id, keys = _drawn_thread(simulation, rng)
    if not keys:
        return "there is nothing to evict"
    evicted = rng.sample(keys, min(len(keys), rng.choice([1, 1, 2])))
    simulation.server.delete(evicted)
    kinds = {key.decode().rsplit(":", 1)[1] for key in evicted if not is_of_copy(key)}
    left = [key for key in keys if key not in evicted and is_data(key)]
    if kinds & {*DATA} and left:
        simulation.oracle.damaged(thread_id)
    elif kinds & {*DATA}:  # nothing can tell that there was a thread
        simulation.oracle.lost(thread_id)
    # What is left of the thread still counts checkpoints that are gone, or counts none.
    simulation.oracle.thread(thread_id).is_index_unsure |= bool(kinds & {*DATA, "runs"})
    return f"{b', '.join(evicted)!r} evicted"


def evict_fields(simulation: Simulation, rng: Random) -> str:
    """Single chunks of a thread are gone, as by an operator's hand."""
    thread_id, keys = _drawn_thread(simulation, rng)
    chunks = [key for key in keys if key.endswith(b":chunks")]
    if not chunks:
        return "there is no chunk to delete"
    client = simulation.server.client
    fields = sorted(name for name in client.hkeys(chunks[0]) if len(name) == DIGEST)
    gone = rng.sample(fields, min(len(fields), rng.randint(1, 2)))
    if not gone or len(gone) == len(fields):
        return "there are too few chunks to delete some"
    client.hdel(chunks[0], *gone)
    simulation.oracle.damaged(thread_id, is_frayed=True)
    return f"of {chunks[0]!r}, {[field.hex() for field in gone]} are deleted"


def restart(simulation: Simulation, rng: Random) -> str:
    """The server's process ends, and another goes on with its data.

    What clients notice of it is simulated anyway, so it is seldom done.
    """
    simulation.server.set_seed(rng.getrandbits(30))
    simulation.server.forget_scripts()
    if rng.random() < PROCESSES:
        simulation.server.restart()
    return "the server is restarted"


def script_flush(simulation: Simulation, rng: Random) -> str:
    """The server forgets all scripts."""
    simulation.server.forget_scripts()
    return "the server forgets its scripts"


def snapshot(simulation: Simulation, rng: Random) -> str:
    """The state to which a later move may fall back: no fault."""
    simulation.snapshots = [
        *simulation.snapshots[-SNAPSHOTS + 1 :],
        (simulation.server.dump(), simulation.oracle.saved()),
    ]
    return ""


def _drawn_snapshot(simulation: Simulation, rng: Random) -> tuple[Dump, Saved] | None:
    """A state of before; mostly the last one."""
    if not simulation.snapshots:
        return None
    return simulation.snapshots[-1 - int(rng.random() ** 2 * len(simulation.snapshots))]


def rollback(simulation: Simulation, rng: Random) -> str:
    """A thread is as it was some time ago, with all its keys."""
    thread_id, _ = _drawn_thread(simulation, rng)
    if not thread_id or not (found := _drawn_snapshot(simulation, rng)):
        return "there is nothing to fall back to"
    dump, saved = found
    simulation.server.restore(dump, thread_prefix(thread_id))
    simulation.oracle.fell_back(saved, thread_id)
    expire(simulation)
    return f"{thread_id!r} falls back to an older state"


def failover(simulation: Simulation, rng: Random) -> str:
    """A replica takes over that lacks the last writes: another process, which knows no scripts."""
    if not (found := _drawn_snapshot(simulation, rng)):
        return "there is nothing to fail over to"
    dump, saved = found
    simulation.server.restore(dump)
    simulation.server.set_seed(rng.getrandbits(30))
    simulation.server.forget_scripts()
    simulation.oracle.fell_back(saved)
    expire(simulation)
    return "a replica takes over, with an older state"


Fault = Callable[["Simulation", Random], str]

FAULTS: Mapping[str, Fault] = {
    "clock": clock,
    "server_clock": server_clock,
    "expire_marks": expire_marks,
    "expire_thread": expire_thread,
    "evict_key": evict_key,
    "evict_fields": evict_fields,
    "restart": restart,
    "rollback": rollback,
    "failover": failover,
    "script_flush": script_flush,
    "snapshot": snapshot,
}
