"""``agezero doctor``: is a cache really set up so that its purges are proven? Asked of the running cache, with real requests.

What a driver can see from outside comes first (its ``examine``). Then a *canary*: the shipped configuration sends the path
``/.well-known/agezero/`` to an origin that the doctor opens for itself. It counts what reaches it, and answers as slowly as a check wants: so it is
seen, not believed, that an object is cached, is gone once its purge was confirmed, does not come back from a fetch that was in flight, and is
bypassed without a lease.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path

import httpx

from agezero.config.checks import parse_address
from agezero.config.edges import ExternalEdge
from agezero.core.purge import Purge
from agezero.core.selector import parse_url
from agezero.edges.kinds import DriverKind, Finding, OpenEdge
from agezero.errors import UserError
from agezero.ports import DriverFailed, Lease

HEAD = (
    "HTTP/1.1 200 OK\r\nDate: {}\r\nCache-Control: max-age=600\r\n"  # Squid stores nothing without Date
    "Content-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n"
)
CANARY_PATH = "/.well-known/agezero/"
LEASE_S = 60.0
ANSWER_S = 10.0
REACH_TRIES = 5
"""A cache that found nobody at the canary's address before looks there again only after the next request (Squid)."""
REACH_PAUSE_S = 0.5

Tell = Callable[[Finding], None]


@dataclass
class Canary:
    """The origin of the canary. ``fetched``: how often each path was asked for. A path in ``held`` is answered once its event is set."""

    fetched: Counter[str] = field(default_factory=Counter)
    held: dict[str, asyncio.Event] = field(default_factory=dict)
    version: int = 1
    _reached: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def reached(self, path: str, times: int) -> None:
        """Return once ``path`` has been asked for so often."""
        async with self._reached:
            await self._reached.wait_for(lambda: self.fetched[path] >= times)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, one answer."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, IndexError):
            path = (await reader.readuntil(b"\r\n\r\n")).split(b" ")[1].decode("latin-1")
            body = f"canary {self.version}\n".encode()
            async with self._reached:
                self.fetched[path] += 1
                self._reached.notify_all()
            if path in self.held:
                await self.held[path].wait()
            writer.write(HEAD.format(formatdate(usegmt=True), len(body)).encode() + body)
            await writer.drain()
        writer.close()


async def examine(options: ExternalEdge, kind: DriverKind, folder: Path, tell: Tell) -> bool:
    """Look at everything, ``tell`` each finding as it is made. True: all is as it should be. Raises :class:`UserError`."""
    findings: list[Finding] = []

    def found(finding: Finding) -> None:
        findings.append(finding)
        tell(finding)

    for finding in await kind.examine(options, folder):
        found(finding)
    if not options.front:
        found(Finding("the front", False, f"edges.front of {options.name} is not set", "set it to the http:// address on which the cache serves"))
    if all(finding.ok for finding in findings):
        opened: OpenEdge = kind.open(options, folder)
        try:
            async with _canary(options.canary) as canary:
                await _Patient(options.front, opened, canary, found).examine()
        finally:
            await opened.driver.aclose()
            opened.state.close()
    return all(finding.ok for finding in findings)


@contextlib.asynccontextmanager
async def _canary(address: str) -> AsyncIterator[Canary]:
    canary, (host, port) = Canary(), parse_address(address)
    try:
        server = await asyncio.start_server(canary.serve, host, port)
    except OSError as error:
        raise UserError(
            f"the canary cannot listen on {address}: {error.strerror}", "choose another edges.canary, here and in the cache's configuration"
        ) from None
    try:
        yield canary
    finally:
        server.close()


