"""``/v1/keys``: admins make, list, roll and revoke keys. What needs the disk is done off the event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Literal

import msgspec
from starlette.types import Receive, Scope

from agezero.audit import Audit
from agezero.http.admin import body_of, segment
from agezero.http.faults import Fault, Refused
from agezero.http.gate import Visitor, client_address
from agezero.http.reply import JSON, Reply
from agezero.keys import END_MAX_S, NAME_CHARACTERS_MAX, InvalidKey, Key, KeyRing, NewKey, Permission

KEYS_PATH = "/v1/keys"
KEY_PATH = KEYS_PATH + "/{keyId}"
ROLL_PATH = KEY_PATH + "/roll"
ENDPOINTS_MAX = 100
OVERLAPS_S = {"now": 0, "1h": 3600, "24h": 86_400, "3d": 3 * 86_400, "7d": 7 * 86_400}

Overlap = Literal["now", "1h", "24h", "3d", "7d"]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=NAME_CHARACTERS_MAX, description="What it is for.", examples=["deploy"])]
Endpoints = Annotated[
    list[Annotated[str, msgspec.Meta(examples=["https://cdn.example.com"])]],
    msgspec.Meta(max_length=ENDPOINTS_MAX, description="It may purge only under these URLs; not for admins."),
]


class KeyRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The key that is wanted."""

    name: Name
    permission: Permission = Permission.PURGE
    endpoints: Endpoints | None = None
    expires_in_s: Annotated[int, msgspec.Meta(ge=1, le=10 * 366 * 86_400)] | None = None


class RollRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long the old one is valid beside the new one."""

    overlap: Overlap = "24h"


class KeyView(msgspec.Struct, frozen=True):
    """A key as people see it."""

    id: str
    name: str
    permission: Permission
    state: Literal["valid", "expired", "disabled"]
    endpoints: Sequence[str] | None
    created_at: datetime
    expires_at: datetime | None


class Keys(msgspec.Struct, frozen=True):
    """All that are not revoked, oldest first."""

    keys: Sequence[KeyView]


class MadeKey(msgspec.Struct, frozen=True):
    """A new key. ``text`` is what clients send; it is shown only here."""

    text: str
    key: KeyView


class KeyCalls:
    """The handlers."""

    def __init__(self, keys: KeyRing, audit: Audit) -> None:
        self._keys = keys
        self._audit = audit

    async def show(self, scope: Scope, receive: Receive, visitor: Visitor) -> Reply:  # noqa: ARG002 (a Handler)
        """200."""
        now_s = time.time()
        return Reply(200, msgspec.json.encode(Keys([view(key, now_s) for key in self._keys.list()])))

    async def create(self, scope: Scope, receive: Receive, visitor: Visitor) -> Reply:
        """201 with the key's text."""
        return _made(await self.make(await body_of(receive, KeyRequest), visitor, client_address(scope)))

    async def roll(self, scope: Scope, receive: Receive, visitor: Visitor) -> Reply:
        """201 with the new key's text."""
        asked = await body_of(receive, RollRequest)
        return _made(await self.replace(segment(scope, "keyId"), asked.overlap, visitor, client_address(scope)))

    async def revoke(self, scope: Scope, receive: Receive, visitor: Visitor) -> Reply:  # noqa: ARG002 (a Handler)
        """204; from now on nobody is recognised by it."""
        await self.end(segment(scope, "keyId"), visitor, client_address(scope))
        return Reply(204, b"", ())

    # What they do, for whoever asks: the API or the console

    async def make(self, asked: KeyRequest, visitor: Visitor, address: str) -> NewKey:
        """A new key. Raises :class:`Refused`."""
        expires_at = None if asked.expires_in_s is None else int(time.time()) + asked.expires_in_s
        try:
            made = await asyncio.to_thread(self._keys.make, asked.name, asked.permission, asked.endpoints, expires_at)
        except InvalidKey as error:
            raise Refused(Fault.INVALID_MEMBER, error.message) from None
        self._audit.note("key.create", visitor.key.id, address, f"{made.key.id} {made.key.permission} {made.key.name}")
        return made

    async def replace(self, key_id: str, overlap: Overlap, visitor: Visitor, address: str) -> NewKey:
        """A new key for an old one. Raises :class:`Refused`."""
        try:
            made = await asyncio.to_thread(self._keys.roll, key_id, OVERLAPS_S[overlap], time.time())
        except InvalidKey as error:
            raise Refused(Fault.KEY_NOT_VALID, error.message) from None
        if made is None:
            raise Refused(Fault.NO_SUCH_KEY)
        self._audit.note("key.roll", visitor.key.id, address, f"{key_id} by {made.key.id}, overlap {overlap}")
        return made

    async def end(self, key_id: str, visitor: Visitor, address: str) -> None:
        """Revoke it. Raises :class:`Refused`."""
        if not await asyncio.to_thread(self._keys.revoke, key_id, time.time()):
            raise Refused(Fault.NO_SUCH_KEY)
        self._audit.note("key.revoke", visitor.key.id, address, key_id)


def view(key: Key, now_s: float) -> KeyView:
    """For people."""
    ends = None if key.expires_at is None else _utc(key.expires_at)
    state: Literal["valid", "expired", "disabled"] = key.state(now_s)  # type: ignore[assignment] # one of these
    return KeyView(key.id, key.name, key.permission, state, key.endpoints, _utc(key.created_at), ends)


def _made(made: NewKey) -> Reply:
    location = (b"location", f"{KEYS_PATH}/{made.key.id}".encode())
    return Reply(201, msgspec.json.encode(MadeKey(made.text, view(made.key, time.time()))), (*JSON, location))


def _utc(seconds: int) -> datetime:
    return datetime.fromtimestamp(min(seconds, END_MAX_S), UTC)
