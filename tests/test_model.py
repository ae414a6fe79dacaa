"""Savers compared with LangGraph's own `InMemorySaver`, over generated histories."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from hashlib import sha1
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import rule
from langgraph.checkpoint.base import Checkpoint

from langgraph_checkpoint_redis import (
    ConfigError,
    MissingAncestorError,
    RedisSaver,
    ThreadExistsError,
)
from langgraph_checkpoint_redis._core import listing, reading, state
from langgraph_checkpoint_redis._scripts.load import GET, HISTORY, LIST
from tests.local_server import available_servers, running_server

from .driving import Saver
from .strategies import (
    METADATA,
    Model,
    RepeatingSaver,
    Threads,
    channels,
    config,
    effort,
    exact,
    kinds_of_versions,
    metadatas,
    names,
    next_checkpoint,
    picks,
    place_of,
    places,
    run,
    several,
    texts,
    times,
    values,
)

foreign_versions = st.one_of(
    st.integers(1, 2**53),
    st.floats(1, 1e15),
    st.builds("{:032}.{:016}".format, st.integers(1, 2**53), st.floats(0, 1)),
    st.builds("{:032}.{:032x}".format, st.integers(1, 2**53), st.integers(0, 2**128 - 1)),
)
filters = st.one_of(
    st.none(),
    st.dictionaries(st.just("absent"), st.none() | st.just(1), max_size=1),
    st.fixed_dictionaries({}, optional=METADATA),
    *[st.fixed_dictionaries({name: found}) for name, found in METADATA.items()],
)
optional_picks = st.none() | picks


class Options(NamedTuple):
    """How to list."""

    filter: dict[str, Any] | None
    before: int | None
    limit: int | None

    @property
    def end(self) -> int | None:
        return None if self.limit is None else max(self.limit, 0)


options = st.builds(Options, filters, optional_picks, st.none() | st.integers(-1, 4))


class Comparison(Threads):
    """Reads from savers what it reads from the model, in all ways there are."""

    def asked(self, options: Options) -> dict[str, Any]:
        """The filter and the bound of a listing, the latter wrapped as a config or not."""
        if options.before is None:
            return {"filter": options.filter, "before": None}
        bare = {"checkpoint_id": self.checkpoint_id(options.before)}
        wrapped = {"configurable": bare} if options.before % 2 else bare
        return {"filter": options.filter, "before": wrapped}

    @rule(by=picks, picked=places, pick=optional_picks)
    def get(self, by: int, picked: tuple[int, int], pick: int | None) -> None:
        at = config(*self.place(picked), None if pick is None else self.checkpoint_id(pick))
        assert exact(self.saver(by).get_tuple(at)) == exact(self.model.get_tuple(at))

    @rule(by=picks, pick=picks)
    def get_latest_of_root(self, by: int, pick: int) -> None:
        at = config(self.thread_id(pick))
        assert exact(self.saver(by).get_tuple(at)) == exact(self.model.get_tuple(at))

    @rule(
        by=picks, picked=places, one_namespace=st.booleans(), pick=optional_picks, options=options
    )
    def list_one_thread(
        self,
        by: int,
        picked: tuple[int, int],
        pick: int | None,
        options: Options,
        *,
        one_namespace: bool,
    ) -> None:
        thread_id, namespace = self.place(picked)
        checkpoint_id = None if pick is None else self.checkpoint_id(pick)
        at = config(thread_id, namespace if one_namespace else None, checkpoint_id)
        asked = self.asked(options)
        found = self.saver(by).list(at, **asked, limit=options.limit)
        assert exact([*found]) == exact([*self.model.list(at, **asked, limit=options.limit)])

    @rule(by=picks, options=options)
    def list_all_threads(self, by: int, options: Options) -> None:
        asked = self.asked(options)
        found = [*self.saver(by).list(None, **asked, limit=options.limit)]
        order = dict.fromkeys([*(place_of(each)[0] for each in found), *self.thread_ids])
        expected = [
            each for thread_id in order for each in self.model.list(config(thread_id), **asked)
        ]
        assert exact(found) == exact(expected[: options.end])

    @rule(by=picks, picked=places, pick=optional_picks, searched=several(channels, 3))
    def get_history_of_channels(
        self, by: int, picked: tuple[int, int], pick: int | None, searched: Any
    ) -> None:
        at = config(*self.place(picked), None if pick is None else self.checkpoint_id(pick))
        if pick is not None and searched and not self.model.get_tuple(at):
            with pytest.raises(MissingAncestorError):  # it was there, or the caller is mistaken
                self.saver(by).get_delta_channel_history(config=at, channels=searched)
            return
        found = self.saver(by).get_delta_channel_history(config=at, channels=searched)
        expected = self.model.get_delta_channel_history(config=at, channels=searched)
        assert exact(dict(found)) == exact(dict(expected))

    @rule(by=picks, times=times, source=picks, to=picks)
    def copy_thread(self, by: int, times: int, source: int, to: int) -> None:
        copied = self.thread_id(source), self.thread_id(to)
        if self.model.is_empty(copied[1]):
            if copied[0] != copied[1]:
                self.saver(by).copy_thread(*copied)
                self.model.copy_thread(*copied)
        else:
            with pytest.raises(ThreadExistsError):
                self.saver(by).copy_thread(*copied)

    def teardown(self) -> None:
        for thread_id in getattr(self, "thread_ids", ()):
            at = config(thread_id)
            assert exact([*self.savers[0].list(at)]) == exact([*self.model.list(at)])
        super().teardown()


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make short threads take as many steps as long ones do, and nobody remember much."""
    monkeypatch.setattr(reading, "PAGE", 3)
    monkeypatch.setattr(reading, "ANCESTORS", 2)
    monkeypatch.setattr(reading, "MUCH", 2000)
    monkeypatch.setattr(reading, "KEPT", 20_000)
    monkeypatch.setattr(listing, "TOGETHER", 2)
    monkeypatch.setattr(state, "KNOWN_BYTES", 20_000)
    bounds = {GET: ("BUDGET", "1000"), HISTORY: ("BUDGET", "1000"), LIST: ("FEW, BYTES", "2, 1000")}
    for script, (local, small) in bounds.items():
        pattern = rf"(?<=^local {local} = ).*"
        source, count = re.subn(pattern, small, script.source, flags=re.MULTILINE)
        assert count == 1
        monkeypatch.setitem(vars(script), "source", source)
        monkeypatch.setitem(vars(script), "sha", sha1(source.encode()).hexdigest())  # noqa: S324


