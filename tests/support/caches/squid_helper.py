"""The StoreID helper with a fault, for the tests that show what the guards are for: ``squid_helper.py FAULT TABLE``.

``race``: one key for all epochs. ``fence``: the lease is not looked at. ``quote``: the key is not quoted. ``memory``: it keeps
what it has once read. Anything else is the path of a file: while
it is there, and says ``die`` or ``fail``, the next request makes the helper end, or raise where nothing catches it but the helper itself.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from agezero.edges.readers import TableReader
from agezero.edges.squid.helper import Helper, serve


class Unsafe(TableReader):
    def epoch(self, url: str) -> int | None:
        epoch = super().epoch(url)
        return 0 if sys.argv[1] == "race" and epoch is not None else epoch

    def _live(self, now_ns: int) -> bool:
        return self._mapped is not None if sys.argv[1] == "fence" else super()._live(now_ns)


class Keeping(TableReader):
    """A table in the helper's own memory, in place of the one that all share."""

    def __init__(self, path: Path, look_again_s: float) -> None:
        super().__init__(path, look_again_s)
        self._kept: dict[str, int] = {}

    def epoch(self, url: str) -> int | None:
        epoch = super().epoch(url)
        return epoch if epoch is None else self._kept.setdefault(url, epoch)


class Faulty(TableReader):
    def epoch(self, url: str) -> int | None:
        fault = Path(sys.argv[1])
        if fault.exists():
            kind = fault.read_text()
            fault.unlink()
            if kind == "die":
                os._exit(1)
            raise RuntimeError("as told")
        return super().epoch(url)


READERS = {"race": Unsafe, "fence": Unsafe, "quote": Unsafe, "memory": Keeping}

if __name__ == "__main__":
    helper = Helper(Path(sys.argv[2]))
    helper._table = READERS.get(sys.argv[1], Faulty)(Path(sys.argv[2]), 0.2)
    serve((lambda line: helper.answer(line).replace(b'"', b"")) if sys.argv[1] == "quote" else helper.answer, 0, 1)
