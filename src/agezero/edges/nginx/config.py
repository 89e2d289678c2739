"""Writes what nginx reads: its configuration and the njs modules, into the edge's own directory."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import re
import resource
import ssl
import tempfile
import threading
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from string import Template

from agezero.edges.nginx.binary import Nginx
from agezero.edges.nginx.errors import EdgeUnusable
from agezero.edges.nginx.marks import Marks
from agezero.edges.nginx.origin import upstream_servers
from agezero.edges.nginx.settings import EdgeSettings
from agezero.tls import CertificateFiles

_SOCKET_PATH_BYTES_MAX = 100  # the kernel's limit is 107, and nginx needs a few
_QUOTABLE = re.compile(r"[^\x00-\x1f\"$\\{};]+")
_MODULES = ("edge.js", "status.js", "fill.js", "control.js")
SLOT_BYTES = 160  # of shared memory for one entry: 128, and what the allocator keeps for itself; measured, 136 is enough
_CONNECTIONS_MAX = 8192


_KEY = "js_set $agezero_key edge.key;"
_PLAIN_KEY = 'set $agezero_key "0.0|$agezero_authority";'


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the files of the edge lie; all of it below ``home``."""

    home: Path

    def __post_init__(self) -> None:
        for path in (self.control, self.filler):
            if len(os.fsencode(path)) > _SOCKET_PATH_BYTES_MAX:
                raise EdgeUnusable(
                    f"the path of the edge's unix socket is too long: {path} has {len(os.fsencode(path))} bytes, "
                    f"at most {_SOCKET_PATH_BYTES_MAX} are possible",
                    "choose a shorter data directory",
                )
        if not _QUOTABLE.fullmatch(str(self.home)):
            raise EdgeUnusable(f"nginx cannot work in {str(self.home)!r}", "choose a data directory without quotes, '$', '\\', ';' or braces")

    @property
    def control(self) -> Path:
        """The unix socket on which the agent drives the edge."""
        return self.home / "run" / "control.sock"

    @property
    def filler(self) -> Path:
        """The unix socket between the front and the filler."""
        return self.home / "run" / "filler.sock"

    @property
    def cache(self) -> Path:
        """The stored objects; this survives restarts."""
        return self.home / "cache"

    @property
    def wiped(self) -> Path:
        """Objects that are no longer in the cache and still have to be removed."""
        return self.home / "wiped"

    @property
    def config(self) -> Path:
        """The rendered configuration."""
        return self.home / "nginx.conf"

    def marks(self, settings: EdgeSettings) -> Marks:
        """The file of marks, see :mod:`agezero.edges.nginx.marks`."""
        return Marks(self.home / "marks", settings.slots)


def layout(data: Path) -> Layout:
    """The edge's directory in the data directory."""
    return Layout(data.resolve() / "edge")


def write_config(settings: EdgeSettings, files: Layout, nginx: Nginx, *, epoch_in_key: bool = True, lease_checked: bool = True) -> None:
    """Write everything anew. The keyword arguments take a safeguard away, for the tests that show that it is needed."""
    for folder in (files.home, files.home / "run", files.home / "tmp", files.home / "js"):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
    package = resources.files(__package__)
    for module in _MODULES:
        (files.home / "js" / module).write_text(package.joinpath(module).read_text())
    marks = files.marks(settings).path
    switches = {"name": settings.name, "slots": settings.slots, "marks": str(marks), "lease_checked": lease_checked}
    (files.home / "js" / "settings.js").write_text(f"export default {json.dumps(switches)};\n")
    template = Template(package.joinpath("nginx.conf").read_text())
    key = _KEY if epoch_in_key else _PLAIN_KEY
    files.config.write_text(template.substitute(_values(settings, files, nginx), key=key))


