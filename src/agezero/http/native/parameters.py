"""What stands beside a body: the query and the headers. What is not understood is refused, so that a slip in a filter does not list everything."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from urllib.parse import parse_qsl

from starlette.types import Scope

from agezero.core.canonical import InvalidUrl, canonical_url
from agezero.http.faults import Fault, Refused

FIELDS_MAX = 16
LIMIT_MAX = 200
IDEMPOTENCY_CHARACTERS_MAX = 255
LIMIT_DEFAULT = 50
WAIT = r"^(0\.[1-9]|[1-9]|[1-5][0-9]|60)s$"
"""0.1s to 60s."""


class Query:
    """The parameters of a request. Every method raises :class:`Refused`."""

    def __init__(self, scope: Scope, known: Iterable[str]) -> None:
        self._values: dict[str, str] = {}
        try:
            pairs = parse_qsl(scope["query_string"].decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=FIELDS_MAX)
        except ValueError:
            raise _wrong("the query is not percent-encoded UTF-8, or has too many parameters") from None
        for name, value in pairs:
            if name not in known:
                raise _wrong(f"there is no parameter {name!r} here; expected {', '.join(known) or 'none'}")
            if name in self._values:
                raise _wrong(f"the parameter {name!r} stands there twice")
            self._values[name] = value

    def text(self, name: str) -> str | None:
        """As it stands there; None without one."""
        value = self._values.get(name)
        if value is not None and (not value or not value.isprintable()):
            raise _wrong(f"{name} is empty, or not printable")
        return value

    def word(self, name: str) -> str:
        """Printable ASCII without a space; empty without one."""
        value = self._values.get(name)
        if value is not None and not re.fullmatch(r"[!-~]+", value):
            raise _wrong(f"{name} is {value!r}; expected printable ASCII without a space")
        return value or ""

    def one_of(self, name: str, *allowed: str) -> str | None:
        """One of these words."""
        value = self._values.get(name)
        if value is not None and value not in allowed:
            raise _wrong(f"{name} is {value!r}; expected {' or '.join(allowed)}")
        return value

    def limit(self) -> int:
        """How many of a list are asked for."""
        value = self._values.get("limit", str(LIMIT_DEFAULT))
        if not re.fullmatch(r"[1-9][0-9]{0,2}", value) or int(value) > LIMIT_MAX:
            raise _wrong(f"limit is {value!r}; expected 1 to {LIMIT_MAX}")
        return int(value)

    def wait_s(self) -> float:
        """How long to wait; 0 without a wish."""
        value = self._values.get("wait")
        if value is None:
            return 0
        if not re.fullmatch(WAIT, value):
            raise _wrong(f"wait is {value!r}; expected 0.1s to 0.9s, or 1s to 60s")
        return float(value[:-1])

    def since_ms(self) -> int:
        """Milliseconds since 1970; 0 without a wish."""
        value = self._values.get("since")
        if value is None:
            return 0
        try:
            moment = datetime.fromisoformat(value)
            if moment.tzinfo is None:
                raise ValueError
            return max(0, int(moment.timestamp() * 1000))
        except (ValueError, OverflowError):
            raise _wrong(f"since is {value!r}; expected a time with its zone, such as 2026-01-31T12:00:00Z") from None

    def url(self) -> str | None:
        """In canonical form."""
        value = self._values.get("url")
        try:
            return None if value is None else canonical_url(value)
        except InvalidUrl as error:
            raise _wrong(f"url: {error}") from None


def header(scope: Scope, name: bytes) -> str | None:
    """The header's value; None without one."""
    for each, value in scope["headers"]:
        if each == name:
            return str(value.decode("latin-1")).strip()
    return None


def idempotency_key(scope: Scope) -> str:
    """Empty without one."""
    key = header(scope, b"idempotency-key")
    if key is None:
        return ""
    if not (key and key.isascii() and key.isprintable()) or " " in key or len(key) > IDEMPOTENCY_CHARACTERS_MAX:
        raise _wrong(f"the Idempotency-Key is not 1 to {IDEMPOTENCY_CHARACTERS_MAX} printable ASCII characters, no space")
    return key


def _wrong(detail: str) -> Refused:
    return Refused(Fault.INVALID_PARAMETER, detail)
