"""Purges for people: accepted, looked up, listed, waited for. Puts the history of the log, the ledger and the timelines together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from agezero import wire
from agezero.control import ControlNode, MemberView
from agezero.core.request import HARD, does_not_do
from agezero.core.selector import Kind, Selector
from agezero.ports import PurgeHistory, PurgeRecord, StatusUnknown, Submission

SELECTORS_SHOWN = 20
SCAN = 500
SCAN_MAX = 20_000
"""Most purges that one page looks through; a filter that fits few of them gives short pages."""
METHOD = "by "

Sees = Callable[[PurgeRecord], bool]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which purges a list has. ``url``: canonical; those that name it are wanted. ``since_ms``: accepted then or later."""

    state: wire.State | None = None
    tag: str | None = None
    url: str | None = None
    key: str | None = None
    since_ms: int = 0

    def fits(self, record: PurgeRecord) -> bool:
        """All but the state, which the ledger knows."""
        return (
            (self.key is None or record.key_id == self.key)
            and record.accepted_ms >= self.since_ms
            and (self.tag is None or Selector(Kind.TAG, self.tag) in record.selectors)
            and (self.url is None or any(selector.matches(self.url) for selector in record.selectors))
        )


class InvalidCursor(ValueError):
    """The cursor is none that a list was answered with."""


