"""A cache under examination: what is asked of it, in the order in which each check needs the one before."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from typing import Protocol

import httpx

from agezero.config.edges import CANARY_PATH
from agezero.doctor.canary import Canary
from agezero.edges.kinds import Finding
from agezero.ports import DriverFailed

ANSWER_S = 10.0
REACH_TRIES = 5
"""A cache that found nobody at the canary's address before looks there again only after the next request (Squid)."""
REACH_PAUSE_S = 0.5
_ALL = "include the configuration that `agezero edge-config` prints, all of it"


class Hands(Protocol):
    """Through whom the doctor acts on a cache: its agent."""

    async def serving(self) -> str:
        """Return once the edge holds a lease, with a word for people. Raises :class:`DriverFailed`, with what keeps it from one."""
        ...

    async def purge(self, url: str) -> None:
        """A real purge, through the log; confirmed by the edge on return. Raises :class:`DriverFailed`."""
        ...

    async def fence(self) -> bool:
        """End the lease, for good. False: it belongs to a service that runs."""
        ...


class Patient:
    """One cache, asked at ``front``; ``found`` is told each finding."""

    def __init__(self, front: str, hands: Hands, canary: Canary, found: Callable[[Finding], None]) -> None:
        self._hands, self._canary, self._found = hands, canary, found
        self._front = front.rstrip("/")
        self._path = CANARY_PATH
        self._client = httpx.AsyncClient(timeout=ANSWER_S, trust_env=False)

    async def examine(self) -> None:
        """The first check that fails is the last."""
        steps: list[tuple[str, Callable[[], Awaitable[str]], str]] = [
            ("reaches the canary", self._reach, f"map {CANARY_PATH} to the address in edges.canary, under the host in edges.front"),
            ("caches", self._cached, "turn the cache on for this host; responses with Cache-Control: max-age are to be stored"),
            ("purges", self._purged, _ALL),
            ("keeps out what was in flight", self._raced, _ALL),
        ]
        async with self._client:
            if await self._served() and all([await self._step(*step) for step in steps[:1]]):
                for step in steps[1:]:
                    if not await self._step(*step):
                        return
                await self._without_a_lease()

    async def _served(self) -> bool:
        fix = "see the cache's page in docs/DRIVERS.md: `agezero edge-config` prints the configuration it needs"
        try:
            said = await self._hands.serving()
        except DriverFailed as error:
            return self._tell("obeys its agent", *_parted(error, fix))
        self._found(Finding("obeys its agent", True, said))
        return True

    async def _step(self, what: str, check: Callable[[], Awaitable[str]], fix: str) -> bool:
        try:
            return self._tell(what, await check(), fix)
        except DriverFailed as error:
            return self._tell(what, *_parted(error, fix))
        except (httpx.HTTPError, TimeoutError) as error:
            return self._tell(what, f"{self._front} did not answer: {error or 'it took too long'}", "start the cache, or correct edges.front")

    def _tell(self, what: str, wrong: str, fix: str) -> bool:
        self._found(Finding(what, not wrong, wrong, fix if wrong else ""))
        return not wrong

    async def _without_a_lease(self) -> None:
        what = "bypasses without a lease"
        if await self._hands.fence():
            await self._step(what, self._fenced, "let the lease decide about lookup and about storing, as `agezero edge-config` prints it")
        else:
            self._found(Finding(what, True, "not tried, as the service runs and needs the lease; stop it and ask again to have this tried as well"))

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
        await self._hands.purge(self._front + self._path)
        return "" if await self._fetches() == 1 else "the canary was served from the cache after its purge was confirmed"

    async def _raced(self) -> str:
        await self._hands.purge(self._front + self._path)
        gate = self._canary.held[self._path] = asyncio.Event()
        old = asyncio.create_task(self._client.get(self._front + self._path))
        try:
            async with asyncio.timeout(ANSWER_S):
                await self._canary.reached(self._path, self._canary.fetched[self._path] + 1)
            del self._canary.held[self._path]
            self._canary.version += 1
            await self._hands.purge(self._front + self._path)
        finally:
            gate.set()
            await asyncio.wait([old])
        said = (await self._client.get(self._front + self._path)).text
        return "" if said == f"canary {self._canary.version}\n" else "what was being fetched during a purge was served after it"

    async def _fenced(self) -> str:
        return "" if await self._fetches() == 1 else "the canary was served from the cache without a lease"

    async def _fetches(self) -> int:
        before = self._canary.fetched[self._path]
        await self._client.get(self._front + self._path)
        return self._canary.fetched[self._path] - before


def _parted(error: DriverFailed, fix: str) -> tuple[str, str]:
    said, _, hint = str(error).partition("\nhint: ")
    return said, hint or fix
