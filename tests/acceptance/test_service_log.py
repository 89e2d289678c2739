"""The log of a whole service: a line for each request that can be found by its id, JSON throughout, and never a key, whatever is done with one."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.receiver import running_receiver
from support.service import Service, running_service
from support.waiting import wait_for

WRONG = "private_wrong_wrong_wrong_wrong_wrong_w0"


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    config = '[logging]\nformat = "json"\nrequests = "all"\n[webhooks]\nallow_private = true\n'
    with running_service(tmp_path_factory.mktemp("logged"), config=config) as running:
        yield running


def lines(service: Service) -> list[dict[str, Any]]:
    """All but what goes to stdout, which people read at the start."""
    return [json.loads(line) for line in service.output.splitlines() if line.startswith("{")]


def line_of(service: Service, response: httpx.Response) -> dict[str, Any]:
    request_id = response.headers["x-ik-requestid"]
    return wait_for(lambda: next((line for line in lines(service) if line.get("request_id") == request_id), None), f"a line of {request_id}")


def test_every_request_has_a_line_that_says_what_it_was(logged: Service) -> None:
    with httpx.Client(base_url=logged.url, auth=(logged.key, "")) as client:
        native = client.post("/v1/purges?", json={"urls": [f"{logged.edge}/a"]})
        imagekit = client.post("/v1/files/purge", json={"url": f"{logged.edge}/a"})
        status = client.get(f"/v1/files/purge/{imagekit.json()['requestId']}")
        detail = client.get(f"/v1/purges/{native.json()['id']}?wait=1s")
        page = client.get("/readyz")
        refused = httpx.get(f"{logged.url}/v1/edges")
    told = {
        name: line_of(logged, response) for name, response in (("native", native), ("imagekit", imagekit), ("status", status), ("detail", detail))
    }
    assert {name: line["purge"] for name, line in told.items()} == {
        "native": native.json()["id"],
        "imagekit": imagekit.json()["requestId"],
        "status": imagekit.json()["requestId"],
        "detail": native.json()["id"],
    }
    native_line = told["native"]
    assert (native_line["event"], native_line["level"], native_line["method"], native_line["path"]) == ("request", "info", "POST", "/v1/purges")
    assert (native_line["status"], native_line["key"], native_line["address"]) == (201, "environment", "127.0.0.1")
    assert native_line["took_ms"] > 0
    assert (line_of(logged, page)["path"], line_of(logged, page)["key"]) == ("/readyz", "")
    assert (line_of(logged, refused)["status"], line_of(logged, refused)["key"]) == (401, "")


def test_no_flow_leaves_a_key_in_the_log(logged: Service) -> None:
    """Keys that are made, used, rolled, mistaken for something else, sent wrongly; webhooks that are made, rotated, and fail."""
    secrets = [logged.key, WRONG]
    with httpx.Client(base_url=logged.url, auth=(logged.key, "")) as client, running_receiver() as receiver:
        receiver.answer = 500
        made = client.post("/v1/keys", json={"name": "made", "permission": "purge"}).json()
        rolled = client.post(f"/v1/keys/{made['key']['id']}/roll", json={"overlap": "1h"}).json()
        hook = client.post("/v1/webhooks", json={"url": receiver.url, "events": ["purge.completed"]}).json()
        rotated = client.post(f"/v1/webhooks/{hook['webhook']['id']}/rotate", json={}).json()
        client.post(f"/v1/webhooks/{hook['webhook']['id']}/test")
        secrets += [made["text"], rolled["text"], hook["secret"], rotated["secret"]]
        for text in secrets:
            httpx.post(f"{logged.url}/v1/purges", json={"urls": [f"{logged.edge}/b"]}, auth=(text, ""))
            for header in (f"Basic {text}", f"Bearer {text}", text, f"basic   {text}"):
                httpx.get(f"{logged.url}/v1/purges", headers={"Authorization": header})
            for path in (f"/v1/keys/{text}", f"/v1/purges/{text}", f"/v1/files/purge/{text}", f"/{text}", f"/v1/keys?key={text}"):
                client.request("DELETE" if "keys/" in path else "GET", path)
            client.post("/v1/keys", json={"name": "x", "permission": text})
            client.post("/v1/purges", content=f'{{"urls": ["{text}"], "tags": "{text}"')
            client.post("/v1/purges", json={"urls": [f"https://{text}:x@other.example.com/"]})
            client.post("/v1/webhooks", json={"url": f"ftp://{text}", "events": ["purge.completed"]})
        last = client.get("/readyz")
    line_of(logged, last)
    said = logged.output
    for text in secrets:
        for form in (text, base64.b64encode(f"{text}:".encode()).decode(), hashlib.sha256(text.encode()).hexdigest()):
            assert form not in said
    assert said.count("[private key]") >= len(secrets), "the paths that had a key in them are told without it"


def test_all_of_it_is_json_and_has_what_every_line_has(logged: Service) -> None:
    edge = [line for line in lines(logged) if line["event"].startswith("edge ")]
    assert {"edge", "watermark", "because"} <= edge[0].keys()
    for line in lines(logged):
        assert {"event", "level", "timestamp"} <= line.keys()
    words = ("API  http", "edge http", "ready")
    assert all(line.startswith(("{", *words)) for line in logged.output.splitlines() if line)


def test_by_default_no_request_has_a_line_and_text_is_for_people(tmp_path: Path) -> None:
    with running_service(tmp_path, config='[logging]\nformat = "text"\n') as service:
        httpx.post(f"{service.url}/v1/purges", json={"urls": [f"{service.edge}/a"]}, auth=(service.key, "")).raise_for_status()
    assert "[info     ] edge following" in service.output
    assert "{" not in service.output
    assert "request" not in service.output


def test_only_changes(tmp_path: Path) -> None:
    with running_service(tmp_path, config='[logging]\nrequests = "changes"\n') as service:
        client = httpx.Client(base_url=service.url, auth=(service.key, ""))
        with client:
            read = client.get("/v1/edges")
            line = line_of(service, client.post("/v1/purges", json={"urls": [f"{service.edge}/a"]}))
        assert line["method"] == "POST"
        assert read.headers["x-ik-requestid"] not in service.output
