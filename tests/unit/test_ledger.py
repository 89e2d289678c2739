"""Completed never goes back, and nothing that may still serve from its cache is left out of it."""

from __future__ import annotations

import pytest

from agezero.core.ledger import DRAINED, Grant, Ledger, Record, Refuse, Save, Standing, Superseded
from support.ledgers import LEASE_S, MARGIN_S, OVER_S, carry_out, granted, joined, leased, ledger_at

# Complete


def test_with_no_edge_a_purge_is_complete_at_once() -> None:
    ledger = ledger_at(0)
    ledger.appended(3, 0)
    assert (ledger.completed, ledger.recovered, ledger.blockers(3)) == (3, True, [])


def test_a_purge_is_complete_once_the_slowest_edge_has_it() -> None:
    ledger = ledger_at(0)
    fast, slow = leased(ledger, "fast", 0), leased(ledger, "slow", 0)
    ledger.appended(5, 0)
    ledger.report("fast", fast, 5)
    assert ledger.completed == 0
    ledger.report("slow", slow, 3)
    assert ledger.completed == 3
    ledger.report("slow", slow, 5)
    assert ledger.completed == 5


def test_no_report_completes_more_than_the_log_holds() -> None:
    ledger = ledger_at(2)
    token = leased(ledger, "edge", 2)
    ledger.report("edge", token, 99)
    assert ledger.completed == 2


def test_a_report_that_comes_late_takes_nothing_back() -> None:
    ledger = ledger_at(5)
    token = leased(ledger, "edge", 5)
    ledger.report("edge", token, 2)
    assert (ledger.completed, ledger.members["edge"].watermark) == (5, 5)


def test_a_head_that_comes_late_takes_nothing_back() -> None:
    ledger = ledger_at(0)
    ledger.appended(5, 0)
    ledger.appended(4, 0)
    assert ledger.completed == 5


def test_an_edge_that_has_all_of_a_log_that_did_not_grow_is_not_behind() -> None:
    ledger = ledger_at(5)
    leased(ledger, "edge", 5)
    ledger.appended(5, 1)
    ledger.appended(6, 7)
    assert ledger.members["edge"].behind_since_s == 7


# Leases


def test_an_edge_counts_from_the_moment_its_lease_is_granted() -> None:
    ledger = ledger_at(0)
    token = joined(ledger, "edge")
    ledger.appended(1, 0)
    assert ledger.completed == 1
    effects = ledger.renew("edge", token, 1, 0)
    assert [type(effect) for effect in effects] == [Save, Grant]
    assert effects[-1] == Grant("edge", token, LEASE_S)
    ledger.appended(2, 0)
    assert ledger.completed == 1


def test_an_edge_that_is_only_just_joining_holds_nothing_up() -> None:
    ledger = ledger_at(0)
    ledger.join("edge", 0, True, 0)
    ledger.appended(1, 0)
    assert ledger.completed == 1


def test_an_edge_that_is_short_of_what_was_called_complete_gets_no_lease() -> None:
    ledger = ledger_at(5)
    token = joined(ledger, "edge")
    assert ledger.renew("edge", token, 4, 0) == [Refuse("edge", token, "applied up to 4, short of 5, which others count on")]
    assert not ledger.members["edge"].counts
    assert granted(ledger.renew("edge", token, 5, 0))


def test_an_edge_with_a_lease_may_renew_it_while_it_is_behind() -> None:
    ledger = ledger_at(0)
    token = leased(ledger, "edge", 0)
    ledger.appended(9, 0)
    assert ledger.renew("edge", token, 3, 1) == [Grant("edge", token, LEASE_S)]


def test_a_dead_edge_holds_a_purge_up_for_a_lease_and_the_margin_and_no_longer() -> None:
    ledger = ledger_at(0)
    leased(ledger, "edge", 0)
    ledger.appended(1, 0)
    assert ledger.next_expiry_s() == OVER_S
    assert ledger.tick(OVER_S - 0.001) == []
    carry_out(ledger, ledger.tick(OVER_S))
    assert (ledger.completed, ledger.next_expiry_s()) == (1, None)


def test_a_lease_is_counted_from_its_last_renewal() -> None:
    ledger = ledger_at(0)
    token = leased(ledger, "edge", 0)
    ledger.renew("edge", token, 0, 5)
    assert ledger.next_expiry_s() == 5 + OVER_S
    assert ledger.tick(OVER_S) == []


def test_the_next_expiry_is_the_first() -> None:
    ledger = ledger_at(0)
    leased(ledger, "late", 0, now_s=3)
    leased(ledger, "early", 0, now_s=1)
    leased(ledger, "never", 0, fences=False)
    assert ledger.next_expiry_s() == 1 + OVER_S


