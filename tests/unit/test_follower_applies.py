"""An edge applies in order, and says only what is confirmed."""

from __future__ import annotations

import pytest

from agezero.core.follower import Follower, State
from agezero.core.position import Position
from agezero.core.purge import Purge
from agezero.core.selector import EVERYTHING, Kind, Selector
from agezero.core.steps import (
    Acknowledge,
    Apply,
    DriverDone,
    DriverFailed,
    EdgeRestarted,
    Probe,
    Read,
    Records,
    Renew,
    Restore,
    SaveWatermark,
    Sleep,
    Tick,
)
from support.followers import BOOT, EXACT, LIMITS, LOG, NOW_S, backing_off, head, joined, leased, only, purges, state_of, tell, url


def test_a_batch_is_applied_then_saved_then_acknowledged() -> None:
    follower = leased()
    assert tell(follower, Records(0, purges(1, 2))) == [Apply(4, purges(1, 2)), Read(2, 10)]
    assert tell(follower, DriverDone(4)) == [SaveWatermark(2, LOG), Acknowledge(2)]
    assert follower.watermark == 2


def test_the_watermark_moves_only_over_a_confirmed_prefix() -> None:
    follower = leased()
    tell(follower, Records(0, purges(1)), Records(1, purges(2)))
    assert only(tell(follower, DriverDone(5)), Acknowledge) == []
    assert follower.watermark == 0
    assert tell(follower, DriverDone(4)) == [SaveWatermark(2, LOG), Acknowledge(2), Read(2, 10)]


def test_no_more_is_on_its_way_than_the_window_holds() -> None:
    follower = leased()
    assert only(tell(follower, Records(0, purges(1))), Read) == [Read(1, 10)]
    assert only(tell(follower, Records(1, purges(2))), Read) == []
    assert only(tell(follower, DriverDone(4)), Read) == [Read(2, 10)]


@pytest.mark.parametrize("after", [1, 2])
def test_records_that_do_not_follow_on_are_never_applied(after: int) -> None:
    follower = leased()
    tell(follower, Records(0, purges(1)))
    tell(follower, Records(1, purges(2)))
    assert tell(follower, Records(after, purges(after + 1))) == []  # nothing is being read now
    tell(follower, DriverDone(4))
    assert tell(follower, Records(1, purges(2))) == []  # the same answer twice
    assert tell(follower, Records(5, purges(6))) == []


def test_a_read_that_found_nothing_is_made_again() -> None:
    assert tell(leased(4), Records(4, ())) == [Read(4, 10)]


def test_nothing_is_applied_that_was_not_released_to_this_tier() -> None:
    follower = joined(0, head(9, released=2))
    assert tell(follower, Records(0, purges(1, 2, 3))) == [Apply(3, purges(1, 2))]
    assert tell(follower, DriverDone(3)) == [SaveWatermark(2, LOG), Acknowledge(2), Renew(2)]
    assert tell(follower, head(9, released=3)) == [Read(2, 10)]
    assert tell(follower, Records(2, purges(3))) == [Apply(4, purges(3))]


def test_an_edge_that_may_apply_nothing_yet_does_not_read() -> None:
    follower = joined(0, head(9, released=0))
    assert tell(follower, Tick()) == []
    assert state_of(follower) is State.REPLAYING


def test_records_that_were_all_released_too_early_are_read_again_later() -> None:
    follower = joined(0, head(9, released=1))
    tell(follower, head(9, released=0))
    assert tell(follower, Records(0, purges(1))) == []
    assert tell(follower, head(9, released=1)) == [Read(0, 10)]


def test_what_the_driver_cannot_do_exactly_is_widened() -> None:
    follower = Follower(Position(0, LOG), frozenset({Kind.HOST}), limits=LIMITS)
    tell(follower, head(0), EdgeRestarted(BOOT), DriverDone(1))
    given = [Purge(1, url("a")), Purge(2, Selector(Kind.HOST, "example.org")), Purge(3, Selector(Kind.TAG, "sale")), Purge(4, EVERYTHING)]
    [apply] = only(tell(follower, Records(0, given)), Apply)
    done = (Selector(Kind.HOST, "example.com"), Selector(Kind.HOST, "example.org"), EVERYTHING, EVERYTHING)
    assert apply == Apply(2, tuple(Purge(seq, selector) for seq, selector in enumerate(done, 1)))


