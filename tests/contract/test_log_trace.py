"""A traced purge carries its trace in its last entry, read from memory or from the disk, and no other purge carries one."""

from __future__ import annotations

import asyncio
from contextlib import closing
from pathlib import Path

from agezero.core.selector import Kind, Selector
from agezero.database import open_database
from agezero.log.sqlite import SqliteLog
from agezero.ports import Submission
from agezero.tracing import PARENT

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
SELECTORS = tuple(Selector(Kind.URL, f"example.com/{number}") for number in range(3))


async def _append(log: SqliteLog, trace: str) -> None:
    token = PARENT.set(trace)
    try:
        await log.append_many(Submission(SELECTORS, "key"))
        await log.append(SELECTORS[0], "key")
    finally:
        PARENT.reset(token)


def test_the_trace_is_in_the_last_entry_before_and_after_a_restart(tmp_path: Path) -> None:
    async def read(trace: str | None) -> list[str]:
        with closing(open_database(tmp_path)) as connection:
            log = SqliteLog(connection)
            log.start()
            if trace is not None:
                await _append(log, trace)
            purges = await log.read(0, 100)
            await log.stop()
            return [purge.trace for purge in purges]

    assert asyncio.run(read(TRACE)) == ["", "", TRACE, TRACE]
    assert asyncio.run(read("")) == ["", "", TRACE, TRACE, "", "", "", ""]
    assert asyncio.run(read(None)) == ["", "", TRACE, TRACE, "", "", "", ""]


def test_what_retention_removes_is_forgotten_with_its_trace(tmp_path: Path) -> None:
    async def story() -> None:
        with closing(open_database(tmp_path)) as connection:
            log = SqliteLog(connection, retention=2)
            log.start()
            for _ in range(5):
                await _append(log, TRACE)
                log.trim_to = log.head
            await log.stop()
            (kept,) = connection.execute("SELECT count(*) FROM trace WHERE seq <= ?", (log.floor,)).fetchone()
            assert (log.floor > 0, kept) == (True, 0)

    asyncio.run(story())
