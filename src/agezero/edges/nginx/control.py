"""The driver's end of the control socket (control.js): HTTP/1.1 over one connection, one call at a time.

Not httpx: every batch of purges passes here, and a general client took a third of all that the service did under load. h11 reads and
writes the messages. After a failure, or a call that was given up, the connection is not used again: the next answer on it would be taken for
one to a later call.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import h11

READ_BYTES = 65536


class ControlFailed(Exception):
    """No answer, or none in the form expected: what was asked for may or may not have been done."""


class ControlClient:
    """Calls to the unix socket ``socket``; each fails after ``timeout_s``."""

    def __init__(self, socket: Path, timeout_s: float) -> None:
        self._socket = socket
        self._timeout_s = timeout_s
        self._one_call = asyncio.Lock()
        self._connection: _Connection | None = None

    async def call(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        """Status and body of the answer. Raises :class:`ControlFailed`."""
        async with self._one_call:
            try:
                async with asyncio.timeout(self._timeout_s):
                    return await self._exchange(method, path, body)
            except TimeoutError:
                self.close()
                raise ControlFailed(f"no answer within {self._timeout_s:g} s") from None
            except (OSError, EOFError, h11.ProtocolError) as error:
                self.close()
                raise ControlFailed(str(error) or type(error).__name__) from error
            except asyncio.CancelledError:
                self.close()
                raise

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        if self._connection is not None:
            self._connection.writer.close()
            self._connection = None

    async def _exchange(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        if self._connection is None or not self._connection.reusable():
            self.close()
            self._connection = _Connection(*await asyncio.open_unix_connection(self._socket))
        answer = await self._connection.exchange(method, path, body)
        if not self._connection.reusable():
            self.close()
        return answer


class _Connection:
    """A connection and where HTTP stands on it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self._reader = reader
        self._http = h11.Connection(h11.CLIENT)

    def reusable(self) -> bool:
        """Has the last answer ended in good order, with the connection left open?"""
        return self._http.our_state is h11.IDLE and not self._reader.at_eof() and not self.writer.is_closing()

    async def exchange(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        """One request and its answer. Raises ``OSError``, ``EOFError``, ``h11.ProtocolError``."""
        headers = [("Host", "edge"), ("Content-Length", str(len(body)))]
        events = (h11.Request(method=method, target=path, headers=headers), h11.Data(data=body), h11.EndOfMessage())
        self.writer.write(b"".join(self._http.send(event) or b"" for event in events))
        status, parts = 0, []
        while not isinstance(event := await self._next(), h11.EndOfMessage):
            if isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                parts.append(bytes(event.data))
        if self._http.our_state is h11.DONE:
            self._http.start_next_cycle()
        return status, b"".join(parts)

    async def _next(self) -> h11.Event:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            data = await self._reader.read(READ_BYTES)
            if not data and self._http.their_state is not h11.SEND_BODY:
                raise EOFError("the connection ended before the answer")
            self._http.receive_data(data)
        if not isinstance(event, h11.Event):
            raise EOFError("the connection ended before the answer")
        return event
