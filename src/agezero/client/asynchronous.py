"""The asynchronous client."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Self, TypeVar
from urllib.parse import quote

import httpx

from agezero import wire
from agezero.client import flows
from agezero.client.errors import ClientError, Refused, Unreachable

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class AsyncPurge:
    """A purge that was accepted. ``accepted.id`` is None in a dry run."""

    accepted: wire.Accepted
    _client: AsyncClient

    @property
    def id(self) -> str:
        """The purge's id; empty in a dry run."""
        return self.accepted.id or ""

    @property
    def warnings(self) -> Sequence[str]:
        """Where more is purged than was asked for."""
        return self.accepted.warnings

    async def status(self) -> wire.PurgeDetail:
        """Everything about it, as it is now."""
        return await self._client.status(self.id)

    async def wait(self, timeout_s: float = 60) -> wire.PurgeDetail:
        """Return when it is proven. Raises :class:`agezero.client.WaitTimeout`."""
        return await self._client.wait(self.id, timeout_s)


class AsyncClient:
    """Talks to the service at ``url`` with the private key ``key``. Every method raises :class:`agezero.client.ClientError`.

    ``patience_s``: how long to do as the service says when it says "later" (429, 503).
    """

    def __init__(self, url: str, key: str, *, patience_s: float = 60) -> None:
        flows.check(url, key)
        self._base = flows.Base(url, time.monotonic)
        self._patience_s = patience_s
        try:
            self._http = httpx.AsyncClient(base_url=url, auth=(key, ""), timeout=flows.REQUEST_S, trust_env=False, verify=flows.trusted(url))
        except (httpx.InvalidURL, ValueError) as error:
            raise ClientError(f"{url!r} is not a URL: {error}", "expected something like http://127.0.0.1:8080") from None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def purge(  # noqa: PLR0913 (each is a member of the body)
        self,
        *,
        urls: Sequence[str] = (),
        prefixes: Sequence[str] = (),
        tags: Sequence[str] = (),
        hosts: Sequence[str] = (),
        assets: Sequence[str] = (),
        everything: bool = False,
        mode: wire.Mode = "hard",
        note: str = "",
        dry_run: bool = False,
        idempotency_key: str | None = None,
        wait: bool = False,
        timeout_s: float = 60,
    ) -> AsyncPurge:
        """Purge; it is durable on return, and with ``wait`` proven. Raises WaitTimeout where that takes longer than ``timeout_s``."""
        wish = flows.Wish(urls, prefixes, tags, hosts, assets, everything, mode, note, dry_run)
        accepted = await self._run(flows.purge(self._base, wish, idempotency_key, self._deadline_s()))
        purge = AsyncPurge(accepted, self)
        if wait and not dry_run:
            await purge.wait(timeout_s)
        return purge

    async def status(self, purge_id: str) -> wire.PurgeDetail:
        """Everything about a purge."""
        return await self._run(flows.detail(self._base, purge_id, self._deadline_s()))

    async def wait(self, purge_id: str, timeout_s: float = 60, seen: flows.Seen | None = None) -> wire.PurgeDetail:
        """Return when the purge is proven, also if the service is away meanwhile. Raises :class:`agezero.client.WaitTimeout`.

        ``seen`` is called with what is known so far, every half second, while it is pending.
        """
        return await self._run(flows.wait(self._base, purge_id, timeout_s, seen))

    async def purges(self, **filters: str) -> AsyncIterator[wire.Purge]:
        """Newest first; ``filters``: state, tag, url, key, since."""
        cursor: str | None = ""
        while cursor is not None:
            query = filters | ({"cursor": cursor} if cursor else {})
            page = await self._run(flows.get(self._base, "/v1/purges", query, wire.Purges, self._deadline_s()))
            for purge in page.purges:
                yield purge
            cursor = page.cursor

    async def edges(self) -> Sequence[wire.Edge]:
        """The fleet."""
        return (await self._run(flows.get(self._base, "/v1/edges", {}, wire.Edges, self._deadline_s()))).edges

    async def remove_edge(self, name: str) -> None:
        """It is gone for good: no purge waits for it."""
        await self._run(flows.remove_edge(self._base, name, self._deadline_s()))

    async def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Any call of the native API, such as those for keys and webhooks; what it is answered with."""
        return await self._run(flows.call(self._base, method, path, body, self._deadline_s()))

    async def audit(self, **filters: str) -> AsyncIterator[wire.AuditRow]:
        """Who did what, newest first; ``filters``: limit, of rows in one answer."""
        cursor: str | None = ""
        while cursor is not None:
            query = filters | ({"cursor": cursor} if cursor else {})
            page = await self._run(flows.get(self._base, "/v1/audit", query, wire.AuditPage, self._deadline_s()))
            for row in page.rows:
                yield row
            cursor = page.cursor

    async def events(self, last_event_id: str = "", purge_id: str = "") -> AsyncIterator[flows.Event]:
        """All that happens from now on, or after an event; or what becomes of one purge, until it is complete.

        After a lost connection it goes on where it was; Unreachable only where the service stays away for ``patience_s``.
        """
        path = f"/v1/purges/{quote(purge_id, safe='')}/events" if purge_id else "/v1/events"
        reader, deadline_s = flows.EventReader(last_event_id), self._deadline_s()
        while True:
            try:
                async for event in self._stream(path, reader):
                    deadline_s = self._deadline_s()
                    yield event
                    if purge_id and event.name == "completed":
                        return
            except Unreachable:
                if time.monotonic() > deadline_s:
                    raise
            except Refused as refusal:
                if refusal.status != 503 or time.monotonic() > deadline_s:
                    raise
            if purge_id and reader.ended:
                return
            await asyncio.sleep(flows.AGAIN_S)

    async def _stream(self, path: str, reader: flows.EventReader) -> AsyncIterator[flows.Event]:
        headers = {"Last-Event-ID": reader.last_id} if reader.last_id else {}
        try:
            async with self._http.stream("GET", path, headers=headers) as response:
                reader.ended = response.status_code == 204
                if failure := flows.instead(response.status_code, flows.retry_after_s(response.headers.get("retry-after", ""))):
                    raise self._base.unreachable(failure)
                if not response.is_success:
                    flows.decoded(self._base, flows.Response(response.status_code, await response.aread()), dict)
                flows.check_stream(self._base, response.status_code, response.headers.get("content-type", ""))
                async for line in response.aiter_lines():
                    if event := reader.line(line):
                        yield event
        except (httpx.RequestError, httpx.InvalidURL) as error:
            raise self._base.unreachable(str(error)) from None

    def _deadline_s(self) -> float:
        return time.monotonic() + self._patience_s

    async def _run(self, flow: flows.Flow[T]) -> T:
        answer: flows.Response | None = None
        try:
            while True:
                step = flow.send(answer)
                if isinstance(step, flows.Pause):
                    answer = None
                    await asyncio.sleep(step.s)
                else:
                    answer = await self._send(step)
        except StopIteration as end:
            value: T = end.value
            return value

    async def _send(self, request: flows.Request) -> flows.Response:
        timeout_s = flows.REQUEST_S + request.longer_s
        try:
            response = await self._http.request(
                request.method, request.path, params=request.query, json=request.body, headers=request.headers, timeout=timeout_s
            )
        except (httpx.RequestError, httpx.InvalidURL) as error:
            return flows.Response(failure=str(error) or type(error).__name__)
        return flows.Response(response.status_code, response.content, flows.retry_after_s(response.headers.get("retry-after", "")))
