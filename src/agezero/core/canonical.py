"""The canonical form of a URL, so that two spellings of one URL always meet.

A purge names a URL in the API; a cache sees an authority and a request target. Both are brought to the same
text, ``authority/path?query``, by RFC 3986 §6.2.2 (case, percent-encoding, dot segments) and §6.2.3 (default port,
empty path). The scheme is left out: RFC 8007 §4.1 matches without it, and an edge behind a TLS terminator cannot know it.

The same rules stand a second time in ``edges/nginx/edge.js``; ``tests/contract/test_edge_js.py`` holds the two together.
Where the RFC leaves a choice, the rule is the wider one: two URLs that might be one object become one text.
"""

from __future__ import annotations

import re

URL_BYTES_MAX = 8192
"""Longest canonical URL in bytes: the request line that nginx, Varnish and Squid accept by default is 8 KiB."""

_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?#]*)(?P<target>[^#]*)(?:#.*)?", re.DOTALL)
_AUTHORITY = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\[\]:@]+)(?::(?P<port>[0-9]{0,5}))?")
_HOST = re.compile(r"\[[0-9a-f:.]+\]|[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?)*")
_DEFAULT_PORTS = frozenset({"", "80", "443"})
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_NOT_PLAIN = re.compile(rb"%[0-9A-Fa-f]{2}|[^A-Za-z0-9\-._~!$&'()*+,;=:@/?]")


class InvalidUrl(ValueError):
    """The text names no URL that a cache could hold. ``str()`` says what was wrong and what was expected."""


def canonical_url(text: str) -> str:
    """``https://Example.com:443/a%7eb`` → ``example.com/a~b``. Raises :class:`InvalidUrl`."""
    authority, target = split_url(text)
    return canonical_authority(authority) + canonical_target(target)


def split_url(text: str) -> tuple[str, str]:
    """Cut an absolute http(s) URL into authority and request target; the fragment, which no cache sees, is dropped."""
    if _CONTROL.search(text):
        raise InvalidUrl("the URL holds a control character; percent-encode it or leave it out")
    match = _URL.fullmatch(text)
    if match is None:
        raise InvalidUrl("expected an absolute URL such as https://example.com/path")
    if match["scheme"].lower() not in ("http", "https"):
        raise InvalidUrl(f"the scheme is {match['scheme']!r}; expected http or https")
    return match["authority"], match["target"]


def canonical_authority(text: str) -> str:
    """Lower-case the host (IDNA to ASCII), drop a default port (80 and 443, whatever the scheme) and a trailing dot."""
    match = _AUTHORITY.fullmatch(text)
    if match is None:
        raise InvalidUrl(f"the authority {text!r} is malformed; expected host or host:port, without user information")
    host = match["host"].lower().removesuffix(".")
    if not host.isascii():
        import idna  # here: a cache's helper sees ASCII alone, and runs under a Python that may lack it

        try:
            host = idna.encode(host, uts46=True).decode("ascii")
        except idna.IDNAError as error:
            raise InvalidUrl(f"the host {host!r} is not a valid international domain name: {error}") from None
    if not _HOST.fullmatch(host) or len(host) > 255:
        raise InvalidUrl(f"the host {host!r} is malformed; expected a domain name or an IP address")
    port = (match["port"] or "").lstrip("0")
    if port and int(port) > 65535:
        raise InvalidUrl(f"the port {port} is out of range; expected 1 to 65535")
    return host if port in _DEFAULT_PORTS else f"{host}:{port}"


def canonical_target(target: str) -> str:
    """Bring a path with its query to canonical form. Total for text without control characters, and idempotent."""
    try:
        raw = target.encode()
    except UnicodeEncodeError:
        raise InvalidUrl("the URL holds half of a surrogate pair; expected valid Unicode") from None
    if len(raw) > URL_BYTES_MAX:
        raise InvalidUrl(f"the URL has {len(raw)} bytes; expected at most {URL_BYTES_MAX}")
    path, mark, query = _NOT_PLAIN.sub(_encode, raw).decode("ascii").partition("?")
    result = _without_dot_segments(path) + mark + query
    if len(result) > URL_BYTES_MAX:
        raise InvalidUrl(f"the URL has {len(result)} bytes once encoded; expected at most {URL_BYTES_MAX}")
    return result


def _encode(match: re.Match[bytes]) -> bytes:
    token = match[0]
    if len(token) == 3:
        byte = int(token[1:], 16)
        return bytes((byte,)) if byte in _UNRESERVED else token.upper()
    return b"%%%02X" % token[0]


def _without_dot_segments(path: str) -> str:
    """RFC 3986 §5.2.4 for an absolute path. ``//`` is kept: an origin may tell it from ``/``."""
    if "/." not in path:
        return path or "/"
    kept: list[str] = []
    segments = path.split("/")[1:]
    for segment in segments:
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    if segments[-1] in (".", ".."):
        kept.append("")
    return "/" + "/".join(kept)