def test_a_trace_stays_with_its_purge_however_wide_that_becomes() -> None:
    follower = leased()
    [apply] = only(tell(follower, Records(0, [Purge(1, Selector(Kind.TAG, "sale"), trace="t")])), Apply)
    assert apply == Apply(4, (Purge(1, EVERYTHING, trace="t"),))
    tell(follower, Records(1, [Purge(2, url("a"), trace="u")]))
    [wider] = tell(follower, DriverFailed(5, "no", refused=True))
    assert wider == Apply(6, (Purge(2, Selector(Kind.PREFIX, "example.com/a"), trace="u"),))


# When the cache does not confirm


def test_a_refused_purge_is_asked_for_again_at_once_and_wider() -> None:
    follower = leased()
    tell(follower, Records(0, purges(1)))
    prefix = Selector(Kind.PREFIX, "example.com/1")
    assert tell(follower, DriverFailed(4, "no", refused=True)) == [Apply(5, (Purge(1, prefix),))]
    assert tell(follower, DriverFailed(5, "no", refused=True)) == [Apply(6, (Purge(1, EVERYTHING),))]
    assert state_of(follower) is State.FOLLOWING
    assert only(tell(follower, DriverFailed(6, "no", refused=True)), Acknowledge) == [Acknowledge(0, "no")]
    assert state_of(follower) is State.BACKING_OFF


def test_a_batch_with_one_purge_that_can_be_widened_is_asked_for_again() -> None:
    follower = leased()
    tell(follower, Records(0, [Purge(1, EVERYTHING), Purge(2, url("a"))]))
    [apply] = tell(follower, DriverFailed(4, "no", refused=True))
    assert apply == Apply(5, (Purge(1, EVERYTHING), Purge(2, Selector(Kind.PREFIX, "example.com/a"))))


def test_a_refusal_while_backing_off_is_retried_wider_after_the_probe() -> None:
    follower = leased()
    tell(follower, Records(0, purges(1)), Records(1, purges(2)))
    tell(follower, DriverFailed(4, "connection refused"))
    assert tell(follower, DriverFailed(5, "no", refused=True)) == []
    retried = only(tell(follower, EdgeRestarted(BOOT)), Apply)
    assert retried == [Apply(6, purges(1)), Apply(7, (Purge(2, Selector(Kind.PREFIX, "example.com/2")),))]


def test_a_failure_is_told_and_retried_after_a_pause_and_a_probe() -> None:
    follower = leased()
    tell(follower, Records(0, purges(1)))
    assert tell(follower, DriverFailed(4, "connection refused")) == [Acknowledge(0, "connection refused"), Sleep(0.05, 0.1)]
    assert state_of(follower) is State.BACKING_OFF
    assert tell(follower, Tick(), now_s=NOW_S + 0.04) == []
    assert tell(follower, Tick(), now_s=NOW_S + 0.05) == [Probe(5)]
    assert tell(follower, Tick(), now_s=NOW_S + 0.06) == []  # one probe is enough
    assert tell(follower, EdgeRestarted(BOOT), now_s=NOW_S + 0.07) == [Apply(6, purges(1)), Read(1, 10)]
    assert state_of(follower) is State.FOLLOWING
    assert tell(follower, DriverDone(6))[:2] == [SaveWatermark(1, LOG), Acknowledge(1)]


def test_after_a_pause_longer_than_the_lease_the_edge_catches_up_first() -> None:
    follower = leased(0, length_s=9)
    tell(follower, Records(0, purges(1)), DriverFailed(4, "connection refused"))
    tell(follower, EdgeRestarted(BOOT), now_s=NOW_S + 9)
    assert state_of(follower) is State.REPLAYING


def test_pauses_double_up_to_a_limit_and_begin_anew_after_a_success() -> None:
    follower, slept = backing_off(), []
    for _ in range(6):
        [probe] = tell(follower, Tick(), now_s=NOW_S + 60)
        assert isinstance(probe, Probe)
        slept += only(tell(follower, DriverFailed(probe.step, "connection refused")), Sleep)
    assert slept == [Sleep(0.1, 0.2), Sleep(0.2, 0.4), Sleep(0.4, 0.8), Sleep(0.5, 1.0), Sleep(0.5, 1.0), Sleep(0.5, 1.0)]
    [apply, _] = tell(follower, EdgeRestarted(BOOT))
    assert isinstance(apply, Apply)
    tell(follower, DriverDone(apply.step))
    [again, *_] = tell(follower, Records(1, purges(2)))
    assert isinstance(again, Apply)
    assert only(tell(follower, DriverFailed(again.step, "connection refused")), Sleep) == [Sleep(0.05, 0.1)]


