"""What every purge log promises, over each implementation: order, durability, a floor, and a clear refusal when there is no room."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from agezero.core.purge import Purge
from agezero.core.selector import Kind, Selector
from agezero.database import open_database
from agezero.log.sqlite import JUMP, SqliteLog
from agezero.ports import BelowFloor, LogUnavailable

OpenLog = Callable[..., AbstractAsyncContextManager[SqliteLog]]


def url(number: int) -> Selector:
    return Selector(Kind.URL, f"example.com/{number}")


@pytest.fixture
def open_log(tmp_path: Path) -> OpenLog:
    """Opens the same log each time it is called: what is there after a restart."""

    @contextlib.asynccontextmanager
    async def opened(retention: int = 1_000_000) -> AsyncIterator[SqliteLog]:
        connection = open_database(tmp_path)
        log = SqliteLog(connection, retention)
        log.start()
        try:
            yield log
        finally:
            await log.stop()
            connection.close()

    return opened


def test_entries_are_numbered_from_one_and_read_in_order(open_log: OpenLog) -> None:
    async def story() -> None:
        async with open_log() as log:
            assert await asyncio.gather(*(log.append(url(n), "key") for n in range(1, 6))) == [1, 2, 3, 4, 5]
            assert log.head == 5
            assert list(await log.read(2, 2)) == [Purge(3, url(3)), Purge(4, url(4))]
            assert list(await log.read(5, 10)) == []

    asyncio.run(story())


def test_a_restart_finds_everything_that_was_acknowledged(open_log: OpenLog) -> None:
    async def story() -> None:
        async with open_log() as log:
            await log.append(Selector(Kind.PREFIX, "example.com/a/"), "key")
            epoch = log.epoch
        async with open_log() as log:
            assert (log.head, log.epoch) == (1, epoch)
            assert list(await log.read(0, 10)) == [Purge(1, Selector(Kind.PREFIX, "example.com/a/"))]
            assert await log.append(url(2), "key") == 2

    asyncio.run(story())


def test_a_thousand_callers_share_a_few_commits(open_log: OpenLog) -> None:
    async def story() -> None:
        async with open_log() as log:
            commits: list[str] = []
            log.connection.set_trace_callback(lambda statement: commits.append(statement) if statement == "COMMIT" else None)
            seqs = await asyncio.gather(*(log.append(url(n), "key") for n in range(1000)))
            assert seqs == list(range(1, 1001))
            assert len(commits) < 50

    asyncio.run(story())


def test_a_reader_at_the_head_waits_and_is_woken(open_log: OpenLog) -> None:
    async def story() -> None:
        async with open_log() as log:
            waiting = asyncio.create_task(log.wait(0))
            await asyncio.sleep(0)
            assert not waiting.done()
            await log.append(url(1), "key")
            await asyncio.wait_for(waiting, 5)

    asyncio.run(story())


def test_the_control_side_hears_of_a_new_head_before_the_caller(open_log: OpenLog) -> None:
    async def story() -> None:
        async with open_log() as log:
            heads: list[int] = []
            log.subscribe(heads.append)
            await log.append(url(1), "key")
            assert heads == [1]

    asyncio.run(story())


def test_entries_older_than_the_tail_in_memory_come_from_disk(open_log: OpenLog) -> None:
    async def story() -> None:
        async with open_log() as log:
            await asyncio.gather(*(log.append(url(n), "key") for n in range(1, 21)))
            for _ in range(15):
                log._tail.popleft()
            assert [purge.seq for purge in await log.read(3, 4)] == [4, 5, 6, 7]
            assert [purge.seq for purge in await log.read(17, 10)] == [18, 19, 20]

    asyncio.run(story())


def test_retention_removes_only_what_is_complete(open_log: OpenLog) -> None:
    async def story() -> None:
        async with open_log(retention=10) as log:
            for n in range(1, 31):
                await log.append(url(n), "key")
            assert log.floor == 0, "nothing is complete, so nothing may go"
            log.trim_to = 15
            for n in range(31, 51):
                await log.append(url(n), "key")
            assert log.floor == 15
            with pytest.raises(BelowFloor):
                await log.read(14, 1)
            assert next(iter(await log.read(15, 1))).seq == 16
        async with open_log() as log:
            assert (log.floor, log.head) == (15, 50)

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


def test_a_caller_that_gives_up_takes_nobody_else_down(open_log: OpenLog) -> None:
    async def story() -> None:
        async with open_log() as log:
            leaving = asyncio.create_task(log.append(url(1), "key"))
            await asyncio.sleep(0)
            staying = asyncio.create_task(log.append(url(2), "key"))
            leaving.cancel()
            assert await staying == 2
            assert log.head == 2, "what the log took stays, whoever asked"

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
