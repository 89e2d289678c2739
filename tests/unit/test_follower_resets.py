"""A cache of which nothing is certain loses everything before it serves again."""

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
    HeadKnown,
    Probe,
    PurgeEverything,
    Read,
    Records,
    Renew,
    Restore,
    SaveWatermark,
    Sleep,
)
from support.followers import BOOT, EXACT, LIMITS, LOG, head, joined, leased, only, purges, state_of, tell


@pytest.mark.parametrize("log_first", [True, False])
def test_a_cache_that_lost_its_table_gets_the_saved_one_before_anything_else(log_first: bool) -> None:
    follower = Follower(Position(3, LOG), EXACT, limits=LIMITS)
    assert follower.start() == [Probe(1)]
    first, second = (head(5), EdgeRestarted(BOOT)) if log_first else (EdgeRestarted(BOOT), head(5))
    assert tell(follower, first) == []
    assert tell(follower, second) == [Restore(2, BOOT)]
    assert state_of(follower) is State.RESETTING
    assert tell(follower, DriverDone(2)) == [Read(3, 10)]
    assert state_of(follower) is State.REPLAYING


def test_a_cache_that_cannot_be_given_its_table_is_emptied() -> None:
    follower = Follower(Position(3, LOG), EXACT, restores=False)
    assert tell(follower, head(5), EdgeRestarted(BOOT)) == [PurgeEverything(1, 5, LOG, "the cache has restarted")]
    assert tell(follower, DriverDone(1))[:2] == [SaveWatermark(5, LOG), Acknowledge(5)]
    assert state_of(follower) is State.REPLAYING


@pytest.mark.parametrize(
    ("position", "log", "reason"),
    [
        (Position(3, LOG, "the table's file is damaged"), head(5), "the table's file is damaged"),
        (Position(3, "log-0"), head(5), "this is not the log that was followed before"),
        (Position(), head(5), "this is not the log that was followed before"),
        (Position(3, LOG), head(5, floor=4), "retention has removed entries that were not applied here"),
    ],
)
def test_when_nothing_is_known_of_the_cache_everything_is_purged(position: Position, log: HeadKnown, reason: str) -> None:
    follower = Follower(position, EXACT)
    tell(follower, log, EdgeRestarted(BOOT))
    assert tell(follower, DriverDone(1)) == [PurgeEverything(2, 5, LOG, reason)]
    assert tell(follower, DriverDone(2))[:2] == [SaveWatermark(5, LOG), Acknowledge(5)]
    assert follower.position == Position(5, LOG)
    assert state_of(follower) is State.REPLAYING


def test_an_edge_that_has_all_up_to_the_floor_loses_nothing() -> None:
    assert joined(4, head(5, floor=4)).watermark == 4


@pytest.mark.parametrize(
    ("watermark", "log", "seq"),
    [
        (9, head(5), 9),  # the log was restored from a backup; the watermark never falls
        (0, head(9), 9),
        (0, head(9, released=7), 7),  # a shield may still hold what 8 and 9 purged
        (0, head(5, released=7), 5),
        (0, head(9, floor=8, released=8), 8),
    ],
)
def test_a_purge_of_everything_counts_up_to_what_this_edge_may_apply(watermark: int, log: HeadKnown, seq: int) -> None:
    follower = Follower(Position(watermark, "log-0"), EXACT, restores=False)
    tell(follower, log, EdgeRestarted(BOOT))
    tell(follower, DriverDone(1))
    assert (follower.watermark, follower.state) == (seq, State.REPLAYING)


@pytest.mark.parametrize("log_first", [True, False])
def test_an_edge_that_may_not_yet_apply_what_retention_removed_waits_instead_of_purging_again_and_again(log_first: bool) -> None:
    follower = Follower(Position(0, LOG), EXACT, restores=False, limits=LIMITS)
    news = [head(9, floor=8, released=7), EdgeRestarted(BOOT)]
    [told, pause] = tell(follower, *(news if log_first else reversed(news)))
    assert isinstance(told, Acknowledge)
    assert told.trouble
    assert isinstance(pause, Sleep)
    tell(follower, head(9, floor=8, released=8))
    assert only(tell(follower, EdgeRestarted(BOOT)), PurgeEverything)


