"""Starts what the story needs: an origin, and ``agezero up`` with its edge, on free ports and in a directory that is thrown away."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
from rich.console import Console

from agezero.demo.origin import running_origin
from agezero.demo.story import Story
from agezero.errors import UserError

START_S = 15
STOP_S = 20


def run(keep: bool) -> None:
    """Tell the story; with ``keep`` leave everything running until Ctrl-C. Raises :class:`UserError` when a step does not hold."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # unwind, so that what was started ends too
    console = Console()
    key = "private_demo_" + secrets.token_urlsafe(16)
    api, edge = _free_address(), _free_address()
    with tempfile.TemporaryDirectory(prefix="agezero-demo-") as directory, running_origin() as origin:
        console.print(f"[bold]AgeZero demo[/]   origin {origin.url}   edge http://{edge}   API http://{api}")
        with _service(Path(directory), origin.url, api, edge, key):
            Story(console, origin, f"http://{api}", f"http://{edge}", key).tell()
            console.print("\n[bold green]Every purge was proven.[/] `Completed` means: no edge serves the old one any more.")
            if keep:
                _wait(console, f"http://{api}", f"http://{edge}", key)


@contextlib.contextmanager
def _service(directory: Path, origin: str, api: str, edge: str, key: str) -> Iterator[None]:
    log = directory / "service.log"
    command = [sys.executable, "-m", "agezero", "up", "--origin", origin, "--api", api, "--edge", edge, "--data", str(directory / "data")]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            env=os.environ | {"AGEZERO_PRIVATE_KEY": key},
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        _wait_until_ready(process, f"http://{api}", log)
        yield
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def _wait_until_ready(process: subprocess.Popen[bytes], api: str, log: Path) -> None:
    deadline_s = time.monotonic() + START_S
    while time.monotonic() < deadline_s:
        if process.poll() is not None:
            break
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{api}/readyz").status_code == 200:
                return
        time.sleep(0.02)
    raise UserError(f"the service did not become ready; it printed:\n{log.read_text(errors='replace')}")


def _wait(console: Console, api: str, edge: str, key: str) -> None:
    console.print(f"\nStill running.   API {api}   edge {edge}   key {key}\nTry:", soft_wrap=True)
    console.print(f"  curl -i {edge}/hello.txt", soft_wrap=True, highlight=False)
    body = f'{{"url":"{edge}/hello.txt"}}'
    console.print(
        f"  curl -u {key}: {api}/v1/files/purge -H 'Content-Type: application/json' -d '{body}'", soft_wrap=True, highlight=False, markup=False
    )
    console.print("Ctrl-C ends it.")
    with contextlib.suppress(KeyboardInterrupt):
        signal.pause()


def _free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"
