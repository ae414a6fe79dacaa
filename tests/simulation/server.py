"""A real server whose clock, order of hashes and expiry are simulated.

What belongs here: the process, and what a simulation does to it. Scripts run as they are, behind
a few lines of Lua that stand between them and three things which would spoil a replay:

* the time, which is the simulation's; keys expire when the simulation says so;
* the order of HSCAN, which is that of a hash table whose seed the simulation draws;
* the order of other replies that have none.
"""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import redis

from langgraph_checkpoint_redis import RedisSaver
from langgraph_checkpoint_redis._protocol.requests import Call, Request
from langgraph_checkpoint_redis._protocol.resp import pack_commands
from langgraph_checkpoint_redis._scripts.transactions import build_transaction
from tests.local_server import free_port, running_server

EPOCH = 4_102_444_800_000  # 2100-01-01: the server itself, by its own clock, expires nothing
PREFIX = "lg"
_CLOCK, _SEED = b"sim:clock", b"sim:seed"
SCANNED = 4  # fields in a reply of HSCAN, whatever it is asked for

PREAMBLE = f"""
local server = redis
local function integer(number)
  return string.format('%.0f', number)
end
local function simulated(call, name, ...)
  local command, args = string.upper(name), {{...}}
  local function clock()
    return tonumber(server.call('GET', '{_CLOCK.decode()}'))
  end
  local function at(milliseconds)
    return integer(clock() + milliseconds)
  end
  if command == 'TIME' then
    local now = clock()
    return {{integer(math.floor(now / 1000)), integer(now % 1000 * 1000)}}
  elseif command == 'PEXPIRE' then
    return call('PEXPIREAT', args[1], at(args[2]))
  elseif command == 'EXPIRE' then
    return call('PEXPIREAT', args[1], at(args[2] * 1000))
  elseif command == 'PTTL' then
    local deadline = call('PEXPIRETIME', args[1])
    return type(deadline) == 'number' and deadline > 0 and deadline - clock() or deadline
  elseif command == 'SET' and args[3] and string.upper(args[3]) == 'PX' then
    return call('SET', args[1], args[2], 'PXAT', at(args[4]))
  elseif command == 'HKEYS' or command == 'SMEMBERS' then
    local reply = call(command, ...)
    if not reply.err then
      table.sort(reply)
    end
    return reply
  elseif command == 'HGETALL' then
    local keys, found = call('HKEYS', ...), {{}}
    if keys.err then
      return keys
    end
    table.sort(keys)
    for _, field in ipairs(keys) do
      found[#found + 1] = field
      found[#found + 1] = server.call('HGET', args[1], field)
    end
    return found
  elseif command == 'HSCAN' then
    local keys = call('HKEYS', args[1])
    if keys.err then
      return keys
    end
    local places, seed = {{}}, server.call('GET', '{_SEED.decode()}')
    local from, novalues = tonumber(args[2]), false
    for i = 3, #args do
      novalues = novalues or string.upper(args[i]) == 'NOVALUES'
    end
    for _, field in ipairs(keys) do
      local place = tonumber(string.sub(server.sha1hex(seed .. field), 1, 12), 16) + 1
      if place >= from then
        places[#places + 1] = {{place, field}}
      end
    end
    table.sort(places, function(one, other) return one[1] < other[1] end)
    local found = {{}}
    for i = 1, math.min(#places, {SCANNED}) do
      found[#found + 1] = places[i][2]
      if not novalues then
        found[#found + 1] = server.call('HGET', args[1], places[i][2])
      end
    end
    local next_place = places[{SCANNED} + 1]
    return {{next_place and integer(next_place[1]) or '0', found}}
  end
  return call(name, ...)
end
local redis = setmetatable({{
  call = function(...) return simulated(server.call, ...) end,
  pcall = function(...) return simulated(server.pcall, ...) end,
}}, {{__index = server}})
"""


class Dump(NamedTuple):
    """What keys held: the deadline, 0 or less for none, and the content of each."""

    keys: dict[bytes, tuple[int, bytes]]

    def of(self, prefix: bytes) -> Dump:
        """Only the keys that begin so."""
        return Dump({key: held for key, held in self.keys.items() if key.startswith(prefix)})


