"""Caches: one with the purge table in its key, one that purges natively. Both fill from upstream, check their lease, keep Vary variants.

``TableCache`` is nginx with AgeZero's table in memory of its own: the key is (newest purge, URL, variant), computed when a request arrives.
It may record the tags of what it stores; else a purge of a tag is widened before.
``MappedCache`` is nginx by Lua, Traffic Server or Squid, which read the agent's file: a restart loses neither table nor lease. The code of both may
fail for a while, as a Lua script or Squid's helper does. ``NativeCache`` is Varnish: objects by URL, a purge deletes them, and a fill fence keeps out
what was being fetched meanwhile. Most agents of one trust what lies in it, if it has not restarted since; and its commands may end up at the origin.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agezero.core.epochs import Gates, Write
from agezero.core.purge import Purge
from agezero.core.selector import EVERYTHING, Kind
from agezero.core.steps import Apply, DriverDone, DriverFailed, EdgeRestarted, Install, Probe, PurgeEverything, Restore
from sim.network import Network
from sim.origin import TAGS, URLS, VARIANTS, Body, Origin
from sim.parts import Parts
from sim.records import TagRecords, highest
from sim.world import Actor, Call, World

if TYPE_CHECKING:
    from sim.checker import Checker
    from sim.shells import Agent

SLOTS = 32
PLAIN_KEY = -1
"""The epoch of requests whose epoch could not be computed, where that does not bypass."""
FETCH_TIMEOUT_S = 3.0
STORING_S = 0.3
"""How long it may take at most from the last look whether a purge came until the object can be found."""
YOUNG_S = 6.0
"""So long a hit looks again: until what was unsettled at its time is settled, or no lease can be in force any more."""
Key = tuple[int, str, str]
Waiter = tuple[Actor, int, Call, tuple[Any, ...]]
Step = Probe | Apply | PurgeEverything | Restore | Install


@dataclass(slots=True)
class TablePart:
    """What an agent sends to the copy in the cache: the writes to repeat, and which look-ups they need."""

    writes: list[Write]
    gates: Gates
    tags: int


@dataclass(slots=True)
class Fill:
    """A fetch under way: what it will be stored as, and who waits for it."""

    key: Key
    began_s: float
    waiters: list[Waiter] = field(default_factory=list)
    spoilt: bool = False


class Cache(Actor):
    """What both have in common. The store and the newest token are on disk; lease, table copy and fills are lost by a restart."""

    fences = True

    def __init__(self, world: World, name: str, rate: float, network: Network, parts: Parts, checker: Checker) -> None:
        super().__init__(world, name, rate)
        self.network, self.parts, self.checker = network, parts, checker
        self.upstream: Cache | Origin
        self.store: dict[Key, Body] = {}
        self.token = 0
        self.refuses: frozenset[Kind] = frozenset()
        self.mute = False
        self.forwarding = False
        """Commands go to the origin, which answers 200 to anything."""
        self.stumbling = False
        """Its code for the table fails at every request."""
        self.boots = 0
        self.boot(disk=True)

    def boot(self, disk: bool) -> None:
        """Start, with or without what the disk holds."""
        self.up = True
        self.boots += 1
        self.fills: dict[Key, Fill] = {}
        self.forget()
        if not disk:
            self.store.clear()
            self.token = 0

    def forget(self) -> None:
        """What the process had in its memory."""
        self.until_s = self.asked_at_s = 0.0
        self.loaded = False

    @property
    def boot_id(self) -> str:
        return f"{self.name}-{self.boots}"

    def epoch(self, url: str) -> int:
        """The purge epoch of the key."""
        raise NotImplementedError

    def newest(self, url: str) -> int:
        """What its table says, whatever its code makes of that."""
        raise NotImplementedError

    def live(self) -> bool:
        """May this request be answered from the store? Else it bypasses."""
        if self.stumbling and self.parts.errors_bypass:
            return False
        return not self.parts.lease_at_edge or self.clock_s() < self.until_s

    # Requests

    def serve(self, source: Actor, life: int, url: str, variant: str, began_s: float, call: Call, *args: Any) -> None:  # noqa: ARG002
        """The answer comes as ``call(*args, body)`` to this life of ``source``."""
        waiter = (source, life, call, args)
        if not self.live():
            self.world.mark("bypass")
            self._ask(url, variant, self._answer, [waiter])
            return
        key = (self.epoch(url), url, variant)
        body = self.find(key)
        if body is not None:
            self.world.mark("hit")
            self._answer([waiter], body)
            return
        fill = self.fills.get(key)
        if fill is not None and self.world.now_s < fill.began_s + FETCH_TIMEOUT_S:
            self.world.mark("collapsed miss")
            fill.waiters.append(waiter)
            return
        if fill is not None:
            fill.spoilt = True  # given up
        fill = self.fills[key] = Fill(key, self.world.now_s, [waiter])
        self._ask(url, variant, self._filled, fill)

    def _ask(self, url: str, variant: str, call: Call, *args: Any) -> None:
        target = self.upstream
        delay_s = self.world.network.between(0.001, 0.02)
        self.network.pass_on(target, delay_s, "request", target.serve, self, self.life, url, variant, self.world.now_s, call, *args)

    def _answer(self, waiters: list[Waiter], body: Body) -> None:
        for source, life, call, args in waiters:
            self.network.pass_on(source, self.world.network.between(0.001, 0.02), "response", call, *args, body, life=life)

    def _filled(self, fill: Fill, body: Body) -> None:
        if self.fills.get(fill.key) is fill:
            del self.fills[fill.key]
        if fill.spoilt and self.parts.fill_fence:
            self.world.mark("fill fenced off")
        elif self.admits(fill.key, body):
            self.store[self._stored_as(fill.key)] = body
            self.checker.audit(self)
        else:
            for waiter in fill.waiters[1:]:  # who asked first began before the purge
                self._ask(*fill.key[1:], self._answer, [waiter])
            del fill.waiters[1:]
        self._answer(fill.waiters, body)

    def admits(self, key: Key, body: Body) -> bool:  # noqa: ARG002
        """May it be stored, and given to who has waited for it?"""
        return True

    def find(self, key: Key) -> Body | None:
        """What a request would be answered with."""
        return self.store.get(key)

    def _stored_as(self, key: Key) -> Key:
        return key

    # Driver steps

    def perform(self, agent: Agent, life: int, token: int, step: Step, part: TablePart | None) -> None:
        """What the driver does at the cache's end."""
        answer: EdgeRestarted | DriverDone | DriverFailed
        if self.forwarding:
            self.world.mark("the origin answered a command")
            unmarked = DriverFailed(step.step, "this is not the cache's answer")
            answer = unmarked if self.parts.own_mark or isinstance(step, Probe) else DriverDone(step.step)
        elif self.parts.token_at_edge and token < self.token and not isinstance(step, Probe):
            self.world.mark("cache refused an old token")
            answer = DriverFailed(step.step, "a newer agent has taken this edge over")
        else:
            answer = self._do(token, step, part)
        if self.mute and self.world.faulty:
            self.world.mark("applied, then timed out")
            return
        self.network.send(self, agent, "driver answers", agent.handle, answer, life=life)

    def _do(self, token: int, step: Step, part: TablePart | None) -> EdgeRestarted | DriverDone | DriverFailed:
        if isinstance(step, Probe):
            return EdgeRestarted(self.boot_id)
        self.checker.written(self, token)
        self.token = max(self.token, token)
        if isinstance(step, Install):
            if not self.loaded and self.parts.boot_id:
                self.world.mark("cache refused a lease before its table")
                return DriverFailed(step.step, "the table is not loaded")
            self._install(step)
        else:
            if isinstance(step, Apply) and any(purge.selector.kind in self.refuses for purge in step.purges):
                self.world.mark("driver refused")
                return DriverFailed(step.step, "cannot do this", refused=True)
            self.change(step, part)
            self.loaded |= not isinstance(step, Apply)
        self.checker.audit(self)
        return DriverDone(step.step)

    def _install(self, step: Install) -> None:
        """The newest question decides, so that a delayed lease does not bring back what ``revoke`` took."""
        if step.asked_at_s >= self.asked_at_s:
            self.asked_at_s = step.asked_at_s
            self.until_s = step.asked_at_s + step.length_s

    def revoke(self) -> None:
        """The agent leaves: no lease asked for until now counts any more."""
        self.asked_at_s, self.until_s = self.clock_s(), 0.0

    def change(self, step: Apply | PurgeEverything | Restore, part: TablePart | None) -> None:
        """Purge, or load the table."""
        raise NotImplementedError

    def visible(self) -> list[tuple[str, Body]]:
        """What requests that arrive now would be answered with from the store."""
        if not self.up or not self.live():
            return []
        found = []
        for url in URLS:
            epoch = self.epoch(url)
            for variant in VARIANTS:
                body = self.find((epoch, url, variant))
                if body is not None:
                    found.append((url, body))
        return found


