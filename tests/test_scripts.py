"""The Lua scripts as source code, and as what a server is asked to run.

They are read as text, and run in a story that calls each of them, through a client that looks at
every call (`watching.py`).
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from io import BytesIO
from itertools import chain
from pathlib import Path
from struct import calcsize, unpack
from typing import Any, NamedTuple, TypeVar, cast
from uuid import uuid4

import pytest
import redis
from langgraph.checkpoint.base import ChannelVersions
from langgraph.checkpoint.conformance.test_utils import (
    generate_checkpoint,
    generate_config,
    generate_metadata,
)
from redis.crc import key_slot

import langgraph_checkpoint_redis
from langgraph_checkpoint_redis import RedisSaver
from langgraph_checkpoint_redis._protocol.requests import (
    Call,
    Operation,
    Request,
    Together,
)
from langgraph_checkpoint_redis._scripts import load
from langgraph_checkpoint_redis._storage.keys import Keyspace

from .driving import Saver
from .stored import contents_below
from .watching import (
    SCRIPTS,
    Sent,
    WatchedCluster,
    WatchedRedis,
    conversation,
    encrypt,
    live,
    mend,
    put_much,
    saver_over,
    spread,
    story,
    tell,
)

LUA = Path(langgraph_checkpoint_redis.__file__).parent / "_scripts"
FILES = sorted(file.stem for file in LUA.glob("*.lua"))
LIBRARIES = sorted(file.stem for file in (LUA / "lib").glob("*.lua"))
PARTS = [*FILES, *(f"lib/{name}" for name in LIBRARIES)]
NAMES = sorted([*FILES, *load.SOURCES])
OF_OWN_CONNECTIONS = {"ahead", "settle"}  # a client that was passed in sends all by one script

OF_SERVER = {  # globals that Lua and the server define, as far as scripts use them
    *("redis", "cmsgpack", "struct", "string", "table", "math", "KEYS", "ARGV", "error", "ipairs"),
    *("next", "pairs", "pcall", "tonumber", "tostring", "type", "unpack"),
}

T = TypeVar("T")


@pytest.fixture(params=[WatchedRedis, WatchedCluster], ids=["single", "cluster"])
def watched(
    request: pytest.FixtureRequest, server: str, client: redis.Redis
) -> Iterator[WatchedRedis]:
    """A client whose script calls can be watched; the server knows all scripts already."""
    for script in SCRIPTS.values():
        client.script_load(script.source)
    with request.param.from_url(server) as watched:
        yield watched


# Source code


class Header(NamedTuple):
    """What the comment at the beginning of a script says."""

    title: str
    keys: int
    args: list[int]
    is_open: bool  # any number of further arguments may follow
    returns: str

    def takes(self, args: int) -> bool:
        """Whether a script may be called with so many arguments."""
        named = len(self.args) - self.is_open
        return args >= named if self.is_open else args == named


def header(name: str) -> Header:
    file = load.SOURCES.get(name, name)
    lines = re.match(r"(?:--.*\n)+", (LUA / f"{file}.lua").read_text())
    assert lines
    title, *sections = re.split(r"\n-- (?=KEYS|ARGV|Returns)", lines[0].replace("\n--\n", "\n"))
    keys, *args, returns = sections
    numbers = re.findall(r"ARGV\[(\d+)(\.\.\.)?\]", "".join(args))
    return Header(
        title,
        _documented_keys(keys.removeprefix("KEYS")),
        [int(number) for number, _ in numbers],
        any(dots for _, dots in numbers),
        returns.removeprefix("Returns").strip(),
    )


def _documented_keys(text: str) -> int:
    """How many keys there are in, say, "timeline, writes of the source; the same of the target"."""
    counts: list[int] = []
    for part in re.sub(r"\n--\s+", " ", text).strip().split(";"):
        same, none = "the same" in part, "none" in part
        counts.append(counts[0] if same else 0 if none else part.count(",") + 1)
    return sum(counts)


def used(name: str, table: str) -> set[int]:
    """The fixed indexes by which a script, with its libraries, uses KEYS or ARGV."""
    code = re.sub(r"--.*", "", SCRIPTS[name].source)
    return {int(index) for index in re.findall(rf"{table}\[(\d+)\]", code)}


def test_every_file_is_a_script_and_every_library_is_used() -> None:
    """A script would be missing where it is called, or dead code would be kept up."""
    assert sorted({load.SOURCES.get(name, name) for name in SCRIPTS}) == FILES
    assert sorted({name for path in PARTS for name in used_by(path)}) == LIBRARIES


def used_by(path: str) -> set[str]:
    """The libraries that a file says it uses, anywhere or within a function."""
    part = load.parse(path)
    return {*part.needs, *chain(*part.only.values(), *part.within.values())}


@pytest.mark.parametrize("path", PARTS)
def test_a_file_needs_what_it_says_it_needs(path: str, client: redis.Redis) -> None:
    """A change of one library would break scripts whose files say nothing of it."""
    part, found = load.parse(path), foreign_globals(client, path)
    names = {name for _, name in found}
    assert {name for how, name in found if how == "SET"} == {*part.sets}
    given = {library: {*load.parse(f"lib/{library}").gives} for library in used_by(path)}
    assert len(part.needs) == len({*part.needs})
    assert names == names & {*chain(*given.values())}
    assert [library for library in given if not given[library] & names] == []


@pytest.mark.parametrize("name", LIBRARIES)
def test_a_library_gives_what_other_files_use(name: str, client: redis.Redis) -> None:
    """A reader would take a helper for something that others rely on, or the other way round."""
    part = load.parse(f"lib/{name}")
    users = [path for path in PARTS if name in used_by(path)]
    used = {name for path in users for _, name in foreign_globals(client, path)}
    assert {*part.gives} <= {*defined_in(part.text)}
    assert {*part.gives} == {*defined_in(part.text)} & used
    assert len(part.gives) == len({*part.gives})


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_put_into_a_script_twice(name: str) -> None:
    """Two copies of a library would each have a state of their own, and take time in each call."""
    source = SCRIPTS[name].source
    texts = {library: load.parse(f"lib/{library}").text for library in LIBRARIES}
    heads = {library: text.split("\n\n", 1)[0] for library, text in texts.items()}
    assert [library for library, head in heads.items() if source.count(head) > 1] == []


@pytest.mark.parametrize("name", NAMES)
def test_a_script_has_room_for_more_names(name: str, client: redis.Redis) -> None:
    """Lua takes 200 local variables: the next function would make a script fail for all."""
    more = ", ".join(f"more_{number}" for number in range(10))
    assert compiled(client, f"local {more}\n{SCRIPTS[name].source}")


@pytest.mark.parametrize("name", NAMES)
def test_no_name_of_a_script_hides_another(name: str) -> None:
    """What a library defines would mean one thing above a line and another one below."""
    names = [*defined_in(SCRIPTS[name].source)]
    assert sorted({name for name in names if names.count(name) > 1}) == []


def test_a_library_that_needs_itself_is_refused() -> None:
    """An order in which each file comes behind what it needs would be sought for ever."""
    files = {
        "script": "-- Needs: one\nreturn one()\n",
        "lib/one": "-- Needs: other\n-- Gives: one\n\nlocal one = other\n",
        "lib/other": "-- Within look: one\n-- Gives: other\n\nlocal function other()\nend\n",
    }
    with pytest.raises(ValueError, match="one, other, one"):
        load.assemble("script", files.__getitem__)


def test_libraries_are_defined_in_order_and_once() -> None:
    """A script would call what is not defined yet, or define what is there."""
    files = {
        "script": "-- Needs: outer, base\n-- Within look: inner, base\n"
        "local function look()\n  return inner() + base\nend\nreturn outer()\n",
        "lib/base": "-- Gives: base\n\nlocal base = 1\n",
        "lib/inner": "-- Needs: base, deep\n-- Gives: inner\n\nlocal function inner()\nend\n",
        "lib/deep": "-- Gives: deep\n\nlocal deep = 1\n",
        "lib/outer": "-- Needs: base\n-- Gives: outer\n\nlocal function outer()\nend\n",
    }
    lines = load.assemble("script", files.__getitem__).splitlines()
    code = [line for line in lines if line.startswith(("local", "return", "  return"))]
    assert code == [
        "local base = 1",
        "local function outer()",
        "local function look()",
        "local deep = 1",
        "local function inner()",
        "  return inner() + base",
        "return outer()",
    ]


def test_a_script_is_the_same_in_each_process() -> None:
    """Each process would load its own scripts into the server, which keeps all of them."""
    program = (
        "from langgraph_checkpoint_redis._scripts import load\n"
        "print([found.sha for found in vars(load).values() if hasattr(found, 'sha')])"
    )
    shas = {
        subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | {"PYTHONHASHSEED": seed},
            stdout=subprocess.PIPE,
            check=True,
        ).stdout
        for seed in "12"
    }
    assert [str([script.sha for script in SCRIPTS.values()])] == [
        sha.decode().strip() for sha in shas
    ]


def defined_in(text: str) -> Iterator[str]:
    """The names that a Lua text defines for all of it that follows."""
    for function, names in re.findall(
        r"^local (?:function (\w+)|([\w, ]+?)(?: =.*| *--.*)?$)", text, re.MULTILINE
    ):
        yield from [function] if function else names.split(", ")


@pytest.mark.parametrize("name", LIBRARIES)
def test_a_library_only_defines_something(name: str, client: redis.Redis) -> None:
    """To need a library would do something, at a moment that no script says."""
    itself, *_ = functions_of(compiled(client, load.parse(f"lib/{name}").text))
    assert {how for how, _ in itself} <= {"GET"}


@pytest.mark.parametrize("name", LIBRARIES)
def test_a_library_works_on_what_it_is_given(name: str, client: redis.Redis) -> None:
    """Two scripts with other arguments or keys could not use the same library."""
    found = globals_of(compiled(client, load.parse(f"lib/{name}").text))
    assert ("GET", "ARGV") not in found
    assert (("GET", "KEYS") in found) == (name == "keys")


@pytest.mark.parametrize("name", NAMES)
def test_a_script_that_has_the_control_of_a_thread_reads_it_once(name: str) -> None:
    """A lease, a time to live or a deletion would not be seen, or be read from the server twice."""
    text = re.sub(r"--.*", "", SCRIPTS[name].source)
    defines = text.count("local function read_control()")
    assert text.count("read_control()") == 2 * defines <= 2


def foreign_globals(client: redis.Redis, path: str) -> set[tuple[str, str]]:
    """What a file gets and sets that neither the file nor the server defines."""
    found = globals_of(compiled(client, load.parse(path).text))
    return {(how, name) for how, name in found if name not in OF_SERVER}


def compiled(client: redis.Redis, text: str) -> bytes:
    dump = client.eval("return string.dump(loadstring(ARGV[1]))", 0, text)
    assert isinstance(dump, bytes)
    return dump


@pytest.mark.parametrize("name", NAMES)
def test_a_header_says_what_a_script_takes(name: str) -> None:
    """Whoever reads or changes a script would be told of keys and arguments that are not so."""
    described = header(name)
    assert re.match(r"-- [A-Z].*\.$", described.title, re.DOTALL)
    assert described.returns
    assert described.args == [*range(1, len(described.args) + 1)]
    assert used(name, "KEYS") <= {*range(1, described.keys + 1)}
    assert used(name, "ARGV") <= {*described.args}


@pytest.mark.parametrize("name", [f"lib/{name}" for name in LIBRARIES])
def test_a_library_says_what_it_is_for(name: str) -> None:
    """A reader would have to guess what belongs in which file."""
    assert re.match(r"-- [A-Z]", (LUA / f"{name}.lua").read_text())


def test_scripts_are_called_with_what_their_headers_say(watched: WatchedRedis, prefix: str) -> None:
    """A script would read an argument that was meant for another purpose."""
    calls: list[Sent] = []

    def around(call: Sent, send: Callable[[], Any]) -> Any:
        calls.append(call)
        return send()

    watched.around = around
    tell(watched, prefix)
    for name, keys, args in calls:
        described = header(name)
        assert len(keys) == described.keys, name
        assert described.takes(len(args)), name
    others = {"copy"} if isinstance(watched, WatchedCluster) else {"dump", "restore"}
    assert {call.name for call in calls} == {*NAMES} - others - OF_OWN_CONNECTIONS


@pytest.mark.parametrize("name", NAMES)
def test_a_script_has_no_globals_of_its_own(name: str, client: redis.Redis) -> None:
    """A forgotten `local` would make a script fail, where nobody looks on the day of a failure."""
    found = globals_of(compiled(client, SCRIPTS[name].source))
    assert found <= {("GET", name) for name in OF_SERVER}


def globals_of(dump: bytes) -> set[tuple[str, str]]:
    """The globals that a dumped Lua 5.1 chunk gets and sets, those of its functions included."""
    return {(how, name) for how, name in chain(*functions_of(dump)) if how != "CALL"}


def functions_of(dump: bytes) -> list[set[tuple[str, str]]]:
    """What the functions of a dumped Lua 5.1 chunk get, set and call; the chunk itself is first."""
    assert dump.startswith(b"\x1bLuaQ\0\1\4\x08\4\x08\0"), "another Lua, or another machine"
    return [*_function(BytesIO(dump[12:]))]


def _function(dump: BytesIO) -> Iterator[set[tuple[str, str]]]:
    def read(kind: str) -> Any:
        return unpack(f"={kind}", dump.read(calcsize(f"={kind}")))[0]

    def text() -> str:
        return dump.read(read("Q"))[:-1].decode("latin-1")

    text(), read("4x4x3xB")  # where it comes from, lines, kinds of variables
    code = [read("I") for _ in range(read("I"))]
    of_type = {0: lambda: None, 1: lambda: read("?"), 3: lambda: read("d"), 4: text}
    constants = [of_type[read("B")]() for _ in range(read("I"))]
    used = {5: "GET", 7: "SET", 28: "CALL", 29: "CALL"}
    yield {
        (used[opcode], "" if used[opcode] == "CALL" else str(constants[instruction >> 14]))
        for instruction in code
        if (opcode := instruction & 63) in used
    }
    for _ in range(read("I")):
        yield from _function(dump)
    dump.read(4 * read("I"))  # what follows is for debuggers
    for _ in range(read("I")):
        text(), read("q")
    for _ in range(read("I")):
        text()


@pytest.mark.parametrize("name", NAMES)
def test_a_script_never_unpacks_a_list_of_any_length(name: str) -> None:
    """Beyond some thousand items, Lua's stack overflows and a large thread cannot be used."""
    calls = re.findall(r"(?<![.\w])unpack\(([^()]*(?:\([^()]*\))?)\)", SCRIPTS[name].source)
    assert all(call == "KEYS" or call.count(",") >= 2 for call in calls)


