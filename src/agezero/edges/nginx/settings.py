"""The settings of the embedded edge."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import SplitResult, urlsplit

from agezero.config import Edge
from agezero.tls import CertificateFiles, named_files

SLOTS_MIN = 2**10
SLOTS_MAX = 2**20

_TOKEN = re.compile(r"[A-Za-z*][A-Za-z0-9!#$%&'*+.^_`|~:/-]*")
_LISTEN = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.*_-]+):([0-9]{1,5})")
_ORIGIN_HOST = re.compile(r"\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+")


class EdgeSettings(Edge, frozen=True, kw_only=True):
    """What :class:`agezero.config.Edge` says, checked. Raises ``ValueError`` where a value cannot be used; the text says what was expected."""

    def __post_init__(self) -> None:
        for wrong in _faults(self):
            raise ValueError(wrong)

    @property
    def origin_parts(self) -> SplitResult:
        """The origin, cut up."""
        return urlsplit(self.origin)

    @property
    def certificate(self) -> CertificateFiles | None:
        """Its files, where it speaks TLS; not examined."""
        return named_files(self.tls_certificate, self.tls_key, "edge")

    @property
    def address(self) -> tuple[str, int]:
        """Host (without brackets) and port of ``listen``."""
        host, _, port = self.listen.rpartition(":")
        return host.strip("[]"), int(port)


def _faults(settings: EdgeSettings) -> list[str]:
    positive = ("cache_bytes_max", "inactive_s", "workers", "connect_timeout_s", "read_timeout_s", "lock_timeout_s")
    listen = _LISTEN.fullmatch(settings.listen)
    slots = settings.slots
    checks = {
        f"name is {settings.name!r}; expected letters, digits, '-', '_' and '.', beginning with a letter": _TOKEN.fullmatch(settings.name),
        f"listen is {settings.listen!r}; expected HOST:PORT such as 127.0.0.1:8081": listen and 0 < int(listen[1]) < 65536,
        f"origin is {settings.origin!r}; expected http://HOST[:PORT] or https://HOST[:PORT], without a path": _is_origin(settings.origin),
        f"origin is {settings.origin!r}; expected a name after https://: nginx verifies no certificate of an address": _is_verifiable(
            settings.origin
        ),
        f"slots is {slots}; expected a power of two from {SLOTS_MIN} to {SLOTS_MAX}": SLOTS_MIN <= slots <= SLOTS_MAX and not slots & (slots - 1),
        f"body_bytes_max is {settings.body_bytes_max}; expected 0 or more": settings.body_bytes_max >= 0,
    }
    checks.update({f"{name} is {getattr(settings, name)}; expected more than 0": getattr(settings, name) > 0 for name in positive})
    return [fault for fault, passed in checks.items() if not passed]


def is_address(host: str) -> bool:
    """Is ``host`` an IP address, without brackets, and not a name?"""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_verifiable(origin: str) -> bool:
    return not (_is_origin(origin) and origin.startswith("https:") and is_address(urlsplit(origin).hostname or ""))


def _is_origin(origin: str) -> bool:
    try:
        parts = urlsplit(origin)
        port = parts.port
    except ValueError:
        return False
    host = parts.netloc.rsplit(":", 1)[0] if port is not None else parts.netloc
    return parts.scheme in ("http", "https") and parts.path in ("", "/") and not parts.query and bool(_ORIGIN_HOST.fullmatch(host)) and port != 0