def test_an_edge_that_is_down_for_days_is_still_probed() -> None:
    follower = backing_off()
    for _ in range(1100):  # 2**1024 is no float
        [probe] = tell(follower, Tick(), now_s=NOW_S + 60)
        assert isinstance(probe, Probe)
        effects = tell(follower, DriverFailed(probe.step, "connection refused"))
    assert effects == [Acknowledge(0, "connection refused"), Sleep(0.5, 1.0)]


def test_other_batches_go_on_while_one_is_retried() -> None:
    follower = leased()
    tell(follower, Records(0, purges(1)), Records(1, purges(2)))
    tell(follower, DriverFailed(4, "connection refused"))
    assert tell(follower, DriverDone(5)) == []
    assert tell(follower, EdgeRestarted(BOOT)) == [Apply(6, purges(1))]
    assert tell(follower, DriverDone(6))[:2] == [SaveWatermark(2, LOG), Acknowledge(2)]


def test_a_batch_confirmed_while_backing_off_counts() -> None:
    follower = leased()
    tell(follower, Records(0, purges(1)), Records(1, purges(2)))
    tell(follower, DriverFailed(5, "connection refused"))
    assert tell(follower, DriverDone(4)) == [SaveWatermark(1, LOG), Acknowledge(1)]
    assert state_of(follower) is State.BACKING_OFF


def test_a_cache_that_restarts_while_backing_off_is_reset_without_a_probe() -> None:
    follower = backing_off()
    assert only(tell(follower, EdgeRestarted("boot-2")), Restore) == [Restore(4, "boot-2")]


def test_the_news_of_a_restart_answers_a_probe_too() -> None:
    follower = backing_off()
    [probe] = tell(follower, Tick(), now_s=NOW_S + 1)
    tell(follower, EdgeRestarted(BOOT))
    assert isinstance(probe, Probe)
    assert tell(follower, DriverFailed(probe.step, "too late")) == []
    assert state_of(follower) is State.REPLAYING


def test_a_reset_that_fails_is_tried_again() -> None:
    follower = Follower(Position(3, LOG), EXACT, limits=LIMITS)
    tell(follower, head(3), EdgeRestarted(BOOT))
    assert tell(follower, DriverFailed(1, "connection refused")) == [Acknowledge(3, "connection refused"), Sleep(0.05, 0.1)]
    assert tell(follower, EdgeRestarted(BOOT)) == [Restore(2, BOOT)]


def test_an_edge_whose_cache_was_found_before_its_log_still_joins() -> None:
    follower = Follower(Position(3, LOG), EXACT, limits=LIMITS)
    follower.start()
    tell(follower, DriverFailed(1, "connection refused"), EdgeRestarted(BOOT))
    assert tell(follower, head(3)) == [Restore(2, BOOT)]


def test_a_confirmation_of_a_probe_says_nothing() -> None:
    follower = Follower(Position(), EXACT)
    follower.start()
    assert tell(follower, DriverDone(1)) == []
    assert state_of(follower) is State.JOINING


def test_a_soft_purge_is_made_hard_for_a_driver_that_knows_no_soft_ones() -> None:
    records = Records(0, [Purge(1, url("a"), soft=True)])
    for soft in (True, False):
        follower = Follower(Position(0, LOG), EXACT, limits=LIMITS, soft=soft)
        [probe] = follower.start()
        assert isinstance(probe, Probe)
        [restore] = tell(follower, head(1), EdgeRestarted(BOOT))
        assert isinstance(restore, Restore)
        tell(follower, DriverDone(restore.step))
        [apply, *_] = tell(follower, records)
        assert isinstance(apply, Apply)
        assert apply.purges == (Purge(1, url("a"), soft),)


def test_a_refused_soft_purge_is_tried_hard_even_where_it_cannot_be_wider() -> None:
    follower = Follower(Position(0, LOG), EXACT, limits=LIMITS, soft=True)
    follower.start()
    [restore] = tell(follower, head(1), EdgeRestarted(BOOT))
    assert isinstance(restore, Restore)
    tell(follower, DriverDone(restore.step))
    [apply, *_] = tell(follower, Records(0, [Purge(1, EVERYTHING, soft=True)]))
    assert isinstance(apply, Apply)
    assert tell(follower, DriverFailed(apply.step, "no", refused=True)) == [Apply(apply.step + 1, (Purge(1, EVERYTHING),))]
