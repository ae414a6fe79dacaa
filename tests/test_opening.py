"""Savers by URL: which there are, what is missing, and what no error shows."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.sqlite import SqliteSaver

from langgraph_checkpoint_redis import ConfigError, MissingLibraryError, RedisSaver
from langgraph_checkpoint_redis.moving import opened

from .strategies import config, next_checkpoint

PASSWORD = "hunter2"  # noqa: S105 - of nobody


def put(saver: Any) -> None:
    """Put a checkpoint."""
    checkpoint, versions = next_checkpoint(saver, None, "1", {"a": 1})
    saver.put(config("t", ""), checkpoint, {}, versions)


def test_paths_are_as_users_of_sqlalchemy_know_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads would be looked for in a new and empty file somewhere else."""
    monkeypatch.chdir(tmp_path)
    with opened("sqlite:///a%20b.db") as saver:
        assert isinstance(saver, SqliteSaver)
        put(saver)
    with opened(f"sqlite:///{tmp_path}/a b.db", existing=True) as saver:
        assert saver.get(config("t"))


def test_options_go_to_our_savers(tmp_path: Path) -> None:
    """Threads under another prefix could not be moved."""
    url = f"embedded:///{tmp_path}"
    with opened(url, prefix="p") as saver, opened(url, prefix="q", existing=True) as other:
        assert isinstance(saver, RedisSaver)
        put(saver)
        assert saver.get(config("t"))
        assert not other.get(config("t"))
    with pytest.raises(ConfigError, match="prefix"), opened("sqlite:///:memory:", prefix="p"):
        pass


@pytest.mark.parametrize("url", ["sqlite:///none.db", "embedded:///none"])
def test_a_source_that_is_not_there_is_not_made(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A typing mistake would be reported as a successful move of no threads."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="none"), opened(url, existing=True):
        pass
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(
    ("url", "module", "package"),
    [
        ("sqlite:///a", "langgraph.checkpoint.sqlite", "langgraph-checkpoint-sqlite"),
        ("postgresql://a", "langgraph.checkpoint.postgres", "langgraph-checkpoint-postgres"),
        ("vendor+redis://a", "langgraph.checkpoint.redis", "langgraph-checkpoint-redis"),
    ],
)
def test_a_missing_library_is_named(
    url: str, module: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user would have to find out which package has that module."""
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingLibraryError, match=f"pip install {package}"), opened(url):
        pass


@pytest.mark.parametrize(
    "url",
    [
        f"mysql://u:{PASSWORD}@host",
        f"redis://u:{PASSWORD}@host:{PASSWORD}",
        f"redis+cluster://u:{PASSWORD}@host:port",
        f"u:{PASSWORD}@host",
        f"sqlite:{PASSWORD}",
        "sqlite:///",
        "",
    ],
)
def test_no_error_shows_a_password(url: str) -> None:
    """Passwords would be in logs and in bug reports."""
    with pytest.raises(ConfigError) as caught, opened(url):
        pass
    assert PASSWORD not in f"{caught.value}{caught.value.__cause__}"
    assert "postgresql://" in str(caught.value)


def test_a_url_is_text() -> None:
    """An error would come from deep inside."""
    bad: Any = Path("a")
    with pytest.raises(ConfigError, match="url"), opened(bad):
        pass
