"""Private keys: made, kept as hashes, recognised.

A key that is made here is ``private_`` and 32 random characters of 64 (192 bits). It is kept as its plain SHA-256: a slow, salted hash protects
secrets that can be guessed, and one of 192 random bits can't be, while a fast one lets a thousand requests a second be checked.

Recognising looks the *hash* up, so how long it takes says nothing about the key: whoever measured how far two hashes agree would have to find
a text whose SHA-256 begins as chosen, anew for each further bit, and would at the end hold a hash, which opens nothing. Nor can even that be
measured: the dictionary compares salted hashes first. So no text of a key is ever compared with another.

A store reads all keys into memory once. Another process may change them (`agezero keys …` beside a running service):
:meth:`KeyStore.refresh` notices, cheaply, and raises ``generation``. What reads and writes the database may be called from any thread;
:meth:`KeyStore.verify` reads memory alone, in which a new set of keys replaces the old one at once.
"""

from __future__ import annotations

import hashlib
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

import msgspec

from agezero.core.canonical import InvalidUrl
from agezero.core.endpoint import parse_endpoint
from agezero.errors import UserError

PREFIX = "private_"
NAME_CHARACTERS_MAX = 200
END_MAX_S = 253_402_300_799
"""The end of the year 9999: no later end can be written."""
KEY_CHARACTERS_MIN = 16
"""Shortest key that is taken from the outside; of random letters and digits it has some 80 bits."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS keys (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    hash BLOB NOT NULL UNIQUE,
    permission TEXT NOT NULL CHECK (permission IN ('read', 'write', 'purge', 'admin')),
    endpoints TEXT,              -- JSON list of URLs; NULL: every endpoint of the service
    created_at INTEGER NOT NULL, -- seconds since 1970, as the others
    expires_at INTEGER,
    disabled INTEGER NOT NULL DEFAULT 0,
    revoked_at INTEGER
) STRICT
"""
_COLUMNS = "id, name, permission, endpoints, created_at, expires_at, disabled, hash"


Column = Literal["revoked_at", "expires_at", "disabled"]


class Permission(StrEnum):
    """Each includes those before it: ``read`` reads statuses, ``purge`` also purges, ``admin`` also manages edges, keys and webhooks.

    ``write`` is ImageKit's word for ``purge``; it is read, in old databases too, and no longer written.
    """

    READ = "read"
    PURGE = "purge"
    ADMIN = "admin"
    WRITE = PURGE

    @classmethod
    def _missing_(cls, value: object) -> Permission | None:
        return cls.PURGE if value == "write" else None


class Denial(StrEnum):
    """Why a key was not accepted. A revoked key is unknown."""

    UNKNOWN = "unknown"
    EXPIRED = "expired"
    DISABLED = "disabled"


class InvalidKey(UserError):
    """A key, or what is asked of one, is not acceptable. The message says what was expected, and never holds the key."""


