"""The purge log in SQLite, for one machine.

Theory: one thread writes. While it commits (an fsync), appends pile up; it then takes all of them into the next transaction, so that
a thousand callers share one fsync. A caller's future is resolved only after the commit. The newest entries also stay in memory, where
the agents, who are nearly always at the head, find them without asking SQLite.

A purge may have several entries: ``rest`` counts those that follow within it, so the last one, which the id is made of, has 0. What else is kept
of such a purge is a row of ``submission``, in the same transaction; a single entry needs none. One that is traced has a row of ``trace``, too.

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
from agezero.errors import UserError
from agezero.ports import Accepted, BelowFloor, IdempotencyConflict, LogUnavailable, Submission
from agezero.tracing import PARENT

log = structlog.get_logger()

SCHEMA = """
CREATE TABLE IF NOT EXISTS purge (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    value TEXT NOT NULL,
    key_id TEXT NOT NULL,
    accepted_ms INTEGER NOT NULL,
    soft INTEGER NOT NULL DEFAULT 0,
    address TEXT NOT NULL DEFAULT '',
    rest INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS submission (
    last INTEGER PRIMARY KEY,
    first INTEGER NOT NULL,
    key_id TEXT NOT NULL,
    accepted_ms INTEGER NOT NULL,
    note TEXT NOT NULL,
    idempotency_key TEXT NOT NULL,
    fingerprint TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS submission_again ON submission (key_id, idempotency_key) WHERE idempotency_key != '';
CREATE TABLE IF NOT EXISTS trace (seq INTEGER PRIMARY KEY, parent TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS log (epoch TEXT NOT NULL, floor INTEGER NOT NULL);
"""
_LATER = {"soft": "INTEGER NOT NULL DEFAULT 0", "address": "TEXT NOT NULL DEFAULT ''", "rest": "INTEGER NOT NULL DEFAULT 0"}
"""Columns of ``purge`` that older versions did not have."""
_INSERT = "INSERT INTO purge (kind, value, key_id, accepted_ms, soft, address, rest) VALUES (?, ?, ?, ?, ?, ?, ?)"
_READ = """
SELECT purge.seq, kind, value, soft, coalesce(parent, '') FROM purge LEFT JOIN trace ON trace.seq = purge.seq
WHERE purge.seq > ? AND purge.seq <= ? ORDER BY purge.seq LIMIT ?
"""
_AGAIN = "SELECT first, last, fingerprint FROM submission WHERE key_id = ? AND idempotency_key = ? AND accepted_ms > ? ORDER BY last DESC LIMIT 1"
IDEMPOTENT_MS = 24 * 3600 * 1000
"""How long an idempotency key is remembered, if retention keeps its purge that long."""
TAIL = 10_000
"""How many of the newest entries are kept in memory."""
BATCH_MAX = 1_000
"""Most entries in one transaction."""
JUMP = 1 << 32
"""How far a log restored from a backup leaps, so that no seq it may have handed out is used again."""
TRIM_EVERY = 10_000
"""Entries between two trims by retention."""


_Row = tuple[str, str, str, int, bool, str, int]
"""kind, value, key id, accepted_ms, soft, address, rest."""


@dataclass(slots=True)
class _Append:
    """``submission``: None for a single entry."""

    rows: tuple[_Row, ...]
    selectors: tuple[Selector, ...]
    submission: Submission | None
    done: asyncio.Future[Accepted]
    trace: str = ""
    outcome: Accepted | IdempotencyConflict | None = None


@dataclass(slots=True)
class _Written:
    appends: list[_Append]
    head: int = 0
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
    _last: int = 0
    _complained_s: float = 0.0

    def __post_init__(self) -> None:
        self.connection.executescript(SCHEMA)
        present = {name for _, name, *_ in self.connection.execute("PRAGMA table_info(purge)")}
        for name in _LATER.keys() - present:
            self.connection.execute(f"ALTER TABLE purge ADD COLUMN {name} {_LATER[name]}")
        row = self.connection.execute("SELECT epoch, floor FROM log").fetchone()
        if row is None:
            row = (str(uuid.uuid4()), 0)
            self.connection.execute("INSERT INTO log VALUES (?, ?)", row)
        self.epoch, self.floor = row
        (head,) = self.connection.execute("SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'purge'), 0)").fetchone()
        self.head = self._last = self._trimmed_at = head

    def continue_after(self, watermark: int) -> None:
        """An edge has applied up to ``watermark``. If that is more than the log holds, the log has lost entries: begin a new epoch beyond them."""
        if watermark > self.head:
            self.begin_epoch(watermark)

    def begin_epoch(self, beyond: int) -> None:
        """Go on as another log, far beyond ``beyond`` and all that is in this one: entries that were acknowledged may be missing from it."""
        self.epoch = str(uuid.uuid4())
        self.head = self.floor = self._last = self._trimmed_at = max(beyond, self.head) + JUMP
        with self.connection:
            self.connection.execute("BEGIN IMMEDIATE")
            self.connection.execute("DELETE FROM purge")
            self.connection.execute("DELETE FROM submission")
            self.connection.execute("DELETE FROM trace")
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

    async def append(self, selector: Selector, key_id: str, *, soft: bool = False, address: str = "") -> int:
        """Durable on return. Raises :class:`LogUnavailable` where SQLite refused; nothing of the entry is kept then."""
        row = (selector.kind.value, selector.value, key_id, _now_ms(), soft, address, 0)
        return (await self._queued((row,), (selector,), None)).last

    async def append_many(self, submission: Submission) -> Accepted:
        """See :meth:`agezero.ports.PurgeLog.append_many`."""
        selectors, now_ms, rest = submission.selectors, _now_ms(), len(submission.selectors)
        assert selectors, "a purge names something"
        rows = tuple(
            (each.kind.value, each.value, submission.key_id, now_ms, submission.soft, submission.address, rest - number)
            for number, each in enumerate(selectors, 1)
        )
        return await self._queued(rows, selectors, submission)

    async def _queued(self, rows: tuple[_Row, ...], selectors: tuple[Selector, ...], submission: Submission | None) -> Accepted:
        assert self._loop is not None, "start() comes first"
        done: asyncio.Future[Accepted] = self._loop.create_future()
        self._queue.put(_Append(rows, selectors, submission, done, PARENT.get()))
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
        try:
            with self._reader:
                rows = self.connection.execute(_READ, (after, head, limit)).fetchall()
                (floor,) = self.connection.execute("SELECT floor FROM log").fetchone()
        except sqlite3.Error as error:
            raise LogUnavailable(str(error)) from None
        if after < floor:  # retention was faster than this read
            raise BelowFloor(f"entries up to {floor} are gone, {after + 1} was asked for")
        return [Purge(seq, Selector(Kind(kind), value), bool(soft), trace) for seq, kind, value, soft, trace in rows]

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
        batch, entries = [first], len(first.rows)
        while entries < self.batch_max:
            try:
                append = self._queue.get_nowait()
            except queue.Empty:
                return batch, True
            if append is None:
                return batch, False
            batch.append(append)
            entries += len(append.rows)
        return batch, True

    def _write(self, batch: list[_Append]) -> _Written:
        with self._reader:
            try:
                self.connection.execute("BEGIN IMMEDIATE")
                rows = self._number(batch)
                self.connection.executemany(_INSERT, rows)
                last = self._last + len(rows)
                floor = self._trim(last)
                self.connection.execute("COMMIT")
            except Exception as error:  # whatever it is: without this thread all purges would wait for ever
                with contextlib.suppress(sqlite3.Error):  # SQLite may have rolled back already
                    self.connection.execute("ROLLBACK")
                return _Written(batch, error=error)
        self._last = last
        return _Written(batch, last, floor)

    def _number(self, batch: list[_Append]) -> list[_Row]:
        """Say which entries each append gets, and return them all. Nobody else writes: AUTOINCREMENT goes on from the last one, one by one."""
        rows: list[_Row] = []
        for append in batch:
            first = self._last + len(rows) + 1
            append.outcome = self._again(append) or Accepted(first, first + len(append.rows) - 1)
            if isinstance(append.outcome, Accepted) and not append.outcome.repeated:
                rows.extend(append.rows)
                self._keep(append, append.outcome)
        return rows

    def _again(self, append: _Append) -> Accepted | IdempotencyConflict | None:
        """Within the transaction, so that of two at once the second finds the first."""
        asked = append.submission
        if asked is None or not asked.idempotency_key:
            return None
        oldest_ms = append.rows[0][3] - IDEMPOTENT_MS
        row = self.connection.execute(_AGAIN, (asked.key_id, asked.idempotency_key, oldest_ms)).fetchone()
        if row is None:
            return None
        first, last, fingerprint = row
        return Accepted(first, last, repeated=True) if fingerprint == asked.fingerprint else IdempotencyConflict(asked.idempotency_key)

    def _keep(self, append: _Append, accepted: Accepted) -> None:
        asked = append.submission
        if asked is not None:
            row = (accepted.last, accepted.first, asked.key_id, append.rows[0][3], asked.note, asked.idempotency_key, asked.fingerprint)
            self.connection.execute("INSERT INTO submission VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        if append.trace:
            self.connection.execute("INSERT INTO trace VALUES (?, ?)", (accepted.last, append.trace))

    def _trim(self, last: int) -> int:
        floor = min(last - self.retention, self.trim_to)
        if floor <= self.floor or last - self._trimmed_at < min(TRIM_EVERY, self.retention):
            return self.floor
        cut = self.connection.execute("SELECT first FROM submission WHERE last > ? ORDER BY last LIMIT 1", (floor,)).fetchone()
        if cut is not None:
            floor = min(floor, cut[0] - 1)  # a purge goes as a whole
        self._trimmed_at = last
        self.connection.execute("DELETE FROM purge WHERE seq <= ?", (floor,))
        self.connection.execute("DELETE FROM submission WHERE last <= ?", (floor,))
        self.connection.execute("DELETE FROM trace WHERE seq <= ?", (floor,))
        self.connection.execute("UPDATE log SET floor = ?", (floor,))
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
        for append in written.appends:
            self._settle(append)
        if self.head == written.head:
            return
        self.head = written.head
        for tell in self._on_grown:
            tell(self.head)
        grown, self._grown = self._grown, asyncio.Event()
        grown.set()

    def _settle(self, append: _Append) -> None:
        outcome = append.outcome
        if isinstance(outcome, Accepted) and not outcome.repeated:
            for seq, selector in enumerate(append.selectors, outcome.first):
                self._tail.append(Purge(seq, selector, append.rows[0][4], append.trace if seq == outcome.last else ""))
        if append.done.done():
            return
        if isinstance(outcome, Accepted):
            append.done.set_result(outcome)
        else:
            append.done.set_exception(outcome or LogUnavailable("the entry was not written"))


def move(connection: sqlite3.Connection, to: str) -> None:
    """The log goes on elsewhere; :func:`check_here` says so from now on."""
    connection.execute("BEGIN IMMEDIATE")
    with connection:
        connection.execute("CREATE TABLE IF NOT EXISTS moved (to_url TEXT NOT NULL)")
        connection.execute("INSERT INTO moved VALUES (?)", (to,))


def check_here(connection: sqlite3.Connection) -> None:
    """Raises :class:`UserError` where the log was moved: two logs would give the same ids to different purges."""
    if connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'moved'").fetchone():
        (to,) = connection.execute("SELECT to_url FROM moved").fetchone()
        raise UserError(f"the purge log of this data directory was moved to {to}", f"give --log {to}, or another data directory")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
