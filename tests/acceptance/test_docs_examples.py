"""What a user pastes from docs/API.md works, as it stands there, in six languages."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from support.clients import node_modules, python_of
from support.docs import examples
from support.programs import require
from support.service import Service

EXAMPLES = examples()

PLAIN = {
    "purge.sh": ("sh", "curl"),
    "purge.mjs": ("node",),
    "purge.py": (sys.executable,),
    "purge.php": ("php",),
    "Purge.java": ("java", "javac"),
    "purge.rb": ("ruby",),
}
"""Example → programs it needs; the first one runs it."""

NATIVE = {
    "native-purge.sh": (("sh", "curl", "jq"), "completed"),
    "native-evidence.sh": (("sh", "curl", "jq"), "true"),
    "native-events.sh": (("sh", "curl", "jq"), "completed"),
    "native-audit.sh": (("sh", "curl", "jq"), "url "),
    "native.py": ((sys.executable,), "completed"),
}
"""Example of the native API → programs it needs, and how its output begins."""

SDK: dict[str, Callable[[], str]] = {
    "sdk.py": lambda: str(python_of("imagekitio5")),
    "sdk4.py": lambda: str(python_of("imagekitio4")),
    "sdk.mjs": lambda: "node",
    "sdk6.cjs": lambda: "node",
}
"""Example → the interpreter that has the SDK."""

SYNTAX = {
    "sdk.php": ("php", "-l"),
    "sdk.rb": ("ruby", "-c"),
    "Sdk.java": ("java", str(Path(__file__).with_name("ParseJava.java"))),
}
"""Examples with an SDK that is not installed here → a program that parses them."""

COMPLETED = {"purge.sh": '{"status":"Completed"}'}


def test_every_example_is_run_or_parsed() -> None:
    assert set(EXAMPLES) == {*PLAIN, *NATIVE, *SDK, *SYNTAX}


@pytest.mark.parametrize("name", PLAIN)
def test_plain_http_purges_and_waits(name: str, service: Service, tmp_path: Path) -> None:
    require(*PLAIN[name])
    _purges_and_waits(name, [PLAIN[name][0]], service, tmp_path)


@pytest.mark.parametrize("name", PLAIN)
def test_plain_http_says_what_was_wrong(name: str, service: Service, tmp_path: Path) -> None:
    require(*PLAIN[name])
    done = _run(name, [PLAIN[name][0]], service, tmp_path, "https://foreign.example.com/a.jpg")
    assert done.returncode != 0
    assert "The URL is not valid for cache purging." in done.stderr
    assert "is not under an endpoint" in done.stderr


@pytest.mark.parametrize("name", NATIVE)
def test_a_native_example_works(name: str, service: Service, tmp_path: Path) -> None:
    programs, output = NATIVE[name]
    require(*programs)
    service.origin.etag = "v2"
    httpx.post(f"{service.url}/v1/purges", json={"urls": [f"{service.edge}/docs/earlier"]}, auth=(service.key, "")).raise_for_status()
    done = _run(name, [programs[0]], service, tmp_path, f"{service.edge}/docs/{name}?w=100")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith(output), done.stdout + done.stderr
    service.origin.etag = ""


@pytest.mark.parametrize("name", SDK)
def test_an_sdk_purges_and_waits(name: str, service: Service, tmp_path: Path) -> None:
    interpreter = SDK[name]()
    if interpreter == "node":
        (tmp_path / "node_modules").symlink_to(node_modules())
    _purges_and_waits(name, [interpreter], service, tmp_path)


@pytest.mark.parametrize("name", SYNTAX)
def test_an_sdk_example_parses(name: str, tmp_path: Path) -> None:
    parser = SYNTAX[name]
    require(*(["java", "javac"] if parser[0] == "java" else parser[:1]))
    (tmp_path / name).write_text(EXAMPLES[name])
    done = subprocess.run([*parser, tmp_path / name], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def _purges_and_waits(name: str, interpreter: list[str], service: Service, folder: Path) -> None:
    done = _run(name, interpreter, service, folder, f"{service.edge}/docs/{name}?w=100&name=Grün")
    assert (done.returncode, done.stdout.strip()) == (0, COMPLETED.get(name, "Completed")), done.stdout + done.stderr


def _run(name: str, interpreter: list[str], service: Service, folder: Path, url: str) -> subprocess.CompletedProcess[str]:
    (folder / name).write_text(EXAMPLES[name])
    return subprocess.run(
        [shutil.which(interpreter[0]) or interpreter[0], folder / name],
        env=os.environ | {"AGEZERO_URL": service.url, "AGEZERO_PRIVATE_KEY": service.key, "PURGE_URL": url},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
