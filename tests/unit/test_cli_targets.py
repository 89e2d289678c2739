"""`agezero purge` with selectors of all kinds, from arguments and files, against the real HTTP side."""

from __future__ import annotations

import io
import json
import os
import pty
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from agezero.cli import targets
from agezero.cli.main import run
from agezero.cli.output import CommandFailed, Exit
from agezero.cli.targets import Target
from support.api import ENDPOINT, KEY, Api, running_api

URL = f"{ENDPOINT}/cat.jpg"
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def server() -> Iterator[Api]:
    with running_api() as api:
        yield api


@pytest.fixture
def api(server: Api, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> Api:
    monkeypatch.setenv("AGEZERO_URL", server.url)
    monkeypatch.setenv("AGEZERO_PRIVATE_KEY", KEY)
    capsys.readouterr()  # what the start had to say
    return server


def newest(api: Api) -> dict[str, object]:
    found = api.client.get("/v1/purges", params={"limit": 1}).json()["purges"][0]
    assert isinstance(found, dict)
    return found


def test_all_kinds_go_in_one_request(api: Api, capsys: Capture) -> None:
    before = api.log.head
    options = ["--prefix", f"{ENDPOINT}/p/", "--tag", "a", "--tag", "b", "--soft", "--note", "why"]
    assert run(["purge", URL, *options, "--asset", f"{ENDPOINT}/d/x.jpg"]) == Exit.OK
    said = capsys.readouterr()
    purge = newest(api)
    assert said.out == f"{purge['id']}\n"
    assert (purge["mode"], purge["note"]) == ("soft", "why")
    kinds = [selector["kind"] for selector in api.client.get(f"/v1/purges/{purge['id']}").json()["selectors"]]
    assert kinds[:2] == ["url", "prefix"]
    assert kinds.count("tag") == 2
    assert api.log.head == before + len(kinds)
    assert "warning: path transformations of other files" in said.err
    assert "warning: widened to everything on edge" in said.err


def test_a_dry_run_prints_what_is_understood_and_does_nothing(api: Api, capsys: Capture) -> None:
    before = api.log.head
    assert run(["purge", "HTTPS://CDN.example.com:443/site/./a", "--tag", "t", "--everything", "--dry-run", "--wait"]) == Exit.OK
    assert capsys.readouterr().out == "url cdn.example.com/site/a\ntag t\neverything\n"
    assert run(["purge", URL, "--dry-run", "--json"]) == Exit.OK
    assert json.loads(capsys.readouterr().out)["dry_run"] is True
    assert api.log.head == before


def test_json(api: Api, capsys: Capture) -> None:
    assert run(["purge", URL, "--json"]) == Exit.OK
    accepted = json.loads(capsys.readouterr().out)
    assert accepted["selectors"] == [{"kind": "url", "value": "cdn.example.com/site/cat.jpg"}]
    assert run(["purge", URL, "--json", "--wait"]) == Exit.OK
    proven = json.loads(capsys.readouterr().out)
    assert (proven["state"], [edge["state"] for edge in proven["edges"]]) == ("completed", ["confirmed"])
    assert run(["status", proven["id"], "--json"]) == Exit.OK
    assert json.loads(capsys.readouterr().out) == proven
    api.within(api.edge.open.clear)
    assert run(["purge", URL, "--json", "--wait", "--timeout", "700ms"]) == Exit.TIMEOUT
    api.within(api.edge.open.set)
    assert json.loads(capsys.readouterr().out)["edges"][0]["state"] == "pending"


def test_everything_asks(api: Api, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    before = api.log.head
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    assert run(["purge", "--everything"]) == Exit.USAGE
    assert "nobody is there to be asked\nhint: add --yes" in capsys.readouterr().err
    master, slave = pty.openpty()
    with os.fdopen(master, "wb", buffering=0) as keyboard, os.fdopen(slave, "r") as terminal:
        monkeypatch.setattr("sys.stdin", terminal)
        keyboard.write(b"n\n")
        assert run(["purge", "--everything"]) == Exit.FAILED
        assert "nothing was purged" in capsys.readouterr().err
        assert api.log.head == before
        keyboard.write(b"y\n")
        assert run(["purge", "--everything"]) == Exit.OK
    assert run(["purge", "--everything", "--yes"]) == Exit.OK
    assert api.log.head == before + 2
    assert newest(api)["selectors"] == [{"kind": "everything", "value": ""}]


def test_a_large_file_goes_in_several_requests_and_what_is_refused_is_named_by_its_line(api: Api, tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "changed.txt"
    lines = [f"{ENDPOINT}/{number}.jpg" for number in range(2_500)]
    lines[1_700] = "nonsense"
    file.write_text("\ufeff# changed\r\n\r\n" + "\r\n".join(lines) + "\ntag release-42\n")
    before = api.log.head
    assert run(["purge", "--from-file", str(file), "--wait"]) == Exit.REFUSED
    said = capsys.readouterr()
    assert api.log.head == before + 2_500
    assert re.fullmatch(r"([0-9a-f]{24} Completed\n){3}", said.out)
    assert f"error: {file}:1703: nonsense: expected an absolute URL" in said.err
    assert "error: 1 of 2,501 selectors were refused\nhint: the others are purged" in said.err


def test_assets_that_are_too_many_once_understood_are_split(api: Api, capsys: Capture) -> None:
    before = api.log.head
    assets = [word for number in range(600) for word in ("--asset", f"{ENDPOINT}/d{number}/x.jpg")]
    assert run(["purge", *assets]) == Exit.OK
    assert len(capsys.readouterr().out.split()) == 8
    assert api.log.head > before + 1_000


def test_stdin(api: Api, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(f"{URL}\n".encode())))
    assert run(["purge", "--from-file", "-"]) == Exit.OK
    assert newest(api)["id"] == capsys.readouterr().out.strip()


@pytest.mark.usefixtures("api")
def test_files_that_are_none(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "empty").write_text("# nothing\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    expected = {"missing": "No such file", "empty": "there is nothing in it", "binary": "is not UTF-8"}
    for name, words in expected.items():
        assert run(["purge", "--from-file", str(tmp_path / name)]) == Exit.FAILED
        said = capsys.readouterr().err
        assert words in said
        assert "hint: " in said
    assert run(["purge", f"{ENDPOINT}/\udcff"]) == Exit.USAGE
    assert "not valid UTF-8" in capsys.readouterr().err


def test_lines() -> None:
    found = list(targets.parse([" https://h/a b ", "", "# no", "tag x", "prefix https://h/p", "host h", "asset https://h/f", "tag", "url x y"], "f"))
    assert [(target.kind, target.text) for target in found] == [
        ("urls", "https://h/a b"),
        ("tags", "x"),
        ("prefixes", "https://h/p"),
        ("hosts", "h"),
        ("assets", "https://h/f"),
        ("urls", "tag"),
        ("urls", "x y"),
    ]
    assert found[1].place == "f:4"


def test_a_request_has_at_most_so_many_selectors_and_so_many_bytes() -> None:
    assert [len(batch) for batch in targets.batches([Target("urls", "x")] * 2_001)] == [1_000, 1_000, 1]
    long = Target("urls", "x" * 8_000)
    assert all(len(batch) * 8_004 <= targets.BYTES_MAX for batch in targets.batches([long] * 1_000))
    assert list(targets.batches([])) == []
    assert targets.at([long, Target("tags", "t")], "tags/0") == Target("tags", "t")
    assert targets.at([long], "") is None
    with pytest.raises(CommandFailed):
        targets.read(Path("/nowhere/at/all"))


class _ImageKit(httpx.BaseTransport):
    """A service that knows ImageKit's call alone."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.status = "Pending"

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(f"{request.method} {request.url.path}")
        if request.url.path == "/v1/files/purge":
            return httpx.Response(201, json={"requestId": "0" * 24})
        if request.url.path.startswith("/v1/files/purge/"):
            answer, self.status = self.status, "Completed"
            return httpx.Response(200, json={"status": answer})
        return httpx.Response(404, json={"message": "Not Found", "help": ""}) if request.method == "POST" else httpx.Response(404, text="<html>")


def test_one_url_is_purged_by_a_service_that_knows_imagekits_call_alone(api: Api, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:  # noqa: ARG001
    service = _ImageKit()
    plain = httpx.Client
    monkeypatch.setattr(httpx, "Client", lambda **options: plain(**options | {"transport": service, "verify": True}))
    assert run(["purge", URL]) == Exit.OK
    assert run(["purge", URL, "--wait"]) == Exit.OK
    assert run(["status", "0" * 24]) == Exit.OK
    assert capsys.readouterr().out == f"{'0' * 24}\n{'0' * 24} Completed\nCompleted\n"
    assert service.asked.count("POST /v1/files/purge") == 2
    assert run(["purge", URL, "--tag", "t"]) == Exit.REFUSED