@dataclass(frozen=True, slots=True)
class Key:
    """What is known of a key; its text is not. Times are seconds since 1970."""

    id: str
    name: str
    permission: Permission
    endpoints: tuple[str, ...] | None = None
    created_at: int = 0
    expires_at: int | None = None
    disabled: bool = False

    def expired(self, now_s: float) -> bool:
        """A key ends at its ``expires_at``, that second included."""
        return self.expires_at is not None and now_s >= self.expires_at

    def may_purge(self) -> bool:
        """Reading statuses needs no more than a valid key."""
        return self.permission is not Permission.READ

    def may_administer(self) -> bool:
        """May it manage edges, keys and webhooks? One that is bound to endpoints may not: it could make itself a key that isn't."""
        return self.permission is Permission.ADMIN and self.endpoints is None

    def state(self, now_s: float) -> str:
        """For people."""
        if self.disabled:
            return "disabled"
        return "expired" if self.expired(now_s) else "valid"


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was just made, with its ``text``, which nobody can read again."""

    text: str
    key: Key


class KeyRing:
    """Keys, and what is done with them. Where they are kept, a subclass says; what is in memory is what :meth:`verify` answers by."""

    def __init__(self, given: str | None = None) -> None:
        self._given = {} if given is None else {key_hash(checked(given)): Key("environment", "AGEZERO_PRIVATE_KEY", Permission.ADMIN)}
        self._keys: dict[bytes, Key] = dict(self._given)
        self._lock = threading.RLock()
        self.generation = 0
        """Rises whenever what :meth:`verify` answers may have changed."""

    def verify(self, text: str, now_s: float) -> Key | Denial:
        """The key that ``text`` is. In memory; no clock: the caller passes the time."""
        key = self._keys.get(key_hash(text))
        if key is None:
            return Denial.UNKNOWN
        if key.disabled:
            return Denial.DISABLED
        return Denial.EXPIRED if key.expired(now_s) else key

    def known(self, key_id: str) -> tuple[Key, bytes] | None:
        """The key with this id, and the hash of its text: two keys of the same id are told apart by it. In memory."""
        return next(((key, digest) for digest, key in self._keys.items() if key.id == key_id), None)

    def create(self, name: str, permission: Permission, endpoints: Sequence[str] | None = None, expires_at: int | None = None) -> str:
        """Make a key; its text is returned here and never again. Raises :class:`InvalidKey`."""
        return self.make(name, permission, endpoints, expires_at).text

    def make(self, name: str, permission: Permission, endpoints: Sequence[str] | None = None, expires_at: int | None = None) -> NewKey:
        """Make a key. Raises :class:`InvalidKey` for a name of no length, an endpoint that is no URL, or where there may be none."""
        if not 0 < len(name) <= NAME_CHARACTERS_MAX:
            raise InvalidKey(f"the key's name has {len(name)} characters; expected 1 to {NAME_CHARACTERS_MAX}", "say what the key is for")
        for endpoint in endpoints or ():
            _check_endpoint(endpoint)
        if permission is Permission.ADMIN and endpoints is not None:
            raise InvalidKey(
                "a key with the permission admin can't be bound to endpoints: it could make itself a key that isn't",
                "give it the permission purge, or no endpoint",
            )
        new = new_key(name, permission, None if endpoints is None else tuple(endpoints), expires_at)
        with self._lock, self._changing():
            self._insert(new)
        return new

    def roll(self, key_id: str, overlap_s: int, now_s: float) -> NewKey | None:
        """A new key with the same rights; the old one ends after ``overlap_s``, or sooner if it was to. None: there is none with this id.

        Raises :class:`InvalidKey` for a key that is not valid now: its successor would be of use again.
        """
        with self._lock:
            old = next((key for key in self.list() if key.id == key_id), None)
            if old is None:
                return None
            if (state := old.state(now_s)) != "valid":
                raise InvalidKey(f"the key {key_id} is {state}, so it has no rights to pass on", "enable it first, or make a new key")
            new = new_key(old.name, old.permission, old.endpoints, old.expires_at)
            ends_at = int(now_s) + overlap_s
            with self._changing():
                self._insert(new)
                if overlap_s == 0:
                    self._update(key_id, "revoked_at", ends_at)
                elif old.expires_at is None or ends_at < old.expires_at:
                    self._update(key_id, "expires_at", ends_at)
            return new

    def list(self) -> Sequence[Key]:
        """Every stored key that is not revoked, oldest first."""
        return sorted((key for digest, key in self._keys.items() if digest not in self._given), key=lambda key: (key.created_at, key.id))

    def revoke(self, key_id: str, now_s: float) -> bool:
        """From now on the key is unknown; False when there is none with this id."""
        return self._set(key_id, "revoked_at", int(now_s))

    def expire(self, key_id: str, expires_at: int) -> bool:
        """Give the key an end, or another one; False when there is none with this id."""
        return self._set(key_id, "expires_at", expires_at)

    def disable(self, key_id: str, disabled: bool = True) -> bool:
        """Disable the key, or enable it again; False when there is none with this id."""
        return self._set(key_id, "disabled", int(disabled))

    def _set(self, key_id: str, column: Column, value: int) -> bool:
        with self._lock, self._changing():
            return self._update(key_id, column, value)

    def _known(self, keys: dict[bytes, Key]) -> bool:
        """These are all that are valid, or were; True when that is news."""
        changed = keys != self._keys
        if changed:
            self._keys = keys
            self.generation += 1
        return changed

    # Where they are kept

    def refresh(self) -> bool:
        """Notice what others have changed, where that has to be asked for; True when a key changed. Ask once a second, off the hot path."""
        raise NotImplementedError

    def first(self) -> str | None:
        """Make the first key of a new service and return its text; None where there is a key already, even a revoked one, or a given one."""
        raise NotImplementedError

    def _insert(self, new: NewKey) -> None:
        raise NotImplementedError

    def _update(self, key_id: str, column: Column, value: int) -> bool:
        """Only of a key that is not revoked; False when there is none with this id."""
        raise NotImplementedError

    def _changing(self) -> AbstractContextManager[None]:
        """Round all that belongs together."""
        raise NotImplementedError


class KeyStore(KeyRing):
    """The keys of one data directory. ``given`` is a key set from the outside (AGEZERO_PRIVATE_KEY); it is valid beside the stored ones."""

    def __init__(self, connection: sqlite3.Connection, given: str | None = None) -> None:
        super().__init__(given)
        self._connection = connection
        _bring_up(connection)
        self._version = self._data_version()
        self._keys = self._load()

    def refresh(self) -> bool:
        """Read the keys again where another connection changed the database; True when a key changed. Ask once a second, off the hot path."""
        with self._lock:
            version = self._data_version()
            if version == self._version:
                return False
            self._version = version
            return self._known(self._load())

    def first(self) -> str | None:
        """Make the first key of a new data directory and return its text; None where there is a key already, even a revoked one, or a given one."""
        if self._given or self._connection.execute("SELECT 1 FROM keys LIMIT 1").fetchone():
            return None
        return self.create("first", Permission.ADMIN)

    def _insert(self, new: NewKey) -> None:
        key = new.key
        encoded = None if key.endpoints is None else msgspec.json.encode(key.endpoints).decode()
        row = (key.id, key.name, key_hash(new.text), key.permission.value, encoded, key.created_at, key.expires_at)
        self._connection.execute("INSERT INTO keys (id, name, hash, permission, endpoints, created_at, expires_at) VALUES (?, ?, ?, ?, ?, ?, ?)", row)

    def _update(self, key_id: str, column: Column, value: int) -> bool:
        statement = f"UPDATE keys SET {column} = ? WHERE id = ? AND revoked_at IS NULL"  # noqa: S608 (one of three words)
        return self._connection.execute(statement, (value, key_id)).rowcount > 0

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """All of the block or nothing; then what is in memory is read anew."""
        self._connection.execute("BEGIN IMMEDIATE")
        with self._connection:
            yield
        self._known(self._load())

    def _data_version(self) -> int:
        """SQLite's own mark: it differs when *another* connection has changed the database since this one last looked."""
        return int(self._connection.execute("PRAGMA data_version").fetchone()[0])

    def _load(self) -> dict[bytes, Key]:
        rows = self._connection.execute(f"SELECT {_COLUMNS} FROM keys WHERE revoked_at IS NULL")  # noqa: S608 (a constant)
        return {row[7]: _key(row) for row in rows} | self._given


