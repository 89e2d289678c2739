"""The gate before the console's pages: a session's cookie in the place of a key in a header. What it lets in is the same visitor."""

from __future__ import annotations

from collections.abc import Iterable

from agezero.console.cookies import SESSION, read
from agezero.console.sessions import Session, Sessions
from agezero.http.faults import Fault, Refused
from agezero.http.gate import Gate, Visitor, visitor_of
from agezero.http.limiter import RateLimit
from agezero.http.reply import Header
from agezero.keys import KeyRing

VISITORS_MAX = 1024


class SessionGate(Gate):
    """A :class:`Gate` for cookies. A seal can't be guessed, and an old one is no attempt: nobody is locked out for having slept."""

    def __init__(self, sessions: Sessions, keys: KeyRing, limit: RateLimit) -> None:
        super().__init__(keys, limit)
        self._sessions = sessions
        self._by_session: dict[str, Visitor] = {}

    def recognise(self, headers: Iterable[Header], now_s: float, address: str = "") -> Visitor:  # noqa: ARG002 (a Gate)
        """Who is signed in. Raises :class:`Refused`, 401, where nobody is."""
        return self.signed_in(headers, now_s)[1]

    def signed_in(self, headers: Iterable[Header], now_s: float) -> tuple[Session, Visitor]:
        """The session too."""
        session = self._sessions.open(read(headers, SESSION), self._keys, now_s)
        if session is None:
            raise Refused(Fault.NO_KEY, "nobody is signed in, or the session is over")
        visitor = self._by_session.get(session.nonce)
        if visitor is None or visitor.key != session.key:
            if len(self._by_session) >= VISITORS_MAX:
                self._by_session.clear()
            visitor = self._by_session[session.nonce] = visitor_of(session.key, self._limit)
        return session, visitor

    def holds(self, headers: Iterable[Header], now_s: float) -> bool:
        """Is the session that a stream began with still good?"""
        try:
            self.signed_in(headers, now_s)
        except Refused:
            return False
        return True
