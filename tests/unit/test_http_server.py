"""The real server on real sockets: it is there, it is refused, it ends in good order."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
from pathlib import Path

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from agezero.errors import UserError
from agezero.http import server as server_module
from agezero.http.listeners import bind
from agezero.http.server import HttpServer
from agezero.tls import CertificateFiles
from support.certificates import Authority


class Gated:
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.arrived = asyncio.Event()
        self.go = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 (ASGI)
        self.arrived.set()
        await self.go.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"answered"})


def test_a_request_that_has_been_asked_is_answered_before_the_server_ends() -> None:
    async def story() -> None:
        app = Gated()
        async with httpx.AsyncClient() as client:
            async with HttpServer(app, "127.0.0.1", 0) as server:
                asking = asyncio.create_task(client.get(f"http://127.0.0.1:{server.port}/"))
                await app.arrived.wait()
                asyncio.get_running_loop().call_later(0.05, app.go.set)  # while it stops
            assert (await asking).text == "answered"
            with pytest.raises(httpx.ConnectError):
                await client.get(f"http://127.0.0.1:{server.port}/")

    asyncio.run(story())


def test_an_idle_connection_does_not_hold_the_end_up() -> None:
    async def story() -> None:
        app = Gated()
        app.go.set()
        async with httpx.AsyncClient() as client, asyncio.timeout(20), HttpServer(app, "127.0.0.1", 0) as server:
            assert (await client.get(f"http://127.0.0.1:{server.port}/")).text == "answered"

    asyncio.run(story())


def test_half_a_request_does_not_hold_the_end_up() -> None:
    async def story() -> None:
        app = Gated()
        async with asyncio.timeout(20):
            async with HttpServer(app, "127.0.0.1", 0) as server:
                _, writer = await asyncio.open_connection("127.0.0.1", server.port)
                writer.write(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\nhalf")
                await app.arrived.wait()
            writer.close()

    asyncio.run(story())


def test_a_port_in_use_is_refused_with_a_hint_even_where_its_owner_would_share_it() -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(UserError, match=f"cannot listen on 127.0.0.1:{port}: address already in use") as caught:
            bind("127.0.0.1", port)
        assert f"(pid {os.getpid()}) listens there: end it, or choose another address with --api HOST:PORT" in caught.value.hint


def test_nobody_can_share_the_port_of_a_running_server() -> None:
    async def story() -> None:
        app = Gated()
        app.go.set()
        async with HttpServer(app, "127.0.0.1", 0) as server, httpx.AsyncClient() as client:
            await client.get(f"http://127.0.0.1:{server.port}/")
            with socket.socket() as other:
                other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                with pytest.raises(OSError, match="Address already in use"):
                    other.bind(("127.0.0.1", server.port))

    asyncio.run(story())


def test_an_address_that_is_not_ours_is_refused_with_a_hint() -> None:
    with pytest.raises(UserError, match=r"cannot listen on 192\.0\.2\.1:8080") as caught:
        bind("192.0.2.1", 8080)
    assert "an address of this machine" in caught.value.hint


def test_granian_says_nothing(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        async with HttpServer(Gated(), "127.0.0.1", 0):
            pass

    with caplog.at_level(logging.DEBUG):
        asyncio.run(story())
    assert capfd.readouterr() == ("", "")
    assert not [record for record in caplog.records if record.name.startswith("_granian")]


class Secure:
    """A server over TLS, whose certificate can be renewed."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder / "ca")
        self.files = CertificateFiles(folder / "ca" / "server.pem", folder / "ca" / "server.key")
        self.make()

    def make(self) -> None:
        self.authority.server("IP:127.0.0.1")

    @property
    def trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.authority.bundle))


@pytest.mark.parametrize("http", ["--http1.1", "--http2"])
def test_a_request_goes_on_while_a_new_certificate_is_taken_up(http: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """curl, because Python's h2 takes the announcement that a connection ends (GOAWAY) for its end."""
    monkeypatch.setattr(server_module, "HANDSHAKE_S", 0.2)
    secure = Secure(tmp_path)

    async def story() -> None:
        app = Gated()
        async with HttpServer(app, "127.0.0.1", 0, secure.files) as server:
            command = ("curl", "-sS", http, "--cacert", secure.authority.bundle, f"https://127.0.0.1:{server.port}/")
            asking = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
            await app.arrived.wait()
            old = await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", server.port))
            secure.make()
            await server.renew()
            assert await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", server.port)) != old
            app.go.set()
            assert (await asking.communicate())[0] == b"answered"
        assert asking.returncode == 0

    asyncio.run(story())


async def connecting(secure: Secure, renewals: int) -> list[str]:
    """What goes wrong for clients that connect all the time while certificates are renewed."""
    app, faults, renewed = Gated(), list[str](), asyncio.Event()
    app.go.set()

    async def client(port: int) -> None:
        while not renewed.is_set():
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=secure.trust)
                writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                if not (await reader.read()).endswith(b"answered"):
                    faults.append("no answer")
                writer.close()
            except OSError as error:
                faults.append(repr(error))

    async with HttpServer(app, "127.0.0.1", 0, secure.files) as server:
        clients = [asyncio.create_task(client(server.port)) for _ in range(8)]
        for _ in range(renewals):
            await asyncio.to_thread(secure.make)
            await server.renew()
        renewed.set()
        await asyncio.gather(*clients)
    return faults


def test_no_connection_is_lost_to_a_renewal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "HANDSHAKE_S", 0.5)
    assert asyncio.run(connecting(Secure(tmp_path), 4)) == []


def test_without_a_moment_for_handshakes_connections_are_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The twin: the older server ends at once."""
    monkeypatch.setattr(server_module, "HANDSHAKE_S", 0.0)
    assert asyncio.run(connecting(Secure(tmp_path), 20))
