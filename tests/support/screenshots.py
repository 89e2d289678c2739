"""Pictures of the console, from a fleet in memory. ``python -m support.screenshots`` renews those of the documentation;
``--all FOLDER`` takes every page in both sizes and themes, to be looked at."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Browser, Page, expect

from agezero.config import Config, Webhooks
from agezero.core.selector import Kind
from agezero.ports import Capabilities
from support.api import ENDPOINT, KEY, Api, running_api
from support.browser import SIZES, running_browser, window
from support.edges import MemoryEdge
from support.receiver import running_receiver

IMAGES = Path(__file__).parents[2] / "docs" / "images"
PHOTO = f"{ENDPOINT}/photos/cat.jpg"
ALL = frozenset(Kind)
VARNISH = Capabilities(exact=ALL, fences=True, restores=False, soft=True, method="bans")
TABLE = Capabilities(exact=ALL, fences=True, restores=True, method="table")
SQUID = Capabilities(exact=ALL - {Kind.TAG}, fences=True, restores=True, method="table")
FLEET = {"shield-1": (VARNISH, 0), "fra-1": (TABLE, 1), "fra-2": (TABLE, 1), "nyc-1": (VARNISH, 1), "squid-1": (SQUID, 2)}


@dataclass
class Shown(MemoryEdge):
    """An edge that does what a driver of that name does."""

    can: Capabilities = TABLE

    @property
    def capabilities(self) -> Capabilities:
        return self.can


def _fleet() -> dict[str, tuple[Shown, int]]:
    return {name: (Shown(can=can), tier) for name, (can, tier) in FLEET.items()}


class Camera:
    """One window, signed in."""

    def __init__(self, page: Page, api: Api, fleet: Mapping[str, tuple[Shown, int]], folder: Path, suffix: str) -> None:
        self.page, self.api, self.fleet, self.folder, self.suffix = page, api, fleet, folder, suffix

    def go(self, path: str) -> None:
        self.page.goto(self.api.url + path)
        if self.page.get_by_label("Private key").is_visible():
            self.page.get_by_label("Private key").fill(KEY)
            self.page.get_by_role("button", name="Sign in").click()
            self.page.goto(self.api.url + path)

    def take(self, name: str, *, whole: bool = False) -> None:
        self.page.screenshot(path=self.folder / f"{name}{self.suffix}.png", full_page=whole)

    def hold(self, *names: str) -> None:
        for name in names:
            self.api.within(self.fleet[name][0].open.clear)

    def let_go(self) -> None:
        for edge, _ in self.fleet.values():
            self.api.within(edge.open.set)

    def form(self) -> None:
        self.go("/console")
        self.page.get_by_label("Tags").check()
        self.page.get_by_label("Names, one a line").fill("cats\nproduct-42")
        self.page.get_by_label("Note").fill("the cat has a new photo")
        expect(self.page.get_by_role("button", name="Purge 2 selectors")).to_be_visible()

    def live(self) -> None:
        """A purge on its way: the shield and one edge have it."""
        self.form()
        self.hold("fra-2", "nyc-1", "squid-1")
        self.page.get_by_role("button", name="Purge 2 selectors").click()
        expect(self.page.get_by_role("status")).to_contain_text("2 of 5")

    def edges(self) -> None:
        """One of them is fenced."""
        self.fleet["squid-1"][0].broken = "127.0.0.1:3128 refuses the connection"
        self.go("/console/edges")
        expect(self.page.get_by_role("row", name="squid-1").locator(".badge")).to_have_text("fenced", timeout=30_000)


def _purges_of_half_a_minute(api: Api, fleet: Mapping[str, tuple[Shown, int]]) -> None:
    """So that there is something to plot."""
    dice = random.Random(7)
    for number in range(40):
        edge = fleet["squid-1"][0]
        if number in (12, 27):
            api.within(edge.open.clear)
        for _ in range(dice.randint(1, 4)):
            body = {"urls": [f"{ENDPOINT}/photos/{dice.randrange(99)}.jpg"], "note": f"release {number}"}
            api.client.post("/v1/purges", json=body).raise_for_status()
        time.sleep(0.7)
        api.within(edge.open.set)


def _admin(api: Api, receiver: str) -> None:
    api.client.post("/v1/keys", json={"name": "deploy", "permission": "purge", "endpoints": [f"{ENDPOINT}/photos"], "expires_in_s": 90 * 86_400})
    api.keys.disable(api.client.post("/v1/keys", json={"name": "dashboard", "permission": "read"}).json()["key"]["id"])
    for url, event in ((f"{receiver}/purged", "purge.completed"), ("http://127.0.0.1:9/nobody", "purge.blocked")):
        api.client.post("/v1/webhooks", json={"url": url, "events": [event, "edge.fenced"]}).raise_for_status()


def for_the_documentation(browser: Browser, api: Api, fleet: Mapping[str, tuple[Shown, int]], folder: Path) -> None:
    with window(browser, "wide", "light") as page:
        camera = Camera(page, api, fleet, folder, "")
        camera.live()
        camera.take("console-live")
        camera.let_go()
    with window(browser, "narrow", "light") as page:
        camera = Camera(page, api, fleet, folder, "")
        camera.form()
        camera.take("console-purge", whole=True)
    with window(browser, "wide", "dark") as page:
        camera = Camera(page, api, fleet, folder, "")
        camera.edges()
        camera.take("console-edges")


def everything(browser: Browser, api: Api, fleet: Mapping[str, tuple[Shown, int]], folder: Path) -> None:
    with running_receiver() as receiver:
        _admin(api, receiver.url)
        _purges_of_half_a_minute(api, fleet)
        for size, scheme in [(size, scheme) for scheme in ("light", "dark") for size in SIZES]:
            with window(browser, size, scheme) as page:
                _all_pages(Camera(page, api, fleet, folder, f"-{size}-{scheme}"))


def _all_pages(camera: Camera) -> None:
    page = camera.page
    page.goto(camera.api.url + "/console")
    camera.take("sign-in")
    page.get_by_label("Private key").fill("wrong_wrong_wrong_wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_be_visible()
    camera.take("sign-in-wrong")
    camera.go("/console")
    camera.take("purge-empty", whole=True)
    page.get_by_label("Names, one a line").fill(f"{PHOTO}\nhttps://foreign.example.com/x")
    expect(page.get_by_role("alert")).to_be_visible()
    camera.take("purge-wrong", whole=True)
    camera.form()
    camera.take("purge", whole=True)
    camera.live()
    camera.take("live", whole=True)
    camera.let_go()
    expect(page.get_by_role("status")).to_contain_text("Completed")
    camera.take("done", whole=True)
    for name in ("purges", "latency?range=5m", "audit"):
        camera.go(f"/console/{name}")
        camera.take(name.partition("?")[0], whole=False)
    camera.go("/console/keys")
    page.get_by_text("Make a key").click()
    page.get_by_label("Name").fill("ci")
    page.get_by_role("button", name="Make the key").click()
    page.locator("td summary").first.click()
    camera.take("keys", whole=True)
    camera.go("/console/webhooks")
    for button in page.get_by_role("button", name="Send a test").all():
        button.click()
    expect(page.get_by_role("status")).to_have_count(2)
    camera.take("webhooks", whole=True)
    camera.edges()
    camera.take("edges", whole=True)
    camera.fleet["squid-1"][0].broken = ""
    expect(page.get_by_role("row", name="squid-1")).to_contain_text("leased", timeout=30_000)


def main(arguments: list[str]) -> None:
    folder = Path(arguments[1]) if arguments[:1] == ["--all"] else IMAGES
    folder.mkdir(parents=True, exist_ok=True)
    fleet = _fleet()
    config = Config(endpoints=(ENDPOINT,), webhooks=Webhooks(allow_private=True))
    with running_api(config, fleet=fleet, lease_s=3) as api, running_browser() as browser:
        (for_the_documentation if folder == IMAGES else everything)(browser, api, fleet, folder)


if __name__ == "__main__":
    main(sys.argv[1:])
