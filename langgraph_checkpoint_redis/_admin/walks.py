"""Walks over all threads: which server to ask for its keys, and when no thread was missed.

`SCAN` promises to return each key that is there from its first call to its last. The promise holds
within one server process, since another process orders its keys differently. Client libraries
connect again without a word, so each page also asks whether the process is still the same. If it is
not, the walk begins again there.

A process is recognized by a script that it alone was taught, by this walk alone: another process
does not know it. That takes no more rights than the other scripts do; many services hide `INFO`. A
server keeps such a script, so walks that came to their end leave theirs to the next ones.

In a cluster, keys move with their slots. The walk remembers for which slots it has an answer: those
whose node had them before it was asked and after, closed and without any other change. It asks
again for all other slots, until none is left.

A server that is asked alone may be a node of a cluster. A walk over it is complete if that node has
all slots, at the beginning and at the end. Otherwise other nodes have threads, and it is an error.

A walk asks for one page at a time, so a slow caller costs nothing. It gives each thread once.

Threads are found by their timelines. Where only chunks are found, the thread may have lost its
timeline, or it has no checkpoint yet, or was deleted meanwhile: at the end, the server is asked.
"""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, islice
from secrets import token_hex
from typing import Any, NamedTuple
from weakref import finalize

from redis.exceptions import ClusterDownError

from langgraph_checkpoint_redis._protocol.requests import (
    AtNode,
    Commands,
    Operation,
    Primaries,
    Script,
)
from langgraph_checkpoint_redis._protocol.resp import Command
from langgraph_checkpoint_redis._storage.keys import Keyspace, ThreadKeys, list_starts, thread_id_of
from langgraph_checkpoint_redis._transport.clients import is_error, is_unknown_script
from langgraph_checkpoint_redis._transport.retry import OF_A_CLUSTER
from langgraph_checkpoint_redis.errors import ConfigError, UnsupportedServerError

SCANNED = 1000  # keys that a call of SCAN looks at
SLOTS = 16384
SECONDS_TO_SERVE = 10.0  # that a slot may be without a node, as in a failover
SHORT_PAUSE, WAITING_PAUSE = 0.02, 0.1  # seconds between two passes over a cluster

ASKED = 100  # threads without a timeline that the server is asked for at a time
CHANGES = 1000  # times that the server may be another one, in one walk

_scripts_left: dict[int, list[Script]] = {}  # by process of ours, as a fork copies them


def traces(keys: ThreadKeys) -> tuple[Command, ...]:
    """Return commands of which one is not answered by 0 if a thread has checkpoints, or had some.

    The mark in the chunks says that it had, where a server has evicted the timeline.
    """
    return ("EXISTS", keys.timeline), ("HEXISTS", keys.chunks, "timeline")


def _is_trace(reply: Any) -> bool:
    """Return whether a reply is of a thread that is there; raise what says nothing of it."""
    if isinstance(reply, Exception) and "WRONGTYPE" not in str(reply):
        raise reply
    return bool(reply)


class Walk(ABC):
    """A walk over the threads of a keyspace.

    Attributes:
        pause: How many seconds to wait before the next page.
    """

    def __init__(self, keyspace: Keyspace) -> None:
        self.pause = 0.0
        self._keyspace = keyspace
        # Threads are remembered by what their keys begin with: it takes less time than their ids.
        self._seen = set[bytes]()
        self._with_chunks = set[bytes]()  # those whose timeline came later, or not
        left = _scripts_left.setdefault(os.getpid(), [])
        self._mark = left.pop() if left else Script("mark", f"return 1 -- {token_hex(16)}")
        finalize(self, left.append, self._mark)

    def page(self) -> Operation[list[str] | None]:
        """Return some threads that were not returned before, or None at the end."""
        keys = yield from self._keys()
        if keys is None:
            self._with_chunks -= self._seen
            return (yield from self._rest()) if self._with_chunks else None
        names = [key if isinstance(key, bytes) else key.encode() for key in keys]
        starts = dict.fromkeys(list_starts(names, b"timeline"))
        new = [start for start in starts if start not in self._seen]
        self._seen.update(new)
        self._with_chunks.update({*list_starts(names, b"chunks")} - self._seen)
        return [thread_id_of(start.decode()) for start in new]

    def _rest(self) -> Operation[list[str]]:
        """Return some of the threads without a timeline, if they are there."""
        some = [*islice(self._with_chunks, ASKED)]
        ids = [thread_id_of(start.decode()) for start in some]
        asked = [traces(self._keyspace.thread(each)) for each in ids]
        found = yield Commands(tuple(chain.from_iterable(asked)), may_fail=True)
        replies = iter(found)
        there = [
            each
            for each, commands in zip(ids, asked, strict=True)
            if any([*map(_is_trace, islice(replies, len(commands)))])
        ]
        self._with_chunks.difference_update(some)
        return there

    @abstractmethod
    def _keys(self) -> Operation[Sequence[bytes | str] | None]: ...

    def failed(self) -> bool:
        """Take note that a request failed; return whether another one may do better at once."""
        return False

    def _scan(self, cursor: int) -> Command:
        return ("SCAN", cursor, "MATCH", self._keyspace.found(), "COUNT", SCANNED)


