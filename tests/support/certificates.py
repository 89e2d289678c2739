"""A certificate authority of a test's own, made by the program openssl."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

from support.programs import require


class Authority:
    """Its certificate is at ``bundle``."""

    def __init__(self, folder: Path) -> None:
        require("openssl")
        folder.mkdir()
        self._folder = folder
        self.bundle = folder / "ca.pem"
        self._key = folder / "ca.key"
        constraints = ("-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign")
        self._make(self._key, self.bundle, "/CN=A certificate authority for tests", *constraints)

    def server(self, name: str) -> ssl.SSLContext:
        """What a server called ``name`` needs; ``DNS:…`` or ``IP:…``."""
        key, certificate = self._folder / "server.key", self._folder / "server.pem"
        self._make(key, certificate, "/CN=server", "-addext", f"subjectAltName={name}", "-CA", str(self.bundle), "-CAkey", str(self._key))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        return context

    def _make(self, key: Path, certificate: Path, subject: str, *more: str) -> None:
        new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", str(key))
        command = ("openssl", "req", "-x509", "-days", "2", *new, "-out", str(certificate), "-subj", subject, *more)
        subprocess.run(command, check=True, capture_output=True)
