"""A server that takes connections and says nothing, as a proxy does whose server is gone: no connection to it may be left open."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence

import pytest
from nats.aio.client import Client, Srv
from nats.aio.transport import TcpTransport

from agezero.jetstream.link import Access, Link, _options

INFO = b'INFO {"server_id":"X","version":"2.10.0","proto":1,"max_payload":1048576,"headers":true}\r\n'


class Silent:
    """Lets the first client in and hangs up; then only listens. ``hung``: the connections since."""

    def __init__(self) -> None:
        self.hung: asyncio.Queue[asyncio.StreamReader] = asyncio.Queue()
        self._writers: list[asyncio.StreamWriter] = []

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        if len(self._writers) > 1:
            self.hung.put_nowait(reader)
            return
        writer.write(INFO)
        await reader.readuntil(b"PING\r\n")
        writer.write(b"PONG\r\n")
        await writer.drain()
        writer.close()

    async def close(self) -> None:
        await _close(self._writers)


class Forgetful(Client):
    """The library's own client; what it forgets to close is kept here."""

    def __init__(self) -> None:
        super().__init__()
        self.opened: list[asyncio.StreamWriter] = []

    async def _connect_to_server(self, s: Srv) -> None:
        await super()._connect_to_server(s)
        assert isinstance(self._transport, TcpTransport)
        assert self._transport._io_writer
        self.opened.append(self._transport._io_writer)


@pytest.mark.parametrize(("make", "closed"), [(lambda: Link().client, True), (Forgetful, False)], ids=["ours", "the library's"])
def test_a_connection_on_which_nobody_answers_is_closed(make: Callable[[], Client], closed: bool) -> None:
    """The twin: the library by itself leaves one more open for each time that it tries again."""

    async def story() -> None:
        silent, client = Silent(), make()
        async with await asyncio.start_server(silent.accept, "127.0.0.1", 0) as server:
            url = f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            await client.connect(**_options(Access(servers=[url])) | {"connect_timeout": 0.2, "reconnect_time_wait": 0.01, "error_cb": _nothing})
            first = await silent.hung.get()
            await silent.hung.get()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(10 if closed else 0.05):
                    while await first.read(1000):
                        pass
            assert first.at_eof() is closed
            await silent.close()
            await client.close()
            await _close(getattr(client, "opened", []))

    asyncio.run(story())


async def _close(writers: Sequence[asyncio.StreamWriter]) -> None:
    for writer in writers:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def _nothing(_: Exception) -> None:
    pass
