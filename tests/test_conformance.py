"""LangGraph's own conformance suite, all of it."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.conformance import checkpointer_test, validate

from langgraph_checkpoint_redis import AsyncRedisSaver, RedisSaver

TESTS = 81  # in langgraph-checkpoint-conformance 0.0.2


@pytest.mark.parametrize("saver_class", [RedisSaver, AsyncRedisSaver])
async def test_a_saver_passes_all_tests_of_langgraphs_conformance_suite(
    saver_class: type[RedisSaver | AsyncRedisSaver], server: str, prefix: str
) -> None:
    """What LangGraph expects of any checkpointer would not hold."""

    @checkpointer_test(name=saver_class.__name__)
    async def fresh_saver() -> AsyncGenerator[BaseCheckpointSaver[str], None]:
        saver = saver_class(server, prefix=prefix)
        yield saver
        if isinstance(saver, AsyncRedisSaver):
            await saver.aclose()
        else:
            saver.close()

    report = await validate(fresh_saver)
    failures = [failure for result in report.results.values() for failure in result.failures]
    assert not failures
    assert sum(result.tests_passed for result in report.results.values()) >= TESTS
