"""What goes wrong, and how it is said: bad arguments, other errors of ours, and those of others."""

from __future__ import annotations

import asyncio
import copy
import inspect
import pickle
import re
import subprocess
import sys
from asyncio import AbstractEventLoop
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractAsyncContextManager, AbstractContextManager, ExitStack
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from pkgutil import walk_packages
from typing import Any, NamedTuple, get_type_hints
from uuid import uuid4

import pytest
import redis
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.conformance.test_utils import generate_checkpoint, generate_metadata
from typing_extensions import Unpack

import langgraph_checkpoint_redis
from langgraph_checkpoint_redis import (
    AsyncRedisSaver,
    ConfigError,
    CorruptThreadError,
    EventLoopError,
    EvictionWarning,
    MissingAncestorError,
    RedisSaver,
    RedisSaverError,
    SaverOptions,
    ThreadExistsError,
    ThreadLeasedError,
    ThreadsError,
    UnsupportedServerError,
    errors,
)
from langgraph_checkpoint_redis._admin.setup import check_server
from langgraph_checkpoint_redis._storage.encryption import PlaintextFound
from langgraph_checkpoint_redis._storage.keys import Keyspace
from langgraph_checkpoint_redis.cli._session import CommandError
from langgraph_checkpoint_redis.moving import opened
from langgraph_checkpoint_redis.moving._stores import ChangedError
from tests.local_server import running_server

from .driving import AwaitedSaver, Saver
from .servers import any_binary
from .stored import chunks_at, contents


def thread(thread_id: object = "a", **configurable: Any) -> RunnableConfig:
    return {"configurable": {"thread_id": thread_id, **configurable}}


def put(
    saver: Saver, thread_id: str = "a", *, pieces: int = 5, **configurable: Any
) -> RunnableConfig:
    """Store a checkpoint of a run; its value is in chunks, with nodes above them if many."""
    values = {"c": [f"{number:600}" for number in range(pieces)]}
    checkpoint = generate_checkpoint(channel_values=values, channel_versions={"c": "1"})
    at = thread(thread_id, **configurable)
    metadata = generate_metadata(run_id=f"run of {thread_id}")
    return saver.put(at, checkpoint, metadata, {"c": "1"})


def dumped(client: redis.Redis, prefix: str) -> dict[bytes, object]:
    """All that is stored under a prefix."""
    return contents(client, client.scan_iter(f"{prefix}:*"))


# Bad arguments

SURROGATE = "half of an emoji \ud83d"
BAD_IDS: list[object] = ["", 7.5, True, None, b"bytes", "NUL \0", SURROGATE]
BAD_TEXTS: list[object] = [7, b"bytes", "NUL \0", SURROGATE]  # of those that may be empty

CHECKPOINT = generate_checkpoint(channel_values={"c": 1}, channel_versions={"c": "1"})
METADATA = generate_metadata()

# A good call of each method,
CALLS: dict[str, dict[str, Any]] = {
    "get_tuple": {"config": thread()},
    "list": {"config": thread()},
    "put": {
        "config": thread(),
        "checkpoint": CHECKPOINT,
        "metadata": METADATA,
        "new_versions": {"c": "1"},
    },
    "put_writes": {
        "config": thread(checkpoint_id="1"),
        "writes": [("c", 1)],
        "task_id": "task",
        "task_path": "path",
    },
    "get_delta_channel_history": {"config": thread(), "channels": ["c"]},
    "delete_thread": {"thread_id": "a"},
    "copy_thread": {"source_thread_id": "a", "target_thread_id": "b"},
    "delete_for_runs": {"run_ids": ["run"]},
    "prune": {"thread_ids": ["a"]},
}

# how its config is spoilt,
BAD_CONFIGS: list[tuple[str, list[Any]]] = [
    ("configurable", ["a", {"metadata": {}}, {"configurable": None}, {"configurable": "a"}]),
    ("thread_id", [{"configurable": {}}, *[thread(bad) for bad in BAD_IDS]]),
    ("checkpoint_ns", [thread(checkpoint_ns=bad, checkpoint_id="1") for bad in BAD_TEXTS]),
    ("checkpoint_id", [thread(checkpoint_id=bad) for bad in BAD_TEXTS]),
]


