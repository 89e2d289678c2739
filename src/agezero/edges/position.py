"""How far an agent has come, for edges without a purge table of their own: a small JSON file.

It's replaced as a whole, so a crash of the agent leaves the old or the new one. After a crash of the machine it may be an older one, or
none that can be read: the first repeats work, the second is a doubt, and everything is purged. The log's epoch, the cache's boot id and the marks
of :mod:`agezero.lineage` tell the rest.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import msgspec

from agezero.core.position import Position
from agezero.errors import UserError


class PositionFileBusy(UserError):
    """Another process has the file open."""


class _Saved(msgspec.Struct, forbid_unknown_fields=True):
    version: int = 1
    watermark: int = 0
    log_epoch: str = ""
    doubt: str = ""
    token: int = 0
    lineage: str = ""
    boot: str = ""
    """Boot id of the cache in which everything up to the watermark is applied."""
    unsettled: bool = False
    """Something that was applied had yet to be given again."""


class PositionFile:
    """The file ``path``. Raises :class:`PositionFileBusy`, ``OSError``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = _locked(path.with_suffix(".lock"))
        saved = _read(path)
        self.doubt = saved.doubt
        """Why the rest cannot be trusted; empty: it can."""
        self.watermark = saved.watermark
        self.log_epoch = saved.log_epoch
        self.token = saved.token
        self.lineage = saved.lineage
        self.boot = saved.boot
        """The boot id of the cache for which the rest is true."""
        self.unsettled = saved.unsettled
        """Something that is applied has yet to be given again; on record from the next :meth:`save` on."""

    def load(self) -> Position:
        """How far the agent has come."""
        return Position(self.watermark, self.log_epoch, self.doubt)

    def save(self, watermark: int, epoch: str) -> None:
        """Everything up to ``watermark`` of that log is applied and confirmed. The watermark of one log only rises; a doubt ends here."""
        if epoch == self.log_epoch and watermark < self.watermark:
            raise ValueError(f"the watermark stands at {self.watermark} and cannot go back to {watermark}")
        self.watermark, self.log_epoch, self.doubt = watermark, epoch, ""
        self._write()

    def save_token(self, token: int) -> None:
        """Remember a fencing token that is newer than the one known."""
        self.token = max(self.token, token)
        self._write()

    def save_boot(self, boot: str) -> None:
        """From now on it speaks of this run of the cache."""
        self.boot = boot
        self._write()

    def settled(self) -> None:
        """Nothing has to be given again."""
        self.unsettled = False
        self._write()

    def distrust(self, reason: str) -> None:
        """Purge everything before the cache is trusted again."""
        self.doubt = self.doubt or reason
        self._write()

    def mark_lineage(self, mark: str) -> None:
        """See :class:`agezero.lineage.Lineage`."""
        self.lineage = mark
        self._write()

    def close(self) -> None:
        """Bring it to the disk and let go of it."""
        if self._lock < 0:
            return
        self._write(durable=True)
        os.close(self._lock)
        self._lock = -1

    def _write(self, *, durable: bool = False) -> None:
        saved = _Saved(1, self.watermark, self.log_epoch, self.doubt, self.token, self.lineage, self.boot, self.unsettled)
        fresh = self.path.with_suffix(".new")
        with fresh.open("wb") as file:
            file.write(msgspec.json.encode(saved))
            if durable:
                file.flush()
                os.fsync(file.fileno())
        fresh.replace(self.path)


def _read(path: Path) -> _Saved:
    try:
        saved = msgspec.json.decode(path.read_bytes(), type=_Saved)
    except FileNotFoundError:
        return _Saved(doubt="it is not known how far this edge has come")
    except msgspec.MsgspecError as error:
        return _Saved(doubt=f"{path} is corrupt: {error}")
    return saved if saved.version == 1 else _Saved(doubt=f"{path} is of version {saved.version}")


def _locked(path: Path) -> int:
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        raise PositionFileBusy(f"{path} is in use by another agent", "stop that one first, or choose another data directory") from None
    return file
