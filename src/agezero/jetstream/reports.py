"""How agents tell how far their edges are: in one message for all edges of a host that have something to say.

``agezero.report.EDGE`` speaks of one edge. ``agezero.report.HOST.+`` speaks of edges whose names begin with ``HOST.``, and names them by what follows
that. No edge's name has a ``+``, and whoever may publish there because of ``agezero.report.HOST.>`` may speak for each of those edges alone as well:
so a message can't speak for an edge of another host, whatever stands in it, and no permission beyond that one is needed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import msgspec

from agezero.jetstream.names import REPORTS, edge_of, token

SETTLE_S = 0.00002
"""So long, for each further edge of the host, a report waits for theirs: they are about to apply the same purges."""
EDGES_MAX = 2_000
"""In one message: 100 bytes each, far below what a server takes."""
_ALL = "+"


class Report(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Everything up to ``watermark`` is applied."""

    token: int
    watermark: int
    trouble: str = ""


_ONE = msgspec.json.Decoder(Report)
_MANY = msgspec.json.Decoder(dict[str, Report])


def group_of(edge: str) -> str:
    """Before the names of the edges that are told of together, ``HOST.``; the name itself, where it has no host."""
    host, dot, _ = token(edge).rpartition(".")
    return host + dot or edge


def encode(reports: Mapping[str, Report]) -> tuple[str, bytes]:
    """Subject and message for edges of one group."""
    names = list(reports)
    if len(names) == 1:
        return REPORTS + token(names[0]), msgspec.json.encode(reports[names[0]])
    group = group_of(names[0])
    return f"{REPORTS}{group}{_ALL}", msgspec.json.encode({name.removeprefix(group): report for name, report in reports.items()})


def decode(subject: str, data: bytes) -> Iterator[tuple[str, Report]]:
    """The opposite: edges and their reports. Raises ``msgspec.MsgspecError``."""
    place = subject.removeprefix(REPORTS)
    if not place.endswith(f".{_ALL}"):
        return iter([(edge_of(place), _ONE.decode(data))])
    group = place.removesuffix(_ALL)
    return ((group + name, report) for name, report in _MANY.decode(data).items())


@dataclass(slots=True)
class Reporter:
    """What an edge has to say. ``said``: the last report that went out; before ``next_s`` none goes out for its sake."""

    name: str
    outbox: Outbox
    due: Report | None = None
    said: Report | None = None
    next_s: float = 0.0
    superseded: str = ""
    unknown: str = ""

    def say(self, report: Report) -> None:
        """Soon, and once: what it says later takes the place of what hasn't gone out."""
        self.due = report
        self.outbox.schedule(self)


@dataclass(slots=True)
class Outbox:
    """Of a group of edges. ``send`` gets what is due, at most every ``report_s`` for the sake of one edge."""

    report_s: float
    send: Callable[[Mapping[str, Report]], None]
    edges: dict[str, Reporter] = field(default_factory=dict)
    _due: dict[str, Reporter] = field(default_factory=dict)
    _at_s: float = 0.0
    _timer: asyncio.TimerHandle | None = None

    @property
    def busy(self) -> bool:
        """Is something due?"""
        return self._timer is not None

    def enter(self, name: str) -> Reporter:
        """The edge has a new agent: it has said nothing yet."""
        self._due.pop(name, None)
        reporter = self.edges[name] = Reporter(name, self)
        return reporter

    def schedule(self, reporter: Reporter) -> None:
        """It has something to say."""
        self._due[reporter.name] = reporter
        now_s = time.monotonic()
        at_s = max(now_s + min(self.report_s, SETTLE_S * (len(self.edges) - 1)), reporter.next_s)
        if self._timer is not None:
            if self._at_s <= at_s:
                return
            self._timer.cancel()
        self._at_s, self._timer = at_s, asyncio.get_running_loop().call_later(max(0.0, at_s - now_s), self._empty)

    def _empty(self) -> None:
        """All that is due, also of edges that would have had to wait: the message goes out anyway."""
        self._timer, due, self._due = None, self._due, {}
        next_s, reports = time.monotonic() + self.report_s, dict[str, Report]()
        for name, reporter in due.items():
            report, reporter.due = reporter.due, None
            if report is not None and report != reporter.said:
                reporter.said, reporter.next_s = report, next_s
                reports[name] = report
        names = list(reports)
        for first in range(0, len(names), EDGES_MAX):
            self.send({name: reports[name] for name in names[first : first + EDGES_MAX]})
