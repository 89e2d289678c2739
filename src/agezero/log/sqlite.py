"""The purge log in SQLite, for one machine.

Theory: one thread writes. While it commits (an fsync), appends pile up; it then takes all of them into the next transaction, so that
a thousand callers share one fsync. A caller's future is resolved only after the commit. The newest entries also stay in memory, where
the agents, who are nearly always at the head, find them without asking SQLite.

The log has an *epoch*, a UUID. A database that was restored from a backup is noticed when an edge has applied more than the log holds
(``continue_after``): then the log takes a new epoch, so that every edge purges everything first, and goes on far beyond what was handed
out, so that no seq is used twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import structlog

from agezero.core.purge import Purge
from agezero.core.selector import Kind, Selector
from agezero.ports import BelowFloor, LogUnavailable

log = structlog.get_logger()

SCHEMA = """
CREATE TABLE IF NOT EXISTS purge (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    value TEXT NOT NULL,
    key_id TEXT NOT NULL,
    accepted_ms INTEGER NOT NULL,
    soft INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS log (epoch TEXT NOT NULL, floor INTEGER NOT NULL);
"""
TAIL = 10_000
"""How many of the newest entries are kept in memory."""
BATCH_MAX = 1_000
"""Most entries in one transaction."""
JUMP = 1 << 32
"""How far a log restored from a backup leaps, so that no seq it may have handed out is used again."""
TRIM_EVERY = 10_000
"""Entries between two trims by retention."""


@dataclass(slots=True)
class _Append:
    """``row``: kind, value, key id, accepted_ms, soft."""

    row: tuple[str, str, str, int, bool]
    selector: Selector
    done: asyncio.Future[int]


@dataclass(slots=True)
class _Written:
    appends: list[_Append]
    first: int = 0
    floor: int = 0
    error: Exception | None = None


@dataclass
class SqliteLog:
    """A :class:`agezero.ports.PurgeLog`. ``retention`` is the number of entries kept; only what ``trim_to`` allows is ever removed."""

    connection: sqlite3.Connection
    retention: int = 1_000_000
    batch_max: int = BATCH_MAX
    epoch: str = ""
    head: int = 0
    floor: int = 0
    trim_to: int = 0
    """Set by the control side: everything up to here is complete, so retention may remove it."""
    _tail: deque[Purge] = field(default_factory=lambda: deque(maxlen=TAIL))
    _queue: queue.SimpleQueue[_Append | None] = field(default_factory=queue.SimpleQueue)
    _grown: asyncio.Event = field(default_factory=asyncio.Event)
    _reader: threading.Lock = field(default_factory=threading.Lock)
    _on_grown: list[Callable[[int], None]] = field(default_factory=list)
    _thread: threading.Thread | None = None
    _loop: asyncio.AbstractEventLoop | None = None
    _trimmed_at: int = 0
    _complained_s: float = 0.0

    def __post_init__(self) -> None:
        self.connection.executescript(SCHEMA)
        row = self.connection.execute("SELECT epoch, floor FROM log").fetchone()
        if row is None:
            row = (str(uuid.uuid4()), 0)
            self.connection.execute("INSERT INTO log VALUES (?, ?)", row)
        self.epoch, self.floor = row
        (head,) = self.connection.execute("SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'purge'), 0)").fetchone()
        self.head = self._trimmed_at = head

    def continue_after(self, watermark: int) -> None:
        """An edge has applied up to ``watermark``. If that is more than the log holds, the log has lost entries: begin a new epoch beyond them."""
        if watermark > self.head:
            self.begin_epoch(watermark)

    def begin_epoch(self, beyond: int) -> None:
        """Go on as another log, far beyond ``beyond`` and all that is in this one: entries that were acknowledged may be missing from it."""
        self.epoch = str(uuid.uuid4())
        self.head = self.floor = self._trimmed_at = max(beyond, self.head) + JUMP
        with self.connection:
            self.connection.execute("BEGIN IMMEDIATE")
            self.connection.execute("DELETE FROM purge")
            self.connection.execute("DELETE FROM sqlite_sequence WHERE name = 'purge'")
            self.connection.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('purge', ?)", (self.head,))
            self.connection.execute("UPDATE log SET epoch = ?, floor = ?", (self.epoch, self.floor))

    def start(self) -> None:
        """Start the writer thread; call inside the event loop that appends."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._write_all, name="purge-log", daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        """Commit what is under way, then end the writer."""
        self._queue.put(None)
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)

    async def append(self, selector: Selector, key_id: str, *, soft: bool = False) -> int:
        """Durable on return. Raises :class:`LogUnavailable` where SQLite refused; nothing of the entry is kept then."""
        assert self._loop is not None, "start() comes first"
        done: asyncio.Future[int] = self._loop.create_future()
        self._queue.put(_Append((selector.kind.value, selector.value, key_id, time.time_ns() // 1_000_000, soft), selector, done))
        return await done

    async def read(self, after: int, limit: int) -> Sequence[Purge]:
        """See :meth:`agezero.ports.PurgeLog.read`."""
        if after < self.floor:
            raise BelowFloor(f"entries up to {self.floor} are gone, {after + 1} was asked for")
        if after >= self.head:
            return []
        if self._tail and self._tail[0].seq <= after + 1:
            begin = after + 1 - self._tail[0].seq
            return [self._tail[i] for i in range(begin, min(begin + limit, len(self._tail)))]
        return await asyncio.to_thread(self._select, after, limit, self.head)

    def subscribe(self, grown: Callable[[int], None]) -> None:
        """See :meth:`agezero.ports.PurgeLog.subscribe`."""
        self._on_grown.append(grown)

    async def wait(self, after: int) -> None:
        """See :meth:`agezero.ports.PurgeLog.wait`."""
        while self.head <= after:
            await self._grown.wait()

    def _select(self, after: int, limit: int, head: int) -> list[Purge]:
        query = "SELECT seq, kind, value, soft FROM purge WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?"
        try:
            with self._reader:
                rows = self.connection.execute(query, (after, head, limit)).fetchall()
                (floor,) = self.connection.execute("SELECT floor FROM log").fetchone()
        except sqlite3.Error as error:
            raise LogUnavailable(str(error)) from None
        if after < floor:  # retention was faster than this read
            raise BelowFloor(f"entries up to {floor} are gone, {after + 1} was asked for")
        return [Purge(seq, Selector(Kind(kind), value), bool(soft)) for seq, kind, value, soft in rows]

    # The writer thread

    def _write_all(self) -> None:
        assert self._loop is not None
        while True:
            first = self._queue.get()
            if first is None:
                return
            batch, more = self._collect(first)
            written = self._write(batch)
            self._loop.call_soon_threadsafe(self._publish, written)
            if not more:
                return

    def _collect(self, first: _Append) -> tuple[list[_Append], bool]:
        """All that has piled up; False when the last thing asked for was to stop."""
        batch = [first]
        while len(batch) < self.batch_max:
            try:
                append = self._queue.get_nowait()
            except queue.Empty:
                return batch, True
            if append is None:
                return batch, False
            batch.append(append)
        return batch, True

    def _write(self, batch: list[_Append]) -> _Written:
        with self._reader:
            try:
                self.connection.execute("BEGIN IMMEDIATE")
                self.connection.executemany(
                    "INSERT INTO purge (kind, value, key_id, accepted_ms, soft) VALUES (?, ?, ?, ?, ?)", [append.row for append in batch]
                )
                (last,) = self.connection.execute("SELECT last_insert_rowid()").fetchone()
                floor = self._trim(last)
                self.connection.execute("COMMIT")
            except sqlite3.Error as error:
                with contextlib.suppress(sqlite3.Error):  # SQLite may have rolled back already
                    self.connection.execute("ROLLBACK")
                return _Written(batch, error=error)
        return _Written(batch, first=last - len(batch) + 1, floor=floor)

    def _trim(self, last: int) -> int:
        floor = min(last - self.retention, self.trim_to)
        if floor <= self.floor or last - self._trimmed_at < min(TRIM_EVERY, self.retention):
            return self.floor
        self._trimmed_at = last
        self.connection.execute("DELETE FROM purge WHERE seq <= ?", (floor,))
        self.connection.execute("UPDATE log SET floor = ?", (floor,))
        self.connection.execute(f"PRAGMA incremental_vacuum({TRIM_EVERY})")
        return floor

    # Back in the event loop

    def _complain(self, error: Exception) -> None:
        """Once a second: under load a full disk would fill another one."""
        now_s = time.monotonic()
        if now_s >= self._complained_s + 1:
            self._complained_s = now_s
            log.error("the purge log takes no entries", error=str(error))

    def _publish(self, written: _Written) -> None:
        if written.error is not None:
            self._complain(written.error)
            for append in written.appends:
                if not append.done.done():
                    append.done.set_exception(LogUnavailable(str(written.error)))
            return
        self.floor = written.floor
        for seq, append in enumerate(written.appends, written.first):
            self._tail.append(Purge(seq, append.selector, append.row[-1]))
            if not append.done.done():
                append.done.set_result(seq)
        self.head = written.first + len(written.appends) - 1
        for tell in self._on_grown:
            tell(self.head)
        grown, self._grown = self._grown, asyncio.Event()
        grown.set()
