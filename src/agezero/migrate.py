"""From SQLite to JetStream: the purge log under the same seqs, and all that makes ids, keys and webhooks go on as they were.

The service is stopped; nothing of it is changed until everything is in NATS. Then the data directory is marked, so that its old log is not gone
on with: two logs would give the same ids to different purges. Broken off anywhere before that, it can be begun again, also where the service was used
meanwhile: what an earlier attempt brought is overwritten wherever it differs, and what is here no more goes. Once a control node has worked with the
fleet's records, those are newer than ours, and nothing is moved.

What is not known any more, since only the running service knows it, is what was ``Completed``. So the fleet starts as it does after the loss of its
records: no edge is leased below the end of the log. That is true to what was proven only if each edge that can't fence itself has applied all of it;
where one has not, nothing is moved.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import msgspec

from agezero.background import background
from agezero.config import Config
from agezero.console.ended import ENDED, ended_document
from agezero.core.ledger import Record
from agezero.core.selector import Kind, Selector
from agezero.core.shared import Gate, Held, Write
from agezero.database import FILE, check, in_words, open_database, prepare, service_secret
from agezero.errors import UserError
from agezero.fleet import open_edges
from agezero.fleet_nats import DUPLICATE_WINDOW_S, linked, loaded, plain_errors, shared_documents, shared_secret
from agezero.jetstream.access import access_of
from agezero.jetstream.board import JetStreamBoard, open_board
from agezero.jetstream.entry import encoded
from agezero.jetstream.importing import Numbered, begin_stream, bring, bring_claim
from agezero.jetstream.link import ApiError, Link, LinkFailed
from agezero.jetstream.names import WEBHOOKS_STREAM
from agezero.jetstream.stream import log_shape
from agezero.keys import KeyStore, Permission
from agezero.log.sqlite import IDEMPOTENT_MS, SqliteLog, check_here, move
from agezero.ports import Accepted, BoardUnavailable, Documents, LogUnavailable, Overtaken, Submission
from agezero.registry import SqliteRegistry
from agezero.shared_keys import PREFIX, StoredKey
from agezero.webhooks.shared import HOOK, MESSAGE, RING, Hook
from agezero.webhooks.shared import Numbered as NumberedMessage
from agezero.webhooks.store import Store

DELIVERIES_MAX = 400


@dataclass(frozen=True, slots=True)
class Moved:
    """How much there was."""

    entries: int
    keys: int
    edges: int
    webhooks: int


async def migrate(config: Config) -> Moved:
    """Move everything. Raises :class:`UserError`."""
    if not config.log.url:
        raise UserError("log.url names no NATS servers to move the log to", "give --log nats://HOST:4222, or url in the [log] section")
    data = config.data_dir
    if not (data / FILE).exists():
        raise UserError(f"there is no purge log in {data}", "name the data directory of `agezero up` with --data")
    try:
        with prepare(data), contextlib.closing(open_database(data)) as connection, in_words(data):
            check(data)
            check_here(connection)
            purge_log = SqliteLog(connection)
            records = SqliteRegistry(connection).load()
            _check_edges(records, _watermarks(config), purge_log.head)
            async with plain_errors(), linked(access_of(config, "agezero log migrate")) as link:
                return await _move(config, connection, purge_log, records, link)
    except (ApiError, BoardUnavailable, LinkFailed, LogUnavailable) as error:
        raise UserError(f"JetStream does not answer: {error}", "nothing was changed here; begin again once the NATS servers are up") from None
    except Overtaken:
        raise UserError("somebody else writes to the fleet in NATS meanwhile", "end all control nodes, and begin again") from None


async def _move(config: Config, connection: sqlite3.Connection, purge_log: SqliteLog, records: Iterable[Record], link: Link) -> Moved:
    async with shared_documents(link) as documents, shared_documents(link, WEBHOOKS_STREAM) as hooks, _board(link) as board:
        ours = service_secret(connection)
        if await shared_secret(documents, ours) != ours:
            raise UserError(
                "the fleet in NATS seals its ids with another secret: ours could not be opened there", "move to a NATS account of its own"
            )
        there = _on_record(board)
        shape = log_shape(config.log.bytes_max, DUPLICATE_WINDOW_S)
        seen = await begin_stream(link, shape, purge_log.epoch, purge_log.floor, purge_log.head)
        entries = await bring(link, _entries(connection), seen.head)
        await _bring_claims(link, connection)
        edges = await _bring_records(board, there, records, purge_log.head)
        keys = await _bring_keys(documents, connection)
        webhooks = await _bring_webhooks(hooks, Store(connection))
        await _put(documents, ENDED, ended_document(connection))
        move(connection, config.log.url)
        return Moved(entries, keys, edges, webhooks)


@contextlib.asynccontextmanager
async def _board(link: Link) -> AsyncIterator[JetStreamBoard]:
    """Read to its end."""
    board = await open_board(link)
    async with background(board.run()):
        await loaded(board.loaded)
        yield board


def _on_record(board: JetStreamBoard) -> Mapping[str, tuple[Held, int]]:
    """What an earlier attempt brought: by edge, its entry and where that is."""
    found: dict[str, tuple[Held, int]] = {}

    def told(entry: Held | Gate, at: int) -> None:
        if isinstance(entry, Gate):
            raise UserError(
                "a control node has worked with the fleet in NATS already: its records are newer than this data directory",
                "go on with it (--log); or, if nobody needs that fleet, delete its streams and begin again",
            )
        found[entry.record.name] = entry, at

    board.follow(told)
    return found


def _watermarks(config: Config) -> Mapping[str, int]:
    """What the edges of this machine have applied, by what they have saved."""
    with open_edges(config) as edges:
        return {edge.name: 0 if edge.state.doubt else edge.state.watermark for edge in edges}


def _check_edges(records: Iterable[Record], watermarks: Mapping[str, int], head: int) -> None:
    for record in records:
        if not record.fenced and not record.fences and watermarks.get(record.name, 0) < head:
            raise UserError(
                f"the edge {record.name} can't fence itself, and has not applied the whole log",
                "start `agezero up`, wait until `agezero edges` shows the lag 0 for it, and stop it; or `agezero edges remove` it",
            )
    beyond = max(watermarks.values(), default=0)
    if beyond > head:
        raise UserError(
            f"the purge log ends at {head}, but an edge has applied {beyond}: it has lost entries", "start `agezero up` once: it mends that"
        )


def _entries(connection: sqlite3.Connection) -> Iterator[Numbered]:
    query = """
        SELECT p.seq, p.kind, p.value, p.key_id, p.accepted_ms, p.soft, p.address, p.rest, coalesce(s.note, ''), coalesce(s.last - s.first + 1, 1)
        FROM purge p LEFT JOIN submission s ON s.last = p.seq + p.rest ORDER BY p.seq
    """
    for seq, kind, value, key_id, accepted_ms, soft, address, rest, note, count in connection.execute(query):
        asked = Submission((Selector(Kind(kind), value),), key_id, bool(soft), address, note)
        yield seq, encoded(asked, 0, accepted_ms, count, rest)


async def _bring_claims(link: Link, connection: sqlite3.Connection) -> None:
    query = "SELECT first, last, key_id, idempotency_key, fingerprint FROM submission WHERE idempotency_key != '' AND accepted_ms > ? ORDER BY last"
    for first, last, key_id, again, fingerprint in connection.execute(query, (time.time_ns() // 1_000_000 - IDEMPOTENT_MS,)).fetchall():
        await bring_claim(link, Submission((), key_id, idempotency_key=again, fingerprint=fingerprint), Accepted(first, last))


async def _bring_records(board: JetStreamBoard, there: Mapping[str, tuple[Held, int]], records: Iterable[Record], head: int) -> int:
    """With their tokens: a cache refuses a lower one. Those that count and can't fence themselves have applied all, as was checked."""
    count = 0
    for record in records:
        old, at = there.get(record.name, (None, 0))
        token = max(record.token, old.record.token if old else 0)
        held = Held(replace(record, token=token), watermark=0 if record.fenced or record.fences else head)
        if held != old:
            await board.write(Write(held, at))
        count += 1
    return count


