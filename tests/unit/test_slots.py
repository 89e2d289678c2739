"""The slot file: what it keeps, what it notices, what it never does."""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from agezero.core.epochs import Write
from agezero.core.purge import Purge
from agezero.core.selector import EVERYTHING, Kind, Selector
from agezero.edges import slots as slots_module
from agezero.edges.readers import SLOTS_AT, TableReader
from agezero.edges.slots import HEADER_BYTES, SlotFile, SlotFileBusy

SLOTS = 1024
URL = Selector(Kind.URL, "example.com/a")
PURGES = [
    Purge(1, URL),
    Purge(2, Selector(Kind.HOST, "example.com")),
    Purge(3, Selector(Kind.PREFIX, "example.com/b/")),
    Purge(4, Selector(Kind.PREFIX, "example.com/c?d")),
    Purge(5, EVERYTHING),
    Purge(6, Selector(Kind.PREFIX, "example.com/ee")),
]


def opened(path: Path) -> SlotFile:
    """Numbers begin at 1, where they are part of a test."""
    return SlotFile(path, SLOTS, leap=lambda top: top)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with opened(tmp_path / "slots") as file:
        assert file.doubt == "the purge table is new"
        file.save(0, "log-1")
    return tmp_path / "slots"


def test_everything_is_kept(path: Path) -> None:
    with SlotFile(path, SLOTS) as file:
        file.apply(PURGES)
        file.save(6, "log-1")
        file.save_token(9)
        file.save_token(3)
        before = (list(file.table.slots), file.table.everything, file.table.gates, file.top)
    with SlotFile(path, SLOTS) as file:
        assert (list(file.table.slots), file.table.everything, file.table.gates, file.top) == before
        assert (file.watermark, file.log_epoch, file.token, file.doubt) == (6, "log-1", 9, "")
        assert file.table.newest("example.com/a") == 5


def test_the_layout_is_as_documented(path: Path) -> None:
    """Caches map this file; an offset that moves is a new version of the format."""
    with SlotFile(path, SLOTS) as file:
        (write,) = file.apply([Purge(7, URL)])
        file.apply([Purge(8, Selector(Kind.PREFIX, "example.com/ff"))])
        file.save(8, "log-1")
        assert write.slot is not None
        data = path.read_bytes()
        assert len(data) == SLOTS_AT + 8 * SLOTS
        assert data[:8] == data[HEADER_BYTES : HEADER_BYTES + 8] == b"AGEZERO2"
        assert struct.unpack_from("<I", data, 12) == (SLOTS,)
        assert struct.unpack_from("<QQQQQ", data, 16) == (8, 0, 0, 0, 8)
        assert (data[56], data[58], data[59], data[60:65]) == (0, 0, 1, b"log-1")
        assert struct.unpack_from("<IQ", data, 144) == (len("example.com/ff"), 8)
        assert struct.unpack_from("<Q", data, SLOTS_AT + 8 * write.slot) == (7,)
    assert path.read_bytes()[56] == 1
    assert path.stat().st_mode & 0o777 == 0o600


def test_one_write_for_each_slot(path: Path) -> None:
    with SlotFile(path, SLOTS) as file:
        (write,) = file.apply([Purge(1, URL), Purge(2, URL)])
        assert write.seq == 2


def test_the_watermark_of_one_log_only_rises(path: Path) -> None:
    with SlotFile(path, SLOTS) as file:
        file.save(5, "log-1")
        with pytest.raises(ValueError, match="cannot go back"):
            file.save(4, "log-1")
        file.save(0, "log-2")
        assert (file.watermark, file.log_epoch) == (0, "log-2")


def test_a_new_log_goes_on_above_the_old_numbers(path: Path) -> None:
    with SlotFile(path, SLOTS) as file:
        file.apply([Purge(100, URL)])
        file.purge_everything(3)
        assert file.table.everything == 101
        assert [write.seq for write in file.apply([Purge(4, URL)])] == [102]
        assert file.filled() == [(slot, 102) for slot, seq in enumerate(file.table.slots) if seq == 102]
    with SlotFile(path, SLOTS) as file:
        assert [write.seq for write in file.apply([Purge(5, URL)])] == [103]
        file.purge_everything(1000)
        assert file.table.everything == 1000 + file.base


