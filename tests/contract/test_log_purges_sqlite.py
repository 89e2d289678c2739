"""Purges of several entries in SQLite, beyond ``test_log_purges.py``: idempotency keys by the clock, a full disk, an older layout."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from agezero.core.selector import Kind, Selector
from agezero.database import open_database
from agezero.log import sqlite
from agezero.log.history import SqliteHistory
from agezero.log.sqlite import SqliteLog
from agezero.ports import Accepted, LogUnavailable, PurgeRecord, Submission

Open = Callable[..., AbstractAsyncContextManager[tuple[SqliteLog, SqliteHistory]]]


def urls(*numbers: int) -> tuple[Selector, ...]:
    return tuple(Selector(Kind.URL, f"example.com/{number}") for number in numbers)


def ask(*numbers: int, again: str = "", fingerprint: str = "f", key: str = "key") -> Submission:
    return Submission(urls(*numbers), key, soft=True, address="192.0.2.1", note="why", idempotency_key=again, fingerprint=fingerprint)


@pytest.fixture
def opened(tmp_path: Path) -> Open:
    @contextlib.asynccontextmanager
    async def open_log(retention: int = 1_000_000) -> AsyncIterator[tuple[SqliteLog, SqliteHistory]]:
        connection, reading = open_database(tmp_path), open_database(tmp_path)
        log = SqliteLog(connection, retention)
        log.start()
        try:
            yield log, SqliteHistory(reading)
        finally:
            await log.stop()
            connection.close()
            reading.close()

    return open_log


def test_after_a_day_an_idempotency_key_is_free_again(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        async with opened() as (log, _):
            now_ms = 1_800_000_000_000
            monkeypatch.setattr(sqlite, "_now_ms", lambda: now_ms)
            await log.append_many(ask(1, again="a"))
            monkeypatch.setattr(sqlite, "_now_ms", lambda: now_ms + sqlite.IDEMPOTENT_MS - 1)
            assert (await log.append_many(ask(1, again="a"))).repeated
            monkeypatch.setattr(sqlite, "_now_ms", lambda: now_ms + sqlite.IDEMPOTENT_MS)
            assert await log.append_many(ask(1, again="a")) == Accepted(2, 2)

    asyncio.run(story())


def test_without_room_nothing_of_a_purge_is_kept(opened: Open) -> None:
    async def story() -> None:
        async with opened() as (log, history):
            await log.append(urls(1)[0], "key")
            (pages,) = log.connection.execute("PRAGMA page_count").fetchone()
            log.connection.execute(f"PRAGMA max_page_count = {pages}")
            big = Submission(tuple(Selector(Kind.URL, f"example.com/{n}/" + "x" * 500) for n in range(1000)), "key", idempotency_key="a")
            with pytest.raises(LogUnavailable, match="full"):
                await log.append_many(big)
            assert log.head == 1
            log.connection.execute("PRAGMA max_page_count = 1000000")
            assert await log.append_many(big) == Accepted(2, 1001)
            assert [each.last for each in await history.after(0, 10)] == [1, 1001]

    asyncio.run(story())


def test_with_its_purge_retention_takes_an_idempotency_key(opened: Open) -> None:
    async def story() -> None:
        async with opened(retention=10) as (log, _):
            await log.append_many(ask(*range(1, 9), again="old"))
            log.trim_to = 8
            for n in range(9, 49):
                await log.append(urls(n)[0], "key")
            assert log.floor == 8
            assert not (await log.append_many(ask(1, again="old"))).repeated

    asyncio.run(story())


def test_a_log_of_an_older_version_is_gone_on_with(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "agezero.sqlite3", isolation_level=None)
    connection.execute(
        "CREATE TABLE purge (seq INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, value TEXT NOT NULL, "
        "key_id TEXT NOT NULL, accepted_ms INTEGER NOT NULL)"
    )
    connection.execute("INSERT INTO purge (kind, value, key_id, accepted_ms) VALUES ('url', 'example.com/1', 'key', 7)")
    connection.close()

    async def story() -> None:
        log = SqliteLog(open_database(tmp_path))
        reading = open_database(tmp_path)
        log.start()
        assert await log.append_many(ask(2, 3)) == Accepted(2, 3)
        assert await SqliteHistory(reading).find(1) == PurgeRecord(1, 1, urls(1), "key", 7)
        await log.stop()
        log.connection.close()
        reading.close()

    asyncio.run(story())
