"""The gate before a call: who is it, may it, and is it too often?

A client sends the same ``Authorization`` header with every request, so the visitor it stands for is remembered by the raw header; only
accepted ones are, and all are forgotten when a key changes. Expiry is asked anew each time. Looking a header up in a dictionary compares
salted hashes first, so the time it takes says nothing about a key either. Who fails too often waits (:mod:`agezero.http.attempts`).
"""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from starlette.types import Scope

from agezero.core.endpoint import Endpoint, parse_endpoint
from agezero.http.attempts import Attempts
from agezero.http.faults import Fault, Refused, retry_after
from agezero.http.limiter import RateLimit, Window
from agezero.http.reply import Header
from agezero.keys import Denial, Key, KeyRing

VISITORS_MAX = 1024
"""How many distinct headers are remembered; beyond, all are forgotten at once, which costs each its next request's look-up."""

KEY_ID = "agezero.key"
"""Where a scope says whose key it was, for whoever logs the request."""

_DENIALS = {Denial.UNKNOWN: Fault.WRONG_KEY, Denial.EXPIRED: Fault.EXPIRED_KEY, Denial.DISABLED: Fault.DISABLED}
_GUESSES = frozenset(_DENIALS.values())
_CHALLENGE: Header = (b"www-authenticate", b'Basic realm="agezero", charset="UTF-8"')


@dataclass(frozen=True, slots=True)
class Visitor:
    """A key at one call. ``endpoints`` narrows where it may purge; None: under every endpoint of the service."""

    key: Key
    window: Window
    endpoints: tuple[Endpoint, ...] | None

    @property
    def administers(self) -> bool:
        """May it do what concerns the whole service?"""
        return self.key.may_administer()


def client_address(scope: Scope) -> str:
    """Who is at the other end of the connection; behind a proxy, that is the proxy."""
    client = scope.get("client")
    return str(client[0]) if client else ""


class Gate:
    """The gate before one call."""

    def __init__(self, keys: KeyRing, limit: RateLimit, attempts: Attempts | None = None) -> None:
        self._keys = keys
        self._limit = limit
        self._attempts = attempts or Attempts(0)
        self._generation = keys.generation
        self._visitors: dict[bytes, Visitor] = {}

    def recognise(self, headers: Iterable[Header], now_s: float, address: str = "") -> Visitor:
        """Who sends these headers. Raises :class:`Refused`: 401 without a key, 403 with one that is not valid, 429 after too many such."""
        try:
            return self._recognise(_authorization(headers), now_s, address)
        except Refused as refused:
            self._attempts.count(address, refused.fault.name.lower(), now_s, guess=refused.fault in _GUESSES)
            raise

    def holding(self, visitor: Visitor) -> Callable[[], bool]:
        """Is the key still valid with which something began that has no end? It is looked up again only when a key has changed."""
        key: Key | None = visitor.key
        generation = -1

        def holds() -> bool:
            nonlocal key, generation
            if generation != self._keys.generation:
                generation = self._keys.generation
                known = self._keys.known(visitor.key.id)
                key = known[0] if known else None
            return key is not None and key.state(time.time()) == "valid"

        return holds

    def _recognise(self, header: bytes, now_s: float, address: str) -> Visitor:
        if self._generation != self._keys.generation:
            self._visitors.clear()
            self._generation = self._keys.generation
        visitor = self._visitors.get(header)
        if visitor is None or visitor.key.expired(now_s):
            wait_s = 0 if self._attempts.was_accepted(header) else self._attempts.wait_s(address, now_s)
            if wait_s:
                raise Refused(Fault.TOO_MANY_ATTEMPTS, "", retry_after(wait_s))
            visitor = self._admit(header, now_s)
        return visitor

    def _admit(self, header: bytes, now_s: float) -> Visitor:
        key = self._keys.verify(private_key(header), now_s)
        if isinstance(key, Denial):
            raise Refused(_DENIALS[key])
        visitor = visitor_of(key, self._limit)
        if len(self._visitors) >= VISITORS_MAX:
            self._visitors.clear()
        self._attempts.accept(header)
        self._visitors[header] = visitor
        return visitor


def visitor_of(key: Key, limit: RateLimit) -> Visitor:
    """A key that was recognised, at one call."""
    endpoints = None if key.endpoints is None else tuple(map(parse_endpoint, key.endpoints))
    return Visitor(key, limit.window(key.id), endpoints)


def _authorization(headers: Iterable[Header]) -> bytes:
    for name, value in headers:
        if name == b"authorization":
            return value
    raise Refused(Fault.NO_KEY, "the request has no Authorization header", _CHALLENGE)


def private_key(header: bytes) -> str:
    """The key in an ``Authorization`` header: the user name of RFC 7617, or the bare key after ``Basic``. Raises :class:`Refused`."""
    scheme, _, credentials = header.decode("utf-8", "surrogateescape").strip().partition(" ")
    credentials = credentials.strip()
    if scheme.lower() != "basic" or not credentials:
        raise Refused(Fault.NO_KEY, "the Authorization header is not of the scheme Basic, or has no key", _CHALLENGE)
    key = _user_name(credentials)
    if not key:
        raise Refused(Fault.NO_KEY, "the user name in the Authorization header is empty", _CHALLENGE)
    return key


def _user_name(credentials: str) -> str:
    """A raw key is no base64 of ``user:password``: it has an underscore, or what it decodes to has no colon."""
    try:
        decoded = base64.b64decode(credentials.encode("utf-8", "surrogateescape"), validate=True)
    except (binascii.Error, ValueError):
        return credentials
    user, colon, _ = decoded.partition(b":")
    return user.decode("utf-8", "surrogateescape") if colon else credentials
