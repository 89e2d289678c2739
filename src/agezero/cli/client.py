"""A client of the purge API, as small as the commands need."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any
from urllib.parse import quote

import httpx

from agezero.cli.output import CommandFailed, Exit

PATH = "/v1/files/purge"
EDGES_PATH = "/v1/edges"
REQUEST_TIMEOUT_S = 30
POLL_MIN_S = 0.01
POLL_MAX_S = 0.5


class Client:
    """Talks to the service at ``url``. All methods raise :class:`CommandFailed`; ``deadline_s`` is on the monotonic clock."""

    def __init__(self, url: str, key: str) -> None:
        self._url = url
        try:
            self._http = httpx.Client(base_url=url, auth=(key, ""), timeout=REQUEST_TIMEOUT_S, trust_env=False)
        except (httpx.InvalidURL, ValueError) as error:
            raise CommandFailed(Exit.FAILED, f"{url!r} is not a URL: {error}", "expected something like http://127.0.0.1:8080") from None

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None) -> None:
        self._http.close()

    def submit(self, url: str, deadline_s: float) -> str:
        """Purge ``url``; the request id."""
        return self._text(self._request("POST", PATH, {"url": url}, deadline_s), "requestId")

    def status(self, request_id: str, deadline_s: float) -> str:
        """``Pending`` or ``Completed``."""
        return self._text(self._request("GET", f"{PATH}/{quote(request_id, safe='')}", None, deadline_s), "status")

    def edges(self, deadline_s: float) -> list[dict[str, Any]]:
        """The fleet, as ``GET /v1/edges`` tells it."""
        edges = self._member(self._request("GET", EDGES_PATH, None, deadline_s), "edges", list)
        return list(edges)

    def remove_edge(self, name: str, deadline_s: float) -> None:
        """It is gone for good."""
        response = self._request("DELETE", f"{EDGES_PATH}/{quote(name, safe='')}", None, deadline_s)
        if response.status_code != 204:
            self._member(response, "", str)

    def wait(self, request_id: str, deadline_s: float) -> None:
        """Return once the purge is completed."""
        pause_s = POLL_MIN_S
        while self.status(request_id, deadline_s) != "Completed":
            if time.monotonic() + pause_s > deadline_s:
                hint = f"it goes on; GET {self._url.rstrip('/')}/readyz says what the service waits for; then `agezero status {request_id} --wait`"
                raise CommandFailed(Exit.TIMEOUT, f"the purge {request_id} is still Pending", hint)
            time.sleep(pause_s)
            pause_s = min(pause_s * 1.5, POLL_MAX_S)

    def _request(self, method: str, path: str, body: dict[str, str] | None, deadline_s: float) -> httpx.Response:
        """One request, again as long as the service asks to try again later."""
        while True:
            try:
                response = self._http.request(method, path, json=body)
            except (httpx.TransportError, httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
                hint = "is `agezero up` running there? --url or AGEZERO_URL gives the address"
                raise CommandFailed(Exit.UNREACHABLE, f"no answer from {self._url}: {error}", hint) from None
            later_s = _retry_after_s(response)
            if later_s is None or time.monotonic() + later_s > deadline_s:
                return response
            time.sleep(later_s)

    def _text(self, response: httpx.Response, member: str) -> str:
        return str(self._member(response, member, str))

    def _member(self, response: httpx.Response, member: str, kind: type) -> Any:
        try:
            answer = response.json()
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise self._foreign(response)
        if response.is_success and isinstance(answer.get(member), kind):
            return answer[member]
        if "message" not in answer:
            raise self._foreign(response)
        raise CommandFailed(Exit.REFUSED, f"{answer['message']} (HTTP {response.status_code})", str(answer.get("help", "")))

    def _foreign(self, response: httpx.Response) -> CommandFailed:
        message = f"{self._url} answered {response.status_code}, but not as the purge API does"
        return CommandFailed(Exit.UNREACHABLE, message, "check --url or AGEZERO_URL: it is the API's address, not the edge's or the website's")


def _retry_after_s(response: httpx.Response) -> float | None:
    if response.status_code not in (429, 503):
        return None
    text = response.headers.get("retry-after", "")
    return float(text) if text.isascii() and text.isdigit() else None
