"""The index of runs: which threads have checkpoints of a run.

`delete_for_runs` has to find threads by run. A run's index is a sorted set in a slot of its own, so
no script can change it together with a thread. Any client may stop between two requests, and the
requests of several clients may come in any order. Still, **the index leads to every thread that has
a checkpoint of the run, at every moment**. This is why:

* A registration makes an entry: the thread id with a random token. Nobody makes an entry again
  under the same token once it was removed.
* The thread's hash `runs` holds the tokens of its entries beside the number of checkpoints. The
  script of `put` adds the token of a new entry together with the checkpoint.
* A run without a checkpoint in the thread gets none without a new entry: the script refuses, and
  the client registers the run and puts again. So the checkpoint that makes a run's number 1 comes
  with a token which nobody else knows yet.
* Who removes entries removes the tokens that the thread named in a script which found the number
  to be 0. A put that registered before, and comes later, has another token: its entry stays. So
  while the number is above 0, the token that came with the first of these checkpoints is in the
  index.
* The thread forgets a token after its entry is removed. A removal that breaks off is found again
  by the thread, or by the index; where the thread has nothing else, it forgets after a day.
* A put whose answer was lost may have been carried out, and its checkpoint and entry removed again.
  So it is sent again without its registration.
* The thread does not know the entry of a put that broke off between its two requests. It stays as
  it is for a day, as the put may be on its way; the next `delete_for_runs` of the run after
  that removes it. The script of `put` refuses a registration that is older than half a day.

The score of an entry is the time until when it is needed. It is only ever raised, and a thread is
not given more time than its entries have: they are raised first (see life.lua). So no order of
requests lets an entry expire before its thread. A thread that gets less time gets new entries in
the places of those that would stay too long, and names the old ones as not needed any more. The
index key expires with its last entry.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from secrets import token_urlsafe
from time import time
from typing import Any, NamedTuple, cast

from langgraph_checkpoint_redis._protocol.confirm import Confirm
from langgraph_checkpoint_redis._protocol.requests import Call, Commands, Operation, ask
from langgraph_checkpoint_redis._protocol.resp import Command
from langgraph_checkpoint_redis._scripts import calls

from .options import ENTRY_LIVES
from .state import SaverState

FAR = 10**15  # the scores of entries that never expire begin here
STALE_AFTER = 24 * 60 * 60 * 1000  # milliseconds; runs.lua accepts a registration for half of that
BARE = "."  # stands, in the place of a token, for the entries that older versions made


@dataclass(slots=True)
class Registration:
    """What a put has done for the index of runs: a new entry, or nothing where none is needed."""

    thread_id: str
    run: str
    confirm: Confirm | None
    token: str = ""
    score: int = 0

    @property
    def argument(self) -> str:
        """Return the registration as put.lua takes it."""
        return f"{self.token} {self.score}" if self.token else ""


class Trouble(NamedTuple):
    """Something that is wrong between a thread and the index of a run."""

    run: str
    key: bytes
    is_lost: bool  # the index does not lead to the thread; else it leads there needlessly
    renewed: str  # the run as scripts take it

    @property
    def reason(self) -> str:
        """What is wrong, for people."""
        if self.is_lost:
            return f"the index of run {self.run!r} does not lead to the thread"
        return f"the thread has no checkpoint of run {self.run!r}, and its index was not cleared"


class RunIndex(NamedTuple):
    """The operations on the index of runs, and on what threads know of it."""

    state: SaverState

    def _key(self, run: str) -> bytes:
        return self.state.keyspace.run(run)

    # Putting checkpoints

    def register(
        self, thread_id: str, run: str, lifetime: int, confirm: Confirm | None
    ) -> Operation[Registration]:
        """Make an entry for a run, unless this process has put a checkpoint of it here before."""
        registration = Registration(thread_id, run, confirm)
        if run and run not in self.state.caches.of(thread_id).runs:
            yield from self._make_entry(registration, lifetime)
        return registration

    def put(
        self, registration: Registration, make_call: Callable[..., Call[calls.PutReply]]
    ) -> Operation[calls.Stored | calls.ChunksMissing]:
        """Put a checkpoint with a registration that its script accepts.

        `make_call` is `calls.put`, which has all arguments but that one.
        """
        while True:
            reply = yield from ask(make_call(registration=registration.argument))
            if not isinstance(reply, calls.EntryNeeded):
                return reply
            # The run was deleted meanwhile, or its entry would not stay for long enough.
            useless = [_text(registration)] if registration.token else []
            yield from self._make_entry(registration, reply.lifetime)
            yield from self._remove_entries(registration.thread_id, useless)

    def _make_entry(self, registration: Registration, lifetime: int) -> Operation[None]:
        """Make an entry under a new token.

        What is confirmed behind it, is so with it; but the nodes of a cluster confirm each its own.
        """
        token = _new_token()
        key, entry = self._key(registration.run), _entry(registration.thread_id, token)
        confirm = registration.confirm if self.state.is_cluster else None
        registration.score = yield from ask(
            calls.index(key, lifetime=lifetime, entries=[entry], confirm=confirm)
        )
        registration.token = token

    def keep(self, registration: Registration, stored: calls.Stored) -> Operation[None]:
        """Do what the script of a put says is to be done for the index after it."""
        thread_id = registration.thread_id
        unused, runs, lifetime, gone = stored
        if registration.run:
            self.state.caches.learn_runs(thread_id, [registration.run])
        yield from self.renew(thread_id, runs, lifetime)
        yield from self.unindex(thread_id, [*unused, *gone])

    # Time

    def renew(self, thread_id: str, runs: Collection[bytes], lifetime: int) -> Operation[None]:
        """Let entries of a thread stay for longer, or make others in their places.

        The thread goes by that only when it is done. Whatever is lost on the way, the next call is
        asked to do it again.
        """
        while runs:
            texts, token = _decoded(runs), _new_token()
            score = FAR
            for text in texts:
                score = min(
                    score, (yield from self._renew_entries(thread_id, text, token, lifetime))
                )
            keys, span = self.state.keyspace.thread(thread_id), lifetime // ENTRY_LIVES
            superseded, runs, lifetime = yield from ask(
                calls.indexed(keys, score=score, token=token, span=span, runs=texts)
            )
            yield from self.unindex(thread_id, superseded)

    def _renew_entries(
        self, thread_id: str, text: str, token: str, lifetime: int
    ) -> Operation[int]:
        run, tokens = _run_and_tokens(text)
        entries = [_entry(thread_id, one) for one in tokens or [token]]
        return (yield from ask(calls.index(self._key(run), lifetime=lifetime, entries=entries)))

    def keep_for_ever(self, thread_id: str, runs: Collection[bytes]) -> Operation[list[str]]:
        """Make entries of a thread permanent, and return them as set_life.lua takes them."""
        texts = _decoded(runs)
        pairs = [_run_and_tokens(text) for text in texts]
        yield from self._never_expire(
            {run: [_entry(thread_id, one) for one in tokens] for run, tokens in pairs},
            int(time() * 1000),
        )
        return texts

    # Copies

    def lead(
        self, thread_id: str, runs: Collection[bytes], span: int, now: int
    ) -> Operation[tuple[str, int]]:
        """Make entries for a copy that comes next; their token and their score."""
        token = _new_token()
        entry = _entry(thread_id, token)
        names = list_names(runs)
        if not span:
            return token, (yield from self._never_expire({run: [entry] for run in names}, now))
        lifetime = ENTRY_LIVES * span
        score = now + lifetime
        for run in names:
            call = calls.index(self._key(run), lifetime=lifetime, entries=[entry])
            score = min(score, (yield from ask(call)))
        return token, score

    def lead_no_more(self, thread_id: str, runs: Collection[bytes], token: str) -> Operation[None]:
        """Remove the entries for a copy that was not made."""
        names = list_names(runs)
        yield from self._remove_entries(thread_id, [f"{run}\0 {token}" for run in names])

    def _never_expire(self, entries: Mapping[str, Sequence[bytes]], now: int) -> Operation[int]:
        """Make entries, or raise them, such that they never expire; their score.

        The key may expire between two of the commands. Then the last one creates it again.
        """
        score, commands = FAR + now, list[Command]()
        for run, some in entries.items():
            key = self._key(run)
            pairs = [part for entry in some for part in (score, entry)]
            add: Command = ("ZADD", key, "GT", *pairs)
            commands += [add, ("PERSIST", key), add] if pairs else []
        if commands:
            yield from self._ask(commands)
        return score

    # Removing

    def unindex(self, thread_id: str, runs: Collection[bytes | str]) -> Operation[None]:
        """Remove the entries that a thread does not need any more, then let it forget them."""
        if not runs:
            return
        texts = _decoded(runs)
        yield from self._remove_entries(thread_id, texts)
        yield from ask(calls.forget_runs(self.state.keyspace.thread(thread_id), texts))

    def _remove_entries(self, thread_id: str, texts: Sequence[str]) -> Operation[None]:
        if not texts:
            return
        pairs = [_run_and_tokens(text) for text in texts]
        keys = [self._key(run) for run, _ in pairs]
        commands = list[Command]()
        for key, (_, tokens) in zip(keys, pairs, strict=True):
            commands += [
                ("ZREM", key, *[_entry(thread_id, token) for token in tokens]),
                ("ZRANGE", key, -1, -1, "WITHSCORES"),
            ]
        replies = yield from self._ask(commands)
        for key, last in zip(keys, replies[1::2], strict=True):
            if last and _score(last) < FAR:  # the key has to expire with it
                yield from ask(calls.tidy(key))

    def remove_stale(self, thread_id: str, runs: Iterable[str]) -> Operation[None]:
        """Remove the entries of puts that broke off long ago."""
        texts = list[str]()
        for run in runs:
            call = calls.stale(self._key(run), thread_id=thread_id, age=STALE_AFTER)
            tokens = yield from ask(call)
            if tokens:
                texts.append("\0 ".join([run, " ".join(token.decode() for token in tokens)]))
        if texts:
            keys = self.state.keyspace.thread(thread_id)
            unheld = yield from ask(calls.unheld(keys, texts))
            yield from self._remove_entries(thread_id, _decoded(unheld))

    # Looking

    def threads(self, runs: Sequence[str]) -> Operation[dict[str, list[str]]]:
        """The threads that runs lead to, each with those runs."""
        found: dict[str, list[str]] = {}
        if runs:
            replies = yield from self._ask([("ZRANGE", self._key(run), 0, -1) for run in runs])
            for run, entries in zip(runs, replies, strict=True):
                ids = {entry.partition(b"\0")[0].decode() for entry in entries}
                for thread_id in sorted(ids):
                    found.setdefault(thread_id, []).append(run)
        return found

    def troubles(self, thread_id: str) -> Operation[list[Trouble]]:
        """What is wrong between a thread and the index."""
        keys = self.state.keyspace.thread(thread_id)
        here, gone, *_ = yield from ask(calls.runs_of(keys))
        texts = [*_decoded(here), *_decoded(gone)]
        commands = list[Command]()
        for text in texts:
            run, tokens = _run_and_tokens(text)
            commands += [("ZSCORE", self._key(run), _entry(thread_id, one)) for one in tokens]
        replies = iter((yield from self._ask(commands)) if commands else [])
        troubles = []
        for number, text in enumerate(texts):
            run, tokens = _run_and_tokens(text)
            scores = [next(replies) for _ in tokens]
            is_led = any(score is not None for score in scores)
            is_here = number < len(here)
            if is_here != is_led or not is_here:
                troubles.append(Trouble(run, self._key(run), is_here, text))
        return troubles

    def mend(self, thread_id: str, troubles: Iterable[Trouble]) -> Operation[None]:
        """Make the entries that a thread lacks, and remove those that it does not need."""
        lost = [trouble for trouble in troubles if trouble.is_lost]
        if lost:
            keys = self.state.keyspace.thread(thread_id)
            _, _, span, now = yield from ask(calls.runs_of(keys))
            for trouble in lost:
                yield from self._mend(thread_id, trouble, span, now)
        yield from self.unindex(
            thread_id, [trouble.renewed for trouble in troubles if not trouble.is_lost]
        )

    def _mend(self, thread_id: str, trouble: Trouble, span: int, now: int) -> Operation[None]:
        """Make the entries of a run that the thread holds tokens of."""
        if span:
            yield from self._renew_entries(thread_id, trouble.renewed, "", ENTRY_LIVES * span)
        else:
            run, tokens = _run_and_tokens(trouble.renewed)
            yield from self._never_expire({run: [_entry(thread_id, one) for one in tokens]}, now)

    def _ask(self, commands: Sequence[Command]) -> Operation[Sequence[Any]]:
        """Send commands, each on an index, which may be one that an older version made."""
        replies: Sequence[Any] = yield Commands(tuple(commands), may_fail=True)
        if any(isinstance(reply, Exception) for reply in replies):
            for key in {
                command[1]: None
                for command, reply in zip(commands, replies, strict=True)
                if isinstance(reply, Exception) and "WRONGTYPE" in str(reply)
            }:
                yield from ask(calls.tidy(cast("bytes", key)))
            replies = yield Commands(tuple(commands))  # all of them may be repeated
        return replies


def _new_token() -> str:
    return token_urlsafe(6)


def _entry(thread_id: str, token: str) -> bytes:
    return (thread_id if token == BARE else f"{thread_id}\0{token}").encode()


def _text(registration: Registration) -> str:
    return f"{registration.run}\0 {registration.token}"


def list_names(runs: Iterable[bytes | str]) -> list[str]:
    """The ids of runs that come with tokens or without."""
    return [_run_and_tokens(text)[0] for text in _decoded(runs)]


def _run_and_tokens(text: str) -> tuple[str, list[str]]:
    """A run, and the tokens behind it, as scripts write them."""
    run, _, tokens = text.partition("\0")
    return run, tokens.split()


def _score(last: Sequence[Any]) -> float:
    """The score of one entry, which RESP 3 has in a list with it."""
    return float(last[-1][-1] if isinstance(last[-1], list | tuple) else last[-1])


def _decoded(names: Iterable[bytes | str]) -> list[str]:
    return sorted(name if isinstance(name, str) else name.decode() for name in names)
