"""A wall clock that goes wrong for one program: a library that it is started with. Varnish needs a C compiler anyway."""

from __future__ import annotations

import subprocess
from pathlib import Path

from support.programs import require

_SOURCE = """
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *now)
{
    long done = syscall(SYS_clock_gettime, clock, now);
    if (!done && clock == CLOCK_REALTIME)
        now->tv_sec += %d;
    return (int)done;
}
"""


def ahead(folder: Path, by_s: int) -> Path:
    """A library, made in ``folder``, under which the wall clock is ahead by so much. Skips where there is no compiler."""
    require("cc")
    source, library = folder / "clock.c", folder / "clock.so"
    source.write_text(_SOURCE % by_s)
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source], check=True, capture_output=True, timeout=60)
    return library
