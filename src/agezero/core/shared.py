"""The ledger of several control nodes: what they share, and what each may conclude from it.

Theory
------
The nodes share a *board*: a small store whose writes are put into one order, each conditional on the writer having seen the key's
last entry (compare-and-set). Every node reads all of it, in order. What is not on the board dies with a node: watermarks, which
agents tell to all nodes, over and over, and which only rise under one fencing token.

Two kinds of entries:

- **held**, one per edge: its record, with the token of its newest agent, whether it counts (``not fenced``), and since which entry
  it counts under that token. Each renewal of a lease is such an entry.
- **gate**, one: ``completed``, and what is released to each tier. Neither ever falls. A status reads ``Completed`` by the gate and
  by nothing else.

The rules:

1. *Raise.* A gate is written only over the gate that the writer has seen, with a ``completed`` of at most the lowest watermark of the
   edges that count. What stood on the board before the gate that is replaced was seen, because the board is read in order.
2. *Admit.* An edge that did not count, or has a new agent, is leased in this order: an entry says that it counts; *then* a gate is
   written, by whomever; then its watermark is compared with that gate, and the lease granted at or above it. Every later gate replaces
   that one, so its writer knows that the edge counts (rule 1); every earlier one lies below. So no gate ever lies above what a leased
   edge has applied.
3. *Renew.* A lease is granted only once its entry is on the board.
4. *Fence.* A node writes "fenced" only over the last entry of that edge, and only after lease and margin have passed on its own clock
   since it saw that entry. Had the lease been renewed meanwhile, by any node, that entry would not be the last, and the write fails.

A node that is cut off or paused can write nothing: what it knows is old. What it says of the past stays true, because the gate
never falls.

Methods return what is to be written (:class:`Write`); the state changes only by what is read from the board (``observe``) and by reports.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from agezero.core.ledger import DRAINED, Blocker, Grant, Record, Refuse, Superseded


@dataclass(frozen=True, slots=True)
class Held:
    """An edge's entry. ``since``: the entry from which it counts under its token, 0: this one; ``watermark``: as of the renewal."""

    record: Record
    since: int = 0
    watermark: int = 0


@dataclass(frozen=True, slots=True)
class Gate:
    """``released``: by tier, what its edges may apply; a tier that is not in it may apply what is complete."""

    completed: int
    released: Mapping[int, int] = field(default_factory=dict)
    base: int = 0
    """What may have been released, and been called complete, before there was this board: nothing is leased below."""


@dataclass(frozen=True, slots=True)
class Write:
    """Put ``entry`` on the board if its key's last entry is ``after`` (0: if there is none)."""

    entry: Held | Gate
    after: int


class NotJoined(Exception):
    """The board has no such edge, or no such token yet: the agent has to join (again), or this node has not read far enough."""


class Missed(Exception):
    """An agent that asked to join didn't know of the newest one, whose ``token`` this is; 0: there is none."""

    def __init__(self, name: str, token: int) -> None:
        super().__init__(f"edge {name!r} has another agent since, with the token {token}")
        self.token = token


@dataclass(slots=True)
class Seat:
    """An edge as this node knows it. ``at``: its last entry; ``seen_s``: when that was seen, on this node's clock."""

    record: Record
    at: int
    since: int
    seen_s: float
    watermark: int = 0
    reported: bool = False
    trouble: str = ""
    behind_since_s: float = 0.0

    @property
    def counts(self) -> bool:
        """May it serve from its cache, as far as is on the board?"""
        return not self.record.fenced


