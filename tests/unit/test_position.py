"""The position file: what it says survives, and what it can't say is a doubt."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agezero.edges.position import PositionFile, PositionFileBusy


def test_it_says_what_was_saved(tmp_path: Path) -> None:
    path = tmp_path / "position.json"
    first = PositionFile(path)
    assert first.load().doubt
    first.save_token(7)
    first.save_token(3)
    first.mark_lineage("mark")
    first.save_boot("boot")
    first.save(42, "epoch")
    first.close()
    first.close()
    again = PositionFile(path)
    assert (again.load().watermark, again.load().epoch, again.load().doubt) == (42, "epoch", "")
    assert (again.token, again.lineage, again.boot, again.unsettled) == (7, "mark", "boot", False)
    again.close()


def test_unsettled_comes_to_the_disk_with_the_watermark(tmp_path: Path) -> None:
    path = tmp_path / "position.json"
    edge = PositionFile(path)
    edge.unsettled = True
    edge.save(1, "epoch")
    assert b'"unsettled":true' in path.read_bytes()
    edge.settled()
    assert b'"unsettled":false' in path.read_bytes()
    edge.close()


def test_the_watermark_of_one_log_never_goes_back(tmp_path: Path) -> None:
    edge = PositionFile(tmp_path / "position.json")
    edge.save(5, "epoch")
    with pytest.raises(ValueError, match="cannot go back"):
        edge.save(4, "epoch")
    edge.save(1, "another")
    edge.distrust("first")
    edge.distrust("second")
    assert edge.load().doubt == "first"
    edge.close()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"watermark":"x"}', b'{"version":2}', b'{"unknown":1}'])
def test_a_corrupt_file_is_a_doubt(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "position.json"
    path.write_bytes(content)
    edge = PositionFile(path)
    assert edge.load().doubt
    assert edge.load().watermark == 0
    edge.close()


def test_one_process_at_a_time(tmp_path: Path) -> None:
    edge = PositionFile(tmp_path / "position.json")
    with pytest.raises(PositionFileBusy, match="in use by another agent"):
        PositionFile(tmp_path / "position.json")
    edge.close()


def test_a_crash_while_it_is_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "position.json"
    edge = PositionFile(path)
    edge.save(1, "epoch")
    with path.open("rb") as old:
        edge.save(2, "epoch")
        assert b'"watermark":1' in old.read()
    assert b'"watermark":2' in path.read_bytes()
    edge.close()


def test_what_is_closed_is_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    edge = PositionFile(tmp_path / "position.json")
    edge.save(1, "epoch")
    synced: list[bytes] = []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(Path(f"/proc/self/fd/{file}").read_bytes()))
    edge.close()
    assert synced == [(tmp_path / "position.json").read_bytes()]