# Runs


def test_scripts_touch_no_key_but_those_they_are_given(
    watched: WatchedRedis, prefix: str, client: redis.Redis
) -> None:
    """A cluster, or a server with access rules by key, would refuse them."""
    user = f"user-{uuid4().hex}"
    client.acl_setuser(user, enabled=True, nopass=True, commands=["+@all"], keys=["*"])

    def around(call: Sent, send: Callable[[], Any]) -> Any:
        patterns = [re.sub(rb"([\\*?\[\]])", rb"\\\1", key) for key in call.keys]
        client.acl_setuser(user, enabled=True, keys=patterns, reset_keys=True)
        reply = send()
        client.acl_setuser(user, enabled=True, keys=["*"])
        return reply

    watched.around = around
    watched.connection_pool.connection_kwargs.update(username=user, password=user)
    try:
        tell(watched, prefix)
    finally:
        client.acl_deluser(user)


class SlotSaver(RedisSaver):
    """Notes the slots of each request that its operations make, with others if it is told to."""

    def __init__(
        self, *args: Any, requests: list[tuple[str, set[int]]] | None = None, **options: Any
    ) -> None:
        super().__init__(*args, **options)
        self.requests = [] if requests is None else requests

    def _run(self, operation: Operation[T], ask: Callable[[Request], Any] | None = None) -> T:
        return super()._run(self._noted(operation), ask)

    def _noted(self, operation: Operation[T]) -> Operation[T]:
        reply = None
        while True:
            try:
                request = operation.send(reply)
            except StopIteration as done:
                return cast("T", done.value)
            self.requests += _slots(request)
            reply = yield request