def start_walk(keyspace: Keyspace, *, is_cluster: bool) -> Walk:
    """Return a new walk."""
    return ClusterWalk(keyspace) if is_cluster else ServerWalk(keyspace)


def _answer(replies: Sequence[Any]) -> tuple[bool, Any]:
    """Whether the server is the same, and its other reply; both came over one connection."""
    mark, reply = replies
    is_same = not is_unknown_script(mark)
    for each in (mark if is_same else None, reply):
        if isinstance(each, Exception):
            raise each
    return is_same, reply


def _is_in_cluster(reply: Any) -> bool:
    """Return whether a server refused to look at keys in two slots at once."""
    if not isinstance(reply, Exception):
        return False
    # Some client libraries have a class for this error, without its code, and others its words.
    if is_error(reply, "ClusterCrossSlotError") or str(reply).startswith("CROSSSLOT"):
        return True
    raise reply


class ServerWalk(Walk):
    """A walk over one server, or over its successors."""

    def __init__(self, keyspace: Keyspace) -> None:
        super().__init__(keyspace)
        self._cursor = self._changes = 0
        self._is_done = False
        self._alone: NodeState | None = None  # the state of the only node of a cluster

    def _keys(self) -> Operation[Sequence[bytes | str] | None]:
        if self._is_done:
            return None
        mark, is_start = self._mark(()), self._cursor == 0
        first = mark.eval_commands() if is_start else mark.commands()
        look = (self._in_two_slots(),) if is_start else ()
        replies = yield Commands((*first, self._scan(self._cursor), *look), may_fail=True)
        is_same, (cursor, keys) = _answer(replies[:2])
        if is_start:
            in_cluster = _is_in_cluster(replies[2])
            self._alone = (yield from self._state_alone()) if in_cluster else None
            is_same = not self._alone or self._alone.is_same
        self._cursor = int(cursor)
        is_at_end = is_same and self._cursor == 0
        if is_at_end and self._alone:
            is_same = (yield from self._state_alone()) == self._alone
        if is_same:
            self._is_done = is_at_end
        else:
            self._begin_again()
        return list(keys)

    def _in_two_slots(self) -> Command:
        """Return a command that any server answers, unless it is a node of a cluster.

        It needs no further rights, and servers outside of clusters do not count it as an error.
        """
        return ("EXISTS", *(self._keyspace.thread(each).timeline for each in ("a", "b")))

    def _state_alone(self) -> Operation[NodeState]:
        """Return the state of a node that has all slots of its cluster; raise if it has not."""
        replies = yield Commands((*self._mark(()).commands(), ("CLUSTER", "NODES")), may_fail=True)
        is_same, nodes = _answer(replies)
        state = node_state(nodes, is_same=is_same)
        if is_same and not state.has_all_slots:
            raise ConfigError(OF_A_CLUSTER)
        return state

    def _begin_again(self) -> None:
        self._cursor = 0
        self._changes += 1
        if self._changes > CHANGES:
            raise UnsupportedServerError(
                f"another server has answered {CHANGES} times: a walk over all threads cannot end"
            )


# Clusters


class NodeState(NamedTuple):
    """What a node says of itself: its epoch, and its slots, some of them open.

    It `is_same` if its process is the one that the walk has taught its mark.
    The epoch grows when the node takes over a slot, so it tells of one that left and came back.
    An open slot is on its way to another node (`>-id`) or from it (`<-id`).
    """

    node_id: str
    is_same: bool
    epoch: str
    slots: frozenset[int]
    open: Mapping[int, str]

    @property
    def has_all_slots(self) -> bool:
        """Whether no other node can have a key."""
        return len(self.slots) == SLOTS and not self.open


def node_state(nodes: Any, *, is_same: bool) -> NodeState:
    """Read what a node replied to `CLUSTER NODES`."""
    text = nodes.decode() if isinstance(nodes, bytes) else str(nodes)
    myself = next(line for line in text.splitlines() if "myself" in line.split()[2].split(","))
    node_id, _, _, _, _, _, epoch, _, *ranges = myself.split()
    slots, open_slots = set[int](), dict[int, str]()
    for each in ranges:
        if each.startswith("["):
            slot, _, way = each[1:-1].partition("-")
            open_slots[int(slot)] = way
        else:
            first, _, last = each.partition("-")
            slots.update(range(int(first), int(last or first) + 1))
    return NodeState(node_id, is_same, epoch, frozenset(slots), open_slots)


