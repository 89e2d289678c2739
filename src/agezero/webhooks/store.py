"""Webhooks and what has to be told to them, in SQLite, on a connection of its own.

A message is written here before it is sent, in the transaction in which the mark moves beyond what it tells of: so each event is told at least once,
whatever dies when, and under the same id each time. All of it is bounded: webhooks, messages that wait, and those that are kept to be looked at.
"""

from __future__ import annotations

import secrets
import sqlite3
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import msgspec

WEBHOOKS_MAX = 100
PENDING_MAX = 500
"""Messages of one webhook that wait; one more pushes the oldest out."""
KEPT = 200
"""Messages of one webhook that are over and kept to be looked at."""
SAID_CHARACTERS_MAX = 500

SCHEMA = """
CREATE TABLE IF NOT EXISTS webhook (
    id TEXT PRIMARY KEY,
    url TEXT NOT NULL,
    events TEXT NOT NULL,        -- JSON list
    secrets TEXT NOT NULL,       -- JSON list, the newest first: what signs must be there in clear
    created_ms INTEGER NOT NULL,
    stopped TEXT NOT NULL DEFAULT '',
    completed INTEGER NOT NULL   -- purges up to here are told, or were complete before
) STRICT;
CREATE TABLE IF NOT EXISTS delivery (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    webhook TEXT NOT NULL,
    event TEXT NOT NULL,
    body TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    state TEXT NOT NULL DEFAULT 'pending',
    attempts INTEGER NOT NULL DEFAULT 0,
    next_ms INTEGER,             -- NULL: it is not tried again
    last_ms INTEGER,
    status INTEGER NOT NULL DEFAULT 0,
    said TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX IF NOT EXISTS delivery_due ON delivery (next_ms) WHERE next_ms IS NOT NULL;
CREATE INDEX IF NOT EXISTS delivery_webhook ON delivery (webhook, number);
CREATE TABLE IF NOT EXISTS edge_told (name TEXT PRIMARY KEY, fenced INTEGER NOT NULL) STRICT;
"""
DELIVERY_COLUMNS = "id, webhook, event, body, created_ms, state, attempts, next_ms, last_ms, status, said"


