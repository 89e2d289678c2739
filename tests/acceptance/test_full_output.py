"""Whoever sends the output to a disk that is full keeps the service, and is told where a command's answer is lost."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import httpx
import pytest

from support.machine import KEY
from support.ports import free_address
from support.service import AGEZERO, stop
from support.waiting import wait_for


def up(data: Path) -> tuple[str, Sequence[str | Path]]:
    """The API's URL, and the command of a service without an origin's answers."""
    api = free_address()
    return f"http://{api}", [AGEZERO, "up", "--data", data, "--origin", "http://127.0.0.1:9", "--api", api, "--edge", free_address()]


def test_a_service_whose_output_can_not_be_written_goes_on(tmp_path: Path) -> None:
    url, command = up(tmp_path)
    with Path("/dev/full").open("wb") as full:
        service = subprocess.Popen(command, env=os.environ | {"AGEZERO_PRIVATE_KEY": KEY}, stdout=full, stderr=full)

    def ready() -> bool:
        assert service.poll() is None, service.returncode
        try:
            return httpx.get(f"{url}/readyz").status_code == 200
        except httpx.TransportError:
            return False

    try:
        wait_for(ready, "the service is ready")
        with httpx.Client(base_url=url, auth=(KEY, "")) as client:  # it has tried to say so by now
            assert client.get("/v1/edges").status_code == 200
    finally:
        assert stop(service) == 0


def test_a_key_that_can_not_be_shown_is_an_error(tmp_path: Path) -> None:
    _, command = up(tmp_path)
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert (done.returncode, "can not be shown" in done.stderr, "agezero keys create" in done.stderr) == (1, True, True), done.stderr


@pytest.mark.parametrize("arguments", [["edge-config", "varnish"], ["--help"], ["--version"], ["purge", "--help"], []])
def test_an_answer_that_can_not_be_written_is_an_error(arguments: Sequence[str]) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([AGEZERO, *arguments], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert (done.returncode, "could not be written" in done.stderr, "Traceback" in done.stderr) == (1, True, False), done.stderr


@pytest.mark.parametrize(
    ("closed", "arguments", "code", "said"),
    [
        (">&-", ["edge-config", "varnish"], 1, "error: the output could not be written: Bad file descriptor"),
        ("2>&-", ["edge-config", "varnish"], 0, ""),
        ("2>&-", ["nonsense"], 2, ""),
        ("<&-", ["purge", "--from-file", "-"], 1, "error: -: there is nothing in it"),
        ("<&-", ["purge", "--everything"], 2, "error: --everything empties every cache, and nobody is there to be asked"),
    ],
)
def test_a_stream_that_the_shell_has_closed(closed: str, arguments: Sequence[str], code: int, said: str) -> None:
    command: Sequence[str | Path] = ["sh", "-c", f'"$@" {closed}', "sh", AGEZERO, *arguments]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr.partition("\n")[0]) == (code, said)


def test_a_command_whose_reader_goes_away_says_nothing() -> None:
    unread, output = os.pipe()
    os.close(unread)
    done = subprocess.run([AGEZERO, "edge-config", "varnish"], stdout=output, stderr=subprocess.PIPE, timeout=60, check=False)
    os.close(output)
    assert (done.returncode, done.stderr) == (1, b"")


def test_letters_that_the_output_does_not_take_are_escaped(tmp_path: Path) -> None:
    def keys(*arguments: str) -> str:
        command: Sequence[str | Path] = [AGEZERO, "keys", *arguments, "--data", tmp_path]
        env = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=True).stdout

    keys("create", "caf\u00e9")
    assert keys("list").endswith("  caf\\xe9\n")
    assert json.loads(keys("list", "--json"))["name"] == "caf\u00e9"


def test_an_error_that_nobody_can_read_still_has_its_exit_code() -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([AGEZERO, "nonsense"], stdout=full, stderr=full, timeout=60, check=False)
    assert done.returncode == 2
