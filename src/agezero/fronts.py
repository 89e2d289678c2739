"""Asks the edges for a URL as a visitor would, and looks at what they show: evidence beside the proof, which rests on nothing here.

Only addresses of the settings are connected to; the URL's own host is no more than a header. A response's body is not read to its end.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType

import httpx

from agezero.config import Config

ASKING_MAX = 8
"""Requests under way at a time, whoever asks for them."""
TIMEOUT_S = 10.0
_ANY = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]", "*": "127.0.0.1"}  # noqa: S104 (replaced, not bound)


@dataclass(frozen=True, slots=True)
class Seen:
    """A response. ``why``: there is none."""

    status: int = 0
    headers: Mapping[str, str] | None = None
    why: str = ""


def fronts(config: Config) -> dict[str, str]:
    """Edge → scheme, host and port on which it serves, as far as the settings say so."""
    found = {edge.name: edge.front.rstrip("/") for edge in config.edges if edge.front}
    if config.edge.origin:
        host, _, port = config.edge.listen.rpartition(":")
        found[config.edge.name] = f"{'https' if config.edge.tls_certificate else 'http'}://{_ANY.get(host, host)}:{port}"
    return found


class Fronts:
    """Use as an async context manager; before that, nothing is asked."""

    def __init__(self, addresses: Mapping[str, str]) -> None:
        self._addresses = addresses
        self._room = asyncio.Semaphore(ASKING_MAX)
        self._client: httpx.AsyncClient | None = None

    async def __aenter__(self) -> Fronts:
        """Ready to ask."""
        limits = httpx.Limits(max_connections=ASKING_MAX, max_keepalive_connections=0)
        self._client = httpx.AsyncClient(verify=ssl.create_default_context(), trust_env=False, timeout=TIMEOUT_S, limits=limits)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Let go of the connections."""
        if self._client is not None:
            await self._client.aclose()

    async def ask(self, edge: str, url: str) -> Seen:
        """``url``: canonical, host and path without a scheme. Never raises."""
        address, client = self._addresses.get(edge), self._client
        if address is None or client is None:
            return Seen(why="it is not known where this edge serves: edges.front is not set here")
        authority, slash, target = url.partition("/")
        headers = {"Host": authority, "Accept-Encoding": "identity"}
        extensions = {"sni_hostname": authority.partition(":")[0]}
        try:
            async with (
                self._room,
                asyncio.timeout(TIMEOUT_S),
                client.stream("GET", address + slash + target, headers=headers, extensions=extensions) as response,
            ):
                return Seen(response.status_code, response.headers)
        except TimeoutError:
            return Seen(why=f"no answer from {address} within {TIMEOUT_S:g} s")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return Seen(why=f"no answer from {address}: {error}")