class Journal:
    """One per process."""

    def __init__(self, control: ControlNode, history: PurgeHistory) -> None:
        self.control = control
        self.history = history
        self.progress = control.progress

    async def submit(self, submission: Submission) -> tuple[str, bool]:
        """The id, once all is durable, and whether it had been accepted before. Raises as :meth:`agezero.ports.PurgeLog.append_many` does."""
        accepted = await self.control.submit_many(submission)
        return self.control.ids.seal(accepted.last), accepted.repeated

    def warnings(self, selectors: Sequence[Selector], soft: bool) -> Iterator[str]:
        """Where an edge takes more than was asked for."""
        for member in self._members():
            words = does_not_do(selectors, soft, member.record.does)
            wider = [word for word in words if word != HARD]
            if wider:
                yield f"widened to {' and '.join(wider)} on {member.record.name}"
            if HARD in words:
                yield f"hard on {member.record.name}: it does no soft purges"

    async def find(self, request_id: str, sees: Sees) -> PurgeRecord | int | None:
        """The purge; its seq where retention has removed it; None where there is none for these eyes. Raises :class:`agezero.ports.StatusUnknown`."""
        seq = self.control.ids.open(request_id)
        if seq is None:
            return None
        await self.control.settle(seq)
        record = await self.history.find(seq)
        if record is None:
            if seq > self.progress.completed:  # of another node, so fresh that it is not here yet; retention takes only what is complete
                raise StatusUnknown("the purge can't be read here yet")
            return seq
        return record if sees(record) else None

    async def settled(self, seq: int) -> bool:
        """May the state of purges up to ``seq`` be told now? See :meth:`agezero.control.ControlNode.settle`."""
        try:
            await self.control.settle(seq)
        except StatusUnknown:
            return False
        return True

    def detail(self, found: PurgeRecord | int) -> wire.PurgeDetail:
        """Everything, as it is now."""
        if isinstance(found, int):
            return wire.PurgeDetail(self.control.ids.seal(found), "completed", False, "hard", (), "", "", None, None, None, None, ())
        edges = list(self._edges(found))
        confirmed = sorted(edge.confirmed_at for edge in edges if edge.confirmed_at)
        state, completed_at = self._state(found.last)
        return wire.PurgeDetail(
            self.control.ids.seal(found.last),
            state,
            True,
            _mode(found.soft),
            _named(found.selectors),
            found.note,
            found.key_id,
            text_of(found.accepted_ms),
            confirmed[0] if confirmed else None,
            confirmed[-1] if confirmed and not any(edge.state == "pending" for edge in edges) else None,
            completed_at,
            edges,
        )

    def summary(self, record: PurgeRecord) -> wire.Purge:
        """In short."""
        state, completed_at = self._state(record.last)
        return wire.Purge(
            self.control.ids.seal(record.last),
            state,
            _mode(record.soft),
            _named(record.selectors[:SELECTORS_SHOWN]),
            len(record.selectors),
            record.note,
            record.key_id,
            text_of(record.accepted_ms),
            completed_at,
        )

    async def page(self, wanted: Wanted, sees: Sees, limit: int, cursor: str | None) -> wire.Purges:
        """Newest first. Raises :class:`InvalidCursor`, :class:`agezero.ports.StatusUnknown`, :class:`agezero.ports.LogUnavailable`."""
        await self.control.settle(self.control.log.head)
        seq = self._begin(cursor)
        completed = self.progress.completed
        if wanted.state == "completed":
            seq = min(seq, completed + 1)
        found: list[PurgeRecord] = []
        for _ in range(SCAN_MAX // SCAN):
            records = [each for each in await self.history.before(seq, SCAN) if wanted.state != "pending" or each.last > completed]
            for record in records:
                seq = record.last
                if wanted.fits(record) and sees(record):
                    found.append(record)
                if len(found) == limit:
                    return self._page(found, seq)
            if not records:
                return self._page(found, None)
        return self._page(found, seq)

    def edges(self) -> list[wire.Edge]:
        """The fleet as it is now."""
        return [wire.Edge(each.name, each.state, each.tier, each.watermark, each.lag, each.does, each.trouble) for each in self.control.edges()]

    def _begin(self, cursor: str | None) -> int:
        if cursor is None:
            return self.control.log.head + 1
        seq = self.control.ids.open(cursor)
        if seq is None:
            raise InvalidCursor(cursor)
        return seq

    def _page(self, found: Sequence[PurgeRecord], seq: int | None) -> wire.Purges:
        return wire.Purges([self.summary(record) for record in found], None if seq is None else self.control.ids.seal(seq))

    def _state(self, seq: int) -> tuple[wire.State, str | None]:
        if seq > self.progress.completed:
            return "pending", None
        return "completed", _text_or_none(self.progress.completions.when(seq))

    def _members(self) -> list[MemberView]:
        members = [each for each in self.control.ledger.members.values() if each.counts or not each.record.removed]
        return sorted(members, key=lambda member: (member.record.tier, member.record.name))

    def _edges(self, record: PurgeRecord) -> Iterator[wire.EdgeProgress]:
        why = {blocker.name: blocker.why for blocker in self.control.ledger.blockers(record.last)}
        first_blocked = min((self.control.ledger.members[name].record.tier for name in why), default=0)
        for member in self._members():
            name, tier, does = member.record.name, member.record.tier, member.record.does
            standing: wire.EdgeStanding = "confirmed" if member.watermark >= record.last else "pending" if member.counts else "fenced"
            waits = f"waits for tier {first_blocked}" if tier > first_blocked and not member.trouble else ""
            yield wire.EdgeProgress(
                name,
                tier,
                standing,
                self._confirmed_at(name, record.last),
                next((word.removeprefix(METHOD) for word in does if word.startswith(METHOD)), ""),
                does_not_do(record.selectors, record.soft, does),
                (waits or why.get(name, "")) if standing == "pending" else "",
            )

    def _confirmed_at(self, name: str, seq: int) -> str | None:
        line = self.progress.edges.get(name)
        return None if line is None else _text_or_none(line.when(seq))


def text_of(at_ms: int) -> str:
    """RFC 3339 with milliseconds, in UTC."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _text_or_none(at_ms: int | None) -> str | None:
    return None if at_ms is None else text_of(at_ms)


def _mode(soft: bool) -> wire.Mode:
    return "soft" if soft else "hard"


def _named(selectors: Sequence[Selector]) -> list[wire.Named]:
    return [wire.Named(selector.kind.value, selector.value) for selector in selectors]
