"""The logger: what went wrong on the way to the server and was repaired, without any content."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import redis

from langgraph_checkpoint_redis import RedisSaver, ThreadLeasedError
from langgraph_checkpoint_redis._runtime import log

from .driving import Saver
from .servers import Restarting, running_node
from .story import chat, thread

SaverOn = Callable[..., Saver]

ON_ONE_SERVER = True  # what is logged is not of the server


@pytest.fixture(autouse=True)
def nothing_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """All levels are on, and no other test has logged a moment ago."""
    log._last.clear()
    log._left_out.clear()
    with caplog.at_level(logging.DEBUG, "langgraph_checkpoint_redis"):
        yield


def levels(caplog: pytest.LogCaptureFixture) -> dict[str, str]:
    """The messages that were logged, up to their first bracket, and the level of each."""
    ours = [one for one in caplog.records if one.name == "langgraph_checkpoint_redis"]
    return {one.getMessage().split(" (")[0]: one.levelname for one in ours}


def test_a_restart_is_told_from_the_first_error_to_the_new_connection(
    saver_on: SaverOn, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """Turns that take seconds would have no cause that anybody could find."""
    lasting = ("--dir", str(tmp_path), "--appendonly", "yes", "--requirepass", "hunter2")
    with closing(Restarting(*lasting)) as server:
        saver = saver_on(server.url.replace("//", "//:hunter2@"))
        saver.put(thread("secret"), *chat(1))
        assert not caplog.records
        starting = server.restart_in(1.5)
        saver.put(thread("secret"), *chat(2))
        starting.join()
    found = levels(caplog)
    assert found.items() >= {
        ("lost a connection with 1 requests on it", "WARNING"),
        ("connected again", "INFO"),
    }
    retries = [one for one in caplog.records if "; attempt " in one.getMessage()]
    assert retries
    assert {one.levelname for one in retries} == {"WARNING"}
    assert retries[0].getMessage().startswith("index failed (")  # the run's index is first
    assert len(retries) <= 3  # at most one in a second, of about ten
    assert " more like this since the last one)" in retries[-1].getMessage()
    assert "hunter2" not in caplog.text
    assert "secret" not in caplog.text


def test_errors_of_the_server_are_named_without_what_they_echo(
    saver_on: SaverOn, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log, which more people read than the server, would have content in it."""
    monkeypatch.setattr("langgraph_checkpoint_redis._transport.retry.SECONDS_TO_RECOVER", 0.1)
    with running_node() as url, redis.Redis.from_url(url) as client:
        saver = saver_on(url)
        client.execute_command("REPLICAOF", "127.0.0.1", "1")
        with pytest.raises(redis.exceptions.ReadOnlyError):
            saver.put(thread("a"), *chat(1))
    assert "index failed (ReadOnlyError); attempt 2 follows in 0.000 s" in caplog.text


def test_a_refused_write_leaves_a_line(
    saver: Saver, client: redis.Redis, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    """LangGraph drops some errors of a checkpointer, and nobody would know why a run is gone."""
    other = RedisSaver(client, prefix=prefix)
    with other.lease("a"), pytest.raises(ThreadLeasedError):
        saver.put(thread("a"), *chat(1))
    assert "put was refused for thread 'a': ThreadLeasedError" in caplog.text


REPORTS: dict[str, tuple[Callable[[], None], str]] = {
    "refusal": (
        lambda: log.report_refusal("put", "a", "X"),
        "put was refused for thread 'a': X",
    ),
    "resend": (lambda: log.report_resend("a", "3 chunks"), "thread 'a' lacks 3 chunks on"),
    "skipped": (lambda: log.report_skipped("a thread", "leased"), "skipped a thread: leased"),
    "clock": (lambda: log.report_clock("a", 2.5), "is 2.500 s older"),
    "failover": (lambda: log.report_failover("s", "a:1", "b:2"), "was a:1 and is b:2 now"),
}


@pytest.mark.parametrize(("report", "words"), REPORTS.values(), ids=REPORTS)
def test_each_report_says_what_happened_once_a_second(
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    report: Callable[[], None],
    words: str,
) -> None:
    """A log would fill a disk when a server is away, or leave out how often it was."""
    now = [100.0]
    monkeypatch.setattr("langgraph_checkpoint_redis._runtime.log.time.monotonic", lambda: now[0])
    for _ in range(5):
        report()
    now[0] += 1
    report()
    first, second = [record.getMessage() for record in caplog.records]
    assert words in first
    assert second == f"{first} (4 more like this since the last one)"


def test_nothing_is_made_of_what_nobody_reads(caplog: pytest.LogCaptureFixture) -> None:
    """Errors would cost time for messages that are thrown away."""

    class SilentError(Exception):
        def __str__(self) -> str:
            raise AssertionError

    error: Any = redis.ConnectionError(SilentError())
    with caplog.at_level(logging.CRITICAL, "langgraph_checkpoint_redis"):
        log.report_retry("get", 1, 0.1, error)
        log.report_lost(1, error)
    assert not caplog.records