@pytest.mark.parametrize("restores", [True, False])
def test_a_cache_that_restarts_while_it_is_being_reset_is_reset_again(restores: bool) -> None:
    follower = Follower(Position(3, LOG), EXACT, restores)
    tell(follower, head(3), EdgeRestarted(BOOT))
    [again] = tell(follower, EdgeRestarted("boot-2"))
    assert again == (Restore(2, "boot-2") if restores else PurgeEverything(2, 3, LOG, "the cache has restarted"))
    assert tell(follower, DriverDone(1)) == []  # of the cache that is gone
    assert state_of(follower) is State.RESETTING
    tell(follower, DriverDone(2))
    assert state_of(follower) is State.REPLAYING


def test_a_log_that_changes_during_a_reset_is_looked_at_afterwards() -> None:
    follower = Follower(Position(3, LOG), EXACT)
    tell(follower, head(3), EdgeRestarted(BOOT))
    assert tell(follower, head(30, floor=20)) == []
    assert only(tell(follower, DriverDone(1)), PurgeEverything) == [
        PurgeEverything(2, 30, LOG, "retention has removed entries that were not applied here")
    ]


@pytest.mark.parametrize("event", [EdgeRestarted("boot-2"), head(9, epoch="log-2"), head(9, floor=8)])
def test_a_lease_does_not_outlive_what_it_rested_on(event: Event) -> None:
    follower = leased(1)
    tell(follower, Records(1, purges(2)))
    [reset] = tell(follower, event)
    assert isinstance(reset, Restore | PurgeEverything)
    assert state_of(follower) is State.RESETTING
    assert follower.wake_at_s() is None
    assert only(tell(follower, DriverDone(reset.step)), Renew) or follower.watermark < 9


@pytest.mark.parametrize("answer", [[], [DriverFailed(3, "connection refused")]])
@pytest.mark.parametrize("news", [head(9, epoch="log-2"), head(9, floor=8)])
def test_old_news_of_the_log_that_arrives_late_takes_no_doubt_away(news: HeadKnown, answer: list[Event]) -> None:
    follower = joined(5)
    [reset] = tell(follower, news)
    assert isinstance(reset, PurgeEverything)
    assert reset.step == 3
    [again] = only(tell(follower, head(5), *answer, EdgeRestarted(BOOT)), PurgeEverything)
    assert isinstance(again, PurgeEverything)
    assert again.reason == reset.reason
    [newest] = only(tell(follower, news, DriverDone(again.step)), PurgeEverything)
    assert isinstance(newest, PurgeEverything)
    tell(follower, DriverDone(newest.step))
    assert state_of(follower) is State.REPLAYING


def test_a_restart_that_is_none_changes_nothing() -> None:
    follower = leased()
    assert tell(follower, EdgeRestarted(BOOT)) == []
    assert state_of(follower) is State.FOLLOWING


def test_what_was_on_its_way_before_a_reset_moves_nothing_after_it() -> None:
    follower = leased()
    [apply, *_] = tell(follower, Records(0, purges(1)))
    assert isinstance(apply, Apply)
    tell(follower, EdgeRestarted("boot-2"))
    assert tell(follower, DriverDone(apply.step), DriverFailed(apply.step, "gone")) == []
    assert (follower.watermark, follower.state) == (0, State.RESETTING)


def test_a_reset_reads_the_log_anew_from_the_watermark() -> None:
    follower = leased()
    tell(follower, Records(0, purges(1, 2)))
    [restore] = tell(follower, EdgeRestarted("boot-2"))
    assert isinstance(restore, Restore)
    assert only(tell(follower, Records(2, purges(3))), Apply) == []
    assert Read(0, 10) in tell(follower, DriverDone(restore.step))
