"""Reaching a server before anything is asked of it, so that a wrong URL is an error at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from redis.exceptions import NoPermissionError

from langgraph_checkpoint_redis._protocol.requests import Commands
from langgraph_checkpoint_redis._transport.clients import is_cluster
from langgraph_checkpoint_redis._transport.retry import RetryPolicy
from langgraph_checkpoint_redis._transport.sync_own_links import make_link
from langgraph_checkpoint_redis._transport.urls import read_url


@contextmanager
def open_client(text: str, *, instead: str) -> Iterator[Any]:
    """Yield a client of redis-py for a URL, once its server has answered.

    If no server answers, raise why without another try; `instead` says what to do but to start one.
    """
    url = read_url(text)
    with closing(make_link(url)) as link:
        policy = RetryPolicy(url, "PING", was_reached=False, seconds=0, instead=instead)
        try:
            client = link.client  # that of a cluster connects when it is made
            replies = () if is_cluster(url) else link.reply(Commands((("PING",),), may_fail=True))
        except Exception as error:
            if look := policy.look_for_tls(error):
                policy.note_mistake(look())
            policy.seconds_until_retry(error)
            raise
        for reply in replies:
            if isinstance(reply, Exception) and not isinstance(reply, NoPermissionError):
                raise reply
        yield client
