"""The contract, over the wire: each call, each error, each header."""

from __future__ import annotations

import base64
import json
import re
import socket
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from agezero.config import Config, Limits
from agezero.core.selector import Kind, Selector
from agezero.core.wildcards import Wildcards
from agezero.http.faults import BODY_BYTES_MAX, Fault
from agezero.http.limiter import NO_LIMIT
from agezero.keys import Permission
from support.api import ENDPOINT, KEY, Api, running_api
from support.waiting import wait_for

PURGE = "/v1/files/purge"
URL = "https://cdn.example.com/site/cat.jpg"


@pytest.fixture(scope="module")
def server() -> Iterator[Api]:
    with running_api() as api:
        yield api


@pytest.fixture
def api(server: Api) -> Api:
    server.purges.submitted.clear()
    server.purges.lowest = 0
    server.purges.unavailable = server.purges.unknown = ""
    server.purges.reason = None
    server.purges.broken = False
    return server


def problem(response: httpx.Response, fault: Fault) -> str:
    """Checks that the response is this fault in the contract's shape; returns its help."""
    assert (response.status_code, response.json()["message"]) == (fault.status, fault.message)
    assert response.headers["content-type"] == "application/json"
    assert response.json().keys() == {"message", "help"}
    assert "docs/API.md#errors" in response.json()["help"]
    has_contract_headers(response)
    return str(response.json()["help"])


def has_contract_headers(response: httpx.Response) -> None:
    assert uuid.UUID(response.headers["x-ik-requestId"]).version == 4
    assert int(response.headers["X-RateLimit-Limit"]) > 0
    assert 0 <= int(response.headers["X-RateLimit-Reset"]) <= int(response.headers["X-RateLimit-Interval"]) == 1000


def submit(api: Api) -> str:
    return str(api.client.post(PURGE, json={"url": URL}).json()["requestId"])


# ── the two calls ──


def test_a_purge_is_answered_with_201_and_exactly_a_request_id(api: Api) -> None:
    response = api.client.post(PURGE, json={"url": URL})
    assert response.status_code == 201
    assert re.fullmatch(r'\{"requestId":"[0-9a-f]{24}"\}', response.text)
    assert response.headers["content-type"] == "application/json"
    has_contract_headers(response)
    assert api.purges.submitted == [(Selector(Kind.URL, "cdn.example.com/site/cat.jpg"), "environment")]


def test_a_status_is_exactly_pending_then_completed(api: Api) -> None:
    path = f"{PURGE}/{submit(api)}"
    assert (api.client.get(path).status_code, api.client.get(path).text) == (200, '{"status":"Pending"}')
    api.purges.lowest = 1
    response = api.client.get(path + "?url=leaked", headers={"content-type": "application/json", "content-length": "0"})
    assert (response.status_code, response.text) == (200, '{"status":"Completed"}')
    has_contract_headers(response)


def test_the_calls_work_over_http_2(api: Api) -> None:
    with httpx.Client(base_url=api.url, auth=(KEY, ""), http1=False, http2=True) as client:
        response = client.post(PURGE, json={"url": URL})
        assert (response.status_code, response.http_version) == (201, "HTTP/2")
        assert client.get(f"{PURGE}/{response.json()['requestId']}").text == '{"status":"Pending"}'


def test_a_form_is_as_good_as_json_and_an_object_called_a_form_is_json(api: Api) -> None:
    assert api.client.post(PURGE, data={"url": URL}).status_code == 201
    assert api.client.post(PURGE, content=json.dumps({"url": URL}), headers={"content-type": "application/x-www-form-urlencoded"}).status_code == 201
    assert {selector for selector, _ in api.purges.submitted} == {Selector(Kind.URL, "cdn.example.com/site/cat.jpg")}


def test_further_members_of_the_body_are_ignored(api: Api) -> None:
    assert api.client.post(PURGE, json={"url": URL, "also": [1]}).status_code == 201


def test_every_response_has_its_own_request_id(api: Api) -> None:
    seen = {api.client.get("/healthz").headers["x-ik-requestId"] for _ in range(600)}
    assert len(seen) == 600