def test_a_second_opener_is_told(path: Path) -> None:
    with SlotFile(path, SLOTS), pytest.raises(SlotFileBusy, match="in use by another agent"):
        SlotFile(path, SLOTS)
    SlotFile(path, SLOTS).close()


def cut(path: Path) -> None:
    os.truncate(path, SLOTS_AT + 8)


def cut_short(path: Path) -> None:
    os.truncate(path, 100)


def flip(at: int) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[at] ^= 1
        path.write_bytes(data)

    return change


@pytest.mark.parametrize(
    ("damage", "said"),
    [(cut, "cut off"), (cut_short, "cut off"), (flip(0), "unknown format"), (flip(8), "corrupt"), (flip(16), "corrupt"), (flip(4000), "corrupt")],
)
def test_damage_is_noticed_and_remembered(path: Path, damage: Callable[[Path], None], said: str) -> None:
    damage(path)
    for _ in range(2):  # a start that ends before everything was purged does not settle it
        with SlotFile(path, SLOTS) as file:
            assert said in file.doubt
            assert (file.watermark, file.log_epoch, file.load().doubt) == (0, "", file.doubt)
    with SlotFile(path, SLOTS) as file:
        file.purge_everything(0)
        file.save(0, "log-1")
    with SlotFile(path, SLOTS) as file:
        assert file.doubt == ""


def test_another_size_is_a_doubt(path: Path) -> None:
    with SlotFile(path, 2 * SLOTS) as file:
        assert "1024 slots" in file.doubt
        assert len(file.table.slots) == 2 * SLOTS


def reopened(path: Path, *, clean: bool) -> str:
    """The doubt after the machine has booted again."""
    file = SlotFile(path, SLOTS)
    if clean:
        file.close()
        copy = path
    else:
        copy = path.with_name("copy")  # as a crash would leave it
        copy.write_bytes(path.read_bytes())
        file.close()
    with SlotFile(copy, SLOTS) as again:
        return again.doubt


@pytest.mark.parametrize(("clean", "rebooted", "doubt"), [(False, True, "the machine went down"), (True, True, ""), (False, False, "")])
def test_a_reboot_is_a_doubt_unless_closed_before(path: Path, monkeypatch: pytest.MonkeyPatch, clean: bool, rebooted: bool, doubt: str) -> None:
    boots = iter(["first", "second"] if rebooted else ["first", "first"])
    monkeypatch.setattr(slots_module, "kernel_boot_id", lambda: next(boots))
    found = reopened(path, clean=clean)
    assert found.startswith(doubt)
    assert bool(found) == bool(doubt)


def test_where_reboots_cannot_be_noticed_only_a_clean_file_is_trusted(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots_module, "kernel_boot_id", lambda: "")
    assert "went down" in reopened(path, clean=False)
    path.with_name("copy").unlink()
    assert reopened(path, clean=True) == ""


def test_the_newest_purge_of_a_tag_outlives_the_agent(tmp_path: Path) -> None:
    with SlotFile(tmp_path / "t", 1 << 10) as file:
        file.save(0, "log")
        file.apply([Purge(file.watermark + 1, Selector(Kind.TAG, "sale"))])
        tags = file.table.tags
        assert tags == file.base + 1
    with SlotFile(tmp_path / "t", 1 << 10) as again:
        assert (again.table.tags, again.doubt) == (tags, "")


def test_another_table_has_another_origin(tmp_path: Path) -> None:
    with SlotFile(tmp_path / "t", 1 << 10) as file:
        origin = file.readers.origin
    with SlotFile(tmp_path / "t", 1 << 10) as file:
        assert file.readers.origin == origin
    with SlotFile(tmp_path / "t", 1 << 11) as file:
        assert file.readers.origin not in (0, origin)


def test_a_purge_is_found_as_soon_as_it_is_applied(path: Path) -> None:
    """Without waiting for the watermark: its kind is shown with it."""
    with SlotFile(path, SLOTS) as file, reading(path) as reader:
        file.readers.lease(2**62)
        for seq, selector in enumerate((URL, Selector(Kind.PREFIX, "example.com/b/"), Selector(Kind.HOST, "example.com")), 1):
            file.apply([Purge(seq, selector)])
            assert reader.epoch("example.com/b/a") == file.table.newest("example.com/b/a")
        assert reader.epoch("example.com/b/a") == 3 + file.base


