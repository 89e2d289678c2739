"""A restart of the service while somebody looks: the session holds, the page goes on by itself, and tells what became of the purge."""

from __future__ import annotations

from pathlib import Path

import httpx
from playwright.sync_api import expect

from support.browser import CHROMIUM, running_browser, window
from support.origin import running_origin
from support.ports import free_address
from support.programs import require
from support.service import start, stop
from support.waiting import wait_for

KEY = "private_key_of_the_console"
CONFIG = "[lease]\nlease_s = 1\nmargin_s = 0.5\n"


def _ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz").status_code == 200
    except httpx.TransportError:
        return False


def test_a_purge_is_seen_to_its_end_over_a_restart(tmp_path: Path) -> None:
    """Takes some seconds: the service starts twice."""
    require(CHROMIUM)
    with running_origin() as origin, running_browser() as browser, window(browser) as page:
        api, edge = free_address(), free_address()
        flags = ["--origin", origin.url, "--api", api, "--edge", edge]
        process = start(tmp_path, CONFIG, KEY, flags)
        try:
            url = f"http://{api}"
            wait_for(lambda: _ready(url), "it is ready")
            page.goto(f"{url}/console/edges")
            page.get_by_label("Private key").fill(KEY)
            page.get_by_role("button", name="Sign in").click()
            expect(page.get_by_role("table")).to_contain_text("table")
            stop(process)
            expect(page.get_by_text("The connection is lost")).to_be_visible()
            process = start(tmp_path, CONFIG, KEY, flags)
            expect(page.get_by_text("The connection is lost")).to_be_hidden(timeout=30_000)
            sent = httpx.post(f"{url}/v1/purges", auth=(KEY, ""), json={"urls": [f"http://{edge}/x"]}).raise_for_status()
            expect(page.get_by_text("The log is at")).to_contain_text("1", timeout=30_000)
            page.goto(f"{url}/console/purges/{sent.json()['id']}")
            expect(page.get_by_role("status")).to_contain_text("Completed", timeout=30_000)
        finally:
            stop(process)
