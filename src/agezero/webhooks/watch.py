"""Looks for what webhooks have to be told, and writes it down. What is written is told; what isn't is found again at the next look."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from agezero.events import EventKind, Events
from agezero.webhooks.messages import message, of_blocked, of_completed, of_edge
from agezero.webhooks.store import PENDING_MAX, Delivery, Store, Webhook

BATCH = 2_500
"""Most purges in one message."""
FAILING_S = 30
"""How often a receiver that fails is told of completed purges: more of them go into one message."""
EDGE_EVENTS = {EventKind.EDGE_FENCED.value, EventKind.EDGE_UNFENCED.value}


class Watch:
    """``now_ms``: the wall clock."""

    def __init__(self, store: Store, events: Events, blocked_after_s: float, now_ms: Callable[[], int]) -> None:
        self._store = store
        self._events = events
        self._blocked_after_s = blocked_after_s
        self._now_ms = now_ms
        self._blocked = False
        self._told_ms: dict[str, int] = {}

    async def look(self) -> bool:
        """Write down what has happened; is there more of it already? Raises ``sqlite3.Error``, :class:`agezero.ports.LogUnavailable`."""
        more = False
        for webhook in self._who(EventKind.PURGE_COMPLETED):
            if self._events.latest() > webhook.completed:
                more = await self._completed(webhook) or more
        if self._who(*EDGE_EVENTS):
            await self._edges()
        if listening := self._who(EventKind.PURGE_BLOCKED):
            await self._held_up(listening)
        return more

    def _who(self, *events: str) -> list[Webhook]:
        return [webhook for webhook in self._store.webhooks.values() if not webhook.stopped and set(events) & set(webhook.events)]

    async def _completed(self, webhook: Webhook) -> bool:
        waiting, failing = await asyncio.to_thread(self._store.waiting, webhook.id)
        now_ms = self._now_ms()
        if waiting >= PENDING_MAX // 2 or (failing and 0 <= now_ms - self._told_ms.get(webhook.id, 0) < FAILING_S * 1000):
            return False  # the mark stays, and the next message tells of more
        until = self._events.latest()
        purges = list(await self._events.completed(webhook.completed, BATCH))
        mark = purges[-1].seq if purges else until
        told = message(webhook, EventKind.PURGE_COMPLETED, of_completed(purges), now_ms) if purges else None
        await asyncio.to_thread(self._store.tell_completed, webhook.id, told, mark)
        self._told_ms[webhook.id] = now_ms
        return len(purges) == BATCH

    async def _edges(self) -> None:
        now = self._events.fenced()
        if now is None:
            return
        told = await asyncio.to_thread(self._store.edges_told)
        if told == dict(now):
            return
        messages: list[Delivery] = []
        for name, fenced in now.items():
            if told.get(name, fenced if not told else None) != fenced:
                event, data = of_edge(name, fenced)
                messages += [message(webhook, event, data, self._now_ms()) for webhook in self._who(event)]
        await asyncio.to_thread(self._store.tell, messages, now)

    async def _held_up(self, listening: list[Webhook]) -> None:
        """Once for each time in which something is held up, however many purges that are."""
        blocked = await self._events.blocked()
        held_up = blocked is not None and blocked.pending_s >= self._blocked_after_s
        if blocked is not None and held_up and not self._blocked:
            messages = [message(webhook, EventKind.PURGE_BLOCKED, of_blocked(blocked), self._now_ms()) for webhook in listening]
            await asyncio.to_thread(self._store.tell, messages)
        self._blocked = held_up
