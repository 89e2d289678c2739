"""Sessions without a server: when one ends, whose it is, and what is remembered of those that were ended."""

from __future__ import annotations

import hmac
import sqlite3
from asyncio import AbstractEventLoop
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from limits.storage import MemoryStorage

from agezero.console import ended as ended_module
from agezero.console import gate as gate_module
from agezero.console import once as once_module
from agezero.console.call import NotOurForm, check_form
from agezero.console.cookies import SESSION
from agezero.console.ended import EndedEverywhere, EndedHere
from agezero.console.gate import SessionGate
from agezero.console.once import Once
from agezero.console.sessions import SESSION_S, Sessions
from agezero.database import open_database
from agezero.http.limiter import RateLimit
from agezero.keys import KeyStore, Permission
from agezero.ports import Document
from support.documents import MemoryDocuments, loop_of_its_own

NOW_S = 1_800_000_000


def memory() -> sqlite3.Connection:
    return sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)


@pytest.fixture
def keys() -> KeyStore:
    return KeyStore(memory(), "the_first_text_of_it")


@pytest.fixture
def sessions() -> Sessions:
    return Sessions(b"s" * 64, EndedHere(memory()))


def begun(sessions: Sessions, keys: KeyStore) -> str:
    known = keys.known("environment")
    assert known
    token = sessions.begin(keys, known[0], NOW_S)
    assert token
    return token


@pytest.mark.parametrize(("at_s", "good"), [(-61, False), (-60, True), (SESSION_S - 1, True), (SESSION_S, False)])
def test_a_session_ends_and_has_not_yet_to_begin(sessions: Sessions, keys: KeyStore, at_s: int, good: bool) -> None:
    assert (sessions.open(begun(sessions, keys), keys, NOW_S + at_s) is not None) is good


def test_a_session_is_of_no_other_key_with_the_same_id(sessions: Sessions, keys: KeyStore) -> None:
    """AGEZERO_PRIVATE_KEY was changed: who knew the old one is out."""
    token = begun(sessions, keys)
    assert sessions.open(token, keys, NOW_S)
    assert sessions.open(token, KeyStore(memory(), "another_text_of_it"), NOW_S) is None


def test_seals_and_tokens_are_compared_in_constant_time(sessions: Sessions, keys: KeyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing else compares them: with this comparison out of the way, every one is right."""
    token = begun(sessions, keys)[:-43] + "x" * 43
    with pytest.raises(NotOurForm):
        check_form({"headers": []}, {"form": ["wrong"]}, "right")
    assert sessions.open(token, keys, NOW_S) is None
    monkeypatch.setattr(hmac, "compare_digest", lambda *_: True)
    check_form({"headers": []}, {"form": ["wrong"]}, "right")
    assert sessions.open(token, keys, NOW_S)


def test_a_session_that_was_ended_stays_so_after_a_restart_until_it_is_over_anyway(tmp_path: Path) -> None:
    with closing(open_database(tmp_path)) as connection:
        EndedHere(connection).add("first", NOW_S + 10, NOW_S)
        again = EndedHere(connection)
        assert "first" in again
        again.add("second", NOW_S + 20, NOW_S + 10)
        assert "first" not in again
        assert connection.execute("SELECT nonce FROM console_ended").fetchall() == [("second",)]


def test_only_so_many_ended_sessions_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ended_module, "ENDED_MAX", 2)
    ended = EndedHere(memory())
    for nonce in ("first", "second", "third"):
        ended.add(nonce, NOW_S + 10, NOW_S)
    assert [nonce in ended for nonce in ("first", "second", "third")] == [False, True, True]


class BusyDocuments(MemoryDocuments):
    """Once, another node writes in the moment after one was read."""

    other: bytes = b""

    def get(self, name: str) -> Document | None:
        known = super().get(name)
        if self.other:
            self.known[name], self.other = Document((known.at if known else 0) + 1, self.other), b""
        return known


@pytest.fixture(scope="module")
def loop() -> Iterator[AbstractEventLoop]:
    with loop_of_its_own() as running:
        yield running


def test_what_two_nodes_end_at_once_is_ended(loop: AbstractEventLoop) -> None:
    documents = BusyDocuments()
    ended = EndedEverywhere(documents, loop)
    ended.add("first", NOW_S + 10, NOW_S)
    documents.other = b'{"first":%d,"others":%d}' % (NOW_S + 10, NOW_S + 10)
    documents._at += 1
    ended.add("second", NOW_S + 10, NOW_S)
    assert [nonce in EndedEverywhere(documents, loop) for nonce in ("first", "others", "second")] == [True, True, True]


def test_a_visitor_has_the_rights_that_its_key_has_now(sessions: Sessions) -> None:
    keys = KeyStore(memory())
    key = keys.make("web", Permission.PURGE).key
    gate = SessionGate(sessions, keys, RateLimit(MemoryStorage(), "status", 10))
    headers = [(b"cookie", f"{SESSION}={sessions.begin(keys, key, NOW_S)}".encode())]
    assert gate.recognise(headers, NOW_S).key.expires_at is None
    keys.expire(key.id, NOW_S + 10)
    assert gate.recognise(headers, NOW_S).key.expires_at == NOW_S + 10


def test_visitors_and_forms_that_are_remembered_are_bounded(sessions: Sessions, keys: KeyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate_module, "VISITORS_MAX", 2)
    monkeypatch.setattr(once_module, "FORMS_MAX", 2)
    gate, once = SessionGate(sessions, keys, RateLimit(MemoryStorage(), "status", 10)), Once()
    for number in range(5):
        gate.recognise([(b"cookie", f"{SESSION}={begun(sessions, keys)}".encode())], NOW_S)
        assert len(gate._by_session) <= 2
        assert once.first(str(number))
    assert not once.first("4")
    assert once.first("0"), "it is forgotten"
