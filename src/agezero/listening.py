"""Who listens on a port of this machine, for an error that helps: from ``/proc``, as far as this user may look."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

PROC = Path("/proc")
_LISTEN = "0A"  # a state in /proc/net/tcp (net/tcp_states.h)


def holder(port: int) -> str:
    """Name and process id, such as ``traffic_server (pid 812)``; empty where nobody does, or it can't be known."""
    wanted = {f"socket:[{inode}]" for inode in _inodes(port)}
    for pid in filter(str.isdecimal, os.listdir(PROC) if wanted and PROC.is_dir() else ()):
        with contextlib.suppress(OSError):
            if any(_target(each) in wanted for each in (PROC / pid / "fd").iterdir()):
                return f"{_name(PROC / pid)} (pid {pid})"
    return ""


def _inodes(port: int) -> Iterator[str]:
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in (PROC / "net" / table).read_text().splitlines()[1:]:
                _, local, _, state, *rest = line.split()
                if state == _LISTEN and int(local.rpartition(":")[2], 16) == port:
                    yield rest[5]


def _target(descriptor: Path) -> str:
    try:
        return os.readlink(descriptor)
    except OSError:  # it was closed meanwhile
        return ""


def _name(process: Path) -> str:
    """What it calls itself; some put that in brackets, and are called by their program."""
    name = (process / "comm").read_text().strip()
    if not name.startswith("["):
        return name
    return Path(_target(process / "exe")).name or name
