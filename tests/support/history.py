"""What clients saw of a running service, checked as it grows: times, requests and answers, and nothing of its inside.

All times are of one monotonic clock, in seconds. A purge was accepted somewhere between ``sent_s`` and its answer, so content that the
origin read before ``sent_s`` was certainly fetched before it was accepted. Three promises are checked:

- **honest**: a read sent after `Completed` was readable, for a URL that the purge names, holds nothing fetched before the purge was accepted;
- **no loss**: an id that was answered 201 is known for ever, and `Completed` in the end;
- **monotone**: `Completed` never goes back.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Purge:
    """Answered 201. ``selector``: a path, or the beginning of one up to a "/" with a ``*`` behind it."""

    request_id: str
    selector: str
    sent_s: float


@dataclass(frozen=True, slots=True)
class Poll:
    """``status``: what a status request was told; ``unknown`` for the error that says so."""

    request_id: str
    sent_s: float
    answered_s: float
    status: str


@dataclass(frozen=True, slots=True)
class Read:
    """A complete answer of the edge. ``told``: its Cache-Status."""

    path: str
    sent_s: float
    fetched_s: float
    told: str


@dataclass(slots=True)
class _Bound:
    """For one selector: from ``known_s[i]`` on, nothing fetched before ``bound_s[i]`` may be served. Both rise."""

    known_s: list[float] = field(default_factory=list)
    bound_s: list[float] = field(default_factory=list)
    request_ids: list[str] = field(default_factory=list)

    def add(self, purge: Purge, known_s: float) -> None:
        if not self.bound_s or purge.sent_s > self.bound_s[-1]:
            self.known_s.append(known_s)
            self.bound_s.append(purge.sent_s)
            self.request_ids.append(purge.request_id)

    def at(self, sent_s: float) -> tuple[float, str]:
        """What bounds a read sent then: all that was known before."""
        i = bisect_left(self.known_s, sent_s) - 1
        return (self.bound_s[i], self.request_ids[i]) if i >= 0 else (float("-inf"), "")


class History:
    """Tell it everything in the order in which the answers came."""

    def __init__(self) -> None:
        self.violations: list[str] = []
        self.counts: Counter[str] = Counter()
        self.pending: dict[str, Purge] = {}
        """Accepted and never yet seen `Completed`."""
        self.completed_s: dict[str, float] = {}
        """Request id → when its first `Completed` had been read."""
        self._bounds: dict[str, _Bound] = defaultdict(_Bound)

    def accepted(self, purge: Purge) -> None:
        """A 201."""
        self.counts["purges"] += 1
        self.pending[purge.request_id] = purge

    def polled(self, poll: Poll) -> None:
        """An answer to a status request for an accepted id."""
        self.counts["polls"] += 1
        match poll.status:
            case "Completed":
                self._complete(poll)
            case "Pending":
                if self.completed_s.get(poll.request_id, float("inf")) < poll.sent_s:
                    self._violated("monotone", f"{poll.request_id} was Completed at {self.completed_s[poll.request_id]:.6f} and then: {poll}")
            case _:
                self._violated("no loss", f"an accepted id is not known any more: {poll}")

    def read(self, read: Read) -> None:
        """An answer of the edge."""
        self.counts["reads"] += 1
        self.counts["hits"] += "; hit" in read.told
        self.counts["fenced"] += "detail=fenced" in read.told
        bound_s, request_id = max(self._bounds[selector].at(read.sent_s) for selector in selectors_of(read.path))
        if read.fetched_s < bound_s:
            known_s = self.completed_s[request_id]
            self._violated(
                "honest",
                f"{request_id}, sent at {bound_s:.6f}, was Completed {read.sent_s - known_s:.6f} s before this read, "
                f"which was fetched {bound_s - read.fetched_s:.6f} s before the purge was sent: {read}",
            )

    def healed(self, request_ids: Iterable[str]) -> None:
        """Nothing is broken any more, and time enough has passed: now all of these must be complete."""
        for request_id in request_ids:
            if request_id in self.pending:
                self._violated("no loss", f"accepted and never completed: {self.pending[request_id]}")

    def _complete(self, poll: Poll) -> None:
        purge = self.pending.pop(poll.request_id, None)
        if purge is not None:
            self.completed_s[poll.request_id] = poll.answered_s
            self._bounds[purge.selector].add(purge, poll.answered_s)

    def _violated(self, promise: str, how: str) -> None:
        self.counts["violations"] += 1
        self.violations.append(f"{promise}: {how}")


def selectors_of(path: str) -> Iterator[str]:
    """Every selector that names ``path``."""
    yield path
    for i, char in enumerate(path, 1):
        if char == "/":
            yield path[:i] + "*"
