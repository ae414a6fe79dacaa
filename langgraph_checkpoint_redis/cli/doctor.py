"""`doctor`: is a server fit to keep threads, and if not, what to do about it?

Each check yields findings and knows nothing of the others. Managed services hide some facts. That
is a finding of its own level, and never an error.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timezone
from enum import Enum
from functools import partial
from secrets import token_hex
from typing import Annotated, Any, NamedTuple

import redis as redis_py
import typer
from redis.exceptions import RedisError, ResponseError
from rich.text import Text

from langgraph_checkpoint_redis._admin import (
    LOCAL_HOSTS,
    OLDEST_SERVER,
    Admin,
    Url,
    is_cluster,
    read_url,
)

from ._output import emit, out, say, size, span, styled
from ._session import Json

ASKED = 20  # times
SLOW = 0.010  # seconds to be answered that are worth a word
CLOCKS_APART = 1.0  # seconds
NEARLY_FULL, FULL = 0.8, 0.95  # shares of maxmemory
BUSY = 0.8  # share of maxclients
PROBE = 60_000  # milliseconds after which what is left of a probe is gone


class Level(str, Enum):
    """How bad a finding is."""

    ok = "ok"
    warn = "warn"
    fail = "fail"
    unseen = "unseen"  # cannot be seen here


class Finding(NamedTuple):
    """A fact about the server, and what to do about it."""

    check: str
    level: Level
    found: str
    advice: str = ""


class Patient(NamedTuple):
    """The server to check, by a client, and how it is reached."""

    admin: Admin
    client: Any
    url: Url
    sections: Mapping[str, Any]

    def setting(self, name: str) -> str | None:
        """Return a setting of the server; `None` if it does not allow to read it."""
        try:
            found = self.client.config_get(name)
        except ResponseError:
            return None
        value = found.get(name) if isinstance(found, Mapping) else None
        return None if value is None else str(value)


Findings = Iterator[Finding]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("doctor")(doctor)


def doctor(
    context: typer.Context,
    strict: Annotated[bool, typer.Option(help="Exit with 1 for warnings as well.")] = False,
    json: Json = False,
) -> None:
    """Check whether the server is fit to keep threads, and say what to do where it is not.

    Writes a few small keys for the time of the check, to see which commands are allowed.
    """
    session = context.obj
    with session.saver() as saver, session.client() as client:
        patient = Patient(Admin(saver), client, read_url(session.url), _sections(client))
        findings = [finding for check in CHECKS for finding in check(patient)]
    if json:
        emit([_document(finding) for finding in findings])
    else:
        _show(findings)
    bad = {Level.fail, Level.warn} if strict else {Level.fail}
    if any(finding.level in bad for finding in findings):
        raise typer.Exit(1)


def _sections(client: Any) -> Mapping[str, Any]:
    """Return the sections of INFO, of one node of a cluster. Empty if INFO is not allowed."""
    node = {"target_nodes": client.get_random_node()} if is_cluster(client) else {}
    try:
        info: Mapping[str, Any] = client.info(**node)
    except ResponseError:
        return {}
    return info


# Showing


_STYLES = {
    Level.ok: "green",
    Level.warn: "bold yellow",
    Level.fail: "bold red",
    Level.unseen: "dim",
}


def _show(findings: list[Finding]) -> None:
    for finding in findings:
        line = styled((f"{finding.level.value:<6}", _STYLES[finding.level]), "  ")
        line.append_text(styled((f"{finding.check:<12}", "bold"), "  ", finding.found))
        _hanging(line, 22)
        if finding.advice:
            _hanging(styled(" " * 22, ("→ " + finding.advice, "italic")), 24)
    numbers = {level: sum(one.level is level for one in findings) for level in Level}
    say()
    say(", ".join(f"{number} {level.value}" for level, number in numbers.items() if number))


def _hanging(line: Text, indent: int) -> None:
    """Print a line whose further lines, in a terminal, are indented."""
    if not out.is_terminal:
        say(line)
        return
    first, *rest = line.wrap(out, out.width)
    say(first)
    if rest:
        tail = line[len(first.plain) :]
        tail.plain = tail.plain.lstrip()
        for further in tail.wrap(out, out.width - indent):
            say(Text(" " * indent).append_text(further))


def _document(finding: Finding) -> dict[str, str | None]:
    return {
        "check": finding.check,
        "level": finding.level.value,
        "found": finding.found,
        "advice": finding.advice or None,
    }


def _unseen(check: str, what: str) -> Finding:
    return Finding(
        check, Level.unseen, f"{what} cannot be seen here", "look in the service's console"
    )


# The server


def _version(patient: Patient) -> Findings:
    info = patient.sections
    version = str(info.get("redis_version", ""))
    name = "Valkey" if "valkey_version" in info else "Redis"
    shown = f"{name} {info.get('valkey_version', version)}"
    if not version:
        yield _unseen("version", "the version")
    elif tuple(map(int, version.split(".")[:2])) < OLDEST_SERVER:
        yield Finding("version", Level.fail, shown, "run Redis 6.2 or newer, or Valkey")
    else:
        mode = info.get("redis_mode", "standalone")
        yield Finding("version", Level.ok, f"{shown}, {mode}, up {span(info['uptime_in_seconds'])}")


def _scripts(patient: Patient) -> Findings:
    try:
        patient.admin.check_server()
    except RedisError as error:
        advice = "allow EVAL and EVALSHA: all that savers do is a script"
        yield Finding("scripts", Level.fail, f"scripts do not run: {error}", advice)
    else:
        yield Finding("scripts", Level.ok, "scripts run")


def _features(patient: Patient) -> Findings:
    """Try the features that servers which only speak like Redis are known to lack."""
    key = _probe_key(patient)
    lacking = [name for name, script in FEATURES.items() if not _works(patient.client, script, key)]
    if lacking == [*FEATURES]:
        return  # scripts do not run, which is a finding already
    if lacking:
        advice = "run Redis 6.2 or newer, or Valkey: this server only speaks like one of them"
        yield Finding("features", Level.fail, f"missing: {'; '.join(lacking)}", advice)
    else:
        yield Finding("features", Level.ok, f"all {len(FEATURES)} features of scripts work")
    for name, (command, use) in OPTIONAL.items():
        if _is_unknown(patient.client, command(key)):
            found = f"missing: {name}, which {use}"
            yield Finding("features", Level.ok, found, "a newer server has it")


# Each returns 1 where the server has what the words say. The key is absent.
FEATURES = {
    "the Lua library cmsgpack (rows are MessagePack)": """
        local packed = cmsgpack.pack({1, 'a'})
        local _, value = cmsgpack.unpack_one(packed, 0)
        return cmsgpack.unpack(packed)[2] == 'a' and value[1] == 1 and 1 or 0
        """,
    "the Lua library struct (checksums are numbers in bytes)": """
        local first, second = struct.unpack('c16c16', string.rep('a', 16) .. string.rep('b', 16))
        local same = struct.unpack('>I4', struct.pack('>I4', 4294967295)) == 4294967295
        return same and second == string.rep('b', 16) and 1 or 0
        """,
    "redis.sha1hex (rows end with checksums)": """
        return redis.sha1hex('') == 'da39a3ee5e6b4b0d3255bfef95601890afd80709' and 1 or 0
        """,
    "unpack of a thousand values in Lua (long lists go in slices of it)": """
        local values = {}
        for i = 1, 1001 do
          values[i] = i
        end
        return select('#', unpack(values)) == 1001 and 1 or 0
        """,
    "ranges of members in the order of their bytes (checkpoints are sorted by them)": """
        for _, member in ipairs({'a\\0\\255', 'a\\0b', 'a\\1', 'A', 'é'}) do
          redis.call('ZADD', KEYS[1], 0, member)
        end
        local found = redis.call('ZRANGEBYLEX', KEYS[1], '[a\\0', '(a\\1')
        local last = redis.call('ZREVRANGEBYLEX', KEYS[1], '+', '-', 'LIMIT', 0, 1)
        redis.call('UNLINK', KEYS[1])
        return #found == 2 and found[1] == 'a\\0b' and last[1] == 'é' and 1 or 0
        """,
    "errors as values in scripts (redis.pcall tells what a server can do)": """
        return redis.pcall('GET').err and 1 or 0
        """,
    "the time in scripts that write (threads expire by the clock of the server)": """
        local now = redis.call('TIME')
        redis.call('SET', KEYS[1], now[1], 'PX', 60000)
        redis.call('UNLINK', KEYS[1])
        return tonumber(now[1]) > 0 and 1 or 0
        """,
}

# Commands that some uses need, and what those are.
OPTIONAL: dict[str, tuple[Callable[[str], tuple[Any, ...]], str]] = {
    "WAIT": (lambda _: ("WAIT", 0, 1), "Confirm(replicas=...) needs"),
    "WAITAOF": (lambda _: ("WAITAOF", 0, 0, 1), "Confirm(disk=True) needs"),
    "HSCAN with NOVALUES": (
        lambda key: ("HSCAN", key, 0, "NOVALUES"),
        "spares the server work when it frees chunks",
    ),
}


def _works(client: Any, script: str, key: str) -> bool:
    try:
        return bool(client.eval(script, 1, key) == 1)
    except ResponseError:
        return False


def _is_unknown(client: Any, command: tuple[Any, ...]) -> bool:
    """Return whether a server lacks a command or its option, whether or not it is allowed."""
    node = {"target_nodes": client.get_random_node()} if is_cluster(client) else {}
    try:
        client.execute_command(*command, **({} if command[0] == "HSCAN" else node))
    except ResponseError as error:
        return any(words in str(error).lower() for words in ("unknown command", "syntax error"))
    return False


def _commands(patient: Patient) -> Findings:
    missing = sorted(refused(patient.client, _probe_key(patient)))
    if not missing:
        yield Finding("commands", Level.ok, f"all {len(probes('', ''))} commands are allowed")
        return
    needed = [name for name in missing if name not in _ONLY_FOR]
    names = " ".join(f"+{name}" for name in needed)
    if needed:
        keys = f"~{patient.admin.prefix}:*"
        advice = f"ACL SETUSER ... {names} (and the keys below the prefix, {keys})"
        yield Finding("commands", Level.fail, f"not allowed: {', '.join(needed)}", advice)
    for name in missing:
        if name in _ONLY_FOR:
            found = f"{name} is not allowed: needed for {_ONLY_FOR[name]} only"
            yield Finding(
                "commands", Level.warn, found, f"ACL SETUSER ... +{name}, if you use that"
            )


_ONLY_FOR = {
    "scan": "what looks at all threads",
    "rename": "copy_thread of large threads and between slots of a cluster",
}


def probes(key: str, other: str) -> dict[str, tuple[Any, ...]]:
    """Return a harmless call of each command that savers need, in an order that works."""
    return {
        "set": ("SET", key, "1", "PX", PROBE),
        "get": ("GET", key),
        "exists": ("EXISTS", key),
        "pttl": ("PTTL", key),
        "zunionstore": ("ZUNIONSTORE", other, 1, f"{key}-absent"),
        "pexpire": ("PEXPIRE", key, PROBE),
        "pexpireat": ("PEXPIREAT", key, int(time.time() * 1000) + PROBE),
        "persist": ("PERSIST", f"{key}-absent"),
        "copy": ("COPY", f"{key}-absent", other),
        "rename": ("RENAME", f"{key}-absent", other),
        "time": ("TIME",),
        "eval": ("EVAL", "return 1", 1, key),
        "evalsha": ("EVALSHA", "0" * 40, 1, key),
        "scan": ("SCAN", 0, "MATCH", f"{key}*", "COUNT", 1),
        **{name: (name.upper(), other, *args) for name, args in _ON_ABSENT_KEYS.items()},
        "unlink": ("UNLINK", key, other),
    }


# Commands that change nothing on a key that is not there.
_ON_ABSENT_KEYS: dict[str, tuple[Any, ...]] = {
    "hget": ("f",), "hgetall": (), "hkeys": (), "hlen": (), "hmget": ("f",), "hexists": ("f",),
    "hscan": (0,), "hstrlen": ("f",), "hdel": ("f",), "sismember": ("m",), "smismember": ("m",),
    "srem": ("m",),
    "zcard": (), "zlexcount": ("-", "+"), "zrange": (0, 0), "zrangebylex": ("-", "+"),
    "zrevrangebylex": ("+", "-"), "zrem": ("m",), "zremrangebylex": ("-", "+"),
    "zremrangebyscore": (0, 0), "zscore": ("m",),
    "hset": ("f", "1"), "sadd": ("m",), "zadd": (0, "m"),
}  # fmt: skip


def _probe_key(patient: Patient) -> str:
    """Return a key below the prefix that does not exist."""
    return f"{patient.admin.prefix}:{{doctor-{token_hex(8)}}}:probe"


def refused(client: Any, key: str) -> set[str]:
    """Return the commands that the server does not allow this user on a key and one next to it."""
    commands = probes(key, f"{key}-other")
    found = {name for name, command in commands.items() if _is_refused(client, command)}
    _is_refused(client, ("PEXPIRE", f"{key}-other", PROBE))  # where UNLINK is refused
    return found


def _is_refused(client: Any, command: tuple[Any, ...]) -> bool:
    try:
        client.execute_command(*command)
    except ResponseError as error:
        complaint = str(error).lower()
        return any(
            words in complaint for words in ("permission", "unknown command", "can't run this")
        )
    return False


# Keeping what was acknowledged


def _persistence(patient: Patient) -> Findings:
    info = patient.sections
    if "aof_enabled" not in info:
        yield _unseen("persistence", "persistence")
        return
    aof, save = bool(info["aof_enabled"]), patient.setting("save")
    fsync = patient.setting("appendfsync") or "how often is not known"
    if aof:
        yield Finding("persistence", Level.ok, f"append-only file, written to disk: {fsync}")
    elif save:
        found = f"snapshots only ({save}): a crash costs all since the last one"
        yield Finding("persistence", Level.warn, found, "CONFIG SET appendonly yes")
    elif save is None:
        found = "no append-only file; whether there are snapshots cannot be seen here"
        yield Finding("persistence", Level.warn, found, "switch persistence on in the console")
    else:
        found = "nothing is written to disk: a restart costs all threads"
        yield Finding("persistence", Level.warn, found, "CONFIG SET appendonly yes")
    for name in ("rdb_last_bgsave_status", "aof_last_bgrewrite_status", "aof_last_write_status"):
        if info.get(name, "ok") != "ok":
            advice = "look at the server's log and its disk: it may refuse writes"
            yield Finding("persistence", Level.fail, f"{name} is {info[name]}", advice)


def _eviction(patient: Patient) -> Findings:
    info = patient.sections
    policy = str(info.get("maxmemory_policy", ""))
    limit, used = int(info.get("maxmemory", 0)), int(info.get("used_memory", 0))
    if not policy:
        yield _unseen("eviction", "the eviction policy")
        return
    advice = "CONFIG SET maxmemory-policy noeviction"
    if policy.startswith("allkeys"):
        level = Level.fail if limit else Level.warn
        found = f"{policy}: when memory is full, parts of threads are deleted"
        yield Finding("eviction", level, found, advice)
    elif policy != "noeviction":
        found = f"{policy}: when memory is full, parts of all threads are deleted"
        yield Finding("eviction", Level.warn, found, advice)
    else:
        yield Finding("eviction", Level.ok, policy)
    yield _memory(used, limit)


def _memory(used: int, limit: int) -> Finding:
    if not limit:
        found = f"{size(used)} used, no limit"
        advice = (
            "CONFIG SET maxmemory: a full machine ends the server, a full server refuses writes"
        )
        return Finding("memory", Level.warn, found, advice)
    share = used / limit
    found = f"{size(used)} of {size(limit)} used ({share:.0%})"
    if share < NEARLY_FULL:
        return Finding("memory", Level.ok, found)
    level = Level.fail if share >= FULL else Level.warn
    return Finding("memory", level, found, "`langgraph-redis stats`, then `prune`, or more memory")


def _replication(patient: Patient) -> Findings:
    info = patient.sections
    if "role" not in info:
        yield _unseen("replicas", "replication")
    elif info["role"] != "master":
        advice = "give the URL of the primary, or of sentinels: redis+sentinel://"
        yield Finding("replicas", Level.fail, "this is a replica: it refuses writes", advice)
    elif number := int(info.get("connected_slaves", 0)):
        yield from _replicas(patient, number)
    else:
        advice = "add one, where a machine may fail and its disk with it"
        yield Finding("replicas", Level.ok, "a primary without replicas", advice)


def _replicas(patient: Patient, number: int) -> Findings:
    replicas = [patient.sections.get(f"slave{index}") for index in range(number)]
    late = [one for one in replicas if isinstance(one, Mapping) and one.get("state") != "online"]
    if late:
        advice = "wait for them, or look at their logs"
        yield Finding("replicas", Level.warn, f"{len(late)} of {number} not in step", advice)
    elif patient.setting("min-replicas-to-write") == "0":
        advice = "CONFIG SET min-replicas-to-write 1: a primary that is cut off stops confirming"
        yield Finding("replicas", Level.ok, f"{number} in step", advice)
    else:
        yield Finding("replicas", Level.ok, f"{number} in step")


def _cluster(patient: Patient) -> Findings:
    is_cluster = patient.url.kind == "cluster"
    if not (is_cluster or patient.sections.get("cluster_enabled")):
        return
    if not is_cluster:
        yield _lone_node(patient)
        return
    try:
        info = patient.client.cluster_info(target_nodes=patient.client.get_random_node())
    except ResponseError:
        yield _unseen("cluster", "the state of the cluster")
        return
    found = f"{info['cluster_state']}, {info['cluster_slots_ok']} of 16384 slots served by "
    found += f"{info['cluster_size']} primaries"
    if info["cluster_state"] == "ok" and int(info["cluster_slots_ok"]) == 16384:  # noqa: PLR2004 - all of them
        yield Finding("cluster", Level.ok, found)
    else:
        yield Finding("cluster", Level.fail, found, "redis-cli --cluster check HOST:PORT")


def _lone_node(patient: Patient) -> Finding:
    """Say whether a node that is reached by the URL of a single server has all slots."""
    try:
        has_all_slots = patient.admin.has_all_slots()
    except ResponseError:
        return _unseen("cluster", "which slots this node of a cluster has")
    if has_all_slots:
        advice = "use redis+cluster:// before you add nodes"
        return Finding("cluster", Level.ok, "a cluster whose slots are all on this node", advice)
    advice = "use redis+cluster://: threads in slots of other nodes are out of reach"
    return Finding("cluster", Level.fail, "a cluster behind the URL of a single server", advice)


# The way there


def _connection(patient: Patient) -> Findings:
    url, info = patient.url, patient.sections
    is_local = url.plain.startswith("unix") or all(host in LOCAL_HOSTS for host, _ in url.hosts)
    secure = url.plain.startswith("rediss")
    if not (is_local or secure):
        advice = "use rediss://, unless the network is yours alone"
        yield Finding("connection", Level.warn, "not encrypted, to another machine", advice)
    else:
        yield Finding("connection", Level.ok, "TLS" if secure else "on this machine")
    if not (is_local or url.options.get("password")):
        advice = "set a user and a password: docs/operations.md has one"
        yield Finding("connection", Level.warn, "no password", advice)
    limit = int(info.get("maxclients") or patient.setting("maxclients") or 0)
    used = int(info.get("connected_clients", 0))
    if limit and used > BUSY * limit:
        advice = "CONFIG SET maxclients, or fewer processes, or ?max_connections= in URLs"
        yield Finding("connection", Level.warn, f"{used} of {limit} connections used", advice)


def _client(patient: Patient) -> Findings:
    timeout = patient.url.options.get("socket_timeout", 5.0)
    found = f"redis-py {redis_py.__version__}, waits {timeout:g} s for an answer"
    yield Finding("client", Level.ok, found)


def _latency(patient: Patient) -> Findings:
    ask = partial(_is_refused, patient.client, ("EXISTS", _probe_key(patient)))
    times = [_timed(ask) for _ in range(ASKED)]
    median, longest = statistics.median(times), max(times)
    found = f"{median * 1000:.1f} ms to ask and be answered, {longest * 1000:.1f} ms at most"
    if median < SLOW:
        yield Finding("latency", Level.ok, found)
    else:
        advice = "bring the program and the server nearer: each step of a graph waits for it"
        yield Finding("latency", Level.warn, found, advice)


def _timed(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _clock(patient: Patient) -> Findings:
    before = time.time()
    try:
        seconds, microseconds = patient.client.time()
    except ResponseError:
        yield _unseen("clock", "the server's clock")
        return
    here, there = (before + time.time()) / 2, seconds + microseconds / 1e6
    apart = there - here
    found = f"{abs(apart):.1f} s {'ahead of' if apart > 0 else 'behind'} this machine's"
    if abs(apart) < CLOCKS_APART:
        yield Finding("clock", Level.ok, found)
    else:
        found += f": the server has {_utc(there)}, this machine {_utc(here)}"
        advice = (
            "let all machines follow NTP: ids of checkpoints are times, so a machine whose clock "
            "is behind makes checkpoints that do not count as the latest"
        )
        yield Finding("clock", Level.warn, found, advice)


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="milliseconds")


CHECKS: tuple[Callable[[Patient], Findings], ...] = (
    _version,
    _scripts,
    _features,
    _commands,
    _persistence,
    _eviction,
    _replication,
    _cluster,
    _connection,
    _client,
    _latency,
    _clock,
)
