"""Private keys: made, kept as hashes, recognised.

A key that is made here is ``private_`` and 32 random characters of 64 (192 bits). It is kept as its plain SHA-256: a slow, salted hash protects
secrets that can be guessed, and one of 192 random bits can't be, while a fast one lets a thousand requests a second be checked. Recognising looks
the *hash* up, so how long it takes says nothing about the key.

A store reads all keys into memory once. Another process may change them (`agezero keys …` beside a running service):
:meth:`KeyStore.refresh` notices, cheaply, and raises ``generation``.
"""

from __future__ import annotations

import hashlib
import secrets
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from agezero.core.canonical import InvalidUrl
from agezero.core.endpoint import parse_endpoint
from agezero.errors import UserError

PREFIX = "private_"
KEY_CHARACTERS_MIN = 16
"""Shortest key that is taken from the outside; of random letters and digits it has some 80 bits."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS keys (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    hash BLOB NOT NULL UNIQUE,
    permission TEXT NOT NULL CHECK (permission IN ('read', 'write')),
    endpoints TEXT,              -- JSON list of URLs; NULL: every endpoint of the service
    created_at INTEGER NOT NULL, -- seconds since 1970, as the others
    expires_at INTEGER,
    disabled INTEGER NOT NULL DEFAULT 0,
    revoked_at INTEGER
) STRICT
"""

_COLUMNS = "id, name, permission, endpoints, created_at, expires_at, disabled, hash"


class Permission(StrEnum):
    """ImageKit's levels: ``read`` reads statuses, ``write`` also purges."""

    READ = "read"
    WRITE = "write"


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
        return self.permission is Permission.WRITE


class KeyStore:
    """The keys of one data directory. ``given`` is a key set from the outside (AGEZERO_PRIVATE_KEY); it is valid beside the stored ones."""

    def __init__(self, connection: sqlite3.Connection, given: str | None = None) -> None:
        self._connection = connection
        self._given = {} if given is None else {_hash(checked(given)): Key("environment", "AGEZERO_PRIVATE_KEY", Permission.WRITE)}
        self._connection.execute(SCHEMA)
        self._connection.commit()
        self._version = self._data_version()
        self._keys = self._load()
        self.generation = 0
        """Rises whenever what :meth:`verify` answers may have changed."""

    def verify(self, text: str, now_s: float) -> Key | Denial:
        """The key that ``text`` is. In memory; no clock: the caller passes the time."""
        key = self._keys.get(_hash(text))
        if key is None:
            return Denial.UNKNOWN
        if key.disabled:
            return Denial.DISABLED
        return Denial.EXPIRED if key.expired(now_s) else key

    def refresh(self) -> bool:
        """Read the keys again where another connection changed the database; True when a key changed. Ask once a second, off the hot path."""
        version = self._data_version()
        if version == self._version:
            return False
        self._version = version
        return self._reload()

    def first(self) -> str | None:
        """Make the first key of a new data directory and return its text; None where there is a key already, even a revoked one, or a given one."""
        if self._given or self._connection.execute("SELECT 1 FROM keys LIMIT 1").fetchone():
            return None
        return self.create("first", Permission.WRITE)

    def create(self, name: str, permission: Permission, endpoints: Sequence[str] | None = None, expires_at: int | None = None) -> str:
        """Make a key; its text is returned here and never again. Raises :class:`InvalidKey` for an endpoint that is no URL."""
        for endpoint in endpoints or ():
            _check_endpoint(endpoint)
        text = PREFIX + secrets.token_urlsafe(24)
        encoded = None if endpoints is None else msgspec.json.encode(list(endpoints)).decode()
        row = (secrets.token_hex(4), name, _hash(text), permission.value, encoded, int(time.time()), expires_at)
        self._write("INSERT INTO keys (id, name, hash, permission, endpoints, created_at, expires_at) VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        return text

    def list(self) -> Sequence[Key]:
        """Every stored key that is not revoked, oldest first."""
        return sorted((key for digest, key in self._keys.items() if digest not in self._given), key=lambda key: (key.created_at, key.id))

    def revoke(self, key_id: str, now_s: float) -> bool:
        """From now on the key is unknown; False when there is none with this id."""
        return self._write("UPDATE keys SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL", (int(now_s), key_id))

    def expire(self, key_id: str, expires_at: int) -> bool:
        """Give the key an end, or another one; False when there is none with this id."""
        return self._write("UPDATE keys SET expires_at = ? WHERE id = ? AND revoked_at IS NULL", (expires_at, key_id))

    def disable(self, key_id: str, disabled: bool = True) -> bool:
        """Disable the key, or enable it again; False when there is none with this id."""
        return self._write("UPDATE keys SET disabled = ? WHERE id = ? AND revoked_at IS NULL", (disabled, key_id))

    def _write(self, statement: str, values: tuple[object, ...]) -> bool:
        with self._connection:
            changed = self._connection.execute(statement, values).rowcount
        self._reload()
        return changed > 0

    def _data_version(self) -> int:
        """SQLite's own mark: it differs when *another* connection has changed the database since this one last looked."""
        return int(self._connection.execute("PRAGMA data_version").fetchone()[0])

    def _reload(self) -> bool:
        keys = self._load()
        changed = keys != self._keys
        if changed:
            self._keys = keys
            self.generation += 1
        return changed

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


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode(errors="surrogateescape")).digest()


def _key(row: tuple[str, str, str, str | None, int, int | None, int, bytes]) -> Key:
    endpoints = None if row[3] is None else tuple(msgspec.json.decode(row[3], type=list[str]))
    return Key(row[0], row[1], Permission(row[2]), endpoints, row[4], row[5], bool(row[6]))