def test_an_edge_whose_lease_is_over_counts_until_that_is_on_record() -> None:
    ledger = ledger_at(0)
    leased(ledger, "edge", 0)
    ledger.appended(1, 0)
    [save] = ledger.tick(OVER_S)
    assert ledger.completed == 0
    assert ledger.members["edge"].standing is Standing.EXPIRING
    assert isinstance(save, Save)
    assert save.record.fenced
    ledger.saved(save.record)
    assert ledger.completed == 1


def test_a_record_that_was_overtaken_by_a_renewal_fences_nobody() -> None:
    ledger = ledger_at(0)
    token = leased(ledger, "edge", 0)
    [save] = ledger.tick(OVER_S)
    assert granted(ledger.renew("edge", token, 0, OVER_S))
    assert isinstance(save, Save)
    ledger.saved(save.record)
    assert ledger.members["edge"].counts


def test_a_record_of_an_edge_that_nobody_knows_changes_nothing() -> None:
    ledger = ledger_at(1)
    ledger.saved(Record("stranger"))
    assert ledger.members == {}


def test_no_lease_is_granted_while_the_record_of_it_may_be_missing() -> None:
    # The first Save failed and the rest of its list was dropped; a restart would not know of the lease.
    ledger = ledger_at(0)
    token = joined(ledger, "edge")
    ledger.renew("edge", token, 0, 0)
    save, grant = ledger.renew("edge", token, 0, 1)
    assert isinstance(save, Save)
    assert isinstance(grant, Grant)
    ledger.saved(save.record)
    assert ledger.renew("edge", token, 0, 2) == [grant]


def test_an_edge_that_gives_its_lease_back_holds_nothing_up() -> None:
    ledger = ledger_at(0)
    token = leased(ledger, "edge", 0)
    ledger.appended(1, 0)
    [save] = ledger.leave("edge", token)
    assert ledger.completed == 0
    carry_out(ledger, [save])
    assert ledger.completed == 1


def test_an_edge_whose_leaving_was_not_recorded_is_fenced_by_the_next_tick() -> None:
    ledger = ledger_at(0)
    token = leased(ledger, "edge", 0)
    ledger.appended(1, 0)
    assert ledger.tick(0) == []
    [save] = ledger.leave("edge", token)
    assert ledger.tick(0) == [save]
    carry_out(ledger, [save])
    assert ledger.completed == 1


def test_an_edge_without_a_lease_that_leaves_counts_no_more_than_before() -> None:
    ledger = ledger_at(5)
    token = joined(ledger, "edge")
    assert ledger.leave("edge", token) == []
    assert not ledger.members["edge"].counts


def test_what_an_edge_with_no_fence_last_held_blocks_until_a_human_removes_it() -> None:
    ledger = ledger_at(0)
    leased(ledger, "edge", 0, fences=False)
    ledger.appended(1, 0)
    assert ledger.tick(1000 * OVER_S) == []
    assert ledger.completed == 0
    carry_out(ledger, ledger.remove("edge"))
    assert ledger.completed == 1


def test_a_removal_that_was_not_recorded_is_recorded_by_the_next_tick() -> None:
    ledger = ledger_at(0)
    leased(ledger, "edge", 0, fences=False)
    [save] = ledger.remove("edge")
    assert ledger.tick(0) == [save]


def test_an_edge_that_fences_itself_counts_until_then_even_when_removed() -> None:
    ledger = ledger_at(0)
    leased(ledger, "edge", 0)
    ledger.appended(1, 0)
    carry_out(ledger, ledger.remove("edge"))
    assert ledger.completed == 0
    carry_out(ledger, ledger.tick(OVER_S))
    assert ledger.completed == 1


def test_removing_twice_or_a_stranger_is_nothing() -> None:
    ledger = ledger_at(0)
    joined(ledger, "edge")
    [save] = ledger.remove("edge")
    assert isinstance(save, Save)
    assert (save.record.removed, save.record.fenced, save.record.token) == (True, True, 2)
    assert ledger.remove("edge") == ledger.remove("stranger") == []


def test_removing_an_edge_that_holds_no_lease_makes_it_count_no_more_than_before() -> None:
    ledger = ledger_at(5)
    joined(ledger, "edge", fences=False)
    ledger.remove("edge")
    assert not ledger.members["edge"].counts


def test_a_removed_edge_may_come_back() -> None:
    ledger = ledger_at(0)
    joined(ledger, "edge")
    ledger.remove("edge")
    leased(ledger, "edge", 0)
    assert not ledger.members["edge"].record.removed


# Fencing tokens


