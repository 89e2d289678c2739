"""Has a part of the data directory been replaced by an older copy of itself?

Database, purge table and edge belong together: an older one of them tells of a past that the others have left behind. A purge that was proven
could be undone, and its seq given out again. Nothing inside one of them shows that, so every start writes the same fresh mark into all three, and the
next one compares. A start that was killed while it wrote them leaves a difference too; then everything is purged once too often.

What cannot be noticed is that all three were replaced together; docs/OPERATING.md says what to restore.
"""

from __future__ import annotations

import os
import sqlite3
import uuid
from pathlib import Path

from agezero.edges.slots import SlotFile

BROKEN = "a part of the data directory is older than the rest of it"


class Lineage:
    """The marks in the database behind ``connection``, in ``slots``, and in the file at ``path``, beside the edge's cache."""

    def __init__(self, connection: sqlite3.Connection, slots: SlotFile, path: Path) -> None:
        self._connection = connection
        self._slots = slots
        self._path = path
        connection.execute("CREATE TABLE IF NOT EXISTS lineage (mark TEXT NOT NULL)")

    def broken(self) -> bool:
        """Do the marks of the last start differ?"""
        row = self._connection.execute("SELECT mark FROM lineage").fetchone()
        beside = self._path.read_text() if self._path.exists() else ""
        return not (row[0] if row else "") == self._slots.lineage == beside

    def renew(self) -> None:
        """Mark all three for this start. Raises ``OSError``, ``sqlite3.Error``."""
        mark = str(uuid.uuid4())
        with self._connection:
            self._connection.execute("DELETE FROM lineage")
            self._connection.execute("INSERT INTO lineage VALUES (?)", (mark,))
        self._slots.mark_lineage(mark)
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = self._path.with_suffix(".new")
        with fresh.open("w") as file:
            file.write(mark)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._path)
