"""The console over plain HTTP: who gets in, what a key may see and do there, and that no other site can use it."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from importlib import resources
from pathlib import Path

import httpx
import pytest
from limits.storage import MemoryStorage

from agezero.audit import Cursor
from agezero.config import Config, Limits, Webhooks
from agezero.console.application import build_console
from agezero.console.assets import TYPES
from agezero.console.render import POLICY
from agezero.console.sessions import SESSION_S, Sessions
from agezero.http.attempts import Attempts
from agezero.http.limiter import RateLimit
from agezero.http.metrics import HttpMetrics
from agezero.http.parts import Parts
from agezero.keys import Permission
from support.api import ENDPOINT, KEY, Api, running_api
from support.console import post, sign_in, signed_in, token
from support.receiver import running_receiver
from support.sse import fragments
from support.waiting import wait_for

URL = f"{ENDPOINT}/cat.jpg"
SESSION = "agezero-session"
DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def server() -> Iterator[Api]:
    with running_api(Config(endpoints=(ENDPOINT,), limits=Limits(failed_attempts_per_min=10))) as api:
        yield api


@pytest.fixture
def api(server: Api) -> Iterator[Api]:
    yield server
    server.within(server.edge.open.set)


@pytest.fixture(scope="module")
def admin(server: Api) -> Iterator[httpx.Client]:
    with signed_in(server.url, KEY) as client:
        yield client


def key_of(api: Api, permission: Permission, endpoints: list[str] | None = None) -> str:
    return api.keys.create(permission.value, permission, endpoints)


def audited(api: Api) -> list[tuple[str, str, str]]:
    rows, _ = asyncio.run_coroutine_threadsafe(api.native.audit.page(Cursor(), 50), api.loop).result(30)
    return [(row.action, row.key_id, row.about) for row in rows]


def seen(client: httpx.Client, **fields: str) -> str:
    """The digest of what the preview shows."""
    page = post(client, "/console/preview", fields, "/console")
    match = re.search(r'name="seen" value="([0-9a-f]+)"', page.text)
    assert match, page.text
    return match[1]


def purge(client: httpx.Client, **fields: str) -> str:
    sent = post(client, "/console", {**fields, "seen": seen(client, **fields), "once": str(time.time_ns())}, "/console")
    assert sent.status_code == 303, sent.text
    return sent.headers["location"].removeprefix("/console/purges/")


# Who gets in


def test_a_session_is_a_cookie_that_no_script_and_no_other_site_can_use(api: Api) -> None:
    with httpx.Client(base_url=api.url) as client:
        answer = sign_in(client, KEY)
        assert (answer.status_code, answer.headers["location"]) == (303, "/console")
        (cookie,) = [each for each in answer.headers.get_list("set-cookie") if each.startswith(SESSION) and "Max-Age=0" not in each]
        assert cookie.split("; ")[1:] == ["Path=/console", f"Max-Age={SESSION_S}", "HttpOnly", "SameSite=Strict"]
        assert KEY not in cookie
        assert client.get("/console").status_code == 200
    wait_for(lambda: ("console.sign_in", "environment", "") in audited(api), "it is audited")


def test_under_tls_a_session_is_sent_over_nothing_else(api: Api) -> None:
    with httpx.Client(base_url=api.url) as client:
        form = token(client.get("/console/sign-in").text)
        answer = client.post("/console/sign-in", data={"form": form, "key": KEY}, headers={"Origin": "https://purge.example.com"})
    (cookie,) = [each for each in answer.headers.get_list("set-cookie") if SESSION in each and "Max-Age=0" not in each]
    assert cookie.startswith("__Secure-")
    assert cookie.endswith("; Secure")


def test_without_a_session_every_page_leads_to_the_form_and_back(api: Api) -> None:
    with httpx.Client(base_url=api.url) as client:
        for path, way in (("/console", ""), ("/console/purges?state=pending", "?next=/console/purges%3Fstate%3Dpending")):
            answer = client.get(path)
            assert (answer.status_code, answer.headers["location"]) == (303, f"/console/sign-in{way}")
        assert sign_in(client, KEY, f"/console/sign-in{way}").headers["location"] == "/console/purges?state=pending"
        part = httpx.get(f"{api.url}/console/edges", headers={"HX-Request": "true"})
        assert (part.status_code, part.headers["hx-redirect"]) == (401, "/console/sign-in")


FOREIGN = ["https://evil.example.com/", "//evil.example.com", "/console/..//evil", "/consoles", "/console\r\nX: y", "/v1/keys"]


@pytest.mark.parametrize("foreign", FOREIGN)
def test_nobody_is_led_away_after_signing_in(api: Api, foreign: str) -> None:
    with httpx.Client(base_url=api.url) as client:
        path = str(httpx.URL("/console/sign-in", params={"next": foreign}))
        location = sign_in(client, KEY, path).headers["location"]
    assert location in ("/console", "/console/..//evil"), "the latter is still of this site"


def test_a_link_on_another_site_finds_who_is_signed_in(api: Api) -> None:
    answer = httpx.get(f"{api.url}/console/edges", headers={"Sec-Fetch-Site": "cross-site"})
    assert (answer.status_code, answer.headers["refresh"]) == (200, "0"), "the browser left the cookie out; asked anew it sends it"


def test_a_wrong_key_is_a_failed_attempt_like_any_other(api: Api) -> None:
    with running_api(Config(endpoints=(ENDPOINT,), limits=Limits(failed_attempts_per_min=2))) as api, httpx.Client(base_url=api.url) as client:
        for status in (403, 403, 429):
            answer = sign_in(client, "wrong_wrong_wrong")
            assert answer.status_code == status
            assert "wrong_wrong_wrong" not in answer.text
        assert int(answer.headers["retry-after"]) > 0
        assert sign_in(client, KEY).status_code == 429, "it learns nothing more"
        assert client.get("/v1/edges", auth=("wrong_too_wrong_too", "")).status_code == 429, "the API counts with it"
        wait_for(lambda: [row[2] for row in audited(api) if row[0] == "attempt.failed"] == ["wrong_key"] * 2, "both guesses are audited")


ENDS: dict[str, Callable[[Api, str], object]] = {
    "revoke": lambda api, key_id: api.keys.revoke(key_id, time.time()),
    "disable": lambda api, key_id: api.keys.disable(key_id),
    "expire": lambda api, key_id: api.keys.expire(key_id, 1),
}


@pytest.mark.parametrize("end", ENDS)
def test_a_session_is_worth_what_its_key_is_worth(api: Api, end: str) -> None:
    made = api.keys.make(end, Permission.PURGE)
    with signed_in(api.url, made.text) as client:
        assert client.get("/console/purges").status_code == 200
        ENDS[end](api, made.key.id)
        assert client.get("/console/purges").status_code == 303


def test_who_signs_out_is_out_with_every_copy_of_the_cookie(api: Api) -> None:
    with signed_in(api.url, KEY) as client:
        copied = dict(client.cookies)
        assert post(client, "/console/sign-out", {}).headers["location"] == "/console/sign-in"
        assert SESSION not in client.cookies
    assert httpx.get(f"{api.url}/console/edges", cookies=copied).status_code == 303


def test_a_cookie_that_was_tampered_with_is_none(api: Api, admin: httpx.Client) -> None:
    whole = admin.cookies[SESSION]
    head, seal = whole.rsplit(".", 1)
    reads = api.keys.make("other", Permission.READ)
    forged = [
        f"{head}.{seal[::-1]}",
        f"{head}.",
        whole[:-1],
        whole.replace("environment", reads.key.id),
        "x",
        "",
        f"{whole}x",
        whole.replace(".", ""),
    ]
    for cookie in forged:
        assert httpx.get(f"{api.url}/console/edges", headers={"Cookie": f"{SESSION}={cookie}"}).status_code == 303, cookie


# What guards the pages

PAGES = [
    *("/console", "/console/purges", "/console/edges", "/console/latency", "/console/keys", "/console/webhooks", "/console/audit"),
    *("/console/sign-in", "/console/none"),
]


@pytest.mark.parametrize("path", PAGES)
def test_every_page_runs_scripts_and_styles_of_the_package_only(admin: httpx.Client, path: str) -> None:
    page = admin.get(path)
    assert page.headers["content-security-policy"] == POLICY
    assert (page.headers["cache-control"], page.headers["x-content-type-options"]) == ("no-store", "nosniff")
    assert "'unsafe" not in POLICY
    assert not re.search(r"<script(?![^>]*src=)|<style|\sstyle=|\son\w+=|javascript:", page.text)
    for source in re.findall(r'(?:src|href)="(/console/static/[^"]+)"', page.text):
        asset = admin.get(source)
        assert (asset.status_code, asset.headers["cache-control"]) == (200, "public, max-age=31536000, immutable")


def test_a_form_of_another_site_does_nothing(api: Api, admin: httpx.Client) -> None:
    fields = {"kind": "urls", "text": URL, "seen": seen(admin, kind="urls", text=URL), "once": "x"}
    head, good = api.log.head, token(admin.get("/console").text)
    with signed_in(api.url, KEY) as other:
        foreign = token(other.get("/console").text)
    for form in ("", "x", foreign, good + "x"):
        answer = admin.post("/console", data={**fields, "form": form})
        assert (answer.status_code, "out of date" in answer.text) == (403, True)
    for site in ("cross-site", "same-site", "none"):
        assert admin.post("/console", data={**fields, "form": good}, headers={"Sec-Fetch-Site": site}).status_code == 403
    assert admin.post("/console", json={**fields, "form": good}).status_code == 400
    assert api.log.head == head
    assert admin.post("/console", data={**fields, "form": good}, headers={"Sec-Fetch-Site": "same-origin"}).status_code == 303
    assert api.log.head == head + 1


def test_to_sign_in_takes_a_form_of_ours_too(api: Api) -> None:
    with httpx.Client(base_url=api.url) as client:
        good = token(client.get("/console/sign-in").text)
        with httpx.Client(base_url=api.url) as other:
            assert other.post("/console/sign-in", data={"form": good, "key": KEY}).status_code == 403
        assert client.post("/console/sign-in", data={"form": good + "x", "key": KEY}).status_code == 403


def test_what_somebody_smuggles_in_is_text(admin: httpx.Client) -> None:
    evil = "<script>alert(1)</script>"
    purge_id = purge(admin, kind="urls", text=URL, note=evil)
    for path in (f"/console/purges/{purge_id}", "/console/purges"):
        page = admin.get(path).text
        assert evil not in page
        assert "&lt;script&gt;alert(1)" in page


# Each guard taken out, to see that it is the one that guards


def test_without_the_tokens_another_site_could_purge(api: Api, admin: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    fields = {"kind": "urls", "text": URL, "seen": seen(admin, kind="urls", text=URL), "once": "twin"}
    monkeypatch.setattr("agezero.console.call.check_form", lambda *_: None)
    head = api.log.head
    assert admin.post("/console", data=fields, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 303
    assert api.log.head == head + 1


def test_without_the_permissions_a_key_to_read_could_make_keys(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agezero.console.call.Needs.ADMIN.allows", lambda _: True)
    with signed_in(api.url, key_of(api, Permission.READ)) as client:
        page = post(client, "/console/keys", {"name": "twin", "permission": "admin"})
    assert 'id="made"' in page.text


def test_without_the_digest_something_could_be_sent_that_was_not_shown(api: Api, admin: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agezero.console.pages.purge._digest", lambda _: "0" * 32)
    digest, head = seen(admin, kind="urls", text=URL), api.log.head
    sent = post(admin, "/console", {"kind": "urls", "text": f"{ENDPOINT}/photos/2024/*", "seen": digest, "once": "other"}, "/console")
    assert (sent.status_code, api.log.head) == (303, head + 1)


def test_without_remembering_forms_a_reload_would_make_another_key(admin: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agezero.console.once.Once.first", lambda *_: True)
    asked = {"name": "twin", "permission": "read", "once": "the same"}
    texts = [re.findall(r'id="made">([^<]+)<', post(admin, "/console/keys", asked).text) for _ in range(2)]
    assert texts[0] != texts[1]
    assert all(texts)


def test_without_ending_sessions_a_copied_cookie_would_stay_good(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Sessions, "end", lambda *_: None)
    with signed_in(api.url, KEY) as client:
        copied = dict(client.cookies)
        post(client, "/console/sign-out", {})
    assert httpx.get(f"{api.url}/console/edges", cookies=copied).status_code == 200


# What a key may

WHAT = {
    "/console": (303, 200, 200),
    "/console/purges": (200, 200, 200),
    "/console/edges": (200, 200, 200),
    "/console/latency": (200, 200, 200),
    "/console/keys": (403, 403, 200),
    "/console/webhooks": (403, 403, 200),
    "/console/audit": (403, 403, 200),
    "/console/audit/export?format=jsonl": (403, 403, 200),
    "/console/none": (404, 404, 404),
}
CHANGES = [
    *("/console/keys", "/console/keys/none/roll", "/console/keys/none/revoke", "/console/edges/remove"),
    *("/console/webhooks", "/console/webhooks/none/test", "/console/webhooks/none/rotate", "/console/webhooks/none/delete"),
]


@pytest.mark.parametrize("path", WHAT)
def test_what_each_permission_sees(api: Api, path: str) -> None:
    for permission, status in zip((Permission.READ, Permission.PURGE, Permission.ADMIN), WHAT[path], strict=True):
        with signed_in(api.url, key_of(api, permission)) as client:
            assert client.get(path).status_code == status


def test_who_may_only_read_purges_nothing(api: Api) -> None:
    head = api.log.head
    with signed_in(api.url, key_of(api, Permission.READ)) as client:
        for path in ("/console", "/console/preview"):
            answer = post(client, path, {"kind": "urls", "text": URL})
            assert (answer.status_code, "not permitted to purge" in answer.text) == (403, True)
        assert 'href="/console"' in client.get("/console/purges").text
    assert api.log.head == head


@pytest.mark.parametrize("path", CHANGES)
def test_only_admins_change_what_concerns_the_service(api: Api, admin: httpx.Client, path: str) -> None:
    with signed_in(api.url, key_of(api, Permission.PURGE)) as client:
        assert post(client, path, {"overlap": "now", "name": "x"}).status_code == 403
        assert '"/console/keys"' not in client.get("/console/edges").text, "nor are they led there"
    assert admin.post(path, data={"overlap": "now"}).status_code == 403, "without the form's token nobody does"
    assert post(admin, path, {"overlap": "now"}).status_code in (400, 404), "none of these is there"


def test_every_page_is_in_the_tables(api: Api) -> None:
    """A page that is new has to say who may see it."""
    limit = RateLimit(MemoryStorage(), "x", 0)
    parts = Parts(Config(), api.native, api.keys, HttpMetrics(), limit, limit, Attempts(0))
    with closing(sqlite3.connect(":memory:")) as connection:
        router = build_console(Sessions(b"s" * 32, connection), parts)
    paths = {re.sub(r"\{\w+\}", "none", route.path) for route in router.routes}  # type: ignore[attr-defined]
    told = {path.partition("?")[0] for path in (*WHAT, *CHANGES)}
    followed = {"/console/purges/none", "/console/purges/none/events", "/console/edges/events", "/console/preview"}
    assert paths == told - {"/console/none"} | followed | {"/console/sign-in", "/console/sign-out", "/console/static/none"}


def test_a_bound_key_sees_and_purges_its_own_only(api: Api, admin: httpx.Client) -> None:
    foreign = purge(admin, kind="urls", text=URL)
    with signed_in(api.url, key_of(api, Permission.PURGE, [f"{ENDPOINT}/mine"])) as client:
        refused = post(client, "/console/preview", {"kind": "urls", "text": URL}, "/console")
        assert "not under an endpoint of this key" in refused.text
        mine = purge(client, kind="urls", text=f"{ENDPOINT}/mine/a")
        assert client.get(f"/console/purges/{mine}").status_code == 200
        assert client.get(f"/console/purges/{foreign}").status_code == 404
        assert client.get(f"/console/purges/{foreign}/events").status_code == 404
        listed = client.get("/console/purges").text
        assert (mine in listed, foreign in listed) == (True, False)


# Purge


def test_the_preview_shows_what_is_understood_and_what_is_widened(admin: httpx.Client) -> None:
    page = post(admin, "/console/preview", {"kind": "urls", "text": f"HTTPS://CDN.example.com:443/site/a b\n{URL}*\n"}, "/console").text
    assert "cdn.example.com/site/a%20b" in page
    assert '<span class="kind">prefix</span> <code>cdn.example.com/site/cat.jpg</code>' in page
    page = post(admin, "/console/preview", {"kind": "tags", "text": "cats", "mode": "soft"}, "/console").text
    assert "widened to everything on edge" in page
    assert "hard on edge: it does no soft purges" in page


def test_the_preview_names_the_line_that_is_wrong(admin: httpx.Client) -> None:
    page = post(admin, "/console/preview", {"kind": "urls", "text": f"{URL}\n\nnonsense"}, "/console").text
    assert "Line 2, nonsense" in page
    assert "Line 1" not in page


def test_nothing_is_sent_that_was_not_shown(api: Api, admin: httpx.Client) -> None:
    head, fields = api.log.head, {"kind": "urls", "text": URL}
    digest = seen(admin, **fields)
    for changed in ({"seen": ""}, {"seen": digest, "text": f"{ENDPOINT}/photos/2024/*"}, {"seen": digest, "mode": "soft"}):
        answer = post(admin, "/console", {**fields, **changed}, "/console")
        assert (answer.status_code, "Nothing was sent yet" in answer.text) == (200, True)
    assert api.log.head == head


def test_purges_are_limited_together_with_the_apis() -> None:
    with running_api(Config(endpoints=(ENDPOINT,), limits=Limits(purges_per_s=1))) as api, signed_in(api.url, KEY) as client:
        fields = {"kind": "urls", "text": URL, "seen": seen(client, kind="urls", text=URL)}
        sent = [post(client, "/console", {**fields, "once": str(number)}, "/console").status_code for number in range(30)]
    assert {303, 429} == set(sent)


def test_everything_is_said_twice(api: Api, admin: httpx.Client) -> None:
    head, fields = api.log.head, {"kind": "everything"}
    fields["seen"] = seen(admin, **fields)
    assert "Nothing was sent yet" in post(admin, "/console", fields, "/console").text
    assert api.log.head == head
    assert post(admin, "/console", {**fields, "sure": "yes"}, "/console").status_code == 303


def test_a_form_that_is_sent_twice_purges_once(api: Api, admin: httpx.Client) -> None:
    fields = {"kind": "urls", "text": URL, "seen": seen(admin, kind="urls", text=URL), "once": "the same form"}
    head = api.log.head
    first, second = (post(admin, "/console", fields, "/console").headers["location"] for _ in range(2))
    assert (first, api.log.head) == (second, head + 1)


def test_a_purge_is_followed_and_a_reader_that_comes_back_is_told_only_news(api: Api, admin: httpx.Client) -> None:
    api.within(api.edge.open.clear)
    purge_id = purge(admin, kind="urls", text=URL, note="followed")
    assert "0 of 1 edge" in admin.get(f"/console/purges/{purge_id}").text
    path = f"/console/purges/{purge_id}/events"
    with admin.stream("GET", path) as response:
        stream = fragments(response)
        said, progress = next(stream), next(stream)
        assert (said.name, progress.name, said.id) == ("said", "progress", "")
        assert "Waits for edge (still applying)" in said.data
    with admin.stream("GET", path, headers={"Last-Event-ID": progress.id}) as response:
        stream = fragments(response)
        api.within(api.edge.open.set)
        said, progress, ended = next(stream), next(stream), next(stream)
        assert "no edge serves what it stored before" in said.data
        assert ended.name == "ended"
        assert 'class="badge ok"' in progress.data
    page = admin.get(f"/console/purges/{purge_id}").text
    assert "sse-connect" not in page, "nothing more will happen"
    assert "followed" in page


def test_the_history_filters_and_goes_on(admin: httpx.Client) -> None:
    made = [purge(admin, kind="tags", text="listed") for _ in range(52)]
    page = admin.get("/console/purges?tag=listed&state=").text
    assert [purge_id in page for purge_id in made] == [False] * 2 + [True] * 50
    match = re.search(r'href="(/console/purges\?tag=listed[^"]*cursor=[^"]*)"', page)
    assert match
    older = admin.get(match[1].replace("&amp;", "&")).text
    assert [purge_id in older for purge_id in made] == [True] * 2 + [False] * 50
    assert "No purge is like that" in admin.get("/console/purges?tag=none").text
    assert admin.get("/console/purges?state=done").status_code == 400
    assert admin.get("/console/purges?cursor=1").status_code == 400


def test_the_edges_are_told_anew_when_they_change_and_no_longer_than_the_session_lasts(api: Api) -> None:
    made = api.keys.make("watches", Permission.READ)
    with signed_in(api.url, made.text) as client, client.stream("GET", "/console/edges/events") as response:
        stream = fragments(response)
        assert "0 behind" in next(stream).data
        api.edge.broken = "the disk is on fire"
        try:
            api.client.post("/v1/purges", json={"urls": [URL]})
            assert any("the disk is on fire" in told.data for told in stream)
        finally:
            api.edge.broken = ""
        api.keys.revoke(made.key.id, time.time())
        for _ in stream:  # it ends
            pass


# Latency


def test_the_latency_of_every_edge_is_plotted_and_told_in_a_table(api: Api, admin: httpx.Client) -> None:
    api.client.get(f"/v1/purges/{purge(admin, kind='urls', text=URL)}?wait=30s")
    page = admin.get("/console/latency?range=5m").text
    assert re.search(r'<svg role="img" aria-label="edge: latency. Median [^"]+ of \d+ purges', page)
    assert re.search(r'data-label="edge" class="num">[^<]+ / [^<]+</td>', page)
    api.within(api.edge.open.clear)
    purge(admin, kind="urls", text=URL)
    assert "1 selector pending" in admin.get("/console/latency").text, "what has not ended is in no plot"
    assert admin.get("/console/latency?range=1y").status_code == 400


def test_a_bound_key_sees_its_own_latency_only(api: Api, admin: httpx.Client) -> None:
    purge(admin, kind="urls", text=URL)
    with signed_in(api.url, key_of(api, Permission.READ, [f"{ENDPOINT}/nothing"])) as client:
        assert "No purge was completed" in client.get("/console/latency").text


# Keys


def test_a_key_lives_in_the_console(api: Api, admin: httpx.Client) -> None:
    asked = {"name": "deploy <1>", "permission": "purge", "endpoints": f"{ENDPOINT}/a\n\n{ENDPOINT}/b", "ends": "86400", "once": "k1"}
    page = post(admin, "/console/keys", asked).text
    (text,) = re.findall(r'<code id="made">(private_[^<]+)</code>', page)
    key = api.keys.verify(text, time.time())
    assert (key.name, key.permission, key.endpoints) == ("deploy <1>", "purge", (f"{ENDPOINT}/a", f"{ENDPOINT}/b"))  # type: ignore[union-attr]
    assert "sent already" in post(admin, "/console/keys", asked).text, "a reload makes no other one"
    assert text not in admin.get("/console/keys").text, "it is shown once"
    key_id = key.id  # type: ignore[union-attr]
    rolled = post(admin, f"/console/keys/{key_id}/roll", {"overlap": "now", "once": "k2"}).text
    (successor,) = re.findall(r'<code id="made">(private_[^<]+)</code>', rolled)
    assert api.keys.verify(text, time.time()) == "unknown"
    new_id = api.keys.verify(successor, time.time()).id  # type: ignore[union-attr]
    assert post(admin, f"/console/keys/{new_id}/revoke", {}).status_code == 303
    assert api.keys.verify(successor, time.time()) == "unknown"
    wait_for(lambda: ("key.revoke", "environment", new_id) in audited(api), "as the API's, it is audited")


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"name": ""}, "length"),
        ({"permission": "root"}, "Invalid enum value"),
        ({"endpoints": "nonsense"}, "The endpoint"),
        ({"permission": "admin", "endpoints": ENDPOINT}, "can&#39;t be bound to endpoints"),
    ],
)
def test_a_key_that_is_not_possible_is_not_made(api: Api, admin: httpx.Client, wrong: dict[str, str], why: str) -> None:
    before = len(api.keys.list())
    answer = post(admin, "/console/keys", {"name": "x", "permission": "read", **wrong})
    assert (answer.status_code, why in answer.text) == (400, True), answer.text
    assert len(api.keys.list()) == before


# Webhooks


def test_a_webhook_lives_in_the_console() -> None:
    with running_receiver() as receiver, running_api(Config(webhooks=Webhooks(allow_private=True))) as api, signed_in(api.url, KEY) as admin:
        assert "No program is told anything yet" in admin.get("/console/webhooks").text
        page = post(admin, "/console/webhooks", {"url": receiver.url, "events": "edge.fenced", "once": "w1"}).text
        (secret,) = re.findall(r'<code id="secret">(whsec_[^<]+)</code>', page)
        (webhook_id,) = api.native.webhooks.store.webhooks
        tested = post(admin, f"/console/webhooks/{webhook_id}/test", {})
        assert "The test was delivered" in tested.text
        receiver.told[0].verify(secret)
        receiver.answer = 500
        part = admin.post(f"/console/webhooks/{webhook_id}/test", data={"form": token(page)}, headers={"HX-Request": "true"})
        assert "answered 500" in part.text
        assert "<html" not in part.text
        assert 'class="badge bad"' in admin.get("/console/webhooks").text, "what failed is seen later too"
        page = post(admin, f"/console/webhooks/{webhook_id}/rotate", {"overlap": "now", "once": "w2"}).text
        assert re.search(r'<code id="secret">whsec_', page)
        assert secret not in page
        assert post(admin, f"/console/webhooks/{webhook_id}/delete", {}).status_code == 303
        assert not api.native.webhooks.store.webhooks


def test_a_webhook_that_is_not_possible_is_not_made(api: Api, admin: httpx.Client) -> None:
    for fields in ({"url": "http://127.0.0.1/", "events": "edge.fenced"}, {"url": "https://ci.example.com/"}, {"url": "", "events": "no.such"}):
        answer = post(admin, "/console/webhooks", fields)
        assert (answer.status_code, 'role="alert"' in answer.text) == (400, True)
    assert not api.native.webhooks.store.webhooks


# Audit


def test_the_audit_filters_and_is_exported(api: Api, admin: httpx.Client) -> None:
    made = api.client.post("/v1/keys", json={"name": "audited", "permission": "read"}).json()["key"]["id"]
    wait_for(lambda: made in admin.get("/console/audit?action=key.create").text, "it is there")
    assert made not in admin.get("/console/audit?action=purge").text
    assert "Nothing is like that" in admin.get("/console/audit?key=nobody&action=").text
    with signed_in(api.url, KEY):
        pass
    lines = admin.get("/console/audit/export?action=key.&format=jsonl")
    assert lines.headers["content-disposition"] == 'attachment; filename="audit.jsonl"'
    rows = [json.loads(line) for line in lines.text.splitlines()]
    assert {row["action"].partition(".")[0] for row in rows} == {"key"}
    assert api.client.get("/v1/audit?action=key.&limit=1").json()["rows"][0]["about"], "the API filters too"
    assert admin.get("/console/audit?cursor=x").status_code == 400


def test_an_edge_is_removed_by_hand() -> None:
    with running_api(edges=1) as api, signed_in(api.url, KEY) as admin:
        assert post(admin, "/console/edges/remove", {"name": "none"}).status_code == 404
        assert post(admin, "/console/edges/remove", {"name": "edge"}).status_code == 303
        wait_for(lambda: ("edge.remove", "environment", "edge") in audited(api), "it is audited")


def test_empty_states_say_what_to_do_first() -> None:
    with running_api(edges=0) as api, signed_in(api.url, KEY) as client:
        assert "agezero up --origin" in client.get("/console/edges").text
        assert "Nothing was purged yet" in client.get("/console/purges").text
        assert "Name what to purge" in client.get("/console").text
        assert "nothing to plot yet" in client.get("/console/latency").text
        assert "Make one for each script" in client.get("/console/keys").text


def test_the_pictures_of_the_documentation_are_there_and_small() -> None:
    page = DOCS / "CONSOLE.md"
    pictures = re.findall(r"\]\((images/[^)]+)\)", page.read_text())
    assert len(pictures) == 3
    assert all(0 < (DOCS / picture).stat().st_size < 200_000 for picture in pictures)


def test_what_others_wrote_is_here_with_its_licence() -> None:
    folder = resources.files("agezero.console") / "static"
    for script in (name for name in TYPES if name.startswith("htmx")):
        assert "Permission to use, copy, modify" in (folder / f"{script.removesuffix('.min.js')}.LICENSE").read_text()


def test_what_is_not_there_says_so(admin: httpx.Client) -> None:
    assert admin.get("/console/purges/" + "0" * 24).status_code == 404
    assert admin.get("/console/static/none.js").status_code == 404
    assert admin.get("/console/static/console.css").headers["cache-control"] == "no-cache"
    assert admin.delete("/console/edges").status_code == 405
