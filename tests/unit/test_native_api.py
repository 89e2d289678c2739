"""The native API over HTTP: what is accepted, what is told of it, to whom."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from agezero.keys import Permission
from agezero.ports import LogUnavailable
from support.api import ENDPOINT, KEY, Api, running_api
from support.waiting import wait_for

URL = f"{ENDPOINT}/cat.jpg"
ID = re.compile(r"[0-9a-f]{24}")


@pytest.fixture(scope="module")
def server() -> Iterator[Api]:
    with running_api() as api:
        yield api


@pytest.fixture
def api(server: Api) -> Iterator[Api]:
    yield server
    server.within(server.edge.open.set)


def post(api: Api, status: int = 201, headers: dict[str, str | bytes] | None = None, **body: Any) -> dict[str, Any]:
    response = api.client.post("/v1/purges", json=body, headers=headers)  # type: ignore[arg-type]
    assert response.status_code == status, response.text
    kind = "application/json" if status < 300 else "application/problem+json"
    assert response.headers["content-type"] == kind
    assert response.headers["x-ik-requestid"]
    found: dict[str, Any] = response.json()
    return found


def detail(api: Api, purge_id: str, **query: str) -> dict[str, Any]:
    found: dict[str, Any] = api.client.get(f"/v1/purges/{purge_id}", params=query).raise_for_status().json()
    return found


def test_a_purge_of_several_selectors_has_one_id_and_is_completed_as_one(api: Api) -> None:
    accepted = post(api, urls=[URL, f"{ENDPOINT}/photos/2024/*"], tags=["cats"], note="new cats")
    assert ID.fullmatch(accepted["id"])
    assert [named["kind"] for named in accepted["selectors"]] == ["url", "prefix", "tag"]
    assert accepted["warnings"] == ["widened to everything on edge"], "the edge knows no tags"
    found = detail(api, accepted["id"], wait="30s")
    assert (found["state"], found["retained"], found["mode"], found["note"], found["key"]) == ("completed", True, "hard", "new cats", "environment")
    assert found["selectors"] == accepted["selectors"]
    times = [found["accepted_at"], found["first_edge_at"], found["last_edge_at"], found["completed_at"]]
    assert all(times)
    assert times == sorted(times)
    (edge,) = found["edges"]
    assert (edge["name"], edge["state"], edge["widened"], edge["why"]) == ("edge", "confirmed", ["everything"], "")
    assert edge["confirmed_at"] == found["first_edge_at"]


def test_a_soft_purge_is_hard_where_an_edge_knows_no_soft_ones_and_says_so(api: Api) -> None:
    accepted = post(api, urls=[URL], mode="soft")
    assert accepted["warnings"] == ["hard on edge: it does no soft purges"]
    detail(api, accepted["id"], wait="30s")
    assert not api.edge.applied[-1].soft
    assert detail(api, accepted["id"])["mode"] == "soft"


def test_a_dry_run_does_nothing(api: Api) -> None:
    head = api.log.head
    said = post(api, 200, assets=[URL], dry_run=True)
    assert said["id"] is None
    assert said["dry_run"]
    assert said["selectors"][0] == {"kind": "prefix", "value": "cdn.example.com/site/cat.jpg"}
    assert "path transformations of other files" in said["warnings"][0]
    assert api.log.head == head


def test_an_idempotency_key_makes_a_second_one_the_same(api: Api) -> None:
    first = api.client.post("/v1/purges", json={"urls": [URL], "note": "x"}, headers={"Idempotency-Key": "once"})
    head = api.log.head
    again = api.client.post("/v1/purges", content=b'{"note":"x",  "urls":["%b"]}' % URL.encode(), headers={"Idempotency-Key": "once"})
    assert (again.status_code, again.json()) == (201, first.json())
    assert (first.headers.get("idempotency-replayed"), again.headers["idempotency-replayed"]) == (None, "true")
    assert first.headers["location"] == f"/v1/purges/{first.json()['id']}"
    assert post(api, 422, {"Idempotency-Key": "once"}, urls=[URL])["type"] == "urn:agezero:problem:idempotency-conflict"
    for wrong in ("x" * 256, "x y", "", b"\xd7\xf8"):
        assert post(api, 400, {"Idempotency-Key": wrong}, urls=[URL])["type"].endswith("invalid-parameter")
    assert api.log.head == head


@pytest.mark.parametrize("path", ["/v1/purges", "/v1/keys", "/v1/webhooks"])
def test_a_body_that_is_not_understood_is_not_answered_with_what_another_call_takes(api: Api, path: str) -> None:
    refused = api.client.post(path, content=b"{").json()
    assert refused["type"] == "urn:agezero:problem:invalid-body"
    assert "GET /openapi.json" in refused["hint"]
    assert '"url"' not in refused["hint"]


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        (b"", 400, "invalid-body"),
        (b"[]", 400, "invalid-body"),
        (b'{"urls":"x"}', 400, "invalid-body"),
        (b'{"uris":[]}', 400, "invalid-body"),
        (b'{"everything":true,"mode":"medium"}', 400, "invalid-body"),
        (b'{"everything":true,"note":"' + b"x" * 501 + b'"}', 400, "invalid-body"),
        (b'{"urls":["\xff"]}', 400, "invalid-body"),
        (b"[" * 100_000, 400, "invalid-body"),
        (b"{}", 422, "selector-invalid"),
        (b'{"urls":["x"]}', 422, "selector-invalid"),
        (b'{"urls":["https://foreign.example.com/"]}', 403, "selector-forbidden"),
        (b'{"note":"' + b" " * (1 << 20) + b'"}', 413, "purge-too-large"),
    ],
)
def test_what_is_refused_and_as_what(api: Api, body: bytes, status: int, kind: str) -> None:
    head = api.log.head
    response = api.client.post("/v1/purges", content=body)
    problem = response.json()
    assert (response.status_code, problem["status"], problem["type"]) == (status, status, f"urn:agezero:problem:{kind}")
    assert response.headers["content-type"] == "application/problem+json"
    assert problem["title"]
    assert problem["hint"]
    assert api.log.head == head


def test_a_problem_names_every_selector_that_is_wrong(api: Api) -> None:
    problem = post(api, 422, urls=[URL, "x"], hosts=["a/b"])
    assert [error["where"] for error in problem["errors"]] == ["urls/1", "hosts/0"]


def test_a_full_log_takes_nothing(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    async def full(_: object) -> None:
        raise LogUnavailable("disk full")

    monkeypatch.setattr(api.log, "append_many", full)
    response = api.client.post("/v1/purges", json={"urls": [URL]})
    assert (response.status_code, response.headers["retry-after"]) == (503, "5")


def test_a_pending_purge_says_who_holds_it_up_and_a_long_poll_is_answered_once_it_is_completed(api: Api) -> None:
    api.within(api.edge.open.clear)
    purge_id = post(api, urls=[URL])["id"]
    found = detail(api, purge_id)
    assert (found["state"], found["completed_at"], found["edges"][0]["state"], found["edges"][0]["why"]) == (
        "pending",
        None,
        "pending",
        "still applying",
    )
    assert detail(api, purge_id, wait="0.1s")["state"] == "pending"
    states: list[str] = []
    polling = threading.Thread(target=lambda: states.append(detail(api, purge_id, wait="60s")["state"]))
    polling.start()
    wait_for(lambda: api.native.journal.progress._waiting, "it waits")
    api.within(api.edge.open.set)
    polling.join(30)
    assert states == ["completed"]


def test_an_edge_that_fails_is_named_with_its_trouble(api: Api) -> None:
    api.edge.broken = "the disk is on fire"
    try:
        purge_id = post(api, urls=[URL])["id"]
        wait_for(lambda: detail(api, purge_id)["edges"][0]["why"] == "the disk is on fire", "the trouble is told")
    finally:
        api.edge.broken = ""
    assert detail(api, purge_id, wait="60s")["state"] == "completed"


@pytest.mark.parametrize("purge_id", ["0" * 24, "nonsense", "%2e%2e"])
def test_an_unknown_id(api: Api, purge_id: str) -> None:
    response = api.client.get(f"/v1/purges/{purge_id}")
    assert (response.status_code, response.json()["type"]) == (404, "urn:agezero:problem:no-such-purge")


def test_the_list_filters_and_goes_on_by_cursor(api: Api) -> None:
    tagged = post(api, tags=["listed"])["id"]
    named = [post(api, urls=[f"{ENDPOINT}/listed/{number}"])["id"] for number in range(3)]
    prefix = post(api, prefixes=[f"{ENDPOINT}/listed/"])["id"]
    detail(api, prefix, wait="30s")

    def listed(**query: str) -> list[str]:
        page = api.client.get("/v1/purges", params=query).raise_for_status().json()
        return [purge["id"] for purge in page["purges"]]

    assert listed(limit="5") == [prefix, *reversed(named), tagged]
    assert listed(tag="listed") == [tagged]
    assert listed(url=f"{ENDPOINT}/listed/1") == [prefix, named[1]]
    assert listed(key="nobody") == []
    assert listed(since="2100-01-01T00:00:00Z") == []
    assert listed(since="2001-01-01T00:00:00+01:00", limit="1") == [prefix]
    assert listed(state="pending") == []
    assert listed(state="completed", limit="1") == [prefix]
    found: list[str] = []
    cursor = None
    while len(found) < 5:
        page = api.client.get("/v1/purges", params={"limit": "2"} | ({"cursor": cursor} if cursor else {})).json()
        found += [purge["id"] for purge in page["purges"]]
        cursor = page["cursor"]
    assert found[:5] == [prefix, *reversed(named), tagged]
    api.within(api.edge.open.clear)
    pending = post(api, urls=[URL])["id"]
    assert listed(state="pending") == [pending]
    assert listed(state="completed", limit="1") == [prefix]


@pytest.mark.parametrize(
    "query",
    [
        *("state=done", "limit=0", "limit=201", "limit=x", "since=yesterday", "since=2026-01-01T00:00:00"),
        *("cursor=1", "url=x", "tags=a", "tag=", "tag=a&tag=b"),
    ],
)
def test_a_filter_that_is_not_understood_is_refused(api: Api, query: str) -> None:
    response = api.client.get(f"/v1/purges?{query}")
    assert (response.status_code, response.json()["type"]) == (400, "urn:agezero:problem:invalid-parameter")


@pytest.mark.parametrize("wait", ["30", "0s", "61s", "1m", "0.05s", "-1s"])
def test_a_wait_has_its_bounds(api: Api, wait: str) -> None:
    assert api.client.get(f"/v1/purges/{'0' * 24}?wait={wait}").status_code == 400


def test_a_bound_key_sees_and_purges_its_own_endpoint_only(api: Api) -> None:
    key = api.keys.create("bound", Permission.WRITE, [f"{ENDPOINT}/mine"], None)
    mine = httpx.Client(base_url=api.url, auth=(key, ""))
    other = post(api, urls=[URL])["id"]
    for body in ({"urls": [URL]}, {"tags": ["t"]}, {"everything": True}, {"hosts": ["cdn.example.com"]}, {"urls": [f"{ENDPOINT}/mine/a", URL]}):
        assert mine.post("/v1/purges", json=body).status_code == 403
    own = mine.post("/v1/purges", json={"urls": [f"{ENDPOINT}/mine/a"]}).json()["id"]
    assert mine.get(f"/v1/purges/{own}").status_code == 200
    assert mine.get(f"/v1/purges/{other}").status_code == 404
    assert mine.get(f"/v1/purges/{other}/events").status_code == 404
    assert [purge["id"] for purge in mine.get("/v1/purges").json()["purges"]] == [own]
    assert mine.get("/v1/audit").status_code == 403
    mine.close()


def test_who_may_only_read_reads(api: Api) -> None:
    reads = httpx.Client(base_url=api.url, auth=(api.keys.create("reads", Permission.READ, None, None), ""))
    assert reads.post("/v1/purges", json={"urls": [URL]}).status_code == 403
    assert reads.get("/v1/purges").status_code == 200
    assert reads.get("/v1/audit").status_code == 403
    reads.close()


@pytest.mark.parametrize("path", ["/v1/purges", f"/v1/purges/{'0' * 24}", f"/v1/purges/{'0' * 24}/events", "/v1/events", "/v1/audit"])
def test_nothing_without_a_key(api: Api, path: str) -> None:
    without, wrong = httpx.get(api.url + path), httpx.get(api.url + path, auth=("private_wrong_wrong_wrong", ""))
    assert (without.status_code, wrong.status_code) == (401, 403)
    assert without.headers["www-authenticate"].startswith("Basic")
    assert without.headers["content-type"] == "application/problem+json"


def test_what_imagekits_call_took_is_told_too(api: Api) -> None:
    """That call stands before purges in memory here, so the control side is asked as it would be."""
    import asyncio

    from agezero.core.selector import Kind, Selector

    selector = Selector(Kind.URL, "cdn.example.com/site/by-imagekit")
    submitted = api.control.submit(selector, "environment", address="192.0.2.9")
    purge_id = asyncio.run_coroutine_threadsafe(submitted, api.loop).result(30)
    assert detail(api, purge_id, wait="30s")["selectors"] == [{"kind": "url", "value": selector.value}]
    assert api.control.completed(purge_id), "one id, both calls"
    accepted = post(api, urls=[URL, URL + "2"])["id"]
    detail(api, accepted, wait="30s")
    assert api.control.completed(accepted)


def test_the_audit_tells_of_purges_and_of_all_that_was_recorded(api: Api) -> None:
    api.purges.fleet = [*api.purges.fleet[:1]]
    post(api, urls=[URL, URL + "1"], note="audited")
    assert api.client.delete("/v1/edges/edge").status_code == 204
    api.within(lambda: api.native.audit.note("auth.failed", "", "192.0.2.7", "GET /v1/edges"))

    def rows() -> list[dict[str, str]]:
        found: list[dict[str, str]] = api.client.get("/v1/audit?limit=3").raise_for_status().json()["rows"]
        return found if found[0]["action"] == "auth.failed" else []

    failed, removed, purged = wait_for(rows, "the notes are written")
    assert (failed["address"], failed["key"]) == ("192.0.2.7", "")
    assert (removed["action"], removed["key"], removed["address"], removed["about"]) == ("edge.remove", "environment", "127.0.0.1", "edge")
    assert (purged["action"], purged["key"], purged["address"]) == ("purge", "environment", "127.0.0.1")
    assert purged["about"] == "url cdn.example.com/site/cat.jpg and 1 more (hard): audited"
    lines = api.client.get("/v1/audit?format=jsonl")
    assert lines.headers["content-type"] == "application/jsonl"
    paged, cursor = [], ""
    while cursor is not None:
        page = api.client.get("/v1/audit?limit=7" + (f"&cursor={cursor}" if cursor else "")).json()
        paged += page["rows"]
        cursor = page["cursor"]
    assert [httpx.Response(200, text=line).json() for line in lines.text.splitlines()] == paged
    assert api.client.get("/v1/audit?cursor=x").status_code == 400


def test_what_retention_removed_is_still_completed(monkeypatch: pytest.MonkeyPatch) -> None:
    with running_api() as api:
        purge_id = post(api, urls=[URL])["id"]
        detail(api, purge_id, wait="30s")
        api.within(lambda: api.log.connection.execute("DELETE FROM purge"))
        found = detail(api, purge_id)
        assert (found["state"], found["retained"], found["selectors"]) == ("completed", False, [])
        monkeypatch.setattr(api.control.recovered, "is_set", lambda: False)
        for path in ("/v1/purges", f"/v1/purges/{purge_id}"):
            assert api.client.get(path).status_code == 503


def test_a_head_request_of_a_stream_ends(api: Api) -> None:
    response = api.client.head("/v1/events")
    assert (response.status_code, response.headers["content-type"], response.content) == (200, "text/event-stream", b"")


def test_a_key_is_in_no_audit(api: Api) -> None:
    post(api, urls=[URL])
    assert KEY not in api.client.get("/v1/audit?format=jsonl").text
