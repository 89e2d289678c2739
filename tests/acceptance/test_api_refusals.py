"""Who asks for what can't be done is told what was wrong and what to do, over the wire, and nothing of it gets into the log."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator

import httpx
import pytest

from agezero.config import Config
from agezero.core.selector import Kind, Selector
from agezero.core.wildcards import Wildcards
from agezero.http.faults import BODY_BYTES_MAX, Fault
from support.api import ENDPOINT, KEY, Api, running_api
from support.contract import PURGE, URL, emptied, metrics, problem, submit
from support.waiting import wait_for


@pytest.fixture(scope="module")
def server() -> Iterator[Api]:
    with running_api() as api:
        yield api


@pytest.fixture
def api(server: Api) -> Api:
    return emptied(server)


# ── what can't be purged ──


@pytest.mark.parametrize(
    ("body", "fault", "said"),
    [
        (b"", Fault.NO_URL, "no body"),
        (b"   ", Fault.NO_URL, "no body"),
        (b"{}", Fault.NO_URL, "no member url"),
        (b"[]", Fault.NO_URL, "an array; expected an object"),
        (b'"text"', Fault.NO_URL, "a string; expected an object"),
        (b"{", Fault.INVALID_BODY, "not JSON"),
        (b"\xff\xfe", Fault.INVALID_BODY, "not JSON"),
        (b'{"url":"\xff"}', Fault.INVALID_BODY, "not JSON"),
        (b"[" * 60_000, Fault.INVALID_BODY, "JSON|nested"),
        (b'{"url":' + b"[" * 60_000, Fault.INVALID_BODY, "JSON|nested"),
        (b'{"url":["https://cdn.example.com/site/a"]}', Fault.INVALID_URL, "an array; expected a string"),
        (b'{"url":7}', Fault.INVALID_URL, "a number"),
        (b'{"url":null}', Fault.INVALID_URL, "null"),
        (b'{"url":true}', Fault.INVALID_URL, "a boolean"),
        (b'{"url":{}}', Fault.INVALID_URL, "an object"),
        (b'{"url":""}', Fault.INVALID_URL, "absolute URL"),
        (b'{"url":"/site/a"}', Fault.INVALID_URL, "absolute URL"),
        (b'{"url":"ftp://cdn.example.com/site/a"}', Fault.INVALID_URL, "scheme"),
        (b'{"url":"https://u:p@cdn.example.com/site/a"}', Fault.INVALID_URL, "user information"),
        (b'{"url":"https://cdn.example.com/site/%s"}' % (b"a" * 10_240), Fault.INVALID_URL, "10246 bytes"),
        (b'{"url":"https://cdn.example.com/site/\\ud800"}', Fault.INVALID_BODY, "not JSON"),
        (b'{"url":"https://other.example.com/site/a"}', Fault.NOT_PURGEABLE, "endpoint of this service"),
        (b'{"url":"https://cdn.example.com/sitemap.xml"}', Fault.NOT_PURGEABLE, "endpoint of this service"),
        (b'{"url":"https://cdn.example.com/site/../other"}', Fault.NOT_PURGEABLE, "endpoint of this service"),
        (b'{"url":"https://cdn.example.com/site/%2e%2e/other"}', Fault.NOT_PURGEABLE, "endpoint of this service"),
        (b'{"url":"https://cdn.example.com/site*"}', Fault.NOT_PURGEABLE, "endpoint of this service"),
        (b'{"url":"https://cdn.example.com/site/*/a"}', Fault.NOT_PURGEABLE, "only at the end"),
        (b'{"url":"https://*.example.com/site/a"}', Fault.NOT_PURGEABLE, "only at the end"),
        (b'{"url":"https://cdn.example.com/site/*"}', Fault.NOT_PURGEABLE, "1 path level"),
    ],
)
def test_what_can_not_be_purged_is_refused_and_leaves_nothing_in_the_log(api: Api, body: bytes, fault: Fault, said: str) -> None:
    response = api.client.post(PURGE, content=body, headers={"content-type": "application/json"})
    assert re.search(said, problem(response, fault))
    assert not api.purges.submitted


@pytest.mark.parametrize(
    ("form", "fault"),
    [
        ("", Fault.NO_URL),
        ("link=a", Fault.NO_URL),
        ("url=", Fault.INVALID_URL),
        (f"url={URL}&url={URL}", Fault.INVALID_URL),
        (f"url={URL}?a=1&b=2", Fault.INVALID_URL),  # else ?a=1 would be purged, and called Completed
        (f"url={URL}?a=1&b", Fault.INVALID_URL),
        ("url=%FF", Fault.INVALID_BODY),
        ("&".join(f"a{i}=1" for i in range(17)), Fault.INVALID_BODY),
    ],
)
def test_a_form_that_names_no_url(api: Api, form: str, fault: Fault) -> None:
    problem(api.client.post(PURGE, content=form, headers={"content-type": "application/x-www-form-urlencoded; charset=utf-8"}), fault)


@pytest.mark.parametrize("chunked", [False, True])
def test_the_longest_body_is_accepted_and_one_byte_more_is_not(api: Api, chunked: bool) -> None:
    longest = json.dumps({"url": URL}).encode().ljust(BODY_BYTES_MAX)

    def sent(body: bytes) -> httpx.Response:
        content = (body[i : i + 4096] for i in range(0, len(body), 4096)) if chunked else body
        return api.client.post(PURGE, content=content, headers={"content-type": "application/json"})

    assert sent(longest).status_code == 201
    problem(sent(longest + b" "), Fault.BODY_TOO_LARGE)
    assert len(api.purges.submitted) == 1


def test_any_wildcard_is_allowed_where_the_setting_says_so() -> None:
    with running_api(Config(endpoints=(ENDPOINT,), wildcards=Wildcards.ANY)) as api:
        assert api.client.post(PURGE, json={"url": f"{ENDPOINT}/*"}).status_code == 201
        assert api.purges.submitted[0][0] == Selector(Kind.PREFIX, "cdn.example.com/site/")


# ── ids, paths, methods ──


@pytest.mark.parametrize("request_id", ["0" * 24, "0" * 23, "nonsense", "F" * 24, "%20" * 24, "é" * 24, "a" * 5000])
def test_an_unknown_request_id_is_400(api: Api, request_id: str) -> None:
    problem(api.client.get(f"{PURGE}/{request_id}"), Fault.UNKNOWN_REQUEST)


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/files", PURGE + "/", PURGE + "/a/b", "/v1/files/purge/" + "/" * 24, "/healthz/", "//healthz"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_unknown_path_is_404_and_never_a_redirect(api: Api, path: str, method: str) -> None:
    problem(api.client.request(method, api.url + path), Fault.NO_SUCH_PATH)


@pytest.mark.parametrize(
    ("path", "allow"), [(PURGE, "POST"), (f"{PURGE}/{'0' * 24}", "GET, HEAD"), (f"{PURGE}/x", "GET, HEAD"), ("/healthz", "GET, HEAD")]
)
@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PURGE"])
def test_a_wrong_method_is_405_with_allow(api: Api, path: str, allow: str, method: str) -> None:
    response = api.client.request(method, path)
    problem(response, Fault.WRONG_METHOD)
    assert response.headers["allow"] == allow


# ── bad clients ──


def test_a_body_that_is_far_too_long_is_refused(api: Api) -> None:
    problem(api.client.post(PURGE, content=b"x" * (8 << 20)), Fault.BODY_TOO_LARGE)


def test_a_body_that_does_not_come_is_given_up(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agezero.http.body.BODY_TIMEOUT_S", 0.01)
    with connected(api) as client:
        client.sendall(BEGUN)
        assert client.recv(4096).startswith(b"HTTP/1.1 400 ")


def test_a_client_that_goes_away_in_the_middle_disturbs_nobody(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    before = metrics(api).get('agezero_requests_total{call="purge",status="400"}', 0)
    with connected(api) as client:
        client.sendall(BEGUN)
    wait_for(lambda: metrics(api)['agezero_requests_total{call="purge",status="400"}'] == before + 1, "the request ended")
    assert not api.purges.submitted
    assert submit(api)
    assert not caplog.records


def connected(api: Api) -> socket.socket:
    host, _, port = api.url.removeprefix("http://").partition(":")
    return socket.create_connection((host, int(port)), timeout=30)


BEGUN = (
    f"POST {PURGE} HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {KEY}\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    f"Content-Length: {2 * len(URL)}\r\n\r\nurl={URL}"
).encode()
"""A purge whose body breaks off where it would be a whole one: of a shorter URL than was meant."""
