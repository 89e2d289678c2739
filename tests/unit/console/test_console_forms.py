"""The console's pages over plain HTTP: what they show, and what is done by their forms."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import httpx
import pytest

from agezero.config import Config, Limits, Webhooks
from agezero.keys import Permission
from support.api import ENDPOINT, KEY, Api, running_api
from support.console import audited, key_of, post, purge, seen, signed_in, token
from support.receiver import running_receiver
from support.sse import fragments
from support.waiting import wait_for

URL = f"{ENDPOINT}/cat.jpg"
SESSION = "agezero-session"
DOCS = Path(__file__).parents[3] / "docs"


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


def test_pages_are_limited_as_statuses_are() -> None:
    with running_api(Config(endpoints=(ENDPOINT,), limits=Limits(status_per_s=1))) as api, signed_in(api.url, KEY) as client:
        assert {200, 429} == {client.get("/console/edges").status_code for _ in range(30)}


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
