"""What every purge log promises, over each implementation: order, durability, a floor, and a clear refusal."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from agezero.core.purge import Purge
from agezero.core.selector import Kind, Selector
from agezero.ports import BelowFloor
from support.logs import OpenLog, jetstream_log, sqlite_log, url
from support.nats import Servers, emptied, nats_servers
from support.waiting import until


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with nats_servers(tmp_path_factory.mktemp("nats")) as started:
        yield started


@pytest.fixture(params=["sqlite", "jetstream"])
def open_log(request: pytest.FixtureRequest, tmp_path: Path) -> OpenLog:
    """Opens the same log each time it is called: what is there after a restart."""
    return sqlite_log(tmp_path) if request.param == "sqlite" else jetstream_log(emptied(request.getfixturevalue("servers")).urls)


def test_entries_are_numbered_without_a_gap_and_read_in_order(open_log: OpenLog) -> None:
    async def story() -> None:
        async with open_log() as log:
            base = log.head
            assert log.floor == base
            assert await asyncio.gather(*(log.append(url(n), "key") for n in range(1, 6))) == [base + n for n in range(1, 6)]
            assert log.head == base + 5
            assert list(await log.read(base + 2, 2)) == [Purge(base + 3, url(3)), Purge(base + 4, url(4))]
            assert list(await log.read(base + 5, 10)) == []

    asyncio.run(story())


def test_a_restart_finds_everything_that_was_acknowledged(open_log: OpenLog) -> None:
    async def story() -> None:
        async with open_log() as log:
            base = log.head
            await log.append(Selector(Kind.PREFIX, "example.com/a/"), "key")
            await log.append(url(1), "key", soft=True)
            epoch = log.epoch
        async with open_log() as log:
            assert (log.head, log.epoch) == (base + 2, epoch)
            assert list(await log.read(base, 10)) == [Purge(base + 1, Selector(Kind.PREFIX, "example.com/a/")), Purge(base + 2, url(1), soft=True)]
            assert await log.append(url(2), "key") == base + 3

    asyncio.run(story())


def test_a_thousand_callers_at_once_each_get_a_seq_of_their_own(open_log: OpenLog) -> None:
    async def story() -> None:
        async with open_log() as log:
            base = log.head
            seqs = await asyncio.gather(*(log.append(url(n), "key") for n in range(1000)))
            assert sorted(seqs) == list(range(base + 1, base + 1001))
            entries: dict[int, Selector] = {}
            while len(entries) < 1000:  # a read gives what has arrived
                entries |= {purge.seq: purge.selector for purge in await log.read(base + len(entries), 1000)}
            assert [entries[seq] for seq in seqs] == [url(n) for n in range(1000)]

    asyncio.run(story())


def test_a_reader_at_the_head_waits_and_is_woken(open_log: OpenLog) -> None:
    async def story() -> None:
        async with open_log() as log:
            waiting = asyncio.create_task(log.wait(base := log.head))
            await asyncio.sleep(0)
            assert not waiting.done()
            await log.append(url(1), "key")
            await asyncio.wait_for(waiting, 5)
            assert [purge.seq for purge in await log.read(base, 10)] == [base + 1]

    asyncio.run(story())


def test_the_control_side_hears_of_a_new_head_before_the_caller(open_log: OpenLog) -> None:
    async def story() -> None:
        async with open_log() as log:
            heads: list[int] = []
            log.subscribe(heads.append)
            seq = await log.append(url(1), "key")
            assert heads == [seq]

    asyncio.run(story())


def test_entries_older_than_the_tail_in_memory_are_fetched(open_log: OpenLog) -> None:
    async def story() -> None:
        async with open_log() as log:
            base = log.head
            await asyncio.gather(*(log.append(url(n), "key") for n in range(1, 21)))
            await log.read(base + 19, 1)
            for _ in range(15):
                log._tail.popleft()
            assert [purge.seq - base for purge in await log.read(base + 3, 4)] == [4, 5, 6, 7]
            assert [purge.seq - base for purge in await log.read(base + 17, 10)] == [18, 19, 20]

    asyncio.run(story())


def test_retention_removes_only_what_is_complete(open_log: OpenLog) -> None:
    async def story() -> None:
        async with open_log(retention=10) as log:
            base = log.head
            for n in range(1, 31):
                await log.append(url(n), "key")
            assert log.floor == base, "nothing is complete, so nothing may go"
            log.trim_to = base + 15
            for n in range(31, 51):
                await log.append(url(n), "key")
            await until(lambda: log.floor == base + 15, "trimmed")
            with pytest.raises(BelowFloor):
                await log.read(base + 14, 1)
            assert next(iter(await log.read(base + 15, 1))).seq == base + 16
        async with open_log() as log:
            assert (log.floor, log.head) == (base + 15, base + 50)
            with pytest.raises(BelowFloor):
                await log.read(base + 14, 1)

    asyncio.run(story())


def test_a_caller_that_gives_up_takes_nobody_else_down(open_log: OpenLog) -> None:
    async def story() -> None:
        async with open_log() as log:
            leaving = asyncio.create_task(log.append(url(1), "key"))
            await asyncio.sleep(0)
            staying = asyncio.create_task(log.append(url(2), "key"))
            leaving.cancel()
            seq = await staying
            assert log.head == seq
            assert [purge.seq for purge in await log.read(log.floor, 10)] == list(range(log.floor + 1, seq + 1)), (
                "what the log took stays, whoever asked"
            )

    asyncio.run(story())