class Server:
    """The server of a run, empty at its beginning."""

    def __init__(self, binary: Path, directory: Path) -> None:
        self._binary, self._directory = binary, directory
        self._stack, self._port = ExitStack(), free_port()
        self.url = self._start()
        self.client: Any = redis.Redis.from_url(self.url)
        self._link: Any = RedisSaver(self.url)._connections.link
        self.requests = 0

    def _start(self) -> str:
        where = "--dir", str(self._directory)
        server = running_server(self._binary, *where, port=self._port)
        return self._stack.enter_context(server)

    def reset(self) -> None:
        """Forget everything, scripts too."""
        self.client.flushall()
        self.client.script_flush()
        self.requests = 0
        self.now = EPOCH
        self.set_seed(0)

    def close(self) -> None:
        """End the process."""
        self._link.close()
        self.client.close()
        self._stack.close()

    # What clients do

    def reply(self, request: Request) -> Any:
        """What the server answers; raises what the link raises."""
        self.requests += 1
        return self._link.reply(request)

    def receive_a_part(self, call: Call[Any], share: float) -> None:
        """Receive the beginning of a transaction, and then the end of its connection."""
        data = pack_commands(build_transaction(call, call.first_chunk or 0))
        with socket.create_connection(("127.0.0.1", self._port)) as connection:
            connection.sendall(data[: int(share * data.rindex(b"EXEC"))])
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(1 << 16):
                pass

    # Time

    @property
    def now(self) -> int:
        """Milliseconds of Unix time by the server's clock."""
        return self._now

    @now.setter
    def now(self, milliseconds: int) -> None:
        self._now = milliseconds
        self.client.set(_CLOCK, milliseconds)

    def expired(self) -> list[bytes]:
        """The keys whose time has come; whoever asks deletes them."""
        keys = self.keys()
        times = self._each(keys, lambda pipeline, key: pipeline.execute_command("PEXPIRETIME", key))
        return [key for key, time in zip(keys, times, strict=True) if 0 < time <= self._now]

    # Data

    def keys(self, prefix: bytes = b"") -> list[bytes]:
        """The names of all keys that begin so."""
        found = self.client.keys(f"{PREFIX}:*")
        return sorted(key for key in found if key.startswith(prefix))

    def delete(self, keys: Sequence[bytes]) -> None:
        """Delete keys, as expiry and eviction do."""
        if keys:
            self.client.unlink(*keys)

    def dump(self) -> Dump:
        """All that there is."""
        keys = self.keys()
        times = self._each(keys, lambda pipeline, key: pipeline.execute_command("PEXPIRETIME", key))
        contents = self._each(keys, lambda pipeline, key: pipeline.dump(key))
        return Dump(dict(zip(keys, zip(times, contents, strict=True), strict=True)))

    def restore(self, dump: Dump, prefix: bytes = b"") -> None:
        """Hold what was held then, as far as its keys begin so."""
        self.delete(self.keys(prefix))
        with self.client.pipeline() as pipeline:
            for key, (time, content) in dump.of(prefix).keys.items():
                pipeline.restore(key, max(time, 0), content, absttl=True)
            pipeline.execute()

    def _each(self, keys: Sequence[bytes], ask: Callable[[Any, bytes], Any]) -> list[Any]:
        with self.client.pipeline(transaction=False) as pipeline:
            for key in keys:
                ask(pipeline, key)
            found: list[Any] = pipeline.execute()
            return found

    # The process

    def set_seed(self, seed: int) -> None:
        """Order hashes otherwise, as another process does."""
        self.client.set(_SEED, seed)

    def forget_scripts(self) -> None:
        """Know no script any more."""
        self.client.script_flush()

    def restart(self) -> None:
        """End the process, and start another with the same data."""
        self.client.save()
        self._link.close()
        self.client.close()
        self._stack.close()
        self._start()


@contextmanager
def running(binary: Path) -> Iterator[Server]:
    """A server for any number of runs, one after the other."""
    with tempfile.TemporaryDirectory(prefix="simulation-") as directory:
        server = Server(binary, Path(directory))
        try:
            yield server
        finally:
            server.close()
