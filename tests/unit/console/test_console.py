"""The console over plain HTTP: who gets in, what a key may see and do there, and that no other site can use it."""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from importlib import resources
from pathlib import Path

import httpx
import pytest
from limits.storage import MemoryStorage

from agezero.config import Config, Limits
from agezero.console.application import build_console
from agezero.console.assets import TYPES
from agezero.console.ended import EndedHere
from agezero.console.render import POLICY
from agezero.console.sessions import SESSION_S, Sessions
from agezero.http.attempts import Attempts
from agezero.http.limiter import RateLimit
from agezero.http.metrics import HttpMetrics
from agezero.http.parts import Parts
from agezero.keys import Permission
from support.api import ENDPOINT, KEY, Api, running_api
from support.console import audited, key_of, post, purge, seen, sign_in, signed_in, token
from support.waiting import wait_for

URL = f"{ENDPOINT}/cat.jpg"
SESSION = "agezero-session"
DOCS = Path(__file__).parents[3] / "docs"


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


@pytest.mark.parametrize("other", ['theme={"dark":true}', "two words=1", "flag", "path=/; expires=1", 'note="open', "="])
def test_what_another_program_on_this_host_keeps_in_cookies_keeps_nobody_out(api: Api, admin: httpx.Client, other: str) -> None:
    for ours in (f"{other}; {SESSION}={admin.cookies[SESSION]}", f"{SESSION}={admin.cookies[SESSION]}; {other}"):
        assert httpx.get(f"{api.url}/console/edges", headers={"Cookie": ours}).status_code == 200


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
    assert "frame-ancestors 'none'" in POLICY
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
    assert admin.post("/console", data={**fields, "form": good, "many": ["x"] * 64}).status_code == 400
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
        router = build_console(Sessions(b"s" * 32, EndedHere(connection)), parts)
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
