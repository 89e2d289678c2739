"""Purges of several entries: as a whole or not at all, under one idempotency key only once, and found again as they were accepted."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from agezero.core.purge import Purge
from agezero.core.selector import Kind, Selector
from agezero.database import open_database
from agezero.log import history as history_module
from agezero.log import sqlite
from agezero.log.history import SqliteHistory
from agezero.log.sqlite import SqliteLog
from agezero.ports import Accepted, IdempotencyConflict, LogUnavailable, PurgeRecord, Submission

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


def test_entries_of_a_purge_are_contiguous_whatever_else_is_appended(opened: Open) -> None:
    async def story() -> None:
        async with opened() as (log, _):
            got = await asyncio.gather(*(log.append_many(ask(*range(n, n + 7))) if n % 3 else log.append(urls(n)[0], "key") for n in range(30)))
            purges = await log.read(0, 1000)
            assert [purge.seq for purge in purges] == list(range(1, log.head + 1))
            for n, accepted in enumerate(got):
                if isinstance(accepted, Accepted):
                    found = [purge.selector for purge in purges[accepted.first - 1 : accepted.last]]
                    assert found == list(urls(*range(n, n + 7)))
                    assert accepted.last == accepted.first + 6
                else:
                    assert isinstance(accepted, int)
                    assert purges[accepted - 1] == Purge(accepted, urls(n)[0])

    asyncio.run(story())


def test_it_is_read_from_disk_as_from_memory(opened: Open) -> None:
    async def story() -> None:
        async with opened() as (log, _):
            await log.append_many(ask(1, 2, 3))
            from_memory = list(await log.read(0, 10))
        async with opened() as (log, _):
            assert list(await log.read(0, 10)) == from_memory == [Purge(n, urls(n)[0], True) for n in (1, 2, 3)]

    asyncio.run(story())


def test_a_purge_is_found_as_it_was_accepted_also_after_a_restart(opened: Open) -> None:
    async def story() -> None:
        async with opened() as (log, _):
            await log.append(urls(1)[0], "other", address="192.0.2.2")
            await log.append_many(ask(2, 3))
        async with opened() as (_, history):
            one, two = await history.after(0, 10)
            assert one == PurgeRecord(1, 1, urls(1), "other", one.accepted_ms, False, "192.0.2.2", "")
            assert two == PurgeRecord(2, 3, urls(2, 3), "key", two.accepted_ms, True, "192.0.2.1", "why")
            assert list(await history.before(4, 10)) == [two, one]
            assert list(await history.before(3, 10)) == [one]
            assert list(await history.after(1, 10)) == [two]
            assert await history.find(3) == two
            assert await history.find(2) is None, "an id is made of the last entry alone"
            assert await history.find(9) is None

    asyncio.run(story())


def test_an_answer_is_bounded_by_entries_but_has_one_purge(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        async with opened() as (log, history):
            for first in (1, 11, 21):
                await log.append_many(ask(*range(first, first + 10)))
            monkeypatch.setattr(history_module, "ENTRIES_MAX", 20)
            assert [each.last for each in await history.after(0, 10)] == [10, 20]
            monkeypatch.setattr(history_module, "ENTRIES_MAX", 5)
            assert [each.last for each in await history.before(99, 10)] == [30]

    asyncio.run(story())


def test_of_many_at_once_under_one_idempotency_key_one_is_appended(opened: Open) -> None:
    async def story() -> None:
        async with opened() as (log, _):
            got = await asyncio.gather(*(log.append_many(ask(1, 2, again="once")) for _ in range(50)))
            assert {(each.first, each.last) for each in got} == {(1, 2)}
            assert sum(not each.repeated for each in got) == 1
            assert log.head == 2

    asyncio.run(story())


def test_an_idempotency_key_is_one_keys_own_and_for_one_purge(opened: Open) -> None:
    async def story() -> None:
        async with opened() as (log, _):
            assert await log.append_many(ask(1, again="a")) == Accepted(1, 1)
            with pytest.raises(IdempotencyConflict):
                await log.append_many(ask(2, again="a", fingerprint="another"))
            assert await log.append_many(ask(2, again="a", fingerprint="another", key="somebody else")) == Accepted(2, 2)
            assert await log.append_many(ask(1)) == Accepted(3, 3), "without one it is a new purge"
        async with opened() as (log, _):
            assert await log.append_many(ask(1, again="a")) == Accepted(1, 1, repeated=True)

    asyncio.run(story())


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


def test_retention_takes_a_purge_as_a_whole(opened: Open) -> None:
    async def story() -> None:
        async with opened(retention=10) as (log, history):
            await log.append_many(ask(*range(1, 9), again="old"))
            await log.append_many(ask(*range(9, 29)))
            log.trim_to = 15
            for n in range(29, 49):
                await log.append(urls(n)[0], "key")
            assert log.floor == 8, "the purge of the entries 9 to 28 is not cut in two"
            assert await history.find(8) is None
            found: Sequence[PurgeRecord] = await history.after(0, 1)
            assert (found[0].first, found[0].last) == (9, 28)
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
