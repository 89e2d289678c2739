"""Granian, embedded: bind, serve, stop.

The socket is ours: Granian's own shares its port with any other process that asks (SO_REUSEPORT), so a second service on the same port
would start without an error and take half of the requests. With ours it is refused, and connections are taken from the moment it is bound.

Granian reads a certificate once. For a new one, a second server takes the connections from the same socket with it, while the first takes no more,
answers what it was asked, and ends. Nothing is refused meanwhile: whoever connects waits in the socket's queue for either of them.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from typing import Any

from granian._granian import SocketHolder
from granian.constants import Interfaces, SSLProtocols
from granian.log import LogLevels
from granian.server.embed import Server as GranianServer
from starlette.types import ASGIApp

from agezero.errors import UserError
from agezero.tls import CertificateFiles

BACKLOG = 1024
END_S = 3.0
"""How long open requests may take to end once the server is to."""


class HttpServer:
    """Serves ``app`` on ``host`` and ``port`` (0: any free one) in the running event loop, over TLS where there is a ``certificate``.

    >>> async with HttpServer(app, "127.0.0.1", 0) as server: ...
    """

    def __init__(self, app: ASGIApp, host: str, port: int, certificate: CertificateFiles | None = None) -> None:
        self._app = app
        self._certificate = certificate
        self._socket = bind(host, port)
        self.port: int = self._socket.getsockname()[1]
        self._server: _Embedded | None = None
        self._serving: asyncio.Task[None] | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._ended = asyncio.Event()

    async def __aenter__(self) -> HttpServer:
        """Begin to serve; requests are accepted on return."""
        self._begin()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Take no new connections, answer what has been asked, end. Who has sent half a request is not waited for."""
        self._retire()
        self._socket.close()
        await asyncio.wait(self._ending, timeout=END_S)
        for serving in self._ending:
            serving.cancel()
        await asyncio.wait(self._ending)

    async def renew(self) -> None:
        """Serve new connections with what is in the certificate's files now; who is connected stays so until it is answered."""
        self._retire()
        self._begin()

    async def wait(self) -> None:
        """Return only if the server ends by itself, which it does not unless it is broken."""
        await self._ended.wait()

    def _begin(self) -> None:
        self._server = _Embedded(self._app, self._socket.dup(), self._certificate)
        self._serving = asyncio.create_task(self._server.serve(), name="http")
        self._serving.add_done_callback(self._note_end)

    def _retire(self) -> None:
        """Take no new connections, answer what has been asked, end."""
        assert self._server is not None
        assert self._serving is not None
        self._ending = {task for task in self._ending if not task.done()} | {self._serving}
        self._server.stop()  # type: ignore[no-untyped-call]

    def _note_end(self, serving: asyncio.Task[None]) -> None:
        if serving not in self._ending:
            self._ended.set()


def bind(host: str, port: int) -> socket.socket:
    """A listening socket. Raises :class:`UserError`."""
    address = f"{host}:{port}"
    try:
        family, kind, protocol, _, target = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except OSError as error:
        raise UserError(f"cannot listen on {address}: {error.strerror}", "give an address of this machine, such as 127.0.0.1:8080") from None
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(target)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise UserError(f"cannot listen on {address}: {os.strerror(error.errno or 0).lower()}", _hint(error, port)) from None
    listener.setblocking(False)
    return listener


def _hint(error: OSError, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"another program uses port {port}: end it (`ss -ltnp 'sport = :{port}'` names it), or choose another port"
    if error.errno == errno.EACCES:
        return "ports below 1024 need a privilege (CAP_NET_BIND_SERVICE); choose one from 1024 up"
    return "give an address of this machine, such as 127.0.0.1:8080"


class _Embedded(GranianServer):
    """Granian with our socket; its own messages go to the root logger from ``error`` up: it has nothing to tell an operator below that."""

    def __init__(self, app: ASGIApp, listener: socket.socket, certificate: CertificateFiles | None) -> None:
        logging: dict[str, Any] = {"loggers": {"_granian": {"handlers": [], "propagate": True}}}
        tls: dict[str, Any] = {"ssl_protocol_min": SSLProtocols.tls12}
        if certificate is not None:
            tls |= {"ssl_cert": certificate.certificate, "ssl_key": certificate.key}
        super().__init__(
            app, interface=Interfaces.ASGINL, websockets=False, backlog=BACKLOG, log_level=LogLevels.error, log_dictconfig=logging, **tls
        )
        self._listener = listener

    def _init_shared_socket(self) -> None:
        holder: Any = SocketHolder  # as Granian itself makes one from what it pickled: file descriptor, is it a Unix socket, backlog
        self._ssp, self._shd = None, holder(self._listener.detach(), False, BACKLOG)
