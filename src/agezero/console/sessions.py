"""Who is signed in: a sealed token in a cookie, and nothing on the server but those that were ended.

A token is ``key id.seconds.nonce.seal``. The seal (HMAC-SHA256, RFC 2104) is made with the service's secret over all of it and the hash of the
key's text. So a token opens after a restart, in a fleet at every control node, and needs no look-up of its own; it is worth what its key is worth at
each request: one that is revoked, disabled or expired opens nothing; and it can't be made without the secret, nor of one key for another. Who signs
out ends the token itself, also where somebody has a copy; that is written down until it would have ended anyway.
"""

from __future__ import annotations

import hmac
import re
import secrets
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from hashlib import sha256

from agezero.console.ended import Ended
from agezero.keys import Key, KeyRing

SESSION_S = 12 * 3600
"""A session ends after this, used or not."""

_TOKEN = re.compile(r"([0-9A-Za-z_-]{1,64})\.([0-9]{1,12})\.([0-9A-Za-z_-]{22})\.([0-9A-Za-z_-]{43})")


@dataclass(frozen=True, slots=True)
class Session:
    """``form``: what each form of this session carries, and no other site can know (a CSRF token)."""

    key: Key
    nonce: str
    ends_s: int
    form: str


class Sessions:
    """One per process. ``secret``: the service's; control nodes share theirs, and ``ended`` with it."""

    def __init__(self, secret: bytes, ended: Ended) -> None:
        self._secret = hmac.digest(secret, b"agezero console", sha256)
        self._ended = ended

    def begin(self, keys: KeyRing, key: Key, now_s: float) -> str | None:
        """The token of a new session; None where the key was revoked just now."""
        known = keys.known(key.id)
        return None if known is None else self._token(key.id, int(now_s), secrets.token_urlsafe(16), known[1])

    def open(self, token: str, keys: KeyRing, now_s: float) -> Session | None:
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
        """Sign out, durably. Blocks, and is not to be called from the event loop. Raises as :meth:`agezero.console.ended.Ended.add` does."""
        self._ended.add(session.nonce, session.ends_s, now_s)

    def form(self, nonce: str) -> str:
        """What a form carries that is sent with this nonce in a cookie."""
        return _text(hmac.digest(self._secret, b"form " + nonce.encode(errors="surrogateescape"), sha256))

    def _token(self, key_id: str, began_s: int, nonce: str, digest: bytes) -> str:
        head = f"{key_id}.{began_s}.{nonce}"
        return f"{head}.{_text(hmac.digest(self._secret, b'session ' + head.encode() + b' ' + digest, sha256))}"


def _text(seal: bytes) -> str:
    return urlsafe_b64encode(seal).rstrip(b"=").decode()
