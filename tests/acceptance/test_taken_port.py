"""`agezero up` where another program has its port: an error that names that program, the flag to use, and nothing left running."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest

from agezero.edges.nginx.process import running
from support.ports import free_address
from support.service import AGEZERO


@pytest.mark.parametrize(("flag", "said"), [("--api", "cannot listen on {}: address already in use"), ("--edge", "the edge's address {} is in use")])
def test_a_taken_port(tmp_path: Path, flag: str, said: str) -> None:
    other = "--edge" if flag == "--api" else "--api"
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        taken = f"127.0.0.1:{listener.getsockname()[1]}"
        command: list[str | Path] = [AGEZERO, "up", "--origin", "http://127.0.0.1:9", "--data", tmp_path, flag, taken, other, free_address()]
        ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert ended.returncode == 1
    error, hint = ended.stderr.strip().splitlines()[-2:]
    assert error == f"error: {said.format(taken)}"
    assert hint.startswith("hint: ")
    assert f"(pid {os.getpid()}) listens there: end it, or choose another address with {flag} HOST:PORT" in hint
    assert "Traceback" not in ended.stderr
    assert not running((tmp_path / "edge").resolve())