# ── authentication ──


@pytest.mark.parametrize(
    "header",
    [
        "Basic " + base64.b64encode(f"{KEY}:".encode()).decode(),
        "basic " + base64.b64encode(f"{KEY}:do_not_set".encode()).decode(),
        "BASIC  " + base64.b64encode(f"{KEY}:a:b".encode()).decode(),
        f"Basic {KEY}",
    ],
)
def test_forms_of_the_key_that_are_accepted(api: Api, header: str) -> None:
    assert httpx.get(f"{api.url}{PURGE}/{submit(api)}", headers={"authorization": header}).status_code == 200


@pytest.mark.parametrize(
    "header", [None, "", "Basic", f"Bearer {KEY}", "Basic " + base64.b64encode(b":password").decode(), "Digest a=b", "Basic \xe9"]
)
@pytest.mark.parametrize(("method", "path"), [("POST", PURGE), ("GET", f"{PURGE}/{'0' * 24}")])
def test_no_key_is_401(api: Api, header: str | None, method: str, path: str) -> None:
    response = httpx.request(method, api.url + path, headers=[] if header is None else [(b"authorization", header.encode("latin-1"))])
    problem(response, Fault.NO_KEY)
    assert response.headers["www-authenticate"].startswith("Basic realm=")


@pytest.mark.parametrize("header", ["Basic private_wrong_wrong_wrong", "Basic " + base64.b64encode(b"\xff\xfe:").decode(), "Basic ==="])
def test_a_wrong_key_is_403(api: Api, header: str) -> None:
    problem(httpx.post(api.url + PURGE, headers=[(b"authorization", header.encode("latin-1"))], json={"url": URL}), Fault.WRONG_KEY)
    assert not api.purges.submitted


def test_a_key_that_ends_is_refused_though_it_was_recognised_before(api: Api) -> None:
    text = api.keys.create("short", Permission.WRITE)
    key = api.keys.list()[-1]
    assert purge_with(api, text).status_code == 201
    api.keys.expire(key.id, int(time.time()) - 1)
    problem(purge_with(api, text), Fault.EXPIRED_KEY)
    api.keys.expire(key.id, int(time.time()) + 60)
    api.keys.disable(key.id)
    problem(purge_with(api, text), Fault.DISABLED)
    api.keys.disable(key.id, disabled=False)
    assert purge_with(api, text).status_code == 201
    api.keys.revoke(key.id, time.time())
    problem(purge_with(api, text), Fault.WRONG_KEY)


def test_a_read_key_reads_and_does_not_purge(api: Api) -> None:
    text = api.keys.create("reader", Permission.READ)
    problem(purge_with(api, text), Fault.NOT_PERMITTED)
    assert httpx.get(f"{api.url}{PURGE}/{submit(api)}", auth=(text, "")).status_code == 200


def test_a_key_bound_to_an_endpoint_purges_only_there(api: Api) -> None:
    text = api.keys.create("narrow", Permission.WRITE, [f"{ENDPOINT}/photos"])
    assert "endpoint of this key" in problem(purge_with(api, text), Fault.NOT_PURGEABLE)
    assert purge_with(api, text, f"{ENDPOINT}/photos/cat.jpg").status_code == 201


def purge_with(api: Api, key: str, url: str = URL) -> httpx.Response:
    return httpx.post(api.url + PURGE, auth=(key, ""), json={"url": url})


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


# ── trouble on our side ──


def test_a_log_that_takes_nothing_is_503_and_works_again_later(api: Api) -> None:
    api.purges.unavailable = "database or disk is full"
    response = api.client.post(PURGE, json={"url": URL})
    problem(response, Fault.LOG_UNAVAILABLE)
    assert 1 <= int(response.headers["retry-after"]) <= 60
    assert "disk" not in response.text
    api.purges.unavailable = ""
    assert api.client.post(PURGE, json={"url": URL}).status_code == 201


