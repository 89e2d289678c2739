"""Followers in the states where the stories about them begin."""

from __future__ import annotations

from collections.abc import Sequence

from agezero.core.follower import Follower, Limits, State
from agezero.core.position import Position
from agezero.core.purge import Purge
from agezero.core.selector import Kind, Selector
from agezero.core.steps import (
    Apply,
    DriverDone,
    DriverFailed,
    EdgeRestarted,
    Effect,
    Event,
    HeadKnown,
    Install,
    LeaseGranted,
    Probe,
    PurgeEverything,
    Records,
    Restore,
)

LOG = "log-1"
BOOT = "boot-1"
EXACT = frozenset({Kind.URL, Kind.PREFIX, Kind.EVERYTHING})
LIMITS = Limits(batch_max=10, window=2, retry_min_s=0.1, retry_max_s=1.0)
NOW_S = 100.0


def url(path: str) -> Selector:
    return Selector(Kind.URL, f"example.com/{path}")


def purges(*seqs: int) -> tuple[Purge, ...]:
    return tuple(Purge(seq, url(str(seq))) for seq in seqs)


def head(seq: int, floor: int = 0, epoch: str = LOG, released: int | None = None) -> HeadKnown:
    return HeadKnown(seq, floor, epoch, released)


def tell(follower: Follower, *events: Event, now_s: float = NOW_S) -> list[Effect]:
    """All effects of these events."""
    return [effect for event in events for effect in follower.handle(event, now_s)]


def joined(watermark: int = 0, at: HeadKnown | None = None, restores: bool = True) -> Follower:
    """Its table is loaded, and it is replaying."""
    follower = Follower(Position(watermark, LOG), EXACT, restores, LIMITS)
    [probe] = follower.start()
    assert probe == Probe(1)
    [reset] = tell(follower, at or head(watermark), EdgeRestarted(BOOT))
    assert isinstance(reset, Restore | PurgeEverything)
    tell(follower, DriverDone(reset.step))
    assert state_of(follower) is State.REPLAYING
    return follower


def leased(watermark: int = 0, length_s: float = 9.0) -> Follower:
    follower = joined(watermark)
    [install, *_] = tell(follower, LeaseGranted(NOW_S, length_s))
    assert isinstance(install, Install)
    tell(follower, DriverDone(install.step))
    assert state_of(follower) is State.FOLLOWING
    return follower


def backing_off(watermark: int = 0) -> Follower:
    follower = joined(watermark, head(9))
    [apply, *_] = tell(follower, Records(watermark, purges(watermark + 1)))
    assert isinstance(apply, Apply)
    tell(follower, DriverFailed(apply.step, "connection refused"))
    assert state_of(follower) is State.BACKING_OFF
    return follower


def state_of(follower: Follower) -> State:
    """For the type checker, which believes that a state once seen stays."""
    return follower.state


def only(effects: Sequence[Effect], kind: type[Effect]) -> list[Effect]:
    return [effect for effect in effects if isinstance(effect, kind)]
