"""A machine on which ``agezero up`` runs, and all that can befall it: it may be killed, frozen, started again, its disk may be full."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from agezero.edges.nginx.process import end, running
from support.ports import free_address
from support.service import AGEZERO, start, stop
from support.wire import Broken, Wire

KEY = "private_key_of_the_tests"
POLL_S = 0.01
_READY_TIMEOUT_S = 0.5
_UNSAFE = Path(__file__).with_name("unsafe.py")


class Machine:
    """One data directory, one pair of addresses, and one service after the other. ``without``: a safeguard of :mod:`support.unsafe`."""

    def __init__(self, data: Path, origin: str, config: str = "", without: str = "") -> None:
        self.data = data
        self.config = config
        self.api, self.edge = free_address(), free_address()
        self.home = (data / "store" / "edge").resolve()
        self._flags = ["--origin", origin, "--api", self.api, "--edge", self.edge]
        self._command: list[str | Path] = [sys.executable, "-P", _UNSAFE, without] if without else [AGEZERO]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "start() comes first"
        return self._process

    @property
    def output(self) -> str:
        """All that its services have printed so far."""
        return (self.data / "output.log").read_text(errors="replace")

    @property
    def up(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start a service; it need not be ready on return."""
        self._process = start(self.data, self.config, KEY, self._flags, self._command)

    async def ready(self, deadline_s: float = 30) -> None:
        """Return once the API can accept and prove."""
        async with asyncio.timeout(deadline_s):
            while not await self.is_ready():
                if not self.up:
                    raise AssertionError(f"agezero up ended with {self.process.returncode}:\n{self.output[-3000:]}")
                await asyncio.sleep(POLL_S)

    async def is_ready(self) -> bool:
        """What it says of itself, if it says anything."""
        api = Wire(self.api, timeout_s=_READY_TIMEOUT_S)
        try:
            return (await api.request("GET", "/readyz")).status == 200
        except Broken:
            return False
        finally:
            await api.aclose()

    def kill(self) -> None:
        """kill -9 of the service alone."""
        if self.up:
            self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        return stop(self.process)

    def edge_processes(self) -> tuple[list[int], list[int]]:
        """The process ids of nginx: masters, and all others (workers, the cache's manager and loader)."""
        masters: list[int] = []
        others: list[int] = []
        for pid in running(self.home):
            with contextlib.suppress(OSError):
                (masters if b"master process" in Path(f"/proc/{pid}/cmdline").read_bytes() else others).append(pid)
        return masters, others

    @contextlib.contextmanager
    def frozen(self, pids: list[int]) -> Iterator[None]:
        """SIGSTOP ``pids``, SIGCONT at the end of the block."""
        signal_all(pids, signal.SIGSTOP)
        try:
            yield
        finally:
            signal_all(pids, signal.SIGCONT)

    @contextlib.contextmanager
    def disk_full(self, bytes_max: int = 1) -> Iterator[None]:
        """The running service cannot write past ``bytes_max`` in any file."""
        pid = self.process.pid
        _limit(pid, bytes_max)
        try:
            yield
        finally:
            _limit(pid, resource.RLIM_INFINITY)

    async def clear(self) -> None:
        """End all that is left."""
        if self._process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.stop()
        signal_all(running(self.home), signal.SIGCONT)
        await end(self.home)


@contextlib.asynccontextmanager
async def machine(data: Path, origin: str, config: str = "", without: str = "") -> AsyncIterator[Machine]:
    """A machine with a service that is ready; nothing of it is left behind."""
    here = Machine(data, origin, config, without)
    try:
        here.start()
        await here.ready()
        yield here
    finally:
        await here.clear()


def signal_all(pids: list[int], number: signal.Signals) -> None:
    """One may have gone meanwhile."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _limit(pid: int, bytes_max: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (bytes_max, resource.RLIM_INFINITY))
