"""The follower: an edge's agent as a state machine. Events in, effects out (:mod:`agezero.core.steps`).

Theory
------
The follower reads the log in order and hands batches to its edge's driver, several at a time. The *watermark* is the end of the
confirmed prefix: it moves over a batch only when that batch and all before it are confirmed. The order is fixed: apply, save the watermark,
acknowledge it; a crash between any two repeats work and loses none.

The edge may serve from its cache only under a lease, and the follower asks for one only when it has caught up with the log's
head as it was when it wanted to ask (the *goal*; under load the head itself runs away). If the edge fails or falls behind, the lease
runs out by itself in the data plane.

What comes before the first lease depends on *what the cache may hold*. If only the cache lost its table (a new boot id), the saved one
is loaded again (``Restore``), where the driver has one. If the log may have grown without us (its floor is above our watermark, its
epoch is another), or our own copy of the table is in doubt, nothing is known and everything is purged (``PurgeEverything``).

The transition table at the bottom of this file is total; ``docs/PROTOCOL.md`` draws its picture from it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from agezero.core.position import Position
from agezero.core.purge import Purge
from agezero.core.selector import EVERYTHING, Kind, Selector, widen
from agezero.core.steps import (
    Acknowledge,
    Apply,
    DriverDone,
    DriverFailed,
    EdgeRestarted,
    Effect,
    Event,
    HeadKnown,
    Install,
    LeaseGranted,
    LeaseLost,
    Probe,
    PurgeEverything,
    Read,
    Records,
    Renew,
    Restore,
    SaveWatermark,
    Sleep,
    Tick,
)


class State(StrEnum):
    """Where the follower stands."""

    JOINING = "joining"
    """The log and the cache are not both known yet."""
    RESETTING = "resetting"
    """The cache gets its table back, or loses everything."""
    REPLAYING = "replaying"
    """Catching up before the first lease."""
    FOLLOWING = "following"
    """The cache holds a lease."""
    FENCED = "fenced"
    """The lease ran out; catching up for the next one."""
    BACKING_OFF = "backing_off"
    """The cache did not confirm something; a probe comes next."""


ACTIVE = frozenset({State.REPLAYING, State.FOLLOWING, State.FENCED})
"""The states in which the log is read and applied and leases are asked for."""


@dataclass(frozen=True, slots=True)
class Limits:
    """``batch_max`` purges in an Apply, ``window`` of them at a time; back-off doubles from ``retry_min_s`` to ``retry_max_s``."""

    batch_max: int = 1000
    window: int = 2
    retry_min_s: float = 0.05
    retry_max_s: float = 2.0
    renew_part: float = 1 / 3
    """A lease is renewed once this part of it has passed."""


@dataclass(slots=True)
class _Batch:
    """Purges on their way. ``last``: the seq that the watermark moves to; ``step`` None: failed, to be tried again."""

    last: int
    purges: tuple[Purge, ...]
    step: int | None
    done: bool = False


@dataclass(slots=True)
class _Lease:
    until_s: float = 0.0
    ask_at_s: float = 0.0
    asking: bool = False
    goal: int | None = None


DriverStep = Probe | Apply | PurgeEverything | Restore | Install


@dataclass(slots=True)
class Follower:
    """See the module. ``exact``: the kinds that the driver does exactly; ``restores``: it keeps a durable table that it can load again.

    ``soft``: it does soft purges; else they are made hard.
    """

    position: Position
    exact: frozenset[Kind]
    restores: bool = True
    limits: Limits = field(default_factory=Limits)
    soft: bool = False
    state: State = State.JOINING
    _log: HeadKnown | None = None
    _loaded: str = ""  # boot id of the cache whose table is complete
    _seen: str = ""  # boot id of the cache as last heard of
    _steps: int = 0
    _expected: dict[int, DriverStep] = field(default_factory=dict)
    _batches: list[_Batch] = field(default_factory=list)
    _reading: int | None = None  # where the Read that is under way begins
    _failures: int = 0
    _retry_at_s: float = 0.0
    _lease: _Lease = field(default_factory=_Lease)

    @property
    def watermark(self) -> int:
        """Everything up to here is applied and confirmed."""
        return self.position.watermark

    def start(self) -> list[Effect]:
        """The first effects. The shell also sends a first HeadKnown."""
        return [self._ask(Probe(self._next()))]

    def handle(self, event: Event, now_s: float) -> list[Effect]:
        """Take one event at ``now_s`` (monotonic, seconds); returns what is to be done, in order."""
        if self.state is State.FOLLOWING and self._lease_over(now_s):
            self.state = State.FENCED
        return _TRANSITIONS[self.state][type(event)](self, event, now_s)

    def wake_at_s(self) -> float | None:
        """When a Tick is due at the latest, apart from what Sleep asks for."""
        if self.state is not State.FOLLOWING:
            return None
        under_way = self._lease.asking or self._lease.goal is not None or self._installing()
        return self._lease.until_s if under_way else self._lease.ask_at_s

    # What may the cache hold?

    def _learn_log(self, event: HeadKnown, now_s: float) -> list[Effect]:
        self._log = event
        return self._settle(now_s)

    def _note_log(self, event: HeadKnown, now_s: float) -> list[Effect]:  # noqa: ARG002
        self._log = event
        return []

    def _follow_log(self, event: HeadKnown, now_s: float) -> list[Effect]:
        self._log = event
        self._reading = None  # a Read is answered by HeadKnown where retention was faster
        return self._settle(now_s)

    def _learn_boot(self, event: EdgeRestarted, now_s: float) -> list[Effect]:
        self._expected = {step: asked for step, asked in self._expected.items() if not isinstance(asked, Probe)}
        self._seen = event.boot_id
        return self._settle(now_s)

    def _settle(self, now_s: float) -> list[Effect]:
        """Once log and cache are known: what must happen before the next purge is applied?"""
        if self._log is None or not self._seen:
            self.state = State.JOINING
            return []
        if self.restores and self._cache_restarted():
            return self._reset(Restore(self._next(), self._seen))
        reason = self._doubt() or self._epoch_changed(self._log) or self._below_floor(self._log) or self._cache_restarted()
        if reason:
            seq = max(self.watermark, self._released(self._log.head))
            if seq < self._log.floor:  # the edges behind are not so far: purging now would only have to be done again
                return self._back_off(f"{reason}; waiting for the tier before this one", now_s)
            self.position = replace(self.position, doubt=reason)  # until it is done, whatever else is heard meanwhile
            return self._reset(PurgeEverything(self._next(), seq, self._log.epoch, reason))
        if self.state not in ACTIVE:
            self.state = State.REPLAYING if self._lease_over(now_s) else State.FOLLOWING
        return [*self._retry_batches(), *self._go_on(now_s)]

    def _doubt(self) -> str:
        return self.position.doubt

    def _epoch_changed(self, log: HeadKnown) -> str:
        return "" if self.position.epoch == log.epoch else "this is not the log that was followed before"

    def _below_floor(self, log: HeadKnown) -> str:
        return "retention has removed entries that were not applied here" if self.watermark < log.floor else ""

    def _cache_restarted(self) -> str:
        return "" if self._seen == self._loaded else "the cache has restarted"

    def _reset(self, step: Restore | PurgeEverything) -> list[Effect]:
        self.state = State.RESETTING
        self._batches.clear()
        self._expected.clear()
        self._reading = None
        self._lease = _Lease()
        return [self._ask(step)]

    # Apply, save, acknowledge

    def _apply(self, event: Records, now_s: float) -> list[Effect]:
        if self._gap(event):
            return []
        self._reading = None
        purges = self._fitted(self._allowed(event.purges))
        if not purges:
            return self._go_on(now_s)
        batch = _Batch(purges[-1].seq, purges, self._next())
        self._batches.append(batch)
        return [self._ask(Apply(self._steps, purges)), *self._go_on(now_s)]

    def _gap(self, event: Records) -> bool:
        """Not the answer to the Read that is under way: what lies between would be skipped, or done twice."""
        return event.after != self._reading

    def _allowed(self, purges: Sequence[Purge]) -> Sequence[Purge]:
        """Those that this edge's tier may apply. They stand in the log's order, so the last one decides for all."""
        if not purges or purges[-1].seq <= self._released(purges[-1].seq):
            return purges
        return [purge for purge in purges if purge.seq <= self._released(purge.seq)]

    def _fitted(self, purges: Sequence[Purge]) -> tuple[Purge, ...]:
        """As the driver does them. Most need no change: those, many edges of one process share, where a copy for each would be most of the work."""
        if {purge.selector.kind for purge in purges} <= self.exact and (self.soft or True not in {purge.soft for purge in purges}):
            return tuple(purges)
        return tuple(Purge(purge.seq, self._within(purge.selector), purge.soft and self.soft, purge.trace) for purge in purges)

    def _released(self, seq: int) -> int:
        """``seq``, or the highest below it that this edge's tier may apply."""
        assert self._log is not None
        return seq if self._log.released is None else min(seq, self._log.released)

    def _within(self, selector: Selector) -> Selector:
        """The narrowest selector the driver does exactly that covers this one."""
        while selector.kind not in self.exact and selector.kind is not Kind.EVERYTHING:
            selector = widen(selector)
        return selector

    def _done(self, event: DriverDone, now_s: float) -> list[Effect]:
        asked = self._expected.pop(event.step, None)
        if asked is None:  # of a time before a reset
            return []
        self._failures = 0
        match asked:
            case Apply():
                return [*self._confirm(event.step), *self._go_on(now_s)]
            case Restore():
                self._loaded = asked.boot_id
                return self._settle(now_s)
            case PurgeEverything():
                self._loaded = self._seen
                return [*self._move(Position(asked.seq, asked.epoch)), *self._settle(now_s)]
            case Install():
                self._installed(asked, now_s)
        return self._go_on(now_s)

    def _installed(self, asked: Install, now_s: float) -> None:
        self._lease.until_s = asked.asked_at_s + asked.length_s
        self._lease.ask_at_s = asked.asked_at_s + asked.length_s * self.limits.renew_part
        if self.state in ACTIVE and not self._lease_over(now_s):
            self.state = State.FOLLOWING

    def _confirm(self, step: int) -> list[Effect]:
        for batch in self._batches:
            batch.done |= batch.step == step
        confirmed = 0
        while self._batches and self._batches[0].done:
            confirmed = self._batches.pop(0).last
        return self._move(Position(confirmed, self.position.epoch)) if confirmed else []

    def _move(self, position: Position) -> list[Effect]:
        self.position = position
        return [SaveWatermark(position.watermark, position.epoch), Acknowledge(position.watermark)]

    # When the cache does not confirm

    def _failed(self, event: DriverFailed, now_s: float) -> list[Effect]:
        asked = self._expected.pop(event.step, None)
        if asked is None:
            return []
        if isinstance(asked, Apply):
            batch = next(batch for batch in self._batches if batch.step == event.step)
            batch.step = None
            if event.refused and any(purge.selector != EVERYTHING or purge.soft for purge in batch.purges):
                batch.purges = tuple(Purge(purge.seq, self._within(widen(purge.selector)), trace=purge.trace) for purge in batch.purges)
                return self._retry_batches() if self.state in ACTIVE else []
        return self._back_off(event.error, now_s)

    def _back_off(self, error: str, now_s: float) -> list[Effect]:
        delay_s = min(self.limits.retry_min_s * 2**self._failures, self.limits.retry_max_s)
        self._failures = min(self._failures + 1, 30)
        self._retry_at_s = now_s + delay_s / 2
        self.state = State.BACKING_OFF
        self._reading = None
        return [Acknowledge(self.watermark, error), Sleep(delay_s / 2, delay_s)]

    def _probe(self, event: Tick, now_s: float) -> list[Effect]:  # noqa: ARG002
        if now_s < self._retry_at_s or any(isinstance(asked, Probe) for asked in self._expected.values()):
            return []
        return [self._ask(Probe(self._next()))]

    def _retry_batches(self) -> list[Effect]:
        effects: list[Effect] = []
        for batch in self._batches:
            if batch.step is None:
                batch.step = self._next()
                effects.append(self._ask(Apply(batch.step, batch.purges)))
        return effects

    # Leases

    def _leased(self, event: LeaseGranted, now_s: float) -> list[Effect]:
        self._lease.asking = False
        return [self._ask(Install(self._next(), event.asked_at_s, event.length_s)), *self._go_on(now_s)]

    def _not_leased(self, event: LeaseLost, now_s: float) -> list[Effect]:
        self._lease.asking = False
        self._lease.ask_at_s = now_s + self.limits.retry_min_s
        return [Acknowledge(self.watermark, event.reason), Sleep(self.limits.retry_min_s, 2 * self.limits.retry_min_s)]

    def _lease_over(self, now_s: float) -> bool:
        return now_s >= self._lease.until_s

    def _renew(self, now_s: float) -> list[Effect]:
        lease = self._lease
        if lease.asking or self._installing() or now_s < lease.ask_at_s:
            return []
        if lease.goal is None:
            assert self._log is not None
            lease.goal = self._released(max(self._log.head, self._cursor()))
        if not self._caught_up(self._released(lease.goal)):  # what is released may have fallen since: the control side has restarted
            return []
        lease.goal, lease.asking = None, True
        return [Renew(self.watermark)]

    def _installing(self) -> bool:
        return any(isinstance(asked, Install) for asked in self._expected.values())

    def _caught_up(self, goal: int) -> bool:
        return self.watermark >= goal

    # Common to all

    def _go_on(self, now_s: float) -> list[Effect]:
        """Read and renew, where this is the time for it."""
        if self.state not in ACTIVE:
            return []
        return [*self._read(), *self._renew(now_s)]

    def _read(self) -> list[Effect]:
        assert self._log is not None
        held_back = self._log.released is not None and self._cursor() >= self._log.released
        if self._reading is not None or held_back or len(self._batches) >= self.limits.window:
            return []
        self._reading = self._cursor()
        return [Read(self._reading, self.limits.batch_max)]

    def _tick(self, event: Tick, now_s: float) -> list[Effect]:  # noqa: ARG002
        return self._go_on(now_s)

    def _ignore(self, event: Event, now_s: float) -> list[Effect]:  # noqa: ARG002
        return []

    def _not_now(self, event: LeaseGranted | LeaseLost, now_s: float) -> list[Effect]:  # noqa: ARG002
        self._lease.asking = False
        return []

    def _cursor(self) -> int:
        """The highest seq on its way."""
        return self._batches[-1].last if self._batches else self.watermark

    def _next(self) -> int:
        self._steps += 1
        return self._steps

    def _ask(self, step: DriverStep) -> DriverStep:
        self._expected[step.step] = step
        return step


