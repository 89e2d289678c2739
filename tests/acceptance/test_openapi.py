"""The OpenAPI document tells the truth: Schemathesis derives requests from it and holds each response against it."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from agezero.config import Config
from agezero.http.faults import Fault
from support.api import ENDPOINT, KEY, Api, running_api
from support.fleet import KEY as FLEET_KEY
from support.fleet import Client, fleet
from support.nats import nats_servers
from support.origin import running_origin
from support.service import running_service
from support.waiting import wait_for

CONFIG = Path(__file__).with_name("schemathesis.toml")
METHODS = ("get", "head", "post", "put", "patch", "delete", "options", "trace")
PEOPLE = "/console"
"""Pages for people, not part of the API."""
STREAMS = {("GET", "/v1/events"), ("GET", "/v1/purges/{id}/events")}
ITSELF = {("GET", "/openapi.json")}
SUCCESSES = {
    "purge": 201,
    "status": 200,
    "native-purge": 201,
    "purges": 200,
    "purge-detail": 200,
    "purge-evidence": 200,
    "audit": 200,
    "edges": 200,
    "edge": 204,
    "edge-drain": 204,
    "edge-resume": 204,
    "keys": 200,
    "create-key": 201,
    "roll-key": 201,
    "revoke-key": 204,
    "webhooks": 200,
    "create-webhook": 201,
    "delete-webhook": 204,
    "rotate-webhook": 200,
    "test-webhook": 200,
    "deliveries": 200,
    "healthz": 200,
    "readyz": 200,
    "metrics": 200,
    "openapi.json": 200,
}
"""Call, as the metrics name it → how it is answered when it does what it is asked to."""


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    """Under the host that the document's examples name, so that they do what they say."""
    with running_api(Config(endpoints=("https://cdn.example.com",))) as running:
        running.purges.rejoin = True  # else all that comes after a removal would be answered 404
        yield running


def schemathesis(url: str, key: str, folder: Path, *options: str) -> str:
    """Its command rather than its pytest plug-in: the command also runs the phases for coverage and for chains of calls. Returns what it says."""
    program = Path(sys.executable).with_name("schemathesis")
    limits = ["--no-color", "--seed", "1", "--generation-database", "none", "--auth", f"{key}:"]
    command: list[str | Path] = [program, "--config-file", CONFIG, "run", f"{url}/openapi.json", *limits, *options]
    ran = subprocess.run(command, check=False, cwd=folder, capture_output=True, text=True, timeout=240)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def test_schemathesis_finds_no_failure_and_leaves_nothing_out(api: Api, tmp_path: Path) -> None:
    """Some 20 s: 40 examples of every call that the document describes."""
    said = schemathesis(api.url, KEY, tmp_path, "--max-examples", "40")
    described = {(method, path) for method, path in api.served if not path.startswith(PEOPLE)}
    assert f"Tested: {len(described - STREAMS - ITSELF)}\n" in said
    answered = httpx.get(f"{api.url}/metrics").text
    for call, status in SUCCESSES.items():  # a call of which every example was refused would have been tested for nothing
        assert f'agezero_requests_total{{call="{call}",status="{status}"}}' in answered, call


def test_schemathesis_finds_no_failure_in_a_whole_service(tmp_path: Path) -> None:
    """`agezero up`, with its edge: the same document, with real purges behind it. Fewer examples: what reads requests is the same code.

    Over 10 s: every call, in three phases, over HTTP.
    """
    with running_service(tmp_path) as service:
        schemathesis(service.url, service.key, tmp_path, "--max-examples", "5", "--phases", "examples,fuzzing,stateful")


def test_schemathesis_finds_no_failure_in_a_fleet(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """`agezero serve` and `agezero agent`: the same calls, answered by what control nodes share. As few examples, for the same reason.

    Over 10 s: it starts a fleet first.
    """
    home = tmp_path_factory.mktemp("fleet")  # short: an edge's sockets are in it
    with nats_servers(home / "nats") as servers, running_origin() as origin, fleet(home, servers) as made:
        client = Client(made.node("node"))
        made.agent("edge", origin.url)
        client.ready()
        client.all_leased("edge")
        schemathesis(client.node.url, FLEET_KEY, tmp_path, "--max-examples", "5", "--phases", "examples,fuzzing,stateful")


@pytest.mark.parametrize(("method", "path"), sorted(STREAMS))
def test_a_stream_is_what_the_document_says(api: Api, method: str, path: str) -> None:
    """Schemathesis waits for the end of an answer, so these are held against the document here."""
    operation = httpx.get(f"{api.url}/openapi.json").json()["paths"][path][method.lower()]
    purge = api.client.post("/v1/purges", json={"urls": [f"{ENDPOINT}/streamed"]}).json()["id"]
    url = path.replace("{id}", purge)
    with api.client.stream(method, url) as first:
        last = next(line for line in first.iter_lines() if line.startswith("id: ")).removeprefix("id: ")
        answers = [first]
    if path.startswith("/v1/purges"):
        wait_for(lambda: api.client.get(f"/v1/purges/{purge}").json()["state"] == "completed", "it is complete")
        with api.client.stream(method, url) as stream:
            last = next(line for line in stream.iter_lines() if line.startswith("id: ")).removeprefix("id: ")
        answers.append(api.client.request(method, url, headers={"Last-Event-ID": last}))
        answers.append(api.client.request(method, path.replace("{id}", "0" * 24)))
    answers += [api.client.request(method, f"{url}?no=such"), httpx.request(method, api.url + url)]
    seen = {str(answer.status_code) for answer in answers}
    assert seen >= ({"200", "204", "400", "401", "404"} if path.startswith("/v1/purges") else {"200", "400", "401"})
    for answer in answers:
        described = operation["responses"][str(answer.status_code)]
        kinds = {None} if "content" not in described else set(described["content"])
        assert answer.headers.get("content-type") in kinds
        assert {name.lower() for name in described["headers"]} <= set(answer.headers)


def test_every_fault_that_a_documented_path_can_meet_is_in_the_document(api: Api) -> None:
    document = httpx.get(f"{api.url}/openapi.json").text
    undocumented = {Fault.NO_SUCH_PATH, Fault.WRONG_METHOD}  # no operation can be answered so
    assert {fault.name for fault in Fault if f'"{fault.name}"' not in document} == {fault.name for fault in undocumented}


def test_the_document_names_all_that_is_served_and_nothing_else(api: Api) -> None:
    document = httpx.get(f"{api.url}/openapi.json").json()
    assert document["openapi"].startswith("3.1.")
    described = {(method.upper(), path) for path, item in document["paths"].items() for method in item if method in METHODS}
    assert described == {(method, path) for method, path in api.served if not path.startswith(PEOPLE)}
    for path in document["paths"]:
        allowed = {method for method, of in described if of == path}
        response = httpx.request("PATCH", api.url + re.sub(r"\{.*?\}", "0" * 24, path))
        assert set(response.headers["allow"].split(", ")) - {"HEAD"} == allowed


def test_no_method_and_no_neighbour_of_a_path_is_served_unsaid(api: Api) -> None:
    """The shortcut before the router takes nothing that the router would not."""
    for method in ("PURGE", "BAN", "PATCH", "OPTIONS", "TRACE", "CONNECT", "REFRESH"):
        assert api.client.request(method, "/v1/files/purge").status_code in (400, 405), method  # 400: the server refuses CONNECT itself
    for path in ("/", "/v1", "/v1/", "/v1/purges/", "/v1/files/purge/", "/metrics/", "/docs", "/v2/purges", "/V1/purges", "/v1//purges"):
        assert api.client.get(path).status_code == 404, path
