"""Copies of a saver: in this process, and in others."""

from __future__ import annotations

import copy
import pickle
from asyncio import AbstractEventLoop
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from multiprocessing import get_context
from typing import Any

import cloudpickle  # type: ignore[import-untyped] # it has no types
import pytest
import redis
import redis.asyncio
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer

from langgraph_checkpoint_redis import AsyncRedisSaver, RedisSaver

from .driving import AwaitedSaver, Saver
from .story import chat, thread

ON_ONE_SERVER = True  # what is copied is not of the server


class Named(RedisSaver):
    """A saver of a user's own, with something to copy."""

    names: list[str]


@pytest.fixture
def called(loop: AbstractEventLoop) -> Iterator[Callable[[Any], Saver]]:
    """Calls a copy as if it were synchronous; all are closed at the end."""
    opened: list[Any] = []

    def called(saver: Any) -> Saver:
        opened.append(saver)
        return saver if isinstance(saver, RedisSaver) else AwaitedSaver(saver, loop)

    yield called
    for saver in opened:
        if isinstance(saver, RedisSaver):
            saver.close()
        else:
            loop.run_until_complete(saver.aclose())


def _restored(pickled: bytes) -> Any:
    return pickle.loads(pickled)  # noqa: S301 - it was made here


COPIES: dict[str, Callable[[Any], Any]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda saver: _restored(pickle.dumps(saver)),
    "cloudpickle": lambda saver: _restored(cloudpickle.dumps(saver)),
}


@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("saver_options", [{"keep_last": 1, "ttl": 1000, "confirm": None}])
def test_a_copy_reads_and_writes_what_the_original_does(
    saver: Saver, raw_saver: Any, called: Callable[[Any], Saver], way: str
) -> None:
    """Frameworks that copy a graph, or send it to a process, could not be used."""
    saver.put(thread("a"), *chat(1))
    made = COPIES[way](raw_saver)
    copied = called(made)
    found = copied.get_tuple(thread("a"))
    assert found
    assert found == saver.get_tuple(thread("a"))
    copied.put(thread("b"), *chat(2))
    assert saver.get_tuple(thread("b"))
    assert made._shared.options == raw_saver._shared.options


def test_copies_in_a_process_share_connections_and_leases(server: str, prefix: str) -> None:
    """Each graph that is compiled would open connections, and be refused by its own lease."""
    with RedisSaver.from_conn_string(server, prefix=prefix) as saver:
        for made in (copy.copy(saver), copy.deepcopy(saver)):
            assert made._connections.link is saver._connections.link
            with saver.lease("a"):
                made.put(thread("a"), *chat(1))


def test_what_a_subclass_adds_is_copied_as_it_should(server: str, prefix: str) -> None:
    """A user's own saver would lose its attributes, or share what is to be its own."""
    with Named.from_conn_string(server, prefix=prefix) as saver:
        assert isinstance(saver, Named)
        saver.names = ["x"]
        assert copy.copy(saver).names is saver.names
        deep = copy.deepcopy(saver)
        assert deep.names == ["x"]
        assert deep.names is not saver.names
        assert _restored(pickle.dumps(saver)).names == ["x"]


def test_an_encrypting_saver_goes_to_other_processes(server: str, prefix: str) -> None:
    """A worker could not read what its parent has stored."""
    serde = EncryptedSerializer.from_pycryptodome_aes(key=b"0" * 16)
    with RedisSaver.from_conn_string(server, prefix=prefix, serde=serde) as saver:
        saver.put(thread("a"), *chat(1))
        with closing(_restored(cloudpickle.dumps(saver))) as other:
            assert other.get_tuple(thread("a")) == saver.get_tuple(thread("a"))


def _run_id(saver: Any) -> str:
    found = saver.get_tuple(thread("a"))
    saver.close()
    return str(found.metadata["run_id"])


def test_a_process_pool_takes_a_saver(saver: Saver, raw_saver: Any) -> None:
    """Work on many threads could not be spread over the cores of a machine."""
    saver.put(thread("a"), *chat(1))
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        assert pool.submit(_run_id, raw_saver).result(60) == "run 1"


@pytest.mark.parametrize("dumps", [pickle.dumps, cloudpickle.dumps])
def test_a_saver_made_from_a_client_says_why_it_stays(
    kind: str, loop: AbstractEventLoop, dumps: Callable[[Any], bytes]
) -> None:
    """The error would name a lock deep inside, and no way out."""
    if kind == "sync":
        with redis.Redis() as client, pytest.raises(TypeError, match="make the saver from a URL"):
            dumps(RedisSaver(client))
    else:
        other = redis.asyncio.Redis()
        with pytest.raises(TypeError, match="make the saver from a URL"):
            dumps(AsyncRedisSaver(other))
        loop.run_until_complete(other.aclose())
