"""A real Squid as an accelerator with agezero.conf, driven from a test: on free ports, as root or not."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import agezero
from agezero.config.edges import Squid
from agezero.edges.squid.driver import configuration, open_edge
from support.caches.base import LEASE_S, CacheEdge
from support.freezing import freeze
from support.ports import free_address
from support.waiting import wait_for

SQUID = shutil.which("squid", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin") or "squid"
SERVANT = "proxy"
STOP_S = 15
_HELPER = Path(__file__).with_name("squid_helper.py")

_CONF = """\
pid_filename {home}/pid
access_log none
cache_log {home}/cache.log
cache_store_log none
coredump_dir {home}
cache_mem 64 MB
shutdown_lifetime 0 seconds
pinger_enable off
visible_hostname edge.test
max_filedescriptors 4096
collapsed_forwarding {collapsed}
range_offset_limit none
negative_ttl 60 seconds
{user}
{store}
{ours}
http_port {front} accel vhost
cache_peer {origin_host} parent {origin_port} 0 no-query no-digest originserver name=origin
never_direct allow all
http_access allow all
{more}
"""


class SquidEdge(CacheEdge):
    """A running Squid.

    ``without``: ``race``, ``fence``, ``quote`` or ``memory``, or texts whose lines of agezero.conf are left out.
    ``faulty``: the helper obeys ``fault``.
    ``edits``: (old, new) in agezero.conf.
    ``store``: a cache_dir line for a folder ``{}``. ``table``: what Squid's helper reads, if not what the agent writes.
    """

    def __init__(
        self,
        origin: str,
        data: Path,
        *,
        without: str | Collection[str] = (),
        edits: Collection[tuple[str, str]] = (),
        faulty: bool = False,
        store: str = "ufs {} 64 4 16",
        table: Path | None = None,
        more: str = "",
        include: bool = True,
        slots: int = 2**16,
    ) -> None:
        super().__init__()
        self.home = Path(tempfile.mkdtemp(prefix="agezero-squid-"))  # Squid's user can't enter pytest's own folders
        self.home.chmod(0o755)
        # Squids of one service name share their memory segments, also with one that was killed under another user.
        self.service = self.home.name.replace("-", "").replace("_", "")
        self.address = free_address()
        self.url = f"http://{self.address}"
        self.options = Squid(name="squid", control=free_address(), canary=free_address(), front=self.url, table=str(self.home / "table"), slots=slots)
        self.described = self.options
        self.driver, self.state = open_edge(self.options, data)
        self.slots = self.state
        self.fault = self.home / "fault" / "what"
        self._process: subprocess.Popen[bytes] | None = None
        for name in ("cache", "fault"):
            (self.home / name).mkdir()
        if os.geteuid() == 0:
            for path in (self.home, self.home / "cache", self.home / "fault"):
                shutil.chown(path, SERVANT)
        self._render(origin, without, faulty, store, table, more, include)
        for old, new in edits:
            assert old in self._conf, old
            (self.home / "squid.conf").write_text(self._conf.replace(old, new))

    def _render(self, origin: str, without: str | Collection[str], faulty: bool, store: str, table: Path | None, more: str, include: bool) -> None:
        mode = without if isinstance(without, str) else str(self.fault) if faulty else ""
        helper = f"{_python()} {_HELPER} {mode}" if mode else f"{_python()} -m agezero.edges.squid.helper"
        ours = configuration(self.options, self.home, helper=helper, without=() if isinstance(without, str) else without)
        if table is not None:
            ours = ours.replace(self.options.table, str(table))
        place = urlsplit(origin)
        text = _CONF.format(
            home=self.home,
            user=f"cache_effective_user {SERVANT}" if os.geteuid() == 0 else "",
            store=f"cache_dir {store.format(self.home / 'cache')}" if store else "",
            ours=ours if include else f"http_port {self.options.control} accel vhost",
            front=self.address,
            origin_host=place.hostname,
            origin_port=place.port,
            more=more,
            collapsed="off" if without == "race" else "on",  # else whoever comes after the purge waits for the old one
        )
        (self.home / "squid.conf").write_text(text)

    # The program

    def start(self) -> None:
        """Make the store at the first start; on return both ports are open."""
        if "cache_dir" in self._conf and not any((self.home / "cache").iterdir()):
            self._run("-z", "-N")
        self._process = subprocess.Popen(
            [*self._program, "-N"],
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        wait_for(lambda: self._listens(self.address) and self._listens(self.options.control), "squid listens")

    def _listens(self, address: str) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError(f"squid ended:\n{self.output}")
        host, port = address.rsplit(":", 1)
        with suppress(OSError), socket.create_connection((host, int(port)), timeout=5):
            return True
        return False

    def _run(self, *arguments: str) -> None:
        done = subprocess.run([*self._program, *arguments], check=False, cwd=self.home, timeout=60, capture_output=True, text=True)
        assert done.returncode == 0, f"squid {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}{done.stderr}{self.output}"

    @property
    def _program(self) -> list[str | Path]:
        return [SQUID, "-n", self.service, "-f", self.home / "squid.conf"]

    @property
    def _conf(self) -> str:
        return (self.home / "squid.conf").read_text()

    @property
    def output(self) -> str:
        with suppress(FileNotFoundError):
            return (self.home / "cache.log").read_text(errors="replace")
        return ""

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Does it run?"""
        return self._process is not None and self._process.poll() is None

    @property
    def helpers(self) -> list[int]:
        """Their pids."""
        with suppress(OSError):
            children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
            return [pid for pid in map(int, children) if b"squid.helper" in _command(pid) or b"squid_helper" in _command(pid)]
        return []

    def reconfigure(self) -> None:
        """Like ``squid -k reconfigure``; on return the old helpers are gone. The next request starts another."""
        before = self.helpers
        os.kill(self.pid, signal.SIGHUP)
        wait_for(lambda: not set(before) & set(self.helpers), "squid has let its helpers go")
        wait_for(lambda: self._listens(self.options.control) and self._listens(self.address), "squid listens again")

    def stop(self) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None

    def kill(self) -> None:
        """kill -9; the helpers end by themselves."""
        assert self._process is not None
        os.kill(self.pid, signal.SIGKILL)
        self._process.wait()
        self._process = None
        (self.home / "pid").unlink(missing_ok=True)

    def freeze(self) -> None:
        freeze([self.pid])

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def close(self) -> None:
        super().close()
        shutil.rmtree(self.home, ignore_errors=True)
        for segment in Path("/dev/shm").glob(f"{self.service}-*.shm"):  # a killed Squid leaves them
            segment.unlink(missing_ok=True)


def _python() -> str:
    """One that Squid's user may run, and which finds this package: it need not be the one of the tests, which may lie in somebody's home."""
    python = Path(sys.executable)
    if os.geteuid() == 0 and not all(path.stat().st_mode & 0o001 for path in python.resolve().parents):
        python = Path("/usr/bin/python3")
    return f"/usr/bin/env PYTHONPATH={Path(agezero.__file__).parents[1]} {python}"


def _command(pid: int) -> bytes:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


@contextmanager
def running_squid(origin: str, data: Path, *, leased: bool = True, length_s: float = LEASE_S, **options: Any) -> Iterator[SquidEdge]:
    """Start a Squid in front of ``origin`` with a lease; ended on leaving."""
    edge = SquidEdge(origin, data, **options)
    try:
        edge.start()
        if leased:
            edge.open(length_s)
        yield edge
    finally:
        edge.close()
