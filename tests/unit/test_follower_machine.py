"""The follower in a world that answers late, twice or not at all; only its own promises are checked, each after every event."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from agezero.core.follower import Follower, Limits, State
from agezero.core.position import Position
from agezero.core.purge import Purge
from agezero.core.selector import Kind, Selector
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

LEASE_S = 9.0
EXACT = frozenset({Kind.URL, Kind.PREFIX, Kind.EVERYTHING})
OUTCOMES = ["done", "done", "done", "timeout", "refused", "failed"]


@dataclass
class World:
    """The truth. ``table``: what the cache running now has applied, by seq; a purge of everything counts for all up to its seq."""

    head: int = 3
    floor: int = 0
    epoch: str = "log-1"
    boot: int = 1
    table: set[int] = field(default_factory=set)
    saved_table: set[int] = field(default_factory=set)
    loaded: bool = False
    until_s: float = 0.0

    def known(self) -> HeadKnown:
        return HeadKnown(self.head, self.floor, self.epoch)


class FollowerInTheWorld(RuleBasedStateMachine):
    restores = True

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 1000.0
        self.world = World()
        self.asked: list[tuple[Effect, int]] = []  # with the boot of the cache that was asked
        self.saved = Position(0, "log-1")
        self.acknowledged = 0
        self.head_told = self.head_told_before_renewal = 0
        self.start()
        self.everything_works(20)

    def start(self) -> None:
        self.follower = Follower(self.saved, EXACT, self.restores, Limits(batch_max=2, retry_min_s=0.5, retry_max_s=2.0))
        self.asked.clear()
        self.told: list[HeadKnown] = []
        self.take(self.follower.start())
        self.head_told_before_renewal = self.world.head
        self.tell(self.world.known())

    def tell(self, event: Event) -> None:
        before = self.follower.watermark
        if isinstance(event, HeadKnown):
            self.head_told = event.head
            self.head_told_before_renewal = min(self.head_told_before_renewal, event.head)
            self.told.append(event)
        effects = self.follower.handle(event, self.now_s)
        assert self.follower.watermark >= before
        self.in_order(effects, moved=self.follower.watermark > before)
        self.take(effects)

    def in_order(self, effects: list[Effect], moved: bool) -> None:
        """Saved, then acknowledged, then whatever depends on it."""
        if moved:
            assert effects[0] == SaveWatermark(self.follower.watermark, self.follower.position.epoch)
            assert effects[1] == Acknowledge(self.follower.watermark)

    def take(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case SaveWatermark(watermark, epoch):
                    self.saved = Position(watermark, epoch)
                case Acknowledge(watermark):
                    assert watermark <= self.saved.watermark
                    self.acknowledged = max(self.acknowledged, watermark)
                case Renew(watermark):
                    assert self.follower.watermark == watermark >= self.head_told_before_renewal
                    self.head_told_before_renewal = self.head_told
                    assert self.complete(watermark), "asks for a lease without all that it claims"
                    self.asked.append((effect, self.world.boot))
                case Install():
                    assert self.follower.state not in (State.JOINING, State.RESETTING, State.BACKING_OFF)
                    self.asked.append((effect, self.world.boot))
                case _:
                    self.asked.append((effect, self.world.boot))

    def complete(self, watermark: int) -> bool:
        return not self.world.loaded or all(seq in self.world.table for seq in range(1, watermark + 1))

    def asked_for(self, pick: int, *kinds: type[Effect]) -> tuple[Effect, int] | None:
        fitting = [pair for pair in self.asked if isinstance(pair[0], kinds)]
        if not fitting:
            return None
        self.asked.remove(fitting[pick % len(fitting)])
        return fitting[pick % len(fitting)]

    # What happens in the world

    @rule(more=st.integers(1, 3))
    def log_grows(self, more: int) -> None:
        self.world.head += more

    @rule()
    def the_log_is_known(self) -> None:
        self.tell(self.world.known())

    @rule(pick=st.integers(0, 99))
    def the_log_as_it_was_arrives_late(self, pick: int) -> None:
        self.tell(self.told[pick % len(self.told)])

    @rule(keep=st.integers(0, 3), news=st.sampled_from(["floor", "epoch"]), sure=st.integers(0, 3))
    def the_log_loses_its_past(self, keep: int, news: str, sure: int) -> None:
        if sure:
            return
        if news == "epoch":
            self.world.epoch = f"log-{int(self.world.epoch[4:]) + 1}"
            self.world.head += 5  # a seq is never used again
        self.world.floor = max(self.world.floor, self.world.head - keep)

    @rule(tell=st.booleans())
    def cache_restarts(self, tell: bool) -> None:
        self.world.boot += 1
        self.world.table, self.world.loaded, self.world.until_s = set(), False, 0.0
        if tell:
            self.tell(EdgeRestarted(f"boot-{self.world.boot}"))

    @rule(by_s=st.sampled_from([0.3, 2.5, LEASE_S]))
    def time_passes(self, by_s: float) -> None:
        wake_at_s = self.follower.wake_at_s()
        self.now_s += by_s
        if wake_at_s is not None and self.now_s >= wake_at_s:
            self.tell(Tick())

    @rule()
    def agent_restarts(self) -> None:
        self.start()

    # How the world answers

    def log_answers(self, pick: int, outcome: str) -> None:
        asked = self.asked_for(pick, Read)
        if asked is None:
            return
        assert isinstance(asked[0], Read)
        after = asked[0].after
        if after < self.world.floor:
            self.tell(self.world.known())
            return
        seqs = range(after + 1, min(self.world.head, after + asked[0].limit) + 1)
        records = Records(after, [Purge(seq, Selector(Kind.URL, f"example.com/{seq}")) for seq in seqs])
        self.tell(records)
        if outcome == "timeout":  # the answer comes twice
            self.tell(records)

    def cache_answers(self, pick: int, outcome: str) -> None:
        asked = self.asked_for(pick, Apply, PurgeEverything, Restore, Install)
        if asked is None:
            return
        effect, boot = asked
        step = effect.step  # type: ignore[union-attr]
        untrue = isinstance(effect, Restore | PurgeEverything) and boot != self.world.boot
        if untrue or (isinstance(effect, Install) and not self.world.loaded):  # what a cache that restarted must refuse
            self.tell(DriverFailed(step, "this cache has started again"))
            return
        if outcome in ("done", "timeout"):
            self.do(effect)
        failed = DriverFailed(step, outcome, refused=outcome == "refused" and isinstance(effect, Apply))
        self.tell(DriverDone(step) if outcome == "done" else failed)

    def do(self, effect: Effect) -> None:
        world = self.world
        match effect:
            case Apply(_, purges):
                seqs = {purge.seq for purge in purges}
            case PurgeEverything(_, seq):
                seqs = set(range(1, seq + 1))
                world.loaded = True
            case Restore():
                seqs = world.saved_table
                world.loaded = True
            case Install(_, asked_at_s, length_s):
                world.until_s = asked_at_s + length_s
                return
        world.saved_table = world.saved_table | seqs  # the driver's own file comes first
        world.table = world.table | seqs

    def probe_ends(self, pick: int, outcome: str) -> None:
        asked = self.asked_for(pick, Probe)
        if asked is not None:
            assert isinstance(asked[0], Probe)
            self.tell(EdgeRestarted(f"boot-{self.world.boot}") if outcome == "done" else DriverFailed(asked[0].step, "no answer"))

    def control_answers(self, pick: int, outcome: str) -> None:
        if self.asked_for(pick, Renew) is not None:
            asked_at_s = self.now_s - (20 if outcome == "timeout" else pick / 50)
            self.tell(LeaseLost("not now") if outcome in ("refused", "failed") else LeaseGranted(asked_at_s, LEASE_S))

    def sleep_ends(self, pick: int, outcome: str) -> None:
        asked = self.asked_for(pick, Sleep)
        if asked is not None:
            assert isinstance(asked[0], Sleep)
            self.now_s += asked[0].max_s if outcome == "done" else asked[0].min_s
            self.tell(Tick())

    @rule(seed=st.integers(0, 2**32), acts=st.integers(1, 40))
    def a_busy_time(self, seed: int, acts: int) -> None:
        """The log grows and everybody answers, in any order; drawn from a seed because a list of draws stays too short to fill the window."""
        draw = random.Random(seed)
        for _ in range(acts):
            answer = draw.choice(
                [
                    lambda *_: self.log_grows(2),
                    lambda *_: self.the_log_is_known(),
                    lambda pick, _: self.the_log_as_it_was_arrives_late(pick),
                    *self.answers().values(),
                ]
            )
            answer(draw.randrange(100), draw.choice(OUTCOMES))

    def answers(self) -> dict[str, Callable[[int, str], None]]:
        return {
            "log": self.log_answers,
            "cache": self.cache_answers,
            "probe": self.probe_ends,
            "control": self.control_answers,
            "sleep": self.sleep_ends,
        }

    def everything_works(self, rounds: int) -> None:
        for _ in range(rounds):
            for answer in self.answers().values():
                answer(0, "done")

    @rule()
    def an_edge_with_a_healthy_world_comes_back(self) -> None:
        self.everything_works(200)
        self.tell(self.world.known())
        self.everything_works(200)
        assert self.follower.state is State.FOLLOWING
        assert self.follower.watermark == self.world.head

    # What always holds

    @invariant()
    def what_was_acknowledged_is_saved_and_in_the_table(self) -> None:
        assert self.acknowledged <= self.saved.watermark
        assert self.complete(self.acknowledged if self.world.until_s > self.now_s else 0)

    @invariant()
    def a_cache_that_serves_has_all_that_was_acknowledged(self) -> None:
        if self.now_s < self.world.until_s:
            assert self.world.loaded
            assert set(range(1, self.acknowledged + 1)) <= self.world.table

    @invariant()
    def it_never_wakes_for_nothing(self) -> None:
        wake_at_s = self.follower.wake_at_s()
        if wake_at_s is not None and wake_at_s <= self.now_s:
            self.tell(Tick())
            again = self.follower.wake_at_s()
            assert again is None or again > self.now_s


class FollowerOfACacheThatIsEmptied(FollowerInTheWorld):
    restores = False


TestFollowerInTheWorld = FollowerInTheWorld.TestCase
TestFollowerInTheWorld.settings = settings(stateful_step_count=40)
TestFollowerOfACacheThatIsEmptied = FollowerOfACacheThatIsEmptied.TestCase
TestFollowerOfACacheThatIsEmptied.settings = settings(stateful_step_count=40)
