"""A user's own nginx with Lua, real, on free ports, as root or not: two cache zones, several workers, keys of its own that are extended."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import rmtree
from typing import Any

from agezero.config.edges import Nginx
from agezero.edges.nginx_lua.config import Options, write
from agezero.edges.nginx_lua.driver import NginxLuaDriver
from agezero.edges.slots import SlotFile
from support.caches.base import CacheEdge
from support.programs import find
from support.service import free_address
from support.waiting import wait_for

NGINX = ("nginx", "modules/ndk_http_module.so", "modules/ngx_http_lua_module.so")

_CONF = """
daemon off; pid {home}/pid; error_log {home}/error.log warn; worker_processes {workers}; {user}
{modules}
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {home}/tmp; proxy_temp_path {home}/tmp; fastcgi_temp_path {home}/tmp; uwsgi_temp_path {home}/tmp; scgi_temp_path {home}/tmp;
    {http}
    proxy_cache_path {home}/one levels=1:2 keys_zone=one:32m inactive=1h;
    proxy_cache_path {home}/two levels=1:2 keys_zone=two:8m inactive=1h;
    upstream origin {{ server {origin}; keepalive 32; }}
    server {{
        listen {front} backlog=1024;
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_set_header Host $http_host;
        proxy_cache_lock on;
        proxy_cache_use_stale updating error timeout;
        proxy_cache_background_update on;
        proxy_cache_revalidate on;
        proxy_force_ranges on;
        add_header X-Cache $upstream_cache_status always;
        location / {{
            proxy_cache one;
            proxy_cache_key "{epoch}$scheme$host$request_uri";
            {location}
            proxy_pass http://origin;
        }}
        location /two/ {{
            proxy_cache two;
            proxy_cache_key "{epoch}$uri$is_args$args";
            {location}
            proxy_pass http://origin;
        }}
        location ^~ /.well-known/agezero/ {{
            proxy_cache {canary_zone};
            proxy_cache_key "{epoch}$scheme$host$request_uri";
            {location}
            proxy_pass http://{canary};
        }}
        location /sliced/ {{
            slice 1k;
            proxy_cache one;
            proxy_cache_key "{epoch}$request_uri$slice_range";
            proxy_set_header Range $slice_range;
            proxy_cache_valid 200 206 1h;
            {location}
            proxy_pass http://origin;
        }}
        {more}
    }}
}}
"""
_OFF = {"fence": ("agezero.lua", "now < tonumber(words[UNTIL])", "true")}


class NginxLuaEdge(CacheEdge):
    """``without``: "race" (the plain key), "fence", "include" (no AgeZero at all), "cache" (for the canary).

    ``edit``: (file, old, new) in what is shipped. ``more``: locations.
    """

    def __init__(
        self,
        origin: str,
        data: Path,
        *,
        without: str = "",
        edit: tuple[str, str, str] | None = None,
        workers: int = 2,
        slots: int = 2**16,
        canary: str = "",
        more: str = "",
    ) -> None:
        super().__init__()
        self.home = Path(tempfile.mkdtemp(prefix="agezero-nginx-"))  # a socket's path is short, and pytest's folders are closed to others
        self.home.chmod(0o755)
        self.address = free_address()
        self.url = f"http://{self.address}"
        data.mkdir(parents=True, exist_ok=True)
        (self.home / "run").mkdir(mode=0o700)  # nginx makes its sockets for everybody
        canary = canary or free_address()
        self.options = Options(folder=self.home / "agezero", table=self.home / "table", socket=self.home / "run/control.sock", canary=canary)
        self.described = Nginx(
            name="nginx", table=str(self.options.table), control=str(self.options.socket), front=self.url, canary=canary, slots=slots
        )
        write(self.options)
        for name, old, new in filter(None, (edit, _OFF.get(without))):
            file = self.options.folder / name
            assert old in file.read_text(), old
            file.write_text(file.read_text().replace(old, new))
        (self.home / "nginx.conf").write_text(self._conf(origin.removeprefix("http://"), without, workers, more))
        self.state = self.slots = SlotFile(self.options.table, slots, mode=0o644)
        self.driver = NginxLuaDriver(self.slots, self.options.socket, timeout_s=2)
        self.process: subprocess.Popen[bytes] | None = None

    def _conf(self, origin: str, without: str, workers: int, more: str) -> str:
        ours = without != "include"
        folder = self.options.folder
        return _CONF.format(
            home=self.home,
            workers=workers,
            origin=origin,
            front=self.address,
            user="user root;" if os.geteuid() == 0 else "",
            canary=self.options.canary,
            canary_zone="off" if without == "cache" else "one",
            modules="\n".join(f"load_module {find(name)};" for name in NGINX[1:]),
            http=f"include {folder}/agezero-http.conf;" if ours else "",
            location=f"include {folder}/agezero-location.conf;" if ours else "",
            epoch="$agezero_epoch|" if ours and without != "race" else "",
            more=more,
        )

    def start(self) -> None:
        self.options.socket.unlink(missing_ok=True)  # after a kill -9
        command = [str(find("nginx")), "-p", f"{self.home}/", "-e", str(self.home / "error.log"), "-c", str(self.home / "nginx.conf")]
        self.process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
        wait_for(self._answers, "nginx to answer")

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.home / "error.log").read_text()
        with suppress(Exception):
            return self.get("/agezero-is-up").status_code > 0
        return False

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        if self.process is not None and self.process.poll() is None:
            if number == signal.SIGKILL:
                os.killpg(self.process.pid, number)
            else:
                self.process.send_signal(number)
            self.process.wait(20)

    def freeze(self) -> None:
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGCONT)

    def errors(self) -> str:
        return (self.home / "error.log").read_text()

    def close(self) -> None:
        super().close()
        rmtree(self.home, ignore_errors=True)


@contextmanager
def running_nginx_lua(origin: str, data: Path, *, opened: bool = True, **options: Any) -> Iterator[NginxLuaEdge]:
    """Start it in front of ``origin``; ``opened``: with a lease. Ended on leaving."""
    edge = NginxLuaEdge(origin, data, **options)
    try:
        edge.start()
        if opened:
            edge.open()
        yield edge
    finally:
        edge.close()
