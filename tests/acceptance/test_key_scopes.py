"""A key bound to endpoints can't purge or read beyond them: every kind of selector × every kind of key, and every way to read a purge."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import product
from typing import Any

import httpx
import pytest

from agezero.config import Config, Limits
from agezero.keys import Permission
from support.api import ENDPOINT, Api, running_api
from support.sse import events

MINE, THEIRS = f"{ENDPOINT}/mine", f"{ENDPOINT}/theirs"
HOST = "cdn.example.com"

ASKED: dict[str, dict[str, Any]] = {
    "url inside": {"urls": [f"{MINE}/a"]},
    "wildcard inside": {"urls": [f"{MINE}/folder/*"]},
    "prefix inside": {"prefixes": [f"{MINE}/folder/"]},
    "all of it": {"prefixes": [f"{MINE}/"]},
    "url outside": {"urls": [f"{THEIRS}/a"]},
    "wildcard outside": {"urls": [f"{THEIRS}/folder/*"]},
    "prefix outside": {"prefixes": [f"{THEIRS}/folder/"]},
    "a prefix that reaches out": {"prefixes": [MINE]},
    "a path that climbs out": {"urls": [f"{MINE}/../theirs/a"]},
    "an escaped path that climbs out": {"urls": [f"{MINE}/%2e%2e/theirs/a"]},
    "one in, one out": {"urls": [f"{MINE}/a", f"{THEIRS}/a"]},
    "one in, a tag": {"urls": [f"{MINE}/a"], "tags": ["t"]},
    "asset": {"assets": [f"{MINE}/a.jpg"]},
    "tag": {"tags": ["t"]},
    "host": {"hosts": [HOST]},
    "everything": {"everything": True},
    "another service": {"urls": ["https://other.example.com/a"]},
}
INSIDE = {"url inside", "wildcard inside", "prefix inside", "all of it"}
NOBODY = {"another service"}
ALLOWED = {
    "unbound": ASKED.keys() - NOBODY,
    "admin": ASKED.keys() - NOBODY,
    "mine": INSIDE,
    "mine and theirs": INSIDE
    | {"url outside", "wildcard outside", "prefix outside", "a path that climbs out", "an escaped path that climbs out", "one in, one out"},
    "the endpoint": ASKED.keys() - NOBODY - {"tag", "one in, a tag", "host", "everything"},
    "the whole host": ASKED.keys() - NOBODY - {"tag", "one in, a tag", "everything"},
    "elsewhere": set[str](),
    "nowhere": set[str](),
    "reader": set[str](),
}
"""Key → what it may purge. All else is 403, and nothing of it is done."""
KEYS: dict[str, tuple[Permission, list[str] | None]] = {
    "unbound": (Permission.PURGE, None),
    "admin": (Permission.ADMIN, None),
    "mine": (Permission.PURGE, [MINE]),
    "mine and theirs": (Permission.PURGE, [MINE, THEIRS]),
    "the endpoint": (Permission.PURGE, [ENDPOINT]),
    "the whole host": (Permission.PURGE, [f"https://{HOST}"]),
    "elsewhere": (Permission.PURGE, ["https://other.example.com"]),
    "nowhere": (Permission.PURGE, []),
    "reader": (Permission.READ, None),
}
SEES = {
    "unbound": {"mine", "theirs", "everything"},
    "admin": {"mine", "theirs", "everything"},
    "reader": {"mine", "theirs", "everything"},
    "mine": {"mine"},
    "mine and theirs": {"mine", "theirs"},
    "the endpoint": {"mine", "theirs"},
    "the whole host": {"mine", "theirs"},
    "elsewhere": set[str](),
    "nowhere": set[str](),
}
PURGES = {"mine": ASKED["url inside"], "theirs": ASKED["url outside"], "everything": ASKED["everything"]}


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    with running_api(Config(endpoints=(ENDPOINT,), limits=Limits(failed_attempts_per_min=0))) as running:
        yield running


@pytest.fixture(scope="module")
def clients(api: Api) -> Iterator[dict[str, httpx.Client]]:
    made = {name: httpx.Client(base_url=api.url, auth=(api.keys.create(name, *rights), ""), timeout=30) for name, rights in KEYS.items()}
    yield made
    for client in made.values():
        client.close()


@pytest.fixture(scope="module")
def purges(api: Api) -> dict[str, str]:
    """What → id."""
    return {what: api.client.post("/v1/purges", json=body).json()["id"] for what, body in PURGES.items()}


@pytest.mark.parametrize(("key", "asked"), list(product(KEYS, ASKED)))
def test_what_a_key_may_name(api: Api, clients: dict[str, httpx.Client], key: str, asked: str) -> None:
    before = api.log.head
    dry, real = (clients[key].post("/v1/purges", json={**ASKED[asked], "dry_run": dry}) for dry in (True, False))
    allowed = asked in ALLOWED[key]
    assert (dry.status_code, real.status_code) == ((200, 201) if allowed else (403, 403)), real.text
    assert (api.log.head > before) == allowed


@pytest.mark.parametrize("key", KEYS)
def test_what_a_key_may_see(clients: dict[str, httpx.Client], purges: dict[str, str], key: str) -> None:
    """By its id, in the list, in events; by its id every key may ask whether it is complete, which ImageKit's call tells of nothing else."""
    client = clients[key]
    assert {what for what, purge in purges.items() if client.get(f"/v1/purges/{purge}").status_code == 200} == SEES[key]
    looked_at = {what for what, purge in purges.items() if client.get(f"/v1/purges/{purge}/evidence?header=ETag&value=x").status_code == 200}
    assert looked_at == SEES[key]
    listed = client.get("/v1/purges?limit=200").json()["purges"]
    assert {what for what, purge in purges.items() if purge in {each["id"] for each in listed}} == SEES[key]
    for what, purge in purges.items():
        with client.stream("GET", f"/v1/purges/{purge}/events") as response:
            assert response.status_code == (200 if what in SEES[key] else 404)


@pytest.mark.parametrize("key", KEYS)
def test_what_a_key_may_hear(api: Api, clients: dict[str, httpx.Client], purges: dict[str, str], key: str) -> None:
    """From the first purge to one made now, which marks the end: it is told to all that see it, and the others are told nothing before it."""
    del purges  # they are in the log
    heard: set[str] = set()
    end = f"{MINE}/end/{key.replace(' ', '-')}" if SEES[key] else ""
    if not end:
        assert clients[key].get("/v1/purges").json()["purges"] == []
        return
    api.client.post("/v1/purges", json={"urls": [end]}).raise_for_status()
    with clients[key].stream("GET", "/v1/events", headers={"Last-Event-ID": "0-0"}) as response:
        for event in events(response):
            if event.name == "accepted":
                values = {selector["value"] for selector in event.data["selectors"]}
                heard |= {what for what, value in NAMED.items() if value in values}
                if end.removeprefix("https://") in values:
                    break
    assert heard == SEES[key]


NAMED = {"mine": f"{HOST}/site/mine/a", "theirs": f"{HOST}/site/theirs/a", "everything": ""}


def test_a_key_that_is_narrowed_sees_no_more_than_it_does(api: Api) -> None:
    """A roll keeps the endpoints, so nobody gets more by it."""
    made = api.keys.make("narrow", Permission.PURGE, [MINE])
    rolled = api.keys.roll(made.key.id, 0, time.time())
    assert rolled is not None
    answer = httpx.post(f"{api.url}/v1/purges", json=ASKED["url outside"], auth=(rolled.text, ""))
    assert answer.status_code == 403
