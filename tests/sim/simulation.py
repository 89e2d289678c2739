"""One run: put the parts together, let things go wrong, heal, and see that everything completes."""

from __future__ import annotations

from dataclasses import dataclass

from agezero.core.selector import Kind, Selector
from sim.cache import MappedCache, NativeCache, TableCache
from sim.checker import Checker
from sim.clients import Clients
from sim.control import Control
from sim.faults import Faults
from sim.network import Network
from sim.origin import URLS, Origin
from sim.parts import HONEST, Parts
from sim.shells import Edge, Services, new_disk
from sim.simlog import SimLog
from sim.world import Stream, Violation, World

HEAL_MAX_S = 40.0
"""The bound of "live": virtual seconds from the end of all faults until everything is complete and every edge serves again."""
_NATIVE = (frozenset({Kind.URL, Kind.EVERYTHING}), frozenset({Kind.URL, Kind.PREFIX, Kind.TAG, Kind.HOST, Kind.EVERYTHING}))
_TABLE = frozenset({Kind.URL, Kind.PREFIX, Kind.HOST, Kind.EVERYTHING})


@dataclass
class Outcome:
    """Of one run. ``trace`` and ``digest`` only where asked for."""

    seed: int
    violation: Violation | None
    marks: set[str]
    events: int
    digest: str
    trace: list[str]


class Simulation:
    """The seed decides everything."""

    def __init__(self, seed: int, parts: Parts = HONEST, trace: bool = False) -> None:
        self.world = world = World(seed, trace)
        self.parts = parts
        self.network = Network(world)
        self.checker = Checker(world)
        self._tags = Stream(seed, "tags")
        chance = world.work
        self.origin = Origin(world, self.network, slow=chance.pick((0.0, 0.1, 0.4)))
        self.log = SimLog(world, self.network, parts, self.checker, retention=chance.pick((3, 10, 1000)))
        self.control = Control(world, self._rate(), self.network, parts, self.checker, self.log, lease_s=chance.pick((1.5, 3.0)))
        services = Services(world, self.network, parts, self.checker, self.log, self.control)
        self.edges = self._edges()
        self.checker.caches = [edge.cache for edge in self.edges]
        self.clients = Clients(world, self.network, self.checker, self.control, self.origin, self.checker.caches)
        self.faults = Faults(services, self.edges)

    def _rate(self) -> float:
        return 1.0 + self.world.work.between(-1.0, 1.0) * self.parts.drift

    def _edges(self) -> list[Edge]:
        chance = self.world.work
        tiers = chance.pick(((0,), (0, 0), (0, 1), (0, 1), (0, 1, 1), (0, 0, 1)))
        edges = [self._edge(f"edge{number}", tier, shield=tier < max(tiers)) for number, tier in enumerate(tiers)]
        for edge in edges:
            edge.cache.upstream = edges[0].cache if edge.tier else self.origin
        return edges

    def _edge(self, name: str, tier: int, shield: bool) -> Edge:
        """A shield must fence: one that cannot serves old content to the edges in front of it while it is no member."""
        chance = self.world.work
        where = (self.world, name, self._rate(), self.network, self.parts, self.checker)
        if chance.chance(0.6):
            kind, tagged = MappedCache if chance.chance(0.5) else TableCache, self._tags.chance(0.5)
            return Edge(name, tier, _TABLE | {Kind.TAG} if tagged else _TABLE, kind(*where, tagged=tagged), new_disk(self.parts))
        fences = shield or chance.chance(0.7)
        cache = NativeCache(*where, fences=fences, keeps=fences and chance.chance(0.7))
        return Edge(name, tier, chance.pick(_NATIVE), cache, new_disk(self.parts))

    def run(self) -> Outcome:
        """Until a violation, or the end."""
        violation = None
        try:
            self.faults.start()
            self.clients.start()
            self.world.run(self.world.work.between(4.0, 20.0))
            self._heal()
        except Violation as found:
            violation = found
            self.world.note(str(found))
        world = self.world
        return Outcome(world.seed, violation, world.marks, world.events, world.digest.hexdigest(), world.trace or [])

    def _heal(self) -> None:
        """Once with what there is, so that no new purge covers what was left behind; once more with new purges."""
        self.world.note("healing")
        self.faults.heal()
        self._until_healed()
        for url in URLS:
            self.clients.purge(Selector(Kind.URL, url))
        self.world.run(self.world.now_s + 0.1)
        self._until_healed()

    def _until_healed(self) -> None:
        if not self.world.run(self.world.now_s + HEAL_MAX_S, self._healed):
            raise Violation("live", f"not everything is complete {HEAL_MAX_S} s after the last fault: {self._why()}")
        self.clients.read_all()
        self.world.run(self.world.now_s + 0.5)

    def _healed(self) -> bool:
        ledger = self.control.ledger
        return ledger.recovered and ledger.completed >= self.log.head and all(edge.agent is not None and edge.agent.leading for edge in self.edges)

    def _why(self) -> str:
        blockers = "; ".join(f"{blocker.name} at {blocker.watermark}: {blocker.why}" for blocker in self.control.ledger.blockers(self.log.head))
        states = ", ".join(f"{edge.name} {edge.agent.follower.state if edge.agent and edge.agent.follower else 'absent'}" for edge in self.edges)
        return f"head {self.log.head}, completed {self.control.ledger.completed}, recovered {self.control.ledger.recovered}; {blockers}; {states}"


def simulate(seed: int, parts: Parts = HONEST, trace: bool = False) -> Outcome:
    """Run the seed."""
    return Simulation(seed, parts, trace).run()
