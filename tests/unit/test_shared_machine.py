"""Several control nodes, each behind the board by its own measure, and edges that come, go and forget: random walks over the shared ledger.

What must hold at every step: no gate on the board lies above what an edge with a valid lease has applied, and none is lower than one
before. Each safeguard has a twin in which it is off and some walk finds the violation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest

from agezero.core.ledger import Grant, Superseded
from agezero.core.shared import Gate, Held, NotJoined, Seat, SharedLedger, Write

LEASE_S, MARGIN_S = 5.0, 1.0
NAMES = ("a", "b", "shield")
TIERS = {"a": 1, "b": 1, "shield": 0}


class Violation(AssertionError):
    """The promise is broken."""


@dataclass
class Board:
    entries: list[Held | Gate] = field(default_factory=list)
    last: dict[str, int] = field(default_factory=dict)
    cas: bool = True

    def stands(self, number: int) -> bool:
        """Is this entry the newest of its key? Others are not there any more for who reads on."""
        return number in self.last.values()

    def write(self, write: Write) -> int | None:
        key = "gate" if isinstance(write.entry, Gate) else write.entry.record.name
        if self.cas and self.last.get(key, 0) != write.after:
            return None
        self.entries.append(write.entry)
        self.last[key] = len(self.entries)
        return len(self.entries)

    @property
    def gate(self) -> Gate:
        gate = self.entries[self.last["gate"] - 1]
        assert isinstance(gate, Gate)
        return gate


@dataclass
class Node:
    """``abreast``: nothing stood behind what it was given last, when that was delivered."""

    ledger: SharedLedger
    read: int = 0
    abreast: bool = False


@dataclass
class Agent:
    token: int
    applied: int


@dataclass
class Edge:
    """``level``: what its cache had applied when it was leased, or since."""

    name: str
    agent: Agent | None = None
    level: int = 0
    until_s: float = 0.0


@dataclass
class Asked:
    edge: Edge
    agent: Agent
    node: Node
    watermark: int
    at_s: float
    entry: int = 0


class World:
    """One walk."""

    def __init__(self, seed: int, ledger: type[SharedLedger], cas: bool, abreast: bool) -> None:
        self.random = Random(seed)
        self.now_s = 0.0
        self.head = 10
        self.board = Board(cas=cas)
        self.abreast = abreast
        self.nodes = [Node(ledger(LEASE_S, MARGIN_S)) for _ in range(3)]
        self.edges = [Edge(name) for name in NAMES]
        self.asked: list[Asked] = []
        self.grants = self.gates = 0
        self.board.write(Write(Gate(self.head), 0))

    def walk(self, steps: int) -> None:
        actions: list[Callable[[], None]] = [
            self.append, self.apply, self.apply, self.report, self.report, self.read, self.read, self.read, self.raise_gate, self.raise_gate,
            self.ask, self.ask, self.write_ask, self.write_ask, self.grant, self.grant, self.grant, self.fence, self.fence, self.join, self.pass_time,
        ]  # fmt: skip
        for _ in range(steps):
            before = self.board.gate
            self.random.choice(actions)()
            self.check(before)

    def check(self, before: Gate) -> None:
        gate = self.board.gate
        if gate.completed < before.completed or any(gate.released.get(tier, 0) < seq for tier, seq in before.released.items()):
            raise Violation("a gate fell")
        for edge in self.edges:
            due = max([gate.completed, *(seq for tier, seq in gate.released.items() if tier > TIERS[edge.name])])
            if self.now_s < edge.until_s and edge.level < due:
                raise Violation(f"{edge.name} serves at {edge.level}, below {due}")

    # What happens

    def append(self) -> None:
        self.head += 1

    def apply(self) -> None:
        edge = self.edge()
        if edge.agent is None:
            return
        allowed = self.head if TIERS[edge.name] == 0 else self.board.gate.released.get(1, self.board.gate.completed)
        if edge.agent.applied < allowed:
            edge.agent.applied = self.random.randint(edge.agent.applied, allowed)
        if self.now_s < edge.until_s:
            edge.level = max(edge.level, edge.agent.applied)

    def report(self) -> None:
        edge, node = self.edge(), self.node()
        if edge.agent is not None:
            self.tolerant(lambda: node.ledger.report(edge.name, edge.agent.token, edge.agent.applied, "", self.now_s))  # type: ignore[union-attr]

    def read(self, node: Node | None = None, all_of_it: bool = False) -> None:
        node = node or self.node()
        left = len(self.board.entries) - node.read
        for entry in self.board.entries[node.read : node.read + (left if all_of_it else self.random.randint(0, left))]:
            node.read += 1
            if self.board.stands(node.read):
                node.ledger.observe(entry, node.read, self.now_s)
                node.abreast = node.read == len(self.board.entries)

    def raise_gate(self) -> None:
        node = self.node()
        if self.abreast and not node.abreast:
            return
        write = node.ledger.touched(self.head) if self.random.random() < 0.3 else node.ledger.raised(self.head)
        if write is not None and self.board.write(write):
            self.gates += 1

    def join(self) -> None:
        edge, node = self.edge(), self.node()
        if self.random.random() < 0.7 and edge.agent is not None:
            return
        write = node.ledger.join(edge.name, TIERS[edge.name], True, None, ())
        if self.board.write(write) is not None:
            assert isinstance(write.entry, Held)
            kept = edge.agent.applied if edge.agent else 0
            edge.agent = Agent(write.entry.record.token, self.random.choice((kept, self.random.randint(max(0, kept - 4), kept))))

    def ask(self) -> None:
        edge = self.edge()
        if edge.agent is not None and len(self.asked) < 6:
            self.asked.append(Asked(edge, edge.agent, self.node(), edge.agent.applied, self.now_s))

    def write_ask(self) -> None:
        for asked in [asked for asked in self.asked if not asked.entry][:1]:

            def renew(asked: Asked = asked) -> None:
                write = asked.node.ledger.renew(asked.edge.name, asked.agent.token, asked.watermark, self.now_s)
                asked.entry = (self.board.write(write) or 0) if isinstance(write, Write) else 0

            self.tolerant(renew)
            if not asked.entry:
                self.asked.remove(asked)

    def grant(self) -> None:
        for asked in [asked for asked in self.asked if asked.entry]:
            if asked.node.read < asked.entry:
                self.read(asked.node)
                continue

            def answer(asked: Asked = asked) -> Any:
                return asked.node.ledger.granted(asked.edge.name, asked.agent.token, asked.watermark)

            answered = self.tolerant(answer)
            if answered is None and asked.edge.agent is asked.agent:
                continue
            self.asked.remove(asked)
            if isinstance(answered, Grant) and asked.edge.agent is asked.agent and self.now_s < asked.at_s + answered.length_s:
                self.grants += 1
                asked.edge.level = asked.agent.applied
                asked.edge.until_s = asked.at_s + answered.length_s

    def fence(self) -> None:
        for write in self.node().ledger.fences(self.now_s):
            self.board.write(write)

    def pass_time(self) -> None:
        self.now_s += self.random.choice((0.1, 1.0, 3.0))

    def edge(self) -> Edge:
        return self.random.choice(self.edges)

    def node(self) -> Node:
        return self.random.choice(self.nodes)

    def tolerant(self, work: Callable[[], Any]) -> Any:
        try:
            return work()
        except (NotJoined, Superseded):
            return "refused"


def walks(ledger: type[SharedLedger], seeds: int, cas: bool = True, abreast: bool = True) -> tuple[int, int]:
    grants = gates = 0
    for seed in range(seeds):
        world = World(seed, ledger, cas, abreast)
        world.walk(600)
        grants, gates = grants + world.grants, gates + world.gates
    return grants, gates


def test_no_lease_is_ever_below_the_gate_and_no_gate_falls() -> None:
    grants, gates = walks(SharedLedger, 250)
    assert grants > 1000
    assert gates > 1000


class WithoutAdmit(SharedLedger):
    """A lease is granted before a gate is known to count the edge."""

    def _admitted(self, seat: Seat) -> bool:  # noqa: ARG002
        return True


class WithoutWait(SharedLedger):
    """An edge is fenced before its lease is over."""

    def _lease_over(self, seat: Seat, now_s: float) -> bool:
        return now_s >= seat.seen_s + LEASE_S / 2


class WithoutDue(SharedLedger):
    """An edge is leased whatever it has applied."""

    def _due(self, seat: Seat, gate: Gate) -> int:  # noqa: ARG002
        return 0


class WithoutReset(SharedLedger):
    """A new agent is credited with what the one before it had applied."""

    def observe(self, entry: Held | Gate, at: int, now_s: float) -> None:
        before = self.seats.get(entry.record.name) if isinstance(entry, Held) else None
        super().observe(entry, at, now_s)
        if before is not None and isinstance(entry, Held):
            seat = self.seats[entry.record.name]
            seat.watermark = max(seat.watermark, before.watermark)


@pytest.mark.parametrize("ledger", [WithoutAdmit, WithoutWait, WithoutDue, WithoutReset])
def test_each_safeguard_is_needed(ledger: type[SharedLedger]) -> None:
    with pytest.raises(Violation):
        walks(ledger, 2000)


def test_compare_and_set_is_needed() -> None:
    with pytest.raises(Violation):
        walks(SharedLedger, 300, cas=False)


def test_to_be_abreast_is_needed() -> None:
    """A gate that is written by who is behind may not know an edge whose entry a renewal has replaced, further on."""
    with pytest.raises(Violation):
        walks(SharedLedger, 300, abreast=False)
