"""The data directory and the SQLite file in it.

One process owns the directory (a lock file says so); the file carries the version of its layout, so that an older program refuses a newer
file instead of harming it. Writes are durable when their commit returns (WAL, ``synchronous=FULL``).
"""

from __future__ import annotations

import contextlib
import fcntl
import secrets
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from agezero.errors import UserError

FILE = "agezero.sqlite3"
LAYOUT = 2
"""Version of the layout of the data directory, kept in SQLite's ``user_version``. 2: keys have three permissions; webhooks."""
_ROOM = "make room on the disk, or correct the owner and the permissions of the file"
_RESTORE = "restore it from a backup, or move it away to begin anew: then every edge purges everything first, and old request ids are unknown"


class DataDirBusy(UserError):
    """Another process has it."""


def prepare(data_dir: Path) -> TextIO:
    """Create the directory (mode 0700) and lock it for this process; the lock lasts as long as the returned file is open.

    Raises :class:`DataDirBusy`, :class:`UserError`.
    """
    try:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = (data_dir / "lock").open("a")
    except OSError as error:
        raise UserError(
            f"the data directory {data_dir} cannot be used: {error.strerror}", "choose another with --data, or correct its owner"
        ) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise DataDirBusy(f"the data directory {data_dir} is in use by another agezero", "stop that one, or choose another with --data") from None
    return lock


def open_database(data_dir: Path) -> sqlite3.Connection:
    """Open (or create) the database of a prepared directory. Transactions are explicit; one thread at a time."""
    path = data_dir / FILE
    with in_words(data_dir):
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
        _bring_up(connection, path)
    return connection


@contextlib.contextmanager
def in_words(data_dir: Path) -> Iterator[None]:
    """What SQLite refuses within the block becomes a :class:`UserError`."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        corrupt = getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
        raise UserError(f"the database {data_dir / FILE} cannot be used: {error}", _RESTORE if corrupt else _ROOM) from None


def check(data_dir: Path) -> None:
    """Read the whole database once and raise where it is corrupt."""
    connection = open_database(data_dir)
    try:
        (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.DatabaseError as error:
        verdict = str(error)
    finally:
        connection.close()
    if verdict != "ok":
        raise UserError(f"the database {data_dir / FILE} is corrupt: {verdict}", _RESTORE)


def service_secret(connection: sqlite3.Connection) -> bytes:
    """The secret that seals request ids: 64 random bytes, made once."""
    connection.execute("CREATE TABLE IF NOT EXISTS service (secret BLOB NOT NULL)")
    row = connection.execute("SELECT secret FROM service").fetchone()
    if row is None:
        row = (secrets.token_bytes(64),)
        connection.execute("INSERT INTO service VALUES (?)", row)
    return bytes(row[0])


def _bring_up(connection: sqlite3.Connection, path: Path) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > LAYOUT:
        connection.close()
        raise UserError(
            f"the data directory {path.parent} was written by a newer agezero (layout {version}; this one knows {LAYOUT})",
            "run the newer agezero, or choose another directory with --data",
        )
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    if version != LAYOUT:
        connection.execute(f"PRAGMA user_version = {LAYOUT}")
    path.chmod(0o600)
