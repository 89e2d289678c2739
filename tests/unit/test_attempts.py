"""Failed attempts against the gate, with the time as an argument."""

from __future__ import annotations

import base64
import sqlite3

import pytest
from limits.storage import MemoryStorage

from agezero.http.attempts import ADDRESSES_MAX, Attempts, FailedAttempt, network
from agezero.http.faults import Fault, Refused
from agezero.http.gate import Gate
from agezero.http.limiter import RateLimit
from agezero.keys import KeyStore, Permission

NOW_S = 1_800_000_000.0
HERE, THERE = "192.0.2.1", "192.0.2.2"


def header(text: str) -> list[tuple[bytes, bytes]]:
    return [(b"authorization", b"Basic " + base64.b64encode(f"{text}:".encode()))]


class Desk:
    """A gate with two failed attempts a minute."""

    def __init__(self, per_min: int = 2) -> None:
        self.keys = KeyStore(sqlite3.connect(":memory:", isolation_level=None))
        self.told: list[FailedAttempt] = []
        self.attempts = Attempts(per_min, self.told.append)
        self.gate = Gate(self.keys, RateLimit(MemoryStorage(), "purge", 10), self.attempts)

    def attempt(self, text: str | None, now_s: float = NOW_S, address: str = HERE) -> Fault | None:
        try:
            self.gate.recognise([] if text is None else header(text), now_s, address)
        except Refused as refused:
            return refused.fault
        return None


def test_who_fails_too_often_waits_and_learns_nothing_meanwhile() -> None:
    desk = Desk()
    right = desk.keys.create("web", Permission.READ)
    assert [desk.attempt(f"wrong_{i}") for i in range(3)] == [Fault.WRONG_KEY, Fault.WRONG_KEY, Fault.TOO_MANY_ATTEMPTS]
    assert desk.attempt(right) is Fault.TOO_MANY_ATTEMPTS
    assert desk.attempt("wrong", address=THERE) is Fault.WRONG_KEY
    assert desk.attempts.wait_s(HERE, NOW_S) == 30
    assert desk.attempt(right, NOW_S + 29) is Fault.TOO_MANY_ATTEMPTS
    assert desk.attempt("wrong_4", NOW_S + 30) is Fault.WRONG_KEY
    assert desk.attempt("wrong_5", NOW_S + 30) is Fault.TOO_MANY_ATTEMPTS
    assert desk.attempt(right, NOW_S + 60) is None


def test_without_a_limit_nobody_waits() -> None:
    """The twin: the same attempts with the safeguard off."""
    desk = Desk(0)
    assert {desk.attempt(f"wrong_{i}") for i in range(100)} == {Fault.WRONG_KEY}


def test_a_key_that_was_accepted_before_passes_even_when_another_was_made() -> None:
    desk = Desk()
    right = desk.keys.create("web", Permission.READ)
    assert desk.attempt(right) is None
    for i in range(3):
        desk.attempt(f"wrong_{i}")
    other = desk.keys.make("other", Permission.READ)  # makes the gate forget its visitors
    assert desk.attempt(right) is None
    assert desk.attempt(other.text) is Fault.TOO_MANY_ATTEMPTS
    for key in desk.keys.list():
        desk.keys.revoke(key.id, NOW_S)
    assert desk.attempt(right) is Fault.WRONG_KEY


def test_a_key_that_was_accepted_at_one_call_passes_at_every_other() -> None:
    desk = Desk()
    right = desk.keys.create("web", Permission.READ)
    assert desk.attempt(right) is None
    for i in range(3):
        desk.attempt(f"wrong_{i}")
    other = Gate(desk.keys, RateLimit(MemoryStorage(), "status", 10), desk.attempts)
    assert other.recognise(header(right), NOW_S, HERE).key.name == "web"


def test_every_failure_is_told_and_counted_but_one_without_a_key_is_no_guess() -> None:
    desk = Desk()
    for _ in range(5):
        assert desk.attempt(None) is Fault.NO_KEY
    assert desk.attempt("wrong_1") is Fault.WRONG_KEY
    assert desk.told[-1] == FailedAttempt(NOW_S, HERE, "wrong_key", guess=True)
    assert desk.attempts.failed == {"no_key": 5, "wrong_key": 1}


def test_what_is_remembered_is_bounded() -> None:
    attempts = Attempts(1)
    for i in range(ADDRESSES_MAX + 10):
        attempts.count(f"10.{i >> 16}.{i >> 8 & 255}.{i & 255}", "wrong_key", NOW_S, guess=True)
    assert len(attempts._buckets) == ADDRESSES_MAX
    assert attempts.wait_s("10.0.0.0", NOW_S) == 0  # forgotten
    assert attempts.wait_s("10.0.16.9", NOW_S) == 60


def test_a_clock_that_goes_back_fills_nothing() -> None:
    attempts = Attempts(1)
    attempts.count(HERE, "wrong_key", NOW_S, guess=True)
    assert attempts.wait_s(HERE, NOW_S - 3600) == 60


@pytest.mark.parametrize(
    ("address", "counted_as"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("", ""),
        ("no:address", "no:address"),
    ],
)
def test_one_client(address: str, counted_as: str) -> None:
    assert network(address) == counted_as
