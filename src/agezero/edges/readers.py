"""What caches read of the purge table: one page of it, and the slots, mapped into memory by any number of processes.

The agent is the only writer. All fields are 8 bytes wide and aligned, so that a reader on the same machine finds each of them as it was before a
write or as it is after it. All numbers are little-endian.

======  =====  ==================================================================================================
offset  bytes  (within the page, which is the second of the file)
======  =====  ==================================================================================================
0       8      magic ``AGEZERO2``
8       8      number of slots, a power of two
16      8      ``everything``: the number of the newest purge of everything
24      8      ``until``: the cache may serve from its store before this, nanoseconds of CLOCK_MONOTONIC; 0: it may not
32      8      ``nonce``: a random number below 2^53. A cache that repeats it reads this very file
40      8      version of the gates: odd while they are being written
48      8      gates: bit 0 hosts, bit 1 prefixes that end in "/" of the path
56      8      number of lengths that follow at 128
64      40     boot id of the kernel whose clock ``until`` means, text, padded with NUL
104     8      ``tags``: the number of the newest purge of any tag; it counts for all whose tags are not known
112     8      ``top``: no number is, or ever was, higher; written before any other. 0: not known
120     8      ``origin``: a random number below 2^32, another one for each table that began anew. Numbers of two tables do not compare
128     192    lengths of other prefixes, ascending: 24 × 8 bytes
======  =====  ==================================================================================================

A cache is **fenced** unless magic and kernel are the expected ones and the lease is not over; then it bypasses its store. Else it puts
into its cache key what :meth:`agezero.core.epochs.EpochTable.newest` says. While it is fenced it looks now and then whether the path has become
another file, and maps that one: a table that had to begin anew is a new file, and the lease in the old one is ended first.

The lease is only ever written after the table, and each look-up reads the lease first.
"""

from __future__ import annotations

import mmap
import os
import secrets
import struct
import time
from collections.abc import MutableSequence
from pathlib import Path
from typing import cast

from agezero.core.epochs import LENGTHS_MAX, EpochTable, Gates

PAGE_BYTES = 4096
PAGE_AT = PAGE_BYTES
SLOTS_AT = PAGE_AT + PAGE_BYTES

_MAGIC = int.from_bytes(b"AGEZERO2", "little")
_SIZE, _EVERYTHING, _UNTIL, _NONCE, _VERSION, _GATES, _COUNT, _KERNEL = range(1, 9)  # in units of 8 bytes
_TAGS, _TOP, _ORIGIN = 13, 14, 15
_LENGTHS = 16
_KERNEL_WORDS = 5
KERNEL_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_TRIES = 100
_NONCE_MAX = 2**53  # a double holds it exactly, in Lua as in JavaScript
_ORIGIN_MAX = 2**32
_PLACES_MAX = 1 << 16
"""How many URLs a reader remembers the slots of: some 20 MB."""
_PLACES_URL_BYTES_MAX = 512


class ReaderPage:
    """The writer's end. ``page`` is the page as 8-byte words."""

    def __init__(self, page: memoryview, slots: int) -> None:
        self._page = page
        page[_UNTIL] = 0
        page[_VERSION] += page[_VERSION] % 2  # odd: the last writer died while it wrote
        page[_SIZE] = slots
        page[_ORIGIN] = page[_ORIGIN] or secrets.randbelow(_ORIGIN_MAX - 1) + 1
        self._write_kernel(kernel_boot_id())
        page[0] = _MAGIC

    def publish(self, top: int, everything: int, tags: int, gates: Gates) -> None:
        """Show what the table says beside its slots: first what only adds to a look-up, then the gates, some of which that may have outdated."""
        self._page[_TOP] = top
        self._page[_EVERYTHING] = everything
        self._page[_TAGS] = tags
        words = [gates.host | gates.slash << 1, len(gates.lengths)]
        lengths = sorted(gates.lengths)
        if words == list(self._page[_GATES : _COUNT + 1]) and lengths == list(self._page[_LENGTHS : _LENGTHS + len(lengths)]):
            return
        self._page[_VERSION] += 1
        self._page[_GATES], self._page[_COUNT] = words
        for place, length in enumerate(lengths, _LENGTHS):
            self._page[place] = length
        self._page[_VERSION] += 1

    @property
    def origin(self) -> int:
        """Of this table."""
        return self._page[_ORIGIN]

    def lease(self, until_ns: int) -> None:
        """The cache may serve from its store before ``until_ns``; 0 fences it."""
        self._page[_UNTIL] = until_ns

    def challenge(self) -> int:
        """A fresh nonce, which only a reader of this page can repeat."""
        self._page[_NONCE] = nonce = secrets.randbelow(_NONCE_MAX - 1) + 1
        return nonce

    def _write_kernel(self, boot_id: str) -> None:
        text = boot_id.encode().ljust(8 * _KERNEL_WORDS, b"\0")
        for place, word in enumerate(struct.unpack(f"<{_KERNEL_WORDS}Q", text), _KERNEL):
            self._page[place] = word


