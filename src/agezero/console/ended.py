"""Sessions that were ended before their time: on this node, or for all control nodes of a fleet.

Both keep them in memory too, where each request looks, and forget the oldest beyond :data:`ENDED_MAX`.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Mapping
from typing import Protocol

import msgspec

from agezero.ports import BoardUnavailable, Documents, Overtaken

ENDED_MAX = 5_000
"""Most ended sessions that are remembered; shared, they are one document of 180 kB, and the bucket takes none of more than 256 KiB."""
ENDED = "console.ended"
ANSWER_S = 10.0
AGAIN_S = 0.02

SCHEMA = "CREATE TABLE IF NOT EXISTS console_ended (nonce TEXT PRIMARY KEY, until_s INTEGER NOT NULL) STRICT"


class Ended(Protocol):
    """A session is known by its nonce."""

    def __contains__(self, nonce: str) -> bool:
        """Was it ended? In memory."""
        ...

    def add(self, nonce: str, until_s: int, now_s: float) -> None:
        """End it, durably; to be remembered until ``until_s``, seconds since 1970. Blocks, and is not to be called from the event loop.

        Raises ``sqlite3.Error``, :class:`agezero.ports.BoardUnavailable`.
        """
        ...


class EndedHere:
    """In a database. ``connection`` is its own."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        connection.execute(SCHEMA)
        self._ended: dict[str, int] = dict(connection.execute("SELECT nonce, until_s FROM console_ended ORDER BY until_s"))

    def __contains__(self, nonce: str) -> bool:
        """See :class:`Ended`."""
        return nonce in self._ended

    def add(self, nonce: str, until_s: int, now_s: float) -> None:
        """See :class:`Ended`."""
        with self._lock:
            self._ended = _with(self._ended, nonce, until_s, now_s)
            self._connection.execute("INSERT OR REPLACE INTO console_ended VALUES (?, ?)", (nonce, until_s))
            self._connection.execute("DELETE FROM console_ended WHERE until_s <= ?", (int(now_s),))


class EndedEverywhere:
    """In one document that all control nodes share; the others know it once they have read it, which takes milliseconds."""

    def __init__(self, documents: Documents, loop: asyncio.AbstractEventLoop) -> None:
        self._documents = documents
        self._loop = loop
        self._ended: Mapping[str, int] = {}
        documents.watch(self._changed)
        self._changed(ENDED)

    def __contains__(self, nonce: str) -> bool:
        """See :class:`Ended`."""
        return nonce in self._ended

    def add(self, nonce: str, until_s: int, now_s: float) -> None:
        """See :class:`Ended`."""
        while True:
            known = self._documents.get(ENDED)
            data = msgspec.json.encode(_with(_decoded(known.data) if known else {}, nonce, until_s, now_s))
            try:
                self._put(data, known.at if known else 0)
            except Overtaken:  # what was written over it is read in a moment
                time.sleep(AGAIN_S)
            else:
                return

    def _put(self, data: bytes, after: int) -> None:
        async def put() -> None:
            await self._documents.put(ENDED, data, after)

        try:
            asyncio.run_coroutine_threadsafe(put(), self._loop).result(ANSWER_S)
        except TimeoutError:
            raise BoardUnavailable(f"the end of a session is not written down within {ANSWER_S:g} s") from None

    def _changed(self, name: str) -> None:
        if name == ENDED:
            document = self._documents.get(ENDED)
            self._ended = _decoded(document.data) if document else {}


def ended_document(connection: sqlite3.Connection) -> bytes:
    """What :class:`EndedHere` keeps, as :class:`EndedEverywhere` keeps it."""
    connection.execute(SCHEMA)
    rows = connection.execute("SELECT nonce, until_s FROM console_ended ORDER BY until_s DESC LIMIT ?", (ENDED_MAX,)).fetchall()
    return msgspec.json.encode(dict(reversed(rows)))


def _with(ended: Mapping[str, int], nonce: str, until_s: int, now_s: float) -> dict[str, int]:
    kept = {each: until for each, until in ended.items() if until > now_s}
    return dict([*kept.items(), (nonce, until_s)][-ENDED_MAX:])


def _decoded(data: bytes) -> dict[str, int]:
    return msgspec.json.decode(data, type=dict[str, int]) if data else {}
