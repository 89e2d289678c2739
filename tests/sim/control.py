"""The control side's shell in the simulation: the real ledger, a store whose writes take time, and the HTTP API's two calls."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from agezero.core.ledger import Effect, Grant, Record, Save, Superseded
from agezero.core.selector import Selector
from sim.network import Network
from sim.parts import Parts
from sim.simlog import SimLog
from sim.world import Actor, World

if TYPE_CHECKING:
    from sim.checker import Checker
    from sim.clients import Clients
    from sim.shells import Agent


class Control(Actor):
    """Ledger and API. ``records`` is what is durable; everything else dies with the process."""

    def __init__(self, world: World, rate: float, network: Network, parts: Parts, checker: Checker, log: SimLog, lease_s: float) -> None:
        super().__init__(world, "control", rate)
        self.network, self.parts, self.checker, self.log = network, parts, checker, log
        self.lease_s = lease_s
        self.records: dict[str, Record] = {}
        self.crash_when_saving: Callable[[], None] | None = None
        self.start()

    def start(self) -> None:
        """From nothing but the records and the log."""
        self.up = True
        self.ledger = self.parts.ledger(self.lease_s, 0.1 * self.lease_s, self.records.values(), self.log.head, self.clock_s())
        self._agents: dict[str, tuple[Agent, int]] = {}
        self._saves: deque[tuple[Record, Callable[[], None]]] = deque()
        self._released: dict[int, int | None] = {}
        self._tick_at_s: float | None = None
        self._changed()

    def crash(self) -> None:
        """A write that is under way may be durable or not."""
        if self._saves and self.world.fault.chance(0.5):
            self.world.mark("crash while a record was being saved")
            self._store(self._saves[0][0])
        self.end()

    # The API

    def post(self, clients: Clients, number: int, selector: Selector) -> None:
        """Append, and answer 201 once that is durable."""
        self.after(self.world.work.between(0.001, 0.01), "commit", self._commit, clients, number, selector)

    def _commit(self, clients: Clients, number: int, selector: Selector) -> None:
        seq = self.log.append(selector)
        if seq is not None:
            self.ledger.appended(seq, self.clock_s())
        if self.world.faulty and self.world.fault.chance(self.log.unknown):
            self.world.mark("commit with an unknown outcome")
            seq = None
        self.network.send(self, clients, "201" if seq else "503", clients.accepted, number, seq)
        self._changed()

    def get(self, clients: Clients, number: int, seq: int) -> None:
        """The status: None where it is not known yet."""
        status = self.ledger.completed >= seq if self.ledger.recovered else None
        self.network.send(self, clients, "status", clients.polled, number, seq, status)

    # The agents

    def join(self, agent: Agent, life: int, request: int) -> None:
        effects = self.ledger.join(agent.edge.name, agent.edge.tier, agent.edge.cache.fences, self.clock_s())
        token = self.ledger.members[agent.edge.name].record.token
        self._agents[agent.edge.name] = (agent, life)
        self._run(effects, lambda: self._joined(agent, life, request, token))

    def _joined(self, agent: Agent, life: int, request: int, token: int) -> None:
        self.network.send(self, agent, "joined", agent.joined, request, token, *self._head(agent), life=life)

    def report(self, agent: Agent, life: int, token: int, watermark: int, trouble: str) -> None:
        try:
            self.ledger.report(agent.edge.name, token, watermark, trouble)
        except Superseded:
            self._superseded(agent, life)
        else:
            self.checker.reported(agent.edge.name, token)
            self._agents[agent.edge.name] = (agent, life)
            if trouble:  # it may wait for something that a lost message told
                self.network.send(self, agent, "head known", agent.head_known, *self._head(agent), life=life)
        self._changed()

    def renew(self, agent: Agent, life: int, token: int, watermark: int, request: int) -> None:
        try:
            effects = self.ledger.renew(agent.edge.name, token, watermark, self.clock_s())
        except Superseded:
            self._superseded(agent, life)
            return
        self.checker.reported(agent.edge.name, token)
        self._agents[agent.edge.name] = (agent, life)
        self._changed()
        *saves, answer = effects
        self._run(saves, lambda: self._answer(agent, life, request, answer))

    def _answer(self, agent: Agent, life: int, request: int, answer: Effect) -> None:
        length_s = answer.length_s if isinstance(answer, Grant) else None
        if length_s is not None:
            self.checker.promised.add(agent.edge.name)
        self.world.mark("lease granted" if length_s else "lease refused")
        self.network.send(self, agent, "lease", agent.leased, request, length_s, *self._head(agent), life=life)

    def leave(self, agent: Agent, life: int, token: int) -> None:
        try:
            self._run(self.ledger.leave(agent.edge.name, token))
        except Superseded:
            self._superseded(agent, life)

    def remove(self, name: str) -> None:
        """By a human's hand."""
        self.checker.promised.discard(name)
        self._run(self.ledger.remove(name))
        self._changed()

    def _superseded(self, agent: Agent, life: int) -> None:
        self.world.mark("superseded")
        self.network.send(self, agent, "superseded", agent.superseded, life=life)

    def _head(self, agent: Agent) -> tuple[int, int, str, int | None]:
        return self.log.head, self.log.floor, self.log.epoch, self.ledger.released(agent.edge.tier)

    # Effects, in order

    def _run(self, effects: list[Effect], then: Callable[[], None] = lambda: None) -> None:
        """Save each record in turn, then go on; where one cannot be saved, the rest is dropped."""
        if not effects:
            then()
            return
        save, *rest = effects
        assert isinstance(save, Save)
        self._saves.append((save.record, lambda: self._run(rest, then)))
        if len(self._saves) == 1:
            self._save_next()

    def _save_next(self) -> None:
        crash, self.crash_when_saving = self.crash_when_saving, None
        if crash is not None:
            self.after(0.0, "crash", crash)
        self.after(self.world.work.between(0.001, 0.02), "record saved", self._saved)

    def _saved(self) -> None:
        record, then = self._saves.popleft()
        if self._saves:
            self._save_next()
        if self.log.full and self.world.faulty:
            self.world.mark("record not saved")
            return
        self._store(record)
        self.ledger.saved(record)
        then()
        self._changed()

    def _store(self, record: Record) -> None:
        self.records[record.name] = record

    # After each change

    def _changed(self) -> None:
        ledger = self.ledger
        self.checker.status(ledger)
        if ledger.recovered:
            self.log.trim(ledger.completed)
        for name, (agent, life) in self._agents.items():
            tier = agent.edge.tier
            if tier and self._released.get(tier) != ledger.released(tier):
                self.network.send(self, agent, "released", agent.head_known, *self._head(agent), life=life)
                self.world.mark(f"released {name}")
        self._released = {tier: ledger.released(tier) for tier in (1,)}
        self._arm()

    def _arm(self) -> None:
        at_s = self.ledger.next_expiry_s()
        if at_s is not None and at_s != self._tick_at_s:
            self._tick_at_s = at_s
            self.after(at_s - self.clock_s(), "ledger's tick", self._tick, at_s)

    def _tick(self, at_s: float) -> None:
        if at_s == self._tick_at_s:
            self._tick_at_s = None
        effects = self.ledger.tick(self.clock_s())
        if effects:
            self.world.mark("lease expired")
        for effect in effects:  # each its own list: one that fails does not keep the others
            self._run([effect])
        self._changed()