class Bad(NamedTuple):
    """Bad values of an argument, and what errors are to name."""

    method: str
    argument: str
    values: list[Any]
    named: str


# and how all arguments are.
BAD_ARGUMENTS = [
    *[
        Bad(method, "config", configs, named)
        for method, arguments in CALLS.items()
        if "config" in arguments
        for named, configs in BAD_CONFIGS
    ],
    Bad("put_writes", "config", [thread(), thread(checkpoint_id="")], "checkpoint_id"),
    Bad("put_writes", "task_id", BAD_IDS, "task_id"),
    Bad("put_writes", "task_path", BAD_TEXTS, "task_path"),
    Bad("put_writes", "writes", [[(SURROGATE, 1)]], "Unicode"),
    Bad("put", "checkpoint", [{**CHECKPOINT, "id": bad} for bad in BAD_IDS], r'checkpoint\["id"\]'),
    Bad("put", "checkpoint", [{**CHECKPOINT, "channel_versions": {SURROGATE: "1"}}], "Unicode"),
    Bad("put", "metadata", [{**METADATA, "run_id": SURROGATE}], "run_id"),
    Bad("list", "limit", ["3", 1.5, True], "limit"),
    Bad("list", "before", ["1", 7, ["1"]], "before"),
    Bad("list", "before", [{"configurable": "1"}], "configurable"),
    Bad("list", "before", [thread(checkpoint_id=bad) for bad in BAD_TEXTS], "checkpoint_id"),
    Bad("list", "before", [{"checkpoint_id": bad} for bad in BAD_TEXTS], "checkpoint_id"),
    Bad("list", "filter", ["source", ["source"], 7], "filter"),
    Bad("get_delta_channel_history", "channels", ["c", b"c", ["c", 7]], "channels"),
    Bad("delete_thread", "thread_id", BAD_IDS, "thread_id"),
    Bad("copy_thread", "source_thread_id", BAD_IDS, "source_thread_id"),
    Bad("copy_thread", "target_thread_id", BAD_IDS, "target_thread_id"),
    Bad(
        "delete_for_runs", "run_ids", ["run", b"run", *[["run", bad] for bad in BAD_IDS]], "run_ids"
    ),
    Bad("prune", "thread_ids", ["a", b"a", *[["a", bad] for bad in BAD_IDS]], "thread_ids"),
    Bad("prune", "strategy", ["", "everything", None, 7], "strategy"),
]


def call(saver: Saver, method: str, **changed: object) -> object:
    found = getattr(saver, method)(**CALLS[method] | changed)
    return [*found] if method == "list" else found


@pytest.mark.parametrize("bad", BAD_ARGUMENTS, ids=lambda bad: f"{bad.method} {bad.named}")
def test_a_bad_argument_is_named_and_nothing_is_written(
    saver: Saver, client: redis.Redis, prefix: str, bad: Bad
) -> None:
    """A slip would be stored as something that nobody finds again, or raise a riddle."""
    put(saver)
    before = dumped(client, prefix)
    for value in bad.values:
        with pytest.raises(ConfigError, match=bad.named):
            call(saver, bad.method, **{bad.argument: value})
        assert dumped(client, prefix) == before, value


@pytest.mark.parametrize("saver_class", [RedisSaver, AsyncRedisSaver])
@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("prefix", [*BAD_IDS, "a{b", "a}b", "{ab}"]),
        ("keep_last", [0, -1, 1.5, "3", True, 10**20, 10**5000]),
        ("compression", ["gzip", "", 7]),
    ],
)
def test_a_bad_option_is_named(saver_class: Any, option: str, values: list[object]) -> None:
    """A saver would keep threads where, or as, nobody meant it to."""
    for value in values:
        with pytest.raises(ConfigError, match=option):
            saver_class("redis://nowhere.invalid", **{option: value})


def test_a_bad_argument_is_a_value_error_too(saver: Saver) -> None:
    """Programs that treat bad input alike, from wherever it comes, would crash."""
    with pytest.raises(ValueError, match="thread_id"):
        saver.delete_thread("")


# What is accepted


