"""A real varnishd with agezero.vcl, driven from a test: unprivileged, on free ports, with storage in memory."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Collection, Coroutine, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx

from agezero.core.purge import Purge
from agezero.core.selector import Selector, parse_url
from agezero.edges.position import PositionFile
from agezero.edges.varnish.driver import VarnishDriver
from agezero.edges.varnish.vcl import vcl
from agezero.ports import Lease
from support.service import free_address
from support.waiting import wait_for

T = TypeVar("T")
CALL_S = 60
STOP_S = 15
LEASE_S = 600.0
VARNISHD = shutil.which("varnishd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin") or "varnishd"


class VarnishEdge:
    """A running Varnish. ``without``: safeguards taken out of the VCL. ``vcl_before``, ``vcl_after``: the user's own subs round it."""

    def __init__(
        self,
        origin: str,
        data: Path,
        *,
        without: Collection[str] = (),
        vcl_before: str = "",
        vcl_after: str = "",
        include: bool = True,
        settles: bool = True,
        listen: str = "",
        parameters: Collection[str] = (),
        timeout_s: float = 10.0,
    ) -> None:
        self.address = listen or free_address()
        self.url = f"http://{self.address}"
        self.data = data
        self.work = Path(tempfile.mkdtemp(prefix="agezero-varnish-"))  # short: a unix socket lies in it
        self.work.chmod(0o700)
        self.control = self.work / "agezero.sock"
        place = urlsplit(origin)
        (self.work / "agezero.vcl").write_text(vcl(without=without))
        self._backend = f'backend default {{ .host = "{place.hostname}"; .port = "{place.port}"; }}\n'
        self.write_vcl(vcl_before, vcl_after, include=include)
        self.parameters = parameters
        data.mkdir(parents=True, exist_ok=True)
        self.state = PositionFile(data / "position.json")
        self.driver = VarnishDriver(self.control, self.state, settles=settles, timeout_s=timeout_s)
        self.client = httpx.Client(base_url=self.url, timeout=CALL_S)
        self._process: subprocess.Popen[bytes] | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def write_vcl(self, before: str = "", after: str = "", *, include: bool = True) -> Path:
        included = f'include "{self.work / "agezero.vcl"}";\n' if include else ""
        path = self.work / "main.vcl"
        path.write_text(f"vcl 4.1;\n{self._backend}{before}\n{included}{after}\n")
        return path

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the edge's loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(CALL_S)

    # The process

    def start(self) -> None:
        """Start varnishd, and wait until it listens for the agent."""
        command: list[str | Path] = [
            VARNISHD,
            "-F",
            "-n",
            self.work / "n",
            "-a",
            f"front={self.address}",
            "-a",
            f"agezero={self.control},mode=0600",
            "-f",
            self.work / "main.vcl",
            "-s",
            "malloc,64m",
            "-j",
            "none",
            "-p",
            "thread_pool_min=20",
        ]
        for parameter in self.parameters:
            command += ["-p", parameter]
        with (self.work / "output.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        wait_for(self._answers, "varnishd answers")

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError(f"varnishd ended:\n{self.output}")
        with suppress(httpx.TransportError), httpx.Client(transport=httpx.HTTPTransport(uds=str(self.control))) as client:
            client.request("AGEZERO", "http://agezero/state", timeout=5)
            return True
        return False

    @property
    def output(self) -> str:
        return (self.work / "output.log").read_text(errors="replace")

    @property
    def pid(self) -> int:
        """Of the manager process."""
        assert self._process is not None
        return self._process.pid

    @property
    def child(self) -> int:
        """Pid of the cache process."""
        return int(Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()[0])

    def kill_child(self) -> None:
        """kill -9 of the cache process; the manager starts another."""
        child = self.child
        os.kill(child, signal.SIGKILL)
        wait_for(lambda: self._new_child(child), "varnishd has started a new child")

    def _new_child(self, old: int) -> bool:
        with suppress(OSError, IndexError):
            return self.child != old and self._answers()
        return False

    def stop(self) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._process = None

    def restart(self) -> None:
        """The whole of varnishd."""
        self.stop()
        self.start()

    def freeze(self) -> None:
        os.kill(self.child, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.child, signal.SIGCONT)

    def admin(self, *command: str) -> str:
        """``varnishadm``."""
        said = subprocess.run(["varnishadm", "-n", self.work / "n", *command], capture_output=True, text=True, check=True, timeout=CALL_S)
        return said.stdout

    def reload(self, before: str = "", after: str = "", *, include: bool = True) -> None:
        """``vcl.load`` and ``vcl.use``, as a user does."""
        name = f"vcl{time.monotonic_ns()}"
        self.admin("vcl.load", name, str(self.write_vcl(before, after, include=include)))
        self.admin("vcl.use", name)

    def stat(self, name: str) -> int:
        """A counter of varnishstat."""
        said = subprocess.run(["varnishstat", "-n", self.work / "n", "-1", "-f", name], capture_output=True, text=True, check=True, timeout=CALL_S)
        return int(said.stdout.split()[1])

    # As an agent

    def open(self, length_s: float = LEASE_S) -> None:
        """What an agent does before the first lease."""
        self.driver.take_over(self.state.token + 1)
        self.call(self.driver.restore(self.call(self.driver.probe())))
        self.lease(length_s)

    def lease(self, length_s: float = LEASE_S) -> None:
        self.call(self.driver.install(Lease(self.state.token, time.monotonic(), length_s)))

    def purge(self, *what: str | Selector, soft: bool = False) -> None:
        """Apply purges of paths (with ``*``: prefixes) or selectors; confirmed on return."""
        selectors = [parse_url(self.url + one) if isinstance(one, str) else one for one in what]
        seq = self.state.watermark + 1
        self.call(self.driver.apply([Purge(seq + number, selector, soft) for number, selector in enumerate(selectors)]))
        self.state.save(seq + len(selectors) - 1, "log")

    def get(self, target: str = "/", **headers: str) -> httpx.Response:
        return self.client.get(target, headers={name.replace("_", "-"): value for name, value in headers.items()})

    def is_hit(self, answer: httpx.Response) -> bool:
        """X-Varnish names the request that stored the object, where there was one."""
        return len(answer.headers["X-Varnish"].split()) == 2

    def close(self) -> None:
        self.client.close()
        self.call(self.driver.aclose())
        self.stop()
        self.state.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        shutil.rmtree(self.work)


@contextmanager
def running_varnish(origin: str, data: Path, **options: Any) -> Iterator[VarnishEdge]:
    """Start a Varnish in front of ``origin`` with a lease; ended on leaving."""
    edge = VarnishEdge(origin, data, **options)
    try:
        edge.start()
        edge.open()
        yield edge
    finally:
        edge.close()