# fmt: off
_F = Follower
_EVENTS = (HeadKnown, Records, DriverDone, DriverFailed, EdgeRestarted, LeaseGranted, LeaseLost, Tick)
_ROWS = {
    #                   HeadKnown       Records     DriverDone DriverFailed EdgeRestarted  LeaseGranted LeaseLost      Tick
    State.JOINING:     (_F._learn_log,  _F._ignore, _F._done,  _F._failed,  _F._learn_boot, _F._not_now, _F._not_now,    _F._ignore),
    State.RESETTING:   (_F._note_log,   _F._ignore, _F._done,  _F._failed,  _F._learn_boot, _F._not_now, _F._not_now,    _F._ignore),
    State.REPLAYING:   (_F._follow_log, _F._apply,  _F._done,  _F._failed,  _F._learn_boot, _F._leased,  _F._not_leased, _F._tick),
    State.FOLLOWING:   (_F._follow_log, _F._apply,  _F._done,  _F._failed,  _F._learn_boot, _F._leased,  _F._not_leased, _F._tick),
    State.FENCED:      (_F._follow_log, _F._apply,  _F._done,  _F._failed,  _F._learn_boot, _F._leased,  _F._not_leased, _F._tick),
    State.BACKING_OFF: (_F._note_log,   _F._ignore, _F._done,  _F._failed,  _F._learn_boot, _F._not_now, _F._not_now,    _F._probe),
}
# fmt: on
Handler = Callable[[Follower, Event, float], list[Effect]]
_TRANSITIONS: dict[State, dict[type, Handler]] = {state: dict(zip(_EVENTS, row, strict=True)) for state, row in _ROWS.items()}  # type: ignore[arg-type]
