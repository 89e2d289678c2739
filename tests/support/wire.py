"""A small, quick HTTP/1.1 client for tests that send thousands of requests at once: answers with Content-Length, connections kept."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

TIMEOUT_S = 20.0


class Broken(Exception):
    """No answer, or not a whole one."""


@dataclass(frozen=True, slots=True)
class Answer:
    """``headers``: names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(slots=True)
class Connection:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def exchange(self, request: bytes) -> Answer:
        """Send ``request``, read the answer."""
        self.writer.write(request)
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:] if line)}
        body = await self.reader.readexactly(int(headers.get("content-length", "0")))
        return Answer(int(lines[0].split(" ")[1]), headers, body)


class Wire:
    """Talks to one address, ``HOST:PORT``, over as many connections as there are requests at a time."""

    def __init__(self, address: str, headers: dict[str, str] | None = None, timeout_s: float = TIMEOUT_S) -> None:
        self._address = address
        self._headers = {"host": address, **(headers or {})}
        self._timeout_s = timeout_s
        self._idle: list[Connection] = []

    async def request(self, method: str, target: str, headers: dict[str, str] | None = None, body: bytes = b"") -> Answer:
        """Raises :class:`Broken`."""
        fields = {**self._headers, **(headers or {}), **({"content-length": str(len(body))} if body else {})}
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        connection = None
        try:
            async with asyncio.timeout(self._timeout_s):
                connection = self._kept() or await self._connect()
                answer = await connection.exchange(f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode() + body)
        except (OSError, asyncio.IncompleteReadError) as error:  # TimeoutError is an OSError
            _close(connection)
            raise Broken(f"{method} http://{self._address}{target}: {error!r}") from None
        except BaseException:
            _close(connection)
            raise
        if answer.headers.get("connection") == "close":
            _close(connection)
        else:
            self._idle.append(connection)
        return answer

    async def aclose(self) -> None:
        """Close the idle connections; those in use close when their requests end."""
        while self._idle:
            self._idle.pop().writer.close()
        await asyncio.sleep(0)  # a transport closes itself in the next turn of the loop

    def _kept(self) -> Connection | None:
        """One that the service has not closed meanwhile: it does so with those that are idle for long."""
        while self._idle:
            connection = self._idle.pop()
            if not connection.reader.at_eof():
                return connection
            _close(connection)
        return None

    async def _connect(self) -> Connection:
        host, _, port = self._address.rpartition(":")
        return Connection(*await asyncio.open_connection(host, int(port)))


def _close(connection: Connection | None) -> None:
    if connection is not None:
        connection.writer.close()
