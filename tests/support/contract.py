"""What every answer of ImageKit's API has, checked over the wire, for the tests of its contract."""

from __future__ import annotations

import uuid

import httpx

from agezero.http.faults import Fault
from support.api import Api

PURGE = "/v1/files/purge"
URL = "https://cdn.example.com/site/cat.jpg"


def emptied(api: Api) -> Api:
    """The same service, as if it had just started."""
    api.purges.submitted.clear()
    api.purges.lowest = 0
    api.purges.unavailable = api.purges.unknown = ""
    api.purges.reason = None
    api.purges.broken = False
    return api


def problem(response: httpx.Response, fault: Fault) -> str:
    """Checks that the response is this fault in the contract's shape; returns its help."""
    assert (response.status_code, response.json()["message"]) == (fault.status, fault.message)
    assert response.headers["content-type"] == "application/json"
    assert response.json().keys() == {"message", "help"}
    assert "docs/API.md#errors" in response.json()["help"]
    has_contract_headers(response)
    return str(response.json()["help"])


def has_contract_headers(response: httpx.Response) -> None:
    assert uuid.UUID(response.headers["x-ik-requestId"]).version == 4
    assert int(response.headers["X-RateLimit-Limit"]) > 0
    assert 0 <= int(response.headers["X-RateLimit-Reset"]) <= int(response.headers["X-RateLimit-Interval"]) == 1000


def submit(api: Api) -> str:
    return str(api.client.post(PURGE, json={"url": URL}).json()["requestId"])


def metrics(api: Api) -> dict[str, float]:
    response = httpx.get(api.url + "/metrics")
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    has_contract_headers(response)
    lines = [line.rpartition(" ") for line in response.text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}
