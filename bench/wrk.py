"""Load from wrk, one thread: a client that is never the bottleneck of a Python service, nor of one nginx process."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from bench.harness import NotMeasured

HINT = "wrk is not installed\nhint: install the package wrk (Debian, Ubuntu, Homebrew); .ci/run does so"


def version() -> str:
    """What `wrk --version` says, in short; empty where there is none."""
    if shutil.which("wrk") is None:
        return ""
    said = subprocess.run(["wrk", "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"wrk (\S+)", said)
    return found[1] if found else "unknown"


def load(url: str, connections: int, seconds: int, headers: Mapping[str, str] | None = None, script: str = "") -> float:
    """Successful requests per second. Raises :class:`NotMeasured` where any answer was not 2xx, or a connection failed."""
    if shutil.which("wrk") is None:
        raise NotMeasured(HINT)
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s"]
    for name, value in (headers or {}).items():
        command += ["-H", f"{name}: {value}"]
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as file:
        if script:
            file.write(script)
            file.flush()
            command += ["-s", str(Path(file.name))]
        said = subprocess.run([*command, url], capture_output=True, text=True, check=False).stdout
    rate = re.search(r"Requests/sec:\s+([0-9.]+)", said)
    if rate is None or "Non-2xx" in said or "Socket errors" in said:
        raise NotMeasured(f"wrk at {url} met errors:\n{said}")
    return float(rate[1])
