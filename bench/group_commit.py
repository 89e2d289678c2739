"""The purge log's rows, put straight into SQLite by one thread: ``python -m bench.group_commit DIR GROUP SECONDS`` prints rows per second."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from agezero.database import open_database, prepare
from agezero.log.sqlite import SCHEMA


def run(folder: Path, group: int, seconds: float) -> float:
    """Same table, same durability, ``group`` rows to a commit."""
    with prepare(folder):
        connection = open_database(folder)
        connection.executescript(SCHEMA)
        began_s, rows = time.perf_counter(), 0
        while time.perf_counter() - began_s < seconds:
            connection.execute("BEGIN IMMEDIATE")
            values = [("url", f"127.0.0.1:8081/photos/album/{rows + i}.jpg", "environment", time.time_ns() // 1_000_000) for i in range(group)]
            connection.executemany("INSERT INTO purge (kind, value, key_id, accepted_ms) VALUES (?, ?, ?, ?)", values)
            connection.execute("COMMIT")
            rows += group
        rate = rows / (time.perf_counter() - began_s)
        connection.close()
    return rate


if __name__ == "__main__":
    print(run(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
