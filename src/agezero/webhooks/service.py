"""Webhooks, put together: watches, sends, and does what people ask of them."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

import structlog

from agezero.events import Events
from agezero.ports import BoardUnavailable, LogUnavailable
from agezero.webhooks.messages import GONE, TEST, after, headers, message
from agezero.webhooks.store import Delivery, Secret, Store, Webhook
from agezero.webhooks.targets import Answer, Door, check_url
from agezero.webhooks.watch import EDGE_EVENTS, Watch

LOOK_S = 0.25
"""Least time between two looks: what happens within goes into one message."""
IDLE_S = 1.0
"""Longest time between two looks."""
SENDING_MAX = 16
"""Messages that are on their way at a time; of one webhook, one."""
QUIET_S = 60
"""A message that failed less than that ago is not hurried."""
TROUBLE_S = 5.0
_TEST_DATA = {"message": "This is a test of your webhook."}

log = structlog.get_logger()


class Webhooks:
    """One per process, within its event loop. ``turn``: is it this process that tells? Others only do what people ask of them."""

    def __init__(
        self, store: Store, events: Events, *, allow_private: bool = False, blocked_after_s: float = 30, turn: Callable[[], bool] = lambda: True
    ) -> None:
        self.store = store
        self.attempts: Counter[str] = Counter()
        """By what came of them: delivered, retried, failed."""
        self.waiting = 0
        """Messages that wait."""
        self._events = events
        self._allow_private = allow_private
        self._watch = Watch(store, events, blocked_after_s, now_ms)
        self._sending: dict[str, asyncio.Task[None]] = {}
        self._changed = asyncio.Event()
        self._turn = turn
        self._door: Door | None = None
        store.on_change = self._changed.set

    async def run(self) -> None:
        """Until cancelled."""
        self._door = Door(self._allow_private)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._watching())
                group.create_task(self._delivering())
        finally:
            for task in self._sending.values():
                task.cancel()
            await asyncio.gather(*self._sending.values(), return_exceptions=True)
            await self._door.aclose()

    # For people

    async def create(self, url: str, events: Sequence[str]) -> Webhook | None:
        """From now on it is told. None: there are too many. Raises :class:`TargetRefused`, ``sqlite3.Error``."""
        checked = check_url(url, self._allow_private)
        if not any(set(webhook.events) & EDGE_EVENTS for webhook in self.store.webhooks.values()):
            await asyncio.to_thread(self.store.tell, [], {})  # what was told to others long ago is no difference
        made = await asyncio.to_thread(self.store.add, checked, events, self._events.latest(), now_ms())
        self._changed.set()
        return made

    async def remove(self, webhook_id: str) -> bool:
        """False: there is none."""
        return await asyncio.to_thread(self.store.remove, webhook_id)

    async def rotate(self, webhook_id: str, overlap_s: int) -> Secret | None:
        """See :meth:`Store.rotate`."""
        return await asyncio.to_thread(self.store.rotate, webhook_id, overlap_s * 1000, now_ms())

    async def test(self, webhook_id: str) -> Delivery | None:
        """Send a message now, once, and say what came of it. None: there is no such webhook."""
        webhook = self.store.webhooks.get(webhook_id)
        if webhook is None:
            return None
        sent = message(webhook, TEST, _TEST_DATA, now_ms())
        tried = after(sent, await self._attempt(webhook, sent), now_ms())
        told = tried if tried.state == "delivered" else replace(tried, state="failed", next_ms=None)
        await asyncio.to_thread(self.store.record, replace(told, next_ms=None))
        return told

    async def deliveries(self, webhook_id: str, limit: int) -> list[Delivery] | None:
        """The newest first; None: there is no such webhook."""
        if webhook_id not in self.store.webhooks:
            return None
        return await asyncio.to_thread(self.store.deliveries, webhook_id, limit)

    # The work

    async def _watching(self) -> None:
        while True:
            if not self.store.webhooks:
                await self._until_changed(None)
            if not self._turn():
                await asyncio.sleep(IDLE_S)
                continue
            more = False
            with self._complaining() as trouble:
                more = await self._watch.look()
                self._changed.set()
            await asyncio.sleep(TROUBLE_S if trouble else LOOK_S)
            if not more:
                await self._events.change(IDLE_S)

    async def _delivering(self) -> None:
        while True:
            self._changed.clear()
            wait_s: float | None = None
            with self._complaining() as trouble:
                wait_s = await self._send_due() if self._turn() else IDLE_S
            if trouble:
                await asyncio.sleep(TROUBLE_S)
            else:
                await self._until_changed(wait_s)

    async def _send_due(self) -> float | None:
        """Begin to send what is due; how long until more is, None: nothing waits."""
        room = SENDING_MAX - len(self._sending)
        for due in await asyncio.to_thread(self.store.due, now_ms(), list(self._sending), room) if room else ():
            task = asyncio.create_task(self._send(due))
            self._sending[due.webhook] = task
            task.add_done_callback(partial(self._sent, due.webhook))
        next_ms = await asyncio.to_thread(self.store.next_ms)
        self.waiting = await asyncio.to_thread(self.store.waiting_in_all)
        return None if next_ms is None else max(LOOK_S, (next_ms - now_ms()) / 1000)

    def _sent(self, webhook_id: str, _: asyncio.Task[None]) -> None:
        self._sending.pop(webhook_id, None)
        self._changed.set()

    async def _send(self, due: Delivery) -> None:
        webhook = self.store.webhooks.get(due.webhook)
        if webhook is None:
            return
        tried = after(due, await self._attempt(webhook, due), now_ms())
        self.attempts["retried" if tried.state == "pending" else tried.state] += 1
        with self._complaining():
            await asyncio.to_thread(self._keep, webhook, tried)

    def _keep(self, webhook: Webhook, tried: Delivery) -> None:
        self.store.finish(tried)
        if tried.state == "delivered":
            self.store.hurry(webhook.id, now_ms(), QUIET_S * 1000)
        elif tried.status == GONE:
            self.store.stop(webhook.id, "the receiver answered 410 Gone")

    async def _attempt(self, webhook: Webhook, sent: Delivery) -> Answer:
        assert self._door is not None
        try:
            return await self._door.post(webhook.url, headers(webhook, sent, now_ms()), sent.body.encode())
        except Exception:  # else it would be sent again at once, for ever
            log.exception("webhook not sent", webhook=webhook.id)
            return Answer(0, "a fault of the service; its log tells more")

    async def _until_changed(self, wait_s: float | None) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._changed.wait()

    @contextlib.contextmanager
    def _complaining(self) -> Iterator[list[str]]:
        """A disk that is full ends nothing: it is tried again."""
        trouble: list[str] = []
        try:
            yield trouble
        except (sqlite3.Error, BoardUnavailable, LogUnavailable) as error:
            trouble.append(str(error))
            log.warning("webhooks are not written down; tried again", error=str(error), retry_s=TROUBLE_S)


def now_ms() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000
