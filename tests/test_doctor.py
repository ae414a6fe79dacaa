"""The command that examines servers: fit ones, unfit ones, and those that hide what they are."""

from __future__ import annotations

import re
import time
from datetime import datetime
from types import SimpleNamespace

import pytest
import redis

from langgraph_checkpoint_redis.cli import doctor
from tests.local_server import running_server

from .commanding import Done, Run
from .documented import COMMANDS
from .servers import any_binary, running_cluster
from .users import url_of, user


def levels(done: Done) -> dict[str, str]:
    """The worst level of each check."""
    order = ["ok", "unseen", "warn", "fail"]
    found: dict[str, str] = {}
    for one in done.documents[0]:
        worst = max(found.get(one["check"], "ok"), one["level"], key=order.index)
        found[one["check"]] = worst
    return found


def test_a_server_that_will_do_is_said_to_do(run: Run, client: redis.Redis, prefix: str) -> None:
    """A doctor that cries over everything would not be asked again."""
    done = run("doctor")
    assert done.code == 0
    assert "all " in done.out
    assert levels(run("doctor", "--json")).keys() >= {"version", "commands", "clock"}
    assert not [*client.scan_iter(f"{prefix}:*")], "the probe is gone"


def test_the_doctor_tries_the_documented_commands() -> None:
    """It would call a user fit who is not, or ask for more than is needed."""
    tried = {command[0].lower() for command in doctor.probes("a", "b").values()}
    assert tried == {*COMMANDS}
    assert {*doctor.probes("a", "b")} == tried


@pytest.mark.parametrize("command", ["hset", "zrangebylex", "evalsha", "copy", "unlink"])
def test_a_command_that_is_missing_is_named(
    run: Run, server: str, client: redis.Redis, prefix: str, command: str
) -> None:
    """Which rule of an access list is wrong would have to be found by trying."""
    allowed = [one for one in COMMANDS if one != command]
    with user(client, prefix, allowed) as name:
        done = run("--url", url_of(server, name), "doctor", "--json")
    assert done.code == 1
    (finding,) = (one for one in done.documents[0] if one["check"] == "commands")
    assert finding["found"] == f"not allowed: {command}"
    assert f"+{command}" in finding["advice"]
    assert f"~{prefix}:*" in finding["advice"]


HIDDEN = [
    ("cmsgpack", "cmsgpack = nil"),
    ("struct", "struct = nil"),
    ("sha1hex", "redis = {call = redis.call, pcall = redis.pcall}"),
    ("unpack of a thousand", "unpack = function(t) return t[1], t[2] end"),
    ("order of their bytes", "redis = {call = function() return {} end}"),
    ("redis.pcall", "redis = {call = redis.call, sha1hex = redis.sha1hex}"),
    ("the time in scripts", "redis = {call = function(c) if c == 'TIME' then error('no') end end}"),
]


@pytest.mark.parametrize(("named", "hides"), HIDDEN, ids=[named for named, _ in HIDDEN])
def test_what_other_servers_lack_is_named(
    run: Run,
    client: redis.Redis,
    prefix: str,
    monkeypatch: pytest.MonkeyPatch,
    named: str,
    hides: str,
) -> None:
    """Who moves to a server that only speaks like Redis would learn it from a broken thread."""
    (found,) = (one for one in doctor.FEATURES if named in one)
    monkeypatch.setitem(doctor.FEATURES, found, f"local {hides} {doctor.FEATURES[found]}")
    done = run("doctor", "--json")
    assert done.code == 1
    (finding, *_) = (one for one in done.documents[0] if one["check"] == "features")
    assert (finding["level"], finding["found"]) == ("fail", f"missing: {found}")
    assert "Redis 6.2 or newer" in finding["advice"]
    assert not [*client.scan_iter(f"{prefix}:*")]