def test_no_number_is_in_a_slot_that_the_highest_one_has_not_reached(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a crash in between, what was stored under it would be under a number that is given out again."""
    with SlotFile(path, SLOTS) as file:
        apply, tops = file.table.apply, list[int]()

        def looked(seq: int, selector: Selector) -> Write:
            tops.append(struct.unpack_from("<Q", path.read_bytes(), 48)[0] - seq)
            return apply(seq, selector)

        monkeypatch.setattr(file.table, "apply", looked)
        file.apply(PURGES[:2])
        assert tops == [1, 0]


class Flushed(mmap.mmap):
    """Remembers what was brought to the disk: closed in good order? the newest purge of everything, and by how many bytes."""

    all: ClassVar[list[tuple[int, int, int]]] = []

    def flush(self, offset: int = 0, size: int = 0) -> None:
        self.all.append((self[56], struct.unpack_from("<Q", self, 24)[0], size))
        super().flush(offset, size or len(self))


def test_what_a_power_cut_must_not_take_back_is_on_the_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mmap, "mmap", Flushed)
    monkeypatch.setattr(Flushed, "all", [])
    file = opened(path)
    file.purge_everything(7)
    assert Flushed.all == [(0, 0, HEADER_BYTES), (0, 7, HEADER_BYTES)]
    file.close()
    assert Flushed.all[2:] == [(0, 7, 0), (1, 7, 0)], "all of the table, and only then that it is all there"


def test_a_doubt_is_kept_at_once_and_numbers_leap_wherever_there_is_one(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = path.with_name("copy")
    with opened(path) as file:
        file.distrust("restored")
        copy.write_bytes(path.read_bytes())  # as a crash would leave it
    with SlotFile(copy, SLOTS) as again:
        assert again.doubt == "restored"
        before = again.top
    with SlotFile(copy, SLOTS) as again:
        assert again.top > before + (1 << 32)
        again.save(0, "log-1")
        copy.with_name("open").write_bytes(copy.read_bytes())
        before = again.top
    monkeypatch.setattr(slots_module, "kernel_boot_id", lambda: "another")
    with SlotFile(path.with_name("open"), SLOTS) as again:
        assert "went down" in again.doubt
        assert again.top > before + (1 << 32)


def test_who_maps_a_table_that_is_closed_is_fenced(path: Path) -> None:
    with SlotFile(path, SLOTS) as file, reading(path) as reader:
        file.readers.lease(2**62)
        assert reader.epoch("example.com/a") is not None
        file.close()
        assert reader.epoch("example.com/a") is None


def test_who_maps_a_table_that_is_replaced_is_fenced(path: Path) -> None:
    copy = path.with_name("copy")
    with SlotFile(path, SLOTS) as file:
        file.readers.lease(2**62)
        copy.write_bytes(path.read_bytes())  # of an agent that was killed
    with reading(copy) as reader:
        assert reader.epoch("example.com/a") is not None
        with SlotFile(copy, 2 * SLOTS):
            assert reader.epoch("example.com/a") is None


def test_a_table_that_took_the_place_of_another_is_locked_too(path: Path) -> None:
    with SlotFile(path, 2 * SLOTS), pytest.raises(SlotFileBusy):
        SlotFile(path, 2 * SLOTS)


def test_who_waited_for_a_table_that_was_replaced_takes_the_new_one(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else two agents would have a table each, and the caches one of them."""
    fresh, flock = path.with_name("fresh"), fcntl.flock
    fresh.write_bytes(path.read_bytes())

    def replaced(file: int, how: int) -> None:
        if fresh.exists():
            fresh.replace(path)
        flock(file, how)

    monkeypatch.setattr(fcntl, "flock", replaced)
    with SlotFile(path, SLOTS) as file:
        file.save_token(9)
        assert struct.unpack_from("<Q", path.read_bytes(), 32) == (9,)


def test_a_table_has_its_room_on_the_disk_from_the_start(tmp_path: Path) -> None:
    """A full disk would be a SIGBUS later, in the agent and in the caches."""
    with SlotFile(tmp_path / "large", 1 << 16):
        assert (tmp_path / "large").stat().st_blocks * 512 >= 8 * (1 << 16)


@contextlib.contextmanager
def reading(path: Path) -> Iterator[TableReader]:
    """It looks only once at what the path leads to."""
    reader = TableReader(path, look_again_s=3600)
    yield reader
    reader.close()
