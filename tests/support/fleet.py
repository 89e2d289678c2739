"""A fleet of real processes: NATS servers, ``agezero serve``, ``agezero agent`` with embedded edges. Each may be killed and started again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from agezero.edges.nginx.process import end
from support.nats import Servers
from support.ports import free_address
from support.service import AGEZERO, stop
from support.waiting import wait_for

KEY = "private_key_of_the_tests"
HOST = "cdn.example.com"
ENDPOINT = f"http://{HOST}"


@dataclass
class Program:
    """One ``agezero`` process, started again in the same place. ``address``: of its API or of its edge."""

    name: str
    data: Path
    address: str
    command: Sequence[str]
    config: str
    process: subprocess.Popen[bytes] | None = None
    program: Sequence[str | Path] = (AGEZERO,)

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    @property
    def output(self) -> str:
        """All that it has printed so far."""
        return (self.data / "output.log").read_text(errors="replace")

    def start(self) -> None:
        self.data.mkdir(parents=True, exist_ok=True)
        settings = self.data / "agezero.toml"
        settings.write_text(self.config)
        with (self.data / "output.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*self.program, *self.command, "--data", self.data / "store", "--config", settings],
                env=os.environ | {"AGEZERO_PRIVATE_KEY": KEY},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def kill(self) -> None:
        """kill -9 of the program alone: its nginx goes on."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def clear(self) -> None:
        """End all that is left."""
        if self.process is not None:
            self.signal(signal.SIGCONT)
            stop(self.process)
            asyncio.run(end((self.data / "store" / "edge").resolve()))


@dataclass
class Fleet:
    """``config``: more of every program's settings."""

    directory: Path
    servers: Servers
    config: str = "[lease]\nlease_s = 2\nmargin_s = 0.3\nlease_max_s = 2\n[webhooks]\nallow_private = true\n"
    programs: dict[str, Program] = field(default_factory=dict)

    def node(self, name: str, *flags: str) -> Program:
        """``agezero serve``, started."""
        return self._started(name, "--api", ["serve", "--endpoint", ENDPOINT, *flags], "")

    def agent(self, name: str, origin: str) -> Program:
        """``agezero agent`` with an embedded edge of this name, started."""
        return self._started(name, "--edge", ["agent", "--origin", origin], f'[edge]\nname = "{name}"\n')

    def _started(self, name: str, flag: str, command: list[str], config: str) -> Program:
        address = free_address()
        log = ["--log", ",".join(self.servers.urls)]
        program = Program(name, self.directory / name, address, [*command, flag, address, *log], self.config + config)
        self.programs[name] = program
        program.start()
        return program


@contextlib.contextmanager
def fleet(directory: Path, servers: Servers) -> Iterator[Fleet]:
    """Nothing of it is left behind."""
    made = Fleet(directory, servers)
    try:
        yield made
    finally:
        for program in made.programs.values():
            program.clear()


class Client:
    """Speaks to one control node."""

    def __init__(self, node: Program, key: str = KEY) -> None:
        self.node = node
        self._key = key

    def call(self, method: str, path: str, **more: Any) -> httpx.Response:
        return httpx.request(method, self.node.url + path, auth=(self._key, ""), timeout=10, **more)

    def ready(self) -> None:
        def probe() -> bool:
            assert self.node.process is not None
            assert self.node.process.poll() is None, f"agezero serve ended:\n{self.node.output[-3000:]}"
            with contextlib.suppress(httpx.TransportError):
                return self.call("GET", "/readyz").status_code == 200
            return False

        wait_for(probe, f"{self.node.name} is ready")

    def states(self) -> dict[str, str]:
        """Each edge's state."""
        return {edge["name"]: edge["state"] for edge in self.call("GET", "/v1/edges").raise_for_status().json()["edges"]}

    def all_leased(self, *names: str) -> None:
        try:
            wait_for(lambda: self.states() == dict.fromkeys(names, "leased"), f"{names} are leased, says {self.node.name}", 60)
        except TimeoutError as error:
            error.add_note(f"but {self.states()}\n{self.node.output[-3000:]}")
            raise

    def purge(self, *paths: str, **headers: str) -> str:
        answer = self.call("POST", "/v1/purges", json={"urls": [ENDPOINT + path for path in paths]}, headers=headers)
        return str(answer.raise_for_status().json()["id"])

    def status(self, purge_id: str) -> str:
        """As ImageKit's call tells it; empty while nobody can say."""
        with contextlib.suppress(httpx.TransportError):
            answer = self.call("GET", f"/v1/files/purge/{purge_id}")
            return "" if answer.status_code == 503 else str(answer.raise_for_status().json()["status"])
        return ""

    def completed(self, purge_id: str) -> None:
        wait_for(lambda: self.status(purge_id) == "Completed", f"{purge_id} is Completed, says {self.node.name}", 60)


def read(edge: Program, path: str) -> tuple[str, str]:
    """What the edge serves: the body, and how it came by it."""
    answer = httpx.get(edge.url + path, headers={"host": HOST}, timeout=10).raise_for_status()
    return answer.text, answer.headers["cache-status"]


def cached(edge: Program, path: str) -> str:
    """The body, once it comes from the cache."""

    def hit() -> str:
        body, status = read(edge, path)
        return body if "; hit" in status else ""

    return wait_for(hit, f"{path} is cached by {edge.name}")
