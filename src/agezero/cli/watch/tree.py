"""The files below a directory as they were seen last, and which of them have changed since."""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping

Stamp = tuple[int, int, int, int, int]
"""Device, inode, size, and the times of the last change of content and of anything, in ns."""
Seen = tuple[Stamp, bool]
"""And whether that was so soon after a change that another one would not show: then it counts as changed at the next look."""

GRAIN_NS = 20_000_000
"""Times of files are this coarse, and more."""
PARTS_MAX = 50
"""So many directories are looked at one by one; where more changed, all of them are."""


class Tree:
    """The snapshot of ``root``. Paths are relative to it, with ``/``; empty for itself. ``skip``: paths to leave out, and all below them.

    Only files count. Links are followed, each directory once.
    """

    def __init__(self, root: str, skip: Callable[[str], bool] = lambda _: False, now_ns: Callable[[], int] = time.time_ns) -> None:
        self._root = root
        self._skip = skip
        self._now_ns = now_ns
        self.files: dict[str, Seen] = {}

    def refresh(self) -> set[str]:
        """Look at everything; what was added, removed or changed since, or may have been."""
        return self._compare(self.files, "")

    def look(self, paths: Iterable[str]) -> set[str]:
        """Look at what events speak of: files count as changed whatever they look like, directories are compared."""
        changed: set[str] = set()
        parts: set[str] = set()
        for path in paths:
            if any(map(self._skip, _with_parents(path))):
                continue
            seen = self._see(path)
            if seen or path in self.files:
                changed.add(path)
                self._keep(path, seen)
            else:
                parts.add(path)
        if "" in parts or len(parts) > PARTS_MAX:
            return changed | self.refresh()
        return changed.union(*map(self._part, parts))

    def _part(self, path: str) -> set[str]:
        inside = path + "/"
        return self._compare({known: seen for known, seen in self.files.items() if known.startswith(inside)}, path)

    def _compare(self, before: Mapping[str, Seen], below: str) -> set[str]:
        now = dict(self._walk(below))
        gone = before.keys() - now.keys()
        changed = {path for path, (stamp, _) in now.items() if before.get(path) != (stamp, False)}
        self.files = {path: seen for path, seen in self.files.items() if path not in gone} | now
        return changed | gone

    def _keep(self, path: str, seen: Seen | None) -> None:
        if seen:
            self.files[path] = seen
        else:
            del self.files[path]

    def _see(self, path: str) -> Seen | None:
        """None where there is no file."""
        began_ns = self._now_ns()
        try:
            found = os.stat(self._absolute(path))
        except (OSError, ValueError):
            return None
        return _seen(found, began_ns) if stat.S_ISREG(found.st_mode) else None

    def _absolute(self, path: str) -> str:
        return f"{self._root}/{path}" if path else self._root

    def _walk(self, below: str) -> Iterator[tuple[str, Seen]]:
        began_ns = self._now_ns()
        waiting, visited = [below], set[tuple[int, int]]()
        while waiting:
            folder = waiting.pop()
            with contextlib.suppress(OSError), os.scandir(self._absolute(folder)) as entries:
                for entry in entries:
                    path = f"{folder}/{entry.name}" if folder else entry.name
                    with contextlib.suppress(OSError):
                        found = None if self._skip(path) else entry.stat()
                        if found and stat.S_ISREG(found.st_mode):
                            yield path, _seen(found, began_ns)
                        elif found and stat.S_ISDIR(found.st_mode) and (found.st_dev, found.st_ino) not in visited:
                            visited.add((found.st_dev, found.st_ino))
                            waiting.append(path)


def _seen(found: os.stat_result, at_ns: int) -> Seen:
    stamp = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    return stamp, found.st_ctime_ns >= at_ns - GRAIN_NS


def _with_parents(path: str) -> Iterator[str]:
    while path:
        yield path
        path = path.rpartition("/")[0]