def test_before_needs_neither_a_thread_nor_a_namespace_nor_its_wrapper(saver: Saver) -> None:
    """Pages of a history as LangGraph's server and its clients ask for them would be refused."""
    older = [put(saver, checkpoint_ns=namespace) for namespace in ("", "child", "")]
    bound = put(saver, checkpoint_ns="other")["configurable"]["checkpoint_id"]
    put(saver)
    for before in (
        {"checkpoint_id": bound},
        {"configurable": {"checkpoint_id": bound}},
        {"configurable": {"checkpoint_id": bound, "checkpoint_ns": "other"}},
        {"configurable": {"checkpoint_id": bound, "thread_id": "another"}},
    ):
        found: Any = call(saver, "list", before=before)
        assert [one.config for one in found] == older[::-1]


# Other errors of ours


def test_a_missing_chunk_is_named_with_the_checkpoint_that_needs_it(
    saver: Saver, client: redis.Redis, prefix: str
) -> None:
    """A state that lost a part would be read as an empty one, and a chat would begin anew."""
    at = put(RedisSaver(client, prefix=prefix), checkpoint_ns="child:1")
    key = Keyspace(prefix).thread("a").chunks
    client.hdel(key, *[*chunks_at(client, key)][:1])
    with pytest.raises(CorruptThreadError) as raised:
        saver.get_tuple(at)
    error, checkpoint_id = raised.value, at["configurable"]["checkpoint_id"]
    expected = ("a", "child:1", checkpoint_id, key.decode())
    assert (error.thread_id, error.namespace, error.checkpoint_id, error.key) == expected
    assert all(repr(part) in str(error) for part in expected)


@pytest.mark.parametrize(
    "altered",
    [b"", b"\0", b"\0short", b"\1not zlib", b"\2not zstd", b"\xffof the future"],
    ids=repr,
)
@pytest.mark.parametrize("pieces", [2, 5])
def test_an_altered_chunk_is_noticed(
    saver: Saver, client: redis.Redis, prefix: str, altered: bytes, pieces: int
) -> None:
    """A state that was damaged would be read as another state, or not be named."""
    put(RedisSaver(client, prefix=prefix), pieces=pieces)
    key = Keyspace(prefix).thread("a").chunks
    client.hset(key, mapping=dict.fromkeys(client.hkeys(key), altered))
    with pytest.raises(CorruptThreadError):
        saver.get_tuple(thread())


def test_writes_that_lost_a_chunk_are_noticed(
    saver: Saver, client: redis.Redis, prefix: str
) -> None:
    """An interrupted run would go on without what it had done."""
    other = RedisSaver(client, prefix=prefix)
    at = put(other)
    other.put_writes(at, [("c", "w" * 2000)], "task")
    client.unlink(Keyspace(prefix).thread("a").chunks)
    with pytest.raises(CorruptThreadError, match="is missing"):
        saver.get_tuple(at)


def test_a_copy_does_not_touch_a_thread_that_exists(
    saver: Saver, client: redis.Redis, prefix: str
) -> None:
    """A slip in a name would mix two threads, or replace one."""
    put(saver, "a")
    put(saver, "b")
    before = dumped(client, prefix)
    with pytest.raises(ThreadExistsError, match="'b'") as raised:
        saver.copy_thread("a", "b")
    assert raised.value.thread_id == "b"
    assert dumped(client, prefix) == before


def test_a_sync_method_says_which_method_to_await(server: str) -> None:
    """A program that calls the wrong one in an event loop would hang forever."""

    async def block() -> None:
        async with AsyncRedisSaver.from_conn_string(server) as saver:
            saver.get_tuple(thread())

    with pytest.raises(EventLoopError, match="await its twin instead"):
        asyncio.run(block())


def test_a_sync_method_says_that_its_client_has_no_loop(server: str) -> None:
    """A program without an event loop would wait forever for one."""
    saver = AsyncRedisSaver(redis.asyncio.Redis.from_url(server))
    with pytest.raises(EventLoopError, match="from a URL"):
        saver.get_tuple(thread())


