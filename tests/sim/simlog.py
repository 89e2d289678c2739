"""The purge log: durable, ordered; commits with an unknown outcome, a full disk, a restored backup."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agezero.core.purge import Purge
from agezero.core.selector import Selector
from agezero.core.steps import Records
from sim.world import Actor, World

if TYPE_CHECKING:
    from sim.checker import Checker
    from sim.network import Network
    from sim.parts import Parts
    from sim.shells import Agent

JUMP = 1000
READ_TIMEOUT_S = 2.0


class SimLog(Actor):
    """The log of one service. ``full``: the disk is; ``retention``: how many entries are kept beyond what is complete."""

    def __init__(self, world: World, network: Network, parts: Parts, checker: Checker, retention: int) -> None:
        super().__init__(world, "log")
        self.network, self.parts, self.checker = network, parts, checker
        self.entries: list[Purge] = []
        self.epoch, self.head, self.floor = "epoch-1", 0, 0
        self.retention = retention
        self.full = False
        self.unknown = 0.0
        self.backup = 0
        self._waiting: list[tuple[Agent, int, int, int]] = []

    def append(self, selector: Selector) -> int | None:
        """The durable part of an append; None where the disk is full."""
        if self.full and self.world.faulty:
            self.world.mark("append refused")
            return None
        self.head += 1
        self.entries.append(Purge(self.head, selector))
        self.checker.accepted(self.head, selector)
        waiting, self._waiting = self._waiting, []
        for agent, life, after, limit in waiting:
            self.read(agent, life, after, limit)
        return self.head

    def read(self, agent: Agent, life: int, after: int, limit: int) -> None:
        """Answered at once, or when there is something; the agent's shell gives up after :data:`READ_TIMEOUT_S`."""
        if after < self.floor and self.parts.floor_known:
            self.world.mark("read below the floor")
            self.network.send(self, agent, "below floor", agent.head_known, self.head, self.floor, self.epoch, None, life=life)
            return
        purges = tuple(purge for purge in self.entries if purge.seq > after)[:limit]
        if purges:
            self.network.send(self, agent, "records", agent.handle, Records(after, purges), life=life)
        elif agent.life == life:
            self._waiting.append((agent, life, after, limit))

    def trim(self, completed: int) -> None:
        """Retention: only what is complete, and only beyond the number kept."""
        floor = min(completed, self.head - self.retention)
        if floor > self.floor:
            self.world.mark("log trimmed")
            self.floor = floor
            self.entries = [purge for purge in self.entries if purge.seq > floor]

    def restore(self) -> None:
        """The log goes back to an old backup; its adapter notices, and goes on under a new epoch beyond all that was ever handed out."""
        self.world.mark("log restored from a backup")
        kept = self.backup + self.world.fault.below(self.head - self.backup + 1) if self.head > self.backup else self.head
        self.checker.lost(kept, self.head)
        self.entries = [purge for purge in self.entries if purge.seq <= kept]
        self.head += JUMP
        if self.parts.new_epoch:
            self.epoch, self.floor, self.entries = f"epoch-{self.head}", self.head, []
        self.backup = self.head
