"""Purges of several entries, over each log: as a whole or not at all, under one idempotency key only once, and found again as they were accepted."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from agezero.core.purge import Purge
from agezero.core.selector import Kind, Selector
from agezero.jetstream import history as jetstream_history
from agezero.log import history as sqlite_history
from agezero.ports import Accepted, IdempotencyConflict, PurgeRecord, Submission
from support.logs import AnyLog, OpenHistory, jetstream_log, sqlite_log, with_history
from support.nats import Servers, emptied, nats_servers
from support.waiting import until


def urls(*numbers: int) -> tuple[Selector, ...]:
    return tuple(Selector(Kind.URL, f"example.com/{number}") for number in numbers)


def ask(*numbers: int, again: str = "", fingerprint: str = "f", key: str = "key") -> Submission:
    return Submission(urls(*numbers), key, soft=True, address="192.0.2.1", note="why", idempotency_key=again, fingerprint=fingerprint)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with nats_servers(tmp_path_factory.mktemp("nats")) as started:
        yield started


@pytest.fixture(params=["sqlite", "jetstream"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> OpenHistory:
    """Opens the same log each time it is called: what is there after a restart."""
    log = sqlite_log(tmp_path) if request.param == "sqlite" else jetstream_log(emptied(request.getfixturevalue("servers")).urls)
    return with_history(tmp_path, log)


async def read_all(log: AnyLog, after: int) -> list[Purge]:
    found: list[Purge] = []
    while after + len(found) < log.head:  # a read gives what has arrived
        found += await log.read(after + len(found), 1000)
    return found


def test_entries_of_a_purge_are_contiguous_whatever_else_is_appended(opened: OpenHistory) -> None:
    async def story() -> None:
        async with opened() as (log, _):
            base = log.head
            got = await asyncio.gather(*(log.append_many(ask(*range(n, n + 7))) if n % 3 else log.append(urls(n)[0], "key") for n in range(30)))
            purges = await read_all(log, base)
            assert [purge.seq for purge in purges] == list(range(base + 1, log.head + 1))
            for n, accepted in enumerate(got):
                if isinstance(accepted, Accepted):
                    found = [purge.selector for purge in purges[accepted.first - base - 1 : accepted.last - base]]
                    assert found == list(urls(*range(n, n + 7)))
                    assert accepted.last == accepted.first + 6
                else:
                    assert isinstance(accepted, int)
                    assert purges[accepted - base - 1] == Purge(accepted, urls(n)[0])

    asyncio.run(story())


def test_it_is_read_again_as_from_memory(opened: OpenHistory) -> None:
    async def story() -> None:
        async with opened() as (log, _):
            base = log.head
            await log.append_many(ask(1, 2, 3))
            from_memory = await read_all(log, base)
        async with opened() as (log, _):
            assert await read_all(log, base) == from_memory == [Purge(base + n, urls(n)[0], True) for n in (1, 2, 3)]

    asyncio.run(story())


def test_the_largest_purge_is_taken_as_a_whole(opened: OpenHistory) -> None:
    async def story() -> None:
        async with opened() as (log, history):
            base = log.head
            accepted = await log.append_many(ask(*range(1000)))
            assert accepted == Accepted(base + 1, base + 1000)
            found = await history.find(accepted.last)
            assert found is not None
            assert found.selectors == urls(*range(1000))

    asyncio.run(story())


def test_a_purge_is_found_as_it_was_accepted_also_after_a_restart(opened: OpenHistory) -> None:
    async def story() -> None:
        async with opened() as (log, _):
            base = log.head
            await log.append(urls(1)[0], "other", address="192.0.2.2")
            await log.append_many(ask(2, 3))
        async with opened() as (_, history):
            one, two = await history.after(base, 10)
            assert one == PurgeRecord(base + 1, base + 1, urls(1), "other", one.accepted_ms, False, "192.0.2.2", "")
            assert two == PurgeRecord(base + 2, base + 3, urls(2, 3), "key", two.accepted_ms, True, "192.0.2.1", "why")
            assert list(await history.before(base + 4, 10)) == [two, one]
            assert list(await history.before(base + 3, 10)) == [one]
            assert list(await history.after(base + 1, 10)) == [two]
            assert list(await history.before(base + 4, 1)) == [two]
            assert list(await history.after(base, 1)) == [one]
            assert await history.find(base + 3) == two
            assert await history.find(base + 2) is None, "an id is made of the last entry alone"
            assert await history.find(base + 9) is None

    asyncio.run(story())


def test_an_answer_is_bounded_by_entries_but_has_one_purge(opened: OpenHistory, monkeypatch: pytest.MonkeyPatch) -> None:
    def at_most(entries: int) -> None:
        for module in (sqlite_history, jetstream_history):
            monkeypatch.setattr(module, "ENTRIES_MAX", entries)

    async def story() -> None:
        async with opened() as (log, history):
            base = log.head
            for first in (1, 11, 21):
                await log.append_many(ask(*range(first, first + 10)))
            at_most(20)
            assert [each.last - base for each in await history.after(base, 10)] == [10, 20]
            at_most(5)
            assert [each.last - base for each in await history.before(base + 99, 10)] == [30]

    asyncio.run(story())


def test_a_purge_that_lies_across_two_reads_is_found_whole(opened: OpenHistory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jetstream_history, "SCAN", 4)

    async def story() -> None:
        async with opened() as (log, history):
            base = log.head
            for first in (1, 4, 7, 10):
                await log.append_many(ask(first, first + 1, first + 2))
            forward, backward = await history.after(base, 10), await history.before(base + 13, 10)
            assert [each.selectors for each in forward] == [urls(n, n + 1, n + 2) for n in (1, 4, 7, 10)]
            assert list(reversed(backward)) == forward

    asyncio.run(story())


def test_of_many_at_once_under_one_idempotency_key_one_is_appended(opened: OpenHistory) -> None:
    async def story() -> None:
        async with opened() as (log, _):
            base = log.head
            got = await asyncio.gather(*(log.append_many(ask(1, 2, again="once")) for _ in range(50)))
            assert {(each.first, each.last) for each in got} == {(base + 1, base + 2)}
            assert sum(not each.repeated for each in got) == 1
            assert log.head == base + 2

    asyncio.run(story())


def test_an_idempotency_key_is_one_keys_own_and_for_one_purge(opened: OpenHistory) -> None:
    async def story() -> None:
        async with opened() as (log, _):
            base = log.head
            assert await log.append_many(ask(1, again="a")) == Accepted(base + 1, base + 1)
            with pytest.raises(IdempotencyConflict):
                await log.append_many(ask(2, again="a", fingerprint="another"))
            assert await log.append_many(ask(2, again="a", fingerprint="another", key="somebody else")) == Accepted(base + 2, base + 2)
            assert await log.append_many(ask(1)) == Accepted(base + 3, base + 3), "without one it is a new purge"
        async with opened() as (log, _):
            assert await log.append_many(ask(1, again="a")) == Accepted(base + 1, base + 1, repeated=True)

    asyncio.run(story())


def test_retention_takes_a_purge_as_a_whole(opened: OpenHistory) -> None:
    async def story() -> None:
        async with opened(retention=10) as (log, history):
            base = log.head
            await log.append_many(ask(*range(1, 9), again="old"))
            await log.append_many(ask(*range(9, 29)))
            log.trim_to = base + 15
            for n in range(29, 49):
                await log.append(urls(n)[0], "key")
            await until(lambda: log.floor > base, "trimmed")
            assert log.floor == base + 8, "the purge of the entries 9 to 28 is not cut in two"
            assert await history.find(base + 8) is None
            found: Sequence[PurgeRecord] = await history.after(base, 1)
            assert (found[0].first, found[0].last) == (base + 9, base + 28)

    asyncio.run(story())
