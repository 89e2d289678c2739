"""Private keys that several control nodes share: documents, one for each key, with its hash and never its text.

A key that is made, rolled or revoked at one node is known to all of them as soon as they have read it, which takes milliseconds. A node that is
cut off goes on with the keys it knows; but it can neither accept a purge nor say that one is pending.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Annotated, TypeVar

import msgspec
import structlog

from agezero.keys import Column, Key, KeyRing, NewKey, Permission, key_hash, new_key
from agezero.ports import BoardUnavailable, Document, Documents, Overtaken

PREFIX = "key."
FIRST_ID = "00000001"
"""The id of every fleet's first key."""
ANSWER_S = 10.0

T = TypeVar("T")
log = structlog.get_logger()


class StoredKey(msgspec.Struct, frozen=True, omit_defaults=True):
    """A key as it is shared. ``hash``: hexadecimal. Times are seconds since 1970."""

    name: str
    hash: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    permission: Permission
    created_at: int
    endpoints: tuple[str, ...] | None = None
    expires_at: int | None = None
    disabled: bool = False
    revoked_at: int | None = None

    def key(self, key_id: str) -> Key:
        """As everybody else knows it."""
        return Key(key_id, self.name, self.permission, self.endpoints, self.created_at, self.expires_at, self.disabled)


class SharedKeys(KeyRing):
    """All but :meth:`verify` and :meth:`list` may be called from any thread but that of ``loop``, for which they wait.

    What is written raises :class:`agezero.ports.BoardUnavailable`.
    """

    def __init__(self, documents: Documents, loop: asyncio.AbstractEventLoop, given: str | None = None) -> None:
        super().__init__(given)
        self._documents = documents
        self._loop = loop
        documents.watch(self._changed)
        self._read()

    def refresh(self) -> bool:
        """Nothing has to be asked for."""
        return False

    def first(self) -> str | None:
        """Of several nodes that start at once, one makes it: its id is the same for all, and one write makes it whole or not at all."""
        if self._given or self._documents.names(PREFIX):
            return None
        new = new_key("first", Permission.ADMIN)
        try:
            self._insert(replace(new, key=replace(new.key, id=FIRST_ID)))
        except Overtaken:
            return None
        return new.text

    def adopt(self, key_id: str, stored: StoredKey) -> bool:
        """Take a key over from elsewhere; False: it is here already."""
        try:
            self._put(key_id, stored, 0)
        except Overtaken:
            return False
        return True

    def _insert(self, new: NewKey) -> None:
        key = new.key
        self._put(key.id, StoredKey(key.name, key_hash(new.text).hex(), key.permission, key.created_at, key.endpoints, key.expires_at), 0)

    def _update(self, key_id: str, column: Column, value: int) -> bool:
        while (document := self._documents.get(PREFIX + key_id)) is not None:
            stored = _understood(key_id, document)
            if stored is None or stored.revoked_at is not None:
                return False
            try:
                self._put(key_id, msgspec.structs.replace(stored, **{column: bool(value) if column == "disabled" else value}), document.at)
            except Overtaken:  # what was written over it is read in a moment
                self._wait(asyncio.sleep(0.02))
            else:
                return True
        return False

    def _changing(self) -> AbstractContextManager[None]:
        return contextlib.nullcontext()

    def _put(self, key_id: str, stored: StoredKey, after: int) -> None:
        self._wait(self._documents.put(PREFIX + key_id, msgspec.json.encode(stored), after))

    def _wait(self, work: Awaitable[T]) -> T:
        async def done() -> T:
            return await work

        try:
            return asyncio.run_coroutine_threadsafe(done(), self._loop).result(ANSWER_S)
        except TimeoutError:
            raise BoardUnavailable(f"the keys are not written within {ANSWER_S:g} s") from None

    def _changed(self, name: str) -> None:
        if name.startswith(PREFIX):
            self._read()

    def _read(self) -> None:
        documents = {name.removeprefix(PREFIX): self._documents.get(name) for name in self._documents.names(PREFIX)}
        keys = {key_id: _understood(key_id, document) for key_id, document in documents.items()}
        valid = {bytes.fromhex(each.hash): each.key(key_id) for key_id, each in keys.items() if each is not None and each.revoked_at is None}
        self._known(valid | self._given)


def _understood(key_id: str, document: Document | None) -> StoredKey | None:
    """None: it isn't there, or is of a newer version, or of a stranger: then nobody gets in by it, and all others know of the other keys."""
    if document is None or not document.data:
        return None
    try:
        return msgspec.json.decode(document.data, type=StoredKey)
    except msgspec.MsgspecError as error:
        log.error("a key is not understood; it is no key here", key=key_id, error=str(error))
        return None
