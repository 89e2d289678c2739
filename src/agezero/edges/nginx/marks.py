"""Which slots an unsafe request has touched: what must survive a kill -9 of nginx.

An unsafe method that succeeds invalidates its URL (RFC 9111 §4.4): nginx counts the slot up in shared memory, and the count is part of the cache
key. The memory is lost with nginx while the disk cache stays, so a slot's first change is also marked in a file, before the client sees
the answer. At the next start every marked slot begins at a number that no earlier start has used: what was stored before is left behind, once more.
So a mark needs no order and no value, the file never grows, and a second change costs no write.

File: 8 bytes, little-endian, how often nginx was started; then one byte for each slot, 0 or 1. A missing file, or one of another size, means
that marks may be lost, and then the disk cache must go.
"""

from __future__ import annotations

import os
from pathlib import Path

_COUNT_BYTES = 8
_BASE_STEP = 2**32  # more changes than one start can see; 2**53 / 2**32 starts are enough


class Marks:
    """The file of marks at ``path`` for a table of ``slots``."""

    def __init__(self, path: Path, slots: int) -> None:
        self.path = path
        self._size = _COUNT_BYTES + slots

    def intact(self) -> bool:
        """Can the disk cache be trusted, as far as the marks go?"""
        return self.path.is_file() and self.path.stat().st_size == self._size

    def create(self) -> None:
        """Begin anew; only together with an empty disk cache."""
        fresh = self.path.with_suffix(".new")
        fresh.write_bytes(bytes(self._size))
        fresh.replace(self.path)

    def count_start(self) -> None:
        """Before every start of nginx."""
        with self.path.open("r+b") as file:
            starts = int.from_bytes(file.read(_COUNT_BYTES), "little")
            file.seek(0)
            file.write((starts + 1).to_bytes(_COUNT_BYTES, "little"))
            file.flush()
            os.fsync(file.fileno())

    def writes(self) -> list[tuple[int, int]]:
        """What the shared memory of this start must begin with: ``(slot, number)``. Empty where the file is gone, and with it the cache."""
        if not self.intact():
            return []
        data = self.path.read_bytes()
        base = int.from_bytes(data[:_COUNT_BYTES], "little") * _BASE_STEP
        return [(slot, base) for slot, mark in enumerate(data[_COUNT_BYTES:]) if mark]

    def disown(self) -> None:
        """Record that marks are lost; removing a file works on a full disk. Raises ``OSError``."""
        self.path.unlink(missing_ok=True)
