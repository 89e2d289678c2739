"""Processes that stand still. A signal is taken thread by thread: on a busy machine the last one may go on after ``kill`` has returned."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable
from pathlib import Path

from support.waiting import wait_for


def freeze(pids: Iterable[int]) -> None:
    """SIGSTOP; on return no thread of theirs runs."""
    pids = list(pids)
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            os.kill(pid, signal.SIGSTOP)
    wait_for(lambda: all(_stands(pid) for pid in pids), f"{pids} are stopped")


def _stands(pid: int) -> bool:
    """Also where it has ended."""
    states = {_state(task) for task in Path(f"/proc/{pid}/task").glob("*/stat")}
    return states <= {"T", "t", "Z", "X", ""}


def _state(stat: Path) -> str:
    try:
        return stat.read_text().rpartition(") ")[2][:1]
    except OSError:
        return ""


def group(leader: int) -> list[int]:
    """All processes of its group."""
    found = []
    for pid in (int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()):
        with contextlib.suppress(ProcessLookupError):
            if os.getpgid(pid) == leader:
                found.append(pid)
    return found
