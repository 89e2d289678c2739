"""A key gives what its permission says and no more, over the wire: every route × every kind of key; and no guess gets anything."""

from __future__ import annotations

import base64
import hashlib
import time
from collections import Counter
from collections.abc import Iterator
from itertools import product

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.routing import compile_path

from agezero.config import Config, Limits
from agezero.keys import Permission
from support.api import ENDPOINT, Api, running_api

INSIDE, OUTSIDE = f"{ENDPOINT}/photos/cat.jpg", f"{ENDPOINT}/private/cat.jpg"
ID = "0" * 24

# What an authorised request is answered with; the second column is the least permission.
CALLS: dict[tuple[str, str], tuple[str | None, int, object]] = {
    ("POST", "/v1/files/purge"): ("purge", 201, {"url": INSIDE}),
    ("GET", f"/v1/files/purge/{ID}"): ("read", 400, None),
    ("POST", "/v1/purges"): ("purge", 201, {"urls": [INSIDE]}),
    ("GET", "/v1/purges"): ("read", 200, None),
    ("GET", f"/v1/purges/{ID}"): ("read", 404, None),
    ("GET", f"/v1/purges/{ID}/events"): ("read", 404, None),
    ("GET", f"/v1/purges/{ID}/evidence?header=ETag&value=x"): ("read", 404, None),
    ("GET", "/v1/events"): ("read", 200, None),
    ("GET", "/v1/audit"): ("admin", 200, None),
    ("GET", "/v1/edges"): ("read", 200, None),
    ("DELETE", "/v1/edges/none"): ("admin", 404, None),
    ("PUT", "/v1/edges/none/drain"): ("admin", 404, None),
    ("DELETE", "/v1/edges/none/drain"): ("admin", 404, None),
    ("GET", "/v1/keys"): ("admin", 200, None),
    ("POST", "/v1/keys"): ("admin", 201, {"name": "made", "permission": "admin"}),
    ("DELETE", "/v1/keys/none"): ("admin", 404, None),
    ("POST", "/v1/keys/none/roll"): ("admin", 404, {"overlap": "now"}),
    ("GET", "/v1/webhooks"): ("admin", 200, None),
    ("POST", "/v1/webhooks"): ("admin", 201, {"url": "https://ci.example.com/", "events": ["edge.fenced"]}),
    ("DELETE", "/v1/webhooks/none"): ("admin", 404, None),
    ("POST", "/v1/webhooks/none/rotate"): ("admin", 404, {"overlap": "now"}),
    ("POST", "/v1/webhooks/none/test"): ("admin", 404, None),
    ("GET", "/v1/webhooks/none/deliveries"): ("admin", 404, None),
    ("GET", "/healthz"): (None, 200, None),
    ("GET", "/readyz"): (None, 200, None),
    ("GET", "/metrics"): (None, 200, None),
    ("GET", "/openapi.json"): (None, 200, None),
}
PEOPLE = "/console"
"""The console's pages: signed in to by a cookie, which its own tests are about."""
REFUSALS = {("POST /v1/files/purge", "purge"): 400, ("POST /v1/purges", "purge"): 403}
"""What a purge by a key that is bound elsewhere is answered with."""
ORDER = ["read", "purge", "admin"]
KEYS = ["none", "wrong", "expired", "disabled", "revoked", "read", "purge", "purge here", "purge elsewhere", "read elsewhere", "admin"]


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    with running_api(Config(endpoints=(ENDPOINT,), limits=Limits(failed_attempts_per_min=0))) as running:
        yield running


@pytest.fixture(scope="module")
def texts(api: Api) -> dict[str, str]:
    made = {permission.value: api.keys.create(permission, permission) for permission in Permission}
    made["purge here"] = api.keys.create("here", Permission.PURGE, [f"{ENDPOINT}/photos"])
    made["purge elsewhere"] = api.keys.create("elsewhere", Permission.PURGE, [f"{ENDPOINT}/other"])
    made["read elsewhere"] = api.keys.create("reads elsewhere", Permission.READ, [f"{ENDPOINT}/other"])
    made["expired"] = api.keys.create("expired", Permission.ADMIN, None, int(time.time()) - 1)
    for state in ("disabled", "revoked"):
        new = api.keys.make(state, Permission.ADMIN)
        made[state] = new.text
        assert api.keys.disable(new.key.id) if state == "disabled" else api.keys.revoke(new.key.id, time.time())
    return {**made, "wrong": "private_wrong_wrong_wrong"}