def _slots(request: Request) -> Iterator[tuple[str, set[int]]]:
    if isinstance(request, Call):
        yield request.script.name, {key_slot(key) for key in request.keys}
        return
    if isinstance(request, Together):  # each goes to its own node
        yield from (slots for call in request.calls for slots in _slots(call))
        return
    for name, key, *_ in request.each:
        yield str(name), {key_slot(key if isinstance(key, bytes) else str(key).encode())}


def test_no_request_has_keys_in_two_slots(watched: WatchedRedis, prefix: str) -> None:
    """A cluster would refuse an operation, for some threads and runs and not for others."""
    watched.around = lambda _, send: send()
    options: dict[str, Any] = {"ttl": 3600, "refresh_on_read": True, "tombstone": 60}
    saver = spread(SlotSaver(watched, prefix=prefix, **options), watched)
    assert [*story(saver)]

    def another(watched: WatchedRedis, **options: Any) -> SlotSaver:
        return spread(SlotSaver(watched, requests=saver.requests, **options), watched)

    conversation(another(watched, prefix=prefix, keep_last=1), "c")
    live(saver)
    mend(watched, saver)
    put_much(saver)
    encrypt(another, watched, prefix)
    within = {name for name, slots in saver.requests if len(slots) <= 1}
    across = {name for name, slots in saver.requests if len(slots) > 1}
    # On a single server, a copy is one call with the keys of both threads.
    assert across == (set() if isinstance(watched, WatchedCluster) else {"copy"})
    assert within >= {*NAMES} - {"copy", "dump", "restore"} - OF_OWN_CONNECTIONS


