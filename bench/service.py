"""The service under test, as `agezero up` starts it, and its peer: a constant answer from the same server."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.harness import NotMeasured, process, wait_until
from support.ports import free_address

AGEZERO = Path(sys.executable).with_name("agezero")
KEY = "private_key_of_the_benchmark"
AUTHORIZATION = {"Authorization": "Basic " + base64.b64encode(f"{KEY}:".encode()).decode()}
PURGES = "/v1/files/purge"
COMPLETED_MAX_S = 120
NO_LIMITS = "[limits]\npurges_per_s = 0\nstatus_per_s = 0\n"


@dataclass(frozen=True, slots=True)
class Service:
    """``address`` of its API, ``edge`` (address of its edge, and its endpoint)."""

    address: str
    edge: str
    pid: int
    data: Path

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.address)

    def purge(self, path: str, connection: http.client.HTTPConnection) -> str:
        """The request id."""
        connection.request("POST", PURGES, b'{"url":"http://%b%b"}' % (self.edge.encode(), path.encode()), AUTHORIZATION)
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != 201:
            raise NotMeasured(f"a purge was answered {answer.status}: {body!r}")
        return body.split(b'"')[3].decode()

    def purge_all(self, paths: Sequence[str]) -> None:
        """By one request, up to 1,000 of them."""
        with contextlib.closing(self.connect()) as connection:
            body = json.dumps({"urls": [f"http://{self.edge}{path}" for path in paths]})
            connection.request("POST", "/v1/purges", body, {**AUTHORIZATION, "Content-Type": "application/json"})
            answer = connection.getresponse()
            if answer.status != 201:
                raise NotMeasured(f"purges were answered {answer.status}: {answer.read()!r}")

    def completed(self, request_id: str, connection: http.client.HTTPConnection) -> bool:
        connection.request("GET", f"{PURGES}/{request_id}", headers=AUTHORIZATION)
        return b"Completed" in connection.getresponse().read()

    def wait_completed(self, request_id: str, connection: http.client.HTTPConnection) -> None:
        """Raises :class:`NotMeasured` where it takes so long that no figure would tell anything."""
        until_s = time.monotonic() + COMPLETED_MAX_S
        while not self.completed(request_id, connection):
            if time.monotonic() > until_s:
                raise NotMeasured(f"purge {request_id} was not Completed within {COMPLETED_MAX_S} s")


@contextmanager
def service(folder: Path, edges: str = "", front: str = "", program: Sequence[str | Path] = (AGEZERO,)) -> Iterator[Service]:
    """`agezero up` in ``folder``, without rate limits, ready.

    Its edge is the embedded one, the origin of which is a port where nobody listens: no row asks it. Or those of the settings ``edges``, the first of
    which serves at ``front``. ``program``: what understands `agezero`'s commands.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config, output = folder / "agezero.toml", folder / "output.log"
    config.write_text(NO_LIMITS + edges)
    api, edge = free_address(), front or free_address()
    flags: list[str | Path] = ["--api", api, "--data", folder / "store", "--config", config]
    if not edges:
        flags += ["--origin", "http://127.0.0.1:9", "--edge", edge]
    with process([*program, "up", *flags], output, {"AGEZERO_PRIVATE_KEY": KEY}) as child:
        wait_until(lambda: answers(api, "/readyz"), child, output)
        yield Service(api, edge, child.pid, folder / "store")


@contextmanager
def constant(folder: Path) -> Iterator[str]:
    """The address of the constant answer, see :mod:`bench.constant`."""
    address, output = free_address(), folder / "constant.log"
    with process([sys.executable, "-m", "bench.constant", address], output) as child:
        wait_until(lambda: answers(address, "/"), child, output)
        yield address


@contextmanager
def committing(folder: Path) -> Iterator[str]:
    """The address of the least that a durable purge API can do, see :mod:`bench.committing`."""
    address, output = free_address(), folder / "committing.log"
    with process([sys.executable, "-m", "bench.committing", address, folder / "committing"], output) as child:
        wait_until(lambda: answers(address, "/"), child, output)
        yield address


def answers(address: str, path: str) -> bool:
    """Does it answer 200?"""
    connection = http.client.HTTPConnection(address, timeout=5)
    with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
        connection.request("GET", path)
        return connection.getresponse().status == 200
    return False


def resident_bytes(pid: int, field: str = "Rss") -> int:
    """``Rss`` or ``Pss`` of one process. Raises :class:`NotMeasured` where the system does not tell."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError as error:
        raise NotMeasured(f"the memory of process {pid} is unknown: {error}\nhint: this row needs Linux") from None
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


def time_of(command: list[str | Path]) -> subprocess.CompletedProcess[bytes]:
    """Run to the end, quietly. Raises :class:`NotMeasured` where it fails."""
    done = subprocess.run(command, capture_output=True, env=os.environ, check=False)
    if done.returncode:
        raise NotMeasured(f"{command} ended with {done.returncode}: {done.stderr.decode(errors='replace')}")
    return done