def test_a_compression_without_its_library_says_what_to_install() -> None:
    """Whoever asks for `zstd` would be told of some module that they have never heard of."""
    script = (
        "import sys; sys.modules['zstandard'] = None\n"
        "from langgraph_checkpoint_redis import MissingLibraryError, RedisSaver\n"
        "try:\n    RedisSaver('redis://', compression='zstd')\n"
        "except MissingLibraryError as error:\n    print(error)"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True).stdout
    assert b"pip install langgraph-checkpoint-redis-core[zstd]" in said


# Options that do not exist


async def awaited(context: AbstractAsyncContextManager[object]) -> None:
    async with context:
        pass


def entered(context: AbstractContextManager[object]) -> None:
    with context:
        pass


OPENERS: dict[str, Callable[..., object]] = {
    "RedisSaver": RedisSaver,
    "AsyncRedisSaver": AsyncRedisSaver,
    "from_conn_string": lambda url, **options: entered(RedisSaver.from_conn_string(url, **options)),
    "embedded": lambda _, **options: entered(RedisSaver.embedded("made", **options)),
    "async from_conn_string": lambda url, **options: asyncio.run(
        awaited(AsyncRedisSaver.from_conn_string(url, **options))
    ),
    "async embedded": lambda _, **options: asyncio.run(
        awaited(AsyncRedisSaver.embedded("made", **options))
    ),
    "opened": lambda url, **options: entered(opened(url, **options)),
    "opened elsewhere": lambda _, **options: entered(opened("sqlite:///made", **options)),
}


