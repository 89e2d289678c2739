"""The database of a data directory: what is committed is on the disk, and nobody else reads it."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from agezero.database import FILE, open_database

FULL = 2


def test_what_is_committed_is_on_the_disk(tmp_path: Path) -> None:
    """In WAL mode, anything below FULL leaves the last commits to the next checkpoint."""
    for _ in ("made", "opened again"):
        with closing(open_database(tmp_path)) as connection:
            assert connection.execute("PRAGMA synchronous").fetchone() == (FULL,)
            assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_only_its_owner_reads_it(tmp_path: Path) -> None:
    (tmp_path / FILE).touch(mode=0o644)
    open_database(tmp_path).close()
    with closing(open_database(tmp_path)) as connection:
        connection.execute("CREATE TABLE secret (text TEXT)")
        assert {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == dict.fromkeys((FILE, f"{FILE}-wal", f"{FILE}-shm"), 0o600)
