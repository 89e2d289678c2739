"""What goes wrong. Each run draws some kinds of faults, and then instances of them; all end when the healing begins."""

from __future__ import annotations

from collections.abc import Callable

from agezero.core.selector import Kind
from agezero.core.steps import EdgeRestarted
from sim.cache import MappedCache, NativeCache, TableCache
from sim.shells import Agent, Edge, Services, new_disk
from sim.world import Actor


class Faults(Actor):
    """Draws faults until the world is to heal, and heals it."""

    def __init__(self, services: Services, edges: list[Edge]) -> None:
        super().__init__(services.world, "faults")
        self.services, self.edges = services, edges
        self.network, self.control, self.log = services.network, services.control, services.log
        self.agents: list[Agent] = []
        chance = self.world.fault
        self.kinds = [kind for kind in KINDS if chance.chance(0.35)]
        self.mean_s = chance.between(0.3, 1.5)
        if chance.chance(0.6):
            self.network.lost, self.network.doubled, self.network.slow = (chance.pick((0.0, 0.03, 0.15)) for _ in range(3))
        self.log.unknown = chance.pick((0.0, 0.2))
        self.crash_chance = chance.pick((0.0, 0.0, 0.01))

    def start(self) -> None:
        for edge in self.edges:
            self.hire(edge)
        if self.kinds:
            self.after(self.world.fault.between(0.0, 2 * self.mean_s), "fault", self._next)

    def hire(self, edge: Edge) -> None:
        """A new agent for the edge."""
        edge.agent = Agent(self.services, edge, edge.disk)
        edge.agent.crash_chance = self.crash_chance
        self.agents.append(edge.agent)

    def _next(self) -> None:
        if not self.world.faulty:
            return
        chance = self.world.fault
        kind = chance.pick(self.kinds)
        edge = chance.pick(self.edges)
        self.world.note(f"fault {kind.__name__} at {edge.name}")
        kind(self, edge)
        self.after(chance.between(0.2 * self.mean_s, 1.8 * self.mean_s), "fault", self._next)

    def later(self, call: Callable[[], object], low_s: float = 0.05, high_s: float = 4.0) -> None:
        """Its end."""
        self.after(self.world.fault.between(low_s, high_s), call.__name__, call)

    # The network

    def cut_link(self, edge: Edge) -> None:
        assert edge.agent is not None
        names = [edge.agent.name, "control", "log", edge.name]
        ways = [(a, b) for a in names for b in names if a != b and edge.agent.name in (a, b)]
        way = self.world.fault.pick(ways)
        self.network.cut.append(way)
        self.later(lambda: self.network.cut.remove(way))

    # The agent

    def crash_agent(self, edge: Edge) -> None:
        agent = edge.agent
        assert agent is not None
        self.world.mark("agent crashed")
        agent.end()
        self.later(agent.again)

    def pause_agent(self, edge: Edge) -> None:
        agent = edge.agent
        assert agent is not None
        self.world.mark("agent paused")
        agent.pause()
        self.later(agent.resume, 0.5, 8.0)

    def crash_machine(self, edge: Edge) -> None:
        """What the agent wrote last may be lost, and that is known: its position is in doubt, its table, here, is gone altogether."""
        agent = edge.agent
        assert agent is not None
        self.world.mark("machine crashed")
        agent.end()
        edge.disk.table = new_disk(self.services.parts).table
        edge.disk.crashed(back=self.world.fault.below(3))
        if isinstance(edge.cache, MappedCache):
            edge.cache.mapped = False
        self._restart_cache(edge, disk=True)
        self.later(agent.again)

    def lose_disk(self, edge: Edge) -> None:
        """Position and table are gone, the cache goes on."""
        agent = edge.agent
        assert agent is not None
        self.world.mark("agent's disk lost")
        agent.end()
        edge.disk = agent.disk = new_disk(self.services.parts)
        self.later(agent.again)

    def take_over(self, edge: Edge) -> None:
        """A new agent with a state of its own, while the old one is only slow."""
        agent = edge.agent
        assert agent is not None
        self.world.mark("agent replaced while it lives")
        if self.world.fault.chance(0.6):
            agent.pause()
            self.later(agent.resume, 0.1, 4.0)
        edge.disk = new_disk(self.services.parts)
        self.hire(edge)

    def leave(self, edge: Edge) -> None:
        """The agent ends in good order: first it takes the lease from the cache, then it says so."""
        agent = edge.agent
        assert agent is not None
        if not agent.up or agent.backlog is not None or not agent.token or not edge.cache.fences:
            return
        self.world.mark("agent left")
        edge.cache.revoke()
        self.network.send(agent, self.control, "leave", self.control.leave, agent, agent.life, agent.token)
        agent.end()
        self.later(agent.again)

    # The cache

    def restart_with_disk(self, edge: Edge) -> None:
        self.world.mark("cache restarted with its disk")
        self._restart_cache(edge, disk=True)

    def restart_without_disk(self, edge: Edge) -> None:
        self.world.mark("cache restarted without its disk")
        self._restart_cache(edge, disk=False)

    def _restart_cache(self, edge: Edge, disk: bool) -> None:
        cache, agent = edge.cache, edge.agent
        cache.end()

        def boot() -> None:
            if not cache.up:
                cache.boot(disk)
                if agent is not None and self.world.fault.chance(0.5):
                    self.world.mark("supervisor tells of a restart")
                    self.network.send(cache, agent, "edge restarted", agent.handle, EdgeRestarted(cache.boot_id), life=agent.life)

        if self.world.fault.chance(0.5):
            boot()
        else:
            self.later(boot)

    def refuse(self, edge: Edge) -> None:
        edge.cache.refuses = frozenset({Kind.URL, Kind.PREFIX, Kind.HOST}) if self.world.fault.chance(0.5) else frozenset({Kind.URL})
        self.later(lambda: setattr(edge.cache, "refuses", frozenset()))

    def mute(self, edge: Edge) -> None:
        edge.cache.mute = True
        self.later(lambda: setattr(edge.cache, "mute", False))

    def stumble(self, edge: Edge) -> None:
        if isinstance(edge.cache, TableCache):
            self.world.mark("the cache's own code failed")
            edge.cache.stumbling = True
            self.later(lambda: setattr(edge.cache, "stumbling", False))

    def forward(self, edge: Edge) -> None:
        """As Varnish does with a method that its VCL does not know."""
        if isinstance(edge.cache, NativeCache):
            edge.cache.forwarding = True
            self.later(lambda: setattr(edge.cache, "forwarding", False))

    # Control side and log

    def fill_disk(self, edge: Edge) -> None:  # noqa: ARG002
        self.log.full = True
        self.later(lambda: setattr(self.log, "full", False), 0.05, 2.0)

    def crash_control(self, edge: Edge) -> None:  # noqa: ARG002
        if self.control.up:
            self.world.mark("control crashed")
            self.control.crash()
            self.later(self._start_control, 0.01, 3.0)

    def crash_control_while_saving(self, edge: Edge) -> None:  # noqa: ARG002
        """As soon as it next has a record to save."""
        self.control.crash_when_saving = lambda: self.crash_control(self.edges[0])

    def restore_backup(self, edge: Edge) -> None:
        self.crash_control(edge)
        self.log.restore()

    def _start_control(self) -> None:
        if not self.control.up:
            self.control.start()

    def remove_by_hand(self, edge: Edge) -> None:
        """The edge is gone for good; later it comes back anyway."""
        if not self.control.up:
            return
        self.world.mark("edge removed by hand")
        agent = edge.agent
        assert agent is not None
        agent.end()
        edge.cache.end()
        self.control.remove(edge.name)
        self.later(lambda: self._add_again(edge), 1.0, 6.0)

    def _add_again(self, edge: Edge) -> None:
        if not edge.cache.up:
            edge.cache.boot(disk=True)
        assert edge.agent is not None
        edge.agent.again()

    # Healing

    def heal(self) -> None:
        """No more faults; whoever is down comes back, whoever is paused goes on."""
        self.world.faulty = False
        self.control.crash_when_saving = None
        self._start_control()
        for edge in self.edges:
            edge.cache.mute, edge.cache.stumbling, edge.cache.forwarding, edge.cache.refuses = False, False, False, frozenset()
            self._add_again(edge)
        for agent in self.agents:
            agent.resume()


KINDS: tuple[Callable[[Faults, Edge], None], ...] = (
    Faults.cut_link,
    Faults.cut_link,
    Faults.crash_agent,
    Faults.pause_agent,
    Faults.crash_machine,
    Faults.crash_machine,
    Faults.lose_disk,
    Faults.take_over,
    Faults.leave,
    Faults.restart_with_disk,
    Faults.restart_without_disk,
    Faults.refuse,
    Faults.mute,
    Faults.stumble,
    Faults.forward,
    Faults.fill_disk,
    Faults.crash_control,
    Faults.crash_control_while_saving,
    Faults.restore_backup,
    Faults.remove_by_hand,
)
