"""A real varnishd with agezero.vcl, driven from a test: unprivileged, on free ports, with storage in memory."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from agezero.config.edges import Varnish
from agezero.edges.position import PositionFile
from agezero.edges.varnish.driver import VarnishDriver
from agezero.edges.varnish.vcl import vcl
from support.caches.base import CacheEdge, running
from support.freezing import freeze
from support.ports import free_address
from support.waiting import wait_for

CALL_S = 60
STOP_S = 15
VARNISHD = shutil.which("varnishd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin") or "varnishd"


class VarnishEdge(CacheEdge):
    """A running Varnish. ``without``: safeguards taken out of the VCL. ``before``, ``after``: the user's own subs round it.

    ``mode``: of the agent's socket. ``preload``: a library that the program gets with its start.
    """

    def __init__(
        self,
        origin: str,
        data: Path,
        *,
        without: Collection[str] = (),
        before: str = "",
        after: str = "",
        include: bool = True,
        settles: bool = True,
        parameters: Collection[str] = (),
        timeout_s: float = 5.0,
        canary: str = "",
        mode: str = "0600",
        preload: Path | None = None,
        storage: str = "malloc,64m",
    ) -> None:
        super().__init__()
        self.url = f"http://{free_address()}"
        self.parameters = parameters
        self.storage = storage
        self.work = Path(tempfile.mkdtemp(prefix="agezero-varnish-"))  # short: a unix socket lies in it
        self.control = self.work / "agezero.sock"
        place = urlsplit(origin)
        (self.work / "agezero.vcl").write_text(vcl(canary, without))
        self.mode = mode
        self._environment = {**os.environ, **({"LD_PRELOAD": str(preload)} if preload else {})}
        self.described = Varnish(name="varnish", control=str(self.control), front=self.url, canary=canary or "127.0.0.1:8479")
        self._backend = f'backend default {{ .host = "{place.hostname}"; .port = "{place.port}"; }}\n'
        self.write_vcl(before, after, include=include)
        data.mkdir(parents=True, exist_ok=True)
        self.state = self.position = PositionFile(data / "position.json")
        self.driver = VarnishDriver(self.control, self.position, settles=settles, timeout_s=timeout_s, end_s=0)
        self._process: subprocess.Popen[bytes] | None = None

    def write_vcl(self, before: str = "", after: str = "", *, include: bool = True) -> Path:
        included = f'include "{self.work / "agezero.vcl"}";\n' if include else ""
        path = self.work / "main.vcl"
        path.write_text(f"vcl 4.1;\n{self._backend}{before}\n{included}{after}\n")
        return path

    # The process

    def start(self) -> None:
        """Start varnishd, and wait until it listens for the agent."""
        command: list[str | Path] = [
            VARNISHD,
            "-F",
            "-n",
            self.work / "n",
            "-a",
            f"front={self.host}",
            "-a",
            f"agezero={self.control},mode={self.mode}",
            "-f",
            self.work / "main.vcl",
            "-s",
            self.storage,
            "-j",
            "none",
            "-p",
            "thread_pool_min=20",
        ]
        for parameter in self.parameters:
            command += ["-p", parameter]
        with (self.work / "output.log").open("ab") as log:
            self._process = subprocess.Popen(command, env=self._environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        wait_for(self._answers, "varnishd answers")

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError(f"varnishd ended:\n{self.output}")
        with socket.socket(socket.AF_UNIX) as probe, suppress(OSError):
            probe.settimeout(5)
            probe.connect(str(self.control))
            probe.sendall(b"AGEZERO /state HTTP/1.1\r\nHost: agezero\r\n\r\n")
            return probe.recv(12).startswith(b"HTTP/1.1 ")
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

    def kill(self) -> None:
        """kill -9 of manager and child."""
        assert self._process is not None
        for pid in (self._process.pid, self.child):
            os.kill(pid, signal.SIGKILL)
        self._process.wait()
        self._process = None

    def freeze(self) -> None:
        freeze([self.child])

    def thaw(self) -> None:
        os.kill(self.child, signal.SIGCONT)

    def admin(self, *command: str) -> str:
        """``varnishadm``."""
        return self._tool("varnishadm", *command)

    def reload(self, before: str = "", after: str = "", *, include: bool = True) -> None:
        """``vcl.load`` and ``vcl.use``, as a user does."""
        name = f"vcl{time.monotonic_ns()}"
        self.admin("vcl.load", name, str(self.write_vcl(before, after, include=include)))
        self.admin("vcl.use", name)

    def loaded(self) -> list[str]:
        """The names of the VCLs, oldest first."""
        return [line.split()[-1] for line in self.admin("vcl.list").splitlines() if line.strip()]

    def log(self) -> str:
        """What varnishlog has."""
        return self._tool("varnishlog", "-d")

    def raw(self, target: str, host: str) -> bytes:
        """The answer's head to a GET of exactly this target and host."""
        address, _, port = self.host.rpartition(":")
        with socket.create_connection((address, int(port)), CALL_S) as connection:
            connection.sendall(f"GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            return b"".join(iter(lambda: connection.recv(65536), b""))

    def command(self, path: str, headers: Mapping[str, str]) -> str:
        """The answer to a command of another agent."""
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(CALL_S)
            connection.connect(str(self.control))
            connection.sendall(f"AGEZERO {path} HTTP/1.1\r\nHost: agezero\r\nConnection: close\r\n{lines}\r\n".encode())
            return b"".join(iter(lambda: connection.recv(65536), b"")).decode()

    def _tool(self, *command: str) -> str:
        said = subprocess.run([command[0], "-n", self.work / "n", *command[1:]], capture_output=True, text=True, check=True, timeout=CALL_S)
        return said.stdout

    def stat(self, name: str) -> int:
        """A counter of varnishstat."""
        return int(self._tool("varnishstat", "-1", "-f", name).split()[1])

    def is_hit(self, answer: httpx.Response) -> bool:
        """X-Varnish names the request that stored the object, where there was one."""
        return len(answer.headers["X-Varnish"].split()) == 2

    def close(self) -> None:
        super().close()
        shutil.rmtree(self.work)


def running_varnish(origin: str, data: Path, *, opened: bool = True, **options: Any) -> AbstractContextManager[VarnishEdge]:
    """Start a Varnish in front of ``origin``; ``opened``: with a lease. Ended on leaving."""
    return running(VarnishEdge(origin, data, **options), opened=opened)
