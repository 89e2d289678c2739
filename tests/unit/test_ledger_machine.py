"""The ledger among edges that act in any order, with a shell that may stop between any two effects.

The edges here are what the ledger only believes in: tables that hold purges up to a watermark, and leases on a clock.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agezero.core.ledger import Effect, Grant, Ledger, Record, Save

LEASE_S, MARGIN_S = 10.0, 1.0
TIERS = {"shield": 0, "other shield": 0, "front": 1, "other front": 1}

names = st.sampled_from(sorted(TIERS))


@dataclass
class Edge:
    """The truth. ``watermark``: what is in its table; it serves from its cache until ``until_s``."""

    tier: int
    token: int = 0
    watermark: int = 0
    until_s: float = 0.0


class LedgerAmongEdges(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self.head = self.started_at = 0
        self.told_complete = 0
        self.edges = {name: Edge(tier) for name, tier in TIERS.items()}
        self.registry: dict[str, Record] = {}
        self.work: deque[tuple[Effect, float]] = deque()
        self.ledger = Ledger(LEASE_S, MARGIN_S)
        for name in TIERS:
            self.join(name)
            self.carry_out(1)
            self.catch_up_and_renew(name)

    def queue(self, effects: list[Effect], asked_at_s: float = 0.0) -> None:
        self.work.extend((effect, asked_at_s) for effect in effects)

    @rule(more=st.integers(1, 3))
    def append(self, more: int) -> None:
        self.head += more
        self.ledger.appended(self.head, self.now_s)

    @rule(by_s=st.sampled_from([0.5, 5.0, LEASE_S, LEASE_S + MARGIN_S]))
    def time_passes(self, by_s: float) -> None:
        self.now_s += by_s

    @rule()
    def tick(self) -> None:
        self.queue(self.ledger.tick(self.now_s))

    @rule(name=names)
    def join(self, name: str) -> None:
        self.queue(self.ledger.join(name, self.edges[name].tier, True, self.now_s))

    @rule(name=names, upto=st.integers(0, 4))
    def apply(self, name: str, upto: int) -> None:
        edge = self.edges[name]
        released = self.ledger.released(edge.tier)
        bound = self.head if released is None else min(self.head, released)
        edge.watermark = max(edge.watermark, min(bound, edge.watermark + upto))

    @rule(name=names)
    def catch_up_and_renew(self, name: str) -> None:
        """What an edge does when nothing goes wrong."""
        self.apply(name, self.head)
        self.renew(name, 0.0, 0)
        self.carry_out(len(self.work))

    @rule(name=names, late=st.integers(0, 2))
    def report(self, name: str, late: int) -> None:
        edge = self.edges[name]
        if self.current(name):
            self.ledger.report(name, edge.token, max(0, edge.watermark - late))

    @rule(name=names, ago_s=st.sampled_from([0.0, 3.0, 20.0]), late=st.integers(0, 2))
    def renew(self, name: str, ago_s: float, late: int) -> None:
        edge = self.edges[name]
        if self.current(name):
            self.queue(self.ledger.renew(name, edge.token, max(0, edge.watermark - late), self.now_s), self.now_s - ago_s)

    @rule(name=names)
    def leave(self, name: str) -> None:
        edge = self.edges[name]
        if self.current(name):
            edge.until_s = 0.0
            self.work = deque((effect, s) for effect, s in self.work if not (isinstance(effect, Grant) and effect.name == name))
            self.queue(self.ledger.leave(name, edge.token))

    @rule(name=names, sure=st.booleans())
    def remove(self, name: str, sure: bool) -> None:
        if sure:
            self.queue(self.ledger.remove(name))

    @rule(count=st.integers(1, 6))
    def carry_out(self, count: int) -> None:
        for _ in range(min(count, len(self.work))):
            effect, asked_at_s = self.work.popleft()
            if isinstance(effect, Save):
                self.registry[effect.record.name] = effect.record
                self.ledger.saved(effect.record)
                if not effect.record.removed:
                    self.edges[effect.record.name].token = effect.record.token
            elif isinstance(effect, Grant) and effect.token == self.edges[effect.name].token:
                self.edges[effect.name].until_s = max(self.edges[effect.name].until_s, asked_at_s + effect.length_s)

    @precondition(lambda self: self.work)
    @rule()
    def drop_the_rest(self) -> None:
        """An interrupted shell: what was not carried out is not."""
        self.work.clear()

    @rule(after_s=st.sampled_from([0.0, 5.0, 30.0]))
    def restart(self, after_s: float) -> None:
        self.now_s += after_s
        self.work.clear()
        self.ledger = Ledger(LEASE_S, MARGIN_S, self.registry.values(), self.head, self.now_s)
        self.started_at = self.head

    def current(self, name: str) -> bool:
        member = self.ledger.members.get(name)
        return member is not None and member.record.token == self.edges[name].token

    def serving(self) -> list[Edge]:
        return [edge for edge in self.edges.values() if self.now_s < edge.until_s]

    @invariant()
    def completed_never_goes_back(self) -> None:
        if self.ledger.recovered:
            assert self.ledger.completed >= self.told_complete
            self.told_complete = self.ledger.completed

    @invariant()
    def no_edge_serves_what_was_called_complete(self) -> None:
        assert all(edge.watermark >= self.told_complete for edge in self.serving())

    @invariant()
    def what_is_kept_is_what_a_look_at_all_members_gives(self) -> None:
        counted = [member.watermark for member in self.ledger.members.values() if member.counts]
        assert self.ledger.recovered == all(watermark >= self.started_at for watermark in counted)
        if self.ledger.recovered:
            assert self.ledger.completed == min([self.head, *counted])

    @invariant()
    def whoever_counts_is_not_short_of_what_is_complete(self) -> None:
        assert all(member.watermark >= self.ledger.completed for member in self.ledger.members.values() if member.counts)

    @invariant()
    def whoever_serves_is_on_record(self) -> None:
        assert not any(self.registry[name].fenced for name, edge in self.edges.items() if self.now_s < edge.until_s)

    @invariant()
    def no_edge_is_ahead_of_a_shield_that_serves(self) -> None:
        ahead = max(edge.watermark for edge in self.edges.values() if edge.tier == 1)
        assert all(edge.watermark >= ahead for edge in self.serving() if edge.tier == 0)


TestLedgerAmongEdges = LedgerAmongEdges.TestCase
TestLedgerAmongEdges.settings = settings(stateful_step_count=80)
