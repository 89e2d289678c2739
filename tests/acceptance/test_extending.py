"""The worked example of docs/EXTENDING.md is a driver: its types hold, and it confirms only what the cache's own code has confirmed."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from agezero.core.purge import Purge
from agezero.core.selector import Kind, Selector
from agezero.ports import DriverFailed, EdgeDriver, Lease

ROOT = Path(__file__).parents[2]


class Larder(ThreadingHTTPServer):
    """The control listener of the fictional cache. ``marked``: do its answers carry the mark of our code?"""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.marked, self.token, self.lines, self.until_s = True, 0, [], 0.0  # type: ignore[var-annotated]

    def answer(self, what: dict[str, Any]) -> dict[str, Any] | None:
        if what["token"] < self.token:
            return None
        self.token = what["token"]
        self.lines += what.get("lines", [])
        self.until_s = what.get("until_s", self.until_s)
        return {"larder": "AgeZero" if self.marked else "nginx", "boot_id": "b1"}


class _Handler(BaseHTTPRequestHandler):
    server: Larder

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer = self.server.answer(asked) if self.headers["Authorization"] == "Bearer secret" else None
        body = json.dumps(answer).encode()
        self.send_response(200 if answer else 403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    text = (ROOT / "docs" / "EXTENDING.md").read_text()
    path = tmp_path_factory.mktemp("example") / "larder.py"
    path.write_text(text.split("<!-- example: larder.py -->\n```python\n")[1].split("```")[0])
    return path


@pytest.fixture
def larder() -> Iterator[Larder]:
    with Larder() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def made(example: Path, larder: Larder) -> Callable[[str], EdgeDriver]:
    spec = importlib.util.spec_from_file_location("larder", example)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return lambda token: module.LarderDriver(f"http://127.0.0.1:{larder.server_port}", token)


def test_its_types_hold(example: Path) -> None:
    """mypy reads the whole package without a cache: over 10 s beside other tests."""
    use = example.with_name("use.py")
    use.write_text(
        "from agezero.ports import EdgeDriver\nfrom larder import LarderDriver\n\ndriver: EdgeDriver = LarderDriver('http://localhost', 's')\n"
    )
    mypy: list[str | Path] = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--cache-dir", example.with_name("cache"), use]
    done = subprocess.run(mypy, cwd=example.parent, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout


def test_it_is_as_long_as_it_says(example: Path) -> None:
    assert len(example.read_text().splitlines()) <= 70


def test_it_purges_leases_and_fences(made: Callable[[str], EdgeDriver], larder: Larder) -> None:
    async def story() -> None:
        driver = made("secret")
        driver.take_over(7)
        assert await driver.probe() == "b1"
        await driver.apply([Purge(5, Selector(Kind.URL, "www.example.com/a"))])
        await driver.purge_everything(6)
        await driver.install(Lease(7, 100.0, 5.0))
        assert (larder.token, [line[0] for line in larder.lines], larder.until_s) == (7, [5, 6], 105.0)
        await driver.fence()
        assert larder.until_s == 0
        await driver.aclose()

    asyncio.run(story())


@pytest.mark.parametrize("trouble", ["unmarked", "wrong token", "replaced"])
def test_it_confirms_nothing_that_the_cache_did_not(made: Callable[[str], EdgeDriver], larder: Larder, trouble: str) -> None:
    larder.marked = trouble != "unmarked"
    larder.token = 9 if trouble == "replaced" else 0

    async def story() -> None:
        driver = made("guess" if trouble == "wrong token" else "secret")
        driver.take_over(7)
        with pytest.raises(DriverFailed):
            await driver.apply([Purge(5, Selector(Kind.URL, "www.example.com/a"))])
        await driver.aclose()

    asyncio.run(story())
    assert not larder.lines or trouble == "unmarked"
