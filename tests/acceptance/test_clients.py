"""ImageKit's own clients, unmodified, drive a real service: only the base URL differs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from support.clients import NAMES, Answer, Client
from support.service import Service, running_service
from support.waiting import wait_for

ERROR_TYPES = {
    "imagekitio 5": {400: "BadRequestError", 401: "AuthenticationError", 403: "PermissionDeniedError", 413: "APIStatusError", 429: "RateLimitError"},
    "imagekitio 4": {400: "BadRequestException", 403: "ForbiddenException", 413: "UnknownException", 429: "TooManyRequestsException"},
    "imagekit 6": dict.fromkeys((400, 403, 413, 429), "ErrorBody"),
    "@imagekit/nodejs 7": {400: "BadRequestError", 401: "AuthenticationError", 403: "PermissionDeniedError", 413: "APIError", 429: "RateLimitError"},
    "curl": dict.fromkeys((400, 401, 403, 413, 429), "CurlExit22"),
}
"""The client's own name for each status. The hand-written clients refuse an empty key themselves, so they never see a 401."""

REFUSE_NO_URL = {"imagekitio 4", "imagekit 6"}
"""These refuse a missing or empty URL themselves, before any request."""

RETRYING = ("imagekitio 5", "@imagekit/nodejs 7")


@dataclass(frozen=True, slots=True)
class Mistake:
    """A call that is refused. ``{edge}`` in an argument stands for the edge's URL."""

    status: int
    message: str
    call: str = "purge"
    argument: Any = "{edge}/a.jpg"
    key: str | None = None

    def made_with(self, client: Client, service: Service) -> Answer:
        """Make it."""
        argument = _fill(self.argument, service.edge)
        given = {} if argument is ... else {"argument": argument}
        return client.call(service.url, service.key if self.key is None else self.key, self.call, **given)


MISTAKES = {
    "no url": Mistake(400, "Your request is missing URL parameter.", argument=...),
    "empty url": Mistake(400, "Invalid url", argument=""),
    "relative url": Mistake(400, "Invalid url", argument="/a.jpg"),
    "list of urls": Mistake(400, "Invalid url", argument=["{edge}/a.jpg", "{edge}/b.jpg"]),
    "number": Mistake(400, "Invalid url", argument=7),
    "url of 10 KiB": Mistake(400, "Invalid url", argument="{edge}/" + "a" * 10240),
    "body over 64 KiB": Mistake(413, "Your request body is too large.", argument="{edge}/" + "a" * 65536),
    "foreign host": Mistake(400, "The URL is not valid for cache purging.", argument="https://foreign.example.com/a.jpg"),
    "wildcard in the middle": Mistake(400, "The URL is not valid for cache purging.", argument="{edge}/photos/*/large.jpg"),
    "wildcard too wide": Mistake(400, "The URL is not valid for cache purging.", argument="{edge}/a*"),
    "unknown id": Mistake(400, "No request found for this requestId.", "status", "0123456789abcdef01234567"),
    "id of another form": Mistake(400, "No request found for this requestId.", "status", "no-such-id"),
    "no key, purge": Mistake(401, "Your request does not contain private API key.", key=""),
    "no key, status": Mistake(401, "Your request does not contain private API key.", "status", "0123456789abcdef01234567", key=""),
    "wrong key, purge": Mistake(403, "Your account cannot be authenticated.", key="private_wrong"),
    "wrong key, status": Mistake(403, "Your account cannot be authenticated.", "status", "0123456789abcdef01234567", key="private_wrong"),
}