class _Patient:
    """One cache under examination."""

    def __init__(self, front: str, opened: OpenEdge, canary: Canary, found: Tell) -> None:
        self._driver, self._state, self._canary, self._found = opened.driver, opened.state, canary, found
        self._front = front.rstrip("/")
        self._path = CANARY_PATH
        self._purges = 0
        self._client = httpx.AsyncClient(timeout=ANSWER_S, trust_env=False)

    async def examine(self) -> None:
        """In the order in which each check needs the one before; the first that fails is the last."""
        steps: list[tuple[str, Callable[[], Awaitable[str]], str]] = [
            ("answers its agent", self._take, "see the cache's page in docs/DRIVERS.md: `agezero edge-config` prints the configuration it needs"),
            ("reaches the canary", self._reach, f"map {CANARY_PATH} to the address in edges.canary, under the host in edges.front"),
            ("caches", self._cached, "turn the cache on for this host; responses with Cache-Control: max-age are to be stored"),
            ("purges", self._purged, "include the configuration that `agezero edge-config` prints, all of it"),
            ("keeps out what was in flight", self._raced, "include the configuration that `agezero edge-config` prints, all of it"),
            ("bypasses without a lease", self._fenced, "let the lease decide about lookup and about storing, as `agezero edge-config` prints it"),
        ]
        async with self._client:
            for what, check, fix in steps:
                wrong, advice = "", fix
                try:
                    wrong = await check()
                except DriverFailed as error:
                    wrong, _, hint = str(error).partition("\nhint: ")
                    advice = hint or fix
                except httpx.HTTPError as error:
                    wrong, advice = f"{self._front} did not answer: {error}", "start the cache, or correct edges.front"
                self._found(Finding(what, not wrong, wrong, advice if wrong else ""))
                if wrong:
                    break
            with contextlib.suppress(DriverFailed):
                await self._driver.fence()

    async def _take(self) -> str:
        self._driver.take_over(getattr(self._state, "token", 0) or 1)
        await self._driver.probe()
        # The purges to come take numbers that the log has yet to give. So the next agent begins with a purge of everything, even if we end here.
        self._state.distrust("agezero doctor has examined it")
        await self._driver.purge_everything(self._state.watermark)
        await self._driver.install(Lease(getattr(self._state, "token", 0) or 1, time.monotonic(), LEASE_S))
        return ""

    async def _reach(self) -> str:
        for _ in range(REACH_TRIES):  # each with a path that nobody has answered yet
            self._path = f"{CANARY_PATH}{secrets.token_hex(8)}"
            answer = await self._client.get(self._front + self._path)
            if self._canary.fetched[self._path]:
                return ""
            await asyncio.sleep(REACH_PAUSE_S)
        return f"GET {self._front}{self._path} was answered {answer.status_code}, and the canary was not asked"

    async def _cached(self) -> str:
        return "" if await self._fetches() == 0 else "the canary was fetched again for a second request"

    async def _purged(self) -> str:
        await self._purge()
        return "" if await self._fetches() == 1 else "the canary was served from the cache after its purge was confirmed"

    async def _raced(self) -> str:
        await self._purge()
        gate = self._canary.held[self._path] = asyncio.Event()
        old = asyncio.create_task(self._client.get(self._front + self._path))
        async with asyncio.timeout(ANSWER_S):
            await self._canary.reached(self._path, self._canary.fetched[self._path] + 1)
        del self._canary.held[self._path]
        self._canary.version += 1
        await self._purge()
        gate.set()
        await old
        said = (await self._client.get(self._front + self._path)).text
        return "" if said == f"canary {self._canary.version}\n" else "what was being fetched during a purge was served after it"

    async def _fenced(self) -> str:
        await self._driver.fence()
        return "" if await self._fetches() == 1 else "the canary was served from the cache without a lease"

    async def _purge(self) -> None:
        self._purges += 1  # under one number, the second would change nothing
        await self._driver.apply([Purge(self._state.watermark + self._purges, parse_url(self._front + self._path))])

    async def _fetches(self) -> int:
        before = self._canary.fetched[self._path]
        await self._client.get(self._front + self._path)
        return self._canary.fetched[self._path] - before
