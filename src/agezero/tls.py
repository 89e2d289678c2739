"""Certificate files: examined before they are used, and watched, so that a renewed certificate is taken up without a restart.

Whoever renews a certificate writes two files, one after the other. So a change is only taken up when both have been quiet for a moment and belong
together; until then, and for as long as they don't, the old certificate is used.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import structlog

from agezero.errors import UserError

LOOK_S = 1.0
"""How often the files are looked at."""

_MEMORY = "/dev/shm"  # noqa: S108 (a folder of our own in there)
_MISMATCH = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH")
log = structlog.get_logger()


class CertificateUnusable(UserError):
    """The files can't be used. The message says which, and why."""


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """A certificate, with those that certify it behind it, and its private key: PEM files. ``names`` are the settings', for people."""

    certificate: Path
    key: Path
    names: tuple[str, str] = ("tls_certificate", "tls_key")

    def check(self) -> None:
        """Raises :class:`CertificateUnusable`."""
        for name, path in zip(self.names, (self.certificate, self.key), strict=True):
            _readable(name, path)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.load_cert_chain(self.certificate, self.key, _no_password)
        except _Encrypted:
            raise CertificateUnusable(
                f"the key {self.key} ({self.names[1]}) is protected by a password", "take it off: openssl pkey -in KEY -out PLAIN_KEY"
            ) from None
        except (ssl.SSLError, ValueError) as error:
            raise self._fault(error) from None

    @contextlib.contextmanager
    def copied(self) -> Iterator[CertificateFiles]:
        """Both as they are at this moment, and belonging together, for who must not meet a change in between. In memory where there is such a place.

        Raises :class:`CertificateUnusable`.
        """
        self.check()
        with tempfile.TemporaryDirectory(prefix="agezero-", dir=_MEMORY if os.access(_MEMORY, os.W_OK) else None) as folder:
            copy = CertificateFiles(Path(folder, "certificate.pem"), Path(folder, "key.pem"), self.names)
            try:
                for source, target in ((self.certificate, copy.certificate), (self.key, copy.key)):
                    target.touch(mode=0o600)
                    target.write_bytes(source.read_bytes())
                copy.check()
            except (OSError, CertificateUnusable):
                raise CertificateUnusable(f"{self.certificate} or {self.key} changed while it was read", "try again when both are written") from None
            yield copy

    def stamp(self) -> tuple[object, ...]:
        """Differs when a file does, or the place to which a link leads."""
        return tuple(_stamp(path) for path in (self.certificate, self.key))

    def _fault(self, error: Exception) -> CertificateUnusable:
        if getattr(error, "reason", "") in _MISMATCH:
            return CertificateUnusable(
                f"the key {self.key} ({self.names[1]}) does not belong to the certificate {self.certificate} ({self.names[0]})",
                "give the key that the certificate was made for; in the certificate's file it must stand first, before those that certify it",
            )
        which = self.certificate if not _has_certificate(self.certificate) else self.key
        name = self.names[0] if which == self.certificate else self.names[1]
        kind = "certificate" if which == self.certificate else "private key"
        return CertificateUnusable(f"{which} ({name}) holds no {kind} in PEM format", f"a line in it should begin with -----BEGIN and name a {kind}")


def certificate_files(certificate: str, key: str, section: str) -> CertificateFiles | None:
    """What the settings say, examined; None: no TLS. Raises :class:`CertificateUnusable`."""
    files = named_files(certificate, key, section)
    if files is not None:
        files.check()
    return files


def named_files(certificate: str, key: str, section: str) -> CertificateFiles | None:
    """The same, not examined."""
    if not certificate or not key:
        return None
    names = (f"{section}.tls_certificate", f"{section}.tls_key")
    return CertificateFiles(Path(certificate).expanduser().absolute(), Path(key).expanduser().absolute(), names)


async def follow(files: CertificateFiles, changed: Callable[[], Awaitable[None]]) -> None:
    """Call ``changed`` for each change that can be used; until cancelled."""
    used = seen = files.stamp()
    while True:
        await asyncio.sleep(LOOK_S)
        before, seen = seen, files.stamp()
        if seen == used or seen != before:
            continue
        used = seen  # tried once: said once
        try:
            await asyncio.to_thread(files.check)
            await changed()
        except UserError as error:
            log.error("the new certificate is not used; the old one is", error=error.message, hint=error.hint)
        else:
            log.info("a new certificate is used", certificate=str(files.certificate))


class _Encrypted(Exception):
    """OpenSSL asked for a password."""


def _no_password() -> str:
    raise _Encrypted


def _readable(name: str, path: Path) -> None:
    try:
        path.read_bytes()
    except OSError as error:
        why = (error.strerror or "unreadable").lower()
        raise CertificateUnusable(
            f"the file {path} ({name}) cannot be read: {why}", "check the path, and that the user agezero runs as may read it"
        ) from None


def _has_certificate(path: Path) -> bool:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(path)
    except (ssl.SSLError, OSError):
        return False
    return True


def _stamp(path: Path) -> object:
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
