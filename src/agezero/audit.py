"""The audit: who did what, from where, when. Append-only, and bounded: only the newest rows are kept.

Purges are not written a second time: the log has them, and :meth:`Audit.page` puts both together. Everything else is a row of the table ``audit``,
written by whoever does it. What may come in floods, such as failed authentications, goes through :meth:`Audit.note`, which never waits.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from agezero.ports import PurgeHistory, PurgeRecord

SCHEMA = """
CREATE TABLE IF NOT EXISTS audit (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at_ms INTEGER NOT NULL,
    action TEXT NOT NULL,
    key_id TEXT NOT NULL,
    address TEXT NOT NULL,
    about TEXT NOT NULL
) STRICT
"""
ROWS_MAX = 100_000
NOTES_MAX = 1_000
"""Notes that wait to be written; what comes beyond is only counted."""
ABOUT_CHARACTERS_MAX = 500
SCAN = 500
SCAN_MAX = 20_000
"""Most rows that one page looks through."""
END = 2**62

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Row:
    """``key_id`` is empty where there was no key. ``about``: what it was done to."""

    at_ms: int
    action: str
    key_id: str
    address: str
    about: str


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a page ended, in the log and in the table."""

    seq: int = END
    row: int = END


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which rows a list has; what is empty does not matter. ``action``: such as ``purge``, or the beginning of several, such as ``key.``."""

    action: str = ""
    key: str = ""
    address: str = ""

    def fits(self, row: Row) -> bool:
        """Is it one of them?"""
        return row.action.startswith(self.action) and self.key in ("", row.key_id) and self.address in ("", row.address)


class Audit:
    """One per process. The connection is its own; writes run one after the other, off the event loop."""

    def __init__(self, connection: sqlite3.Connection, history: PurgeHistory, rows_max: int = ROWS_MAX) -> None:
        self._connection = connection
        self._history = history
        self._rows_max = rows_max
        self._lock = threading.Lock()
        self._notes: deque[Row] = deque()
        self._dropped = 0
        self.written: Counter[str] = Counter()
        """Rows by action."""
        self.dropped = 0
        """Rows that were not written."""
        self._noted = asyncio.Event()
        connection.execute(SCHEMA)

    async def record(self, action: str, key_id: str, address: str, about: str = "") -> None:
        """Durable on return. Raises ``sqlite3.Error``."""
        await asyncio.to_thread(self._write, [_row(action, key_id, address, about)])

    def note(self, action: str, key_id: str, address: str, about: str = "") -> None:
        """Written soon; under a flood, only counted. Never waits, never fails. Call in the event loop."""
        if len(self._notes) >= NOTES_MAX:
            self._dropped += 1
            self.dropped += 1
        else:
            self._notes.append(_row(action, key_id, address, about))
        self._noted.set()

    async def run(self) -> None:
        """Write the notes until cancelled."""
        while True:
            await self._noted.wait()
            await self.flush()

    async def flush(self) -> None:
        """Write the notes that wait."""
        self._noted.clear()
        rows, dropped = list(self._notes), self._dropped
        self._notes.clear()
        self._dropped = 0
        if dropped:
            rows.append(_row("audit.dropped", "", "", f"{dropped} rows: they came too fast"))
        try:
            if rows:
                await asyncio.to_thread(self._write, rows)
        except sqlite3.Error as error:
            self.dropped += len(rows)
            log.error("audit rows not written", rows=len(rows), error=str(error))

    async def page(self, cursor: Cursor, limit: int, wanted: Wanted | None = None) -> tuple[list[Row], Cursor | None]:
        """Rows and purges, newest first; the cursor of the next page, None at the end. Raises ``sqlite3.Error``, LogUnavailable.

        A page of few that are ``wanted`` may be short, or even empty, before the end.
        """
        batch = limit if wanted is None else SCAN
        rows: list[tuple[int, Row]] | None = None
        purges: Sequence[PurgeRecord] | None = None
        found: list[Row] = []
        for _ in range(SCAN_MAX):
            if len(found) == limit:
                return found, cursor
            rows = await asyncio.to_thread(self._select, cursor.row, batch) if rows is None else rows
            purges = await self._history.before(cursor.seq, batch) if purges is None else purges
            if not rows and not purges:
                return found, None
            if rows and not (purges and purges[0].accepted_ms > rows[0][1].at_ms):
                cursor, row, rows = Cursor(cursor.seq, rows[0][0]), rows[0][1], rows[1:] or None
            else:
                cursor, row, purges = Cursor(purges[0].last, cursor.row), _of_purge(purges[0]), purges[1:] or None
            if wanted is None or wanted.fits(row):
                found.append(row)
        return found, cursor

    def _write(self, rows: Sequence[Row]) -> None:
        values = [(row.at_ms, row.action, row.key_id, row.address, row.about) for row in rows]
        with self._lock, self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.executemany("INSERT INTO audit (at_ms, action, key_id, address, about) VALUES (?, ?, ?, ?, ?)", values)
            self._connection.execute("DELETE FROM audit WHERE id <= (SELECT max(id) FROM audit) - ?", (self._rows_max,))
        self.written.update(row.action for row in rows)

    def _select(self, before: int, limit: int) -> list[tuple[int, Row]]:
        query = "SELECT id, at_ms, action, key_id, address, about FROM audit WHERE id < ? ORDER BY id DESC LIMIT ?"
        with self._lock:
            return [(row[0], Row(*row[1:])) for row in self._connection.execute(query, (before, limit))]


def _row(action: str, key_id: str, address: str, about: str) -> Row:
    return Row(time.time_ns() // 1_000_000, action, key_id, address, about[:ABOUT_CHARACTERS_MAX])


def _of_purge(purge: PurgeRecord) -> Row:
    first, more = purge.selectors[0], len(purge.selectors) - 1
    about = f"{first} and {more} more" if more else str(first)
    words = f"{about} ({'soft' if purge.soft else 'hard'})" + (f": {purge.note}" if purge.note else "")
    return Row(purge.accepted_ms, "purge", purge.key_id, purge.address, words[:ABOUT_CHARACTERS_MAX])
