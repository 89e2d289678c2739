"""The console in a test: signed in over plain HTTP, or in a real browser."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import httpx

from agezero.audit import Cursor
from agezero.keys import Permission
from support.api import Api

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


def key_of(api: Api, permission: Permission, endpoints: list[str] | None = None) -> str:
    return api.keys.create(permission.value, permission, endpoints)


def audited(api: Api) -> list[tuple[str, str, str]]:
    rows, _ = asyncio.run_coroutine_threadsafe(api.native.audit.page(Cursor(), 50), api.loop).result(30)
    return [(row.action, row.key_id, row.about) for row in rows]


def seen(client: httpx.Client, **fields: str) -> str:
    """The digest of what the preview shows."""
    page = post(client, "/console/preview", fields, "/console")
    match = re.search(r'name="seen" value="([0-9a-f]+)"', page.text)
    assert match, page.text
    return match[1]


def purge(client: httpx.Client, **fields: str) -> str:
    sent = post(client, "/console", {**fields, "seen": seen(client, **fields), "once": str(time.time_ns())}, "/console")
    assert sent.status_code == 303, sent.text
    return sent.headers["location"].removeprefix("/console/purges/")
