"""A real browser: the distribution's Chromium, driven by Playwright."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import Browser, Page, sync_playwright

from support.programs import find

CHROMIUM = "chromium"
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"),
)
SIZES = {"wide": (1440, 900), "narrow": (360, 740)}


@contextmanager
def running_browser() -> Iterator[Browser]:
    """Ask for ``require(CHROMIUM)`` first."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find(CHROMIUM), args=list(FLAGS))
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def window(browser: Browser, size: str = "wide", scheme: str = "light") -> Iterator[Page]:
    """A window of its own, with its own cookies. A fault of a script, or something that the policy forbids, fails the test."""
    width, height = SIZES[size]
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme="dark" if scheme == "dark" else "light")
    page, faults = context.new_page(), list[str]()
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda said: faults.append(said.text) if "Security Policy" in said.text else None)
    try:
        yield page
        assert faults == []
    finally:
        context.close()


def accessible(page: Page) -> None:
    """What axe has to say of the page as it is now: nothing. Nor is it wider than its window."""
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"] if page.viewport_size else True
