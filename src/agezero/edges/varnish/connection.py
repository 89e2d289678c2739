"""The driver's end of Varnish's own listener: HTTP/1.1 over a few persistent connections to a unix socket, one call at a time on each.

A reply counts only with our own mark and the number of the very call it answers; anything else comes from another program. After a failure, or a call
that was given up, the connection is not used again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import h11

from agezero.ports import DriverFailed

_READ_BYTES = 65536
_MARK = "1"
_HOST = [("Host", "agezero")]


@dataclass(frozen=True, slots=True)
class Reply:
    """What Varnish answered. ``headers`` by lower-case name."""

    status: int
    headers: Mapping[str, str]
    body: str


class Connections:
    """Up to ``number`` connections to ``socket``; a call fails after ``timeout_s``."""

    def __init__(self, socket: Path, number: int, timeout_s: float) -> None:
        self._socket = socket
        self._timeout_s = timeout_s
        self._free: asyncio.LifoQueue[_Connection | None] = asyncio.LifoQueue()
        for _ in range(number):
            self._free.put_nowait(None)
        self._open: set[_Connection] = set()
        self._calls = count(1)

    async def call(self, path: str, headers: Mapping[str, str]) -> Reply:
        """One command. Raises :class:`DriverFailed` where no answer of agezero.vcl came."""
        number = str(next(self._calls))
        reply = await self._exchange(path, {"AgeZero-Seq": number, **headers})
        if reply.headers.get("agezero") != _MARK:
            raise DriverFailed(
                f"{self._socket} answered {reply.status}, but not as agezero.vcl does\n"
                "hint: include agezero.vcl before your own subs, and name the listener: varnishd -a agezero=PATH,mode=0600"
            )
        if reply.headers.get("agezero-seq") != number:
            raise DriverFailed(f"{self._socket} answered another call than {number}")
        return reply

    def close(self) -> None:
        """Close all; a later call opens another."""
        for connection in list(self._open):
            self._drop(connection)

    async def _exchange(self, path: str, headers: Mapping[str, str]) -> Reply:
        connection, reply = await self._free.get(), None
        try:
            async with asyncio.timeout(self._timeout_s):
                if connection is None or not connection.reusable():
                    self._drop(connection)
                    connection = None
                    connection = _Connection(*await asyncio.open_unix_connection(self._socket))
                    self._open.add(connection)
                reply = await connection.exchange(path, headers)
                return reply
        except TimeoutError:
            raise DriverFailed(f"Varnish did not answer on {self._socket} within {self._timeout_s:g} s") from None
        except (OSError, EOFError, h11.ProtocolError) as error:
            raise DriverFailed(f"Varnish did not answer on {self._socket}: {error or type(error).__name__}{_hint(error)}") from error
        finally:
            if reply is None or connection is None or not connection.reusable():
                self._drop(connection)
                connection = None
            self._free.put_nowait(connection)

    def _drop(self, connection: _Connection | None) -> None:
        if connection is not None:
            self._open.discard(connection)
            connection.writer.close()


class _Connection:
    """A connection and where HTTP stands on it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self._reader = reader
        self._http = h11.Connection(h11.CLIENT)

    def reusable(self) -> bool:
        """Has the last answer ended in good order, with the connection left open?"""
        return self._http.our_state is h11.IDLE and not self._reader.at_eof() and not self.writer.is_closing()

    async def exchange(self, path: str, headers: Mapping[str, str]) -> Reply:
        """One request and its answer. Raises ``OSError``, ``EOFError``, ``h11.ProtocolError``."""
        self._http.send(h11.Request(method="AGEZERO", target=path, headers=_HOST))  # the parser has to know; what is sent has more headers
        self._http.send(h11.EndOfMessage())
        self.writer.write(_request(path, headers))
        reply, parts = Reply(0, {}, ""), []
        while not isinstance(event := await self._next(), h11.EndOfMessage):
            if isinstance(event, h11.Response):
                reply = Reply(event.status_code, {name.decode(): value.decode("latin-1") for name, value in event.headers}, "")
            elif isinstance(event, h11.Data):
                parts.append(bytes(event.data))
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
        return Reply(reply.status, reply.headers, b"".join(parts).decode("latin-1"))

    async def _next(self) -> h11.Event:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            data = await self._reader.read(_READ_BYTES)
            if not data and self._http.their_state is not h11.SEND_BODY:
                raise EOFError("the connection ended before the answer")
            self._http.receive_data(data)
        if not isinstance(event, h11.Event):
            raise EOFError("the connection ended before the answer")
        return event


def _request(path: str, headers: Mapping[str, str]) -> bytes:
    """Up to forty headers, of which h11 would look at each letter. Their values are our own; that none of them ends its line is all that matters."""
    lines = [f"{name}: {value}" for name, value in headers.items()]
    text = "\r\n".join([f"AGEZERO {path} HTTP/1.1", "Host: agezero", *lines, "", ""])
    if text.count("\n") != len(lines) + 3 or text.count("\r") != len(lines) + 3:
        raise ValueError(f"a header for {path} holds the end of a line")
    return text.encode("ascii")


def _hint(error: Exception) -> str:
    match error:
        case FileNotFoundError():
            return "\nhint: start varnishd with -a agezero=PATH,mode=0600, and set control to that path"
        case PermissionError():
            return "\nhint: give the socket to the agent's group: varnishd -a agezero=PATH,group=GROUP,mode=0660"
        case ConnectionRefusedError():
            return "\nhint: start varnishd; nobody listens on that socket"
        case _:
            return ""
