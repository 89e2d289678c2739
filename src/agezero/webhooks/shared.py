"""Webhooks that several control nodes share, and which of them tells.

Theory: a webhook is a document, with the mark up to which it was told and the newest message that was made for it, so both move in one write.
Older messages lie in a ring of documents, the webhook's own; a new one pushes out what was there a round ago. Every node keeps an index of all of it
in memory, in the tables of :class:`Store`, filled by what is read and by nothing else. Whoever makes a message first brings the newest one into
the ring. So whichever node goes on, it finds each message under its id, and makes none twice but those about edges.

One node tells: the one whose *turn* it is. It says so again every second; another takes over once it has heard nothing for longer than the turn
lasts. Two could tell at once only where a clock runs at half speed; then a message may come twice, under one id.
"""

from __future__ import annotations

import asyncio
import secrets
import sqlite3
import time
import uuid
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import msgspec
import structlog

from agezero.ports import BoardUnavailable, Documents, Overtaken
from agezero.webhooks.store import DELIVERY_COLUMNS, WEBHOOKS_MAX, Delivery, Secret, Store, Webhook, new_secret, rotated

HOOK, MESSAGE, EDGES, TELLER = "hook.", "message.", "edges", "teller"
RING = 512
"""Messages of one webhook that are kept."""
ANSWER_S = 10.0
AGAIN_S = 0.02
TURN_S = 1.0
HOLD_S = 3.0
"""How long a turn lasts, from when it was asked for."""
QUIET_S = 6.0
"""Unheard of for so long, a teller is over."""
_LANE_BITS = 20
"""The index numbers the messages of all webhooks; those of one are in order."""

_MARKS = ", ?" * len(DELIVERY_COLUMNS.split(","))
_INDEX = f"INSERT OR REPLACE INTO delivery (number, {DELIVERY_COLUMNS}) VALUES (?{_MARKS})"  # noqa: S608 (constants)

T = TypeVar("T")
log = structlog.get_logger()


class Numbered(msgspec.Struct, frozen=True):
    """A message and its number among those of its webhook."""

    number: int
    message: Delivery


class Hook(msgspec.Struct, frozen=True, omit_defaults=True):
    """A webhook as it is shared. ``newest``: the last message that was made for it."""

    url: str
    events: tuple[str, ...]
    secrets: tuple[Secret, ...]
    created_ms: int
    completed: int
    stopped: str = ""
    newest: Numbered | None = None

    def webhook(self, webhook_id: str) -> Webhook:
        """As everybody else knows it."""
        return Webhook(webhook_id, self.url, self.events, self.secrets, self.created_ms, self.stopped, self.completed)


class Teller(msgspec.Struct, frozen=True):
    """Whose turn it is; ``node`` is empty where it was given back."""

    node: str
    round: int = 0


