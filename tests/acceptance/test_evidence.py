"""Whoever purged sees whether the new version is out: what edges show after a purge, which a proof about caches can't know."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from agezero.config import Config, Edge
from agezero.config.edges import Varnish
from agezero.fronts import Fronts, fronts
from agezero.http.native.evidence import comparable
from support.api import ENDPOINT, Api, running_api
from support.machine import KEY, machine
from support.origin import running_origin
from support.service import Service


@pytest.fixture(scope="module")
def alone() -> Iterator[Api]:
    """An edge in memory, of which no front is known."""
    with running_api() as api:
        yield api


def purge(service: Service, *paths: str, **more: object) -> str:
    body = {"urls": [f"{service.edge}{path}" for path in paths], **more}
    return str(httpx.post(f"{service.url}/v1/purges", json=body, auth=(service.key, "")).raise_for_status().json()["id"])


def evidence(service: Service, made: str, value: str, header: str = "ETag") -> Any:
    params = {"header": header, "value": value, "wait": "30s"}
    return httpx.get(f"{service.url}/v1/purges/{made}/evidence", params=params, auth=(service.key, ""), timeout=60).raise_for_status().json()


def test_the_new_version_shows_and_an_origin_that_is_late_shows_too(service: Service) -> None:
    """The purge is complete both times: the caches are not to blame for what the origin serves."""
    service.origin.etag = "v1"
    httpx.get(f"{service.edge}/evidence?a=1")
    early = evidence(service, purge(service, "/evidence?a=1"), '"v2"')  # before the origin has it
    assert (early["state"], early["met"]) == ("completed", False)
    (check,) = early["checks"]
    assert (check["edge"], check["status"], check["saw"], check["met"]) == ("edge", 200, '"v1"', False)
    assert check["url"].endswith("/evidence?a=1")
    assert "origin" in check["why"]
    service.origin.etag = "v2"
    made = purge(service, "/evidence?a=1", "/evidence?b=1")
    late = evidence(service, made, '"v2"')
    assert (late["met"], [each["saw"] for each in late["checks"]], late["why"]) == (True, ['"v2"', '"v2"'], "")
    assert evidence(service, made, 'W/"v2"')["met"] is True
    assert evidence(service, made, "v2")["met"] is False
    assert evidence(service, made, "public, max-age=3600", "Cache-Control")["met"] is True
    assert evidence(service, made, "x", "X-No-Such-Header")["checks"][0]["saw"] is None
    service.origin.etag = ""


def test_what_can_not_be_looked_at_is_said(service: Service) -> None:
    none = evidence(service, purge(service, tags=["t"]), '"v2"')
    assert (none["state"], none["met"], none["checks"]) == ("completed", None, [])
    assert "no single URL" in none["why"]
    many = evidence(service, purge(service, *(f"/many/{number}" for number in range(21))), "public, max-age=3600", "cache-control")
    assert (many["met"], len(many["checks"])) == (None, 20)
    assert "only the first 20 of its 21" in many["why"]
    assert all(check["met"] for check in many["checks"])


def test_a_pending_purge_has_none_and_is_not_fetched(tmp_path: Path) -> None:
    """The twin: a look before the proof would show the old object from the cache, and would say nothing of the new one."""

    async def story() -> None:
        with running_origin() as origin:
            origin.etag = "v2"
            async with machine(tmp_path, origin.url) as here, httpx.AsyncClient(base_url=f"http://{here.api}", auth=(KEY, "")) as client:
                with here.frozen(here.edge_processes()[1]):
                    made = (await client.post("/v1/purges", json={"urls": [f"http://{here.edge}/a"]})).json()["id"]
                    told = (await client.get(f"/v1/purges/{made}/evidence", params={"header": "ETag", "value": '"v2"'})).json()
                    assert (told["state"], told["met"], told["checks"]) == ("pending", None, [])
                    assert "not complete" in told["why"]
                told = (await client.get(f"/v1/purges/{made}/evidence", params={"header": "ETag", "value": '"v2"', "wait": "30s"}, timeout=60)).json()
                assert (told["state"], told["met"]) == ("completed", True)

    asyncio.run(story())


def test_an_edge_whose_front_is_not_known_leaves_it_open(alone: Api) -> None:
    made = alone.client.post("/v1/purges", json={"urls": [f"{ENDPOINT}/a"]}).json()["id"]
    told = alone.client.get(f"/v1/purges/{made}/evidence?header=ETag&value=v2&wait=10s").json()
    assert (told["state"], told["met"], told["checks"][0]["met"], told["checks"][0]["saw"]) == ("completed", None, None, None)
    assert "edges.front is not set" in told["checks"][0]["why"]


@pytest.mark.parametrize(
    "query", ["", "header=ETag", "value=x", "header=a%20b&value=x", "header=%0d%0a&value=x", "header=ETag&value=x&url=http://h/"]
)
def test_what_is_not_understood_is_refused(alone: Api, query: str) -> None:
    made = alone.client.post("/v1/purges", json={"urls": [f"{ENDPOINT}/a"]}).json()["id"]
    assert alone.client.get(f"/v1/purges/{made}/evidence?{query}").status_code == 400


def test_only_addresses_of_the_settings_are_connected_to() -> None:
    with running_origin() as origin, running_origin() as other:
        config = Config(edge=Edge(origin="http://o", listen="0.0.0.0:1"), edges=(Varnish(name="v", front=f"{origin.url}/"), Varnish(name="w")))
        assert fronts(config) == {"v": origin.url, "edge": "http://127.0.0.1:1"}

        async def ask() -> None:
            async with Fronts(fronts(config)) as asking:
                seen = await asking.ask("v", f"{other.url.removeprefix('http://')}/secret")
                assert (seen.status, seen.why) == (200, "")
                away = await asking.ask("edge", "cdn.example.com/a")
                assert (away.status, away.headers) == (0, None)
                assert away.why.startswith("no answer from http://127.0.0.1:1")

        asyncio.run(ask())
        assert (dict(origin.fetches), dict(other.fetches)) == ({"/secret": 1}, {})


@pytest.mark.parametrize(
    ("header", "left", "right", "same"),
    [
        ("etag", 'W/"a"', '"a"', True),
        ("etag", '"a"', '"b"', False),
        ("x-v", 'W/"a"', '"a"', False),
        ("x-v", " 7", "7", True),
        ("x-v", "A", "a", False),
    ],
)
def test_how_values_are_compared(header: str, left: str, right: str, same: bool) -> None:
    assert (comparable(header, left) == comparable(header, right)) is same
