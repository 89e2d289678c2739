"""The purges in the SQLite log, for people: newest first, oldest first, or one of them.

On a connection of its own: in WAL mode a reader holds nobody up, least of all the writer.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from agezero.core.selector import Kind, Selector
from agezero.ports import LogUnavailable, PurgeRecord

ENTRIES_MAX = 20_000
"""Most entries in one answer, that of a single purge apart."""

_PURGES = """
    SELECT p.seq, coalesce(s.first, p.seq), p.key_id, p.accepted_ms, p.soft, p.address, coalesce(s.note, ''), p.kind, p.value
    FROM purge p LEFT JOIN submission s ON s.last = p.seq WHERE p.rest = 0 AND
"""
_Row = tuple[int, int, str, int, int, str, str, str, str]
T = TypeVar("T")


class SqliteHistory:
    """A :class:`agezero.ports.PurgeHistory`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    async def find(self, last: int) -> PurgeRecord | None:
        """See :class:`agezero.ports.PurgeHistory`."""
        found = await self._read(lambda: list(self._select("p.seq = ?", (last,))))
        return found[0] if found else None

    async def before(self, seq: int, limit: int) -> Sequence[PurgeRecord]:
        """See :class:`agezero.ports.PurgeHistory`."""
        return await self._read(lambda: list(self._select("p.seq < ? ORDER BY p.seq DESC LIMIT ?", (seq, limit))))

    async def after(self, seq: int, limit: int) -> Sequence[PurgeRecord]:
        """See :class:`agezero.ports.PurgeHistory`."""
        return await self._read(lambda: list(self._select("p.seq > ? ORDER BY p.seq LIMIT ?", (seq, limit))))

    async def _read(self, work: Callable[[], T]) -> T:
        def locked() -> T:
            with self._lock:
                return work()

        try:
            return await asyncio.to_thread(locked)
        except sqlite3.Error as error:
            raise LogUnavailable(str(error)) from None

    def _select(self, condition: str, values: tuple[int, ...]) -> Iterator[PurgeRecord]:
        entries = 0
        rows: list[_Row] = self._connection.execute(f"{_PURGES} {condition}", values).fetchall()
        for row in rows:
            seq, first = row[:2]
            entries += seq - first + 1
            if entries > ENTRIES_MAX and row is not rows[0]:
                return
            yield PurgeRecord(first, seq, self._selectors(row), row[2], row[3], bool(row[4]), row[5], row[6])

    def _selectors(self, row: _Row) -> tuple[Selector, ...]:
        seq, first = row[:2]
        if first == seq:
            return (Selector(Kind(row[7]), row[8]),)
        query = "SELECT kind, value FROM purge WHERE seq BETWEEN ? AND ? ORDER BY seq"
        return tuple(Selector(Kind(kind), value) for kind, value in self._connection.execute(query, (first, seq)))
