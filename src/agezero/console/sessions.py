"""Who is signed in: a sealed token in a cookie, and nothing on the server but those that were ended.

A token is ``key id.seconds.nonce.seal``. The seal (HMAC-SHA256, RFC 2104) is made with the service's secret over all of it and the hash of the
key's text. So a token opens after a restart and needs no look-up of its own; it is worth what its key is worth at each request: one that is
revoked, disabled or expired opens nothing; and it can't be made without the secret, nor of one key for another. Who signs out ends the token itself,
also where somebody has a copy; that is written down until it would have ended anyway.
"""

from __future__ import annotations

import hmac
import re
import secrets
import sqlite3
import threading
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from hashlib import sha256

from agezero.keys import Key, KeyStore

SESSION_S = 12 * 3600
"""A session ends after this, used or not."""
ENDED_MAX = 10_000
"""Most ended sessions that are remembered; beyond, the oldest is forgotten."""

SCHEMA = "CREATE TABLE IF NOT EXISTS console_ended (nonce TEXT PRIMARY KEY, until_s INTEGER NOT NULL) STRICT"
_TOKEN = re.compile(r"([0-9A-Za-z_-]{1,64})\.([0-9]{1,12})\.([0-9A-Za-z_-]{22})\.([0-9A-Za-z_-]{43})")


@dataclass(frozen=True, slots=True)
class Session:
    """``form``: what each form of this session carries, and no other site can know (a CSRF token)."""

    key: Key
    nonce: str
    ends_s: int
    form: str


class Sessions:
    """One per process. ``connection`` is its own."""

    def __init__(self, secret: bytes, connection: sqlite3.Connection) -> None:
        self._secret = hmac.digest(secret, b"agezero console", sha256)
        self._connection = connection
        self._lock = threading.Lock()
        connection.execute(SCHEMA)
        self._ended: dict[str, int] = dict(connection.execute("SELECT nonce, until_s FROM console_ended ORDER BY until_s"))

    def begin(self, keys: KeyStore, key: Key, now_s: float) -> str | None:
        """The token of a new session; None where the key was revoked just now."""
        known = keys.known(key.id)
        return None if known is None else self._token(key.id, int(now_s), secrets.token_urlsafe(16), known[1])

    def open(self, token: str, keys: KeyStore, now_s: float) -> Session | None:
        """Whose session it is; None where it is none, or no longer."""
        match = _TOKEN.fullmatch(token)
        known = keys.known(match[1]) if match else None
        if match is None or known is None:
            return None
        (key, digest), began_s, nonce = known, int(match[2]), match[3]
        if not hmac.compare_digest(token.encode(), self._token(key.id, began_s, nonce, digest).encode()):
            return None
        ends_s = began_s + SESSION_S
        if not began_s - 60 <= now_s < ends_s or nonce in self._ended or key.state(now_s) != "valid":
            return None
        return Session(key, nonce, ends_s, self.form(nonce))

    def end(self, session: Session, now_s: float) -> None:
        """Sign out, durably. Blocks. Raises ``sqlite3.Error``."""
        with self._lock:
            ended = {nonce: until_s for nonce, until_s in self._ended.items() if until_s > now_s}
            self._ended = dict([*ended.items(), (session.nonce, session.ends_s)][-ENDED_MAX:])
            self._connection.execute("INSERT OR REPLACE INTO console_ended VALUES (?, ?)", (session.nonce, session.ends_s))
            self._connection.execute("DELETE FROM console_ended WHERE until_s <= ?", (int(now_s),))

    def form(self, nonce: str) -> str:
        """What a form carries that is sent with this nonce in a cookie."""
        return _text(hmac.digest(self._secret, b"form " + nonce.encode(errors="surrogateescape"), sha256))

    def _token(self, key_id: str, began_s: int, nonce: str, digest: bytes) -> str:
        head = f"{key_id}.{began_s}.{nonce}"
        return f"{head}.{_text(hmac.digest(self._secret, b'session ' + head.encode() + b' ' + digest, sha256))}"


def _text(seal: bytes) -> str:
    return urlsafe_b64encode(seal).rstrip(b"=").decode()
