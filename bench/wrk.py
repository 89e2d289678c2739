"""Load from wrk, one thread: a client that is never the bottleneck of a Python service, nor of one nginx process."""

from __future__ import annotations

import contextlib
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from bench.harness import NotMeasured

_LONGEST_S = 60
HINT = "wrk is not installed\nhint: install the package wrk (Debian, Ubuntu, Homebrew); .ci/run does so"


def version() -> str:
    """What `wrk --version` says, in short; empty where there is none."""
    if shutil.which("wrk") is None:
        return ""
    said = subprocess.run(["wrk", "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"wrk (\S+)", said)
    return found[1] if found else "unknown"


def load(url: str, connections: int, seconds: float, headers: Mapping[str, str] | None = None, script: str = "") -> float:
    """Successful requests per second. Raises :class:`NotMeasured` where any answer was not 2xx, or a connection failed."""
    said = output(url, connections, seconds, headers, script)
    if "Non-2xx" in said:
        raise NotMeasured(f"wrk at {url} met errors:\n{said}")
    return rate(said)


def output(url: str, connections: int, seconds: float, headers: Mapping[str, str] | None = None, script: str = "") -> str:
    """What wrk says of a load. Raises :class:`NotMeasured` where a connection failed."""
    if shutil.which("wrk") is None:
        raise NotMeasured(HINT)
    command = ["wrk", "-t1", f"-c{connections}", f"-d{_LONGEST_S}s", "--timeout", "10s"]
    for name, value in (headers or {}).items():
        command += ["-H", f"{name}: {value}"]
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as file:
        if script:
            file.write(script)
            file.flush()
            command += ["-s", str(Path(file.name))]
        said = _for([*command, url], seconds)
    if "Requests/sec" not in said or "Socket errors" in said:
        raise NotMeasured(f"wrk at {url} met errors:\n{said}")
    return said


def rate(said: str) -> float:
    """Requests per second in what wrk says."""
    found = re.search(r"Requests/sec:\s+([0-9.]+)", said)
    assert found is not None
    return float(found[1])


def _for(command: list[str], seconds: float) -> str:
    """wrk knows whole seconds only, but ends in good order when it is interrupted."""
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(seconds)
        child.send_signal(signal.SIGINT)
        return child.communicate(timeout=_LONGEST_S)[0]
    finally:
        child.kill()
        child.wait()
