"""The members' records, as the control side keeps them over restarts: one row an edge."""

from __future__ import annotations

import asyncio
import sqlite3

import msgspec

from agezero.core.ledger import Record
from agezero.ports import RegistryUnavailable

SCHEMA = "CREATE TABLE IF NOT EXISTS edge (name TEXT PRIMARY KEY, record TEXT NOT NULL)"


class SqliteRegistry:
    """A :class:`agezero.ports.Registry`. The connection is its own; saves run one after the other, off the event loop."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        connection.execute(SCHEMA)

    def load(self) -> list[Record]:
        """All records."""
        rows = self._connection.execute("SELECT record FROM edge ORDER BY name").fetchall()
        return [msgspec.json.decode(text, type=Record) for (text,) in rows]

    async def save(self, record: Record) -> None:
        """Durable on return. Raises :class:`agezero.ports.RegistryUnavailable`."""
        try:
            await asyncio.to_thread(self._write, record)
        except sqlite3.Error as error:
            raise RegistryUnavailable(str(error)) from None

    def _write(self, record: Record) -> None:
        self._connection.execute("INSERT OR REPLACE INTO edge VALUES (?, ?)", (record.name, msgspec.json.encode(record).decode()))