def test_an_agent_that_was_replaced_can_do_nothing() -> None:
    ledger = ledger_at(5)
    old = joined(ledger, "edge")
    assert joined(ledger, "edge") == old + 1
    with pytest.raises(Superseded, match=r"^token 1 is not the newest for edge 'edge'$"):
        ledger.report("edge", old, 5)
    with pytest.raises(Superseded):
        ledger.renew("edge", old, 5, 0)
    with pytest.raises(Superseded):
        ledger.leave("edge", old)
    assert ledger.members["edge"].watermark == 0


def test_an_agent_whose_edge_was_removed_or_never_joined_can_do_nothing() -> None:
    ledger = ledger_at(0)
    token = joined(ledger, "edge")
    ledger.remove("edge")
    with pytest.raises(Superseded):
        ledger.renew("edge", token, 0, 0)
    with pytest.raises(Superseded):
        ledger.report("stranger", 1, 0)


def test_the_lease_of_a_replaced_agent_counts_on() -> None:
    ledger = ledger_at(0)
    leased(ledger, "edge", 0)
    joined(ledger, "edge", tier=1, fences=True)
    ledger.appended(1, 0)
    assert ledger.completed == 0
    assert ledger.members["edge"].record.tier == 1


def test_each_change_of_a_record_has_a_version_of_its_own() -> None:
    ledger = ledger_at(0)
    token = leased(ledger, "edge", 0)
    assert ledger.members["edge"].record == Record("edge", 0, True, fenced=False, token=token, version=2, lease_s=LEASE_S)


def test_an_edge_may_have_a_lease_of_its_own_length() -> None:
    ledger = ledger_at(0)
    carry_out(ledger, ledger.join("edge", 0, True, 0.0, lease_s=3.0))
    assert ledger.renew("edge", 1, 0, 0.0)[-1] == Grant("edge", 1, 3.0)
    assert ledger.next_expiry_s() == 3.0 + MARGIN_S


def test_a_shorter_lease_counts_only_once_no_longer_one_can_be_in_force() -> None:
    """Else a restart right after the change, which knows nothing but the record, would not wait for it."""
    ledger = ledger_at(0)
    token = leased(ledger, "edge", 0)
    carry_out(ledger, ledger.join("edge", 0, True, 0.0, lease_s=3.0))
    restarted = ledger_at(0, [ledger.members["edge"].record])
    assert restarted.next_expiry_s() == OVER_S
    carry_out(ledger, ledger.leave("edge", token + 1))
    carry_out(ledger, ledger.join("edge", 0, True, 0.0, lease_s=3.0))
    assert ledger.renew("edge", token + 2, 0, 0.0)[-1] == Grant("edge", token + 2, 3.0)


def test_a_lease_longer_than_usual_counts_on_when_its_edge_is_taken_over() -> None:
    ledger = ledger_at(0)
    carry_out(ledger, ledger.join("edge", 0, True, 0.0, lease_s=60.0))
    carry_out(ledger, ledger.renew("edge", 1, 0, 0.0)[:-1])
    carry_out(ledger, ledger.join("edge", 0, True, 0.0))
    assert ledger_at(0, [ledger.members["edge"].record]).next_expiry_s() == 60.0 + MARGIN_S


def test_what_an_edge_does_is_on_record() -> None:
    ledger = ledger_at(0)
    carry_out(ledger, ledger.join("edge", 0, True, 0.0, does=("url", "fences")))
    assert ledger.members["edge"].record.does == ("url", "fences")


def test_after_a_restart_the_lease_that_was_granted_counts_not_the_new_setting() -> None:
    granted_long = Record("edge", fenced=False, lease_s=60.0)
    assert ledger_at(0, [granted_long]).next_expiry_s() == 60.0 + MARGIN_S
    assert ledger_at(0, [Record("edge", fenced=False)]).next_expiry_s() == OVER_S


def test_a_drained_member_gets_no_lease_until_it_is_put_back() -> None:
    ledger = Ledger(5, 1)
    (joined,) = ledger.join("e", 0, True, 0)
    assert isinstance(joined, Save)
    ledger.saved(joined.record)
    for effect in ledger.renew("e", 1, 0, 0):
        if isinstance(effect, Save):
            ledger.saved(effect.record)
    (drained,) = ledger.drain("e", True)
    assert isinstance(drained, Save)
    ledger.saved(drained.record)
    assert ledger.drain("e", True) == []
    assert ledger.drain("nobody", True) == []
    assert ledger.renew("e", 1, 0, 1) == [Refuse("e", 1, DRAINED)]
    assert ledger.members["e"].counts
    for effect in ledger.tick(6):
        assert isinstance(effect, Save)
        ledger.saved(effect.record)
    ledger.appended(3, 7)
    assert ledger.completed == 3, "no purge waits for it"
    (back,) = ledger.drain("e", False)
    assert isinstance(back, Save)
    assert isinstance(ledger.renew("e", 1, 3, 8)[-1], Grant)
