"""The ledger of several control nodes, call by call: what is written, refused and said. Its safety is walked in test_shared_machine.py."""

from __future__ import annotations

import pytest

from agezero.core.ledger import DRAINED, Grant, Record, Refuse, Superseded
from agezero.core.shared import Gate, Held, Missed, NotJoined, SharedLedger, Write


class Board:
    """One ledger before a board that takes everything."""

    def __init__(self, gate: Gate | None = None) -> None:
        self.ledger = SharedLedger(5, 1)
        self.at = 0
        if gate is not None:
            self.write(Write(gate, 0))

    def write(self, write: Write | Refuse | None, now_s: float = 0) -> int:
        assert isinstance(write, Write)
        self.at += 1
        self.ledger.observe(write.entry, self.at, now_s)
        return self.at

    def join(self, name: str, tier: int = 0, fences: bool = True) -> int:
        self.write(self.ledger.join(name, tier, fences, None, ("url",)))
        return self.ledger.members[name].record.token

    def lease(self, name: str, token: int, watermark: int, now_s: float = 0) -> None:
        self.write(self.ledger.renew(name, token, watermark, now_s), now_s)
        self.write(self.ledger.touched(watermark), now_s)
        assert isinstance(self.ledger.granted(name, token, watermark), Grant)


def test_without_a_gate_nothing_is_leased_or_raised() -> None:
    board = Board()
    token = board.join("e")
    assert board.ledger.completed == 0
    refused = board.ledger.renew("e", token, 9, 0)
    assert isinstance(refused, Refuse)
    assert "waiting until no edge can hold a lease" in refused.reason
    assert board.ledger.raised(9) is None
    assert board.ledger.touched(9) is None
    assert board.ledger.released(0) is None
    assert board.ledger.released(1) == 0


def test_who_asks_late_to_join_takes_no_edge_from_its_newer_agent() -> None:
    ledger = (board := Board(Gate(0))).ledger
    with pytest.raises(Missed, match="with the token 0") as missed:
        ledger.join("e", 0, True, None, ("url",), after=3)
    assert missed.value.token == 0, "there was none: the board is another one"
    token = board.join("e")
    with pytest.raises(Missed, match=f"with the token {token}") as missed:
        ledger.join("e", 0, True, None, ("url",), after=token - 1)
    assert missed.value.token == token
    board.write(ledger.join("e", 0, True, None, ("url",), after=token))
    assert ledger.members["e"].record.token == token + 1


def test_the_first_gate_waits_for_an_edge_on_record_that_can_not_fence_itself() -> None:
    board = Board()
    assert board.ledger.first(9, 7) == Write(Gate(9, base=9), 0), "nobody is on record"
    board.write(Write(Held(Record("plain", fences=False, fenced=False, token=3), watermark=7), 0))
    board.write(Write(Held(Record("dead", fenced=False, token=3)), 0))
    assert board.ledger.first(9, 7) == Write(Gate(7, base=9), 0), "what came since is not complete"
    token = board.join("plain", fences=False)
    assert board.ledger.first(9, 7) is None, "its new agent may have lost its state"
    board.ledger.report("plain", token, 8, "", 0)
    assert board.ledger.first(9, 7) == Write(Gate(8, base=9), 0)


def test_a_gate_rises_with_the_lowest_watermark_and_never_beyond_the_log() -> None:
    board = Board(Gate(10, base=10))
    tokens = {name: board.join(name) for name in ("a", "b")}
    for name, token in tokens.items():
        board.lease(name, token, 10)
    board.ledger.report("a", tokens["a"], 15, "", 1)
    assert board.ledger.raised(20) is None, "b is at 10"
    board.ledger.report("b", tokens["b"], 99, "", 1)
    board.write(board.ledger.raised(12))
    assert board.ledger.completed == 12
    board.write(board.ledger.raised(20))
    assert board.ledger.completed == 15


def test_who_holds_a_purge_up_and_why() -> None:
    board = Board(Gate(0))
    quiet, plain, busy, sick = (board.join(name, fences=name != "plain") for name in ("quiet", "plain", "busy", "sick"))
    for seconds, (name, token) in enumerate({"quiet": quiet, "plain": plain, "busy": busy, "sick": sick}.items()):
        board.write(board.ledger.renew(name, token, 0, seconds), seconds)
    board.ledger.report("sick", sick, 0, "connection refused", 9)
    board.ledger.seats["quiet"].reported = False  # its renewal went to another node
    assert {each.name: each.why for each in board.ledger.blockers(1)} == {
        "quiet": "has not reported to this control node",
        "plain": "cannot fence itself; waiting until it is back or removed",
        "busy": "still applying",
        "sick": "connection refused",
    }
    assert board.ledger.blockers(0) == []


