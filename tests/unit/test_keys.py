from __future__ import annotations

import hashlib
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from agezero.database import open_database
from agezero.keys import SCHEMA, Denial, InvalidKey, Key, KeyStore, Permission, checked

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


def test_a_rolled_key_has_the_same_rights_and_the_old_one_ends_after_the_overlap(keys: KeyStore) -> None:
    old = keys.make("web", Permission.PURGE, ["https://cdn.example.com"], int(NOW_S) + 1000)
    new = keys.roll(old.key.id, 60, NOW_S)
    assert new is not None
    assert keys.verify(new.text, NOW_S) == new.key
    assert (new.key.name, new.key.permission, new.key.endpoints, new.key.expires_at) == (
        old.key.name,
        old.key.permission,
        old.key.endpoints,
        old.key.expires_at,
    )
    assert isinstance(keys.verify(old.text, NOW_S + 59), Key)
    assert keys.verify(old.text, NOW_S + 60) is Denial.EXPIRED
    last = keys.roll(new.key.id, 0, NOW_S)
    assert last is not None
    assert keys.verify(new.text, NOW_S) is Denial.UNKNOWN
    assert keys.roll(last.key.id, 10_000, NOW_S) is not None
    assert keys.verify(last.text, NOW_S + 1000) is Denial.EXPIRED  # an overlap prolongs nothing


def test_what_is_not_valid_is_not_rolled(keys: KeyStore) -> None:
    expired, disabled = keys.make("a", Permission.READ, None, int(NOW_S)), keys.make("b", Permission.READ)
    keys.disable(disabled.key.id)
    for key in (expired.key, disabled.key):
        with pytest.raises(InvalidKey, match="no rights to pass on"):
            keys.roll(key.id, 0, NOW_S)
    assert keys.roll("00000000", 0, NOW_S) is None
    assert len(keys.list()) == 2


def test_who_may_administer(keys: KeyStore) -> None:
    assert [keys.make("x", permission).key.may_administer() for permission in Permission] == [False, False, True]
    assert not Key("x", "x", Permission.ADMIN, ("https://cdn.example.com",)).may_administer()
    with pytest.raises(InvalidKey, match="bound to endpoints"):
        keys.create("x", Permission.ADMIN, ["https://cdn.example.com"])


def test_a_database_of_the_time_of_two_permissions_is_read(tmp_path: Path) -> None:
    text = "private_of_an_older_version"
    with closing(open_database(tmp_path)) as old:
        old.execute(SCHEMA.replace(", 'purge', 'admin'", ""))
        old.execute("INSERT INTO keys VALUES ('1', 'web', ?, 'write', NULL, 1, NULL, 0, NULL)", (hashlib.sha256(text.encode()).digest(),))
        with pytest.raises(sqlite3.IntegrityError):
            old.execute("INSERT INTO keys VALUES ('2', 'new', x'00', 'admin', NULL, 1, NULL, 0, NULL)")
        keys = KeyStore(old)
        assert keys.verify(text, NOW_S) == Key("1", "web", Permission.PURGE, created_at=1)
        assert isinstance(keys.verify(keys.create("new", Permission.ADMIN), NOW_S), Key)
        assert KeyStore(old).list() == keys.list()