@pytest.mark.parametrize("keep_last", [None, 1, 2])
def test_a_call_that_is_sent_again_changes_nothing_more(
    watched: WatchedRedis, prefix: str, client: redis.Redis, keep_last: int | None
) -> None:
    """A client that retries after a lost reply would do things twice."""

    def around(call: Sent, send: Callable[[], Any]) -> Any:
        reply = send()
        once = contents_below(client, prefix)
        send()
        assert contents_below(client, prefix) == once, call.name
        return reply

    watched.around = around
    saver = saver_over(watched, prefix=prefix, keep_last=keep_last)
    last = conversation(saver, "a")
    saver.copy_thread("a", "b")
    saver.delete_for_runs(["run-1"])
    saver.prune(["b"])
    assert saver.get_tuple(last)
    for thread_id in "ab":
        saver.delete_thread(thread_id)
    assert contents_below(client, prefix) == {}


def repeated(_: Sent, send: Callable[[], Any]) -> Any:
    """Lose the first reply, as a client does whose connection breaks."""
    send()
    return send()


def test_an_operation_goes_on_from_the_reply_to_a_repeated_call(
    watched: WatchedRedis, prefix: str
) -> None:
    """A lost reply would break an operation."""
    watched.around = repeated
    tell(watched, prefix)


