"""How long a purge takes while a thousand a second come in: from sending the POST to reading ``Completed``, at moments that wait for no answer."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import uvloop

from bench.harness import Figure, NotMeasured, Scale, Tick, at_most, percentile
from bench.service import AUTHORIZATION, PURGES, Service, service

PER_S = 1000
_CONNECTIONS = 64
_PAUSE_S = 0.001
"""Between two looks at a status."""


def parts(scale: Scale) -> int:
    return 2 * scale.purges_timed


def measure(scale: Scale, folder: Path, tick: Tick) -> list[Figure]:
    with service(folder / "service") as ours:
        took_ms, late_ms = uvloop.run(_load(ours, 2 * scale.purges_timed, tick))
    what = f"POST to Completed, at {PER_S:,} purges/s"
    detail = f"{len(took_ms)} purges; a request was sent {percentile(late_ms, 0.99):.2f} ms late at p99"
    return [
        Figure(f"{what}, p50", percentile(took_ms, 0.5), "ms", "", at_most(10), detail, {"completed_ms": took_ms}),
        Figure(f"{what}, p99", percentile(took_ms, 0.99), "ms", "", at_most(40), detail),
    ]


async def _load(ours: Service, purges: int, tick: Tick) -> tuple[list[float], list[float]]:
    """Milliseconds of each, counted from when it was due; and how late each was sent."""
    took_ms, late_ms = list[float](), list[float]()
    free: asyncio.LifoQueue[Wire] = asyncio.LifoQueue()
    wires = [await Wire.open(ours) for _ in range(_CONNECTIONS)]
    for wire in wires:
        free.put_nowait(wire)

    async def one(number: int, due_s: float) -> None:
        wire = await free.get()
        late_ms.append((time.perf_counter() - due_s) * 1000)
        await wire.purge(number)
        took_ms.append((time.perf_counter() - due_s) * 1000)
        free.put_nowait(wire)
        tick()

    began_s = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for number in range(purges):
            due_s = began_s + number / PER_S
            await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
            group.create_task(one(number, due_s))
    for wire in wires:
        wire.close()
    return took_ms, late_ms


class Wire:
    """One connection to the service."""

    def __init__(self, named: Service, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._edge = named.edge
        self._head = f"Host: {named.address}\r\nAuthorization: {AUTHORIZATION['Authorization']}\r\n"
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, ours: Service) -> Wire:
        """Connect."""
        host, _, port = ours.address.rpartition(":")
        return cls(ours, *await asyncio.open_connection(host, int(port)))

    async def purge(self, number: int) -> None:
        """Return once it reads ``Completed``."""
        body = f'{{"url":"http://{self._edge}/photos/{number}.jpg"}}'
        answer = await self._ask(f"POST {PURGES} HTTP/1.1\r\n{self._head}Content-Length: {len(body)}\r\n\r\n{body}")
        request_id = answer.split(b'"')[3].decode()
        status = f"GET {PURGES}/{request_id} HTTP/1.1\r\n{self._head}\r\n"
        while b"Completed" not in await self._ask(status):  # noqa: ASYNC110 - the event is in another process
            await asyncio.sleep(_PAUSE_S)

    def close(self) -> None:
        """Hang up."""
        self._writer.close()

    async def _ask(self, request: str) -> bytes:
        self._writer.write(request.encode())
        head = await self._reader.readuntil(b"\r\n\r\n")
        body = await self._reader.readexactly(int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0] or 0))
        if not head.startswith((b"HTTP/1.1 200", b"HTTP/1.1 201")):
            raise NotMeasured(f"{request.splitlines()[0]} was answered {head.splitlines()[0]!r}: {body!r}")
        return body
