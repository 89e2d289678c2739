"""`agezero purge` and `agezero status` against the real HTTP side."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from agezero.cli.main import run
from agezero.cli.output import Exit
from agezero.config import Config, Limits
from agezero.core.selector import Kind, Selector
from support.api import ENDPOINT, KEY, Api, running_api
from support.waiting import wait_for

URL = f"{ENDPOINT}/cat.jpg"


@pytest.fixture(scope="module")
def server() -> Iterator[Api]:
    with running_api() as api:
        yield api


@pytest.fixture
def api(server: Api, monkeypatch: pytest.MonkeyPatch) -> Api:
    monkeypatch.setenv("AGEZERO_URL", server.url)
    monkeypatch.setenv("AGEZERO_PRIVATE_KEY", KEY)
    server.within(server.edge.open.set)
    return server


def submitted(api: Api) -> list[Selector]:
    """All that stands in the log, newest first."""
    return [Selector(Kind(named["kind"]), named["value"]) for purge in api.client.get("/v1/purges").json()["purges"] for named in purge["selectors"]]


Capture = pytest.CaptureFixture[str]


def test_purge_prints_the_request_id_alone(api: Api, capsys: Capture) -> None:
    assert run(["purge", URL]) == Exit.OK
    said = capsys.readouterr()
    assert re.fullmatch(r"[0-9a-f]{24}\n", said.out)
    assert said.err == ""
    assert submitted(api)[0] == Selector(Kind.URL, "cdn.example.com/site/cat.jpg")


def test_status_prints_the_status_alone(api: Api, capsys: Capture) -> None:
    api.within(api.edge.open.clear)
    run(["purge", URL])
    request_id = capsys.readouterr().out.strip()
    assert run(["status", request_id]) == Exit.OK
    api.within(api.edge.open.set)
    assert run(["status", request_id, "--wait"]) == Exit.OK
    assert capsys.readouterr().out == "Pending\nCompleted\n"


def test_several_urls_are_one_purge_and_a_wait_lasts_until_it_is_completed(api: Api, capsys: Capture) -> None:
    before = api.log.head
    api.within(api.edge.open.clear)

    def complete() -> None:
        wait_for(lambda: api.log.head == before + 2, "both selectors are submitted")
        api.within(api.edge.open.set)

    completing = threading.Thread(target=complete)
    completing.start()
    assert run(["purge", URL, f"{ENDPOINT}/dog.jpg*", "--wait"]) == Exit.OK
    completing.join()
    said = capsys.readouterr()
    assert re.fullmatch(r"[0-9a-f]{24} Completed\n", said.out)
    assert re.search(r"proven \d+ ms after", said.err)


def test_a_wait_that_is_too_long_ends_with_a_code_of_its_own(api: Api, capsys: Capture) -> None:
    api.within(api.edge.open.clear)
    assert run(["purge", URL, "--wait", "--timeout", "0.05"]) == Exit.TIMEOUT
    said = capsys.readouterr()
    assert "is still pending after" in said.err
    assert "awaited: edge (still applying)" in said.err
    assert "hint: it goes on" in said.err


def test_a_refusal_says_what_the_service_said(api: Api, capsys: Capture) -> None:  # noqa: ARG001
    assert run(["purge", "https://other.example.com/"]) == Exit.REFUSED
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(
        "error: Your private API key may not purge all of that. (HTTP 403)\n  urls/0: the url 'other.example.com/' is not under"
    )
    assert "--endpoint" in said.err, "it may be the service that has to know the host"
    assert run(["status", "nonsense"]) == Exit.REFUSED
    assert run(["purge", URL, "--key", "private_wrong_wrong_wrong"]) == Exit.REFUSED
    assert "private_wrong" not in capsys.readouterr().err


def test_one_refused_url_does_not_keep_the_others_from_being_purged(api: Api, capsys: Capture) -> None:
    before = api.log.head
    assert run(["purge", "nonsense", URL]) == Exit.REFUSED
    said = capsys.readouterr()
    assert re.fullmatch(r"[0-9a-f]{24}\n", said.out)
    assert "error: nonsense: expected an absolute URL" in said.err
    assert "1 of 2 selectors were refused" in said.err
    assert api.log.head == before + 1


def test_it_waits_as_long_as_the_service_asks(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    with running_api(Config(endpoints=(ENDPOINT,), limits=Limits(purges_per_s=2))) as api:
        monkeypatch.setenv("AGEZERO_PRIVATE_KEY", KEY)
        capsys.readouterr()  # what the start had to say
        assert [run(["purge", "--url", api.url, URL]) for _ in range(3)] == [Exit.OK] * 3
        assert len(capsys.readouterr().out.split()) == 3
        assert api.client.get("/metrics").text.count('status="429"') == 1


def test_no_key(api: Api, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.delenv("AGEZERO_PRIVATE_KEY")
    before = api.log.head
    assert run(["purge", URL]) == Exit.FAILED
    assert "hint: set AGEZERO_PRIVATE_KEY" in capsys.readouterr().err
    assert api.log.head == before


def test_nobody_there(api: Api, capsys: Capture) -> None:  # noqa: ARG001
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        assert run(["purge", URL, "--url", f"http://127.0.0.1:{unused.getsockname()[1]}"]) == Exit.UNREACHABLE
    said = capsys.readouterr().err
    assert "error: no answer from" in said
    assert "hint: is `agezero up` running there?" in said


class _Ending(BaseHTTPRequestHandler):
    """Accepts a purge and is gone."""

    def do_POST(self) -> None:
        body = b'{"id":"%b","mode":"hard","selectors":[],"warnings":[]}' % (b"5" * 24)
        self.send_response(201)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize(("more", "out"), [([], f"{'5' * 24} Pending\n"), (["--json"], f'{{"id":"{"5" * 24}","state":"pending"}}\n')])
def test_a_purge_whose_service_goes_away_meanwhile_is_told_all_the_same(api: Api, more: list[str], out: str, capsys: Capture) -> None:  # noqa: ARG001
    with HTTPServer(("127.0.0.1", 0), _Ending) as service:

        def serve() -> None:
            service.handle_request()
            service.server_close()

        serving = threading.Thread(target=serve)
        serving.start()
        command = ["purge", URL, "--wait", "--timeout", "0.4", "--url", f"http://127.0.0.1:{service.server_port}", *more]
        assert run(command) == Exit.UNREACHABLE
        serving.join()
    said = capsys.readouterr()
    assert said.out == out
    assert f"the purge is accepted; it goes on; `agezero status {'5' * 24} --wait`" in said.err
    assert "error: no answer from" in said.err


class _Website(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = b"<html>"
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def test_somebody_else_there(api: Api, capsys: Capture) -> None:  # noqa: ARG001
    with HTTPServer(("127.0.0.1", 0), _Website) as website:
        serving = threading.Thread(target=website.handle_request)
        serving.start()
        assert run(["purge", URL, "--url", f"http://127.0.0.1:{website.server_port}"]) == Exit.UNREACHABLE
        serving.join()
    assert "not as the purge API does" in capsys.readouterr().err


@pytest.mark.parametrize("url", ["nonsense", "127.0.0.1:80", "ftp://a", "http://["])
def test_an_address_that_is_no_url(api: Api, url: str, capsys: Capture) -> None:  # noqa: ARG001
    assert run(["purge", URL, "--url", url]) == Exit.FAILED
    assert "hint: " in capsys.readouterr().err