class SharedLedger:
    """See the module. ``lease_s``: the usual length of a lease; ``margin_s``: the bound on clock drift over a lease and its transport."""

    def __init__(self, lease_s: float, margin_s: float) -> None:
        self._lease_s = lease_s
        self._margin_s = margin_s
        self.seats: dict[str, Seat] = {}
        self.gate: Gate | None = None
        self.gate_at = 0
        self._tiers: set[int] = set()  # that there has been an edge in, but for 0
        self._hindmost: dict[int | None, Seat] = {}

    # What is known

    @property
    def completed(self) -> int:
        """Every purge up to this seq is complete, and every node will say so that reads the board. Never falls."""
        return self.gate.completed if self.gate else 0

    @property
    def members(self) -> Mapping[str, Seat]:
        """All that ever joined, by name."""
        return self.seats

    def released(self, tier: int) -> int | None:
        """The highest seq that edges of ``tier`` may apply. None: nothing bounds it."""
        return None if tier == 0 else _at(self.gate, tier)

    def counting(self) -> Iterator[Seat]:
        """The edges that hold purges up."""
        return (seat for seat in self.seats.values() if seat.counts)

    def blockers(self, seq: int) -> list[Blocker]:
        """The edges that hold up the purge ``seq``, the longest behind first."""
        behind = [seat for seat in self.counting() if seat.watermark < seq]
        return [Blocker(s.record.name, s.watermark, s.behind_since_s, self._why(s)) for s in sorted(behind, key=lambda s: s.behind_since_s)]

    # What is read

    def observe(self, entry: Held | Gate, at: int, now_s: float) -> None:
        """The next entry on the board."""
        if isinstance(entry, Gate):
            self.gate, self.gate_at = entry, at
            return
        record = entry.record
        seat = self.seats.get(record.name)
        if seat is None or seat.record.token != record.token:  # a watermark belongs to one agent: the next one may have lost its state
            seat = self.seats[record.name] = Seat(record, at, at, now_s, behind_since_s=now_s)
        seat.record, seat.at, seat.since, seat.seen_s = record, at, entry.since or at, now_s
        seat.watermark = max(seat.watermark, entry.watermark)
        if record.tier:
            self._tiers.add(record.tier)

    def report(self, name: str, token: int, watermark: int, trouble: str, now_s: float) -> None:
        """The agent says that everything up to ``watermark`` is applied. Raises :class:`Superseded`, :class:`NotJoined`."""
        seat = self._seat(name, token)
        if watermark > seat.watermark:
            seat.watermark, seat.behind_since_s = watermark, now_s
        seat.reported, seat.trouble = True, trouble

    # What is to be written

    def join(  # noqa: PLR0913, PLR0917 - what is known of an edge
        self, name: str, tier: int, fences: bool, lease_s: float | None, does: tuple[str, ...], after: int | None = None
    ) -> Write:
        """A new agent takes the edge over. It holds no lease, but its predecessor may. Raises :class:`Missed`.

        ``after``: the newest token that it knows of; None: it can't be late.
        """
        seat = self.seats.get(name)
        old = seat.record if seat else Record(name)
        if after is not None and after != old.token:
            raise Missed(name, old.token)
        length_s = self._lease_s if lease_s is None else lease_s
        if not old.fenced:  # a lease of the old length may be in force
            length_s = max(length_s, self._length_s(old))
        changed = replace(old, tier=tier, fences=fences, lease_s=length_s, does=does, removed=False, token=old.token + 1, version=old.version + 1)
        return Write(Held(changed), seat.at if seat else 0)

    def renew(self, name: str, token: int, watermark: int, now_s: float) -> Write | Refuse:
        """The agent asks for a lease. Raises :class:`Superseded`, :class:`NotJoined`. Once written and seen, ask :meth:`granted`."""
        self.report(name, token, watermark, "", now_s)
        seat = self.seats[name]
        if seat.record.drained:
            return Refuse(name, token, DRAINED)
        if refusal := self._short(seat, watermark):
            return refusal
        since = seat.since if seat.counts else 0
        return self._write(seat, Held(replace(seat.record, fenced=False, version=seat.record.version + 1), since, seat.watermark))

    def granted(self, name: str, token: int, watermark: int) -> Grant | Refuse | None:
        """The answer to a renewal that is on the board. None: the gate has to be written first (rule 2)."""
        seat = self._seat(name, token)
        if not seat.counts:
            return Refuse(name, token, "it was fenced meanwhile")
        if not self._admitted(seat):
            return None
        return self._short(seat, watermark) or Grant(name, token, self._length_s(seat.record))

    def leave(self, name: str, token: int) -> Write | None:
        """The data plane has given its lease back, confirmed. Raises :class:`Superseded`, :class:`NotJoined`."""
        seat = self._seat(name, token)
        return self._fence(seat) if seat.counts else None

    def remove(self, name: str) -> Write | None:
        """A human says that this edge is gone for good. One that fences itself counts until its lease is over, any other no longer."""
        seat = self.seats.get(name)
        if seat is None or seat.record.removed:
            return None
        old = seat.record
        fenced = old.fenced or not old.fences
        changed = replace(old, removed=True, drained=False, fenced=fenced, token=old.token + 1, version=old.version + 1)
        return self._write(seat, Held(changed))

    def drain(self, name: str, drained: bool) -> Write | None:
        """A human wants the edge out of service, or back: it goes on applying purges, but gets no lease."""
        seat = self.seats.get(name)
        if seat is None or seat.record.drained == drained:
            return None
        record = replace(seat.record, drained=drained, version=seat.record.version + 1)
        return self._write(seat, Held(record, seat.since if seat.counts else 0, seat.watermark))

    def fences(self, now_s: float) -> list[Write]:
        """The edges whose lease and margin are over."""
        return [self._fence(seat) for seat in self.counting() if seat.record.fences and self._lease_over(seat, now_s)]

    def first(self, head: int, started_at: int) -> Write | None:
        """The first gate of a board that has none, at a time when no edge that fences itself holds a lease: then all before ``head`` is complete,
        but for edges on record that can't fence themselves. None while one of those hasn't said that it has all up to ``started_at``.
        """
        unfenced = [seat.watermark for seat in self.counting() if not seat.record.fences]
        if any(watermark < started_at for watermark in unfenced):
            return None
        return Write(Gate(min((head, *unfenced)), base=head), 0)

    def raised(self, head: int) -> Write | None:
        """The gate, as high as it may be written; None where that is no higher than it is."""
        if self.gate is None:
            return None
        gate = Gate(self._lowest(head, None, self.gate.completed), self._releases(head), self.gate.base)
        return None if gate == self.gate else Write(gate, self.gate_at)

    def touched(self, head: int) -> Write | None:
        """Like :meth:`raised`, but also where nothing rises: a new gate admits the edges that began to count before it."""
        return self.raised(head) or (Write(self.gate, self.gate_at) if self.gate else None)

    # Each safeguard is one small method, so that a test can take it away

    def _lease_over(self, seat: Seat, now_s: float) -> bool:
        return now_s >= seat.seen_s + self._length_s(seat.record) + self._margin_s

    def _admitted(self, seat: Seat) -> bool:
        return self.gate_at > seat.since

    def _write(self, seat: Seat, held: Held) -> Write:
        return Write(held, seat.at)

    def _short(self, seat: Seat, watermark: int) -> Refuse | None:
        if self.gate is None:
            return Refuse(seat.record.name, seat.record.token, "the fleet's records are new; waiting until no edge can hold a lease")
        due = self._due(seat, self.gate)
        if watermark >= due:
            return None
        return Refuse(seat.record.name, seat.record.token, f"applied up to {watermark}, short of {due}, which others count on")

    def _due(self, seat: Seat, gate: Gate) -> int:
        """What an edge must have applied to serve: what was called complete, and what edges in front of it were let apply without it."""
        in_front = (seq for tier, seq in gate.released.items() if tier > seat.record.tier)
        return max(gate.completed, gate.base, *in_front)

    def _lowest(self, head: int, below_tier: int | None, was: int) -> int:
        """An edge that was in the way is looked at first: while it still is, there is no need to look at all the others, for each report."""
        known = self._hindmost.get(below_tier)
        if known is not None and self.seats.get(known.record.name) is known and _bounds(known, below_tier) and known.watermark <= was:
            return was
        hindmost = min((seat for seat in self.counting() if _bounds(seat, below_tier)), key=lambda seat: seat.watermark, default=None)
        if hindmost is None:
            return max(was, head)
        self._hindmost[below_tier] = hindmost
        return max(was, min(head, hindmost.watermark))  # no edge is believed to be beyond the log

    def _releases(self, head: int) -> dict[int, int]:
        tiers = self._tiers | set(self.gate.released if self.gate else ())
        return {tier: self._lowest(head, tier, _at(self.gate, tier)) for tier in sorted(tiers)}

    def _length_s(self, record: Record) -> float:
        return self._lease_s if record.lease_s is None else record.lease_s

    def _fence(self, seat: Seat) -> Write:
        return self._write(seat, Held(replace(seat.record, fenced=True, version=seat.record.version + 1), 0, seat.watermark))

    def _seat(self, name: str, token: int) -> Seat:
        seat = self.seats.get(name)
        if seat is None or seat.record.token < token:
            raise NotJoined(f"token {token} of edge {name!r} is not on the board")
        if seat.record.token > token:
            raise Superseded(f"token {token} is not the newest for edge {name!r}")
        return seat

    @staticmethod
    def _why(seat: Seat) -> str:
        if seat.trouble:
            return seat.trouble
        if not seat.record.fences:
            return "cannot fence itself; waiting until it is back or removed"
        return "still applying" if seat.reported else "has not reported to this control node"


def _bounds(seat: Seat, below_tier: int | None) -> bool:
    return seat.counts and (below_tier is None or seat.record.tier < below_tier)


def _at(gate: Gate | None, tier: int) -> int:
    """What a tier may apply. One that is new to the gate: what is complete, for all edges that count have that, and the others come back above it."""
    return 0 if gate is None else gate.released.get(tier, gate.completed)
