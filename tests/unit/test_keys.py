from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from agezero.database import open_database
from agezero.keys import Denial, InvalidKey, Key, KeyStore, Permission, checked

NOW_S = 1_800_000_000.0


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(open_database(tmp_path)) as opened:
        yield opened


@pytest.fixture
def keys(connection: sqlite3.Connection) -> KeyStore:
    return KeyStore(connection)


def only(keys: KeyStore) -> Key:
    (key,) = keys.list()
    return key


def test_a_key_is_printed_once_and_kept_as_a_hash(keys: KeyStore, tmp_path: Path) -> None:
    text = keys.create("web", Permission.WRITE, ["https://cdn.example.com/site"])
    assert re.fullmatch(r"private_[A-Za-z0-9_-]{32}", text)
    assert keys.verify(text, NOW_S) == only(keys)
    assert (only(keys).name, only(keys).endpoints, only(keys).may_purge()) == ("web", ("https://cdn.example.com/site",), True)
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert text.encode() not in stored
    assert text.removeprefix("private_").encode() not in stored


def test_no_two_keys_are_the_same(keys: KeyStore) -> None:
    assert len({keys.create("web", Permission.READ) for _ in range(20)}) == 20


@pytest.mark.parametrize("text", ["", "private_", "private_wrong_wrong_wrong", "\udcff", "é" * 20])
def test_an_unknown_key_is_denied(keys: KeyStore, text: str) -> None:
    keys.create("web", Permission.WRITE)
    assert keys.verify(text, NOW_S) is Denial.UNKNOWN


def test_a_key_ends(keys: KeyStore) -> None:
    text = keys.create("web", Permission.WRITE, expires_at=int(NOW_S))
    assert isinstance(keys.verify(text, NOW_S - 1), Key)
    assert keys.verify(text, NOW_S) is Denial.EXPIRED
    assert keys.expire(only(keys).id, int(NOW_S) + 60)
    assert isinstance(keys.verify(text, NOW_S), Key)


def test_a_disabled_key_can_be_enabled_and_a_revoked_one_is_gone(keys: KeyStore) -> None:
    text = keys.create("web", Permission.WRITE)
    key_id = only(keys).id
    assert keys.disable(key_id)
    assert keys.verify(text, NOW_S) is Denial.DISABLED
    assert keys.disable(key_id, disabled=False)
    assert isinstance(keys.verify(text, NOW_S), Key)
    assert keys.revoke(key_id, NOW_S)
    assert keys.verify(text, NOW_S) is Denial.UNKNOWN
    assert not keys.list()
    assert not keys.revoke(key_id, NOW_S)
    assert not keys.expire(key_id, 0)


def test_what_another_process_changes_is_noticed(keys: KeyStore, tmp_path: Path) -> None:
    assert not keys.refresh()
    with closing(open_database(tmp_path)) as second:
        other = KeyStore(second)
        text = other.create("other", Permission.READ)
        assert keys.verify(text, NOW_S) is Denial.UNKNOWN
        generation = keys.generation
        assert keys.refresh()
        assert keys.generation == generation + 1
        assert isinstance(keys.verify(text, NOW_S), Key)
        other.revoke(other.list()[0].id, NOW_S)
    assert keys.refresh()
    assert keys.verify(text, NOW_S) is Denial.UNKNOWN


def test_a_change_of_something_else_forgets_no_key(keys: KeyStore, tmp_path: Path) -> None:
    with closing(open_database(tmp_path)) as other:
        other.execute("CREATE TABLE something_else (a)")
    assert not keys.refresh()
    assert keys.generation == 0


def test_the_first_key_is_made_once(keys: KeyStore) -> None:
    text = keys.first()
    assert text is not None
    assert isinstance(keys.verify(text, NOW_S), Key)
    keys.revoke(only(keys).id, NOW_S)
    assert keys.first() is None  # who revoked all keys does not want a new one to appear


def test_a_given_key_stands_beside_the_stored_ones(connection: sqlite3.Connection) -> None:
    keys = KeyStore(connection, given="private_from_outside")
    assert keys.first() is None
    key = keys.verify("private_from_outside", NOW_S)
    assert isinstance(key, Key)
    assert key.may_purge()
    text = keys.create("stored", Permission.READ)
    assert {key.name for key in keys.list()} == {"stored"}
    assert isinstance(keys.verify(text, NOW_S), Key)
    assert isinstance(keys.verify("private_from_outside", NOW_S), Key)


@pytest.mark.parametrize(
    "text",
    ["", "short", "fifteen_letters", "has a space in its middle", "has_a_colon_:_in_its_middle", "nön-äscii-characters", "tab\tand_more_than_16"],
)
def test_a_key_that_http_basic_could_not_carry_is_refused_unprinted(text: str, connection: sqlite3.Connection) -> None:
    with pytest.raises(InvalidKey, match="expected") as caught:
        KeyStore(connection, given=text)
    assert not text or text not in str(caught.value)


def test_the_shortest_key() -> None:
    assert checked("sixteen_letters_") == "sixteen_letters_"


def test_an_endpoint_that_is_no_url_makes_no_key(keys: KeyStore) -> None:
    with pytest.raises(InvalidKey, match="endpoint"):
        keys.create("web", Permission.WRITE, ["cdn.example.com"])
    assert not keys.list()
