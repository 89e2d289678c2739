"""What has to be purged and is not accepted yet."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from agezero.cli.targets import Target, batches

TARGETS_MAX = 5_000
"""More than this are replaced by the one that names everything below the prefix: wider, and bounded."""


class Outbox:
    """Between the one who finds changes and the one who sends them. What is taken stays in it until it is ``done``, or ``back``."""

    def __init__(self, everything: Target) -> None:
        self._everything = everything
        self._waiting: dict[Target, None] = {}
        self._sending: list[Target] = []
        self._changed = threading.Condition()
        self._closed = False

    def __len__(self) -> int:
        with self._changed:
            return len(self._waiting) + len(self._sending)

    def add(self, found: Iterable[Target]) -> None:
        """Also while the same is being sent: it changed again, so it is sent again."""
        with self._changed:
            self._waiting.update(dict.fromkeys(found))
            if len(self._waiting) > TARGETS_MAX or self._everything in self._waiting:
                self._waiting = {self._everything: None}
            self._changed.notify_all()

    def take(self) -> list[Target]:
        """As many as one request takes; waits for some. Empty once it is closed and there are none."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            self._sending = next(batches(self._waiting), [])
            for target in self._sending:
                del self._waiting[target]
            return list(self._sending)

    def done(self) -> None:
        """What was taken is accepted."""
        with self._changed:
            self._sending = []

    def back(self) -> None:
        """What was taken is not accepted: it comes first the next time."""
        with self._changed:
            self._waiting = dict.fromkeys(self._sending) | self._waiting
            self._sending = []

    def close(self) -> None:
        """Nothing more is added."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