def test_commands_that_some_uses_need_are_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writes that are to be confirmed would fail, and nobody knows why."""
    assert levels(run("doctor", "--json"))["features"] == "ok"
    unknown = (lambda _: ("WAITMOON", 0, 1), "Confirm(moon=True) needs")
    monkeypatch.setitem(doctor.OPTIONAL, "WAITMOON", unknown)
    assert "missing: WAITMOON, which Confirm(moon=True) needs" in run("doctor").out


@pytest.mark.parametrize(("ahead", "level"), [(0.1, "ok"), (3.0, "warn"), (-3.0, "warn")])
def test_clocks_that_differ_are_shown(
    run: Run, monkeypatch: pytest.MonkeyPatch, ahead: float, level: str
) -> None:
    """Ids of checkpoints are times: those of a machine that is behind never count as the latest."""
    shifted = SimpleNamespace(time=lambda: time.time() + ahead, perf_counter=time.perf_counter)
    monkeypatch.setattr(doctor, "time", shifted)
    found = [one for one in run("doctor", "--json").documents[0] if one["check"] == "clock"]
    assert [one["level"] for one in found] == [level]
    if level == "warn":
        times = re.findall(r"\d{4}-\d\d-\d\dT[\d:.]+\+00:00", found[0]["found"])
        server, here = map(datetime.fromisoformat, times)
        assert abs((here - server).total_seconds() - ahead) < 1


def test_what_a_managed_service_hides_is_said_not_to_be_seen(
    run: Run, server: str, client: redis.Redis, prefix: str
) -> None:
    """The doctor would fail where it is needed most."""
    with user(client, prefix, COMMANDS) as name:
        done = run("--url", url_of(server, name), "doctor", "--json")
        assert run("--url", url_of(server, name), "threads").code == 0
    assert done.code == 0
    found = levels(done)
    hidden = {check for check, level in found.items() if level == "unseen"}
    assert hidden == {"version", "persistence", "eviction", "replicas"}
    assert found["commands"] == found["clock"] == found["latency"] == "ok"


def examined(run: Run, *settings: str) -> dict[str, str]:
    with running_server(any_binary(), *settings) as url:
        return levels(run("--url", url, "doctor", "--json"))


def test_settings_that_lose_checkpoints_are_found(run: Run) -> None:
    """They would be found when checkpoints are gone."""
    evicting = ("--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")
    found = examined(run, *evicting)
    assert (found["eviction"], found["persistence"]) == ("fail", "warn")
    fit = ("--maxmemory", "100mb", "--appendonly", "yes")
    found = examined(run, *fit)
    assert (found["eviction"], found["persistence"], found["memory"]) == ("ok", "ok", "ok")


@pytest.mark.parametrize(("share", "level"), [(0.5, "ok"), (0.9, "warn"), (0.99, "fail")])
def test_memory_that_is_nearly_full_is_found(run: Run, share: float, level: str) -> None:
    """Writes would be refused one day, and nobody would have known."""
    with running_server(any_binary()) as url, redis.Redis.from_url(url) as client:
        client.setrange("filling", 30_000_000, "x")  # no buffer that is freed later
        client.config_set("maxmemory", int(client.info("memory")["used_memory"] / share))
        assert levels(run("--url", url, "doctor", "--json"))["memory"] == level


def test_a_replica_is_not_taken_for_a_primary(run: Run) -> None:
    """Each write would be refused."""
    assert examined(run, "--replicaof", "127.0.0.1", "1")["replicas"] == "fail"


def test_a_cluster_is_examined_and_known_behind_a_wrong_url(run: Run) -> None:
    """A cluster would seem to work until a thread is on another node."""
    with running_cluster(primaries=3) as cluster:
        done = run("--url", cluster.url(), "doctor", "--json")
        assert levels(done)["cluster"] == "ok", done
        single = cluster.url().replace("redis+cluster", "redis").split(",")[0]
        assert levels(run("--url", single, "doctor", "--json"))["cluster"] == "fail"


def test_a_cluster_of_one_node_may_be_used_as_a_server(run: Run) -> None:
    """Operators would be told to change what works."""
    with running_cluster(primaries=1) as cluster:
        single = cluster.url().replace("redis+cluster", "redis")
        assert levels(run("--url", single, "doctor", "--json"))["cluster"] == "ok"