class Secret(msgspec.Struct, frozen=True):
    """``until_ms``: when it ends; None: it is the newest."""

    text: str
    until_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Webhook:
    """``stopped``: why nothing is sent to it any more; empty while it is."""

    id: str
    url: str
    events: tuple[str, ...]
    secrets: tuple[Secret, ...]
    created_ms: int
    stopped: str
    completed: int


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message and what became of it. ``state``: pending, delivered or failed; ``status``: of the last answer, 0: there was none."""

    id: str
    webhook: str
    event: str
    body: str
    created_ms: int
    state: str = "pending"
    attempts: int = 0
    next_ms: int | None = None
    last_ms: int | None = None
    status: int = 0
    said: str = ""


class Store:
    """Blocks, from any thread; raises ``sqlite3.Error``."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._lock = threading.RLock()
        connection.executescript(SCHEMA)
        self.webhooks: Mapping[str, Webhook] = {}
        """As they are, in memory."""
        self.on_change: Callable[[], None] = lambda: None
        """Called in the event loop when somebody else has changed something here."""
        self._reload()

    def add(self, url: str, events: Sequence[str], completed: int, now_ms: int) -> Webhook | None:
        """A new one, with a secret; None where there are as many as there may be."""
        row = (f"wh_{secrets.token_hex(6)}", url, _text(events), _text([new_secret()]), now_ms, completed)
        with self._changing() as connection:
            if len(self.webhooks) >= WEBHOOKS_MAX:
                return None
            connection.execute("INSERT INTO webhook (id, url, events, secrets, created_ms, completed) VALUES (?, ?, ?, ?, ?, ?)", row)
        return self.webhooks[row[0]]

    def remove(self, webhook_id: str) -> bool:
        """With all that had to be told to it; False: there is none."""
        with self._changing() as connection:
            connection.execute("DELETE FROM delivery WHERE webhook = ?", (webhook_id,))
            return connection.execute("DELETE FROM webhook WHERE id = ?", (webhook_id,)).rowcount > 0

    def rotate(self, webhook_id: str, overlap_ms: int, now_ms: int) -> Secret | None:
        """A new secret; the old ones sign too until the overlap is over. None: there is no such webhook."""
        with self._changing() as connection:
            webhook = self.webhooks.get(webhook_id)
            if webhook is None:
                return None
            new = new_secret()
            secrets_now = [new, *rotated(webhook.secrets, overlap_ms, now_ms)]
            connection.execute("UPDATE webhook SET secrets = ? WHERE id = ?", (_text(secrets_now), webhook_id))
        return new

    def stop(self, webhook_id: str, why: str) -> None:
        """Nothing more is sent to it, until it is made anew."""
        with self._changing() as connection:
            connection.execute("UPDATE webhook SET stopped = ? WHERE id = ?", (why, webhook_id))
            connection.execute("UPDATE delivery SET state = 'failed', next_ms = NULL WHERE webhook = ? AND next_ms IS NOT NULL", (webhook_id,))

    def tell_completed(self, webhook_id: str, message: Delivery | None, completed: int) -> None:
        """Move the mark; the message, if there is one, is there from the same moment on."""
        with self._changing() as connection:
            if connection.execute("UPDATE webhook SET completed = ? WHERE id = ?", (completed, webhook_id)).rowcount and message is not None:
                self._enqueue(connection, message)

    def tell(self, messages: Sequence[Delivery], fenced: Mapping[str, bool] | None = None) -> None:
        """All of the messages, and what is now told of the edges."""
        with self._changing() as connection:
            for message in messages:
                if message.webhook in self.webhooks:
                    self._enqueue(connection, message)
            if fenced is not None:
                connection.execute("DELETE FROM edge_told")
                connection.executemany("INSERT INTO edge_told VALUES (?, ?)", list(fenced.items()))

    def edges_told(self) -> dict[str, bool]:
        """What was told last of each edge: is it fenced?"""
        with self._lock:
            return {name: bool(fenced) for name, fenced in self._connection.execute("SELECT name, fenced FROM edge_told")}

    def due(self, now_ms: int, busy: Sequence[str], limit: int) -> list[Delivery]:
        """The oldest message that is due of each webhook that is not busy."""
        marks = ", ".join("?" * len(busy))
        query = (
            f"SELECT {DELIVERY_COLUMNS} FROM delivery WHERE number IN "  # noqa: S608 (constants and marks)
            f"(SELECT min(number) FROM delivery WHERE next_ms <= ? AND webhook NOT IN ({marks}) GROUP BY webhook) ORDER BY next_ms LIMIT ?"
        )
        with self._lock:
            return [Delivery(*row) for row in self._connection.execute(query, (now_ms, *busy, limit))]

    def next_ms(self) -> int | None:
        """When the next message is due."""
        with self._lock:
            row = self._connection.execute("SELECT min(next_ms) FROM delivery WHERE next_ms IS NOT NULL").fetchone()
        return None if row[0] is None else int(row[0])

    def finish(self, message: Delivery) -> None:
        """An attempt is over: keep what became of it, and no more of those that are over than there is room for."""
        row = (message.state, message.attempts, message.next_ms, message.last_ms, message.status, message.said[:SAID_CHARACTERS_MAX], message.id)
        with self._changing(reload=False) as connection:
            connection.execute(
                "UPDATE delivery SET state = ?, attempts = ?, next_ms = ?, last_ms = ?, status = ?, said = ? WHERE id = ?",
                row,
            )
            connection.execute(
                "DELETE FROM delivery WHERE number IN (SELECT number FROM delivery WHERE webhook = ? AND next_ms IS NULL "
                "ORDER BY number DESC LIMIT -1 OFFSET ?)",
                (message.webhook, KEPT),
            )

    def hurry(self, webhook_id: str, now_ms: int, quiet_ms: int) -> None:
        """The receiver is back: what waits for another attempt, and had none for ``quiet_ms``, is due."""
        values = (now_ms, webhook_id, now_ms, now_ms - quiet_ms)
        with self._changing(reload=False) as connection:
            connection.execute("UPDATE delivery SET next_ms = ? WHERE webhook = ? AND next_ms > ? AND last_ms <= ?", values)

    def record(self, message: Delivery) -> None:
        """Keep one that was sent without waiting here."""
        with self._changing(reload=False) as connection:
            self._enqueue(connection, message)
        self.finish(message)

    def deliveries(self, webhook_id: str, limit: int) -> list[Delivery]:
        """The newest first."""
        query = f"SELECT {DELIVERY_COLUMNS} FROM delivery WHERE webhook = ? ORDER BY number DESC LIMIT ?"  # noqa: S608 (a constant)
        with self._lock:
            return [Delivery(*row) for row in self._connection.execute(query, (webhook_id, limit))]

    def waiting(self, webhook_id: str) -> tuple[int, int]:
        """How many messages wait, and how many of those have failed before."""
        query = "SELECT count(*), coalesce(sum(attempts > 0), 0) FROM delivery WHERE webhook = ? AND next_ms IS NOT NULL"
        with self._lock:
            waiting, failing = self._connection.execute(query, (webhook_id,)).fetchone()
        return int(waiting), int(failing)

    def waiting_in_all(self) -> int:
        """Messages that wait."""
        with self._lock:
            return int(self._connection.execute("SELECT count(*) FROM delivery WHERE next_ms IS NOT NULL").fetchone()[0])

    def _enqueue(self, connection: sqlite3.Connection, message: Delivery) -> None:
        row = (message.id, message.webhook, message.event, message.body, message.created_ms, message.next_ms)
        connection.execute("INSERT INTO delivery (id, webhook, event, body, created_ms, next_ms) VALUES (?, ?, ?, ?, ?, ?)", row)
        connection.execute(
            "UPDATE delivery SET state = 'failed', next_ms = NULL, said = 'too many messages wait' WHERE number IN "
            "(SELECT number FROM delivery WHERE webhook = ? AND next_ms IS NOT NULL ORDER BY number DESC LIMIT -1 OFFSET ?)",
            (message.webhook, PENDING_MAX),
        )

    @contextmanager
    def _changing(self, *, reload: bool = True) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            with self._connection:
                yield self._connection
            if reload:
                self._reload()

    def _reload(self) -> None:
        rows = self._connection.execute("SELECT id, url, events, secrets, created_ms, stopped, completed FROM webhook ORDER BY created_ms, id")
        self.webhooks = {row[0]: _webhook(row) for row in rows}


def rotated(old: Sequence[Secret], overlap_ms: int, now_ms: int) -> list[Secret]:
    """Those of the ``old`` ones that sign beside a new one until the overlap is over."""
    ends_ms = now_ms + overlap_ms
    ending = [Secret(secret.text, min(ends_ms, secret.until_ms or ends_ms)) for secret in old]
    return [secret for secret in ending if secret.until_ms is not None and secret.until_ms > now_ms][:3]


def new_secret() -> Secret:
    """Of 192 random bits."""
    return Secret("whsec_" + b64encode(secrets.token_bytes(24)).decode())


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _webhook(row: tuple[str, str, str, str, int, str, int]) -> Webhook:
    events = tuple(msgspec.json.decode(row[2], type=list[str]))
    return Webhook(row[0], row[1], events, tuple(msgspec.json.decode(row[3], type=list[Secret])), row[4], row[5], row[6])
