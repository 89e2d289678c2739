"""From the settings to the way to NATS."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

from agezero.config import Config, Nats
from agezero.errors import UserError
from agezero.jetstream.link import Access

PASSWORD_ENV = "AGEZERO_NATS_PASSWORD"  # noqa: S105 (its name)


def access_of(config: Config, name: str) -> Access:
    """As ``name``, which the servers' own tools show. Raises :class:`UserError` for a file that can't be read."""
    nats = config.nats
    for setting in ("nkey_file", "creds_file", "ca_file", "tls_certificate", "tls_key"):
        _check_file(setting, getattr(nats, setting))
    return Access(
        servers=config.nats_servers,
        name=name,
        user=nats.user or None,
        password=os.environ.get(PASSWORD_ENV) or nats.password or None,
        creds_file=nats.creds_file or None,
        nkey_file=nats.nkey_file or None,
        tls=_tls(nats) if config.log.url.startswith("tls://") else None,
        inbox=nats.inbox,
    )


def _tls(nats: Nats) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=nats.ca_file or None)
        if nats.tls_certificate:
            context.load_cert_chain(nats.tls_certificate, nats.tls_key)
    except (ssl.SSLError, ValueError) as error:
        raise UserError(f"a certificate in [nats] can't be used: {error}", "expected PEM files; tls_key belongs to tls_certificate") from None
    return context


def _check_file(setting: str, path: str) -> None:
    if not path:
        return
    try:
        with Path(path).open("rb"):
            pass
    except OSError as error:
        raise UserError(f"nats.{setting}: {path} can't be read: {error.strerror}", "correct the path, or who may read the file") from None
