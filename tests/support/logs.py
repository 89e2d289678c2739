"""Purge logs to be opened again and again: what is there after a restart."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

from agezero.core.selector import Kind, Selector
from agezero.database import open_database
from agezero.jetstream.history import JetStreamHistory
from agezero.jetstream.link import Access, Link, connect
from agezero.jetstream.log import JetStreamLog, following, open_log
from agezero.jetstream.stream import log_shape
from agezero.log.history import SqliteHistory
from agezero.log.sqlite import SqliteLog
from agezero.ports import LogUnavailable, PurgeHistory

AnyLog = SqliteLog | JetStreamLog
OpenHistory = Callable[..., AbstractAsyncContextManager[tuple[AnyLog, PurgeHistory]]]
OpenLog = Callable[..., AbstractAsyncContextManager[AnyLog]]
SHAPE = log_shape(64 << 20, 60)


def url(number: int) -> Selector:
    return Selector(Kind.URL, f"example.com/{number}")


def sqlite_log(directory: Path) -> OpenLog:
    @contextlib.asynccontextmanager
    async def opened(retention: int = 1_000_000) -> AsyncIterator[AnyLog]:
        connection = open_database(directory)
        log = SqliteLog(connection, retention)
        log.start()
        try:
            yield log
        finally:
            await log.stop()
            connection.close()

    return opened


def jetstream_log(servers: Sequence[str]) -> OpenLog:
    @contextlib.asynccontextmanager
    async def opened(retention: int = 1_000_000) -> AsyncIterator[AnyLog]:
        async with linked(servers) as link:
            log = await open_log(link, SHAPE, retention=retention)
            log.trim_s = 0.02
            async with following(log):
                yield log

    return opened


def with_history(directory: Path, open_log: OpenLog) -> OpenHistory:
    """The log and its history. ``directory``: where one in SQLite lies."""

    @contextlib.asynccontextmanager
    async def opened(retention: int = 1_000_000) -> AsyncIterator[tuple[AnyLog, PurgeHistory]]:
        async with open_log(retention) as log:
            if isinstance(log, JetStreamLog):
                yield log, JetStreamHistory(log)
                return
            with contextlib.closing(open_database(directory)) as reading:
                yield log, SqliteHistory(reading)

    return opened


@contextlib.asynccontextmanager
async def linked(servers: Sequence[str], **options: Any) -> AsyncIterator[Link]:
    """A connection, closed with the block."""
    link = await connect(Access(servers=servers, **options))
    try:
        yield link
    finally:
        await link.close()


async def eventually_appended(log: Any, selector: Any) -> int:
    """Its seq, as soon as the log takes it."""
    async with asyncio.timeout(60):
        while True:
            try:
                return int(await log.append(selector, "key"))
            except LogUnavailable:
                await asyncio.sleep(0.05)