@pytest.fixture(scope="module", params=NAMES)
def client(request: pytest.FixtureRequest) -> Iterator[Client]:
    running = Client(request.param)
    yield running
    running.close()


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that takes one purge a second from a key."""
    with running_service(tmp_path_factory.mktemp("limited"), config="[limits]\npurges_per_s = 1\n") as running:
        yield running


def test_a_purge_is_followed_to_completed_and_the_edge_is_fresh(client: Client, service: Service) -> None:
    path = _path(client, "photo.jpg")
    old = _cached(service, path)
    service.origin.content = f"after {path}"
    assert _get(service, path) == old, "the edge should have cached it"
    _purge_and_wait(client, service, service.edge + path)
    assert _get(service, path) == f"after {path} {path}"


def test_a_wildcard_purges_all_below_it_and_nothing_beside(client: Client, service: Service) -> None:
    below, beside = [_path(client, "album/one.jpg"), _path(client, "album/two.jpg?w=100")], _path(client, "other.jpg")
    old = {path: _cached(service, path) for path in [*below, beside]}
    service.origin.content = f"wildcard {client.name}"
    _purge_and_wait(client, service, service.edge + _path(client, "album/*"))
    assert [_get(service, path) for path in below] == [f"wildcard {client.name} {path}" for path in below]
    assert _get(service, beside) == old[beside]


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_surfaces_as_the_clients_own_error(client: Client, service: Service, mistake: Mistake) -> None:
    answer = mistake.made_with(client, service)
    if _refused_by_client(client, mistake):
        assert (answer.value, answer.status) == (None, None)
        return
    assert (answer.error, answer.status, answer.message) == (ERROR_TYPES[client.name][mistake.status], mistake.status, mistake.message)
    assert answer.help
    assert answer.headers["x-ik-requestid"]


def test_too_many_purges_surface_as_the_clients_rate_limit_error(client: Client, limited: Service) -> None:
    answer = _refused_by_limit(client, limited)
    assert (answer.error, answer.status) == (ERROR_TYPES[client.name][429], 429)
    assert answer.message
    assert answer.help
    assert int(answer.headers["x-ratelimit-limit"]) == 1
    assert 0 <= int(answer.headers["x-ratelimit-reset"]) <= int(answer.headers["x-ratelimit-interval"]) == 1000
    assert 1 <= int(answer.headers["retry-after"]) <= 60


@pytest.mark.parametrize("client", RETRYING, indirect=True)
def test_generated_clients_get_through_a_rate_limit_by_their_own_retries(client: Client, limited: Service) -> None:
    answers = [client.call(limited.url, limited.key, "purge", retries=2, argument=f"{limited.edge}/a.jpg") for _ in range(3)]
    assert all(answer.value for answer in answers), answers


def _refused_by_limit(client: Client, limited: Service) -> Answer:
    """Purge until one is refused."""

    def refused() -> Answer | None:
        answer = client.call(limited.url, limited.key, "purge", argument=f"{limited.edge}/a.jpg")
        return None if answer.value else answer

    return wait_for(refused, "a purge is refused by the limit of one a second")


def _purge_and_wait(client: Client, service: Service, url: str) -> None:
    purge = client.call(service.url, service.key, "purge", argument=url)
    assert purge.value, purge

    def completed() -> bool:
        status = client.call(service.url, service.key, "status", argument=purge.value)
        assert status.value in ("Pending", "Completed"), status
        return status.value == "Completed"

    wait_for(completed, f"{client.name} reads Completed")


def _cached(service: Service, path: str) -> str:
    """Get ``path`` until the edge answers from its cache."""

    def hit() -> str | None:
        before = service.origin.fetches[path]
        body = _get(service, path)
        return body if service.origin.fetches[path] == before else None

    return wait_for(hit, f"the edge caches {path}")


def _get(service: Service, path: str) -> str:
    return httpx.get(service.edge + path).raise_for_status().text


def _path(client: Client, name: str) -> str:
    folder = "".join(c for c in client.name if c.isalnum())
    return f"/{folder}/{name}"


def _fill(argument: Any, edge: str) -> Any:
    if isinstance(argument, list):
        return [_fill(item, edge) for item in argument]
    return argument.replace("{edge}", edge) if isinstance(argument, str) else argument


def _refused_by_client(client: Client, mistake: Mistake) -> bool:
    return (mistake.argument in (..., "") and client.name in REFUSE_NO_URL) or (mistake.key == "" and mistake.status not in ERROR_TYPES[client.name])
