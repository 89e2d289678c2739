"""The real ``agezero up``, as a process of its own, in front of a real origin."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from support.origin import Origin, running_origin
from support.ports import free_address
from support.waiting import wait_for

AGEZERO = Path(sys.executable).with_name("agezero")
STOP_S = 15


@dataclass(frozen=True, slots=True)
class Service:
    """A running service: ``url`` of its API, ``edge`` (URL of its edge, which is also its endpoint), ``key``."""

    url: str
    edge: str
    key: str
    origin: Origin
    data: Path
    process: subprocess.Popen[bytes]

    @property
    def output(self) -> str:
        """All it has printed so far."""
        return _output(self.data)


@contextmanager
def running_service(data: Path, *, key: str = "private_key_of_the_tests", config: str = "", origin: Origin | None = None) -> Iterator[Service]:
    """Start ``agezero up`` on free ports, wait for ``/readyz``, end it by pid. ``config``: text of an ``agezero.toml``."""
    if origin is None:
        with running_origin() as own, running_service(data, key=key, config=config, origin=own) as service:
            yield service
        return
    api, edge = free_address(), free_address()
    process = start(data, config, key, ["--origin", origin.url, "--api", api, "--edge", edge])
    try:
        wait_until_ready(f"http://{api}", process, data)
        yield Service(f"http://{api}", f"http://{edge}", key, origin, data, process)
    finally:
        stop(process)


def start(data: Path, config: str, key: str, flags: list[str], command: Sequence[str | Path] = (AGEZERO,)) -> subprocess.Popen[bytes]:
    """``agezero up`` with ``flags``; what it prints goes to ``output.log`` beside its data directory, so no pipe can fill up."""
    data.mkdir(parents=True, exist_ok=True)
    if config:
        (data / "agezero.toml").write_text(config)
        flags = [*flags, "--config", str(data / "agezero.toml")]
    with (data / "output.log").open("ab") as log:
        return subprocess.Popen(
            [*command, "up", "--data", data / "store", *flags],
            env=os.environ | {"AGEZERO_PRIVATE_KEY": key},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def stop(process: subprocess.Popen[bytes]) -> int:
    """SIGTERM, and SIGKILL to its whole session when that does not end it; returns the exit status."""
    process.terminate()
    try:
        return process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return process.wait()


def wait_until_ready(url: str, process: subprocess.Popen[bytes], data: Path) -> None:
    def ready() -> bool:
        if process.poll() is not None:
            raise AssertionError(f"agezero up ended with {process.returncode}:\n{_output(data)}")
        try:
            return httpx.get(f"{url}/readyz", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    try:
        wait_for(ready, f"{url}/readyz answers 200")
    except TimeoutError as error:
        raise AssertionError(f"{error}; agezero up printed:\n{_output(data)}") from None


def _output(data: Path) -> str:
    return (data / "output.log").read_text(errors="replace")
