"""`agezero purge --wait` as a script has it: a real process, a real service, a real edge that is stopped."""

from __future__ import annotations

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
from support.machine import signal_all
from support.service import AGEZERO, Service, running_service


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