def checked(text: str) -> str:
    """``text`` itself where it can be a key. Raises :class:`InvalidKey`."""
    if len(text) < KEY_CHARACTERS_MIN:
        raise InvalidKey(f"the private key has {len(text)} characters; expected at least {KEY_CHARACTERS_MIN}")
    if not (text.isascii() and text.isprintable()) or set(text) & set(": "):
        raise InvalidKey("the private key holds a character that HTTP Basic can't carry in a user name; expected ASCII without space or colon")
    return text


def _check_endpoint(text: str) -> None:
    try:
        parse_endpoint(text)
    except InvalidUrl as error:
        raise InvalidKey(f"the endpoint {text!r} is not valid: {error}") from None


def key_hash(text: str) -> bytes:
    """By which a key is recognised."""
    return hashlib.sha256(text.encode(errors="surrogateescape")).digest()


def new_key(name: str, permission: Permission, endpoints: tuple[str, ...] | None = None, expires_at: int | None = None) -> NewKey:
    """Made up, and kept nowhere yet."""
    key = Key(secrets.token_hex(4), name, permission, endpoints, int(time.time()), expires_at)
    return NewKey(PREFIX + secrets.token_urlsafe(24), key)


def _bring_up(connection: sqlite3.Connection) -> None:
    """Make the table, or make one of the time when there were two permissions ready for three."""
    connection.execute("BEGIN IMMEDIATE")
    with connection:
        connection.execute(SCHEMA)
        (schema,) = connection.execute("SELECT sql FROM sqlite_schema WHERE name = 'keys'").fetchone()
        if "'admin'" in schema:
            return
        connection.execute("ALTER TABLE keys RENAME TO old_keys")
        connection.execute(SCHEMA)
        connection.execute("INSERT INTO keys SELECT * FROM old_keys")
        connection.execute("DROP TABLE old_keys")


def _key(row: tuple[str, str, str, str | None, int, int | None, int, bytes]) -> Key:
    endpoints = None if row[3] is None else tuple(msgspec.json.decode(row[3], type=list[str]))
    return Key(row[0], row[1], Permission(row[2]), endpoints, row[4], row[5], bool(row[6]))