class TableReader:
    """A reader's end, for caches whose code is in Python (Squid's helper) and for tests. A missing or unusable file fences.

    ``look_again_s``: how often a fenced reader looks whether the path has become another file.
    """

    def __init__(self, path: Path, look_again_s: float = 1.0) -> None:
        self._path = path
        self._look_again_ns = int(look_again_s * 1e9)
        self._looked_ns = 0
        self._kernel = kernel_boot_id()
        self._mapped: tuple[mmap.mmap, memoryview, EpochTable] | None = None
        self._version = -1
        self._inode = 0
        self._same_kernel = False
        self._places: dict[str, tuple[int, ...]] = {}

    def epoch(self, url: str) -> int | None:
        """The number for the cache key of the canonical ``url``; None: fenced."""
        now_ns = time.monotonic_ns()
        if not self._live(now_ns):
            self._look_again(now_ns)
            if not self._live(now_ns):
                return None
        assert self._mapped is not None
        _, page, table = self._mapped
        if not self._read_gates(page, table):
            return None
        everything, tags, slots = page[_EVERYTHING], page[_TAGS], table.slots
        return max(everything, tags, *[slots[place] for place in self._places.get(url) or self._find(url, table)])

    def nonce(self) -> int | None:
        """What the writer wrote last; None: no table is mapped, or another kernel wrote it, whose leases do not count here."""
        self._look_again(time.monotonic_ns())
        if self._mapped is None or not self._is_same_kernel(self._mapped[1]):
            return None
        return self._mapped[1][_NONCE]

    def close(self) -> None:
        """Let go of the file."""
        if self._mapped is not None:
            mapped, page, table = self._mapped
            cast(memoryview, table.slots).release()
            page.release()
            mapped.close()
            self._mapped = None

    def _live(self, now_ns: int) -> bool:
        if self._mapped is None:
            return False
        page = self._mapped[1]
        return page[0] == _MAGIC and now_ns < page[_UNTIL] and (self._same_kernel or self._is_same_kernel(page))

    def _is_same_kernel(self, page: memoryview) -> bool:
        """Once it is, it stays so: this process does not outlive the kernel. Where the system does not say, it may be any."""
        self._same_kernel = bool(self._kernel) and _kernel_of(page) == self._kernel
        return self._same_kernel

    def _find(self, url: str, table: EpochTable) -> tuple[int, ...]:
        """Where to look, which takes long to compute and is the same until gates or table change."""
        places = tuple(table.places(url))
        if len(self._places) >= _PLACES_MAX:
            self._places.clear()
        if len(url) <= _PLACES_URL_BYTES_MAX:
            self._places[url] = places
        return places

    def _look_again(self, now_ns: int) -> None:
        if self._looked_ns and now_ns - self._looked_ns < self._look_again_ns:
            return
        self._looked_ns = now_ns
        try:
            inode = self._path.stat().st_ino
            if self._mapped is None or inode != self._inode:
                self.close()
                self._map()
        except (OSError, ValueError):  # not there, not ours to read, not a table
            return

    def _map(self) -> None:
        file = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            mapped = mmap.mmap(file, 0, prot=mmap.PROT_READ)
            self._inode = os.fstat(file).st_ino
        finally:
            os.close(file)
        if len(mapped) % PAGE_BYTES:
            raise ValueError(f"{self._path} is not a purge table")
        words = memoryview(mapped).cast("Q")
        page, slots = words[PAGE_AT // 8 : SLOTS_AT // 8], words[SLOTS_AT // 8 :]
        if len(page) < PAGE_BYTES // 8 or page[0] != _MAGIC or len(slots) != page[_SIZE]:
            raise ValueError(f"{self._path} is not a purge table")
        self._mapped = (mapped, page, EpochTable(cast(MutableSequence[int], slots)))
        self._version = -1
        self._same_kernel = False

    def _read_gates(self, page: memoryview, table: EpochTable) -> bool:
        """A consistent copy: the version is even and the same before and after. False where there is none: the writer may have died."""
        for _ in range(_TRIES):
            version = page[_VERSION]
            if version == self._version:
                return True
            bits, count = page[_GATES], min(page[_COUNT], LENGTHS_MAX)
            lengths = dict.fromkeys(page[_LENGTHS : _LENGTHS + count], 0)
            if version % 2 == 0 and version == page[_VERSION]:
                table.gates, self._version = Gates(bool(bits & 1), bool(bits & 2), lengths), version
                self._places.clear()
        return False


def end_lease(file: int) -> None:
    """End the lease in a table that is about to be replaced, for those who still map it. ``file``: a descriptor open for writing."""
    if os.fstat(file).st_size >= SLOTS_AT:
        os.pwrite(file, bytes(8), PAGE_AT + 8 * _UNTIL)


def kernel_boot_id() -> str:
    """Changes whenever the machine starts; empty where the system does not say."""
    try:
        return KERNEL_BOOT_ID.read_text().strip()
    except OSError:
        return ""


def _kernel_of(page: memoryview) -> str:
    return struct.pack(f"<{_KERNEL_WORDS}Q", *page[_KERNEL : _KERNEL + _KERNEL_WORDS]).rstrip(b"\0").decode(errors="replace")
