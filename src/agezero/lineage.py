"""Has a part of the data directory been replaced by an older copy of itself?

Database and edges belong together: an older one of them tells of a past that the others have left behind. A purge that was proven
could be undone, and its seq given out again. Nothing inside one of them shows that, so every start gives all of them the same fresh mark, and the
database keeps the marks of all its starts. At the next start,

- a mark that the database does not know comes from a start after it: the *database* is older, and entries of its log are missing;
- a mark that is known, but not of the last start, says that this *edge* is older, or was not there: it purges everything.

A start that was killed while it marked leaves a difference too; then an edge purges everything once too often. What cannot be noticed is that
all of them were replaced together; docs/OPERATING.md says what to restore.
"""

from __future__ import annotations

import os
import sqlite3
import uuid
from enum import Enum
from pathlib import Path

BROKEN = "a part of the data directory is older than the rest of it"


class Standing(Enum):
    """What a mark says."""

    SAME = "same"
    OLDER = "older"
    NEWER = "newer than the database"


class Lineage:
    """The marks in the database behind ``connection``."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        connection.execute("CREATE TABLE IF NOT EXISTS lineage (start INTEGER PRIMARY KEY AUTOINCREMENT, mark TEXT NOT NULL UNIQUE)")
        row = connection.execute("SELECT mark FROM lineage ORDER BY start DESC LIMIT 1").fetchone()
        self._last = row[0] if row else ""

    def standing(self, mark: str) -> Standing:
        """What does a ``mark`` say that was found somewhere? None, where one is expected, is that of a time before all starts."""
        if mark == self._last:
            return Standing.SAME
        known = not mark or self._connection.execute("SELECT 1 FROM lineage WHERE mark = ?", (mark,)).fetchone()
        return Standing.OLDER if known else Standing.NEWER

    def renew(self) -> str:
        """The mark of this start, on record. Raises ``sqlite3.Error``."""
        mark = str(uuid.uuid4())
        with self._connection:
            self._connection.execute("INSERT INTO lineage (mark) VALUES (?)", (mark,))
        return mark


class MarkFile:
    """A mark beside something that can hold none itself: the embedded edge's cache."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def lineage(self) -> str:
        """Empty where there is none."""
        return self._path.read_text() if self._path.exists() else ""

    def mark_lineage(self, mark: str) -> None:
        """Durable on return. Raises ``OSError``."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = self._path.with_suffix(".new")
        with fresh.open("w") as file:
            file.write(mark)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._path)
