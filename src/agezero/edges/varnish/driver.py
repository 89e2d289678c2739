"""Drives a Varnish that runs agezero.vcl: the port ``EdgeDriver`` over that file's own listener.

A purge moves a counter and then removes what is stored, both in one command. What was being stored at that very moment may be missed by
both; a hit on it is refused while it's young, and a ban removes it a second later (*settling*), which spares what was fetched after the purge. Until
that is confirmed no lease goes far: an agent that dies before leaves a note in its state, and the next one purges everything.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from agezero.core.purge import Purge
from agezero.core.selector import EVERYTHING, Kind, Selector
from agezero.edges.position import PositionFile
from agezero.edges.varnish import names
from agezero.edges.varnish.bans import Bans
from agezero.edges.varnish.connection import Connections, Reply
from agezero.edges.varnish.settling import SETTLE_TICK_S, TAGS_MAX, Command, Places, Unsettled, due_of, parts, settling
from agezero.edges.varnish.vcl import PLACES, URLS_MAX
from agezero.ports import Capabilities, DriverFailed, Lease

CAPABILITIES = Capabilities(exact=frozenset(Kind), fences=True, restores=True, soft=True)
_TRY = "agezero/~"
TIMEOUT_S = 10.0
SETTLE_S = 1.0
SETTLE_REPLY_S = 0.5
"""A slower answer doesn't show that the cache had been running all the time; the purge is given again."""
OVERDUE_S = 10.0
END_S = SETTLE_S + 2 * SETTLE_REPLY_S
"""How long an end in good order waits for what is unsettled. If it isn't by then, the next agent purges everything."""


