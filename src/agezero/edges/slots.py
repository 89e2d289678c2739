"""The agent's own copy of the purge table: a file, mapped into memory, that outlives the agent and the cache.

Format, version 2. All numbers are little-endian. The agent is the only writer; caches may map the second page and the slots, see
:mod:`agezero.edges.readers`. The first page is the agent's own:

======  =====  ==================================================================================================
offset  bytes
======  =====  ==================================================================================================
0       8      magic ``AGEZERO2``
8       4      CRC-32 of bytes 12 to 4095; the header is rewritten as a whole, a torn one is noticed by this
12      4      number of slots, a power of two
16      8      ``watermark``: every purge up to this seq has been applied and confirmed
24      8      ``everything``: the number of the newest purge of everything
32      8      ``token``: the newest fencing token the agent has held
40      8      ``base``: what is added to a seq of the present log to make the number that the table holds
48      8      ``top``: no number in the table is higher, nor ever was
56      1      1: closed in good order; 0: open, or its last writer died
57      1      length of the doubt that follows at 512; 0: none
58      1      gates: bit 0 hosts, bit 1 prefixes that end in "/" of the path
59      1      number of lengths that follow at 144
60      36     epoch of the log to which ``watermark`` belongs, text, padded with NUL
96      36     boot id of the kernel under which the file was last opened, text, padded with NUL
144     288    lengths of other prefixes: 24 × (4 bytes length, 8 bytes the number of its newest purge)
432     36     mark of the start that opened the file last, see :mod:`agezero.lineage`
472     8      ``tags``: the number of the newest purge of any tag
512     255    why the table cannot be trusted, UTF-8
4096    4096   the readers' page
8192    8 × n  the slots: the number of the newest purge that touched each
======  =====  ==================================================================================================

The numbers in the table only rise, and a number once used for everything is never used for it again, or an object stored long ago could be
met under its old key. A log that begins anew counts from 1, though. So a purge of everything that the agent itself decides on
(:meth:`SlotFile.purge_everything`) takes a number above ``top``, and sets ``base`` so that the log's seqs go on from there. Where ``top`` itself may
have been lost, it leaps: a new table begins at a random number of 51 bits, one that may be a little old goes on 2^32 and more above.

Writes reach the file through the page cache: they outlive the process, not the machine. So a file that was open when the machine
went down is in doubt, and the agent purges everything before it trusts its cache again. A doubt stays until :meth:`SlotFile.save`.
A file that holds no usable table is replaced by a new one, not overwritten: a cache may have it mapped.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import secrets
import struct
import sys
import zlib
from collections.abc import Callable, MutableSequence, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, cast

from agezero.core.epochs import LENGTHS_MAX, EpochTable, Gates, Write
from agezero.core.position import Position
from agezero.core.purge import Purge
from agezero.core.selector import EVERYTHING
from agezero.edges.readers import PAGE_AT, PAGE_BYTES, SLOTS_AT, ReaderPage, end_lease, kernel_boot_id
from agezero.errors import UserError

HEADER_BYTES = PAGE_BYTES

_MAGIC = b"AGEZERO2"
_FIXED = struct.Struct("<8sIIQQQQQBBBB36s36s")
_LENGTH = struct.Struct("<IQ")
_LENGTHS_AT = 144
_LINEAGE_AT = 432
_LINEAGE_BYTES = 36
_TAGS = struct.Struct("<Q")
_TAGS_AT = 472
_DOUBT_AT = 512
_DOUBT_BYTES_MAX = 255
_CHECKED_FROM = 12
_LEAP = 1 << 32
"""More than the numbers that can be lost with the machine."""


class SlotFileBusy(UserError):
    """Another process has the file open."""


def random_leap(top: int) -> int:
    """A ``top`` that no number in use reaches, from one that may be too low; 0: nothing is known of it."""
    return top + _LEAP + secrets.randbits(36) if top else secrets.randbits(51)


class SlotFile:
    """The table at ``path`` with its watermark. Raises :class:`SlotFileBusy`, ``OSError``.

    ``mode``: who may read it; a cache of another user has to. ``leap``: see :func:`random_leap`.
    """

    def __init__(self, path: Path, slots: int, mode: int = 0o600, leap: Callable[[int], int] = random_leap) -> None:
        assert sys.byteorder == "little", "the slot file is mapped as it is, which needs a little-endian machine"
        self.path = path
        self.doubt = ""
        """Why the table cannot be trusted: the disk cache must go, and the agent purges everything and then calls :meth:`save`. Empty: it can."""
        self.watermark = 0
        self.log_epoch = ""
        self.token = 0
        self.base = 0
        self.top = 0
        self.lineage = ""
        self._leap = leap
        self._kernel = kernel_boot_id()
        self._file = _locked(path)
        try:
            self._map = self._open(slots, mode)
        except OSError:
            os.close(self._file)
            raise
        self._view = memoryview(self._map)
        self._slots = self._view[SLOTS_AT:].cast("Q")
        self._page = self._view[PAGE_AT:SLOTS_AT].cast("Q")
        self.readers = ReaderPage(self._page, slots)
        """What caches that map this file see. Fenced until the next lease."""
        self.table = EpochTable(cast(MutableSequence[int], self._slots))
        if self.doubt:
            self.top = leap(0)
        else:
            self._read_header()
        self._write_header(clean=False)
        self._map.flush(0, HEADER_BYTES)  # or a power cut could bring the header back that says it was closed in good order

    def apply(self, purges: Sequence[Purge]) -> list[Write]:
        """Record ``purges``; returns the writes for the cache's copy, one for each slot. On return they outlive this process."""
        newest: dict[int | None, Write] = {}
        self.top = max(self.top, *(purge.seq + self.base for purge in purges))
        self._write_header(clean=False)  # first: a reader takes no number into a key that ``top`` has not reached
        for purge in purges:
            write = self.table.apply(purge.seq + self.base, purge.selector)
            newest[write.slot] = write
        self._write_header(clean=False)
        return list(newest.values())

    def purge_everything(self, seq: int) -> None:
        """Outdate all that was ever stored; the log goes on after ``seq``."""
        self.base = max(self.base, self.top + 1 - seq)
        self.top = self.table.apply(seq + self.base, EVERYTHING).seq
        self._write_header(clean=False)
        self._map.flush(0, HEADER_BYTES)  # the number is not to be used again, whatever happens to the machine

    def load(self) -> Position:
        """How far the agent has come, as the agent reads it."""
        return Position(self.watermark, self.log_epoch, self.doubt)

    def save(self, watermark: int, epoch: str) -> None:
        """Everything up to ``watermark`` of that log is applied and confirmed. The watermark of one log only rises; a doubt ends here."""
        if epoch == self.log_epoch and watermark < self.watermark:
            raise ValueError(f"the watermark stands at {self.watermark} and cannot go back to {watermark}")
        self.watermark, self.log_epoch, self.doubt = watermark, epoch, ""
        self._write_header(clean=False)

    def save_token(self, token: int) -> None:
        """Remember a fencing token that is newer than the one known."""
        self.token = max(self.token, token)
        self._write_header(clean=False)

    def distrust(self, reason: str) -> None:
        """The table, or the cache that goes with it, may be older than what was proven."""
        if not self.doubt:
            self.doubt, self.top = reason, self._leap(self.top)
        self._write_header(clean=False)

    def mark_lineage(self, mark: str) -> None:
        """See :class:`agezero.lineage.Lineage`."""
        self.lineage = mark
        self._write_header(clean=False)

    def filled(self) -> list[tuple[int, int]]:
        """All slots that say more than ``everything`` does, as ``(slot, number)``."""
        return [(slot, number) for slot, number in enumerate(self._slots.tolist()) if number > self.table.everything]

    def close(self) -> None:
        """End the lease of those who map it, bring everything to the disk and close in good order."""
        if self._map.closed:
            return
        self.readers.lease(0)
        self._map.flush()
        self._write_header(clean=True)
        self._map.flush()
        self._slots.release()
        self._page.release()
        self._view.release()
        self._map.close()
        os.close(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _open(self, slots: int, mode: int) -> mmap.mmap:
        size = SLOTS_AT + 8 * slots
        self.doubt = _fault(self._file, slots)
        if self.doubt:
            self._file = _replaced(self.path, self._file, size)
        os.fchmod(self._file, mode)
        return mmap.mmap(self._file, size)

    def _read_header(self) -> None:
        fixed = _FIXED.unpack_from(self._map)
        _, _, _, self.watermark, self.table.everything, self.token, *more = fixed
        self.base, self.top, clean, doubt, gates, lengths, log_epoch, boot_id = more
        self.log_epoch = _text(log_epoch)
        (self.table.tags,) = _TAGS.unpack_from(self._map, _TAGS_AT)
        self.lineage = _text(self._map[_LINEAGE_AT : _LINEAGE_AT + _LINEAGE_BYTES])
        pairs = (_LENGTH.unpack_from(self._map, _LENGTHS_AT + i * _LENGTH.size) for i in range(lengths))
        self.table.gates = Gates(bool(gates & 1), bool(gates & 2), dict(pairs))
        if doubt:
            self.doubt = self._map[_DOUBT_AT : _DOUBT_AT + doubt].decode()
        elif not clean and (_text(boot_id) != self._kernel or not self._kernel):
            self.doubt = "the machine went down while the purge table was open, so its last writes may be lost"
        if self.doubt:
            self.top = self._leap(self.top)

    def _write_header(self, *, clean: bool) -> None:
        header = bytearray(HEADER_BYTES)
        gates, doubt = self.table.gates, self.doubt.encode()[:_DOUBT_BYTES_MAX]
        assert len(gates.lengths) <= LENGTHS_MAX
        bits = gates.host | gates.slash << 1
        log_epoch, boot_id = self.log_epoch.encode(), self._kernel.encode()
        slots, numbers = len(self._slots), (self.watermark, self.table.everything, self.token, self.base, self.top)
        _FIXED.pack_into(header, 0, _MAGIC, 0, slots, *numbers, clean, len(doubt), bits, len(gates.lengths), log_epoch, boot_id)
        for i, pair in enumerate(gates.lengths.items()):
            _LENGTH.pack_into(header, _LENGTHS_AT + i * _LENGTH.size, *pair)
        header[_LINEAGE_AT : _LINEAGE_AT + len(self.lineage)] = self.lineage.encode()
        _TAGS.pack_into(header, _TAGS_AT, self.table.tags)
        header[_DOUBT_AT : _DOUBT_AT + len(doubt)] = doubt
        struct.pack_into("<I", header, 8, zlib.crc32(header[_CHECKED_FROM:]))
        self._view[:HEADER_BYTES] = header
        self.readers.publish(self.top, self.table.everything, self.table.tags, gates)


def _locked(path: Path) -> int:
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            raise SlotFileBusy(f"{path} is in use by another agent", "stop that one first, or choose another data directory") from None
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_ino == os.fstat(file).st_ino:
                return file
        os.close(file)  # it was replaced between the two calls


def _replaced(path: Path, old: int, size: int) -> int:
    """An empty table in the place of ``old``, locked as that one was. Those who map the old one are fenced first."""
    end_lease(old)
    fresh = path.with_name(path.name + ".new")
    file = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(file, 0, size)  # a full disk shows here, not as a SIGBUS later
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fresh.replace(path)
    except OSError:
        os.close(file)
        raise
    os.close(old)
    return file


def _fault(file: int, slots: int) -> str:
    """Why the file does not hold a table of that many slots; empty when it does."""
    size = os.fstat(file).st_size
    if size == 0:
        return "the purge table is new"
    header = os.pread(file, HEADER_BYTES, 0)
    if len(header) < HEADER_BYTES:
        return f"the purge table is cut off: it has {size} bytes"
    magic, checksum, held, *_ = _FIXED.unpack_from(header)
    if magic != _MAGIC:
        return "the purge table is in an unknown format"
    if checksum != zlib.crc32(header[_CHECKED_FROM:]):
        return "the purge table is corrupt"
    if held != slots:
        return f"the purge table had {held} slots and is to have {slots}"
    return "" if size == SLOTS_AT + 8 * slots else f"the purge table is cut off: it has {size} bytes"


def _text(padded: bytes) -> str:
    return padded.rstrip(b"\0").decode()
