"""The console in a test: signed in over plain HTTP, or in a real browser."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import httpx

TOKEN = re.compile(r'name="form" value="([^"]+)"')


def token(page: str) -> str:
    """What the forms of a page carry."""
    match = TOKEN.search(page)
    assert match, page
    return match[1]


def sign_in(client: httpx.Client, key: str, path: str = "/console/sign-in", **fields: str) -> httpx.Response:
    """As a browser does: load the form, send it."""
    form = client.get(path)
    return client.post(path, data={"form": token(form.text), "key": key, **fields})


@contextmanager
def signed_in(url: str, key: str) -> Iterator[httpx.Client]:
    """A client with a session; it follows no redirect."""
    with httpx.Client(base_url=url, timeout=30) as client:
        assert sign_in(client, key).status_code == 303
        yield client


def post(client: httpx.Client, path: str, fields: Mapping[str, str], page: str = "/console/edges") -> httpx.Response:
    """Send a form, with the token of a page of this session."""
    return client.post(path, data={"form": token(client.get(page).text), **fields})
