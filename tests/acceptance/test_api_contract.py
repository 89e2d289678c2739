"""Each call of ImageKit's API, over the wire, answers as its contract says: its own clients need no change."""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from agezero.config import Config, Limits
from agezero.core.selector import Kind, Selector
from agezero.http.faults import Fault
from agezero.http.limiter import NO_LIMIT
from agezero.keys import Permission
from support.api import ENDPOINT, KEY, Api, running_api
from support.contract import PURGE, URL, emptied, has_contract_headers, metrics, problem, submit


@pytest.fixture(scope="module")
def server() -> Iterator[Api]:
    with running_api() as api:
        yield api


@pytest.fixture
def api(server: Api) -> Api:
    return emptied(server)


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


def test_spaces_around_a_url_are_no_part_of_it(api: Api) -> None:
    assert api.client.post(PURGE, json={"url": f" {URL}  "}).status_code == 201
    assert api.client.post(PURGE, data={"url": f"{URL} "}).status_code == 201
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


def test_every_metric_is_documented(api: Api) -> None:
    documented = (Path(__file__).parents[2] / "docs" / "OPERATING.md").read_text()
    named = {re.sub(r"_(bucket|count|sum)$", "", re.split(r"[{]", name)[0]) for name in metrics(api)}
    assert not {name for name in named if name.startswith("agezero_") and f"`{name}" not in documented}