class VarnishDriver:
    """Implements :class:`agezero.ports.EdgeDriver`. ``settles`` off takes a safeguard away, for the test that shows that it is needed.

    ``end_s``: how long ``aclose`` may take.
    """

    capabilities = CAPABILITIES

    def __init__(  # noqa: PLR0913 - the last two are for tests
        self, control: Path, state: PositionFile, *, connections: int = 4, timeout_s: float = TIMEOUT_S, settles: bool = True, end_s: float = END_S
    ) -> None:
        self._state = state
        self._calls = Connections(control, connections, timeout_s)
        self._boot = ""
        self._bans = Bans()
        self._settles = settles
        self._end_s = end_s
        self._unsettled: list[Unsettled] = []
        self._places = Places()
        self._settling: asyncio.Task[None] | None = None

    def take_over(self, token: int) -> None:
        """All calls from now on are under ``token``; Varnish learns of it with the first, and then refuses a lower one."""
        self._state.save_token(token)

    async def probe(self) -> str:
        """The boot id. It changes with every start of Varnish's child."""
        reply = await self._calls.call("/state", {"AgeZero-Try": _TRY})
        if reply.status != 200:
            raise DriverFailed(f"the edge's Varnish refused to tell its state: {reply.status} {reply.body}")
        if reply.headers.get("agezero-key") != str(names.key(_TRY)):
            raise DriverFailed(f"this Varnish computes keys in another way: {reply.headers.get('agezero-key')}, expected {names.key(_TRY)}")
        if int(reply.headers.get("agezero-token", "0")) > self._state.token:
            raise DriverFailed(
                f"the edge obeys a newer agent, token {reply.headers['agezero-token']}; this one holds {self._state.token}"
                "\nhint: stop one of the two agents; if there is no other, since the records of the service were lost, restart the cache"
            )
        if reply.headers["agezero-boot"] != self._boot:
            self._unsettled.clear()  # with all that was stored
            self._places = Places()
        self._boot = reply.headers["agezero-boot"]
        return self._boot

    async def restore(self, boot_id: str) -> None:
        """Varnish itself keeps what was purged, as long as its child lives and nothing was left unsettled. If not so: everything."""
        self._boot = boot_id
        if self._state.boot != boot_id or self._state.unsettled:
            await self._everything()

    async def purge_everything(self, seq: int) -> None:  # noqa: ARG002 - Varnish removes; it needs no number
        """The lease ends first."""
        await self.probe()
        await self._everything()

    async def apply(self, purges: Sequence[Purge]) -> None:
        """Confirmed on return."""
        commands = [*self._commands(purges, soft=False), *self._commands(purges, soft=True)]
        wide = [purge.selector for purge in purges if purge.selector.kind not in (Kind.URL, Kind.TAG)]
        wide += [EVERYTHING for purge in purges if purge.selector.kind is Kind.TAG and names.tag_key(purge.selector.value) is None]
        commands += [_ban(selector) for selector in self._bans.plan(wide, time.monotonic())]
        await self._all(commands)

    async def install(self, lease: Lease) -> None:
        """Convert the lease to the wall clock that VCL reads; it began when it was asked for, not now."""
        now_s = time.monotonic()
        if self._unsettled and now_s - self._unsettled[0].given_s > OVERDUE_S:
            raise DriverFailed(f"purges given {now_s - self._unsettled[0].given_s:.0f} s ago could not be given again yet")
        issued_s = time.time() - (time.monotonic() - lease.asked_at_s)  # in this order: a pause between the two shortens the lease
        until_s, young_s = issued_s + lease.length_s, 2 * OVERDUE_S + lease.length_s
        await self._do("/lease", {"AgeZero-Issued": f"{issued_s:.3f}", "AgeZero-Until": f"{until_s:.3f}", "AgeZero-Young": f"{young_s:.3f}"})

    async def fence(self) -> None:
        """End the lease at once."""
        await self._do("/lease", {"AgeZero-Issued": "0", "AgeZero-Until": "0", "AgeZero-Young": "3600"})

    async def aclose(self) -> None:
        """Settle what is yet to be settled, and close the connections."""
        if self._settling is not None:
            await asyncio.wait([self._settling], timeout=self._end_s)
            self._settling.cancel()
            await asyncio.wait([self._settling])
            self._settling = None
        self._calls.close()

    async def _everything(self) -> None:
        await self.fence()
        await self._all([_ban(selector) for selector in self._bans.plan([EVERYTHING], time.monotonic())])
        self._state.save_boot(self._boot)

    # Commands

    def _commands(self, purges: Sequence[Purge], *, soft: bool) -> Iterator[Command]:
        """Those for URLs and tags. Each URL once."""
        before = "/soft-" if soft else "/"
        chosen = [purge.selector for purge in purges if purge.soft is soft]
        urls = dict.fromkeys(selector.value for selector in chosen if selector.kind is Kind.URL)
        for part in parts(map(names.url_names, urls), URLS_MAX):
            counters = {f"AgeZero-{number}": counter for number, (_, counter) in enumerate(part, 1)}
            yield Command(before + "urls", {"AgeZero-Keys": " ".join(key for key, _ in part), **counters})
        keys = dict.fromkeys(key for selector in chosen if selector.kind is Kind.TAG and (key := names.tag_key(selector.value)))
        for tags in parts(keys, 1 if len(keys) <= PLACES // 2 else TAGS_MAX):
            yield Command(before + "tags", {"AgeZero-Keys": " ".join(tags)})

    async def _all(self, commands: Sequence[Command]) -> None:
        entries = [self._places.put(command) for command in commands]
        replies = await _together(self._do(entry.command.path, entry.command.headers) for entry in entries)
        now_s = time.monotonic()
        again = [
            replace(entry, given_s=now_s, since=float(reply.headers["agezero-now"]))
            for entry, reply in zip(entries, replies, strict=True)
            if "agezero-again" in reply.headers
        ]
        if again and self._settles:
            self._unsettled += again
            self._state.unsettled = True  # comes to the disk with the watermark that says that they are applied
            if self._settling is None or self._settling.done():
                self._settling = asyncio.create_task(self._settle())

    async def _do(self, path: str, headers: Mapping[str, str]) -> Reply:
        reply = await self._calls.call(path, {"AgeZero-Token": str(self._state.token), "AgeZero-Boot": self._boot, **headers})
        if reply.status != 200:
            raise DriverFailed(f"the edge's Varnish did not do {path}: {reply.body or reply.status}")
        return reply

    # Settling

    async def _settle(self) -> None:
        while self._unsettled:
            await asyncio.sleep(max(SETTLE_TICK_S, self._unsettled[0].given_s + SETTLE_S - time.monotonic()))
            due = due_of(self._unsettled)
            if not await self._again(due):
                await asyncio.sleep(SETTLE_S)
                continue
            self._unsettled = [entry for entry in self._unsettled if entry not in due]
            self._places.release(due)
        self._state.settled()

    async def _again(self, due: Sequence[Unsettled]) -> bool:
        """Remove what was fetched before they were confirmed, without moving a counter. False where that itself was not confirmed in time."""
        try:
            for command in settling(due):
                async with asyncio.timeout(SETTLE_REPLY_S):
                    await self._do(command.path, command.headers)
        except (DriverFailed, TimeoutError):
            return False
        return True


def _ban(selector: Selector) -> Command:
    return Command("/ban", {"AgeZero-1": names.counter(selector), "AgeZero-Ban": names.ban(selector)}, wide=f"={names.bones(_beginning(selector))}")


def _beginning(selector: Selector) -> str:
    return selector.value + "/" if selector.kind is Kind.HOST else selector.value


async def _together(calls: Iterable[Coroutine[object, object, Reply]]) -> list[Reply]:
    """All of them, side by side. Raises the first failure, once none of them is under way any more."""
    results = await asyncio.gather(*calls, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return [result for result in results if not isinstance(result, BaseException)]
