"""What a type can't say of ``log.url`` and of the section ``[nats]``."""

from __future__ import annotations

import re
from collections.abc import Callable

from agezero.config.settings import Config, Nats

_SERVER = re.compile(r"(nats|tls)://(?:\[[0-9A-Fa-f:.]+\]|[^\[\]:/@\s,]+)(?::([0-9]{1,5}))?")
_TLS = ("ca_file", "tls_certificate", "tls_key")


def _check_url(config: Config) -> None:
    schemes = set()
    for server in config.nats_servers:
        match = _SERVER.fullmatch(server)
        if match is None or not 0 < int(match[2] or 4222) < 65536:
            raise ValueError(f"{_without_secret(server)!r}; expected nats://HOST:PORT or tls://HOST:PORT, several with commas; [nats] says as whom")
        schemes.add(match[1])
    if len(schemes) > 1:
        raise ValueError("some servers are nats:// and some tls://; expected one of the two for all")


def _check_needed(config: Config) -> None:
    if config.nats != Nats() and not config.log.url:
        raise ValueError("[nats] says as whom to go to NATS, but log.url names no servers")


def _check_user(config: Config) -> None:
    ways = [name for name in ("user", "nkey_file", "creds_file") if getattr(config.nats, name)]
    if len(ways) > 1:
        raise ValueError(f"{' and '.join(ways)} are set; expected one of them")
    if config.nats.password and not config.nats.user:
        raise ValueError("there is a password, but no user")


def _check_tls(config: Config) -> None:
    used = [name for name in _TLS if getattr(config.nats, name)]
    if used and not config.log.url.startswith("tls://"):
        raise ValueError(f"{used[0]} is set, but log.url is not tls://")
    if bool(config.nats.tls_certificate) != bool(config.nats.tls_key):
        raise ValueError("tls_certificate and tls_key belong together, and one of them is missing")


def _check_inbox(config: Config) -> None:
    if not re.fullmatch(r"_INBOX(?:[._-][A-Za-z0-9_-]+)*", config.nats.inbox):
        raise ValueError(f"{config.nats.inbox!r}; expected _INBOX, and what tells this agent from others after it, such as _INBOX_paris")


def _without_secret(server: str) -> str:
    return re.sub(r"//[^@/]*@", "//…@", server)


NATS_CHECKS: tuple[tuple[str, Callable[[Config], None]], ...] = (
    ("log.url", _check_url),
    ("nats", _check_needed),
    ("nats.user", _check_user),
    ("nats.ca_file", _check_tls),
    ("nats.inbox", _check_inbox),
)