def _values(settings: EdgeSettings, files: Layout, nginx: Nginx) -> dict[str, object]:
    origin = settings.origin_parts
    open_files = _open_files()
    return {
        "workers": settings.workers,
        "files": open_files,
        "files_kept": open_files // 8,
        "connections": min(_CONNECTIONS_MAX, open_files // 2),
        "load_module": f'load_module "{nginx.module}";' if nginx.module else "",
        "user": f"user {pwd.getpwuid(0).pw_name};" if os.geteuid() == 0 else "",
        # Else a reload keeps a certificate whose file has the same inode and, in whole seconds, the same time.
        "inherit": "ssl_object_cache_inheritable off;" if nginx.inherits else "",
        "table_zone": f"{max(256, settings.slots * SLOT_BYTES // 1024)}k",
        "cache_bytes_max": settings.cache_bytes_max,
        "inactive_s": settings.inactive_s,
        "filler_socket": files.filler,
        "control_socket": files.control,
        "listen": settings.listen,
        "listen_tls": " ssl" if settings.certificate else "",
        "tls": _server_tls(settings.certificate) if settings.certificate else "",
        "body_bytes_max": settings.body_bytes_max,
        "front_timeout": _ms(settings.read_timeout_s + settings.connect_timeout_s + 5),  # the filler's answer comes first
        "connect_timeout": _ms(settings.connect_timeout_s),
        "read_timeout": _ms(settings.read_timeout_s),
        "lock_timeout": _ms(settings.lock_timeout_s),
        "origin_scheme": origin.scheme,
        "origin_servers": upstream_servers(settings, nginx),
        "origin_authority": origin.netloc,
        "origin_host": origin.netloc if settings.origin_host == "origin" else "$agezero_asked",
        "origin_tls": _tls(origin.hostname or "") if origin.scheme == "https" else "",
    }


def _server_tls(files: CertificateFiles) -> str:
    for path in (files.certificate, files.key):
        if not _QUOTABLE.fullmatch(str(path)):
            raise EdgeUnusable(f"nginx cannot work with {str(path)!r}", "choose a path without quotes, '$', '\\', ';' or braces")
    lines = (
        f'ssl_certificate "{files.certificate}";',
        f'ssl_certificate_key "{files.key}";',
        "ssl_protocols TLSv1.2 TLSv1.3;",
        "ssl_session_cache shared:agezero_tls:2m;",
        "ssl_session_tickets off;",
        "http2 on;",
    )
    return "\n        ".join(lines)


def _tls(host: str) -> str:
    lines = (
        "proxy_ssl_server_name on;",
        f"proxy_ssl_name {host};",
        "proxy_ssl_verify on;",
        "proxy_ssl_verify_depth 4;",
        f'proxy_ssl_trusted_certificate "{_authorities()}";',
    )
    return "\n            ".join(lines)


def _authorities() -> str:
    """The system's bundle of certificate authorities (``SSL_CERT_FILE`` names another), else the one that comes with httpx."""
    system = ssl.get_default_verify_paths().cafile
    if system:
        return system
    import certifi

    return certifi.where()


def _ms(seconds: float) -> str:
    return f"{max(1, round(seconds * 1000))}ms"


def _open_files() -> int:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    wanted = 2 * _CONNECTIONS_MAX
    return wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)


def wipe_cache(files: Layout) -> None:
    """Put all stored objects aside, for when it is not certain which of them were purged; :func:`sweep` removes them. nginx must not be running."""
    if files.cache.exists():
        files.wiped.mkdir(mode=0o700, exist_ok=True)
        files.cache.rename(tempfile.mkdtemp(dir=files.wiped))


def sweep(wiped: Path, enough: threading.Event) -> None:
    """Remove what was wiped, which may take minutes; when ``enough`` is set, the rest stays for the next time. Raises ``OSError``."""
    for folder, _, names in os.walk(wiped, topdown=False):
        for name in names:
            if enough.is_set():
                return
            Path(folder, name).unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):
            Path(folder).rmdir()