@pytest.mark.parametrize("opener", OPENERS)
@pytest.mark.parametrize(
    ("option", "advice"),
    [
        ("keep_lats", "did you mean 'keep_last'?"),
        ("refreshonread", "did you mean 'refresh_on_read'?"),
        ("Prefix", "did you mean 'prefix'?"),
        ("zzz", "the options are prefix, serde, keep_last, "),
    ],
)
def test_a_misspelt_option_is_an_error_that_names_the_right_one(
    opener: str, option: str, advice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads that were to expire would be kept, or the error would say nothing of the option."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TypeError, match=re.escape(f"has no option {option!r}: {advice}")):
        OPENERS[opener]("redis://nowhere.invalid", **{option: 1})
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("saver_class", [RedisSaver, AsyncRedisSaver])
def test_the_options_for_annotations_are_those_of_the_constructor(
    saver_class: type[RedisSaver | AsyncRedisSaver],
) -> None:
    """A type checker would refuse an option that exists, or pass one that does not."""
    redis, *options = inspect.signature(saver_class, eval_str=True).parameters.values()
    assert redis.name == "redis"
    assert {one.name: one.annotation for one in options} == get_type_hints(SaverOptions)
    assert all(one.kind is one.KEYWORD_ONLY for one in options)


class Named(RedisSaver):
    """A saver of a user's own, with an option of its own."""

    def __init__(self, redis: str, *, name: str, **options: Unpack[SaverOptions]) -> None:
        super().__init__(redis=redis, **options)
        self.name = name


def test_a_subclass_may_have_further_options() -> None:
    """Users could not extend a saver, or mistakes in its options would pass."""
    assert Named("redis://nowhere.invalid", name="n", keep_last=1).name == "n"
    with pytest.raises(TypeError, match="Named has no option 'keep_lats'"):
        Named("redis://nowhere.invalid", name="n", keep_lats=1)  # type: ignore[call-arg]


# Our errors


def all_exceptions() -> list[type[Exception]]:
    """Every exception class that the package defines, in whichever module."""
    name = langgraph_checkpoint_redis.__name__
    for module in walk_packages(langgraph_checkpoint_redis.__path__, f"{name}."):
        if not module.name.endswith("__main__"):
            import_module(module.name)
    return [one for one in _subclasses(Exception) if one.__module__.startswith(f"{name}.")]


def _subclasses(kind: type[Exception]) -> list[type[Exception]]:
    """All classes below a class, each once. Those of built-in bases are found below them, too."""
    found = {one: None for below in kind.__subclasses__() for one in [below, *_subclasses(below)]}
    return [*found]


ERRORS = {
    name: found
    for name, found in vars(errors).items()
    if isinstance(found, type) and found.__module__ == errors.__name__
}
RAISED = all_exceptions()


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_class_is_public_documented_and_ours(name: str) -> None:
    """A program could not tell our errors from others, or name them in an `except`."""
    found = ERRORS[name]
    assert name in langgraph_checkpoint_redis.__all__
    assert found.__doc__
    assert issubclass(found, Warning if name.endswith("Warning") else RedisSaverError)


def made(kind: type[Exception]) -> Exception:
    """An error of a class, each argument of its constructor the name of that argument."""
    named = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = inspect.signature(kind.__init__).parameters.values()
    required = [one.name for one in parameters if one.default is one.empty and one.kind is named]
    arguments = [{} if name == "failures" else name for name in required[1:]]
    return kind(*(arguments or ["what happened"]))


def test_every_error_of_ours_is_looked_at() -> None:
    """A new error would be the one that breaks a pool of workers."""
    assert {*_subclasses(RedisSaverError)} <= {*RAISED}
    assert {*ERRORS.values(), ChangedError, CommandError, PlaintextFound} <= {*RAISED}


PROCESSES: dict[str, Callable[[Any], Any]] = {
    "pickle": lambda error: pickle.loads(pickle.dumps(error)),  # noqa: S301 - made here
    "an old pickle": lambda error: pickle.loads(pickle.dumps(error, 0)),  # noqa: S301 - made here
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


@pytest.mark.parametrize("way", PROCESSES)
@pytest.mark.parametrize("kind", RAISED, ids=lambda kind: kind.__name__)
def test_an_error_survives_the_way_to_another_process(kind: type[Exception], way: str) -> None:
    """A worker's error would reach its caller as a `TypeError`, and break the pool of workers."""
    error = made(kind)
    error.note = ["of the user"]  # type: ignore[attr-defined]
    found = PROCESSES[way](error)
    assert type(found) is kind
    assert (str(found), found.args, vars(found)) == (str(error), error.args, vars(error))
    assert getattr(found, "msg", None) == getattr(error, "msg", None)  # of an `ImportError`


def raise_error(error: Exception) -> None:
    """Work that fails in another process."""
    raise error


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPoolExecutor]:
    """Another process, which knows nothing of this one."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        yield pool


@pytest.mark.parametrize("kind", RAISED, ids=lambda kind: kind.__name__)
def test_an_error_that_another_process_raises_arrives_as_it_is(
    kind: type[Exception], pool: ProcessPoolExecutor
) -> None:
    """One failed task would end all others: `BrokenProcessPool`."""
    error = made(kind)
    with pytest.raises(kind) as caught:
        pool.submit(raise_error, error).result(60)
    found = caught.value
    assert type(found) is kind
    assert (str(found), found.args) == (str(error), error.args)
    assert getattr(found, "thread_id", None) == getattr(error, "thread_id", None)
    assert {**vars(found), "__notes__": None} == {**vars(error), "__notes__": None}
    assert pool.submit(abs, -1).result(60) == 1


def nested() -> ThreadsError:
    """An error with errors in it."""
    of_server = redis.exceptions.ResponseError("WRONGTYPE of a key")
    damaged = MissingAncestorError("b", "", "2", "key", ancestor_id="1")
    failures = {"a": ThreadLeasedError("a"), "b": damaged, "c": of_server}
    return ThreadsError(failures, result=7)


@pytest.mark.parametrize("way", PROCESSES)
def test_the_errors_of_many_threads_survive_together(way: str) -> None:
    """A program would know that some of its threads failed, but no longer which, or why."""
    found = PROCESSES[way](nested())
    assert found.result == 7
    assert {name: repr(error) for name, error in found.failures.items()} == {
        name: repr(error) for name, error in nested().failures.items()
    }
    assert found.failures["b"].thread_id == "b"
    assert found.failures["b"].ancestor_id == "1"


@pytest.mark.parametrize("kind", ERRORS.values(), ids=lambda kind: kind.__name__)
def test_an_error_about_a_thread_names_it_in_an_attribute(kind: type[Exception]) -> None:
    """A program would have to take the thread's id out of a sentence."""
    takes = "thread_id" in inspect.signature(kind.__init__).parameters
    assert getattr(made(kind), "thread_id", None) == ("thread_id" if takes else None)


# Errors of the connection and of the server


@pytest.fixture
def user(client: redis.Redis) -> Iterator[str]:
    """A user of the server, whose password is `right`."""
    user = f"user-{uuid4().hex}"
    rights = ["+@all"]
    client.acl_setuser(user, enabled=True, passwords=["+right"], keys=["*"], commands=rights)
    yield user
    client.acl_deluser(user)


@pytest.fixture
def saver_of(kind: str, loop: AbstractEventLoop) -> Iterator[Callable[[str], Saver]]:
    """Makes savers like `saver`, of other URLs."""
    with ExitStack() as stack:

        def made(url: str) -> Saver:
            if kind == "sync":
                return stack.enter_context(RedisSaver.from_conn_string(url))
            saver = AsyncRedisSaver(url)
            stack.callback(lambda: loop.run_until_complete(saver.aclose()))
            return AwaitedSaver(saver, loop)

        yield made


@pytest.mark.parametrize("method", ["setup", *CALLS])
def test_a_server_that_is_not_there_is_an_error_of_the_connection(
    saver_of: Callable[[str], Saver], method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Programs that know what their client raises would have to learn other errors."""
    monkeypatch.setattr("langgraph_checkpoint_redis._transport.retry.SECONDS_TO_RECOVER", 0.1)
    saver = saver_of("redis://127.0.0.1:1")
    with pytest.raises(redis.exceptions.ConnectionError, match=r"connecting to 127\.0\.0\.1:1"):
        saver.setup() if method == "setup" else call(saver, method)


def test_a_wrong_password_is_an_error_of_the_client(
    saver_of: Callable[[str], Saver], server: str, user: str
) -> None:
    """A wrong password would look like something else."""
    with pytest.raises(redis.exceptions.AuthenticationError):
        saver_of(server.replace("//", f"//{user}:wrong@")).get_tuple(thread())


def test_a_key_of_another_type_is_an_error_of_the_server(
    saver: Saver, client: redis.Redis, prefix: str
) -> None:
    """A prefix that another program uses would look like an empty thread."""
    client.set(Keyspace(prefix).thread("a").timeline, "of another program")
    with pytest.raises(redis.exceptions.ResponseError, match="WRONGTYPE"):
        saver.get_tuple(thread())


# Is the server fit?


def test_setup_is_content_with_a_good_server(saver: Saver) -> None:
    """Programs would fail to start, or warn of nothing."""
    saver.setup()


@pytest.fixture(scope="module")
def evicting_server() -> Iterator[str]:
    """A server that deletes keys when it is full."""
    with running_server(
        any_binary(), "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"
    ) as url:
        yield url


def test_setup_warns_of_a_server_that_evicts(
    saver_of: Callable[[str], Saver], evicting_server: str
) -> None:
    """Parts of conversations would vanish one day, and nobody had said so."""
    with pytest.warns(EvictionWarning, match="allkeys-lru.*noeviction"):
        saver_of(evicting_server).setup()


def test_setup_warns_of_a_server_that_evicts_what_expires(
    saver_on: Callable[..., Saver], evicting_server: str
) -> None:
    """A thread would lose parts that have a time to live of their own, and nobody had said so."""
    with redis.Redis.from_url(evicting_server) as client:
        client.config_set("maxmemory-policy", "volatile-lru")
        try:
            for ttl in (None, 3600):
                with pytest.warns(EvictionWarning, match="volatile-lru.*noeviction"):
                    saver_on(evicting_server, ttl=ttl).setup()
        finally:
            client.config_set("maxmemory-policy", "allkeys-lru")


def test_setup_does_not_need_to_see_what_a_server_says_of_itself(
    saver_of: Callable[[str], Saver], server: str, client: redis.Redis, user: str
) -> None:
    """With a user of few rights, as managed servers have them, programs could not start."""
    client.acl_setuser(user, enabled=True, commands=["-info"])
    saver_of(server.replace("//", f"//{user}:right@")).setup()


def test_setup_refuses_a_server_that_is_too_old() -> None:
    """An old server would fail in the middle of the first copy."""
    checking = check_server(RedisSaver("redis://nowhere.invalid")._shared.options)
    next(checking)
    with pytest.raises(UnsupportedServerError, match=r"5\.0\.14 is too old: 6\.2"):
        checking.send([b"redis_version:5.0.14\r\n", b"", b"", b""])
