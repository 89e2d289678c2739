"""The ledger: which purges are complete, and who holds up the others.

Theory
------
Every edge acknowledges cumulatively: its *watermark* W says "everything up to seq W is applied and confirmed here". Purge P is complete when
seq(P) ≤ the lowest watermark of the members that *count*. A member counts unless it is **fenced**: its lease has run out, so
its data plane bypasses the cache by itself. The control side knows that only by waiting: lease length plus a margin for the drift between the two
clocks, both measured here as durations. So a member is in one of three standings:

    fenced ──renew, caught up with all that was called complete──▶ leased ──lease + margin over──▶ expiring ──recorded──▶ fenced
                                                                     ▲───────────renew──────────────┘

An expiring member still counts until the fact that it is fenced is on record (``Save``), so that a restart, which knows nothing but
the records, never takes a status back. A member that comes back counts again from the moment its lease is granted, and it is
granted only at or above ``completed``: what was called complete stays so. Statuses are given only once the ledger has
*recovered*: each member that counts has applied all up to the head as it was at the start, and so all that was ever called complete. A report alone
would not do: an edge that has lost its state begins again at 0. Until then one that was fenced is leased only at or above that head too.

Tiers: a shield must have applied a purge before the edges in front of it do, else they refill from its stale copy. ``released(tier)``
is the lowest watermark of the members before that tier; a shield that comes back is leased only above all that was released
meanwhile without it.

A thousand edges that report often must not cost a thousand looks at a thousand members. So what each report asks for is kept: how many members
stand in the way of ``completed``, who has all of the log, and that the ledger has recovered. That stays so: whoever counts later was leased at or
above ``completed``, and no watermark falls.

Methods take ``now_s``, a monotonic clock of this process in seconds, and return effects for the shell to carry out in order; when one fails, the
rest of its list is dropped.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum


class Standing(StrEnum):
    """What the control side knows of a member's lease."""

    FENCED = "fenced"
    LEASED = "leased"
    EXPIRING = "expiring"


@dataclass(frozen=True, slots=True)
class Record:
    """What must outlive a restart. ``version`` rises with each change; ``token`` is the fencing token of its newest agent.

    ``lease_s``: no lease of it is longer than this; None: than the ledger's own. ``does``: what its driver does exactly, for people.
    ``drained``: a human wants it out of service, so it gets no lease.
    """

    name: str
    tier: int = 0
    fences: bool = True
    fenced: bool = True
    removed: bool = False
    token: int = 0
    version: int = 0
    lease_s: float | None = None
    does: tuple[str, ...] = ()
    drained: bool = False


DRAINED = "it is drained: a human took it out of service"


@dataclass(frozen=True, slots=True)
class Save:
    """Make ``record`` durable, then call :meth:`Ledger.saved`."""

    record: Record


@dataclass(frozen=True, slots=True)
class Grant:
    """Tell the agent that it holds a lease of ``length_s``, counted from when it asked."""

    name: str
    token: int
    length_s: float


@dataclass(frozen=True, slots=True)
class Refuse:
    """Tell the agent that it gets no lease, and why."""

    name: str
    token: int
    reason: str


Effect = Save | Grant | Refuse


@dataclass(frozen=True, slots=True)
class Blocker:
    """An edge that holds up a purge: how far it has come, since when it is behind (``since_s``), and why."""

    name: str
    watermark: int
    since_s: float
    why: str


class Superseded(Exception):
    """The caller's fencing token is not the newest: another agent has taken this edge over."""


@dataclass(slots=True)
class Member:
    """A member as this process knows it. ``until_s`` is the end of its lease with the margin, on this process's clock.

    ``recorded``: the record is durable as it stands.
    """

    record: Record
    standing: Standing
    watermark: int = 0
    until_s: float = 0.0
    reported: bool = False
    recorded: bool = True
    behind_since_s: float = 0.0
    trouble: str = ""

    @property
    def counts(self) -> bool:
        """May it serve from its cache, as far as is on record?"""
        return self.standing is not Standing.FENCED


