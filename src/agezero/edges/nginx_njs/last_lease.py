"""Which run of nginx was given the last lease, and until when: a small JSON file of the agent.

An nginx that was started or reloaded anew can have an older one beside it: workers that end what they have begun, or a whole master during an
upgrade of the binary. That one keeps the table that it had and the lease in it, and the agent's socket may lead to either. So another run is loaded,
and its first purge confirmed, only once the lease of the one before is over: by the clock that nginx compares with, and by one that nobody sets.
"""

from __future__ import annotations

import time
from pathlib import Path

import msgspec

from agezero.edges.readers import kernel_boot_id


class _Saved(msgspec.Struct):
    boot: str = ""
    kernel: str = ""
    monotonic_s: float = 0.0
    issued_ms: int = 0
    until_ms: int = 0


class LastLease:
    """The file ``path``. Not there, it speaks of no lease."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._saved = msgspec.json.decode(path.read_bytes(), type=_Saved)
        except (FileNotFoundError, msgspec.MsgspecError):  # it is replaced as a whole: only a crash of the machine cuts it off, and that ended nginx
            self._saved = _Saved()

    def begin(self, boot: str, until_s: float, issued_ms: int, until_ms: int) -> None:
        """On record before nginx hears of it. ``until_s``: monotonic. Raises ``OSError``."""
        self._save(_Saved(boot, kernel_boot_id(), until_s, issued_ms, until_ms))

    def end(self, boot: str) -> None:
        """That run has given its lease back, or has ended with all of its processes."""
        if self._saved.boot == boot:
            self._save(_Saved(boot, kernel_boot_id()))

    @property
    def boot(self) -> str:
        """The run that had it."""
        return self._saved.boot

    def left_s(self, boot: str) -> float:
        """How long another run than ``boot`` may still serve from the cache; 0: no longer."""
        saved, now_ms = self._saved, time.time() * 1000
        if saved.boot in ("", boot) or saved.kernel != kernel_boot_id():
            return 0.0
        by_wall_s = (saved.until_ms - now_ms) / 1000 if saved.issued_ms <= now_ms else 0.0
        return max(0.0, saved.monotonic_s - time.monotonic(), by_wall_s)

    def _save(self, saved: _Saved) -> None:
        fresh = self._path.with_suffix(".new")
        fresh.write_bytes(msgspec.json.encode(saved))
        fresh.replace(self._path)
        self._saved = saved