def list_settled(
    before: Mapping[str, NodeState], after: Mapping[str, NodeState], scanned: Iterable[str]
) -> set[int]:
    """Return the slots none of whose keys can have been missed between two looks at nodes.

    The nodes that were `scanned` were scanned in between. Where slots were open, that was twice in
    the same order, so a node that takes in a slot was scanned behind the node that it comes from.
    """
    found = set[int]()
    same = {
        node_id
        for node_id in scanned
        if node_id in after
        and after[node_id].is_same
        and after[node_id].epoch == before[node_id].epoch
    }
    owners = [
        Counter(slot for state in states.values() for slot in state.slots)
        for states in (before, after)
    ]
    for node_id in same:
        one, other = before[node_id], after[node_id]
        for slot in one.slots & other.slots:
            way = one.open.get(slot)
            if way != other.open.get(slot) or any(count[slot] > 1 for count in owners):
                continue
            if way is None or _is_open_still(before, after, same, slot, way):
                found.add(slot)
    return found


def _is_open_still(
    before: Mapping[str, NodeState],
    after: Mapping[str, NodeState],
    same: Iterable[str],
    slot: int,
    way: str,
) -> bool:
    """Whether the node that an open slot moves to was scanned, and did not change its mind."""
    target = way.lstrip("><-")
    return target in same and before[target].open.get(slot) == after[target].open.get(slot)


class _Pass:
    """One pass over nodes of a cluster."""

    def __init__(self, before: Mapping[str, NodeState], nodes: Mapping[str, Any]) -> None:
        self.before, self.nodes = before, nodes
        self.left: list[str] = []  # nodes to scan yet
        self.scanned = set[str]()
        self.cursor = 0


class ClusterWalk(Walk):
    """A walk over the primaries of a cluster, however slots move meanwhile."""

    def __init__(self, keyspace: Keyspace) -> None:
        super().__init__(keyspace)
        self._pending = set(range(SLOTS))
        self._pass: _Pass | None = None
        self._asks_anew = False  # whether to ask the cluster first which nodes it has
        self._unserved_since = 0.0

    def failed(self) -> bool:
        """Begin the pass again; the first time at once, with the nodes that there are now."""
        asked_anew, self._asks_anew = self._asks_anew, True
        self._pass = None
        return not asked_anew

    def _keys(self) -> Operation[Sequence[bytes | str] | None]:
        self.pause = 0.0
        if not self._pending:
            return None
        if self._pass is None:
            yield from self._begin()
            return []
        if self._pass.left:
            return (yield from self._scanned(self._pass))
        yield from self._end(self._pass)
        return []

    def _begin(self) -> Operation[None]:
        """Look at all primaries, and choose those that have a slot to ask for."""
        nodes = yield Primaries(fresh=self._asks_anew)
        handles, states = {}, {}
        for node in nodes:
            state = yield from self._state(node, self._mark(()).eval_commands())
            handles[state.node_id], states[state.node_id] = node, state
        owned = frozenset[int]().union(*[state.slots for state in states.values()])
        if not self._pending <= owned:
            self._wait_for_nodes(min(self._pending - owned))
            return
        self._pass = _Pass(states, handles)
        wanted = [
            node_id
            for node_id, state in states.items()
            if not self._pending.isdisjoint([*state.slots, *state.open])
        ]
        is_open = any(not self._pending.isdisjoint(states[node_id].open) for node_id in wanted)
        self._pass.left = wanted * (2 if is_open else 1)

    def _wait_for_nodes(self, slot: int) -> None:
        """Look again later, unless a slot has had no node for long."""
        self._asks_anew = True
        self._unserved_since = self._unserved_since or time.monotonic()
        if time.monotonic() - self._unserved_since > SECONDS_TO_SERVE:
            raise ClusterDownError(
                f"CLUSTERDOWN slot {slot} is on no node that can be asked, or on its way to one: "
                "not all threads can be listed"
            )
        self.pause = WAITING_PAUSE

    def _state(self, node: Any, mark: tuple[Command, ...]) -> Operation[NodeState]:
        replies = yield AtNode((*mark, ("CLUSTER", "NODES")), may_fail=True, node=node)
        is_same, nodes = _answer(replies)
        return node_state(nodes, is_same=is_same)

    def _scanned(self, this: _Pass) -> Operation[Sequence[bytes | str]]:
        """Ask a node for its next keys."""
        node_id = this.left[0]
        commands = (*self._mark(()).commands(), self._scan(this.cursor))
        replies = yield AtNode(commands, may_fail=True, node=this.nodes[node_id])
        is_same, (cursor, keys) = _answer(replies)
        this.cursor = int(cursor)
        # A process that took over does not know the cursor; the next pass asks it from the start.
        if this.cursor == 0 or not is_same:
            this.left.pop(0)
            this.cursor = 0
            this.scanned.add(node_id)
        return list(keys)

    def _end(self, this: _Pass) -> Operation[None]:
        """Look at the nodes again: slots of nodes that are the same as before are done."""
        after = {}
        for node_id, node in this.nodes.items():
            state = yield from self._state(node, self._mark(()).commands())
            after[node_id] = state
        done = list_settled(this.before, after, this.scanned)
        is_stuck = after == this.before and done.isdisjoint(self._pending)
        self._pending -= done
        self._pass, self._asks_anew = None, True
        self.pause = SHORT_PAUSE if self._pending else 0.0
        if not is_stuck:
            self._unserved_since = 0.0
        elif self._pending:
            self._wait_for_nodes(min(self._pending))
