"""The gate and the limiter, without a network."""

from __future__ import annotations

import base64
import sqlite3
import time

import pytest
from limits.storage import MemoryStorage

from agezero.http.faults import Fault, Refused, retry_after
from agezero.http.gate import VISITORS_MAX, Gate, private_key
from agezero.http.limiter import RateLimit, Window
from agezero.http.reply import new_request_id
from agezero.keys import KeyStore, Permission

NOW_S = 1_800_000_000.0


def basic(user: str, password: str = "") -> bytes:
    return b"Basic " + base64.b64encode(f"{user}:{password}".encode())


@pytest.fixture
def keys() -> KeyStore:
    return KeyStore(sqlite3.connect(":memory:", isolation_level=None))


@pytest.fixture
def gate(keys: KeyStore) -> Gate:
    return Gate(keys, RateLimit(MemoryStorage(), "purge", 10))


def refusal(gate: Gate, header: bytes, now_s: float = NOW_S) -> int:
    with pytest.raises(Refused) as caught:
        gate.recognise([(b"authorization", header)], now_s)
    return caught.value.reply.status


def test_a_visitor_is_remembered_by_the_header(gate: Gate, keys: KeyStore) -> None:
    text = keys.create("web", Permission.WRITE)
    first = gate.recognise([(b"host", b"x"), (b"authorization", basic(text))], NOW_S)
    assert gate.recognise([(b"authorization", basic(text))], NOW_S) is first
    assert gate.recognise([(b"authorization", basic(text, "do_not_set"))], NOW_S).window.counter == first.window.counter


def test_a_remembered_visitor_still_ends(gate: Gate, keys: KeyStore) -> None:
    text = keys.create("web", Permission.WRITE, expires_at=int(NOW_S) + 10)
    gate.recognise([(b"authorization", basic(text))], NOW_S)
    assert refusal(gate, basic(text), NOW_S + 10) == 403


def test_a_remembered_visitor_is_forgotten_when_a_key_changes(gate: Gate, keys: KeyStore) -> None:
    text = keys.create("web", Permission.WRITE)
    gate.recognise([(b"authorization", basic(text))], NOW_S)
    keys.revoke(keys.list()[0].id, NOW_S)
    assert refusal(gate, basic(text)) == 403


def test_what_is_remembered_is_bounded(gate: Gate, keys: KeyStore) -> None:
    text = keys.create("web", Permission.WRITE)
    for i in range(VISITORS_MAX + 10):
        gate.recognise([(b"authorization", basic(text, str(i)))], NOW_S)
    for i in range(VISITORS_MAX + 10):
        refusal(gate, basic(f"private_wrong_{i}"))
    assert len(gate._visitors) <= VISITORS_MAX


@pytest.mark.parametrize(
    ("header", "key"),
    [
        (basic("private_a"), "private_a"),
        (basic("private_a", "a:b"), "private_a"),
        (b"bAsIc   " + basic("private_a").partition(b" ")[2] + b" ", "private_a"),
        (b"Basic private_a", "private_a"),
        (b"Basic abcdabcdabcdabcd", "abcdabcdabcdabcd"),  # base64, but not of user:password
    ],
)
def test_the_key_in_a_header(header: bytes, key: str) -> None:
    assert private_key(header) == key


def test_a_limit_counts_per_key_and_window() -> None:
    limit = RateLimit(MemoryStorage(), "purge", 3)
    one, other = limit.window("one"), limit.window("other")
    taken = [limit.take(one) for _ in range(5)]
    assert taken[:3] == [True, True, True]  # the window begins with the first request
    if time.time() < one.ends_at_s:
        assert taken[3:] == [False, False]
    assert limit.take(other)


def test_a_window_that_is_forgotten_and_made_again_goes_on() -> None:
    """The visitors are forgotten when a key changes; that must give nobody a second allowance."""
    limit = RateLimit(MemoryStorage(), "purge", 1)
    first = limit.window("one")
    limit.take(first)
    again = limit.window("one")
    allowed = limit.take(again)
    assert not allowed or again.ends_at_s > first.ends_at_s
    assert again.ends_at_s >= first.ends_at_s > 0


def test_what_is_left_of_a_window_stays_within_the_interval() -> None:
    window = Window("x", ends_at_s=100.0)
    assert [window.left_ms(now_s) for now_s in (98.0, 99.0, 99.5, 100.0, 101.0)] == [1000, 1000, 500, 0, 0]


def test_retry_after_is_an_integer_of_at_most_a_minute() -> None:
    assert [retry_after(seconds)[1] for seconds in (-1, 0, 1, 60, 3600)] == [b"1", b"1", b"1", b"60", b"60"]


def test_request_ids_differ() -> None:
    assert len({new_request_id() for _ in range(1000)}) == 1000


def test_no_fault_invites_a_redirect_or_a_silent_retry() -> None:
    assert not {fault.status for fault in Fault} & {301, 302, 303, 307, 308, 408, 409}