class TableCache(Cache):
    """The purge table in the key. The copy only ever takes the higher number, and never drops a look-up. ``tagged``: it records tags."""

    def __init__(self, *where: Any, tagged: bool) -> None:
        self.tagged = tagged
        super().__init__(*where)

    def forget(self) -> None:
        super().forget()
        self.copy = self.parts.table([0] * SLOTS)
        self.records = TagRecords(self.world, self.parts)

    def epoch(self, url: str) -> int:
        if self.stumbling:
            return PLAIN_KEY
        return self.records.epoch(self.copy, url) if self.tagged else self.newest(url)

    def admits(self, key: Key, body: Body) -> bool:
        return not self.tagged or self.records.admit(self.copy, key[1], key[0], body.tags)

    def newest(self, url: str) -> int:
        return self.copy.newest(url)

    def _stored_as(self, key: Key) -> Key:
        return key if self.parts.fill_fence else (self.epoch(key[1]), *key[1:])

    def change(self, step: Apply | PurgeEverything | Restore, part: TablePart | None) -> None:
        assert part is not None
        ours, theirs = self.copy.gates, part.gates
        ours.host |= theirs.host
        ours.slash |= theirs.slash
        for length, newest in theirs.lengths.items():
            ours.lengths[length] = max(newest, ours.lengths.get(length, 0))
        for write in part.writes:
            if write.slot is None:
                self.copy.apply(write.seq, EVERYTHING)
            else:
                self.copy._raise(write.slot, write.seq)
        self.copy.tags = max(self.copy.tags, part.tags)
        if isinstance(step, PurgeEverything) or (self.records.born is None and isinstance(step, Restore)):
            self.records = TagRecords(self.world, self.parts, born=highest(self.copy))


