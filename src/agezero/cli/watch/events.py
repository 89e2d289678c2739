"""When to look: what the kernel says of a directory, and when it is time to look at all of it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator

from watchfiles import watch
from watchfiles._rust_notify import WatchfilesRustInternalError

from agezero.cli.output import warning

DEBOUNCE_MS = 500
STEP_MS = 50
TICK_S = 1.0
"""So often it is looked whether the directory is still the same one."""
POLL_S = 2.0
"""So often all is compared where the kernel says nothing."""
LOAD = 20
"""All of it is compared so rarely that it takes at most one twentieth of the time."""

ALL = ("",)


def looks(root: str, rescan_s: float, stop: threading.Event) -> Iterator[tuple[str, ...]]:
    """Paths below ``root`` to look at, each time; an empty one for all of it. Ends with ``stop``.

    The directory may be removed, replaced, or a link that is turned elsewhere: it is followed by its name.
    """
    due_s, began_s = 0.0, 0.0
    while not stop.is_set():
        for paths in _while_it_is_the_same(root, stop):
            if time.monotonic() >= due_s:
                began_s = time.monotonic()
                yield (*ALL, *paths)
                now_s = time.monotonic()
                due_s = now_s + max(rescan_s, LOAD * (now_s - began_s))
            elif paths:
                yield paths
        due_s = 0.0
        if not stop.is_set():
            yield ALL
            stop.wait(TICK_S / 4)


def _while_it_is_the_same(root: str, stop: threading.Event) -> Iterator[tuple[str, ...]]:
    same = _identity(root)
    if same is None:
        return
    real = os.path.realpath(root)
    inside = len(real.rstrip("/")) + 1
    try:
        for changes in watch(
            real,
            watch_filter=None,
            debounce=DEBOUNCE_MS,
            step=STEP_MS,
            stop_event=stop,
            rust_timeout=int(1000 * TICK_S),
            yield_on_timeout=True,
            ignore_permission_denied=True,
        ):
            yield tuple({os.path.dirname(path)[inside:] if "\ufffd" in path else path[inside:] for _, path in changes})
            if _identity(root) != same:
                return
    except FileNotFoundError:
        return
    except (OSError, WatchfilesRustInternalError) as error:
        warning(f"the system does not tell of changes ({error}), so all files are compared every {POLL_S:g} s")
        while not stop.wait(POLL_S) and _identity(root) == same:
            yield ALL


def _identity(root: str) -> tuple[int, int] | None:
    try:
        found = os.stat(root)
    except OSError:
        return None
    return found.st_dev, found.st_ino
