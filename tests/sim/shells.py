"""The agent's shell in the simulation: the real follower, and what is durable at its edge."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from agezero.core.epochs import EpochTable, Gates, Write
from agezero.core.follower import Follower, Limits, State
from agezero.core.position import Position
from agezero.core.purge import Purge
from agezero.core.selector import EVERYTHING, Kind
from agezero.core.steps import (
    Acknowledge,
    Apply,
    DriverDone,
    DriverFailed,
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
from sim.cache import SLOTS, Cache, NativeCache, TableCache, TablePart
from sim.network import Network
from sim.parts import Parts
from sim.simlog import READ_TIMEOUT_S, SimLog
from sim.world import Actor, World

if TYPE_CHECKING:
    from sim.checker import Checker
    from sim.control import Control

LIMITS = Limits(batch_max=3)
STEP_TIMEOUT_S = 1.0
ASK_TIMEOUT_S = 1.0
SETTLE_S = 0.4
OVERDUE_S = 1.5
"""With the longest lease that comes after it less than YOUNG_S."""


@dataclass(slots=True)
class Disk:
    """An agent's durable state: its position and its copy of the purge table."""

    table: EpochTable
    position: Position = field(default_factory=Position)
    boot: str = ""
    """Boot id of the cache for which the position is true, where the cache itself keeps what was purged."""
    unsettled: bool = False
    """Something that was purged there has yet to be purged again."""
    earlier: list[Position] = field(default_factory=list)
    rolled_back: bool = False

    def save(self, position: Position) -> None:
        """Survives the process; the machine only perhaps."""
        self.earlier = [*self.earlier[-1:], self.position]
        self.position = position

    def crashed(self, back: int) -> None:
        """The newest ``back`` positions are lost."""
        kept = [*self.earlier, self.position][: max(1, 1 + len(self.earlier) - back)]
        self.rolled_back = True
        self.earlier, self.position = [], replace(kept[-1], doubt="the machine has crashed")


@dataclass(slots=True)
class Edge:
    """A cache and whoever speaks for it."""

    name: str
    tier: int
    exact: frozenset[Kind]
    cache: Cache
    disk: Disk
    agent: Agent | None = None
    agents: int = 0

    @property
    def has_table(self) -> bool:
        return isinstance(self.cache, TableCache)

    @property
    def restores(self) -> bool:
        """Can it go on where it was?"""
        return self.has_table or (isinstance(self.cache, NativeCache) and self.cache.keeps)


@dataclass(slots=True)
class Services:
    """What every agent talks to."""

    world: World
    network: Network
    parts: Parts
    checker: Checker
    log: SimLog
    control: Control


