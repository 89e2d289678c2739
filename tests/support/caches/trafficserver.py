"""A real Traffic Server with AgeZero's script, on free ports, as root or not: no traffic_manager, a cache on disk, rules of the user's own."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Collection
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

import httpx

from agezero.config.edges import TrafficServer
from agezero.edges.mapped import MappedDriver
from agezero.edges.slots import SlotFile
from agezero.edges.trafficserver.config import Options, plugins, write
from agezero.edges.trafficserver.driver import TrafficServerDriver
from agezero.edges.trafficserver.look import TrafficServerLook
from support.caches.base import CacheEdge, running
from support.freezing import freeze
from support.ports import free_address
from support.programs import find
from support.waiting import wait_for

PROGRAMS = ("traffic_server", "trafficserver/modules/tslua.so")
STOP_S = 20

_RECORDS = """
CONFIG proxy.config.http.server_ports STRING {port}:ip-in=127.0.0.1 {more_ports}
CONFIG proxy.config.admin.user_id STRING #-1
CONFIG proxy.config.crash_log_helper STRING NULL
CONFIG proxy.config.exec_thread.autoconfig INT 0
CONFIG proxy.config.exec_thread.limit INT {threads}
CONFIG proxy.config.task_threads INT 1
CONFIG proxy.config.cache.threads_per_disk INT 2
CONFIG proxy.config.cache.ram_cache.size INT 32M
CONFIG proxy.config.cache.dir.sync_frequency INT 1
CONFIG proxy.config.log.logging_enabled INT 0
CONFIG proxy.config.http.insert_response_via_str INT 2
CONFIG proxy.config.http.transaction_no_activity_timeout_out INT 60
CONFIG proxy.config.http.cache.required_headers INT 2
CONFIG proxy.config.url_remap.pristine_host_hdr INT 1
CONFIG proxy.config.plugin.dynamic_reload_mode INT 1
{more}
"""
_ROOT = """
prefix: {home}
exec_prefix: {exec}
bindir: {exec}/bin
sbindir: {exec}/sbin
sysconfdir: {home}/etc
datadir: {home}/cache
includedir: {exec}/include
libdir: {modules}
libexecdir: {modules}
localstatedir: {home}/var
runtimedir: {home}/run
logdir: {home}/log
cachedir: {home}/cache
"""
# What is taken away: (old, new) in the shipped script. "error": each request fails in it; "raw": and nobody catches that.
_EDITS = {
    "race": [('"http://" .. epoch .. ".agezero.invalid/?"', '"http://agezero.invalid/?"')],
    "error": [("local function serve()", 'local function serve()\n    error("made to fail")')],
    "raw": [("pcall(serve)", "true, serve()")],
    "generation": [
        (
            "set_key(epoch)\n    end",
            "ts.http.config_int_set(TS_LUA_CONFIG_HTTP_CACHE_GENERATION, tonumber(epoch))\n    end",
        )
    ],
    "proof": [("local told = ", "local told = true or ")],
    "canary": [("if canary_host and", "if false and")],
    "stored": [("epoch and ON or OFF", "OFF")],
}
_FENCE = ("now < tonumber(words[UNTIL])", "true")


class TrafficServerEdge(CacheEdge):
    """``without``: safeguards taken away, keys of ``_EDITS``, "closed" (conf_remap), "spellings" or "plugins" (no AgeZero at all).

    ``hosts``: more rules. ``between``: plugins of the user's own; ``rules``: more lines of remap.config; ``records``: of records.config.
    ``manager``: run by traffic_manager, which can reload.
    """

    def __init__(
        self,
        origin: str,
        data: Path,
        *,
        without: Collection[str] = (),
        between: str = "",
        rules: str = "",
        records: str = "",
        more_ports: str = "",
        hosts: Collection[str] = (),
        threads: int = 2,
        slots: int = 2**16,
        table: Path | None = None,
        canary: str = "127.0.0.1:8479",
        disk: str = "128M",
        manager: bool = False,
        timeout_s: float = 2.0,
    ) -> None:
        super().__init__()
        self.without = {without} if isinstance(without, str) else set(without)
        self.home = Path(tempfile.mkdtemp(prefix="agezero-ats-"))
        self.address = free_address()
        self.url = f"http://{self.address}"
        self.origin, self.between, self.rules, self.threads = origin, between, rules, threads
        self.records, self.more_ports, self.disk = records, more_ports, disk
        self.program = "traffic_manager" if manager else "traffic_server"
        data.mkdir(parents=True, exist_ok=True)
        self.table = data / "table"
        self.options = Options(folder=self.home / "agezero", table=table or self.table, canary=canary, hosts=(self.address, *hosts))
        self.described = TrafficServer(
            name="trafficserver",
            front=self.url,
            control=self.address,
            hosts=tuple(self.options.hosts),
            table=str(self.table),
            canary=canary,
            slots=slots,
        )
        write(self.options)
        self._edit()
        for name in ("etc", "run", "log", "cache", "var"):
            (self.home / name).mkdir()
        self._configure()
        self.state = self.slots = SlotFile(self.table, slots, mode=0o644)
        self.look = TrafficServerLook(("127.0.0.1", int(self.address.rpartition(":")[2])), self.options.hosts, self.table, timeout_s)
        self.driver = self._driver()
        self.process: subprocess.Popen[bytes] | None = None

    def _edit(self) -> None:
        for name in self.without & _EDITS.keys():
            for old, new in _EDITS[name]:
                self.replace("agezero_trafficserver.lua", old, new)
        if "fence" in self.without:
            self.replace("agezero.lua", *_FENCE)

    def replace(self, name: str, old: str, new: str) -> None:
        """Change a shipped file."""
        file = self.options.folder / name
        assert old in file.read_text(), old
        file.write_text(file.read_text().replace(old, new))

    def _configure(self) -> None:
        modules = Path(str(find(PROGRAMS[1]))).parent
        (self.home / "runroot.yaml").write_text(_ROOT.format(home=self.home, exec=Path(str(find(PROGRAMS[0]))).parent.parent, modules=modules))
        etc = self.home / "etc"
        port = self.address.rpartition(":")[2]
        (etc / "records.config").write_text(_RECORDS.format(port=port, more_ports=self.more_ports, threads=self.threads, more=self.records))
        (etc / "storage.config").write_text(f"{self.home}/cache {self.disk}\n")
        (etc / "plugin.config").touch()
        ip_allow = "{apply: in, ip_addrs: 0/0, action: allow, methods: ALL}"
        (etc / "ip_allow.yaml").write_text(f"ip_allow:\n  - {ip_allow}\n")
        self.write_rules()

    def write_rules(self) -> None:
        """remap.config, anew."""
        ours = "" if "plugins" in self.without else plugins(self.options, between=self.between, without=self.without)
        lines = [f"map http://{host}/ {self.origin}/ {ours or self.between}" for host in self.options.hosts]
        (self.home / "etc/remap.config").write_text("\n".join([*lines, self.rules, ""]))

    def get_raw(self, target: str) -> str:
        """The body for exactly this ``target``, which an HTTP client would tidy up."""
        with socket.create_connection(("127.0.0.1", int(self.address.rpartition(":")[2]))) as wire:
            wire.sendall(f"GET {target} HTTP/1.1\r\nHost: {self.address}\r\nConnection: close\r\n\r\n".encode())
            with wire.makefile("rb") as answer:
                return answer.read().partition(b"\r\n\r\n")[2].decode()

    def new_agent(self, slots: int = 2**16) -> None:
        """The old one ends in good order; this one opens the table anew."""
        self.slots.close()
        self.state = self.slots = SlotFile(self.table, slots, mode=0o644)
        self.driver = self._driver()

    def _driver(self) -> MappedDriver:
        return (MappedDriver if "spellings" in self.without else TrafficServerDriver)(self.slots, self.look)

    # The program

    def launch(self) -> None:
        """Start it without waiting."""
        with (self.home / "output.log").open("ab") as log:
            self.process = subprocess.Popen(
                [str(find(self.program))],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def _environment(self) -> dict[str, str]:
        return {**os.environ, "TS_RUNROOT": str(self.home / "runroot.yaml")}

    def reload(self) -> None:
        """Has its ``manager`` read remap.config again; on return it may not have."""
        subprocess.run([str(find("traffic_ctl")), "config", "reload"], env=self._environment, check=True, capture_output=True, timeout=20)

    def start(self) -> None:
        self.launch()
        wait_for(self._answers, "Traffic Server to answer")

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.errors()
        with suppress(httpx.TransportError):
            httpx.get(self.url, headers={"Host": "no.rule"}, timeout=5)
            return "cache enabled" in self.errors()  # of this start: before, everything is fetched
        return False

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)
            try:
                self.process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
        for log in (self.home / "log").glob("*.log"):
            log.unlink()

    def freeze(self) -> None:
        assert self.process is not None
        freeze([self.process.pid])

    def thaw(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def errors(self) -> str:
        """What it logged since it was started."""
        logs = [*sorted((self.home / "log").glob("diags*.log")), self.home / "output.log"]
        return "".join(log.read_text(errors="replace") for log in logs if log.exists())

    def is_hit(self, answer: httpx.Response) -> bool:
        """``cH``: found in the cache, and fresh; ``cR``: in its memory."""
        return re.search(r"\[[^\]]*c[HR]", answer.headers["Via"]) is not None

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.thaw()
        super().close()
        shutil.rmtree(self.home, ignore_errors=True)


def running_trafficserver(origin: str, data: Path, *, opened: bool = True, **options: Any) -> AbstractContextManager[TrafficServerEdge]:
    """Start it in front of ``origin``; ``opened``: with a lease. Ended on leaving."""
    return running(TrafficServerEdge(origin, data, **options), opened=opened)