def test_a_status_that_can_not_be_given_yet_is_503(api: Api) -> None:
    api.purges.unknown = "the edge has not reported since the start"
    response = api.client.get(f"{PURGE}/{submit(api)}")
    assert "has not reported" in problem(response, Fault.STATUS_UNKNOWN)
    assert 1 <= int(response.headers["retry-after"]) <= 60


@pytest.mark.parametrize(("method", "path"), [("POST", PURGE), ("GET", f"{PURGE}/{'0' * 24}"), ("GET", "/readyz")])
def test_a_bug_is_a_500_in_the_contract_s_shape(api: Api, method: str, path: str) -> None:
    api.purges.broken = True
    response = api.client.request(method, path, json={"url": URL})
    problem(response, Fault.INTERNAL)
    assert "secret detail" not in response.text


# ── rate limits ──


def test_one_request_too_many_is_429_until_the_window_ends() -> None:
    with running_api(Config(endpoints=(ENDPOINT,), limits=Limits(purges_per_s=3, status_per_s=0))) as api:
        responses = [api.client.post(PURGE, json={"url": URL}) for _ in range(9)]
        assert {response.headers["X-RateLimit-Limit"] for response in responses} == {"3"}
        assert all(int(response.headers["X-RateLimit-Reset"]) > 0 for response in responses)
        refused = [response for response in responses if response.status_code == 429]
        assert refused
        for response in refused:
            problem(response, Fault.RATE_LIMITED)
            assert 1 <= int(response.headers["retry-after"]) <= 60
        assert len(api.purges.submitted) == 9 - len(refused)
        other = api.keys.create("other", Permission.WRITE)
        assert purge_with(api, other).status_code == 201  # limits are per key
        deadline = time.monotonic() + 30
        while api.client.post(PURGE, json={"url": URL}).status_code == 429:
            assert time.monotonic() < deadline


def test_no_limit_is_said_with_a_number_that_stops_nobody() -> None:
    with running_api(Config(endpoints=(ENDPOINT,), limits=Limits(purges_per_s=0, status_per_s=0))) as api:
        responses = [api.client.post(PURGE, json={"url": URL}) for _ in range(50)]
        assert {response.status_code for response in responses} == {201}
        assert {response.headers["X-RateLimit-Limit"] for response in responses} == {str(NO_LIMIT)}
        assert {response.headers["X-RateLimit-Reset"] for response in responses} == {"0"}


# ── the pages ──


def test_health_and_readiness(api: Api) -> None:
    assert httpx.get(api.url + "/healthz").json() == {"status": "alive"}
    assert (httpx.get(api.url + "/readyz").status_code, httpx.get(api.url + "/readyz").json()) == (200, {"ready": True})
    api.purges.reason = "the edge has not reported yet"
    response = httpx.get(api.url + "/readyz")
    assert (response.status_code, response.json()) == (503, {"ready": False, "reason": "the edge has not reported yet"})
    has_contract_headers(response)
    assert httpx.head(api.url + "/healthz").status_code == 200


def test_the_metrics_count(api: Api) -> None:
    before = metrics(api)
    submit(api)
    api.client.post(PURGE, json={})
    after = metrics(api)

    def rise(name: str) -> float:
        return after[name] - before.get(name, 0)

    assert rise("agezero_purges_accepted_total") == 1
    assert rise('agezero_requests_total{call="purge",status="201"}') == 1
    assert rise('agezero_requests_total{call="purge",status="400"}') == 1
    assert rise("agezero_accept_duration_seconds_count") == 1
    assert any(name.startswith("agezero_build_info{") for name in after)
    assert after["process_resident_memory_bytes"] > 0


def metrics(api: Api) -> dict[str, float]:
    response = httpx.get(api.url + "/metrics")
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    has_contract_headers(response)
    lines = [line.rpartition(" ") for line in response.text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


def test_every_metric_is_documented(api: Api) -> None:
    documented = (Path(__file__).parents[2] / "docs" / "OPERATING.md").read_text()
    named = {re.sub(r"_(bucket|count|sum)$", "", re.split(r"[{]", name)[0]) for name in metrics(api)}
    assert not {name for name in named if name.startswith("agezero_") and f"`{name}" not in documented}


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
