"""Whoever has a browser can do all that the console offers: every flow, in both sizes and themes, and axe on every page."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from agezero.config import Config, Webhooks
from agezero.keys import Permission
from support.api import ENDPOINT, KEY, Api, running_api
from support.browser import CHROMIUM, SIZES, accessible, running_browser, window
from support.edges import MemoryEdge
from support.programs import require
from support.receiver import running_receiver

URL = f"{ENDPOINT}/photos/cat.jpg"
FLEET = {"shield-1": 0, "varnish-1": 1, "varnish-2": 1, "squid-1": 2}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    require(CHROMIUM)
    with running_browser() as running:
        yield running


@pytest.fixture(scope="module")
def fleet() -> Mapping[str, tuple[MemoryEdge, int]]:
    return {name: (MemoryEdge(), tier) for name, tier in FLEET.items()}


@pytest.fixture(scope="module")
def server(fleet: Mapping[str, tuple[MemoryEdge, int]]) -> Iterator[Api]:
    with running_api(Config(endpoints=(ENDPOINT,), webhooks=Webhooks(allow_private=True)), fleet=fleet) as api:
        yield api


@pytest.fixture
def api(server: Api, fleet: Mapping[str, tuple[MemoryEdge, int]]) -> Iterator[Api]:
    yield server
    for edge, _ in fleet.values():
        server.within(edge.open.set)


@pytest.fixture(params=[(size, scheme) for size in SIZES for scheme in ("light", "dark")], ids="-".join)
def anywhere(request: pytest.FixtureRequest, browser: Browser) -> Iterator[Page]:
    """A window of each size in each theme."""
    with window(browser, *request.param) as page:
        yield page


def enter(page: Page, api: Api, key: str = KEY, path: str = "/console") -> None:
    page.goto(api.url + path)
    page.get_by_label("Private key").fill(key)
    page.get_by_role("button", name="Sign in").click()


def unfold(page: Page, summary: str) -> None:
    """It is open already where there is nothing else to show."""
    form = page.locator("details.panel", has_text=summary)
    expect(form).to_be_visible()
    if form.get_attribute("open") is None:
        form.get_by_text(summary).click()


def test_a_purge_from_the_form_to_its_completion(anywhere: Page, api: Api, fleet: Mapping[str, tuple[MemoryEdge, int]]) -> None:
    page = anywhere
    enter(page, api, "wrong_wrong_wrong_wrong")
    expect(page.get_by_role("alert")).to_contain_text("cannot be authenticated")
    accessible(page)
    enter(page, api)
    understood = page.get_by_label("What is understood")
    expect(understood).to_contain_text("Name what to purge")
    accessible(page)
    page.get_by_label("Names, one a line").fill(f"{URL}\nhttps://foreign.example.com/")
    expect(understood.get_by_role("alert")).to_contain_text("Line 2")
    accessible(page)
    page.get_by_label("Tags").check()
    page.get_by_label("Names, one a line").fill("cats")
    page.get_by_label("Note").fill("a new cat")
    expect(understood).to_contain_text("widened to everything on squid-1")
    accessible(page)
    for name in ("varnish-1", "varnish-2", "squid-1"):
        api.within(fleet[name][0].open.clear)
    page.get_by_role("button", name="Purge 1 selector").click()
    said = page.get_by_role("status")
    expect(said).to_contain_text(
        "1 of 4 edges confirmed. Waits for varnish-1 (still applying), varnish-2 (still applying), squid-1 (waits for tier 1)"
    )
    accessible(page)
    api.within(fleet["varnish-1"][0].open.set)
    expect(page.get_by_label("Tier 1").get_by_role("listitem").first).to_contain_text("confirmed")
    expect(said).to_contain_text("2 of 4")
    for name in ("varnish-2", "squid-1"):
        api.within(fleet[name][0].open.set)
    expect(said).to_contain_text("Completed")
    expect(page.get_by_role("table")).to_contain_text("squid-1")
    accessible(page)


PAGES = {"purges": "table", "edges": "table", "latency": "img", "keys": "table", "webhooks": "table", "audit": "table"}
"""Each with what is seen on it once there is something to see."""


def test_every_page_is_accessible(anywhere: Page, api: Api) -> None:
    purge_id = api.client.post("/v1/purges", json={"urls": [URL]}).raise_for_status().json()["id"]
    api.client.get(f"/v1/purges/{purge_id}?wait=30s").raise_for_status()
    api.keys.create("of a test", Permission.PURGE, [f"{ENDPOINT}/photos"])
    webhook = api.client.post("/v1/webhooks", json={"url": "http://127.0.0.1:9/", "events": ["edge.fenced"]}).json()["webhook"]["id"]
    api.client.post(f"/v1/webhooks/{webhook}/test").raise_for_status()
    enter(anywhere, api)
    for path, role in PAGES.items():
        anywhere.goto(f"{api.url}/console/{path}")
        expect(anywhere.get_by_role("heading", level=1)).to_have_text(path.capitalize())
        expect(anywhere.get_by_role(role).first).to_be_visible()  # type: ignore[arg-type]
        anywhere.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
        accessible(anywhere)


def test_an_empty_service_is_accessible(browser: Browser) -> None:
    with running_api(edges=0) as api, window(browser, "narrow", "dark") as page:
        enter(page, api)
        for path in PAGES:
            page.goto(f"{api.url}/console/{path}")
            expect(page.get_by_role("heading", level=1)).to_have_text(path.capitalize())
            accessible(page)
        page.goto(f"{api.url}/console/none")
        expect(page.get_by_role("alert")).to_contain_text("does not exist")
        accessible(page)


def test_the_purge_form_needs_no_mouse(browser: Browser, api: Api) -> None:
    with window(browser) as page:
        page.goto(f"{api.url}/console")
        expect(page.get_by_label("Private key")).to_be_focused()
        page.keyboard.type(KEY)
        page.keyboard.press("Enter")
        expect(page).to_have_url(f"{api.url}/console")
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        page.keyboard.press("ArrowRight")
        expect(page.get_by_label("Prefixes")).to_be_checked()
        page.keyboard.press("Tab")
        page.keyboard.type(f"{ENDPOINT}/photos/")
        send = page.get_by_role("button", name="Purge 1 selector")
        expect(send).to_be_visible()
        for _ in range(4):  # hard or soft, the note, what is understood, the button
            page.keyboard.press("Tab")
        expect(send).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.get_by_role("status")).to_contain_text("Completed")


def test_everything_asks_again(browser: Browser, api: Api) -> None:
    with window(browser) as page:
        enter(page, api)
        page.get_by_label("Everything").check()
        send = page.get_by_role("button", name="Purge everything")
        send.click()
        expect(page).to_have_url(f"{api.url}/console")
        page.get_by_label("Yes, everything").check()
        send.click()
        expect(page).to_have_url(re.compile("/console/purges/"))


def test_without_scripts_a_purge_takes_one_step_more(browser: Browser, api: Api) -> None:
    context = browser.new_context(java_script_enabled=False)
    try:
        page = context.new_page()
        enter(page, api)
        page.get_by_label("Names, one a line").fill(URL)
        page.get_by_role("button", name="Show what it means").click()
        page.get_by_role("button", name="Purge 1 selector").click()
        expect(page).to_have_url(re.compile("/console/purges/"))
    finally:
        context.close()


def test_the_edges_change_before_ones_eyes(browser: Browser, api: Api, fleet: Mapping[str, tuple[MemoryEdge, int]]) -> None:
    with window(browser) as page:
        enter(page, api, api.keys.create("reads", Permission.READ), "/console/edges")
        row = page.get_by_role("row", name="squid-1")
        expect(row).to_contain_text("leased")
        fleet["squid-1"][0].broken = "connection refused"
        try:
            api.client.post("/v1/purges", json={"urls": [URL]})
            expect(row).to_contain_text("connection refused")
        finally:
            fleet["squid-1"][0].broken = ""
        expect(row).not_to_contain_text("connection refused", timeout=20_000)


def test_a_key_is_made_shown_once_and_signs_in(browser: Browser, api: Api) -> None:
    with window(browser) as page:
        enter(page, api, path="/console/keys")
        unfold(page, "Make a key")
        page.get_by_label("Name").fill("made in a browser")
        page.get_by_label("read").check()
        page.get_by_role("button", name="Make the key").click()
        key = page.get_by_role("status").locator("code").inner_text()
        page.get_by_role("button", name="Copy").click()
        expect(page.get_by_role("button", name=re.compile("Copied|Selected"))).to_be_visible()
        page.goto(f"{api.url}/console/keys")
        expect(page.get_by_text(key)).to_have_count(0)
        page.get_by_role("button", name="Sign out").click()
        enter(page, api, key)
        expect(page.get_by_role("heading", level=1)).to_have_text("Purges")
        expect(page.get_by_role("link", name="Keys")).to_have_count(0)


def test_a_webhook_is_made_and_tested(browser: Browser, api: Api) -> None:
    with window(browser) as page, running_receiver() as receiver:
        enter(page, api, path="/console/webhooks")
        unfold(page, "Make a webhook")
        page.get_by_label("URL").fill(receiver.url)
        page.get_by_role("button", name="Make the webhook").click()
        secret = page.get_by_role("status").locator("code").inner_text()
        hook = page.get_by_role("region", name=receiver.url)
        hook.get_by_role("button", name="Send a test").click()
        expect(hook.get_by_role("status")).to_contain_text("The test was delivered")
        expect(hook.get_by_role("table")).to_contain_text("webhook.test")
        receiver.told[0].verify(secret)


def test_the_audit_is_saved_as_a_file(browser: Browser, api: Api, tmp_path: Path) -> None:
    with window(browser) as page:
        enter(page, api, path="/console/audit")
        page.get_by_label("Action").fill("console.sign_in")
        page.get_by_role("button", name="Filter").click()
        expect(page.get_by_role("row")).not_to_have_count(1)
        with page.expect_download() as saving:
            page.get_by_role("link", name="Export").click()
        saving.value.save_as(tmp_path / "audit.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    assert {row["action"] for row in rows} == {"console.sign_in"}


def test_a_purge_is_followed_over_a_restart(browser: Browser, tmp_path: Path) -> None:
    """The page is told the rest by the next service, without a hand on it; the session is still good."""
    held = MemoryEdge()
    with window(browser) as page:
        with running_api(data=tmp_path, fleet={"edge": (held, 0)}) as api:
            api.within(held.open.clear)
            purge_id = api.client.post("/v1/purges", json={"urls": [URL]}).raise_for_status().json()["id"]
            enter(page, api, path=f"/console/purges/{purge_id}")
            expect(page.get_by_role("status")).to_contain_text("0 of 1 edge confirmed")
        expect(page.get_by_text("The connection is lost")).to_be_visible()
        with running_api(data=tmp_path, fleet={"edge": (MemoryEdge(), 0)}, port=int(api.url.rpartition(":")[2])):
            expect(page.get_by_role("status")).to_contain_text("Completed", timeout=30_000)
            expect(page.get_by_text("The connection is lost")).to_be_hidden()
            expect(page.get_by_role("table")).to_contain_text("confirmed")


@pytest.mark.parametrize("guarded", [True, False])
def test_a_script_that_got_into_a_page_does_nothing_because_of_the_policy(browser: Browser, api: Api, guarded: bool) -> None:
    """As if the escaping had failed; without the policy it would run."""

    def smuggle(route: Route) -> None:
        response = route.fetch()
        headers = {name: value for name, value in response.headers.items() if guarded or name != "content-security-policy"}
        route.fulfill(response=response, headers=headers, body=response.text() + "<script>document.title = 'taken over'</script>")

    context = browser.new_context()
    try:
        page = context.new_page()
        enter(page, api)
        page.route("**/console/edges", smuggle)
        page.goto(f"{api.url}/console/edges")
        expect(page).to_have_title("Edges · AgeZero" if guarded else "taken over")
    finally:
        context.close()


def test_one_signs_out(browser: Browser, api: Api) -> None:
    with window(browser) as page:
        enter(page, api, path="/console/edges")
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_label("Private key")).to_be_visible()
        page.goto(f"{api.url}/console/purges")
        expect(page.get_by_label("Private key")).to_be_visible()