class Ledger:
    """See the module. ``lease_s`` is what is granted, ``margin_s`` the bound on clock drift over a lease and its transport."""

    def __init__(self, lease_s: float, margin_s: float, records: Iterable[Record] = (), head: int = 0, now_s: float = 0.0) -> None:
        self._lease_s = lease_s
        self._margin_s = margin_s
        self._head = head
        self._started_at = head
        self._completed = 0
        self._released = head  # without a record of what was released before a restart: everything
        self._recovered = False
        self._in_the_way = 0  # members that count and have not more than what is complete, as of the last _advance
        self._level: dict[str, Member] = {}  # those that have all of the log
        self._last_tier = 0
        self.members: dict[str, Member] = {}
        for record in records:  # a lease of unknown age may have been granted just before the restart
            standing = Standing.FENCED if record.fenced else Standing.LEASED
            self._enter(Member(record, standing, until_s=self._lease_end(record, now_s), behind_since_s=now_s))
        self._advance()

    # What is known

    @property
    def completed(self) -> int:
        """Every purge up to this seq is complete. Never falls. Meaningless before :attr:`recovered`."""
        return self._completed

    @property
    def recovered(self) -> bool:
        """Is all that may have been called complete before the start known to be complete? Until then no status may be given."""
        if not self._recovered:
            self._recovered = all(member.watermark >= self._started_at for member in self.members.values() if member.counts)
        return self._recovered

    def released(self, tier: int) -> int | None:
        """The highest seq that members of ``tier`` may apply: all before them have it, or are fenced. None: nothing bounds tier 0."""
        if tier == 0:
            return None
        bound = min([self._head, *(m.watermark for m in self.members.values() if m.counts and m.record.tier < tier)])
        self._released = max(self._released, bound)
        return bound

    def blockers(self, seq: int) -> list[Blocker]:
        """The edges that hold up the purge ``seq``, the longest behind first."""
        behind = [m for m in self.members.values() if m.counts and m.watermark < seq]
        return [Blocker(m.record.name, m.watermark, m.behind_since_s, self._why(m)) for m in sorted(behind, key=lambda m: m.behind_since_s)]

    def next_expiry_s(self) -> float | None:
        """When :meth:`tick` has something to do, on this process's clock."""
        return min((m.until_s for m in self.members.values() if m.standing is Standing.LEASED and m.record.fences), default=None)

    # What happens

    def appended(self, head: int, now_s: float) -> None:
        """The log has grown to ``head``."""
        for member in self._level.values():
            member.behind_since_s = now_s
        self._head = max(self._head, head)
        self._level = {name: member for name, member in self._level.items() if member.watermark >= self._head}
        if not self._in_the_way:
            self._advance()

    def join(  # noqa: PLR0913, PLR0917 - what is known of an edge
        self, name: str, tier: int, fences: bool, now_s: float, lease_s: float | None = None, does: tuple[str, ...] = ()
    ) -> list[Effect]:
        """An agent takes the edge over under a new fencing token (``members[name].record.token``). It holds no lease, but its predecessor may."""
        member = self.members.get(name)
        if member is None:
            member = self._enter(Member(Record(name), Standing.FENCED, behind_since_s=now_s))
        length_s = self._lease_s if lease_s is None else lease_s
        if member.counts:  # a lease of the old length may be in force, and a restart would know nothing but the record
            length_s = max(length_s, self._length_s(member.record))
        save = self._change(member, tier=tier, fences=fences, lease_s=length_s, does=does, removed=False, token=member.record.token + 1)
        self._last_tier = max(m.record.tier for m in self.members.values())
        return [save]

    def report(self, name: str, token: int, watermark: int, trouble: str = "") -> None:
        """The agent acknowledges everything up to ``watermark``; ``trouble`` says what keeps it from going on. Raises :class:`Superseded`."""
        member = self._member(name, token)
        member.reported = True
        member.trouble = trouble
        if watermark > member.watermark:
            self._raise(member, watermark)

    def renew(self, name: str, token: int, watermark: int, now_s: float) -> list[Effect]:
        """The agent asks for a lease, having applied everything up to ``watermark``. Raises :class:`Superseded`."""
        self.report(name, token, watermark)
        member = self.members[name]
        if member.record.drained:
            return [Refuse(name, token, DRAINED)]
        if not self._caught_up(member, watermark):
            return [Refuse(name, token, f"applied up to {watermark}, short of {self._due(member)}, which others count on")]
        member.until_s = self._lease_end(member.record, now_s)
        was, member.standing = member.standing, Standing.LEASED
        if was is not Standing.LEASED:
            self._change(member, fenced=False)
            self._advance()
        return [*self._unrecorded(member), Grant(name, token, self._length_s(member.record))]

    def leave(self, name: str, token: int) -> list[Effect]:
        """The agent has taken the lease from its data plane itself, confirmed. Raises :class:`Superseded`."""
        member = self._member(name, token)
        if not member.counts:
            return []
        member.standing = Standing.EXPIRING
        return [self._change(member, fenced=True)]

    def remove(self, name: str) -> list[Effect]:
        """A human says that this edge is gone for good. One that fences itself counts until its lease is over, any other no longer."""
        member = self.members.get(name)
        if member is None or member.record.removed:
            return []
        if member.counts and not member.record.fences:
            member.standing = Standing.EXPIRING
        fenced = member.record.fenced or not member.record.fences
        return [self._change(member, removed=True, drained=False, fenced=fenced, token=member.record.token + 1)]

    def drain(self, name: str, drained: bool) -> list[Effect]:
        """A human wants the edge out of service, or back: it goes on applying purges, but gets no further lease."""
        member = self.members.get(name)
        if member is None or member.record.drained == drained:
            return []
        return [self._change(member, drained=drained)]

    def tick(self, now_s: float) -> list[Effect]:
        """Fence the members whose lease and margin are over; also repeats what an interrupted shell may not have recorded of others."""
        expired = [m for m in self.members.values() if m.standing is Standing.LEASED and m.record.fences and self._lease_over(m, now_s)]
        for member in expired:
            member.standing = Standing.EXPIRING
            self._change(member, fenced=True)
        return [save for m in self.members.values() if m.standing is Standing.EXPIRING for save in self._unrecorded(m)]

    def saved(self, record: Record) -> None:
        """``record`` is durable. Only now does a fenced member stop counting, unless it was changed again meanwhile."""
        member = self.members.get(record.name)
        if member is None or member.record != record:
            return
        member.recorded = True
        if record.fenced:
            member.standing = Standing.FENCED
            self._advance()

    # Each safeguard is one small method, so that the simulator can take it away

    def _lease_end(self, record: Record, now_s: float) -> float:
        return now_s + self._length_s(record) + self._margin_s

    def _length_s(self, record: Record) -> float:
        return self._lease_s if record.lease_s is None else record.lease_s

    def _lease_over(self, member: Member, now_s: float) -> bool:
        return now_s >= member.until_s

    def _caught_up(self, member: Member, watermark: int) -> bool:
        """By what the edge has now: one that lost its state may have had more."""
        return watermark >= self._due(member)

    def _due(self, member: Member) -> int:
        """What a member must have applied to serve from its cache."""
        in_front = member.record.tier < self._last_tier
        return max(self._completed, self._released) if in_front or not self.recovered else self._completed

    def _member(self, name: str, token: int) -> Member:
        member = self.members.get(name)
        if member is None or member.record.token != token:
            raise Superseded(f"token {token} is not the newest for edge {name!r}")
        return member

    def _enter(self, member: Member) -> Member:
        self.members[member.record.name] = member
        self._last_tier = max(self._last_tier, member.record.tier)
        self._note_level(member)
        return member

    def _note_level(self, member: Member) -> None:
        if member.watermark >= self._head:
            self._level[member.record.name] = member

    def _raise(self, member: Member, watermark: int) -> None:
        if member.counts and member.watermark <= self._completed < watermark:
            self._in_the_way -= 1
        member.watermark = watermark
        self._note_level(member)
        if not self._in_the_way:
            self._advance()

    def _advance(self) -> None:
        counted = [m.watermark for m in self.members.values() if m.counts]
        if self.recovered:
            self._completed = max(self._completed, min([self._head, *counted]))
        self._in_the_way = sum(watermark <= self._completed for watermark in counted)

    @staticmethod
    def _why(member: Member) -> str:
        if member.trouble:
            return member.trouble
        if not member.reported:
            return "has not reported since the service started"
        if not member.record.fences:
            return "cannot fence itself; waiting until it is back or removed"
        return "still applying" if member.standing is Standing.LEASED else "lease is over; recording that it is fenced"

    def _change(self, member: Member, **changes: object) -> Save:
        member.record = replace(member.record, version=member.record.version + 1, **changes)  # type: ignore[arg-type]
        member.recorded = False
        return Save(member.record)

    @staticmethod
    def _unrecorded(member: Member) -> list[Effect]:
        return [] if member.recorded else [Save(member.record)]
