"""Granian, embedded: bind, serve, stop.

The socket is ours: Granian's own shares its port with any other process that asks (SO_REUSEPORT), so a second service on the same port
would start without an error and take half of the requests. With ours it is refused, and connections are taken from the moment it is bound.

Granian reads a certificate once. For a new one, a second server takes the connections from then on (:mod:`agezero.http.listeners`), while the first
goes on with those that it has; after a moment, in which their handshakes end, it answers what it was asked, and ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any

from granian._granian import SocketHolder
from granian.constants import Interfaces, SSLProtocols
from granian.log import LogLevels
from granian.server.embed import Server as GranianServer
from starlette.types import ASGIApp

from agezero.http.listeners import BACKLOG, bind, prefer_newer
from agezero.http.rsgi import rsgi
from agezero.tls import CertificateFiles

HANDSHAKE_S = 10.0
"""How long a connection that was taken before a renewal may take to become one."""
COPY_S = 5.0
"""When Granian has read its copy of a certificate."""
END_S = 3.0
"""How long open requests may take to end once the server is to."""


class HttpServer:
    """Serves ``app`` on ``host`` and ``port`` (0: any free one) in the running event loop, over TLS where there is a ``certificate``.

    >>> async with HttpServer(app, "127.0.0.1", 0) as server: ...

    ``by_rsgi`` off: by Granian's own ASGI, which is slower.
    """

    def __init__(self, app: ASGIApp, host: str, port: int, certificate: CertificateFiles | None = None, *, by_rsgi: bool = True) -> None:
        self._app: Any = rsgi(app) if by_rsgi else app
        self._interface = Interfaces.RSGI if by_rsgi else Interfaces.ASGINL
        self.certificate = certificate
        self._host = host
        self._listener = bind(host, port, renewable=certificate is not None)
        self.port: int = self._listener.getsockname()[1]
        self._server: _Embedded | None = None
        self._older: set[_Embedded] = set()
        self._copies: list[contextlib.ExitStack] = []
        self._ended = asyncio.Event()
        self._one_renewal = asyncio.Lock()

    async def __aenter__(self) -> HttpServer:
        """Begin to serve; requests are accepted on return."""
        self._begin(self._listener, self._copy())
        return self

    async def __aexit__(self, *_: object) -> None:
        """Take no new connections, answer what has been asked, end. Who has sent half a request is not waited for."""
        assert self._server is not None
        servers = [self._server, *self._older]
        for server in servers:
            server.retire()
        serving = [server.serving for server in servers if server.serving is not None]
        await asyncio.wait(serving, timeout=END_S)
        for task in serving:
            task.cancel()
        await asyncio.wait(serving)
        for copy in self._copies:
            copy.close()

    async def renew(self) -> None:
        """Serve new connections with what is in the certificate's files now; who is connected stays so until it is answered.

        Returns once the older server takes nothing more. Raises ``UserError``.
        """
        async with self._one_renewal:  # the filter knows of two sockets
            await self._renew()

    async def _renew(self) -> None:
        assert self._server is not None
        certificate = self._copy()  # first: from where it is bound, it has to be served
        listener = bind(self._host, self.port, renewable=True, again=True)
        with contextlib.suppress(OSError):  # then both take connections until the older one ends
            prefer_newer(listener)
        older = self._server
        self._older = {server for server in self._older if not server.ended} | {older}
        self._begin(listener, certificate)
        await asyncio.sleep(HANDSHAKE_S)
        older.retire()

    async def wait(self) -> None:
        """Return only if the server ends by itself, which it does not unless it is broken."""
        await self._ended.wait()

    def _copy(self) -> CertificateFiles | None:
        """Granian ends the whole process if, when it reads them, a certificate and its key don't belong together: so it gets a copy."""
        if self.certificate is None:
            return None
        copy = contextlib.ExitStack()
        certificate = copy.enter_context(self.certificate.copied())
        self._copies.append(copy)
        asyncio.get_running_loop().call_later(COPY_S, copy.close)
        return certificate

    def _begin(self, listener: socket.socket, certificate: CertificateFiles | None) -> None:
        server = self._server = _Embedded(self._app, self._interface, listener, certificate)
        server.serving = asyncio.create_task(server.serve(), name="http")
        server.serving.add_done_callback(lambda _: self._ended.set() if server is self._server else None)


class _Embedded(GranianServer):
    """Granian with our socket; its own messages go to the root logger from ``error`` up: it has nothing to tell an operator below that."""

    def __init__(self, app: Any, interface: Interfaces, listener: socket.socket, certificate: CertificateFiles | None) -> None:
        logging: dict[str, Any] = {"loggers": {"_granian": {"handlers": [], "propagate": True}}}
        tls: dict[str, Any] = {"ssl_protocol_min": SSLProtocols.tls12}
        if certificate is not None:
            tls |= {"ssl_cert": certificate.certificate, "ssl_key": certificate.key}
        super().__init__(app, interface=interface, websockets=False, backlog=BACKLOG, log_level=LogLevels.error, log_dictconfig=logging, **tls)
        self._listener = listener
        self.serving: asyncio.Task[None] | None = None
        self._retired = False

    @property
    def ended(self) -> bool:
        """Has it answered all that it was asked?"""
        return self.serving is not None and self.serving.done()

    def retire(self) -> None:
        """Take no new connections, answer what has been asked, end. Harmless the second time."""
        if not self._retired:
            self._retired = True
            self.stop()  # type: ignore[no-untyped-call]

    def _init_shared_socket(self) -> None:
        holder: Any = SocketHolder  # as Granian itself makes one from what it pickled: file descriptor, is it a Unix socket, backlog
        self._ssp, self._shd = None, holder(self._listener.detach(), False, BACKLOG)