@pytest.mark.parametrize("keep_last", [None, 1])
def test_a_deletion_whose_reply_was_lost_leaves_nothing(
    watched: WatchedRedis, prefix: str, client: redis.Redis, keep_last: int | None
) -> None:
    """The index of runs would keep threads that are gone, forever."""
    watched.around = repeated
    saver = saver_over(watched, prefix=prefix, keep_last=keep_last)
    conversation(saver, "a")
    saver.delete_thread("a")
    assert contents_below(client, prefix) == {}


def test_a_server_may_forget_scripts_at_any_time(saver: Saver, client: redis.Redis) -> None:
    """After a restart or a failover of the server, every call would fail."""
    for _ in story(saver):
        client.script_flush()


def test_a_value_may_have_more_pieces_than_luas_stack_holds(
    saver: Saver, prefix: str, client: redis.Redis
) -> None:
    """A large state could not be stored, read or cleaned up."""
    items = [f"{number:600}" for number in range(9000)]
    at = generate_config("a")
    for large in (items, items[::-1]):
        checkpoint = generate_checkpoint(
            channel_values={"large": large}, channel_versions={"large": "1"}
        )
        at = saver.put(at, checkpoint, generate_metadata(), {"large": "1"})
    assert client.hlen(Keyspace(prefix).thread("a").chunks) > 9000
    saver.prune(["a"])
    found = saver.get_tuple(at)
    assert found
    assert found.checkpoint["channel_values"]["large"] == items[::-1]


def test_a_reader_may_know_more_values_than_luas_stack_holds(
    saver: Saver, prefix: str, client: redis.Redis
) -> None:
    """A thread of thousands of channels could be written, but not be read again."""
    values = {f"channel {number}": [f"{number:60}"] for number in range(9000)}
    versions: ChannelVersions = dict.fromkeys(values, "1")
    checkpoint = generate_checkpoint(channel_values=values, channel_versions=versions)
    at = saver.put(generate_config("a"), checkpoint, generate_metadata(), versions)
    for reader in (saver, RedisSaver(client, prefix=prefix)):
        found = reader.get_tuple(at)
        assert found
        assert found.checkpoint["channel_values"] == values


@pytest.mark.parametrize("version", [7, 1.5, "1", "größe", f"{3:032}.{0.5:016}"])
def test_a_version_is_stored_as_it_is(saver: Saver, version: str | float) -> None:
    """A thread of another saver, which counts in its own way, could not be taken over."""
    versions: ChannelVersions = {"c": version}
    checkpoint = generate_checkpoint(channel_versions=versions, versions_seen={"node": versions})
    saver.put(generate_config("a"), checkpoint, generate_metadata(), versions)
    assert saver.get(generate_config("a")) == checkpoint
