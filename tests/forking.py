"""Programs that fork, run in processes of their own, which no test should do to its own process."""

from __future__ import annotations

import subprocess
import sys
from textwrap import dedent

_START = """
    import asyncio, faulthandler, os, random, signal, sys, threading, time

    locks, async_locks = [], []  # that the client libraries make

    def recorded(make):
        def made():
            lock = make()
            if sys._getframe(1).f_globals["__name__"].partition(".")[0] in ("redis", "valkey"):
                locks.append(lock)
            return lock
        return made

    def record(self, begin=asyncio.Lock.__init__):
        begin(self)
        async_locks.append(self)

    threading.Lock, threading.RLock = recorded(threading.Lock), recorded(threading.RLock)
    asyncio.Lock.__init__ = record

    import redis, redis.asyncio, valkey, valkey.asyncio
    from langgraph_checkpoint_redis import AsyncRedisSaver, RedisSaver
    from tests.story import chat, thread

    def reads(saver, number):
        found = saver.get_tuple(thread(str(number)))
        return found.metadata["run_id"] == f"run {number}"

    def forked(work):
        pid = os.fork()
        if pid == 0:
            try:
                faulthandler.dump_traceback_later(10, exit=True)  # shows and ends what hangs
                os._exit(0 if work() else 3)
            except BaseException:
                sys.excepthook(*sys.exc_info())
            finally:
                os._exit(2)
        return pid

    def check(pid):
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert code == 0, f"a child ended with {code}"
    """


def ran(server: str, prefix: str, *parts: str) -> str:
    """Return what a program prints in the end, or its complaint."""
    told = f"url, prefix = {server!r}, {prefix!r}"
    program = "\n".join([*map(dedent, (_START, told, *parts)), "print('done')"])
    command = (sys.executable, "-c", program)
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    return done.stdout.strip() or done.stderr[-4000:]


# Forks while another thread holds each lock that a client has.

_HOLDS = """
    def fork_meanwhile(work):
        holder = threading.Thread(target=hold, daemon=True)
        holder.start()
        assert are_held.wait(10), "the locks cannot be held"
        assert locks or async_locks
        pid = forked(work)
        may_go.set()
        holder.join()
        check(pid)

    def hold():
        for lock in locks:
            lock.acquire()
        are_held.set()
        may_go.wait()
        for lock in locks:
            lock.release()

    for made in clients:
        are_held, may_go = threading.Event(), threading.Event()
        locks.clear()
        async_locks.clear()
        client = made()
        try:
            use(client)
        except BaseException:
            print(f"{client!r}:", file=sys.stderr)
            raise
    os._exit(print("done", flush=True) or 0)  # event loops and clients stay open
    """

_SYNC = """
    def use(client):
        saver = RedisSaver(client, prefix=prefix)
        for number in range(3):
            saver.put(thread(str(number)), *chat(number))
        assert all(reads(saver, number) for number in range(3))
        fork_meanwhile(lambda: all(reads(saver, number) for number in range(3))
                       and saver.put(thread("3"), *chat(3)) and reads(saver, 3))
        assert all(reads(saver, number) for number in range(4))
    """

_ASYNC = """
    async def many(saver):
        numbers = [*range(3)] * 3
        found = await asyncio.gather(*(saver.aget_tuple(thread(str(one))) for one in numbers))
        return [one.metadata["run_id"] for one in found] == [f"run {one}" for one in numbers]

    async def begin(saver):
        for number in range(3):
            await saver.aput(thread(str(number)), *chat(number))
        assert await many(saver)
        for lock in async_locks:
            await lock.acquire()

    def use(client):
        saver = AsyncRedisSaver(client, prefix=prefix)
        loop = asyncio.new_event_loop()
        loop.run_until_complete(begin(saver))
        fork_meanwhile(lambda: asyncio.run(many(saver)))
        for lock in async_locks:
            lock.release()
        assert loop.run_until_complete(many(saver))
    """


def ran_with_locks_held(server: str, prefix: str, kind: str, *clients: str) -> str:
    """Fork while another thread holds each lock of a client; return "done" or a complaint.

    `clients` are expressions that make a client; `of` is the module of redis-py for the saver.
    """
    of = "redis" if kind == "sync" else "redis.asyncio"
    made = ", ".join(f"lambda: {client}" for client in clients)
    told = f"of, clients = {of}, [{made}]"
    return ran(server, prefix, told, _SYNC if kind == "sync" else _ASYNC, _HOLDS)
