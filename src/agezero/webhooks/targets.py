"""The one way out to a webhook's target: no private address, no redirect, no proxy, bounded time and answers.

Whoever may make a webhook chooses what this machine connects to. So the name is resolved here, each of its addresses is looked at, and the connection
goes to an address that was looked at: a name server that answers differently a moment later changes nothing. One address that is not public refuses
the whole name.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpcore
import httpx

TIMEOUT_S = 15.0
"""For all of an attempt."""
CONNECTIONS_MAX = 32
ANSWER_BYTES_MAX = 1024
"""What is read of an answer, for the log; more closes the connection."""
URL_CHARACTERS_MAX = 2048

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_PROTOCOLS = ipaddress.IPv4Network("192.0.0.0/24")
"""Assigned to protocols; clouds keep metadata there, and older Pythons take most of it for public."""
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class TargetRefused(Exception):
    """The target may not be connected to; ``str()`` says why."""


@dataclass(frozen=True, slots=True)
class Answer:
    """``status`` 0: there was none, and ``said`` says why; else it is how the answer begins."""

    status: int
    said: str


def check_url(text: str, allow_private: bool) -> str:
    """The URL as it is sent. Raises :class:`TargetRefused`. A name is looked up only when it is connected to."""
    try:
        url = httpx.URL(text)
        port = urlsplit(text).port
    except (httpx.InvalidURL, ValueError) as error:
        raise TargetRefused(f"{text!r} is not a URL: {error}") from None
    if url.scheme not in ("http", "https") or not url.raw_host:
        raise TargetRefused(f"{text!r}: expected an absolute http or https URL")
    if url.userinfo or url.fragment:
        raise TargetRefused("the URL has a user name or a fragment; expected neither")
    if len(str(url)) > URL_CHARACTERS_MAX or port == 0:
        raise TargetRefused(f"the URL is longer than {URL_CHARACTERS_MAX} characters, or its port is 0")
    if (literal := _literal(url.host)) is not None:
        check_addresses([literal], allow_private)
    return str(url)


def check_addresses(addresses: Iterable[Address], allow_private: bool) -> None:
    """Raises :class:`TargetRefused` for the first that is not public."""
    for address in addresses:
        if not allow_private and not is_public(address):
            raise TargetRefused(f"{address} is not a public address; webhooks.allow_private = true in agezero.toml would allow it")


def is_public(address: Address) -> bool:
    """Is it one that the whole internet could reach? Of an address that carries another (mapped, 6to4, Teredo, NAT64): is that one too?"""
    if isinstance(address, ipaddress.IPv6Address):
        carried = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
        if address in _NAT64:
            carried.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        if address.ipv4_mapped is not None or address in _NAT64:
            return all(is_public(inner) for inner in carried if inner is not None)
        if any(not is_public(inner) for inner in carried if inner is not None):
            return False
        if address.is_site_local:
            return False
    return address.is_global and address not in _PROTOCOLS and not (address.is_multicast or address.is_reserved or address.is_unspecified)


class Door:
    """Sends to targets. Made and closed within one event loop."""

    def __init__(self, allow_private: bool, trust: ssl.SSLContext | None = None) -> None:
        self.allow_private = allow_private
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=trust or ssl.create_default_context(), max_connections=CONNECTIONS_MAX, network_backend=_Checked(allow_private)
        )

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """One attempt; never raises but to be cancelled."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                return await self._post(url, headers, body)
        except TimeoutError:
            return Answer(0, f"no answer within {TIMEOUT_S:g} s")
        except (TargetRefused, OSError) as refusal:
            return Answer(0, str(refusal))
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, httpcore.UnsupportedProtocol) as error:
            return Answer(0, str(error) or type(error).__name__)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._pool.aclose()

    async def _post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        parts = httpx.URL(url)
        target = httpcore.URL(scheme=parts.raw_scheme, host=parts.raw_host, port=parts.port, target=parts.raw_path)
        named = [(name.encode(), value.encode()) for name, value in headers.items()]
        async with self._pool.stream("POST", target, headers=named, content=body) as response:
            said = b""
            async for chunk in response.aiter_stream():
                said += chunk
                if len(said) > ANSWER_BYTES_MAX:
                    break
            return Answer(response.status, said[:ANSWER_BYTES_MAX].decode(errors="replace"))


class _Checked(httpcore.AnyIOBackend):
    """Connects to addresses that were looked at, and to nothing else."""

    def __init__(self, allow_private: bool) -> None:
        self._allow_private = allow_private

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """To the first address that answers."""
        addresses = await _resolved(host, port)
        check_addresses(addresses, self._allow_private)
        failure: Exception = TargetRefused(f"the host {host!r} has no address")
        for address in addresses:
            try:
                return await super().connect_tcp(str(address), port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure


async def _resolved(host: str, port: int) -> list[Address]:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise TargetRefused(f"the host {host!r} is unknown: {getattr(error, 'strerror', None) or error}") from None
    return list(dict.fromkeys(ipaddress.ip_address(str(each[4][0]).partition("%")[0]) for each in found))


def _literal(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None
