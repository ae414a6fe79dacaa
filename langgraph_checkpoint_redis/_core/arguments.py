"""Arguments of methods: configs, limits, filters. Bad ones are refused before anything is sent.

`options.py` has the checks of options, `_storage/checks.py` those of what is stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from langchain_core.runnables import RunnableConfig

from langgraph_checkpoint_redis._protocol.durations import to_milliseconds
from langgraph_checkpoint_redis._storage.checks import check_id, check_text
from langgraph_checkpoint_redis._storage.refs import CheckpointRef
from langgraph_checkpoint_redis.errors import ConfigError

REPLAY = "__pregel_replay_state"  # in a config: LangGraph's own, for subgraphs of a replay


def _configurable(config: object) -> Mapping[str, Any]:
    # `dict` stands first as it is nearly always one, and other mappings are slow to recognize.
    configurable = config.get("configurable") if isinstance(config, dict | Mapping) else None
    if not isinstance(configurable, dict | Mapping):
        raise ConfigError(
            "config must be a dict like "
            f'{{"configurable": {{"thread_id": "..."}}}}, not {config!r:.200}'
        )
    return configurable


def _thread_id(configurable: Mapping[str, Any]) -> str:
    if "thread_id" not in configurable:
        raise ConfigError('config["configurable"]["thread_id"] is missing: it must be a str')
    return check_id('config["configurable"]["thread_id"]', configurable["thread_id"])


def _optional(configurable: Mapping[str, Any], name: str) -> str | None:
    value = configurable.get(name)
    if value is None or value == "":
        return value
    return check_text(f'config["configurable"]["{name}"]', value)


def parse_ref(config: RunnableConfig) -> CheckpointRef:
    """The checkpoint that a config names: with no id the latest, with no namespace the root's."""
    configurable = _configurable(config)
    return CheckpointRef(
        _thread_id(configurable),
        _optional(configurable, "checkpoint_ns") or "",
        _optional(configurable, "checkpoint_id") or "",
    )


def parse_written_ref(config: RunnableConfig) -> CheckpointRef:
    """The checkpoint that writes belong to: its id is required."""
    found = parse_ref(config)
    check_text('config["configurable"]["checkpoint_id"]', found.checkpoint_id)
    return found


def parse_thread_id(config: RunnableConfig) -> str:
    """The thread that a config names."""
    return _thread_id(_configurable(config))


def parse_scope(config: RunnableConfig | None) -> tuple[str | None, str]:
    """The namespace (`None` for all) and the id (empty for all) that a config asks to list."""
    if not config:
        return None, ""
    configurable = _configurable(config)
    return (
        _optional(configurable, "checkpoint_ns"),
        _optional(configurable, "checkpoint_id") or "",
    )


def parse_before(before: Mapping[str, Any] | None) -> str:
    """The id that listed checkpoints must be older than; empty for no such bound.

    It may come without a thread, and without its `configurable` wrapper: LangGraph's server and SDK
    send both.
    """
    if not before:
        return ""
    if not isinstance(before, Mapping):
        raise ConfigError(f"before must be a config (a dict), not {before!r:.200}")
    return (
        _optional(_configurable(before) if "configurable" in before else before, "checkpoint_id")
        or ""
    )


def check_limit(value: int | None) -> int | None:
    """How many checkpoints to list at most; `None` for all, negative ones count as 0."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigError(f"limit must be an int or None, not {value!r:.200}")
    return max(value, 0)


# Other arguments


def check_filter(value: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Metadata to compare with; none for `None`."""
    if value is not None and not isinstance(value, Mapping):
        raise ConfigError(f"filter must be a dict or None, not {value!r:.200}")
    return value or {}


def parse_run_id(metadata: Mapping[str, Any]) -> str:
    """The run that metadata name, or an empty string."""
    run = metadata.get("run_id")
    if isinstance(run, str):
        return check_text('metadata["run_id"]', run, empty=True)
    is_id = isinstance(run, UUID | int) and not isinstance(run, bool)
    return check_id('metadata["run_id"]', run) if is_id else ""


def means_to_fork(config: RunnableConfig, metadata: Mapping[str, Any]) -> bool:
    """Return whether a run says that it goes back in time.

    LangGraph stores a checkpoint with the source "fork" where a graph is replayed or a checkpoint
    copied. Subgraphs of a graph that is replayed go on from what they had stored before that point,
    and find their graph's replay in their config.
    """
    return metadata.get("source") == "fork" or bool(config["configurable"].get(REPLAY))


def check_strategy(value: str) -> str:
    """A strategy of `prune`; LangGraph's server says `delete_all` for `delete`."""
    if value not in ("keep_latest", "delete", "delete_all"):
        raise ConfigError(f'strategy must be "keep_latest" or "delete", not {value!r:.200}')
    return value


def parse_own_ttl(config: RunnableConfig) -> int | None:
    """Return the time to live in a config that `parse_ref` has checked; None if it has none."""
    value = config["configurable"].get("ttl")
    return None if value is None else to_milliseconds('config["configurable"]["ttl"]', value)
