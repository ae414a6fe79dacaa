"""Whether a server speaks TLS where its URL says that it does not, and the other way round.

Neither side of such a connection says what is wrong: a server without TLS waits for the rest of
what it takes for a command, and one with TLS closes the connection. So the server is asked again,
over a connection of its own, once the first one has failed.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis
import redis.asyncio
from redis.backoff import NoBackoff

from .urls import Url, place

SECONDS_TO_ANSWER = 1.0  # for a question that any server answers at once
SECONDS_TO_BEGIN = 2.0  # with TLS, on the first connection; the next ones wait as long as usual


@contextmanager
def hurried(connection: Any) -> Iterator[None]:
    """Let a connection of redis-py fail once, and soon if its server does not begin with TLS."""
    retry, connection.retry = connection.retry, type(connection.retry)(NoBackoff(), 0)
    if isinstance(connection, redis.asyncio.SSLConnection):
        seconds = connection.socket_connect_timeout or SECONDS_TO_BEGIN
        connection.socket_connect_timeout = min(seconds, SECONDS_TO_BEGIN)
    elif isinstance(connection, redis.SSLConnection):
        wrap = connection._wrap_socket_with_ssl  # noqa: SLF001 - no other way
        setattr(connection, wrap.__name__, _hurried_wrap(wrap))
    yield
    connection.retry = retry


def _hurried_wrap(wrap: Any) -> Any:
    def wrapped(sock: socket.socket) -> Any:
        seconds = sock.gettimeout()
        sock.settimeout(min(seconds or SECONDS_TO_BEGIN, SECONDS_TO_BEGIN))
        secured = wrap(sock)
        secured.settimeout(seconds)
        return secured

    return wrapped


def tls_mistake(url: Url) -> str:
    """Return what is wrong with a URL whose server was never reached; empty if it may be right.

    It waits for the server, so an event loop calls it in a worker thread.
    """
    if not url.hosts:  # a socket of this machine
        return ""
    host, port = url.hosts[0]
    name = place(host, port)
    form = f"+{url.kind}://" if url.kind else "://"
    if url.has_tls and _answers_without_tls(host, port):
        return (
            f"the server at {name} does not speak TLS, which rediss{form} in the URL stands for: "
            f"use redis{form}, or the port on which the server speaks TLS"
        )
    if not url.has_tls and _answers_with_tls(host, port):
        return (
            f"the server at {name} speaks TLS: use rediss{form} in the URL, with "
            "?ssl_ca_certs=FILE if an authority of your own has signed its certificate"
        )
    return ""


def _answers_without_tls(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), SECONDS_TO_ANSWER) as plain:
            plain.sendall(b"PING\r\n")
            return plain.recv(1) in (b"+", b"-")  # a refusal is an answer, too
    except OSError:
        return False


def _answers_with_tls(host: str, port: int) -> bool:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # nothing is sent: the question is only what it speaks
    context.verify_mode = ssl.CERT_NONE
    try:
        with (
            socket.create_connection((host, port), SECONDS_TO_ANSWER) as plain,
            context.wrap_socket(plain, server_hostname=host),
        ):
            return True
    except ssl.SSLError as error:
        return "ALERT" in (error.reason or "")  # as of a server that refuses our version of TLS
    except (OSError, ValueError):
        return False
