"""The story: three purges over real HTTP, each shown to be complete. Every line printed is what was really received."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import httpx
from rich.console import Console

from agezero.demo.origin import CACHE_CONTROL, Origin
from agezero.errors import UserError

POLL_S = 0.001
COMPLETED_WITHIN_S = 10


class Story:
    """Tells it on ``console``; raises :class:`UserError` as soon as something is not as it should be."""

    def __init__(self, console: Console, origin: Origin, api: str, edge: str, key: str) -> None:
        self._console = console
        self._origin = origin
        self._edge = edge
        self._api = httpx.Client(base_url=api, auth=(key, ""))
        self._http = httpx.Client(base_url=edge, timeout=20)

    def tell(self) -> None:
        """All three chapters."""
        for number, (title, chapter) in enumerate(CHAPTERS, 1):
            self._console.print(f"\n[bold]{number}. {title}[/]")
            chapter(self)

    def one_file(self) -> None:
        """A cached file changes, and is purged."""
        self._get("/hello.txt", 1, "the edge fetches it from the origin")
        time.sleep(1.1)  # so that there is an Age to see
        self._get("/hello.txt", 1, "now it is cached: Age grows", hit=True)
        self._change()
        self._get("/hello.txt", 1, "the old one is still served", hit=True)
        self._purge("/hello.txt")
        self._get("/hello.txt", 2, "a fresh object")
        self._get("/hello.txt", 2, "and cached again", hit=True)

    def in_flight(self) -> None:
        """A fetch is under way while the purge happens."""
        answers: list[str] = []
        with self._origin.slow():
            early = threading.Thread(target=lambda: answers.append(self._http.get("/slow.txt").text.strip()), daemon=True)
            early.start()
            if not self._origin.held.wait(10):
                raise UserError("the slow fetch did not reach the origin")
            self._say("GET /slow.txt", f"… the origin has read version {self._origin.version} and is slow to answer", "yellow")
            self._change()
            self._purge("/slow.txt")
        early.join(15)
        self._say("GET /slow.txt", f"… ends, with {answers[0] if answers else 'nothing'}: every stock cache stores that now", "yellow")
        self._get("/slow.txt", self._origin.version, "it was not stored")
        self._get("/slow.txt", self._origin.version, "and the fresh one is", hit=True)

    def wildcard(self) -> None:
        """One purge for a whole folder."""
        paths = ["/images/summer/beach.jpg", "/images/summer/dunes.jpg?tr=w-100"]
        for path in paths:
            self._get(path, self._origin.version, "cached")
        self._change()
        self._purge("/images/summer/*")
        for path in paths:
            self._get(path, self._origin.version, "a fresh object")

    def _get(self, path: str, version: int, remark: str, hit: bool | None = None) -> None:
        response = self._http.get(path)
        age, status = response.headers.get("Age", "-"), response.headers.get("Cache-Status", "")
        self._say(f"GET {path}", f"{response.text.strip()}   [cyan]Age: {age}[/]   [dim]{status}[/]   {remark}")
        if response.text != f"version {version}\n" or (hit is not None and hit != ("; hit" in status)):
            raise UserError(f"expected version {version} from {path}{' out of the cache' if hit else ''}, got {response.text!r} with {status!r}")
        if not hit and version > 1 and age != "0":
            raise UserError(f"expected a fresh object with Age: 0 from {path}, got Age: {age}")

    def _change(self) -> None:
        self._origin.version += 1
        self._say(
            "origin", f"the file changes to version {self._origin.version} [dim](cached copies may live for an hour: {CACHE_CONTROL})[/]", "yellow"
        )

    def _purge(self, path: str) -> None:
        began_s = time.monotonic()
        response = self._api.post("/v1/files/purge", json={"url": self._edge + path})
        if response.status_code != 201:
            raise UserError(f"the purge was refused: {response.text}")
        request_id = response.json()["requestId"]
        self._say(f"POST purge {path}", f"201 [magenta]{request_id}[/]")
        statuses: list[str] = []
        while "Completed" not in statuses:
            statuses.append(self._api.get(f"/v1/files/purge/{request_id}").json()["status"])
            if time.monotonic() - began_s > COMPLETED_WITHIN_S:
                raise UserError(f"the purge was still Pending after {COMPLETED_WITHIN_S} s")
            time.sleep(POLL_S)
        pending = f"Pending ({len(statuses) - 1}×), then " if len(statuses) > 1 else ""
        self._say("GET status", f"{pending}[bold green]Completed[/] in {(time.monotonic() - began_s) * 1000:.0f} ms")

    def _say(self, who: str, what: str, colour: str = "default") -> None:
        self._console.print(f"   [{colour}]{who:<30}[/] {what}", highlight=False, soft_wrap=True)


CHAPTERS: tuple[tuple[str, Callable[[Story], None]], ...] = (
    ("A file changes, and is purged", Story.one_file),
    ("The same while a slow fetch is in flight", Story.in_flight),
    ("A wildcard", Story.wildcard),
)
