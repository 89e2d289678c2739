"""Where nginx finds the origin: addresses looked up once, at the start, or a name that nginx follows itself.

nginx asks a name server and nothing else: it knows no /etc/hosts, no search list, no other source of names that the system may have. So it
follows a name only where that leads to the same place.
"""

from __future__ import annotations

import re
import socket
from pathlib import Path

import structlog

from agezero.edges.nginx.binary import Nginx
from agezero.edges.nginx.settings import EdgeSettings, is_address

RESOLV_CONF = Path("/etc/resolv.conf")
HOSTS = Path("/etc/hosts")
_NAMESERVER = re.compile(r"^\s*nameserver\s+([0-9A-Fa-f:.]+)\s*$", re.MULTILINE)  # nginx cannot ask at fe80::1%eth0

_log = structlog.get_logger(__name__)


def upstream_servers(settings: EdgeSettings, nginx: Nginx) -> str:
    """What stands in nginx's ``upstream`` of the origin. A name that nobody knows yet is a warning where nginx goes on asking for it."""
    origin = settings.origin_parts
    host, port = origin.hostname or "", origin.port or (443 if origin.scheme == "https" else 80)
    servers = name_servers(RESOLV_CONF)
    if not (nginx.resolves and servers and follows_dns(host)):
        return f"server {bracketed(host)}:{port};"
    known = _families(host)
    if not known:
        _log.warning(
            "the origin's host is unknown: its requests are answered 502 until a name server knows it",
            origin=settings.origin,
            hint="check the name, and that this machine can resolve it",
        )
    ipv6 = "" if socket.AF_INET6 in known else " ipv6=off"
    lines = ("zone agezero_origin 256k;", f"resolver {' '.join(servers)}{ipv6};", "resolver_timeout 5s;", f"server {host}:{port} resolve;")
    return "\n        ".join(lines)


def follows_dns(host: str) -> bool:
    """Does a name server give for ``host`` what the system gives? Where neither gives anything: is it a name that one could give?"""
    if is_address(host) or host.rstrip(".").endswith(("localhost", ".local")) or host in _named_here():
        return False
    # With a dot at the end it is looked up without the search list.
    return bool(_families(host.rstrip(".") + ".")) or ("." in host and not _families(host))


def name_servers(resolv_conf: Path) -> list[str]:
    """As nginx writes them. Empty where there are none."""
    try:
        text = resolv_conf.read_text()
    except OSError:
        return []
    return [bracketed(address) if is_address(address) else address for address in _NAMESERVER.findall(text)]


def bracketed(host: str) -> str:
    """An IPv6 address in brackets, anything else as it is."""
    return f"[{host}]" if ":" in host else host


def _families(host: str) -> set[socket.AddressFamily]:
    """Of the addresses of ``host`` that this machine could reach; empty where it is unknown."""
    try:
        return {found[0] for found in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)}
    except (OSError, UnicodeError):
        return set()


def _named_here() -> set[str]:
    try:
        lines = HOSTS.read_text().splitlines()
    except OSError:
        return set()
    return {name.lower() for line in lines for name in line.partition("#")[0].split()[1:]}