def test_two_savers_read_what_langgraphs_own_saver_reads(
    small_steps: None, saver: Saver, server: str, prefix: str
) -> None:
    """Graphs would go on from another state than the one they had reached."""
    with RedisSaver.from_conn_string(server, prefix=prefix) as other:
        run(lambda: Comparison(saver, other), examples=50, steps=40)


def test_a_script_that_runs_twice_does_and_answers_the_same(server: str, prefix: str) -> None:
    """A lost connection would damage what a graph reads later on."""
    with RepeatingSaver.from_conn_string(server, prefix=prefix) as saver:
        run(lambda: Comparison(saver), examples=30, steps=40)


@pytest.fixture
def dictionary_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let programs sort text as dictionaries do, where this machine can make such a locale."""
    made = tmp_path / "en_US.UTF-8"
    with suppress(OSError):
        command = ["localedef", "--no-archive", "-i", "en_US", "-f", "UTF-8", str(made)]
        subprocess.run(command, check=False, capture_output=True)
    if made.exists():
        monkeypatch.setenv("LOCPATH", str(tmp_path))
        monkeypatch.setenv("LC_ALL", made.name)


def test_the_order_is_the_same_whatever_language_a_server_speaks(
    dictionary_order: None, small_steps: None
) -> None:
    """Lists would repeat checkpoints or leave some out, and pruning would take the wrong ones."""
    for binary in available_servers().values():
        with running_server(binary) as url, RedisSaver.from_conn_string(url) as saver:
            _compare_order(saver)


def _compare_order(saver: RedisSaver) -> None:
    model, ids, roots = Model(), ["A", "B", "a", "b", "a-b", "aa"], {"c:1": "a", "d:2": "B"}
    for namespace, checkpoint_id in product(["", "agent", "Z", *roots], ids):
        checkpoint, _ = next_checkpoint(saver, None, checkpoint_id, {})
        parents = {"": roots[namespace]} if namespace in roots else {}
        for each in (saver, model):
            each.put(config("thread", namespace), checkpoint, {"parents": parents}, {})
    for listed, bound in product([None, "", "agent", "Z"], ids):
        at, before = config("thread", listed), config("thread", None, bound)
        assert [*saver.list(at, before=before)] == [*model.list(at, before=before)]
    for each in (saver, model):
        each.prune(["thread"])
    assert [*saver.list(config("thread"))] == [*model.list(config("thread"))]


def _checkpoint(versions: dict[str, Any], seen: dict[str, dict[str, Any]]) -> Checkpoint:
    """A checkpoint, whose nodes saw some versions that are still the present ones."""
    return {
        "v": 4,
        "id": "1",
        "ts": "2026-01-01T00:00:00+00:00",
        "channel_values": dict.fromkeys(versions, 1),
        "channel_versions": versions,
        "versions_seen": {**seen, "all": versions},
        "updated_channels": None,
    }


checkpoints = st.one_of(
    [
        st.builds(
            _checkpoint,
            st.dictionaries(texts, kind, max_size=4),
            st.dictionaries(texts, st.dictionaries(texts, kind, max_size=4), max_size=3),
        )
        for kind in kinds_of_versions
    ]
)


@effort(40)
@given(checkpoint=checkpoints, metadata=metadatas, thread_id=names, is_named=st.booleans())
def test_a_checkpoint_and_its_metadata_read_as_they_were_put(
    saver: Saver, checkpoint: Checkpoint, metadata: Any, thread_id: str, *, is_named: bool
) -> None:
    """A graph would go on with other versions than it had, and run other nodes."""
    metadata = {**metadata, "thread_id": thread_id if is_named else "another"}
    at = saver.put(config(thread_id, ""), checkpoint, metadata, checkpoint["channel_versions"])
    found = saver.get_tuple(at)
    assert found
    assert exact(found.checkpoint) == exact(checkpoint)
    assert exact(found.metadata) == exact(metadata)


@effort(40)
@given(version=foreign_versions, value=values)
def test_a_thread_of_another_saver_keeps_its_versions(
    saver: Saver, version: Any, value: Any
) -> None:
    """A thread moved here would fail at its next step, or run nodes again that had run."""
    model = Model()
    first, new_versions = next_checkpoint(saver, None, "1", {"old": value, "new": value})
    moved: Checkpoint = {**first, "channel_versions": dict.fromkeys(new_versions, version)}
    second, newer_versions = next_checkpoint(saver, moved, "2", {"new": [value]})
    for each in (saver, model):
        each.delete_thread("thread")
        each.put(config("thread", ""), moved, {}, moved["channel_versions"])
        each.put(config("thread", "", "1"), second, {}, newer_versions)
    assert exact([*saver.list(config("thread"))]) == exact([*model.list(config("thread"))])


@effort(100)
@given(version=foreign_versions)
def test_a_version_is_greater_than_the_one_before_it(raw_saver: Any, version: Any) -> None:
    """LangGraph could not tell what is new in a thread that another saver began."""
    assert raw_saver.get_next_version(version, None) > version


@pytest.mark.parametrize("target", ["other", "none"])
def test_a_thread_that_is_not_there_is_not_copied(saver: Saver, target: str) -> None:
    """Copying would fail with an error of the server instead of doing nothing."""
    saver.copy_thread("none", target)
    assert not [*saver.list(None)]
    assert not [*saver.list(None)]


def unnameable_calls(saver: Saver, bad: str) -> Iterator[Callable[[], object]]:
    """Everything that has a name in it, called with a bad one."""
    good, checkpoint = config("t", "", "1"), next_checkpoint(saver, None, "2", {})[0]
    for at in (config(bad, "", "1"), config("t", bad, "1"), config("t", "", bad)):
        yield partial(saver.get_tuple, at)
        yield partial(next, saver.list(at))
        yield partial(saver.put, at, checkpoint, {}, {})
        yield partial(saver.put_writes, at, [("a", 1)], "task")
        yield partial(saver.get_delta_channel_history, config=at, channels=["a"])
    yield partial(next, saver.list(None, before=config("t", "", bad)))
    yield partial(saver.put, good, {**checkpoint, "id": bad}, {}, {})
    yield partial(saver.put_writes, good, [("a", 1)], bad)
    yield partial(saver.put_writes, good, [("a", 1)], "task", bad)
    yield partial(saver.delete_thread, bad)
    yield partial(saver.delete_for_runs, [bad])
    yield partial(saver.prune, [bad])
    yield partial(saver.copy_thread, bad, "t")
    yield partial(saver.copy_thread, "t", bad)


@effort(20)
@given(start=texts, bad=st.sampled_from(["\0", "\ud800", "\udfff"]), end=texts)
def test_a_name_that_cannot_be_stored_is_refused(
    saver: Saver, start: str, bad: str, end: str
) -> None:
    """Two threads could share their checkpoints, or a checkpoint could never be read again."""
    for call in unnameable_calls(saver, start + bad + end):
        with pytest.raises(ConfigError):
            call()
    assert not [*saver.list(None)]
