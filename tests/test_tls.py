"""TLS: what is encrypted, what is checked, and what is said when a check fails.

Servers in wheels are built without TLS, so a real server stands behind a TLS end point of Python's
own. For a client there is no difference.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import redis
import trustme

from langgraph_checkpoint_redis import AsyncRedisSaver, ConfigError
from langgraph_checkpoint_redis._transport import tls
from tests.local_server import running_server

from .driving import Saver
from .servers import any_binary
from .story import thread, use

SaverOn = Callable[..., Saver]
DELAY = 0.0  # seconds before the server begins with TLS


class Guarded(NamedTuple):
    """A server behind TLS: its URL, and the files of who signed its certificate, and of ours."""

    url: str
    authority: Path
    ours: Path


@pytest.fixture(scope="module", params=[False, True], ids=["", "client certificates"])
def guarded(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Guarded]:
    """A server behind TLS, which may ask for a certificate of its clients."""
    directory = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(directory / "ca.pem")
    ours = authority.issue_cert("chats")
    ours.private_key_and_cert_chain_pem.write_to_path(directory / "ours.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    if request.param:
        authority.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
    with running_server(any_binary()) as url, tls_before(url, context) as port:
        end = f"&ssl_certfile={directory / 'ours.pem'}&ssl_keyfile={directory / 'ours.pem'}"
        secure_url = f"rediss://localhost:{port}/?protocol=3{end if request.param else ''}"
        yield Guarded(secure_url, directory / "ca.pem", directory / "ours.pem")


@contextmanager
def tls_before(url: str, context: ssl.SSLContext) -> Iterator[int]:
    """The port of a TLS end point, which passes on to a server."""
    host, port = url.removeprefix("redis://").split(":")
    with socket.create_server(("localhost", 0)) as listener:

        def accept() -> None:
            with suppress(OSError):  # the listener is closed
                while True:
                    client, _ = listener.accept()
                    server = socket.create_connection((host, int(port)))
                    threading.Thread(target=serve, args=[client, server], daemon=True).start()

        def serve(client: socket.socket, server: socket.socket) -> None:
            time.sleep(DELAY)
            with (
                client,
                server,
                suppress(OSError),  # a handshake that fails is the client's affair
                context.wrap_socket(client, server_side=True) as secured,
            ):
                pass_on_both(secured, server)

        threading.Thread(target=accept, daemon=True).start()
        yield int(listener.getsockname()[1])
        listener.shutdown(socket.SHUT_RDWR)


def pass_on_both(secured: ssl.SSLSocket, server: socket.socket) -> None:
    """Pass on in both directions, from one thread: TLS connections do not like two."""
    secured.settimeout(0.002)
    server.settimeout(0.002)
    while True:
        for source, target in ((secured, server), (server, secured)):
            with suppress(TimeoutError):
                data = source.recv(2**16)
                if not data:
                    return
                target.settimeout(5)
                target.sendall(data)
                target.settimeout(0.002)


def test_a_server_behind_tls_can_be_used(guarded: Guarded, saver_on: SaverOn) -> None:
    """Checkpoints would have to travel in the clear."""
    use(saver_on(f"{guarded.url}&ssl_ca_certs={guarded.authority}"))


async def test_nothing_comes_after_the_end(guarded: Guarded) -> None:
    """Programs would log errors of connections that they have closed already."""
    errors: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, error: errors.append(error))
    url = f"{guarded.url}&ssl_ca_certs={guarded.authority}&socket_timeout=0.5"
    async with AsyncRedisSaver.from_conn_string(url) as saver:
        await saver.aget_tuple(thread("a"))
    await asyncio.sleep(0.6)
    assert errors == []


def test_a_certificate_may_go_unchecked_on_demand(guarded: Guarded, saver_on: SaverOn) -> None:
    """Servers with certificates that nobody signed, in tests say, could not be used."""
    use(saver_on(f"{guarded.url}&ssl_cert_reqs=none&ssl_check_hostname=false"))


def test_a_certificate_that_is_not_trusted_is_an_error_at_once(
    guarded: Guarded, saver_on: SaverOn
) -> None:
    """Whoever sits between could read along; or the error would come late, and not say why."""
    start = time.monotonic()
    with pytest.raises(redis.ConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
        saver_on(guarded.url).get_tuple(thread("a"))
    assert time.monotonic() - start < 2


def test_a_url_without_tls_for_a_server_with_it_says_so(
    guarded: Guarded, saver_on: SaverOn
) -> None:
    """A letter that is missing in a URL would look like a server that hangs up for no reason."""
    start = time.monotonic()
    with pytest.raises(ConfigError, match=r"speaks TLS: use rediss://"):
        saver_on(guarded.url.replace("rediss", "redis").partition("?")[0]).get_tuple(thread("a"))
    assert time.monotonic() - start < 2


def test_a_server_that_is_slow_to_begin_with_tls_is_waited_for(
    guarded: Guarded, saver_on: SaverOn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that is busy when a program starts would be taken for one without TLS."""
    monkeypatch.setattr(tls, "SECONDS_TO_BEGIN", 0.1)
    monkeypatch.setattr(sys.modules[__name__], "DELAY", 0.4)
    url = f"{guarded.url}&ssl_ca_certs={guarded.authority}"
    assert saver_on(url).get_tuple(thread("a")) is None


def test_a_certificate_of_another_host_is_an_error(guarded: Guarded, saver_on: SaverOn) -> None:
    """Whoever has some certificate of the same authority could pose as the server."""
    url = guarded.url.replace("localhost", "127.0.0.1")
    with pytest.raises(redis.ConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
        saver_on(f"{url}&ssl_ca_certs={guarded.authority}&ssl_check_hostname=true").get_tuple(
            thread("a")
        )