def expected(key: str, least: str | None, status: int, call: str) -> int:
    if least is None:
        return status
    if key == "none":
        return 401
    permission, _, elsewhere = key.partition(" ")
    if permission not in ORDER or ORDER.index(permission) < ORDER.index(least):
        return 403
    if elsewhere == "elsewhere" and (call, permission) in REFUSALS:
        return REFUSALS[call, permission]
    return status


@pytest.mark.parametrize(("call", "key"), list(product(CALLS, KEYS)))
def test_what_is_allowed(api: Api, texts: dict[str, str], call: tuple[str, str], key: str) -> None:
    (method, path), (least, status, body) = call, CALLS[call]
    auth = None if key == "none" else (texts[key], "")
    before = len(api.purges.submitted)
    with httpx.stream(method, api.url + path, auth=auth, json=body) as response:  # an endless one is not waited for
        assert response.status_code == expected(key, least, status, f"{method} {path}")
        if path != "/v1/events":
            response.read()
    assert len(api.purges.submitted) - before == (response.status_code == 201 and path == "/v1/files/purge")
    if path.startswith(("/v1/keys", "/v1/webhooks")) and not response.is_success:
        assert response.headers["content-type"] == "application/problem+json"
        assert (response.json()["status"], response.json()["type"].startswith("urn:agezero:problem:")) == (response.status_code, True)


def test_every_route_is_in_the_table(api: Api) -> None:
    """A route that is added needs a row: what it is answered with, and the least permission."""
    routes = {(method, path): compile_path(path)[0] for method, path in api.served if not path.startswith(PEOPLE)}
    rows = Counter(
        route for (method, path) in CALLS for route, pattern in routes.items() if route[0] == method and pattern.match(path.partition("?")[0])
    )
    assert rows == Counter(routes.keys())


def test_a_bound_key_purges_nothing_outside(api: Api, texts: dict[str, str]) -> None:
    statuses = {key: httpx.post(f"{api.url}/v1/files/purge", auth=(texts[key], ""), json={"url": OUTSIDE}).status_code for key in KEYS[6:]}
    assert statuses == {"purge": 201, "purge here": 400, "purge elsewhere": 400, "read elsewhere": 403, "admin": 201}


def test_a_key_lives_over_the_api(api: Api, texts: dict[str, str]) -> None:
    with httpx.Client(base_url=api.url, auth=(texts["admin"], "")) as client:
        asked = {"name": "deploy", "permission": "write", "endpoints": [ENDPOINT], "expires_in_s": 3600}
        made = client.post("/v1/keys", json={**asked, "permission": "purge"})
        key = made.json()["key"]
        assert made.headers["location"] == f"/v1/keys/{key['id']}"
        assert (key["permission"], key["state"], key["endpoints"]) == ("purge", "valid", [ENDPOINT])
        assert purge(api, made.json()["text"]) == 201
        rolled = client.post(f"/v1/keys/{key['id']}/roll", json={"overlap": "1h"})
        new = rolled.json()["key"]
        assert {name: new[name] for name in ("permission", "endpoints", "expires_at")} == {
            name: key[name] for name in ("permission", "endpoints", "expires_at")
        }
        assert [purge(api, answer.json()["text"]) for answer in (made, rolled)] == [201, 201]
        assert client.delete(f"/v1/keys/{key['id']}").status_code == 204
        assert [purge(api, answer.json()["text"]) for answer in (made, rolled)] == [403, 201]
        client.post(f"/v1/keys/{new['id']}/roll", json={"overlap": "now"})
        assert purge(api, rolled.json()["text"]) == 403
        listed = client.get("/v1/keys")
        assert new["id"] not in {key["id"] for key in listed.json()["keys"]}
        assert not any(answer.json()["text"] in listed.text for answer in (made, rolled))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "missing required field 'name'"),
        ({"name": ""}, "length >= 1"),
        ({"name": "x", "permission": "root"}, "'root'"),
        ({"name": "x", "endpoints": ["nowhere"]}, "he endpoint 'nowhere' is not valid"),
        ({"name": "x", "permission": "admin", "endpoints": [ENDPOINT]}, "can't be bound to endpoints"),
        ({"name": "x", "end": 1}, "unknown field 'end'"),
    ],
)
def test_what_is_wrong_with_a_wanted_key_is_said(api: Api, texts: dict[str, str], body: object, said: str) -> None:
    response = httpx.post(f"{api.url}/v1/keys", auth=(texts["admin"], ""), json=body)
    assert (response.status_code, response.json()["title"]) == (400, "Your request is not valid.")
    assert said in response.json()["detail"]


