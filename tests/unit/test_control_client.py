"""The control client never takes one call's answer for another's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agezero.edges.nginx.control import ControlClient, ControlFailed

Answer = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]


def reply(body: bytes, more: bytes = b"") -> bytes:
    return b"HTTP/1.1 200 OK\r\nServer: nginx\r\nContent-Length: %d\r\n%b\r\n%b" % (len(body), more, body)


async def echo(request: bytes, writer: asyncio.StreamWriter) -> None:
    writer.write(reply(request))


@asynccontextmanager
async def peer(path: Path, answer: Answer) -> AsyncIterator[list[asyncio.StreamWriter]]:
    """Calls ``answer`` with each request's body; gives the connections in the order in which they came."""
    connections: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                await answer(await reader.readexactly(int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0])), writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_unix_server(serve, path)
    async with server:
        yield connections
        for writer in connections:
            writer.close()


def test_calls_share_a_connection_and_wait_for_each_other(tmp_path: Path) -> None:
    async def run() -> None:
        async with peer(tmp_path / "socket", echo) as connections:
            client = ControlClient(tmp_path / "socket", 10)
            answers = await asyncio.gather(*(client.call("POST", "/write", b"%d" % number) for number in range(20)))
            assert answers == [(200, b"%d" % number) for number in range(20)]
            assert len(connections) == 1
            client.close()

    asyncio.run(run())


@pytest.mark.parametrize("given_up", ["too late", "cancelled"])
def test_the_answer_to_a_call_that_was_given_up_is_not_the_next_ones(tmp_path: Path, given_up: str) -> None:
    asked, release = asyncio.Event(), asyncio.Event()

    async def slow_at_first(request: bytes, writer: asyncio.StreamWriter) -> None:
        if request == b"first":
            asked.set()
            await release.wait()
        writer.write(reply(request))

    async def run() -> None:
        async with peer(tmp_path / "socket", slow_at_first):
            client = ControlClient(tmp_path / "socket", 0.05 if given_up == "too late" else 10)
            first = asyncio.create_task(client.call("POST", "/write", b"first"))
            await asked.wait()
            if given_up == "cancelled":
                first.cancel()
            with pytest.raises((ControlFailed, asyncio.CancelledError)):
                await first
            release.set()
            assert await client.call("POST", "/write", b"second") == (200, b"second")
            client.close()

    asyncio.run(run())


def test_a_connection_that_the_peer_has_closed_is_replaced(tmp_path: Path) -> None:
    async def last_answer(request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(reply(request, b"Connection: close\r\n"))
        writer.close()

    async def run() -> None:
        async with peer(tmp_path / "socket", last_answer) as connections:
            client = ControlClient(tmp_path / "socket", 10)
            for number in (b"1", b"2", b"3"):
                assert await client.call("POST", "/write", number) == (200, number)
            assert len(connections) == 3

    asyncio.run(run())


@pytest.mark.parametrize("said", [b"SMTP ready\r\n\r\n", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort"])
def test_what_is_no_answer_is_a_failure(tmp_path: Path, said: bytes) -> None:
    async def garbled(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        writer.close()

    async def run() -> None:
        async with peer(tmp_path / "socket", garbled):
            client = ControlClient(tmp_path / "socket", 10)
            with pytest.raises(ControlFailed):
                await client.call("GET", "/state")

    asyncio.run(run())


def test_nobody_there_is_a_failure(tmp_path: Path) -> None:
    async def run() -> None:
        with pytest.raises(ControlFailed, match="No such file"):
            await ControlClient(tmp_path / "socket", 10).call("GET", "/state")

    asyncio.run(run())
