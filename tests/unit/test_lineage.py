"""What a mark says of its place in the past."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from agezero.lineage import Lineage, MarkFile, Standing


def database() -> sqlite3.Connection:
    return sqlite3.connect(":memory:", isolation_level=None)


def test_before_the_first_start_no_mark_is_expected() -> None:
    lineage = Lineage(database())
    assert lineage.standing("") is Standing.SAME
    assert lineage.standing("from elsewhere") is Standing.NEWER


def test_only_the_mark_of_the_last_start_is_trusted() -> None:
    connection = database()
    first = Lineage(connection).renew()
    second = Lineage(connection).renew()
    lineage = Lineage(connection)
    assert [lineage.standing(mark) for mark in (second, first, "", "of a start after this copy")] == [
        Standing.SAME,
        Standing.OLDER,
        Standing.OLDER,
        Standing.NEWER,
    ]


def test_a_mark_file_keeps_a_mark(tmp_path: Path) -> None:
    marks = MarkFile(tmp_path / "edge" / "lineage")
    assert marks.lineage == ""
    marks.mark_lineage("mark")
    assert MarkFile(tmp_path / "edge" / "lineage").lineage == "mark"


def test_a_mark_file_is_on_the_disk_before_it_takes_the_place_of_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lineage"
    marks = MarkFile(path)
    marks.mark_lineage("old")
    synced: list[tuple[bytes, str]] = []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append((Path(f"/proc/self/fd/{file}").read_bytes(), marks.lineage)))
    marks.mark_lineage("new")
    assert synced == [(b"new", "old")]
    assert marks.lineage == "new"