class SharedStore(Store):
    """See :class:`Store`. ``index``: an empty database in memory.

    What writes is not to be called from the thread of ``loop``, for which it waits; it raises ``BoardUnavailable``.
    """

    def __init__(self, documents: Documents, loop: asyncio.AbstractEventLoop, index: sqlite3.Connection) -> None:
        super().__init__(index)
        self._documents = documents
        self._loop = loop
        self._lanes: dict[str, int] = {}
        documents.watch(self._changed)
        for prefix in (HOOK, MESSAGE, EDGES):
            for name in documents.names(prefix):
                self._changed(name)

    def add(self, url: str, events: Sequence[str], completed: int, now_ms: int) -> Webhook | None:
        """See :class:`Store`."""
        if len(self.webhooks) >= WEBHOOKS_MAX:
            return None
        webhook_id = f"wh_{secrets.token_hex(6)}"
        hook = Hook(url, tuple(events), (new_secret(),), now_ms, completed)
        self._put(HOOK + webhook_id, hook, 0)
        return hook.webhook(webhook_id)

    def remove(self, webhook_id: str) -> bool:
        """See :class:`Store`."""
        if not self._change(webhook_id, lambda hook: None):  # noqa: ARG005
            return False
        self._wait(self._documents.forget(f"{MESSAGE}{webhook_id}."))
        return True

    def rotate(self, webhook_id: str, overlap_ms: int, now_ms: int) -> Secret | None:
        """See :class:`Store`."""
        new = new_secret()
        found = self._change(webhook_id, lambda hook: msgspec.structs.replace(hook, secrets=(new, *rotated(hook.secrets, overlap_ms, now_ms))))
        return new if found else None

    def stop(self, webhook_id: str, why: str) -> None:
        """See :class:`Store`."""
        self._change(webhook_id, lambda hook: msgspec.structs.replace(hook, stopped=why))

    def tell_completed(self, webhook_id: str, message: Delivery | None, completed: int) -> None:
        """See :class:`Store`."""
        self._make(webhook_id, message, completed)

    def tell(self, messages: Sequence[Delivery], fenced: Mapping[str, bool] | None = None) -> None:
        """See :class:`Store`."""
        for message in messages:
            self._make(message.webhook, message)
        if fenced is not None:
            self._try(EDGES, lambda _: msgspec.json.encode(dict(fenced)))

    def finish(self, message: Delivery) -> None:
        """See :class:`Store`."""
        with self._lock:
            row = self._connection.execute("SELECT number FROM delivery WHERE id = ?", (message.id,)).fetchone()
        if row is not None:
            self._keep(Numbered(row[0] >> _LANE_BITS, message), again=True)

    def hurry(self, webhook_id: str, now_ms: int, quiet_ms: int) -> None:
        """See :class:`Store`."""
        query = f"SELECT {DELIVERY_COLUMNS} FROM delivery WHERE webhook = ? AND next_ms > ? AND last_ms <= ?"  # noqa: S608 (a constant)
        with self._lock:
            waiting = [Delivery(*row) for row in self._connection.execute(query, (webhook_id, now_ms, now_ms - quiet_ms))]
        for message in waiting:
            self.finish(replace(message, next_ms=now_ms))

    def record(self, message: Delivery) -> None:
        """See :class:`Store`."""
        self._make(message.webhook, message)
        self.finish(message)

    # Documents

    def _make(self, webhook_id: str, message: Delivery | None, completed: int | None = None) -> None:
        """A new message, if there is one, and the mark, in one write; before it, the newest one goes into the ring."""

        def changed(hook: Hook) -> Hook:
            if message is not None and hook.newest is not None:
                self._keep(hook.newest)
            newest = hook.newest if message is None else Numbered(hook.newest.number + 1 if hook.newest else 1, message)
            return msgspec.structs.replace(hook, newest=newest, completed=hook.completed if completed is None else completed)

        self._change(webhook_id, changed)

    def _keep(self, kept: Numbered, *, again: bool = False) -> None:
        """Into the ring. ``again``: also where it is there already, as it was before."""
        name = f"{MESSAGE}{kept.message.webhook}.{kept.number % RING}"

        def changed(data: bytes) -> bytes | None:
            known = _understood(name, data, Numbered)
            there = known.number if known else 0
            return msgspec.json.encode(kept) if kept.number > there or (again and kept.number == there) else None

        self._try(name, changed)

    def _change(self, webhook_id: str, decide: Callable[[Hook], Hook | None]) -> bool:
        """False: there is no such webhook. ``decide``: None: it goes."""
        found = False

        def changed(data: bytes) -> bytes | None:
            nonlocal found
            known = _understood(HOOK + webhook_id, data, Hook)
            found = known is not None
            if known is None:
                return None
            hook = decide(known)
            return b"" if hook is None else msgspec.json.encode(hook)

        self._try(HOOK + webhook_id, changed)
        return found

    def _try(self, name: str, decide: Callable[[bytes], bytes | None]) -> None:
        """Decide by what is known and write that; where it was known too late, again. None: nothing is written."""
        while True:
            known = self._documents.get(name)
            data = decide(known.data if known else b"")
            if data is None:
                return
            try:
                self._wait(self._documents.put(name, data, known.at if known else 0))
            except Overtaken:
                time.sleep(AGAIN_S)
            else:
                return

    def _put(self, name: str, value: msgspec.Struct, after: int) -> None:
        self._wait(self._documents.put(name, msgspec.json.encode(value), after))

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop).result(ANSWER_S)
        except TimeoutError:
            raise BoardUnavailable(f"webhooks are not written down within {ANSWER_S:g} s") from None

    # The index

    def _changed(self, name: str) -> None:
        document = self._documents.get(name)
        data = document.data if document else b""
        with self._changing() as connection:
            if name.startswith(HOOK):
                self._index_hook(connection, name.removeprefix(HOOK), _understood(name, data, Hook))
            elif name.startswith(MESSAGE):
                numbered = _understood(name, data, Numbered)
                if numbered is not None and numbered.message.webhook in self.webhooks:
                    self._index_message(connection, numbered)
            elif name == EDGES:
                connection.execute("DELETE FROM edge_told")
                told = _understood(name, data, dict[str, bool]) or {}
                connection.executemany("INSERT INTO edge_told VALUES (?, ?)", list(told.items()))
        self.on_change()

    def _index_hook(self, connection: sqlite3.Connection, webhook_id: str, hook: Hook | None) -> None:
        connection.execute("DELETE FROM webhook WHERE id = ?", (webhook_id,))
        if hook is None:
            connection.execute("DELETE FROM delivery WHERE webhook = ?", (webhook_id,))
            return
        texts = (msgspec.json.encode(hook.events).decode(), msgspec.json.encode(hook.secrets).decode())
        row = (webhook_id, hook.url, *texts, hook.created_ms, hook.stopped, hook.completed)
        connection.execute("INSERT INTO webhook (id, url, events, secrets, created_ms, stopped, completed) VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        known = hook.newest and connection.execute("SELECT 1 FROM delivery WHERE id = ?", (hook.newest.message.id,)).fetchone()
        if hook.newest is not None and not known:
            self._index_message(connection, hook.newest)
        if hook.stopped:
            connection.execute("UPDATE delivery SET state = 'failed', next_ms = NULL WHERE webhook = ? AND next_ms IS NOT NULL", (webhook_id,))

    def _index_message(self, connection: sqlite3.Connection, numbered: Numbered) -> None:
        """In the place of what was in the ring there a round ago."""
        message, lane = numbered.message, self._lanes.setdefault(numbered.message.webhook, len(self._lanes) + 1)
        place, before, later = ((numbered.number + rounds * RING) << _LANE_BITS | lane for rounds in (0, -1, 1))
        if connection.execute("SELECT 1 FROM delivery WHERE number = ?", (later,)).fetchone():
            return
        connection.execute("DELETE FROM delivery WHERE number IN (?, ?)", (place, before))
        values = (place, *(getattr(message, name.strip()) for name in DELIVERY_COLUMNS.split(",")))
        connection.execute(_INDEX, values)


def _understood(name: str, data: bytes, kind: type[T]) -> T | None:
    """What a document says; None: it isn't there, or is of a newer version, or of a stranger. That is no reason for a control node to end."""
    try:
        return msgspec.json.decode(data, type=kind) if data else None
    except msgspec.MsgspecError as error:
        log.error("a document on webhooks is not understood; it counts as none", document=name, error=str(error))
        return None


class Turn:
    """Is it this node's turn to tell? ``run`` until cancelled."""

    def __init__(self, documents: Documents, clock: Callable[[], float] = time.monotonic) -> None:
        self._documents = documents
        self._clock = clock
        self._node = uuid.uuid4().hex[:12]
        self._until_s = 0.0
        self._seen = (-1, 0.0)

    def mine(self) -> bool:
        """Only for as long as nobody else may have taken over."""
        return self._clock() < self._until_s

    async def run(self) -> None:
        """Take it, keep it, give it back."""
        try:
            while True:
                await self.step()
                await asyncio.sleep(TURN_S)
        finally:
            await self._give_back()

    async def step(self) -> None:
        """Keep the turn, or take it where its owner is over."""
        document, now_s = self._documents.get(TELLER), self._clock()
        teller = _understood(TELLER, document.data, Teller) if document else None
        at = document.at if document else 0
        if at != self._seen[0]:
            self._seen = (at, now_s)
        if teller is not None and teller.node not in ("", self._node) and now_s < self._seen[1] + QUIET_S:
            return
        try:
            await self._documents.put(TELLER, msgspec.json.encode(Teller(self._node, teller.round + 1 if teller else 1)), at)
        except Overtaken:
            self._until_s = 0.0
        except BoardUnavailable as error:
            log.warning("nobody knows whose turn it is to tell webhooks", error=str(error))
        else:
            self._until_s = now_s + HOLD_S

    async def _give_back(self) -> None:
        document = self._documents.get(TELLER)
        if self.mine() and document is not None:
            self._until_s = 0.0
            try:
                await self._documents.put(TELLER, msgspec.json.encode(Teller("")), document.at)
            except (BoardUnavailable, Overtaken):
                return  # it runs out by itself