def test_a_lease_that_was_given_back_is_fenced_at_once() -> None:
    board = Board(Gate(0))
    token = board.join("e")
    assert board.ledger.leave("e", token) is None, "it holds none"
    board.lease("e", token, 0)
    board.write(board.ledger.leave("e", token))
    assert not board.ledger.members["e"].counts
    answer = board.ledger.granted("e", token, 0)
    assert isinstance(answer, Refuse)
    assert "fenced meanwhile" in answer.reason


def test_a_dead_edge_is_fenced_after_lease_and_margin() -> None:
    board = Board(Gate(0))
    board.lease("e", board.join("e"), 0, now_s=100)
    assert board.ledger.fences(105.9) == []
    (write,) = board.ledger.fences(106)
    board.write(write)
    assert not board.ledger.members["e"].counts


@pytest.mark.parametrize("fences", [True, False])
def test_a_removed_edge_counts_on_only_if_it_fences_itself(fences: bool) -> None:
    board = Board(Gate(0))
    token = board.join("e", fences=fences)
    board.lease("e", token, 0)
    board.write(board.ledger.remove("e"))
    assert board.ledger.members["e"].counts is fences
    assert board.ledger.remove("e") is None
    assert board.ledger.remove("nobody") is None
    with pytest.raises(Superseded):
        board.ledger.report("e", token, 1, "", 0)


def test_a_drained_edge_gets_no_lease_until_it_is_put_back() -> None:
    board = Board(Gate(0))
    token = board.join("e")
    board.lease("e", token, 0, now_s=0)
    board.write(board.ledger.drain("e", True), now_s=1)
    assert board.ledger.drain("e", True) is None
    assert board.ledger.drain("nobody", True) is None
    assert board.ledger.renew("e", token, 0, 2) == Refuse("e", token, DRAINED)
    assert board.ledger.members["e"].counts, "its last lease may be in force"
    (write,) = board.ledger.fences(7)
    board.write(write)
    assert board.ledger.raised(9) == Write(Gate(9), board.ledger.gate_at), "no purge waits for it"
    again = board.join("e")
    assert isinstance(board.ledger.renew("e", again, 0, 8), Refuse), "a restart does not put it back"
    board.write(board.ledger.drain("e", False))
    board.lease("e", again, 9)


def test_a_node_that_has_not_read_far_enough_says_so() -> None:
    board = Board(Gate(0))
    with pytest.raises(NotJoined):
        board.ledger.report("e", 1, 0, "", 0)
    token = board.join("e")
    with pytest.raises(NotJoined):
        board.ledger.report("e", token + 1, 0, "", 0)


def test_an_edge_that_is_taken_over_while_it_is_leased_keeps_the_longer_lease() -> None:
    board = Board(Gate(0))
    board.write(board.ledger.join("e", 0, True, 9, ()))
    board.lease("e", board.ledger.members["e"].record.token, 0)
    board.write(board.ledger.join("e", 0, True, 2, ()))
    assert board.ledger.members["e"].record.lease_s == 9


def test_tiers_are_released_by_what_is_before_them() -> None:
    board = Board(Gate(5, {1: 5}))
    shield, front = board.join("shield"), board.join("front", tier=1)
    board.lease("shield", shield, 5)
    board.lease("front", front, 5)
    board.ledger.report("shield", shield, 8, "", 0)
    write = board.ledger.raised(9)
    assert write is not None
    assert write.entry == Gate(5, {1: 8})
    board.write(write)
    assert board.ledger.released(1) == 8
    assert board.ledger.released(2) == 5, "a tier that no gate names may apply what is complete"
    again = board.join("shield")
    refused = board.ledger.renew("shield", again, 5, 0)
    assert isinstance(refused, Refuse), "those in front of it were let apply more without it"
    assert "short of 8" in refused.reason
    assert isinstance(write.entry, Gate)
    assert Held(board.ledger.members["shield"].record).since == 0
