"""Forks, signal handlers that raise, and calls that are cancelled: nobody hangs afterwards."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import anyio
import pytest
import redis.asyncio

from langgraph_checkpoint_redis import AsyncRedisSaver

from .forking import ran, ran_with_locks_held
from .story import chat, thread

ON_ONE_SERVER = True  # it is about processes

SAVERS = {
    "sync, url": "saver = RedisSaver(url, prefix=prefix)",
    "sync, client": "saver = RedisSaver(redis.Redis.from_url(url), prefix=prefix)",
    "async, url": "saver = AsyncRedisSaver(url, prefix=prefix)",
}


FORKS_WHILE_THREADS_WORK = """
    for number in range(6):
        saver.put(thread(str(number)), *chat(number))
    stop = False

    def work(number):
        while not stop:
            assert reads(saver, number)

    threads = [threading.Thread(target=work, args=[number]) for number in range(6)]
    for one in threads:
        one.start()
    sys.setswitchinterval(1e-5)
    try:
        for number in range(40):
            check(forked(lambda: reads(saver, number % 6) and saver.put(thread("new"), *chat(9))))
    finally:
        stop = True
        for one in threads:
            one.join()
    """


@pytest.mark.parametrize("made", SAVERS)
def test_a_process_may_fork_while_other_threads_are_in_calls(
    server: str, prefix: str, made: str
) -> None:
    """A web server's worker, or a task's process, would hang in its first call and never end."""
    assert ran(server, prefix, SAVERS[made], FORKS_WHILE_THREADS_WORK) == "done"


CLIENTS = (
    "of.Redis.from_url(url)",
    "of.Redis.from_url(url, protocol=3)",
    "of.Redis.from_url(url, single_connection_client=True)",
    "of.Redis(connection_pool=of.BlockingConnectionPool.from_url(url))",
)


def test_a_process_may_fork_while_another_thread_holds_the_locks_of_a_client(
    server: str, prefix: str, kind: str
) -> None:
    """A worker would hang in its first call, once in some hundred forks."""
    valkey = f"valkey{'' if kind == 'sync' else '.asyncio'}.Valkey.from_url(url)"
    assert ran_with_locks_held(server, prefix, kind, *CLIENTS, valkey) == "done"


FORKS_WITH_A_CLIENT = """
    async def many():
        found = await asyncio.gather(*(saver.aget_tuple(thread("1")) for _ in range(8)))
        return all(one.metadata["run_id"] == "run 1" for one in found)

    saver = AsyncRedisSaver(redis.asyncio.Redis.from_url(url), prefix=prefix)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(saver.aput(thread("1"), *chat(1)))
    assert loop.run_until_complete(many())
    children = [forked(lambda: asyncio.run(many())) for _ in range(3)]
    assert loop.run_until_complete(many())
    for child in children:
        check(child)
    assert loop.run_until_complete(many())
    os._exit(print("done", flush=True) or 0)  # the loop and the client stay open
    """


def test_an_asynchronous_client_leaves_its_connections_to_the_parent(
    server: str, prefix: str
) -> None:
    """The parent would get replies to requests of the child."""
    assert ran(server, prefix, FORKS_WITH_A_CLIENT) == "done"


FORKS_WITH_ONE_CONNECTION = """
    client = redis.Redis.from_url(url, single_connection_client=True)
    saver = RedisSaver(client, prefix=prefix)
    saver.put(thread("1"), *chat(1))
    own = client.client_id()
    check(forked(lambda: reads(saver, 1) and client.client_id() != own))
    assert reads(saver, 1) and client.client_id() == own

    async def own_if_read():
        found = await saver.aget_tuple(thread("1"))
        return found.metadata["run_id"] == "run 1" and await client.client_id()

    client = redis.asyncio.Redis.from_url(url, single_connection_client=True)
    saver = AsyncRedisSaver(client, prefix=prefix)
    loop = asyncio.new_event_loop()
    own = loop.run_until_complete(own_if_read())
    check(forked(lambda: asyncio.run(own_if_read()) not in (own, False)))
    assert loop.run_until_complete(own_if_read()) == own
    os._exit(print("done", flush=True) or 0)  # the loop and the clients stay open
    """


def test_a_client_with_one_connection_leaves_it_to_the_parent(server: str, prefix: str) -> None:
    """Each process would get replies to requests of the other."""
    assert ran(server, prefix, FORKS_WITH_ONE_CONNECTION) == "done"


FORKS_IN_A_CALL = """
    for number in range(3):
        saver.put(thread(str(number)), *chat(number))
    children = []

    def fork(*_):
        if threading.main_thread() is threading.current_thread():
            pid = os.fork()
            if pid == 0:
                signal.setitimer(signal.ITIMER_REAL, 0)
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
                signal.alarm(10)
                children[:] = [0]
            else:
                children.append(pid)

    signal.signal(signal.SIGALRM, fork)
    for number in range(800):
        if number % 40 == 0 and 0 not in children:
            signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-5, 1e-3))
        assert reads(saver, number % 3)
        if 0 in children and number % 40 == 39:
            os._exit(0)
    signal.setitimer(signal.ITIMER_REAL, 0)
    assert len(children) > 10
    for child in children:
        check(child)
    """


def test_a_process_may_fork_in_the_middle_of_a_call(server: str, prefix: str) -> None:
    """Parent and child would each read some of the replies of the other."""
    assert ran(server, prefix, SAVERS["sync, url"], FORKS_IN_A_CALL) == "done"


SIGNALS = """
    class Limit(Exception):
        pass

    def ring(*_):
        raise Limit

    sys.unraisablehook = lambda _: None  # redis-py's own: it ends a connection in `__del__`
    signal.signal(signal.SIGALRM, ring)
    saver.put(thread("1"), *chat(1))
    broken, until = 0, time.monotonic() + 1.5
    while time.monotonic() < until:
        try:
            signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-5, 6e-4))
            assert reads(saver, 1)
        except Exception as error:  # its own, or one that has it for its cause
            assert isinstance(error, Limit) or "Limit" in repr((error, error.__cause__)), error
            broken += 1
        finally:
            try:
                signal.setitimer(signal.ITIMER_REAL, 0)
            except Limit:
                pass
    assert broken > 50
    results = []
    for _ in range(4):
        one = threading.Thread(target=lambda: results.append(reads(saver, 1)), daemon=True)
        one.start()
        one.join(10)
    assert results == [True] * 4, results
    """


@pytest.mark.parametrize("connections", [1, 2])
def test_calls_that_signal_handlers_break_off_cost_no_later_ones(
    server: str, prefix: str, connections: int
) -> None:
    """A worker whose tasks have time limits would hang one day, and each task after that."""
    made = SAVERS["sync, url"].replace("(url", f"(url + '?max_connections={connections}'")
    assert ran(server, prefix, made, SIGNALS) == "done"


# Cancelling


async def _give_up(saver: AsyncRedisSaver, number: int) -> None:
    """Begin a call and break it off, each time in another way and another moment."""
    call = saver.aget_tuple(thread(str(number)))
    seconds = number % 7 * 1e-4
    if number % 3 == 0:
        with anyio.move_on_after(seconds):  # cancels again and again until it has ended
            await call
    elif number % 3 == 1:
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(call, seconds)
    else:
        task = asyncio.ensure_future(call)
        await asyncio.sleep(seconds)
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])


@pytest.mark.parametrize("made_of", ["url", "client"])
async def test_calls_that_are_cancelled_cost_no_later_ones(
    server: str, prefix: str, made_of: str
) -> None:
    """Persons who leave would take connections with them until there is none."""
    client = redis.asyncio.Redis.from_url(server, max_connections=2)
    of = client if made_of == "client" else server + "?max_connections=2"
    saver = AsyncRedisSaver(of, prefix=prefix)
    await saver.aput(thread("1"), *chat(1))
    await asyncio.gather(*(_give_up(saver, number) for number in range(60)))
    calls = asyncio.gather(*(saver.aget_tuple(thread("1")) for _ in range(20)))
    found = await asyncio.wait_for(calls, 10)
    assert all(one and one.metadata["run_id"] == "run 1" for one in found)
    await saver.aclose()
    await client.aclose()