class Agent(Actor):
    """Carries out the follower's effects in order. A crash may come between any two of them."""

    def __init__(self, services: Services, edge: Edge, disk: Disk) -> None:
        edge.agents += 1
        super().__init__(services.world, f"{edge.name}/agent{edge.agents}", edge.cache.rate)
        self.network, self.services, self.edge, self.disk = services.network, services, edge, disk
        self.crash_chance = 0.0
        self.start()

    def start(self) -> None:
        self.up = True
        self.life += 1
        self.follower: Follower | None = None
        self.token = 0
        self._released: int | None = None
        self._request = 0
        self._asked_at_s = 0.0
        self._answered = True
        self._reads = 0
        self._wake_at_s: float | None = None
        self._emptied: dict[int, str] = {}
        """Steps that purge everything → boot id of the cache that it is asked of."""
        self._given: dict[int, tuple[Purge, ...]] = {}
        self._unsettled: dict[int, tuple[float, tuple[Purge, ...]]] = {}
        """Purges that are confirmed, by their step, and when that was; each is to be given again."""
        self._join()

    @property
    def leading(self) -> bool:
        """Does its edge serve from the cache under its lease?"""
        return self.up and self.follower is not None and self.follower.state is State.FOLLOWING

    # Joining

    def _join(self) -> None:
        if self.follower is not None:
            return
        control = self.services.control
        self._request += 1
        self.network.send(self, control, "join", control.join, self, self.life, self._request)
        self.after(ASK_TIMEOUT_S, "join again", self._join)

    def joined(self, request: int, token: int, head: int, floor: int, epoch: str, released: int | None) -> None:
        """The control side has it on record that this agent speaks for the edge."""
        if self.follower is not None or request != self._request:
            return
        self.token = token
        self.follower = self.services.parts.follower(self.disk.position, self.edge.exact, self.edge.restores, LIMITS)
        if not self.follower.position.doubt:
            self._acknowledge(Acknowledge(self.follower.watermark))
        self._carry_out(self.follower.start())
        self.head_known(head, floor, epoch, released)

    def superseded(self) -> None:
        """Another agent speaks for the edge: end. The one that the edge is meant to have tries again."""
        self.end()
        if self.edge.agent is self:
            self.world.schedule(0.5, self.services.log, self.services.log.life, "agent starts again", self.again)

    def again(self) -> None:
        if not self.up and self.edge.agent is self:
            self.start()

    # Events

    def head_known(self, head: int, floor: int, epoch: str, released: int | None) -> None:
        if released is not None:
            self._released = released
        self.handle(HeadKnown(head, floor, epoch, self._released if self.edge.tier else None))

    def leased(self, request: int, length_s: float | None, head: int, floor: int, epoch: str, released: int | None) -> None:
        """The answer to a renewal, unless it comes too late."""
        self.head_known(head, floor, epoch, released)
        if self.up and request == self._request and not self._answered:
            self._answered = True
            self.handle(LeaseLost("refused") if length_s is None else LeaseGranted(self._asked_at_s, length_s))

    def handle(self, event: Event) -> None:
        """Give the follower an event, do what it says."""
        follower = self.follower
        if follower is None or not self.up:
            return
        if isinstance(event, DriverDone):
            self._confirmed(event.step)
        marks = self.world.marks
        state = follower.state
        marks.add(f"{state.value} + {type(event).__name__}")
        effects = follower.handle(event, self.clock_s())
        if follower.state is not state:
            marks.add(f"{state.value} → {follower.state.value}")
        self.services.checker.followed(self.edge.name, follower)
        if effects:
            self._carry_out(effects)
        self._arm()

    def _arm(self) -> None:
        if self.follower is None or not self.up:
            return
        at_s = self.follower.wake_at_s()
        if at_s is not None and at_s != self._wake_at_s:
            self._wake_at_s = at_s
            self.after(at_s - self.clock_s(), "wake", self._wake, at_s)

    def _wake(self, at_s: float) -> None:
        if at_s == self._wake_at_s:
            self._wake_at_s = None
            self.handle(Tick())

    # Effects

    def _carry_out(self, effects: list[Effect]) -> None:
        life = self.life
        for effect in effects:
            if self.crash_chance and self.world.faulty and self.world.fault.chance(self.crash_chance):
                self.world.mark(f"agent crashed before {type(effect).__name__}")
                self.world.note(f"{self.name}: crash before {effect}")
                self.end()
                self.world.schedule(self.world.fault.between(0.05, 4.0), self.services.log, self.services.log.life, "agent starts again", self.again)
            if self.life != life:
                return
            if self.world.trace is not None:
                self.world.note(f"  {self.name} {effect}")
            _DO[type(effect)](self, effect)

    def _read(self, effect: Read) -> None:
        self._reads += 1
        log = self.services.log
        self.network.send(self, log, "read", log.read, self, self.life, effect.after, effect.limit)
        self.after(READ_TIMEOUT_S, "read timed out", self._read_timed_out, self._reads, effect.after)

    def _read_timed_out(self, number: int, after: int) -> None:
        if number == self._reads:
            self.handle(Records(after, ()))

    def _renew(self, effect: Renew) -> None:
        self._request += 1
        self._asked_at_s, self._answered = self.clock_s(), False
        control = self.services.control
        self.network.send(self, control, "renew", control.renew, self, self.life, self.token, effect.watermark, self._request)
        self.after(ASK_TIMEOUT_S, "renewal timed out", self._renewal_timed_out, self._request)

    def _renewal_timed_out(self, request: int) -> None:
        if request == self._request and not self._answered:
            self._answered = True
            self.handle(LeaseLost("nobody answered"))

    def _save(self, effect: SaveWatermark) -> None:
        self.disk.save(Position(effect.watermark, effect.epoch))
        self.services.checker.saved(self.edge, self.disk, effect.watermark)

    def _acknowledge(self, effect: Acknowledge) -> None:
        control = self.services.control
        self.network.send(self, control, "report", control.report, self, self.life, self.token, effect.watermark, effect.trouble)

    def _sleep(self, effect: Sleep) -> None:
        self.after(self.world.order.between(effect.min_s, effect.max_s), "tick", self.handle, Tick())

    def _drive(self, step: Probe | Apply | PurgeEverything | Restore | Install) -> None:
        cache = self.edge.cache
        part = self._write(step) if self.edge.has_table else None
        step = step if self.edge.has_table else self._natively(step)
        if isinstance(step, Install) and self._overdue:
            self.world.mark("driver refused a lease over an unsettled purge")
            self.after(0.0, "overdue", self.handle, DriverFailed(step.step, "unsettled for too long"))
            return
        self.network.send(self, cache, "driver step", cache.perform, self, self.life, self.token, step, part, life=cache.life)
        if not self.services.parts.confirmed and isinstance(step, Apply | PurgeEverything):
            self.after(0.0, "not waited for", self.handle, DriverDone(step.step))
        self.after(STEP_TIMEOUT_S, "step timed out", self.handle, DriverFailed(step.step, "timed out"))

    def _confirmed(self, step: int) -> None:
        """What Varnish's driver does before anybody else hears of it."""
        if step in self._emptied:
            self.disk.boot = self._emptied.pop(step)
        purges = self._given.pop(step, None)
        if purges and self.services.parts.settles:
            self._unsettled[step] = (self.world.now_s, purges)
            self.disk.unsettled = True
            self.after(SETTLE_S, "settle", self._settle, step)

    def _settle(self, step: int) -> None:
        if step not in self._unsettled:
            return
        given_s, purges = self._unsettled[step]
        cache = self.edge.cache
        assert isinstance(cache, NativeCache)
        self.network.send(self, cache, "settle", cache.settle, self, self.life, self.token, step, purges, given_s)
        self.after(SETTLE_S, "settle again", self._settle, step)

    def settled(self, step: int) -> None:
        """The cache has done it."""
        self._unsettled.pop(step, None)
        if not self._unsettled:
            self.disk.unsettled = False

    @property
    def _overdue(self) -> bool:
        return any(self.world.now_s - given_s > OVERDUE_S for given_s, _ in self._unsettled.values())

    def _natively(self, step: Probe | Apply | PurgeEverything | Restore | Install) -> Probe | Apply | PurgeEverything | Restore | Install:
        """As Varnish's driver restores: nothing is to be done, unless the cache has restarted since. Then everything is purged."""
        restarted = self.services.parts.boot_on_record and isinstance(step, Restore) and self.disk.boot != step.boot_id
        if isinstance(step, Restore) and (restarted or self.disk.unsettled):
            step = PurgeEverything(step.step, 0, "", "the cache has restarted")
        if isinstance(step, PurgeEverything):
            assert self.follower is not None
            self._emptied[step.step] = self.follower._seen
            self._given[step.step] = (Purge(step.seq, EVERYTHING),)
        if isinstance(step, Apply):
            self._given[step.step] = step.purges
        if not (isinstance(self.edge.cache, NativeCache) and self.edge.cache.keeps):
            self._given.clear()
        return step

    def _write(self, step: Probe | Apply | PurgeEverything | Restore | Install) -> TablePart | None:
        """Into the durable table first; the part that goes to the copy."""
        table = self.disk.table
        match step:
            case Apply():
                writes = [table.apply(purge.seq, purge.selector) for purge in step.purges]
            case PurgeEverything():
                writes = [table.apply(step.seq, EVERYTHING)]
            case Restore():
                writes = [Write(slot, seq) for slot, seq in enumerate(table.slots) if seq] + [Write(None, table.everything)]
            case _:
                return None
        gates = table.gates
        return TablePart(writes, Gates(gates.host, gates.slash, dict(gates.lengths)), table.tags)


def new_disk(parts: Parts) -> Disk:
    """The state of an agent that has never run."""
    return Disk(parts.table([0] * SLOTS), Position(doubt="the purge table is new"))


_DO: dict[type, Callable[[Agent, Any], None]] = {
    Read: Agent._read,
    Renew: Agent._renew,
    SaveWatermark: Agent._save,
    Acknowledge: Agent._acknowledge,
    Sleep: Agent._sleep,
    Probe: Agent._drive,
    Apply: Agent._drive,
    PurgeEverything: Agent._drive,
    Restore: Agent._drive,
    Install: Agent._drive,
}
