"""A restart takes nothing back, a shield comes back only when it is safe, and whoever waits is told for whom."""

from __future__ import annotations

from agezero.core.ledger import Blocker, Ledger, Record, Refuse
from support.ledgers import LEASE_S, MARGIN_S, OVER_S, carry_out, granted, joined, leased, ledger_at

# Restart


def after_restart(ledger: Ledger, head: int, now_s: float = 0.0) -> Ledger:
    return Ledger(LEASE_S, MARGIN_S, [member.record for member in ledger.members.values()], head, now_s)


def test_after_a_restart_no_status_is_given_before_each_edge_that_counts_has_reported() -> None:
    before = ledger_at(7)
    a, b = leased(before, "a", 7), leased(before, "b", 7)
    joined(before, "fenced")
    ledger = after_restart(before, 7)
    ledger.report("a", a, 7)
    assert (ledger.recovered, ledger.completed) == (False, 0)
    ledger.report("b", b, 7)
    assert (ledger.recovered, ledger.completed) == (True, 7)


def test_after_a_restart_an_edge_that_goes_on_before_the_last_has_reported_does_not_keep_what_is_complete_from_being_found() -> None:
    before = ledger_at(7)
    a, b = leased(before, "a", 7), leased(before, "b", 7)
    ledger = after_restart(before, 7)
    for name, token, watermark in (("a", a, 5), ("b", b, 5), ("a", a, 7), ("b", b, 7)):
        assert ledger.completed == 0
        ledger.report(name, token, watermark)
    assert ledger.completed == 7


def test_after_a_restart_a_lease_of_unknown_age_is_waited_for_in_full() -> None:
    before = ledger_at(7)
    leased(before, "edge", 7)
    assert ledger_at(7, [Record("edge", fenced=False)]).next_expiry_s() == OVER_S
    ledger = after_restart(before, 7, now_s=100)
    assert ledger.next_expiry_s() == 100 + OVER_S
    carry_out(ledger, ledger.tick(100 + OVER_S))
    assert (ledger.recovered, ledger.completed) == (True, 7)


def test_after_a_restart_an_edge_that_was_left_behind_gets_no_lease_before_it_is_known_what_was_complete() -> None:
    before = ledger_at(0)
    good, lost = leased(before, "good", 0), leased(before, "lost", 0)
    before.appended(9, 0)
    before.report("good", good, 9)
    carry_out(before, before.renew("good", good, 9, OVER_S))
    carry_out(before, before.tick(OVER_S))
    assert before.completed == 9
    ledger = after_restart(before, 9)
    assert not granted(ledger.renew("lost", lost, 4, 0))
    ledger.report("good", good, 9)
    assert ledger.completed == 9


def test_after_a_restart_with_all_edges_fenced_everything_is_complete() -> None:
    before = ledger_at(4)
    joined(before, "edge")
    assert after_restart(before, 4).completed == 4


# Tiers


def test_the_first_tier_is_never_held_back() -> None:
    assert ledger_at(5).released(0) is None


def test_a_purge_is_released_to_the_next_tier_once_every_shield_has_it() -> None:
    ledger = ledger_at(0)
    one, two = leased(ledger, "one", 0), leased(ledger, "two", 0)
    leased(ledger, "front", 0, tier=1)
    ledger.appended(5, 0)
    ledger.report("one", one, 5)
    assert (ledger.released(1), ledger.released(2)) == (0, 0)
    ledger.report("two", two, 4)
    assert (ledger.released(1), ledger.released(2)) == (4, 0)


def test_a_fenced_shield_holds_no_tier_back() -> None:
    ledger = ledger_at(0)
    leased(ledger, "shield", 0)
    ledger.appended(5, 0)
    assert ledger.released(1) == 0
    carry_out(ledger, ledger.tick(OVER_S))
    assert ledger.released(1) == 5


def test_a_shield_comes_back_only_above_what_was_released_without_it() -> None:
    # An edge in front may have applied 5 and then refilled from this shield's older copy.
    ledger = ledger_at(0)
    token = joined(ledger, "shield")
    leased(ledger, "front", 0, tier=1)
    ledger.appended(5, 0)
    assert (ledger.completed, ledger.released(1)) == (0, 5)
    assert ledger.renew("shield", token, 4, 0) == [Refuse("shield", token, "applied up to 4, short of 5, which others count on")]
    assert granted(ledger.renew("shield", token, 5, 0))


def test_what_was_released_before_a_restart_is_taken_to_be_all() -> None:
    before = ledger_at(0)
    shield, front = joined(before, "shield"), leased(before, "front", 0, tier=1)
    ledger = after_restart(before, 5)
    ledger.report("front", front, 0)
    assert not granted(ledger.renew("shield", shield, 4, 0))


def test_an_edge_with_none_in_front_need_not_have_all_that_was_released() -> None:
    ledger = ledger_at(0)
    leased(ledger, "shield", 0)
    leased(ledger, "slow", 0, tier=1)
    token = joined(ledger, "front", tier=1)
    ledger.appended(5, 0)
    ledger.report("shield", ledger.members["shield"].record.token, 5)
    assert ledger.released(1) == 5
    assert granted(ledger.renew("front", token, 3, 0))


def test_without_edges_in_front_only_what_is_complete_counts() -> None:
    ledger = ledger_at(0)
    leased(ledger, "slow", 0)
    token = joined(ledger, "shield")
    ledger.appended(5, 0)
    assert ledger.released(1) == 0
    joined(ledger, "same-tier")
    assert granted(ledger.renew("shield", token, 1, 0))


# Who blocks


def test_a_blocked_purge_says_which_edges_hold_it_up_since_when_and_why() -> None:
    ledger = ledger_at(0)
    fast, slow, broken = (leased(ledger, name, 0) for name in ("fast", "slow", "broken"))
    ledger.appended(1, 2)
    ledger.report("slow", slow, 1)
    ledger.appended(2, 4)
    ledger.report("fast", fast, 2)
    ledger.report("broken", broken, 0, "connection refused")
    assert ledger.blockers(2) == [Blocker("broken", 0, 2, "connection refused"), Blocker("slow", 1, 4, "still applying")]
    assert ledger.blockers(1) == [Blocker("broken", 0, 2, "connection refused")]
    ledger.report("broken", broken, 0)
    assert ledger.blockers(1) == [Blocker("broken", 0, 2, "still applying")]


def test_each_reason_to_wait_has_its_words() -> None:
    ledger = ledger_at(1, [Record("silent", fenced=False)])
    assert [blocker.why for blocker in ledger.blockers(1)] == ["has not reported since the service started"]
    ledger = ledger_at(0)
    leased(ledger, "plain", 0, fences=False)
    leased(ledger, "gone", 0)
    ledger.appended(1, 0)
    ledger.tick(OVER_S)
    assert [blocker.why for blocker in ledger.blockers(1)] == [
        "cannot fence itself; waiting until it is back or removed",
        "lease is over; recording that it is fenced",
    ]


def test_after_a_restart_an_edge_is_behind_since_then() -> None:
    ledger = Ledger(LEASE_S, MARGIN_S, [Record("edge", fenced=False)], 3, now_s=50)
    assert [blocker.since_s for blocker in ledger.blockers(3)] == [50]


def test_a_new_edge_is_behind_since_it_joined() -> None:
    ledger = ledger_at(3)
    joined(ledger, "edge", now_s=9)
    assert ledger.members["edge"].behind_since_s == 9
