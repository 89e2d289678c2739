"""What a type can't say of a setting."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from agezero.config.edges import ExternalEdge, Mapped, Squid, TrafficServer
from agezero.config.nats import NATS_CHECKS
from agezero.config.settings import Api, Config, Edge
from agezero.core.canonical import InvalidUrl, canonical_authority, split_url
from agezero.core.endpoint import parse_endpoint
from agezero.errors import UserError

DOCS = "docs/OPERATING.md lists every setting"


class Address(NamedTuple):
    """Where to listen."""

    host: str
    port: int


EDGE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,62}")
"""Of the whole name of an edge."""


def parse_address(text: str) -> Address:
    """``127.0.0.1:8080`` or ``[::1]:8080`` → host and port. Raises ValueError."""
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\[\]:/\s]+)):([0-9]{1,5})", text)
    if match is None or not 0 < int(match[3]) < 65536:
        raise ValueError("expected HOST:PORT with a port from 1 to 65535, such as 127.0.0.1:8080 or [::1]:8080")
    return Address(match[1] or match[2], int(match[3]))


def check(config: Config, where: Callable[[str], str]) -> None:
    """What a type can't say. Each check raises ValueError."""
    checks: list[tuple[str, Callable[[], object]]] = [
        ("api.listen", lambda: parse_address(config.api.listen)),
        ("edge.listen", lambda: parse_address(config.edge.listen)),
        ("edge.listen", lambda: _check_distinct(config)),
        ("api.tls_certificate", lambda: _check_pair(config.api)),
        ("edge.tls_certificate", lambda: _check_pair(config.edge)),
        ("edge.origin", lambda: _check_origin(config.edge.origin)),
        ("edge.name", lambda: _check_name(config.edge.name)),
        ("edge.slots", lambda: _check_power_of_two(config.edge.slots)),
        ("endpoints", lambda: _check_endpoints(config)),
        ("data", lambda: _check_data(config.data)),
        ("lease.lease_s", lambda: _check_lease(config, config.lease.lease_s)),
        *((name, lambda probe=probe: probe(config)) for name, probe in NATS_CHECKS),
        ("traces.otlp", lambda: _check_collector(config.traces.otlp)),
        *((f"edges[{place}].{name}", probe) for place, edge in enumerate(config.edges) for name, probe in _edge_checks(config, edge)),
    ]
    for name, check in checks:
        try:
            check()
        except (ValueError, InvalidUrl) as error:
            raise UserError(f"{where(name)}: the setting {name!r} is not valid: {error}", DOCS) from None


def _edge_checks(config: Config, edge: ExternalEdge) -> list[tuple[str, Callable[[], object]]]:
    checks: list[tuple[str, Callable[[], object]]] = [
        ("name", lambda: _check_name(edge.name)),
        ("name", lambda: _check_unique(config, edge)),
        ("front", lambda: _check_origin(edge.front)),
        ("canary", lambda: parse_address(edge.canary)),
        ("lease_s", lambda: _check_lease(config, edge.lease_s or 0)),
    ]
    if isinstance(edge, TrafficServer | Squid):
        checks.append(("control", lambda: parse_address(edge.control)))
    if isinstance(edge, Mapped):
        checks.append(("slots", lambda: _check_power_of_two(edge.slots)))
    return checks


def _check_lease(config: Config, lease_s: float) -> None:
    if lease_s > config.lease.lease_max_s:
        raise ValueError(f"{lease_s:g} is more than lease.lease_max_s = {config.lease.lease_max_s:g}")


def _check_unique(config: Config, edge: ExternalEdge) -> None:
    names = [other.name for other in config.edges] + [config.edge.name] * bool(config.edge.origin)
    if names.count(edge.name) > 1:
        raise ValueError(f"{edge.name!r} is the name of another edge too; expected a name of its own")


def _check_distinct(config: Config) -> None:
    if parse_address(config.edge.listen) == parse_address(config.api.listen):
        raise ValueError(f"{config.edge.listen} is also the API's address; expected another one")


def _check_pair(section: Api | Edge) -> None:
    if bool(section.tls_certificate) != bool(section.tls_key):
        raise ValueError("tls_certificate and tls_key belong together, and one of them is missing")


def _check_origin(text: str) -> None:
    if not text:
        return
    authority, target = split_url(text)
    canonical_authority(authority)
    if target not in ("", "/"):
        raise ValueError(f"{text!r} has a path or a query; expected scheme and host alone, such as http://127.0.0.1:3000")


def _check_collector(text: str) -> None:
    if text and (not text.startswith(("http://", "https://")) or text.rstrip("/").endswith("/v1/traces")):
        raise ValueError(f"{text!r}; expected the URL of a collector without /v1/traces, such as http://127.0.0.1:4318")


def _check_name(text: str) -> None:
    if not EDGE_NAME.fullmatch(text):
        raise ValueError(f"{text!r}; expected a letter, then at most 62 letters, digits, dots, dashes or underscores")


def _check_power_of_two(number: int) -> None:
    if number & (number - 1):
        raise ValueError(f"{number} is not a power of two; the nearest are {1 << number.bit_length() - 1} and {1 << number.bit_length()}")


def _check_endpoints(config: Config) -> None:
    for text in config.endpoints:
        try:
            parse_endpoint(text)
        except InvalidUrl as error:
            raise ValueError(f"{text!r}: {error}") from None
    if not config.endpoints and parse_address(config.edge.listen).host in ("0.0.0.0", "::", "*"):  # noqa: S104 (compared, not bound)
        raise ValueError("the edge listens on every address, so its own URL can't be the endpoint; give the URL that visitors use")


def _check_data(text: str) -> None:
    if not text or "\0" in text:
        raise ValueError("it names no directory; expected a path such as ./agezero-data")
