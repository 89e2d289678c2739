"""What caches read of the purge table: the same as the agent wrote, and nothing once the lease is over."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agezero.core.purge import Purge
from agezero.core.selector import EVERYTHING, Kind, Selector, authority_of
from agezero.edges import readers
from agezero.edges.readers import PAGE_AT, TableReader
from agezero.edges.slots import SlotFile

SLOTS = 1024
PATHS = st.lists(st.sampled_from(["a", "b", "/", "//", "?", "?/", "c.jpg"]), max_size=6).map("".join)
URLS = st.builds("{}/{}".format, st.sampled_from(["h", "h:81", "hhhhhhhhhhhhhhh"]), PATHS)
SELECTORS = st.one_of(
    URLS.map(lambda url: Selector(Kind.URL, url)),
    URLS.map(lambda url: Selector(Kind.PREFIX, url)),
    URLS.map(lambda url: Selector(Kind.HOST, authority_of(url))),
    st.just(EVERYTHING),
)


def soon_ns(seconds: float = 600) -> int:
    return time.monotonic_ns() + int(seconds * 1e9)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "table"


@pytest.fixture
def file(path: Path) -> Iterator[SlotFile]:
    with SlotFile(path, SLOTS) as opened:
        yield opened


@pytest.fixture
def reader(path: Path, file: SlotFile) -> Iterator[TableReader]:  # noqa: ARG001 - the file comes first
    opened = TableReader(path, look_again_s=0)
    yield opened
    opened.close()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(SELECTORS, max_size=8), st.lists(URLS, min_size=1, max_size=10))
def test_a_reader_finds_what_the_agent_wrote(file: SlotFile, reader: TableReader, selectors: list[Selector], urls: list[str]) -> None:
    file.readers.lease(soon_ns())
    for selector in selectors:
        file.apply([Purge(file.watermark + 1, selector)])
        file.save(file.watermark + 1, "log-1")
        assert [reader.epoch(url) for url in urls] == [file.table.newest(url) for url in urls]


def test_without_a_lease_a_reader_is_fenced(file: SlotFile, reader: TableReader) -> None:
    assert reader.epoch("h/a") is None
    file.readers.lease(soon_ns())
    assert reader.epoch("h/a") == 0
    file.readers.lease(time.monotonic_ns() - 1)
    assert reader.epoch("h/a") is None


def test_a_lease_of_another_kernel_fences(path: Path, file: SlotFile, monkeypatch: pytest.MonkeyPatch) -> None:
    file.readers.lease(soon_ns())
    monkeypatch.setattr(readers, "kernel_boot_id", lambda: "another")
    other = TableReader(path)
    assert other.epoch("h/a") is None
    assert other.nonce() is None, "or its agent would take it for served"
    other.close()


def test_a_kernel_that_tells_no_boot_id_may_be_any(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "kernel_boot_id", lambda: "")
    with SlotFile(path, SLOTS) as file:
        file.readers.lease(soon_ns())
        reader = TableReader(path)
        assert reader.epoch("h/a") is None
        assert reader.nonce() is None
        reader.close()


def test_a_missing_or_foreign_file_fences(tmp_path: Path) -> None:
    for content in (None, b"", b"x" * 100, b"x" * 16384):
        if content is not None:
            (tmp_path / "foreign").write_bytes(content)
        reader = TableReader(tmp_path / "foreign", look_again_s=0)
        assert reader.epoch("h/a") is None
        assert reader.nonce() is None
        reader.close()


def test_a_reader_repeats_the_nonce(file: SlotFile, reader: TableReader) -> None:
    first = file.readers.challenge()
    assert reader.nonce() == first
    assert file.readers.challenge() != first


def test_a_table_that_was_replaced_is_fenced_and_the_new_one_is_found(path: Path, reader: TableReader, file: SlotFile) -> None:
    file.readers.lease(soon_ns())
    assert reader.epoch("h/a") == 0
    file.close()
    file_again = SlotFile(path, SLOTS * 2)  # another size: a new file
    with file_again:
        assert reader.epoch("h/a") is None
        file_again.purge_everything(1)
        file_again.readers.lease(soon_ns())
        assert reader.epoch("h/a") == file_again.table.everything


def test_a_writer_that_died_while_it_wrote_the_gates_fences_until_the_next(path: Path, file: SlotFile, reader: TableReader) -> None:
    file.readers.lease(soon_ns())
    with path.open("r+b") as raw:
        raw.seek(PAGE_AT + 8 * 5)
        raw.write(struct.pack("<Q", 7))
    assert reader.epoch("h/a") is None
    file.close()
    with SlotFile(path, SLOTS) as again:
        again.readers.lease(soon_ns())
        assert reader.epoch("h/a") == 0


def test_a_new_table_never_meets_the_numbers_of_the_one_that_was_lost(path: Path, file: SlotFile) -> None:
    file.purge_everything(5)
    before = file.table.everything
    file.close()
    path.unlink()
    with SlotFile(path, SLOTS) as again:
        again.purge_everything(5)
        assert abs(again.table.everything - before) > 1_000_000


def test_a_table_in_doubt_goes_on_far_above_what_may_have_been_lost(file: SlotFile) -> None:
    file.purge_everything(5)
    file.save(5, "log-1")
    before = file.table.everything
    file.distrust("restored")
    file.purge_everything(5)
    assert file.table.everything > before + (1 << 32)


def test_who_may_read_the_table_is_a_setting(path: Path) -> None:
    with SlotFile(path, SLOTS, mode=0o644):
        assert path.stat().st_mode & 0o777 == 0o644
