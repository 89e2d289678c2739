"""An edge lets its cache serve only once it has caught up, and for a lease at a time."""

from __future__ import annotations

import pytest

from agezero.core.follower import Follower, State
from agezero.core.position import Position
from agezero.core.steps import (
    Acknowledge,
    Apply,
    DriverDone,
    DriverFailed,
    EdgeRestarted,
    Event,
    Install,
    LeaseGranted,
    LeaseLost,
    Read,
    Records,
    Renew,
    Sleep,
    Tick,
)
from support.followers import BOOT, EXACT, LIMITS, LOG, NOW_S, backing_off, head, joined, leased, only, purges, state_of, tell


def test_a_lease_is_asked_for_once_caught_up() -> None:
    follower = joined(0, head(2))
    assert tell(follower, Tick()) == []
    assert only(tell(follower, Records(0, purges(1))), Renew) == []
    assert only(tell(follower, DriverDone(3)), Renew) == []
    tell(follower, Records(1, purges(2)))
    assert only(tell(follower, DriverDone(4)), Renew) == [Renew(2)]


def test_a_head_that_runs_away_keeps_no_edge_from_its_lease() -> None:
    follower = joined(0, head(1))
    tell(follower, head(50))
    [apply, *_] = tell(follower, Records(0, purges(1)))
    assert isinstance(apply, Apply)
    assert only(tell(follower, DriverDone(apply.step)), Renew) == [Renew(1)]


def test_an_edge_catches_up_with_what_it_has_read_even_if_it_has_not_heard_of_a_new_head() -> None:
    follower = leased()
    tell(follower, Records(0, purges(1)))
    assert tell(follower, Tick(), now_s=NOW_S + 3) == []
    assert only(tell(follower, DriverDone(4), now_s=NOW_S + 3), Renew) == [Renew(1)]


def test_an_edge_is_caught_up_when_it_has_what_its_tier_may_have() -> None:
    follower = joined(0, head(9, released=2))
    tell(follower, Records(0, purges(1, 2)))
    assert only(tell(follower, DriverDone(3)), Renew) == [Renew(2)]


def test_the_first_lease_is_asked_for_once() -> None:
    follower = Follower(Position(0, LOG), EXACT, limits=LIMITS)
    tell(follower, head(0), EdgeRestarted(BOOT))
    assert tell(follower, DriverDone(1)) == [Read(0, 10), Renew(0)]
    assert tell(follower, Tick()) == []


def test_a_lease_runs_from_when_it_was_asked_for() -> None:
    follower = joined()
    assert tell(follower, LeaseGranted(NOW_S - 2, 9)) == [Install(3, NOW_S - 2, 9)]
    assert state_of(follower) is State.REPLAYING
    assert tell(follower, DriverDone(3)) == []
    assert (follower.state, follower.wake_at_s()) == (State.FOLLOWING, NOW_S - 2 + 3)


def test_a_lease_that_came_too_late_is_asked_for_again() -> None:
    follower = joined()
    tell(follower, LeaseGranted(NOW_S - 9, 9))
    assert tell(follower, DriverDone(3)) == [Renew(0)]
    assert state_of(follower) is State.REPLAYING


def test_a_lease_is_renewed_after_a_third() -> None:
    follower = leased(0, length_s=9)
    assert follower.wake_at_s() == NOW_S + 3
    assert tell(follower, Tick(), now_s=NOW_S + 2.9) == []
    assert tell(follower, Tick(), now_s=NOW_S + 3) == [Renew(0)]
    assert follower.wake_at_s() == NOW_S + 9
    assert tell(follower, LeaseGranted(NOW_S + 3, 9), now_s=NOW_S + 3.1) == [Install(4, NOW_S + 3, 9)]
    assert follower.wake_at_s() == NOW_S + 9  # nothing to do before the cache confirms
    tell(follower, DriverDone(4), now_s=NOW_S + 3.2)
    assert follower.wake_at_s() == NOW_S + 6


def test_while_it_catches_up_for_a_renewal_an_edge_wakes_only_to_be_fenced() -> None:
    follower = leased(0, length_s=9)
    tell(follower, Records(0, purges(1)))
    tell(follower, Tick(), now_s=NOW_S + 3)
    assert follower.wake_at_s() == NOW_S + 9


def test_an_edge_knows_when_it_is_fenced_and_comes_back_through_a_new_lease() -> None:
    follower = leased(0, length_s=9)
    tell(follower, Tick(), now_s=NOW_S + 3)
    assert tell(follower, Tick(), now_s=NOW_S + 8.9) == []
    assert state_of(follower) is State.FOLLOWING
    assert tell(follower, Tick(), now_s=NOW_S + 9) == []
    assert (follower.state, follower.wake_at_s()) == (State.FENCED, None)
    tell(follower, LeaseGranted(NOW_S + 8, 9), now_s=NOW_S + 9)
    tell(follower, DriverDone(4), now_s=NOW_S + 9)
    assert state_of(follower) is State.FOLLOWING


def test_a_refused_lease_is_told_and_asked_for_again_after_a_pause() -> None:
    follower = joined()
    assert tell(follower, LeaseLost("short of 5")) == [Acknowledge(0, "short of 5"), Sleep(0.1, 0.2)]
    assert tell(follower, Tick(), now_s=NOW_S + 0.09) == []
    assert tell(follower, Tick(), now_s=NOW_S + 0.1) == [Renew(0)]


def test_a_lease_that_the_cache_did_not_take_is_no_lease() -> None:
    follower = joined()
    tell(follower, LeaseGranted(NOW_S, 9))
    assert only(tell(follower, DriverFailed(3, "connection refused")), Sleep)
    assert Renew(0) in tell(follower, EdgeRestarted(BOOT))
    assert state_of(follower) is State.REPLAYING


def test_a_lease_taken_while_backing_off_is_held_afterwards() -> None:
    follower = joined()
    tell(follower, LeaseGranted(NOW_S, 9), Records(0, purges(1)), DriverFailed(4, "connection refused"))
    assert tell(follower, DriverDone(3)) == []
    assert state_of(follower) is State.BACKING_OFF
    tell(follower, EdgeRestarted(BOOT))
    assert state_of(follower) is State.FOLLOWING


@pytest.mark.parametrize("answer", [LeaseGranted(NOW_S, 9), LeaseLost("refused")])
@pytest.mark.parametrize("state", [State.JOINING, State.RESETTING, State.BACKING_OFF])
def test_no_lease_is_given_to_a_cache_in_doubt(state: State, answer: Event) -> None:
    follower = {State.JOINING: Follower(Position(), EXACT), State.RESETTING: joined(), State.BACKING_OFF: backing_off()}[state]
    if state is State.RESETTING:
        tell(follower, EdgeRestarted("boot-2"))
    assert state_of(follower) is state
    assert tell(follower, answer) == []
    assert not follower._lease.asking


def test_after_a_lease_was_refused_while_in_doubt_it_is_asked_for_again() -> None:
    follower = joined()
    tell(follower, Records(0, purges(1)), DriverFailed(3, "connection refused"), LeaseLost("refused"))
    tell(follower, EdgeRestarted(BOOT))
    assert only(tell(follower, DriverDone(4)), Renew) == [Renew(1)]


def test_a_lease_that_was_over_before_the_cache_confirmed_it_is_none() -> None:
    follower = joined()
    [install, *_] = tell(follower, LeaseGranted(NOW_S, 9.0))
    assert isinstance(install, Install)
    tell(follower, DriverDone(install.step), now_s=NOW_S + 9.0)
    assert state_of(follower) is State.REPLAYING
