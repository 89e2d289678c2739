"""The OpenAPI document tells the truth: Schemathesis derives requests from it and holds each response against it."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from agezero.http.faults import Fault
from support.api import KEY, Api, running_api

CONFIG = Path(__file__).with_name("schemathesis.toml")


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    with running_api() as running:
        yield running


def test_schemathesis_finds_no_failure(api: Api, tmp_path: Path) -> None:
    """Its command rather than its pytest plug-in: the command also runs the phases for coverage and for chains of calls."""
    command: list[str | Path] = [
        Path(sys.executable).with_name("schemathesis"),
        "--config-file",
        CONFIG,
        "run",
        f"{api.url}/openapi.json",
        "--no-color",
    ]
    limits = ["--max-examples", "40", "--seed", "1", "--generation-database", "none"]
    ran = subprocess.run([*command, *limits, "--auth", f"{KEY}:"], check=False, cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_every_fault_that_a_documented_path_can_meet_is_in_the_document(api: Api) -> None:
    document = httpx.get(f"{api.url}/openapi.json").text
    undocumented = {Fault.NO_SUCH_PATH, Fault.WRONG_METHOD}  # no operation can be answered so
    assert {fault.name for fault in Fault if f'"{fault.name}"' not in document} == {fault.name for fault in undocumented}


def test_the_document_names_all_that_is_served(api: Api) -> None:
    document = httpx.get(f"{api.url}/openapi.json").json()
    assert document["openapi"].startswith("3.1.")
    assert set(document["paths"]) == {
        "/v1/files/purge",
        "/v1/files/purge/{requestId}",
        "/v1/purges",
        "/v1/purges/{id}",
        "/v1/purges/{id}/events",
        "/v1/events",
        "/v1/audit",
        "/v1/edges",
        "/v1/edges/{name}",
        "/healthz",
        "/readyz",
        "/metrics",
        "/openapi.json",
    }
    for path, item in document["paths"].items():
        allowed = {method.upper() for method in item if method in ("get", "post", "delete")}
        response = httpx.request("PUT", api.url + re.sub(r"\{.*\}", "0" * 24, path))
        assert set(response.headers["allow"].split(", ")) - {"HEAD"} == allowed
