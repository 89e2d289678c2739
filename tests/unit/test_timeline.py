"""When a mark was reached: exact for the newest, later but never earlier for the oldest."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agezero.core.timeline import Timeline


def test_a_mark_was_reached_with_the_first_report_that_is_not_below_it() -> None:
    line = Timeline()
    for mark, at in ((5, 100), (8, 200), (8, 250), (6, 300), (12, 400)):
        line.reached(mark, at)
    assert [line.when(mark) for mark in (6, 8, 9, 12)] == [200, 200, 400, 400]


def test_what_was_before_the_first_report_and_what_is_to_come_has_no_time() -> None:
    line = Timeline()
    assert line.when(1) is None
    line.reached(5, 100)
    assert line.when(5) is None
    assert line.when(6) is None


def test_what_was_reached_by_a_time() -> None:
    line = Timeline()
    assert line.reached_by(100) == 0
    for mark, at in ((5, 100), (8, 200), (12, 400)):
        line.reached(mark, at)
    assert [line.reached_by(at) for at in (0, 100, 199, 200, 399, 400, 999)] == [5, 5, 5, 8, 8, 12, 12], "5 was before anybody looked"


def test_a_clock_that_goes_back_is_held() -> None:
    line = Timeline()
    for mark, at in ((1, 100), (2, 200), (3, 150), (4, 250)):
        line.reached(mark, at)
    assert [line.when(mark) for mark in (2, 3, 4)] == [200, 200, 250]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=200), st.integers(4, 16))
def test_thinned_out_it_is_bounded_and_never_says_a_time_too_early(steps: list[tuple[int, int]], points_max: int) -> None:
    line, exact = Timeline(points_max), Timeline(1000)
    mark = at = 0
    for more, later in steps:
        mark, at = mark + more, at + later
        line.reached(mark, at)
        exact.reached(mark, at)
    assert len(line) <= points_max
    for each in range(mark + 2):
        said, true = line.when(each), exact.when(each)
        assert (said is None) == (true is None)
        assert said is None or true is None or true <= said <= at


def test_a_report_that_says_nothing_new_takes_no_room() -> None:
    line = Timeline()
    for at in (100, 200, 300):
        line.reached(5, at)
    assert len(line) == 1


def test_it_keeps_as_many_points_as_it_may() -> None:
    line = Timeline(8)
    for mark in range(8):
        line.reached(mark, 10 * mark)
    assert [line.when(mark) for mark in range(8)] == [None, 10, 20, 30, 40, 50, 60, 70]


def test_it_needs_some_points() -> None:
    with pytest.raises(ValueError, match="at least 4"):
        Timeline(3)


def test_every_second_point_of_the_older_half_goes() -> None:
    line = Timeline(8)
    for mark in range(9):
        line.reached(mark, 10 * mark)
    assert len(line) == 7
    assert [line.when(mark) for mark in range(9)] == [None, 20, 20, 40, 40, 50, 60, 70, 80]
