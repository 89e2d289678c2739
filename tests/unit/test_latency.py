from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agezero import latency
from agezero.latency import BUCKETS_S, Arrivals
from agezero.latency import Latency as Shared


class Latency(Shared):
    """Of one edge that has its points for itself."""

    def __init__(self, head: int, now_s: float) -> None:
        self.arrivals = Arrivals(head, now_s)
        super().__init__(self.arrivals, now_s)
        self.accepted = self.arrivals.accepted


def counted(it: Shared) -> dict[float, int]:
    """Upper end → entries in that bucket alone."""
    return {end: count for end, count in zip((*BUCKETS_S, float("inf")), it.counts, strict=True) if count}


def test_each_entry_is_counted_by_how_long_its_batch_took() -> None:
    it = Latency(0, 0.0)
    it.accepted(3, 1.0)
    it.accepted(5, 2.0)
    it.reached(4, 2.5)  # three of the first batch, one of the second
    assert (counted(it), it.sum_s) == ({2.0: 3, 0.5: 1}, 3 * 1.5 + 0.5)
    assert it.waiting_s(4.0) == 2.0
    it.reached(5, 102.0)
    assert (counted(it), it.waiting_s(200.0)) == ({2.0: 3, 0.5: 1, 300.0: 1}, 0.0)


def test_what_was_in_the_log_before_is_waited_for_and_not_counted() -> None:
    it = Latency(10, 5.0)
    assert it.waiting_s(7.0) == 2.0
    it.accepted(11, 6.0)
    it.reached(11, 8.0)
    assert (counted(it), it.sum_s) == ({2.0: 1}, 2.0)


def test_an_empty_log_has_nobody_waiting() -> None:
    it = Latency(0, 5.0)
    assert it.waiting_s(100.0) == 0.0
    it.accepted(1, 100.0)
    assert it.waiting_s(101.0) == 1.0


def test_a_report_of_less_is_no_news() -> None:
    it = Latency(0, 0.0)
    it.accepted(2, 1.0)
    it.reached(2, 2.0)
    it.reached(1, 9.0)
    it.reached(2, 9.0)
    assert sum(it.counts) == 2


def test_buckets_are_cumulative() -> None:
    it = Latency(0, 0.0)
    it.accepted(1, 0.0)
    it.reached(1, 0.0007)
    it.accepted(2, 1.0)
    it.reached(2, 9999.0)
    buckets = dict(it.buckets())
    assert (buckets["0.0005"], buckets["0.001"], buckets["1800.0"], buckets["+Inf"]) == (0, 1, 1, 2)


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 5), st.floats(0, 10, allow_nan=False)), max_size=60), st.integers(4, 7))
def test_bounded_points_never_make_a_purge_look_faster(steps: list[tuple[bool, int, float]], points_max: int) -> None:
    """Beside a list of every entry with its time: the same number of entries; as fast where the points suffice, else slower."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(latency, "POINTS_MAX", points_max)
        it, now_s, accepted, waiting = Latency(0, 0.0), 0.0, 0, list[float]()
        done_s, done, crowded = 0.0, 0, False
        for accepts, number, pause_s in steps:
            now_s += pause_s
            if accepts:
                accepted += number
                waiting += [now_s] * number
                it.accepted(accepted, now_s)
                crowded = crowded or len(it.arrivals.heads) >= points_max
            else:
                reached = waiting[:number]
                waiting = waiting[number:]
                done += len(reached)
                done_s += sum(now_s - at_s for at_s in reached)
                it.reached(done, now_s)
        assert sum(it.counts) == done
        assert it.sum_s >= done_s - 1e-6
        if not crowded:
            assert it.sum_s == pytest.approx(done_s)
        assert it.waiting_s(now_s) >= (now_s - waiting[0] if waiting else 0.0) - 1e-9


def test_edges_share_what_they_wait_for_and_count_from_when_they_came() -> None:
    arrivals = Arrivals(0, 0.0)
    early = Shared(arrivals, 0.0)
    arrivals.accepted(2, 1.0)
    late = Shared(arrivals, 3.0)
    arrivals.accepted(4, 4.0)
    assert (early.waiting_s(5.0), late.waiting_s(5.0)) == (4.0, 2.0)
    for edge in (early, late):
        edge.reached(9, 5.0)  # beyond what this process knows of the log
    assert (counted(early), counted(late)) == ({5.0: 2, 1.0: 2}, {1.0: 2})
    arrivals.accepted(9, 6.0)
    early.reached(9, 6.0)
    assert (early.sum_s, late.sum_s) == (2 * 4.0 + 2 * 1.0, 2 * 1.0)


def test_sums_stay_exact_however_long_a_service_runs() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(latency, "POINTS_MAX", 64)
        it, head = Latency(0, 0.0), 0
        for second in range(1, 2_000):
            head += 10**9
            it.accepted(head, float(second * 1000))
            before_s = it.sum_s
            it.reached(head, second * 1000 + 0.25)
            assert it.sum_s - before_s == pytest.approx(0.25e9)
            it.sum_s = 0.0
