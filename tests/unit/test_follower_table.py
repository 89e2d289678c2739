"""The transition table is total, and each of its rows is needed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from agezero.core import steps
from agezero.core.follower import _EVENTS, _TRANSITIONS, ACTIVE, Follower, State
from agezero.core.position import Position
from agezero.core.steps import (
    Acknowledge,
    DriverFailed,
    EdgeRestarted,
    Event,
    LeaseGranted,
    LeaseLost,
    Probe,
    PurgeEverything,
    Read,
    Records,
    Renew,
    Restore,
    Sleep,
    Tick,
)
from support.followers import BOOT, EXACT, LIMITS, LOG, NOW_S, backing_off, head, joined, leased, only, purges, state_of, tell


def fenced() -> Follower:
    follower = leased(0, length_s=9)
    tell(follower, Tick(), now_s=NOW_S + 9)
    assert state_of(follower) is State.FENCED
    return follower


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("event", _EVENTS)
def test_every_event_has_its_place_in_every_state(state: State, event: type[Event]) -> None:
    assert callable(_TRANSITIONS[state][event])


def test_the_table_knows_every_event_and_no_other() -> None:
    assert set(_EVENTS) == set(steps.Event.__args__)
    assert set(_TRANSITIONS) == set(State)


def test_leases_and_records_matter_only_in_active_states() -> None:
    for kind in (Records, LeaseGranted, LeaseLost):
        passive = {_TRANSITIONS[state][kind] for state in set(State) - ACTIVE}
        assert len(passive) == 1
        assert passive.isdisjoint(_TRANSITIONS[state][kind] for state in ACTIVE)


ACTIVE_FOLLOWERS: dict[State, Callable[[], Follower]] = {State.REPLAYING: joined, State.FOLLOWING: leased, State.FENCED: fenced}


@pytest.mark.parametrize("state", ACTIVE_FOLLOWERS)
def test_a_read_that_retention_overtook_is_made_again(state: State) -> None:
    follower = ACTIVE_FOLLOWERS[state]()
    assert state_of(follower) is state
    assert Read(0, 10) in tell(follower, head(0))


@pytest.mark.parametrize("state", ACTIVE_FOLLOWERS)
def test_in_every_active_state_a_doubt_ends_the_lease(state: State) -> None:
    assert only(tell(ACTIVE_FOLLOWERS[state](), head(9, epoch="log-2")), PurgeEverything)
    assert only(tell(ACTIVE_FOLLOWERS[state](), EdgeRestarted("boot-2")), Restore)


@pytest.mark.parametrize("state", ACTIVE_FOLLOWERS)
def test_in_every_active_state_a_failure_is_told(state: State) -> None:
    follower = ACTIVE_FOLLOWERS[state]()
    tell(follower, Records(0, purges(1)), now_s=NOW_S + 10)
    step = max(follower._expected)
    assert tell(follower, DriverFailed(step, "no answer"), now_s=NOW_S + 10) == [Acknowledge(0, "no answer"), Sleep(0.05, 0.1)]
    assert state_of(follower) is State.BACKING_OFF


@pytest.mark.parametrize("state", ACTIVE_FOLLOWERS)
def test_in_every_active_state_a_refused_lease_is_asked_for_again(state: State) -> None:
    follower, now_s = ACTIVE_FOLLOWERS[state](), NOW_S + (9 if state is State.FENCED else 3)
    tell(follower, Tick(), now_s=now_s)
    assert tell(follower, LeaseLost("refused"), now_s=now_s) == [Acknowledge(0, "refused"), Sleep(0.1, 0.2)]
    assert tell(follower, Tick(), now_s=now_s + 0.1) == [Renew(0)]


def test_a_probe_that_fails_before_the_log_is_known_is_made_again() -> None:
    follower = Follower(Position(0, LOG), EXACT, limits=LIMITS)
    follower.start()
    assert only(tell(follower, DriverFailed(1, "no answer")), Sleep)
    assert tell(follower, Tick(), now_s=NOW_S + 1) == [Probe(2)]


def test_time_alone_changes_nothing_before_the_log_and_the_cache_are_known_and_while_it_is_reset() -> None:
    follower = Follower(Position(0, LOG), EXACT)
    assert tell(follower, EdgeRestarted(BOOT), Tick()) == []
    tell(follower, head(0))
    assert state_of(follower) is State.RESETTING
    assert tell(follower, Tick()) == []


def test_news_of_the_log_does_not_end_a_pause() -> None:
    follower = backing_off()
    assert tell(follower, head(20), head(30, epoch="log-2")) == []
    assert state_of(follower) is State.BACKING_OFF
    assert only(tell(follower, EdgeRestarted(BOOT)), PurgeEverything)
