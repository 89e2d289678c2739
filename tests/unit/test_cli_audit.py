"""`agezero audit` against the real HTTP side, and the commands that list as JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from agezero.cli.main import run
from agezero.cli.output import Exit
from agezero.config import Config
from agezero.config.settings import Webhooks
from agezero.control import EdgeView
from support.api import ENDPOINT, KEY, Api, running_api

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def server() -> Iterator[Api]:
    with running_api(Config(endpoints=(ENDPOINT,), webhooks=Webhooks(allow_private=True))) as api:
        for number in range(250):  # more than a page
            api.client.post("/v1/purges", json={"urls": [f"{ENDPOINT}/{number}"]}).raise_for_status()
        api.client.post("/v1/keys", json={"name": "made", "permission": "read"}).raise_for_status()
        api.purges.fleet = [EdgeView("shield", "leased", 0, 9, 0, ("url",), ""), EdgeView("front", "fenced", 1, 7, 2, (), "refused")]
        yield api


@pytest.fixture(autouse=True)
def api(server: Api, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> Api:
    monkeypatch.setenv("AGEZERO_URL", server.url)
    monkeypatch.setenv("AGEZERO_PRIVATE_KEY", KEY)
    capsys.readouterr()
    return server


def lines(capsys: Capture, *arguments: str) -> list[str]:
    assert run(list(arguments)) == Exit.OK
    return capsys.readouterr().out.splitlines()


def rows(capsys: Capture, *arguments: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in lines(capsys, "audit", *arguments, "--json")]


def test_all_of_it_newest_first_over_pages(capsys: Capture) -> None:
    found = rows(capsys)
    assert len(found) >= 251
    assert [row["at"] for row in found] == sorted((row["at"] for row in found), reverse=True)
    purges = lines(capsys, "audit", "--action", "purge")
    assert len(purges) == 250
    assert re.fullmatch(r"\d{4}-\S+Z  purge +\S+ +127\.0\.0\.1 +url cdn\.example\.com/site/249 \(hard\)", purges[0])


def test_filters(capsys: Capture) -> None:
    everything = rows(capsys)
    newest, oldest = everything[0], everything[-1]
    assert len(rows(capsys, "--limit", "3")) == 3
    assert [row["about"] for row in rows(capsys, "--about", "/site/24 ")] == ["url cdn.example.com/site/24 (hard)"]
    assert {row["action"] for row in rows(capsys, "--action", "purge", "--action", newest["action"])} == {"purge", newest["action"]}
    assert rows(capsys, "--since", "1h") == everything
    assert rows(capsys, "--since", newest["at"]) == [row for row in everything if row["at"] >= newest["at"]]
    assert rows(capsys, "--until", oldest["at"]) == []
    assert rows(capsys, "--by", "nobody") == rows(capsys, "--address", "192.0.2.1") == []
    assert rows(capsys, "--by", oldest["key"], "--address", "127.0.0.1", "--limit", "1") != []


def test_it_needs_an_admins_key(api: Api, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    reads = api.client.post("/v1/keys", json={"name": "reads", "permission": "read"}).json()["text"]
    monkeypatch.setenv("AGEZERO_PRIVATE_KEY", reads)
    assert run(["audit"]) == Exit.REFUSED
    assert "not permitted to read the audit" in capsys.readouterr().err


def test_lists_as_json(api: Api, tmp_path: Path, capsys: Capture) -> None:
    assert [json.loads(line)["state"] for line in lines(capsys, "edges", "--json")] == ["leased", "fenced"]
    hook = api.client.post("/v1/webhooks", json={"url": "http://127.0.0.1:9/", "events": ["edge.fenced"]}).json()["webhook"]["id"]
    assert [json.loads(line)["id"] for line in lines(capsys, "webhooks", "list", "--json")] == [hook]
    assert lines(capsys, "webhooks", "deliveries", hook, "--json") == []
    assert lines(capsys, "keys", "create", "web", "--data", str(tmp_path))
    key = json.loads(lines(capsys, "keys", "list", "--json", "--data", str(tmp_path))[0])
    assert (key["name"], key["permission"], key["state"], key["expires_at"]) == ("web", "purge", "valid", None)
