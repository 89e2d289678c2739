"""A script that says `agezero purge --wait` goes on only when it is true: a real process, a real service, a real edge that is stopped."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agezero.cli.output import Exit
from agezero.edges.nginx.process import running
from support.history import History, Read
from support.machine import KEY, Machine, machine, signal_all
from support.ports import free_address
from support.service import AGEZERO, Service, running_service
from support.stamped import stamped_origin
from support.traffic import Traffic, traffic


def command(service: Service, *arguments: str, stdin: int = subprocess.DEVNULL) -> subprocess.Popen[str]:
    env = os.environ | {"AGEZERO_URL": service.url, "AGEZERO_PRIVATE_KEY": service.key}
    return subprocess.Popen([AGEZERO, *arguments], env=env, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    with process:
        out, err = process.communicate(timeout=120)
    return process.returncode, out, err


@contextmanager
def stopped_edge(service: Service) -> Iterator[None]:
    """Its nginx is frozen in the block."""
    pids = running((service.data / "store" / "edge").resolve())
    assert pids
    signal_all(pids, signal.SIGSTOP)
    try:
        yield
    finally:
        signal_all(pids, signal.SIGCONT)


@contextmanager
def watching(here: Machine, site: Path, *flags: str) -> Iterator[subprocess.Popen[str]]:
    """`agezero watch`, from when it says that it does."""
    env = os.environ | {"AGEZERO_URL": f"http://{here.api}", "AGEZERO_PRIVATE_KEY": KEY}
    command: list[str | Path] = [AGEZERO, "watch", site, "--prefix", f"http://{here.edge}/s", *flags]
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        while not (line := process.stderr.readline()).startswith("watching "):
            assert line, process.wait()
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_wait_names_the_stopped_edge_times_out_and_completes_when_it_is_back(tmp_path: Path) -> None:
    with running_service(tmp_path, config="[lease]\nlease_s = 60\n") as service:
        url = f"{service.edge}/a"
        with stopped_edge(service):
            code, out, err = ended(command(service, "purge", "--wait", "--timeout", "1500ms", url, "--tag", "t"))
            assert code == Exit.TIMEOUT, err
            pending = re.fullmatch(r"([0-9a-f]{24}) Pending\n", out)
            assert pending
            assert "0 of 1 edges confirmed; awaited: edge (" in err
            assert re.search(r"error: the purge \S+ is still pending after [\d.]+ s; awaited: edge \(", err)
            assert f"hint: it goes on; `agezero status {pending[1]} --wait`" in err
            waiting = command(service, "status", pending[1], "--wait", "--json")
            assert waiting.stderr is not None
            assert "awaited: edge (" in waiting.stderr.readline()
        code, out, err = ended(waiting)
        assert code == Exit.OK, err
        assert json.loads(out)["state"] == "completed"
        assert ended(command(service, "purge", "--wait", url))[0] == Exit.OK


def test_a_wait_completes_when_the_stopped_edge_is_fenced(tmp_path: Path) -> None:
    with running_service(tmp_path, config="[lease]\nlease_s = 1\nmargin_s = 0.5\n") as service, stopped_edge(service):
        code, out, err = ended(command(service, "purge", "--wait", "--json", f"{service.edge}/a"))
        assert code == Exit.OK, err
        assert [(edge["name"], edge["state"]) for edge in json.loads(out)["edges"]] == [("edge", "fenced")]


def test_what_changes_is_purged_also_while_the_service_is_away(tmp_path: Path) -> None:
    """Over 10 s beside other tests: the service is killed and started again, and the watch waits between its tries."""
    site = tmp_path / "site"
    (site / "d").mkdir(parents=True)
    for name in ("kept", "written", "removed", "renamed", "d/index.html"):
        (site / name).write_text("1")

    async def story() -> None:
        async with stamped_origin() as origin, machine(tmp_path, origin.url) as here:
            history = History()
            async with traffic(here, history) as client:
                before = {path: await client.cached(f"/s/{path}") for path in PATHS}
                with watching(here, site) as process:
                    (site / "written").write_text("22")
                    await _purged(client, before, "written")
                    here.kill()
                    (site / "renamed").rename(site / "new name+")
                    (site / "removed").unlink()
                    await asyncio.to_thread(_said, process, "kept, and sent again until accepted")
                    (site / "d").rename(site / "e")
                    here.start()
                    await here.ready()
                    for path in set(PATHS) - {"written", "kept"}:
                        await _purged(client, before, path)
                    (site / "last").write_text("1")
                    process.send_signal(signal.SIGTERM)
                    out, err = await asyncio.to_thread(process.communicate, timeout=60)
                assert process.returncode == Exit.OK, err
                assert "last" in out.splitlines()[-1], "what changed before the end is purged too"
                assert "kept" not in out
                assert (await client.cached("/s/kept")).fetched_s == before["kept"].fetched_s
            assert not history.violations

    asyncio.run(story())


PATHS = ("kept", "written", "removed", "renamed", "new%20name+", "new%20name%2B", "d/", "d/index.html", "e/", "e", "e/index.html")


def _said(process: subprocess.Popen[str], words: str) -> None:
    assert process.stderr is not None
    while words not in (line := process.stderr.readline()):
        assert line, process.wait()


async def _purged(client: Traffic, before: dict[str, Read], path: str) -> None:
    async with asyncio.timeout(60):
        while (await client.cached(f"/s/{path}")).fetched_s == before[path].fetched_s:  # noqa: ASYNC110 (another process cannot set an event here)
            await asyncio.sleep(0.05)


def test_a_watch_that_can_never_work_ends_and_one_whose_service_may_come_goes_on(service: Service, tmp_path: Path) -> None:
    code, _, err = ended(command(service, "watch", str(tmp_path), "--prefix", "https://foreign.example.com/"))
    assert code == Exit.REFUSED
    assert "is not under an endpoint" in err
    assert ended(command(service, "watch", str(tmp_path / "missing"), "--prefix", service.edge))[0] == Exit.FAILED
    assert ended(command(service, "watch", str(tmp_path), "--prefix", "site"))[0] == Exit.USAGE
    env = os.environ | {"AGEZERO_URL": f"http://{free_address()}", "AGEZERO_PRIVATE_KEY": service.key}
    watcher: list[str | Path] = [AGEZERO, "watch", tmp_path, "--prefix", service.edge, "--purge-first"]
    with subprocess.Popen(watcher, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        _said(process, "watching 0 files")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == Exit.UNREACHABLE
    assert "1 changes were not accepted\nhint: purge them later: agezero purge --prefix" in err