def basic(text: str) -> bytes:
    return b"Basic " + base64.b64encode(f"{text}:".encode())


def raw(text: str) -> bytes:
    return f"Basic {text}".encode()


GUESSES = st.one_of(
    st.binary(max_size=60).map(lambda some: b"Basic " + base64.b64encode(some)),
    st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=60).map(raw),
    st.binary(max_size=60).map(lambda some: bytes(byte for byte in some if byte > 31 and byte != 127).strip()),
    st.sampled_from([b"Bearer x", b"basic", b"Basic private_", basic("environment")]),
)
NEARLY = (
    lambda text: basic(text[:-1]),
    lambda text: basic(text + "a"),
    lambda text: basic(text.swapcase()),
    lambda text: basic(" " + text),
    lambda text: basic(text + "\0"),
    lambda text: basic(text.removeprefix("private_")),
    lambda text: basic(":" + text),
    lambda text: basic(hashlib.sha256(text.encode()).hexdigest()),
    lambda text: raw(text[:-1]),
    lambda text: raw(text + text),
    lambda text: f"Bearer {text}".encode(),
    lambda text: text.encode(),
    lambda text: b"Digest username=" + text.encode(),
)
"""What is made of a real key, and is none."""
KEYED = [call for call in CALLS if CALLS[call][0]]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(header=GUESSES, call=st.sampled_from(KEYED))
def test_no_guess_gets_anything(api: Api, header: bytes, call: tuple[str, str]) -> None:
    """150 guesses, each a connection of its own: some ten seconds, and more beside other tests."""
    response = httpx.request(call[0], api.url + call[1], headers=[(b"authorization", header.strip())], json={"url": INSIDE})
    assert response.status_code in (401, 403)


@pytest.mark.parametrize("call", KEYED)
def test_what_is_nearly_a_key_gets_nothing(api: Api, texts: dict[str, str], call: tuple[str, str]) -> None:
    with httpx.Client() as client:
        answers = [client.request(call[0], api.url + call[1], headers=[(b"authorization", make(texts["admin"]))]) for make in NEARLY]
        elsewhere = client.request(
            call[0],
            f"{api.url}{call[1].partition('?')[0]}?key={texts['admin']}",
            headers={"X-Api-Key": texts["admin"], "Proxy-Authorization": f"Basic {texts['admin']}", "Cookie": f"key={texts['admin']}"},
        )
    assert {answer.status_code for answer in answers} <= {401, 403}
    assert elsewhere.status_code == 401
    assert not any(texts["admin"] in answer.text for answer in (*answers, elsewhere))


def test_many_guesses_get_429_and_everybody_hears_of_it() -> None:
    with running_api(Config(endpoints=(ENDPOINT,), limits=Limits(failed_attempts_per_min=5))) as api:
        assert api.client.get("/v1/edges").status_code == 200
        answers = [httpx.get(f"{api.url}/v1/keys", auth=(f"private_wrong_{i}_wrong", "")) for i in range(12)]
        assert [answer.status_code for answer in answers[:5]] == [403] * 5
        assert answers[-1].status_code == 429
        assert 1 <= int(answers[-1].headers["retry-after"]) <= 60
        assert api.client.get("/v1/edges").status_code == 200  # accepted before
        metrics = httpx.get(f"{api.url}/metrics").text
        assert 'agezero_failed_attempts_total{why="wrong_key"} ' in metrics
        assert 'agezero_failed_attempts_total{why="too_many_attempts"} ' in metrics


def purge(api: Api, text: str) -> int:
    return httpx.post(f"{api.url}/v1/files/purge", auth=(text, ""), json={"url": INSIDE}).status_code