async def _bring_keys(documents: Documents, connection: sqlite3.Connection) -> int:
    """Revoked ones too, so that those stay revoked, and no first key is made where there was one; the number of the others."""
    KeyStore(connection)  # brings an old table up
    now_s, count = int(time.time()), 0
    rows = connection.execute("SELECT id, name, hash, permission, created_at, endpoints, expires_at, disabled, revoked_at FROM keys").fetchall()
    for key_id, name, digest, permission, created_at, encoded_endpoints, expires_at, disabled, revoked_at in rows:
        endpoints = None if encoded_endpoints is None else msgspec.json.decode(encoded_endpoints, type=tuple[str, ...])
        stored = StoredKey(name, digest.hex(), Permission(permission), created_at, endpoints, expires_at, bool(disabled), revoked_at)
        await _put(documents, PREFIX + key_id, msgspec.json.encode(stored))
        count += revoked_at is None
    for gone in set(documents.names(PREFIX)) - {PREFIX + row[0] for row in rows}:
        await _put(documents, gone, _revoked(documents, gone, now_s))
    return count


def _revoked(documents: Documents, name: str, now_s: int) -> bytes:
    document = documents.get(name)
    assert document is not None, "it was just listed"
    stored = msgspec.json.decode(document.data, type=StoredKey)
    return msgspec.json.encode(stored if stored.revoked_at is not None else msgspec.structs.replace(stored, revoked_at=now_s))


async def _bring_webhooks(documents: Documents, store: Store) -> int:
    """With their marks and what waits."""
    for name in documents.names(HOOK):  # an earlier attempt's: what it had to tell may be told by now
        webhook_id = name.removeprefix(HOOK)
        await documents.forget(f"{MESSAGE}{webhook_id}.")
        if webhook_id not in store.webhooks:
            await _put(documents, name, b"")
    for webhook in store.webhooks.values():
        waiting = [each for each in reversed(store.deliveries(webhook.id, DELIVERIES_MAX)) if each.next_ms is not None]
        numbered = [NumberedMessage(number, each) for number, each in enumerate(waiting, 1)]
        for each in numbered[:-1]:
            await _put(documents, f"{MESSAGE}{webhook.id}.{each.number % RING}", msgspec.json.encode(each))
        newest = numbered[-1] if numbered else None
        hook = Hook(webhook.url, webhook.events, webhook.secrets, webhook.created_ms, webhook.completed, webhook.stopped, newest)
        await _put(documents, HOOK + webhook.id, msgspec.json.encode(hook))
    return len(store.webhooks)


async def _put(documents: Documents, name: str, data: bytes) -> None:
    """Over what an earlier attempt brought, where that differs."""
    there = documents.get(name)
    if there is None or there.data != data:
        await documents.put(name, data, there.at if there else 0)