class MappedCache(TableCache):
    """The table and the lease are in the agent's file."""

    def __init__(self, *where: Any, tagged: bool) -> None:
        self.mapped = False
        self.files = 0
        super().__init__(*where, tagged=tagged)

    def forget(self) -> None:
        if self.mapped:
            self.world.mark("cache restarted and kept its mapped table")
            if not self.parts.table_outlives:
                self.copy = self.parts.table([0] * SLOTS)
            self.records = TagRecords(self.world, self.parts, born=highest(self.copy))
            return
        super().forget()
        self.mapped = True
        self.files += 1

    @property
    def boot_id(self) -> str:
        return f"{self.name}-table-{self.files}"


class NativeCache(Cache):
    """Objects by URL. Where it has a lease to lose, a restart may bring back what was deleted just before.

    ``keeps``: a new agent may find it as the last one has left it, and then purges nothing. Then also, storing takes a moment, in which a purge finds
    the object neither in flight nor stored; ``noted``: how often its URL had been purged when that was last looked at, and when that was.
    """

    def __init__(self, world: World, name: str, rate: float, network: Network, parts: Parts, checker: Checker, fences: bool, keeps: bool) -> None:
        self.fences = fences
        self.keeps = keeps
        self.deleted: list[tuple[Key, Body]] = []
        self.noted: dict[Key, tuple[int, float]] = {}
        self.purged: dict[str, int] = {}
        super().__init__(world, name, rate, network, parts, checker)

    def boot(self, disk: bool) -> None:
        super().boot(disk)
        if disk and self.fences:
            for key, body in self.deleted:
                self.world.mark("deleted object came back with the disk")
                self.store.setdefault(key, body)
        self.deleted, self.noted, self.purged = [], {}, {}

    def find(self, key: Key) -> Body | None:
        purges, at_s = self.noted.get(key, (0, -YOUNG_S))
        if self.parts.young and self.world.now_s < at_s + YOUNG_S and self.purged.get(key[1], 0) != purges:
            self.world.mark("looked again at a young object")
            return None
        return super().find(key)

    def _filled(self, fill: Fill, body: Body) -> None:
        if not self.keeps or not self.parts.fill_fence or fill.spoilt:
            super()._filled(fill, body)
            return
        if self.fills.get(fill.key) is fill:
            del self.fills[fill.key]
        note = (self.purged.get(fill.key[1], 0), self.world.now_s)
        self.after(self.world.network.between(0.0, STORING_S), "stored", self._stored, fill.key, body, note)
        self._answer(fill.waiters, body)

    def _stored(self, key: Key, body: Body, note: tuple[int, float]) -> None:
        if self.purged.get(key[1], 0) != note[0]:
            self.world.mark("stored just after its purge")
        self.store[key], self.noted[key] = body, note
        self.checker.audit(self)

    def settle(self, agent: Agent, life: int, token: int, number: int, purges: tuple[Purge, ...], before_s: float) -> None:
        """Remove what had been looked at before the purges, and was stored after them."""
        if self.forwarding or token < self.token:
            return
        urls = {url for url in URLS for purge in purges if purge.selector.matches(url, TAGS[url])}
        for key in [key for key in self.store if key[1] in urls and self.noted.get(key, (0, -1.0))[1] < before_s]:
            del self.store[key]
        self.network.send(self, agent, "settled", agent.settled, number, life=life)

    def live(self) -> bool:
        return not self.fences or super().live()

    def epoch(self, url: str) -> int:  # noqa: ARG002
        return 0

    def change(self, step: Apply | PurgeEverything | Restore, part: TablePart | None) -> None:  # noqa: ARG002
        if isinstance(step, Restore):
            self.world.mark("a new agent trusted what lies in the cache")
            return
        purges = step.purges if isinstance(step, Apply) else (Purge(step.seq, EVERYTHING),)
        for purge in purges:
            self._purge({url for url in URLS if purge.selector.matches(url, TAGS[url])})

    def _purge(self, urls: set[str]) -> None:
        for url in sorted(urls):
            self.purged[url] = self.purged.get(url, 0) + 1
        for key in [key for key in self.store if key[1] in urls]:
            self.deleted = [*self.deleted[-3:], (key, self.store.pop(key))]
        for key in [key for key in self.fills if key[1] in urls]:
            self.fills[key].spoilt = True
            if self.parts.fill_fence:
                del self.fills[key]
