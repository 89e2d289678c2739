"""Whoever restores a backup gets no old object, no old status and no request id twice."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest

from support.history import History
from support.machine import machine
from support.stamped import stamped_origin
from support.traffic import traffic

T = TypeVar("T")
PARTS = {"database and table": ["agezero.sqlite3", "slots"], "database": ["agezero.sqlite3"], "table": ["slots"]}


async def twice(call: Callable[[], Awaitable[T | None]]) -> T | None:
    """The first try may go out on a connection to the service before."""
    return await call() or await call()


@pytest.mark.parametrize("parts", PARTS.values(), ids=PARTS)
def test_a_restored_part_brings_nothing_back(tmp_path: Path, parts: list[str]) -> None:
    """Over 10 s beside other tests: three starts of a service, or more."""
    history, store, backup = History(), tmp_path / "store", tmp_path / "backup"
    backup.mkdir()

    async def story() -> None:
        async with stamped_origin() as origin, machine(tmp_path, origin.url) as here, traffic(here, history) as client:
            await client.cached("/x")
            assert here.stop() == 0
            for part in parts:
                shutil.copy(store / part, backup)

            here.start()
            await here.ready()
            origin.versions["/x"] += 1
            before = await twice(lambda: client.purge("/x"))
            assert before
            await client.completed(before.request_id)
            await client.cached("/x")
            assert here.stop() == 0
            for part in parts:
                shutil.copy(backup / part, store)
                (store / f"{part}-wal").unlink(missing_ok=True)

            here.start()
            await here.ready()
            found = await twice(lambda: client.read("/x"))
            assert found
            assert found[0].version == origin.versions["/x"]
            after = await twice(lambda: client.purge("/y"))
            assert after
            assert after.request_id != before.request_id
            await client.completed(after.request_id)
            await client.completed(before.request_id)
            assert not history.violations, history.violations
            assert "older than the rest" in here.output

    asyncio.run(story())


def test_a_plain_restart_is_no_restored_part(tmp_path: Path) -> None:
    async def story() -> None:
        history = History()
        async with stamped_origin() as origin, machine(tmp_path, origin.url) as here, traffic(here, history) as client:
            stored = await client.cached("/x")
            for end in (here.stop, here.kill):
                end()
                here.start()
                await here.ready()
                assert (await client.cached("/x")).fetched_s == stored.fetched_s, "the cache must be used again"
            assert "older than the rest" not in here.output

    asyncio.run(story())
