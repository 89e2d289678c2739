"""What the purge log in SQLite promises beyond ``test_log.py``: shared commits, bounded files, and a refusal when there is no room."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from agezero.core.selector import Kind, Selector
from agezero.database import open_database
from agezero.errors import UserError
from agezero.log.sqlite import JUMP, SqliteLog, check_here, move
from agezero.ports import Accepted, BelowFloor, LogUnavailable, Submission
from agezero.tracing import PARENT
from support.logs import sqlite_log, url

OpenLog = Callable[..., AbstractAsyncContextManager[SqliteLog]]


@pytest.fixture
def open_log(tmp_path: Path) -> OpenLog:
    """Opens the same log each time it is called: what is there after a restart."""

    @contextlib.asynccontextmanager
    async def opened(retention: int = 1_000_000) -> AsyncIterator[SqliteLog]:
        async with sqlite_log(tmp_path)(retention) as log:
            assert isinstance(log, SqliteLog)
            yield log

    return opened


def test_a_thousand_callers_share_a_few_commits(open_log: OpenLog) -> None:
    async def story() -> None:
        async with open_log() as log:
            commits: list[str] = []
            log.connection.set_trace_callback(lambda statement: commits.append(statement) if statement == "COMMIT" else None)
            seqs = await asyncio.gather(*(log.append(url(n), "key") for n in range(1000)))
            assert seqs == list(range(1, 1001))
            assert len(commits) < 50

    asyncio.run(story())


def test_retention_bounds_the_file(open_log: OpenLog) -> None:
    async def story() -> None:
        sizes = []
        async with open_log(retention=2000) as log:
            for _ in range(6):
                await asyncio.gather(*(log.append(Selector(Kind.URL, "example.com/" + "x" * 500), "key") for _ in range(2000)))
                log.trim_to = log.head
                (pages,) = log.connection.execute("PRAGMA page_count").fetchone()
                sizes.append(pages)
        assert max(sizes) <= 3 * sizes[0]

    asyncio.run(story())


def test_a_fault_of_our_own_refuses_a_purge_and_does_not_end_the_writer(open_log: OpenLog, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        async with open_log() as log:
            with monkeypatch.context() as broken:
                broken.setattr(log, "_trim", Mock(side_effect=ValueError("a bug")))
                async with asyncio.timeout(10):
                    with pytest.raises(LogUnavailable, match="a bug"):
                        await log.append(url(1), "key")
            assert await log.append(url(2), "key") == 1

    asyncio.run(story())


def test_a_move_that_was_broken_off_is_none(tmp_path: Path) -> None:
    """The service starts as before, and the move can be begun again."""

    class Dies(sqlite3.Connection):
        def execute(self, statement: str, values: Any = ()) -> sqlite3.Cursor:
            if statement.startswith("INSERT INTO moved"):
                raise KeyboardInterrupt
            return super().execute(statement, values)

    path = tmp_path / "log"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None, factory=Dies)) as dying, pytest.raises(KeyboardInterrupt):
        move(dying, "nats://here")
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        check_here(connection)
        move(connection, "nats://here")
        with pytest.raises(UserError, match="nats://here"):
            check_here(connection)


def test_without_room_a_purge_is_refused_and_nothing_is_half_written(open_log: OpenLog) -> None:
    async def story() -> None:
        big = Selector(Kind.URL, "example.com/" + "x" * 4000)
        async with open_log() as log:
            await log.append(url(1), "key")
            (pages,) = log.connection.execute("PRAGMA page_count").fetchone()
            log.connection.execute(f"PRAGMA max_page_count = {pages}")
            with pytest.raises(LogUnavailable, match="full"):
                await asyncio.gather(*(log.append(big, "key") for _ in range(50)))
            assert log.head == 1
            log.connection.execute("PRAGMA max_page_count = 1000000")
            assert await log.append(big, "key") == 2

    asyncio.run(story())


def test_a_log_restored_from_a_backup_takes_a_new_epoch_and_uses_no_seq_twice(open_log: OpenLog) -> None:
    async def story() -> None:
        async with open_log() as log:
            await log.append(url(1), "key")
            epoch = log.epoch
        async with open_log() as log:
            log.continue_after(1)
            assert (log.epoch, log.head) == (epoch, 1), "an edge at the head is no sign of a loss"
            log.continue_after(7)
            assert log.epoch != epoch
            assert await log.append(url(2), "key") == 7 + JUMP + 1
        async with open_log() as log:
            assert log.head == 7 + JUMP + 1
            with pytest.raises(BelowFloor):
                await log.read(7, 1)

    asyncio.run(story())


def test_a_read_that_retention_overtakes_tells_so_instead_of_skipping(open_log: OpenLog) -> None:
    async def story() -> None:
        async with open_log(retention=10) as log:
            for n in range(1, 31):
                await log.append(url(n), "key")
            log._tail.clear()
            log._reader.acquire()
            reading = asyncio.create_task(log.read(0, 5))
            await asyncio.sleep(0.05)  # let it pass the first look at the floor; it waits for the lock
            log.connection.execute("DELETE FROM purge WHERE seq <= 20")
            log.connection.execute("UPDATE log SET floor = 20")
            log._reader.release()
            with pytest.raises(BelowFloor):
                await reading

    asyncio.run(story())


def test_a_new_epoch_is_there_after_a_restart_before_anything_is_appended(open_log: OpenLog) -> None:
    async def story() -> None:
        async with open_log() as log:
            for number in range(1, 4):
                await log.append(url(number), "key")
            log.begin_epoch(0)
            epoch = log.epoch
        async with open_log() as log:
            assert (log.epoch, log.head, log.floor) == (epoch, 3 + JUMP, 3 + JUMP), "beyond its own entries too"

    asyncio.run(story())


def test_nothing_of_the_epoch_before_is_left(open_log: OpenLog) -> None:
    """An idempotency key of then would be answered with a purge that is gone."""

    async def story() -> None:
        async with open_log() as log:
            token = PARENT.set("trace")
            await log.append_many(ask("a"))
            PARENT.reset(token)
            log.begin_epoch(7)
            assert [count(log, table) for table in ("purge", "submission", "trace")] == [0, 0, 0]
            assert not (await log.append_many(ask("a"))).repeated

    asyncio.run(story())


def test_a_new_epoch_begins_as_a_whole(open_log: OpenLog) -> None:
    """With its entries gone and its epoch kept, nobody would notice that it has lost some."""

    async def story() -> None:
        async with open_log() as log:
            await log.append(url(1), "key")
            log.connection.set_authorizer(lambda action, *_: sqlite3.SQLITE_DENY if action == sqlite3.SQLITE_UPDATE else sqlite3.SQLITE_OK)
            with pytest.raises(sqlite3.DatabaseError):
                log.begin_epoch(7)
            log.connection.set_authorizer(None)
        async with open_log() as log:
            assert [purge.seq for purge in await log.read(0, 10)] == [1]

    asyncio.run(story())


def test_after_a_refusal_that_ends_no_transaction_purges_are_taken_again(open_log: OpenLog) -> None:
    """SQLite itself rolls back where the disk is full, and not where a single statement fails."""

    async def story() -> None:
        async with open_log() as log:
            log.connection.set_authorizer(lambda action, *names: sqlite3.SQLITE_DENY if refused(action, *names) else sqlite3.SQLITE_OK)
            with pytest.raises(LogUnavailable):
                await log.append_many(ask())
            log.connection.set_authorizer(None)
            assert await log.append_many(ask()) == Accepted(1, 1)

    def refused(action: int, *names: str | None) -> bool:
        return action == sqlite3.SQLITE_INSERT and names[0] == "submission"

    asyncio.run(story())


def test_nothing_is_read_beyond_the_head(open_log: OpenLog) -> None:
    """What is committed a moment before its head is known would be applied before it counts."""

    async def story() -> None:
        async with open_log() as log:
            await log.append(url(1), "key")
        async with open_log() as log:  # its memory is empty
            log.connection.execute("INSERT INTO purge (kind, value, key_id, accepted_ms) VALUES ('url', 'example.com/2', 'key', 0)")
            assert [purge.seq for purge in await log.read(0, 10)] == [1]

    asyncio.run(story())


def test_a_commit_has_its_limit_and_a_stop_commits_what_is_under_way(tmp_path: Path) -> None:
    async def story() -> None:
        with contextlib.closing(open_database(tmp_path)) as connection:
            log = SqliteLog(connection, batch_max=10)
            commits: list[str] = []
            connection.set_trace_callback(lambda statement: commits.append(statement) if statement == "COMMIT" else None)
            appends = [asyncio.ensure_future(log.append(url(number), "key")) for number in range(105)]
            log._loop = asyncio.get_running_loop()  # all are there before the writer starts
            await asyncio.sleep(0)
            log.start()
            await log.stop()
            assert await asyncio.gather(*appends) == list(range(1, 106))
            assert len(commits) == 11

    asyncio.run(asyncio.wait_for(story(), 30))


def test_retention_takes_traces_too(open_log: OpenLog) -> None:
    async def story() -> None:
        async with open_log(retention=5) as log:
            PARENT.set("trace")
            for number in range(1, 31):
                log.trim_to = log.head
                await log.append(url(number), "key")
            assert 0 < count(log, "trace") == count(log, "purge") <= 11

    asyncio.run(story())


def ask(again: str = "") -> Submission:
    return Submission((url(1),), "key", idempotency_key=again)


def count(log: SqliteLog, table: str) -> int:
    return int(log.connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
