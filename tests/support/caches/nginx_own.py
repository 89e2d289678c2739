"""A user's own nginx, real, on free ports, as root or not: two cache zones, several workers, keys of its own that are extended.

How AgeZero's code gets into it, by Lua or by njs, is in :mod:`support.caches.nginx_lua` and :mod:`support.caches.nginx_njs`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import closing, suppress
from http.client import HTTPConnection
from pathlib import Path
from shutil import rmtree

from support.caches.base import CacheEdge
from support.freezing import freeze, group
from support.ports import free_address
from support.waiting import wait_for

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
            {main}
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
        {sliced}
        {more}
    }}
}}
"""
_SLICED = """
        location /sliced/ {{
            slice 1k;
            proxy_cache one;
            proxy_cache_key "{epoch}$request_uri$slice_range";
            proxy_set_header Range $slice_range;
            proxy_cache_valid 200 206 1h;
            {location}
            proxy_pass http://origin;
        }}
"""
Edit = tuple[str, str, str]
"""A file that is shipped, a text in it, and what stands in its place."""


class OwnNginxEdge(CacheEdge):
    """``program``: which nginx. Who inherits writes its files into ``folder`` and calls ``configure``."""

    program: str
    modules: Sequence[str] = ()
    slices = True
    """It has nginx's slice module."""

    def __init__(self, data: Path, canary: str = "") -> None:
        super().__init__()
        self.home = Path(tempfile.mkdtemp(prefix="agezero-nginx-"))  # a socket's path is short, and pytest's folders are closed to others
        self.home.chmod(0o755)
        self.folder = self.home / "agezero"
        self.socket = self.home / "run" / "control.sock"
        self.socket.parent.mkdir(mode=0o700)  # nginx makes its sockets for everybody
        self.canary = canary or free_address()
        self.address = free_address()
        self.url = f"http://{self.address}"
        data.mkdir(parents=True, exist_ok=True)
        self.process: subprocess.Popen[bytes] | None = None

    def edit(self, *edits: Edit | None) -> None:
        """Change what is shipped."""
        for name, old, new in filter(None, edits):
            file = self.folder / name
            assert old in file.read_text(), old
            file.write_text(file.read_text().replace(old, new))

    def configure(self, origin: str, without: str, workers: int, more: str = "") -> None:
        """Write nginx.conf."""
        ours = without != "include"
        location = f"include {self.folder}/agezero-location.conf;" if ours else ""
        epoch = "$agezero_epoch|" if ours and without != "race" else ""
        tagged = f'set $agezero_object "$scheme$host$request_uri"; include {self.folder}/agezero-tagged.conf;'
        conf = _CONF.format(
            home=self.home,
            workers=workers,
            origin=origin.removeprefix("http://"),
            front=self.address,
            user="user root;" if os.geteuid() == 0 else "",
            modules="\n".join(f"load_module {module};" for module in self.modules),
            http=f"include {self.folder}/agezero-http.conf;" if ours else "",
            location=location,
            main=tagged if ours and without != "race" else f'proxy_cache_key "$scheme$host$request_uri"; {location}',
            epoch=epoch,
            canary=self.canary,
            canary_zone="off" if without == "cache" else "one",
            more=more,
            sliced=_SLICED.format(location=location, epoch=epoch) if self.slices else "",
        )
        (self.home / "nginx.conf").write_text(conf)

    def start(self) -> None:
        self.socket.unlink(missing_ok=True)  # after a kill -9
        command = [self.program, "-p", f"{self.home}/", "-e", str(self.home / "error.log"), "-c", str(self.home / "nginx.conf")]
        self.process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
        wait_for(self._answers, "nginx to answer")

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.home / "error.log").read_text()
        with suppress(Exception):
            return self.get("/agezero-is-up").status_code > 0
        return False

    def get_anew(self, target: str) -> str:
        """The body, over a connection of its own, so that any worker may answer."""
        with closing(HTTPConnection(self.address, timeout=30)) as connection:
            connection.request("GET", target)
            return connection.getresponse().read().decode()

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
        freeze(group(self.process.pid))

    def thaw(self) -> None:
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGCONT)

    def errors(self) -> str:
        return (self.home / "error.log").read_text()

    def close(self) -> None:
        super().close()
        rmtree(self.home, ignore_errors=True)
